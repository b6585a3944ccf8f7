"""A node without the key of a message leaves it to the others, and uses up none of its attempts."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from sqlalchemy import Connection, select

from tests.support.databases import NOW
from tests.support.webhook_server import QUICK, once
from unpause.clock import SystemClock
from unpause.delivery.left import LeftToOthers
from unpause.delivery.worker import DeliveryWorker
from unpause.domain.webhooks import Address, Delivery, DeliveryResult
from unpause.store.deliveries import add_deliveries
from unpause.store.engine.database import Database
from unpause.store.tables import webhook_deliveries
from unpause.telemetry.metrics import DELIVERIES
from unpause.vault import UNREADABLE, Encrypted, Vault, new_key
from unpause.webhooks.queue import WebhookQueue

OLD, NEW = new_key(), new_key()
FEW = replace(QUICK, attempts=2, first_delay_seconds=0.001, longest_delay_seconds=0.001)


@dataclass
class Node:
    """Sends what it can decrypt."""

    vault: Vault
    sent: list[str] = field(default_factory=list)

    def can_decrypt(self, address: Address, secret: Encrypted | None) -> bool:
        return all(self.vault.can_decrypt(each) for each in (address.rest, secret) if isinstance(each, Encrypted))

    async def send_message(self, delivery: Delivery) -> DeliveryResult:
        assert self.can_decrypt(delivery.address, delivery.secret)
        self.sent.append(delivery.id)
        return DeliveryResult(200)


@asynccontextmanager
async def delivering(database: Database, *keys: str) -> AsyncIterator[Node]:
    """Deliver with these keys during the block."""
    node = Node(Vault(keys))
    async with DeliveryWorker(database, WebhookQueue(node), SystemClock(), FEW, chance=lambda: 0.5).working():
        yield node


async def rows(database: Database) -> dict[str, dict[str, Any]]:
    """Return all deliveries."""

    def read(connection: Connection) -> dict[str, dict[str, Any]]:
        return {row["id"]: dict(row) for row in connection.execute(select(webhook_deliveries)).mappings()}

    return await database.read(read)


async def times_put_off(before: float = 0) -> float:
    count: float = DELIVERIES.labels("webhook", "undecryptable")._value.get()  # noqa: SLF001 - prometheus has no reader
    return count - before


@pytest.mark.sql
async def test_a_node_without_the_key_uses_up_no_attempt_and_one_with_it_sends(database_url: str) -> None:
    vault, plain = Vault([NEW]), Address.read("http://one.example/")
    messages = [
        Delivery("secret", 1, plain, "{}", NOW, secret=vault.encrypt("s")),
        Delivery("address", 1, Address("http://one.example", vault.encrypt("/x")), "{}", NOW),
        Delivery("plain", 1, plain, "{}", NOW),
    ]
    async with Database(database_url).opened() as database:
        await database.write(lambda connection: add_deliveries(connection, messages))
        before = await times_put_off()
        async with delivering(database, OLD) as old:
            # More often than a message has attempts.
            await once(lambda: times_put_off(before), lambda count: count >= 4 * FEW.attempts)
            found = await rows(database)
            assert {name: row["attempts"] for name, row in found.items()} == {"secret": 0, "address": 0, "plain": 1}
            assert found["secret"]["last_error"] == found["address"]["last_error"] == UNREADABLE
            async with delivering(database, NEW, OLD) as new:
                await once(lambda: rows(database), lambda found: all(row["delivered_at"] for row in found.values()))
        assert (old.sent, sorted(new.sent)) == (["plain"], ["address", "secret"])
        found = await rows(database)
        assert {(row["attempts"], row["last_error"]) for row in found.values()} == {(1, None)}


def test_a_message_is_left_for_a_while_before_it_is_put_off_and_again_after_that() -> None:
    left = LeftToOthers(10)
    assert (left.is_left("m", 0), left.leave("m", 0)) == (False, None)
    assert [left.is_left("m", at) for at in (9.9, 10)] == [True, False]
    assert left.leave("m", 10) == 1
    left.put_off("m", 5)
    # It is due at 15, and then others have their time again.
    assert [left.is_left("m", at) for at in (24.9, 25)] == [True, False]
    assert left.leave("m", 25) == 2
