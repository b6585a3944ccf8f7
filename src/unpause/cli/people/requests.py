"""Open requests: how they are found by the beginning of an id, and how they are shown."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from unpause.cli.exits import CommandFailed, Exit
from unpause.cli.people.errors import JsonObject, decision_text
from unpause.cli.people.escapes import harmless, harmless_json
from unpause.cli.people.layout import block, fields
from unpause.cli.people.printing import Listing
from unpause.cli.people.tables import Column
from unpause.cli.people.times import age, now, until
from unpause.durations import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from unpause.cli.people.client import Client

_SHORTEST: Final = 3
_NAMED: Final = 5
# An inbox with more open requests than this is not searched to its end.
_SEARCHED: Final = 20_000


def find_request(client: Client, text: str) -> JsonObject:
    """Return the request with this id, or the open one whose id, or else whose run's id, begins with the text."""
    if is_whole_id(text):
        try:
            return client.get(f"/inbox/{text}")
        except CommandFailed as error:
            if error.code is not Exit.NOT_FOUND:
                raise
    items = client.items("/inbox", _SEARCHED, who="all")
    return find_by_beginning(items, text, "open request", "requirement_id", "run_id")


def is_whole_id(text: str) -> bool:
    """Whether the text is an id, and not only its beginning."""
    try:
        return str(UUID(text)) == text
    except ValueError:
        return False


def find_by_beginning(items: Iterable[JsonObject], text: str, what: str, *keys: str) -> JsonObject:
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


def call_text(item: JsonObject) -> str:
    """Return a call in one line, such as ``restart(service="nginx")``."""
    arguments = item["arguments"] or {}
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
    """Yield the lines that show one request."""
    at = now()
    yield f"{harmless(item['tool_name'])}  {item['requirement_id']}"
    yield from fields(
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
        ("later calls", _rememberable(item.get("remember"))),
        ("decision", decision_text(item["decision"]) if item.get("decision") else None),
        ("url", item.get("url")),
    )
    if item["in_doubt"]:
        yield "In doubt: this call had started, and no end of it is known. It may already have run."
    yield from block("Why", item.get("explanation"))
    yield from block("Reason", item.get("reason"))
    yield from block("Arguments", harmless_json(item["arguments"], indent=2))
    yield from _form(item.get("form") or {})
    yield from block("Tool", item.get("tool_description"))
    for message in item.get("messages") or ():
        yield from block(str(message["role"]).capitalize(), message["text"])
    for one in item.get("earlier") or ():
        yield from block("Earlier", f"{harmless_json(one['arguments'])}  {decision_text(one)}")
    yield from _commands(item)


def _rememberable(remember: JsonObject | None) -> str | None:
    """Return for what an approval may count, too, in the words of the command's options."""
    if remember is None:
        return None
    options = {"run": "--for-run", "session": "--for-session", "until": "--until"}
    longest = remember["max_seconds"]
    return ", ".join(
        [options[scope] for scope in remember["scopes"]]
        + ["--any-arguments"] * ("tool" in remember["matches"])
        + ([] if longest is None else [f"at most {duration_text(timedelta(seconds=longest))}"])
    )


def _commands(item: JsonObject) -> Iterator[str]:
    """Yield the commands that decide the request."""
    name = item["requirement_id"]
    approve = " ".join(
        [f"unpause approve {name}", *(f"--set {value}=…" for value in (item.get("form") or {}).get("required", ()))]
    )
    accept = {"question": f"unpause answer {name} TEXT", "external_execution": f"unpause result {name} @FILE"}
    if item["status"] == "open" and item["may_decide"]:
        first = approve if item["needs_approval"] else accept.get(item["kind"], approve)
        yield from block("Decide", f"{first}\nunpause reject {name} --note TEXT")


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
    return block("May be set with --set", "\n".join(lines))
