"""From the settings to what each part is made with: rules, secrets, agents."""

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
    """Return what a request may ask for at the most."""
    return Limits(
        runs=settings.run_limit,
        unfinished=settings.max_unfinished,
        tools=settings.max_tools,
        json_chars=settings.max_json_chars,
    )


def worker_rules(settings: Settings, database: Database) -> WorkerRules:
    """Return how workers take runs; on SQLite nobody else makes any, so nobody looks for them."""
    return WorkerRules(
        max_running=settings.max_running,
        per_organization=settings.max_running_per_organization,
        grace_seconds=settings.shutdown_grace_seconds,
        poll_seconds=settings.poll_seconds if database.is_shared else None,
    )


def execution_rules(settings: Settings) -> ExecutionRules:
    """Return the rules that runs are executed by."""
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
    """Return how often webhooks are tried, and how long."""
    return DeliveryRules(settings.webhook_attempts, settings.webhook_timeout_seconds)


def http_client(settings: Settings) -> SafeHttpClient:
    """Return the one way to addresses that clients give."""
    return SafeHttpClient(settings.webhook_timeout_seconds, allow_private=settings.webhook_private_targets)


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


def load_jwts(settings: Settings, clock: Clock) -> Jwts | None:
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


def driver_options(settings: Settings) -> DriverOptions:
    """Return what the settings say about all agents alike; raise InvalidSetting for a model that cannot be had."""
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
    """Return drivers for the agents that the settings name; raise InvalidSetting."""
    options = driver_options(settings)
    return [PydanticAIDriver(agent, options) for agent in load_agents(settings.agents)]


@asynccontextmanager
async def open_lifespans(drivers: Sequence[AgentDriver]) -> AsyncIterator[None]:
    """Hold open during the block what the agents open once for the process; raise InvalidSetting where that fails."""
    found = {id(driver.lifespans): driver.lifespans for driver in drivers if isinstance(driver, PydanticAIDriver)}
    async with AsyncExitStack() as stack:
        for lifespans in found.values():
            await stack.enter_async_context(lifespans.opened())
        yield


def demo_drivers(settings: Settings) -> list[PydanticAIDriver]:
    """Return the driver of the demo agent, on a workspace folder that is made if it is not there."""
    options = driver_options(settings)
    prepare_workspace(settings.workspace)
    return [PydanticAIDriver(build_demo_agent(settings.workspace, options.model or DemoModel()), options)]


def command_user(settings: Settings) -> CommandUser | None:
    """Return whom setup commands run as; None for the server's own user. Raises InvalidSetting."""
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
        command_user(settings),
    )
    return SetupCommandsDriver(model, options, workshop, clock)
