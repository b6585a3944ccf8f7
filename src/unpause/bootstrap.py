"""Puts the parts together, from the settings: the only place where all of them meet."""

from __future__ import annotations

import os
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
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
from unpause.clock import RandomIds, SystemClock
from unpause.domain.requirements import OnExpire
from unpause.execution.delivering import Deliverer, DeliveryRules
from unpause.execution.dispatch import InProcessDispatcher, take_back_runs
from unpause.execution.executor import ExecutionRules, Executor
from unpause.execution.outbound import Door
from unpause.execution.sending import SigningSender
from unpause.execution.sweeper import sweeping
from unpause.runs.approvals import ApprovalService
from unpause.runs.choosing import AgentChoice
from unpause.runs.expiry import Expiry
from unpause.runs.listing import RunListing
from unpause.runs.recorder import RecorderTools
from unpause.runs.service import RunService, ServiceTools
from unpause.runs.sessions import SessionService
from unpause.runs.users import UserDirectory
from unpause.runs.webhooks import WebhookService
from unpause.store.database import Database
from unpause.store.rates import OwnCounts, SharedCounts
from unpause.streaming.bus import InProcessBus
from unpause.streaming.follow import Follower
from unpause.vault import Vault

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable, Sequence
    from datetime import datetime

    from unpause.agents.driver import AgentDriver
    from unpause.clock import Clock, Ids
    from unpause.settings import Settings
    from unpause.store.rates import Counts


@dataclass(frozen=True, slots=True)
class Application:
    """A server's parts. Nothing runs before ``running`` is entered."""

    settings: Settings
    database: Database
    dispatcher: InProcessDispatcher
    executor: Executor
    service: RunService
    approvals: ApprovalService
    sessions: SessionService
    expiry: Expiry
    follower: Follower
    agents: AgentRegistry
    choice: AgentChoice
    listing: RunListing
    users: UserDirectory
    counts: Counts
    webhooks: WebhookService
    deliverer: Deliverer
    clock: Clock
    started_at: datetime

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Open the database, take back what an earlier process left, and execute runs during the block."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.database.opened())
            # Before the dispatcher, so that it ends after it: what the last segments tell may still be delivered.
            await stack.enter_async_context(self.deliverer.working())
            await stack.enter_async_context(self.dispatcher.working(self.executor))
            await take_back_runs(self.database, self.dispatcher, self.clock)
            await stack.enter_async_context(sweeping(self.expiry, self.settings.sweep_seconds))
            yield


def build_application(
    settings: Settings, drivers: Iterable[AgentDriver], clock: Clock | None = None, ids: Ids | None = None
) -> Application:
    """Return the parts of a server for these agents; the database must have its schema."""
    clock = clock or SystemClock()
    ids = ids or RandomIds()
    vault = load_vault(settings)
    database = Database(settings.database_url)
    bus = InProcessBus()
    drivers = list(drivers)
    agents = AgentRegistry(drivers, settings.default_agent, _setup_commands(settings, drivers, clock))
    dispatcher = InProcessDispatcher(max_running=settings.max_running, grace_seconds=settings.shutdown_grace_seconds)
    executor = Executor(RecorderTools(database, bus, clock, ids), agents, _execution_rules(settings))
    tools = ServiceTools(database, bus, dispatcher, agents, clock, ids, vault, settings.run_limit)
    sender = SigningSender(vault, _door(settings), clock)
    return Application(
        settings=settings,
        database=database,
        dispatcher=dispatcher,
        executor=executor,
        service=RunService(tools),
        approvals=ApprovalService(tools),
        sessions=SessionService(tools),
        expiry=Expiry(tools, timedelta(seconds=settings.idempotency_seconds)),
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
        started_at=clock.now(),
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
        pause_expires_in=settings.pause_expires_seconds,
        approval_expires_in=settings.approval_expires_seconds,
        on_expire=OnExpire(settings.on_expire),
        remind_before=settings.reminder_seconds,
    )


def load_vault(settings: Settings) -> Vault:
    """Return the vault with the keys of the settings; raise InvalidSetting for one that is none."""
    given = settings.encryption_key.get_secret_value() if settings.encryption_key else ""
    return Vault([key.strip() for key in given.split(",") if key.strip()])


def driver_options(settings: Settings) -> DriverOptions:
    """Return what the settings say about all agents alike; raise InvalidSetting for a model that cannot be had."""
    return DriverOptions(
        ids=RandomIds(),
        redaction=Redaction(os.environ),
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
