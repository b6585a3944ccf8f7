"""What a process needs that shares its database with others: PostgreSQL's bus, and the heartbeat of its leases."""

from __future__ import annotations

from typing import TYPE_CHECKING

from unpause.domain.nodes import Node, node_name
from unpause.execution.heartbeat import Heartbeat
from unpause.store.engine.database import parse_url
from unpause.store.leases import LeaseKeeper
from unpause.streaming.postgres import PostgresBus
from unpause.version import VERSION

if TYPE_CHECKING:
    from unpause.execution.executor import Executor
    from unpause.services.context import ServiceContext
    from unpause.settings import Settings
    from unpause.store.engine.database import Database
    from unpause.tasks import Pulse


def build_bus(settings: Settings, database: Database) -> PostgresBus:
    """Return the bus over which processes signal one another."""
    listener_url = parse_url(settings.listener_url) if settings.listener_url else database.url
    return PostgresBus(database, listener_url, settings.poll_seconds)


def build_heartbeat(context: ServiceContext, executor: Executor, pulse: Pulse, idle_seconds: float) -> Heartbeat:
    """Return what keeps this process's leases alive."""
    node_id, agents = context.ids.fresh(), context.agents

    def node() -> Node:
        return Node(node_id, node_name(), VERSION, tuple(sorted(agents.served.names)), len(executor.list_held()))

    keeper = LeaseKeeper(context.database.url, idle_seconds, context.database.silent_seconds)
    return Heartbeat(keeper, executor, context.node_patience, node, pulse)
