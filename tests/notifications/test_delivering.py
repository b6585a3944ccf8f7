"""Notifications arrive: after an outage, in a digest where there are many, once with two workers, by mail."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import replace
from email import message_from_bytes, policy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.support.channels import LINKS, SECRET, add_channel, all_rows, channel_url, notifying, rows_once, told
from tests.support.receiver import Receiver
from tests.support.server import Server
from tests.support.toolbox import plan
from tests.support.webhook_server import QUICK, once
from unpause.clock import RandomIds
from unpause.delivery.worker import DeliveryWorker
from unpause.notifications.queue import NotificationQueue
from unpause.notifications.sender import AppriseSender
from unpause.vault import UNREADABLE, Vault, new_key


async def pause(server: Server, count: int) -> None:
    """Have so many runs wait."""
    for number in range(count):
        await server.create(plan([("delete_file", {"path": str(number)})]))


async def test_after_an_outage_of_the_receiver_a_message_comes_once(tmp_path: Path) -> None:
    with Receiver(503, 500) as receiver:
        async with notifying(tmp_path) as server:
            await add_channel(server, channel_url(receiver), owner="organization")
            await pause(server, 1)
            for status in (503, 500):
                await once(lambda: all_rows(server), partial(_failed_with, f"answered {status}"))
                server.clock.move(60)
                server.application.notifier.look_soon()
            [row] = await rows_once(server, 1)
            [channel] = (await server.get("/notifications/channels")).json()["data"]
    assert (row["attempts"], row["last_error"]) == (3, None)
    assert (len(receiver.received), channel["last_error"], channel["last_sent_at"] is not None) == (3, None, True)


def _failed_with(error: str, rows: list[dict[str, Any]]) -> bool:
    return bool(rows[0]["last_error"] == error)


async def test_after_the_last_attempt_a_notification_is_finished_and_its_channel_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with Receiver(404) as receiver:
        async with notifying(tmp_path, notify_attempts=1) as server:
            await add_channel(server, channel_url(receiver), owner="organization")
            await pause(server, 1)
            [row] = await rows_once(server, 1)
            [channel] = (await server.get("/notifications/channels")).json()["data"]
    assert (row["delivered_at"], row["last_error"], channel["last_error"]) == (None, "answered 404", "answered 404")
    said = capsys.readouterr().out
    assert "notification delivery failed" in said
    assert SECRET not in said


async def test_beyond_the_limit_of_a_minute_all_that_waits_comes_in_one_digest(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with notifying(tmp_path, notify_per_minute=2) as server:
            await add_channel(server, channel_url(receiver), owner="organization")
            await pause(server, 1)
            await rows_once(server, 1)
            # One more message in this minute: a digest of what waits.
            await asyncio.gather(pause(server, 3), pause(server, 1))
            await once(lambda: all_rows(server), lambda rows: len(rows) == 5)
            await receiver.hears(2)
            server.clock.move(61)
            server.application.notifier.look_soon()
            rows = await rows_once(server, 5)
        sent = told(receiver.received)
    # However the runs came, no minute had more than two messages, and each request is in one of them.
    assert len(sent) <= 4
    links = [line for _, message in sent for line in message.splitlines() if line.startswith(LINKS)]
    assert sorted(links) == sorted(f"{LINKS}/console/requests/{row['subject']}" for row in rows)
    assert any(title.startswith("Unpause: ") for title, _ in sent)


async def test_a_clock_that_is_put_back_silences_no_channel_for_longer_than_a_minute(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with notifying(tmp_path, notify_per_minute=1) as server:
            await add_channel(server, channel_url(receiver), owner="organization")
            await pause(server, 1)
            await rows_once(server, 1)
            server.clock.move(-3600)
            await pause(server, 1)
            await rows_once(server, 2)
    assert len(receiver.received) == 2


async def test_a_long_digest_lists_the_first_ones_and_leads_to_the_console(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with notifying(tmp_path, notify_per_minute=1) as server:
            await add_channel(server, channel_url(receiver), owner="organization")
            await pause(server, 1)
            await rows_once(server, 1)
            await pause(server, 25)
            assert len(receiver.received) == 1, "the minute is used up"
            server.clock.move(61)
            server.application.notifier.look_soon()
            await rows_once(server, 26)
        [_, (title, message)] = told(receiver.received)
    assert title == "Unpause: 25 notifications"
    assert message.count("/console/requests/") == 20
    assert message.endswith(f"and 5 more: {LINKS}/console")


@pytest.mark.sql
async def test_two_workers_on_one_database_send_each_notification_once(tmp_path: Path, database_url: str) -> None:
    with Receiver() as receiver:
        async with notifying(tmp_path, database_url=database_url, notify_per_minute=1000) as server:
            await add_channel(server, channel_url(receiver), owner="organization")
            await add_channel(server.user("root"), channel_url(receiver))
            async with second_worker(server):
                await pause(server, 10)
                rows = await rows_once(server, 20)
        titles = [title for title, _ in told(receiver.received)]
    assert len(titles) == 20
    assert {row["attempts"] for row in rows} == {1}


@asynccontextmanager
async def second_worker(server: Server) -> AsyncIterator[None]:
    """Deliver by a second worker of the same server, as another node would."""
    worker = server.application.notifier
    other = type(worker)(worker._database, worker._queue, worker._clock, worker._rules)  # noqa: SLF001 - its twin
    async with other.working():
        yield


class Mailbox:
    """Takes what an SMTP server receives."""

    def __init__(self) -> None:
        self.received: list[bytes] = []

    async def handle_DATA(self, server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802 - aiosmtpd's
        """Take one mail."""
        del server, session
        assert isinstance(envelope.content, bytes)
        self.received.append(envelope.content)
        return "250 OK"


async def test_a_mail_arrives_at_a_real_smtp_server(tmp_path: Path) -> None:
    mailbox = Mailbox()
    smtp = Controller(mailbox, "127.0.0.1", 9610)
    smtp.start()
    try:
        async with notifying(tmp_path) as server:
            url = "mailto://127.0.0.1:9610?from=unpause@example.org&to=ops@example.org&mode=insecure&format=text"
            await add_channel(server, url, owner="organization")
            await pause(server, 1)
            [row] = await rows_once(server, 1)
    finally:
        smtp.stop()
    [mail] = [message_from_bytes(each, policy=policy.default) for each in mailbox.received]
    assert (mail["Subject"], mail["To"]) == ("toolbox waits for you: delete_file", "ops@example.org")
    body = mail.get_body(("plain",))
    assert body is not None
    assert f"{LINKS}/console/requests/{row['subject']}" in body.get_content()


async def test_a_receiver_that_never_answers_holds_up_neither_the_stop_nor_another_channel(tmp_path: Path) -> None:
    with Receiver(None) as silent, Receiver() as receiver:
        async with notifying(tmp_path, notify_timeout_seconds=60) as server:
            await add_channel(server, channel_url(silent), owner="organization")
            await add_channel(server, channel_url(receiver), owner="organization")
            await pause(server, 1)
            await silent.hears(1)
            await receiver.hears(1)
            began = time.monotonic()
        assert time.monotonic() - began < 30


async def test_a_message_without_an_answer_in_time_is_a_failure(tmp_path: Path) -> None:
    with Receiver(None) as silent:
        async with notifying(tmp_path, notify_timeout_seconds=0.3, notify_attempts=1) as server:
            await add_channel(server, channel_url(silent), owner="organization")
            await pause(server, 1)
            [row] = await rows_once(server, 1)
    assert row["last_error"] in {"no answer within 0.3 seconds", "could not connect"}


async def test_a_node_without_the_key_of_a_channel_uses_up_no_attempt(tmp_path: Path) -> None:
    key, rules = new_key(), replace(QUICK, attempts=1, first_delay_seconds=0.001, longest_delay_seconds=0.001)
    with Receiver() as receiver:
        async with notifying(tmp_path, encryption_key=key) as server:
            await add_channel(server, channel_url(receiver), owner="organization")
        async with notifying(tmp_path, encryption_key=new_key()) as server:
            await pause(server, 1)
            application = server.application

            def worker(with_key: str) -> AbstractAsyncContextManager[None]:
                sender = AppriseSender(Vault([with_key]), 5.0, allow_private=True)
                queue = NotificationQueue(sender, RandomIds(), LINKS, per_minute=10)
                return DeliveryWorker(application.database, queue, application.clock, rules, lambda: 0.5).working()

            async with worker(new_key()):
                [row] = await once(lambda: all_rows(server), partial(_failed_with, UNREADABLE))
                assert row["attempts"] == 0
                [channel] = (await server.get("/notifications/channels")).json()["data"]
                assert channel["last_error"] == UNREADABLE
            server.clock.move(60)
            async with worker(key):
                [row] = await rows_once(server, 1)
            assert (row["attempts"], row["last_error"], len(receiver.received)) == (1, None, 1)
