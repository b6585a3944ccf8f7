"""What the documents say of tokens, refusals and limits: for every operation, in the shape of its API."""

from __future__ import annotations

from typing import Any, Final

import pytest

from tests.support.published import read_document

REFUSALS: Final = {"400", "401", "403", "404", "409", "414", "431", "503"}
OPEN: Final = {"/", "/health", "/ready"}
RATE_LIMIT: Final = {"RateLimit", "RateLimit-Policy"}


@pytest.fixture(scope="module")
def documents() -> dict[str, dict[str, Any]]:
    return {name: read_document(name) for name in ("agno", "codegen", "unpause")}


def operations_of(document: dict[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    return [(path, operation) for path, item in document["paths"].items() for operation in item.values()]


def keys_of(document: dict[str, Any], response: dict[str, Any]) -> set[str]:
    """Return the required or defaulted keys of the response's body."""
    name = response["content"]["application/json"]["schema"]["$ref"].rpartition("/")[2]
    return set(document["components"]["schemas"][name]["properties"])


@pytest.mark.parametrize("name", ["agno", "codegen", "unpause"])
def test_every_operation_that_requires_a_token_names_its_scheme(
    documents: dict[str, dict[str, Any]], name: str
) -> None:
    document = documents[name]

    assert document["components"]["securitySchemes"] == {"HTTPBearer": {"type": "http", "scheme": "bearer"}}
    for path, operation in operations_of(document):
        assert operation.get("security") == (None if path in OPEN else [{"HTTPBearer": []}]), path


def test_every_refusal_has_a_body_in_the_shape_of_its_api(documents: dict[str, dict[str, Any]]) -> None:
    for name, document in documents.items():
        for path, operation in operations_of(document):
            if path in OPEN:
                continue
            # Unpause's own routes are in every document, and their errors are as AgentOS has them.
            shape = {"message", "status_code"} if path.startswith("/v1/") else {"detail", "error_code"}
            refusals = {
                status
                for status in operation["responses"]
                if status in {"400", "401", "403", "404", "409", "414", "431", "503"}
            }
            assert {"401", "503"} <= refusals, path
            for status in refusals:
                assert shape <= keys_of(document, operation["responses"][status]), (name, path, status)


def test_every_operation_says_what_a_head_that_is_not_read_is_answered(documents: dict[str, dict[str, Any]]) -> None:
    for path, operation in operations_of(documents["unpause"]):
        assert path in OPEN or {"400", "414", "431"} <= set(operation["responses"]), path


def test_every_operation_with_a_body_says_what_one_that_is_not_read_is_answered(
    documents: dict[str, dict[str, Any]],
) -> None:
    for path, operation in operations_of(documents["unpause"]):
        has_body = "requestBody" in operation
        assert ({"408", "413"} <= set(operation["responses"])) is has_body, path


# Besides Codegen's.
LIMITED = {"add_notification_channel", "test_notification_channel", "run_ag_ui_agent", "follow_ag_ui_run"}


def test_who_is_to_wait_learns_how_long_and_where_there_is_a_limit_what_is_left(
    documents: dict[str, dict[str, Any]],
) -> None:
    for path, operation in operations_of(documents["unpause"]):
        if path in OPEN:
            continue
        limits = RATE_LIMIT if path.startswith("/v1/") or operation["operationId"] in LIMITED else set()
        responses = operation["responses"]
        assert set(responses["503"]["headers"]) == {"Retry-After"}, path
        assert set(responses["429"]["headers"]) == {"Retry-After", *limits}, path
        done: dict[str, Any] = next((each for status, each in responses.items() if status.startswith("2")), {})
        assert set(done.get("headers", ())) & RATE_LIMIT == limits, path
