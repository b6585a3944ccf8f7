"""A message is sent soon after the commit that stored it, and again when it is due: no poll is waited for."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial

import pytest

from tests.support.databases import NOW
from tests.support.webhook_server import QUICK, once
from unpause.clock import SystemClock
from unpause.delivery.worker import DeliveryRules, DeliveryWorker
from unpause.domain.webhooks import Address, Delivery, DeliveryResult
from unpause.store.deliveries import add_deliveries
from unpause.store.engine.database import Database
from unpause.vault import Encrypted
from unpause.webhooks.queue import WebhookQueue

pytestmark = pytest.mark.sql

# Longer than any test.
NEVER = replace(QUICK, poll_seconds=3600.0)


@dataclass
class Sender:
    """Notes what it sends; the first attempts fail."""

    failures: int = 0
    sent: list[str] = field(default_factory=list)

    def can_decrypt(self, address: Address, secret: Encrypted | None) -> bool:
        del self, address, secret
        return True

    async def send_message(self, delivery: Delivery) -> DeliveryResult:
        """Note the message and answer."""
        self.sent.append(delivery.id)
        return DeliveryResult(500, "answered 500") if len(self.sent) <= self.failures else DeliveryResult(200)

    async def has_sent(self, *names: str) -> None:
        """Wait until these attempts, and no others, were made."""
        assert await once(self._names, lambda found: len(found) >= len(names)) == list(names)

    async def _names(self) -> list[str]:
        return self.sent


@dataclass(frozen=True)
class Process:
    """A process with a deliverer: others know nothing of its commits."""

    database: Database
    sender: Sender

    async def store(self, name: str) -> None:
        """Commit a message."""
        message = Delivery(name, 1, Address.read("http://one.example/"), "{}", NOW)
        await self.database.write(lambda connection: add_deliveries(connection, [message]))


@asynccontextmanager
async def process(url: str, rules: DeliveryRules = NEVER, failures: int = 0) -> AsyncIterator[Process]:
    sender = Sender(failures)
    async with AsyncExitStack() as stack:
        database = await stack.enter_async_context(Database(url).opened())
        deliverer = DeliveryWorker(database, WebhookQueue(sender), SystemClock(), rules, chance=lambda: 0.5)
        await stack.enter_async_context(deliverer.working())
        yield Process(database, sender)


async def test_a_commit_wakes_the_deliverer_of_its_process(database_url: str) -> None:
    async with process(database_url) as here:
        for number in range(1, 4):
            await here.store(f"m{number}")
            await here.sender.has_sent(*(f"m{each}" for each in range(1, number + 1)))


async def test_a_transaction_that_is_rolled_back_wakes_nobody(database_url: str) -> None:
    woken: list[str] = []
    async with Database(database_url).opened() as database:
        queue = WebhookQueue(Sender())

        def failing(connection: object) -> None:
            add_deliveries(connection, [Delivery("m", 1, Address.read("http://one.example/"), "{}", NOW)])  # type: ignore[arg-type] # it is one
            raise LookupError

        with database.waking(partial(woken.append, "woken"), queue.outbox):
            with pytest.raises(LookupError):
                await database.write(failing)
            assert woken == []
            await Process(database, Sender()).store("m")
        await Process(database, Sender()).store("n")
    assert woken == ["woken"]


async def test_a_retry_is_made_when_it_is_due(database_url: str) -> None:
    async with process(database_url, failures=2) as here:
        await here.store("m")
        await here.sender.has_sent("m", "m", "m")


async def test_a_message_of_a_process_that_has_died_is_found_by_the_poll_of_another(database_url: str) -> None:
    async with process(database_url, QUICK) as here, Database(database_url).opened() as died:
        await Process(died, Sender()).store("m")
        await here.sender.has_sent("m")
