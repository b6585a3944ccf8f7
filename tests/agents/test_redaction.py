"""What looks like a secret is taken out of texts of any length, in a time that grows no faster than the text."""

from __future__ import annotations

import time
from itertools import product

import pytest

from unpause.agents.redaction import Redaction
from unpause.agents.setup.command_text import find_commands

JWT = "eyJhbGciOiJub25l.eyJzdWIiOiJjYW5h.c2lnbmF0dXJl"
LENGTH = 200_000
SECONDS = 1.0

PARTS = (
    *(
        "eyJa-",
        "eyJabcdefg",
        "eyJa.",
        "eyJabcdefg.abcdef.",
        "bearer ",
        "bearer",
        "basic-",
        "a",
        " ",
        "\t",
        "\n",
        "-",
        ".",
    ),
    *(
        "sk-",
        "sk-abcdef",
        "xoxb_",
        "whsec_",
        "://",
        "a:b",
        "@",
        "token",
        "token ",
        "token:",
        "password= ",
        "'",
        "api_key",
    ),
)


@pytest.mark.parametrize("first", PARTS)
def test_no_text_takes_longer_than_its_length(first: str) -> None:
    redaction = Redaction({"SOME_KEY": "canary-canary"})
    began = time.thread_time()
    for second, after in product(("", "eyJ", " "), ("", "@")):
        text = (first + second) * (LENGTH // 6 // len(first + second)) + after
        redaction.hide(text)
        redaction.clean(text)
    # All of them together: one alone took 4.8 seconds for half as much.
    assert time.thread_time() - began < SECONDS


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        (JWT, "[hidden]"),
        (f"x {JWT} y", "x [hidden] y"),
        (f"({JWT})", "([hidden])"),
        (f"a.{JWT}", "a.[hidden]"),
        (f"a-{JWT}.b", "a-[hidden].b"),
        (f"longer.than.that.{JWT}.{JWT}", "longer.than.that.[hidden].[hidden]"),
        (JWT.rpartition(".")[0], "[hidden]"),
        (JWT.rpartition(".")[0] + ".", "[hidden]"),
        (f"aeyJ{JWT}", "aeyJeyJhbGciOiJub25l.[hidden]"),
        ("eyJhbGciOiJub25l", "eyJhbGciOiJub25l"),
        ("eyJhbGciOiJub25l.abc", "eyJhbGciOiJub25l.abc"),
        ("Bearer  abcdefgh", "[hidden]"),
    ],
)
def test_a_jwt_is_hidden_wherever_it_stands(text: str, hidden: str) -> None:
    assert Redaction({}).hide(text) == hidden


@pytest.mark.parametrize("at", range(7900, 8050, 7))
@pytest.mark.parametrize("secret", [JWT, "canary canary canary", "sk-canarycanarycanary", "Bearer canarycanary"])
def test_a_message_that_is_cut_keeps_no_part_of_a_secret(secret: str, at: int) -> None:
    # Much of what stands before is a secret, too, and makes no characters of the message.
    long = "sk-" + "canary" * 200 + " "
    before = (long * 7).ljust(at, "x") + " "
    message = Redaction({"SOME_KEY": "canary canary canary"}).clean(f"{before}{secret} and more {'y' * 9000}")
    assert len(message) <= 1001
    assert "canary" not in message
    assert not any(part in message for part in JWT.split("."))


@pytest.mark.parametrize("line", ["```sh\n", "```\na\n", "$ ", "$ a\n", "``` ", " \t", "\n", "```x\r\n", "a\\\n"])
def test_words_about_commands_take_no_longer_than_their_length(line: str) -> None:
    began = time.thread_time()
    find_commands(line * (LENGTH // len(line)))
    find_commands("```\n" + line * (LENGTH // len(line)))
    assert time.thread_time() - began < SECONDS


def test_a_block_of_a_text_with_other_line_ends_is_found() -> None:
    assert find_commands("try\r\n```sh\r\nmake\r\n```\r\n") == ["make"]
