"""Whatever anybody sends, a server fails at nothing, hangs at nothing and keeps nothing of it in memory.

The requests are those of `odd_requests.py`, the same ones each time; how they fall together in time is not. As usual
there are a few hundred. With UNPAUSE_FULL_TESTS=1 there are 24,000, of which the first 16,000 are to warm up.

Memory is the resident set of the server's process. Its caches, its allocator's arenas and the pages that SQLite keeps
are filled by the warm-up, which has to be long: after 4,000 requests it is 198 MB, after 16,000 it is 216, and after
20,000 it is 217. What comes on top of that during the rest must stay below `_MAX_GROWTH`. That is far below what the
bodies, runs or rows of the rest would take: a leak of 1 KB a request would be 8 MB in the full run.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings

from tests.security.connecting import resident_bytes
from tests.security.fuzzing import ANSWER_SECONDS, NO_ANSWER, Answer, Crowd, open_files, what_is_wrong
from tests.security.odd_requests import Request, requests
from tests.support.cluster import wait_until
from tests.support.full import IS_FULL
from tests.support.processes import ServerProcess

_WARM_UP: Final = 16_000 if IS_FULL else 100
_REQUESTS: Final = 24_000 if IS_FULL else 250
# Hypothesis remembers what it made, and is slower the more that is.
_ROUND: Final = 150 if IS_FULL else 50
_MAX_SECONDS: Final = 3600 if IS_FULL else 300
_MAX_GROWTH: Final = (6 if IS_FULL else 15) * 1024 * 1024
_AGENTS: Final = Path(__file__).with_name("fuzzed_agents.py")
_LIMITS: Final = ("CREATE", "READ", "LOGS", "RESUME", "CHANGE", "SETUP", "WEBHOOK_TEST")


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ServerProcess]:
    """Return a server that asks for tokens, takes JWTs, and limits no rate."""
    environment = {
        "UNPAUSE_DEV": "false",
        "UNPAUSE_MAX_BODY_BYTES": str(1024 * 1024),
        "UNPAUSE_JWT_ALGORITHM": "HS256",
        "UNPAUSE_JWT_KEY": "made up for this test, and long enough",
        **{f"UNPAUSE_RATE_LIMIT_{name}": "" for name in _LIMITS},
    }
    with ServerProcess(tmp_path, "--agents", _AGENTS, environment=environment) as server:
        yield server


def send_many(crowd: Crowd, numbers: range) -> None:
    """Send the requests of these numbers, always the same ones; return once they are answered."""
    for start in range(numbers.start, numbers.stop, _ROUND):
        _send_round(crowd, start, min(_ROUND, numbers.stop - start))
    crowd.wait()


def _send_round(crowd: Crowd, start: int, length: int) -> None:
    @settings(
        max_examples=length,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @seed(start)
    @given(request=requests)
    def each(request: Request) -> None:
        crowd.send(request)

    each()


@pytest.mark.timeout(_MAX_SECONDS)
def test_no_request_makes_a_server_fail_hang_or_grow(server: ServerProcess) -> None:
    with Crowd(server) as crowd:
        send_many(crowd, range(_WARM_UP))
        warm_bytes, warm_files = resident_bytes(server), open_files(server)
        send_many(crowd, range(_WARM_UP, _REQUESTS))
        wait_until(lambda: open_files(server) <= warm_files, f"{warm_files} files open, as before")
    grown = resident_bytes(server) - warm_bytes

    found = crowd.findings
    summary = (
        f"{found.requests} requests: {dict(sorted(found.statuses.items()))}, slowest {found.slowest:.1f} s, "
        f"memory {warm_bytes // 1024} KB and {grown // 1024} KB more, {warm_files} files"
    )
    print(summary)  # noqa: T201 - for whoever runs it with -s
    assert not found.faults, "\n".join([summary, *found.faults[:20]])
    assert "request failed" not in server.output
    # Those that raised are faults above; hypothesis makes what it was asked to.
    assert found.requests == _REQUESTS, summary
    # Refusals alone would show little.
    assert {200, 400, 401, 404, 422} <= set(found.statuses), summary
    assert grown < _MAX_GROWTH, summary


_JSON: Final = "application/json"
_AGENTOS: Final = Request("POST", b"/agents/fuzzed/runs")
_CODEGEN: Final = Request("POST", b"/v1/organizations/1/agent/run")


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        (_AGENTOS, Answer(500, _JSON, b'{"detail": "Internal server error"}', 0.1)),
        (_AGENTOS, Answer(503, _JSON, b'{"detail": "The database is away"}', 0.1)),
        (_AGENTOS, Answer(200, _JSON, b"{}", ANSWER_SECONDS + 1)),
        (_AGENTOS, Answer(NO_ANSWER, "", b"", 0.1)),
        (_AGENTOS, Answer(400, "text/plain", b"no", 0.1)),
        (_AGENTOS, Answer(400, _JSON, b'{"message": "no", "status_code": 400}', 0.1)),
        (_CODEGEN, Answer(400, _JSON, b'{"detail": "no"}', 0.1)),
        (_CODEGEN, Answer(400, _JSON, b'{"message": "no", "status_code": 401}', 0.1)),
        (_CODEGEN, Answer(400, _JSON, b"[]", 0.1)),
    ],
    ids=["500", "503", "late", "none", "text", "codegen's", "agentos's", "another status", "a list"],
)
def test_an_answer_that_must_not_be_is_found(request_: Request, answer: Answer) -> None:
    assert what_is_wrong(request_, answer) is not None
