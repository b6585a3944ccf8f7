"""The type of the agents that programs pass, for those who do not import Pydantic AI."""

from __future__ import annotations

from typing import Any, TypeAlias

from pydantic_ai import Agent

AnyAgent: TypeAlias = Agent[Any, Any]
