"""Who may decide a call: by name, by scope, how many, and whether whoever started the run is one of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ApproverKind(StrEnum):
    """What a name among the approvers is the name of."""

    USER = "user"
    SCOPE = "scope"


@dataclass(frozen=True, slots=True)
class Approver:
    """A user, or everybody with a scope."""

    kind: ApproverKind
    name: str


def read_approver(text: str) -> Approver:
    """Return what an entry of ``approvers`` means; raise ValueError for a prefix with nothing after it.

    ``user:NAME`` and ``scope:NAME`` say it. Without one of them, a name with a colon is a scope and nothing else, so
    that nobody passes for it who is merely called so; and a name without is a user.
    """
    prefix, colon, rest = text.partition(":")
    if colon and prefix in {kind.value for kind in ApproverKind}:
        if not rest:
            message = f"{text!r} names nobody"
            raise ValueError(message)
        return Approver(ApproverKind(prefix), rest)
    return Approver(ApproverKind.SCOPE if colon else ApproverKind.USER, text)


@dataclass(frozen=True, slots=True)
class Deciders:
    """Who may decide a call. With ``four_eyes`` not the user who started the run.

    ``approvers`` are users and scopes as ``read_approver`` reads them, of which one is enough; none means anybody. It
    takes a yes of ``quorum`` different people, or one no.
    """

    four_eyes: bool = False
    approvers: tuple[str, ...] = ()
    quorum: int = 1


@dataclass(frozen=True, slots=True)
class Vote:
    """One voice of several that a call needs."""

    by: str
    at: datetime
    via: str
    note: str | None = None
