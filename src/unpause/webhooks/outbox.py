"""Stores webhook messages about runs, in the transaction of the change that each describes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unpause.domain.audit import AuditAction, entry_by
from unpause.domain.event_payloads import editable_payload, form_payload
from unpause.domain.json import dump_json
from unpause.domain.requirements import Decision
from unpause.domain.runs import RunStatus
from unpause.domain.urls import read_url
from unpause.domain.webhooks import Delivery
from unpause.store.audit import add_entries
from unpause.store.deliveries import add_deliveries
from unpause.store.webhooks import list_targets, replace_run_targets

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from unpause.domain.principal import Principal
    from unpause.domain.requirements import Answer, Requirement
    from unpause.domain.runs import Run
    from unpause.domain.webhooks import WebhookTarget
    from unpause.store.engine.database import Connection

_TYPES = {
    RunStatus.PAUSED: "agent_run.paused",
    RunStatus.COMPLETED: "agent_run.completed",
    RunStatus.CANCELLED: "agent_run.cancelled",
    RunStatus.ERROR: "agent_run.error",
}
REMINDER = "agent_run.reminder"
DECIDED = "agent_run.decided"
_VERBS = {Decision.CONFIRMED: "approve", Decision.REJECTED: "reject", Decision.ANSWERED: "answer"}


def set_run_targets(
    connection: Connection, run: Run, targets: Sequence[WebhookTarget], by: Principal, now: datetime
) -> None:
    """Replace the targets of one run, including the organization's; the audit trail records it."""
    replace_run_targets(connection, run, targets, now)
    # Not the addresses: they may hold tokens.
    details = {"servers": [read_url(target.address.server).host for target in targets]}
    add_entries(connection, [entry_by(by, AuditAction.WEBHOOK_CHANGED, now, run_id=run.run_id, details=details)])


def enqueue_webhooks(
    connection: Connection,
    run: Run,
    now: datetime,
    requirements: Sequence[Requirement] = (),
    *,
    message_type: str | None = None,
) -> None:
    """Store a message about the run for each of its targets; ``requirements`` are those of its pause.

    By default the message's type is that of the run's status. Its id names the run, the event and the target, so the
    same message never gets two ids.
    """
    kind = message_type or _TYPES[run.status]
    _store(connection, run, kind, _run_data(run, requirements), f"{run.run_id}_{run.last_sequence}", now)


def enqueue_decision(connection: Connection, run: Run, requirement: Requirement, answer: Answer) -> None:
    """Store a message about a decision for each of the run's targets: a person's, a grant's, or that of a time limit.

    Values and results are left out: they may be secrets.
    """
    decision = {
        "requirement_id": requirement.id,
        "decision": _VERBS[answer.decision],
        "by": answer.by,
        "at": answer.at.isoformat(),
        "note": answer.note,
        "via": answer.via,
        "grant_id": answer.grant_id,
    }
    data = {**_run_data(run, (requirement,)), "decision": decision}
    _store(connection, run, DECIDED, data, f"{requirement.id}_{answer.decision.value}", answer.at)


def _store(connection: Connection, run: Run, kind: str, data: Mapping[str, Any], message: str, now: datetime) -> None:
    targets = list_targets(connection, run)
    if not targets:
        return
    payload = dump_json({"type": kind, "timestamp": now.isoformat(), "data": data})
    add_deliveries(
        connection,
        [
            Delivery(
                id=f"msg_{message.replace('-', '')}_{number}",
                organization_id=run.organization_id,
                address=target.address,
                payload=payload,
                created_at=now,
                secret=target.secret,
                run_id=run.run_id,
            )
            for number, target in enumerate(targets)
        ],
    )


def _run_data(run: Run, requirements: Sequence[Requirement]) -> dict[str, Any]:
    return {
        "id": run.id,
        "run_id": run.run_id,
        "organization_id": run.organization_id,
        "agent_id": run.agent_id,
        "session_id": run.session_id,
        "status": run.status.value,
        "source_type": run.source_type,
        "summary": run.summary,
        "result": run.awaiting if run.status is RunStatus.PAUSED else run.content,
        "end_reason": run.end_reason.value if run.end_reason else None,
        "metadata": run.metadata,
        "pause_id": run.pause_id,
        "requirements": [
            {
                "requirement_id": requirement.id,
                "tool_call_id": requirement.tool_call_id,
                "tool_name": requirement.tool_name,
                "tool_args": requirement.tool_args,
                "kind": requirement.kind.value,
                "approval_id": requirement.id if requirement.approval == "required" else None,
                "expires_at": requirement.expires_at.isoformat() if requirement.expires_at else None,
                "message": requirement.message or requirement.reason,
                "metadata": requirement.metadata,
                "user_input_schema": form_payload(requirement) or None,
                "editable": editable_payload(requirement).get("editable"),
            }
            for requirement in requirements
        ],
        "created_at": run.created_at.isoformat(),
    }
