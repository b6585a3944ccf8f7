"""The published clients against a server that asks for tokens: with one, without one, with somebody else's."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.clients.conftest import AGENTS_FILE, VERSIONS
from tests.clients.test_codegen_client import VERSION as CODEGEN_VERSION
from tests.clients.test_codegen_client import reported
from tests.support.processes import ServerProcess
from tests.support.scenario_process import AgnoClient, CodegenClient
from tests.support.tokens import ASKING, add_organization, new_token, proof

# The first test of a version installs it.
pytestmark = pytest.mark.timeout(600)

MISSING = "Authorization header required"
INVALID = "Invalid authentication token"
INVALID_AT_CODEGEN = "Invalid or missing API token"


@pytest.fixture(scope="module")
def asking(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Return a server that asks for tokens, with a second organization."""
    folder = tmp_path_factory.mktemp("asking")
    with ServerProcess(folder, "--agents", AGENTS_FILE, environment=ASKING) as process:
        add_organization(process, "Rivals")
        yield process


@pytest.fixture(scope="module")
def tokens(asking: ServerProcess) -> dict[str, str]:
    """Return the tokens of two users of the first organization, and of the second one's administrator."""
    return {
        "alice": new_token(asking, "--user", "alice"),
        "bob": new_token(asking, "--user", "bob"),
        "rival": new_token(asking, "--user", "alice", "--admin", "--org", "2"),
    }


@pytest.fixture(scope="module", params=VERSIONS)
def agno(request: pytest.FixtureRequest, asking: ServerProcess) -> Iterator[AgnoClient]:
    with AgnoClient(request.param, asking.address) as client:
        yield client


@pytest.fixture(scope="module")
def codegen(asking: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CodegenClient]:
    with CodegenClient(CODEGEN_VERSION, asking.address, tmp_path_factory.mktemp("home")) as client:
        yield client


class TestAgno:
    def test_with_a_token_a_run_is_made_confirmed_and_listed(
        self, agno: AgnoClient, tokens: dict[str, str], name: str
    ) -> None:
        found = agno.run("proving.confirm", headers=proof(tokens["alice"]), message=f"delete {name}")

        paused, ended = found["paused"], found["ended"]
        assert (paused["status"], ended["status"], ended["content"]) == ("PAUSED", "COMPLETED", f"Told: deleted {name}")
        # Nobody said so but the token.
        assert ended["user_id"] == "alice"
        assert {"desk", "other"} <= set(found["agents"])
        assert found["runs"] == [ended["run_id"]]
        assert ended["session_id"] in found["sessions"]

    def test_with_a_token_a_run_is_confirmed_in_streams(
        self, agno: AgnoClient, tokens: dict[str, str], name: str
    ) -> None:
        found = agno.run("proving.confirm_in_streams", headers=proof(tokens["alice"]), message=f"delete {name}")

        assert (found["first"], found["second"]) == ("RunPaused", "RunCompleted")

    @pytest.mark.parametrize(
        ("headers", "detail"),
        [(None, MISSING), ({"Authorization": "Basic YTpi"}, MISSING), (proof("garbage"), INVALID)],
        ids=["none", "basic", "garbage"],
    )
    def test_without_a_token_everything_raises(
        self, agno: AgnoClient, headers: dict[str, str] | None, detail: str
    ) -> None:
        found = agno.run("proving.attempts", headers=headers, run_id="run", session_id="session")

        streams = {what: found.pop(what) for what in ("stream", "continue in a stream")}
        assert set(map(tuple, found.values())) == {("HTTPStatusError", 401, detail)}
        assert set(map(tuple, streams.values())) == {("HTTPStatusError", 401, None)}

    @pytest.mark.parametrize("who", ["bob", "rival"])
    def test_somebody_elses_run_is_not_there(
        self, agno: AgnoClient, tokens: dict[str, str], name: str, who: str
    ) -> None:
        made = agno.run("proving.confirm", headers=proof(tokens["alice"]), message=f"delete {name}")["ended"]
        names = {"run_id": made["run_id"], "session_id": made["session_id"]}
        found = agno.run("proving.attempts", headers=proof(tokens[who]), **names)

        assert (found.pop("run"), found.pop("stream")) == ([], [])
        assert {tuple(refused[:2]) for refused in found.values()} == {("HTTPStatusError", 404)}


class TestCodegen:
    def test_with_a_token_a_run_is_created_and_followed(
        self, codegen: CodegenClient, tokens: dict[str, str], name: str
    ) -> None:
        found = codegen.run("running.run_to_its_end", token=tokens["alice"], prompt=f"say {name}")

        assert (found["status_code"], found["seen"]["status"], found["seen"]["result"]) == (200, "COMPLETE", name)

    def test_with_a_token_the_sdk_runs_an_agent(
        self, codegen: CodegenClient, tokens: dict[str, str], name: str
    ) -> None:
        found = codegen.run("sdk.run_to_its_end", token=tokens["alice"], prompt=f"say {name}")

        assert found["last"][1:3] == ["COMPLETE", name]

    @pytest.mark.parametrize("token", ["garbage", f"unp_AAAAAAAA.{'A' * 43}"])
    def test_without_a_token_that_counts_creating_raises(self, codegen: CodegenClient, token: str) -> None:
        refusal = codegen.run("refused.creating", token=token, prompt="say hello")

        assert reported(refusal)[1:] == (401, INVALID_AT_CODEGEN)

    def test_of_another_organization_creating_raises(self, codegen: CodegenClient, tokens: dict[str, str]) -> None:
        refusal = codegen.run("refused.creating", token=tokens["rival"], prompt="say hello")

        assert reported(refusal) == ("ForbiddenException", 403, "You do not have access to this organization.")
