"""What webhooks hear of runs: each kind of news, signed, to those who are to hear of it and to nobody else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import update
from standardwebhooks.webhooks import WebhookVerificationError

from tests.support.databases import NOW
from tests.support.pausing_driver import PausingDriver, need
from tests.support.receiver import Heard, Receiver
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import ADDRESS, running
from tests.support.webhook_server import KEY, QUICK, RUN, WEBHOOK, all_over, read, webhook_server
from unpause.agents.driver import Journal, Segment, SegmentEnd
from unpause.domain.principal import Principal
from unpause.domain.runs import RunRef
from unpause.domain.webhooks import Address, Delivery, WebhookTarget
from unpause.store.deliveries import (
    DueDelivery,
    add_deliveries,
    claim_delivery,
    list_due,
    mark_failed,
    readdress_waiting,
)
from unpause.store.engine.database import Connection
from unpause.store.tables import webhook_deliveries
from unpause.vault import Vault

PATIENT = replace(QUICK, attempts=1000, longest_delay_seconds=0.02)
SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


class BrokenDriver(ScriptedDriver):
    """Fails at once."""

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Raise, as a driver with a bug would."""
        del journal
        raise RuntimeError(segment.run.prompt)


def by_type(received: Sequence[Heard]) -> dict[str, Heard]:
    """Return the messages by what they are about: the order in which they arrive is not promised."""
    return {each.type: each for each in received}


@pytest.mark.parametrize("secret", [SECRET, "Grüße aus 東京, in plain text"])
async def test_a_pause_and_a_completion_arrive_signed(tmp_path: Path, secret: str) -> None:
    with Receiver() as receiver:
        async with webhook_server(tmp_path) as server:
            await server.configure(receiver.url, secret=secret)
            run = await server.create("the prompt", metadata={"team": "ü"})
            [pause] = await receiver.hears(1)
            done = await server.resume(run)
            completion = by_type(await receiver.hears(3))["agent_run.completed"]
    reported = pause.verified(secret)
    assert reported["type"] == "agent_run.paused"
    news = reported["data"]
    assert (news["id"], news["organization_id"], news["status"]) == (run["id"], 1, "PAUSED")
    assert (news["summary"], news["metadata"], news["source_type"]) == ("the prompt", {"team": "ü"}, "API")
    [requirement] = news["requirements"]
    assert (requirement["tool_name"], requirement["kind"]) == ("act", "confirmation")
    assert news["result"] == run["result"]
    ended = completion.verified(secret)
    assert (ended["type"], ended["data"]["status"]) == ("agent_run.completed", "COMPLETED")
    assert ended["data"]["result"] == done["result"]
    assert pause.id != completion.id
    assert pause.path == "/hook?a=b"
    assert pause.headers["host"] == f"127.0.0.1:{receiver.port}"
    assert pause.headers["content-type"] == "application/json"


async def test_a_decision_arrives_with_who_made_it_and_links_to_request_and_run(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with webhook_server(tmp_path) as server:
            await server.configure(receiver.url, secret=SECRET)
            run = await server.create()
            await server.resume(run)
            received = by_type(await receiver.hears(3))
    told = {kind: message.verified(SECRET)["data"] for kind, message in received.items()}
    data = told["agent_run.decided"]
    decision, [requirement] = data["decision"], data["requirements"]
    assert (decision["decision"], decision["via"], decision["grant_id"]) == ("reject", "codegen", None)
    assert decision["requirement_id"] == requirement["requirement_id"]
    assert requirement["url"] == f"{ADDRESS}/console/requests/{requirement['requirement_id']}"
    assert {each["url"] for each in told.values()} == {f"{ADDRESS}/console/runs/{data['run_id']}"}


async def test_a_signature_does_not_fit_another_secret_or_another_message(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with webhook_server(tmp_path) as server:
            await server.configure(receiver.url, secret=SECRET)
            await server.create()
            [received] = await receiver.hears(1)
    with pytest.raises(WebhookVerificationError):
        received.verified("another")
    forged = type(received)(received.path, {**received.headers, "webhook-id": "msg_other"}, received.body)
    with pytest.raises(WebhookVerificationError):
        forged.verified(SECRET)


async def test_a_failure_arrives(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with webhook_server(tmp_path, BrokenDriver()) as server:
            await server.configure(receiver.url, secret=SECRET)
            run = await server.create("hello")
            assert run["status"] == "ERROR"
            [received] = await receiver.hears(1)
    reported = received.verified(SECRET)
    assert (reported["type"], reported["data"]["status"]) == ("agent_run.error", "ERROR")
    assert reported["data"]["result"] == run["result"]


async def test_a_cancel_arrives(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with webhook_server(tmp_path) as server:
            await server.configure(receiver.url, secret=SECRET)
            run = await server.create()
            await receiver.hears(1)
            await server.application.service.cancel_run(Principal(1), RunRef(id=run["id"]))
            [_, received] = await receiver.hears(2)
    reported = received.verified(SECRET)
    assert (reported["type"], reported["data"]["status"]) == ("agent_run.cancelled", "CANCELLED")


async def test_a_reminder_arrives_while_the_run_is_still_paused(tmp_path: Path) -> None:
    driver = PausingDriver((need("one", expires_in=600.0, metadata={"reason": "it is old"}),))
    with Receiver() as receiver:
        async with webhook_server(tmp_path, driver, reminder_seconds=3600, sweep_seconds=0.02) as server:
            await server.configure(receiver.url, secret=SECRET)
            await server.create()
            received = await receiver.hears(2)
    reminder = next(each for each in received if each.type == "agent_run.reminder").verified(SECRET)
    assert reminder["data"]["status"] == "PAUSED"
    [requirement] = reminder["data"]["requirements"]
    assert requirement["expires_at"] is not None
    assert (requirement["metadata"], requirement["message"]) == ({"reason": "it is old"}, "it is old")
    assert reminder["data"]["result"].endswith(" Reason: it is old")
    assert len({each.id for each in received}) == 2


async def test_without_a_secret_there_is_no_signature_but_an_id_and_a_time(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with webhook_server(tmp_path, encryption_key=None) as server:
            assert await server.configure(receiver.url) == {"url": receiver.url, "enabled": True, "has_secret": False}
            await server.create()
            [received] = await receiver.hears(1)
    assert "webhook-signature" not in received.headers
    assert received.id.startswith("msg_")
    assert received.headers["webhook-timestamp"].isdecimal()


async def test_a_runs_own_webhooks_replace_the_organizations(tmp_path: Path) -> None:
    with Receiver() as general, Receiver() as first, Receiver() as second, Receiver() as late:
        async with webhook_server(tmp_path) as server:
            await server.configure(general.url, secret=SECRET)
            own = [{"url": first.url, "secret": "own secret"}, {"url": second.url}]
            run = await server.create(webhooks=own)
            [received] = await first.hears(1)
            received.verified("own secret")
            [unsigned] = await second.hears(1)
            assert "webhook-signature" not in unsigned.headers
            assert unsigned.read() == received.read()
            assert unsigned.id != received.id, "two deliveries, of which each can be recognized"
            await server.resume(run, webhooks=[{"url": late.url}])
            assert set(by_type(await late.hears(2))) == {"agent_run.decided", "agent_run.completed"}
            other = await server.create("another run")
            [again] = await general.hears(1)
            assert again.verified(SECRET)["data"]["id"] == other["id"]
            await server.deliveries_once(all_over)
        assert (len(first.received), len(second.received), len(general.received)) == (1, 1, 1)


async def test_a_resume_that_says_nothing_keeps_the_runs_webhooks_and_no_webhooks_means_nobody(tmp_path: Path) -> None:
    with Receiver() as general, Receiver() as own:
        async with webhook_server(tmp_path) as server:
            await server.configure(general.url)
            kept = await server.create(webhooks=[{"url": own.url}])
            await server.resume(kept, webhooks=None)
            told = ["agent_run.completed", "agent_run.decided", "agent_run.paused"]
            assert sorted(by_type(await own.hears(3))) == told
            silent = await server.create(webhooks=[])
            await server.resume(silent)
            assert all_over(await server.deliveries_once(lambda found: len(found) == 3 and all_over(found)))
        assert general.received == []


async def test_a_disabled_or_deleted_webhook_hears_nothing(tmp_path: Path) -> None:
    with Receiver() as receiver:
        async with webhook_server(tmp_path) as server:
            config = await server.configure(receiver.url, enabled=False)
            assert config == {"url": receiver.url, "enabled": False, "has_secret": False}
            await server.create()
            await server.configure(receiver.url)
            read(await server.client.delete(WEBHOOK))
            await server.create()
            assert await server.deliveries() == []
        assert receiver.received == []


async def test_what_waits_for_a_webhook_that_is_replaced_goes_to_the_new_one_signed_with_its_secret(
    tmp_path: Path,
) -> None:
    """The receiver moved, or its secret had to be changed: what is signed with the old one it would refuse."""
    with Receiver(*[500] * 1000) as before, Receiver() as after:
        async with webhook_server(tmp_path, rules=PATIENT) as server:
            await server.configure(before.url, secret=SECRET)
            await server.create()
            lost = (await before.hears(1))[0]
            await server.configure(after.url, secret="new secret")
            [received] = await after.hears(1)
            await server.deliveries_once(all_over)
        assert received.id == lost.id
        assert received.verified("new secret") == lost.verified(SECRET)


@pytest.mark.parametrize("ending", ["deleted", "disabled"])
async def test_what_waits_for_a_webhook_that_is_deleted_or_disabled_goes_to_nobody(tmp_path: Path, ending: str) -> None:
    with Receiver(*[500] * 1000) as own, Receiver(*[500] * 1000) as receiver:
        async with webhook_server(tmp_path, rules=PATIENT) as server:
            await server.configure(receiver.url, secret=SECRET)
            await server.create()
            await server.create(webhooks=[{"url": own.url}])
            await receiver.hears(1)
            # As after `unpause keys rotate`: the same secret in another form.
            again = update(webhook_deliveries).where(webhook_deliveries.c.secret.is_not(None))
            token = Vault([KEY]).encrypt(SECRET).token
            await server.application.database.write(lambda connection: connection.execute(again.values(secret=token)))
            if ending == "deleted":
                read(await server.client.delete(WEBHOOK))
            else:
                await server.configure(receiver.url, enabled=False)
            # Another webhook's message still waits.
            [dropped] = [each for each in await server.deliveries() if each["next_attempt_at"] is None]
            assert (dropped["delivered_at"], dropped["last_error"], dropped["secret"]) == (None, None, None)
            await own.hears(len(own.received) + 1)


async def test_an_attempt_that_fails_after_its_webhook_was_deleted_is_not_made_again(tmp_path: Path) -> None:
    target = WebhookTarget(Address.read("https://a.example"))
    delivery = Delivery("1", 1, target.address, "{}", NOW)

    def unit(connection: Connection) -> list[DueDelivery]:
        add_deliveries(connection, [delivery])
        claimed = claim_delivery(connection, DueDelivery("1", target.address, 0), NOW)
        assert claimed is not None
        readdress_waiting(connection, 1, target, None)
        mark_failed(connection, claimed, "answered 500", NOW)
        return list_due(connection, NOW, 10)

    async with running(tmp_path, drivers=[ScriptedDriver()]) as application:
        assert await application.database.write(unit) == []


async def test_a_bad_webhook_on_a_create_or_resume_changes_nothing(tmp_path: Path) -> None:
    async with webhook_server(tmp_path) as server:
        run = await server.create()
        for bad in ({"url": "ftp://example.org"}, {"url": "http://u:p@example.org"}, {"url": "http://x", "secret": ""}):
            refused = await server.client.post(RUN, json={"prompt": "x", "webhooks": [bad]})
            assert (refused.status_code, refused.json()["status_code"]) == (400, 400)
            body = {"agent_run_id": run["id"], "prompt": "x", "webhooks": [{"url": "http://fine.example"}, bad]}
            assert (await server.client.post(f"{RUN}/resume", json=body)).status_code == 400
        assert await server.settled(run["id"]) == run
        assert (await server.client.get(f"{RUN}/{run['id'] + 1}")).status_code == 404
        many = [{"url": "http://example.org"}] * 11
        assert (await server.client.post(RUN, json={"prompt": "x", "webhooks": many})).status_code == 400
