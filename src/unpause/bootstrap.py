"""Builds an application from the settings: the only place that knows all parts."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING, TypedDict

from unpause.agents.registry import AgentRegistry
from unpause.auth.authenticator import Authenticator
from unpause.auth.console_sessions import ConsoleSessions
from unpause.auth.stream_tickets import StreamTickets
from unpause.auth.token_list import TokenList
from unpause.clock import RandomIds, SystemClock
from unpause.delivery.worker import DeliveryWorker
from unpause.domain.nodes import node_name
from unpause.domain.overview import Worker
from unpause.domain.retention import RetentionRules
from unpause.execution.clock_sync import ClockSync
from unpause.execution.disk_probe import DiskProbe
from unpause.execution.engine import Engine
from unpause.execution.executor import Executor
from unpause.execution.outside_changes import OutsideChanges
from unpause.execution.readiness import Readiness, ReadinessCheck
from unpause.execution.recovery import Recovery
from unpause.execution.unserved import UnservedRuns
from unpause.execution.workers import Workers
from unpause.factories import (
    build_channel_sender,
    delivery_rules,
    execution_rules,
    http_client,
    load_jwts,
    load_vault,
    notification_queue,
    notification_rules,
    public_address,
    run_limits,
    ticket_keys,
    worker_rules,
)
from unpause.lazy import LazyModule
from unpause.notifications.service import ChannelService
from unpause.services.agent_routing import AgentRouter
from unpause.services.approvals import ApprovalService
from unpause.services.audit import AuditTrail
from unpause.services.audit_chain import AuditSealing
from unpause.services.context import ServiceContext
from unpause.services.expiry import Expiry
from unpause.services.grants import GrantService
from unpause.services.idempotency import OldRequests
from unpause.services.inbox import Inbox
from unpause.services.inbox_decisions import InboxDecisions
from unpause.services.inbox_feed import InboxFeed
from unpause.services.metrics import Metrics
from unpause.services.overview import OverviewService
from unpause.services.retention import Retention
from unpause.services.run_lists import RunLists
from unpause.services.run_search import RunFinder
from unpause.services.runs import RunService
from unpause.services.segment_state import JournalContext
from unpause.services.sessions import SessionService
from unpause.services.threads import ThreadReader
from unpause.services.users import UserDirectory
from unpause.store.engine.backup import marked_in_use
from unpause.store.engine.database import Database
from unpause.store.rate_limits import LocalRateCounts, SharedRateCounts
from unpause.store.run_queue import read_clock
from unpause.store.unreadable import UnreadableRows
from unpause.streaming.bus import InProcessBus
from unpause.streaming.follow import Follower
from unpause.tasks import Pulse
from unpause.telemetry.run_changes import report_changes
from unpause.version import VERSION
from unpause.webhooks.queue import WebhookQueue
from unpause.webhooks.sender import SigningSender
from unpause.webhooks.service import WebhookService

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Collection, Iterator
    from datetime import datetime

    from unpause import shared_database
    from unpause.agents.served import Agents
    from unpause.clock import Clock, Ids
    from unpause.domain.notifications import NotificationMessage
    from unpause.domain.webhooks import Delivery
    from unpause.execution.heartbeat import Heartbeat
    from unpause.execution.sweeper import Sweep
    from unpause.settings import Settings
    from unpause.store.deliveries import DueDelivery
    from unpause.store.notifications import DueChannel
    from unpause.store.rate_limits import RateCounts
    from unpause.streaming.bus import Bus
else:
    shared_database = LazyModule("unpause.shared_database")


@dataclass(frozen=True, slots=True)
class Application:
    """A server's parts. Nothing runs before ``running`` is entered."""

    settings: Settings
    database: Database
    engine: Engine
    workers: Workers
    executor: Executor
    service: RunService
    approvals: ApprovalService
    grants: GrantService
    inbox: Inbox
    inbox_decisions: InboxDecisions
    feed: InboxFeed
    sessions: SessionService
    threads: ThreadReader
    expiry: Expiry
    recovery: Recovery
    unserved: UnservedRuns
    follower: Follower
    agents: AgentRegistry
    agent_router: AgentRouter
    run_lists: RunLists
    run_finder: RunFinder
    overviews: OverviewService
    users: UserDirectory
    rate_counts: RateCounts
    webhooks: WebhookService
    deliverer: DeliveryWorker[DueDelivery, Delivery]
    channels: ChannelService
    notifier: DeliveryWorker[DueChannel, NotificationMessage]
    clock: Clock
    authenticator: Authenticator
    tickets: StreamTickets
    console_sessions: ConsoleSessions
    tokens: TokenList
    audit: AuditTrail
    started_at: datetime
    reload_agents: Callable[[], None]
    pulse: Pulse
    readiness: ReadinessCheck
    metrics: Metrics

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the database, take over what an earlier process left, and execute runs during the block.

        When a part of that dies, the block is cancelled, and the reason is raised after the runs are released.
        """
        async with AsyncExitStack() as database:
            database.enter_context(marked_in_use(self.settings.database_url))
            await database.enter_async_context(self.database.opened())
            if isinstance(self.clock, SystemClock) and self.database.is_shared:
                self.clock.synchronize(await self.database.read(read_clock))
            # Deliverers start before the engine and end after it: messages of the last segments can still be sent.
            async with self.deliverer.working(), self.notifier.working(), self.engine.running(), self.feed.running():
                try:
                    yield
                except BaseException:
                    # Before anything is closed: a health check in the meantime must not succeed.
                    self.pulse.has_died = True
                    raise
                finally:
                    # A host may end the lifespan before its connections: a stream would wait forever.
                    self._end_streams()

    async def check_ready(self) -> Readiness:
        """Return what this process lacks to serve requests."""
        return await self.readiness.check(self.pulse)

    async def drain(self) -> None:
        """Claim no more runs, release those that run here, and then end the open streams, within the grace.

        Other nodes continue the runs, and streams here follow them as long as there is time.
        """
        loop = asyncio.get_running_loop()
        deadline = loop.time() + self.settings.shutdown_grace_seconds
        await self.workers.drain()
        if self.database.is_shared:
            await asyncio.sleep(deadline - loop.time())
        self._end_streams()

    def _end_streams(self) -> None:
        self.follower.end_streams()
        self.feed.end_streams()


def build_application(
    settings: Settings, agents: Agents, clock: Clock | None = None, ids: Ids | None = None
) -> Application:
    """Return the parts of a server for these agents; the database must have its schema."""
    context, executor, workers = _build_core(settings, agents, clock or SystemClock(), ids or RandomIds())
    database, registry, clock, lease = context.database, context.agents, context.clock, context.node_patience
    execution = _build_execution(settings, agents, context, executor, workers)
    authenticator, own = execution["authenticator"], _own_agents(settings, registry)
    return Application(
        settings=settings,
        database=database,
        service=RunService(context),
        approvals=ApprovalService(context),
        grants=GrantService(context),
        inbox=Inbox(context),
        inbox_decisions=InboxDecisions(context),
        feed=InboxFeed(context, Inbox(context), settings.keepalive_seconds),
        sessions=SessionService(context),
        threads=ThreadReader(database),
        follower=Follower(database, context.bus),
        agents=registry,
        agent_router=AgentRouter(registry, settings.repo_agents, settings.agent_types),
        run_lists=RunLists(database),
        run_finder=RunFinder(database, clock),
        overviews=_overviews(settings, context, executor),
        users=UserDirectory(database),
        rate_counts=_rate_counts(database, clock),
        clock=clock,
        tickets=StreamTickets(authenticator, clock, ticket_keys(settings)),
        console_sessions=ConsoleSessions(
            database, clock, authenticator, timedelta(seconds=settings.console_session_seconds)
        ),
        tokens=TokenList(database, clock),
        audit=AuditTrail(database),
        started_at=clock.now(),
        reload_agents=agents.reload,
        readiness=ReadinessCheck(database, registry, clock, own, lease),
        metrics=Metrics(database, clock, own, lease),
        **execution,
        **_build_deliveries(settings, context),
    )


class _Execution(TypedDict):
    """What executes runs, and what is swept beside them."""

    engine: Engine
    workers: Workers
    executor: Executor
    authenticator: Authenticator
    expiry: Expiry
    recovery: Recovery
    unserved: UnservedRuns
    pulse: Pulse


def _build_execution(
    settings: Settings, agents: Agents, context: ServiceContext, executor: Executor, workers: Workers
) -> _Execution:
    database, bus, clock, lease = context.database, context.bus, context.clock, context.node_patience
    authenticator = Authenticator(database, clock, load_jwts(settings, clock), is_open=settings.dev)
    expiry = Expiry(context)
    recovery = Recovery(database, bus, workers, clock, settings.max_crashes, patience=lease / 2)
    unserved = UnservedRuns(database, _own_agents(settings, context.agents), lease)
    pulse = Pulse()
    heartbeat = _heartbeat(context, executor, pulse)
    _follow_agents(agents, context.agents, workers, heartbeat)
    engine = Engine(
        bus=bus,
        workers=workers if settings.worker else None,
        recovery=recovery,
        heartbeat=heartbeat,
        lifespans=agents.running,
        sweeps=(*_own_sweeps(context, recovery), authenticator, expiry),
        calm_sweeps=(_retention(settings, context), _old_requests(settings, context), unserved),
        sweep_seconds=settings.sweep_seconds,
        pulse=pulse,
    )
    return _Execution(
        engine=engine,
        workers=workers,
        executor=executor,
        authenticator=authenticator,
        expiry=expiry,
        recovery=recovery,
        unserved=unserved,
        pulse=pulse,
    )


class _Deliveries(TypedDict):
    """Webhooks and notifications: what registers their targets, and what delivers messages to them."""

    webhooks: WebhookService
    deliverer: DeliveryWorker[DueDelivery, Delivery]
    channels: ChannelService
    notifier: DeliveryWorker[DueChannel, NotificationMessage]


def _build_deliveries(settings: Settings, context: ServiceContext) -> _Deliveries:
    database, clock, ids, vault = context.database, context.clock, context.ids, context.vault
    sender = SigningSender(vault, partial(http_client, settings), clock, public_address(settings))
    channel_sender = build_channel_sender(settings, vault)
    notifications = notification_queue(settings, channel_sender, ids)
    allow_private = settings.webhook_private_targets
    return _Deliveries(
        webhooks=WebhookService(database, clock, ids, vault, sender, allow_private=allow_private),
        deliverer=DeliveryWorker(database, WebhookQueue(sender), clock, delivery_rules(settings)),
        channels=ChannelService(database, clock, vault, channel_sender),
        notifier=DeliveryWorker(database, notifications, clock, notification_rules(settings)),
    )


def _build_core(settings: Settings, agents: Agents, clock: Clock, ids: Ids) -> tuple[ServiceContext, Executor, Workers]:
    """Return what the services are built from, and what executes runs."""
    lease = timedelta(seconds=settings.lease_seconds)
    database = _database(settings, lease)
    bus = _bus(settings, database)
    registry = AgentRegistry(settings.default_agent)
    if agents.publish_to is None:
        registry.serve(agents.drivers, agents.setup_commands)
    executor = Executor(JournalContext(database, bus, clock, ids), registry, execution_rules(settings))
    workers = Workers(database, bus, executor, worker_rules(settings))
    vault, limits = load_vault(settings), run_limits(settings)
    context = ServiceContext(database, bus, workers, registry, clock, ids, vault, limits, UnreadableRows(), lease)
    return context, executor, workers


def _database(settings: Settings, lease: timedelta) -> Database:
    connections, lock_seconds = settings.database_connections, settings.lock_timeout_seconds
    idle_seconds, silent_seconds = _idle_seconds(lease), settings.database_timeout_seconds
    return Database(settings.database_url, connections, lock_seconds, idle_seconds, report_changes, silent_seconds)


def _idle_seconds(lease: timedelta) -> float:
    """Return how long a transaction may be idle: what a frozen process locks is free soon after its leases end."""
    return 2 * lease.total_seconds()


def _heartbeat(context: ServiceContext, executor: Executor, pulse: Pulse) -> Heartbeat | None:
    """Return what keeps this process's leases alive, where others share its database."""
    if not context.database.is_shared:
        return None
    return shared_database.build_heartbeat(context, executor, pulse, _idle_seconds(context.node_patience))


def _follow_agents(agents: Agents, registry: AgentRegistry, workers: Workers, heartbeat: Heartbeat | None) -> None:
    """Have the agents that arrive later, or change, be announced to other processes and their runs be claimed."""
    if heartbeat is not None:
        registry.on_change(heartbeat.beat_soon)
    registry.on_change(workers.look_again)
    if agents.publish_to is not None:
        agents.publish_to(registry)


def _overviews(settings: Settings, context: ServiceContext, executor: Executor) -> OverviewService:
    """Return what reads overviews; this process is the only worker where it owns the database."""
    started_at, agents = context.clock.now(), context.agents

    def own() -> Worker | None:
        if not settings.worker:
            return None
        names = tuple(sorted(agents.served.names))
        running = len(executor.list_held())
        return Worker(node_name(), VERSION, names, started_at, started_at, is_alive=True, running=running)

    return OverviewService(context.database, context.clock, own, context.node_patience)


def _own_agents(settings: Settings, registry: AgentRegistry) -> Callable[[], Collection[str] | None]:
    """Return what names the agents whose runs this process executes; it returns None while they are not known."""

    def own() -> Collection[str] | None:
        if not settings.worker:
            return ()
        return registry.served.names if registry.is_loaded else None

    return own


def _own_sweeps(context: ServiceContext, recovery: Recovery) -> Iterator[Sweep]:
    """Yield what to sweep of the database itself: some only where others share it."""
    database, clock = context.database, context.clock
    yield DiskProbe(database)
    if database.is_shared and isinstance(clock, SystemClock):
        yield ClockSync(database, clock)
    yield recovery if database.is_shared else OutsideChanges(database, context.bus)
    yield AuditSealing(database)


def _retention(settings: Settings, context: ServiceContext) -> Retention:
    kept = RetentionRules(settings.keep_ended_runs, settings.keep_audit, settings.keep_deliveries)
    return Retention(context.database, context.clock, kept)


def _old_requests(settings: Settings, context: ServiceContext) -> OldRequests:
    return OldRequests(context.database, context.clock, timedelta(seconds=settings.idempotency_seconds))


def _bus(settings: Settings, database: Database) -> Bus:
    if not database.is_shared:
        return InProcessBus()
    return shared_database.build_bus(settings, database)


def _rate_counts(database: Database, clock: Clock) -> RateCounts:
    # One process owns a SQLite file, and there a write for each read would cost more than the read.
    return SharedRateCounts(database, clock) if database.is_shared else LocalRateCounts(clock)
