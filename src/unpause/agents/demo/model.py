"""A small deterministic model that needs no key and understands plain requests for the demo agent's tools.

It reads the user's last words as a plan: clauses that become tool calls, in steps separated by "then". The
place in the plan follows from the messages alone, so a paused run can go on in another process.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from pydantic_ai import ModelResponse, TextContent, TextPart, ToolDenied
from pydantic_ai.messages import ToolCallPart, ToolReturnPart, UserPromptPart
from pydantic_ai.models.function import AgentInfo, DeltaToolCall, DeltaToolCalls, FunctionModel

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence

    from pydantic_ai.messages import ModelMessage, ModelRequestPart

_HELP: Final = """\
I am the demo model: I need no key and understand only plain requests for this agent's tools, such as:
- list the files
- read notes.txt
- write hello to greeting.txt, or: overwrite notes.txt with something new (you confirm)
- delete notes.txt (you confirm)
- send a report about the budget (you fill in the recipient and the subject)
- run ls -la (you run the command and bring the result)
- publish notes.txt (an administrator approves)
Requests can be joined: "list the files and delete old.log", "read notes.txt, then delete it".
To talk to a real model, start the server with --model, for example --model openai:NAME."""

# All three in characters. What is longer than a request, quotations apart, is no plain one.
_LONGEST_REQUEST: Final = 4000
_LONGEST_QUOTED_RESULT: Final = 4000
_SHORTEST_PIECE: Final = 24

_VERBS: Final = (
    "list|ls|show|display|read|open|print|view|cat|delete|remove|erase|rm|write|save|put|create|make"
    "|overwrite|replace|send|mail|email|run|execute|publish"
)
_JOINT: Final = re.compile(
    r"(?:\s?[,;.!?]{0,3}\s(?P<link>(?:(?:and|but|then|also|afterwards|after that|finally|next)\b,?\s)+)"
    r"|\s?[,;.!?]{1,3}\s|\n)"
    rf"(?:(?:please|instead|rather|now|just)\b,?\s)*(?=(?:{_VERBS})(?:\s|$))",
    re.IGNORECASE,
)
_LATER: Final = re.compile(r"\b(?:then|afterwards|after that|finally|next)\b", re.IGNORECASE)
_LEAD: Final = re.compile(
    r"^(?:(?:please|now|ok|okay|yes|no|thanks|thank you|then|also|and|but|so|well|hi|hello|hey"
    r"|(?:can|could|would|will) you|just|instead|rather|first|go ahead and)\b[\s,.!:;]*)+",
    re.IGNORECASE,
)
_TRAIL: Final = re.compile(
    r"(?:[\s,]{1,2}(?:please|for me|instead|now|again|too|(?:from|in) (?:the|my) (?:workspace|folder)))+"
    r"[.!?]{0,3}$",
    re.IGNORECASE,
)
_NEGATION: Final = re.compile(r"\b(?:not|never|nothing|dont)\b|n['\u2019]t\b|\bno\s+\w", re.IGNORECASE)
_QUOTATION: Final = re.compile(r"\"[^\"]*\"|`[^`]*`|“[^“”]*”|(?<!\w)'[^']*'(?!\w)")
# Two characters of the private use area: they stand for a quotation while a request is taken apart.
_MARK: Final = re.compile("\ue000(\\d+)\ue001")
_PUNCTUATION: Final = " .,!?;:"
# A name may begin with dots, or be only dots: those are not the end of a sentence.
_SENTENCE_END: Final = re.compile(r"(?<=[^.,!?;:/\s])[.,!?;:]+$")
_ARTICLE: Final = re.compile(
    r"^(?:(?:the|my)\s+)?(?:contents?\s+of\s+)?(?:(?:the|my)\s+)?(?:files?\s+)?", re.IGNORECASE
)
_PRONOUNS: Final = frozenset({"it", "that", "them", "both", "the file", "that file", "this file"})
_NO_PATHS: Final = frozenset({*_PRONOUNS, "all", "everything", "something", "nothing", "file", "files"})

_FILE: Final = r"(?:(?:the|a|an|my)\s+)?(?:new\s+)?(?:file\s+)?(?:(?:called|named)\s+)?(?P<path>\S+)"
_LIST: Final = (
    r"(?:what|which)\s+files\b.*"
    r"|(?:list|ls|show|display)(?:\s+me)?(?:\s+all)?(?:\s+(?:the|my|your))?"
    r"(?:\s+(?:files?|workspace|folder|directory|everything))?"
    r"(?:\s+(?:in|of|from)\s+(?:the|this|my|your)\s+(?:workspace|folder|directory))?\W*"
)
_READ: Final = r"(?:(?:read|show|display|open|print|view|cat)(?:\s+me)?|what(?:['\u2019]s|\s+is)\s+in)\s+(?P<paths>.+)"
_OVERWRITE: Final = (
    rf"(?:create|make|overwrite|replace)\s+{_FILE}\s+(?:with|containing|saying|by)"
    r"(?:\s+the\s+(?:text|words?|contents?))?:?\s+(?P<content>.+)"
)
_REPORT: Final = (
    r"(?:send|mail|email)\s+(?:me\s+)?(?:(?:a|the|my|this)\s+)?(?:short\s+)?report(?:\s+to\s+\S+)?"
    r"(?:(?::|\s+(?:saying|that\s+says|with\s+the\s+text))\s*(?P<body>.+)"
    r"|\s+(?:about|on|of)\s+(?P<topic>.+?)(?:\s+to\s+\S+@\S+)?|\W*)"
)
_REQUESTS: Final = tuple(
    (tool, re.compile(pattern, re.IGNORECASE | re.DOTALL))
    for tool, pattern in (
        ("list_files", _LIST),
        ("read_file", _READ),
        ("delete_file", r"(?:delete|remove|erase|rm)\s+(?P<paths>.+)"),
        ("publish", r"publish\s+(?P<paths>.+)"),
        ("write_file", rf"(?:write|save|put)\s+(?P<content>.+)\s(?:to|into|in|as)\s+{_FILE}"),
        ("write_file", _OVERWRITE),
        ("send_report", _REPORT),
        ("run_shell", r"(?:run|execute)\s+(?:(?:the\s+)?(?:shell\s+)?command:?\s+)?(?P<command>.+)"),
    )
)


@dataclass(frozen=True)
class _Call:
    tool: str
    args: Mapping[str, object]


@dataclass(frozen=True)
class _Plan:
    """The calls of each step, and the clauses that were not understood, as the user wrote them."""

    steps: tuple[tuple[_Call, ...], ...]
    unclear: tuple[str, ...]


@dataclass(frozen=True)
class _Outcome:
    call: _Call
    result: ToolReturnPart


@dataclass(frozen=True)
class _Exchange:
    """What happened since the user's last words.

    `before` holds results that no answer has told yet and that arrived together with the words: the user
    wrote something instead of, or besides, deciding a paused call. `rounds` counts responses with calls.
    """

    words: str
    before: tuple[_Outcome, ...]
    outcomes: tuple[_Outcome, ...]
    rounds: int


@dataclass(frozen=True)
class _Reply:
    text: str
    calls: tuple[_Call, ...] = ()


class DemoModel(FunctionModel):
    """The demo model, `unpause:demo`. It keeps no state and waits for nothing.

    `new_call_id` gives the id of each tool call; the ids must be unique over all runs.
    """

    def __init__(self, new_call_id: Callable[[], str] = lambda: f"call_{uuid4().hex}") -> None:
        async def respond(history: list[ModelMessage], info: AgentInfo) -> ModelResponse:
            reply = _reply(history, info)
            text = [TextPart(reply.text)] if reply.text else []
            calls = [ToolCallPart(call.tool, json.dumps(call.args), new_call_id()) for call in reply.calls]
            return ModelResponse([*text, *calls])

        async def stream(history: list[ModelMessage], info: AgentInfo) -> AsyncIterator[str | DeltaToolCalls]:
            reply = _reply(history, info)
            for piece in _pieces(reply.text):
                yield piece
            for index, call in enumerate(reply.calls):
                yield {index: DeltaToolCall(call.tool, tool_call_id=new_call_id())}
                yield {index: DeltaToolCall(json_args=json.dumps(call.args))}

        super().__init__(respond, stream_function=stream, model_name="demo")

    @property
    def system(self) -> str:
        """The provider's name."""
        return "unpause"


def _pieces(text: str) -> Iterator[str]:
    piece = ""
    for word in re.findall(r"\S+\s*|\s+", text):
        piece += word
        if len(piece) >= _SHORTEST_PIECE:
            yield piece
            piece = ""
    if piece:
        yield piece


def _reply(messages: Sequence[ModelMessage], info: AgentInfo) -> _Reply:
    exchange = _last_exchange(messages)
    plan = _plan(exchange.words)
    # Results that came with the words are told at once, those of the present plan at its end.
    told = [_told(outcome) for outcome in (exchange.outcomes if exchange.rounds else exchange.before)]
    held_up = any(outcome.result.outcome != "success" for outcome in exchange.outcomes)
    rest = plan.steps[exchange.rounds :]
    tools = {tool.name for tool in info.function_tools}
    missing = sorted({call.tool for step in rest[:1] for call in step} - tools)
    if missing:
        return _Reply("\n\n".join([*told, f"This agent has no tool {', '.join(missing)}.", _HELP]))
    if rest and not held_up:
        going_on = exchange.before and not exchange.rounds
        return _Reply("\n\n".join([*told, "I go on with what you wrote."]) if going_on else "", rest[0])
    if exchange.rounds:
        skipped = [_intent(call) for step in rest for call in step]
        told += [f"I left out the rest: {', '.join(skipped)}."] if skipped else []
        told += [f"I did not understand: “{clause}”" for clause in plan.unclear]
        return _Reply("\n\n".join(told) or _HELP)
    return _Reply("\n\n".join([*told, _acknowledged(exchange)]) if exchange.before else _HELP)


def _acknowledged(exchange: _Exchange) -> str:
    """Answer words that came with the results of paused calls and ask for no tool."""
    words = exchange.words.strip()
    repeated = any(_text(outcome.result).strip() == words for outcome in exchange.before)
    said = "I have noted it" if repeated else f"You wrote: “{words}” I have noted it"
    return f'{said} and did nothing else. Tell me what to do next, for example "list the files".'


def _last_exchange(messages: Sequence[ModelMessage]) -> _Exchange:
    calls: dict[str, _Call] = {}
    exchange = _Exchange("", (), (), 0)
    for response, parts in _rounds(messages):
        asked = response.tool_calls if response else []
        calls |= {part.tool_call_id: _Call(part.tool_name, part.args_as_dict()) for part in asked}
        results = tuple(
            _Outcome(calls.get(part.tool_call_id, _Call(part.tool_name, {})), part)
            for part in parts
            if isinstance(part, ToolReturnPart)
        )
        said = [_words(part) for part in parts if isinstance(part, UserPromptPart)]
        if said:
            # A response without calls was an answer: it told what had happened until then.
            untold = exchange.outcomes if asked else ()
            exchange = _Exchange("\n".join(said), (*untold, *results), (), 0)
        else:
            outcomes = (*exchange.outcomes, *results)
            exchange = replace(exchange, outcomes=outcomes, rounds=exchange.rounds + bool(asked))
    return exchange


def _rounds(messages: Sequence[ModelMessage]) -> list[tuple[ModelResponse | None, list[ModelRequestPart]]]:
    """Group the messages into responses, each with all that came in after it and before the next one."""
    rounds: list[tuple[ModelResponse | None, list[ModelRequestPart]]] = [(None, [])]
    for message in messages:
        if isinstance(message, ModelResponse):
            rounds.append((message, []))
        else:
            rounds[-1][1].extend(message.parts)
    return rounds


def _words(part: UserPromptPart) -> str:
    if isinstance(part.content, str):
        return part.content
    texts = (item.content if isinstance(item, TextContent) else item for item in part.content)
    return "\n".join(text for text in texts if isinstance(text, str))


def _text(result: ToolReturnPart) -> str:
    return result.model_response_str(wrap_if_error=False)


def _told(outcome: _Outcome) -> str:
    """Say in plain words what came of a call, with what the tool or the person said."""
    text = _text(outcome.result).rstrip()
    text = text if len(text) <= _LONGEST_QUOTED_RESULT else f"{text[:_LONGEST_QUOTED_RESULT]}… (shortened)"
    match outcome.result.outcome:
        case "success":
            return _told_success(outcome.call, text)
        case "denied":
            note = "" if text in {"", ToolDenied().message} else f", with the note: “{text}”"
            return f"I did not {_intent(outcome.call)}: it was declined{note}."
        case "interrupted":
            return f"I do not know whether I could {_intent(outcome.call)}: the call was cut off. {text}"
        case _:
            return f"I could not {_intent(outcome.call)}. {text}"


def _told_success(call: _Call, text: str) -> str:
    match call.tool:
        case "list_files":
            return f"These files are in the workspace:\n{text}"
        case "read_file":
            return f"{call.args.get('path')} says:\n\n{text or '(nothing)'}"
        case "run_shell":
            return f"The command “{call.args.get('command')}” gave:\n\n{text or '(nothing)'}"
        case _:
            return text or f"Done: {_intent(call)}."


def _intent(call: _Call) -> str:
    path = call.args.get("path")
    match call.tool:
        case "list_files":
            return "list the files"
        case "read_file" | "write_file" | "delete_file":
            return f"{call.tool.removesuffix('_file')} {path}"
        case "publish":
            return f"publish {path}"
        case "send_report":
            return "send the report"
        case "run_shell":
            return f"run “{call.args.get('command')}”"
        case other:
            return f"call {other}"


def _plan(words: str) -> _Plan:
    """Take a request apart. A clause that says what not to do, and is no request itself, voids the plan."""
    words = re.sub("[\ue000\ue001]", "", words)
    quotations = _QUOTATION.findall(words)
    numbers = iter(range(len(quotations)))
    masked = _QUOTATION.sub(lambda _: f"\ue000{next(numbers)}\ue001", words)
    # The joints of a sentence allow for one space, so that no text makes them slow.
    text = re.sub(r"[^\S\n]+", " ", masked).strip()
    if len(text) > _LONGEST_REQUEST:
        return _Plan((), (f"{text[:_SHORTEST_PIECE]}…",))
    steps: list[list[_Call]] = []
    unclear: list[str] = []
    paths: list[str] = []
    for clause, later in _clauses(text):
        calls = _calls(clause, paths, quotations)
        if calls is None:
            unclear.append(clause)
            continue
        if later or not steps:
            steps.append([])
        steps[-1] += calls
        paths = [str(call.args["path"]) for call in calls if "path" in call.args] or paths
    if any(_NEGATION.search(clause) for clause in unclear):
        steps = []
    return _Plan(tuple(map(tuple, steps)), tuple(_restored(clause, quotations) for clause in unclear))


def _clauses(text: str) -> Iterator[tuple[str, bool]]:
    """Yield each clause, and whether it is to wait until those before it are done."""
    start, later = 0, False
    for joint in (*_JOINT.finditer(text), None):
        clause = text[start : joint.start() if joint else None].strip()
        if _LEAD.sub("", clause).strip(_PUNCTUATION):
            yield clause, later
        if joint:
            start, later = joint.end(), bool(_LATER.search(joint["link"] or ""))


def _calls(clause: str, before: Sequence[str], quotations: Sequence[str]) -> list[_Call] | None:
    """Return the calls that a clause asks for, None if it is not understood. `before`: what "it" means."""
    request = _LEAD.sub("", clause)
    for words in (request, _TRAIL.sub("", request)):
        for tool, pattern in _REQUESTS:
            found = pattern.fullmatch(words)
            calls = _calls_of(tool, found.groupdict(), before, quotations) if found else None
            if calls is not None:
                return calls
    return None


def _calls_of(
    tool: str, parts: Mapping[str, str | None], before: Sequence[str], quotations: Sequence[str]
) -> list[_Call] | None:
    said = {name: _plain(part, quotations) for name, part in parts.items() if part}
    paths = _paths(parts.get("paths") or parts.get("path") or "", before, quotations)
    match tool:
        case "list_files":
            return [_Call(tool, {})]
        case "send_report":
            topic = said.get("topic", "the workspace").rstrip(_PUNCTUATION)
            return [_Call(tool, {"body": said.get("body", f"Report about {topic}.")})]
        case "run_shell":
            return [_Call(tool, {"command": re.sub(r"(?<=\w)\.$", "", said["command"])})]
        case "write_file":
            content = said["content"]
            return [_Call(tool, {"path": path, "content": content}) for path in paths] or None
        case _:
            return [_Call(tool, {"path": path}) for path in paths] or None


def _paths(text: str, before: Sequence[str], quotations: Sequence[str]) -> list[str]:
    """Return the paths that the words name, each once; none if they name anything else."""
    if text.strip(_PUNCTUATION).lower() in _PRONOUNS:
        return list(before)
    paths: list[str] = []
    for piece in re.split(r"\s*,\s*(?:and\s+)?|\s+(?:and|&)\s+", text):
        name = _SENTENCE_END.sub("", _ARTICLE.sub("", piece.strip()))
        if not name or len(name.split()) > 1 or name.lower() in _NO_PATHS:
            return []
        paths.append(_plain(name, quotations))
    return list(dict.fromkeys(paths))


def _plain(text: str, quotations: Sequence[str]) -> str:
    """Put the quotations back; one that is the whole text loses its marks."""
    whole = _MARK.fullmatch(text.strip(_PUNCTUATION))
    return quotations[int(whole[1])][1:-1] if whole else _restored(text.strip(), quotations)


def _restored(text: str, quotations: Sequence[str]) -> str:
    return _MARK.sub(lambda mark: quotations[int(mark[1])], text)
