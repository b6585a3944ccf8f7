"""Approvals: the records of what administrators decide, and of audited decisions."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from sqlalchemy import ColumnElement, delete, func, insert, select, union_all, update

from unpause.domain.approvals import Approval, ApprovalFilter, ApprovalStatus
from unpause.domain.paging import Page
from unpause.domain.requirements import Requirement, RequirementKind
from unpause.domain.runs import Run, RunStatus
from unpause.store.paging import LARGEST, paged
from unpause.store.tables import approvals, runs
from unpause.store.unreadable import read_rows
from unpause.store.visibility import visible_to

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection, RowMapping

    from unpause.domain.principal import Visibility

_APPROVALS = select(*approvals.c, runs.c.run_id, runs.c.session_id, runs.c.status.label("run_status")).join(
    runs, runs.c.id == approvals.c.run_key
)
_ORDER = (approvals.c.created_at.desc(), approvals.c.id)


def add_approvals(connection: Connection, run: Run, required: Iterable[Requirement], now: datetime) -> None:
    """Add a pending approval, of the requirement's own id, for each requirement."""
    rows = [_row(run, requirement, now) for requirement in required]
    if rows:
        connection.execute(insert(approvals), rows)


def add_decided_approval(connection: Connection, run: Run, requirement: Requirement, status: ApprovalStatus) -> None:
    """Add the record of a decision that the user made, of the requirement's own id."""
    answer = requirement.answer
    if answer is None:
        return
    decided = {
        "status": status.value,
        "resolved_by": answer.by,
        "resolved_at": answer.at,
        "resolution_data": {"note": answer.note} if answer.note else None,
    }
    connection.execute(insert(approvals), [{**_row(run, requirement, answer.at), **decided}])


def _row(run: Run, requirement: Requirement, now: datetime) -> dict[str, Any]:
    return {
        "id": requirement.id,
        "organization_id": run.organization_id,
        "run_key": run.id,
        "status": ApprovalStatus.PENDING.value,
        "approval_type": requirement.approval,
        "pause_type": requirement.kind.value,
        "tool_name": requirement.tool_name,
        "tool_args": requirement.tool_args,
        "agent_id": run.agent_id,
        "user_id": run.user_id,
        "expires_at": requirement.expires_at,
        "created_at": now,
        "updated_at": now,
    }


def find_approval(connection: Connection, visibility: Visibility, approval_id: str) -> Approval | None:
    """Return the approval, or None where none of that id is visible."""
    query = _APPROVALS.where(*visible_to(approvals, visibility), approvals.c.id == approval_id)
    row = connection.execute(query).mappings().first()
    return None if row is None else _approval(row)


def list_approvals(
    connection: Connection, visibility: Visibility, selection: ApprovalFilter, page: Page
) -> tuple[list[Approval], int]:
    """Return one page, newest first, and how many there are in all."""
    conditions = [*visible_to(approvals, visibility), *_conditions(selection)]
    if _is_of_all(visibility, selection):
        query = _APPROVALS.where(approvals.c.id.in_(_newest(conditions, page)))
    else:
        query = paged(_APPROVALS.where(*conditions), page)
    found = read_rows(connection, query.order_by(*_ORDER), approvals.c.id, _approval)
    counted = select(func.count()).select_from(approvals).where(*conditions)
    return found, int(connection.execute(counted).scalar_one())


def _is_of_all(visibility: Visibility, selection: ApprovalFilter) -> bool:
    """Whether it lists those of all statuses, users and runs: no index has them in their order."""
    return visibility.user_id is selection.user_id is selection.run_id is selection.status is None


def _newest(conditions: Sequence[ColumnElement[bool]], page: Page) -> Select[Any]:
    """Return the query for the ids of a page: each status from its own range of the index, where it has an order."""
    end = min(page.limit + page.offset, LARGEST)
    newest = select(approvals.c.id, approvals.c.created_at).where(*conditions).order_by(*_ORDER).limit(end)
    parts = (newest.where(approvals.c.status == status.value).subquery() for status in ApprovalStatus)
    every = union_all(*(select(part) for part in parts)).subquery()
    return paged(select(every.c.id).order_by(every.c.created_at.desc(), every.c.id), page)


def resolve(connection: Connection, approval_id: str, status: ApprovalStatus, changes: Mapping[str, Any]) -> bool:
    """Move a pending approval to ``status``; return False, having changed nothing, where it is not pending."""
    statement = (
        update(approvals)
        .where(approvals.c.id == approval_id, approvals.c.status == ApprovalStatus.PENDING.value)
        .values(status=status.value, **changes)
        .returning(approvals.c.id)
    )
    return connection.execute(statement).scalar() is not None


def close_approvals(connection: Connection, run_key: int, status: ApprovalStatus, now: datetime) -> None:
    """Move the run's pending approvals to ``status``: no decision is needed any more."""
    connection.execute(
        update(approvals)
        .where(approvals.c.run_key == run_key, approvals.c.status == ApprovalStatus.PENDING.value)
        .values(status=status.value, updated_at=now)
    )


def delete_approval(connection: Connection, approval_id: str) -> None:
    """Remove the record."""
    connection.execute(delete(approvals).where(approvals.c.id == approval_id))


def _conditions(selection: ApprovalFilter) -> list[ColumnElement[bool]]:
    values = {
        approvals.c.status: selection.status.value if selection.status else None,
        approvals.c.approval_type: selection.approval_type,
        approvals.c.pause_type: selection.pause_type,
        approvals.c.agent_id: selection.agent_id,
        approvals.c.user_id: selection.user_id,
    }
    conditions = [column == value for column, value in values.items() if value is not None]
    if selection.run_id is not None:
        run = select(runs.c.id).where(runs.c.run_id == selection.run_id)
        conditions.append(approvals.c.run_key == run.scalar_subquery())
    return conditions


def _approval(row: RowMapping) -> Approval:
    plain = (
        "id run_key run_id session_id approval_type tool_name tool_args agent_id created_at "
        "updated_at user_id expires_at resolution_data resolved_by resolved_at"
    )
    return Approval(
        run_status=RunStatus(row["run_status"]),
        status=ApprovalStatus(row["status"]),
        pause_type=RequirementKind(row["pause_type"]),
        **{name: row[name] for name in plain.split()},
    )
