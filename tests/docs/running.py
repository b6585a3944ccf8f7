"""Executes the blocks of a document in their order, in an empty folder, as its reader would.

`sh` blocks are commands that succeed. `console` blocks have commands after `$ ` and what they print; `…` stands for any
text. A block whose first line is a comment with a file's name becomes that file. Other `python` and `javascript` blocks
are programs that succeed. A comment before the fence, `<!-- not run: REASON -->`, leaves a block out.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from tests.docs.pages import Block, Page
from tests.support.client_environments import ROOT
from tests.support.ports import free_port
from tests.support.processes import clean_environment

# Languages of blocks that are shown, or written to a file, and not executed.
SHOWN: Final = frozenset({"", "text", "json", "yaml", "ini", "dockerfile", "html", "sql", "diff"})
_PROGRAMS: Final = {"python": "python", "javascript": "node"}
_MARK: Final = "\x1e"
_END: Final = "\\037"
_PORT: Final = re.compile(r"\b777[789]\b")
_DEADLINE: Final = 280.0


def run_page(page: Page, folder: Path, replaced: Mapping[str, str], *programs: Path) -> None:
    """Execute the page's blocks in `folder`; raise AssertionError at the first that is not as the page says.

    The page's ports become free ones; `replaced` has other texts that mean something else here, such as a database. The
    commands are those of the folders `programs`, or else of this environment.
    """
    blocks = [block for block in page.blocks if block.not_run is None]
    ports = {port: str(free_port()) for port in ("7777", "7778", "7779")}
    script = _script(blocks)
    for text, other in replaced.items():
        script = script.replace(text, other)
    script = _PORT.sub(lambda found: ports[found[0]], script)
    state = folder / ".state"
    state.mkdir()
    returncode, output, errors = _execute(
        script, folder, _environment(state, ports["7777"], [*programs, Path(sys.executable).parent])
    )
    printed = dict(part.split("\n", 1) for part in output.split(_MARK)[1:])
    last = blocks[int(next(reversed(printed), "0"))]
    assert returncode == 0, f"{page.name}:{last.line} failed:\n{last.text}\n{output.split(_MARK)[-1]}\n{errors}"
    for number, block in enumerate(blocks):
        if block.language == "console":
            parts = printed[str(number)].replace(ports["7777"], "7777").split("\x1f")
            found = "\n".join(part.rstrip("\n") for part in parts if part)
            _compare(f"{page.name}:{block.line}", _expected(block), found)


def commands_of(block: Block) -> list[str]:
    """Return the commands of a `console` block; one that ends in a backslash goes on in the next line."""
    return re.findall(r"^\$ ((?:.*\\\n)*.*)$", block.text, re.MULTILINE)


def _expected(block: Block) -> str:
    return re.sub(r"^\$ (?:.*\\\n)*.*\n", "", block.text, flags=re.MULTILINE)


def _script(blocks: list[Block]) -> str:
    parts = [f". {shlex.quote(str(ROOT / 'tests/docs/standins.sh'))}"]
    for number, block in enumerate(blocks):
        parts.append(f"printf '\\036{number}\\n'")
        parts.append(_code(block))
    return "\n".join(parts) + "\n"


def _code(block: Block) -> str:
    if block.file is not None:
        return f"save {shlex.quote(block.file)} <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK"
    if block.language in _PROGRAMS:
        return f"{_PROGRAMS[block.language]} - <<'END_OF_BLOCK'\n{block.text}END_OF_BLOCK"
    if block.language == "console":
        # What a command prints may end without a line's end.
        return "\n".join(f"{command}\nprintf '{_END}'" for command in commands_of(block))
    if block.language == "sh":
        return block.text
    assert block.language in SHOWN, f"no test knows what to do with a block of {block.language or 'no language'}"
    return ":"


def _environment(state: Path, port: str, programs: Sequence[Path]) -> dict[str, str]:
    return clean_environment(
        PATH=":".join([*map(str, programs), os.environ["PATH"]]),
        STATE=str(state),
        # Not the one of whoever runs the tests.
        XDG_CONFIG_HOME=str(state),
        UNPAUSE_PORT=port,
        OPENAI_API_KEY="no-key-of-anybody",
        # As its entry point, in an environment that was installed before there was one.
        PYTEST_PLUGINS="unpause.pytest_plugin",
        TZ="UTC",
    )


def _execute(script: str, folder: Path, environment: Mapping[str, str]) -> tuple[int, str, str]:
    with subprocess.Popen(
        ["/bin/bash", "-eu", "-c", script],
        cwd=folder,
        env=dict(environment),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            output, errors = process.communicate(timeout=_DEADLINE)
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, output, errors


def _compare(where: str, expected: str, found: str) -> None:
    pattern = ".*?".join(map(re.escape, expected.rstrip("\n").split("…")))
    assert re.fullmatch(pattern, found.rstrip("\n"), re.DOTALL), f"{where} printed:\n{found}\nand not:\n{expected}"
