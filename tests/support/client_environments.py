"""Environments of programs that are not ours: published clients, and generators of SDKs with what their SDKs need.

Each is a folder with a dot-name at the top level, kept between test sessions and made again when what it is made of
changes. One process makes it, however many ask at once.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
import venv
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final

from filelock import FileLock

from tests.support.processes import clean_environment

ROOT: Final = Path(__file__).resolve().parents[2]

# Seconds for pip or npm on a slow line.
_INSTALL_DEADLINE: Final = 420.0

_STAMP: Final = "made-with.txt"

# All that is installed is pinned, here and in package-lock.json, so that nothing is looked up but these.
_PYDANTIC: Final = (
    "annotated-types==0.8.0",
    "pydantic==2.14.3",
    "pydantic-core==2.50.4",
    "typing-extensions==4.16.0",
    "typing-inspection==0.4.5",
)
_HTTPX: Final = (
    "anyio==4.16.0",
    "certifi==2026.10.18",
    "h11==0.16.0",
    "httpcore==1.0.9",
    "httpx==0.28.1",
    "idna==3.20",
)
_RICH: Final = ("markdown-it-py==4.3.0", "mdurl==0.1.2", "pygments==2.21.0", "rich==15.0.0")
# What the clients made by openapi-generator need, and so the published one of Codegen.
_URLLIB3: Final = ("python-dateutil==4.0.0", "tzdata==2026.6", "urllib3==2.8.0")

# What `agno.client` imports, and no more: agno names neither FastAPI as a dependency, which its client needs, nor
# does its client need all that agno names.
_AGNO: Final = (
    *_PYDANTIC,
    *_HTTPX,
    *_RICH,
    "annotated-doc==0.0.7",
    "docstring-parser==0.18.0",
    "fastapi==0.129.0",
    "h2==4.4.1",
    "hpack==4.2.0",
    "hyperframe==6.1.0",
    "packaging==26.3",
    "pydantic-settings==2.16.3",
    "python-dotenv==1.2.4",
    "python-multipart==0.0.34",
    "starlette==0.52.1",
)

# What Agno's server shares with this one; it does not say itself that it needs them all.
_AGNO_SERVER_SHARES: Final = (
    *("fastapi", "greenlet", "httptools", "psycopg", "psycopg-binary", "pydantic", "python-multipart"),
    *("sqlalchemy", "starlette", "uvicorn", "uvloop"),
)

# The client, and of the SDK `codegen` what `codegen.agents` imports.
_CODEGEN: Final = (
    *_PYDANTIC,
    *_URLLIB3,
    *_RICH,
    "certifi==2026.10.18",
    "charset-normalizer==3.5.2",
    "idna==3.20",
    "pydantic-settings==2.16.3",
    "python-dotenv==1.2.4",
    "requests==2.34.2",
)
# It says that it needs Python 3.12; what is used of it works with 3.11, too.
_CODEGEN_SDK: Final = "codegen==0.57.0"

# Two generators, and what the clients that they write need. The second one brings its jar.
_SDKS: Final = (
    "openapi-python-client==0.29.1",
    "openapi-generator-cli==7.26.0",
    *_PYDANTIC,
    *_HTTPX,
    *_RICH,
    *_URLLIB3,
    "annotated-doc==0.0.7",
    "attrs==26.1.0",
    "jinja2==3.1.6",
    "markupsafe==3.0.4",
    "ruamel-yaml==0.19.1",
    "shellingham==1.5.4",
    "typer==0.27.3",
)


class ClientUnavailableError(RuntimeError):
    """A published client or tool could not be installed; the message says why."""


def agno_environment(version: str) -> Path:
    """Return the Python of an environment with Agno's client; raise ClientUnavailableError."""
    return _python_environment(f"agno-{version}", [f"agno=={version}", *_AGNO])


def agno_server_environment(version: str) -> Path:
    """Return the Python of an environment with Agno's server; raise ClientUnavailableError.

    What it has in common with this server has the versions of this environment: a measure of the two is fair.
    """
    shared = [f"{name}=={metadata.version(name)}" for name in _AGNO_SERVER_SHARES]
    return _python_environment(f"agno-server-{version}", [f"agno=={version}", *shared], dependencies=True)


def codegen_environment(version: str) -> Path:
    """Return the Python of an environment with Codegen's client and SDK; raise ClientUnavailableError."""
    requirements = [f"codegen-api-client=={version}", _CODEGEN_SDK, *_CODEGEN]
    return _python_environment(f"codegen-{version}", requirements, "--ignore-requires-python")


def sdk_environment() -> Path:
    """Return the Python of an environment that makes and runs SDKs in Python; raise ClientUnavailableError."""
    return _python_environment("sdks", _SDKS)


def node_environment(package: Path) -> Path:
    """Return a folder with the `node_modules` of the package.json and package-lock.json in ``package``.

    Raises ClientUnavailableError where npm cannot install them.
    """
    files = [package / name for name in ("package.json", "package-lock.json")]
    made_with = [file.read_text(encoding="utf-8") for file in files]

    def make(environment: Path) -> None:
        shutil.rmtree(environment, ignore_errors=True)
        environment.mkdir()
        for file in files:
            shutil.copy(file, environment)
        npm = ["npm", "ci", "--prefix", str(environment), "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
        _install(npm, f"{package.name}: the packages of {files[1]}")

    return _made(ROOT / f".node-{package.name}", made_with, make)


def foreign_environment(**added: str) -> dict[str, str]:
    """Return this process's environment without what would bring our own packages into the program's."""
    return {name: value for name, value in clean_environment(**added).items() if name != "PYTHONPATH"}


def _python_environment(name: str, requirements: Sequence[str], *options: str, dependencies: bool = False) -> Path:
    """Return the Python of the environment `.venv-NAME`, with these requirements and, if so, what they need."""

    def make(environment: Path) -> None:
        venv.create(environment, clear=True, with_pip=False, symlinks=True)
        # With the pip of the Python that runs the tests.
        pip = [sys.executable, "-m", "pip", "--python", str(environment / "bin" / "python"), "install"]
        quiet = ["--quiet", "--quiet", "--no-input", "--disable-pip-version-check", "--retries", "2"]
        named = f"{requirements[0]} and {len(requirements) - 1} pinned packages"
        exactly = [] if dependencies else ["--no-deps"]
        _install([*pip, *quiet, *exactly, "--no-compile", *options, *requirements], named)

    made_with = [sys.version, *requirements, *options]
    return _made(ROOT / f".venv-{name}", made_with, make) / "bin" / "python"


def _made(environment: Path, made_with: Sequence[str], make: Callable[[Path], None]) -> Path:
    """Return the environment, made by ``make`` when it is missing or was made with something else."""
    expected = hashlib.sha256("\n".join([str(environment), *made_with]).encode()).hexdigest()
    stamp = environment / _STAMP
    with FileLock(ROOT / f"{environment.name}.lock", timeout=_INSTALL_DEADLINE):
        if not stamp.is_file() or stamp.read_text(encoding="ascii") != expected:
            make(environment)
            # Last: an environment without the stamp is made anew.
            stamp.write_text(expected, encoding="ascii")
    return environment


def _install(command: Sequence[str], named: str) -> None:
    try:
        done = subprocess.run(
            command,
            env=foreign_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_INSTALL_DEADLINE,
            check=False,
        )
    except subprocess.TimeoutExpired:
        message = f"it took more than {_INSTALL_DEADLINE:.0f} s to install {named}"
        raise ClientUnavailableError(message) from None
    if done.returncode != 0:
        message = (
            "the tests with published clients and generated SDKs need them from the package registry, once, and they "
            f"could not be installed ({named}). {command[0]} says:\n{done.stdout}{done.stderr}"
        )
        raise ClientUnavailableError(message)
