"""Pydantic AI agents for measuring many nodes: one that streams many pieces, and one that notes when it was asked."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic_ai import Agent
from pydantic_ai.messages import UserPromptPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pydantic_ai.messages import ModelMessage

# A model's pieces come about so far apart.
_BETWEEN_SECONDS = 0.005


async def _stream(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
    for number in range(int(_asked(messages))):
        yield f"{number} "
        await asyncio.sleep(_BETWEEN_SECONDS)


async def _note(messages: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str]:
    line = f"{_asked(messages)} {time.time():.6f}\n".encode()
    # One write for one line: several processes append to the file.
    noted = os.open(Path(os.environ["TEST_FOLDER"]) / "started.txt", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(noted, line)
    os.close(noted)
    yield "noted"


def _asked(messages: list[ModelMessage]) -> str:
    parts = [part for message in messages for part in message.parts if isinstance(part, UserPromptPart)]
    return str(parts[-1].content)


streaming = Agent(FunctionModel(stream_function=_stream), name="streaming")
noting = Agent(FunctionModel(stream_function=_note), name="noting")
