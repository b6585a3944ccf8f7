"""From the settings to what each part is made with: rules, secrets, agents."""

from __future__ import annotations

import hashlib
import os
import secrets
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from unpause.agents.config import agents_config
from unpause.agents.process.launch import agent_launcher
from unpause.agents.process.rules import ProcessRules
from unpause.agents.process.sources import SourceFiles
from unpause.agents.process.supervisor import AgentProcesses
from unpause.agents.redaction import Redaction
from unpause.agents.served import Agents
from unpause.clock import SystemClock
from unpause.delivery.slots import SlotRules
from unpause.delivery.worker import DeliveryRules
from unpause.domain.requirements import OnExpire
from unpause.execution.executor import ExecutionRules
from unpause.execution.workers import WorkerRules
from unpause.lazy import LazyModule
from unpause.notifications.queue import NotificationQueue
from unpause.notifications.sender import AppriseSender
from unpause.services.quotas import Limits
from unpause.store.engine.database import secrets_in_url
from unpause.vault import Vault

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.agents import hosting
    from unpause.agents.process.launch import LaunchedProcess
    from unpause.auth import configured
    from unpause.auth.authenticator import JwtReader
    from unpause.clock import Clock, Ids
    from unpause.settings import Settings
    from unpause.webhooks import http
else:
    configured = LazyModule("unpause.auth.configured")
    hosting = LazyModule("unpause.agents.hosting")
    http = LazyModule("unpause.webhooks.http")


def run_limits(settings: Settings) -> Limits:
    """Return the limits of requests."""
    return Limits(
        runs=settings.run_limit,
        unfinished=settings.max_unfinished,
        tools=settings.max_tools,
        json_chars=settings.max_json_chars,
    )


def worker_rules(settings: Settings) -> WorkerRules:
    """Return how workers claim runs."""
    return WorkerRules(
        max_running=settings.max_running,
        per_organization=settings.max_running_per_organization,
        grace_seconds=settings.shutdown_grace_seconds,
        poll_seconds=settings.poll_seconds,
    )


def execution_rules(settings: Settings) -> ExecutionRules:
    """Return how runs are executed."""
    return ExecutionRules(
        history_runs=settings.history_runs,
        lease=timedelta(seconds=settings.lease_seconds),
        max_crashes=settings.max_crashes,
        per_organization=settings.max_running_per_organization,
        pause_expires_in=settings.pause_expires_seconds,
        approval_expires_in=settings.approval_expires_seconds,
        on_expire=OnExpire(settings.on_expire),
        remind_before=settings.reminder_seconds,
    )


def delivery_rules(settings: Settings) -> DeliveryRules:
    """Return how webhooks are delivered."""
    return DeliveryRules(settings.webhook_attempts, settings.webhook_timeout_seconds)


def notification_rules(settings: Settings) -> DeliveryRules:
    """Return how notifications are delivered: one attempt at a time to a channel."""
    slots = SlotRules(total=32, per_organization=16, per_server=1)
    return DeliveryRules(settings.notify_attempts, settings.notify_timeout_seconds, slots=slots)


def build_channel_sender(settings: Settings, vault: Vault) -> AppriseSender:
    """Return what sends notifications."""
    return AppriseSender(vault, settings.notify_timeout_seconds, allow_private=settings.notify_private_targets)


def notification_queue(settings: Settings, sender: AppriseSender, ids: Ids) -> NotificationQueue:
    """Return the notifications that are stored, and how they are sent; links lead to this server."""
    return NotificationQueue(sender, ids, public_address(settings), settings.notify_per_minute)


def http_client(settings: Settings) -> http.SafeHttpClient:
    """Return the only client for URLs from clients."""
    # httpx takes 6 MB and a quarter of a second, and most servers send no webhook while they start.
    return http.SafeHttpClient(settings.webhook_timeout_seconds, allow_private=settings.webhook_private_targets)


def public_address(settings: Settings) -> str:
    """Return this server's URL, for links in messages."""
    return (settings.public_url or f"http://{settings.host}:{settings.port}").rstrip("/")


def load_vault(settings: Settings) -> Vault:
    """Return the vault with the keys of the settings; raise InvalidSetting for an invalid key."""
    return Vault(_encryption_keys(settings))


def ticket_keys(settings: Settings) -> list[bytes]:
    """Return the keys of JWT callers' stream tickets: the same on all nodes with one ``encryption_key``."""
    keys = [hashlib.sha256(f"stream tickets {key}".encode()).digest() for key in _encryption_keys(settings)]
    return keys or [secrets.token_bytes(32)]


def _encryption_keys(settings: Settings) -> list[str]:
    keys = settings.encryption_key.get_secret_value() if settings.encryption_key else ""
    return [key.strip() for key in keys.split(",") if key.strip()]


def build_redaction(settings: Settings) -> Redaction:
    """Return what removes secrets from texts: those of the environment and of the settings."""
    hidden = [settings.jwt_key.get_secret_value()] if settings.jwt_key else []
    hidden.extend(_encryption_keys(settings))
    for url in (settings.database_url, settings.listener_url):
        if url:
            hidden.extend(secrets_in_url(url))
    return Redaction(os.environ, hidden)


def load_jwts(settings: Settings, clock: Clock) -> JwtReader | None:
    """Return the verifier of JWTs, or None without a key; raise InvalidSetting for an invalid key."""
    if settings.jwt_key is None and not settings.jwt_key_files and settings.jwt_jwks_url is None:
        return None
    # PyJWT and cryptography take 9 MB, which a server without JWTs does not need.
    return configured.configured_jwts(settings, clock)


def build_agents(settings: Settings, launched: Sequence[LaunchedProcess], *, demo: bool) -> Agents:
    """Return the agents of the settings: in the processes that were launched for them, or else loaded in this one.

    Raises InvalidSetting for agents that cannot be served, in other processes once they have loaded them.
    """
    if not launched:
        # Pydantic AI and authors' modules are loaded here and in agent processes, and nowhere else.
        return hosting.host_agents(agents_config(settings, demo=demo), build_redaction(settings), SystemClock())
    sources = None
    if settings.reload:
        folder = settings.agent_folder or Path.cwd()
        sources = SourceFiles(settings.agents, folder, min(each.configured_at for each in launched))
    launcher = agent_launcher(settings, demo=demo)
    processes = AgentProcesses(launcher, _process_rules(settings), launched, sources)
    return Agents(
        running=processes.running,
        reload=processes.request_reload,
        publish_to=processes.publish_to,
        wait_until_loaded=processes.wait_until_loaded,
    )


def _process_rules(settings: Settings) -> ProcessRules:
    return ProcessRules(
        processes=settings.agent_processes,
        cancel_seconds=settings.agent_cancel_seconds,
        drain_seconds=settings.agent_drain_seconds,
        reloads=settings.reload,
        max_segments=settings.agent_max_segments,
        max_bytes=settings.agent_max_bytes,
        unresponsive_seconds=settings.agent_unresponsive_seconds,
    )
