"""The messages between the server and an agent process; both sides check them with the same types."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any, Final, Literal, TypeAlias, TypeVar

from pydantic import Field, TypeAdapter, ValidationError
from pydantic_core import PydanticSerializationError

from unpause.agents.driver import (
    ArgumentCheck,
    CallResult,
    Completed,
    Failed,
    ModelName,
    NewMessage,
    OwnDecision,
    Paused,
    ProposedCall,
    RequirementRequest,
    Segment,
    ToolDescription,
)
from unpause.agents.process.frames import ProtocolViolation
from unpause.domain.events import EventType
from unpause.domain.json import encode_json, load_json
from unpause.domain.storable import replace_unstorable
from unpause.lazy import BUILT_LATE

T = TypeVar("T")

# ---------------------------------------------------------------------------- from the server to an agent process


@dataclass(frozen=True, slots=True)
class RunSegment:
    """Run a segment of the agent; ``stop_requested`` where it should end before its first model or tool call.

    ``trace`` is the context of the server's span.
    """

    segment_id: int
    agent_id: str
    segment: Segment
    stop_requested: bool = False
    trace: str | None = None
    op: Literal["run_segment"] = "run_segment"


@dataclass(frozen=True, slots=True)
class StopSegment:
    """The segment should end, as paused, before its next model or tool call."""

    segment_id: int
    op: Literal["stop_segment"] = "stop_segment"


@dataclass(frozen=True, slots=True)
class CancelSegment:
    """The segment ends now, at its next await; nobody waits for its end, but the process reports it."""

    segment_id: int
    op: Literal["cancel_segment"] = "cancel_segment"


@dataclass(frozen=True, slots=True)
class Written:
    """The request of the process is on disk. ``stop_requested`` is what the journal knows at that time.

    ``granted`` is False where the request was about a grant and there is none: then nothing was written.
    """

    segment_id: int
    request_id: int
    stop_requested: bool = False
    granted: bool = True
    op: Literal["written"] = "written"


@dataclass(frozen=True, slots=True)
class Credit:
    """So many more messages about the segment were taken, and as many more may be sent."""

    segment_id: int
    count: int
    op: Literal["credit"] = "credit"


@dataclass(frozen=True, slots=True)
class CheckArguments:
    """Have the tool check those of the arguments that a human chose."""

    request_id: int
    agent_id: str
    tool_name: str
    arguments: dict[str, Any]
    chosen: tuple[str, ...]
    op: Literal["check_arguments"] = "check_arguments"


@dataclass(frozen=True, slots=True)
class Shutdown:
    """Close what the agents have open, and end."""

    op: Literal["shutdown"] = "shutdown"


FromServer: TypeAlias = Annotated[
    RunSegment | StopSegment | CancelSegment | Written | Credit | CheckArguments | Shutdown, Field(discriminator="op")
]

# ---------------------------------------------------------------------------- from an agent process to the server


@dataclass(frozen=True, slots=True)
class AgentDescription:
    """An agent as its process has loaded it. ``models`` are those a client may choose, by name, its own first."""

    agent_id: str
    agent_name: str
    model_name: str
    model_provider: str
    tools: tuple[ToolDescription, ...]
    models: dict[str, ModelName]


@dataclass(frozen=True, slots=True)
class Ready:
    """The agents are loaded, and what they open once for the process is open; ``files`` are those of their modules."""

    agents: tuple[AgentDescription, ...]
    setup_commands: AgentDescription | None = None
    files: tuple[str, ...] = ()
    op: Literal["ready"] = "ready"


@dataclass(frozen=True, slots=True)
class Refused:
    """The agents cannot be served, for this reason; the process ends. ``files`` are those that were loaded by then."""

    message: str
    files: tuple[str, ...] = ()
    op: Literal["refused"] = "refused"


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """The process's event loop is not blocked; ``memory`` is what the process holds, in bytes."""

    memory: int
    op: Literal["heartbeat"] = "heartbeat"


@dataclass(frozen=True, slots=True)
class Emit:
    """An event for the run's log."""

    segment_id: int
    type: EventType
    payload: dict[str, Any] | None = None
    usage: dict[str, int] | None = None
    op: Literal["emit"] = "emit"


@dataclass(frozen=True, slots=True)
class RecordTurn:
    """Messages that end in an answer of the model, and the calls it made."""

    segment_id: int
    messages: tuple[NewMessage, ...]
    calls: tuple[ProposedCall, ...]
    usage: dict[str, int] | None = None
    op: Literal["record_turn"] = "record_turn"


@dataclass(frozen=True, slots=True)
class ProposeOutput:
    """The model's answer is processed as this call."""

    segment_id: int
    call: ProposedCall
    op: Literal["propose_output"] = "propose_output"


@dataclass(frozen=True, slots=True)
class ShowCall:
    """The arguments that the tool would get."""

    segment_id: int
    call_id: str
    arguments: dict[str, Any]
    sent: dict[str, Any]
    op: Literal["show_call"] = "show_call"


@dataclass(frozen=True, slots=True)
class RecordOwnDecision:
    """What the agent's own handler decided."""

    segment_id: int
    call_id: str
    decision: OwnDecision
    op: Literal["record_own_decision"] = "record_own_decision"


@dataclass(frozen=True, slots=True)
class SettleCall:
    """How a call ended that nobody waits for."""

    segment_id: int
    call_id: str
    result: CallResult
    op: Literal["settle_call"] = "settle_call"


@dataclass(frozen=True, slots=True)
class StartCall:
    """The call starts as soon as that is on disk: answered with Written."""

    segment_id: int
    request_id: int
    call_id: str
    idempotent: bool
    usage: dict[str, int] | None = None
    op: Literal["start_call"] = "start_call"


@dataclass(frozen=True, slots=True)
class FindGrant:
    """Whether a grant would decide the request: answered with Written."""

    segment_id: int
    request_id: int
    request: RequirementRequest
    op: Literal["find_grant"] = "find_grant"


@dataclass(frozen=True, slots=True)
class StartGrantedCall:
    """The call starts as soon as it is on disk that a grant decides the request: answered with Written."""

    segment_id: int
    request_id: int
    request: RequirementRequest
    idempotent: bool
    usage: dict[str, int] | None = None
    op: Literal["start_granted_call"] = "start_granted_call"


@dataclass(frozen=True, slots=True)
class FinishCall:
    """How a call ended: answered with Written."""

    segment_id: int
    request_id: int
    call_id: str
    result: CallResult
    usage: dict[str, int] | None = None
    op: Literal["finish_call"] = "finish_call"


@dataclass(frozen=True, slots=True)
class DeferCall:
    """The tool has to wait for a human, and has done nothing: answered with Written."""

    segment_id: int
    request_id: int
    call_id: str
    usage: dict[str, int] | None = None
    op: Literal["defer_call"] = "defer_call"


@dataclass(frozen=True, slots=True)
class Ended:
    """The segment is over: with one of the three ends, with what was wrong with the model's answer, or cancelled."""

    segment_id: int
    paused: Paused | None = None
    completed: Completed | None = None
    failed: Failed | None = None
    invalid: str | None = None
    op: Literal["ended"] = "ended"


@dataclass(frozen=True, slots=True)
class Checked:
    """What the tool's check of the arguments found; None where only a run can check them."""

    request_id: int
    check: ArgumentCheck | None = field(default=None)
    op: Literal["checked"] = "checked"


FromAgents: TypeAlias = Annotated[
    Ready
    | Refused
    | Heartbeat
    | Emit
    | RecordTurn
    | ProposeOutput
    | ShowCall
    | RecordOwnDecision
    | SettleCall
    | StartCall
    | FindGrant
    | StartGrantedCall
    | FinishCall
    | DeferCall
    | Ended
    | Checked,
    Field(discriminator="op"),
]

# The messages that a segment sends without waiting for an answer: they may be collected for a moment.
UNAWAITED: Final = (Emit, RecordTurn, ProposeOutput, ShowCall, RecordOwnDecision, SettleCall)

# Built by the side that needs it, when it does: the server has opened its port by then.
_FROM_SERVER: Final[TypeAdapter[FromServer]] = TypeAdapter(FromServer, config=BUILT_LATE)
_FROM_AGENTS: Final[TypeAdapter[FromAgents]] = TypeAdapter(FromAgents, config=BUILT_LATE)


def prepare_decoding() -> None:
    """Build what ``decode_from_server`` needs, so that the first message does not wait for it."""
    _FROM_SERVER.rebuild()


def encode(message: object) -> bytes:
    """Return the message as JSON, as the database writes it: what passes through here comes out the same."""
    try:
        return encode_json(message)
    except (PydanticSerializationError, UnicodeError):
        # A character that has no place in UTF-8, which no database takes either.
        return encode_json(replace_unstorable(message))


def decode_from_server(data: bytes) -> FromServer:
    """Return the server's message; raise ProtocolViolation."""
    return _decode(_FROM_SERVER, data)


def decode_from_agents(data: bytes) -> FromAgents:
    """Return the agent process's message; raise ProtocolViolation, which repeats nothing of it."""
    return _decode(_FROM_AGENTS, data)


def _decode(adapter: TypeAdapter[T], data: bytes) -> T:
    try:
        return adapter.validate_json(data)
    except ValidationError:
        pass
    try:
        # What pydantic's parser does not read and the database keeps: deeper nesting, numbers of thousands of digits.
        return adapter.validate_python(load_json(data))
    except (ValueError, RecursionError) as error:
        raise ProtocolViolation(f"not a message of the protocol: {type(error).__name__}") from None
