"""Creates the ``deps`` of each segment by its agent's factory, and holds open what a process opens once."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, contextmanager
from types import NoneType
from typing import TYPE_CHECKING, Any, cast

import structlog

from unpause.agents.containment import describe_error, is_stop
from unpause.agents.deps import AgentDeps, RunInfo, find_deps
from unpause.errors import InvalidSetting
from unpause.tasks import TaskScope

if TYPE_CHECKING:
    from pydantic_ai import Agent

    from unpause.domain.runs import Run

_log = structlog.get_logger(__name__)

# What an agent's deps_type is where its author named none.
_UNNAMED = (object, NoneType, None, Any)
# How long what a process had open may take to close.
_CLOSE_SECONDS = 10.0
_CANCEL_SECONDS = 1.0


class DepsFailed(Exception):
    """The agent's deps could not be made or closed."""


class Lifespans:
    """What a process opens once, by lifespan function."""

    def __init__(self) -> None:
        self._values: dict[Callable[[], Any], Any] = {}
        self._functions: list[Callable[[], Any]] = []

    def add(self, function: Callable[[], Any]) -> None:
        """Have it opened with the others, once."""
        if function not in self._functions:
            self._functions.append(function)

    def get_value(self, function: Callable[[], Any]) -> Any:  # noqa: ANN401 - whatever the author yields
        """Return what it yielded; raise DepsFailed where that is not open, or not any more."""
        if function not in self._values:
            raise DepsFailed(f"lifespan {_name_of(function)} is not open")
        return self._values[function]

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[None]:
        """Hold everything open during the block; raise InvalidSetting for what cannot be opened."""
        over = asyncio.Event()
        holding: list[asyncio.Task[None]] = []
        async with TaskScope(_CANCEL_SECONDS) as tasks:
            try:
                for function in self._functions:
                    is_open: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                    # In a task of its own: an author's task group or cancel scope there can cancel no part of ours.
                    holding.append(tasks.start(self._hold(function, is_open, over), f"lifespan {_name_of(function)}"))
                    await is_open
                yield
            finally:
                over.set()
                if holding:
                    await asyncio.wait(holding, timeout=_CLOSE_SECONDS)

    async def _hold(self, function: Callable[[], Any], is_open: asyncio.Future[None], over: asyncio.Event) -> None:
        name = _name_of(function)
        try:
            async with _entered(function(), always=True) as value:
                self._values[function] = value
                is_open.set_result(None)
                await over.wait()
        except BaseException as error:  # the boundary around a lifespan
            if is_stop(error):
                raise
            if not is_open.done():
                is_open.set_exception(InvalidSetting(f"agents: lifespan {name} failed: {describe_error(error)}"))
            _log.exception("lifespan failed", lifespan=name)
        finally:
            self._values.pop(function, None)
            if not is_open.done():
                is_open.set_exception(InvalidSetting(f"agents: lifespan {name} did not open anything"))


def describe_missing_deps(agent: Agent[Any, Any]) -> str | None:
    """Return what an agent with a ``deps_type`` and without a factory lacks; None for every other agent."""
    if find_deps(agent) is not None or any(agent.deps_type is unnamed for unnamed in _UNNAMED):
        return None
    kind = getattr(agent.deps_type, "__name__", str(agent.deps_type))
    return (
        f"agent {agent.name!r} has deps_type={kind} and no factory: add one with unpause.agent_deps(agent, factory), "
        "or leave out the name of an agent that is not served by itself"
    )


class SegmentDeps:
    """Creates the deps of one agent's segments."""

    def __init__(self, agent: Agent[Any, Any], lifespans: Lifespans, rules: AgentDeps | None = None) -> None:
        """Make them by ``rules``, or by the agent's own.

        Raises InvalidSetting for an agent with a ``deps_type`` and without a factory.
        """
        self._type: Any = agent.deps_type
        self._rules = rules or find_deps(agent)
        self._lifespans = lifespans
        if self._rules is None:
            if missing := describe_missing_deps(agent):
                raise InvalidSetting(missing)
        elif self._rules.lifespan is not None:
            lifespans.add(self._rules.lifespan)

    @asynccontextmanager
    async def opened(self, run: Run) -> AsyncIterator[Any]:
        """Make the deps for one segment and close them after the block; raise DepsFailed where that fails.

        What the block raises is raised, whatever the factory makes of it.
        """
        if self._rules is None:
            yield None
            return
        raised: BaseException | None = None
        is_made = False
        try:
            async with _entered(self._make(run), self._enters) as deps:
                is_made = True
                try:
                    yield deps
                except BaseException as error:  # the boundary around a run: none of the deps' own errors
                    raised = error
                    raise
        except BaseException as error:  # the boundary around an author's deps
            if is_stop(error) or error is raised:
                raise
            what = "closed" if is_made else "made"
            raise DepsFailed(f"The agent's deps could not be {what}: {describe_error(error)}") from error
        if raised is not None:
            raise raised

    def _make(self, run: Run) -> Any:  # noqa: ANN401 - whatever the factory returns
        rules = self._rules
        if rules is None:
            return None
        info = RunInfo(
            run_id=run.run_id,
            agent_id=run.agent_id,
            session_id=run.session_id,
            organization_id=run.organization_id,
            user_id=run.user_id,
            metadata=run.metadata,
            session_state=run.session_state,
            dependencies=run.dependencies,
        )
        if rules.lifespan is None:
            return rules.factory(info)
        return rules.factory(info, self._lifespans.get_value(rules.lifespan))

    def _enters(self, made: object) -> bool:
        """Whether a context manager that is not declared as one is to be entered, or is the deps themselves.

        A pool that the factory returns can be entered, too, and would be closed with the first segment.
        """
        if self._rules is not None and isinstance(self._rules.factory, type):
            return True
        return isinstance(self._type, type) and self._type not in _UNNAMED and not isinstance(made, self._type)


@asynccontextmanager
async def _entered(
    made: Any,  # noqa: ANN401 - whatever an author's function returns
    enters: Callable[[object], bool] | None = None,
    *,
    always: bool = False,
) -> AsyncIterator[Any]:
    """Yield the result of an author's function: awaited, and entered where it is a context manager."""
    value = await made if inspect.isawaitable(made) else made
    if inspect.isasyncgen(value):
        value = asynccontextmanager(_factory_of(value))()
    elif inspect.isgenerator(value):
        value = contextmanager(_factory_of(value))()
    kinds = type(value).__mro__
    is_declared = AbstractAsyncContextManager in kinds or AbstractContextManager in kinds
    if not (is_declared or always or (enters is not None and enters(value))):
        yield value
    elif isinstance(value, AbstractAsyncContextManager):
        async with value as inner:
            yield inner
    elif isinstance(value, AbstractContextManager):
        with value as inner:
            yield inner
    else:
        yield value


def _factory_of(value: Any) -> Callable[[], Any]:  # noqa: ANN401 - a generator
    return lambda: value


def _name_of(function: Callable[..., Any]) -> str:
    return cast("str", getattr(function, "__qualname__", type(function).__name__))
