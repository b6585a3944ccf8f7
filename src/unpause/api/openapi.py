"""The OpenAPI documents: one for each API, and one for all of it."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse

from unpause.api.answers import answer as answer_with
from unpause.api.permissions import CODEGEN_PREFIX, PUBLIC
from unpause.api.prefix import prefix_of

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request
    from starlette.responses import Response

# AgentOS's name of it: SDKs that are generated from its document send their token so. Codegen's document has instead a
# header parameter for the token in each operation, which generated methods keep as an argument; but OpenAPI has tools
# ignore a parameter of that name, and Swagger UI does.
_BEARER = "HTTPBearer"
_SCHEMES = {_BEARER: {"type": "http", "scheme": "bearer"}}

DESCRIPTION = """\
A server that runs AI agents which stop to ask a human, and continues them with the answer. Three APIs share its runs:

- **AgentOS API**, Agno's: forms or JSON in, JSON or events out. `POST /agents/{agent_id}/runs` creates a run,
  `POST …/continue` answers a paused one, `GET …/events` follows it.
- **Codegen API**, under `/v1`: JSON in and out. `POST …/agent/run` creates a run, `POST …/agent/run/resume` answers it,
  `GET …/agent/run/{agent_run_id}` polls it.
- **AG-UI 1.0**: `POST /agents/{agent_id}/ag-ui` takes a run input and streams events; a pause is an interrupt, and
  `resume` in the next input answers it.

Every request needs `Authorization: Bearer <token>`, unless the server runs with `--dev`; press *Authorize* to try
requests here. A request that is refused changes nothing. An `Idempotency-Key` makes it safe to send a create, a
continue or a resolve again.
"""

_AGENTOS_TAGS = {
    "Agents": "AgentOS: agents and their runs: create, continue, follow, pause, cancel.",
    "Approvals": "AgentOS: calls that an administrator decides.",
    "Sessions": "AgentOS: conversations, which runs belong to.",
    "Audit": "Who decided what, for administrators. An extension of AgentOS's API.",
    "Core": "AgentOS: the configuration, and the models of the agents.",
    "Home": "AgentOS: the server's name and version.",
    "Teams": "AgentOS: always empty here.",
    "Workflows": "AgentOS: always empty here.",
}
_CODEGEN_TAGS = {
    "agents": "Codegen: agent runs: create, read, list, resume, pause, stop.",
    "agents-alpha": "Codegen: the log of an agent run.",
    "setup-commands": "Codegen: runs that prepare a repository.",
    "organizations": "Codegen: organizations, their webhooks and their audit trail.",
    "users": "Codegen: users of an organization.",
    "models": "Codegen: models for runs.",
    "repositories": "Codegen: always empty here.",
    "integrations": "Codegen: always empty here.",
    "cli-rules": "Codegen: always empty here.",
}
# Routes of their own, in the documents of both APIs.
_NATIVE_TAGS = {
    "Inbox": "What waits for people, over all agents and APIs: list, decide, follow.",
    "Caller": "Who the caller is, and what it may do.",
    "Runs": "Runs of all agents and APIs: search, read, cancel, pause, resume; and an overview.",
    "Notifications": "Channels that tell people what waits for them.",
}
_AG_UI_TAGS = {"AG-UI": "AG-UI 1.0, for ready-made front ends: run an agent, resume it, follow a run again."}
_SERVER_TAGS = {"Health": "Liveness and readiness."}
_GROUPS = {
    "AgentOS API": _AGENTOS_TAGS,
    "Codegen API": _CODEGEN_TAGS,
    "AG-UI": _AG_UI_TAGS,
    "Unpause API": _NATIVE_TAGS,
    "Server": _SERVER_TAGS,
}

# In the order in which Swagger UI and Redoc show them.
TAGS = [{"name": name, "description": text} for group in _GROUPS.values() for name, text in group.items()]


def describe_app(app: FastAPI) -> None:
    """Declare in the document which operations require a token, and which tags are of one API; write it in a thread."""
    write = app.openapi

    def openapi() -> dict[str, Any]:
        document = write()
        document["components"]["securitySchemes"] = _SCHEMES
        # Redoc's extension.
        document["x-tagGroups"] = [{"name": name, "tags": list(group)} for name, group in _GROUPS.items()]
        for path, item in document["paths"].items():
            if path not in PUBLIC:
                for operation in item.values():
                    operation["security"] = [{_BEARER: []}]
                    _add_refusals(path, operation)
        return document

    # FastAPI's own way to extend the document.
    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's documentation has it

    async def answer(request: Request) -> Response:
        document, prefix = await asyncio.to_thread(app.openapi), prefix_of(request.scope)
        return JSONResponse({**document, "servers": [{"url": prefix}]} if prefix else document)

    # FastAPI's own route writes the document in the event loop, at the first request for it.
    path = str(app.openapi_url)
    app.router.routes[:] = [route for route in app.router.routes if getattr(route, "path", None) != path]
    app.add_route(path, answer, include_in_schema=False)


def _add_refusals(path: str, operation: dict[str, Any]) -> None:
    """Add what any route answers to a head that it does not read, and one with a body to such a body."""
    content = operation.get("requestBody", {}).get("content", {})
    is_codegen = path.startswith(CODEGEN_PREFIX)
    statuses = {"400": "Bad Request", "414": "URI Too Long", "431": "Request Header Fields Too Large"}
    if content:
        statuses |= {"408": "Request Timeout", "413": "Content Too Large", "415": "Unsupported Media Type"}
    for status, description in statuses.items():
        name = "InvalidRequestErrorResponse" if is_codegen else "BadRequestResponse"
        operation["responses"].setdefault(status, answer_with(name, description)[200])


def openapi_documents(app: FastAPI) -> dict[str, dict[str, Any]]:
    """Return the documents by name: ``unpause`` has every route.

    ``agno`` and ``codegen`` have those of one API, and Unpause's own.
    """
    whole = app.openapi()
    codegen = {
        path: item for path, item in whole["paths"].items() if path.startswith(CODEGEN_PREFIX) or _is_native(item)
    }
    agno = {path: item for path, item in whole["paths"].items() if not path.startswith(CODEGEN_PREFIX)}
    return {
        "agno": _part(whole, "AgentOS routes of Unpause", agno),
        "codegen": _part(whole, "Codegen routes of Unpause", codegen),
        "unpause": whole,
    }


def _is_native(item: dict[str, Any]) -> bool:
    return any(tag in _NATIVE_TAGS or tag in _AG_UI_TAGS for operation in item.values() for tag in operation["tags"])


def _part(whole: dict[str, Any], title: str, paths: dict[str, Any]) -> dict[str, Any]:
    schemas = whole["components"]["schemas"]
    used = _referenced(paths, schemas)
    tags = {tag for item in paths.values() for operation in item.values() for tag in operation["tags"]}
    return {
        "openapi": whole["openapi"],
        "info": {**whole["info"], "title": title},
        "tags": [tag for tag in TAGS if tag["name"] in tags],
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
