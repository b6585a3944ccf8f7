"""Answers for the virtual environments of the scripts in this folder: one for each use, made when missing.

Needs nothing but Python's own library. As a program, `bootstrap.py NAME` makes the environment NAME ready and
prints its folder.
"""

import hashlib
import importlib.util
import subprocess
import sys
import sysconfig
from collections.abc import Sequence
from pathlib import Path
from types import MappingProxyType

# Before anything that an older Python cannot run; up to here and in its syntax this file suits Python 3.6.
if sys.version_info < (3, 11):  # noqa: UP036  # the one place that older interpreters reach
    sys.exit(
        f"Unpause needs Python 3.11 or newer; this is Python {sys.version_info[0]}.{sys.version_info[1]}"
        f" ({sys.executable})."
    )

if sys.platform != "win32":
    import fcntl

ROOT = Path(__file__).resolve().parent.parent

# The file in an environment that says with what it was made; written last.
STAMP = "unpause-stamp"

# The extras of pyproject.toml that each environment holds.
EXTRAS = MappingProxyType({"demo": ("anthropic", "openai"), "test": ("dev",)})


def ensure_environment(name: str, extras: Sequence[str]) -> Path:
    """Return the folder of the virtual environment `.venv-NAME`, with the project and `extras` installed.

    The project is installed editable. Nothing is done, and nothing printed, when the last success was with
    the same pyproject.toml, extras, interpreter and place. An environment that was left half-made, or that
    belongs to another interpreter, is made anew. Exits with one line that says what is wrong when it cannot
    be done.
    """
    environment = ROOT / f".venv-{name}"
    made_with = [f"{sys.version} {Path(sys.executable).resolve()}".replace("\n", " "), str(ROOT)]
    project = hashlib.sha256((ROOT / "pyproject.toml").read_bytes()).hexdigest()
    expected = [*made_with, ",".join(extras), project]
    if _stamped(environment) == expected:
        return environment
    with (ROOT / f".venv-{name}.lock").open("w") as lock:
        # Of two that start at once the second waits, and then finds the first one's work.
        if sys.platform != "win32":
            fcntl.flock(lock, fcntl.LOCK_EX)
        found = _stamped(environment)
        if found != expected:
            # From here to the stamp a failure or an interruption leaves none, so the next call starts over.
            (environment / STAMP).unlink(missing_ok=True)
            if found[:2] != made_with:
                _make(environment)
            _install(environment, extras)
            (environment / STAMP).write_text("\n".join(expected), encoding="utf-8")
    return environment


def program(environment: Path, name: str) -> Path:
    """Return where the virtual environment in `environment` keeps the program `name`, there or not."""
    base = str(environment)
    scripts = sysconfig.get_path("scripts", "venv", vars={"base": base, "platbase": base})
    return Path(scripts, name)


def _stamped(environment: Path) -> list[str]:
    """Return what the last success wrote: interpreter, place, extras, project; empty when there is none."""
    stamp = environment / STAMP
    whole = stamp.is_file() and program(environment, "python").exists()
    return stamp.read_text(encoding="utf-8").splitlines() if whole else []


def _make(environment: Path) -> None:
    missing = [module for module in ("venv", "ensurepip") if importlib.util.find_spec(module) is None]
    if missing:
        package = f"python{sys.version_info[0]}.{sys.version_info[1]}-venv"
        sys.exit(
            f"This Python ({sys.executable}) lacks its module {missing[0]!r}, needed to make an environment."
            f" On Debian and Ubuntu: apt-get install {package}"
        )
    _say(f"Making the virtual environment {environment.name}.")
    # --clear: whatever a broken attempt or another interpreter left there goes.
    if _call([sys.executable, "-m", "venv", "--clear", str(environment)]) != 0:
        sys.exit(f"Python could not make a virtual environment in {environment}; what it says is above.")


def _install(environment: Path, extras: Sequence[str]) -> None:
    project = f".[{','.join(extras)}]"
    _say(f"Installing {project} into {environment.name}: at first a minute or two.")
    pip = [str(program(environment, "python")), "-m", "pip", "install"]
    # Quiet twice: errors only. What is imported is compiled then; that is a third of what is installed.
    options = ["--quiet", "--quiet", "--no-input", "--disable-pip-version-check", "--no-compile"]
    # Python brings the pip of its own year; a new one needs half the processor time.
    done = _call([*pip, *options, "--upgrade", "pip"]) == 0 and _call([*pip, *options, "--editable", project]) == 0
    if not done:
        sys.exit(f"pip could not install Unpause into {environment}; what it says is above.")


def _call(command: Sequence[str]) -> int:
    """Run `command` in the top folder, its output on standard error; return its exit status."""
    try:
        done = subprocess.run(command, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=sys.stderr, check=False)
    except KeyboardInterrupt:
        sys.exit(130)
    return done.returncode


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in EXTRAS:  # noqa: PLR2004  # the program's name and one argument
        sys.exit(f"usage: {sys.argv[0]} {{{'|'.join(EXTRAS)}}}")
    print(ensure_environment(sys.argv[1], EXTRAS[sys.argv[1]]))
