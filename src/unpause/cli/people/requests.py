"""Open requests: how they are found by the beginning of an id, and how they are shown."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from unpause.cli.exits import CommandFailed, Exit
from unpause.cli.people.errors import JsonObject, decision_text
from unpause.cli.people.escapes import harmless, harmless_json
from unpause.cli.people.printing import Listing
from unpause.cli.people.tables import Column
from unpause.cli.people.times import age, now, until

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from unpause.cli.people.client import Client

_SHORTEST: Final = 3
_NAMED: Final = 5
# An inbox with more open requests than this is not searched to its end.
_SEARCHED: Final = 20_000
_INDENT: Final = "  "


def find_request(client: Client, text: str) -> JsonObject:
    """Return the request with this id, or the open one whose id, or else whose run's id, begins with the text."""
    if is_whole_id(text):
        try:
            return client.get(f"/inbox/{text}")
        except CommandFailed as error:
            if error.code is not Exit.NOT_FOUND:
                raise
    check_beginning(text)
    items = list(client.items("/inbox", _SEARCHED, who="all"))
    for key in ("requirement_id", "run_id"):
        if found := [item for item in items if item[key].startswith(text)]:
            return only_one(found, "requirement_id", text, "request")
    raise CommandFailed(f"No open request has an id that begins with {text!r}", Exit.NOT_FOUND)


def is_whole_id(text: str) -> bool:
    """Whether the text is an id, and not only its beginning."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def check_beginning(text: str) -> None:
    """Raise CommandFailed for a text with which no id begins, or too many do."""
    if len(text) < _SHORTEST:
        raise CommandFailed(f"The beginning of an id has {_SHORTEST} characters or more", Exit.USAGE)


def only_one(found: list[JsonObject], key: str, text: str, what: str) -> JsonObject:
    """Return the one that was found; raise CommandFailed if there are several."""
    if len(found) == 1:
        return found[0]
    names = ", ".join(item[key] for item in found[:_NAMED]) + (", …" if len(found) > _NAMED else "")
    raise CommandFailed(f"{text!r} is the beginning of more than one {what}: {names}", Exit.USAGE)


def call_text(item: JsonObject) -> str:
    """Return a call in one line, such as ``restart(service="nginx")``."""
    arguments = (item.get("arguments") if "arguments" in item else item.get("tool_args")) or {}
    return f"{item['tool_name']}({', '.join(f'{name}={harmless_json(value)}' for name, value in arguments.items())})"


def inbox_listing() -> Listing:
    """Return how the inbox is printed, with ages as of now."""
    at = now()

    def cells(item: JsonObject) -> list[str]:
        votes = f" {len(item['votes'])}/{item['quorum']}" if item.get("quorum", 1) > 1 else ""
        return [
            age(item["created_at"], at),
            item["agent_id"],
            f"{'IN DOUBT ' if item['in_doubt'] else ''}{call_text(item)}{votes}",
            item.get("started_by") or "-",
            until(item.get("expires_at"), at) or "-",
        ]

    columns = (
        *(Column("AGE"), Column("AGENT"), Column("CALL", is_flexible=True)),
        *(Column("STARTED BY"), Column("EXPIRES")),
    )
    return Listing("requirement_id", columns, cells, "Nothing waits for you.")


def request_lines(item: JsonObject) -> Iterator[str]:
    """Yield the lines that show one request. Text of others is indented: it cannot pass for a line of this command."""
    at = now()
    yield f"{harmless(item['tool_name'])}  {item['requirement_id']}"
    yield from _fields(
        ("status", item["status"]),
        ("kind", item["kind"]),
        ("agent", item["agent_id"]),
        ("run", item["run_id"]),
        ("session", item.get("session_id")),
        ("started by", item.get("started_by")),
        ("waits since", f"{item['created_at']} ({age(item['created_at'], at)})"),
        ("expires", item.get("expires_at") and f"{item['expires_at']} ({until(item['expires_at'], at)})"),
        ("votes", _votes(item)),
        ("you", None if item["may_decide"] or item["status"] != "open" else item.get("why_not")),
        ("decision", decision_text(item["decision"]) if item.get("decision") else None),
        ("url", item.get("url")),
    )
    if item["in_doubt"]:
        yield "In doubt: this call had started, and no end of it is known. It may already have run."
    yield from _block("Why", item.get("explanation"))
    yield from _block("Reason", item.get("reason"))
    yield from _block("Arguments", harmless_json(item["arguments"], indent=2))
    yield from _form(item.get("form") or {})
    yield from _block("Tool", item.get("tool_description"))
    for message in item.get("messages") or ():
        yield from _block(str(message["role"]).capitalize(), message["text"])
    for one in item.get("earlier") or ():
        yield from _block("Earlier", f"{harmless_json(one['arguments'])}  {decision_text(one)}")


def _fields(*fields: tuple[str, Any]) -> Iterator[str]:
    for name, value in fields:
        if value:
            yield f"{_INDENT}{name:<12}{harmless(str(value))}"


def _votes(item: JsonObject) -> str | None:
    if item.get("quorum", 1) <= 1:
        return None
    names = ", ".join(str(vote["by"]) for vote in item["votes"])
    return f"{len(item['votes'])} of {item['quorum']}{f': {names}' if names else ''}"


def _form(form: JsonObject) -> Iterator[str]:
    properties = (form.get("schema") or {}).get("properties", {})
    lines = [
        f"{name}{' (required)' if name in form.get('required', ()) else ''}: {harmless_json(schema)}"
        for name, schema in properties.items()
    ]
    return _block("May be set with --set", "\n".join(lines))


def _block(title: str, text: str | None) -> Iterator[str]:
    if text:
        yield f"{title}:"
        yield from indented(text)


def indented(text: str) -> Iterable[str]:
    """Return the lines of the text, indented."""
    return (f"{_INDENT}{line}" for line in text.replace("\r\n", "\n").split("\n"))
