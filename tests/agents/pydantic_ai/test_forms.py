"""Forms: what a human has to know to fill one in, what the tool gets, and what is refused before anything is spent."""

from __future__ import annotations

import enum
import json
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from pydantic import AfterValidator, BaseModel, Field, SecretStr
from pydantic_ai import Agent, ModelRetry, RunContext, Tool
from pydantic_ai.messages import ModelMessagesTypeAdapter
from pydantic_ai.toolsets import FunctionToolset

from tests.agents.pydantic_ai.driving import DrivenServer, driving
from tests.support.agents import Call, ScriptedModel
from tests.support.caller import CODEGEN
from tests.support.toolbox import JsonObject
from unpause.agents.policy import policy

SECRET = "Hunter-2-Hunter"


class Level(enum.Enum):
    """How loud."""

    HIGH = "high"
    LOW = "low"


class Person(BaseModel):
    """Somebody, with friends."""

    name: str
    level: Level = Level.LOW
    friends: list[Person] = []


class Booking(BaseModel):
    """What a tool with a single model for its arguments takes."""

    room: str
    guest: Person


def shout(value: str) -> str:
    """Refuse a value, and say it in two ways."""
    if value == SECRET:
        detail = f"{value} is bad, and so is {value.lower()}"
        raise ValueError(detail)
    return value


class Tools:
    """Tools that keep what they got."""

    def __init__(self) -> None:
        self.got: list[Any] = []

    def fill(  # noqa: PLR0913, PLR0917 - a parameter of every kind
        self,
        text: str,
        level: Level,
        pick: Literal["x", "y"],
        day: date,
        at: datetime,
        who: Person,
        crowd: list[Person],
        maybe: int | None,
        count: Annotated[int, Field(ge=3, description="How many.")] = 5,
        mood: Level = Level.LOW,
    ) -> str:
        """Fill in."""
        self.got.append((text, level, pick, day, at, who, crowd, maybe, count, mood))
        return "filled"

    def book(self, booking: Booking) -> str:
        """Book a room."""
        self.got.append(booking)
        return "booked"

    def change(self, n: int, level: Level = Level.LOW) -> str:
        """Change."""
        self.got.append((n, level))
        return "changed"

    def login(self, user: str, password: Annotated[SecretStr, Field(min_length=20)]) -> str:
        """Log in."""
        self.got.append((user, password))
        return "in"

    def judge(self, user: str, word: Annotated[str, AfterValidator(shout)]) -> str:
        """Judge."""
        return user + word

    def fail(self, user: str, word: SecretStr, day: date) -> str:
        """Fail, with everything in it."""
        detail = f"{user}: {word.get_secret_value().upper()} on {day!r}"
        raise RuntimeError(detail)


def agent_of(tools: Tools, script: ScriptedModel) -> Agent[None, str]:
    filled = ("level", "pick", "day", "at", "who", "crowd", "maybe", "count", "mood")
    return Agent(
        script.model,
        name="agent",
        tools=[
            Tool(tools.fill, metadata=policy(user_input=filled)),
            Tool(tools.book, metadata=policy(user_input=["guest"])),
            Tool(tools.change, metadata=policy(editable=["n", "level"])),
            Tool(tools.login, metadata=policy(user_input=["password"])),
            Tool(tools.judge, metadata=policy(user_input=["word"])),
            Tool(tools.fail, metadata=policy(user_input=["word", "day"])),
        ],
    )


FILLED = {
    "level": "high",
    "pick": "y",
    "day": "2024-05-17",
    "at": "2024-05-17T08:00:00Z",
    "who": {"name": "bo", "level": "high"},
    "crowd": [{"name": "al", "friends": [{"name": "cy"}]}],
    "maybe": None,
    "mood": "high",
}


def form(run: JsonObject, values: dict[str, Any]) -> JsonObject:
    """Return the least that fills in the form of the run's one call."""
    (tool,) = [tool for tool in run["tools"] if tool["requires_user_input"]]
    return {
        "tool_call_id": tool["tool_call_id"],
        "user_input_schema": [{"name": name, "value": value} for name, value in values.items()],
    }


async def refusals(server: DrivenServer, run: JsonObject, tool: JsonObject) -> list[str]:
    """Return what both APIs say to an answer, JSON and stream, each a 400 that changes nothing."""
    path = f"/agents/agent/runs/{run['run_id']}"
    before = (await server.get(path)).json()
    key = before["metadata"] = before.get("metadata")
    (listed,) = [
        item for item in (await server.get(f"{CODEGEN}s")).json()["items"] if item["web_url"].endswith(run["run_id"])
    ]
    answered = []
    for stream in ("false", "true"):
        response = await server.client.post(f"{path}/continue", data={"stream": stream, "tools": json.dumps([tool])})
        assert response.status_code == 400, response.text
        answered.append(response.json()["detail"])
    body = {"agent_run_id": listed["id"], "prompt": "", "tools": [tool]}
    response = await server.post(f"{CODEGEN}/resume", body)
    assert response.status_code == 400, response.text
    answered.append(response.json()["message"])
    after = (await server.get(path)).json()
    after["metadata"] = key
    assert after == before
    assert after["status"] == "PAUSED"
    return answered


async def test_a_form_shows_the_schema_of_each_field_and_the_tool_gets_what_was_filled_in(tmp_path: Path) -> None:
    tools, script = Tools(), ScriptedModel([Call("fill", {"text": "Hi"})], "done")
    async with driving(tmp_path, agent_of(tools, script)) as server:
        run = await server.run()
        fields = {field["name"]: field for field in run["tools"][0]["user_input_schema"]}
        assert {name: field["field_type"] for name, field in fields.items()} == {
            "text": "str",
            "level": "str",
            "pick": "str",
            "day": "str",
            "at": "str",
            "who": "dict",
            "crowd": "list",
            "maybe": "int",
            "count": "int",
            "mood": "str",
        }
        schemas = {name: field["schema"] for name, field in fields.items()}
        assert schemas["level"]["enum"] == ["high", "low"]
        assert schemas["pick"]["enum"] == ["x", "y"]
        assert (schemas["day"]["format"], schemas["at"]["format"]) == ("date", "date-time")
        assert schemas["count"] == {"type": "integer", "minimum": 3, "default": 5, "description": "How many."}
        assert (schemas["mood"]["enum"], schemas["mood"]["default"]) == (["high", "low"], "low")
        # Whole in itself, although it refers to itself.
        assert set(schemas["who"]["$defs"]) == {"Person", "Level"}
        assert set(schemas["crowd"]["$defs"]) == {"Person", "Level"}
        assert [name for name, field in fields.items() if not field["required"]] == ["count", "mood"]

        response = await server.get(f"{CODEGEN}/1/logs")
        (shown,) = response.json()["logs"][-1]["observation"]["requirements"]
        assert shown["user_input_schema"] == run["requirements"][0]["user_input_schema"]
        assert shown["user_input_schema"] == run["tools"][0]["user_input_schema"]

        done = await server.answer_with(run, form(run, FILLED))
    assert done["status"] == "COMPLETED"
    bo, al = Person(name="bo", level=Level.HIGH), Person(name="al", friends=[Person(name="cy")])
    noon = datetime(2024, 5, 17, 8, tzinfo=UTC)
    assert tools.got == [("Hi", Level.HIGH, "y", date(2024, 5, 17), noon, bo, [al], None, 5, Level.HIGH)]


async def test_a_single_model_that_refers_to_itself_is_a_form_like_any_other(tmp_path: Path) -> None:
    tools, script = Tools(), ScriptedModel([Call("book", {"room": "7"})], "done")
    async with driving(tmp_path, agent_of(tools, script)) as server:
        run = await server.run()
        shown = next(tool for tool in script.infos[0].function_tools if tool.name == "book").parameters_json_schema
        assert set(shown["properties"]) == {"room"}
        assert "guest" not in json.dumps(shown)
        fields = {field["name"]: field["value"] for field in run["tools"][0]["user_input_schema"]}
        assert fields == {"room": "7", "guest": None}
        for answered in await refusals(server, run, form(run, {"guest": {"level": "high"}})):
            assert "field 'guest': name: Field required" in answered
        done = await server.answer_with(run, form(run, {"guest": {"name": "bo"}}))
    assert done["status"] == "COMPLETED"
    assert tools.got == [Booking(room="7", guest=Person(name="bo"))]


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        ("level", "loud", "Input should be 'high' or 'low'"),
        ("level", {"value": "high"}, "Input should be 'high' or 'low'"),
        ("pick", "z", "Input should be 'x' or 'y'"),
        ("day", "tomorrow", "valid date"),
        ("at", "noon", "valid datetime"),
        ("who", {"name": 1}, "name: Input should be a valid string"),
        ("crowd", [{"name": "al", "friends": [{"name": []}]}], "0.friends.0.name: Input should be a valid string"),
        ("maybe", "many", "valid integer"),
        ("count", 2, "greater than or equal to 3"),
        ("count", 3.5, "valid integer"),
        ("mood", 1, "Input should be 'high' or 'low'"),
    ],
)
async def test_a_value_that_the_tool_would_refuse_is_refused_before_the_pause_is_spent(
    tmp_path: Path, name: str, value: object, reason: str
) -> None:
    tools, script = Tools(), ScriptedModel([Call("fill", {"text": "Hi"})], "done")
    async with driving(tmp_path, agent_of(tools, script)) as server:
        run = await server.run()
        for answered in await refusals(server, run, form(run, {**FILLED, name: value})):
            assert f"field '{name}': " in answered
            assert reason in answered
    assert tools.got == []


async def test_what_may_be_changed_is_shown_and_a_change_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    tools, script = Tools(), ScriptedModel([Call("change", {"n": 1})], "done")
    async with driving(tmp_path, agent_of(tools, script)) as server:
        run = await server.run()
        (tool,) = run["tools"]
        n, level = tool["editable"]
        assert (n["name"], n["field_type"], n["required"], n["schema"]) == ("n", "int", True, {"type": "integer"})
        assert (level["schema"]["enum"], level["schema"]["default"]) == (["high", "low"], "low")
        assert run["requirements"][0]["editable"] == tool["editable"]
        (shown,) = (await server.get(f"{CODEGEN}/1/logs")).json()["logs"][-1]["observation"]["requirements"]
        assert shown["editable"] == tool["editable"]
        unfit: tuple[object, ...] = ("no number", None, [1], 3.5, {}, "")
        for value in unfit:
            changed = {**tool, "confirmed": True, "tool_args": {**tool["tool_args"], "n": value}}
            for answered in await refusals(server, run, changed):
                assert "field 'n': Input should be a valid integer" in answered
                assert "no number" not in answered
        changed = {**tool, "confirmed": True, "tool_args": {**tool["tool_args"], "level": "loud"}}
        for answered in await refusals(server, run, changed):
            assert "field 'level': Input should be 'high' or 'low'" in answered
        assert tools.got == []
        # What pydantic takes for a number is one, and is kept as one.
        done = await server.answer_with(run, {**tool, "confirmed": True, "tool_args": {"n": "5", "level": "high"}})
    assert (done["status"], tools.got) == ("COMPLETED", [(5, Level.HIGH)])
    assert done["tools"][0]["tool_args"] == {"n": 5, "level": "high"}
    assert "editable" not in done["tools"][0]


@pytest.mark.parametrize(("tool", "field"), [("login", "password"), ("judge", "word")])
async def test_a_refused_value_is_repeated_to_nobody(tmp_path: Path, tool: str, field: str) -> None:
    tools, script = Tools(), ScriptedModel([Call(tool, {"user": "bo"})], "done")
    async with driving(tmp_path, agent_of(tools, script)) as server:
        run = await server.run()
        for answered in await refusals(server, run, form(run, {field: SECRET})):
            assert f"field '{field}': Value" in answered
            assert SECRET.lower() not in answered.lower()
    assert len(script.requests) == 1


async def test_what_a_tool_raises_with_a_filled_in_value_in_it_is_read_by_nobody(tmp_path: Path) -> None:
    tools, script = Tools(), ScriptedModel([Call("fail", {"user": "bo"})], "done")
    async with driving(tmp_path, agent_of(tools, script)) as server:
        run = await server.run()
        done = await server.answer_with(run, form(run, {"word": SECRET, "day": "2024-05-17"}))
        events = (await server.get(f"/agents/agent/runs/{run['run_id']}/events")).text
    sent = ModelMessagesTypeAdapter.dump_json(script.requests[-1]).decode()
    assert "bo: [hidden] on [hidden]" in sent
    assert done["tools"][0]["result"] == "bo: [hidden] on [hidden]"
    # Those who may see the run see what was filled in, with the call; what was said of it says nothing.
    for text in (sent, json.dumps([message["content"] for message in done["messages"] if "content" in message])):
        assert SECRET.lower() not in text.lower()
        assert "2024, 5, 17" not in text
    assert SECRET.upper() not in events
    assert "2024, 5, 17" not in events


async def test_a_change_is_kept_as_the_tool_has_it_and_runs_without_a_second_question(tmp_path: Path) -> None:
    got: list[Any] = []

    def move(at: datetime, numbers: set[int], who: Person, often: int | None = 3) -> str:
        """Move."""
        got.append((at, numbers, who, often))
        return "moved"

    requested = {"at": "2024-01-01T00:00:00Z", "numbers": [1], "who": {"name": "al"}}
    script = ScriptedModel([Call("move", requested)], "done")
    names = ("at", "numbers", "who", "often")
    agent = Agent(script.model, name="agent", tools=[Tool(move, metadata=policy(editable=names))])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        (tool,) = run["tools"]
        changes = {
            "at": "2024-05-17 08:00Z",
            "numbers": ["3", 3],
            "who": {"name": "bo", "level": "high"},
            "often": None,
        }
        done = await server.answer_with(run, {**tool, "confirmed": True, "tool_args": changes})
    assert done["status"] == "COMPLETED", done["content"]
    assert got == [(datetime(2024, 5, 17, 8, tzinfo=UTC), {3}, Person(name="bo", level=Level.HIGH), None)]
    assert done["tools"][0]["tool_args"] == {
        "at": "2024-05-17 08:00:00+00:00",
        "numbers": [3],
        "who": {"name": "bo", "level": "high", "friends": []},
        "often": None,
    }


def long_enough(ctx: RunContext[None], user: str, word: str) -> None:
    """Check what only a run can check."""
    del ctx, user
    if len(word) < 12:
        detail = f"{word} is too short, and so is {word.upper()}"
        raise ModelRetry(detail)


@pytest.mark.parametrize("place", ["validator", "toolset"])
async def test_what_only_a_run_can_check_is_asked_again_and_tells_nobody_the_value(tmp_path: Path, place: str) -> None:
    got: list[str] = []

    def tell(user: str, word: Annotated[str, Field(min_length=12)]) -> str:
        """Tell."""
        got.append(user + word)
        return "told"

    def hint(user: str, word: str) -> str:
        """Tell."""
        return tell(user, word)

    script = ScriptedModel([Call("tell", {"user": "bo"})], "done")
    rules = policy(user_input=["word"])
    if place == "validator":
        agent = Agent(
            script.model, name="agent", tools=[Tool(hint, name="tell", metadata=rules, args_validator=long_enough)]
        )
    else:
        toolset: FunctionToolset[None] = FunctionToolset([Tool(tell, metadata=rules)])
        agent = Agent(script.model, name="agent", toolsets=[lambda _: toolset])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        for value in ({"a": 1}, 7):
            for answered in await refusals(server, run, form(run, {"word": value})):
                assert "field 'word': Input should be a valid string" in answered
        again = await server.answer_with(run, form(run, {"word": "hunter2"}))
        assert (again["status"], got) == ("PAUSED", [])
        message = again["requirements"][-1]["message"]
        assert "tell did not run" in message
        assert "hunter2" not in message.lower()
        done = await server.answer_with(again, form(again, {"word": "hunter2hunter2"}))
    assert (done["status"], got) == ("COMPLETED", ["bohunter2hunter2"])
    for requested in script.requests:
        assert b"hunter2" not in ModelMessagesTypeAdapter.dump_json(requested).lower()
