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

from unpause.agents.demo.agent import build_demo_agent, prepare_workspace
from unpause.agents.demo.model import DemoModel

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
        given: dict[str, Any] = answers
        results = DeferredToolResults(
            approvals={call.tool_call_id: given[call.tool_name] for call in history.output.approvals},
            calls={call.tool_call_id: given[call.tool_name] for call in history.output.calls},
        )
    # Through JSON, as a run that is continued by another process.
    messages = ModelMessagesTypeAdapter.validate_json(history.all_messages_json()) if history else None
    return await build_demo_agent(workspace, DemoModel()).run(
        prompt,
        output_type=KINDS,
        message_history=messages,
        deferred_tool_results=results,
    )


async def calls(prompt: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the tool calls of the model's first response to a prompt, run with tools that do nothing."""
    return [(part.tool_name, part.args_as_dict()) for part in (await first_response(prompt)).tool_calls]


async def first_response(prompt: str) -> ModelResponse:
    agent = Agent(DemoModel(), tools=[Tool(unused, name=name, requires_approval=True) for name in TOOLS])
    messages = (await agent.run(prompt, output_type=KINDS)).all_messages()
    return next(message for message in messages if isinstance(message, ModelResponse))


def unused(path: str = "", content: str = "", body: str = "", command: str = "") -> str:  # noqa: ARG001
    """Stand for any of the demo agent's tools: it accepts what the model may send."""
    raise AssertionError


def returned(result: AgentRunResult[Outcome]) -> list[ToolReturnPart]:
    return [part for m in result.all_messages() for part in m.parts if isinstance(part, ToolReturnPart)]


class TestUnderstanding:
    @pytest.mark.parametrize(
        "prompt",
        ["list the files", "List files, please.", "ls", "what files are there?", "show me the files in the workspace"],
    )
    async def test_it_lists(self, prompt: str) -> None:
        assert await calls(prompt) == [("list_files", {})]

    @pytest.mark.parametrize(
        ("prompt", "paths"),
        [
            ("read notes.txt", ["notes.txt"]),
            ("Could you please read the file notes.txt for me?", ["notes.txt"]),
            ("show me the contents of sub/notes.txt.", ["sub/notes.txt"]),
            ("what's in `my notes.txt`?", ["my notes.txt"]),
            ("read a.txt, b.txt and c.txt", ["a.txt", "b.txt", "c.txt"]),
            ("read a.txt and a.txt", ["a.txt"]),
            ("read ../secret.txt", ["../secret.txt"]),
            ("read ..", [".."]),
        ],
    )
    async def test_it_reads(self, prompt: str, paths: list[str]) -> None:
        assert await calls(prompt) == [("read_file", {"path": path}) for path in paths]

    @pytest.mark.parametrize(
        ("prompt", "paths"),
        [
            ("delete notes.txt", ["notes.txt"]),
            ("delete a.txt and b.txt", ["a.txt", "b.txt"]),
            ("Please remove the files a.txt and b.txt from the workspace!", ["a.txt", "b.txt"]),
        ],
    )
    async def test_it_deletes(self, prompt: str, paths: list[str]) -> None:
        assert await calls(prompt) == [("delete_file", {"path": path}) for path in paths]

    @pytest.mark.parametrize(
        ("prompt", "path", "content"),
        [
            ("write hello to greeting.txt", "greeting.txt", "hello"),
            ("write go to bed to notes.txt please", "notes.txt", "go to bed"),
            ('write "a\n\nb  c" to the file x.txt.', "x.txt", "a\n\nb  c"),
            ("overwrite notes.txt with see you again.", "notes.txt", "see you again."),
            (
                "create a new file called x.txt with 'read a.txt and delete b.txt'",
                "x.txt",
                "read a.txt and delete b.txt",
            ),
            ("write '' to x.txt", "x.txt", ""),
        ],
    )
    async def test_it_writes(self, prompt: str, path: str, content: str) -> None:
        assert await calls(prompt) == [("write_file", {"path": path, "content": content})]

    async def test_a_quotation_may_be_long(self) -> None:
        text = "word " * 10_000

        assert await calls(f'write "{text}" to x.txt') == [("write_file", {"path": "x.txt", "content": text})]

    @pytest.mark.parametrize(
        ("prompt", "body"),
        [
            ("send a report about cats and dogs", "Report about cats and dogs."),
            ("email the report to ann@example.org about the budget.", "Report about the budget."),
            ('send a report saying "All fine."', "All fine."),
            ("send a report", "Report about the workspace."),
        ],
    )
    async def test_it_sends_a_report_and_leaves_recipient_and_subject_to_the_user(self, prompt: str, body: str) -> None:
        assert await calls(prompt) == [("send_report", {"body": body})]

    @pytest.mark.parametrize(
        ("prompt", "command"),
        [
            ("run ls -la", "ls -la"),
            ("run the command `ls`.", "ls"),
            ("execute the shell command: cat *.txt | wc -l", "cat *.txt | wc -l"),
            ("run `cd /tmp; rm -rf x`", "cd /tmp; rm -rf x"),
        ],
    )
    async def test_it_runs_a_command(self, prompt: str, command: str) -> None:
        assert await calls(prompt) == [("run_shell", {"command": command})]

    async def test_it_publishes(self) -> None:
        assert await calls("publish notes.txt") == [("publish", {"path": "notes.txt"})]

    async def test_requests_joined_by_and_are_calls_of_one_turn(self) -> None:
        assert await calls("list the files and delete old.log") == [
            ("list_files", {}),
            ("delete_file", {"path": "old.log"}),
        ]

    @pytest.mark.parametrize(
        "prompt",
        [
            "do not delete notes.txt",
            "don't delete a.txt and list the files",
            "delete everything",
            "delete it",
            "read me a story",
            "yes",
            "",
            "delete notes.txt " * 1000,
        ],
    )
    async def test_what_it_does_not_understand_calls_nothing(self, prompt: str) -> None:
        assert await calls(prompt) == []

    @pytest.mark.parametrize(
        "noise", ["\n", " ", ",", "“", "'", '"', "please ", "delete ", "write to ", "then ", "a, ", "\u2028", "., "]
    )
    async def test_a_huge_meaningless_prompt_is_answered_with_the_help(self, noise: str) -> None:
        for length in (3990, 200_000):
            prompt = f"x {noise * (length // len(noise))} x"
            assert (await first_response(prompt)).text

    async def test_characters_used_to_mark_quotations_do_no_harm(self) -> None:
        assert await calls("read \ue0007\ue001") == [("read_file", {"path": "7"})]


class TestHelp:
    async def test_anything_else_gets_the_help(self, workspace: Path) -> None:
        answer = (await ask(workspace, "What is the capital of France?")).output

        assert isinstance(answer, str)
        assert "demo model" in answer
        assert "no key" in answer
        assert "--model" in answer
        for verb in ("list", "read", "write", "delete", "send", "run", "publish"):
            assert f"\n- {verb} " in answer

    async def test_every_example_of_the_help_is_understood(self, workspace: Path) -> None:
        answer = str((await ask(workspace, "help")).output)
        examples = [line[2:].split(" (")[0] for line in answer.splitlines() if line.startswith("- ")]
        examples = [part for example in examples for part in example.split(", or: ")]

        assert len(examples) == 8
        assert all([await calls(example) for example in examples])

    async def test_an_agent_without_the_tool_is_told_so(self) -> None:
        result = await Agent(DemoModel()).run("delete notes.txt")

        assert "This agent has no tool delete_file." in result.output


class TestAnswers:
    async def test_listing_quotes_the_list(self, workspace: Path) -> None:
        answer = str((await ask(workspace, "list the files")).output)

        assert "notes.txt (10 bytes)" in answer

    async def test_reading_quotes_the_file(self, workspace: Path) -> None:
        assert (await ask(workspace, "read notes.txt")).output == "notes.txt says:\n\nbuy bread"

    async def test_a_long_file_is_quoted_in_part(self, workspace: Path) -> None:
        (workspace / "long.txt").write_text("word " * 5000)

        answer = str((await ask(workspace, "read long.txt")).output)

        assert len(answer) < 5000
        assert answer.endswith("(shortened)")

    async def test_an_empty_file_is_said_to_be_empty(self, workspace: Path) -> None:
        (workspace / "empty.txt").touch()

        assert str((await ask(workspace, "read empty.txt")).output).endswith("(nothing)")

    async def test_a_failure_is_told(self, workspace: Path) -> None:
        answer = str((await ask(workspace, "read none.txt")).output)

        assert answer.startswith("I could not read none.txt.")
        assert "there is no file none.txt" in answer

    async def test_a_confirmed_delete_is_done_and_told(self, workspace: Path) -> None:
        paused = await ask(workspace, "delete notes.txt")
        assert (workspace / "notes.txt").exists()

        done = await ask(workspace, None, paused, delete_file=ToolApproved())

        assert done.output == "Deleted notes.txt."
        assert not (workspace / "notes.txt").exists()

    async def test_a_denied_delete_is_told_with_the_note(self, workspace: Path) -> None:
        paused = await ask(workspace, "delete notes.txt")

        done = await ask(workspace, None, paused, delete_file=ToolDenied("we still need it"))

        assert done.output == "I did not delete notes.txt: it was declined, with the note: “we still need it”."
        assert (workspace / "notes.txt").exists()

    async def test_a_denial_without_a_note_is_told_without_one(self, workspace: Path) -> None:
        paused = await ask(workspace, "delete notes.txt")

        done = await ask(workspace, None, paused, delete_file=ToolDenied())

        assert done.output == "I did not delete notes.txt: it was declined."

    async def test_a_confirmed_escape_fails_and_is_told(self, workspace: Path, tmp_path: Path) -> None:
        (tmp_path / "secret.txt").write_text("secret")
        paused = await ask(workspace, "delete ../secret.txt")

        done = await ask(workspace, None, paused, delete_file=ToolApproved())

        assert str(done.output).startswith("I could not delete ../secret.txt.")
        assert (tmp_path / "secret.txt").exists()

    async def test_a_free_and_a_paused_call_of_one_turn_are_told_together(self, workspace: Path) -> None:
        paused = await ask(workspace, "list the files and delete old.log")
        assert [part.tool_name for part in returned(paused)] == ["list_files"]

        done = await ask(workspace, None, paused, delete_file=ToolApproved())

        assert "budget.csv" in str(done.output)
        assert "Deleted old.log." in str(done.output)

    async def test_the_clients_result_of_a_command_is_quoted(self, workspace: Path) -> None:
        paused = await ask(workspace, "run ls -la")
        assert isinstance(paused.output, DeferredToolRequests)
        assert [part.args_as_dict() for part in paused.output.calls] == [{"command": "ls -la"}]

        done = await ask(workspace, None, paused, run_shell="total 0")

        assert done.output == "The command “ls -la” gave:\n\ntotal 0"

    async def test_a_structured_result_is_quoted_as_json(self, workspace: Path) -> None:
        paused = await ask(workspace, "run ls")

        done = await ask(workspace, None, paused, run_shell={"exit_code": 1})

        assert '{"exit_code":1}' in str(done.output)

    async def test_an_approved_publication_is_told(self, workspace: Path) -> None:
        paused = await ask(workspace, "publish notes.txt")

        done = await ask(workspace, None, paused, publish=ToolApproved())

        assert done.output == "Published notes.txt as published/notes.txt."

    async def test_what_was_not_understood_beside_a_request_is_named(self, workspace: Path) -> None:
        answer = str((await ask(workspace, "read notes.txt and delete 'that' everything")).output)

        assert "buy bread" in answer
        assert "I did not understand: “delete 'that' everything”" in answer

    async def test_a_second_prompt_of_a_conversation_is_answered_alone(self, workspace: Path) -> None:
        first = await ask(workspace, "list the files")

        second = await ask(workspace, "read notes.txt", first)

        assert second.output == "notes.txt says:\n\nbuy bread"

    async def test_a_prompt_of_several_parts_is_read_whole(self, workspace: Path) -> None:
        answer = (await ask(workspace, ["read", " notes.txt"])).output

        assert answer == "notes.txt says:\n\nbuy bread"


class TestSteps:
    async def test_then_waits_for_what_comes_before(self, workspace: Path) -> None:
        paused = await ask(workspace, "read notes.txt, then delete it")
        assert isinstance(paused.output, DeferredToolRequests)
        assert [part.content for part in returned(paused)] == ["buy bread\n"]
        assert [part.args_as_dict() for part in paused.output.approvals] == [{"path": "notes.txt"}]

        done = await ask(workspace, None, paused, delete_file=ToolApproved())

        assert done.output == "notes.txt says:\n\nbuy bread\n\nDeleted notes.txt."

    async def test_after_a_denial_the_later_steps_are_left_out(self, workspace: Path) -> None:
        paused = await ask(workspace, "delete notes.txt, then publish budget.csv")

        done = await ask(workspace, None, paused, delete_file=ToolDenied("no"))

        assert "I did not delete notes.txt" in str(done.output)
        assert "I left out the rest: publish budget.csv." in str(done.output)

    async def test_two_pauses_in_a_row_have_different_call_ids(self, workspace: Path) -> None:
        first = await ask(workspace, "delete notes.txt then delete old.log")
        second = await ask(workspace, None, first, delete_file=ToolApproved())
        assert isinstance(first.output, DeferredToolRequests)
        assert isinstance(second.output, DeferredToolRequests)

        assert first.output.approvals[0].tool_call_id != second.output.approvals[0].tool_call_id

        done = await ask(workspace, None, second, delete_file=ToolApproved())

        assert done.output == "Deleted notes.txt.\n\nDeleted old.log."


class TestWordsBesideADecision:
    """The user writes something while a call is paused: the call is declined and the words come with it."""

    async def test_the_words_are_acknowledged(self, workspace: Path) -> None:
        paused = await ask(workspace, "delete notes.txt")

        done = await ask(workspace, "Hm, I need it after all.", paused, delete_file=ToolDenied())

        assert "I did not delete notes.txt" in str(done.output)
        assert "You wrote: “Hm, I need it after all.”" in str(done.output)
        assert (workspace / "notes.txt").exists()

    async def test_words_that_are_also_the_note_are_not_repeated(self, workspace: Path) -> None:
        paused = await ask(workspace, "delete notes.txt")

        done = await ask(workspace, "keep it", paused, delete_file=ToolDenied("keep it"))

        assert str(done.output).count("keep it") == 1
        assert "I have noted it" in str(done.output)

    async def test_a_new_request_is_followed(self, workspace: Path) -> None:
        paused = await ask(workspace, "delete notes.txt")

        done = await ask(workspace, "No, read notes.txt instead", paused, delete_file=ToolDenied("later"))

        assert done.output == "notes.txt says:\n\nbuy bread"
        said = [part.content for m in done.all_messages() for part in m.parts if isinstance(part, TextPart)]
        assert "I did not delete notes.txt: it was declined, with the note: “later”." in said[0]

    async def test_a_refusal_in_words_does_not_ask_for_the_same_call_again(self, workspace: Path) -> None:
        paused = await ask(workspace, "delete notes.txt")

        done = await ask(workspace, "Do not delete notes.txt!", paused, delete_file=ToolDenied())

        assert isinstance(done.output, str)

    async def test_results_of_earlier_steps_are_told_too(self, workspace: Path) -> None:
        paused = await ask(workspace, "read notes.txt, then delete it")

        done = await ask(workspace, "thanks, that is enough", paused, delete_file=ToolDenied())

        assert "buy bread" in str(done.output)
        assert "I did not delete notes.txt" in str(done.output)

    async def test_words_stored_before_the_results_are_read_the_same_way(self) -> None:
        history: list[ModelMessage] = [
            ModelRequest([UserPromptPart("delete a.txt")]),
            ModelResponse([ToolCallPart("delete_file", {"path": "a.txt"}, "c1")]),
            ModelRequest([UserPromptPart("wait")]),
            ModelRequest([ToolReturnPart("delete_file", "not now", "c1", outcome="denied")]),
        ]

        answer = (await Agent(DemoModel()).run(message_history=history)).output

        assert "with the note: “not now”" in answer
        assert "You wrote: “wait”" in answer

    async def test_a_call_that_was_cut_off_is_not_said_to_be_done(self) -> None:
        history: list[ModelMessage] = [
            ModelRequest([UserPromptPart("delete a.txt")]),
            ModelResponse([ToolCallPart("delete_file", {"path": "a.txt"}, "c1")]),
            ModelRequest([ToolReturnPart("delete_file", "No result.", "c1", outcome="interrupted")]),
        ]

        answer = (await Agent(DemoModel()).run(message_history=history)).output

        assert answer == "I do not know whether I could delete a.txt: the call was cut off. No result."


class TestModel:
    def test_its_name_and_provider_are_those_of_a_demo(self) -> None:
        assert (DemoModel().model_name, DemoModel().system) == ("demo", "unpause")

    async def test_an_answer_is_streamed_in_several_pieces_that_make_up_the_whole(self, workspace: Path) -> None:
        pieces: list[str] = []
        output = ""
        async with build_demo_agent(workspace, None).run_stream_events("hello there") as events:
            async for event in events:
                if isinstance(event, PartStartEvent) and isinstance(event.part, TextPart):
                    pieces.append(event.part.content)
                elif isinstance(event, PartDeltaEvent) and isinstance(event.delta, TextPartDelta):
                    pieces.append(event.delta.content_delta)
                elif isinstance(event, AgentRunResultEvent):
                    output = event.result.output

        assert len(pieces) > 3
        assert all(pieces)
        assert "".join(pieces) == output

    async def test_streamed_calls_are_those_of_a_plain_run(self, workspace: Path) -> None:
        prompt = "list the files and delete old.log"
        result: AgentRunResult[Outcome] | None = None
        async with build_demo_agent(workspace, None).run_stream_events(prompt, output_type=KINDS) as events:
            async for event in events:
                if isinstance(event, AgentRunResultEvent):
                    result = event.result
        plain = await ask(workspace, prompt)

        assert result is not None
        streamed_calls, plain_calls = (
            [p for m in r.all_messages() for p in m.parts if isinstance(p, ToolCallPart)] for r in (result, plain)
        )
        assert [(p.tool_name, p.args) for p in streamed_calls] == [(p.tool_name, p.args) for p in plain_calls]
        assert len({part.tool_call_id for part in (*streamed_calls, *plain_calls)}) == 4

    async def test_words_and_calls_can_come_in_one_streamed_response(self, workspace: Path) -> None:
        paused = await ask(workspace, "delete notes.txt")
        assert isinstance(paused.output, DeferredToolRequests)
        denied = DeferredToolResults(approvals={paused.output.approvals[0].tool_call_id: ToolDenied("later")})
        output = ""
        async with build_demo_agent(workspace, None).run_stream_events(
            "read notes.txt", message_history=paused.all_messages(), deferred_tool_results=denied
        ) as events:
            async for event in events:
                if isinstance(event, AgentRunResultEvent):
                    output = event.result.output

        assert output == "notes.txt says:\n\nbuy bread"

    async def test_call_ids_come_from_the_given_source(self) -> None:
        ids = iter(["one", "two"])
        tools = [Tool(unused, name="delete_file", requires_approval=True)]
        agent = Agent(DemoModel(lambda: next(ids)), tools=tools)

        output = (await agent.run("delete a.txt and b.txt", output_type=KINDS)).output

        assert isinstance(output, DeferredToolRequests)
        assert [part.tool_call_id for part in output.approvals] == ["one", "two"]
