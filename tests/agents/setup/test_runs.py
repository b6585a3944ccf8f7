"""How the preparation of a repository goes on, pauses and ends, and what is kept of it, on a whole server."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.caller import body_of
from tests.support.planning import PlanningModel, make_checkout
from tests.support.reaching import until
from tests.support.setup_server import FIVE, failed_at_three, note, served_setup, traces


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return make_checkout(tmp_path / "checkouts", README__md="Run `make`.")


def move(checkout: Path, target: Path) -> None:
    checkout.rename(target)


# ------------------------------------------------------------------------------ ends


@pytest.mark.usefixtures("checkout")
async def test_an_empty_plan_completes_at_once(tmp_path: Path) -> None:
    async with served_setup(tmp_path, PlanningModel([])) as server:
        run = await server.prepared()
    assert (run["status"], run["result"]) == ("COMPLETE", "Nothing had to be run.")


async def test_declining_the_question_ends_the_run_as_an_error_that_says_what_was_done(
    tmp_path: Path, checkout: Path
) -> None:
    async with served_setup(tmp_path, PlanningModel(FIVE)) as server:
        run = await failed_at_three(server, checkout)
        shown = body_of(await server.answered(run, confirmed=False, confirmation_note="Leave it."))
        assert shown["status"] == "ERROR"
        run = await server.read_by_codegen(run["id"])
    assert run["status"] == "ERROR"
    assert "nobody answered how to go on. Leave it." in run["result"]
    assert f"Script:\n```sh\n{note('1')}\n{note('2')}\n```" in run["result"]
    assert traces(checkout) == ["1", "2", "3"]


@pytest.mark.usefixtures("checkout")
async def test_a_model_that_fails_ends_the_run_without_its_secrets(tmp_path: Path) -> None:
    async with served_setup(tmp_path, PlanningModel(RuntimeError("no route, key sk-abcdef123456"))) as server:
        run = await server.prepared()
    assert run["status"] == "ERROR"
    assert "no route" in run["result"]
    assert "sk-abcdef" not in run["result"]


async def test_a_plan_that_cannot_be_one_is_asked_for_again(tmp_path: Path, checkout: Path) -> None:
    model = PlanningModel({"commands": [" "]}, {"commands": ["a\x00b"]}, [note("1")])
    async with served_setup(tmp_path, model) as server:
        run = await server.prepared()
    assert run["status"] == "COMPLETE"
    assert traces(checkout) == ["1"]


async def test_a_checkout_that_is_gone_ends_the_run(tmp_path: Path, checkout: Path) -> None:
    async with served_setup(tmp_path, PlanningModel(FIVE)) as server:
        run = await failed_at_three(server, checkout)
        move(checkout, tmp_path / "elsewhere")
        run = await server.resumed(run, f"$ {note('3b')}")
    assert (run["status"], run["result"]) == ("ERROR", "The checkout of the repository is not there")


async def test_a_command_over_its_time_is_stopped_and_asked_about(tmp_path: Path, checkout: Path) -> None:
    plan, place = ["echo begun; sleep 1000", note("2")], {"workspace_root": checkout.parent}
    seconds, run = 0.25, {"result": ""}
    # The time limit counts from the start of a process, which takes a busy machine seconds.
    while "\nbegun\n" not in run["result"]:
        seconds *= 2
        (folder := tmp_path / f"{seconds:g}").mkdir()
        async with served_setup(folder, PlanningModel(plan), command_timeout_seconds=seconds, **place) as server:
            run = await server.prepared()
            assert run["result"].startswith("Command 1 of 2 was stopped at its time limit: `echo begun;")
    # The others have the usual one.
    async with served_setup(folder, PlanningModel([]), **place) as server:
        run = await server.resumed(run, f"$ {note('1')}")
    assert run["status"] == "COMPLETE"
    assert "stopped at its time limit" in run["result"]
    assert traces(checkout) == ["1", "2"]


# ------------------------------------------------------------------------------ what is kept


@pytest.mark.usefixtures("checkout")
async def test_a_runaway_output_is_bounded_everywhere(tmp_path: Path) -> None:
    plan = ["yes | head -c 50000000", "yes no | head -c 50000000; exit 1"]
    async with served_setup(tmp_path, PlanningModel(plan), command_output_bytes=20_000) as server:
        run = await server.prepared()
        shown = await server.as_agno(run)
    assert len(run["result"]) < 5_000
    first = shown["tools"][0]["result"]
    assert first.startswith("exit code 0 after")
    assert 20_000 <= len(first) < 20_100


async def test_commands_see_nothing_of_the_servers_environment(
    tmp_path: Path, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("UNPAUSE_CANARY", "tweet-tweet")
    async with served_setup(tmp_path, PlanningModel(["env > seen", "echo kept > $HOME/kept"])) as server:
        run = await server.prepared()
    assert run["status"] == "COMPLETE"
    seen = (checkout / "seen").read_text(encoding="utf-8")
    assert "tweet" not in seen
    names = {line.partition("=")[0] for line in seen.splitlines()}
    assert names <= {"PATH", "HOME", "LANG", "PWD", "OLDPWD", "SHLVL", "_"}
    assert (tmp_path / "checkouts" / ".homes" / "12" / "kept").exists()


@pytest.mark.usefixtures("checkout")
async def test_output_that_no_database_takes_is_kept_all_the_same(tmp_path: Path) -> None:
    async with served_setup(tmp_path, PlanningModel([r"printf 'a\000\377b'"])) as server:
        shown = await server.as_agno(await server.prepared())
    assert shown["tools"][0]["result"].endswith("\na\ufffd\ufffdb")


@pytest.mark.usefixtures("checkout")
async def test_the_conversation_can_be_read(tmp_path: Path) -> None:
    async with served_setup(tmp_path, PlanningModel(["echo one", "exit 1"])) as server:
        run = await server.resumed(await server.prepared(prompt="Please."), "$ echo two")
        shown = await server.as_agno(run)
    sent = [(message["role"], message["content"].partition("\n")[0]) for message in shown["messages"]]
    assert [role for role, _ in sent] == [
        *("user", "assistant", "tool", "tool", "assistant"),
        *("user", "assistant", "tool", "assistant"),
    ]
    assert sent[0] == ("user", "Please.")
    assert sent[5] == ("user", "$ echo two")
    assert sent[-1] == ("assistant", "The repository is prepared.")
    assert shown["metrics"]["requests"] == 1


@pytest.mark.usefixtures("checkout")
async def test_the_log_shows_the_commands(tmp_path: Path) -> None:
    async with served_setup(tmp_path, PlanningModel(["echo one", "echo two; exit 1"])) as server:
        run = await server.prepared(prompt="Please.")
        logs = await server.get(f"/v1/alpha/organizations/1/agent/run/{run['id']}/logs")
    actions = [entry for entry in logs.json()["logs"] if entry["tool_name"] == "run_command"]
    assert [entry["tool_input"]["command"] for entry in actions][:1] == ["echo one"]
    assert "two" in logs.text


@pytest.mark.usefixtures("checkout")
async def test_another_agent_can_go_on_in_the_session(tmp_path: Path) -> None:
    model = PlanningModel(["echo one"])
    async with served_setup(tmp_path, model) as server:
        shown = await server.as_agno(await server.prepared())
        form = {"message": "What was run?", "stream": "true", "session_id": shown["session_id"]}
        response = await server.client.post("/agents/ops/runs", data=form)
    # The history is read before this model, which cannot stream, is asked.
    assert "RunError" in response.text
    assert "stream" in response.text.lower()
    assert "validation" not in response.text.lower()


# ------------------------------------------------------------------------------ pauses on request


async def test_a_wish_to_pause_is_heard_between_commands(tmp_path: Path, checkout: Path) -> None:
    plan = [f"{note('1')}; while [ ! -e go ]; do sleep 0.02; done", note("2")]
    model = PlanningModel(plan, [note("2b")])
    async with served_setup(tmp_path, model) as server:
        key = body_of(await server.generate())["agent_run_id"]
        while not traces(checkout):
            assert (await server.read_by_codegen(key))["status"] == "ACTIVE"
        paused = await server.post("/v1/organizations/1/agent/run/pause", {"agent_run_id": key})
        assert paused.status_code == 200, paused.text
        (checkout / "go").touch()
        run = await server.settled_by_codegen(key)
        assert run["status"] == "PAUSED"
        assert traces(checkout) == ["1"]
        run = await server.resumed(run, "Go on, the other way.")
        shown = await server.as_agno(run)
    assert run["status"] == "COMPLETE"
    assert traces(checkout) == ["1", "2b"]
    assert "New prompt of the user:\nGo on, the other way." in model.prompts[1]
    assert shown["metrics"]["requests"] == 2


async def test_a_run_that_is_cancelled_ends_its_command(tmp_path: Path, checkout: Path) -> None:
    plan = ["echo $$ > pid.new; mv pid.new pid; sleep 1000 & sleep 1000"]
    async with served_setup(tmp_path, PlanningModel(plan)) as server:
        key = body_of(await server.generate())["agent_run_id"]
        while not (checkout / "pid").exists():
            assert (await server.read_by_codegen(key))["status"] == "ACTIVE"
        await server.post("/v1/organizations/1/agent/run/ban", {"agent_run_id": key})
        assert (await server.read_by_codegen(key))["status"] == "CANCELLED"
    leader = int((checkout / "pid").read_text(encoding="ascii"))
    # A killed process is gone a moment later.
    await until(lambda: leader not in groups_alive())


def groups_alive() -> set[int | None]:
    return {_group_of(process) for process in Path("/proc").glob("[0-9]*")}


def _group_of(process: Path) -> int | None:
    """Return the group of a process that runs."""
    try:
        state, _, group = (process / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[:3]
    except OSError:
        return None
    return None if state in {"Z", "X"} else int(group)
