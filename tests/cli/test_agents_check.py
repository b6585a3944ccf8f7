"""`unpause agents check`: what it prints, its exit code, and that `serve` refuses the same."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from tests.cli.here import Here

GOOD = """\
import os
from pydantic_ai import Agent
from unpause import policy
print("printed while loading")
ops = Agent("test", name="ops")

@ops.tool_plain(requires_approval=True, metadata=policy(editable=["name"]))
def restart(name: str) -> str: return name
"""
WARNED = GOOD + "\n@ops.tool_plain(metadata=policy(expires_in=5))\ndef look() -> str: return ''\n"
WRONG = WARNED + "\nother = Agent('test', name='other', deps_type=dict)\nthird = Agent('test', name='ops')\n"


@pytest.fixture(autouse=True)
def _own_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path])


def check(here: Here, text: str, *options: str) -> tuple[int, str]:
    """Check a file of this text; return the exit code and what was printed."""
    (here.folder / "agents.py").write_text(text, encoding="utf-8")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("UNPAUSE_AGENT_PROCESSES")
        done = here.run("agents", "check", "agents.py", *options)
    assert "printed while loading" in done.stderr
    return done.returncode, done.stdout


def test_agents_are_listed_with_their_tools_and_who_decides(here: Here) -> None:
    assert check(here, GOOD) == (
        0,
        (
            "agent ops (agents.py:5)\n"
            "  model test:test, deps none, output str\n"
            "  restart  waits for approval; people may change name; decided by who may run the agent  (agents.py:7)\n"
            "\n"
            "1 agent, 1 tool, 0 errors, 0 warnings\n"
        ),
    )


def test_warnings_end_with_0_and_errors_with_1(here: Here) -> None:
    code, text = check(here, WARNED)
    assert (code, text.splitlines()[-1]) == (0, "1 agent, 2 tools, 0 errors, 1 warning")
    assert "agents.py:10: warning: agent 'ops', tool 'look': expires_in has no effect" in text
    code, text = check(here, WRONG)
    assert (code, text.splitlines()[-1]) == (1, "3 agents, 2 tools, 2 errors, 1 warning")
    assert "agents.py:13: error: agent 'other' has deps_type=dict and no factory" in text


def test_json_has_the_same(here: Here) -> None:
    code, text = check(here, WRONG, "--format", "json")
    found = json.loads(text)
    assert (code, found["errors"], found["warnings"]) == (1, 2, 1)
    assert [agent["id"] for agent in found["agents"]] == ["ops", "other", "ops"]
    assert {(each["severity"], each["code"], each["place"]["line"]) for each in found["findings"]} == {
        ("warning", "no-effect", 10),
        ("error", "deps", 13),
        ("error", "duplicate-agent", 14),
    }


def test_a_module_that_raises_is_a_finding_with_its_authors_lines_and_the_others_are_checked(here: Here) -> None:
    (here.folder / "broken.py").write_text("def fail():\n    return 1 / 0\nfail()\n", encoding="utf-8")
    code, text = check(here, GOOD, "broken.py", "nowhere.py")
    assert code == 1
    assert (
        "broken.py:2: error: broken.py failed to load: ZeroDivisionError: division by zero\n"
        "    broken.py:3 in <module>: fail()\n"
        "    broken.py:2 in fail: return 1 / 0\n"
        "error: there is no file nowhere.py\n"
        "1 agent, 1 tool, 2 errors, 0 warnings\n"
    ) in text


def test_agents_load_with_the_environment_of_an_agent_process(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_SETTING", "1")
    needs = GOOD + "os.environ['MY_SETTING']\n"
    code, text = check(here, needs)
    assert code == 1
    assert "agent processes get few environment variables: see --agent-env MY_SETTING" in text
    assert check(here, needs, "--agent-env", "MY_SETTING")[0] == 0


def test_a_model_on_a_local_server_needs_no_key(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    keyless = GOOD.replace('"test"', '"openai:gpt-5"')
    assert check(here, keyless.replace("name=", "defer_model_check=True, name="))[0] == 1
    local = ("--model-base-url", "http://127.0.0.1:11434/v1")
    assert check(here, keyless, *local)[0] == 0
    assert check(here, keyless, "--model", "llama3", *local)[0] == 0


def test_a_default_agent_that_is_not_there_is_found(here: Here) -> None:
    code, text = check(here, GOOD, "--default-agent", "opps")
    assert (code, "default_agent 'opps' is none of these agents: did you mean ops?" in text) == (1, True)


def test_without_a_file_the_setting_is_checked(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    assert here.run("agents", "check").returncode == 2
    monkeypatch.setenv("UNPAUSE_AGENTS", "agents.py")
    (here.folder / "agents.py").write_text(GOOD, encoding="utf-8")
    assert here.run("agents", "check").returncode == 0


def test_serve_refuses_the_same_with_all_errors(here: Here, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unpause.cli.server_process.configure_logging", lambda *_, **__: None)
    monkeypatch.setattr("unpause.cli.server_process.log_uncaught", lambda: None)
    (here.folder / "agents.py").write_text(WRONG, encoding="utf-8")
    done = here.run("serve", "--port", "0", "--agents", "agents.py")
    assert done.returncode == 2
    assert "unpause: agents.py:13: agent 'other' has deps_type=dict and no factory" in done.stderr
    assert "; agents.py:14: two agents are named 'ops'" in done.stderr
    assert list(Path(here.folder).glob("*.db")) == []
