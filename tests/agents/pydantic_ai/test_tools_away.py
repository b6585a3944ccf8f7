"""An approved call whose tool cannot be reached when its run goes on waits for another yes: the first is not spent."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import pytest
from pydantic_ai import Agent, RunContext, Tool
from pydantic_ai.toolsets import AbstractToolset, FunctionToolset, WrapperToolset
from pydantic_ai.toolsets.abstract import ToolsetTool

from tests.agents.pydantic_ai.driving import DrivenServer, driving, no, open_tools, said_by_tools, yes
from tests.support.agents import Call, ScriptedModel
from tests.support.toolbox import JsonObject
from unpause import policy

DOWN = "connection to tickets.example refused"


@dataclass
class Service(WrapperToolset[Any]):
    """A toolset that can be away, in one of the ways in which toolsets are."""

    wrapped: AbstractToolset[Any] = field(default_factory=FunctionToolset)
    away: str | None = None

    def _refuse(self, moment: str) -> None:
        if self.away == moment:
            raise ConnectionError(DOWN)
        if self.away == f"{moment} in a group":
            raise ExceptionGroup("unhandled errors in a TaskGroup", [ConnectionError(DOWN)])

    async def for_run(self, ctx: RunContext[Any]) -> Self:
        self._refuse("run")
        del ctx
        return self

    async def for_run_step(self, ctx: RunContext[Any]) -> Self:
        self._refuse("step")
        del ctx
        return self

    async def __aenter__(self) -> Self:
        self._refuse("connect")
        return self

    async def __aexit__(self, *args: object) -> bool | None:
        self._refuse("close")
        return None

    async def get_tools(self, ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
        self._refuse("list")
        return {} if self.away == "no tools" else await super().get_tools(ctx)


class Desk:
    """An agent with a service's tool ``close`` that asks, and what the tool did."""

    def __init__(self, *turns: Any, **rules: Any) -> None:  # noqa: ANN401 - any turn, any rule
        self.closed: list[str] = []
        self.script = ScriptedModel(*(turns or ([Call("close", {"ticket": "7"}, "c1")],)))
        self.service = Service(FunctionToolset([self._tool(**rules)]))
        self.agent = self._agent(self.service)

    def _agent(self, *toolsets: AbstractToolset[Any]) -> Agent[None, str]:
        return Agent(self.script.model, name="agent", toolsets=toolsets)

    def _tool(self, **rules: Any) -> Tool[None]:  # noqa: ANN401
        def close(ticket: str, note: str = "none") -> str:
            """Close a ticket."""
            self.closed.append(f"{ticket}, {note}")
            return f"closed {ticket}"

        return Tool(close, requires_approval=not rules, metadata=policy(**rules))

    def offered_dynamically(self) -> None:
        """Have the tool offered by a function that is called for each step."""
        service = self.service
        self.agent = self._agent()

        @self.agent.toolset
        def offer(ctx: RunContext[None]) -> AbstractToolset[Any] | None:
            del ctx
            if service.away == "function raises":
                raise ConnectionError(DOWN)
            return None if service.away == "nothing offered" else service


async def tried(server: DrivenServer, desk: Desk, run: JsonObject, away: str) -> JsonObject:
    """Approve what waits while the service is away; return the run, which waits again."""
    desk.service.away = away
    again = await server.confirm(run)
    desk.service.away = None
    assert (again["status"], desk.closed, len(desk.script.requests)) == ("PAUSED", [], 1)
    return again


UNREACHABLE = ("run", "step", "connect", "connect in a group", "list", "function raises")


@pytest.mark.parametrize(
    "away",
    [
        *(pytest.param(away, marks=pytest.mark.full) for away in UNREACHABLE[:3]),
        *(*UNREACHABLE[3:], "no tools", "nothing offered"),
    ],
)
async def test_the_approval_waits_with_the_reason_and_another_one_runs_the_call_once(tmp_path: Path, away: str) -> None:
    desk = Desk()
    if away in {"function raises", "nothing offered"}:
        desk.offered_dynamically()
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()
        again = await tried(server, desk, run, away)
        reason = DOWN if away in UNREACHABLE else "the agent does not have it now"
        words = f"The tool close is not available: {reason}. It did not run: approve it again once the tool is back."
        assert again["content"] == words
        (waiting,) = open_tools(again)
        assert waiting["tool_args"] == {"ticket": "7", "note": "none"}
        assert again["requirements"][-1]["message"] == words
        inbox = (await server.client.get("/inbox")).json()["data"]
        assert [item["explanation"] for item in inbox] == [words]
        codegen = await server.read_by_codegen(run)
        assert (codegen["status"], codegen["result"]) == ("PAUSED", words)
        # The first answer does not count for the second question.
        late = await server.post_continue(again, [yes(tool) for tool in run["tools"]])
        assert (late.status_code, desk.closed) == (409, [])

        done = await server.confirm(await tried(server, desk, again, away))
        audit = (await server.client.get("/audit", params={"run_id": run["run_id"]})).json()["data"]
    assert (done["status"], desk.closed) == ("COMPLETED", ["7, none"])
    assert said_by_tools(done) == [("close", "closed 7")]
    trail = [(entry["action"], entry["note"]) for entry in reversed(audit)]
    answered, reopened = ("requirement.answered", None), ("requirement.reopened", words)
    assert trail == [answered, reopened, answered, reopened, answered]


async def test_it_waits_over_a_restart_and_can_be_rejected(tmp_path: Path) -> None:
    desk = Desk()
    async with driving(tmp_path, desk.agent) as server:
        again = await tried(server, desk, await server.run(), "connect")
    async with driving(tmp_path, desk.agent) as server:
        again = await server.read(again)
        done = await server.answer_with(again, *(no(tool, "leave it open") for tool in open_tools(again)))
    assert (done["status"], desk.closed, said_by_tools(done)) == ("COMPLETED", [], [("close", "leave it open")])


async def test_an_approval_of_a_tool_that_is_there_is_not_spent_either(tmp_path: Path) -> None:
    # Without all of its toolsets the agent can call none.
    desk, other = Desk(), Service()
    desk.agent = Agent(desk.script.model, name="agent", toolsets=[desk.service, other])
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()
        other.away = "connect"
        again = await server.confirm(run)
        assert (again["status"], desk.closed) == ("PAUSED", [])
        other.away = None
        await server.confirm(again)
    assert desk.closed == ["7, none"]


async def test_of_several_calls_those_that_are_there_run_and_the_other_waits(tmp_path: Path) -> None:
    desk = Desk([Call("close", {"ticket": "7"}, "c1"), Call("ring", {}, "c2")])
    rung: list[bool] = []

    @desk.agent.tool_plain(requires_approval=True)
    def ring() -> None:
        rung.append(True)

    async with driving(tmp_path, desk.agent) as server:
        again = await tried(server, desk, await server.run(), "no tools")
        assert rung == [True]
        assert [tool["tool_name"] for tool in open_tools(again)] == ["close"]
        await server.confirm(again)
    assert (desk.closed, rung) == (["7, none"], [True])


async def test_who_had_to_decide_has_to_decide_again(tmp_path: Path) -> None:
    desk = Desk(approval="required", expires_in=600)
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()
        desk.service.away = "no tools"
        for _ in range(2):
            refused = await server.post_continue(run, "")
            assert refused.status_code == 403, "only an administrator"
            (approval,) = (await server.client.get("/approvals", params={"status": "pending"})).json()["data"]
            assert approval["expires_at"] is not None
            resolved = await server.client.post(f"/approvals/{approval['id']}/resolve", json={"status": "approved"})
            assert resolved.status_code == 200, resolved.text
            run = await server.continued(run)
            desk.service.away = None
    assert (run["status"], desk.closed) == ("COMPLETED", ["7, none"])


@pytest.mark.parametrize("rules", [{"user_input": ["note"]}, {"editable": ["note", "ticket"]}])
async def test_what_people_filled_in_is_kept(tmp_path: Path, rules: JsonObject) -> None:
    desk = Desk(**rules)
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()
        (tool,) = run["tools"]
        changed = {**tool, "tool_args": {**tool["tool_args"], "note": "done by ann"}, "confirmed": True}
        if "user_input" in rules:
            fields = [{**each, "value": each["value"] or "done by ann"} for each in tool["user_input_schema"]]
            changed = {**tool, "user_input_schema": fields}
        desk.service.away = "list"
        again = await server.answer_with(run, changed)
        assert open_tools(again)[0]["tool_args"]["note"] == "done by ann"
        desk.service.away = None
        done = await server.confirm(await tried(server, desk, again, "no tools"))
    assert (done["status"], desk.closed) == ("COMPLETED", ["7, done by ann"])


async def test_without_an_approval_at_stake_the_run_fails_as_before(tmp_path: Path) -> None:
    desk = Desk()
    desk.service.away = "connect"
    async with driving(tmp_path, desk.agent) as server:
        assert (await server.run())["status"] == "ERROR"
        desk.service.away = None
        run = await server.run()
        desk.service.away = "connect"
        failed = await server.answer_with(run, *(no(tool) for tool in open_tools(run)))
    assert (failed["status"], failed["content"]) == ("ERROR", DOWN)


async def test_a_toolset_that_goes_away_after_the_approved_call_does_not_run_it_again(tmp_path: Path) -> None:
    desk = Desk([Call("close", {"ticket": "7"}, "c1")], [Call("close", {"ticket": "8"}, "c2")])
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()

        def close(ticket: str, note: str = "none") -> str:
            del note
            desk.service.away = "step"
            return f"closed {ticket}"

        desk.service.wrapped = FunctionToolset([Tool(close, requires_approval=True)])
        failed = await server.confirm(run)
    assert (failed["status"], failed["content"], said_by_tools(failed)) == ("ERROR", DOWN, [("close", "closed 7")])


async def test_the_secret_in_a_toolset_s_error_is_not_shown(tmp_path: Path) -> None:
    desk = Desk()
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()
        secret = "sk-" + "a" * 30
        desk.service.wrapped = FunctionToolset()

        async def refuse(ctx: RunContext[Any]) -> dict[str, ToolsetTool[Any]]:
            del ctx
            message = f"401 for {secret}"
            raise RuntimeError(message)

        desk.service.get_tools = refuse  # type: ignore[method-assign]
        again = await server.confirm(run)
    assert again["content"].startswith("The tool close is not available: 401 for ")
    assert secret not in str(again)


def _closing(parameters: str) -> FunctionToolset[Any]:
    """Return the tool as a new version of its service has it."""
    names: dict[str, Any] = {}
    exec(f"def close({parameters}) -> str: return 'closed'", names)  # noqa: S102 - our own
    return FunctionToolset([Tool(names["close"], requires_approval=True)])


async def test_arguments_that_the_tool_s_new_schema_refuses_are_decided_again_with_the_reason(tmp_path: Path) -> None:
    desk = Desk()
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()
        old, desk.service.wrapped = desk.service.wrapped, _closing("ticket: str, queue: str, note: str = 'none'")
        again = await server.confirm(run)
        assert (again["status"], again["content"]) == ("PAUSED", "close did not run: queue: Field required")
        desk.service.wrapped = old
        done = await server.confirm(again)
    assert (done["status"], desk.closed) == ("COMPLETED", ["7, none"])


async def test_a_tool_that_checks_its_arguments_itself_is_asked_about_once(tmp_path: Path) -> None:
    called: list[JsonObject] = []

    def versioned(*required: str) -> FunctionToolset[Any]:
        properties = {name: {"type": "string"} for name in ("ticket", "queue")}
        schema = {"type": "object", "properties": properties, "required": list(required)}

        def close(**arguments: Any) -> str:  # noqa: ANN401
            called.append(arguments)
            return "closed"

        tool = Tool.from_schema(close, "close", None, schema)
        tool.requires_approval = True
        return FunctionToolset([tool])

    desk = Desk()
    desk.service.wrapped = versioned("ticket")
    async with driving(tmp_path, desk.agent) as server:
        run = await server.run()
        desk.service.wrapped = versioned("ticket", "queue")
        again = await server.confirm(run)
        assert again["status"] == "PAUSED"
        assert again["content"] == (
            'close did not run: its parameters are different now. answer: "queue" is a required property'
        )
        assert called == []
        done = await server.confirm(again)
    assert (done["status"], called) == ("COMPLETED", [{"ticket": "7"}])


async def test_a_run_pauses_and_ends_though_its_tools_cannot_be_closed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    desk = Desk()
    async with driving(tmp_path, desk.agent) as server:
        desk.service.away = "close"
        run = await server.run()
        assert run["status"] == "PAUSED"
        assert "tools did not close" in capsys.readouterr().out
        done = await server.confirm(run)
    assert (done["status"], done["content"], desk.closed) == ("COMPLETED", "done", ["7, none"])
    assert "tools did not close" in capsys.readouterr().out


async def test_a_run_that_fails_says_why_though_its_tools_cannot_be_closed(tmp_path: Path) -> None:
    desk = Desk(RuntimeError("the model is broken"))
    async with driving(tmp_path, desk.agent) as server:
        desk.service.away = "close"
        failed = await server.run()
    assert (failed["status"], failed["content"]) == ("ERROR", "the model is broken")
