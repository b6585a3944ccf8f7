"""``unpause status``: whether the server is ready, what it lacks, and who the token is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unpause.cli.exits import CommandFailed, Exit
from unpause.cli.people.escapes import harmless_json
from unpause.cli.people.layout import fields
from unpause.cli.people.options import DEFAULTS, Common
from unpause.cli.people.times import age, now, read_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import datetime

    from unpause.cli.people.client import Client
    from unpause.cli.people.errors import JsonObject

_OK = 200


def status(*, common: Common = DEFAULTS) -> None:
    """Show whether the server is ready, its workers, and what waits; exit with 1 unless it is ready."""
    with common.connect() as client:
        alive, health = client.get_any("/health")
        ready, readiness = client.get_any("/ready")
        found = {
            "url": client.url,
            "health": health,
            "ready": readiness,
            "me": _permitted(client, "/me"),
            "overview": _permitted(client, "/overview"),
        }
    common.printer().object(found, client.url, *_lines(found))
    for code, body, what in ((alive, health, "healthy"), (ready, readiness, "ready")):
        if code != _OK:
            raise CommandFailed(f"The server is not {what}: {body.get('reason', code)}")


def _permitted(client: Client, path: str) -> JsonObject | None:
    """Return what the route answers; None where the token may not read it."""
    try:
        return client.get(path)
    except CommandFailed as error:
        if error.code in {Exit.FORBIDDEN, Exit.NOT_FOUND, Exit.UNREACHABLE}:
            return None
        raise


def _lines(found: JsonObject) -> Iterator[str]:
    yield f"{found['url']} is {found['ready'].get('status', 'unknown')}"
    me = found["me"]
    if me is not None:
        who = me.get("name") or me.get("user_id") or "without a user"
        needed = "" if me["authenticated"] else "; this server needs no token"
        yield from _field("you", f"{who}, of {me['organization_name']}{needed}")
    yield from _fields(found["health"], {"status"})
    for one in found["ready"].get("missing") or ():
        yield from _field("missing", f"{one['part']}: {one['detail']}")
    if schema := found["ready"].get("schema"):
        yield from _field("schema", schema["detail"])
    yield from _fields(found["ready"], {"status", "reason", "missing", "schema"})
    yield from _overview(found["overview"] or {})


def _overview(overview: JsonObject) -> Iterator[str]:
    # The server's time: this machine's clock may differ.
    at = read_time(overview.get("at")) or now()
    waiting, oldest = overview.get("waiting") or {}, overview.get("oldest_waiting")
    if waiting.get("p50") is not None:
        yield from _field("decided within", f"p50 {waiting['p50']:.0f} s, p95 {waiting['p95']:.0f} s")
    if oldest:
        yield from _field(
            "oldest waiting", f"{oldest['tool_name']}, {age(oldest['since'], at)}: {oldest['requirement_id']}"
        )
    for worker in overview.get("workers") or ():
        yield from _field("worker", ", ".join(_worker(worker, at)))
    for one in overview.get("webhooks") or ():
        yield from _field("webhook", f"{one['server']}: {one['last_error']}")
    yield from _fields(overview, {"at", "waiting", "oldest_waiting", "workers", "webhooks", "series"})


def _worker(worker: JsonObject, at: datetime) -> Iterator[str]:
    """Yield the facts about a worker; servers of older versions send no number of runs."""
    yield f"{worker['name']} {worker['version']}"
    yield "alive" if worker["alive"] else "silent"
    if worker.get("running") is not None:
        yield f"{worker['running']} running"
    yield f"heartbeat {age(worker['last_heartbeat'], at)} ago"
    yield f"agents {' '.join(worker['agents'])}"


def _fields(body: JsonObject, without: set[str]) -> Iterator[str]:
    """Yield a line for each value: servers of other versions have others."""
    for name, value in body.items():
        if name not in without and value not in (None, [], {}):
            yield from _field(name.replace("_", " "), _shown(value))


def _field(name: str, text: str) -> Iterator[str]:
    return fields((name, text), width=20)


def _shown(value: Any) -> str:  # noqa: ANN401 - whatever is JSON
    if isinstance(value, dict) and not any(isinstance(inner, dict | list) for inner in value.values()):
        return ", ".join(f"{name} {inner}" for name, inner in value.items())
    if isinstance(value, list):
        return "; ".join(map(_shown, value))
    return value if isinstance(value, str) else harmless_json(value)
