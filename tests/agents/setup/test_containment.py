"""What a command cannot get at: whoever chooses commands is not given what the server has."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

CANARY = "canary-of-the-server"
NOBODY = pwd.getpwnam("nobody")

# A server in small: it has a secret in its environment, one in its memory, a file open and a database of its own.
PARENT = """
import asyncio, os, sys
from pathlib import Path
from unpause.agents.setup.shell import CommandRules, CommandUser, run_command
from unpause.agents.process.environment import protect_memory

folder, user, command = Path(sys.argv[1]), sys.argv[2], sys.argv[3].replace("PARENT", str(os.getpid()))
kept = os.environ["SECRET_KEY"] + " in memory"
held = open(folder / "unpause.db")
os.set_inheritable(held.fileno(), True)
protect_memory()
other = CommandUser(*map(int, user.split(":"))) if user else None
rules = CommandRules(30.0, 100_000, {"PATH": os.defpath, "HOME": "/nowhere", "LANG": "C.UTF-8"}, other)
end = asyncio.run(run_command(command, folder / "1", rules))
print(end.output)
"""


@pytest.fixture
def folder() -> Iterator[Path]:
    # Others may go through it, as through a server's folder; through pytest's they may not.
    with TemporaryDirectory(dir="/var/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "1").mkdir()
        (folder / "unpause.db").write_text(f"{CANARY} in the database", encoding="utf-8")
        (folder / "unpause.db").chmod(0o600)
        yield folder


def output_of(folder: Path, command: str, user: str = "", through: Sequence[str] = ()) -> str:
    """Return what the command writes that the small server, started ``through`` a program, runs as this user."""
    done = subprocess.run(
        [*through, sys.executable, "-c", PARENT, folder, user, command],
        env={**os.environ, "SECRET_KEY": CANARY, "PYTHONPATH": os.pathsep.join(sys.path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# All that a shell can read of other processes, and of what stands next door.
LOOK_AROUND = """
echo begin
env
for name in environ maps auxv; do cat /proc/*/$name /proc/PARENT/$name; done | tr '\\0' '\\n' | grep -a canary-of
ls -l /proc/PARENT/fd/ /proc/PARENT/cwd/ /proc/$$/fd/
cat /proc/PARENT/fd/* /proc/self/fd/[3-9] /proc/$PPID/environ
dd if=/proc/PARENT/mem bs=1 count=1 skip=4194304
grep NoNewPrivs /proc/self/status
ulimit -c
echo end
"""
OTHER = "cat ../unpause.db; id -u; id -G; sudo -n id"


@pytest.mark.skipif(sys.platform != "linux", reason="what is taken from commands is taken by Linux")
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run commands as another user")
def test_a_command_of_another_user_reads_nothing_of_the_servers(folder: Path) -> None:
    output = output_of(
        folder, f"{LOOK_AROUND}\ncat ../unpause.db\nid -u; id -G; sudo -n id", f"{NOBODY[2]}:{NOBODY[3]}"
    )
    assert output.startswith("begin\n")
    assert CANARY not in output
    assert "NoNewPrivs:\t1" in output
    assert "end\n" in output
    assert f"\n{NOBODY.pw_uid}\n{NOBODY.pw_gid}\n" in output
    assert "uid=0" not in output


@pytest.mark.skipif(sys.platform != "linux", reason="what is taken from commands is taken by Linux")
def test_a_command_of_the_same_user_reads_neither_memory_nor_environment_nor_open_files(folder: Path) -> None:
    # Root without its powers is a user like others.
    through = ["setpriv", "--bounding-set=-all", "--inh-caps=-all"] if os.geteuid() == 0 else []
    if through and shutil.which(through[0]) is None:
        pytest.skip("root cannot put its powers away here")
    output = output_of(folder, LOOK_AROUND, through=through)
    assert output.startswith("begin\n"), output
    assert CANARY not in output
    assert "NoNewPrivs:\t1" in output
    assert "end\n" in output
