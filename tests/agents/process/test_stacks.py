"""The stacks of a process whose event loop is blocked: however many there are, nobody waits for them."""

from __future__ import annotations

import asyncio
from pathlib import Path

from structlog.testing import capture_logs

from tests.support.serving import settings_for
from unpause.agents.process.client import AgentProcessClient
from unpause.agents.process.launch import agent_launcher

# More stacks than a pipe holds.
_AGENTS = """
import threading, time
from pydantic_ai import Agent

def wait(levels):
    if levels: wait(levels - 1)
    time.sleep(600)

for _ in range(30):
    threading.Thread(target=wait, args=(95,), daemon=True).start()
agent = Agent("test", name="agent")
"""


async def test_a_process_with_many_threads_goes_on_after_its_stacks_are_logged_each_time_that_of_its_loop(
    tmp_path: Path,
) -> None:
    (tmp_path / "agents.py").write_text(_AGENTS)
    settings = settings_for(tmp_path, agents=[str(tmp_path / "agents.py")], agent_processes=1)
    client = AgentProcessClient(agent_launcher(settings, demo=False).launch())
    try:
        await asyncio.to_thread(client.receive_ready)
        with capture_logs() as lines:
            for _ in range(3):
                await client.log_stack(4)
        await client.attach()
        listening = asyncio.create_task(client.listen())
        async with asyncio.timeout(60):
            assert await client.link.check_arguments("agent", "none", {}, []) is None
        stacks = [line["stack"] for line in lines if line["event"] == "agent process blocked"]
        assert ["agent_process.py" in stack for stack in stacks] == [True] * 3
    finally:
        client.kill()
    await listening
