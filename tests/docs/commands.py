"""The command `unpause` for the scripts of documents: it loads in no time, as the tests' own commands do.

A script starts a small program of that name. That sends its arguments, folder, environment and standard files to the
tests' process, which has the command forked from one that has loaded everything (`tests/support/preloaded.py`), and it
stands for the command from then on: passes signals on to it, and ends as it does.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from typing import Final

from tests.support.preloaded import REQUEST_BYTES, start_command

_PROGRAM: Final = """#!{python} -SEsI
import json, os, signal, socket, sys

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
# Those that come before there is a process to pass them on to wait.
signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, {size})
connection.connect({address!r})
request = json.dumps([sys.argv[1:], os.getcwd(), dict(os.environ)]).encode()
socket.send_fds(connection, [request], [0, 1, 2])
pid = int.from_bytes(connection.recv(4), "big")
for number in SIGNALS:
    signal.signal(number, lambda number, _: os.kill(pid, number))
signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
code = os.waitstatus_to_exitcode(int.from_bytes(connection.recv(4), "big"))
os._exit(code if code >= 0 else 128 - code)
"""


@contextmanager
def preloaded_unpause(folder: Path) -> Iterator[Path]:
    """Yield a folder with the program `unpause`, for the length of the block; make it in ``folder``."""
    address, programs = folder / "commands", folder / "programs"
    programs.mkdir()
    program = programs / "unpause"
    program.write_text(_PROGRAM.format(python=sys.executable, size=REQUEST_BYTES, address=str(address)))
    program.chmod(0o755)
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listening:
        listening.bind(str(address))
        listening.listen()
        serving = threading.Thread(target=_serve, args=(listening,))
        serving.start()
        try:
            yield programs
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            serving.join()


def _serve(listening: socket.socket) -> None:
    """Start a command for each program that connects, until the socket is shut down."""
    attending: list[threading.Thread] = []
    with suppress(OSError):
        while True:
            connection, _ = listening.accept()
            attending.append(threading.Thread(target=_attend, args=(connection,)))
            attending[-1].start()
    for each in attending:
        each.join()


def _attend(connection: socket.socket) -> None:
    """Start the command of a program and tell it the process id and how it ended; kill it if the program dies first."""
    with connection:
        request, files, _, _ = socket.recv_fds(connection, REQUEST_BYTES, 3)
        if not request:
            return
        report = start_command(request, (files[0], files[1], files[2]))
        for file in files:
            os.close(file)
        pid = os.read(report, 4)
        with suppress(OSError):
            connection.send(pid)
        # The program says no more: what is there to be read is its end.
        if report not in select([report, connection.fileno()], [], [])[0]:
            with suppress(ProcessLookupError):
                os.kill(int.from_bytes(pid, "big"), signal.SIGKILL)
        status = os.read(report, 4)
        os.close(report)
        with suppress(OSError):
            connection.send(status)
