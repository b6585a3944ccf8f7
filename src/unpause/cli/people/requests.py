"""How requests are shown."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from unpause.cli.people.errors import JsonObject, decision_text
from unpause.cli.people.escapes import harmless, harmless_json
from unpause.cli.people.layout import block, fields
from unpause.cli.people.printing import Listing
from unpause.cli.people.tables import Column
from unpause.cli.people.times import age, now, until
from unpause.durations import duration_text

if TYPE_CHECKING:
    from collections.abc import Iterator


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
