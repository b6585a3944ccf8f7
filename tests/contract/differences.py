"""Where our answers differ from the captured ones on purpose, or not yet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Our own answer to a captured request.

    A refusal says exactly `detail`, where `{run}` stands for the run's id, or a text that contains `names`,
    where `{call}` stands for the first call that the run waits for. Any other answer has the body of the
    capture `like`, but for the keys in `run` and, by position, in `tools`.
    """

    reason: str
    status: int
    detail: str | None = None
    names: str | None = None
    like: str | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)


_NOT_FOUND: Final = "No runs found for run ID {run}"
_SILENCE: Final = "silence is never a rejection: nothing is answered, so nothing happens"
_STILL_PAUSED: Final = "the continue before it was refused, and a refused request changes nothing"
_TAMPERED: Final = "the approval is for the call that was shown, so another one is refused"
_NO_EVENTS: Final = "events are read by following the run; its JSON does not repeat the log"
_NO_RESULT: Final = "a continue without the result is refused and the run goes on waiting for it"

DELIBERATE: Final[Mapping[str, Difference]] = MappingProxyType(
    {
        "020_confirm_get_run_no_session.http": Difference(
            reason="session_id is optional: the run's id is enough", status=200, like="019"
        ),
        "022_confirm_get_run_wrong_agent.http": Difference(
            reason="a run belongs to its agent, as in 3.1.10", status=404, detail="Run not found"
        ),
        "032_continue_unknown_run_nonstream.http": Difference(
            reason="an unknown run is 404, not 200 with an error inside", status=404, detail=_NOT_FOUND
        ),
        "033_continue_unknown_run_stream.http": Difference(
            reason="an unknown run is 404 before the stream starts", status=404, detail=_NOT_FOUND
        ),
        "034_continue_unknown_session_nonstream.http": Difference(
            reason="in another session the run is unknown", status=404, detail=_NOT_FOUND
        ),
        "035_continue_no_session.http": Difference(
            reason="session_id is optional: the run is found, and " + _SILENCE, status=400, names="{call}"
        ),
        "045_confirm3_get_run.http": Difference(reason=_NO_EVENTS, status=200, like="045", run={"events": []}),
        "051_unresolved_empty_tools_nonstream.http": Difference(reason=_SILENCE, status=400, names="{call}"),
        "052_unresolved_get_run_after.http": Difference(reason=_STILL_PAUSED, status=200, like="050"),
        "054_unresolved_empty_tools_stream.http": Difference(reason=_SILENCE, status=400, names="{call}"),
        "055_unresolved_get_run_after_b.http": Difference(reason=_STILL_PAUSED, status=200, like="053"),
        "057_unresolved_echo_tools_unchanged.http": Difference(reason=_SILENCE, status=400, names="{call}"),
        "059_unresolved_empty_list.http": Difference(reason=_SILENCE, status=400, names="{call}"),
        "061_minimal_tool_only_id_confirmed.http": Difference(
            reason="the stored call runs, so its id and the decision are enough",
            status=200,
            like="063",
            run={"session_id": "c6"},
        ),
        "065_tamper_args.http": Difference(reason=_TAMPERED, status=400, names="{call}"),
        "067_tamper_name.http": Difference(reason=_TAMPERED, status=400, names="{call}"),
        "069_inject_extra_tool.http": Difference(reason=_TAMPERED, status=400, names="call_injected"),
        "073_multi_continue_partial.http": Difference(
            reason="a partial answer is kept and the run stays paused for the rest",
            status=200,
            like="072",
            tools={0: {"confirmed": True, "requires_confirmation": False}},
        ),
        "079_chain_get_run.http": Difference(reason=_NO_EVENTS, status=200, like="079", run={"events": []}),
        "087_input_continue_unanswered.http": Difference(
            reason="values that are missing are asked for, not given to the tool as null",
            status=400,
            names="{call}",
        ),
        "095_external_continue_no_result_nonstream.http": Difference(reason=_NO_RESULT, status=400, names="{call}"),
        "096_external_get_run_after.http": Difference(reason=_STILL_PAUSED, status=200, like="094"),
        "098_external_continue_no_result_stream.http": Difference(reason=_NO_RESULT, status=400, names="{call}"),
    }
)

# Captures of routes and fields that a later issue builds: the number of that issue.
LATER: Final[Mapping[str, int]] = MappingProxyType(
    {
        "015_create_extra_fields.http": 3,
        "016_create_file_upload.http": 3,
        "017_create_bad_file_type.http": 3,
        "023_confirm_list_runs.http": 3,
        "024_confirm_list_runs_paused.http": 3,
        "025_confirm_list_runs_unknown_session.http": 3,
    }
)

NOT_OFFERED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "088_getinput_create.http": "no tool of ours lets the model make up the form that the user fills in",
        "089_getinput_continue.http": "the answer to the form of 088",
    }
)

# Keys of ours that the captured server does not send; no client minds them (agno.md 13.1).
EXTRA_KEYS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        "run": frozenset({"pause_id", "in_doubt"}),
        "event": frozenset({"error_type", "event_index", "nested_depth", "pause_id", "time_to_first_token"}),
        "message": frozenset({"metrics"}),
        "tool": frozenset({"parent_tool_call_id", "pause_id", "in_doubt"}),
        "requirement": frozenset({"pause_id", "in_doubt"}),
        "error": frozenset({"error_code", "continued_at", "continued_by", "continued_via", "decision", "status"}),
    }
)
