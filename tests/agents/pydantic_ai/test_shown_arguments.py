"""What people are shown of a call is what its tool gets: the validated arguments, and exactly those."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import pytest
from pydantic import AfterValidator, BaseModel, BeforeValidator, Field, SecretStr, computed_field
from pydantic_ai import Agent, ModelRetry, RunContext, Tool, ToolDefinition
from pydantic_ai.capabilities import Hooks
from pydantic_ai.messages import ToolCallPart

from tests.agents.pydantic_ai.driving import driving, open_tools, yes
from tests.support.agents import Call, ScriptedModel
from tests.support.toolbox import JsonObject
from unpause.agents.policy import policy
from unpause.agents.pydantic_ai.arguments import show

_MOMENTS = itertools.count()


def _moment(value: object) -> object:
    """Return another time for the word now whenever somebody asks."""
    if value != "now":
        return value
    return datetime(2026, 1, 1, 12) + timedelta(minutes=next(_MOMENTS))  # noqa: DTZ001 - as tools have it


Moment = Annotated[datetime, BeforeValidator(_moment)]
AtMost50 = Annotated[int, AfterValidator(lambda value: min(value, 50))]
InCents = Annotated[int, AfterValidator(lambda value: value * 100)]
Restless = Annotated[int, AfterValidator(lambda value: value + 1 + next(_MOMENTS))]
Fresh = Annotated[str, Field(default_factory=lambda: str(_moment("now")))]


class Level(StrEnum):
    """A choice."""

    HIGH = "high"


class Person(BaseModel):
    """A model with an alias and a default."""

    full_name: str = Field(alias="fullName")
    age: int = 7


class Tools:
    """Tools whose validation makes something else of what the model sends; they keep what they got."""

    def __init__(self) -> None:
        self.ran: list[dict[str, Any]] = []

    def _keep(self, **arguments: Any) -> str:  # noqa: ANN401 - whatever a tool takes
        self.ran.append(arguments)
        return "ok"

    def clamp(self, amount: AtMost50, currency: str = "EUR") -> str:
        """Make less of it."""
        return self._keep(amount=amount, currency=currency)

    def cents(self, amount: InCents) -> str:
        """Make more of it."""
        return self._keep(amount=amount)

    def when(self, at: Moment) -> str:
        """Depend on the time."""
        return self._keep(at=str(at))

    def fresh(self, key: Fresh) -> str:
        """Have a default that is another one each time."""
        return self._keep(key=key)

    def beside(self, person: Person, level: Level = Level.HIGH) -> str:
        """Take a model beside something else."""
        return self._keep(person=person.model_dump(by_alias=True), level=level.value)

    def alone(self, person: Person) -> str:
        """Take nothing but a model."""
        return self._keep(**person.model_dump(by_alias=True))

    def plain(self, price: Decimal, data: bytes, many: set[str], big: float) -> str:
        """Take what is no JSON."""
        return self._keep(price=str(price), data=data.decode(), many=sorted(many), big=big)

    def lazy(self, numbers: Iterable[int]) -> str:
        """Take what can be read only once."""
        return self._keep(numbers=list(numbers))

    def secret(self, word: SecretStr, at: Moment, amount: InCents = 1) -> str:
        """Take what is not shown, beside what is never the same twice and what is made more of each time."""
        assert word.get_secret_value() == "sesame"
        return self._keep(word=str(word), at=str(at), amount=amount)

    def restless(self, n: Restless) -> str:
        """Never get twice what it got once."""
        return self._keep(n=n)


def _agent(tools: Tools, name: str, args: JsonObject, **options: Any) -> Agent[None, str]:  # noqa: ANN401
    script = ScriptedModel([Call(name, args)], "done")
    capabilities = options.pop("capabilities", ())
    tool = Tool(getattr(tools, name), **{"requires_approval": True, **options})
    return Agent(script.model, name="agent", tools=[tool], capabilities=capabilities)


@pytest.mark.parametrize(
    ("name", "sent", "shown"),
    [
        ("clamp", {"amount": "100"}, {"amount": 50, "currency": "EUR"}),
        ("cents", {"amount": 100}, {"amount": 10_000}),
        ("when", {"at": "now"}, None),
        ("fresh", {}, None),
        ("beside", {"person": {"fullName": "Ada"}}, {"person": {"fullName": "Ada", "age": 7}, "level": "high"}),
        ("alone", {"fullName": "Ada"}, {"fullName": "Ada", "age": 7}),
        (
            "plain",
            {"price": "1.50", "data": "ab", "many": ["b", "a", "c", "b"], "big": 1e22},
            {"price": "1.50", "data": "ab", "many": ["a", "b", "c"], "big": 1e22},
        ),
        ("lazy", {"numbers": [2, 1]}, {"numbers": [2, 1]}),
        ("secret", {"word": "sesame", "at": "now", "amount": 3}, None),
    ],
)
async def test_what_validation_makes_of_the_arguments_is_shown_and_runs_after_a_restart(
    tmp_path: Path, name: str, sent: JsonObject, shown: JsonObject | None
) -> None:
    tools = Tools()
    agent = _agent(tools, name, sent)
    async with driving(tmp_path, agent) as server:
        run = await server.run()
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(run)
    assert (done["status"], len(tools.ran)) == ("COMPLETED", 1), done["content"]
    assert run["tools"][0]["tool_args"] == (tools.ran[0] if shown is None else shown) == tools.ran[0]
    (requirement,) = run["requirements"]
    assert requirement["tool_execution"]["tool_args"] == tools.ran[0]
    assert requirement.get("sent_args", tools.ran[0]) == sent
    assert done["tools"][0]["tool_args"] == tools.ran[0]


async def test_a_call_that_nobody_is_asked_about_is_shown_as_it_runs(tmp_path: Path) -> None:
    tools = Tools()
    agent = _agent(tools, "clamp", {"amount": 70}, requires_approval=False)
    async with driving(tmp_path, agent) as server:
        events = await server.events()
    started = next(event for event in events if event["event"] == "ToolCallStarted")
    assert started["tool"]["tool_args"] == tools.ran[0] == {"amount": 50, "currency": "EUR"}


async def test_what_every_capability_makes_of_the_arguments_is_shown(tmp_path: Path) -> None:
    tools = Tools()
    hooks = Hooks[None]()

    @hooks.on.after_tool_validate
    async def double(
        ctx: RunContext[None], *, call: ToolCallPart, tool_def: ToolDefinition, args: dict[str, Any]
    ) -> dict[str, Any]:
        del ctx, call, tool_def
        return {**args, "amount": args["amount"] * 2}

    agent = _agent(tools, "clamp", {"amount": 30}, capabilities=[hooks])
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert open_tools(run)[0]["tool_args"] == {"amount": 60, "currency": "EUR"}
        done = await server.confirm(run)
    assert (done["status"], tools.ran) == ("COMPLETED", [{"amount": 60, "currency": "EUR"}])


async def test_a_call_that_would_not_be_what_was_shown_does_not_run_and_is_asked_about_again(tmp_path: Path) -> None:
    tools = Tools()
    agent = _agent(tools, "restless", {"n": 1}, metadata=policy(on_expire="approve", expires_in=60))
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        again = await server.confirm(run)
        assert (again["status"], tools.ran) == ("PAUSED", [])
        first, second = run["requirements"][0], again["requirements"][-1]
        shown = second["tool_execution"]["tool_args"]["n"]
        assert shown != first["tool_execution"]["tool_args"]["n"]
        assert second["message"] == again["content"]
        assert f"n was {first['tool_execution']['tool_args']['n']} and is now {shown}" in second["message"]
        late = await server.client.post(
            f"/agents/agent/runs/{run['run_id']}/continue", data={"tools": f'[{{"tool_call_id": "{first["id"]}"}}]'}
        )
        assert late.status_code == 400
        stopped = await server.answer_with(again, {"tool_call_id": second["id"], "confirmed": False})
    assert (stopped["status"], tools.ran) == ("COMPLETED", [])


async def test_an_edit_runs_as_it_was_made_or_is_shown_again(tmp_path: Path) -> None:
    tools = Tools()
    agent = _agent(tools, "cents", {"amount": 1}, metadata=policy(editable=["amount"]))
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        again = await server.answer_with(run, {**yes(open_tools(run)[0]), "tool_args": {"amount": 200}})
        assert (again["status"], tools.ran) == ("PAUSED", [])
        (tool,) = open_tools(again)
        assert tool["tool_args"] == {"amount": 20_000}
        done = await server.answer_with(again, yes(tool))
    assert (done["status"], tools.ran) == ("COMPLETED", [{"amount": 20_000}])


async def test_a_tool_s_own_words_about_approved_arguments_go_to_its_model(tmp_path: Path) -> None:
    tools, requested = Tools(), itertools.count()

    def check(ctx: RunContext[None], amount: int, currency: str) -> None:
        del ctx, currency
        if next(requested) > 0:
            detail = f"{amount} is not there any more"
            raise ModelRetry(detail)

    agent = _agent(tools, "clamp", {"amount": 30}, args_validator=check)
    async with driving(tmp_path, agent) as server:
        done = await server.confirm(await server.run())
    assert (done["status"], tools.ran) == ("COMPLETED", [])
    assert "30 is not there any more" in str(done["messages"])


async def test_a_form_s_values_are_validated_once_with_all_the_rest_and_not_before(tmp_path: Path) -> None:
    tools = Tools()
    seen: list[tuple[object, object, bool]] = []

    def check(ctx: RunContext[None], amount: int, currency: str) -> None:
        seen.append((amount, currency, ctx.tool_call_approved))
        if amount == 13:
            detail = f"{amount} is bad luck"
            raise ModelRetry(detail)

    options: dict[str, Any] = {"args_validator": check, "metadata": policy(user_input=["amount"])}
    agent = _agent(tools, "clamp", {}, **options)
    async with driving(tmp_path, agent) as server:
        run = await server.run()
        assert (run["status"], seen) == ("PAUSED", [])
        (tool,) = run["tools"]
        assert tool["tool_args"] == {"currency": "EUR"}
        form = {"tool_call_id": tool["tool_call_id"], "user_input_schema": [{"name": "amount", "value": 13}]}
        again = await server.answer_with(run, form)
        (requirement,) = again["requirements"][-1:]
        assert (again["status"], "13" in requirement["message"]) == ("PAUSED", False)
        assert "is bad luck" in requirement["message"]
        assert requirement["tool_execution"]["tool_args"] == {"currency": "EUR"}
        form = {"tool_call_id": requirement["id"], "user_input_schema": [{"name": "amount", "value": "30"}]}
        done = await server.answer_with(again, form)
    assert (done["status"], tools.ran) == ("COMPLETED", [{"amount": 30, "currency": "EUR"}])
    assert seen == [(13, "EUR", True), (30, "EUR", True)]
    assert "bad luck" not in str(done["messages"])


class Order(BaseModel):
    """A model that cannot compute one of its fields."""

    item: str

    @computed_field
    def price(self) -> int:
        """Fail."""
        raise OSError


def test_an_argument_whose_own_code_fails_is_shown_as_it_was_sent() -> None:
    assert show({"order": Order(item="tea")}, {"order": {"item": "tea"}}, {"order"}) == {"order": {"item": "tea"}}
