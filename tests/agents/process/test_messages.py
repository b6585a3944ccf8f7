"""Messages come out of the frames as they went in, whatever is in them; what is no message is refused."""

from __future__ import annotations

import json
from datetime import UTC, datetime

import pytest

from unpause.agents.driver import (
    CallResult,
    Completed,
    Failed,
    NewMessage,
    OwnDecision,
    Paused,
    ProposedCall,
    RequirementRequest,
    Segment,
)
from unpause.agents.process.frames import ProtocolViolation
from unpause.agents.process.messages import (
    Emit,
    Ended,
    FinishCall,
    RecordOwnDecision,
    RecordTurn,
    RunSegment,
    SettleCall,
    StartCall,
    decode_from_agents,
    decode_from_server,
    encode,
)
from unpause.domain.deciders import Deciders
from unpause.domain.events import EventType
from unpause.domain.forms import InputField
from unpause.domain.json import dump_json, load_json
from unpause.domain.requirements import Answer, Decision, OnExpire, Requirement, RequirementKind
from unpause.domain.runs import (
    CallKind,
    CallStatus,
    EndReason,
    Image,
    Outcome,
    Run,
    RunInput,
    RunStatus,
    ToolCall,
    TranscriptEntry,
)

NOW = datetime(2026, 11, 26, 12, 30, 15, 123456, tzinfo=UTC)

RUN = Run(
    id=7,
    run_id="r",
    organization_id=1,
    session_key=3,
    session_id="s",
    agent_id="a",
    status=RunStatus.RUNNING,
    source_type="API",
    prompt="go",
    fence=2,
    last_sequence=4,
    created_at=NOW,
    updated_at=NOW,
    metadata={"deep": [{"x": None}]},
    usage={"requests": 1},
)
REQUIREMENT = Requirement(
    id="q",
    pause_id="p",
    call_id="c",
    tool_call_id="c",
    tool_name="t",
    tool_args={"n": 1},
    kind=RequirementKind.USER_INPUT,
    created_at=NOW,
    fields=(InputField("n", "int", "how many", schema={"type": "integer"}),),
    deciders=Deciders(),
    answer=Answer(Decision.ANSWERED, NOW, values={"n": 2}),
    on_expire=OnExpire.CANCEL,
)
CALL = ToolCall(
    "c",
    "t",
    {"n": 1},
    0,
    0,
    NOW,
    status=CallStatus.FINISHED,
    outcome=Outcome.SUCCESS,
    result=[1, "two"],
    requirement=REQUIREMENT,
    kind=CallKind.OUTPUT,
)
SEGMENT = Segment(
    run=RUN,
    history=({"kind": "request"},),
    messages=({"kind": "response", "parts": []},),
    calls=(CALL,),
    requirements=(REQUIREMENT,),
    inputs=(RunInput(0, "go", (Image("image/png", "aGk="),)),),
)


def test_a_segment_arrives_as_it_was_sent() -> None:
    message = RunSegment(5, "a", SEGMENT, stop_requested=True)

    assert decode_from_server(encode(message)) == message


ENTRY = TranscriptEntry("e", "assistant", "hello", NOW, tool_calls=(("c", "t", {"n": 1}),))
REQUEST = RequirementRequest(
    "c", RequirementKind.CONFIRMATION, deciders=Deciders(), on_expire=OnExpire.REJECT, metadata={"a": [1]}
)


@pytest.mark.parametrize(
    "message",
    [
        Emit(1, EventType.CONTENT_DELTA, {"content": "héllo \x00 \u2028"}, {"requests": 2}),
        RecordTurn(1, (NewMessage({"parts": [1.5, True, None]}, (ENTRY,)),), (ProposedCall("c", "t", {"n": 1}),)),
        RecordOwnDecision(1, "c", OwnDecision(Decision.REJECTED, "bob", "no")),
        SettleCall(1, "c", CallResult(Outcome.FAILED, None, "boom")),
        StartCall(1, 2, "c", idempotent=True),
        Ended(1, paused=Paused((REQUEST,), "text", {"requests": 1})),
        Ended(1, completed=Completed("done", "Answer", None, (NewMessage({}, (ENTRY,)),))),
        Ended(1, failed=Failed(EndReason.USAGE_LIMIT, "enough", traceback="Traceback …")),
        Ended(1),
    ],
    ids=lambda message: type(message).__name__,
)
def test_what_a_process_says_arrives_as_it_was_said(message: object) -> None:
    assert decode_from_agents(encode(message)) == message


def nested(levels: int) -> object:
    value: object = "core"
    for _ in range(levels):
        value = [value]
    return value


@pytest.mark.parametrize(
    "value",
    [float("nan"), float("-inf"), 2**80, 10**5000, nested(99), nested(240), b"\xff\x00", NOW, {"a": (1, 2)}, "\ud800"],
    ids=["nan", "-inf", "2**80", "10**5000", "deep", "deeper", "bytes", "datetime", "tuple", "surrogate"],
)
def test_a_result_arrives_as_the_database_would_have_kept_it(value: object) -> None:
    message = decode_from_agents(encode(FinishCall(1, 2, "c", CallResult(Outcome.SUCCESS, value, "text"))))

    assert isinstance(message, FinishCall)
    kept = "\ufffd" if value == "\ud800" else load_json(dump_json(value))
    assert message.result.value == kept


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"{",
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"op": "run_segment"}',
        b'{"op": "emit", "segment_id": "x", "type": "ContentDelta"}',
        b'{"op": "emit", "segment_id": 1, "type": "no such type"}',
        json.dumps({"op": "ended", "segment_id": 1, "failed": {"reason": "because", "message": "m"}}).encode(),
        json.dumps({"op": "start_call", "segment_id": 1, "request_id": 1, "call_id": ["c"], "idempotent": 1}).encode(),
    ],
)
def test_what_is_no_message_of_a_process_is_refused_and_not_repeated(data: bytes) -> None:
    with pytest.raises(ProtocolViolation) as caught:
        decode_from_agents(data)

    assert "because" not in str(caught.value)
    assert caught.value.__cause__ is None
