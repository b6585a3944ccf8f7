"""The `deps` that an agent's tools find in their context: how their author has them created for a run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from inspect import signature
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from pydantic_ai import Agent

_ATTRIBUTE: Final = "_unpause_deps"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """The run that `deps` are made for. `metadata`, `session_state` and `dependencies` are what its client sent."""

    run_id: str
    agent_id: str
    session_id: str
    organization_id: int
    user_id: str | None = None
    metadata: Mapping[str, Any] | None = None
    session_state: Mapping[str, Any] | None = None
    dependencies: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class AgentDeps:
    """How the `deps` of an agent's runs are made."""

    factory: Callable[..., Any]
    lifespan: Callable[[], Any] | None = None


def agent_deps(
    agent: Agent[Any, Any], factory: Callable[..., Any], *, lifespan: Callable[[], Any] | None = None
) -> None:
    """Have `factory` make the `deps` that the agent's tools find in their context.

    It is called with the `RunInfo` for each segment of a run: when the run begins, and again each time it goes on after
    a pause. It returns the deps, is a coroutine function that does, or yields them (a generator function, with or
    without `contextlib`, or any context manager, async or not): then what stands after the `yield` closes them when the
    segment ends, however it ends. What it raises ends that run as ERROR. It runs in the event loop.

    `lifespan` is for what is opened once for the process, such as a pool of connections: a context manager function
    without parameters, which is entered before the first run and left after the last. What it yields is the second
    argument of `factory`. Agents that name the same function share it. Where it raises, the process does not start.

    Raises `TypeError` for what cannot be called so.
    """
    if lifespan is None:
        _refuse_uncallable(factory, "the run's RunInfo", 1)
    else:
        _refuse_uncallable(lifespan, "nothing", 0)
        _refuse_uncallable(factory, "the run's RunInfo and what lifespan yields", 2)
    try:
        setattr(agent, _ATTRIBUTE, AgentDeps(factory, lifespan))
    except AttributeError:
        message = f"agent_deps takes a pydantic_ai.Agent first, not {agent!r}"
        raise TypeError(message) from None


def _refuse_uncallable(function: object, arguments: str, count: int) -> None:
    """Raise TypeError for what cannot be called with so many arguments; builtins may not say what they take."""
    message = f"agent_deps takes functions, not {function!r}"
    if callable(function):
        try:
            signature(function).bind(*[None] * count)
        except TypeError as error:
            name = getattr(function, "__qualname__", repr(function))
            message = f"agent_deps calls {name} with {arguments}, and it does not take that: {error}"
        except ValueError:
            return
        else:
            return
    raise TypeError(message)


def find_deps(agent: Agent[Any, Any]) -> AgentDeps | None:
    """Return how the agent's deps are made; None for an agent without `agent_deps`."""
    found = getattr(agent, _ATTRIBUTE, None)
    return found if isinstance(found, AgentDeps) else None
