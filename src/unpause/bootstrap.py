"""Puts the parts together, from the settings: the only place where all of them meet."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from unpause.agents.demo import build_demo_agent, prepare_workspace
from unpause.agents.demo_model import DemoModel
from unpause.agents.loading import load_agents
from unpause.agents.models import resolve_model
from unpause.agents.pydantic_ai import DriverOptions, PydanticAIDriver
from unpause.agents.redaction import Redaction
from unpause.agents.registry import AgentRegistry
from unpause.agents.setup_commands import SetupCommandsDriver
from unpause.agents.setup_segment import Workshop
from unpause.agents.subprocesses import find_programs
from unpause.auth.callers import Callers
from unpause.auth.jwks import PublishedKeys
from unpause.auth.jwts import JwtRules, Jwts, StaticKeys
from unpause.clock import RandomIds, SystemClock
from unpause.domain.requirements import OnExpire
from unpause.errors import InvalidSetting
from unpause.execution.delivering import Deliverer, DeliveryRules
from unpause.execution.engine import Engine
from unpause.execution.executor import ExecutionRules, Executor
from unpause.execution.frozen import OpenTransactions
from unpause.execution.heartbeat import Heartbeat
from unpause.execution.outbound import Door
from unpause.execution.recovery import Recovery
from unpause.execution.sending import SigningSender
from unpause.execution.workers import WorkerRules, Workers
from unpause.runs.approvals import ApprovalService
from unpause.runs.auditing import AuditTrail
from unpause.runs.choosing import AgentChoice
from unpause.runs.expiry import Expiry
from unpause.runs.limits import Limits
from unpause.runs.listing import RunListing
from unpause.runs.recorder import RecorderTools
from unpause.runs.service import RunService, ServiceTools
from unpause.runs.sessions import SessionService
from unpause.runs.users import UserDirectory
from unpause.runs.webhooks import WebhookService
from unpause.store.database import Database, parse_url, secrets_in_url
from unpause.store.leases import LeaseKeeper
from unpause.store.rates import OwnCounts, SharedCounts
from unpause.store.readiness import read_clock
from unpause.streaming.bus import InProcessBus
from unpause.streaming.follow import Follower
from unpause.streaming.postgres import PostgresBus
from unpause.vault import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from datetime import datetime

    from unpause.agents.driver import AgentDriver
    from unpause.auth.jwts import KeySource
    from unpause.clock import Clock, Ids
    from unpause.settings import Settings
    from unpause.store.rates import Counts
    from unpause.streaming.bus import Bus


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
    sessions: SessionService
    expiry: Expiry
    recovery: Recovery
    follower: Follower
    agents: AgentRegistry
    choice: AgentChoice
    listing: RunListing
    users: UserDirectory
    counts: Counts
    webhooks: WebhookService
    deliverer: Deliverer
    clock: Clock
    callers: Callers
    audit: AuditTrail
    started_at: datetime

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the database, take back what an earlier process left, and execute runs during the block."""
        async with self.database.opened():
            if isinstance(self.clock, SystemClock) and not self.database.is_sqlite:
                self.clock.set_by(await self.database.read(read_clock))
            # The deliverer begins before the engine and ends after it: what the last segments tell may still be sent.
            async with self.deliverer.working(), self.engine.running():
                yield

    def stop_soon(self) -> None:
        """Hear that the server is about to stop: take no more runs, and let the streams go.

        Clients of one node among many connect to another at once. Where there is no other, those whose runs still go on
        are left to see the end, as long as there is time.
        """
        self.workers.stop_claiming()
        patience = self.settings.shutdown_grace_seconds if self.database.is_sqlite else 0
        asyncio.get_running_loop().call_later(patience, self.follower.end_streams)


def build_application(
    settings: Settings, drivers: Iterable[AgentDriver], clock: Clock | None = None, ids: Ids | None = None
) -> Application:
    """Return the parts of a server for these agents; the database must have its schema."""
    clock = clock or SystemClock()
    ids = ids or RandomIds()
    vault = load_vault(settings)
    database = Database(settings.database_url, settings.database_connections)
    bus = _bus(settings, database)
    drivers = list(drivers)
    agents = AgentRegistry(drivers, settings.default_agent, _setup_commands(settings, drivers, clock))
    executor = Executor(RecorderTools(database, bus, clock, ids), agents, _execution_rules(settings))
    workers = Workers(database, bus, executor, _worker_rules(settings, database))
    tools = ServiceTools(database, bus, workers, agents, clock, ids, vault, _limits(settings))
    sender = SigningSender(vault, _door(settings), clock)
    expiry = Expiry(tools, timedelta(seconds=settings.idempotency_seconds))
    callers = Callers(database, clock, _jwts(settings, clock), is_open=settings.dev)
    lease = timedelta(seconds=settings.lease_seconds)
    recovery = Recovery(database, bus, workers, clock, settings.max_crashes, patience=lease / 2)
    sweeps = (callers, expiry)
    engine = Engine(
        bus=bus,
        workers=workers if settings.worker else None,
        recovery=recovery,
        heartbeat=None if database.is_sqlite else Heartbeat(LeaseKeeper(database.url), executor, lease, clock),
        sweeps=sweeps if database.is_sqlite else (OpenTransactions(database, 2 * lease), recovery, *sweeps),
        sweep_seconds=settings.sweep_seconds,
    )
    return Application(
        settings=settings,
        database=database,
        engine=engine,
        workers=workers,
        executor=executor,
        service=RunService(tools),
        approvals=ApprovalService(tools),
        sessions=SessionService(tools),
        expiry=expiry,
        recovery=recovery,
        follower=Follower(database, bus),
        agents=agents,
        choice=AgentChoice(agents, settings.repo_agents, settings.agent_types),
        listing=RunListing(database),
        users=UserDirectory(database),
        # One process owns a SQLite file, and there a write for each read would cost more than the read.
        counts=OwnCounts(clock) if database.is_sqlite else SharedCounts(database, clock),
        webhooks=WebhookService(tools, sender, allow_private=settings.webhook_private_targets),
        deliverer=Deliverer(database, sender, clock, _delivery_rules(settings)),
        clock=clock,
        callers=callers,
        audit=AuditTrail(database),
        started_at=clock.now(),
    )


def _limits(settings: Settings) -> Limits:
    return Limits(
        runs=settings.run_limit,
        unfinished=settings.max_unfinished,
        tools=settings.max_tools,
        json_chars=settings.max_json_chars,
    )


def load_jwt_keys(settings: Settings) -> KeySource | None:
    """Return the keys that JWTs are checked with; None where the settings have none. Raise InvalidSetting."""
    given = [_read_key(file) for file in settings.jwt_key_files]
    if settings.jwt_key is not None:
        given.insert(0, settings.jwt_key.get_secret_value())
    if settings.jwt_jwks_url is None:
        return StaticKeys(given, settings.jwt_algorithm) if given else None
    if given:
        raise InvalidSetting("jwt_jwks_url stands alone: the keys there, or keys of your own, but not both")
    if settings.jwt_algorithm.startswith("HS"):
        raise InvalidSetting(f"jwt_algorithm {settings.jwt_algorithm} needs a secret, and no address publishes one")
    if not settings.jwt_jwks_url.startswith(("https://", "http://")):
        raise InvalidSetting("jwt_jwks_url must begin with https:// or http://")
    return PublishedKeys(settings.jwt_jwks_url, settings.jwt_algorithm)


def _read_key(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is no text"
        raise InvalidSetting(f"jwt_key_files: {file} cannot be read: {why}") from None


def _jwts(settings: Settings, clock: Clock) -> Jwts | None:
    """Return who checks JWTs; None where the settings have no key. Raise InvalidSetting for keys that are none."""
    keys = load_jwt_keys(settings)
    if keys is None:
        return None
    rules = JwtRules(
        algorithm=settings.jwt_algorithm,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        scopes_claim=settings.jwt_scopes_claim,
        organization_claim=settings.jwt_organization_claim,
        organization=settings.jwt_organization,
        leeway_seconds=settings.jwt_leeway_seconds,
    )
    return Jwts(keys, rules, clock)


def _bus(settings: Settings, database: Database) -> Bus:
    if database.is_sqlite:
        return InProcessBus()
    listener_url = parse_url(settings.listener_url) if settings.listener_url else database.url
    return PostgresBus(database, listener_url, settings.poll_seconds)


def _worker_rules(settings: Settings, database: Database) -> WorkerRules:
    return WorkerRules(
        max_running=settings.max_running,
        per_organization=settings.max_running_per_organization,
        grace_seconds=settings.shutdown_grace_seconds,
        poll_seconds=None if database.is_sqlite else settings.poll_seconds,
    )


def _setup_commands(settings: Settings, drivers: Sequence[AgentDriver], clock: Clock) -> SetupCommandsDriver | None:
    """Return who prepares repositories, with the settings' model or the default agent's.

    None where no folder of checkouts is set, or no model can plan: the demo's own knows only the demo's tools.
    """
    if settings.workspace_root is None:
        return None
    options = driver_options(settings)
    default = next((driver for driver in drivers if settings.default_agent in {None, driver.agent_id}), None)
    model = options.model or (default.model if isinstance(default, PydanticAIDriver) else None)
    if model is None or isinstance(model, DemoModel):
        return None
    workshop = Workshop(
        settings.workspace_root,
        settings.command_timeout_seconds,
        settings.command_output_bytes,
        find_programs(os.environ),
    )
    return SetupCommandsDriver(model, options, workshop, clock)


def _door(settings: Settings) -> Door:
    return Door(settings.webhook_timeout_seconds, allow_private=settings.webhook_private_targets)


def _delivery_rules(settings: Settings) -> DeliveryRules:
    return DeliveryRules(settings.webhook_attempts, settings.webhook_timeout_seconds)


def _execution_rules(settings: Settings) -> ExecutionRules:
    return ExecutionRules(
        history_runs=settings.history_runs,
        lease=timedelta(seconds=settings.lease_seconds),
        per_organization=settings.max_running_per_organization,
        pause_expires_in=settings.pause_expires_seconds,
        approval_expires_in=settings.approval_expires_seconds,
        on_expire=OnExpire(settings.on_expire),
        remind_before=settings.reminder_seconds,
    )


def load_vault(settings: Settings) -> Vault:
    """Return the vault with the keys of the settings; raise InvalidSetting for one that is none."""
    given = settings.encryption_key.get_secret_value() if settings.encryption_key else ""
    return Vault([key.strip() for key in given.split(",") if key.strip()])


def build_redaction(settings: Settings) -> Redaction:
    """Return what takes secrets out of texts: those of the environment, and those that the settings hold."""
    secrets = [settings.jwt_key.get_secret_value()] if settings.jwt_key else []
    if settings.encryption_key:
        secrets.extend(key.strip() for key in settings.encryption_key.get_secret_value().split(","))
    for url in (settings.database_url, settings.listener_url):
        if url:
            secrets.extend(secrets_in_url(url))
    return Redaction(os.environ, secrets)


def driver_options(settings: Settings) -> DriverOptions:
    """Return what the settings say about all agents alike; raise InvalidSetting for a model that cannot be had."""
    return DriverOptions(
        ids=RandomIds(),
        redaction=build_redaction(settings),
        model=resolve_model(settings.model, settings.model_base_url) if settings.model else None,
        request_limit=settings.request_limit,
        total_tokens_limit=settings.total_tokens_limit,
        models={name: resolve_model(name, settings.model_base_url) for name in settings.models},
    )


def load_drivers(settings: Settings) -> list[PydanticAIDriver]:
    """Return drivers for the agents that the settings name; raise InvalidSetting."""
    options = driver_options(settings)
    return [PydanticAIDriver(agent, options) for agent in load_agents(settings.agents)]


def demo_drivers(settings: Settings) -> list[PydanticAIDriver]:
    """Return the driver of the demo agent, on a workspace folder that is made if it is not there."""
    options = driver_options(settings)
    prepare_workspace(settings.workspace)
    return [PydanticAIDriver(build_demo_agent(settings.workspace, options.model or DemoModel()), options)]
