"""Messages to webhooks and who hears of runs, on both databases."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest

from tests.support.databases import NOW, new_run
from unpause.domain.retention import RetentionKind, RetentionScope
from unpause.domain.runs import Run
from unpause.domain.webhooks import Address, Delivery, WebhookTarget
from unpause.store.deliveries import (
    DueDelivery,
    add_deliveries,
    claim_delivery,
    list_due,
    mark_delivered,
    mark_failed,
    readdress_waiting,
)
from unpause.store.engine.database import Connection, Database
from unpause.store.engine.schema import plain_connection
from unpause.store.retention import delete_finished_messages, is_due
from unpause.store.webhooks import (
    find_organization_target,
    list_targets,
    replace_organization_target,
    replace_run_targets,
)
from unpause.vault import Encrypted

LATER = NOW + timedelta(seconds=20)
GENERAL, OWN, OTHER = (Address.read(url) for url in ("https://general.example", "https://own.example/a", "https://b?c"))


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with Database(database_url).opened() as opened:
        yield opened


def message(name: str, seconds: float = 0, url: str = "https://one.example/a") -> Delivery:
    return Delivery(name, 1, Address.read(url), '{"ü":1}', NOW + timedelta(seconds=seconds), Encrypted("token"))


def claimed(connection: Connection, name: str) -> Delivery:
    [due] = [due for due in list_due(connection, NOW, 10) if due.id == name]
    delivery = claim_delivery(connection, due, LATER)
    assert delivery is not None
    return delivery


async def test_what_is_due_comes_in_the_order_that_it_became_due(database: Database) -> None:
    def unit(connection: Connection) -> list[DueDelivery]:
        add_deliveries(connection, [message("b", -1), message("c"), message("a", -2), message("d", 1)])
        return list_due(connection, NOW, 2) + list_due(connection, NOW, 10)

    assert [due.id for due in await database.write(unit)] == ["a", "b", "a", "b", "c"]


async def test_servers_can_be_left_out_and_only_those(database: Database) -> None:
    server = "https://one.example"
    urls = [
        server,
        f"{server}/",
        f"{server}?a",
        f"{server}#a",
        f"{server}.org/",
        f"{server}:81/",
        "http://one.example/",
        "https://on_.example",
    ]

    def unit(connection: Connection) -> set[str]:
        add_deliveries(connection, [message(str(number), url=url) for number, url in enumerate(urls)])
        return {due.address.stored for due in list_due(connection, NOW, 100, [server, "https://o%"])}

    assert await database.write(unit) == set(urls[4:])


async def test_a_claim_counts_and_hands_out_the_whole_message_once(database: Database) -> None:
    await database.write(lambda connection: add_deliveries(connection, [message("a")]))
    [due] = await database.read(lambda connection: list_due(connection, NOW, 10))
    found = await asyncio.gather(
        *(database.write(lambda connection: claim_delivery(connection, due, LATER)) for _ in range(5))
    )
    [delivery] = [each for each in found if each is not None]
    assert (delivery.id, delivery.address, delivery.payload, delivery.attempts) == ("a", due.address, '{"ü":1}', 1)
    assert (delivery.created_at, delivery.organization_id) == (NOW, 1)
    assert delivery.secret is not None
    assert delivery.secret.token == "token"
    assert await database.read(lambda connection: list_due(connection, NOW, 10)) == []
    [again] = await database.read(lambda connection: list_due(connection, LATER, 10))
    assert (again.id, again.address, again.attempts) == ("a", due.address, 1)
    assert again.secret is not None
    assert again.secret.token == "token"


async def test_what_arrived_is_over_and_a_late_failure_does_not_bring_it_back(database: Database) -> None:
    def unit(connection: Connection) -> None:
        add_deliveries(connection, [message("a")])
        delivery = claimed(connection, "a")
        mark_delivered(connection, delivery, NOW)
        mark_failed(connection, delivery, "late", LATER)

    await database.write(unit)
    assert await database.read(lambda connection: list_due(connection, LATER, 10)) == []


async def test_a_failure_of_an_attempt_that_another_followed_changes_nothing(database: Database) -> None:
    def unit(connection: Connection) -> list[DueDelivery]:
        add_deliveries(connection, [message("a")])
        first = claimed(connection, "a")
        assert claim_delivery(connection, DueDelivery("a", first.address, 1), LATER) is not None
        mark_failed(connection, first, "late", NOW)
        return list_due(connection, NOW, 10)

    assert await database.write(unit) == []


async def test_only_what_is_over_is_deleted(database: Database) -> None:
    def unit(connection: Connection) -> tuple[bool, bool, list[DueDelivery]]:
        add_deliveries(connection, [message("arrived"), message("given up"), message("waiting"), message("young", 5)])
        mark_delivered(connection, claimed(connection, "arrived"), NOW)
        mark_failed(connection, claimed(connection, "given up"), "no", None)
        mark_failed(connection, claimed(connection, "waiting"), "no", LATER)
        before = NOW + timedelta(seconds=1)
        found = is_due(connection, RetentionKind.DELIVERIES, RetentionScope(), before)
        delete_finished_messages(connection, before, 10, RetentionScope())
        return (
            found,
            is_due(connection, RetentionKind.DELIVERIES, RetentionScope(), before),
            list_due(connection, LATER, 10),
        )

    found, left, due = await database.write(unit)
    assert (found, left) == (True, False)
    assert [each.id for each in due] == ["young", "waiting"]


async def test_an_organization_has_one_webhook_however_many_set_it_at_once(database: Database) -> None:
    await asyncio.gather(
        *(
            database.write(
                lambda connection, number=number: replace_organization_target(  # type: ignore[misc]
                    connection,
                    1,
                    WebhookTarget(Address(f"https://{number}.example"), Encrypted(f"token {number}")),
                    NOW,
                )
            )
            for number in range(8)
        )
    )

    def unit(connection: Connection) -> None:
        run = new_run(connection)
        [target] = list_targets(connection, run)
        found = find_organization_target(connection, 1)
        assert found is not None
        assert found.address == target.address
        replace_organization_target(connection, 1, WebhookTarget(target.address, enabled=False), NOW)
        assert list_targets(connection, run) == []
        replace_organization_target(connection, 1, None, NOW)
        assert find_organization_target(connection, 1) is None

    await database.write(unit)


async def test_a_run_without_its_own_webhooks_falls_back_and_one_with_none_does_not(database: Database) -> None:
    def unit(connection: Connection) -> None:
        replace_organization_target(connection, 1, WebhookTarget(GENERAL), NOW)
        run, other = new_run(connection), new_run(connection)
        replace_run_targets(connection, run, [WebhookTarget(OWN), WebhookTarget(OTHER)], NOW)
        assert [each.address for each in list_targets(connection, run)] == [OWN, OTHER]
        assert [each.address for each in list_targets(connection, other)] == [GENERAL]
        replace_run_targets(connection, run, [], NOW)
        assert list_targets(connection, run) == []
        found = find_organization_target(connection, 1)
        assert found is not None
        assert found.address == GENERAL

    await database.write(unit)


@pytest.mark.parametrize("new", [None, WebhookTarget(OTHER)], ids=["removed", "changed"])
async def test_a_message_that_is_being_stored_as_its_webhook_changes_does_not_go_to_the_old_one(
    database: Database, database_url: str, new: WebhookTarget | None
) -> None:
    old = WebhookTarget(GENERAL)

    def begin(connection: Connection) -> Run:
        replace_organization_target(connection, 1, old, NOW)
        return new_run(connection)

    def change(connection: Connection) -> None:
        replace_organization_target(connection, 1, new, NOW)
        readdress_waiting(connection, 1, old, new)

    run = await database.write(begin)
    with plain_connection(database_url) as storing, storing.begin():
        [target] = list_targets(storing, run)
        add_deliveries(storing, [Delivery("m", 1, target.address, "{}", NOW)])
        changed = asyncio.create_task(database.write(change))
        await asyncio.wait({changed}, timeout=0.5)
    await changed
    due = await database.read(lambda connection: list_due(connection, LATER, 10))
    assert [each.address for each in due] == ([] if new is None else [new.address])


@pytest.mark.parametrize("new", [None, WebhookTarget(OTHER)], ids=["removed", "changed"])
async def test_a_message_that_is_stored_while_its_webhook_changes_goes_to_the_new_one(
    database: Database, database_url: str, new: WebhookTarget | None
) -> None:
    def begin(connection: Connection) -> Run:
        replace_organization_target(connection, 1, WebhookTarget(GENERAL), NOW)
        return new_run(connection)

    run = await database.write(begin)
    with plain_connection(database_url) as changing, changing.begin():
        replace_organization_target(changing, 1, new, NOW)
        found = asyncio.create_task(database.write(lambda connection: list_targets(connection, run)))
        await asyncio.wait({found}, timeout=0.5)
    assert await found == ([] if new is None else [new])
