"""Whatever a request says, no operation fails, and every answer is one that the OpenAPI document has."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis import Case
from starlette.applications import Starlette

from tests.support.full import IS_FULL
from tests.support.generated import Target, application_in, examples, nobody_outside, read_document, schema_of
from tests.support.walking import MAIN_ROAD, Walker
from unpause.auth.tokens import create_first_token
from unpause.store.engine.schema import plain_connection

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

# The application runs beside the strategies, in a thread of its own, and may draw a random number while they draw.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

# Examples for an operation; in the long form besides those that go through the limits of its parameters one by one.
USUAL_EXAMPLES = 4
USUAL_WALKS = 30 if IS_FULL else 8


_LIMITS = ("create", "read", "logs", "resume", "change", "setup", "webhook_test")


class Proving:
    """Adds the proof to every request: what makes the requests knows nothing of tokens."""

    def __init__(self, app: ASGIApp, proof: str) -> None:
        self._app = app
        self._field = (b"authorization", proof.encode())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on with the proof, and nothing else of that kind."""
        if scope["type"] == "http":
            kept = [field for field in scope["headers"] if field[0].lower() != self._field[0]]
            scope = {**scope, "headers": [*kept, self._field]}
        await self._app(scope, receive, send)


def application_asking_for_a_token(folder: Path) -> Starlette:
    """Return an application that asks for tokens, and is told an administrator's one with every request."""
    limits = {f"rate_limit_{kind}": "" for kind in _LIMITS}
    app = application_in(folder, dev=False, **limits)
    url = app.state.application.settings.database_url
    with plain_connection(url) as connection, connection.begin():
        text = create_first_token(connection, datetime.now(UTC))
    assert text is not None
    app.add_middleware(Proving, proof=f"Bearer {text}")
    return app


@pytest.fixture(autouse=True)
def _nobody_outside() -> Iterator[None]:
    with nobody_outside():
        yield


@pytest.fixture
def target(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Target]:
    """Return who sends the requests; fail unless one of them succeeded: refusals alone would show little.

    Each operation has an application of its own: no test depends on another one's requests.
    """
    target = Target(application_in(tmp_path))
    yield target
    assert any(200 <= status < 300 for status in target.statuses), (request.node.name, target.statuses)


@schema_of(read_document(), USUAL_EXAMPLES).parametrize()
def test_every_answer_is_as_the_document_says(case: Case[Any], target: Target) -> None:
    target.send(case)


@pytest.mark.parametrize("way_in", [application_in, application_asking_for_a_token], ids=["open", "token"])
def test_every_answer_is_as_the_document_says_where_one_request_follows_from_another(
    tmp_path: Path, way_in: Callable[[Path], Starlette]
) -> None:
    walker = Walker(schema_of(read_document(), USUAL_WALKS), way_in(tmp_path))

    @settings(
        max_examples=examples(USUAL_WALKS),
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(data=strategies.data())
    def walk(data: strategies.DataObject) -> None:
        walker.walk(data)

    walk()

    assert set(walker.succeeded) >= MAIN_ROAD, walker.succeeded
