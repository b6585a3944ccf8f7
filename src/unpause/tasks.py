"""Tasks that run beside a block and end with it: none without an owner that waits for it and reports its failure."""

from __future__ import annotations

import asyncio
import threading
from contextlib import asynccontextmanager, suppress
from time import monotonic
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast

import structlog

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Generator
    from contextvars import Context
    from types import TracebackType

_log = structlog.get_logger(__name__)

T = TypeVar("T")

# A part may wait so long, as for a database that is frozen or fails over, without being taken for stalled.
_PATIENCE_SECONDS = 60.0


class Pulse:
    """Whether the background work of a process is alive; when a part of it dies, the process has to end.

    Parts that work in a loop report each turn with ``beat``, from any thread.
    """

    def __init__(self) -> None:
        self.has_died = False
        # When each part last reported, and how long after that it counts as stalled.
        self._beats: dict[str, tuple[float, float]] = {}

    def beat(self, part: str, every_seconds: float) -> None:
        """Note that the part works; it will again within ``every_seconds``, unless it waits for the database."""
        self._beats[part] = (monotonic(), _PATIENCE_SECONDS + 10 * every_seconds)

    def end(self, part: str) -> None:
        """Note that the part has ended, as it should."""
        self._beats.pop(part, None)

    def list_stalled(self) -> list[str]:
        """Return the parts that have not worked for far too long."""
        now = monotonic()
        return sorted(part for part, (at, patience) in tuple(self._beats.items()) if now - at > patience)


class PartDied(Exception):
    """A background task that has to go on has ended."""


class BackgroundTasks(asyncio.TaskGroup):
    """A task group that knows whether it is cancelling its tasks."""

    def __init__(self) -> None:
        super().__init__()
        self._owner: asyncio.Task[Any] | None = None
        self._has_failed = False

    @property
    def is_aborting(self) -> bool:
        """Whether a task or the block has failed, or the block's own task is being cancelled."""
        return self._has_failed or (self._owner is not None and self._owner.cancelling() > 0)

    async def __aenter__(self) -> Self:
        self._owner = asyncio.current_task()
        return await super().__aenter__()

    async def __aexit__(
        self, error_type: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._has_failed = self._has_failed or error is not None
        await super().__aexit__(error_type, error, traceback)

    def create_task(
        self,
        coro: Coroutine[Any, Any, T] | Generator[Any, None, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        """Start a task of the group."""
        task = super().create_task(coro, name=name, context=context)
        task.add_done_callback(self._task_ended)
        return task

    def _task_ended(self, task: asyncio.Task[Any]) -> None:
        self._has_failed = self._has_failed or (not task.cancelled() and task.exception() is not None)


class VitalTask:
    """A task of the group that has to go on: when it ends before ``stop``, the group's block is cancelled.

    It does not matter how it ends: it may return, fail or be cancelled by anybody. The group raises the reason.
    """

    def __init__(self, tasks: BackgroundTasks, work: Coroutine[Any, Any, object], name: str) -> None:
        self._tasks = tasks
        self._name = name
        self._may_end = False
        self._task = tasks.create_task(work, name=name)
        self._task.add_done_callback(self._ended)

    def stop(self) -> None:
        """Cancel the work: the block ends."""
        self._may_end = True
        self._task.cancel()

    @staticmethod
    async def finish(*parts: VitalTask) -> None:
        """Wait for work that ends by itself."""
        for part in parts:
            part._may_end = True  # noqa: SLF001 - its own
        await asyncio.wait([part._task for part in parts])  # noqa: SLF001 - its own

    def _ended(self, task: asyncio.Task[object]) -> None:
        if self._may_end or (task.cancelled() and self._tasks.is_aborting):
            return
        error = None if task.cancelled() else task.exception()
        _log.critical("background task died: stopping the process", part=self._name, exc_info=error)
        if not isinstance(error, Exception):
            # The group ends for exceptions only.
            failing = _fail(self._name)
            try:
                self._tasks.create_task(failing, name=f"end of {self._name}")
            except RuntimeError:
                # The group is ending already.
                failing.close()


async def _fail(name: str) -> None:
    raise PartDied(f"{name} has ended")


class TaskScope:
    """Tasks that belong to a block: when it ends, those that still run are cancelled, and waited for.

    The block itself takes the results of those that end in it. What one raises while it is cancelled is logged, except
    for the ``expected`` errors, as is one that does not end within ``patience`` seconds, which None makes unlimited.
    """

    def __init__(self, patience: float | None = None, *, expected: tuple[type[Exception], ...] = ()) -> None:
        self._patience = patience
        self._expected = expected
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Run the work beside the block."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        running = {task for task in self._tasks if not task.done()}
        for task in running:
            task.cancel()
        if not running:
            return
        ended, late = await asyncio.wait(running, timeout=self._patience)
        for task in ended:
            error = None if task.cancelled() else task.exception()
            if error is not None and not isinstance(error, self._expected):
                _log.warning("background task failed", task=task.get_name(), exc_info=error)
        for task in late:
            _log.warning("background task did not end", task=task.get_name())


class Wakeup:
    """What one task waits for, again and again. Thousands may wait: an event has a queue of those who do."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: asyncio.Future[None] | None = None

    async def wait(self) -> None:
        """Wait for the next ``wake``."""
        self._waiting = asyncio.get_running_loop().create_future()
        try:
            await self._waiting
        finally:
            self._waiting = None

    def wake(self) -> None:
        """Let the task go on, if it waits."""
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)


class UninterruptedTasks:
    """Work that goes on to its end when its caller is cancelled; ``finish`` waits for all that still runs."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    async def run(self, work: Coroutine[Any, Any, T], name: str) -> T:
        """Return the result of the work; a cancelled caller waits for its end, too, unless it is cancelled again."""
        task = asyncio.create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            await outlast(task)
            raise

    async def finish(self) -> None:
        """Wait for what still runs."""
        if self._tasks:
            await asyncio.wait(self._tasks)


async def outlast(result: asyncio.Future[Any]) -> None:
    """Wait for work that continues though its caller was cancelled; a failure of it is discarded.

    The caller's next step may depend on it. Ends early where the caller is cancelled once more.
    """
    result.add_done_callback(retrieve)
    await asyncio.wait((result,))


def retrieve(result: asyncio.Future[Any]) -> None:
    """Have asyncio not log a failure of work that nobody asks for the result of; to be called when it has ended."""
    if not result.cancelled():
        result.exception()


async def in_daemon_thread(call: Callable[[], T], name: str) -> T:
    """Return the result of a call that may block, or raise its exception.

    Nobody joins its thread: a process stops without waiting for it, as a cancelled caller does.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def settle(found: T | None, error: BaseException | None) -> None:
        if result.done():
            return
        if error is None:
            result.set_result(cast("T", found))
        else:
            # Nothing else may come out of an event loop.
            result.set_exception(error if isinstance(error, Exception) else RuntimeError(type(error).__name__))

    def run() -> None:
        found, raised = None, None
        try:
            found = call()
        except BaseException as error:  # noqa: BLE001 - the boundary around a thread: it is raised in the caller
            raised = error
        # The loop may be closed.
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(settle, found, raised)

    threading.Thread(target=run, name=name, daemon=True).start()
    return await result


class SingleTask:
    """One piece of work at a time beside its owner, for as long as the event loop runs; its failure is logged."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._task: asyncio.Task[None] | None = None

    def start(self, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Begin it, unless the one before still runs."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(work(), name=self._name)
            self._task.add_done_callback(self._ended)

    async def wait(self) -> None:
        """Wait until it has ended, if it runs."""
        if self._task is not None:
            await asyncio.wait({self._task})

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            _log.error("background task failed", task=self._name, exc_info=error)


@asynccontextmanager
async def background_tasks() -> AsyncIterator[BackgroundTasks]:
    """Yield a task group for the length of the block.

    What the block raises comes out as itself; in an ExceptionGroup only when one of the tasks failed too.
    """
    raised: list[Exception] = []
    try:
        async with BackgroundTasks() as tasks:
            try:
                yield tasks
            except Exception as error:
                raised.append(error)
                raise
    except BaseExceptionGroup as group:
        if list(group.exceptions) != raised:
            raise
    if raised:
        raise raised[0]
