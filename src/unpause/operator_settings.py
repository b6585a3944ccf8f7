"""Settings of what operators see of a process: its logs."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

LogLevel = Literal["debug", "info", "warning", "error", "critical"]


class LogSettings(BaseModel):
    """Logs."""

    log_level: LogLevel = Field(default="info", description="Lowest level of the lines in the log.")
    log_format: Literal["json", "readable"] | None = Field(
        default=None, description="Lines of the log as JSON or for people; by default JSON, and with `dev` for people."
    )
    access_log: bool = Field(default=False, description="Log each request: its route, status, time, client and user.")
