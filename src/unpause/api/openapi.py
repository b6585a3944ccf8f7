"""The OpenAPI documents: one for each API, and one for all of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fastapi import FastAPI

_CODEGEN_PREFIX = "/v1/"


def openapi_documents(app: FastAPI) -> dict[str, dict[str, Any]]:
    """Return the documents by name: ``unpause`` has every route, ``agno`` and ``codegen`` those of one API."""
    whole = app.openapi()
    codegen = {path: item for path, item in whole["paths"].items() if path.startswith(_CODEGEN_PREFIX)}
    agno = {path: item for path, item in whole["paths"].items() if path not in codegen}
    return {
        "agno": _part(whole, "AgentOS routes of Unpause", agno),
        "codegen": _part(whole, "Codegen routes of Unpause", codegen),
        "unpause": whole,
    }


def _part(whole: dict[str, Any], title: str, paths: dict[str, Any]) -> dict[str, Any]:
    schemas = whole["components"]["schemas"]
    used = _referenced(paths, schemas)
    return {
        **whole,
        "info": {**whole["info"], "title": title},
        "paths": paths,
        "components": {"schemas": {name: schemas[name] for name in sorted(used)}},
    }


def _referenced(part: object, schemas: dict[str, Any]) -> set[str]:
    """Return the names of the schemas that a part of a document needs, directly or through others."""
    found: set[str] = set()
    waiting: list[object] = [part]
    while waiting:
        item = waiting.pop()
        if isinstance(item, list):
            waiting.extend(item)
        elif isinstance(item, dict):
            waiting.extend(item.values())
            name = str(item.get("$ref", "")).removeprefix("#/components/schemas/")
            if name in schemas and name not in found:
                found.add(name)
                waiting.append(schemas[name])
    return found
