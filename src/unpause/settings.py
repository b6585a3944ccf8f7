"""Every setting of the server: one tree, read from options and ``UNPAUSE_…`` environment variables."""

from __future__ import annotations

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

DEFAULT_DATABASE_URL = "sqlite+aiosqlite:///unpause.db"

_MEBIBYTE = 1024 * 1024


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

    host: str = Field(default="127.0.0.1", description="Address to listen on. Only loopback, unless `insecure`.")
    port: int = Field(default=7777, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    insecure: bool = Field(default=False, description="Allow a host that is not loopback: nobody is authenticated yet.")
    dev: bool = Field(default=False, description="Readable logs instead of JSON lines, and debug detail.")
    database_url: str = Field(default=DEFAULT_DATABASE_URL, description="Where everything is stored.")
    agents: Annotated[tuple[str, ...], NoDecode] = Field(
        default=(), description="Modules or files with Pydantic AI agents, comma-separated in the environment."
    )
    model: str | None = Field(default=None, description="Model for all agents, such as `openai:gpt-5`; else their own.")
    model_base_url: str | None = Field(default=None, description="OpenAI-compatible server that answers for `model`.")
    workspace: Path = Field(default=Path("unpause-workspace"), description="Folder the demo agent works in.")
    default_agent: str | None = Field(
        default=None, description="Agent that runs what comes through the Codegen API; else the first one served."
    )
    public_url: str | None = Field(default=None, description="Address of this server in links; else host and port.")
    history_runs: int = Field(default=10, ge=0, le=1000, description="Earlier completed runs given to the model.")
    request_limit: int = Field(default=50, ge=1, description="Model requests in one run before it ends as ERROR.")
    total_tokens_limit: int | None = Field(default=None, ge=1, description="Tokens in one run; none by default.")
    pause_expires_seconds: float | None = Field(
        default=None,
        gt=0,
        description="Time to answer a pause, unless the tool's policy says otherwise; none by default.",
    )
    approval_expires_seconds: float | None = Field(
        default=None, gt=0, description="Time to decide an approval, unless the tool's policy says otherwise."
    )
    on_expire: Literal["reject", "cancel"] = Field(
        default="reject", description="What a pause that ran out of time does: reject its calls, or cancel the run."
    )
    reminder_seconds: float | None = Field(
        default=None, gt=0, description="How long before a pause expires an event reminds of it; none by default."
    )
    sweep_seconds: float = Field(default=2.0, gt=0, description="How often expired pauses and old keys are looked for.")
    idempotency_seconds: float = Field(default=86_400.0, gt=0, description="How long an Idempotency-Key is remembered.")
    cors_origins: Annotated[tuple[str, ...], NoDecode] = Field(
        default=("http://localhost:3000",), description="Web origins whose pages may call, comma-separated."
    )
    max_body_bytes: int = Field(default=20 * _MEBIBYTE, ge=1024, description="Largest request body; over it: 413.")
    max_image_bytes: int = Field(default=5 * _MEBIBYTE, ge=1, description="Largest image, decoded.")
    max_images: int = Field(default=10, ge=0, description="Images in one request.")
    max_message_chars: int = Field(default=200_000, ge=1, description="Longest message or prompt, in characters.")
    max_running: int = Field(default=64, ge=1, description="Runs executed at the same time by this process.")
    lease_seconds: float = Field(default=60.0, gt=0, description="How long a claim lasts before it is stale.")
    keepalive_seconds: float = Field(default=15.0, gt=0, description="Silence before a stream sends a comment.")
    shutdown_grace_seconds: float = Field(default=10.0, ge=0, description="Time for running segments at a stop.")

    @field_validator("agents", "cors_origins", mode="before")
    @classmethod
    def _split_names(cls, value: object) -> object:
        """Read a list from one comma-separated text, as an environment variable has it."""
        if isinstance(value, str):
            return tuple(name.strip() for name in value.split(",") if name.strip())
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
