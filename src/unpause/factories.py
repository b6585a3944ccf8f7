"""Makes objects from settings: rules, secrets, agents."""

from __future__ import annotations

import os
import pwd
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from unpause.agents.demo.agent import build_demo_agent, prepare_workspace
from unpause.agents.demo.model import DemoModel
from unpause.agents.models import resolve_model
from unpause.agents.pydantic_ai.driver import DriverOptions, PydanticAIDriver
from unpause.agents.pydantic_ai.loading import load_agents
from unpause.agents.redaction import Redaction
from unpause.agents.setup.driver import SetupCommandsDriver
from unpause.agents.setup.segment import Workshop
from unpause.agents.setup.shell import CommandUser, find_programs
from unpause.auth.jwks import PublishedKeys
from unpause.auth.jwts import JwtRules, Jwts, StaticKeys
from unpause.clock import RandomIds
from unpause.domain.requirements import OnExpire
from unpause.errors import InvalidSetting
from unpause.execution.executor import ExecutionRules
from unpause.execution.workers import WorkerRules
from unpause.services.quotas import Limits
from unpause.store.engine.database import secrets_in_url
from unpause.vault import Vault
from unpause.webhooks.deliverer import DeliveryRules
from unpause.webhooks.http import SafeHttpClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from unpause.agents.driver import AgentDriver
    from unpause.auth.jwts import KeySource
    from unpause.clock import Clock
    from unpause.settings import Settings
    from unpause.store.engine.database import Database


def run_limits(settings: Settings) -> Limits:
    """Return the limits of requests."""
    return Limits(
        runs=settings.run_limit,
        unfinished=settings.max_unfinished,
        tools=settings.max_tools,
        json_chars=settings.max_json_chars,
    )


def worker_rules(settings: Settings, database: Database) -> WorkerRules:
    """Return how workers claim runs; on SQLite no other process creates any, so nobody polls."""
    return WorkerRules(
        max_running=settings.max_running,
        per_organization=settings.max_running_per_organization,
        grace_seconds=settings.shutdown_grace_seconds,
        poll_seconds=settings.poll_seconds if database.is_shared else None,
    )


def execution_rules(settings: Settings) -> ExecutionRules:
    """Return how runs are executed."""
    return ExecutionRules(
        history_runs=settings.history_runs,
        lease=timedelta(seconds=settings.lease_seconds),
        per_organization=settings.max_running_per_organization,
        pause_expires_in=settings.pause_expires_seconds,
        approval_expires_in=settings.approval_expires_seconds,
        on_expire=OnExpire(settings.on_expire),
        remind_before=settings.reminder_seconds,
    )


def delivery_rules(settings: Settings) -> DeliveryRules:
    """Return how webhooks are delivered."""
    return DeliveryRules(settings.webhook_attempts, settings.webhook_timeout_seconds)


def http_client(settings: Settings) -> SafeHttpClient:
    """Return the only client for URLs from clients."""
    return SafeHttpClient(settings.webhook_timeout_seconds, allow_private=settings.webhook_private_targets)


def load_vault(settings: Settings) -> Vault:
    """Return the vault with the keys of the settings; raise InvalidSetting for an invalid key."""
    keys = settings.encryption_key.get_secret_value() if settings.encryption_key else ""
    return Vault([key.strip() for key in keys.split(",") if key.strip()])


def build_redaction(settings: Settings) -> Redaction:
    """Return what removes secrets from texts: those of the environment and of the settings."""
    secrets = [settings.jwt_key.get_secret_value()] if settings.jwt_key else []
    if settings.encryption_key:
        secrets.extend(key.strip() for key in settings.encryption_key.get_secret_value().split(","))
    for url in (settings.database_url, settings.listener_url):
        if url:
            secrets.extend(secrets_in_url(url))
    return Redaction(os.environ, secrets)


def load_jwt_keys(settings: Settings) -> KeySource | None:
    """Return the keys that JWTs are verified with, or None without any; raise InvalidSetting."""
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


def load_jwts(settings: Settings, clock: Clock) -> Jwts | None:
    """Return the verifier of JWTs, or None without a key; raise InvalidSetting for an invalid key."""
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


def driver_options(settings: Settings) -> DriverOptions:
    """Return the options of all drivers; raise InvalidSetting for an unavailable model."""
    return DriverOptions(
        ids=RandomIds(),
        redaction=build_redaction(settings),
        model=resolve_model(settings.model, settings.model_base_url) if settings.model else None,
        request_limit=settings.request_limit,
        max_result_bytes=settings.max_result_bytes,
        total_tokens_limit=settings.total_tokens_limit,
        models={name: resolve_model(name, settings.model_base_url) for name in settings.models},
    )


def load_drivers(settings: Settings) -> list[PydanticAIDriver]:
    """Return a driver for each agent of the settings; raise InvalidSetting."""
    options = driver_options(settings)
    return [PydanticAIDriver(agent, options) for agent in load_agents(settings.agents)]


@asynccontextmanager
async def open_lifespans(drivers: Sequence[AgentDriver]) -> AsyncIterator[None]:
    """Keep the lifespans of the agents open during the block; raise InvalidSetting if one fails to open."""
    found = {id(driver.lifespans): driver.lifespans for driver in drivers if isinstance(driver, PydanticAIDriver)}
    async with AsyncExitStack() as stack:
        for lifespans in found.values():
            await stack.enter_async_context(lifespans.opened())
        yield


def demo_drivers(settings: Settings) -> list[PydanticAIDriver]:
    """Return the driver of the demo agent, with its workspace folder."""
    options = driver_options(settings)
    prepare_workspace(settings.workspace)
    return [PydanticAIDriver(build_demo_agent(settings.workspace, options.model or DemoModel()), options)]


def command_user(settings: Settings) -> CommandUser | None:
    """Return the user that setup commands run as, or None for the server's own; raise InvalidSetting."""
    name = settings.command_user
    if name is None:
        return None
    try:
        found = pwd.getpwnam(name)
    except KeyError:
        raise InvalidSetting(f"command_user: there is no user {name!r} on this machine") from None
    if found.pw_uid == 0:
        raise InvalidSetting("command_user: that is root, who reads everything")
    if os.geteuid() != 0:
        raise InvalidSetting("command_user: only a server that runs as root can run commands as another user")
    return CommandUser(found.pw_uid, found.pw_gid)


def setup_commands_driver(
    settings: Settings, drivers: Sequence[AgentDriver], clock: Clock
) -> SetupCommandsDriver | None:
    """Return the driver that prepares repositories, with the model of the settings or of the default agent.

    None without a folder of checkouts, or without a model that can plan: the demo's model knows only the demo's tools.
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
        command_user(settings),
    )
    return SetupCommandsDriver(model, options, workshop, clock)
