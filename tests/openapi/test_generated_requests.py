"""Whatever a request says, no operation fails, and every answer is one that the OpenAPI document has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings, strategies
from schemathesis import Case

from tests.support.generated import Target, application_in, examples, nobody_outside, read_document, schema_of
from tests.support.walking import MAIN_ROAD, Walker

# The application runs beside the strategies, in a thread of its own, and may draw a random number while they draw.
pytestmark = pytest.mark.filterwarnings("ignore:Do not use the `random` module inside strategies")

# Examples for an operation, besides those that go through the limits of its parameters one by one.
USUAL_EXAMPLES = 4
USUAL_WALKS = 30


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


def test_every_answer_is_as_the_document_says_where_one_request_follows_from_another(tmp_path: Path) -> None:
    walker = Walker(schema_of(read_document(), USUAL_WALKS), application_in(tmp_path))

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
