"""Pauses, and the answers to them through the client's own requirement and tool objects."""

from __future__ import annotations

from tests.clients.scenarios.shown import (
    AGENT,
    AgnoObject,
    Client,
    Json,
    collect,
    names_of,
    show_requirement,
    show_run,
    text_of,
    tools_of,
)


async def confirm(client: Client, message: str) -> Json:
    """Pause and confirm everything."""
    paused = await client.run_agent(AGENT, message, user_id="alice")
    before = show_run(paused)
    for requirement in paused.active_requirements:
        requirement.confirm()
    return {"paused": before, "ended": show_run(await _continue(client, paused))}


async def confirm_on_the_tools(client: Client, message: str) -> Json:
    """Pause and confirm on the run's tools, without looking at its requirements."""
    paused = await client.run_agent(AGENT, message)
    for tool in paused.tools:
        if tool.requires_confirmation:
            tool.confirmed = True
    ended = await client.continue_agent_run(AGENT, paused.run_id, paused.tools, session_id=paused.session_id)
    return show_run(ended)


async def confirm_in_streams(client: Client, message: str) -> Json:
    """Pause in a stream, confirm what its last event shows, and read the second stream."""
    first = await collect(client.run_agent_stream(AGENT, message))
    paused = first[-1]
    shown = [show_requirement(requirement) for requirement in paused.requirements]
    for requirement in paused.requirements:
        if requirement.needs_confirmation:
            requirement.confirm()
    tools = [requirement.tool_execution for requirement in paused.requirements]
    second = await collect(client.continue_agent_run_stream(AGENT, paused.run_id, tools, session_id=paused.session_id))
    return {
        "first": names_of(first),
        "requirements": shown,
        "is_paused": paused.is_paused,
        "second": names_of(second),
        "text": text_of(second),
        "content": second[-1].content,
        "results": [event.tool.result for event in second if event.event == "ToolCallCompleted"],
        "errors": [event.error for event in second if event.event == "ToolCallError"],
    }


async def reject(client: Client, message: str, note: str | None) -> Json:
    """Pause and reject everything."""
    paused = await client.run_agent(AGENT, message)
    for requirement in paused.active_requirements:
        requirement.reject(note)
    return show_run(await _continue(client, paused))


async def confirm_one_reject_one(client: Client, message: str) -> Json:
    """Pause with two calls; confirm the first and reject the second, in one continue."""
    paused = await client.run_agent(AGENT, message)
    first, second = paused.active_requirements
    first.confirm()
    second.reject("not this one")
    return show_run(await _continue(client, paused))


async def one_after_the_other(client: Client, message: str) -> Json:
    """Pause with two calls; confirm the second, look, and then confirm what is still open."""
    paused = await client.run_agent(AGENT, message)
    paused.active_requirements[1].confirm()
    between = await _continue(client, paused, [paused.active_requirements[0].tool_execution, *_confirmed(paused)])
    shown = show_run(between)
    for requirement in between.active_requirements:
        requirement.confirm()
    return {"between": shown, "ended": show_run(await _continue(client, between))}


async def several_pauses(client: Client, message: str) -> Json:
    """Confirm as long as the run pauses again, each time with all the tools that the answer held."""
    run = await client.run_agent(AGENT, message)
    paused: list[Json] = []
    while run.is_paused:
        paused.append(show_run(run))
        for requirement in run.active_requirements:
            requirement.confirm()
        run = await client.continue_agent_run(AGENT, run.run_id, _all_tools(run), session_id=run.session_id)
    return {"paused": paused, "ended": show_run(run)}


async def fill_in(client: Client, message: str, values: Json) -> Json:
    """Pause for values and provide them through the requirement."""
    paused = await client.run_agent(AGENT, message)
    before = show_run(paused)
    (requirement,) = paused.active_requirements
    requirement.provide_user_input(values)
    return {"paused": before, "answered": requirement.is_resolved(), "ended": show_run(await _continue(client, paused))}


async def fill_in_the_schema(client: Client, message: str, values: Json) -> Json:
    """Pause for values and write them into the fields of the tool."""
    paused = await client.run_agent(AGENT, message)
    (tool,) = tools_of(paused)
    for field in tool.user_input_schema:
        if field.value is None:
            field.value = values[field.name]
    return show_run(await _continue(client, paused))


async def give_result(client: Client, message: str, result: str) -> Json:
    """Pause for an external execution and give its result."""
    paused = await client.run_agent(AGENT, message)
    before = show_run(paused)
    (requirement,) = paused.active_requirements
    requirement.set_external_execution_result(result)
    return {"paused": before, "ended": show_run(await _continue(client, paused))}


async def _continue(client: Client, paused: AgnoObject, tools: list[AgnoObject] | None = None) -> AgnoObject:
    sent = [requirement.tool_execution for requirement in paused.requirements] if tools is None else tools
    return await client.continue_agent_run(
        AGENT, paused.run_id, sent, session_id=paused.session_id, user_id=paused.user_id
    )


def _confirmed(run: AgnoObject) -> list[AgnoObject]:
    return [requirement.tool_execution for requirement in run.requirements if requirement.confirmation]


def _all_tools(run: AgnoObject) -> list[AgnoObject]:
    """Return the run's tools, the answered ones among them: a requirement has a copy of its own of each."""
    answered = {requirement.tool_execution.tool_call_id: requirement.tool_execution for requirement in run.requirements}
    return [answered.get(tool.tool_call_id, tool) for tool in run.tools]
