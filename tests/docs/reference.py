"""Writes the pages in `docs/reference` from the code: `python -m tests.docs.reference`. A test compares them."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from fastapi import FastAPI
from rich.console import Console
from sqlalchemy import Column, Table

from tests.support.client_environments import ROOT
from unpause import errors
from unpause.agents.served import Agents
from unpause.api.app import create_app
from unpause.api.errors import status_of
from unpause.api.permissions import CODEGEN_PREFIX, PERMISSIONS, PUBLIC
from unpause.bootstrap import build_application
from unpause.cli.documents import settings_tables
from unpause.cli.main import app as command
from unpause.domain.events import EventType
from unpause.domain.scopes import ADMIN
from unpause.services.metrics import families
from unpause.settings import Settings
from unpause.store.tables import metadata
from unpause.telemetry.metrics import REGISTRY

FOLDER: Final = ROOT / "docs" / "reference"
_NOTE: Final = "<!-- Written by `python -m tests.docs.reference`: do not edit. -->"
_WIDTH: Final = 100
# Their options are all settings.
_WITH_SETTINGS: Final = frozenset({"serve", "worker", "demo"})

# On AgentOS's streams, in Codegen's log, and what it means.
_EVENTS: Final = {
    EventType.RUN_STARTED: ("RunStarted", "USER_MESSAGE", "The run has begun its first segment"),
    EventType.RUN_CONTINUED: ("RunContinued", "USER_MESSAGE", "The run goes on after a pause"),
    EventType.MODEL_REQUEST_STARTED: ("ModelRequestStarted", "", "A request to the model"),
    EventType.MODEL_REQUEST_COMPLETED: (
        "ModelRequestCompleted",
        "PLAN_EVALUATION",
        "The model's answer is complete, with its tokens",
    ),
    EventType.CONTENT_DELTA: ("RunContent", "", "A piece of the answer's text"),
    EventType.CONTENT_COMPLETED: ("RunContentCompleted", "", "The text of this segment is complete"),
    EventType.TOOL_CALL_STARTED: ("ToolCallStarted", "", "The start of a call is on disk, and the tool runs"),
    EventType.TOOL_CALL_COMPLETED: (
        "ToolCallCompleted",
        "ACTION",
        "The end of a call, with what the model reads of it",
    ),
    EventType.TOOL_CALL_FAILED: ("ToolCallError", "", "The call that has just ended failed; follows its end"),
    EventType.RUN_PAUSED: (
        "RunPaused",
        "PLAN_EVALUATION",
        "The run waits, with the calls that wait and their `pause_id`",
    ),
    EventType.RUN_COMPLETED: ("RunCompleted", "FINAL_ANSWER", "The run is done, with its whole content"),
    EventType.RUN_FAILED: ("RunError", "ERROR", "The run has failed, with the reason"),
    EventType.RUN_CANCELLED: ("RunCancelled", "ERROR", "Somebody or a deadline has cancelled the run"),
    EventType.PAUSE_REMINDER: ("PauseReminder", "", "A pause is about to expire (`--reminder-seconds`)"),
}

_TABLES: Final = {
    "organizations": "Tenants. A new database has number 1",
    "users": "People that tokens and requests have named",
    "sessions": "Conversations that runs belong to",
    "runs": "One row a run: its status, its place in the queue, its lease and fence",
    "inputs": "What came to a run besides its first prompt: images, and the prompts of resumes",
    "messages": "The conversation with the model; appended, never rewritten",
    "tool_calls": "The journal of calls: started, finished, with which result",
    "requirements": "What a pause waits for, and who answered it how",
    "approvals": "Requirements that only an administrator may decide, or that are recorded for one",
    "grants": "Decisions that count for later calls, how often they have and who revoked them",
    "idempotency_keys": "Requests that must not have an effect twice",
    "events": "The log that every stream is read from",
    "webhook_targets": "Addresses that get messages, of an organization or of one run",
    "webhook_deliveries": "The outbox: messages, their attempts and results",
    "rate_counts": "Requests in the present window, where several processes share the database",
    "schema_compatibility": "The oldest version, by its newest migration, whose code works with this schema",
    "nodes": "Processes that execute runs, where several share the database",
    "notification_channels": "Where people are told about requests and runs; URLs are encrypted",
    "notifications": "What channels are told, and the result of each attempt",
    "tokens": "API tokens, as hashes",
    "console_sessions": "Browsers that are signed in to the console, as hashes; each acts as its token",
    "login_links": "One-time links that sign in to the console, as hashes; deleted with their use",
    "audit": "Who decided or changed what, chained by hash; triggers refuse an UPDATE or DELETE",
    "audit_heads": "The end of each organization's chain, and the last entry that retention deleted",
    "user_erasures": "Users that are being erased, while that lasts",
}


def reference_pages() -> dict[str, str]:
    """Return the text of each page by its file's name."""
    service = create_app(build_application(Settings(), Agents(())))
    pages = {
        "settings": _settings(),
        "commands": _commands(),
        "events": _events(),
        "errors": _errors(),
        "routes": _routes(service),
        "tables": _tables(),
        "metrics": _metrics(),
    }
    return {f"{name}.md": f"{text.rstrip()}\n" for name, text in pages.items()}


def _page(title: str, *parts: str) -> str:
    return "\n\n".join([f"# {title}", _NOTE, *parts])


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    names = list(head)
    lines = [names, ["---"] * len(names), *rows]
    return "\n".join(" ".join(["|", " | ".join(line), "|"]).replace("  ", " ") for line in lines)


def _settings() -> str:
    about = (
        "`serve`, `worker` and `demo` take each setting as an option or as an environment variable; the option wins. "
        "`unpause settings` prints this list."
    )
    return _page("Settings", about, settings_tables())


def _commands() -> str:
    parts = ["`unpause COMMAND --help` prints these texts."]
    for name in command:
        if name.startswith("-"):
            continue
        sub = command[name]
        inner = [] if name in _WITH_SETTINGS else [[name, inner] for inner in sub if not inner.startswith("-")]
        has_own = not inner or sub.default_command is not None
        parts += [_help(words) for words in ([[name]] if has_own else []) + inner]
    return _page("Commands", *parts)


def _help(words: list[str]) -> str:
    written = io.StringIO()
    command.help_print(words, console=Console(file=written, width=_WIDTH, color_system=None))
    text = re.sub(r" +$", "", written.getvalue(), flags=re.MULTILINE).strip()
    title = f"## unpause {' '.join(words)}"
    if words[0] in _WITH_SETTINGS:
        usage, _, rest = text.partition("\n\n")
        about = rest.partition("\n\n")[0]
        groups = re.findall(r"^╭─ (.+?) ─", text, re.MULTILINE)
        return (
            f"{title}\n\n```text\n{usage}\n\n{about}\n```\n\nOptions: [settings](settings.md) of {', '.join(groups)}."
        )
    return f"{title}\n\n```text\n{text}\n```"


def _events() -> str:
    about = (
        "A run's log. Each event has a number in its run, gapless from 1: the `id:` of a frame, and `event_index` plus "
        "one. An event that ends a segment closes the streams of AgentOS's routes. Codegen's logs show some of them."
    )
    rows = []
    for kind in EventType:
        name, entry, what = _EVENTS[kind]
        rows.append((f"`{name}`", what, "yes" if kind.ends_segment else "", f"`{entry}`" if entry else "", f"`{kind}`"))
    return _page(
        "Events", about, _table(("stream", "what", "ends a segment", "Codegen's log", "in the database"), rows)
    )


def _errors() -> str:
    about = (
        'AgentOS\'s routes answer `{"detail": …}`, Codegen\'s `{"message": …, "status_code": …}`; a request that does '
        "not fit the schema is 422 with a list of what is wrong. A 4xx has changed nothing. 429 and 503 have "
        "`Retry-After`. Besides these, every route may answer 400 (the URL is not UTF-8), 405, 408 (the request "
        "arrives too slowly), 413, 414, 415 (the body is compressed), 431 and 500. What is no HTTP is 400 in plain "
        "text, as AgentOS answers it: it has no path that could say for which API it is."
    )
    found = sorted(_subclasses(errors.UnpauseError), key=lambda kind: (_status(kind), kind.__name__))
    rows = [(str(_status(kind)), f"`{kind.__name__}`", _first_line(kind)) for kind in found if _is_answer(kind)]
    return _page("Errors", about, _table(("status", "error", "when"), rows))


def _subclasses(kind: type[errors.UnpauseError]) -> Iterator[type[errors.UnpauseError]]:
    for sub in kind.__subclasses__():
        if sub.__module__ == errors.__name__:
            yield sub
            yield from _subclasses(sub)


def _is_answer(kind: type[errors.UnpauseError]) -> bool:
    """Whether clients get it: it is no mere group of others, and neither of the start nor of the inside."""
    is_group = kind.__bases__ == (errors.UnpauseError,) and any(_subclasses(kind))
    return not is_group and not issubclass(kind, errors.Startup | errors.LeaseLost)


def _status(kind: type[errors.UnpauseError]) -> int:
    return status_of(kind.__new__(kind))


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").splitlines()[0].rstrip(".").replace("``", "`")


def _routes(service: FastAPI) -> str:
    paths: dict[str, dict[str, Any]] = service.openapi()["paths"]
    about = (
        "Any one of the scopes in a heading is enough; an administrator (`agent_os:admin`) has all. A route with an "
        "agent in its path also takes the scope for that agent alone, `agents:ops:run`. Every route but the public "
        "ones needs a valid token, except with `--dev`. Parameters and bodies: `/docs` of a running server, and "
        "`openapi/`."
    )
    groups: dict[str, list[tuple[str, str, str]]] = {}
    for path, operations in paths.items():
        for method, operation in operations.items():
            api = "Codegen" if path.startswith(CODEGEN_PREFIX) else "AgentOS"
            what = re.split(r"(?<=[.:;]) |\n", operation.get("description", operation["summary"]))[0].rstrip(".:;")
            row = (f"`{method.upper()} {path}`", what.replace("``", "`"), api)
            groups.setdefault(_caller(path, method.upper()), []).append(row)
    parts = [
        f"## {caller}\n\n{_table(('route', 'what', 'API'), sorted(groups[caller]))}"
        for caller in sorted(groups, key=_order)
    ]
    return _page("Routes", about, *parts)


def _caller(path: str, method: str) -> str:
    if path in PUBLIC:
        return "Public"
    scopes = PERMISSIONS[f"{method} {path}"]
    if not scopes:
        return "Any valid token"
    return "Administrators" if scopes == (ADMIN,) else " or ".join(f"`{scope}`" for scope in scopes)


def _order(caller: str) -> tuple[int, str]:
    return {"Public": 0, "Any valid token": 1, "Administrators": 3}.get(caller, 2), caller


def _metrics() -> str:
    rows = []
    collected = (*REGISTRY.collect(), *families(None))
    labels = {getattr(each, "_name", ""): getattr(each, "_labelnames", ()) for each in REGISTRY._collector_to_names}  # noqa: SLF001 - prometheus_client shows only labels with values
    for metric in sorted(collected, key=lambda each: each.name):
        if metric.name.startswith("unpause_"):
            named = labels.get(metric.name) or getattr(metric, "_labelnames", None) or ()
            name = f"{metric.name}_total" if metric.type == "counter" else metric.name
            rows.append((f"`{name}`", metric.type, ", ".join(f"`{label}`" for label in named), metric.documentation))
    note = "Those of Python's own collectors begin with `process_` and `python_`. See [operate](../how-to/operate.md)."
    return _page("Metrics", note, _table(("metric", "type", "labels", "meaning"), rows))


def _tables() -> str:
    about = (
        "For looking, not for writing: what a version keeps where may change with the next one. Times are UTC. "
        "`alembic_version` holds the schema's revision."
    )
    # In the order of the descriptions: that of the metadata is the order in which modules were imported.
    described = sorted(metadata.tables.values(), key=lambda table: list(_TABLES).index(table.name))
    parts = [f"## {table.name}\n\n{_TABLES[table.name]}.\n\n{_columns(table)}" for table in described]
    return _page("Tables", about, *parts)


def _columns(table: Table) -> str:
    return _table(("column", "type", ""), [(f"`{one.name}`", _type(one), _rules(one)) for one in table.columns])


def _type(column: Column[Any]) -> str:
    return re.sub(r"\(.*\)", "", str(column.type).lower())


def _rules(column: Column[Any]) -> str:
    rules = ["primary key"] if column.primary_key else [] if column.nullable else ["not null"]
    rules += [f"→ `{key.target_fullname}`" for key in column.foreign_keys]
    return ", ".join(rules)


def main() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in reference_pages().items():
        Path(FOLDER, name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
