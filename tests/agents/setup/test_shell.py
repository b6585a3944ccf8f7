"""Commands run for real: their limits, their environment, and what is left of them afterwards."""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from unpause.agents.setup.shell import CommandEnd, CommandRules, clean_environment, find_programs, run_command

DEADLINE = 30.0
RULES = CommandRules(DEADLINE, 10_000, {"PATH": os.defpath, "HOME": "/nowhere", "LANG": "C.UTF-8"})


async def run(command: str, folder: Path, *, seconds: float = DEADLINE, kept: int = 10_000) -> CommandEnd:
    return await run_command(command, folder, CommandRules(seconds, kept, RULES.environment))


def is_alive(process: int) -> bool:
    """Whether the process runs; one that nobody has buried yet does not."""
    try:
        stat = Path(f"/proc/{process}/stat").read_text(encoding="ascii")
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] not in {"Z", "X"}


async def until(reached: Callable[[], bool]) -> None:
    end = time.monotonic() + DEADLINE
    while not reached():
        assert time.monotonic() < end, "it did not happen in time"
        await asyncio.sleep(0.01)


async def test_a_command_that_succeeds_says_what_it_wrote_to_both_outputs(tmp_path: Path) -> None:
    end = await run("echo out; echo err >&2", tmp_path)
    assert (end.exit_code, end.output, end.cut) == (0, "out\nerr\n", False)
    assert 0 < end.seconds < DEADLINE


async def test_a_command_runs_in_the_folder(tmp_path: Path) -> None:
    assert (await run("pwd", tmp_path)).output == f"{tmp_path}\n"


@pytest.mark.parametrize(("command", "code"), [("exit 3", 3), ("no-such-program", 127), ("false\nfalse", 1)])
async def test_an_exit_code_is_told(tmp_path: Path, command: str, code: int) -> None:
    assert (await run(command, tmp_path)).exit_code == code


async def test_a_command_ended_by_a_signal_has_failed(tmp_path: Path) -> None:
    assert (await run("kill -SEGV $$", tmp_path)).exit_code == -11


async def test_a_command_sees_its_own_environment_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CANARY", "tweet-tweet")
    rules = CommandRules(DEADLINE, 10_000, clean_environment("/usr/bin:/bin", tmp_path))
    end = await run_command("env", tmp_path, rules)
    seen = dict(line.split("=", 1) for line in end.output.splitlines())
    # A shell sets the last two itself.
    assert {name: seen[name] for name in seen if name not in {"PWD", "OLDPWD", "SHLVL", "_"}} == {
        "PATH": "/usr/bin:/bin",
        "HOME": str(tmp_path),
        "LANG": "C.UTF-8",
    }


async def test_a_command_that_reads_is_told_that_there_is_nothing(tmp_path: Path) -> None:
    assert (await run("cat; echo read", tmp_path)).output == "read\n"


async def test_a_command_inherits_nothing_but_its_three_streams(tmp_path: Path) -> None:
    # `ls` itself has the folder open, as the fourth.
    assert (await run("ls /proc/self/fd", tmp_path)).output.split() == ["0", "1", "2", "3"]


async def test_a_command_has_no_child_that_it_did_not_start(tmp_path: Path) -> None:
    script = "import os\ntry:\n os.wait()\nexcept ChildProcessError:\n print('alone')"
    (tmp_path / "children.py").write_text(script, encoding="utf-8")
    assert (await run(f"exec {sys.executable} children.py", tmp_path)).output == "alone\n"


async def test_of_a_runaway_output_only_the_end_is_kept(tmp_path: Path) -> None:
    end = await run("yes | head -c 50000000; echo; echo the end", tmp_path, kept=2_000)
    assert end.exit_code == 0
    assert end.cut
    assert len(end.output) == 2_000
    assert end.output.endswith("y\ny\n\nthe end\n")


async def test_output_is_never_held_in_memory_as_a_whole(tmp_path: Path) -> None:
    before = _peak_kilobytes()
    await run("head -c 300000000 /dev/zero", tmp_path, kept=2_000)
    assert _peak_kilobytes() - before < 50_000


def _peak_kilobytes() -> int:
    status = Path("/proc/self/status").read_text(encoding="ascii")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))


async def test_output_that_is_no_text_is_marked(tmp_path: Path) -> None:
    end = await run(r"printf 'a\377\000b'", tmp_path)
    assert end.output == "a\ufffd\ufffdb"


async def test_at_the_time_limit_the_shell_and_all_its_children_end(tmp_path: Path) -> None:
    end, seconds = CommandEnd(None, 0.0, ""), 0.25
    # The time limit counts from the start of a process, which takes a busy machine seconds.
    while not end.output and seconds < DEADLINE:
        seconds *= 2
        end = await run("sleep 1000 & echo $! > child; echo begun; sleep 1000", tmp_path, seconds=seconds)
        assert end.exit_code is None
    assert end.output == "begun\n"
    child = int((tmp_path / "child").read_text(encoding="ascii"))
    await until(lambda: not is_alive(child))


async def test_a_command_that_ignores_requests_to_end_ends_at_the_time_limit(tmp_path: Path) -> None:
    end = await run("trap '' TERM INT HUP; while :; do sleep 0.1; done", tmp_path, seconds=0.5)
    assert end.exit_code is None


async def test_what_a_command_leaves_in_the_background_ends_with_it(tmp_path: Path) -> None:
    end = await run("sleep 1000 & echo $! > child", tmp_path)
    assert end.exit_code == 0
    assert end.seconds < DEADLINE / 2
    child = int((tmp_path / "child").read_text(encoding="ascii"))
    await until(lambda: not is_alive(child))


async def test_a_daemon_that_keeps_the_output_open_does_not_hold_the_command_up(tmp_path: Path) -> None:
    end = await run("setsid sleep 1000 & echo $! > child; sleep 0.2; echo done", tmp_path)
    assert (end.exit_code, end.output) == (0, "done\n")
    assert end.seconds < DEADLINE / 2
    with suppress(ProcessLookupError):
        os.kill(int((tmp_path / "child").read_text(encoding="ascii")), 9)


async def test_a_cancelled_command_ends_with_all_its_children(tmp_path: Path) -> None:
    task = asyncio.create_task(run("sleep 1000 & echo $! > child.new; mv child.new child; sleep 1000", tmp_path))
    await until((tmp_path / "child").exists)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    child = int((tmp_path / "child").read_text(encoding="ascii"))
    await until(lambda: not is_alive(child))


async def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    await run("true", tmp_path)
    before = _open_descriptors()
    for _ in range(5):
        await run("echo once", tmp_path)
        await run("sleep 1000", tmp_path, seconds=0.05)
    # Fewer where what an earlier test had open was collected meanwhile.
    await until(lambda: _open_descriptors() <= before)


def _open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_a_command_that_cannot_be_started_has_failed(tmp_path: Path) -> None:
    end = await run("true", tmp_path / "gone")
    assert end.exit_code == 126
    assert "could not be started" in end.output


async def test_many_commands_run_at_the_same_time_without_mixing(tmp_path: Path) -> None:
    ends = await asyncio.gather(*(run(f"echo {number}", tmp_path) for number in range(10)))
    assert [end.output for end in ends] == [f"{number}\n" for number in range(10)]


def test_programs_are_not_looked_for_in_the_servers_own_virtual_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    own, other = tmp_path / "bin", tmp_path.parent / "other"
    assert find_programs({"PATH": f"{own}:/usr/bin:{other}"}) == f"/usr/bin:{other}"
    assert find_programs({"PATH": str(own)}) == os.defpath


def test_without_a_virtual_environment_the_path_is_the_servers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    assert find_programs({"PATH": "/opt/bin:/usr/bin"}) == "/opt/bin:/usr/bin"
    assert find_programs({}) == os.defpath
