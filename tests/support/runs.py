"""Short ways for tests to start a run, follow it, answer it and look at it."""

from __future__ import annotations

import asyncio
from dataclasses import replace

from unpause.bootstrap import Application
from unpause.domain.events import Event, EventType
from unpause.domain.principal import Principal
from unpause.domain.requirements import Requirement, ToolAnswer
from unpause.domain.runs import Image, Run, RunRef, RunView
from unpause.services.commands import Accepted, ContinueRun, CreateRun

ADA = Principal(1, "ada", "agno")

# A follower whose run never ends would wait for ever; with this the test says where it hung.
_DEADLINE = 60


async def start(application: Application, prompt: str = "hello", agent_id: str | None = None) -> Run:
    """Create a run of the agent, or of the default one."""
    agent = agent_id or application.agents.default_agent or ""
    return (await application.service.create_run(ADA, CreateRun(agent, prompt))).run


async def follow(application: Application, run: Run, after: int = 0) -> list[Event]:
    """Return the run's events after a number, up to and with the next that ends a segment."""
    async with asyncio.timeout(_DEADLINE):
        return [event async for event in application.follower.follow_run(run.id, after)]


async def start_and_follow(application: Application, prompt: str = "hello") -> RunView:
    """Create a run, wait until its first segment has ended, and look at it."""
    run = await start(application, prompt)
    await follow(application, run)
    return await look(application, run)


async def look(application: Application, run: Run) -> RunView:
    """Return all there is to see of the run."""
    return await application.service.get_view(replace(ADA, organization_id=run.organization_id), RunRef(id=run.id))


async def answer(application: Application, run: Run, *answers: ToolAnswer, by: Principal = ADA) -> Accepted:
    """Continue the run with these answers."""
    return await application.service.continue_run(by, RunRef(id=run.id), ContinueRun(answers))


async def say(application: Application, run: Run, prompt: str, *images: Image, by: Principal = ADA) -> Accepted:
    """Continue the run with the user's words."""
    return await application.service.continue_run(by, RunRef(id=run.id), ContinueRun((), prompt, images))


async def finish(application: Application, run: Run, continued: Accepted) -> RunView:
    """Wait until what a continue set going has ended, and look at the run."""
    await follow(application, run, continued.after)
    return await look(application, run)


async def segments(application: Application, run: Run) -> list[EventType]:
    """Return the kinds of all events of a run that has ended, of all its segments."""
    kinds: list[EventType] = []
    last = (await look(application, run)).run.last_sequence
    while len(kinds) < last:
        kinds += [event.type for event in await follow(application, run, len(kinds))]
    return kinds


def open_requirements(view: RunView) -> list[Requirement]:
    """Return what the present pause waits for."""
    return [each for each in view.requirements if each.is_open and each.pause_id == view.run.pause_id]
