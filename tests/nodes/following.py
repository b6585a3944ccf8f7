"""Clients that follow a run to its end, wherever a node answers, and keep all that they were sent."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Final

import httpx

from tests.processes.conversation import Frame, Json, read_frames
from tests.support.processes import DEADLINE, TRUSTS_NOBODY

_ENDS: Final = frozenset({"RunCompleted", "RunPaused", "RunError", "RunCancelled"})
_AGAIN_SECONDS: Final = 0.2


class Following:
    """One client's thread: it connects to one of the addresses after the other until it has seen the segment's end."""

    def __init__(self, addresses: Callable[[], list[str]], run: Json, after: int = 0, *, first: int = 0) -> None:
        self._addresses = addresses
        self._path = f"/agents/{run['agent_id']}/runs/{run['run_id']}/events"
        self._turn = first
        self.last = after
        self.frames: list[Frame] = []
        # How often it had to connect again, and the `retry:` lines it was sent.
        self.broken = 0
        self.retries: list[str] = []
        self.has_begun = threading.Event()
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._follow, daemon=True)
        self._thread.start()

    @property
    def numbers(self) -> list[int]:
        """The numbers of the events, in the order in which they came."""
        return [int(frame.id) for frame in self.frames]

    def wait(self, seconds: float = DEADLINE) -> list[Frame]:
        """Return the frames once the end was seen."""
        self._thread.join(seconds)
        if self._thread.is_alive():
            self._is_over.set()
            message = f"the stream of {self._path} did not end; it came to {self.last}"
            raise AssertionError(message)
        return self.frames

    def _follow(self) -> None:
        while not self._is_over.is_set():
            addresses = self._addresses()
            if addresses:
                try:
                    if self._read_from(addresses[self._turn % len(addresses)]):
                        return
                except httpx.HTTPError:
                    pass
                self.broken += 1
                self._turn += 1
            time.sleep(_AGAIN_SECONDS)

    def _read_from(self, address: str) -> bool:
        headers = {"Last-Event-ID": str(self.last)}
        with (
            httpx.Client(base_url=address, timeout=DEADLINE, trust_env=False, verify=TRUSTS_NOBODY) as client,
            client.stream("GET", self._path, headers=headers) as response,
        ):
            if response.status_code != 200:
                return False
            self.has_begun.set()
            for frame in self._frames(response.iter_lines()):
                self.frames.append(frame)
                self.last = int(frame.id)
                if frame.event in _ENDS:
                    return True
        return False

    def _frames(self, lines: Iterator[str]) -> Iterator[Frame]:
        """Yield the events, and keep the lines that say when to connect again."""
        fields: dict[str, str] = {}
        for line in lines:
            if line and not line.startswith(":"):
                name, _, value = line.partition(": ")
                fields[name] = value
            elif fields:
                if "retry" in fields:
                    self.retries.append(fields["retry"])
                else:
                    yield Frame(fields["event"], fields["id"], {})
                fields = {}


def stored_numbers(client: httpx.Client, run: Json) -> list[int]:
    """Return the numbers of all events of a settled run that the API shows, from the log."""
    response = client.get(f"/agents/{run['agent_id']}/runs/{run['run_id']}/events")
    assert response.status_code == 200, response.text
    return [int(frame.id) for frame in read_frames(iter(response.text.splitlines()))]
