"""Finds what a command names by an id, or by the beginning of one, as lists print them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final
from uuid import UUID

from unpause.cli.exits import CommandFailed, Exit

if TYPE_CHECKING:
    from collections.abc import Iterable

    from unpause.cli.people.client import Client
    from unpause.cli.people.errors import JsonObject

_SHORTEST: Final = 3
_NAMED: Final = 5
# A list with more items than this is not searched to its end.
_SEARCHED: Final = 20_000
_PREFIX: Final = re.compile(r"[0-9a-f-]{1,36}")


def find_request(client: Client, text: str) -> JsonObject:
    """Return the request whose id, or else whose run's id, begins with the text: an open one if there is one."""
    found: list[JsonObject] = []
    if len(text) >= _SHORTEST and _PREFIX.fullmatch(text):
        found = list(client.items("/inbox", _SEARCHED, who="all", id_prefix=text))
    open_ones = [item for item in found if item["status"] == "open"]
    if found and not open_ones and not any(item["requirement_id"].startswith(text) for item in found):
        # The last one that the run waited for.
        return found[-1]
    return _find(open_ones or found, text, "request", "requirement_id", "run_id")


def find_run(client: Client, text: str) -> JsonObject:
    """Return the run whose id begins with the text."""
    if _is_whole(text):
        return client.get(f"/runs/{text}")
    found = client.items("/runs", _SEARCHED, search=text) if _PREFIX.fullmatch(text) else ()
    return _find(found, text, "run", "run_id")


def find_run_id(client: Client, text: str) -> str:
    """Return the id that begins with the text; a whole one also of a run that is not there any more."""
    return text if _is_whole(text) else str(find_run(client, text)["run_id"])


def find_grant(client: Client, text: str) -> JsonObject:
    """Return the grant whose id begins with the text."""
    return _find(client.items("/grants", _SEARCHED), text, "grant", "grant_id")


def _is_whole(text: str) -> bool:
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def _find(items: Iterable[JsonObject], text: str, what: str, *keys: str) -> JsonObject:
    """Return the one item whose id begins with the text: the id of the first key, or else of the next.

    Raises CommandFailed where there is none, and where there are several.
    """
    if len(text) < _SHORTEST:
        raise CommandFailed(f"The beginning of an id has {_SHORTEST} characters or more", Exit.USAGE)
    read = list(items)
    for key in keys:
        found = [item for item in read if item[key].startswith(text)]
        if len(found) > 1:
            names = ", ".join(item[keys[0]] for item in found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
            raise CommandFailed(f"{text!r} is the beginning of more than one {what}: {names}", Exit.USAGE)
        if found:
            return found[0]
    raise CommandFailed(f"No {what} has an id that begins with {text!r}", Exit.NOT_FOUND)
