"""What routes say about their bodies in the OpenAPI document.

A route names the schema; ``agentos/wire/document.py`` adds the schemas themselves when the document is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from pydantic import BaseModel

# FastAPI's ``responses``, by status.
Responses = dict[int | str, dict[str, Any]]


def ref(name: str) -> dict[str, Any]:
    """Return a reference to a schema of the document."""
    return {"$ref": f"#/components/schemas/{name}"}


def answer(name: str, description: str, status: int = 200) -> Responses:
    """Return the response with an object of this schema."""
    return {status: {"content": {"application/json": {"schema": ref(name)}}, "description": description}}


def refusal(
    model: type[BaseModel], description: str, status: int, headers: Mapping[str, Any] | None = None
) -> Responses:
    """Return the response with an error of this model.

    FastAPI would build a validator of the model for each route that names it, and validate nothing with it.
    """
    response = answer(model.__name__, description, status)
    if headers is not None:
        response[status]["headers"] = headers
    return response


def answer_list(name: str, description: str) -> Responses:
    """Return the response with a list of these objects."""
    schema = {"type": "array", "items": ref(name)}
    return {200: {"content": {"application/json": {"schema": schema}}, "description": description}}


def events(name: str) -> dict[str, Any]:
    """Return the content of a stream of these events.

    OpenAPI 3.2 has ``itemSchema`` for the items of a stream; a document of 3.1 may only have keys with ``x-`` besides
    its own.
    """
    return {"text/event-stream": {"schema": {"type": "string"}, "x-itemSchema": ref(f"{name}Item")}}


def json_body(name: str) -> dict[str, Any]:
    """Return what a route with a form adds to the document for the same fields as JSON."""
    return {"requestBody": {"content": {"application/json": {"schema": ref(name)}}}}
