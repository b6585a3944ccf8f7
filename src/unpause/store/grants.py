"""Grants: looked up and counted in the transaction that starts a call, listed and revoked for people."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import TypeAdapter
from sqlalchemy import and_, bindparam, exists, false, func, insert, not_, or_, select, update

from unpause.domain.deciders import Deciders
from unpause.domain.grants import Grant, GrantMatch, GrantScope
from unpause.lazy import BUILT_LATE
from unpause.store.engine.dialects import database_now
from unpause.store.run_queue import FINAL_STATUSES
from unpause.store.tables import grants, runs, tokens, users

if TYPE_CHECKING:
    from datetime import datetime

    from sqlalchemy import ColumnElement, Select
    from sqlalchemy.engine import Connection, RowMapping

    from unpause.domain.grants import GrantFilter, GrantRequest, GrantViewer
    from unpause.domain.runs import Run

_DECIDERS = TypeAdapter(Deciders | None, config=BUILT_LATE)

# The token that granted still is valid, and its user still exists.
_TOKEN = exists().where(
    tokens.c.id == grants.c.token_id,
    tokens.c.revoked_at.is_(None),
    or_(tokens.c.expires_at.is_(None), tokens.c.expires_at > database_now()),
    or_(
        tokens.c.user_id.is_(None),
        exists().where(users.c.organization_id == tokens.c.organization_id, users.c.name == tokens.c.user_id),
    ),
)
_IN_FORCE = and_(
    grants.c.revoked_at.is_(None),
    or_(grants.c.expires_at.is_(None), grants.c.expires_at > database_now()),
    or_(grants.c.token_id.is_(None), _TOKEN),
)
# No EXISTS: PostgreSQL may read all runs that have ended for one, once for all grants.
_HAS_ENDED = func.coalesce(
    select(runs.c.status.in_(FINAL_STATUSES)).where(runs.c.id == grants.c.run_key).scalar_subquery(), false()
)
_ACTIVE = and_(_IN_FORCE, not_(_HAS_ENDED))
_SELECT = select(*grants.c, _ACTIVE.label("active"))

# A grant without a session or run is for all sessions of a user with a name.
_BOUND = or_(
    grants.c.run_key == bindparam("run"),
    grants.c.session_key == bindparam("session"),
    and_(grants.c.run_key.is_(None), grants.c.session_key.is_(None), grants.c.user_id.is_not(None)),
)
_COVERING = (
    _SELECT.where(
        _IN_FORCE,
        grants.c.organization_id == bindparam("organization"),
        grants.c.agent_id == bindparam("agent"),
        grants.c.tool_name == bindparam("tool"),
        grants.c.user_id.is_not_distinct_from(bindparam("user", type_=grants.c.user_id.type)),
        _BOUND,
        or_(grants.c.match == GrantMatch.TOOL.value, grants.c.fingerprint == bindparam("arguments")),
    )
    # The narrowest first, and of those the newest.
    .order_by(grants.c.match, grants.c.created_at.desc())
)
_USE = (
    update(grants)
    .where(grants.c.id == bindparam("grant"), _IN_FORCE)
    .values(uses=grants.c.uses + 1, last_used_at=database_now())
    .returning(grants.c.id)
)


def add_grant(connection: Connection, grant: Grant) -> None:
    """Add a grant."""
    values = {column.name: getattr(grant, column.name) for column in grants.c}
    deciders = _DECIDERS.dump_python(grant.deciders, mode="json")
    values |= {"scope": grant.scope.value, "match": grant.match.value, "deciders": deciders}
    connection.execute(insert(grants).values(values))


def has_grant(connection: Connection, requirement_id: str, request: GrantRequest | None) -> bool:
    """Whether the decision on the requirement was remembered just as requested: not at all, where that is None."""
    found = connection.execute(select(grants.c.scope, grants.c.match).where(grants.c.id == requirement_id)).first()
    requested = None if request is None else (request.scope.value, request.match.value)
    return (None if found is None else tuple(found)) == requested


def list_covering(connection: Connection, run: Run, tool_name: str, fingerprint: str, now: datetime) -> list[Grant]:
    """Return the grants in force that are for such a call of the run, whatever its tool allows."""
    named = {
        "organization": run.organization_id,
        "agent": run.agent_id,
        "tool": tool_name,
        "user": run.user_id,
        "run": run.id,
        "session": run.session_key,
        "arguments": fingerprint,
        "now": now,
    }
    return [_grant(row) for row in connection.execute(_COVERING, named).mappings()]


def use_grant(connection: Connection, grant_id: str, now: datetime) -> bool:
    """Count one use of the grant, which is locked then; return False where it is not in force any more."""
    return connection.execute(_USE, {"grant": grant_id, "now": now}).scalar() is not None


def list_grants(
    connection: Connection,
    viewer: GrantViewer,
    selection: GrantFilter,
    now: datetime,
    *,
    limit: int,
    after: str | None,
) -> list[Grant]:
    """Return the visible grants, newest first: those after the one of that id."""
    query = _visible(viewer)
    for column in (grants.c.agent_id, grants.c.tool_name, grants.c.session_id):
        value = getattr(selection, column.name)
        if value is not None:
            query = query.where(column == value)
    if selection.active is not None:
        query = query.where(_ACTIVE if selection.active else not_(_ACTIVE))
    if after is not None:
        before = select(grants.c.created_at, grants.c.id).where(grants.c.id == after)
        found = connection.execute(before).first()
        query = query.where(false() if found is None else _is_before(*found))
    query = query.order_by(grants.c.created_at.desc(), grants.c.id.desc()).limit(limit)
    return [_grant(row) for row in connection.execute(query, {"now": now}).mappings()]


def find_grant(connection: Connection, viewer: GrantViewer, grant_id: str, now: datetime) -> Grant | None:
    """Return the grant, or None where none of that id is visible."""
    row = connection.execute(_visible(viewer).where(grants.c.id == grant_id), {"now": now}).mappings().first()
    return None if row is None else _grant(row)


def revoke_grant(connection: Connection, grant_id: str, by: str | None, now: datetime) -> bool:
    """Revoke the grant; return False where it was revoked before, or there is none."""
    statement = (
        update(grants)
        .where(grants.c.id == grant_id, grants.c.revoked_at.is_(None))
        .values(revoked_at=now, revoked_by=by)
        .returning(grants.c.id)
    )
    return connection.execute(statement).scalar() is not None


def _visible(viewer: GrantViewer) -> Select[Any]:
    others: list[ColumnElement[bool]] = []
    if viewer.user_id is not None:
        others.append(grants.c.user_id == viewer.user_id)
    if viewer.agents is not None:
        others.append(grants.c.agent_id.in_(viewer.agents))
    found = _SELECT.where(grants.c.organization_id == viewer.organization_id)
    if viewer.session_id is not None:
        found = found.where(grants.c.session_id == viewer.session_id)
    return found.where(or_(grants.c.granter == viewer.decider, and_(*others))) if others else found


def _is_before(created_at: datetime, grant_id: str) -> ColumnElement[bool]:
    same_time = and_(grants.c.created_at == created_at, grants.c.id < grant_id)
    return or_(grants.c.created_at < created_at, same_time)


def _grant(row: RowMapping) -> Grant:
    plain = dict(row)
    return Grant(
        **{
            **plain,
            "scope": GrantScope(row["scope"]),
            "match": GrantMatch(row["match"]),
            "deciders": _DECIDERS.validate_python(row["deciders"]),
            "active": bool(row["active"]),
        }
    )
