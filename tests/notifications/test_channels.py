"""Channels: whose they are, who sees them, and that their URLs are never shown."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.caller import body_of, refusal
from tests.support.channels import CHANNELS, SECRET, add_channel, channel_url, notifying
from tests.support.receiver import Receiver
from unpause.notifications.kinds import KINDS

PLAIN = f"ntfys://{SECRET}@ntfy.example/topic"


async def test_a_channels_url_is_stored_encrypted_and_shown_nowhere(tmp_path: Path) -> None:
    async with notifying(tmp_path) as server:
        alice = server.user("alice")
        added = await add_channel(alice, PLAIN, name="my phone", events=["waiting", "waiting", "failed"])
        listed = await alice.get(CHANNELS)
        audit = await server.get("/audit")
        stored = str((await server.dump())["notification_channels"])
    assert added == {
        "channel_id": 1,
        "name": "my phone",
        "kind": "ntfys",
        "owner": "user",
        "user_id": "alice",
        "events": ["waiting", "failed"],
        "created_at": "2026-01-01T00:00:00Z",
        "last_sent_at": None,
        "last_error": None,
    }
    assert listed.json() == {"data": [added], "next": None}
    assert audit.json()["data"][0]["action"] == "channel.added"
    for text in (listed.text, audit.text, stored):
        assert SECRET not in text
        assert "ntfy.example" not in text


async def test_users_see_and_remove_their_own_channels_and_administrators_all_of_their_organization(
    tmp_path: Path,
) -> None:
    async with notifying(tmp_path) as server:
        alice, bob, rival, service = map(server.user, ("alice", "bob", "rival", "service"))
        mine = await add_channel(alice, PLAIN)
        shared = await add_channel(server, PLAIN, owner="organization")
        ids = [mine["channel_id"], shared["channel_id"]]
        for who, seen in ((server, ids), (alice, ids[:1]), (bob, []), (rival, []), (service, [])):
            assert [each["channel_id"] for each in (await who.get(CHANNELS)).json()["data"]] == seen
        for who in (bob, rival, service):
            assert refusal(await who.delete(f"{CHANNELS}/{ids[0]}"), 404) == "Channel not found"
            assert refusal(await who.post(f"{CHANNELS}/{ids[0]}/test"), 404) == "Channel not found"
        assert refusal(await alice.delete(f"{CHANNELS}/{ids[1]}"), 404) == "Channel not found"
        assert (await alice.delete(f"{CHANNELS}/{ids[0]}")).status_code == 204
        assert (await server.delete(f"{CHANNELS}/{ids[1]}")).status_code == 204
        assert (await server.dump())["notification_channels"] == []


async def test_a_list_of_channels_has_pages(tmp_path: Path) -> None:
    async with notifying(tmp_path) as server:
        for _ in range(3):
            await add_channel(server, PLAIN)
        first = body_of(await server.get(CHANNELS, limit=2))
        second = body_of(await server.get(CHANNELS, limit=2, cursor=first["next"]))
    assert [each["channel_id"] for page in (first, second) for each in page["data"]] == [1, 2, 3]
    assert second["next"] is None


@pytest.mark.parametrize(
    ("who", "body", "status", "text"),
    [
        ("alice", {"owner": "organization"}, 403, "Only administrators may add a channel of the organization"),
        ("service", {}, 400, "The token names no user, or is for one session"),
        ("alice", {"url": f"syslog://{SECRET}"}, 400, "Channels cannot be of the kind syslog://"),
        ("alice", {"url": f"windows://{SECRET}"}, 400, "Channels cannot be of the kind windows://"),
        ("alice", {"url": f"dbus://{SECRET}"}, 400, "Channels cannot be of the kind dbus://"),
        ("alice", {"url": f"file:///{SECRET}"}, 400, "Channels cannot be of the kind file://"),
        ("alice", {"url": f"made-up://{SECRET}"}, 400, "The channel's URL has no scheme"),
        ("alice", {"url": SECRET}, 400, "The channel's URL has no scheme"),
        ("alice", {"url": f"slack://{SECRET}"}, 400, "The channel's URL is no valid slack:// URL of apprise"),
        ("alice", {"url": f"json://h/{SECRET}\n"}, 400, "The channel's URL is longer than"),
    ],
)
async def test_a_channel_that_may_not_be_is_refused_without_its_url(
    tmp_path: Path, who: str, body: dict[str, str], status: int, text: str
) -> None:
    async with notifying(tmp_path) as server:
        response = await server.user(who).post(CHANNELS, {"url": PLAIN, **body})
        assert refusal(response, status).startswith(text)
        assert SECRET not in response.text
        assert (await server.dump())["notification_channels"] == []


async def test_a_body_that_is_no_channel_is_refused_without_its_url(tmp_path: Path) -> None:
    async with notifying(tmp_path) as server:
        for body in ({"url": PLAIN, "events": ["no-event"]}, {"url": [PLAIN]}, {"url": PLAIN, "attach": "x"}):
            response = await server.post(CHANNELS, body)
            assert response.status_code == 422
            assert SECRET not in response.text


async def test_without_a_key_there_are_no_channels(tmp_path: Path) -> None:
    async with notifying(tmp_path, encryption_key=None) as server:
        assert "--encryption-key" in refusal(await server.post(CHANNELS, {"url": PLAIN}), 400)


async def test_one_owner_has_twenty_channels_at_most(tmp_path: Path) -> None:
    async with notifying(tmp_path) as server:
        for _ in range(20):
            await add_channel(server.user("alice"), PLAIN)
        refused = await server.user("alice").post(CHANNELS, {"url": PLAIN})
        assert refusal(refused, 400) == "There are 20 channels already; remove one first"
        await add_channel(server.user("bob"), PLAIN)


async def test_a_test_message_is_sent_at_once_and_its_result_has_no_secret(tmp_path: Path) -> None:
    with Receiver(200, 403) as receiver:
        async with notifying(tmp_path) as server:
            channel = (await add_channel(server, channel_url(receiver)))["channel_id"]
            fine = body_of(await server.post(f"{CHANNELS}/{channel}/test"))
            refused = body_of(await server.post(f"{CHANNELS}/{channel}/test"))
        assert len(receiver.received) == 2
    assert fine == {"success": True, "error": None}
    assert refused == {"success": False, "error": "answered 403"}


async def test_every_kind_is_one_of_apprise() -> None:
    from apprise.manager_plugins import NotificationManager  # noqa: PLC0415 - takes half a second

    known = set(NotificationManager().schemas())  # type: ignore[no-untyped-call]
    assert known >= KINDS, KINDS - known
