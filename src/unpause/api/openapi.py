"""The OpenAPI documents: one for each API, and one for all of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from unpause.api.permissions import CODEGEN_PREFIX, PUBLIC

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

# AgentOS's name of it: SDKs that are generated from its document send their token so. Codegen's document has instead a
# header parameter for the token in each operation, which generated methods keep as an argument; but OpenAPI has tools
# ignore a parameter of that name, and Swagger UI does.
_BEARER = "HTTPBearer"
_SCHEMES = {_BEARER: {"type": "http", "scheme": "bearer"}}


def describe_security(app: FastAPI) -> None:
    """Declare in the document which operations require a token, and write it in a thread."""
    write = app.openapi

    def openapi() -> dict[str, Any]:
        document = write()
        document["components"]["securitySchemes"] = _SCHEMES
        for path, item in document["paths"].items():
            if path not in PUBLIC:
                for operation in item.values():
                    operation["security"] = [{_BEARER: []}]
        return document

    # FastAPI's own way to extend the document.
    app.openapi = openapi  # type: ignore[method-assign]

    async def answer(_: Request) -> Response:
        return JSONResponse(await asyncio.to_thread(app.openapi))

    # FastAPI's own route writes the document in the event loop, at the first request for it.
    path = str(app.openapi_url)
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", None) != path]
    app.add_route(path, answer, include_in_schema=False)


def openapi_documents(app: FastAPI) -> dict[str, dict[str, Any]]:
    """Return the documents by name: ``unpause`` has every route, ``agno`` and ``codegen`` those of one API."""
    whole = app.openapi()
    codegen = {path: item for path, item in whole["paths"].items() if path.startswith(CODEGEN_PREFIX)}
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
        "components": {"schemas": {name: schemas[name] for name in sorted(used)}, "securitySchemes": _SCHEMES},
    }


def _referenced(part: object, schemas: dict[str, Any]) -> set[str]:
    """Return the names of the schemas that a part of a document references, directly or through others."""
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
