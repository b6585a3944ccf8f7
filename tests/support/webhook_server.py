"""A server with a key for secrets, whose deliverer looks often and waits little, and what its database says of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import httpx
from sqlalchemy import select

from tests.support.receiver import DEADLINE
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import ADDRESS, application_for, settings_for
from unpause.agents.driver import AgentDriver
from unpause.api.app import create_app
from unpause.bootstrap import Application
from unpause.clock import Clock, SystemClock
from unpause.delivery.worker import DeliveryRules, DeliveryWorker
from unpause.store.tables import webhook_deliveries
from unpause.vault import Vault, new_key
from unpause.webhooks.http import Resolver, SafeHttpClient
from unpause.webhooks.queue import WebhookQueue
from unpause.webhooks.sender import SigningSender

T = TypeVar("T")

WEBHOOK = "/v1/organizations/1/webhooks/agent-run"
RUN = "/v1/organizations/1/agent/run"
KEY = new_key()

# An attempt may take as long as a test waits: one that a busy machine holds up must not come twice.
QUICK = DeliveryRules(attempts=3, timeout_seconds=60.0, first_delay_seconds=0.02, poll_seconds=0.01)


@dataclass(frozen=True)
class WebhookServer:
    """One server."""

    client: httpx.AsyncClient
    application: Application

    async def configure(self, url: str, **keys: object) -> dict[str, Any]:
        """Let the address hear of all runs."""
        return read(await self.client.post(WEBHOOK, json={"url": url, **keys}))

    async def create(self, prompt: str = "hello", **keys: object) -> dict[str, Any]:
        """Make a run through Codegen's API; wait until it paused or ended."""
        return await self.settled(read(await self.client.post(RUN, json={"prompt": prompt, **keys}))["id"])

    async def resume(self, run: dict[str, Any], prompt: str = "go on", **keys: object) -> dict[str, Any]:
        """Resume a run through Codegen's API; wait until it paused or ended again."""
        body = {"agent_run_id": run["id"], "prompt": prompt, **keys}
        read(await self.client.post(f"{RUN}/resume", json=body))
        return await self.settled(run["id"])

    async def settled(self, run_key: int) -> dict[str, Any]:
        """Return the run once it paused or ended."""
        return await once(lambda: self._read(run_key), lambda run: run["status"] != "ACTIVE")

    async def deliveries(self) -> list[dict[str, Any]]:
        """Return every message that is kept, the oldest first."""
        query = select(webhook_deliveries).order_by(webhook_deliveries.c.created_at, webhook_deliveries.c.id)
        return await self.application.database.read(
            lambda connection: [dict(row) for row in connection.execute(query).mappings()]
        )

    async def deliveries_once(self, are_reached: Callable[[list[dict[str, Any]]], bool]) -> list[dict[str, Any]]:
        """Look again and again until the messages are like that; return them."""
        return await once(self.deliveries, are_reached)

    async def _read(self, run_key: int) -> dict[str, Any]:
        return read(await self.client.get(f"{RUN}/{run_key}"))


@asynccontextmanager
async def webhook_server(
    folder: Path,
    *drivers: AgentDriver,
    rules: DeliveryRules = QUICK,
    clock: Clock | None = None,
    resolve: Resolver | None = None,
    delivers: bool = True,
    **changes: Any,  # noqa: ANN401 - any setting
) -> AsyncIterator[WebhookServer]:
    """Serve during the block. Private addresses are allowed and there is a key, unless ``changes`` say otherwise.

    Unless it ``delivers`` it leaves all messages where they are stored.
    """
    changes = {"webhook_private_targets": True, "encryption_key": KEY, "rate_limit_read": "", **changes}
    settings = settings_for(folder, **changes)
    clock = clock or SystemClock()
    built = application_for(settings, drivers or [ScriptedDriver()], clock)
    vault = Vault([settings.encryption_key.get_secret_value()] if settings.encryption_key else [])
    door = SafeHttpClient(rules.timeout_seconds, allow_private=settings.webhook_private_targets, resolve=resolve)
    sender = SigningSender(vault, lambda: door, clock, ADDRESS)
    deliverer = DeliveryWorker(built.database, WebhookQueue(sender), clock, rules, chance=lambda: 0.5)
    application = replace(built, deliverer=deliverer)
    if not delivers:
        for worker in (application.deliverer, application.notifier):
            worker.working = nullcontext  # type: ignore[method-assign, assignment]
    transport = httpx.ASGITransport(app=create_app(application), raise_app_exceptions=False)
    async with application.running(), httpx.AsyncClient(transport=transport, base_url=ADDRESS) as client:
        yield WebhookServer(client, application)


async def once(look: Callable[[], Awaitable[T]], is_reached: Callable[[T], bool]) -> T:
    """Look again and again until it is reached; return what was seen."""
    async with asyncio.timeout(DEADLINE):
        while True:
            found = await look()
            if is_reached(found):
                return found
            await asyncio.sleep(0.002)


def read(response: httpx.Response) -> dict[str, Any]:
    """Return the object that was answered, and fail for anything but 200."""
    assert response.status_code == 200, response.text
    body: dict[str, Any] = response.json()
    return body


def all_over(deliveries: Sequence[dict[str, Any]]) -> bool:
    """Whether nothing is still to be delivered."""
    return bool(deliveries) and all(each["next_attempt_at"] is None for each in deliveries)
