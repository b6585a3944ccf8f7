"""Erases the texts of a user's runs and sessions, and what lets the user in."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from sqlalchemy import case, delete, func, or_, select, update

from unpause.domain.events import EventType
from unpause.store.erasure.names import Step
from unpause.store.run_queue import FINAL_STATUSES
from unpause.store.tables import (
    approvals,
    console_sessions,
    events,
    grants,
    idempotency_keys,
    inputs,
    login_links,
    messages,
    notification_channels,
    requirements,
    runs,
    sessions,
    tokens,
    tool_calls,
    webhook_deliveries,
    webhook_targets,
)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from unpause.domain.erasure import Erased

_LAST_EVENTS: Final = [EventType.RUN_COMPLETED.value, EventType.RUN_FAILED.value, EventType.RUN_CANCELLED.value]
# Of the event that ends a run: how it ended, and with what usage.
_KEPT_OF_EVENT: Final = ("reason", "usage")
_NO_TEXT: Final = {"content": "", "content_type": "str"}
ERASED_OF_RUN: Final[dict[str, Any]] = {
    "prompt": "",
    **dict.fromkeys(("summary", "metadata", "session_state", "dependencies", "output_schema", "content")),
    **dict.fromkeys(("traceback", "awaiting", "trace", "frontend")),
    "content_type": "str",
}
_CALL: Final[dict[str, Any]] = {"tool_args": {}, **dict.fromkeys(("sent_args", "result", "result_text"))}
_REQUIREMENT: Final[dict[str, Any]] = {
    "tool_args": {},
    **dict.fromkeys(("fields", "editable", "message", "metadata", "remember", "note", "arguments", "result")),
}
_OF_RUN: Final = (messages, inputs, idempotency_keys, webhook_targets)


def revoke_access(connection: Connection, erased: Erased, now: datetime) -> list[str]:
    """Revoke the user's tokens, end their console sessions, remove their channels.

    Return the ids of the tokens that were not revoked before. A token gets the pseudonym in the statement that revokes
    it: one that is added between two statements still has the name in the next round.
    """
    of_user = (tokens.c.organization_id == erased.organization_id, tokens.c.user_id == erased.name)
    renamed = update(tokens).where(*of_user).values(user_id=erased.pseudonym, name=None).returning(tokens.c.id)
    revoking = renamed.where(tokens.c.revoked_at.is_(None)).values(revoked_at=now)
    valid = connection.execute(revoking).scalars().all()
    others = connection.execute(renamed.where(tokens.c.revoked_at.is_not(None))).scalars().all()
    for table in (console_sessions, login_links):
        connection.execute(delete(table).where(table.c.token_id.in_([*valid, *others])))
    of_channel = (
        notification_channels.c.organization_id == erased.organization_id,
        notification_channels.c.user_id == erased.name,
    )
    connection.execute(delete(notification_channels).where(*of_channel))
    return sorted(valid)


def erase_runs(erased: Erased, newest: int, limit: int) -> Step:
    """Return the step that erases the texts of the user's ended runs up to the ``newest``, so many at a time."""
    of_user = (runs.c.organization_id == erased.organization_id, runs.c.user_id == erased.name)
    ended = (runs.c.status.in_(FINAL_STATUSES), runs.c.id <= newest)
    chosen = select(runs.c.id, runs.c.run_id).where(*of_user, *ended).order_by(runs.c.id)

    def find(connection: Connection, after: int | None) -> Sequence[int]:
        more = chosen if after is None else chosen.where(runs.c.id > after)
        return connection.execute(more.limit(limit)).scalars().all()

    def change(connection: Connection, keys: Sequence[int]) -> None:
        _erase_runs(connection, erased, chosen.where(runs.c.id.in_(keys)))

    return Step(find, change)


def _erase_runs(connection: Connection, erased: Erased, chosen: Select[Any]) -> None:
    found = connection.execute(chosen.with_for_update()).all()
    keys = [row.id for row in found]
    for table in _OF_RUN:
        connection.execute(delete(table).where(table.c.run_key.in_(keys)))
    connection.execute(delete(webhook_deliveries).where(webhook_deliveries.c.run_id.in_([row.run_id for row in found])))
    connection.execute(update(tool_calls).where(tool_calls.c.run_key.in_(keys)).values(_CALL))
    _erase_requirements(connection, keys)
    _erase_events(connection, keys)
    changed = update(runs).where(runs.c.id.in_(keys)).values({**ERASED_OF_RUN, "user_id": erased.pseudonym})
    connection.execute(changed)


def _erase_requirements(connection: Connection, keys: Sequence[int]) -> None:
    connection.execute(update(requirements).where(requirements.c.run_key.in_(keys)).values(_REQUIREMENT))
    of_runs = (requirements.c.run_key.in_(keys), requirements.c.votes.is_not(None))
    for row in connection.execute(select(requirements.c.id, requirements.c.votes).where(*of_runs)).all():
        votes = [{**vote, "note": None} for vote in row.votes]
        connection.execute(update(requirements).where(requirements.c.id == row.id).values(votes=votes))
    without: dict[str, Any] = {"tool_args": {}, "resolution_data": None}
    connection.execute(update(approvals).where(approvals.c.run_key.in_(keys)).values(without))
    bound = update(grants).where(grants.c.run_key.in_(keys))
    connection.execute(bound.values(arguments=None, fingerprint=None))


def _erase_events(connection: Connection, keys: Sequence[int]) -> None:
    """Delete the log but for the event that ended each run: who follows it finds its end."""
    of_runs = events.c.run_key.in_(keys)
    connection.execute(delete(events).where(of_runs, events.c.type.not_in(_LAST_EVENTS)))
    for row in connection.execute(select(events.c.run_key, events.c.sequence, events.c.payload).where(of_runs)).all():
        kept = {name: row.payload[name] for name in _KEPT_OF_EVENT if name in row.payload}
        event = (events.c.run_key == row.run_key, events.c.sequence == row.sequence)
        connection.execute(update(events).where(*event).values(payload={**kept, **_NO_TEXT}))


def erase_old_deliveries(erased: Erased, limit: int) -> Step:
    """Return the step that deletes messages about the user's runs among those that do not name their run.

    Those are from before the schema had the column.
    """
    own = select(runs.c.run_id).where(
        runs.c.organization_id == erased.organization_id, runs.c.user_id.in_([erased.name, erased.pseudonym])
    )
    of_run = webhook_deliveries.c.payload.contains(runs.c.run_id)

    def find(connection: Connection, after: str | None) -> Sequence[str]:
        unnamed = (
            webhook_deliveries.c.organization_id == erased.organization_id,
            webhook_deliveries.c.run_id.is_(None),
            webhook_deliveries.c.id > (after or ""),
        )
        some = select(webhook_deliveries.c.id).where(*unnamed).order_by(webhook_deliveries.c.id).limit(limit)
        return connection.execute(some).scalars().all()

    def change(connection: Connection, keys: Sequence[str]) -> None:
        among = (webhook_deliveries.c.id.in_(keys), runs.c.run_id.in_(own))
        gone = select(webhook_deliveries.c.id).join(runs, of_run).where(*among)
        connection.execute(delete(webhook_deliveries).where(webhook_deliveries.c.id.in_(gone)))

    return Step(find, change)


def erase_sessions(erased: Erased, limit: int) -> Step:
    """Return the step that erases the texts of the user's sessions, and ids that clients chose."""
    of_user = (sessions.c.organization_id == erased.organization_id, sessions.c.user_id == erased.name)
    chosen = select(sessions.c.id, sessions.c.session_id).where(*of_user).order_by(sessions.c.id)

    def find(connection: Connection, after: int | None) -> Sequence[int]:
        more = chosen if after is None else chosen.where(sessions.c.id > after)
        return connection.execute(more.limit(limit)).scalars().all()

    def change(connection: Connection, keys: Sequence[int]) -> None:
        for row in connection.execute(chosen.where(sessions.c.id.in_(keys)).with_for_update()).all():
            _erase_session(connection, erased, row.id, row.session_id)

    return Step(find, change)


def _erase_session(connection: Connection, erased: Erased, key: int, session_id: str) -> None:
    session_id = session_id if is_neutral(session_id) else f"{erased.pseudonym}-{key}"
    changed: dict[str, Any] = dict.fromkeys(("session_name", "session_state", "metadata", "summary"))
    changed |= {"session_id": session_id, "user_id": erased.pseudonym}
    connection.execute(update(sessions).where(sessions.c.id == key).values(changed))
    for table in (runs, grants):
        connection.execute(update(table).where(table.c.session_key == key).values(session_id=session_id))


def erase_grants(connection: Connection, erased: Erased, now: datetime) -> None:
    """Revoke the grants for the user, and those that the user has given; erase what they are about, and the name.

    All in one statement: by a grant that is added between two of them the next round finds the user.
    """
    of_user = (
        grants.c.organization_id == erased.organization_id,
        or_(grants.c.user_id == erased.name, grants.c.granted_by == erased.name),
    )
    names = {
        column.name: case((column == erased.name, erased.pseudonym), else_=column)
        for column in (grants.c.user_id, grants.c.granted_by)
    }
    revoked = {
        "revoked_at": func.coalesce(grants.c.revoked_at, now),
        "revoked_by": case((grants.c.revoked_at.is_(None), "command line"), else_=grants.c.revoked_by),
    }
    connection.execute(
        update(grants).where(*of_user).values({**names, **revoked, "arguments": None, "fingerprint": None})
    )


def is_neutral(text: str | None) -> bool:
    """Whether the id says nothing about anybody: none at all, or one that a server made."""
    try:
        return text is None or str(UUID(text)) == text
    except ValueError:
        return False
