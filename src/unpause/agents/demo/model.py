"""A small deterministic model that needs no key and understands a few forms of requests for the demo agent's tools.

It keeps no state: the messages alone show how far a request is done, so a paused run can go on in another process.
"""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Final

from pydantic_ai import ModelResponse, TextContent, TextPart, ToolDenied
from pydantic_ai.messages import ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from pydantic_ai.messages import ModelMessage

_HELP: Final = """\
I am the demo model: I need no key and understand only these requests for the agent's tools:
- list the files
- read notes.txt
- write hello to greeting.txt, or: overwrite notes.txt with something new (you confirm)
- delete notes.txt (you confirm)
- send a report about the budget (you fill in the recipient and the subject)
- run ls -la (you run the command and bring the result)
- publish notes.txt (an administrator approves)
Requests can be joined: "list the files and delete old.log", "read notes.txt, then delete notes.txt".
To talk to a real model, start the server with --model, for example --model openai:NAME."""

# Each form and its tool; the names of the groups are those of the tool's arguments.
_FORMS: Final = tuple(
    (re.compile(form, re.IGNORECASE | re.DOTALL), tool)
    for form, tool in (
        (r"list(?: the)? files|ls", "list_files"),
        (r"read (?P<path>\S+)", "read_file"),
        (r"write (?P<content>.+) to (?P<path>\S+)", "write_file"),
        (r"overwrite (?P<path>\S+) with (?P<content>.+)", "write_file"),
        (r"delete (?P<path>\S+)", "delete_file"),
        (r"send a report about (?P<body>.+)", "send_report"),
        (r"run (?P<command>.+)", "run_shell"),
        (r"publish (?P<path>\S+)", "publish"),
    )
)
_JOINT: Final = re.compile(r",? (and|then) (?=(?:list|read|write|overwrite|delete|send|run|publish) )", re.IGNORECASE)
_POLITENESS: Final = re.compile(r"^please |(?<=\w)[.!?]$", re.IGNORECASE)
_PIECE_LENGTH: Final = 24


class DemoModel(FunctionModel):
    """The demo model, `unpause:demo`."""

    def __init__(self) -> None:
        async def respond(history: list[ModelMessage], _info: AgentInfo) -> ModelResponse:
            text, calls = _reply(history)
            return ModelResponse([*([TextPart(text)] if text else []), *calls])

        async def stream(history: list[ModelMessage], _info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
            text, calls = _reply(history)
            for start in range(0, len(text), _PIECE_LENGTH):
                yield text[start : start + _PIECE_LENGTH]
            for index, call in enumerate(calls):
                yield {index: DeltaToolCall(call.tool_name, json.dumps(call.args), tool_call_id=call.tool_call_id)}

        super().__init__(respond, stream_function=stream, model_name="demo")

    @property
    def system(self) -> str:
        """The provider's name."""
        return "unpause"


def _reply(history: Sequence[ModelMessage]) -> tuple[str, Sequence[ToolCallPart]]:
    """Return the text of the next response and its calls."""
    prompt, done, results = "", 0, list[ToolReturnPart]()
    calls: dict[str, ToolCallPart] = {}
    for message in history:
        if isinstance(message, ModelResponse):
            done += bool(message.tool_calls)
            calls |= {call.tool_call_id: call for call in message.tool_calls}
            if message.text:
                # It reported all results so far.
                results.clear()
        else:
            results += [part for part in message.parts if isinstance(part, ToolReturnPart)]
            if prompts := [_text(part) for part in message.parts if isinstance(part, UserPromptPart)]:
                prompt, done = "\n".join(prompts), 0
    report = "\n\n".join(_describe(calls.get(result.tool_call_id), result) for result in results)
    rest = _plan(prompt)[done:]
    if rest and (not done or all(result.outcome == "success" for result in results)):
        # Results that came together with the prompt belong to an earlier request.
        return "" if done else report, rest[0]
    if report and not done:
        report += '\n\nTell me what to do next, for example "list the files".'
    return report + ("\n\nI left out the rest." if rest else "") or _HELP, ()


def _plan(prompt: str) -> list[list[ToolCallPart]]:
    """Return the calls of each step; none at all where a part of the request is not understood."""
    steps: list[list[ToolCallPart]] = [[]]
    parts = ("and", *_JOINT.split(_POLITENESS.sub("", prompt.strip())))
    for joint, request in zip(parts[::2], parts[1::2], strict=True):
        found = next(((tool, match) for form, tool in _FORMS if (match := form.fullmatch(request))), None)
        if found is None:
            return []
        tool, match = found
        if joint.lower() == "then":
            steps.append([])
        steps[-1].append(ToolCallPart(tool, match.groupdict()))
    return steps


def _describe(call: ToolCallPart | None, result: ToolReturnPart) -> str:
    text = result.model_response_str(wrap_if_error=False).rstrip()
    arguments = call.args_as_dict() if call else {}
    action = f"{result.tool_name.replace('_', ' ')} {arguments.get('path') or arguments.get('command') or ''}".rstrip()
    match result.outcome:
        case "success":
            return text or "(nothing)"
        case "denied":
            note = "" if text in {"", ToolDenied().message} else f", with the note: “{text}”"
            return f"I did not {action}: it was declined{note}."
        case "interrupted":
            return f"I do not know whether I could {action}: the call was cut off. {text}"
        case _:
            return f"I could not {action}. {text}"


def _text(part: UserPromptPart) -> str:
    if isinstance(part.content, str):
        return part.content
    contents = (item.content if isinstance(item, TextContent) else item for item in part.content)
    return "\n".join(content for content in contents if isinstance(content, str))
