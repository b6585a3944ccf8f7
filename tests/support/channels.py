"""Channels of notifications in tests: added through the API, heard by a real server."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import select

from tests.support.caller import Caller, body_of
from tests.support.receiver import Heard, Receiver
from tests.support.server import Server, SettableClock, served
from tests.support.toolbox import JsonObject
from tests.support.webhook_server import once
from unpause.store.tables import notifications

CHANNELS = "/notifications/channels"
# What a channel's URL must never show.
SECRET = "canary-of-the-channel"
LINKS = "https://unpause.example"


def channel_url(receiver: Receiver) -> str:
    """Return the URL of a channel that posts JSON to the receiver."""
    return f"json://user:{SECRET}@127.0.0.1:{receiver.port}/hook"


@asynccontextmanager
async def notifying(folder: Path, *, clock: SettableClock | None = None, **settings: Any) -> AsyncIterator[Server]:  # noqa: ANN401 - any setting
    """Serve the toolbox with tokens; channels may be on this machine."""
    usual = {
        "tokens": True,
        "request_limit": 1,
        "notify_private_targets": True,
        "public_url": "https://unpause.example",
        **settings,
    }
    async with served(folder, clock=clock, **usual) as server:
        yield server


async def add_channel(caller: Caller, url: str, **keys: object) -> JsonObject:
    """Add a channel."""
    return body_of(await caller.post(CHANNELS, {"url": url, **keys}), 201)


async def rows_once(server: Server, count: int) -> list[dict[str, Any]]:
    """Wait until so many notifications are finished; return all."""

    def are_finished(rows: Sequence[dict[str, Any]]) -> bool:
        return len([row for row in rows if row["next_attempt_at"] is None]) >= count

    return await once(lambda: all_rows(server), are_finished)


async def all_rows(server: Server) -> list[dict[str, Any]]:
    """Return all notifications, the oldest first."""
    query = select(notifications).order_by(notifications.c.created_at, notifications.c.id)
    return await server.application.database.read(
        lambda connection: [dict(row) for row in connection.execute(query).mappings()]
    )


def told(heard: Sequence[Heard]) -> list[tuple[str, str]]:
    """Return title and message of what arrived."""
    read = [json.loads(each.body) for each in heard]
    return [(each["title"], each["message"]) for each in read]
