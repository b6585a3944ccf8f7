"""Connections that do not wait for ever: a client that does not finish a request, or take its answer, is cut off."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, ClassVar

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

if TYPE_CHECKING:
    from asyncio import TimerHandle, Transport

# Far more than any head has, or what stands around a chunk of a body. It is counted in pieces as they came, and what
# came in one piece with a head may be the body already.
_MOST_UNREAD_BYTES = 512 * 1024


class PatientProtocol(HttpToolsProtocol):
    """uvicorn's protocol; ``seconds`` is how long a head may take to arrive, or what is left when it was answered."""

    seconds: ClassVar[float] = 60.0
    _waiting: TimerHandle | None = None
    _ending: TimerHandle | None = None
    _unread_bytes = 0
    _is_in_head = False

    def connection_made(self, transport: Transport) -> None:  # type: ignore[override]  # as uvicorn has it
        """Do as uvicorn does, and mind the time."""
        super().connection_made(transport)
        self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Do as uvicorn does, and mind the time."""
        self._stop_waiting()
        if self._ending is not None:
            self._ending.cancel()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Do as uvicorn does, and mind the time and how much comes that is no body."""
        self._unread_bytes += len(data)
        if self._unread_bytes > _MOST_UNREAD_BYTES:
            self._give_up()
            return
        super().data_received(data)
        # What comes after the answer ends uvicorn's own waiting, be it the rest of a body or just a line's end.
        is_answered = self.cycle is None or self.cycle.response_complete
        if is_answered and self._waiting is None and self.timeout_keep_alive_task is None:
            self._wait()

    def on_message_begin(self) -> None:
        """Do as uvicorn does, and mind the time."""
        super().on_message_begin()
        self._unread_bytes = 0
        self._is_in_head = True
        self._wait()

    def on_header(self, name: bytes, value: bytes) -> None:
        """Do as uvicorn does, but take no fields after a body: nobody reads them, and others were checked."""
        if self._is_in_head:
            super().on_header(name, value)

    def on_headers_complete(self) -> None:
        """Do as uvicorn does, and mind the time."""
        self._is_in_head = False
        self._stop_waiting()
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """Do as uvicorn does; how long a body may be is not known here."""
        self._unread_bytes = 0
        super().on_body(body)

    def on_response_complete(self) -> None:
        """Do as uvicorn does, and do not wait for ever for a client that does not take its answer."""
        super().on_response_complete()
        if self.transport.is_closing() and self._ending is None:
            self._end_soon()

    def timeout_keep_alive_handler(self) -> None:
        """Do as uvicorn does, and do not wait for ever either."""
        self._give_up()

    def _wait(self) -> None:
        self._stop_waiting()
        self._waiting = self.loop.call_later(self.seconds, self._give_up)

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            self._waiting.cancel()
            self._waiting = None

    def _give_up(self) -> None:
        self._stop_waiting()
        if self.transport.is_closing():
            return
        self.transport.close()
        self._end_soon()

    def _end_soon(self) -> None:
        """Let what was answered be sent as long as the client takes some of it."""
        self._ending = self.loop.call_later(self.seconds, self._end, self.transport.get_write_buffer_size())

    def _end(self, left_bytes: int) -> None:
        if self.transport.get_write_buffer_size() < left_bytes:
            self._end_soon()
        else:
            self.transport.abort()


def patient_protocol(seconds: float) -> type[asyncio.Protocol]:
    """Return uvicorn's protocol with a limit to how long, and how large, the head of a request may be.

    uvicorn itself only looks at connections between two requests. Bodies that somebody reads are limited by
    ``api.limits.BodyLimit``.
    """
    return type("PatientProtocol", (PatientProtocol,), {"seconds": seconds})
