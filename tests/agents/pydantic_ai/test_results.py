"""Whatever a tool returns, its call succeeded, and the model gets just what the record holds."""

from __future__ import annotations

import json
from collections import OrderedDict, UserDict, UserList, UserString, deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any
from unittest import mock

import pytest
from pydantic import BaseModel, Field, computed_field
from pydantic_ai import Agent, Tool
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.messages import BinaryContent, ToolReturn, ToolReturnPart, UserPromptPart
from structlog.testing import capture_logs

from tests.agents.pydantic_ai.driving import driving, said_by_tools
from tests.support.agents import Call, ScriptedModel, parts_of
from unpause.agents.pydantic_ai.iterators import read_iterators
from unpause.agents.pydantic_ai.results import json_text, record_of, restore
from unpause.domain.runs import Outcome

_MANY = 1_000_000


class _Color(Enum):
    RED = "red"


class _Renamed(BaseModel):
    degrees: float = Field(default=1.5, serialization_alias="deg")


@dataclass
class _Plain:
    raw: bytes = b"\xff"


class _Mute:
    def __str__(self) -> str:
        raise RuntimeError


class _Named:
    def __str__(self) -> str:
        return "a named thing"


def _letters() -> Iterator[str]:
    yield from "ab"


async def _numbers() -> AsyncIterator[int]:
    yield 1
    yield 2


def _circle() -> list[Any]:
    circle: list[Any] = [1]
    circle.append(circle)
    return circle


@pytest.mark.parametrize(
    ("returned", "kept"),
    [
        (b"text", "dGV4dA=="),
        (b"\xff\xfe", "__4="),
        ({"a": [b"\xff", memoryview(b"b")]}, {"a": ["_w==", "Yg=="]}),
        (_letters(), ["a", "b"]),
        (map(str, [1]), ["1"]),
        ({"in": _letters()}, {"in": ["a", "b"]}),
        (_numbers(), [1, 2]),
        (range(2), [0, 1]),
        ({"a"}, ["a"]),
        (frozenset({1}), [1]),
        (UserList([1]), [1]),
        (OrderedDict(b=1, a=2), {"b": 1, "a": 2}),
        (MappingProxyType({"b": deque([1, (2,)], 5)}), {"b": [1, [2]]}),
        (UserDict(a=UserString("b"), c=_letters()), {"a": "b", "c": ["a", "b"]}),
        ({1: "x", (2, 3): "y"}, {"1": "x", "2,3": "y"}),
        (_Renamed(), {"deg": 1.5}),
        ([_Plain()], [{"raw": "_w=="}]),
        (Decimal("1.50"), "1.50"),
        (datetime(2026, 1, 1, tzinfo=UTC), "2026-01-01T00:00:00Z"),
        (_Color.RED, "red"),
        (PurePosixPath("/x"), "/x"),
        (_Named(), "a named thing"),
        ([_Named()], ["a named thing"]),
        (_Mute(), "<_Mute>"),
        (ValueError("odd"), "odd"),
        (float("nan"), None),
        (1e22, 1e22),
        (2**70, 2**70),
        ("x\ud83d\ude00\ud83d\0", "x\U0001f600\ufffd\ufffd"),
        ({"a": ["\0", {"b": "\udc00"}]}, {"a": ["\ufffd", {"b": "\ufffd"}]}),
    ],
    ids=lambda value: type(value).__name__,
)
async def test_a_call_that_returned_has_succeeded_and_gives_back_its_record(returned: object, kept: object) -> None:
    result = await record_of(await read_iterators(returned, _MANY), _MANY)
    assert result.outcome is Outcome.SUCCESS
    assert result.value["return_value"] == kept
    assert json.loads(json.dumps(result.value, allow_nan=False)) == result.value
    assert restore(result) == kept
    text = result.text
    assert text == kept if isinstance(kept, str) else json.loads(text) == kept


async def test_a_result_without_a_json_form_is_named_in_the_log() -> None:
    class Machine:
        pass

    with capture_logs() as lines:
        await record_of({"machines": [Machine(), Machine()], "at": datetime(2026, 1, 1, tzinfo=UTC)}, 10_000)
    assert [(line["event"], line["types"]) for line in lines] == [("result has no JSON form: kept as text", "Machine")]


async def test_what_refers_to_itself_is_text() -> None:
    result = await record_of(_circle(), _MANY)
    assert (result.outcome, result.text) == (Outcome.SUCCESS, "[1, [...]]")


class Detached(Mapping[str, int]):
    """A row of a database whose connection is closed."""

    def __getitem__(self, name: str) -> int:
        raise OSError

    def __iter__(self) -> Iterator[str]:
        raise OSError

    def __len__(self) -> int:
        return 1

    def __repr__(self) -> str:
        return "<a row>"


class Priced(BaseModel):
    """A model that cannot compute one of its fields."""

    name: str

    @computed_field
    def price(self) -> int:
        """Fail."""
        raise OSError


@pytest.mark.parametrize(
    ("returned", "text"),
    [
        (Detached(), "<a row>"),
        ([Detached()], "[<a row>]"),
        (Priced(name="tea"), "<Priced>"),
    ],
)
async def test_a_call_has_succeeded_whose_result_cannot_be_read_any_more(returned: object, text: str) -> None:
    result = await record_of(await read_iterators(returned, _MANY), _MANY)
    assert result.outcome is Outcome.SUCCESS
    assert text in result.text
    assert json_text(returned)


async def test_what_only_the_application_reads_may_be_anything() -> None:
    returned = ToolReturn("kept", content=["look", BinaryContent(b"\xff", media_type="image/png")], metadata=_Mute())
    back = restore(await record_of(returned, _MANY))
    assert (back.return_value, back.content[0], back.content[1].data) == ("kept", "look", b"\xff")
    assert back.metadata == "<_Mute>"
    partly = restore(await record_of(ToolReturn("kept", metadata={"n": 1, "at": _Named()}), _MANY))
    assert partly.metadata == {"n": 1, "at": "a named thing"}


@pytest.mark.parametrize(
    "returned",
    [
        "x" * 2000,
        ["x" * 500] * 4,
        {"a": {"b": "ü" * 600}},
        BinaryContent(b"x" * 1500, media_type="image/png"),
        "x" * 10**7,
    ],
    ids=["text", "list", "nested", "picture", "huge"],
)
async def test_a_result_that_is_too_large_is_a_failure_that_says_so(returned: object) -> None:
    result = await record_of(returned, 1024)
    assert (result.outcome, result.value) == (Outcome.FAILED, result.text)
    assert result.text == "The tool has run, but its result was not kept: it has more than 1024 bytes."


def _endless(item: object) -> Iterator[object]:
    while True:
        yield item


async def _endless_asynchronously(item: object) -> AsyncIterator[object]:
    while True:
        yield item


@dataclass(frozen=True)
class _Table:
    rows: object


class _Page(BaseModel):
    rows: Any


class _Squares(Sequence[int]):
    """A sequence that is calculated, and has no end."""

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - overloaded
        return index**2

    def __len__(self) -> int:
        return 3


class _Settings(Mapping[str, object]):
    """A mapping that holds one value, and makes it anew each time."""

    def __init__(self, value: object) -> None:
        self.value = value

    def __getitem__(self, name: str) -> object:
        return self.value

    def __iter__(self) -> Iterator[str]:
        return iter(["value"])

    def __len__(self) -> int:
        return 1


@pytest.mark.parametrize(
    "returned",
    [
        iter(int, 1),
        _endless("x" * 10**5),
        _endless_asynchronously("x" * 10**5),
        _endless(_Page(rows="x" * 10**5)),
        _endless([]),
        _endless(_endless("x")),
        {"rows": _endless(0)},
        [1, (2, {"rows": map(str, _endless(0))})],
        _Table(_endless(0)),
        _Page(rows=[_endless(0)]),
        ToolReturn("kept", metadata=_endless(0)),
        range(10**12),
        UserList([_endless(0)]),
        {"rows": deque([_endless(0)])},
        _Table(_Squares()),
        _endless(_Squares()),
        _Settings(_endless(0)),
        [MappingProxyType({"rows": _endless(0)})],
        {_endless(0)},
    ],
)
async def test_an_iterator_without_end_is_a_result_that_is_too_large_wherever_it_is(returned: object) -> None:
    with pytest.raises(ToolFailed, match="its result was not kept: it has more than 65536 bytes"):
        await read_iterators(returned, 1 << 16)


@pytest.mark.parametrize("make", [str, lambda text: {"in": [text]}, lambda text: _Page(rows=text), _Table])
async def test_no_more_long_items_are_read_than_may_be_kept(make: Callable[[str], object]) -> None:
    read: list[int] = []

    def items() -> Iterator[object]:
        for number in range(1000):
            read.append(number)
            yield make("x" * 10_000)

    with pytest.raises(ToolFailed):
        await read_iterators(items(), 50_000)
    assert len(read) == 10


async def test_an_iterator_that_is_read_no_further_is_closed() -> None:
    closed: list[str] = []

    def rows() -> Iterator[object]:
        try:
            yield from _endless("x")
        finally:
            closed.append("rows")

    async def rows_asynchronously() -> AsyncIterator[str]:
        try:
            while True:
                yield "x"
        finally:
            closed.append("async rows")

    for returned in ({"rows": rows()}, rows_asynchronously()):
        with pytest.raises(ToolFailed):
            await read_iterators(returned, 100)
    assert closed == ["rows", "async rows"]


async def test_an_iterator_is_read_once_whatever_else_of_the_result_cannot_be_kept() -> None:
    returned = ToolReturn({"rows": _letters()}, content=[_Mute()], metadata={"at": {_Mute(): 1}})  # type: ignore[list-item]  # as authors do
    result = await record_of(await read_iterators(returned, _MANY), _MANY)
    assert (result.outcome, restore(result)) == (Outcome.SUCCESS, ToolReturn(mock.ANY, metadata=mock.ANY))
    assert "'a', 'b'" in str(restore(result).return_value)


async def test_what_a_tool_returned_is_left_as_it_is() -> None:
    rows = _letters()
    returned = {"table": _Table(rows), "page": _Page(rows=rows), "list": [1]}
    read = await read_iterators(returned, _MANY)
    assert read == {"table": _Table(["a", "b"]), "page": _Page(rows=[]), "list": [1]}
    assert returned == {"table": _Table(rows), "page": _Page(rows=rows), "list": [1]}


async def test_what_holds_itself_and_an_iterator_is_no_endless_work() -> None:
    circle = _circle()
    circle += [circle, iter("ab")]
    with pytest.raises(ToolFailed):
        await read_iterators(circle, 10_000)


@pytest.mark.parametrize(("levels", "outcome"), [(100, Outcome.SUCCESS), (101, Outcome.FAILED), (5000, Outcome.FAILED)])
async def test_a_result_has_a_hundred_levels_at_most(levels: int, outcome: Outcome) -> None:
    nested: Any = 1
    for _ in range(levels):
        nested = [nested]
    result = await record_of(nested, _MANY)
    assert result.outcome is outcome
    assert ("more than 100 levels" in result.text) is (outcome is Outcome.FAILED)


async def test_the_model_gets_the_same_before_and_after_a_restart(tmp_path: Path) -> None:
    def give() -> ToolReturn[object]:
        """Give bytes, and something for the application."""
        return ToolReturn({"b": b"\xff", "a": 1e22}, content="read this", metadata={"lock": _Named()})

    def act() -> str:
        """Act."""
        return "acted"

    script = ScriptedModel([Call("give")], [Call("give"), Call("act")], "done")
    agent = Agent(script.model, name="agent", tools=[give, Tool(act, requires_approval=True)])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(run)
    assert [tool["result"] for tool in done["tools"]] == ['{"b":"_w==","a":1e+22}'] * 2 + ["acted"]
    before = parts_of(script.requests[1], ToolReturnPart, UserPromptPart)[-2:]
    after = [part for part in parts_of(script.requests[2], ToolReturnPart) if part.tool_name == "give"]
    assert [(part.content, part.metadata, part.outcome) for part in after] == [
        (before[0].content, {"lock": "a named thing"}, "success")
    ] * 2
    assert said_by_tools(done)[0] == ("give", '{"b":"_w==","a":1e+22}')
    assert [part.content for part in parts_of(script.requests[2], UserPromptPart)].count("read this") == 2


@pytest.mark.parametrize("within", [lambda rows: rows, lambda rows: {"rows": rows}, lambda rows: [_Table(rows)]])
async def test_what_a_generator_raises_is_the_tools_failure(tmp_path: Path, within: Callable[[object], object]) -> None:
    def rows() -> Iterator[int]:
        yield 1
        detail = "no two"
        raise OSError(detail)

    def count() -> object:
        """Count."""
        return within(rows())

    script = ScriptedModel([Call("count")], "I see")
    async with driving(tmp_path, Agent(script.model, name="agent", tools=[count]), max_result_bytes=2048) as server:
        done = await server.run()
    assert said_by_tools(done) == [("count", "no two")]
