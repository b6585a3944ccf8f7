"""Agents whose tools do to their process what the message says, and one that streams beside them."""

from __future__ import annotations

import asyncio
import ctypes
import os
import resource
import signal
import socket
import stat
import sys
import time
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from pydantic_ai import Agent, RunContext, Tool
from pydantic_ai.messages import ModelMessage, ModelRequest, ToolReturnPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, FunctionModel

from unpause import idempotency_key, policy

WORDS = 40

# The event loop of this process, once a model has been asked.
LOOPS: list[asyncio.AbstractEventLoop] = []


def segfault() -> None:
    """Read where nothing is."""
    ctypes.string_at(0)


def abort() -> None:
    """End as a failed assertion of a C library does."""
    os.abort()


def hard_exit() -> None:
    """End without a word."""
    os._exit(3)


def kill_all() -> None:
    """Kill the whole group, as a shell script may."""
    os.killpg(0, signal.SIGKILL)


def close_files() -> None:
    """Close every descriptor of the process."""
    os.closerange(0, 4096)


def garbage() -> None:
    """Write to every socket of the process what is no message."""
    for descriptor in range(3, 256):
        try:
            if stat.S_ISSOCK(os.fstat(descriptor).st_mode):
                socket.socket(fileno=os.dup(descriptor)).send(b"\x00\x00\x00\x05hello" * 100)
        except OSError:
            continue


def _send_frames(*frames: bytes) -> None:
    """Write to the socket that the server handed down, behind the back of what else writes there."""
    link = socket.socket(fileno=os.dup(int(sys.argv[1])))
    link.setblocking(True)  # noqa: FBT003 - the standard library's
    for frame in frames:
        link.sendall(frame)


def _framed(text: bytes) -> bytes:
    return len(text).to_bytes(4, "big") + text


def huge_frame() -> None:
    """Announce a frame of two gigabytes."""
    _send_frames(b"\x7f\xff\xff\xff")


def deep_json() -> None:
    """Send JSON that is nested a hundred thousand times."""
    _send_frames(_framed(b"[" * 100_000))


def ready_twice() -> None:
    """Say again that the agents are loaded."""
    _send_frames(_framed(b'{"op": "ready", "agents": []}'))


def flood() -> None:
    """Send what waits for no write, without end."""
    shown = b'{"op": "show_call", "segment_id": %d, "call_id": "c", "arguments": {}, "sent": {}}'
    for number in range(1, 100):
        _send_frames(*[_framed(shown % number)] * 10_001)


def cancel_all() -> None:
    """Cancel every task of the process, the one that listens to the server among them."""
    loop = LOOPS[0]

    def cancel() -> None:
        for task in asyncio.all_tasks(loop):
            task.cancel()

    loop.call_soon_threadsafe(cancel)
    time.sleep(30)


def out_of_memory() -> None:
    """Allocate until there is no more, and take the end of it for one of the process."""
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
    kept = []
    try:
        while True:
            kept.append(bytearray(64 << 20))
    except MemoryError:
        os.kill(os.getpid(), signal.SIGKILL)


DEADLY = {
    tool.__name__: tool
    for tool in (
        *(segfault, abort, hard_exit, kill_all, close_files, garbage, out_of_memory),
        *(huge_frame, deep_json, ready_twice, flood, cancel_all),
    )
}


def memory_error() -> str:
    """Run out of memory, and survive."""
    return str(len(bytearray(1 << 60)))


def system_exit() -> None:
    """End the program."""
    sys.exit(5)


def fork() -> str:
    """Leave a process behind that holds all that is open."""
    if os.fork() == 0:
        time.sleep(30)
        os._exit(0)
    return "forked"


def fork_without_exit() -> str:
    """Return in two processes."""
    return "forked" if os.fork() == 0 else "parent"


async def fork_loop_without_exit() -> str:
    """Go on in two processes, with one event loop and one socket between them."""
    return fork_without_exit()


def print_much() -> str:
    """Print megabytes."""
    for _ in range(200):
        print("x" * 10_000)  # noqa: T201 - as tools do
    return "printed"


async def block() -> str:
    """Block the event loop until there is a file that says so, which must not be for ever."""
    until = time.monotonic() + 100
    while not os.path.exists("unblocked") and time.monotonic() < until:  # noqa: ASYNC240, PTH110 - as tools do
        time.sleep(0.05)  # noqa: ASYNC251 - the same
    return "blocked"


async def block_for_long() -> str:
    """Block the event loop for longer than anybody waits."""
    time.sleep(60)  # noqa: ASYNC251 - as tools do
    return "blocked"


def look_around() -> str:
    """Return all that can be read here of the server: its environment, memory and files, and this process's own."""
    parent = Path(f"/proc/{os.getppid()}")
    found = [repr(dict(os.environ)), *sys.argv]
    for name in ("environ", "maps", "mem", "fd", "cwd", "exe", "auxv", "stack", "io"):
        try:
            place = parent / name
            found.append(repr(list(place.iterdir())) if place.is_dir() else repr(place.read_bytes()[:100_000]))
        except OSError as error:
            found.append(f"{name}: {type(error).__name__}")
    return "\n".join(found)


def process_id() -> str:
    """Return which process this is."""
    return str(os.getpid())


KEPT: list[bytearray] = []


def leak() -> str:
    """Keep 300 MB for ever."""
    KEPT.append(bytearray(os.urandom(1 << 20)) * 300)
    return "leaked"


def stuck() -> str:
    """Do not give way to a cancellation."""
    time.sleep(30)
    return "late"


def segfault_always() -> None:
    """Be run again after a crash, and crash again."""
    segfault()


def die_once() -> str:
    """Be killed the first time; the next time return which process this is, and how many seconds ago that was."""
    mark = Path("died")
    if not mark.exists():
        mark.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return f"{os.getpid()} {time.time() - mark.stat().st_mtime}"


def pay(ctx: RunContext[None]) -> str:
    """Write the key of the payment down, and be killed the first time; return the keys."""
    keys = Path("keys")
    is_first = not keys.exists()
    with keys.open("a") as file:
        file.write(f"{idempotency_key(ctx)}\n")
    if is_first:
        os.kill(os.getpid(), signal.SIGKILL)
    return keys.read_text()


HARMLESS = {
    tool.__name__: tool
    for tool in (
        memory_error,
        system_exit,
        fork,
        fork_without_exit,
        fork_loop_without_exit,
        print_much,
        block,
        block_for_long,
        look_around,
        process_id,
        leak,
        stuck,
    )
}


async def call_what_is_named(messages: list[ModelMessage], _: AgentInfo) -> AsyncIterator[str | dict[int, Any]]:
    """Call the tool that the message names; then say what it gave back."""
    LOOPS[:] = [asyncio.get_running_loop()]
    last = messages[-1]
    assert isinstance(last, ModelRequest)
    answers = [part for part in last.parts if part.part_kind in {"tool-return", "retry-prompt"}]
    if answers:
        first = answers[0]
        yield str(first.content) if isinstance(first, ToolReturnPart) else f"failed: {first.content}"
    else:
        prompt = next(str(part.content) for part in messages[0].parts if part.part_kind == "user-prompt")
        yield {0: DeltaToolCall(prompt, "{}", tool_call_id=f"call-{time.monotonic_ns()}")}


async def speak_slowly(_: list[ModelMessage], __: AgentInfo) -> AsyncIterator[str]:
    """Say sixty words within three seconds."""
    for number in range(WORDS):
        await asyncio.sleep(0.05)
        yield f"{number} "


hostile = Agent(
    FunctionModel(stream_function=call_what_is_named),
    name="hostile",
    tools=[
        *DEADLY.values(),
        *HARMLESS.values(),
        pay,
        *(Tool(tool, metadata=policy(idempotent=True)) for tool in (segfault_always, die_once)),
    ],
)
steady = Agent(FunctionModel(stream_function=speak_slowly), name="steady")
