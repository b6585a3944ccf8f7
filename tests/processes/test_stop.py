"""What clients that wait for a run see when the server is told to stop."""

from __future__ import annotations

import signal
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import httpx

from tests.processes.conversation import Json, begin_to_continue, confirming, continue_path, create_run
from tests.support.processes import Barrier, ServerProcess


def read_stream(server: ServerProcess, run: Json) -> list[str]:
    """Continue the run; return the lines of the stream, all of them: one that is cut off fails here."""
    with (
        server.client() as client,
        client.stream("POST", continue_path(run), data={"tools": confirming(run)}) as response,
    ):
        assert response.status_code == 200
        return list(response.iter_lines())


def wait_for(server: ServerProcess, run: Json) -> httpx.Response:
    with server.client() as client:
        return client.post(continue_path(run), data={"tools": confirming(run), "stream": "false"})


def test_streams_go_on_for_the_grace_and_end_cleanly_and_waits_get_their_run_or_503(
    tmp_path: Path, database_url: str
) -> None:
    server = ServerProcess(
        # Longer than the machine may stand still while two of the runs come to their end.
        tmp_path,
        *("--shutdown-grace-seconds", "6"),
        environment={"UNPAUSE_DATABASE_URL": database_url},
    )
    with ExitStack() as stack:
        doors = {name: stack.enter_context(Barrier(tmp_path, name)) for name in ("a", "b", "c", "d")}
        threads = stack.enter_context(ThreadPoolExecutor())
        stack.enter_context(server)
        with server.client() as client:
            runs = {name: create_run(client, f"guarded {name}") for name in doors}
        streams = {name: threads.submit(read_stream, server, runs[name]) for name in "ab"}
        waits = {name: threads.submit(wait_for, server, runs[name]) for name in "cd"}
        for door in doors.values():
            door.wait_for_arrival()

        server.send(signal.SIGTERM)
        # It takes no more connections: it refuses them, and resets the one in its queue, of which it read nothing.
        while True:
            try:
                with server.client() as client:
                    begin_to_continue(client, runs["a"], "[]")
            except (httpx.NetworkError, httpx.RemoteProtocolError):
                break
            except AssertionError:
                continue
        doors["a"].let_go()
        doors["c"].let_go()

        ended, cut = streams["a"].result(), streams["b"].result()
        answered, unanswered = waits["c"].result(), waits["d"].result()
        assert server.wait_for_end() == -signal.SIGTERM

    assert "event: RunCompleted" in ended
    assert not [line for line in ended if line.startswith("retry:")]
    assert [line for line in cut if line][-1] == "retry: 1000"
    assert (answered.status_code, answered.json()["status"]) == (200, "COMPLETED")
    assert (unanswered.status_code, unanswered.headers["Retry-After"]) == (503, "1")
    assert unanswered.json()["run_id"] == runs["d"]["run_id"]
    assert "error" not in server.output.lower(), server.output


def test_a_second_ctrl_c_ends_the_server_at_once_and_without_a_traceback(tmp_path: Path) -> None:
    with (
        Barrier(tmp_path, "a") as door,
        ThreadPoolExecutor() as threads,
        ServerProcess(tmp_path, "--shutdown-grace-seconds", "600") as server,
    ):
        with server.client() as client:
            run = create_run(client, "guarded a")
        waiting = threads.submit(wait_for, server, run)
        door.wait_for_arrival()
        server.send(signal.SIGINT)
        while "process stopping" not in server.output:
            time.sleep(0.01)
        assert server.stop(signal.SIGINT) == -signal.SIGINT
        assert isinstance(waiting.exception(), httpx.TransportError)
        assert "Traceback" not in server.output
    # A call that had started is in doubt at the next start.
    assert server.rows("SELECT status FROM runs") == [("PENDING",)]
