"""Which processes are alive and serve which agents, and which runs wait for agents that nobody serves.

Only PostgreSQL has many nodes. A SQLite file has one process, which needs no row to know what it serves.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from sqlalchemy import Interval, and_, bindparam, delete, func, insert, literal_column, select

from unpause.domain.nodes import Unserved
from unpause.store.engine.dialects import Upsert, database_now, is_shared
from unpause.store.run_queue import IS_PENDING, list_pending
from unpause.store.tables import nodes, runs

if TYPE_CHECKING:
    from collections.abc import Collection

    from sqlalchemy import Select
    from sqlalchemy.engine import Connection

    from unpause.domain.nodes import Node

_NOW = database_now()
_KEEP = Upsert(
    nodes,
    (nodes.c.id,),
    lambda added: {"agents": added.agents, "running": added.running, "seen_at": added.seen_at},
    values={"started_at": _NOW, "seen_at": _NOW},
)
_PATIENCE = bindparam("patience", type_=Interval)
# What was seen later than now was seen before the database's clock went back.
_SEEN_SINCE = and_(nodes.c.seen_at >= _NOW - _PATIENCE, nodes.c.seen_at <= _NOW + _PATIENCE)
_LIVE = select(nodes.c.agents).where(_SEEN_SINCE)
_COUNT_LIVE = select(func.count()).select_from(nodes).where(_SEEN_SINCE)
_FORGET = delete(nodes).where(~_SEEN_SINCE)
# Later than this, no page shows when the node was last seen.
_FORGOTTEN_AFTER = timedelta(days=1)

_MAX_COUNTED = 1000
# As the partial index has it: a bound value would keep PostgreSQL from using that.
_IS_PAUSED = runs.c.status == literal_column("'PAUSED'")
# The next agent is looked up in the index: that takes as many steps as there are agents, not runs.
_FIRST = select(func.min(runs.c.agent_id).label("id")).where(_IS_PAUSED).cte("waiting", recursive=True)
_PAUSED = _FIRST.union_all(
    select(
        select(func.min(runs.c.agent_id))
        .where(_IS_PAUSED, runs.c.agent_id > _FIRST.c.id)
        .correlate(_FIRST)
        .scalar_subquery()
    ).where(_FIRST.c.id.is_not(None))
)
_AGENTS_OF_PAUSED = select(_PAUSED.c.id).where(_PAUSED.c.id.is_not(None))
_OF_AGENT = select(runs.c.id).where(runs.c.agent_id == bindparam("agent")).limit(_MAX_COUNTED)


# Of a row that is written only to find out whether there is room.
_PROBE_BYTES = 262_144


def _counted(query: Select[Any]) -> Select[Any]:
    return select(func.count()).select_from(query.subquery())


_COUNT_PAUSED = _counted(_OF_AGENT.where(_IS_PAUSED))
_COUNT_PENDING = _counted(_OF_AGENT.where(IS_PENDING, runs.c.organization_id == bindparam("organization")))


def keep_node(connection: Connection, node: Node) -> None:
    """Write that the node is alive, which agents it serves now, and how many runs it executes."""
    added = {**asdict(node), "agents": list(node.agents)}
    _KEEP.on(connection).all(connection, added)


def remove_node(connection: Connection, node_id: str) -> None:
    """Write that the node is gone; delete those that have been silent for long."""
    connection.execute(delete(nodes).where(nodes.c.id == node_id))
    connection.execute(_FORGET, {"patience": _FORGOTTEN_AFTER})


def list_live_agents(connection: Connection, patience: timedelta) -> frozenset[str]:
    """Return the agents served by nodes that were seen within ``patience``; none where there are no other nodes."""
    if not is_shared(connection):
        return frozenset()
    found = connection.execute(_LIVE, {"patience": patience}).scalars()
    return frozenset(agent_id for agents in found for agent_id in agents)


def count_live_nodes(connection: Connection, patience: timedelta) -> int:
    """Return how many nodes were seen within ``patience``; 1 where there are no other nodes."""
    if not is_shared(connection):
        return 1
    return int(connection.execute(_COUNT_LIVE, {"patience": patience}).scalar_one())


def list_unserved(connection: Connection, served: Collection[str]) -> list[Unserved]:
    """Return, by agent, how many runs are PENDING or PAUSED and wait for one that is not served."""
    pending: dict[str, int] = {}
    for organization_id, agent_id in list_pending(connection):
        if agent_id not in served:
            parameters = {"organization": organization_id, "agent": agent_id}
            count = connection.execute(_COUNT_PENDING, parameters).scalar_one()
            pending[agent_id] = min(_MAX_COUNTED, pending.get(agent_id, 0) + count)
    paused = {
        agent_id: connection.execute(_COUNT_PAUSED, {"agent": agent_id}).scalar_one()
        for agent_id in connection.execute(_AGENTS_OF_PAUSED).scalars().all()
        if agent_id not in served
    }
    return [Unserved(name, pending.get(name, 0), paused.get(name, 0)) for name in sorted({*pending, *paused})]


def write_and_delete(connection: Connection) -> None:
    """Write a row that cannot be compressed, and delete it: both reach the disk, and nobody sees them."""
    probe, long_ago = str(uuid4()), datetime.fromtimestamp(0, UTC)
    row = {"id": probe, "name": "", "version": "", "agents": [os.urandom(_PROBE_BYTES).hex()]}
    connection.execute(insert(nodes).values(**row, started_at=long_ago, seen_at=long_ago))
    connection.execute(delete(nodes).where(nodes.c.id == probe))
