"""Deliveries that fail are made again, later and later; none is lost, and none holds up the others."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import insert, select

from tests.support.databases import NOW
from tests.support.receiver import Receiver
from tests.support.server import SettableClock
from tests.support.serving import settings_for
from tests.support.webhook_server import KEY, QUICK, all_over, once, webhook_server
from unpause.delivery.slots import SlotRules
from unpause.delivery.worker import DeliveryRules, DeliveryWorker
from unpause.domain.retention import RetentionRules
from unpause.domain.webhooks import Address, Delivery, DeliveryResult
from unpause.services.retention import Retention
from unpause.settings import Settings
from unpause.store.deliveries import add_deliveries
from unpause.store.engine.database import Database
from unpause.store.tables import organizations, webhook_deliveries
from unpause.vault import Encrypted, new_key
from unpause.webhooks.queue import WebhookQueue

SECRET = "a secret to sign with"
PATIENT = replace(QUICK, attempts=1000, timeout_seconds=0.5, longest_delay_seconds=0.02)


@dataclass
class Sender:
    """Answers as it is told and notes what it is given; ``stuck`` servers never answer."""

    clock: SettableClock
    answers: list[DeliveryResult] = field(default_factory=list)
    stuck: frozenset[str] = frozenset()
    sent: list[tuple[str, datetime]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    def can_decrypt(self, address: Address, secret: Encrypted | None) -> bool:
        del self, address, secret
        return True

    async def send_message(self, delivery: Delivery) -> DeliveryResult:
        """Note the message and answer."""
        self.sent.append((delivery.id, self.clock.now()))
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            if delivery.address.stored in self.stuck:
                await asyncio.Event().wait()
            await asyncio.sleep(0)
        finally:
            self.at_once -= 1
        return self.answers.pop(0) if self.answers else DeliveryResult(200)

    async def has_sent(self, count: int) -> None:
        """Wait until so many attempts have begun."""

        async def look() -> int:
            return len(self.sent)

        await once(look, lambda found: found >= count)


@dataclass(frozen=True)
class Outbox:
    """A database, a clock that is moved, and what looks into the database for messages."""

    database: Database
    clock: SettableClock
    sender: Sender
    rules: DeliveryRules

    async def add(self, *deliveries: Delivery) -> None:
        """Keep messages."""
        await self.database.write(lambda connection: add_deliveries(connection, deliveries))

    def message(self, name: str, url: str = "http://one.example/hook", organization: int = 1) -> Delivery:
        """Return a message that is due at once."""
        return Delivery(name, organization, Address.read(url), "{}", self.clock.now())

    async def add_organizations(self, count: int) -> None:
        """Have so many, from number 1 on."""
        rows = [{"id": number, "name": f"o{number}", "created_at": self.clock.now()} for number in range(2, count + 1)]
        await self.database.write(lambda connection: connection.execute(insert(organizations), rows))

    @asynccontextmanager
    async def delivering(self, rules: DeliveryRules | None = None) -> AsyncIterator[None]:
        """Deliver during the block."""
        queue = WebhookQueue(self.sender)
        deliverer = DeliveryWorker(self.database, queue, self.clock, rules or self.rules, chance=lambda: 0.5)
        async with deliverer.working():
            yield


@asynccontextmanager
async def outbox(folder: Path, *answers: DeliveryResult, stuck: frozenset[str] = frozenset()) -> AsyncIterator[Outbox]:
    """Open a database; nobody looks into it but who is told to."""
    clock = SettableClock(NOW)
    rules = DeliveryRules(attempts=4, timeout_seconds=10.0, poll_seconds=0.002)
    async with Database(settings_for(folder).database_url).opened() as database:
        yield Outbox(database, clock, Sender(clock, list(answers), stuck), rules)


async def test_a_failed_message_comes_again_with_the_same_id_and_another_signature(tmp_path: Path) -> None:
    with Receiver(500, 503) as receiver:
        async with webhook_server(tmp_path) as server:
            await server.configure(receiver.url, secret=SECRET)
            await server.create()
            received = await receiver.hears(3)
            [kept] = await server.deliveries_once(all_over)
    assert len({each.id for each in received}) == 1
    assert len({each.body for each in received}) == 1
    for each in received:
        each.verified(SECRET)
    assert (kept["attempts"], kept["last_error"], kept["delivered_at"] is not None) == (3, None, True)
    assert kept["secret"] is None, "what is over needs its secret no more"


async def test_after_the_last_attempt_a_message_is_over_with_a_short_reason(tmp_path: Path) -> None:
    with Receiver(500, 404, 410) as receiver:
        async with webhook_server(tmp_path) as server:
            await server.configure(receiver.url, secret=SECRET)
            await server.create()
            [kept] = await server.deliveries_once(all_over)
        assert len(receiver.received) == 3 == QUICK.attempts
    assert (kept["attempts"], kept["last_error"], kept["delivered_at"]) == (3, "answered 410", None)
    assert kept["secret"] is None


async def test_the_delays_double_up_to_an_hour() -> None:
    rules = DeliveryRules(attempts=12, timeout_seconds=10)
    delays = [rules.delay_after(attempts, 0.5).total_seconds() for attempts in range(1, 13)]
    assert delays == [5, 10, 20, 40, 80, 160, 320, 640, 1280, 2560, 3600, 3600]
    assert rules.delay_after(100_000, 0.5) == timedelta(hours=1)
    earliest = [rules.delay_after(attempts, 0.0) for attempts in range(1, 11)]
    latest = [rules.delay_after(attempts, 1.0) for attempts in range(1, 11)]
    assert all(late < early for late, early in zip(latest[:-1], earliest[1:], strict=True)), "growing, whatever chance"


async def test_each_attempt_waits_for_its_delay(tmp_path: Path) -> None:
    failed = DeliveryResult(500, "answered 500")
    async with outbox(tmp_path, failed, failed) as box:
        began = box.clock.now()
        await box.add(box.message("one"))
        async with box.delivering():
            await box.sender.has_sent(1)
            for number, delay in ((2, 5), (3, 10)):
                # The delay begins when the failure is known, at the moment that the clock still shows.
                await due_in(box, delay)
                box.clock.move(delay - 0.001)
                await looks(box)
                assert len(box.sender.sent) == number - 1
                box.clock.move(0.001)
                await box.sender.has_sent(number)
    moments = [(moment - began).total_seconds() for _, moment in box.sender.sent]
    assert moments == [0, 5, 15]


async def test_an_attempt_that_nobody_heard_of_again_is_made_again_after_its_time(tmp_path: Path) -> None:
    """What a kill leaves between the claim and the answer."""
    url = "http://stuck.example/"
    async with outbox(tmp_path, stuck=frozenset({url})) as box:
        await box.add(box.message("one", url))
        async with box.delivering():
            await box.sender.has_sent(1)
        box.sender.stuck = frozenset()
        async with box.delivering():
            await looks(box)
            assert len(box.sender.sent) == 1, "the time that an attempt may take is not over"
            box.clock.move(15 + 5)
            await box.sender.has_sent(2)
    assert [name for name, _ in box.sender.sent] == ["one", "one"]


async def test_messages_that_nobody_looked_for_yet_are_sent_by_the_next_process(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with webhook_server(tmp_path, delivers=False) as server:
            await server.configure(receiver.url, secret=SECRET)
            run = await server.create()
            [kept] = await server.deliveries()
            assert kept["attempts"] == 0
        assert receiver.received == []
        async with webhook_server(tmp_path) as server:
            [received] = await receiver.hears(1)
    assert received.verified(SECRET)["data"]["id"] == run["id"]
    assert received.id == kept["id"]


async def test_two_that_look_into_one_database_send_each_message_once(tmp_path: Path) -> None:
    async with outbox(tmp_path) as box:
        await box.add(*(box.message(f"m{number}", f"http://s{number % 9}.example/") for number in range(200)))
        async with box.delivering(), box.delivering():
            await box.sender.has_sent(200)
            await looks(box)
    assert sorted(name for name, _ in box.sender.sent) == sorted(f"m{number}" for number in range(200))


async def test_attempts_are_bounded_in_all_and_for_one_organization_and_one_server(tmp_path: Path) -> None:
    slots = SlotRules(total=40, per_organization=20, per_server=3, unproven_part=0.5)
    servers = [f"http://s{number}.example" for number in range(30)]
    stuck = frozenset(f"{server}/{number}" for server in servers for number in range(10))
    async with outbox(tmp_path, stuck=stuck) as box:
        await box.add_organizations(3)
        for organization in (1, 2, 3):
            await box.add(*(box.message(f"{organization} {url}", url, organization) for url in sorted(stuck)))
        async with box.delivering(replace(box.rules, slots=slots)):
            await box.sender.has_sent(20)
            await looks(box)
            assert box.sender.most_at_once == 20, "half of all, since none of them was seen to answer"
    names = [name for name, _ in box.sender.sent]
    assert {sum(name.startswith(f"{number} ") for name in names) for number in (1, 2, 3)} == {6, 7}
    assert max(sum(f" {server}/" in name for name in names) for server in servers) <= 3


@pytest.mark.parametrize("organization", [1, 2])
async def test_silent_servers_of_any_number_do_not_hold_up_one_that_answers(tmp_path: Path, organization: int) -> None:
    """Of another organization, or of the same one."""
    stuck = [f"http://s{number}.example/" for number in range(400)]
    async with outbox(tmp_path, stuck=frozenset(stuck)) as box:
        await box.add_organizations(2)
        await box.add(box.message("first", "http://fine.example/", organization))
        async with box.delivering():
            await box.sender.has_sent(1)
            await settled(box)
            await box.add(*(box.message(f"stuck{number}", url) for number, url in enumerate(stuck * 2)))
            await box.sender.has_sent(1 + 24)
            await looks(box)
            for number in range(10):
                box.clock.move(0.1)
                await box.add(box.message(f"fine{number}", "http://fine.example/", organization))
                await once(lambda: sent_names(box), partial(_holds, f"fine{number}"))
            await looks(box)
    names = await sent_names(box)
    assert sum(name.startswith("stuck") for name in names) == 24


def _holds(name: str, names: list[str]) -> bool:
    return name in names


async def sent_names(box: Outbox) -> list[str]:
    return [name for name, _ in box.sender.sent]


@pytest.mark.parametrize("ending", ["/", "/{}", "?n={}", ""])
async def test_a_server_that_is_stuck_does_not_hold_up_the_others(tmp_path: Path, ending: str) -> None:
    """Not even with more messages than are looked at together, all of them due before the others'."""
    stuck = [f"http://stuck.example{ending.format(number)}" for number in range(150)]
    async with outbox(tmp_path, stuck=frozenset(stuck)) as box:
        await box.add(*(box.message(f"stuck{number}", url) for number, url in enumerate(stuck)))
        box.clock.move(1)
        fine = [f"http://stuck.example{other}/" for other in (".org", ":81")] + ["http://fine.example/"]
        await box.add(*(box.message(f"fine{number}", url) for number, url in enumerate(fine * 5)))
        async with box.delivering():
            await box.sender.has_sent(4 + 15)
            await looks(box)
    names = [name for name, _ in box.sender.sent]
    assert sum(name.startswith("stuck") for name in names) == 4
    assert len(set(names)) == 19


async def test_a_stop_does_not_wait_for_an_attempt_that_hangs(tmp_path: Path) -> None:
    with Receiver(None) as receiver:
        async with webhook_server(tmp_path) as server:
            await server.configure(receiver.url)
            await server.create()
            await receiver.hears(1)
            began = time.monotonic()
        assert time.monotonic() - began < QUICK.timeout_seconds / 2


async def test_what_a_sender_raises_ends_nothing_and_the_message_is_tried_again(tmp_path: Path) -> None:
    class Broken(Sender):
        async def send_message(self, delivery: Delivery) -> DeliveryResult:
            await super().send_message(delivery)
            if len(self.sent) == 1:
                raise RuntimeError(delivery.id)
            return DeliveryResult(200)

    async with outbox(tmp_path) as plain:
        box = replace(plain, sender=Broken(plain.clock))
        await box.add(box.message("one"))
        async with box.delivering():
            await box.sender.has_sent(1)
            await looks(box)
            box.clock.move(20)
            await box.sender.has_sent(2)


async def test_a_database_that_fails_for_a_while_does_not_end_the_delivering(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with outbox(tmp_path) as box:
        failures = 3

        def fail(*_: object) -> None:
            nonlocal failures
            failures -= 1
            if not failures:
                patched.undo()
            raise OSError

        with monkeypatch.context() as patched:
            patched.setattr("unpause.webhooks.queue.list_due", fail)
            await box.add(box.message("one"))
            async with box.delivering():
                await box.sender.has_sent(1)
        assert failures == 0


async def test_a_secret_that_cannot_be_opened_any_more_is_a_failure_and_not_an_unsigned_message(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with webhook_server(tmp_path, delivers=False) as server:
            await server.configure(receiver.url, secret=SECRET)
            await server.create()
        for changes in ({"encryption_key": None}, {"encryption_key": new_key()}):
            async with webhook_server(tmp_path, rules=PATIENT, **changes) as server:
                [kept] = await server.deliveries_once(lambda found: found[0]["last_error"] is not None)
                assert kept["last_error"] == "its secrets cannot be decrypted with the keys that this server has"
                assert kept["secret"] is not None
        assert receiver.received == []
        async with webhook_server(tmp_path, encryption_key=KEY, rules=PATIENT):
            [received] = await receiver.hears(1)
    received.verified(SECRET)


async def test_what_is_over_is_forgotten_after_a_week_and_what_is_not_stays(tmp_path: Path) -> None:
    async with outbox(tmp_path, DeliveryResult(200), DeliveryResult(500, "answered 500")) as box:
        await box.add(box.message("done"))
        async with box.delivering():
            await box.sender.has_sent(1)
            await settled(box)
            await box.add(box.message("waiting"))
            await box.sender.has_sent(2)
            await settled(box)
        box.clock.move(7 * 24 * 3600 - 1)
        assert await left_after_cleaning(box) == {"done", "waiting"}
        box.clock.move(2)
        assert await left_after_cleaning(box) == {"waiting"}


async def left_after_cleaning(box: Outbox) -> set[str]:
    """Return which messages there are once a server with the usual settings has swept."""
    rules = RetentionRules(keep_deliveries=Settings.model_fields["keep_deliveries"].default)
    await Retention(box.database, box.clock, rules).sweep()
    return {row["id"] for row in await rows(box)}


async def rows(box: Outbox) -> list[dict[str, Any]]:
    """Return every message that is kept."""
    return await box.database.read(
        lambda connection: [dict(row) for row in connection.execute(select(webhook_deliveries)).mappings()]
    )


async def settled(box: Outbox) -> None:
    """Wait until each message has the outcome of an attempt."""
    await once(lambda: rows(box), lambda found: all(row["delivered_at"] or row["last_error"] for row in found))


async def due_in(box: Outbox, seconds: float) -> None:
    """Wait until the one message is due after this time by the clock."""
    moment = box.clock.now() + timedelta(seconds=seconds)
    await once(lambda: rows(box), lambda found: bool(found[0]["next_attempt_at"] == moment))


async def looks(box: Outbox) -> None:
    """Give the deliverer the time to look several times."""
    for _ in range(10):
        await asyncio.sleep(box.rules.poll_seconds)
        await rows(box)
