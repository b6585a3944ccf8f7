"""The extra rules that an agent's author gives to one tool, carried in the tool's metadata.

    @agent.tool_plain(requires_approval=True, metadata=policy(approval="required"))
    def publish(path: str) -> str: ...

The rules live under the single key `"unpause"`, so they can be merged with the author's own metadata:
`metadata=policy(idempotent=True) | {"team": "billing"}`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Final, Literal, TypeAlias, cast

from unpause.domain.deciders import ApproverKind, read_approver
from unpause.settings import LONGEST_SECONDS

Approval: TypeAlias = Literal["required", "audit"]

METADATA_KEY: Final = "unpause"
OnExpiry: TypeAlias = Literal["reject", "approve", "cancel"]

_APPROVALS: Final = ("required", "audit")
_PARAMETERS: Final = "a list of parameter names"
_ON_EXPIRE: Final = ("reject", "approve", "cancel")


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolPolicy:
    """The rules of one tool; the defaults are those of a tool whose author said nothing.

    `approval`: `"required"` means that only an administrator may decide a paused call, `"audit"` that the
    user's decision is recorded for administrators. `user_input`: the parameters which the user fills in and
    the model never sees. `editable`: the parameters which the user may change when confirming.
    `idempotent`: a call that was cut off by a crash may simply be run again. `expires_in`: the seconds after which
    a call that nobody decided counts as `on_expire` says: rejected, approved (only where nothing but a yes is needed)
    or the whole run cancelled; `None` leaves both to the server's settings.

    `four_eyes`: who started the run cannot decide the call, neither yes nor no; where nobody knows who started it,
    nobody can, and the run can only be cancelled. `approvers`: whoever decides must be one of these users
    (`"olga"`, `"user:olga"`) or have one of these scopes (`"finance:approve"`, `"scope:approver"`): without such a
    prefix a name with a colon is only a scope, one without only a user. An administrator has every scope, but is no
    other user.
    `quorum`: how many different people have to say yes; one no is enough. Of a call that is run elsewhere they approve
    the call, as with `approval="required"`, and its result comes after. Administrators are bound by all three, too.
    Where the server asks nobody who they are, or a token acts for whomever it names, people are whoever the requests
    say.

    Raises `ValueError` for a name that repeats or stands in both `user_input` and `editable`, for a time that is not
    positive or is more than a hundred years, for a call that an administrator or several people must decide but time
    would approve, for a quorum of more users than there are among the `approvers`, and for what several people have to
    agree on but one of them could change: `quorum` with `user_input` or `editable`, `four_eyes` with `editable`.
    """

    approval: Approval | None = None
    user_input: tuple[str, ...] = ()
    editable: tuple[str, ...] = ()
    idempotent: bool = False
    expires_in: float | None = None
    on_expire: OnExpiry | None = None
    four_eyes: bool = False
    approvers: tuple[str, ...] = ()
    quorum: int = 1

    def __post_init__(self) -> None:
        # Neither "not a number" nor what no date can be moved by.
        if self.expires_in is not None and not 0 < self.expires_in <= LONGEST_SECONDS:
            message = f"expires_in must be a positive number of seconds, a hundred years at most, not {self.expires_in}"
            raise ValueError(message)
        if self.on_expire == "approve" and (self.approval == "required" or self.user_input):
            message = "on_expire='approve' cannot stand in for an administrator or for what the user fills in"
            raise ValueError(message)
        self._check_deciders()
        for field, what, names in (
            ("user_input", "a parameter", self.user_input),
            ("editable", "a parameter", self.editable),
        ):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                message = f"{field} names {what} twice: {', '.join(repeated)}"
                raise ValueError(message)
        both = sorted(set(self.user_input) & set(self.editable))
        if both:
            message = f"a parameter is either user_input or editable, not both: {', '.join(both)}"
            raise ValueError(message)

    def _check_deciders(self) -> None:
        if self.quorum < 1:
            message = f"quorum must be at least 1, not {self.quorum}"
            raise ValueError(message)
        if self.on_expire == "approve" and (self.four_eyes or self.approvers or self.quorum > 1):
            message = "on_expire='approve' cannot stand in for the people who have to decide"
            raise ValueError(message)
        if self.quorum > 1 and (self.user_input or self.editable):
            message = "quorum cannot be had for what each of them could fill in differently"
            raise ValueError(message)
        if self.four_eyes and self.editable:
            message = "four_eyes cannot be had with editable: the second person alone would choose what runs"
            raise ValueError(message)
        approvers = set(map(read_approver, self.approvers))
        if len(approvers) < len(self.approvers):
            message = f"approvers names a user or scope twice: {', '.join(_repeated(self.approvers))}"
            raise ValueError(message)
        by_name = all(approver.kind is ApproverKind.USER for approver in approvers)
        if approvers and by_name and len(approvers) < self.quorum:
            message = f"a quorum of {self.quorum} cannot be had of {', '.join(self.approvers)}"
            raise ValueError(message)

    @property
    def waits(self) -> bool:
        """Whether a human has to decide each call, whatever else the tool says of itself."""
        decided = self.four_eyes or bool(self.approvers) or self.quorum > 1
        return decided or bool(self.editable) or self.approval is not None

    @property
    def asks_people(self) -> bool:
        """Whether nobody but people can decide a call: the agent's own handlers are not asked."""
        decided = self.four_eyes or bool(self.approvers) or self.quorum > 1
        return decided or bool(self.user_input) or self.approval == "required"

    @property
    def elsewhere(self) -> ToolPolicy:
        """The rules for a call that somebody else runs: several people can say yes to it only before."""
        return replace(self, approval="required") if self.quorum > 1 else self

    @classmethod
    def of(cls, metadata: Mapping[str, object] | None) -> ToolPolicy:
        """Read the policy back from a tool's metadata; without the key `"unpause"` it is the default one.

        Raises `ValueError` for an unknown key, a wrong type or a value that `policy` would refuse.
        """
        if metadata is None or METADATA_KEY not in metadata:
            return cls()
        rules = metadata[METADATA_KEY]
        _require(isinstance(rules, Mapping), METADATA_KEY, "a mapping", rules)
        rules = cast("Mapping[str, object]", rules)
        known = [field.name for field in fields(cls)]
        unknown = sorted(str(key) for key in rules if key not in known)
        if unknown:
            message = f"unknown policy key: {', '.join(unknown)} (known: {', '.join(known)})"
            raise ValueError(message)
        return cls(
            approval=_approval(rules.get("approval")),
            user_input=_names("user_input", rules.get("user_input", ()), _PARAMETERS),
            editable=_names("editable", rules.get("editable", ()), _PARAMETERS),
            idempotent=_flag("idempotent", rules.get("idempotent", False)),
            expires_in=_seconds(rules.get("expires_in")),
            on_expire=_on_expire(rules.get("on_expire")),
            four_eyes=_flag("four_eyes", rules.get("four_eyes", False)),
            approvers=_names("approvers", rules.get("approvers", ()), "a list of users and scopes"),
            quorum=_count("quorum", rules.get("quorum", 1)),
        )


def policy(  # noqa: PLR0913 - all of them by name
    *,
    approval: Approval | None = None,
    user_input: Sequence[str] = (),
    editable: Sequence[str] = (),
    idempotent: bool = False,
    expires_in: float | None = None,
    on_expire: OnExpiry | None = None,
    four_eyes: bool = False,
    approvers: Sequence[str] = (),
    quorum: int = 1,
) -> dict[str, object]:
    """Return the metadata of a Pydantic AI tool that follows these rules (see `ToolPolicy`).

    The result is plain JSON data under the key `"unpause"`. Raises `ValueError` for a value of the wrong
    type and for a parameter that is named twice.
    """
    rules: dict[str, object] = {
        "approval": approval,
        "user_input": user_input,
        "editable": editable,
        "idempotent": idempotent,
        "expires_in": expires_in,
        "on_expire": on_expire,
        "four_eyes": four_eyes,
        "approvers": approvers,
        "quorum": quorum,
    }
    checked = ToolPolicy.of({METADATA_KEY: rules})
    return {
        METADATA_KEY: {
            "approval": checked.approval,
            "user_input": list(checked.user_input),
            "editable": list(checked.editable),
            "idempotent": checked.idempotent,
            "expires_in": checked.expires_in,
            "on_expire": checked.on_expire,
            "four_eyes": checked.four_eyes,
            "approvers": list(checked.approvers),
            "quorum": checked.quorum,
        },
    }


def _repeated(names: Sequence[str]) -> list[str]:
    """Return the names that mean what another one means."""
    meant = [read_approver(name) for name in names]
    return sorted({name for name, approver in zip(names, meant, strict=True) if meant.count(approver) > 1})


def _require(holds: bool, field: str, expected: str, value: object) -> None:  # noqa: FBT001
    """Raise `ValueError` that says what `field` must be, unless the condition holds."""
    if not holds:
        message = f"{field} must be {expected}, not {value!r}"
        raise ValueError(message)


def _approval(value: object) -> Approval | None:
    _require(value is None or value in _APPROVALS, "approval", '"required", "audit" or None', value)
    return cast("Approval | None", value)


def _seconds(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    _require(value is None or is_number, "expires_in", "a number of seconds or None", value)
    try:
        return None if value is None else float(cast("float", value))
    except OverflowError:
        return math.inf


def _on_expire(value: object) -> OnExpiry | None:
    _require(value is None or value in _ON_EXPIRE, "on_expire", '"reject", "approve", "cancel" or None', value)
    return cast("OnExpiry | None", value)


def _flag(field: str, value: object) -> bool:
    _require(isinstance(value, bool), field, "True or False", value)
    return cast("bool", value)


def _count(field: str, value: object) -> int:
    _require(isinstance(value, int) and not isinstance(value, bool), field, "a whole number", value)
    return cast("int", value)


def _names(field: str, value: object, expected: str) -> tuple[str, ...]:
    """Return the names as a tuple; a bare string is refused because it would be read letter by letter."""
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    _require(is_sequence, field, expected, value)
    names = tuple(cast("Sequence[object]", value))
    _require(all(isinstance(name, str) and name for name in names), field, expected, value)
    return cast("tuple[str, ...]", names)
