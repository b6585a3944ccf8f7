"""Runs that prepare a repository, through Codegen's API and AgentOS's: real commands, a scripted model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.support.caller import body_of
from tests.support.planning import REPOSITORY, PlanningModel, make_checkout
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import serving
from tests.support.setup_server import FIVE, SETUP, commands_of, failed_at_three, is_open, note, served_setup, traces
from tests.support.toolbox import JsonObject
from unpause.agents.demo.agent import build_demo_agent
from unpause.agents.demo.model import DemoModel
from unpause.domain.principal import Principal
from unpause.domain.runs import SETUP_COMMANDS, RunRef
from unpause.domain.scopes import DEFAULT_SCOPES
from unpause.errors import InvalidSetting, ScopeMissing
from unpause.services.commands import ContinueRun, CreateRun

NOT_FOUND = {"message": "Repository not found", "status_code": 404}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "checkouts", README__md="Run `make`.")


def link_outwards(checkout: Path) -> None:
    outside = checkout.parents[1] / "outside"
    outside.mkdir()
    checkout.symlink_to(outside)


# ------------------------------------------------------------------------------ starting


async def test_a_run_is_started_and_named(tmp_path: Path, checkout: Path) -> None:
    async with served_setup(tmp_path, PlanningModel([note("1")]), public_url="https://unpause.test/") as server:
        started = body_of(await server.generate(prompt="Use make.", trigger_source="nightly"))
        assert set(started) == {"agent_run_id", "status", "url"}
        assert started["status"] == "ACTIVE"
        run = await server.settled_by_codegen(started["agent_run_id"])
    assert started["url"] == run["web_url"]
    assert run["web_url"].startswith("https://unpause.test/agents/setup-commands/runs/")
    assert run["status"] == "COMPLETE"
    assert run["source_type"] == "SETUP_COMMANDS"
    assert run["summary"] == "Use make."
    assert run["metadata"] == {"trigger_source": "nightly"}
    assert traces(checkout) == ["1"]


async def test_the_model_is_shown_the_checkout_and_what_was_asked_for(tmp_path: Path, checkout: Path) -> None:
    model = PlanningModel([], [])
    (checkout / "web").mkdir()
    async with served_setup(tmp_path, model) as server:
        await server.prepared(prompt="Use make.")
        await server.prepared()
    assert "Request:\nUse make." in model.prompts[0]
    assert "README.md:\nRun `make`." in model.prompts[0]
    assert "web/" in model.prompts[0]
    assert "Prepare this repository" in model.prompts[1]


@pytest.mark.usefixtures("checkout")
async def test_a_repository_without_a_checkout_is_not_found(tmp_path: Path) -> None:
    link_outwards(tmp_path / "checkouts" / "13")
    async with served_setup(tmp_path, PlanningModel()) as server:
        for number in (11, 13, -1, 2**70, 10**400):
            response = await server.generate(repo_id=number)
            assert (response.status_code, response.json()) == (404, NOT_FOUND), number
        listed = await server.get("/v1/organizations/1/agent/runs")
        assert listed.json()["total"] == 0


@pytest.mark.usefixtures("checkout")
async def test_without_a_workspace_root_it_is_off(tmp_path: Path) -> None:
    async with served_setup(tmp_path, PlanningModel(), workspace_root=None) as server:
        response = await server.generate()
    assert response.status_code == 400
    assert response.json()["status_code"] == 400
    assert "--workspace-root" in response.json()["message"]


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("driver", [ScriptedDriver(), None])
async def test_without_a_model_that_can_plan_it_is_refused(tmp_path: Path, driver: ScriptedDriver | None) -> None:
    agents = [] if driver else [build_demo_agent(tmp_path, DemoModel())]
    drivers = [driver] if driver else []
    async with serving(tmp_path, agents, drivers, workspace_root=tmp_path / "checkouts") as client:
        response = await client.post(SETUP, json={"repo_id": REPOSITORY})
    assert response.status_code == 400
    assert "--model" in response.json()["message"]


@pytest.mark.usefixtures("checkout")
async def test_the_model_of_the_settings_plans_whatever_the_agents_are(tmp_path: Path) -> None:
    async with serving(tmp_path, (), [ScriptedDriver()], workspace_root=tmp_path / "checkouts", model="test") as client:
        response = await client.post(SETUP, json={"repo_id": REPOSITORY})
    assert response.status_code == 200, response.text


@pytest.mark.usefixtures("checkout")
async def test_a_resume_may_choose_a_model_among_those_allowed(tmp_path: Path) -> None:
    async with served_setup(tmp_path, PlanningModel(["exit 1"], [])) as server:
        run = await server.prepared()
        refused = await server.resume(run["id"], "Go on.", model="openai:unknown")
        assert refused.status_code == 400
        assert (await server.read_by_codegen(run["id"]))["status"] == "PAUSED"
        run = await server.resumed(run, "Go on.", model="function:planning-1")
    assert run["status"] == "COMPLETE"


@pytest.mark.parametrize("body", [{}, {"repo_id": None}, {"repo_id": "x"}, {"repo_id": 12, "prompt": 3}])
async def test_a_malformed_body_is_refused(tmp_path: Path, body: JsonObject) -> None:
    async with served_setup(tmp_path, PlanningModel()) as server:
        response = await server.post(SETUP, body)
    assert response.status_code == 422


@pytest.mark.usefixtures("checkout")
async def test_other_organizations_and_long_prompts_are_refused(tmp_path: Path) -> None:
    async with served_setup(tmp_path, PlanningModel(), max_message_chars=10) as server:
        response = await server.post("/v1/organizations/2/setup-commands/generate", {"repo_id": 12})
        assert response.status_code == 403
        assert (await server.generate(prompt="x" * 11)).status_code == 400


@pytest.mark.usefixtures("checkout")
async def test_the_same_idempotency_key_starts_one_run(tmp_path: Path) -> None:
    async with served_setup(tmp_path, PlanningModel([])) as server:
        requested: dict[str, Any] = {"json": {"repo_id": REPOSITORY}, "headers": {"Idempotency-Key": "once"}}
        first = await server.client.post(SETUP, **requested)
        await server.settled_by_codegen(first.json()["agent_run_id"])
        again = await server.client.post(SETUP, **requested)
        other = await server.client.post(SETUP, **{**requested, "json": {"repo_id": REPOSITORY, "prompt": "else"}})
    assert first.content == again.content
    assert other.status_code == 422


# ------------------------------------------------------------------------------ the story


async def test_a_run_that_fails_at_three_of_five_is_corrected_and_runs_only_the_rest(
    tmp_path: Path, checkout: Path
) -> None:
    model = PlanningModel(FIVE)
    async with served_setup(tmp_path, model) as server:
        run = await failed_at_three(server, checkout)
        assert run["result"].startswith("Command 3 of 5 failed with exit code 7: `echo 3 >> trace;")
        assert "\nno such target\n" in run["result"]
        assert run["result"].endswith("Reply with corrected commands or advice.")
        run = await server.resumed(run, f"```\n{note('3b')}\n```")
        shown = await server.as_agno(run)
    assert run["status"] == "COMPLETE"
    assert traces(checkout) == ["1", "2", "3", "3b", "4", "5"]
    assert len(model.prompts) == 1
    errors = [error for _, error in commands_of(shown)]
    assert errors == [False, False, True, False, False, False]
    script = "\n".join([note("1"), note("2"), note("3b"), note("4"), note("5")])
    assert run["result"].endswith(f"Script:\n```sh\n{script}\n```")
    lines = [line for line in run["result"].splitlines() if line[:2] in {"1.", "2.", "3.", "4.", "5."}]
    assert [line[0] for line in lines] == ["1", "2", "3", "3", "4", "5"]
    assert all("exit code 0" in line for line in lines[:2] + lines[3:])
    assert "exit code 7" in lines[2]


async def test_the_same_story_through_agnos_continue(tmp_path: Path, checkout: Path) -> None:
    async with served_setup(tmp_path, PlanningModel(FIVE)) as server:
        run = await failed_at_three(server, checkout)
        response = await server.answered(run, result=f"$ {note('3b')}\n$ {note('3c')}")
        shown = body_of(response)
    assert shown["status"] == "COMPLETED"
    assert traces(checkout) == ["1", "2", "3", "3b", "3c", "4", "5"]


async def test_advice_goes_to_the_model_with_all_it_needs(tmp_path: Path, checkout: Path) -> None:
    model = PlanningModel(FIVE, [note("3b"), note("4b")])
    async with served_setup(tmp_path, model) as server:
        run = await failed_at_three(server, checkout)
        run = await server.resumed(run, "The target is called all.")
        shown = await server.as_agno(run)
    assert run["status"] == "COMPLETE"
    assert traces(checkout) == ["1", "2", "3", "3b", "4b"]
    prompt = model.prompts[1]
    assert f"succeeded, in order:\n- {note('1')}\n- {note('2')}\n\n" in prompt
    assert "no such target" in prompt
    assert f"which have not run:\n- {note('4')}\n- {note('5')}" in prompt
    assert "New prompt of the user:\nThe target is called all." in prompt
    replaced = [tool for tool in shown["tools"] if tool["tool_args"].get("command") in {note("4"), note("5")}]
    assert [tool["result"] for tool in replaced] == ["Not run: another plan took its place."] * 2
    assert note("4") not in run["result"].replace(note("4b"), "")


async def test_a_correction_that_fails_too_is_asked_about_again(tmp_path: Path, checkout: Path) -> None:
    async with served_setup(tmp_path, PlanningModel(FIVE)) as server:
        run = await failed_at_three(server, checkout)
        run = await server.resumed(run, "$ echo still not >&2; exit 8")
        assert run["status"] == "PAUSED"
        assert run["result"].startswith("Command 3 of 5 failed with exit code 8: `echo still not >&2; exit 8`")
        run = await server.resumed(run, f"$ {note('3c')}")
    assert run["status"] == "COMPLETE"
    assert traces(checkout) == ["1", "2", "3", "3c", "4", "5"]


async def test_a_later_command_that_fails_has_its_own_number(tmp_path: Path, checkout: Path) -> None:
    plan = [note("1"), "exit 1", note("3"), "exit 2", note("5")]
    async with served_setup(tmp_path, PlanningModel(plan)) as server:
        run = await server.prepared()
        assert run["result"].startswith("Command 2 of 5 failed")
        run = await server.resumed(run, f"```\n{note('2a')}\n{note('2b')}\n```")
        assert run["result"].startswith("Command 5 of 6 failed with exit code 2")
        run = await server.resumed(run, f"$ {note('4b')}")
    assert run["status"] == "COMPLETE"
    assert traces(checkout) == ["1", "2a", "2b", "3", "4b", "5"]
    assert run["result"].endswith("\n".join([*map(note, ["1", "2a", "2b", "3", "4b", "5"]), "```"]))


async def test_an_answer_is_kept_for_later_plans(tmp_path: Path, checkout: Path) -> None:
    model = PlanningModel(["exit 1", note("never")], ["exit 2"], [])
    async with served_setup(tmp_path, model) as server:
        run = await server.resumed(await server.prepared(), "First advice.")
        run = await server.resumed(run, "Second advice.")
    assert run["status"] == "COMPLETE"
    assert "Answer: First advice." in model.prompts[2]
    assert "New prompt of the user:\nSecond advice." in model.prompts[2]
    # What another plan replaced is not among what was cut off by a crash.
    assert note("never") not in model.prompts[2] + run["result"]
    assert traces(checkout) == []


@pytest.mark.usefixtures("checkout")
async def test_pictures_of_a_resume_reach_the_model(tmp_path: Path) -> None:
    model = PlanningModel(["exit 1"], [])
    async with served_setup(tmp_path, model) as server:
        run = await server.prepared()
        await server.resumed(run, "See.", images=["data:image/png;base64,iVBORw0KGgo="])
    assert model.pictures == [b"\x89PNG\r\n\x1a\n"]


async def test_a_question_of_the_model_waits_for_a_person(tmp_path: Path, checkout: Path) -> None:
    model = PlanningModel({"commands": [note("1")], "question": "Which database?"}, [note("postgres")])
    async with served_setup(tmp_path, model) as server:
        run = await server.prepared()
        assert (run["status"], run["result"]) == ("PAUSED", "Which database?")
        assert traces(checkout) == []
        run = await server.resumed(run, "PostgreSQL.")
    assert run["status"] == "COMPLETE"
    assert traces(checkout) == ["postgres"]
    assert "Question to the user: Which database?\nAnswer: PostgreSQL." in model.prompts[1]
    assert f"which have not run:\n- {note('1')}" in model.prompts[1]


async def test_a_question_alone_leaves_what_was_planned_before(tmp_path: Path, checkout: Path) -> None:
    model = PlanningModel(FIVE, {"question": "Which target?"})
    async with served_setup(tmp_path, model) as server:
        run = await server.resumed(await failed_at_three(server, checkout), "Use another target.")
        assert (run["status"], run["result"]) == ("PAUSED", "Which target?")
        run = await server.resumed(run, f"$ {note('3b')}")
    assert run["status"] == "COMPLETE"
    assert traces(checkout) == ["1", "2", "3", "3b", "4", "5"]


async def test_commands_beside_a_question_run_after_those_that_answer_it(tmp_path: Path, checkout: Path) -> None:
    model = PlanningModel({"commands": [note("2")], "question": "How to install it?"})
    async with served_setup(tmp_path, model) as server:
        run = await server.resumed(await server.prepared(), f"$ {note('1')}")
    assert run["status"] == "COMPLETE"
    assert traces(checkout) == ["1", "2"]


# ------------------------------------------------------------------------------ whose runs these are


@pytest.mark.usefixtures("checkout")
async def test_nobody_else_can_start_the_agent_and_it_is_not_listed(tmp_path: Path) -> None:
    async with served_setup(tmp_path, PlanningModel()) as server:
        response = await server.client.post("/agents/setup-commands/runs", data={"message": "x", "stream": "false"})
        agents = await server.get("/agents")
    assert response.status_code == 404
    assert [agent["id"] for agent in agents.json()] == ["ops"]


@pytest.mark.usefixtures("checkout")
async def test_without_a_workspace_root_a_paused_run_waits_until_there_is_one_again(
    tmp_path: Path, checkout: Path
) -> None:
    async with served_setup(tmp_path, PlanningModel(FIVE)) as server:
        run = await failed_at_three(server, checkout)
    async with served_setup(tmp_path, PlanningModel(), workspace_root=None) as server:
        refused = await server.resume(run["id"], f"$ {note('3b')}")
        assert (refused.status_code, refused.json()["status_code"]) == (503, 503)
        assert "No running server serves agent 'setup-commands'" in refused.json()["message"]
    async with served_setup(tmp_path, PlanningModel()) as server:
        run = await server.resumed(run, f"$ {note('3b')}")
    assert run["status"] == "COMPLETE"
    assert traces(checkout) == ["1", "2", "3", "3b", "4", "5"]


async def test_a_restart_between_pause_and_resume_changes_nothing(tmp_path: Path, checkout: Path) -> None:
    async with served_setup(tmp_path, PlanningModel(FIVE)) as server:
        run = await failed_at_three(server, checkout)
    async with served_setup(tmp_path, PlanningModel()) as server:
        assert (await server.read_by_codegen(run["id"]))["result"] == run["result"]
        run = await server.resumed(run, f"$ {note('3b')}")
    assert run["status"] == "COMPLETE"
    assert traces(checkout) == ["1", "2", "3", "3b", "4", "5"]


async def test_no_agent_of_that_name_can_be_served_beside_it(tmp_path: Path) -> None:
    model = PlanningModel()
    agent = model.agent()
    agent.name = "setup-commands"
    model.agent = lambda: agent  # type: ignore[method-assign]
    with pytest.raises(InvalidSetting, match="setup-commands"):
        async with served_setup(tmp_path, model):
            pass


async def test_the_question_can_be_found_among_the_requirements(tmp_path: Path, checkout: Path) -> None:
    async with served_setup(tmp_path, PlanningModel(FIVE)) as server:
        shown = await server.as_agno(await failed_at_three(server, checkout))
    (expected,) = [item for item in shown["requirements"] if is_open(item)]
    tool = expected["tool_execution"]
    assert tool["tool_name"] == "fix_command"
    assert tool["tool_args"] == {
        "command": FIVE[2],
        "exit_code": 7,
        "output": "no such target",
        "number": 3,
        "of": 5,
    }


async def test_commands_are_chosen_only_by_whom_the_scope_of_their_own_was_given(
    tmp_path: Path, checkout: Path
) -> None:
    agents = ("agents:run", "agents:*:run", "agents:setup-commands:run", "approvals:write", "users:read")
    usual = frozenset({*DEFAULT_SCOPES, *agents})
    async with served_setup(tmp_path, PlanningModel(FIVE)) as server:
        run = await failed_at_three(server, checkout)
        service = server.application.service
        name, command = RunRef(id=run["id"]), ContinueRun(prompt="$ touch chosen")
        create = CreateRun("setup-commands", "Do it.", source_type=SETUP_COMMANDS, repo_id=REPOSITORY)
        with pytest.raises(ScopeMissing, match="setup:run"):
            await service.continue_run(Principal(1, scopes=usual), name, command)
        with pytest.raises(ScopeMissing, match="setup:run"):
            await service.create_run(Principal(1, scopes=usual), create)
        assert (await server.read_by_codegen(run["id"]))["status"] == "PAUSED"
        accepted = await service.continue_run(Principal(1, scopes=usual | {"setup:run"}), name, command)
        await server.settled_by_codegen(run["id"], accepted.after)
        assert (checkout / "chosen").exists()
