"""Replaces a user's name by a pseudonym where JSON names people, and leaves what others have written as it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from secrets import token_hex
from typing import Any, Final

# Their values are users' names, wherever an event, a message or a row has them.
_NAMES: Final = frozenset(
    {"by", "continued_by", "decided_by", "resolved_by", "user_id", "granted_by", "granter", "user"}
)
# Lists of such names.
_LISTS: Final = frozenset({"votes", "approvers"})
# Content: of models, tools, clients and decisions. A name in it is part of a text.
_CONTENT: Final = frozenset(
    {
        *("tool_args", "sent_args", "values", "arguments", "result", "metadata", "session_state", "dependencies"),
        *("content", "fields", "editable", "user_input_schema"),
    }
)

_PSEUDONYM: Final = re.compile("erased-[0-9a-f]{8}")


def new_pseudonym() -> str:
    """Return a name that says nothing about anybody."""
    return f"erased-{token_hex(4)}"


def is_pseudonym(name: str) -> bool:
    """Whether the name is such a one: what it stands in place of has lost its salt, and cannot be erased again."""
    return _PSEUDONYM.fullmatch(name) is not None


@dataclass(frozen=True, slots=True)
class Erased:
    """A user of an organization whose data is erased, and the pseudonym in place of the name."""

    organization_id: int
    name: str
    pseudonym: str

    def replaced(self, value: Any) -> Any:  # noqa: ANN401 - JSON
        """Return the JSON with the pseudonym in place of the name, where it stands for a person."""
        if isinstance(value, list):
            return [self.replaced(item) for item in value]
        if not isinstance(value, dict):
            return value
        return {key: self._of_key(key, item) for key, item in value.items()}

    def replaced_names(self, names: Any) -> Any:  # noqa: ANN401 - JSON
        """Return a list of names, or of votes, with the pseudonym in place of the name."""
        return self._of_key("votes", names)

    def _of_key(self, key: str, value: Any) -> Any:  # noqa: ANN401 - JSON
        if key in _NAMES and value == self.name:
            return self.pseudonym
        if key in _LISTS and isinstance(value, list):
            return [self.pseudonym if item == self.name else self.replaced(item) for item in value]
        return value if key in _CONTENT else self.replaced(value)
