"""Who may decide a call: by name, by scope, how many, and whether the user who started the run may."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class ApproverKind(StrEnum):
    """Whether an approver is a user or a scope."""

    USER = "user"
    SCOPE = "scope"


@dataclass(frozen=True, slots=True)
class Approver:
    """A user, or everybody with a scope."""

    kind: ApproverKind
    name: str


def read_approver(text: str) -> Approver:
    """Return what an entry of ``approvers`` means; raise ValueError for a prefix with nothing after it.

    ``user:NAME`` and ``scope:NAME`` are explicit. Without a prefix, a name with a colon is a scope, so that a user of
    that name does not pass for it, and any other name is a user.
    """
    prefix, colon, rest = text.partition(":")
    if colon and prefix in {kind.value for kind in ApproverKind}:
        if not rest:
            message = f"{text!r} names nobody"
            raise ValueError(message)
        return Approver(ApproverKind(prefix), rest)
    return Approver(ApproverKind.SCOPE if colon else ApproverKind.USER, text)


# How an entry of ``approvers`` begins that is a user whatever its name.
USER_ENTRY = f"{ApproverKind.USER}:"


@dataclass(frozen=True, slots=True)
class ApproverEntries:
    """The entries of ``approvers`` that name a caller: these texts, and with ``every_scope`` all that are scopes."""

    texts: frozenset[str] = frozenset()
    every_scope: bool = False


def entries_naming(approvers: Iterable[Approver]) -> frozenset[str]:
    """Return the entries that ``read_approver`` reads as one of these approvers."""
    return frozenset(
        entry
        for approver in approvers
        if approver.name
        for entry in (approver.name, f"{approver.kind}:{approver.name}")
        if read_approver(entry) == approver
    )


@dataclass(frozen=True, slots=True)
class Deciders:
    """Who may decide a call. With ``four_eyes`` not the user who started the run.

    ``approvers`` are users and scopes as ``read_approver`` reads them: any one of them may decide; none means anybody.
    A call is confirmed by ``quorum`` different people and rejected by one.
    """

    four_eyes: bool = False
    approvers: tuple[str, ...] = ()
    quorum: int = 1


@dataclass(frozen=True, slots=True)
class Vote:
    """One of the confirmations that a call needs."""

    by: str
    at: datetime
    via: str
    note: str | None = None
