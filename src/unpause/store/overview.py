"""What an overview counts: each statement reads a range of an index, whatever the number of runs."""

from __future__ import annotations

from collections import defaultdict
from datetime import timedelta
from typing import TYPE_CHECKING

from sqlalchemy import and_, bindparam, func, literal, literal_column, select, union_all

from unpause.domain.audit import AuditAction
from unpause.domain.overview import DecidedRequirement, FailingWebhook, Hour, Waiting, Worker
from unpause.domain.principal import SERVER_ITSELF
from unpause.domain.runs import RunStatus
from unpause.domain.webhooks import Address
from unpause.store.columns import Instant
from unpause.store.run_queue import has_status
from unpause.store.tables import audit, nodes, requirements, runs, webhook_deliveries
from unpause.store.visibility import visible_to

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy.engine import Connection

    from unpause.domain.principal import Visibility

HOURS = 24
_UNFINISHED = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.PAUSED)
_DECISIONS = (AuditAction.ANSWERED.value, AuditAction.RESOLVED.value)
_NOT_PEOPLE = {*SERVER_ITSELF, "agent", "grant"}
# So many of the newest entries of the audit trail are searched for decisions.
_MAX_ENTRIES = 5000
# As the partial index has it: a bound value would keep PostgreSQL from using that.
_IS_OPEN = requirements.c.status == literal_column("'open'")
_MAX_DELIVERIES = 500


def count_unfinished(connection: Connection, visibility: Visibility) -> dict[RunStatus, int]:
    """Return how many visible runs have each status that is not final."""
    counted = (
        select(literal(status.value).label("status"), func.count().label("number_of_runs"))
        .select_from(runs)
        .where(*visible_to(runs, visibility), has_status(status))
        for status in _UNFINISHED
    )
    return {RunStatus(row.status): row.number_of_runs for row in connection.execute(union_all(*counted))}


def list_hours(connection: Connection, visibility: Visibility, now: datetime) -> list[Hour]:
    """Return the last hours, oldest first, with the visible runs created in each."""
    first = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=HOURS - 1)
    starts = [first + timedelta(hours=number) for number in range(HOURS)]
    counted = [
        select(literal(number).label("number"), runs.c.status, func.count().label("number_of_runs"))
        .where(
            *visible_to(runs, visibility),
            runs.c.created_at >= bindparam(f"from{number}", start, type_=Instant),
            runs.c.created_at < bindparam(f"to{number}", start + timedelta(hours=1), type_=Instant),
        )
        .group_by(runs.c.status)
        for number, start in enumerate(starts)
    ]
    found: list[dict[RunStatus, int]] = [{} for _ in starts]
    for row in connection.execute(union_all(*counted)):
        found[row.number][RunStatus(row.status)] = row.number_of_runs
    return [Hour(start, each) for start, each in zip(starts, found, strict=True)]


def list_decided(connection: Connection, visibility: Visibility, since: datetime) -> list[DecidedRequirement]:
    """Return the decisions since then about visible runs, newest first, each requirement once."""
    newest = (
        select(audit.c.id, audit.c.at, audit.c.action, audit.c.subject, audit.c.via, audit.c.run_id)
        .where(audit.c.organization_id == visibility.organization_id)
        .order_by(audit.c.id.desc())
        .limit(_MAX_ENTRIES)
        .subquery()
    )
    query = (
        select(newest.c.at, newest.c.subject, newest.c.via, requirements.c.created_at)
        .outerjoin(requirements, requirements.c.id == newest.c.subject)
        .where(newest.c.action.in_(_DECISIONS), newest.c.at >= since)
        .order_by(newest.c.id.desc())
    )
    if visibility.user_id is not None:
        query = query.join(runs, and_(runs.c.run_id == newest.c.run_id, *visible_to(runs, visibility)))
    # An approval is resolved and then answers its call: the first of the two is the decision.
    decided = {
        row.subject: DecidedRequirement(row.at, row.created_at, by_server=row.via in _NOT_PEOPLE)
        for row in connection.execute(query)
    }
    return list(decided.values())


def find_oldest_waiting(connection: Connection, visibility: Visibility) -> Waiting | None:
    """Return the open requirement of a visible run that has waited longest."""
    query = (
        select(requirements.c.id, runs.c.run_id, runs.c.agent_id, requirements.c.tool_name, requirements.c.created_at)
        .join(runs, runs.c.id == requirements.c.run_key)
        .where(requirements.c.organization_id == visibility.organization_id, _IS_OPEN)
        .order_by(requirements.c.created_at, requirements.c.id)
        .limit(1)
    )
    if visibility.user_id is not None:
        query = query.where(*visible_to(runs, visibility))
    row = connection.execute(query).first()
    return None if row is None else Waiting(*row)


def list_workers(connection: Connection, now: datetime, patience: timedelta) -> list[Worker]:
    """Return the processes that share the database, by name; ``now`` is its time."""
    rows = connection.execute(select(*nodes.c).order_by(nodes.c.name, nodes.c.started_at))
    return [
        Worker(
            name=row.name,
            version=row.version,
            agents=tuple(row.agents),
            started_at=row.started_at,
            seen_at=row.seen_at,
            is_alive=row.seen_at >= now - patience,
            running=row.running,
        )
        for row in rows
    ]


def list_failing_webhooks(connection: Connection, organization_id: int, since: datetime) -> list[FailingWebhook]:
    """Return the servers that messages created since then could not be delivered to, the newest failure first."""
    query = (
        select(
            webhook_deliveries.c.url,
            webhook_deliveries.c.next_attempt_at,
            webhook_deliveries.c.last_error,
            webhook_deliveries.c.created_at,
        )
        .where(
            webhook_deliveries.c.organization_id == organization_id,
            webhook_deliveries.c.last_error.is_not(None),
            webhook_deliveries.c.created_at >= since,
        )
        .order_by(webhook_deliveries.c.created_at.desc())
        .limit(_MAX_DELIVERIES)
    )
    by_server: dict[str, list[tuple[bool, str, datetime]]] = defaultdict(list)
    for row in connection.execute(query):
        # The path may hold a token.
        server = Address.read(row.url).server
        by_server[server].append((row.next_attempt_at is None, row.last_error, row.created_at))
    return [_failing(server, failed) for server, failed in by_server.items()]


def _failing(server: str, failed: Sequence[tuple[bool, str, datetime]]) -> FailingWebhook:
    given_up = sum(is_given_up for is_given_up, _, _ in failed)
    _, error, at = failed[0]
    return FailingWebhook(server, len(failed) - given_up, given_up, error, at)
