"""Which of a person's words are commands to run as they are, and which are advice for the model."""

from __future__ import annotations

import pytest

from unpause.agents.setup.command_text import MAX_COMMANDS, find_commands


@pytest.mark.parametrize(
    ("words", "commands"),
    [
        ("```\nmake all\n```", ["make all"]),
        ("Try this:\n\n```sh\nmake deps\nmake all\n```\nThat worked for me.", ["make deps", "make all"]),
        ("```bash\n# first the tools\nnpm ci\n\nnpm test\n```", ["npm ci", "npm test"]),
        ("$ npm ci\n\n  $ npm test  \n", ["npm ci", "npm test"]),
        ("```console\n$ make\nmake: done\n$ make test\n```", ["make", "make test"]),
        ("```\nmake one\n```\nand then\n```\nmake two\n```", ["make one", "make two"]),
        ("1. Do\n   ```\n   make all\n   ```", ["make all"]),
        ("```\r\nmake all\r\n```", ["make all"]),
    ],
)
def test_a_fenced_block_or_prompts_bring_commands(words: str, commands: list[str]) -> None:
    assert find_commands(words) == commands


@pytest.mark.parametrize(
    "words",
    [
        "",
        "Use make all instead.",
        "make all",
        "$ make all\nand see what happens",
        "It costs $ 5",
        "Put this in the file:\n```toml\n[tool]\n```",
        "```\n```",
        "```\n# nothing but a comment\n```",
        "$ ",
        "```\nmake all",
        "Use `make all`.",
        "```\nmake \x00all\n```",
    ],
)
def test_everything_else_is_advice(words: str) -> None:
    assert find_commands(words) == []


@pytest.mark.parametrize(
    "lines",
    [
        "cd frontend\nnpm ci",
        "export CI=1\nnpm ci",
        "VERSION=3\necho $VERSION",
        "for name in a b; do\n  echo $name\ndone",
        "npm ci \\\n  --no-audit",
        "cat > notes <<END\n# a title\nEND\nmake",
        "echo 'one\ntwo'\nmake",
        "build() {\n  make\n}\nbuild",
        "if true\nthen make\nfi",
    ],
)
def test_lines_that_hang_together_are_one_command_that_stops_at_its_first_failure(lines: str) -> None:
    assert find_commands(f"```\n{lines}\n```") == [f"set -e\n{lines}"]


def test_prompts_that_hang_together_are_one_command() -> None:
    assert find_commands("$ cd frontend\n$ npm ci") == ["set -e\ncd frontend\nnpm ci"]


def test_one_line_alone_stays_as_it_is() -> None:
    assert find_commands("```\ncd frontend && npm ci\n```") == ["cd frontend && npm ci"]


def test_more_lines_than_a_plan_may_have_are_one_command() -> None:
    lines = [f"echo {number}" for number in range(MAX_COMMANDS + 1)]
    assert find_commands("\n".join(["```", *lines[:-1], "```"])) == lines[:-1]
    assert find_commands("\n".join(["```", *lines, "```"])) == ["\n".join(["set -e", *lines])]
