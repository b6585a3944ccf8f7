"""Large JSON is written in pieces, and says the same."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pydantic_core import to_json

from unpause.api.json import write_json


@pytest.mark.parametrize(
    "content",
    [
        {},
        {"a": [1, None, True, "ü", {"b": []}]},
        {"runs": [{"text": "x\n" * 50_000, "n": n, "more": {"ü": ["y" * 70_000], "empty": {}}} for n in range(6)]},
        [["z" * 40_000] * 10, (), {"k" * 70_000: 1}],
    ],
    ids=["empty", "small", "large", "nested"],
)
async def test_pieces_together_are_the_whole(content: Any) -> None:  # noqa: ANN401
    assert await write_json(content) == to_json(content)


async def test_others_have_their_turn_while_it_is_written() -> None:
    content = [{"text": "x" * 60_000} for _ in range(300)]
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count_turns())
    await asyncio.sleep(0)
    before = turns
    await write_json(content)
    counting.cancel()
    assert turns > before
