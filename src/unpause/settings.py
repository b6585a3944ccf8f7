"""Every setting of the server: one class, read from options of the command line and ``UNPAUSE_…`` variables."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from unpause.operator_settings import (
    DatabaseSettings,
    LogSettings,
    MetricsSettings,
    ProcessSettings,
    RetentionSettings,
    Seconds,
    SettingsGroup,
)
from unpause.rates import parse_rate

_MEBIBYTE = 1024 * 1024
DEFAULT_RESULT_BYTES = _MEBIBYTE


def _split(value: object) -> object:
    """Split a text at its commas, as a list is written in an environment variable."""
    if isinstance(value, str):
        return tuple(name.strip() for name in value.split(",") if name.strip())
    return value


def _check_rate_limit(text: str) -> str:
    parse_rate(text)
    return text


# A lease that ends later than this from now is taken for one of before the database's clock went back. So no node may
# have longer ones, whatever the leases of the others are.
LONGEST_LEASE_SECONDS = 600.0

Names = Annotated[tuple[str, ...], NoDecode, BeforeValidator(_split)]

# Such as `10/minute` or `60/30 seconds`; an empty text lifts the limit.
RateLimit = Annotated[str, AfterValidator(_check_rate_limit)]


JwtAlgorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]


class ServerSettings(SettingsGroup):
    """HTTP server."""

    host: str = Field(default="127.0.0.1", description="Address to listen on. With `dev` only loopback.")
    port: int = Field(default=7777, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    public_url: str | None = Field(default=None, description="URL of this server in links; by default host and port.")
    trusted_proxies: Names = Field(
        default=(), description="Addresses or networks of proxies whose X-Forwarded headers are used, comma-separated."
    )
    cors_origins: Names = Field(
        default=("http://localhost:3000",),
        description="Web origins whose pages may call this server, comma-separated.",
    )
    request_seconds: Seconds = Field(
        default=60.0, description="Time for a client to send a request, including its body; over it: 408."
    )
    keepalive_seconds: Seconds = Field(default=15.0, description="Time without events until a stream sends a comment.")
    first_token_file: Path = Field(
        default=Path("unpause-admin-token"),
        description="File for the administrator's token that a new database gets, where no terminal shows it.",
    )

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse anything that would silently match nobody, such as a name."""
        if value != ("*",):
            for name in value:
                ip_network(name)
        return value

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine can reach the host."""
        if self.host == "localhost":
            return True
        try:
            return ip_address(self.host).is_loopback
        except ValueError:
            return False


class ConsoleSettings(SettingsGroup):
    """Console."""

    console: bool = Field(default=True, description="Serve the console, the pages for people at `/console`.")
    console_session_seconds: Seconds = Field(
        default=43_200.0, description="Time until somebody has to sign in to the console again."
    )
    rate_limit_sign_in: RateLimit = Field(
        default="20/minute", description="Attempts to sign in to the console from one address."
    )


class AgentSettings(SettingsGroup):
    """Agents and models."""

    agents: Names = Field(default=(), description="Modules or files with Pydantic AI agents, comma-separated.")
    default_agent: str | None = Field(
        default=None, description="Agent for runs from the Codegen API; by default the first one."
    )
    model: str | None = Field(
        default=None, description="Model for all agents, such as `openai:gpt-5`; by default their own."
    )
    model_base_url: str | None = Field(
        default=None, description="URL of an OpenAI-compatible server that serves `model`; it needs no OPENAI_API_KEY."
    )
    models: Names = Field(
        default=(), description="Models that clients may choose for a run, such as `openai:gpt-5`, comma-separated."
    )
    history_runs: int = Field(
        default=10, ge=0, le=1000, description="Earlier completed runs of a session that the model sees."
    )
    request_limit: int = Field(
        default=50, ge=1, description="Model requests in one run, pauses included; over it the run ends as ERROR."
    )
    total_tokens_limit: int | None = Field(
        default=None, ge=1, description="Tokens in one run; over it the run ends as ERROR. No limit by default."
    )
    max_result_bytes: int = Field(
        default=DEFAULT_RESULT_BYTES,
        ge=1024,
        description="Largest result of a tool, as JSON with its pictures; over it the call fails, although it ran.",
    )


class AgentProcessSettings(SettingsGroup):
    """Agent processes."""

    agent_processes: int = Field(
        default=1,
        ge=0,
        le=256,
        description="Processes that agents run in, without database, keys or tokens; 0 runs agents in the server.",
    )
    agent_env: Names = Field(
        default=(),
        description="Environment variables that agent processes get besides those of model providers, comma-separated.",
    )
    agent_folder: Path | None = Field(
        default=None, description="Folder that agent processes work in; by default that of the server."
    )
    agent_max_segments: int | None = Field(
        default=None, ge=1, description="Segments after which an agent process is replaced."
    )
    agent_max_bytes: int | None = Field(
        default=None, ge=1, description="Memory over which an agent process is replaced, in bytes."
    )
    agent_unresponsive_seconds: Seconds | None = Field(
        default=None,
        description="Time an agent process may block its event loop before it is killed. No limit by default.",
    )
    agent_cancel_seconds: Seconds = Field(
        default=10.0, description="Time for a tool to end after its run is cancelled; over it, its process is replaced."
    )
    agent_drain_seconds: Seconds = Field(
        default=60.0, description="Time for runs to leave an agent process that is replaced."
    )


class DevelopmentSettings(SettingsGroup):
    """Development."""

    reload: bool = Field(
        default=False, description="Load the agents anew, in new processes, whenever one of their files is saved."
    )


class DemoSettings(SettingsGroup):
    """Demo."""

    workspace: Path = Field(default=Path("unpause-workspace"), description="Folder the demo agent works in.")


class ExecutionSettings(SettingsGroup):
    """Execution."""

    worker: bool = Field(default=True, description="Execute runs in this process; otherwise leave them to others.")
    max_running: int = Field(default=64, ge=1, description="Concurrent runs in this process.")
    max_running_per_organization: int | None = Field(
        default=None, ge=1, description="Concurrent runs of one organization; no limit by default."
    )
    max_crashes: int = Field(default=10, ge=1, description="Worker crashes in a row after which a run ends as ERROR.")
    lease_seconds: float = Field(
        default=10.0,
        gt=0,
        le=LONGEST_LEASE_SECONDS,
        allow_inf_nan=False,
        description="Time without a heartbeat after which others take a worker's runs.",
    )
    sweep_seconds: Seconds = Field(
        default=2.0, description="How often to look for expired pauses, runs of dead workers and old keys."
    )
    idempotency_seconds: Seconds = Field(default=86_400.0, description="How long to remember an Idempotency-Key.")


class PauseSettings(SettingsGroup):
    """Pauses."""

    pause_expires_seconds: Seconds | None = Field(
        default=None, description="Time to answer a pause, unless the tool's policy sets it; no limit by default."
    )
    approval_expires_seconds: Seconds | None = Field(
        default=None, description="Time to decide an approval, unless the tool's policy sets it; no limit by default."
    )
    on_expire: Literal["reject", "cancel"] = Field(
        default="reject", description="What an expired pause does: reject its calls, or cancel the run."
    )
    reminder_seconds: Seconds | None = Field(
        default=None, description="How long before a pause expires to send a reminder; none by default."
    )


class WebhookSettings(SettingsGroup):
    """Webhooks and secrets."""

    encryption_key: SecretStr | None = Field(
        default=None,
        description="Key that encrypts secrets in the database, such as those of webhooks: `unpause keys new`. Older "
        "keys may follow, comma-separated.",
    )
    webhook_attempts: int = Field(default=12, ge=1, description="Attempts to deliver a webhook, with growing delays.")
    webhook_timeout_seconds: float = Field(
        default=10.0, gt=0, le=600, allow_inf_nan=False, description="Time for one attempt to deliver a webhook."
    )
    webhook_private_targets: bool = Field(
        default=False, description="Allow webhooks to private addresses and to this machine."
    )


class NotificationSettings(SettingsGroup):
    """Notifications."""

    notify_per_minute: int = Field(
        default=10, ge=1, description="Messages to one channel in a minute; what is beyond comes in one digest."
    )
    notify_attempts: int = Field(
        default=12, ge=1, description="Attempts to deliver a notification, with growing delays."
    )
    notify_timeout_seconds: float = Field(
        default=20.0, gt=0, le=600, allow_inf_nan=False, description="Time for one attempt to deliver a notification."
    )
    notify_private_targets: bool = Field(
        default=False, description="Allow notifications to servers at private addresses and on this machine."
    )


class SetupCommandSettings(SettingsGroup):
    """Setup commands."""

    workspace_root: Path | None = Field(
        default=None, description="Folder with a checkout for each repository id; without it setup commands are off."
    )
    command_timeout_seconds: Seconds = Field(default=600.0, description="Time for one setup command.")
    command_output_bytes: int = Field(
        default=65_536, ge=1024, description="Output of one setup command to keep, from its end."
    )
    command_user: str | None = Field(
        default=None, description="User to run setup commands as, where the server runs as root; by default its own."
    )


class AccessSettings(SettingsGroup):
    """Users and JWTs."""

    user_isolation: bool = Field(
        default=True,
        description="In the AgentOS API users see only their own runs and sessions; administrators see all.",
    )
    jwt_algorithm: JwtAlgorithm = Field(default="RS256", description="The only signature algorithm of JWTs.")
    jwt_key: SecretStr | None = Field(
        default=None, description="Secret (HS…) or public key (PEM) that JWTs are verified with."
    )
    jwt_key_files: Names = Field(
        default=(), description="Files with public keys (PEM) that JWTs are verified with, comma-separated."
    )
    jwt_jwks_url: str | None = Field(default=None, description="URL of the key set (JWKS) that JWTs are verified with.")
    jwt_audience: str | None = Field(default=None, description="Required `aud` of a JWT; by default it is not checked.")
    jwt_issuer: str | None = Field(default=None, description="Required `iss` of a JWT; by default it is not checked.")
    jwt_scopes_claim: str = Field(default="scopes", description="Claim of a JWT that holds its scopes.")
    jwt_organization_claim: str = Field(
        default="organization_id", description="Claim of a JWT that names its organization."
    )
    jwt_organization: int = Field(default=1, ge=1, description="Organization of JWTs without that claim.")
    jwt_leeway_seconds: float = Field(
        default=0.0, ge=0, le=600, allow_inf_nan=False, description="Tolerance for the clock of the JWT's issuer."
    )


class CodegenSettings(SettingsGroup):
    """Codegen API."""

    repo_agents: Names = Field(
        default=(), description="Agents for runs of repositories, such as `12=ops`, comma-separated."
    )
    agent_types: Names = Field(
        default=(), description="Agents for agent types, such as `claude_code=ops`, comma-separated."
    )
    run_limit: int | None = Field(
        default=None, ge=0, description="Runs of one organization in 30 days; over it: 402. No limit by default."
    )
    rate_limit_create: RateLimit = Field(
        default="10/minute", description="Runs created with one token; an empty text lifts a limit."
    )
    rate_limit_read: RateLimit = Field(default="60/30 seconds", description="Reads with one token.")
    rate_limit_logs: RateLimit = Field(default="60/60 seconds", description="Reads of logs with one token.")
    rate_limit_resume: RateLimit = Field(default="60/minute", description="Resumes and pauses with one token.")
    rate_limit_change: RateLimit = Field(default="30/minute", description="Other changes with one token.")
    rate_limit_ag_ui: RateLimit = Field(default="300/minute", description="Requests to AG-UI with one token.")
    rate_limit_setup: RateLimit = Field(default="5/minute", description="Setup-commands runs with one token.")
    rate_limit_webhook_test: RateLimit = Field(default="10/minute", description="Tests of webhooks with one token.")


class RequestSettings(SettingsGroup):
    """Request limits."""

    max_body_bytes: int = Field(default=20 * _MEBIBYTE, ge=1024, description="Largest request body; over it: 413.")
    max_plain_body_bytes: int = Field(
        default=2 * _MEBIBYTE, ge=1024, description="Largest request body where no pictures or files are allowed."
    )
    max_image_bytes: int = Field(default=5 * _MEBIBYTE, ge=1, description="Largest image, decoded.")
    max_images: int = Field(default=10, ge=0, description="Images in one request.")
    max_message_chars: int = Field(default=200_000, ge=1, description="Longest message or prompt, in characters.")
    max_json_chars: int = Field(
        default=1_000_000, ge=1, description="Longest JSON in a field that is only stored, such as metadata."
    )
    max_tools: int = Field(default=256, ge=1, le=1000, description="Tool executions in one continue; at most 1000.")
    max_streams: int = Field(default=100, ge=1, description="Open streams of one token in this process; over it: 429.")
    max_requests: int = Field(default=100, ge=1, description="Other open requests of one token in this process.")
    max_unfinished: int | None = Field(
        default=1000, ge=1, description="Pending and running runs of one organization; over it: 429."
    )


class Settings(
    ServerSettings,
    ConsoleSettings,
    ProcessSettings,
    LogSettings,
    MetricsSettings,
    AgentSettings,
    AgentProcessSettings,
    DevelopmentSettings,
    DemoSettings,
    DatabaseSettings,
    ExecutionSettings,
    PauseSettings,
    RetentionSettings,
    WebhookSettings,
    NotificationSettings,
    SetupCommandSettings,
    AccessSettings,
    CodegenSettings,
    RequestSettings,
    BaseSettings,
):
    """All settings of the server. Options of the command line win over the environment."""

    model_config = SettingsConfigDict(env_prefix="UNPAUSE_", extra="ignore", frozen=True)

    @property
    def readable_logs(self) -> bool:
        """Whether the log is for people to read, and not JSON."""
        return self.dev if self.log_format is None else self.log_format == "readable"


# In the order of the help and the documents. The first line of a group's docstring is its heading.
GROUPS: tuple[type[SettingsGroup], ...] = Settings.__bases__[:-1]
