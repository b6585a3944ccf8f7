"""Serves the console's pages and their files.

A page is a frame without data: its scripts read everything from the API, with the console's cookie. So a page that is
opened from a mail or a chat, for which the browser sends no ``SameSite=Strict`` cookie, still finds its user signed in.
"""

from __future__ import annotations

import asyncio
import hashlib
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Final, NamedTuple

from starlette.responses import HTMLResponse, JSONResponse, Response

from unpause.api.console.sign_in import router as sign_in_router
from unpause.api.prefix import prefix_of
from unpause.lazy import LazyModule
from unpause.version import VERSION

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine

    from fastapi import FastAPI
    from starlette.requests import Request

    from unpause.api.console import templating
else:
    templating = LazyModule("unpause.api.console.templating")


class _Page(NamedTuple):
    """A page: its template, its title, and which entry of the navigation it belongs to."""

    template: str
    title: str
    section: str = ""


class _Entry(NamedTuple):
    """An entry of the navigation: shown where its path has a page."""

    section: str
    title: str
    path: str
    is_for_administrators: bool = False


NAVIGATION: Final = (
    _Entry("inbox", "Inbox", "/console"),
    _Entry("runs", "Runs", "/console/runs"),
    _Entry("sessions", "Sessions", "/console/sessions"),
    _Entry("overview", "Overview", "/console/overview"),
    _Entry("grants", "Grants", "/console/grants"),
    _Entry("tokens", "Tokens", "/console/tokens", is_for_administrators=True),
)
PAGES: Final = {
    "/console": _Page("inbox.html", "Inbox", "inbox"),
    "/console/requests/{requirement_id}": _Page("request.html", "Request", "inbox"),
    "/console/runs": _Page("runs.html", "Runs", "runs"),
    "/console/runs/{run_id}": _Page("run.html", "Run", "runs"),
    "/console/sessions": _Page("sessions.html", "Sessions", "sessions"),
    "/console/sessions/{session_id}": _Page("session.html", "Session", "sessions"),
    "/console/overview": _Page("overview.html", "Overview", "overview"),
    "/console/grants": _Page("grants.html", "Grants", "grants"),
    "/console/tokens": _Page("tokens.html", "Tokens", "tokens"),
    "/console/sign-in": _Page("sign-in.html", "Sign in"),
    "/console/login": _Page("login.html", "Sign in"),
}

_HEADERS: Final = {
    "Cache-Control": "no-store",
    # Trusted Types: no script of a page can turn text into markup, not even by mistake.
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' data: blob:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'; "
    "require-trusted-types-for 'script'; trusted-types 'none'",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}
_STATIC: Final = Path(__file__).parent / "static"
_TYPES: Final = {".js": "text/javascript", ".css": "text/css", ".svg": "image/svg+xml"}
# Checked with each page that is loaded: an upgrade of the server must not leave old scripts with new routes.
_STATIC_HEADERS: Final = {"Cache-Control": "no-cache", "Cross-Origin-Resource-Policy": "same-origin"}
_NOT_MODIFIED = 304


class _File(NamedTuple):
    content: bytes
    media_type: str
    etag: str


def add_console(app: FastAPI) -> None:
    """Add the routes of the pages, of their files, and of signing in."""
    for path, page in PAGES.items():
        app.add_route(path, _endpoint(page), methods=["GET"], include_in_schema=False)
    app.add_route("/console/static/{name:path}", _static, methods=["GET"], include_in_schema=False)
    app.router.routes.extend(sign_in_router.routes)


def _endpoint(page: _Page) -> Callable[[Request], Coroutine[None, None, Response]]:
    async def answer(request: Request) -> Response:
        return HTMLResponse(await asyncio.to_thread(_render, page, prefix_of(request.scope)), headers=_HEADERS)

    return answer


async def _static(request: Request) -> Response:
    files = await asyncio.to_thread(_files)
    found = files.get(request.path_params["name"])
    if found is None:
        return JSONResponse({"detail": "Not Found"}, 404)
    headers = {**_STATIC_HEADERS, "ETag": found.etag}
    if request.headers.get("if-none-match") == found.etag:
        return Response(status_code=_NOT_MODIFIED, headers=headers)
    return Response(found.content, media_type=found.media_type, headers=headers)


@lru_cache(64)
def _render(page: _Page, root: str) -> str:
    # A server whose console nobody opens needs no templates.
    entries = [entry for entry in NAVIGATION if entry.path in PAGES]
    return templating.TEMPLATES.get_template(page.template).render(
        root=root, title=page.title, section=page.section, version=VERSION, navigation=entries
    )


@cache
def _files() -> dict[str, _File]:
    """Return every file by its path: no other path reaches the disk."""
    return {
        path.relative_to(_STATIC).as_posix(): _read(path)
        for path in sorted(_STATIC.rglob("*"))
        if path.suffix in _TYPES
    }


def _read(path: Path) -> _File:
    content = path.read_bytes()
    return _File(content, _TYPES[path.suffix], f'"{hashlib.sha256(content).hexdigest()[:32]}"')
