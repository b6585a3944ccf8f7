"""The extra rules that an agent's author gives to one tool, carried in the tool's metadata.

    @agent.tool_plain(requires_approval=True, metadata=policy(approval="required"))
    def publish(path: str) -> str: ...

The rules live under the single key `"unpause"`, so they can be merged with the author's own metadata:
`metadata=policy(idempotent=True) | {"team": "billing"}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Annotated, Any, Final, Literal, Self, TypeAlias

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    Strict,
    StringConstraints,
    TypeAdapter,
    ValidationError,
    model_validator,
)
from pydantic.dataclasses import dataclass
from pydantic_core import PydanticCustomError

from unpause.clock import LONGEST_SECONDS
from unpause.domain.deciders import ApproverKind, read_approver
from unpause.domain.grants import Remember, StrictRule
from unpause.domain.requirements import OnExpire
from unpause.domain.scopes import describe_unknown

METADATA_KEY: Final = "unpause"

ApprovalType: TypeAlias = Literal["required", "audit"]
# Lists as well as tuples, since a policy may have been JSON; never a bare string.
_Names = Annotated[tuple[Annotated[str, StringConstraints(min_length=1)], ...], Strict(strict=False)]

_EXPECTED: Final = {
    "approval": '"required", "audit" or None',
    "user_input": "a list of parameter names",
    "editable": "a list of parameter names",
    "idempotent": "True or False",
    "expires_in": "a positive number of seconds, a hundred years at most, or None",
    "on_expire": '"reject", "approve", "cancel" or None',
    "four_eyes": "True or False",
    "approvers": "a list of users and scopes",
    "quorum": "a whole number",
    "remember": '"arguments", "tool", None, or a mapping with match, scopes, max_seconds and overrides',
}
_REMEMBER: Final = TypeAdapter(Remember)


def _read_remember(value: object) -> object:
    try:
        if isinstance(value, str):
            return _REMEMBER.validate_python({"match": value})
        return _REMEMBER.validate_python(dict(value)) if isinstance(value, Mapping) else value
    except ValidationError:
        raise PydanticCustomError("remember", "cannot be read") from None


@dataclass(frozen=True, kw_only=True, slots=True, config=ConfigDict(strict=True, extra="forbid"))
class ToolPolicy:
    """The rules of one tool; the defaults are those of a tool without a policy.

    `approval`: `"required"` means that only an administrator may decide a paused call, `"audit"` that the
    user's decision is recorded for administrators. `user_input`: the parameters which the user fills in and
    the model never sees. `editable`: the parameters which the user may change when confirming.
    `idempotent`: a call that was cut off by a crash may simply be run again. `expires_in`: the seconds after which
    a call that nobody decided counts as `on_expire` says: rejected, approved (only where nothing but a yes is needed)
    or the whole run cancelled; `None` leaves both to the server's settings.

    `four_eyes`: who started the run cannot decide the call, neither yes nor no; where nobody knows who started it,
    nobody can, and the run can only be cancelled. `approvers`: only these users decide
    (`"olga"`, `"user:olga"`) or have one of these scopes (`"finance:approve"`, `"scope:approver"`): without such a
    prefix a name with a colon is only a scope, one without only a user. An administrator has every scope, but is no
    other user.
    `quorum`: how many different people have to say yes; one no is enough. They approve an external call before it
    runs, as with `approval="required"`; its result comes after. Administrators are bound by all three, too.
    Without authentication, or with a token that acts for other users, people are those that the requests name.

    `remember`: a decision may count for later calls as well, where the person who approves asks for that:
    `"arguments"` for those with exactly the same arguments, `"tool"` also for all of the tool. A mapping says more:
    `{"match": "tool", "scopes": ["run", "session", "until"], "max_seconds": 3600, "overrides": ["quorum"]}`.
    `overrides` names the strict rules of the tool (`"approval"`, `"four_eyes"`, `"quorum"`) that one remembered
    decision may stand in for.

    Raises `ValueError` (Pydantic's) for a value of the wrong type, for a name that repeats or stands in both
    `user_input` and `editable`, for a time that is not positive or is more than a hundred years, for a call that an
    administrator or several people must decide but time would approve, for a quorum of more users than there are among
    the `approvers`, and for what several people have to agree on but one of them could change: `quorum` with
    `user_input` or `editable`, `four_eyes` with `editable`. Also for `remember` with `user_input`, and with a strict
    rule that `overrides` does not name.
    """

    approval: ApprovalType | None = None
    user_input: _Names = ()
    editable: _Names = ()
    idempotent: bool = False
    expires_in: Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)] | None = None
    on_expire: Annotated[OnExpire, Strict(strict=False)] | None = None
    four_eyes: bool = False
    approvers: _Names = ()
    quorum: int = 1
    remember: Annotated[Remember | None, BeforeValidator(_read_remember)] = None

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.on_expire is OnExpire.APPROVE and (self.approval == "required" or self.user_input):
            message = "on_expire='approve' cannot stand in for an administrator or for what the user fills in"
            raise ValueError(message)
        self._check_deciders()
        self._check_remember()
        for field, names in (("user_input", self.user_input), ("editable", self.editable)):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                message = f"{field} names a parameter twice: {', '.join(repeated)}"
                raise ValueError(message)
        both = sorted(set(self.user_input) & set(self.editable))
        if both:
            message = f"a parameter is either user_input or editable, not both: {', '.join(both)}"
            raise ValueError(message)
        return self

    def _check_deciders(self) -> None:
        if self.quorum < 1:
            message = f"quorum must be at least 1, not {self.quorum}"
            raise ValueError(message)
        if self.on_expire is OnExpire.APPROVE and (self.four_eyes or self.approvers or self.quorum > 1):
            message = "on_expire='approve' cannot stand in for the people who have to decide"
            raise ValueError(message)
        if self.quorum > 1 and (self.user_input or self.editable):
            message = "a quorum cannot decide values that each person could fill in differently"
            raise ValueError(message)
        if self.four_eyes and self.editable:
            message = "four_eyes excludes editable: the second person alone would choose what runs"
            raise ValueError(message)
        approvers = set(map(read_approver, self.approvers))
        if len(approvers) < len(self.approvers):
            message = f"approvers names a user or scope twice: {', '.join(_repeated(self.approvers))}"
            raise ValueError(message)
        scopes = [each.name for each in approvers if each.kind is ApproverKind.SCOPE and ":" in each.name]
        if wrong := describe_unknown(scopes):
            # Nobody could decide the call.
            raise ValueError(wrong)
        by_name = all(approver.kind is ApproverKind.USER for approver in approvers)
        if approvers and by_name and len(approvers) < self.quorum:
            message = f"a quorum of {self.quorum} needs more users than {', '.join(self.approvers)}"
            raise ValueError(message)

    def _check_remember(self) -> None:
        if self.remember is None:
            return
        if self.user_input:
            message = "remember excludes user_input: what a person fills in is not remembered"
            raise ValueError(message)
        has = {
            StrictRule.APPROVAL: self.approval == "required",
            StrictRule.FOUR_EYES: self.four_eyes,
            StrictRule.QUORUM: self.quorum > 1,
        }
        named = self.remember.overrides
        if kept := [rule for rule, is_there in has.items() if is_there and rule not in named]:
            message = f"remember cannot stand in for {', '.join(kept)}, unless its overrides name that"
            raise ValueError(message)
        if absent := [rule for rule in named if not has[rule]]:
            message = f"overrides of remember names a rule that the tool does not have: {', '.join(absent)}"
            raise ValueError(message)

    @property
    def waits(self) -> bool:
        """Whether a human has to decide each call, even where the tool itself requires no approval."""
        decided = self.four_eyes or bool(self.approvers) or self.quorum > 1
        return decided or bool(self.editable) or self.approval is not None

    @property
    def asks_people(self) -> bool:
        """Whether only people can decide a call, and the agent's own handlers cannot."""
        decided = self.four_eyes or bool(self.approvers) or self.quorum > 1
        return decided or bool(self.user_input) or self.approval == "required"

    def for_external_execution(self) -> ToolPolicy:
        """Return the rules for a call that a client runs: several people can only confirm it beforehand."""
        return replace(self, approval="required") if self.quorum > 1 else self

    @classmethod
    def of(cls, metadata: Mapping[str, object] | None) -> ToolPolicy:
        """Read the policy from a tool's metadata; without the key `"unpause"` it is the default one.

        Raises `ValueError` for an unknown key, a wrong type or a value that `policy` would refuse.
        """
        return cls._parse(metadata[METADATA_KEY]) if metadata is not None and METADATA_KEY in metadata else cls()

    @classmethod
    def _parse(cls, rules: Any) -> ToolPolicy:  # noqa: ANN401 - whatever an author wrote
        if not isinstance(rules, Mapping):
            message = f"{METADATA_KEY} must be a mapping, not {rules!r}"
            raise ValueError(message)  # noqa: TRY004 - what is wrong with a policy is a ValueError
        try:
            return cls(**{str(name): value for name, value in rules.items()})
        except ValidationError as error:
            raise ValueError(_explain(error, rules)) from None


_JSON: Final = TypeAdapter(ToolPolicy)


class ToolPolicies:
    """The policies of one agent's tools: each is read from the tool's metadata once, and not for every call."""

    def __init__(self) -> None:
        self._known: dict[str, tuple[object, ToolPolicy]] = {}

    def get(self, tool_name: str, metadata: Mapping[str, object] | None) -> ToolPolicy:
        """Return the tool's policy; raise `ValueError` as `ToolPolicy.of` does."""
        # A wrapped toolset makes new metadata for each run, around the same rules.
        rules = None if metadata is None else metadata.get(METADATA_KEY)
        known = self._known.get(tool_name)
        if known is None or known[0] is not rules:
            known = self._known[tool_name] = (rules, ToolPolicy.of(metadata))
        return known[1]


def policy(  # noqa: PLR0913 - all of them by name
    *,
    approval: ApprovalType | None = None,
    user_input: Sequence[str] = (),
    editable: Sequence[str] = (),
    idempotent: bool = False,
    expires_in: float | None = None,
    on_expire: OnExpire | Literal["reject", "approve", "cancel"] | None = None,
    four_eyes: bool = False,
    approvers: Sequence[str] = (),
    quorum: int = 1,
    remember: Literal["arguments", "tool"] | Mapping[str, object] | None = None,
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
        "remember": remember,
    }
    return {METADATA_KEY: _JSON.dump_python(ToolPolicy.of({METADATA_KEY: rules}), mode="json")}


def _explain(error: ValidationError, rules: Mapping[str, object]) -> str:
    """Return the first thing that is wrong, as its author would look for it."""
    first = error.errors(include_url=False)[0]
    field = str(first["loc"][0]) if first["loc"] else ""
    if first["type"] == "value_error":
        return str(first.get("ctx", {}).get("error", first["msg"]))
    if field not in _EXPECTED:
        unknown = sorted(str(name) for name in rules if name not in _EXPECTED)
        return f"unknown policy key: {', '.join(unknown)} (known: {', '.join(_EXPECTED)})"
    return f"{field} must be {_EXPECTED[field]}, not {rules[field]!r}"


def _repeated(names: Sequence[str]) -> list[str]:
    """Return the names that mean the same as another one."""
    approvers = [read_approver(name) for name in names]
    return sorted({name for name, approver in zip(names, approvers, strict=True) if approvers.count(approver) > 1})
