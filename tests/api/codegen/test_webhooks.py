"""An organization's webhook through Codegen's API: configured, shown, tried out and deleted; its secret never shown."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.receiver import Receiver
from tests.support.webhook_server import RUN, WEBHOOK, WebhookServer, all_over, read, webhook_server
from unpause.store.events import list_events

NOTHING = {"url": None, "enabled": False, "has_secret": False}
CANARY = "canary-7d1e05"
PRIVATE = "The webhook URL leads to a private address or to this machine"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[WebhookServer]:
    async with webhook_server(tmp_path) as server:
        yield server


async def refused(client: httpx.AsyncClient, path: str, body: object, status: int = 400) -> str:
    """Post what has to be refused in Codegen's shape; return the message."""
    response = await client.post(path, json=body)
    assert response.status_code == status, response.text
    answer: dict[str, Any] = response.json()
    assert answer["status_code"] == status
    return str(answer["message"])


def database_texts(folder: Path) -> list[str]:
    """Return every byte of the database's files, each as a character."""
    files = list(folder.glob("unpause.db*"))
    assert files
    return [file.read_bytes().decode("latin-1") for file in files]


async def test_a_webhook_is_set_shown_replaced_and_deleted(server: WebhookServer) -> None:
    assert read(await server.client.get(WEBHOOK)) == NOTHING
    shown = {"url": "https://one.example/A?b", "enabled": True, "has_secret": True}
    assert await server.configure("https://one.example/A?b", secret=CANARY, more="ignored") == shown
    assert read(await server.client.get(WEBHOOK)) == shown
    shown = {"url": "https://two.example", "enabled": False, "has_secret": False}
    assert await server.configure("https://two.example", secret=None, enabled=False) == shown
    assert read(await server.client.get(WEBHOOK)) == shown
    for _ in range(2):
        assert read(await server.client.delete(WEBHOOK)) == NOTHING
        assert read(await server.client.get(WEBHOOK)) == NOTHING


async def test_a_webhook_is_still_there_after_a_restart(tmp_path: Path) -> None:
    async with webhook_server(tmp_path) as server:
        shown = await server.configure("https://one.example", secret=CANARY)
    async with webhook_server(tmp_path) as server:
        assert read(await server.client.get(WEBHOOK)) == shown


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1:8000/",
        "http://localhost/",
        "http://[::1]/",
        "http://[::ffff:10.0.0.1]/",
        "http://169.254.169.254/latest/meta-data/",
        "http://2130706433/",
    ],
)
async def test_a_private_address_is_refused_everywhere_unless_allowed(tmp_path: Path, url: str) -> None:
    async with webhook_server(tmp_path, webhook_private_targets=False) as server:
        assert await refused(server.client, WEBHOOK, {"url": url}) == PRIVATE
        assert await refused(server.client, f"{WEBHOOK}/test", {"url": url}) == PRIVATE
        assert await refused(server.client, RUN, {"prompt": "x", "webhooks": [{"url": url}]}) == PRIVATE
        assert read(await server.client.get(WEBHOOK)) == NOTHING
    async with webhook_server(tmp_path) as server:
        assert (await server.configure(url))["url"] == url


async def test_a_name_that_turns_out_private_is_a_failed_attempt(tmp_path: Path) -> None:
    async def resolve(name: str, port: int) -> list[str]:
        assert (name, port) == ("inside.example", receiver.port)
        return ["127.0.0.1"]

    with Receiver() as receiver:
        async with webhook_server(tmp_path, webhook_private_targets=False, resolve=resolve) as server:
            await server.configure(f"http://inside.example:{receiver.port}/")
            await server.create()
            [kept] = await server.deliveries_once(all_over)
        assert receiver.received == []
    assert kept["last_error"] == "the address is private or of this machine"
    assert (kept["attempts"], kept["delivered_at"]) == (3, None)


async def test_what_is_no_url_for_a_webhook_is_refused_and_not_repeated(server: WebhookServer) -> None:
    for url in ("ftp://example.org", "http://u:canary-7d1e05@example.org", "example.org", "http://", "http://a b"):
        for path in (WEBHOOK, f"{WEBHOOK}/test"):
            assert CANARY not in await refused(server.client, path, {"url": url})


async def test_a_url_has_at_most_2083_characters_and_at_least_one(server: WebhookServer) -> None:
    longest = "http://example.org/".ljust(2083, "a")
    assert (await server.configure(longest))["url"] == longest
    for url in (f"{longest}a", ""):
        assert (await server.client.post(WEBHOOK, json={"url": url})).status_code == 422
        body = {"prompt": "x", "webhooks": [{"url": url}]}
        await refused(server.client, RUN, body)


async def test_a_secret_that_cannot_sign_is_refused_and_not_repeated(server: WebhookServer) -> None:
    for secret in ("", "whsec_", "whsec_canary-7d1e05", "whsec_abcde", "x" * 1025):
        message = await refused(server.client, WEBHOOK, {"url": "http://example.org", "secret": secret})
        assert CANARY not in message
        assert read(await server.client.get(WEBHOOK)) == NOTHING


async def test_without_a_key_a_secret_is_refused_and_nothing_is_stored(tmp_path: Path) -> None:
    async with webhook_server(tmp_path, encryption_key=None) as server:
        body = {"url": "http://example.org", "secret": CANARY}
        assert "--encryption-key" in await refused(server.client, WEBHOOK, body)
        assert "--encryption-key" in await refused(server.client, RUN, {"prompt": "x", "webhooks": [body]})
        assert read(await server.client.get(WEBHOOK)) == NOTHING


async def test_another_organization_is_forbidden(server: WebhookServer) -> None:
    other = WEBHOOK.replace("/1/", "/2/")
    for method, path in (("GET", other), ("DELETE", other), ("POST", other), ("POST", f"{other}/test")):
        body = {"url": "http://example.org"} if method == "POST" else None
        response = await server.client.request(method, path, json=body)
        assert response.status_code == 403
        assert response.json() == {
            "message": "You do not have access to this organization.",
            "status_code": 403,
        }


async def test_a_test_sends_one_message_and_says_what_came_of_it(tmp_path: Path) -> None:
    with Receiver(200, 404, "http://127.0.0.1:1/") as receiver:
        async with webhook_server(tmp_path) as server:
            path, body = f"{WEBHOOK}/test", {"url": receiver.url}
            answers = [read(await server.client.post(path, json=body)) for _ in range(3)]
            assert await server.deliveries() == [], "a test is not tried again"
            assert read(await server.client.get(WEBHOOK)) == NOTHING
        assert len(receiver.received) == 3
        [received, *_] = receiver.received
    assert answers == [
        {"success": True, "status_code": 200, "error": None},
        {"success": False, "status_code": 404, "error": "answered 404"},
        {"success": False, "status_code": 307, "error": "answered 307"},
    ]
    assert (received.type, received.read()["data"]) == ("agent_run.test", {"organization_id": 1})
    assert "webhook-signature" not in received.headers
    assert len({each.id for each in receiver.received}) == 3


async def test_a_test_of_the_configured_address_is_signed_and_of_another_is_not(tmp_path: Path) -> None:
    with Receiver() as configured, Receiver() as other:
        async with webhook_server(tmp_path) as server:
            await server.configure(configured.url, secret="the secret")
            for url in (configured.url, other.url):
                assert read(await server.client.post(f"{WEBHOOK}/test", json={"url": url}))["success"]
        assert configured.received[0].verified("the secret")["type"] == "agent_run.test"
        assert "webhook-signature" not in other.received[0].headers


async def test_the_same_create_with_a_secret_and_a_key_is_recognized_and_another_secret(
    server: WebhookServer,
) -> None:
    """A secret is encrypted differently each time; still the request is the same."""
    headers = {"Idempotency-Key": "k"}

    async def create(secret: str) -> httpx.Response:
        webhooks = [{"url": "http://127.0.0.1:1", "secret": secret}]
        return await server.client.post(RUN, json={"prompt": "x", "webhooks": webhooks}, headers=headers)

    first = read(await create(CANARY))
    assert read(await create(CANARY)) == first
    assert (await create("another")).status_code == 422


async def test_a_body_that_is_wrong_elsewhere_does_not_have_its_secret_repeated(server: WebhookServer) -> None:
    cases: list[tuple[str, object]] = [
        (WEBHOOK, {"secret": CANARY}),
        (WEBHOOK, {"url": 5, "secret": CANARY}),
        (WEBHOOK, {"url": "http://x", "secret": [CANARY]}),
        (WEBHOOK, {"url": "http://x", "secret": {"secret": CANARY}}),
        (WEBHOOK, [{"secret": CANARY}]),
        (WEBHOOK, CANARY),
        (RUN, {"webhooks": [{"url": "http://x", "secret": CANARY}]}),
        (RUN, {"prompt": "x", "webhooks": [{"secret": CANARY}]}),
        (RUN, {"prompt": "x", "webhooks": {"secret": CANARY}}),
        (f"{RUN}/resume", {"prompt": "x", "webhooks": [{"url": "http://x", "secret": CANARY}]}),
    ]
    for path, body in cases:
        answers = [
            await server.client.post(path, json=body),
            await server.client.post(path, content=str(body), headers={"content-type": "application/json"}),
            await server.client.post(path, content=str(body), headers={"content-type": "text/plain"}),
        ]
        for answer in answers:
            assert answer.status_code == 422
            assert CANARY not in answer.text


async def test_a_secret_is_in_no_answer_no_log_no_event_and_no_byte_of_the_database(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    sent: list[str] = []

    async def note(response: httpx.Response) -> None:
        await response.aread()
        sent.append(f"{response.headers} {response.text}")

    # The first failure is that of the test, the second that of a message, which comes again.
    with Receiver(500, 500) as receiver:
        async with webhook_server(tmp_path) as server:
            server.client.event_hooks["response"].append(note)
            await server.configure(receiver.url, secret=CANARY)
            await server.client.get(WEBHOOK)
            await server.client.post(f"{WEBHOOK}/test", json={"url": receiver.url})
            await server.create()
            own = [{"url": receiver.url, "secret": CANARY}]
            body = {"prompt": "x", "webhooks": own}
            created = await server.client.post(RUN, json=body, headers={"Idempotency-Key": "k"})
            run = await server.settled(created.json()["id"])
            await server.resume(run, webhooks=own)
            received = await receiver.hears(6)
            await server.deliveries_once(lambda found: len(found) == 4 and all_over(found))
            events = await server.application.database.read(
                lambda connection: list_events(connection, run["id"], 0, 1000)
            )
            assert events
            sent.append(repr(events))
            sent.append(repr(await server.deliveries()))
            # While the server runs the newest pages are beside the file.
            sent.extend(database_texts(tmp_path))
        sent.extend(database_texts(tmp_path))
    for each in received:
        each.verified(CANARY)
        sent.append(f"{each.headers} {each.body!r}")
    written = capfd.readouterr()
    assert "webhook delivery failed" in written.out + written.err, "or the logs were not looked at"
    assert CANARY not in "\n".join([*sent, written.out, written.err])
