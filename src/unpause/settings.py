"""Every setting of the server: one tree, read from options and ``UNPAUSE_…`` environment variables."""

from __future__ import annotations

from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Annotated, Literal

from limits import RateLimitItem, parse_many
from pydantic import AfterValidator, Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DEFAULT_DATABASE_URL = "sqlite:///unpause.db"
DEFAULT_LOCK_SECONDS = 5.0

_MEBIBYTE = 1024 * 1024
DEFAULT_RESULT_BYTES = _MEBIBYTE

# In the environment one text, with commas between the names.
Names = Annotated[tuple[str, ...], NoDecode]

JwtAlgorithm = Literal[
    "HS256", "HS384", "HS512", "RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"
]

# A hundred years: what is longer, or is no number, would only fail where it is added to a date.
LONGEST_SECONDS = 100 * 366 * 24 * 60 * 60.0

Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)]

_LARGEST_RATE = 1_000_000_000
_LONGEST_WINDOW_SECONDS = 366 * 24 * 60 * 60


def parse_rate_limit(text: str) -> RateLimitItem | None:
    """Return what a text such as ``60/30 seconds`` allows, or None for an empty one; raise ValueError."""
    if not text.strip():
        return None
    limit, *others = parse_many(text)
    if others:
        raise ValueError(f"{text!r} has several limits, and one is taken")
    if not 1 <= limit.amount <= _LARGEST_RATE:
        raise ValueError(f"{text!r} allows {limit.amount} requests; 1 to {_LARGEST_RATE} can be allowed")
    if limit.get_expiry() > _LONGEST_WINDOW_SECONDS:
        raise ValueError(f"{text!r} has a window of more than a year")
    return limit


def _check_rate_limit(text: str) -> str:
    parse_rate_limit(text)
    return text


# Such as `10/minute` or `60/30 seconds`; an empty text lifts the limit.
RateLimit = Annotated[str, AfterValidator(_check_rate_limit)]


class Settings(BaseSettings):
    """What the server can be told. Options of the command line win over the environment."""

    model_config = SettingsConfigDict(
        env_prefix="UNPAUSE_",
        extra="ignore",
        frozen=True,
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_hide_none_type=True,
        cli_avoid_json=True,
    )

    host: str = Field(default="127.0.0.1", description="Address to listen on. With `dev` only loopback.")
    port: int = Field(default=7777, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    dev: bool = Field(
        default=False,
        description="Ask nobody for a token, and write readable logs instead of JSON lines. Only on loopback.",
    )
    database_url: str = Field(
        default=DEFAULT_DATABASE_URL,
        repr=False,
        description="Where everything is stored: `sqlite:///FILE` (also as `sqlite+aiosqlite:///FILE`) or "
        "`postgresql+psycopg://…`.",
    )
    agents: Names = Field(
        default=(), description="Modules or files with Pydantic AI agents, comma-separated in the environment."
    )
    model: str | None = Field(default=None, description="Model for all agents, such as `openai:gpt-5`; else their own.")
    model_base_url: str | None = Field(default=None, description="OpenAI-compatible server that answers for `model`.")
    models: Names = Field(
        default=(), description="Models that clients may choose for a run, such as `openai:gpt-5`, comma-separated."
    )
    workspace: Path = Field(default=Path("unpause-workspace"), description="Folder the demo agent works in.")
    default_agent: str | None = Field(
        default=None, description="Agent that runs what comes through the Codegen API; else the first one served."
    )
    repo_agents: Names = Field(
        default=(), description="Agents for runs of Codegen repositories, such as `12=ops`, comma-separated."
    )
    agent_types: Names = Field(
        default=(), description="Agents for Codegen's agent types, such as `claude_code=ops`, comma-separated."
    )
    run_limit: int | None = Field(
        default=None, ge=0, description="Runs that an organization may make in 30 days; over it: 402. None by default."
    )
    public_url: str | None = Field(default=None, description="Address of this server in links; else host and port.")
    history_runs: int = Field(default=10, ge=0, le=1000, description="Earlier completed runs given to the model.")
    request_limit: int = Field(
        default=50,
        ge=1,
        description="Model requests in one run, however often it pauses or moves, before it ends as ERROR.",
    )
    total_tokens_limit: int | None = Field(default=None, ge=1, description="Tokens in one run; none by default.")
    pause_expires_seconds: Seconds | None = Field(
        default=None,
        description="Time to answer a pause, unless the tool's policy says otherwise; none by default.",
    )
    approval_expires_seconds: Seconds | None = Field(
        default=None, description="Time to decide an approval, unless the tool's policy says otherwise."
    )
    on_expire: Literal["reject", "cancel"] = Field(
        default="reject", description="What a pause that ran out of time does: reject its calls, or cancel the run."
    )
    reminder_seconds: Seconds | None = Field(
        default=None, description="How long before a pause expires an event reminds of it; none by default."
    )
    sweep_seconds: Seconds = Field(
        default=2.0, description="How often expired pauses, runs of dead workers and old keys are looked for."
    )
    idempotency_seconds: Seconds = Field(default=86_400.0, description="How long an Idempotency-Key is remembered.")
    encryption_key: SecretStr | None = Field(
        default=None,
        description="Key that secrets, such as those of webhooks, are kept encrypted with: `unpause keys new`. Older "
        "ones may follow, comma-separated.",
    )
    webhook_attempts: int = Field(default=12, ge=1, description="Times a webhook is tried, after growing delays.")
    webhook_timeout_seconds: float = Field(
        default=10.0, gt=0, le=600, allow_inf_nan=False, description="Time for a webhook's answer."
    )
    webhook_private_targets: bool = Field(
        default=False, description="Allow webhooks to addresses that are private or of this machine."
    )
    rate_limit_create: RateLimit = Field(
        default="10/minute", description="Codegen runs created with one token; an empty text lifts a limit."
    )
    rate_limit_read: RateLimit = Field(default="60/30 seconds", description="Codegen reads with one token.")
    rate_limit_logs: RateLimit = Field(default="60/60 seconds", description="Codegen reads of logs with one token.")
    rate_limit_resume: RateLimit = Field(default="60/minute", description="Codegen resumes and pauses with one token.")
    rate_limit_change: RateLimit = Field(default="30/minute", description="Other Codegen changes with one token.")
    rate_limit_setup: RateLimit = Field(default="5/minute", description="Codegen setup-commands runs with one token.")
    rate_limit_webhook_test: RateLimit = Field(
        default="10/minute", description="Tests of Codegen webhooks with one token."
    )
    workspace_root: Path | None = Field(
        default=None, description="Folder with a checkout for each repository id; without it no setup commands are run."
    )
    command_timeout_seconds: Seconds = Field(default=600.0, description="Time for one setup command.")
    command_output_bytes: int = Field(
        default=65_536, ge=1024, description="Output that is kept of one setup command: its end."
    )
    command_user: str | None = Field(
        default=None, description="User that setup commands run as, where the server runs as root; else its own."
    )
    jwt_algorithm: JwtAlgorithm = Field(default="RS256", description="The one algorithm that JWTs may be signed with.")
    jwt_key: SecretStr | None = Field(
        default=None, description="Secret (HS…) or public key as PEM text that JWTs are checked with."
    )
    jwt_key_files: Names = Field(
        default=(), description="Files with public keys (PEM) that JWTs are checked with, comma-separated."
    )
    jwt_jwks_url: str | None = Field(default=None, description="Address of the keys (JWKS) JWTs are checked with.")
    jwt_audience: str | None = Field(
        default=None, description="What `aud` of a JWT must be or hold; else not looked at."
    )
    jwt_issuer: str | None = Field(default=None, description="What `iss` of a JWT must be; else not looked at.")
    jwt_scopes_claim: str = Field(default="scopes", description="Claim of a JWT that holds its scopes.")
    jwt_organization_claim: str = Field(
        default="organization_id", description="Claim of a JWT that names its organization."
    )
    jwt_organization: int = Field(default=1, ge=1, description="Organization of JWTs that name none.")
    jwt_leeway_seconds: float = Field(
        default=0.0,
        ge=0,
        le=600,
        allow_inf_nan=False,
        description="By how much the clock of who signs JWTs may be wrong.",
    )
    user_isolation: bool = Field(
        default=True,
        description="Through AgentOS's API users see only their own runs and sessions; administrators see all.",
    )
    trusted_proxies: Names = Field(
        default=(),
        description="Addresses or networks of proxies whose X-Forwarded headers are believed, comma-separated.",
    )
    cors_origins: Names = Field(
        default=("http://localhost:3000",), description="Web origins whose pages may call, comma-separated."
    )
    max_body_bytes: int = Field(default=20 * _MEBIBYTE, ge=1024, description="Largest request body; over it: 413.")
    max_plain_body_bytes: int = Field(
        default=2 * _MEBIBYTE, ge=1024, description="Largest request body where no pictures or files may be."
    )
    max_image_bytes: int = Field(default=5 * _MEBIBYTE, ge=1, description="Largest image, decoded.")
    max_images: int = Field(default=10, ge=0, description="Images in one request.")
    max_message_chars: int = Field(default=200_000, ge=1, description="Longest message or prompt, in characters.")
    max_json_chars: int = Field(
        default=1_000_000, ge=1, description="Longest JSON in a field that is only kept, such as metadata."
    )
    max_result_bytes: int = Field(
        default=DEFAULT_RESULT_BYTES,
        ge=1024,
        description="Largest result of a tool, as JSON with its pictures; over it the call has failed, though it ran.",
    )
    max_tools: int = Field(default=256, ge=1, le=1000, description="Tool executions in one continue; at most 1000.")
    max_streams: int = Field(default=100, ge=1, description="Open streams of one token, in this process; over it: 429.")
    max_requests: int = Field(default=100, ge=1, description="Other open requests of one token, in this process.")
    max_unfinished: int | None = Field(
        default=1000, ge=1, description="Runs of one organization that wait to be executed or are; over it: 429."
    )
    max_running: int = Field(default=64, ge=1, description="Runs executed at the same time by this process.")
    max_running_per_organization: int | None = Field(
        default=None, ge=1, description="Runs of one organization executed at the same time; no limit by default."
    )
    max_crashes: int = Field(
        default=10, ge=1, description="Workers that may die under a run, one after the other, before it ends as ERROR."
    )
    worker: bool = Field(default=True, description="Execute runs in this process; else leave them to other ones.")
    lease_seconds: Seconds = Field(
        default=10.0, description="How long a worker is not heard of before its runs are given to others."
    )
    poll_seconds: Seconds = Field(
        default=0.5, description="How often PostgreSQL is asked for what a lost notification would have said."
    )
    database_connections: int = Field(default=10, ge=2, description="Connections of this process to PostgreSQL.")
    lock_timeout_seconds: float = Field(
        default=DEFAULT_LOCK_SECONDS,
        ge=0.001,
        le=3600,
        description="How long a request waits for what another database transaction has locked; over it: 503.",
    )
    listener_url: str | None = Field(
        default=None,
        repr=False,
        description="Database address for notifications, where `database_url` is that of a pooler.",
    )
    request_seconds: Seconds = Field(
        default=60.0, description="Time for a client to send a request, its body included; over it: 408."
    )
    keepalive_seconds: Seconds = Field(default=15.0, description="Silence before a stream sends a comment.")
    shutdown_grace_seconds: float = Field(
        default=10.0, ge=0, le=LONGEST_SECONDS, allow_inf_nan=False, description="Time for running segments at a stop."
    )

    @field_validator(
        "agents",
        "models",
        "repo_agents",
        "agent_types",
        "cors_origins",
        "jwt_key_files",
        "trusted_proxies",
        mode="before",
    )
    @classmethod
    def _split_names(cls, value: object) -> object:
        """Read a list from one comma-separated text, as an environment variable has it."""
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
        return value

    @field_validator("trusted_proxies")
    @classmethod
    def _check_proxies(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        """Refuse what would silently be trusted by nobody, such as a name."""
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
