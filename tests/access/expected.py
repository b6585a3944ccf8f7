"""What an answer is to be like: a status, and a body written as JSON with gaps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import httpx


@dataclass(frozen=True)
class Answer:
    """A status and a body.

    In the body ``...`` stands for any value, and as a key for any further keys; ``{names}`` in texts are filled in.
    None is an empty body. With ``text`` the body is no JSON and holds that.
    """

    status: int
    body: Any = None
    text: str | None = None

    def compare(self, response: httpx.Response, names: Mapping[str, object]) -> None:
        """Fail unless the response is this answer, with the names filled in."""
        assert response.status_code == self.status, (self, response.status_code, response.text)
        if self.text is not None:
            assert self.text in response.text, (self, response.text)
        elif self.body is None:
            assert response.content == b"", (self, response.text)
        else:
            found = response.json()
            assert fits(self.body, found, names), (self, found)


def fits(wanted: Any, found: Any, names: Mapping[str, object]) -> bool:  # noqa: ANN401 - any JSON
    """Whether the JSON is what is wanted, gaps filled in."""
    if wanted is ...:
        return True
    if isinstance(wanted, dict):
        given = {key: value for key, value in wanted.items() if key is not ...}
        if not isinstance(found, dict) or (... not in wanted and found.keys() != given.keys()):
            return False
        return all(key in found and fits(value, found[key], names) for key, value in given.items())
    if isinstance(wanted, list):
        return isinstance(found, list) and len(found) == len(wanted) and all(map(_fitting(names), wanted, found))
    if isinstance(wanted, str):
        return bool(found == filled_in(wanted, names) or str(found) == filled_in(wanted, names) != wanted)
    return type(wanted) is type(found) and bool(wanted == found)


def _fitting(names: Mapping[str, object]) -> Any:  # noqa: ANN401 - a function of two
    return lambda wanted, found: fits(wanted, found, names)


def filled_in(said: Any, names: Mapping[str, object]) -> Any:  # noqa: ANN401 - any JSON
    """Return the JSON with the names in its texts filled in; a text that is one name becomes that value."""
    if isinstance(said, dict):
        return {key: filled_in(value, names) for key, value in said.items()}
    if isinstance(said, list):
        return [filled_in(value, names) for value in said]
    if isinstance(said, str):
        alone = said[1:-1]
        if said == f"{{{alone}}}" and alone in names:
            return names[alone]
        for name, value in names.items():
            said = said.replace(f"{{{name}}}", str(value))
    return said
