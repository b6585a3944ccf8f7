"""What is wrong with agents is found before any run, with the line where its author wrote it."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic_ai.models.test import TestModel

from unpause.agents.findings import Finding, Severity
from unpause.agents.pydantic_ai.agent_checks import check_agents, find_problems
from unpause.agents.pydantic_ai.loading import LoadingFailed, load_agents
from unpause.agents.pydantic_ai.tool_checks import ServerDeadlines

# Seven lines; what a test adds begins in line 8.
HEAD = """\
from enum import Enum; from typing import Literal
from pydantic import BaseModel
from pydantic_ai import Agent, ApprovalRequired, RunContext, ToolDefinition
from pydantic_ai.toolsets import ExternalToolset, FunctionToolset
from unpause import agent_deps, policy
class Letter(BaseModel): to: str; copies: list[str] = []
agent = Agent("test", name="ops")
"""

TOOL = "@agent.tool_plain(metadata=policy({rules}))\ndef send(to: str, how: int | None = None) -> str: return to\n"
RAW = '@agent.tool_plain(metadata={{"unpause": {rules}}})\ndef send(to: str) -> str: return to\n'
FORM = "@agent.tool_plain(metadata=policy({rules}))\ndef post(letter: Letter, to: str) -> str: return to\n"
OUTSIDE = (
    "schema = {{'type': 'object', 'properties': {{'to': {{'type': 'string'}}}}}}\n"
    "outer = Agent('test', name='outer', toolsets=[ExternalToolset([ToolDefinition(name='send', "
    "parameters_json_schema=schema, metadata=policy({rules}))])])\n"
)
DEFERRING = (
    "@agent.tool_plain(metadata=policy(expires_in=5))\n"
    "def send(to: str) -> str:\n    if to: raise ApprovalRequired\n    return to\n"
)

ERRORS = [
    ("agent.name = None\nother = Agent(name='x')", "model", 9, "agent 'x' has no model"),
    ("x = Agent('openai:a', name='x', defer_model_check=True)", "model", 8, "OPENAI_API_KEY, which is not set"),
    ("x = Agent('nobody:a', name='x', defer_model_check=True)", "model", 8, "Unknown model: nobody:a"),
    ("x = Agent('test', name='x', deps_type=Letter)", "deps", 8, "deps_type=Letter and no factory"),
    ("x = Agent('test', name='ops')", "duplicate-agent", 8, "two agents are named 'ops'.*agents.py:7"),
    (("@agent.tool_plain\ndef a() -> str: return ''\nt = FunctionToolset()\n"
     "@t.tool_plain\ndef b() -> str: return ''\nx = Agent('test', name='x', toolsets=[t, t])"),
     "duplicate-tool", 11, "two tools are named 'b'"),
    (RAW.format(rules="{'editable': ['too']}"), "policy", 8, "tool 'send': editable names no parameter.*mean to?"),
    (RAW.format(rules="{'edtable': ['to']}"), "policy", 8, "unknown policy key: edtable"),
    (OUTSIDE.format(rules="remember='tool'"), "policy", 9, "remember is for approvals"),
    ("@agent.tool_plain\nasync def a() -> str: yield ''", "generator", 8, "tool 'a': it is a generator"),
    ("@agent.tool_plain\ndef a() -> str: yield ''", "generator", 8, "return the result"),
    *((f"x = Agent('test', name={name!r})", "agent-name", 8, "part of URLs")
      for name in (" ", "..", "a/b", "a\n", "x" * 256)),
]  # fmt: skip

WARNINGS = [
    ("import time\n@agent.tool_plain\nasync def a() -> str: time.sleep(3); return ''", "blocking", 9, "stops all runs"),
    ("@agent.tool_plain\ndef a(to, how: int) -> str: return to", "untyped", 8, "tool 'a': 'to' has no type"),
    ("x = Agent('test')", "unnamed-agent", 8, "an agent without a name is not served"),
    (TOOL.format(rules="expires_in=5"), "no-effect", 8, "expires_in has no effect: its calls wait for nobody"),
    (TOOL.format(rules="on_expire='cancel'"), "no-effect", 8, "on_expire has no effect: its calls"),
    (TOOL.format(rules="remember='tool'"), "no-effect", 8, "remember has no effect"),
    (TOOL.format(rules="approval='required', on_expire='cancel'"), "no-effect", 8, "approval_expires_seconds"),
    (TOOL.format(rules="editable=['to'], on_expire='cancel'"), "no-effect", 8, "setting pause_expires_seconds"),
    (OUTSIDE.format(rules="editable=['to']"), "no-effect", 9, "editable has no effect: it is run elsewhere"),
    (FORM.format(rules="user_input=['letter']"), "form", 8, "no form can be drawn for 'letter'"),
    (FORM.format(rules="editable=['letter', 'to']"), "form", 8, "no form can be drawn for 'letter'"),
    (TOOL.format(rules="approvers=['scope:boss']"), "approvers", 8, "no token can have the scope 'boss'"),
    (TOOL.format(rules="approvers=['olga'], four_eyes=True"), "approvers", 8, "nobody to decide a run that olga"),
    ("@agent.tool\ndef a(ctx: RunContext[Letter]) -> str: return ''", "deps", 8, "expects RunContext.Letter."),
    ("t = FunctionToolset().renamed({'new': 'old'})\nx = Agent('test', name='x', toolsets=[t])",
     "unknown-tool", 9, "renames 'old', which is no tool"),
]  # fmt: skip

FINE = [
    TOOL.format(rules="editable=['to', 'how'], expires_in=5, on_expire='reject'"),
    TOOL.format(rules="approvers=['olga', 'bob'], four_eyes=True"),
    TOOL.format(rules="approvers=['finance:approve']"),
    FORM.format(rules="user_input=['to']"),
    OUTSIDE.format(rules="expires_in=5, on_expire='cancel'"),
    DEFERRING,
    "@agent.tool\ndef a(ctx: RunContext[None]) -> str: return ''",
    ("x = Agent('test', name='x', deps_type=Letter)\nagent_deps(x, lambda run: Letter(to=''))\n"
    "@x.tool\ndef a(ctx: RunContext[Letter]) -> str: return ''"),
    ("t = FunctionToolset()\n@t.tool_plain(metadata=policy(expires_in=5))\ndef a() -> str: return ''\n"
    "x = Agent('test', name='x', toolsets=[t.approval_required(lambda *_: True)])"),
    ("class Kind(Enum):\n    A = 'a'\n    B = 'b'\n"
    "@agent.tool_plain(metadata=policy(user_input=['kind', 'kinds']))\n"
    "def a(kinds: list[Literal['a', 'b']], kind: Kind | None = None) -> str: return ''"),
]  # fmt: skip


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Work in an empty folder, without keys, and forget what was imported from there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    before = set(sys.modules)
    yield tmp_path
    for name in set(sys.modules) - before:
        del sys.modules[name]


def problems(folder: Path, text: str, deadlines: ServerDeadlines | None = None) -> tuple[Finding, ...]:
    """Return what is found in a file of this text."""
    (folder / "agents.py").write_text(HEAD + text, encoding="utf-8")
    return find_problems(load_agents(["agents.py"]), deadlines=deadlines)


@pytest.mark.parametrize(
    ("text", "code", "line", "words", "severity"),
    [(*row, Severity.ERROR) for row in ERRORS] + [(*row, Severity.WARNING) for row in WARNINGS],
    ids=[row[3] for row in (*ERRORS, *WARNINGS)],
)
def test_a_problem_is_found_at_its_line(
    folder: Path, text: str, code: str, line: int, words: str, severity: Severity
) -> None:
    found = [each for each in problems(folder, text) if each.code != "unnamed-agent" or each.code == code]
    assert [(each.code, each.severity, str(each.place)) for each in found] == [(code, severity, f"agents.py:{line}")]
    assert re.search(words, found[0].message)


@pytest.mark.parametrize("text", FINE)
def test_what_is_right_is_not_reported(folder: Path, text: str) -> None:
    assert problems(folder, text) == ()


def test_a_deadline_of_the_server_gives_on_expire_its_effect(folder: Path) -> None:
    text = TOOL.format(rules="approval='required', on_expire='cancel'")
    assert problems(folder, text, ServerDeadlines(approvals=True)) == ()
    assert problems(folder, text, ServerDeadlines(pauses=True)) != ()


def test_a_model_of_the_settings_stands_in_for_those_of_the_agents(folder: Path) -> None:
    (folder / "agents.py").write_text("from pydantic_ai import Agent\nx = Agent(name='x')\n", encoding="utf-8")
    found = load_agents(["agents.py"])
    assert find_problems(found, TestModel()) == ()
    assert check_agents(found, TestModel()).agents[0].model == "test:test"


def test_a_tool_is_described_with_who_decides(folder: Path) -> None:
    rules = "approval='required', quorum=2, four_eyes=True, expires_in=60, on_expire='cancel'"
    (folder / "agents.py").write_text(HEAD + TOOL.format(rules=rules), encoding="utf-8")
    (agent,) = check_agents(load_agents(["agents.py"])).agents
    (tool,) = agent.tools
    assert (agent.id, str(agent.place), agent.output) == ("ops", "agents.py:7", "str")
    assert (tool.waits_for, tool.expires_in, tool.on_expire) == ("approval", 60, "cancel")
    assert tool.decided_by == "2 of: administrators (approvals:write), but not who started the run"


@pytest.mark.parametrize(
    ("text", "place", "words"),
    [
        ("def f(:\n", "agents.py:8", "SyntaxError"),
        ("policy(expires_in=-1)", "agents.py:8", "expires_in must be a positive number"),
        ("import neighbour", "neighbour.py:2", "ZeroDivisionError"),
        ("import sys\nsys.exit(3)", "agents.py:9", "SystemExit: 3"),
        ("x = Agent('openai:a')", "agents.py:8", "needs the environment variable OPENAI_API_KEY, which is not set"),
        ("agent.name = None", "agents.py:7", "has no pydantic_ai.Agent with a name"),
        ("@agent.tool_plain\ndef a(x: open) -> str: return ''", "agents.py:8", "Unable to generate pydantic-core"),
    ],
)
def test_a_module_that_does_not_load_fails_at_its_authors_line(folder: Path, text: str, place: str, words: str) -> None:
    (folder / "neighbour.py").write_text("\n1 / 0\n", encoding="utf-8")
    (folder / "agents.py").write_text(HEAD + text, encoding="utf-8")
    with pytest.raises(LoadingFailed, match=words) as raised:
        load_agents(["agents.py"])
    assert str(raised.value.place) == place
    assert all(frame.startswith(("agents.py:", "neighbour.py:")) for frame in raised.value.trace)


def test_the_frames_of_an_endless_recursion_are_a_screenful(folder: Path) -> None:
    (folder / "agents.py").write_text("def f(): return f()\nf()\n", encoding="utf-8")
    with pytest.raises(LoadingFailed, match="RecursionError") as raised:
        load_agents(["agents.py"])
    assert len(raised.value.trace) == 21
    assert raised.value.trace[10].endswith(" more")
