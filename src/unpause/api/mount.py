"""``unpause.create_app``: the whole server as an ASGI application, to be served alone or mounted under another one."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager
from difflib import get_close_matches
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import structlog
from starlette.responses import JSONResponse
from starlette.routing import Router

from unpause.api.app import create_app as create_asgi_app
from unpause.api.errors import body_for
from unpause.api.prefix import route_path
from unpause.errors import InvalidSetting
from unpause.settings import Settings
from unpause.settings_sources import read_settings
from unpause.startup import check_settings, running_application

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager

    from fastapi import FastAPI
    from starlette.types import Receive, Scope, Send

    from unpause.agents.objects import AnyAgent

    Lifespan: TypeAlias = Callable[[Any], AbstractAsyncContextManager[Any]]

_log = structlog.get_logger(__name__)

_NOT_STARTED = (
    "The agents' application is not running: its host has to run its lifespan, as with "
    "FastAPI(lifespan=agents_api.lifespan)"
)
_UNAVAILABLE = 503


def create_app(
    settings: Settings | None = None,
    *,
    agents: Sequence[AnyAgent | str | Path] = (),
    **options: Any,  # noqa: ANN401 - any setting, by its name; pydantic checks them
) -> UnpauseApp:
    """Return the server as an ASGI application: both APIs, the console and the documents.

    Nothing is opened before its lifespan begins, and nothing is left open after it. An application that is served alone
    runs its lifespan itself; a host that it is mounted under has to::

        agents_api = create_app(agents=[agent], database_url="sqlite:///agents.db")
        app = FastAPI(lifespan=agents_api.lifespan)
        app.mount("/agents-api", agents_api)

    Args:
        settings: All settings. Without, they come from ``options`` and then from the variables ``UNPAUSE_…``.
        agents: Pydantic AI agents, which run in this process; or modules and files, which run in agent processes. By
            default those that the settings name.
        options: Settings by their names, such as ``database_url`` or ``dev``.

    Raises:
        InvalidSetting: For settings that cannot work.
        TypeError: For ``options`` beside ``settings``, or an option that is no setting.
    """
    if settings is not None and options:
        raise TypeError(f"settings and {min(options)}: pass all settings in one or the other")
    unknown = sorted(options.keys() - Settings.model_fields.keys())
    if unknown:
        near = get_close_matches(unknown[0], Settings.model_fields, 1)
        raise TypeError(f"{unknown[0]} is no setting" + (f": did you mean {near[0]}?" if near else ""))
    settings = settings or read_settings(**options)
    names = [str(agent) for agent in agents if isinstance(agent, str | Path)]
    objects = [agent for agent in agents if not isinstance(agent, str | Path)]
    if names and objects:
        raise InvalidSetting(
            "agents: objects run in this process, and modules and files in others: pass either, or two applications"
        )
    if names:
        settings = settings.model_copy(update={"agents": tuple(names)})
    if not objects and not settings.agents:
        raise InvalidSetting("agents: none to serve; pass Pydantic AI agents, or the names of modules or files")
    if settings.reload and (objects or settings.agent_processes == 0):
        raise InvalidSetting("reload loads modules and files anew in agent processes: it needs both")
    check_settings(settings)
    return UnpauseApp(settings, objects)


class UnpauseApp:
    """The ASGI application that ``create_app`` returns. It may be started again after its lifespan has ended."""

    def __init__(self, settings: Settings, agents: Sequence[AnyAgent] = ()) -> None:
        self.settings = settings
        self._agents = agents
        self._app: FastAPI | None = None
        self._own_lifespan = Router(lifespan=self.lifespan)

    @asynccontextmanager
    async def lifespan(self, _: object = None) -> AsyncIterator[None]:
        """Serve during the block: open the database, load the agents and execute runs. Takes whichever app runs it."""
        if self._app is not None:
            raise RuntimeError("the application is running already: its lifespan belongs to one host only")
        async with running_application(self.settings, self._agents) as application:
            self._app = create_asgi_app(application)
            try:
                yield
            finally:
                self._app = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request; or run the lifespan, where this is the application that is served."""
        if scope["type"] == "lifespan":
            await self._own_lifespan(scope, receive, send)
        elif self._app is not None:
            # The host's middlewares read the same scope and state after this.
            await self._app({**scope, "state": dict(scope.get("state", {}))}, receive, send)
        elif scope["type"] == "http":
            _log.error("request refused: the application's lifespan does not run", path=scope["path"])
            body = body_for(route_path(scope), _UNAVAILABLE, _NOT_STARTED)
            await JSONResponse(body, _UNAVAILABLE)(scope, receive, send)
        else:
            await send({"type": "websocket.close", "code": 1001})


def combine_lifespans(*lifespans: Lifespan) -> Lifespan:
    """Return one lifespan for an application that has several: begun in their order, and ended in the reverse.

    For a host with a lifespan of its own, and for one that mounts several applications::

        app = FastAPI(lifespan=combine_lifespans(own_lifespan, agents_api.lifespan))
    """

    @asynccontextmanager
    async def combined(app: object) -> AsyncIterator[Any]:
        state: dict[str, Any] = {}
        async with AsyncExitStack() as stack:
            for lifespan in lifespans:
                found: Mapping[str, Any] | None = await stack.enter_async_context(lifespan(app))
                state.update(found or {})
            yield state or None

    return combined
