"""Where our answers differ from the captured ones on purpose, what they are instead, and what we do not offer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Final


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """Our own answer to a captured request.

    A refusal says exactly `detail`, where `{run}` stands for the run's id, or a text that contains `names`,
    where `{call}` stands for the first call that the run waits for. Any other answer is like that to the capture
    `like`, but for the keys in `run` and, by position, in its `tools`; by position in `events`; and by key and
    position in the body or the items (`changes`). Or it is the JSON `body`, or a stream of the `frames` named.
    """

    reason: str
    status: int
    detail: str | None = None
    names: str | None = None
    like: str | None = None
    run: Mapping[str, Any] = field(default_factory=dict)
    tools: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    events: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    changes: Mapping[Any, Any] = field(default_factory=dict)
    body: Any = None
    frames: tuple[str, ...] | None = None


_NOT_FOUND: Final = "No runs found for run ID {run}"
_SILENCE: Final = "silence is never a rejection: nothing is answered, so nothing happens"
_STILL_PAUSED: Final = "the continue before it was refused, and a refused request changes nothing"
_TAMPERED: Final = "the approval is for the call that was shown, so another one is refused"
_NO_EVENTS: Final = "events are read by following the run; its JSON does not repeat the log"
_NOT_ALONE: Final = "only an administrator decides, so while that is pending a continue is refused and changes nothing"
_CANCELLED: Final = "cancelling ends a paused run at once and for good"
_CANCELLED_TEXT: Final = "run is already cancelled"
_READABLE: Final = "a run can be read, and is known to be running, while it runs"
_RESUME: Final = "2.5.6 has no such route; ours is that of 3.1.10, and an unknown run is 404"
_BACKGROUND: Final = "a background run is answered with 202 as in 2.5.6 (capture 170); its events are read by /resume"
_WHOLE_LOG: Final = "events are read from the log, so the deltas are there too, and after a restart as well"
_WHOLE_RUN: Final = "event_index counts through the whole run, also where no client followed it"
_AS_IT_WAS: Final = "an event shows the call as it was when it happened; theirs changes after it was sent"
_PENDING: Final = "This run requires admin approval before it can be continued"
_CANCELLED_RUN: Final = "Run {run:144} was cancelled"
_PLAIN_RUN: Final = (
    *("RunStarted", "ModelRequestStarted", "RunContent"),
    *("ModelRequestCompleted", "RunContentCompleted", "RunCompleted"),
)
_NO_FORM: Final = "no tool of ours lets the model make up the form that the user fills in"
_NEWEST: Final = "of sessions made in the same second the newest is first, too"
_NO_RESULT: Final = "a continue without the result is refused and the run goes on waiting for it"


def _declined(prompt: str, call: tuple[str, dict[str, Any]], note: str, **waited: bool) -> dict[str, Any]:
    """Return what a run shows whose only call was declined."""
    name, arguments = call
    text = f"Done. Tool said: {note}"
    said = {"content": note, "tool_name": name, "tool_args": arguments, "tool_call_error": True}
    tool = {"tool_name": name, "tool_args": arguments, "tool_call_error": True, "approval_type": "required"}
    shown_note = "Tool call was rejected" if note.startswith("Function call") else note
    return {
        "status": "COMPLETED",
        "content": text,
        "events": [],
        "tools": [{**tool, "confirmed": False, "confirmation_note": shown_note, **waited}],
        "messages": [
            {"shape": "message-user", "content": prompt},
            {"shape": "message-assistant#2", "calls": [[name, arguments]]},
            {"shape": "message-tool", **said},
            {"shape": "message-assistant", "content": text},
        ],
    }


_CALL: Final = {"tool_name": "delete_file", "tool_args": {"path": "/data/r"}}
_RUNNING_CALL: Final = {**_CALL, "confirmed": True, "requires_confirmation": True}
_CALL_EVENTS: Final = {
    3: {"tool": _RUNNING_CALL},
    4: {"tool": {**_RUNNING_CALL, "result": "deleted /data/r", "tool_call_error": False}},
}
_N1: Final = {"session_id": "n1", "session_name": "confirm /data/n"}
_B2: Final = {"session_id": "b2", "session_name": "confirm /data/bg"}
_B3: Final = {"session_id": "b3", "session_name": "plain"}
_B4: Final = {"session_id": "b4", "session_name": "plain bg"}
_DELETE_2: Final = {"tool_name": "delete_file", "tool_args": {"path": "/data/2"}, "requires_confirmation": True}
_DELETE_1: Final = {**_DELETE_2, "tool_args": {"path": "/data/1"}, "confirmed": True, "requires_confirmation": False}
_PARTIAL: Final = {
    "status": "PAUSED",
    "content": "I have tools to execute, but I need confirmation.",
    "tools": [_DELETE_1, _DELETE_2],
    "messages": [
        {"shape": "message-user", "content": "multi"},
        {
            "shape": "message-assistant#2",
            "calls": [["delete_file", {"path": "/data/1"}], ["delete_file", {"path": "/data/2"}]],
        },
    ],
}
_ACCEPTED: Final = {"@": "accepted", "status": "PENDING"}
# Only sessions are kept here; the agent's one tool would let the model make up a form (see 088).
_FEWER_TABLES: Final[Mapping[str, Any]] = {name: {"dbs": []} for name in ("evals", "memory", "metrics", "traces")}
_NO_FORM_TOOL: Final[Mapping[int, Any]] = {2: {"tools": {"tools": []}}}

DELIBERATE: Final[Mapping[str, Difference]] = MappingProxyType(
    {
        "002_config.http": Difference(
            reason="only sessions are kept: no memories, metrics, evaluations or traces",
            status=200,
            like="002",
            changes=_FEWER_TABLES,
        ),
        "003_agents.http": Difference(reason=_NO_FORM, status=200, like="003", changes=_NO_FORM_TOOL),
        "009_create_json_body.http": Difference(
            reason="a JSON object with the fields of the form is accepted, and answered in JSON",
            status=200,
            body={"@": "run#4", "content": "You said: plain", "status": "COMPLETED"},
        ),
        "016_create_file_upload.http": Difference(
            reason="an upload is given to the model; the run's JSON does not repeat it",
            status=200,
            like="016",
            run={
                "input": {"input_content": "plain file"},
                "messages": [
                    {"shape": "message-user", "content": "plain file"},
                    {"shape": "message-assistant", "content": "You said: plain file"},
                ],
            },
        ),
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
        "109_admin_continue_pending_no_tools.http": Difference(reason=_NOT_ALONE, status=403, detail=_PENDING),
        "110_admin_get_run_after_pending_continue.http": Difference(
            reason=_STILL_PAUSED, status=200, like="110", run={"status": "PAUSED", "events": []}
        ),
        "119_admin_get_run_done.http": Difference(reason=_NO_EVENTS, status=200, like="119", run={"events": []}),
        "122_admin_continue_after_rejected_no_tools.http": Difference(
            reason="the administrator's reason is the note that the model reads",
            status=200,
            like="122",
            run=_declined("admin", ("deploy", {"env": "prod"}), "no", requires_confirmation=False),
        ),
        "124_admin_bypass_pending_with_tools.http": Difference(reason=_NOT_ALONE, status=403, detail=_PENDING),
        "125_approvals_after_bypass.http": Difference(
            reason=_STILL_PAUSED, status=200, like="125", changes={"data": {0: {"run_status": "PAUSED"}}}
        ),
        "134_adminext_continue_rejected.http": Difference(
            reason="a call that the administrator rejected is declined, and the run goes on",
            status=200,
            like="134",
            run=_declined(
                "adminext",
                ("ext_job", {"job": "j1"}),
                "Function call was rejected by the user",
                external_execution_required=False,
            ),
        ),
        "138_audit_approvals_after.http": Difference(
            reason="an audit record says whose run it was and who decided",
            status=200,
            like="138",
            changes={"data": {0: {"user_id": "alice", "resolved_by": "alice"}}},
        ),
        "142_admin_continue_after_approval_deleted.http": Difference(
            reason="deleting a pending approval declines its call, and the run goes on",
            status=200,
            like="142",
            run=_declined(
                "admin",
                ("deploy", {"env": "prod"}),
                "The approval was deleted by an administrator",
                requires_confirmation=False,
            ),
        ),
        "146_cancel_paused_get_run.http": Difference(
            reason=_CANCELLED, status=200, like="146", run={"status": "CANCELLED", "content": _CANCELLED_RUN}
        ),
        "147_cancel_paused_then_continue_nonstream.http": Difference(
            reason=_CANCELLED, status=409, detail=_CANCELLED_TEXT
        ),
        "148_cancel_paused_get_run_after.http": Difference(
            reason="a cancelled run is not continued, so its call was not touched either",
            status=200,
            like="146",
            run={"status": "CANCELLED", "content": _CANCELLED_RUN},
        ),
        "151_cancel_paused_then_continue_stream.http": Difference(
            reason=_CANCELLED, status=409, detail=_CANCELLED_TEXT
        ),
        "152_cancel_unknown_run.http": Difference(
            reason="an unknown run cannot be cancelled", status=404, detail="Run not found"
        ),
        "154_live_run_get_while_running.http": Difference(
            reason=_READABLE, status=200, like="162", run={"session_id": "k2"}
        ),
        "155_continue_running_run.http": Difference(reason=_READABLE, status=409, detail="run is already running"),
        "157_live_run_get_after_cancel.http": Difference(
            reason="a cancelled run is kept",
            status=200,
            like="165",
            run={"session_id": "k2", "content": "Run {run:live} was cancelled"},
        ),
        "158_continue_cancelled_run.http": Difference(reason=_CANCELLED, status=409, detail=_CANCELLED_TEXT),
        "168_background_confirm_continue.http": Difference(
            reason="background is honoured on continue, as in 3.1.10",
            status=202,
            body={**_ACCEPTED, "session_id": "b2"},
        ),
        "171_resume_done_run.http": Difference(reason=_RESUME, status=404, detail="Run not found"),
        "172_resume_done_run_from_2.http": Difference(reason=_RESUME, status=404, detail="Run not found"),
        "173_resume_unknown.http": Difference(reason=_RESUME, status=404, detail="Run not found"),
        "177_sessions_list.http": Difference(
            reason=_NEWEST, status=200, like="177", changes={"data": {0: _N1, 1: _B4, 2: _B3}}
        ),
        "178_sessions_list_component.http": Difference(
            reason=_NEWEST, status=200, like="178", changes={"data": {0: _B4, 1: _B2}}
        ),
        "179_sessions_list_db.http": Difference(reason=_NEWEST, status=200, like="179", changes={"data": {0: _N1}}),
        "184_session_runs_paused.http": Difference(
            reason="a partial answer is kept and the run stays paused for the rest (capture 073)",
            status=200,
            like="184",
            changes={0: _PARTIAL},
        ),
        "195_cors_get.http": Difference(reason=_NO_FORM, status=200, like="195", changes=_NO_FORM_TOOL),
        "196_cors_get_bad_origin.http": Difference(
            reason="an open server on this machine does not answer the pages of strangers",
            status=403,
            detail="This server has no authentication and answers only requests made to and from this machine",
        ),
        "resume_3.1.10/01_bg_stream_cut_after_2s.http": Difference(
            reason=_BACKGROUND, status=202, body={**_ACCEPTED, "session_id": "r1"}
        ),
        "resume_3.1.10/04_bg_stream_pause.http": Difference(
            reason=_BACKGROUND, status=202, body={**_ACCEPTED, "session_id": "r2"}
        ),
        "resume_3.1.10/07_resume_after_continue.http": Difference(
            reason=_AS_IT_WAS, status=200, like="r07", events=_CALL_EVENTS
        ),
        "resume_3.1.10/09_resume_fg.http": Difference(
            reason=_WHOLE_LOG,
            status=200,
            frames=("replay", *_PLAIN_RUN),
        ),
        "resume_3.1.10/10_bg_stream_then_kill9.http": Difference(
            reason=_BACKGROUND, status=202, body={**_ACCEPTED, "session_id": "r4"}
        ),
        "resume_3.1.10/12_resume_after_kill9.http": Difference(
            reason="a run whose server went away goes on at the next start, and its log is kept",
            status=200,
            frames=(
                *("catch_up", "RunStarted", "ModelRequestStarted", "RunContent"),
                *("ModelRequestStarted", "RunContent", "subscribed", "RunContent"),
                *("ModelRequestCompleted", "RunContentCompleted", "RunCompleted"),
            ),
        ),
        "resume_3.1.10/13_resume_completed_after_restart.http": Difference(
            reason=_WHOLE_LOG, status=200, like="r07", events=_CALL_EVENTS
        ),
        "resume_3.1.10/14_continue_orphan_running.http": Difference(
            reason="a running run cannot be continued, as in 2.5.6", status=409, detail="run is already running"
        ),
        "resume_3.1.10/20_bg_continue_keepalive.http": Difference(
            reason=_WHOLE_RUN, status=200, like="r20", events={0: {"event_index": 5}}
        ),
        "resume_3.1.10/21_resume_heartbeat.http": Difference(
            reason=_WHOLE_RUN,
            status=200,
            like="r21",
            events={0: {"current_event_count": 7}, 1: {"event_index": 5}, 3: {"current_event_count": 7}},
        ),
    }
)

NOT_OFFERED: Final[Mapping[str, str]] = MappingProxyType(
    {
        "088_getinput_create.http": _NO_FORM,
        "089_getinput_continue.http": "the answer to the form of 088",
    }
)

# Keys of ours that the captured server does not send; no client minds them (agno.md 13.1).
EXTRA_KEYS: Final[Mapping[str, frozenset[str]]] = MappingProxyType(
    {
        # An open server takes everybody for an administrator, who is shown where a run failed.
        "run": frozenset({"pause_id", "in_doubt", "traceback"}),
        "session-item": frozenset({"agent_id", "metadata", "session_type", "user_id"}),
        "event": frozenset({"error_type", "event_index", "nested_depth", "pause_id", "time_to_first_token"}),
        "agent-tool": frozenset({"requires_user_input"}),
        "message": frozenset({"metrics"}),
        "tool": frozenset({"parent_tool_call_id", "pause_id", "in_doubt"}),
        "requirement": frozenset({"pause_id", "in_doubt"}),
        # What a form needs to be drawn, and answered: the choices above all.
        "field": frozenset({"required", "schema"}),
        "error": frozenset(
            {
                *("error_code", "continued_at", "continued_by", "continued_via", "decision", "status"),
                *("resolved_at", "resolved_by"),
            }
        ),
    }
)

# Keys that 3.1.10 added and always fills with 0 or null; the clients of neither version need them.
NEWER_KEYS: Final = frozenset({"nested_depth", "parent_tool_call_id"})
