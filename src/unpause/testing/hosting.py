"""Runs an application of real parts in a task of its own, which any task of the test may stop and start."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from unpause.agents.config import agents_config
from unpause.agents.deps import AgentDeps
from unpause.agents.hosting import agents_of, driver_options
from unpause.agents.pydantic_ai.dependencies import describe_missing_deps
from unpause.bootstrap import build_application
from unpause.errors import InvalidSetting
from unpause.factories import build_redaction
from unpause.tasks import TaskScope
from unpause.testing.crashes import Watch, WatchedDriver
from unpause.testing.errors import WrongUse

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Coroutine, Sequence

    from pydantic_ai import Agent
    from pydantic_ai.models import Model

    from unpause.agents.pydantic_ai.driver import DriverOptions
    from unpause.agents.served import Agents
    from unpause.bootstrap import Application
    from unpause.clock import Clock
    from unpause.settings import Settings


class Host:
    """One application at a time, on one database file. ``agents`` are those that it serves."""

    def __init__(self, settings: Settings, agents: Sequence[Agent[Any, Any]], clock: Clock) -> None:
        self.settings = settings
        self.watch = Watch()
        self._agents = agents
        self._clock = clock
        self._model: Model | None = None
        self._deps: AgentDeps | None = None
        self._application: Application | None = None
        self._task: asyncio.Task[None] | None = None
        self._stop = asyncio.Event()

    def use(self, model: Model | None, deps: AgentDeps | None) -> None:
        """Have all agents run with this model and these deps, in place of their own."""
        self._model, self._deps = model, deps

    @property
    def application(self) -> Application:
        """The application that runs now; raise WrongUse where none does."""
        if self._application is None:
            raise WrongUse("the server is not running: use it inside of `async with unpause.serve(…)`")
        return self._application

    async def start(self) -> None:
        """Start the application; return once it runs. Raises WrongUse for agents that cannot be served."""
        try:
            application = build_application(self.settings, self._served(), self._clock)
        except InvalidSetting as error:
            raise WrongUse(self._explain(error.message)) from None
        self._stop = asyncio.Event()
        is_running: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._task = asyncio.create_task(_run(application, is_running, self._stop), name="unpause server of a test")
        await asyncio.wait({self._task, is_running}, return_when=asyncio.FIRST_COMPLETED)
        if self._task.done():
            is_running.cancel()
            self._task.result()
        self._application = application

    async def stop(self) -> None:
        """Stop the application, if one runs; raise what it died of."""
        task, self._task, self._application = self._task, None, None
        if task is not None:
            self._stop.set()
            await task

    async def wait_for(self, work: Coroutine[Any, Any, None], seconds: float) -> bool:
        """Wait until the work is done, and return True; False where the process has crashed before that.

        Raises TimeoutError, and what the application died of.
        """
        crash = self.watch.crash
        async with TaskScope() as tasks:
            doing = tasks.start(work, "what a test waits for")
            waiting: set[asyncio.Task[Any]] = {doing}
            if self._task is not None:
                waiting.add(self._task)
            if crash is not None:
                waiting.add(tasks.start(crash.happened.wait(), "wait for a crash"))
            done, _ = await asyncio.wait(waiting, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        if not done:
            raise TimeoutError
        if doing in done:
            doing.result()
            return True
        if self._task in done:
            self._task.result()
        return False

    def _served(self) -> Agents:
        config = agents_config(self.settings, demo=False)
        options = replace(driver_options(config, build_redaction(self.settings)), model=self._model, deps=self._deps)
        drivers = [self._driver(agent, options) for agent in self._agents]
        return agents_of(drivers, config, options, self._clock)

    def _driver(self, agent: Agent[Any, Any], options: DriverOptions) -> WatchedDriver:
        if self._deps is None and describe_missing_deps(agent) is not None:
            kind = getattr(agent.deps_type, "__name__", str(agent.deps_type))
            raise WrongUse(
                f"agent {agent.name!r} has deps_type={kind}: pass deps=… to unpause.serve, or give the agent a factory "
                "with unpause.agent_deps"
            )
        return WatchedDriver(agent, options, self.watch)

    def _explain(self, message: str) -> str:
        return message.replace("start with --model", "pass model=… to unpause.serve")


async def _run(application: Application, is_running: asyncio.Future[None], stop: asyncio.Event) -> None:
    try:
        async with application.running():
            is_running.set_result(None)
            await stop.wait()
    finally:
        if not is_running.done():
            is_running.cancel()


def deps_of(value: object) -> AgentDeps:
    """Return how every run gets this value as its deps, as it is: nothing is entered or closed."""

    async def give(_: object) -> AsyncIterator[object]:
        yield value

    return AgentDeps(give)


def put_in_place(snapshot: Path, file: Path) -> None:
    """Have the database be what the snapshot has."""
    for ending in ("-wal", "-shm"):
        Path(f"{file}{ending}").unlink(missing_ok=True)
    snapshot.replace(file)
