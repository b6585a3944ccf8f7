"""The log of a process: JSON lines and nothing else, with the ids that belong to a line."""

from __future__ import annotations

import contextlib
import io
import json
import logging
import sys
import threading
import warnings
from collections.abc import Iterator
from typing import Any, TextIO

import pytest
import structlog

from unpause.agents.process.output import OutputReader
from unpause.agents.redaction import Redaction
from unpause.cli.logs import configure_logging, log_uncaught, without_colors
from unpause.cli.printing import LoggedOutput
from unpause.operator_settings import LogLevel
from unpause.testing.environment import log_plainly

_PASSWORD = "correct-horse-battery"


class Log:
    """What a process has logged."""

    def __init__(self, stream: io.StringIO) -> None:
        self._stream = stream

    @property
    def text(self) -> str:
        """All of it."""
        return self._stream.getvalue()

    @property
    def lines(self) -> list[dict[str, Any]]:
        """Each line, which fails unless it is JSON."""
        return [json.loads(line) for line in self.text.splitlines()]


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    hooks = sys.excepthook, threading.excepthook, sys.unraisablehook
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield io.StringIO()
    sys.excepthook, threading.excepthook, sys.unraisablehook = hooks
    logging.captureWarnings(capture=False)
    root.handlers[:] = handlers
    root.setLevel(level)
    log_plainly()


@pytest.fixture
def log(stream: io.StringIO) -> Log:
    configure(stream, readable=False)
    return Log(stream)


def configure(stream: TextIO, *, readable: bool, level: LogLevel = "info") -> None:
    """Log to the stream from here on."""
    with contextlib.redirect_stderr(stream):
        configure_logging(Redaction({"SOME_PASSWORD": _PASSWORD}), readable=readable, level=level)
        log_uncaught()


def test_the_lines_of_authors_and_libraries_are_json_with_the_name_of_their_logger(log: Log) -> None:
    logging.getLogger("shop.orders").info("shipped %s", "a chair")
    logging.getLogger("httpx").info("HTTP Request: GET https://example.org")
    logging.getLogger("httpx").warning("slow")
    assert [(line["logger"], line["event"]) for line in log.lines] == [
        ("shop.orders", "shipped a chair"),
        ("httpx", "slow"),
    ]
    assert all(line["node"] and line["timestamp"] for line in log.lines)


def test_what_authors_add_to_a_line_is_in_it_and_replaces_nothing(log: Log) -> None:
    extra = {"order": 7, "items": ["a", _PASSWORD], "event": "forged", "level": "forged", "node": "x", "logger": "y"}
    logging.getLogger("shop").warning("shipped", extra=extra)
    [line] = log.lines
    assert (line["event"], line["level"], line["logger"], line["order"]) == ("shipped", "warning", "shop", 7)
    assert (line["node"] != "x", _PASSWORD in log.text) == (True, False)


def test_what_agents_print_in_the_server_itself_are_lines_of_its_log(log: Log) -> None:
    with contextlib.redirect_stdout(LoggedOutput(io.StringIO())):
        print("one\ntwo", end="")  # noqa: T201 - that is the test
        print("three")  # noqa: T201
        print("x" * 20_000)  # noqa: T201
    assert [line["text"] for line in log.lines[:2]] == ["one", "twothree"]
    assert {line["event"] for line in log.lines} == {"agent output"}
    assert len(log.lines[2]["text"]) < 10_000


def test_a_log_on_standard_output_is_not_logged_again(stream: io.StringIO) -> None:
    with contextlib.redirect_stdout(LoggedOutput(stream)):
        structlog.reset_defaults()
        structlog.configure(processors=[structlog.processors.JSONRenderer()])
        print("once")  # noqa: T201 - that is the test
    assert Log(stream).lines == [{"event": "agent output", "text": "once"}]


def test_a_warning_is_a_line_like_others(log: Log) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        logging.captureWarnings(capture=True)
        warnings.warn("this is old", DeprecationWarning, stacklevel=1)
    [line] = log.lines
    assert (line["logger"], line["level"]) == ("py.warnings", "warning")


def test_an_exception_that_nobody_catches_is_one_line_with_its_traceback_as_a_field(log: Log) -> None:
    def fail() -> None:
        raise ValueError(f"no {_PASSWORD}")

    thread = threading.Thread(target=fail, name="failing")
    thread.start()
    thread.join()
    try:
        fail()
    except ValueError as error:
        sys.excepthook(ValueError, error, error.__traceback__)
    first, second = log.lines
    assert (first["event"], first["thread"]) == ("uncaught exception in a thread", "failing")
    assert second["event"] == "uncaught exception"
    for line in (first, second):
        assert line["exception"].startswith("Traceback")
    assert _PASSWORD not in log.text


@pytest.mark.parametrize("readable", [False, True])
def test_a_text_of_a_client_makes_no_line_of_its_own_and_controls_no_terminal(
    stream: io.StringIO, *, readable: bool
) -> None:
    configure(stream, readable=readable)
    forged = '\n{"event": "run ended"}\r\x1b[2J\u2028\x85 and more'
    structlog.get_logger("x").info("request", path=forged)
    logging.getLogger("y").warning("bad name %s", forged)
    assert len(stream.getvalue().splitlines()) == 2
    assert "\x1b" not in stream.getvalue().removesuffix("\n")


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"run_id": "0de67ef5", "agent": "instant", "claimed": True, "by": None, "fence": 1, "seconds": 0.5},
        {"text": "two words", "quoted": "it's", "pair": "a=b", "tab": "a\tb", "empty": "", "list": ["a", None]},
        {"event": "an event of more than thirty characters", "level": "critical", "b": "2", "a": "1"},
        {"event": "", "level": "info"},
        {"event": 7, "logger": "a.library"},
        {"exception": "Traceback", "stack": "Stack"},
    ],
)
def test_a_readable_line_without_colors_is_that_of_the_librarys_renderer(fields: dict[str, Any]) -> None:
    console = structlog.dev.ConsoleRenderer(colors=False)
    line = {"timestamp": "2026-11-27T18:51:02.598953Z", "level": "info", "event": "run paused", **fields}
    assert without_colors(console)(None, "info", dict(line)) == console(None, "info", dict(line))


def test_lines_below_the_level_are_left_out(stream: io.StringIO) -> None:
    configure(stream, readable=False, level="warning")
    structlog.get_logger("x").info("quiet")
    logging.getLogger("y").info("quiet")
    structlog.get_logger("x").warning("loud")
    assert [line["event"] for line in Log(stream).lines] == ["loud"]


def test_a_list_of_values_is_without_secrets(log: Log) -> None:
    structlog.get_logger("x").info("shown", texts=["fine", _PASSWORD], number=3, nothing=None)
    [line] = log.lines
    assert _PASSWORD not in log.text
    assert (line["number"], line["nothing"]) == (3, None)


def test_what_an_agent_process_prints_is_a_field_of_a_line_and_its_own_lines_stay_lines(log: Log) -> None:
    reader = OutputReader(-1, 7)
    reader.take(
        b"print\x1b[31m of a tool\n" + b'{"event": "tool failed", "level": "warning", "run_id": "r", "node": "n"}\n'
    )
    reader.take(b'{"event": 5, "level": "info"}\nwithout an ')
    reader.take(b"end\n")
    reader.take(b'50 % {"a": {"event": "tool failed", "level": "warning", "nested": "{\\"event\\": 1"}\n')
    reader.take(b'50 %{"event": "done", "level": "error", "nested": "{\\"event\\": 1"}\n')
    printed, own, odd, joined, bar, behind, other_bar, error = log.lines
    assert [line["text"] for line in (bar, other_bar)] == ['50 % {"a": ', "50 %"]
    assert [(line["event"], line["level"]) for line in (behind, error)] == [
        ("tool failed", "warning"),
        ("done", "error"),
    ]
    assert (printed["event"], printed["text"], printed["pid"]) == ("agent process output", "print\x1b[31m of a tool", 7)
    assert (own["event"], own["level"], own["run_id"], own["pid"]) == ("tool failed", "warning", "r", 7)
    assert odd["event"] == "agent process output"
    assert joined["text"] == "without an end"


@pytest.mark.parametrize(
    "line",
    [
        *(f'{{"event": "x", "{name}": 1}}' for name in ("self", "args", "pid", "exc_info", "stack_info")),
        *(f'{{"event": "%s %d", "level": "{level}"}}' for level in ("bind", "new", "_logger", "")),
    ],
)
def test_no_line_that_a_tool_prints_stops_the_reading_of_what_it_prints(log: Log, line: str) -> None:
    OutputReader(-1, 7).take(f"{line}\nafter\n".encode())
    own, after = log.lines
    assert (own["event"] in {"x", "%s %d"}, own["pid"], after["text"]) == (True, 7, "after")


def test_what_an_agent_process_prints_is_bounded_in_length_and_rate(log: Log) -> None:
    now = [0.0]
    reader = OutputReader(-1, 7, clock=lambda: now[0])
    for _ in range(40):
        reader.take(b"x" * 10_000)
    reader.take(b"\nafter\n")
    long, after = log.lines
    assert len(long["text"]) < 10_000
    assert after["text"] == "after"
    reader.take(b"y\n" * 100_000)
    assert len(log.lines) < 2_000
    now[0] = 60.0
    reader.take(b"later\n")
    dropped, later = log.lines[-2:]
    assert (dropped["event"], later["text"]) == ("agent process output dropped", "later")
    assert dropped["lines"] > 98_000


@pytest.mark.parametrize("readable", [True, False])
def test_a_line_that_cannot_be_written_fails_nothing_but_the_log(stream: io.StringIO, *, readable: bool) -> None:
    with open("/dev/full", "w", buffering=1) as full:  # noqa: PTH123 - a device
        for file in (full, stream):
            configure(file, readable=readable)
            if file is stream:
                file.close()
            structlog.get_logger(__name__).warning("run ended", run_id="a")
            logging.getLogger(__name__).warning("of a library")
        with contextlib.suppress(OSError):
            full.close()
