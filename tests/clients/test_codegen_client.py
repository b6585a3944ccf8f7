"""Codegen's own client and SDK against a server process: what they send and what they make of the answers."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from typing import Any

import pytest

from tests.clients.conftest import AGENTS_FILE
from tests.support.processes import ServerProcess
from tests.support.scenario_process import CodegenClient

# The first test installs the client.
pytestmark = pytest.mark.timeout(600)

# The only one there is.
VERSION = "1.0.0"

RUN_KEYS = {"id", "organization_id", "status", "created_at", "web_url", "result"}

# One read in two seconds, so that a second one at once is told to come back; one run a minute, and two in all.
LIMITS = {
    "UNPAUSE_RATE_LIMIT_READ": "1/2 seconds",
    "UNPAUSE_RATE_LIMIT_CREATE": "1/minute",
    "UNPAUSE_RUN_LIMIT": "2",
    "UNPAUSE_MAX_MESSAGE_CHARS": "100",
}


@pytest.fixture(scope="session")
def codegen(server: ServerProcess, tmp_path_factory: pytest.TempPathFactory) -> Iterator[CodegenClient]:
    with CodegenClient(VERSION, server.address, tmp_path_factory.mktemp("home")) as client:
        yield client


@pytest.fixture(scope="module")
def limited(tmp_path_factory: pytest.TempPathFactory) -> Iterator[CodegenClient]:
    """Return the client of a server with narrow limits."""
    folder = tmp_path_factory.mktemp("limited")
    with (
        ServerProcess(folder, "--agents", AGENTS_FILE, environment=LIMITS) as process,
        CodegenClient(VERSION, process.address, tmp_path_factory.mktemp("home")) as client,
    ):
        yield client


class TestRuns:
    def test_a_run_is_created_with_200_and_followed_to_its_end(
        self, codegen: CodegenClient, server: ServerProcess, name: str
    ) -> None:
        found = codegen.run("running.run_to_its_end", token=name, prompt="say héllo ☃")

        created, seen = found["created"], found["seen"]
        assert found["status_code"] == 200
        assert set(created) == set(seen) == RUN_KEYS
        assert (created["status"], created["result"]) == ("ACTIVE", None)
        assert (seen["status"], seen["result"]) == ("COMPLETE", "héllo ☃")
        assert seen["web_url"].startswith(server.address)

    def test_ids_are_integers_and_times_are_strings(self, codegen: CodegenClient, name: str) -> None:
        created = codegen.run("running.run_to_its_end", token=name, prompt="say hello")["created"]

        assert (type(created["id"]), created["organization_id"]) == (int, 1)
        assert datetime.fromisoformat(created["created_at"]).year >= 2026

    def test_a_paused_run_says_in_its_result_what_it_waits_for(self, codegen: CodegenClient, name: str) -> None:
        seen = codegen.run("running.run_to_its_end", token=name, prompt=f"delete {name}")["seen"]

        assert seen["status"] == "PAUSED"
        assert "delete_file" in seen["result"]
        assert name in seen["result"]

    def test_the_sdk_runs_an_agent_and_refreshes_its_task(
        self, codegen: CodegenClient, server: ServerProcess, name: str
    ) -> None:
        found = codegen.run("sdk.run_to_its_end", token=name, prompt="say hello")

        run_id, status, result, web_url = found["last"]
        assert (found["first"], status, result) == ("ACTIVE", "COMPLETE", "hello")
        assert found["status"] == {"id": run_id, "status": status, "result": result, "web_url": web_url}
        assert web_url.startswith(server.address)


class TestIdentity:
    def test_organizations_and_users_are_read(self, codegen: CodegenClient, name: str) -> None:
        found = codegen.run("running.identity", token=name)

        page = {"total": 1, "page": 1, "size": 100, "pages": 1}
        settings = {"enable_pr_creation": True, "enable_rules_detection": True}
        organization = found["organizations"]["items"][0]
        assert found["organizations"] == {"items": [{**organization, "id": 1, "settings": settings}], **page}
        assert found["users"] == {"items": [found["user"]], **page}
        assert (found["user"]["github_username"], found["user"]["email"]) == ("local", None)

    def test_a_page_behind_the_last_one_is_empty(self, codegen: CodegenClient, name: str) -> None:
        page = codegen.run("running.by_pages", token=name)

        assert (page["items"], page["total"], page["size"]) == ([], 1, 10)


class TestRefusals:
    def test_what_is_not_there_raises_with_the_body_kept(self, codegen: CodegenClient, name: str) -> None:
        found = codegen.run("refused.unknown_things", token=name)

        forbidden = ("ForbiddenException", 403, "You do not have access to this organization.")
        assert {what: reported(refusal) for what, refusal in found.items()} == {
            "create in an unknown organization": forbidden,
            "users of an unknown organization": forbidden,
            "an unknown run": ("NotFoundException", 404, "Agent run not found."),
            "an unknown user": ("NotFoundException", 404, "User not found."),
        }

    def test_what_does_not_fit_raises_with_each_place_once(self, codegen: CodegenClient, name: str) -> None:
        refusal = codegen.run("refused.ids_by_name", token=name)

        assert (refusal["class"], refusal["status"]) == ("UnprocessableEntityException", 422)
        assert [item["loc"] for item in refusal["read"]["detail"]] == [["path", "org_id"], ["path", "user_id"]]

    def test_a_prompt_that_is_too_long_raises(self, limited: CodegenClient, name: str) -> None:
        refusal = limited.run("refused.creating", token=name, prompt="a" * 101)

        assert reported(refusal) == ("BadRequestException", 400, "prompt is longer than 100 characters")

    def test_a_base_url_that_ends_in_a_slash_finds_nothing(self, codegen: CodegenClient, name: str) -> None:
        refusal = codegen.run("refused.with_a_slash", token=name)

        assert (refusal["class"], refusal["status"]) == ("NotFoundException", 404)


class TestLimits:
    def test_a_read_too_many_makes_the_client_wait_and_then_succeeds(self, limited: CodegenClient, name: str) -> None:
        found = limited.run("refused.two_reads", token=name)

        assert found["found"] == [1, 1]
        assert found["slept"]
        assert all(1 <= seconds <= 2 for seconds in found["slept"])

    def test_a_run_too_many_raises_at_once(self, limited: CodegenClient, name: str) -> None:
        first = limited.run("refused.creating", token=name, prompt="a" * 101)
        second = limited.run("refused.creating", token=name, prompt="say hello")

        assert first["status"] == 400
        assert reported(second) == ("ApiException", 429, "Rate limit exceeded. Please try again later.")
        assert 1 <= int(second["retry_after"]) <= 60
        # The client knows an older body only, and fills in what it does not find.
        assert second["read"] == {"detail": "Rate limit exceeded", "status_code": 429}
        assert second["slept"] == []

    def test_a_run_over_the_limit_of_runs_raises_with_402(self, limited: CodegenClient, name: str) -> None:
        answers = [limited.run("refused.creating", token=f"{name}{n}", prompt="say hello") for n in range(3)]

        assert [answer.get("status") for answer in answers] == [None, None, 402]
        assert reported(answers[2])[0] == "ApiException"
        assert reported(answers[2])[2].startswith("Alloted agent runs for the current billing plan")


def reported(refusal: dict[str, Any]) -> tuple[str, int, str]:
    """Return the class and the status of what was raised and, from the body that it kept, the words."""
    body = json.loads(refusal["body"])
    assert set(body) == {"message", "status_code"}
    assert body["status_code"] == refusal["status"]
    return refusal["class"], refusal["status"], body["message"]
