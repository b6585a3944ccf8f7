"""The reference of the API as pages: Swagger UI at ``/docs``, Redoc at ``/redoc``, with every asset from this server.

The assets are those of the package ``fastapi-standalone-docs``, which is loaded with the first request for one.
FastAPI's own pages name a CDN, and have an inline script that a strict Content-Security-Policy forbids.
"""

from __future__ import annotations

import asyncio
from html import escape
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Final

from starlette.responses import FileResponse, HTMLResponse, Response

from unpause.api.prefix import prefix_of

if TYPE_CHECKING:
    from fastapi import FastAPI
    from starlette.requests import Request

_ASSETS: Final = "fastapi_standalone_docs"
_POLICY = (
    "default-src 'none'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
)
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<link rel="icon" href="data:,">
<title>Unpause: {title}</title>
{head}
</head>
<body>
{body}
</body>
</html>
"""
_SWAGGER_HEAD = '<link rel="stylesheet" href="{root}/docs/swagger-ui.css">'
_SWAGGER_BODY = """<div id="swagger-ui"></div>
<script src="{root}/docs/swagger-ui-bundle.js"></script>
<script src="{root}/docs/start.js" data-document="{root}/openapi.json"></script>"""
# By default Swagger UI has a validator elsewhere look at the document.
_SWAGGER_START = """window.ui = SwaggerUIBundle({
  url: document.currentScript.dataset.document,
  dom_id: "#swagger-ui",
  deepLinking: true,
  docExpansion: "none",
  filter: true,
  validatorUrl: "none",
});
"""
_REDOC_BODY = """<redoc spec-url="{root}/openapi.json"></redoc>
<script src="{root}/redoc/redoc.standalone.js"></script>"""

# Each asset by its path, and its file in the package.
_FILES: Final = {
    "/docs/swagger-ui.css": "swagger/swagger-ui.css",
    "/docs/swagger-ui-bundle.js": "swagger/swagger-ui-bundle.js",
    "/redoc/redoc.standalone.js": "redoc/redoc.standalone.js",
    "/redoc/logo-mini.svg": "redoc/logo-mini.svg",
}


def add_reference(app: FastAPI) -> None:
    """Add the routes of the pages and of their assets."""
    pages = {"/docs": _swagger, "/redoc": _redoc, "/docs/start.js": _start}
    for path, page in {**pages, **dict.fromkeys(_FILES, _asset)}.items():
        app.add_route(path, page, methods=["GET"], include_in_schema=False)


async def _swagger(request: Request) -> Response:
    return _page(request, "API", _SWAGGER_HEAD, _SWAGGER_BODY, "style-src 'self'")


async def _redoc(request: Request) -> Response:
    # Redoc writes its styles into the page, and searches in a worker that it makes from a blob.
    return _page(request, "API reference", "", _REDOC_BODY, "style-src 'unsafe-inline'; worker-src blob:")


async def _start(_: Request) -> Response:
    return Response(_SWAGGER_START, media_type="text/javascript")


async def _asset(request: Request) -> Response:
    return FileResponse(await asyncio.to_thread(_file, _FILES[request.scope["path"]]))


def _page(request: Request, title: str, head: str, body: str, policy: str) -> Response:
    root = escape(prefix_of(request.scope))
    page = _PAGE.format(title=title, head=head.format(root=root), body=body.format(root=root))
    return HTMLResponse(page, headers={"Content-Security-Policy": _POLICY + policy})


def _file(name: str) -> Path:
    return Path(str(import_module(_ASSETS).__path__[0]), "static", name)
