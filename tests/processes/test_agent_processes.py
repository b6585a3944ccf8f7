"""What authors' code does to its process: only its own run notices, or, where the process dies, what ran there."""

from __future__ import annotations

import json
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median, quantiles
from typing import Any, Self

import httpx
import pytest

from tests.contract.replaying import read_events
from tests.processes.hostile_agents import DEADLY, WORDS
from tests.support.agent_processes import agent_processes_of, children_of
from tests.support.full import IS_FULL
from tests.support.processes import DEADLINE, ServerProcess, unpause

AGENTS = Path(__file__).parent / "hostile_agents.py"
KEY = "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI="
PROCESSES = 2
# A process that ends, and one that goes on but is no use any more.
EVERY_TIME = ("segfault", "garbage")
OWN = "a-secret-of-the-server-with-many-letters"


ENVIRONMENT = {
    "UNPAUSE_ENCRYPTION_KEY": KEY,
    "UNPAUSE_JWT_KEY": OWN,
    "UNPAUSE_JWT_ALGORITHM": "HS256",
    "DATABASE_PASSWORD": OWN,
    "OPENAI_API_KEY": "sk-for-the-provider",
    "MY_SERVICE": "for tools",
}
OPTIONS = ("--agents", AGENTS, "--agent-env", "MY_SERVICE", "--agent-cancel-seconds", "1", "--max-crashes", "2")
# As outside the tests, where the server itself starts its agent processes (see `preloaded.py`).
EXECUTING = {"TEST_EXECUTES_AGENTS": "1"}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("hostile")
    with ServerProcess(folder, "--agent-processes", str(PROCESSES), *OPTIONS, environment=ENVIRONMENT) as process:
        yield process


def start(client: httpx.Client, agent: str, message: str, **form: str) -> dict[str, Any]:
    response = client.post(f"/agents/{agent}/runs", data={"message": message, "stream": "false", **form})
    assert response.status_code in {200, 202}, response.text
    found = response.json()
    assert isinstance(found, dict)
    return found


def processes_of(server: ServerProcess) -> set[int]:
    """Return the ids of the agent processes of the server."""
    return agent_processes_of(server.pid)


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + DEADLINE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def wait_until_all_are_ready(server: ServerProcess) -> None:
    """Wait until each process that died is replaced, and no other one is on its way."""
    wait_until(
        lambda: (
            server.output.count("agent process started") >= server.output.count("agent process died")
            and len(processes_of(server)) == PROCESSES
        )
    )


class Bystander(threading.Thread):
    """Follows a run that speaks for two seconds; whatever happens beside it, it misses nothing."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self._server = server
        self.text = ""
        self.has_begun = threading.Event()

    def run(self) -> None:
        with (
            self._server.client() as client,
            client.stream("POST", "/agents/steady/runs", data={"message": "go"}) as response,
        ):
            for part in response.iter_text():
                self.has_begun.set()
                self.text += part

    def assert_complete(self) -> None:
        """Assert that all words came, with numbers without a gap, and that the log has the same bytes."""
        self.join(DEADLINE)
        events = read_events(self.text)
        said = "".join(event["content"] for event in events if event["event"] == "RunContent")
        assert said == "".join(f"{number} " for number in range(WORDS))
        with self._server.client() as client:
            replayed = client.get(f"/agents/steady/runs/{events[0]['run_id']}/events").text
        assert _frames(replayed) == _frames(self.text)


def _frames(text: str) -> list[str]:
    """Return the frames of a stream without the comments that keep it open."""
    return [frame for frame in text.split("\n\n") if not frame.startswith(":")]


class HealthChecks(threading.Thread):
    """Asks for ``/health`` again and again during a block."""

    def __init__(self, server: ServerProcess) -> None:
        super().__init__()
        self._server = server
        self._is_over = threading.Event()
        self.seconds: list[float] = []

    def run(self) -> None:
        with self._server.client() as client:
            while not self._is_over.wait(0.02):
                began = time.monotonic()
                client.get("/health").raise_for_status()
                self.seconds.append(time.monotonic() - began)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._is_over.set()
        self.join(DEADLINE)


@pytest.mark.parametrize(
    "tool", [*EVERY_TIME, *(pytest.param(tool, marks=pytest.mark.full) for tool in DEADLY if tool not in EVERY_TIME)]
)
def test_the_death_of_a_process_puts_its_call_in_doubt_and_others_go_on(server: ServerProcess, tool: str) -> None:
    wait_until_all_are_ready(server)
    bystander = Bystander(server)
    bystander.start()
    assert bystander.has_begun.wait(DEADLINE)
    with server.client() as client:
        began = time.monotonic()
        run = start(client, "hostile", tool)

        assert run["status"] == "PAUSED", run
        (open_call,) = run["requirements"]
        assert open_call["tool_execution"]["tool_name"] == tool
        assert time.monotonic() - began < DEADLINE
        assert client.get("/health").status_code == 200
        # The next run goes to a process that lives.
        assert start(client, "hostile", "process_id")["status"] == "COMPLETED"
    bystander.assert_complete()


def test_a_call_that_a_human_has_run_again_gives_its_service_the_same_key(server: ServerProcess) -> None:
    wait_until_all_are_ready(server)
    with server.client() as client:
        run = start(client, "hostile", "pay")
        (tool,) = run["tools"]
        answer = {"tools": json.dumps([{**tool, "confirmed": True}]), "stream": "false"}
        done = client.post(f"/agents/hostile/runs/{run['run_id']}/continue", data=answer).json()

    assert done["content"].split() == [f"{run['run_id']}:{run['messages'][-1]['tool_calls'][0]['id']}"] * 2


@pytest.mark.parametrize(
    ("tool", "result"),
    [("memory_error", "MemoryError"), ("system_exit", "SystemExit: 5"), ("print_much", "printed"), ("fork", "forked")],
)
def test_what_a_process_survives_is_the_result_of_its_call(server: ServerProcess, tool: str, result: str) -> None:
    wait_until_all_are_ready(server)
    with server.client() as client:
        before = processes_of(server)
        run = start(client, "hostile", tool)

        assert run["status"] == "COMPLETED", run
        assert result in run["content"]
        assert processes_of(server) == before
        if tool == "fork":
            # What is left behind holds the socket open; the death of its parent is noticed all the same.
            assert start(client, "hostile", "segfault")["status"] == "PAUSED"


@pytest.mark.parametrize("tool", ["fork_without_exit", "fork_loop_without_exit"])
def test_a_process_that_a_tool_forks_and_forgets_takes_no_part_in_its_run(server: ServerProcess, tool: str) -> None:
    wait_until_all_are_ready(server)
    with server.client() as client:
        before = processes_of(server)
        for _ in range(2 * PROCESSES):
            run = start(client, "hostile", tool)
            assert (run["status"], run["content"]) == ("COMPLETED", "parent"), run
        wait_until(lambda: not any(children_of(process) for process in before))
        assert processes_of(server) == before


def test_a_blocked_loop_holds_up_nobody_else_and_its_stack_is_logged(server: ServerProcess) -> None:
    with server.client() as client, HealthChecks(server) as health:
        blocked = start(client, "hostile", "block", background="true")
        wait_until(lambda: "agent process blocked" in server.output)
        bystander = Bystander(server)
        bystander.start()
        bystander.assert_complete()
        answered = len(health.seconds)
        wait_until(lambda: len(health.seconds) > answered + (400 if IS_FULL else 20))
        # All of that while it blocks: it goes on only now.
        (server.folder / "unblocked").touch()
        wait_until(lambda: client.get(f"/agents/hostile/runs/{blocked['run_id']}").json()["status"] == "COMPLETED")
    percentile = quantiles(health.seconds, n=100)[98]
    longest = max(health.seconds)
    print(f"/health beside a blocked loop: {percentile:.3f} s (p99), {longest:.3f} s (longest)")  # noqa: T201 - a measurement
    assert percentile < 0.05 or not IS_FULL
    assert 'hostile_agents.py", line' in server.output


def test_a_tool_reads_no_secret_of_the_server(tmp_path: Path) -> None:
    environment = {**ENVIRONMENT, **EXECUTING}
    with (
        ServerProcess(tmp_path, "--agent-processes", "1", *OPTIONS, environment=environment) as server,
        server.client() as client,
    ):
        seen = start(client, "hostile", "look_around")["content"]

    assert "sk-for-the-provider" in seen
    assert "for tools" in seen
    for secret in (KEY, OWN, "UNPAUSE_", "unpause.db"):
        assert secret not in seen
    for name in ("environ", "maps", "mem"):
        assert f"{name}: PermissionError" in seen, seen


def test_a_cancelled_tool_that_does_not_give_way_loses_its_process(server: ServerProcess) -> None:
    with server.client() as client:
        wait_until_all_are_ready(server)
        before = processes_of(server)
        run = start(client, "hostile", "stuck", background="true")
        while not client.get(f"/agents/hostile/runs/{run['run_id']}").json().get("tools"):
            time.sleep(0.05)
        began = time.monotonic()
        assert client.post(f"/agents/hostile/runs/{run['run_id']}/cancel").status_code == 200

        assert client.get(f"/agents/hostile/runs/{run['run_id']}").json()["status"] == "CANCELLED"
        assert time.monotonic() - began < DEADLINE / 4, "the answer waited for the tool"
        wait_until(lambda: not before <= processes_of(server))
        assert start(client, "hostile", "process_id")["status"] == "COMPLETED"


def test_a_hangup_loads_the_agents_anew_while_runs_go_on(server: ServerProcess) -> None:
    wait_until_all_are_ready(server)
    bystander = Bystander(server)
    bystander.start()
    assert bystander.has_begun.wait(DEADLINE)
    before = processes_of(server)
    server.send(signal.SIGHUP)
    wait_until(lambda: not before & processes_of(server))
    after = processes_of(server)
    assert len(after) == PROCESSES
    assert not after & before
    bystander.assert_complete()


REPLACED = (
    ("process_id", 3, "COMPLETED", "it has run its segments"),
    ("leak", 1, "COMPLETED", "it holds too much memory"),
    ("block_for_long", 1, "PAUSED", "agent process killed: its event loop is blocked"),
)


def test_a_process_is_replaced_when_it_is_full_or_blocked(tmp_path: Path) -> None:
    done = REPLACED if IS_FULL else REPLACED[:1]
    options = ["--agent-max-segments", "3", "--agent-max-bytes", str(250 << 20)]
    # Where no tool blocks, only a machine that stands still would be what is over that time.
    options += ["--agent-unresponsive-seconds", "4"] if IS_FULL else []
    with (
        ServerProcess(tmp_path, "--agent-processes", "1", "--agents", AGENTS, *options) as server,
        server.client() as client,
    ):
        for tool, segments, status, _ in done:
            before = processes_of(server)
            for _ in range(segments):
                assert start(client, "hostile", tool)["status"] == status
            wait_until(lambda before=before: not before <= processes_of(server))  # type: ignore[misc]
    assert [server.output.count(reason) for *_, reason in done] == [1] * len(done)


@pytest.mark.parametrize("processes", [1, pytest.param(2, marks=pytest.mark.full)])
def test_a_dead_processes_run_goes_on_at_once_in_one_that_has_its_agents_loaded(tmp_path: Path, processes: int) -> None:
    took = []
    with (
        ServerProcess(tmp_path, "--agent-processes", str(processes), "--agents", AGENTS) as server,
        server.client() as client,
    ):
        for died in range(3 if IS_FULL else 1):
            # With one process another one stands by.
            wait_until(lambda died=died: server.output.count("agent process started") == died + 2 - processes)  # type: ignore[misc]
            before = processes_of(server)
            run = start(client, "hostile", "die_once")

            assert run["status"] == "COMPLETED", run
            pid, seconds = run["content"].split()
            assert int(pid) in before
            took.append(float(seconds))
            (tmp_path / "died").unlink()
    # A process that has to be started first takes longer, and a loaded machine with any.
    assert median(took) < 3 or not IS_FULL


def test_no_agent_process_outlives_its_server(tmp_path: Path) -> None:
    options = ("--agent-processes", "1", "--agents", AGENTS)
    with ServerProcess(tmp_path, *options, environment=EXECUTING) as server:
        children = processes_of(server)
        assert len(children) == 1
        server.kill()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def test_a_run_that_kills_every_process_ends_as_error(server: ServerProcess) -> None:
    wait_until_all_are_ready(server)
    with server.client() as client:
        run = start(client, "hostile", "segfault_always")

        assert run["status"] == "ERROR"
        assert "died 2 times" in run["content"]


def test_an_agent_that_does_not_load_is_refused_at_the_start(tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("raise ValueError('not today')\n", encoding="utf-8")
    ended = unpause("serve", "--agent-processes", "1", "--agents", broken, "--port", "0", folder=tmp_path)

    assert (ended.returncode, ended.stdout) == (2, "")
    assert "broken.py failed to load: ValueError: not today" in ended.stderr
    assert ended.stderr.count("\n") == 1
    assert not (tmp_path / "unpause.db").exists()


def test_a_variable_that_agents_miss_is_named_with_the_option_that_passes_it(tmp_path: Path) -> None:
    (tmp_path / "shop.py").write_text("import os\n\nKEY = os.environ['SHOP_KEY']\n", encoding="utf-8")
    options = ("--agent-processes", "1", "--agents", "shop.py", "--port", "0")
    ended = unpause("serve", *options, folder=tmp_path, SHOP_KEY="a-secret-of-the-shop")

    assert ended.returncode == 2
    assert "KeyError: 'SHOP_KEY'" in ended.stderr
    assert "--agent-env SHOP_KEY" in ended.stderr
    assert "a-secret-of-the-shop" not in ended.stderr
