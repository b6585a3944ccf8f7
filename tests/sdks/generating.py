"""Makes SDKs from an OpenAPI document, and runs programs that use them."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.support.client_environments import foreign_environment, node_environment, sdk_environment

_HERE: Final = Path(__file__).parent
_TYPESCRIPT: Final = _HERE / "typescript"

# Seconds for one program on a busy machine.
_DEADLINE: Final = 180.0


def make_with_openapi_python_client(document: Path, folder: Path) -> list[str]:
    """Write the package `unpause_client` into the folder; return the command that makes its journey."""
    python = sdk_environment()
    settings = folder / "settings.json"
    # The hooks would format what nobody reads.
    settings.write_text(json.dumps({"post_hooks": []}), encoding="utf-8")
    options: list[str | Path] = [
        "--meta",
        "none",
        "--output-path",
        folder / "unpause_client",
        "--config",
        settings,
        "--fail-on-warning",
    ]
    run_program([python.with_name("openapi-python-client"), "generate", "--path", document, *options], folder)
    return [str(python), "-m", "tests.sdks.programs.openapi_python_client"]


def make_with_openapi_generator(document: Path, folder: Path) -> list[str]:
    """Write the package `unpause_sdk` into the folder; return the command that makes its journey. Needs Java."""
    python = sdk_environment()
    without = "models,apis,supportingFiles,modelDocs=false,apiDocs=false,modelTests=false,apiTests=false"
    options: list[str | Path] = [
        "-g",
        "python",
        "-o",
        folder,
        "--package-name",
        "unpause_sdk",
        "--global-property",
        without,
    ]
    # It is over before a better compiler would pay.
    quick = {"JAVA_OPTS": "-XX:TieredStopAtLevel=1"}
    run_program([python.with_name("openapi-generator-cli"), "generate", "-i", document, *options], folder, **quick)
    return [str(python), "-m", "tests.sdks.programs.openapi_generator"]


def make_with_openapi_ts(document: Path, folder: Path) -> list[str]:
    """Write the SDK and its journey into the folder, checked by tsc; return the command that makes it. Needs Node."""
    programs = node_environment(_TYPESCRIPT) / "node_modules" / ".bin"
    for name in ("journey.ts", "tsconfig.json"):
        shutil.copy(_TYPESCRIPT / name, folder)
    run_program([programs / "openapi-ts", "-i", document, "-o", folder / "sdk", "--silent"], folder)
    run_program([programs / "tsc", "--project", folder], folder)
    return ["node", str(folder / "js" / "journey.js")]


def see_journey(command: Sequence[str], folder: Path, *arguments: str) -> Any:  # noqa: ANN401 - what the program prints
    """Return what the program with the SDK in the folder saw."""
    path = f"{folder}:{_HERE.parents[1]}"
    return json.loads(run_program([*command, *arguments], folder, PYTHONPATH=path, PYTHONSAFEPATH="1"))


def run_program(command: Sequence[str | Path], folder: Path, **environment: str) -> str:
    """Run the command in the folder; return what it prints, or fail with all it says."""
    done = subprocess.run(
        [str(part) for part in command],
        cwd=folder,
        env={**foreign_environment(), **environment},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_DEADLINE,
        check=False,
    )
    if done.returncode != 0:
        message = f"{command[0]} failed with {done.returncode}:\n{done.stdout}\n{done.stderr}"
        raise AssertionError(message)
    return done.stdout
