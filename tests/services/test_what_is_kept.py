"""What models, tools and clients say that a database does not take: nothing of it makes the server fail."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.support.databases import Place
from tests.support.pausing_driver import PausingDriver, need
from tests.support.runs import answer, finish, follow, look, open_requirements, start_and_follow
from tests.support.serving import running, serving
from tests.support.toolless import Toolless
from unpause.agents.driver import (
    CallResult,
    Completed,
    Failed,
    Journal,
    NewMessage,
    Paused,
    ProposedCall,
    Segment,
    SegmentEnd,
)
from unpause.domain.events import EventType
from unpause.domain.forms import InputField
from unpause.domain.principal import Principal
from unpause.domain.requirements import ToolAnswer
from unpause.domain.runs import EndReason, Image, Outcome, RunRef, RunStatus, TranscriptEntry
from unpause.errors import InvalidInput
from unpause.services.commands import ContinueRun, CreateRun

_NUL = "a\0b"
_SHOWN = "a\ufffdb"


@dataclass
class NulDriver(Toolless):
    """Says U+0000 wherever a driver can say something."""

    fails: bool = False
    agent_id: str = "nul"
    agent_name: str = "nul"
    model_name: str = "nul-1"
    model_provider: str = "tests"

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Call a tool and pause for another; then complete or fail."""
        if segment.messages:
            await journal.emit(EventType.CONTENT_DELTA, {"content": _NUL, "pieces": [_NUL, {_NUL: [_NUL, 1, None]}]})
            return Failed(EndReason.MODEL_ERROR, _NUL) if self.fails else Completed(_NUL)
        entry = TranscriptEntry("1", "tool", _NUL, segment.run.created_at, tool_calls=(("free", "tool", {"of": _NUL}),))
        journal.record_turn(
            [NewMessage({"parts": [_NUL]}, (entry,))],
            [ProposedCall(name, f"tool-{_NUL}", {"of": _NUL}) for name in ("free", "never", _NUL)],
        )
        await journal.start_call("free", idempotent=False)
        await journal.finish_call("free", CallResult(Outcome.SUCCESS, {"return_value": [_NUL]}, _NUL))
        journal.settle_call("never", CallResult(Outcome.FAILED, _NUL, _NUL))
        field = InputField("of", "str", _NUL, value=_NUL, open=False)
        return Paused((need(_NUL, "user_input", fields=(field,), message=_NUL, approval="audit"),), content=_NUL)


@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.sql
async def test_text_of_a_model_or_tool_with_a_nul_is_kept_with_a_replacement(
    tmp_path: Path, database_url: str, *, fails: bool
) -> None:
    async with running(tmp_path, drivers=[NulDriver(fails)], database_url=database_url) as application:
        view = await start_and_follow(application)
        assert (view.run.status, view.run.content) == (RunStatus.PAUSED, _SHOWN)
        (waits,) = open_requirements(view)
        assert (waits.tool_call_id, waits.tool_args, waits.message) == (_SHOWN, {"of": _SHOWN}, _SHOWN)
        assert [call.result_text for call in view.tool_calls] == [_SHOWN, _SHOWN, None]
        continued = await answer(application, view.run, ToolAnswer(_SHOWN, confirmed=True))
        assert continued.run.content is None, "the words of a pause are over with it"
        live = await follow(application, view.run, continued.after)
        ended = await look(application, view.run)
        assert live == await follow(application, view.run, continued.after)
        place = Place(database_url)
    assert (ended.run.status, ended.run.content) == (RunStatus.ERROR if fails else RunStatus.COMPLETED, _SHOWN)
    stored = str(place.dump())
    assert _SHOWN in stored
    assert "\\x00" not in stored
    assert "\0" not in str(live)


async def test_neither_a_run_nor_an_answer_is_made_of_text_with_a_nul(tmp_path: Path) -> None:
    creates = [
        CreateRun("pausing", _NUL),
        CreateRun("pausing", "go", session_id=_NUL),
        CreateRun("pausing", "go", images=(Image(_NUL, "aGk="),)),
        CreateRun("pausing", "go", metadata={"deep": [{"down": _NUL}]}),
        CreateRun("pausing", "go", session_state={_NUL: 1}),
        CreateRun("pausing", "go", dependencies={"a": _NUL}),
    ]
    continues = [
        ContinueRun((), _NUL),
        ContinueRun((ToolAnswer("a", confirmed=False, note=_NUL),)),
        ContinueRun((ToolAnswer("a", confirmed=True, values={"of": [_NUL]}),)),
        ContinueRun((ToolAnswer("a", confirmed=True, tool_args={"of": _NUL}),)),
        ContinueRun((ToolAnswer("a", result=_NUL),)),
        ContinueRun((), "look", (Image("image/png", _NUL),)),
    ]
    ada, nobody = Principal(1, "ada"), Principal(1, _NUL)
    async with running(tmp_path, drivers=[PausingDriver((need("a", editable=("of",)),))]) as application:
        run = (await start_and_follow(application)).run
        before = Place.in_folder(tmp_path).lasting()
        for who, create in (*((ada, each) for each in creates), (nobody, CreateRun("pausing", "go"))):
            with pytest.raises(InvalidInput):
                await application.service.create_run(who, create)
        for who, command in (*((ada, each) for each in continues), (nobody, ContinueRun((), "go on"))):
            with pytest.raises(InvalidInput):
                await application.service.continue_run(who, RunRef(id=run.id), command)
        assert Place.in_folder(tmp_path).lasting() == before


async def test_both_apis_refuse_a_nul_in_their_own_shapes(tmp_path: Path) -> None:
    refusal = "Text must not contain the character U+0000"
    codegen = "/v1/organizations/1/agent/run"
    async with serving(tmp_path, drivers=[PausingDriver((need("a"),))]) as client:
        created = await client.post("/agents/pausing/runs", data={"message": _NUL, "stream": "false"})
        posted = await client.post(codegen, json={"prompt": _NUL})
        paused = (await client.post("/agents/pausing/runs", data={"message": "go", "stream": "false"})).json()
        tools = [{**tool, "confirmed": False, "confirmation_note": _NUL} for tool in paused["tools"]]
        path = f"/agents/pausing/runs/{paused['run_id']}/continue"
        continued = await client.post(path, data={"tools": json.dumps(tools), "stream": "false"})
        resumed = await client.post(f"{codegen}/resume", json={"agent_run_id": 1, "prompt": _NUL})
        status = (await client.get(f"/agents/pausing/runs/{paused['run_id']}")).json()["status"]
    for response in (created, continued):
        assert (response.status_code, response.json()) == (400, {"detail": refusal})
    for response in (posted, resumed):
        assert (response.status_code, response.json()) == (400, {"message": refusal, "status_code": 400})
    assert status == "PAUSED"


@dataclass
class NamingDriver(PausingDriver):
    """Calls a tool of the name it is given."""

    tool_name: str = "tool"

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Call the tool."""
        del segment
        journal.record_turn([NewMessage("first", ())], [ProposedCall("call", self.tool_name, {})])
        return Completed("done")


@pytest.mark.parametrize(
    ("driver", "what"),
    [(PausingDriver((need("a"), need("i" * 256))), "an id"), (NamingDriver((), tool_name="n" * 256), "a name")],
)
async def test_a_call_with_too_long_an_id_or_name_ends_its_run_and_says_so(
    tmp_path: Path, driver: PausingDriver, what: str
) -> None:
    async with running(tmp_path, drivers=[driver]) as application:
        view = await start_and_follow(application)
    assert (view.run.status, view.run.end_reason) == (RunStatus.ERROR, EndReason.MODEL_ERROR)
    assert view.run.content == (
        f"The model made a tool call with {what} of 256 characters: more than 255 cannot be kept"
    )
    assert view.tool_calls == ()


@pytest.mark.sql
async def test_a_call_with_the_longest_id_is_asked_about_and_runs(tmp_path: Path, database_url: str) -> None:
    call_id = "i" * 250
    async with running(tmp_path, drivers=[PausingDriver((need(call_id),))], database_url=database_url) as application:
        view = await start_and_follow(application)
        yes = ToolAnswer(call_id, confirmed=True)
        ended = await finish(application, view.run, await answer(application, view.run, yes))
    assert ended.run.status is RunStatus.COMPLETED
