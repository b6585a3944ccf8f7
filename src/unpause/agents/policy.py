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
OnExpiry: TypeAlias = Literal["reject", "approve", "cancel"]

_APPROVALS: Final = ("required", "audit")
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

    Raises `ValueError` for a name that repeats or stands in both `user_input` and `editable`, for a time that is
    not positive, and for a call that an administrator must decide but time would approve.
    """

    approval: Approval | None = None
    user_input: tuple[str, ...] = ()
    editable: tuple[str, ...] = ()
    idempotent: bool = False
    expires_in: float | None = None
    on_expire: OnExpiry | None = None

    def __post_init__(self) -> None:
        if self.expires_in is not None and not self.expires_in > 0:
            message = f"expires_in must be a positive number of seconds, not {self.expires_in!r}"
            raise ValueError(message)
        if self.on_expire == "approve" and (self.approval == "required" or self.user_input):
            message = "on_expire='approve' cannot stand in for an administrator or for what the user fills in"
            raise ValueError(message)
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
            expires_in=_seconds(rules.get("expires_in")),
            on_expire=_on_expire(rules.get("on_expire")),
        )


def policy(
    *,
    approval: Approval | None = None,
    user_input: Sequence[str] = (),
    editable: Sequence[str] = (),
    idempotent: bool = False,
    expires_in: float | None = None,
    on_expire: OnExpiry | None = None,
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


def _seconds(value: object) -> float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    _require(value is None or is_number, "expires_in", "a number of seconds or None", value)
    return None if value is None else float(cast("float", value))


def _on_expire(value: object) -> OnExpiry | None:
    _require(value is None or value in _ON_EXPIRE, "on_expire", '"reject", "approve", "cancel" or None', value)
    return cast("OnExpiry | None", value)


def _parameter_names(field: str, value: object) -> tuple[str, ...]:
    """Return the names as a tuple; a bare string is refused because it would be read letter by letter."""
    is_sequence = isinstance(value, Sequence) and not isinstance(value, str | bytes)
    _require(is_sequence, field, "a list of parameter names", value)
    names = tuple(cast("Sequence[object]", value))
    _require(all(isinstance(name, str) and name for name in names), field, "a list of parameter names", value)
    return cast("tuple[str, ...]", names)
