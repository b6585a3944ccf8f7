"""Compares what servers answer in tests with the OpenAPI document as it is kept in ``openapi/``."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias

import httpx
import jsonschema_rs

from tests.support.frames import read_data

Json: TypeAlias = dict[str, Any]

_FOLDER: Final = Path(__file__).parents[2] / "openapi"
_EVENTS: Final = "text/event-stream"
# What they are known as to the validators, which would each read all of them.
_COMPONENTS: Final = "urn:components"
_NAME: Final = re.compile(r"\\\{\w+\\\}")


async def check_response(response: httpx.Response) -> None:
    """Fail where a success is not as the document says; a hook of httpx's clients."""
    if not response.is_success:
        return
    operation = operation_of(response.request.method, response.request.url.path)
    if operation is None:
        return
    await response.aread()
    where = f"{response.request.method} {response.request.url.path}: {response.status_code}"
    found = operation["responses"].get(str(response.status_code))
    assert found is not None, f"{where} is not in the document"
    if not response.content:
        return
    media = response.headers.get("content-type", "").partition(";")[0]
    content = found.get("content", {}).get(media)
    assert content is not None, f"{where} with {media} is not in the document"
    if content.get("schema", {}).get("format") == "binary":
        return
    check_value(where, content, response.text if media == _EVENTS else response.json())


def check_value(where: str, content: Json, value: Any) -> None:  # noqa: ANN401 - any JSON
    """Fail where the value is not as the content's schema says; that of a stream is its text."""
    if "x-itemSchema" not in content:
        _validate(where, content["schema"], value)
        return
    for data in read_data(value):
        _validate(where, event_schema(content), data)


# For clients of servers in this process.
CHECKED: Final = {"response": [check_response]}


def operation_of(method: str, path: str) -> Json | None:
    """Return the operation that answers this request, if the document has it."""
    for pattern, item in _paths():
        if pattern.fullmatch(path.removesuffix("/") or "/"):
            operation: Json | None = item.get(method.lower())
            return operation
    return None


def event_schema(content: Json) -> Json:
    """Return the schema of the events in a stream."""
    name = content["x-itemSchema"]["$ref"].rpartition("/")[2]
    schema: Json = read_document()["components"]["schemas"][name]["properties"]["data"]["contentSchema"]
    return schema


@cache
def read_document(name: str = "unpause") -> Json:
    """Return the document of that name as it is kept, by default that of all routes; not to be changed.

    That these are the application's is for ``tests/test_readme.py`` to say: to have them made takes seconds.
    """
    document: Json = json.loads((_FOLDER / f"{name}.json").read_text(encoding="utf-8"))
    return document


@cache
def _paths() -> list[tuple[re.Pattern[str], Json]]:
    """Return the paths, those without names in braces first."""
    items = sorted(read_document()["paths"].items(), key=lambda item: (item[0].count("{"), item[0]))
    return [(re.compile(_NAME.sub("[^/]+", re.escape(path))), item) for path, item in items]


def _validate(where: str, schema: Json, value: object) -> None:
    error = next(_validator(json.dumps(schema)).iter_errors(value), None)
    assert error is None, f"{where}: {error}"


@cache
def _validator(schema: str) -> jsonschema_rs.Draft202012Validator:
    named = schema.replace('"#/components/', f'"{_COMPONENTS}#/components/')
    return jsonschema_rs.Draft202012Validator(json.loads(named), registry=_closed_components())


@cache
def _closed_components() -> jsonschema_rs.Registry:
    """Return the schemas without room for keys that they do not name: a new key has to be described."""
    return jsonschema_rs.Registry([(_COMPONENTS, {"components": _closed(read_document()["components"])})])


def _closed(part: Any) -> Any:  # noqa: ANN401 - any JSON
    if isinstance(part, list):
        return [_closed(item) for item in part]
    if not isinstance(part, dict):
        return part
    shut = {"additionalProperties": False} if isinstance(part.get("properties"), dict) else {}
    return {**shut, **{name: _closed(inner) for name, inner in part.items()}}
