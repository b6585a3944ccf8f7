"""The server of a test: real service, engine, driver and database in the test's own process, and time that obeys."""

from __future__ import annotations

import shutil
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from pydantic import ValidationError
from pydantic_ai import Agent
from pydantic_ai.models import Model
from pydantic_core import PydanticSerializationError

from unpause.agents.pydantic_ai.tools import find_unknown_toolsets, list_known_tools
from unpause.domain.principal import DEFAULT_ORGANIZATION, Principal
from unpause.domain.runs import RunRef, RunStatus
from unpause.domain.scopes import DEFAULT_SCOPES, describe_unknown
from unpause.errors import AgentNotFound
from unpause.services.commands import CreateRun
from unpause.store.engine.backup import back_up
from unpause.testing.crashes import CrashPoint
from unpause.testing.environment import GivenSettings, ManualClock, migrated_sqlite_file, plain_logs
from unpause.testing.errors import WrongUse, near, refuse_no_text
from unpause.testing.hosting import Host, deps_of, put_in_place
from unpause.testing.runs import Run
from unpause.testing.scripts import Script, ScriptedModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping, Sequence

    from unpause.domain.events import Event
    from unpause.domain.runs import RunView
    from unpause.services.commands import DecideRequirement

_NO_DEPS: Final = object()
_SECONDS: Final = 30.0
_ACTIVE: Final = (RunStatus.PENDING, RunStatus.RUNNING)


class ServerClock(ManualClock):
    """The clock of a server, which stands still until a test moves it."""

    def __init__(self, server: Server) -> None:
        super().__init__()
        self._server = server

    async def advance(
        self, *, days: float = 0.0, hours: float = 0.0, minutes: float = 0.0, seconds: float = 0.0
    ) -> None:
        """Let time pass, with all that is due on the way: reminders, then what expires, and the runs that go on then.

        Raises ValueError for a time that is not positive.
        """
        length = timedelta(days=days, hours=hours, minutes=minutes, seconds=seconds)
        if length <= timedelta(0):
            raise ValueError("time only advances")
        end, swept = self.now() + length, datetime.min.replace(tzinfo=UTC)
        while (due := self._server.next_due(swept)) is not None and due <= end:
            self._now, swept = max(due, self._now), due
            await self._server.sweep()
        self._now = end
        await self._server.sweep()


@dataclass(frozen=True, slots=True)
class ServerOptions:
    """What a server of a test is made with; see ``Unpause.serve``."""

    agents: Sequence[Agent[Any, Any]]
    model: Model | Script | None
    deps: object
    users: Mapping[str, Sequence[str]] | None
    settings: Mapping[str, Any]
    timeout: float


class Server:
    """A server in the test's process. ``clock`` is its time, which only the test moves."""

    def __init__(self, folder: Path, options: ServerOptions) -> None:
        """Make the database in the folder."""
        for agent in options.agents:
            if not isinstance(agent, Agent):
                raise WrongUse(f"serve() takes Pydantic AI agents, not {agent!r}")
            if not agent.name:
                raise WrongUse("an agent needs a name to be served: Agent(…, name='…')")
        if not options.agents:
            raise WrongUse("serve() needs an agent")
        if not isinstance(options.model, Model | Script | None):
            raise WrongUse(f"model takes a script or a Pydantic AI model, not {options.model!r}")
        for user, scopes in (options.users or {}).items():
            if isinstance(scopes, str):
                raise WrongUse(f"users: {user!r} takes a list of scopes, not {scopes!r}")
            if wrong := describe_unknown(scopes):
                raise WrongUse(f"users: {user!r}: {wrong}")
        self.clock = ServerClock(self)
        self._options = options
        self._file = folder / "unpause.db"
        shutil.copyfile(migrated_sqlite_file(), self._file)
        self._host = Host(_settings(self._file, options.settings), options.agents, self.clock)
        model = ScriptedModel(options.model).model if isinstance(options.model, Script) else options.model
        self._host.use(model, None if options.deps is _NO_DEPS else deps_of(options.deps))
        self._runs: list[Run] = []

    async def run(  # noqa: PLR0913 - all by name
        self,
        prompt: str = "go",
        *,
        user: str | None = "user",
        agent: str | None = None,
        session: str | None = None,
        metadata: dict[str, Any] | None = None,
        session_state: dict[str, Any] | None = None,
        dependencies: dict[str, Any] | None = None,
    ) -> Run:
        """Start a run of the agent, or of the first one, and return it once it pauses or ends.

        ``session`` is that of another run, which the model sees then. Raises WrongUse for an agent that is not served
        and for a script that does not fit; AssertionError, with the transcript, where it takes too long.
        """
        __tracebackhide__ = True
        if not isinstance(prompt, str):
            raise WrongUse(f"run() takes a prompt, which is text, not {prompt!r}")
        refuse_no_text("run", user=user, agent=agent, session=session)
        names = [str(each.name) for each in self._options.agents]
        command = CreateRun(
            names[0] if agent is None else agent,
            prompt,
            session_id=session,
            metadata=metadata,
            session_state=session_state,
            dependencies=dependencies,
        )
        service = self._host.application.service
        try:
            accepted = await service.create_run(self._principal(user), command)
        except AgentNotFound:
            raise WrongUse(f"run(agent={agent!r}): {near(str(agent), names)}") from None
        except PydanticSerializationError as error:
            raise WrongUse(f"run(): metadata, session_state and dependencies are JSON: {error}") from None
        ref = RunRef(run_id=accepted.run.run_id)
        run = Run(self, await service.get_view(self._principal(None), ref))
        self._runs.append(run)
        return await run.refresh()

    async def restart(self) -> None:
        """Stop the server and start it again on the same database; a tool that runs is cut off, and so in doubt.

        Raises WrongUse outside of the block of ``serve``.
        """
        self._host.application  # noqa: B018 - it raises
        await self._host.stop()
        await self.start()

    @asynccontextmanager
    async def crash_during(self, tool: str, *, after: bool = False) -> AsyncIterator[None]:
        """Have the process die in the block while the tool runs; then start it again on the same database.

            async with server.crash_during("restart"):
                await run.approve()
            run.assert_in_doubt("restart")

        It dies once the call is noted as started and before the tool's function is called, or ``after`` it has
        returned and before its result is noted. What was committed by then is there after the block, and nothing else.
        Raises WrongUse for an unknown tool, and where the tool does not start in the block.
        """
        __tracebackhide__ = True
        self._refuse_unknown_tool(tool)
        if self._host.watch.crash is not None:
            raise WrongUse("crash_during() inside of another one")
        snapshot = self._file.with_name("crashed.db")
        url = self._host.settings.database_url
        point = CrashPoint(tool, after, lambda: _keep(url, snapshot))
        self._host.watch.crash = point
        try:
            yield
            if not point.happened.is_set():
                seen = "\n".join(run.transcript for run in self._runs)
                raise WrongUse(f"crash_during({tool!r}): the tool did not run in the block\n{seen}")
        finally:
            if point.happened.is_set():
                await self._host.stop()
                put_in_place(snapshot, self._file)
            self._host.watch.crash = None
            if point.happened.is_set():
                await self.start()

    # ------------------------------------------------------------------ for runs, the clock and the fixture

    async def start(self) -> None:
        """Start, and wait until nobody executes the runs that are stored."""
        await self._host.start()
        await self._refresh()

    async def stop(self) -> None:
        """Stop."""
        await self._host.stop()

    async def decide(self, command: DecideRequirement, by: str) -> None:
        """Decide a requirement."""
        await self._host.application.inbox_decisions.decide(self._principal(by), command)

    async def cancel(self, run_id: str, by: str) -> None:
        """Cancel a run."""
        await self._host.application.service.cancel_run(self._principal(by), RunRef(run_id=run_id))

    async def settled(self, ref: RunRef) -> tuple[RunView, tuple[Event, ...]] | None:
        """Return the run with its events once nobody executes it; None where the process has crashed before that."""
        application = self._host.application
        events: list[Event] = []

        async def settle() -> None:
            run = await application.service.get_run(self._principal(None), ref)
            events.extend([event async for event in application.follower.attach(run, 0)])

        try:
            is_settled = await self._host.wait_for(settle(), self._options.timeout)
        except TimeoutError:
            view = await application.service.get_view(self._principal(None), ref)
            transcript = Run(self, view, events).transcript
            raise AssertionError(f"the run goes on after {self._options.timeout:g} seconds\n{transcript}") from None
        if not is_settled:
            return None
        return await application.service.get_view(self._principal(None), ref), tuple(events)

    def raise_problems(self, transcript: str) -> None:
        """Raise WrongUse for what was wrong with the script, once."""
        problems, self._host.watch.problems = self._host.watch.problems, []
        if problems:
            raise WrongUse(f"{problems[0]}\n{transcript}")

    def next_due(self, after: datetime) -> datetime | None:
        """Return the next moment at which a run is reminded of or expires; None where there is none."""
        return min((moment for run in self._runs for moment in run.due if moment > after), default=None)

    async def sweep(self) -> None:
        """Do what is due now."""
        await self._host.application.expiry.sweep()
        await self._refresh()

    async def _refresh(self) -> None:
        for run in self._runs:
            await run.refresh()

    def _principal(self, user: str | None) -> Principal:
        """Return the user with the scopes that the test gives, or with all."""
        users = self._options.users
        if users is None or user is None:
            return Principal(DEFAULT_ORGANIZATION, user, via="unpause")
        scopes = frozenset(users.get(user, DEFAULT_SCOPES))
        return Principal(DEFAULT_ORGANIZATION, user, via="unpause", subject=user, scopes=scopes)

    def _refuse_unknown_tool(self, tool: str) -> None:
        agents = self._options.agents
        if any(find_unknown_toolsets(agent) for agent in agents):
            return
        names = [each.definition.name for agent in agents for each in list_known_tools(agent)]
        if tool not in names:
            raise WrongUse(f"crash_during({tool!r}): no agent has such a tool: {near(tool, names)}")


def _settings(file: Path, chosen: Mapping[str, Any]) -> GivenSettings:
    """Return the settings of a server on this file; raise WrongUse for what is no setting, or has an invalid value."""
    for name in chosen:
        if name not in GivenSettings.model_fields or name == "database_url":
            raise WrongUse(
                f"settings: {name!r} is none that a test can set: {near(name, [*GivenSettings.model_fields])}"
            )
    usual = {"dev": True, "sweep_seconds": 3600.0, "shutdown_grace_seconds": 0.0}
    try:
        return GivenSettings(**{**usual, **chosen, "database_url": f"sqlite:///{file}"})
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, each['loc']))}: {each['msg']}" for each in error.errors())
        raise WrongUse(f"settings: {wrong}") from None


def _keep(url: str, snapshot: Path) -> None:
    snapshot.unlink(missing_ok=True)
    back_up(url, snapshot)


class Unpause:
    """The fixture ``unpause``: serves agents on a database in the test's own folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._count = 0

    @asynccontextmanager
    async def serve(
        self,
        *agents: Agent[Any, Any],
        model: Model | Script | None = None,
        deps: object = _NO_DEPS,
        users: Mapping[str, Sequence[str]] | None = None,
        settings: Mapping[str, Any] | None = None,
        timeout: float = _SECONDS,  # noqa: ASYNC109 - of each wait in the block, and not of this call
    ) -> AsyncIterator[Server]:
        """Serve the agents during the block, in this process, on a new database and without a port.

        Args:
            agents: Pydantic AI agents, each with a name.
            model: Runs all agents in place of their own models: a ``script``, or any model of Pydantic AI.
            deps: What the tools of all agents find in their context, in place of what the agents' factories make.
            users: Who has which scopes. With it others have those of an ordinary token; without it everybody has every
                scope, as with ``unpause serve --dev``. Tools' policies hold for everybody in both cases.
            settings: Settings of the server by their names, such as ``{"reminder_seconds": 3600}``.
            timeout: Seconds that a run may take until it pauses or ends.

        Raises:
            WrongUse: The agents cannot be served: one has no name, needs deps or has no model; or a scope is misspelt.
        """
        self._count += 1
        folder = self._folder / f"unpause-{self._count}"
        folder.mkdir()
        server = Server(folder, ServerOptions(agents, model, deps, users, dict(settings or {}), timeout))
        with plain_logs():
            await server.start()
            try:
                yield server
            finally:
                await server.stop()
