"""A port of its own for the metrics, without tokens: for a network that only a Prometheus reaches, and for workers."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Final

from prometheus_client import start_http_server
from prometheus_client.registry import Collector

from unpause.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from prometheus_client import Metric

    from unpause.bootstrap import Application

_LONGEST_SECONDS: Final = 10.0


class _FromThread(Collector):
    """Collects in the loop that the application runs in, for a thread that answers a scrape."""

    def __init__(self, application: Application, loop: asyncio.AbstractEventLoop) -> None:
        self._metrics = application.metrics
        self._loop = loop

    def collect(self) -> Iterator[Metric]:
        """Yield what there is, once the figures of the database are as new as they have to be."""
        asyncio.run_coroutine_threadsafe(self._metrics.refresh(), self._loop).result(_LONGEST_SECONDS)
        yield from self._metrics.collect()


@asynccontextmanager
async def serving_metrics(application: Application) -> AsyncIterator[None]:
    """Serve the metrics on the port of the settings, if there is one, during the block; raise InvalidSetting."""
    host, port = application.settings.metrics_host, application.settings.metrics_port
    if port is None:
        yield
        return
    collector = _FromThread(application, asyncio.get_running_loop())
    try:
        server, thread = start_http_server(port, host, collector)
    except OSError as error:
        raise InvalidSetting(f"metrics_port: could not listen on {host} port {port}: {error.strerror}") from None
    try:
        yield
    finally:
        await asyncio.to_thread(server.shutdown)
        server.server_close()
        thread.join()
