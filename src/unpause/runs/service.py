"""Creates, continues and reads runs: one transaction each, whichever API asks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from unpause.domain.events import Event, EventType
from unpause.domain.runs import RunInput, RunView
from unpause.errors import RunNotFound
from unpause.runs.continuing import Continuing
from unpause.runs.snapshots import with_requirements
from unpause.store.events import add_events
from unpause.store.journal import add_input, list_messages, list_tool_calls
from unpause.store.requirements import list_requirements
from unpause.store.runs import RunKey, get_run, insert_run
from unpause.store.sessions import ensure_session

if TYPE_CHECKING:
    from unpause.agents.registry import AgentRegistry
    from unpause.clock import Clock, Ids
    from unpause.domain.principal import Principal
    from unpause.domain.runs import Run
    from unpause.runs.commands import Continued, ContinueRun, CreateRun, RunName
    from unpause.runs.dispatcher import Dispatcher
    from unpause.store.database import Connection, Database
    from unpause.streaming.bus import Bus

_SUMMARY_CHARACTERS = 80


@dataclass(frozen=True, slots=True)
class ServiceTools:
    """What the service works with."""

    database: Database
    bus: Bus
    dispatcher: Dispatcher
    agents: AgentRegistry
    clock: Clock
    ids: Ids


class RunService:
    """The use cases of runs."""

    def __init__(self, tools: ServiceTools) -> None:
        self._tools = tools

    async def create_run(self, principal: Principal, command: CreateRun) -> Run:
        """Make a run and hand it to the executors; raise AgentNotFound for an agent not served here."""
        agent = self._tools.agents.get_agent(command.agent_id)
        now = self._tools.clock.now()
        run_id = self._tools.ids.fresh()
        session_id = command.session_id or self._tools.ids.fresh()
        values = {
            "run_id": run_id,
            "organization_id": principal.organization_id,
            "session_id": session_id,
            "agent_id": command.agent_id,
            "user_id": principal.user_id,
            "source_type": command.source_type,
            "prompt": command.prompt,
            "summary": _summary(command.prompt),
            "metadata": command.metadata,
            "model": agent.model_name,
            "model_provider": agent.model_provider,
            "last_sequence": 1,
            "created_at": now,
            "updated_at": now,
        }
        started = Event(EventType.RUN_STARTED, now, {"model": agent.model_name, "model_provider": agent.model_provider})

        def unit(connection: Connection) -> Run:
            session_key = ensure_session(connection, principal, session_id, command.agent_id, now)
            run = insert_run(connection, {**values, "session_key": session_key})
            add_input(connection, run.id, RunInput(0, command.prompt, command.images), principal.user_id, now)
            add_events(connection, run.id, (started,), run.last_sequence)
            self._tools.dispatcher.enqueue(connection, run.id, run.fence)
            return run

        run = await self._tools.database.write(unit)
        self._tools.dispatcher.committed(run.id)
        return run

    async def continue_run(self, principal: Principal, name: RunName, command: ContinueRun) -> Continued:
        """Take a client's answers and, when nothing is open any more, send the run on.

        Raises RunNotFound, InvalidTransition, ApprovalPending, RequirementMismatch or RequirementsOpen;
        then nothing changed.
        """
        continuing = Continuing(principal, command, self._tools.clock.now())

        def unit(connection: Connection) -> tuple[Continued, tuple[Event, ...]]:
            # Two continues that each answer a part, at once, must see one another: else both leave the run paused.
            run = _named(connection, principal, name, locked=True)
            continued, events = continuing.apply(connection, run)
            if continued.moved:
                self._tools.dispatcher.enqueue(connection, run.id, run.fence)
            return continued, events

        continued, events = await self._tools.database.write(unit)
        self._tools.bus.publish(continued.run_key, events)
        if continued.moved:
            self._tools.dispatcher.committed(continued.run_key)
        return continued

    async def get_run(self, principal: Principal, name: RunName) -> Run:
        """Return the run; raise RunNotFound."""
        return await self._tools.database.read(lambda connection: _named(connection, principal, name))

    async def get_view(self, principal: Principal, name: RunName) -> RunView:
        """Return the run with its calls, messages and requirements, all of one moment; raise RunNotFound."""

        def unit(connection: Connection) -> RunView:
            run = _named(connection, principal, name)
            requirements = tuple(list_requirements(connection, run.id))
            return RunView(
                run=run,
                tool_calls=with_requirements(list_tool_calls(connection, run.id), requirements),
                messages=tuple(list_messages(connection, run.id)),
                requirements=requirements,
            )

        return await self._tools.database.read(unit)


def _named(connection: Connection, principal: Principal, name: RunName, *, locked: bool = False) -> Run:
    run = get_run(connection, RunKey(principal.organization_id, name.id, name.run_id), locked=locked)
    for said, stored in (
        (name.agent_id, run.agent_id),
        (name.session_id, run.session_id),
        (name.user_id, run.user_id),
    ):
        if said is not None and stored is not None and said != stored:
            raise RunNotFound
    return run


def _summary(prompt: str) -> str | None:
    """Return a short title: the beginning of the first line that says something."""
    line = next((line.strip() for line in prompt.splitlines() if line.strip()), "")
    if len(line) <= _SUMMARY_CHARACTERS:
        return line or None
    return line[: _SUMMARY_CHARACTERS - 1].rstrip() + "…"
