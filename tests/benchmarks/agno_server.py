"""Serves the agent of ``instant_agent`` with Agno's AgentOS; it runs in an environment that has nothing of ours.

``python agno_server.py PORT DATABASE_URL``
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from agno.agent import Agent  # type: ignore[import-not-found]
from agno.db.postgres import PostgresDb  # type: ignore[import-not-found]
from agno.db.sqlite import SqliteDb  # type: ignore[import-not-found]
from agno.models.base import Model  # type: ignore[import-not-found]
from agno.models.response import ModelResponse  # type: ignore[import-not-found]
from agno.os import AgentOS  # type: ignore[import-not-found]
from agno.tools import tool  # type: ignore[import-not-found]

_CALL = {"id": "call-1", "type": "function", "function": {"name": "act", "arguments": '{"on": "it"}'}}


class InstantModel(Model):  # type: ignore[misc]
    """Asks for one call, then says it is done; at once."""

    def _response(self, messages: list[Any]) -> ModelResponse:
        if messages[-1].role == "tool":
            return ModelResponse(role="assistant", content="done")
        return ModelResponse(role="assistant", tool_calls=[_CALL])

    def invoke(self, messages: list[Any], **_: object) -> ModelResponse:
        return self._response(messages)

    async def ainvoke(self, messages: list[Any], **_: object) -> ModelResponse:
        return self._response(messages)

    def invoke_stream(self, messages: list[Any], **_: object) -> Iterator[ModelResponse]:
        yield self._response(messages)

    async def ainvoke_stream(self, messages: list[Any], **_: object) -> AsyncIterator[ModelResponse]:
        yield self._response(messages)

    def _parse_provider_response(self, response: ModelResponse, **_: object) -> ModelResponse:
        return response

    def _parse_provider_response_delta(self, response: ModelResponse) -> ModelResponse:
        return response


@tool(requires_confirmation=True)  # type: ignore[untyped-decorator]
def act(on: str) -> str:
    """Do it."""
    return f"did {on}"


def main(port: int, database_url: str) -> None:
    """Serve until stopped."""
    make_database = SqliteDb if database_url.startswith("sqlite") else PostgresDb
    agent = Agent(
        id="instant",
        name="instant",
        model=InstantModel(id="instant"),
        tools=[act],
        db=make_database(db_url=database_url),
        telemetry=False,
    )
    app = AgentOS(agents=[agent], telemetry=False).get_app()
    uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", access_log=False)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
