"""The extra rules that an agent's author gives to one tool, carried in the tool's metadata.

    @agent.tool_plain(requires_approval=True, metadata=policy(approval="required"))
    def publish(path: str) -> str: ...

The rules live under the single key `"unpause"`, so they can be merged with the author's own metadata:
`metadata=policy(idempotent=True) | {"team": "billing"}`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Final, Literal, TypeAlias, cast

Approval: TypeAlias = Literal["required", "audit"]

METADATA_KEY: Final = "unpause"
_APPROVALS: Final = ("required", "audit")


@dataclass(frozen=True, kw_only=True, slots=True)
class ToolPolicy:
    """The rules of one tool; the defaults are those of a tool whose author said nothing.

    `approval`: `"required"` means that only an administrator may decide a paused call, `"audit"` that the
    user's decision is recorded for administrators. `user_input`: the parameters which the user fills in and
    the model never sees. `editable`: the parameters which the user may change when confirming.
    `idempotent`: a call that was cut off by a crash may simply be run again.

    Raises `ValueError` for a name that repeats or stands in both `user_input` and `editable`.
    """

    approval: Approval | None = None
    user_input: tuple[str, ...] = ()
    editable: tuple[str, ...] = ()
    idempotent: bool = False

    def __post_init__(self) -> None:
        for field, names in (("user_input", self.user_input), ("editable", self.editable)):
            repeated = sorted({name for name in names if names.count(name) > 1})
            if repeated:
                message = f"{field} names a parameter twice: {', '.join(repeated)}"
                raise ValueError(message)
        both = sorted(set(self.user_input) & set(self.editable))
        if both:
            message = f"a parameter is either user_input or editable, not both: {', '.join(both)}"
            raise ValueError(message)

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
        idempotent = rules.get("idempotent", False)
        _require(isinstance(idempotent, bool), "idempotent", "True or False", idempotent)
        return cls(
            approval=_approval(rules.get("approval")),
            user_input=_parameter_names("user_input", rules.get("user_input", ())),
            editable=_parameter_names("editable", rules.get("editable", ())),
            idempotent=cast("bool", idempotent),
        )


def policy(
    *,
    approval: Approval | None = None,
    user_input: Sequence[str] = (),
    editable: Sequence[str] = (),
    idempotent: bool = False,
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
    }
    checked = ToolPolicy.of({METADATA_KEY: rules})
    return {
        METADATA_KEY: {
            "approval": checked.approval,
            "user_input": list(checked.user_input),
            "editable": list(checked.editable),
            "idempotent": checked.idempotent,
        },
    }


def _require(holds: bool, field: str, expected: str, value: object) -> None:  # noqa: FBT001
    """Raise `ValueError` that says what `field` must be, unless the condition holds."""
    if not holds:
        message = f"{field} must be {expected}, not {value!r}"
        raise ValueError(message)


def _approval(value: object) -> Approval | None:
    _require(value is None or value in _APPROVALS, "approval", '"required", "audit" or None', value)
    return cast("Approval | None", value)


def _parameter_names(field: str, value: object) -> tuple[str, ...]:
    """Return the names as a tuple; a bare string is refused because it would be read letter by letter."""
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    _require(is_sequence, field, "a list of parameter names", value)
    names = tuple(cast("Sequence[object]", value))
    _require(all(isinstance(name, str) and name for name in names), field, "a list of parameter names", value)
    return cast("tuple[str, ...]", names)
