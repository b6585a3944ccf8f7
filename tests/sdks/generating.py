"""Makes SDKs from an OpenAPI document, and runs programs that use them."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from tests.docs.pages import Page
from tests.support.client_environments import ROOT, foreign_environment, node_environment, sdk_environment

_HERE: Final = Path(__file__).parent
_TYPESCRIPT: Final = _HERE / "typescript"
_PROGRAMS: Final = "tests.sdks.programs"
# The configuration of openapi-ts is the one that the documents show; it is read from the folder.
_GUIDE: Final = ROOT / "docs" / "how-to" / "write-a-client.md"
_CONFIGURATION: Final = "openapi-ts.config.mjs"

# Seconds for one program on a busy machine.
_DEADLINE: Final = 180.0


def make_with_openapi_python_client(document: Path, folder: Path, journey: str) -> list[str]:
    """Write the package `unpause_client` into the folder; return the command that makes this journey."""
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
    return _checked_command(folder, f"openapi_python_client_{journey}")


def make_with_openapi_generator(document: Path, folder: Path, journey: str) -> list[str]:
    """Write the package `unpause_sdk` into the folder; return the command that makes this journey. Needs Java."""
    _generate("python", document, folder, "modelTests=false,apiTests=false", "--package-name", "unpause_sdk")
    return _checked_command(folder, f"openapi_generator_{journey}")


def make_with_typescript_fetch(document: Path, folder: Path, journey: str) -> list[str]:
    """Write an SDK of openapi-generator and this journey into the folder, checked by tsc. Needs Java and Node.

    Its options are those of the documents: else it writes no model of a form that it names, and two types of one name.
    """
    mapping = ("--model-name-mappings", "DeleteSessionRequest=DeleteSessionsRequest")
    _generate("typescript-fetch", document, folder / "sdk", "skipFormModel=false", *mapping)
    return _compiled_command(folder, f"fetch_{journey}")


def _generate(generator: str, document: Path, folder: Path, properties: str, *options: str) -> None:
    program = sdk_environment().with_name("openapi-generator-cli")
    without = f"models,apis,supportingFiles,modelDocs=false,apiDocs=false,{properties}"
    command: list[str | Path] = [
        program,
        "generate",
        "-i",
        document,
        "-g",
        generator,
        "-o",
        folder,
        "--global-property",
        without,
    ]
    # It is over before a better compiler would pay.
    run_program([*command, *options], document.parent, JAVA_OPTS="-XX:TieredStopAtLevel=1")


def make_with_openapi_ts(document: Path, folder: Path, journey: str) -> list[str]:
    """Write the SDK and this journey into the folder, checked by tsc; return the command that makes it. Needs Node."""
    options: list[str | Path] = ["-i", document, "-o", folder / "sdk", "--silent"]
    if journey == "agentos":
        (block,) = (block for block in Page(_GUIDE).blocks if block.file == _CONFIGURATION)
        (folder / _CONFIGURATION).write_text(block.text, encoding="utf-8")
    run_program([_node_programs() / "openapi-ts", *options], folder)
    return _compiled_command(folder, journey)


def _compiled_command(folder: Path, program: str) -> list[str]:
    """Return the command that runs this TypeScript program with the SDK in the folder; tsc checks both first."""
    for name in (f"{program}.ts", "tsconfig.json"):
        shutil.copy(_TYPESCRIPT / name, folder)
    run_program([_node_programs() / "tsc", "--project", folder], folder)
    return ["node", str(folder / "js" / f"{program}.js")]


def _node_programs() -> Path:
    return node_environment(_TYPESCRIPT) / "node_modules" / ".bin"


def _checked_command(folder: Path, program: str) -> list[str]:
    """Return the command that runs this Python program with the SDK in the folder; mypy checks it first."""
    python = sdk_environment()
    if program.endswith("agentos"):
        cache = folder / "mypy"
        options: list[str | Path] = ["--config-file=", "--strict", "--follow-imports=silent", "--cache-dir", cache]
        # The comments are for where there is no SDK.
        options += ["--no-warn-unused-ignores", "--python-executable", python]
        # A copy: beside its folder mypy would find the packages of ours.
        copied = shutil.copy(_HERE / "programs" / f"{program}.py", folder)
        run_program([sys.executable, "-m", "mypy", *options, copied], folder, MYPYPATH=str(folder))
    return [str(python), "-m", f"{_PROGRAMS}.{program}"]


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
