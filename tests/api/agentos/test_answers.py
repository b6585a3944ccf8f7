"""The answer to a continue is made of what its segment wrote, without reading: it must be what a reader finds."""

from __future__ import annotations

import pytest

from tests.api.agentos.statements import statements
from tests.support.caller import confirming
from tests.support.server import Server
from tests.support.toolbox import plan

ONE_CONFIRMED = [plan([("delete_file", {"path": "a"})])]
AUDITED_BESIDE_A_FREE_ONE = [plan([("pay", {"amount": 5}), ("note", {"text": "x"})])]
TWO_PAUSES = [plan([("delete_file", {"path": "a"})], [("pay", {"amount": 5})])]


@pytest.mark.parametrize("message", [*ONE_CONFIRMED, *AUDITED_BESIDE_A_FREE_ONE, *TWO_PAUSES])
async def test_a_continue_is_answered_as_the_run_is_read(server: Server, message: str) -> None:
    run = await server.create(message)
    while run["status"] == "PAUSED":
        run = await server.continued(run, confirming(run))
        assert run == await server.read(run)
    assert run["status"] == "COMPLETED"


async def test_a_cycle_reads_only_what_its_continue_goes_on_from(server: Server) -> None:
    await server.create(plan([("delete_file", {"path": "first"})]))
    with statements() as seen:
        run = await server.create(plan([("delete_file", {"path": "a"})]))
        await server.continued(run, confirming(run))
    reads = [statement.partition("FROM ")[2].split()[0] for statement in seen if statement.startswith("SELECT")]
    # Quotas; targets of webhooks, twice; then the run, its requirements, calls, messages, history and inputs.
    assert len(reads) == 9, reads
    assert len(seen) <= 36, seen
