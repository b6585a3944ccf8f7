"""A webhook's address is a secret, too: many hold a token in their path or query."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.support.receiver import Receiver
from tests.support.webhook_server import QUICK, RUN, WEBHOOK, WebhookServer, read, webhook_server
from unpause.domain.webhooks import Address
from unpause.vault import UNREADABLE, Encrypted, new_key

PATIENT = replace(QUICK, attempts=1000, timeout_seconds=0.5, longest_delay_seconds=0.02)


def server_of(receiver: Receiver) -> str:
    """Return the receiver's address without path and query."""
    return receiver.url.removesuffix("/hook?a=b")


def read_files(folder: Path) -> bytes:
    """Return all that SQLite has written, its write-ahead log and free pages with it."""
    return b"".join(file.read_bytes() for file in folder.glob("*.db*"))


async def read_config(server: WebhookServer) -> dict[str, Any]:
    """Return what the server says of the organization's webhook."""
    return read(await server.client.get(WEBHOOK))


@pytest.mark.parametrize("stored", ["https://a.example:1", "HTTPS://A.example/b?c=d", "https://a?b/c", ""])
def test_an_address_in_clear_is_stored_as_it_is(stored: str) -> None:
    assert Address.read(stored).stored == stored


def test_a_sealed_address_shows_its_server_and_nothing_else() -> None:
    stored = Address("https://a.example:1", Encrypted("token")).stored
    assert stored == "https://a.example:1/#sealed:token"
    found = Address.read(stored)
    assert found.server == "https://a.example:1"
    assert isinstance(found.rest, Encrypted)
    assert found.rest.token == "token"


async def test_an_address_is_kept_sealed_with_all_but_its_server_and_messages_go_to_all_of_it(tmp_path: Path) -> None:
    with Receiver() as receiver:
        url = f"{server_of(receiver)}/in/T0/secret-path?token=secret-query"
        async with webhook_server(tmp_path, rules=PATIENT) as server:
            reported = await server.configure(f"{url}#left-out")
            assert reported == await read_config(server) == {"url": url, "enabled": True, "has_secret": False}
            await server.create()
            [received] = await receiver.hears(1)
            own = {"prompt": "hello", "webhooks": [{"url": url}]}
            key = {"Idempotency-Key": "the same"}
            made = [(await server.client.post(RUN, json=own, headers=key)).json()["id"] for _ in range(2)]
            await receiver.hears(2)
            kept = [each["url"] for each in await server.deliveries()]
        assert len(set(made)) == 1
        assert received.path == "/in/T0/secret-path?token=secret-query"
        assert all(each.startswith(f"{server_of(receiver)}/#sealed:") for each in kept), kept
        written = await asyncio.to_thread(read_files, tmp_path)
        assert b"secret-path" not in written
        assert b"secret-query" not in written


async def test_an_address_that_cannot_be_opened_any_more_is_shown_as_its_server_and_gets_nothing(
    tmp_path: Path,
) -> None:
    with Receiver() as receiver:
        url = f"{server_of(receiver)}/secret-path"
        async with webhook_server(tmp_path, rules=PATIENT) as server:
            await server.configure(url)
        async with webhook_server(tmp_path, rules=PATIENT, encryption_key=new_key()) as server:
            assert (await read_config(server))["url"] == server_of(receiver)
            await server.create()
            [kept] = await server.deliveries_once(lambda found: bool(found) and found[0]["last_error"] is not None)
            assert kept["last_error"] == UNREADABLE
            tested = read(await server.client.post(f"{WEBHOOK}/test", json={"url": url}))
            assert (tested["success"], tested["error"]) == (False, UNREADABLE)
        assert receiver.received == []


async def test_an_address_is_kept_as_it_is_where_there_is_no_key(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with webhook_server(tmp_path, rules=PATIENT, encryption_key=None) as server:
            await server.configure(f"{server_of(receiver)}/path")
            await server.create()
            await receiver.hears(1)
            assert [each["url"] for each in await server.deliveries()] == [f"{server_of(receiver)}/path"]
        # A key that comes later leaves it.
        async with webhook_server(tmp_path, rules=PATIENT) as server:
            assert (await read_config(server))["url"] == f"{server_of(receiver)}/path"
            await server.create()
            await receiver.hears(2)
