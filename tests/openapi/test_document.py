"""What the OpenAPI documents promise about answers, whoever reads them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import httpx
import pytest

from tests.support.published import check_response, check_value, read_document
from unpause.domain.events import EventType

Json: TypeAlias = dict[str, Any]

NAMES = ("agno", "codegen", "unpause")
_TYPES = frozenset({"$ref", "anyOf", "oneOf", "allOf", "enum", "const"})


@pytest.fixture(scope="module")
def documents() -> dict[str, Json]:
    """Return the documents by name."""
    return {name: read_document(name) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_every_successful_answer_has_a_type(documents: dict[str, Json], name: str) -> None:
    untyped = [where for where, content in answers_of(documents[name]) if not is_typed(content.get("schema", {}))]
    assert untyped == []


@pytest.mark.parametrize("name", NAMES)
def test_every_stream_names_the_schema_of_its_items(documents: dict[str, Json], name: str) -> None:
    for where, content in answers_of(documents[name]):
        if where.endswith("text/event-stream"):
            item = resolved(documents[name], content["x-itemSchema"])
            assert resolved(documents[name], item["properties"]["data"]["contentSchema"])["discriminator"], where


@pytest.mark.parametrize("name", NAMES)
def test_every_reference_leads_to_a_schema(documents: dict[str, Json], name: str) -> None:
    for reference in references_in(documents[name]):
        assert resolved(documents[name], {"$ref": reference})


@pytest.mark.parametrize("name", NAMES)
def test_every_example_is_valid(documents: dict[str, Json], name: str) -> None:
    for where, content in contents_of(documents[name]):
        for example in content.get("examples", {}).values():
            check_value(where, content, example["value"])


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("post", "/agents/{agent_id}/runs"),
        ("post", "/agents/{agent_id}/runs/{run_id}/continue"),
        ("get", "/agents/{agent_id}/runs/{run_id}"),
        ("get", "/agents/{agent_id}/runs/{run_id}/events"),
        ("post", "/approvals/{approval_id}/resolve"),
    ],
)
def test_the_routes_that_every_client_uses_have_examples_of_each_body(
    documents: dict[str, Json], method: str, path: str
) -> None:
    operation = documents["agno"]["paths"][path][method]
    responses = [response for status, response in operation["responses"].items() if status.startswith("2")]
    parts = [*responses, operation.get("requestBody", {})]
    contents = [content for part in parts for content in part.get("content", {}).values()]
    assert contents
    assert all(content.get("examples") for content in contents)


def test_every_kind_of_event_has_a_schema(documents: dict[str, Json]) -> None:
    assert len(documents["agno"]["components"]["schemas"]["RunOutputEvent"]["oneOf"]) == len(EventType)


class TestTheComparisonOfAnswers:
    """The tests of the APIs would be worth nothing if it found nothing."""

    @staticmethod
    def response(text: str, path: str = "/approvals/count", media: str = "application/json") -> httpx.Response:
        """Return a response to a GET."""
        request = httpx.Request("GET", f"http://127.0.0.1{path}")
        return httpx.Response(200, text=text, headers={"content-type": media}, request=request)

    @pytest.mark.parametrize("text", ['{"count": "1"}', "{}", '{"count": 1, "more": 2}', "[]"])
    async def test_an_answer_that_the_document_does_not_have_is_found(self, text: str) -> None:
        await check_response(self.response('{"count": 1}'))
        with pytest.raises(AssertionError, match="/approvals/count: 200"):
            await check_response(self.response(text))

    async def test_an_event_that_the_document_does_not_have_is_found(self) -> None:
        text = 'id: 1\nevent: RunContinued\ndata: {"event": "RunContinued"}\n\n'
        with pytest.raises(AssertionError, match="/events: 200"):
            await check_response(self.response(text, "/agents/a/runs/b/events", "text/event-stream"))

    async def test_another_media_type_is_found(self) -> None:
        with pytest.raises(AssertionError, match="text/plain is not in the document"):
            await check_response(self.response("1", media="text/plain"))


def answers_of(document: Json) -> Iterator[tuple[str, Json]]:
    """Yield the content of every successful answer, with its place."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for status, response in operation["responses"].items():
                if status.startswith("2"):
                    assert response.get("content") or status == "204", (path, method, status)
                    for media, content in response.get("content", {}).items():
                        yield f"{method} {path}: {status} {media}", content


def contents_of(document: Json) -> Iterator[tuple[str, Json]]:
    """Yield the content of every body and answer, with its place."""
    for path, item in document["paths"].items():
        for method, operation in item.items():
            for part in (operation.get("requestBody", {}), *operation["responses"].values()):
                for media, content in part.get("content", {}).items():
                    yield f"{method} {path}: example of {media}", content


def is_typed(schema: Json) -> bool:
    """Whether the schema says more than that there is something."""
    if schema.get("type") == "array":
        return is_typed(schema.get("items", {}))
    if schema.get("type") == "object":
        return "properties" in schema
    return "type" in schema or not _TYPES.isdisjoint(schema)


def resolved(document: Json, schema: Json) -> Json:
    """Return the schema that a reference leads to."""
    found: Json = document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
    return found


def references_in(part: object) -> Iterator[str]:
    """Yield all references."""
    if isinstance(part, list):
        for item in part:
            yield from references_in(item)
    elif isinstance(part, dict):
        if isinstance(part.get("$ref"), str):
            yield part["$ref"]
        for inner in part.values():
            yield from references_in(inner)
