"""SDKs that others' generators make from our OpenAPI document, used against a server process."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, NoReturn, TypeAlias

import pytest

from tests.sdks.generating import (
    make_with_openapi_generator,
    make_with_openapi_python_client,
    make_with_openapi_ts,
    make_with_typescript_fetch,
    see_journey,
)
from tests.sdks.journey import expected_of, expected_of_agentos
from tests.support.client_environments import ClientUnavailableError
from tests.support.processes import ServerProcess
from tests.support.published import read_document
from tests.support.tokens import ASKING, new_token

# The first test of a generator installs it.
pytestmark = pytest.mark.timeout(600)

Make: TypeAlias = Callable[[Path, Path, str], list[str]]

AGENTS_FILE = Path(__file__).parents[1] / "clients" / "agents_file.py"
# What must be on the machine.
_NEEDED: dict[Make, tuple[str, ...]] = {
    make_with_openapi_generator: ("java",),
    make_with_openapi_ts: ("node", "npm"),
    make_with_typescript_fetch: ("java", "node", "npm"),
}
# The operations of the journey over AgentOS's routes: an SDK of these alone is made in half the time.
_JOURNEY: Final = {
    *("create_agent_run", "continue_agent_run", "follow_agent_run", "list_agent_runs", "get_sessions"),
    "resolve_approval_approvals__approval_id__resolve_post",
}
# The SDKs poll.
NO_LIMIT = {"UNPAUSE_RATE_LIMIT_READ": ""}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    folder = tmp_path_factory.mktemp("server")
    with ServerProcess(folder, "--agents", AGENTS_FILE, environment={**ASKING, **NO_LIMIT}) as process:
        yield process


@pytest.fixture
def document(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Return a file with the document of the name that the test asks for; of `journey` with these operations alone."""
    document = journey_of(read_document()) if request.param == "journey" else read_document(request.param)
    file = tmp_path / "document.json"
    file.write_text(json.dumps(document), encoding="utf-8")
    return file


def journey_of(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document with the operations of the journey, and the components that these refer to."""
    paths: dict[str, dict[str, Any]] = {}
    for path, item in document["paths"].items():
        for method, operation in item.items():
            if operation["operationId"] in _JOURNEY:
                paths.setdefault(path, {})[method] = operation
    components = document["components"]
    kept = {"securitySchemes": components["securitySchemes"]}
    wanted = referred(paths)
    while wanted:
        group, name = wanted.pop()
        if name not in kept.setdefault(group, {}):
            kept[group][name] = components[group][name]
            wanted |= referred(components[group][name])
    return {**document, "paths": paths, "components": kept}


def referred(part: object) -> set[tuple[str, str]]:
    """Return group and name of the components that this part of a document refers to."""
    found = re.findall(r'"#/components/(\w+)/([^"/]+)', json.dumps(part))
    return {(group, name) for group, name in found}


def make(maker: Make, document: Path, folder: Path, journey: str) -> list[str]:
    """Make an SDK; where what it takes is missing, skip the test."""
    programs = _NEEDED.get(maker, ())
    if missing := [program for program in programs if not starts(program)]:
        give_up(f"there is no {' and no '.join(missing)} on this machine")
    try:
        return maker(document, folder, journey)
    except ClientUnavailableError as error:
        give_up(str(error))


def give_up(reason: str) -> NoReturn:
    """Skip the test; but fail in CI, which has all it takes: a skip would hide that it has not."""
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def starts(program: str) -> bool:
    """Whether the program is there and starts: a name that is found may be a stand-in that does not."""
    if shutil.which(program) is None:
        return False
    asking = [program, "-version" if program == "java" else "--version"]
    return subprocess.run(asking, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0


@pytest.mark.parametrize("document", ["codegen"], indirect=True)
@pytest.mark.parametrize(
    "maker",
    [
        pytest.param(make_with_openapi_python_client, id="openapi-python-client", marks=pytest.mark.full),
        pytest.param(make_with_openapi_generator, id="openapi-generator", marks=pytest.mark.full),
        pytest.param(make_with_openapi_ts, id="openapi-ts", marks=pytest.mark.full),
    ],
)
def test_an_sdk_creates_a_run_resumes_it_and_reads_its_result(
    maker: Make, document: Path, server: ServerProcess, tmp_path: Path
) -> None:
    command = make(maker, document, tmp_path, "codegen")
    name = maker.__name__.replace("_", "-")

    seen = see_journey(command, tmp_path, server.address, new_token(server, "--user", name), name)

    awaited, page = seen.pop("awaited"), seen.pop("page")
    assert seen == expected_of(name)
    assert "delete_file" in awaited
    assert page == [1, 100, 1]


@pytest.mark.parametrize(
    ("maker", "document"),
    [
        pytest.param(make_with_openapi_python_client, "journey", id="openapi-python-client-journey"),
        pytest.param(
            make_with_openapi_python_client, "unpause", id="openapi-python-client-unpause", marks=pytest.mark.full
        ),
        pytest.param(make_with_openapi_python_client, "agno", id="openapi-python-client", marks=pytest.mark.full),
        pytest.param(make_with_openapi_generator, "agno", id="openapi-generator", marks=pytest.mark.full),
        pytest.param(make_with_openapi_ts, "agno", id="openapi-ts", marks=pytest.mark.full),
        pytest.param(make_with_typescript_fetch, "agno", id="typescript-fetch", marks=pytest.mark.full),
    ],
    indirect=["document"],
)
def test_an_sdk_confirms_a_call_of_agentos_has_one_approved_and_is_refused_without_a_token(
    maker: Make, document: Path, server: ServerProcess, tmp_path: Path
) -> None:
    command = make(maker, document, tmp_path, "agentos")
    name = f"agentos-{tmp_path.name}"
    tokens = [new_token(server, "--user", name), new_token(server, "--admin")]

    seen = see_journey(command, tmp_path, server.address, *tokens, name)

    assert seen == expected_of_agentos(name)
