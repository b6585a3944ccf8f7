"""Finds what is wrong with the tools of an agent, or is without effect, before any run."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from difflib import get_close_matches
from dis import get_instructions
from itertools import pairwise
from types import CodeType, NoneType
from typing import TYPE_CHECKING, Any, Final, get_args, get_origin, get_type_hints

from pydantic_ai.tools import RunContext

from unpause.agents.pydantic_ai.schemas import parameters_of, parameters_schema, standalone
from unpause.agents.pydantic_ai.tools import (
    find_policy_errors,
    find_renamed_nothing,
    list_known_tools,
)
from unpause.domain.deciders import ApproverKind, read_approver
from unpause.domain.scopes import is_known

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic_ai import Agent

    from unpause.agents.policy import ToolPolicies, ToolPolicy
    from unpause.agents.pydantic_ai.schemas import Schema
    from unpause.agents.pydantic_ai.tools import KnownTool

# What a tool raises that decides for itself whether a call waits.
_DEFERRALS: Final = {"ApprovalRequired", "CallDeferred"}
_DRAWN_TYPES: Final = {"boolean", "integer", "number", "string"}
_PAIR: Final = 2


@dataclass(frozen=True, slots=True)
class ServerDeadlines:
    """Whether the server's settings end pauses and approvals that no tool's policy ends."""

    pauses: bool = False
    approvals: bool = False


@dataclass(frozen=True, slots=True)
class ToolProblem:
    """A problem with a tool; ``tool`` is None for one that is not there. It is an error, or else a warning."""

    code: str
    message: str
    tool: KnownTool | None
    is_error: bool = False


def find_tool_problems(
    agent: Agent[Any, Any], policies: ToolPolicies, deadlines: ServerDeadlines, *, has_deps: bool
) -> Iterator[ToolProblem]:
    """Yield the problems of all tools that are known without a run."""
    broken: set[int] = set()
    for tool, problem in find_policy_errors(agent, policies):
        broken.add(id(tool.definition.metadata))
        yield ToolProblem("policy", f"tool {tool.definition.name!r}: {problem}", tool, is_error=True)
    yield from _find_duplicate_names(agent)
    for old, names in find_renamed_nothing(agent):
        yield ToolProblem("unknown-tool", f"a toolset renames {old!r}, which is no tool of it{_near(old, names)}", None)
    for tool in list_known_tools(agent):
        if _is_generator(tool):
            text = f"tool {tool.definition.name!r}: it is a generator, and no call runs it: return the result"
            yield ToolProblem("generator", text, tool, is_error=True)
        for name in _list_untyped(tool):
            yield _warning("untyped", tool, f"{name!r} has no type: models may send anything, and no form can be drawn")
        if _sleeps_in_the_loop(tool):
            text = "it is async, so time.sleep stops all runs of its process: await asyncio.sleep"
            yield _warning("blocking", tool, text)
        if not has_deps and (kind := _context_type(tool)) is not None:
            text = f"it expects RunContext[{kind}], but the agent has no deps: its ctx.deps is None"
            yield _warning("deps", tool, text)
        if id(tool.definition.metadata) in broken and tool.definition.metadata is not None:
            continue
        rules = policies.get(tool.definition.name, tool.definition.metadata)
        yield from _find_no_effect(tool, rules, deadlines)
        yield from _find_fields_without_control(tool, rules)
        yield from _find_undecidable(tool, rules)


def waits(tool: KnownTool, rules: ToolPolicy) -> bool:
    """Whether each call of the tool waits for people."""
    return tool.definition.kind != "function" or rules.waits or bool(rules.user_input)


def may_wait(tool: KnownTool, rules: ToolPolicy) -> bool:
    """Whether a call of the tool may wait for people."""
    return waits(tool, rules) or tool.may_wait or _defers_itself(tool)


def _warning(code: str, tool: KnownTool, text: str) -> ToolProblem:
    return ToolProblem(code, f"tool {tool.definition.name!r}: {text}", tool)


def _find_duplicate_names(agent: Agent[Any, Any]) -> Iterator[ToolProblem]:
    seen: set[str] = set()
    for tool in list_known_tools(agent):
        name = tool.definition.name
        if name in seen:
            text = f"two tools are named {name!r}: every run of the agent would fail"
            yield ToolProblem("duplicate-tool", text, tool, is_error=True)
        seen.add(name)


def _find_no_effect(tool: KnownTool, rules: ToolPolicy, deadlines: ServerDeadlines) -> Iterator[ToolProblem]:
    """Yield rules that never apply."""
    if not may_wait(tool, rules):
        for name, value in (("expires_in", rules.expires_in), ("on_expire", rules.on_expire)):
            if value is not None:
                yield _warning("no-effect", tool, f"{name} has no effect: its calls wait for nobody")
        if rules.remember is not None:
            yield _warning("no-effect", tool, "remember has no effect: nobody decides its calls")
    elif rules.on_expire is not None and rules.expires_in is None:
        is_approval = rules.approval == "required"
        if not (deadlines.approvals if is_approval else deadlines.pauses):
            setting = "approval_expires_seconds" if is_approval else "pause_expires_seconds"
            yield _warning("no-effect", tool, f"on_expire has no effect without expires_in (or the setting {setting})")
    if tool.definition.kind == "external":
        for name, values in (("user_input", rules.user_input), ("editable", rules.editable)):
            if values:
                yield _warning("no-effect", tool, f"{name} has no effect: it is run elsewhere and takes a result")


def _find_fields_without_control(tool: KnownTool, rules: ToolPolicy) -> Iterator[ToolProblem]:
    """Yield fields of the tool's form for which people have to write JSON."""
    if tool.definition.kind == "external":
        return
    definitions = parameters_schema(tool.definition).get("$defs", {})
    for name, schema in parameters_of(tool.definition).items():
        if name in (*rules.user_input, *rules.editable) and not _has_control(standalone(schema, definitions)):
            text = f"no form can be drawn for {name!r}: people have to write JSON, so flat parameters are better"
            yield _warning("form", tool, text)


def _has_control(schema: Schema) -> bool:
    """Whether the console has a control for such a value, as its `form.js` decides that."""
    options = schema.get("anyOf") or schema.get("oneOf")
    if options:
        rest = [option for option in options if option.get("type") != "null"]
        return _has_control(rest[0]) if len(rest) == 1 else bool(rest) and all("const" in option for option in rest)
    kinds = schema.get("type")
    if isinstance(kinds, list):
        kinds = next((kind for kind in kinds if kind != "null"), None) if len(kinds) <= _PAIR else None
    is_choice = "enum" in schema or "const" in schema
    return is_choice or kinds in _DRAWN_TYPES or (kinds == "array" and "enum" in schema.get("items", {}))


def _find_undecidable(tool: KnownTool, rules: ToolPolicy) -> Iterator[ToolProblem]:
    """Yield rules for which there may be nobody who can decide."""
    approvers = [read_approver(name) for name in rules.approvers]
    for scope in (each.name for each in approvers if each.kind is ApproverKind.SCOPE and not is_known(each.name)):
        text = f"no token can have the scope {scope!r}, only a JWT: a scope is written RESOURCE:ACTION"
        yield _warning("approvers", tool, text)
    by_name = bool(approvers) and all(each.kind is ApproverKind.USER for each in approvers)
    if rules.four_eyes and by_name and len(approvers) <= rules.quorum:
        names = ", ".join(each.name for each in approvers)
        text = f"four_eyes leaves nobody to decide a run that {names} started: name more approvers"
        yield _warning("approvers", tool, text)


def _is_generator(tool: KnownTool) -> bool:
    function = None if tool.source is None else inspect.unwrap(tool.source.function)
    return inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function)


def _sleeps_in_the_loop(tool: KnownTool) -> bool:
    function = None if tool.source is None else inspect.unwrap(tool.source.function)
    if not inspect.isfunction(function) or not inspect.iscoroutinefunction(function):
        return False
    names = [step.argval for step in get_instructions(function)]
    return ("time", "sleep") in pairwise(names)


def _list_untyped(tool: KnownTool) -> list[str]:
    """Return the parameters of the tool's function that the model fills in, and that have no annotation."""
    if tool.source is None:
        return []
    parameters = list(inspect.signature(tool.source.function).parameters.values())
    own = parameters[1:] if tool.source.function_schema.takes_ctx else parameters
    shown = parameters_of(tool.definition)
    untyped = [each.name for each in own if each.annotation is each.empty and each.name in shown]
    return [name for name in untyped if not shown[name].keys() - {"title", "description", "default"}]


def _context_type(tool: KnownTool) -> str | None:
    """Return the name of the deps that the tool's function expects; None where it expects none."""
    if tool.source is None or not tool.source.function_schema.takes_ctx:
        return None
    try:
        first = next(iter(inspect.signature(tool.source.function).parameters))
        hint = get_type_hints(tool.source.function).get(first)
    except Exception:  # noqa: BLE001 - the boundary around an author's annotations: they may name anything
        return None
    arguments = get_args(hint) if get_origin(hint) is RunContext else ()
    if not arguments or any(arguments[0] is kind for kind in (None, NoneType, object, Any)):
        return None
    return getattr(arguments[0], "__name__", str(arguments[0]))


def _defers_itself(tool: KnownTool) -> bool:
    code = getattr(getattr(tool.source, "function", None), "__code__", None)
    return code is not None and any(_DEFERRALS.intersection(each.co_names) for each in _all_code(code))


def _all_code(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _all_code(constant)


def _near(name: str, names: list[str]) -> str:
    near = get_close_matches(name, names, 1)
    return f"; did you mean {near[0]}?" if near else f"; it has {', '.join(names) or 'none'}"
