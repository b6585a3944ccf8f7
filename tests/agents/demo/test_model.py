"""What the demo model understands, what it says about the results, and how it streams."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic_ai import (
    Agent,
    AgentRunResultEvent,
    DeferredToolRequests,
    DeferredToolResults,
    ModelMessage,
    ModelMessagesTypeAdapter,
    ModelRequest,
    ModelResponse,
    PartDeltaEvent,
    PartStartEvent,
    TextPart,
    TextPartDelta,
    Tool,
    ToolApproved,
    ToolCallPart,
    ToolDenied,
    ToolReturnPart,
    UserPromptPart,
)

from unpause.agents.demo.agent import build_demo_agent
from unpause.agents.demo.model import DemoModel
from unpause.agents.demo.workspace import prepare_workspace

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from pydantic_ai import AgentRunResult, UserContent
    from pydantic_ai.output import OutputSpec

Outcome = str | DeferredToolRequests

KINDS: OutputSpec[Outcome] = [str, DeferredToolRequests]

TOOLS = ("list_files", "read_file", "write_file", "delete_file", "send_report", "run_shell", "publish")


@pytest.fixture
def workspace(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    prepare_workspace(folder)
    (folder / "notes.txt").write_text("buy bread\n")
    return folder


async def ask(
    workspace: Path,
    prompt: str | Sequence[UserContent] | None,
    history: AgentRunResult[Any] | None = None,
    **answers: object,
) -> AgentRunResult[Outcome]:
    """Run the demo agent as the server does; `answers` are by tool name, for every paused call of that tool."""
    results: DeferredToolResults | None = None
    if history is not None and isinstance(history.output, DeferredToolRequests):
        provided: dict[str, Any] = answers
        results = DeferredToolResults(
            approvals={call.tool_call_id: provided[call.tool_name] for call in history.output.approvals},
            calls={call.tool_call_id: provided[call.tool_name] for call in history.output.calls},
        )
    # Through JSON, as a run that is continued by another process.
    messages = ModelMessagesTypeAdapter.validate_json(history.all_messages_json()) if history else None
    return await build_demo_agent(workspace, DemoModel()).run(
        prompt,
        output_type=KINDS,
        message_history=messages,
        deferred_tool_results=results,
    )


async def calls(prompt: str | Sequence[UserContent]) -> list[tuple[str, dict[str, Any]]]:
    """Return the tool calls of the model's first response to a prompt, run with tools that do nothing."""
    return [(part.tool_name, part.args_as_dict()) for part in (await first_response(prompt)).tool_calls]


async def first_response(prompt: str | Sequence[UserContent]) -> ModelResponse:
    agent = Agent(DemoModel(), tools=[Tool(unused, name=name, requires_approval=True) for name in TOOLS])
    messages = (await agent.run(prompt, output_type=KINDS)).all_messages()
    return next(message for message in messages if isinstance(message, ModelResponse))


def unused(path: str = "", content: str = "", body: str = "", command: str = "") -> str:  # noqa: ARG001
    """Stand for any of the demo agent's tools: it accepts what the model may send."""
    raise AssertionError


@pytest.mark.parametrize(
    ("prompt", "expected"),
    [
        ("list the files", [("list_files", {})]),
        ("Please list files.", [("list_files", {})]),
        ("read sub/notes.txt", [("read_file", {"path": "sub/notes.txt"})]),
        ("delete old.log", [("delete_file", {"path": "old.log"})]),
        ("write go to bed to notes.txt", [("write_file", {"path": "notes.txt", "content": "go to bed"})]),
        ("overwrite notes.txt with a\n\nb  c", [("write_file", {"path": "notes.txt", "content": "a\n\nb  c"})]),
        ("send a report about cats and dogs", [("send_report", {"body": "cats and dogs"})]),
        ("run cat *.txt | wc -l", [("run_shell", {"command": "cat *.txt | wc -l"})]),
        ("publish notes.txt", [("publish", {"path": "notes.txt"})]),
        ("list the files and delete old.log", [("list_files", {}), ("delete_file", {"path": "old.log"})]),
        ("read a.txt, then delete a.txt", [("read_file", {"path": "a.txt"})]),
    ],
)
async def test_each_form_of_request_is_a_call(prompt: str, expected: list[tuple[str, dict[str, Any]]]) -> None:
    assert await calls(prompt) == expected


@pytest.mark.parametrize(
    "prompt",
    [
        "do not delete notes.txt",
        "list the files and delete all that is old",
        "delete notes.txt, or rather not",
        "no, keep it",
        "",
        "write to " * 50_000,
        "delete notes.txt and " * 20_000,
        " " * 200_000 + "x",
    ],
)
async def test_a_prompt_that_is_no_request_throughout_calls_nothing_and_gets_the_help(prompt: str) -> None:
    response = await first_response(prompt)
    assert response.tool_calls == []
    assert str(response.text).startswith("I am the demo model: I need no key")


async def test_every_example_of_the_help_is_understood() -> None:
    lines = str((await first_response("help")).text).splitlines()
    examples = [part for line in lines if line.startswith("- ") for part in line[2:].split(" (")[0].split(", or: ")]
    assert len(examples) == 8
    assert all([await calls(example) for example in examples])


@pytest.mark.parametrize(
    ("prompt", "answer", "words"),
    [
        ("read notes.txt", None, "buy bread"),
        ("read none.txt", None, "I could not read file none.txt. Refused: there is no file none.txt in the workspace."),
        ("delete notes.txt", ToolApproved(), "Deleted notes.txt."),
        ("delete notes.txt", ToolDenied(), "I did not delete file notes.txt: it was declined."),
        (
            "delete notes.txt",
            ToolDenied("we need it"),
            "I did not delete file notes.txt: it was declined, with the note: “we need it”.",
        ),
        ("run ls -la", "total 0", "total 0"),
        ("run true", "", "(nothing)"),
        ("run ls", {"exit_code": 1}, '{"exit_code":1}'),
        ("publish notes.txt", ToolApproved(), "Published notes.txt as published/notes.txt."),
        ("read notes.txt, then delete notes.txt", ToolApproved(), "buy bread\n\nDeleted notes.txt."),
        ("delete notes.txt and read old.log", ToolDenied(), "I did not delete file notes.txt: it was declined."),
    ],
)
async def test_the_results_are_told(workspace: Path, prompt: str, answer: object, words: str) -> None:
    result = await ask(workspace, prompt)
    if answer is not None:
        assert isinstance(result.output, DeferredToolRequests)
        tool = (*result.output.approvals, *result.output.calls)[0].tool_name
        result = await ask(workspace, None, result, **{tool: answer})
    assert words in str(result.output)


async def test_after_a_denial_the_later_steps_are_left_out(workspace: Path) -> None:
    paused = await ask(workspace, "delete notes.txt, then delete old.log")
    done = await ask(workspace, None, paused, delete_file=ToolDenied())
    assert str(done.output).endswith("it was declined.\n\nI left out the rest.")


async def test_two_pauses_in_a_row_have_different_call_ids(workspace: Path) -> None:
    first = await ask(workspace, "delete notes.txt, then delete old.log")
    second = await ask(workspace, None, first, delete_file=ToolApproved())
    assert isinstance(first.output, DeferredToolRequests)
    assert isinstance(second.output, DeferredToolRequests)
    assert first.output.approvals[0].tool_call_id != second.output.approvals[0].tool_call_id
    done = await ask(workspace, None, second, delete_file=ToolApproved())
    assert done.output == "Deleted notes.txt.\n\nDeleted old.log."


async def test_a_prompt_beside_a_decision_is_followed_once_the_decision_is_told(workspace: Path) -> None:
    paused = await ask(workspace, "delete notes.txt")
    noted = await ask(workspace, "no, keep it", paused, delete_file=ToolDenied("no, keep it"))
    assert "the note: “no, keep it”.\n\nTell me what to do next" in str(noted.output)
    paused = await ask(workspace, "delete notes.txt", noted)
    done = await ask(workspace, "read notes.txt", paused, delete_file=ToolDenied("later"))
    texts = [part.content for m in done.all_messages() for part in m.parts if isinstance(part, TextPart)]
    assert texts[-2:] == ["I did not delete file notes.txt: it was declined, with the note: “later”.", "buy bread"]


async def test_a_prompt_of_several_parts_is_read_whole() -> None:
    assert await calls(["write hello", "again to x.txt"]) == [
        ("write_file", {"path": "x.txt", "content": "hello\nagain"}),
    ]


async def test_a_call_that_was_cut_off_is_not_said_to_be_done() -> None:
    history: list[ModelMessage] = [
        ModelRequest([UserPromptPart("delete a.txt")]),
        ModelResponse([ToolCallPart("delete_file", {"path": "a.txt"}, "c1")]),
        ModelRequest([ToolReturnPart("delete_file", "No result.", "c1", outcome="interrupted")]),
    ]
    answer = (await Agent(DemoModel()).run(message_history=history)).output
    assert answer == "I do not know whether I could delete file a.txt: the call was cut off. No result."


async def test_a_stream_gives_text_in_pieces_and_the_calls_of_a_plain_run(workspace: Path) -> None:
    paused = await ask(workspace, "delete notes.txt")
    assert isinstance(paused.output, DeferredToolRequests)
    denied = DeferredToolResults(approvals={paused.output.approvals[0].tool_call_id: ToolDenied("later")})
    pieces: list[str] = []
    result: AgentRunResult[Any] | None = None
    async with build_demo_agent(workspace, None).run_stream_events(
        "list the files and delete old.log",
        output_type=KINDS,
        message_history=paused.all_messages(),
        deferred_tool_results=denied,
    ) as events:
        async for event in events:
            if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                pieces.append(event.part.content)
            elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                pieces.append(event.delta.content_delta)
            elif isinstance(event, AgentRunResultEvent):
                result = event.result
    assert "".join(pieces) == "I did not delete file notes.txt: it was declined, with the note: “later”."
    assert len(pieces) > 2
    assert result is not None
    sent = [part for m in result.new_messages() for part in m.parts if isinstance(part, ToolCallPart)]
    assert [(part.tool_name, part.args_as_dict()) for part in sent] == [
        ("list_files", {}),
        ("delete_file", {"path": "old.log"}),
    ]
    assert len({part.tool_call_id for part in sent}) == 2


def test_its_name_and_provider_are_those_of_a_demo() -> None:
    assert (DemoModel().model_name, DemoModel().system) == ("demo", "unpause")
