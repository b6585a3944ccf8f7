"""Settings for operators: how a process ends, its logs and metrics, its database, and what it keeps."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, Field

from unpause.clock import LONGEST_SECONDS
from unpause.durations import parse_duration
from unpause.lazy import BUILT_LATE


def _read_duration(value: Any) -> Any:  # noqa: ANN401 - whatever is set; pydantic checks the rest
    return parse_duration(value) if isinstance(value, str) else value


KeptFor = Annotated[timedelta, BeforeValidator(_read_duration)]

DEFAULT_DATABASE_URL = "sqlite:///unpause.db"
DEFAULT_LOCK_SECONDS = 5.0
DEFAULT_IDLE_SECONDS = 60.0
DEFAULT_SILENT_SECONDS = 10.0

Seconds = Annotated[float, Field(gt=0, le=LONGEST_SECONDS, allow_inf_nan=False)]

LogLevel = Literal["debug", "info", "warning", "error", "critical"]


class SettingsGroup(BaseModel):
    """Settings under one heading. No group is ever read by itself, so pydantic need not prepare to."""

    model_config = BUILT_LATE


class ProcessSettings(SettingsGroup):
    """Process."""

    dev: bool = Field(
        default=False,
        description="Require no token, and write readable logs instead of JSON lines. Only on loopback.",
    )
    shutdown_grace_seconds: float = Field(
        default=10.0,
        ge=0,
        le=LONGEST_SECONDS,
        allow_inf_nan=False,
        description="Time a stop waits for running segments.",
    )


class LogSettings(SettingsGroup):
    """Logs."""

    log_level: LogLevel = Field(default="info", description="Lowest level of the lines in the log.")
    log_format: Literal["json", "readable"] | None = Field(
        default=None, description="Lines of the log as JSON or for people; by default JSON, and with `dev` for people."
    )
    access_log: bool = Field(default=False, description="Log each request: its route, status, time, client and user.")


class MetricsSettings(SettingsGroup):
    """Metrics and traces."""

    traces: bool = Field(
        default=False, description="Send traces with OpenTelemetry (extra `otel`), where its `OTEL_…` variables say."
    )
    metrics: bool = Field(
        default=False, description="Serve `/metrics` beside the API, for tokens with the scope `metrics:read`."
    )
    metrics_port: int | None = Field(
        default=None,
        ge=1,
        le=65535,
        description="Port that serves `/metrics` without a token, for a network that only Prometheus reaches.",
    )
    metrics_host: str = Field(default="127.0.0.1", description="Address of `metrics_port`.")


class DatabaseSettings(SettingsGroup):
    """Database."""

    database_url: str = Field(
        default=DEFAULT_DATABASE_URL,
        repr=False,
        description="Database: `sqlite:///FILE` (also `sqlite+aiosqlite:///FILE`), or `postgresql://USER@HOST/NAME`, "
        "also with several hosts, comma-separated.",
    )
    database_connections: int = Field(default=10, ge=2, description="Connections of this process to PostgreSQL.")
    listener_url: str | None = Field(
        default=None,
        repr=False,
        description="URL of PostgreSQL itself for notifications, where `database_url` is a pooler's.",
    )
    poll_seconds: Seconds = Field(
        default=0.5,
        description="How often to query PostgreSQL, in case a notification is lost; for runs that are ready a quarter "
        "as often while notifications arrive, and on SQLite.",
    )
    database_timeout_seconds: Seconds = Field(
        default=DEFAULT_SILENT_SECONDS,
        description="How long PostgreSQL may be silent while a request or a statement waits for it, beside "
        "`lock_timeout_seconds` where it waits for a lock; over it the connection is closed: 503.",
    )
    lock_timeout_seconds: float = Field(
        default=DEFAULT_LOCK_SECONDS,
        ge=0.001,
        le=3600,
        description="How long a request waits for a lock of another database transaction; over it: 503.",
    )


class RetentionSettings(SettingsGroup):
    """Retention."""

    keep_ended_runs: KeptFor | None = Field(
        default=None, description="How long to keep runs that have ended, such as 90d; by default forever."
    )
    keep_audit: KeptFor | None = Field(
        default=None, description="How long to keep entries of the audit trail, such as 365d; by default forever."
    )
    keep_deliveries: KeptFor = Field(
        default=timedelta(days=7),
        description="How long to keep webhooks and notifications that were delivered or given up.",
    )
