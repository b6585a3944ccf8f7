"""The port of an agent framework: what a driver has to do, and what the server does for it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from unpause.domain.deciders import Deciders
from unpause.domain.events import EventType
from unpause.domain.forms import InputField
from unpause.domain.grants import Remember
from unpause.domain.requirements import Decision, OnExpire, Requirement, RequirementKind
from unpause.domain.runs import EndReason, Outcome, Run, RunInput, ToolCall, TranscriptEntry
from unpause.errors import InvalidInput

# As the columns have it.
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Segment:
    """All a driver needs to go on with a run from where its log stands.

    ``history`` are the native messages of earlier runs of the session, ``messages`` those of this run, oldest first;
    ``calls`` are all the run's tool calls with their newest requirement and its answer; ``requirements`` are all that
    it ever waited for; ``inputs`` is the user's input that no message carries yet.
    """

    run: Run
    history: tuple[Any, ...] = ()
    messages: tuple[Any, ...] = ()
    calls: tuple[ToolCall, ...] = ()
    requirements: tuple[Requirement, ...] = ()
    inputs: tuple[RunInput, ...] = ()


@dataclass(frozen=True, slots=True)
class ModelName:
    """A language model as it is shown to people."""

    name: str
    provider: str


@dataclass(frozen=True, slots=True)
class ToolDescription:
    """A tool as it is shown to people: ``parameters`` is the JSON schema that the model sees."""

    name: str
    description: str | None
    parameters: Mapping[str, Any]
    requires_confirmation: bool = False
    requires_user_input: bool = False
    external_execution: bool = False
    approval: str | None = None


@dataclass(frozen=True, slots=True)
class NewMessage:
    """A message to append: the driver's own JSON, and what clients are shown of it."""

    native: Any
    entries: tuple[TranscriptEntry, ...]


@dataclass(frozen=True, slots=True)
class ProposedCall:
    """A tool call that the model has just made and that has not run."""

    tool_call_id: str
    tool_name: str
    tool_args: dict[str, Any]


@dataclass(frozen=True, slots=True)
class CallResult:
    """How a call ended: the driver's own JSON of the result, and the text the model reads.

    One that is not ``is_final`` is kept, so that the tool does not run again, and shown to nobody: what the agent's own
    code makes of it follows.
    """

    outcome: Outcome
    value: Any
    text: str
    is_final: bool = True


@dataclass(frozen=True, slots=True)
class RequirementRequest:
    """A driver's request that a call wait for people; the server creates a requirement from it.

    ``expires_in`` is in seconds; None for it and for ``on_expire`` leaves them to the server's settings. ``message`` is
    the reason why a call that was decided has to be decided again. ``metadata`` is the tool's: people read it, and the
    tool finds it again when it runs. ``remember`` is what may be remembered of the decision, and then decides. With
    ``in_doubt`` the call may have run before.
    """

    call_id: str
    kind: RequirementKind
    fields: tuple[InputField, ...] = ()
    editable: tuple[str, ...] = ()
    question: bool = False
    approval: str | None = None
    message: str | None = None
    expires_in: float | None = None
    on_expire: OnExpire | None = None
    deciders: Deciders | None = None
    metadata: dict[str, Any] | None = None
    remember: Remember | None = None
    in_doubt: bool = False

    @classmethod
    def again(cls, call_id: str, earlier: Requirement | None, message: str | None) -> RequirementRequest:
        """Return the request that people decide a call once more as it is, under the rules of its last requirement."""
        if earlier is None:
            return cls(call_id, RequirementKind.CONFIRMATION, message=message)
        expires_at = earlier.expires_at
        return cls(
            call_id,
            RequirementKind.CONFIRMATION,
            approval=earlier.approval,
            message=message,
            expires_in=None if expires_at is None else (expires_at - earlier.created_at).total_seconds(),
            on_expire=earlier.on_expire,
            deciders=earlier.deciders,
            metadata=earlier.metadata,
            in_doubt=earlier.in_doubt,
        )


@dataclass(frozen=True, slots=True)
class OwnDecision:
    """The decision of an agent's own handler on a call; ``by`` is the name that it gives, if any."""

    decision: Decision
    by: str | None = None
    note: str | None = None


@dataclass(frozen=True, slots=True)
class Paused:
    """The segment ends waiting; ``content`` is the model's last text, if any."""

    requests: tuple[RequirementRequest, ...]
    content: str | None = None
    usage: Mapping[str, int] | None = None


@dataclass(frozen=True, slots=True)
class Completed:
    """The run ends with this text; ``content_type`` is ``str`` or the name of the output's type (JSON text).

    ``messages`` are those that nothing was to follow: they are appended in one commit with the end.
    """

    content: str
    content_type: str = "str"
    usage: Mapping[str, int] | None = None
    messages: tuple[NewMessage, ...] = ()


@dataclass(frozen=True, slots=True)
class Failed:
    """The run ends as ERROR; neither ``message`` nor ``traceback``, which is for administrators, holds a secret."""

    reason: EndReason
    message: str
    usage: Mapping[str, int] | None = None
    traceback: str | None = None


SegmentEnd = Paused | Completed | Failed


@dataclass(frozen=True, slots=True)
class ArgumentCheck:
    """A tool's verdict on arguments that a human chose.

    ``problems`` are reasons by argument, which repeat no value. Without problems, ``values`` are the arguments to
    store.
    """

    problems: Mapping[str, str] = field(default_factory=dict)
    values: Mapping[str, Any] = field(default_factory=dict)


class AgentProcessDied(Exception):
    """The process that ran a segment is gone: calls that had started there are in doubt."""


def refuse_long_names(calls: Iterable[ProposedCall]) -> None:
    """Raise InvalidInput for a call whose id or name is too long to be kept."""
    for call in calls:
        for article, what, name in (("an", "id", call.tool_call_id), ("a", "name", call.tool_name)):
            if len(name) > _LONGEST_NAME:
                raise InvalidInput(
                    f"The model made a tool call with {article} {what} of {len(name)} characters: "
                    f"more than {_LONGEST_NAME} cannot be kept"
                )


class Journal(Protocol):
    """Records what happens in a segment. Every method raises LeaseLost once another process has the run."""

    @property
    def stop_requested(self) -> bool:
        """Whether the segment should end, as paused, before its next model or tool call.

        A pause was requested, or another process is to go on with the run, which then is not paused in fact.
        """
        ...

    def on_stop(self, notify: Callable[[], None]) -> None:
        """Call ``notify`` whenever ``stop_requested`` becomes true from here on: for a driver elsewhere."""
        ...

    def request_release(self) -> None:
        """Have the segment end before its next model or tool call, for another claim to go on with the run."""
        ...

    def measure(self, meter: Callable[[], Mapping[str, int]]) -> None:
        """Write the usage that ``meter`` returns with every write from here on."""
        ...

    async def emit(self, event_type: EventType, payload: Mapping[str, Any] | None = None) -> None:
        """Add an event to the log, within a few milliseconds."""
        ...

    def record_turn(self, messages: Sequence[NewMessage], calls: Sequence[ProposedCall]) -> None:
        """Append messages that end in an answer of the model, and the calls it made; kept with the next commit.

        Raises InvalidInput, which ends the run, for a call whose id or name is longer than 255 characters.
        """
        ...

    def propose_output(self, call: ProposedCall) -> None:
        """Record that the model's answer is processed as this call, unless it is known; kept with the next commit.

        Clients are shown it only where it is or was in doubt.
        """
        ...

    def show_call(self, call_id: str, arguments: dict[str, Any], sent: dict[str, Any]) -> None:
        """Record the arguments that the tool would get, made of those that were ``sent``; kept with the next commit.

        They are what people are shown, and what runs. A call that the journal does not know is ignored.
        """
        ...

    def record_own_decision(self, call_id: str, own: OwnDecision) -> None:
        """Add the decision of the agent's own handler to the audit trail; kept with the next commit."""
        ...

    async def start_call(self, call_id: str, *, idempotent: bool) -> None:
        """Write that the call starts now; on disk when this returns."""
        ...

    async def find_grant(self, request: RequirementRequest) -> bool:
        """Whether a grant would decide the request as it stands now."""
        ...

    async def start_granted_call(self, request: RequirementRequest, *, idempotent: bool) -> bool:
        """Write that a grant decides the request and that its call starts now; on disk when this returns.

        Returns False, with nothing written, where no grant does any more.
        """
        ...

    async def finish_call(self, call_id: str, result: CallResult) -> None:
        """Write how the call ended; on disk when this returns."""
        ...

    def finish_call_soon(self, call_id: str, result: CallResult) -> None:
        """Begin to write how the call ended; on disk when a ``flush`` after it returns, and before any later start.

        A result that is not final is followed by one that is, in this segment or a later one.
        """
        ...

    async def flush(self) -> None:
        """Wait until the end of every call is on disk that was recorded so far: before a model request is sent."""
        ...

    def settle_call(self, call_id: str, result: CallResult) -> None:
        """Record how a call ended, unless it is known already; kept with the next commit.

        For calls that never ran, such as those of unknown tools and those with arguments that do not fit, and for
        answers that were taken, after which the run's end is written.
        """
        ...

    async def defer_call(self, call_id: str) -> None:
        """Take a start back: the tool deferred itself before it did anything."""
        ...


class AgentDriver(Protocol):
    """One agent of one framework."""

    agent_id: str
    agent_name: str
    model_name: str
    model_provider: str

    def list_tools(self) -> list[ToolDescription]:
        """Return the agent's tools, as far as they are known without a run."""
        ...

    def check_arguments(
        self, tool_name: str, arguments: Mapping[str, Any], chosen: Collection[str]
    ) -> ArgumentCheck | None:
        """Have the tool check those of the arguments that a human chose; None where only a run can do that.

        May run the author's code: call it in a thread. Raises nothing.
        """
        ...

    def list_models(self) -> Mapping[str, ModelName]:
        """Return the models that a client may choose, by the names that clients use, the agent's own first."""
        ...

    def describe_model(self, choice: str | None) -> ModelName:
        """Return the model that a client's choice means, None being the agent's own; raise ModelNotAllowed."""
        ...

    async def run_segment(self, segment: Segment, journal: Journal) -> SegmentEnd:
        """Go on with the run until it waits, ends or fails; failures of model and agent are returned, not raised."""
        ...
