"""The console's cookie: its name, and that only pages of this server use it.

A browser sends the cookie with every request to this server. ``SameSite=Strict`` keeps it from requests of other sites,
but another port of this host is the same site: so the origin has to be this server's, too, and an unsafe method needs
a header that no form can send.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers

from unpause.api.prefix import prefix_of
from unpause.errors import ForeignPage

if TYPE_CHECKING:
    from starlette.responses import Response
    from starlette.types import Scope

CONSOLE_HEADER: Final = "x-unpause-console"
_NAME = "unpause_console"
# Browsers accept a cookie of such a name only from this very host, over TLS, and for all of its paths.
_SECURE_NAME = f"__Host-{_NAME}"
# Below a prefix the cookie is for that alone: the rest of the host is somebody else's. Browsers accept it over TLS.
_SECURE_NAME_BELOW = f"__Secure-{_NAME}"
_SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
# `none` is an address that a person entered.
_OWN_SITE = frozenset({"same-origin", "none"})


def cookie_of(scope: Scope, public_url: str | None) -> str | None:
    """Return the value of the console's cookie; None without one, and where several have its name."""
    header = Headers(scope=scope).get("cookie")
    name = _cookie_name(scope, public_url)
    # Another server on this host, or on one above it, may have set a second one.
    pairs = [part.strip().partition("=") for part in (header or "").split(";")]
    values = [value for found, _, value in pairs if found == name]
    return values[0] if len(values) == 1 else None


def set_cookie(response: Response, scope: Scope, public_url: str | None, value: str, seconds: int) -> None:
    """Have the browser keep the cookie for so long."""
    name, path = _cookie_name(scope, public_url), prefix_of(scope) or "/"
    response.set_cookie(name, value, max_age=seconds, path=path, secure=name != _NAME, httponly=True, samesite="strict")


def delete_cookie(response: Response, scope: Scope, public_url: str | None) -> None:
    """Have the browser forget the cookie."""
    name, path = _cookie_name(scope, public_url), prefix_of(scope) or "/"
    response.delete_cookie(name, path=path, secure=name != _NAME, httponly=True, samesite="strict")


def check_same_origin(scope: Scope, public_url: str | None) -> None:
    """Raise ForeignPage unless a page of this server sends the request; an unsafe method has to prove it."""
    headers = Headers(scope=scope)
    site, origin = headers.get("sec-fetch-site"), headers.get("origin")
    own = {_host(f"//{headers.get('host', '')}"), _host(public_url or "")} - {None}
    if (site is not None and site not in _OWN_SITE) or (origin is not None and _host(origin) not in own):
        raise ForeignPage
    if scope["method"] in _SAFE_METHODS:
        return
    if headers.get(CONSOLE_HEADER) != "1" or (site is None and origin is None):
        raise ForeignPage


def _cookie_name(scope: Scope, public_url: str | None) -> str:
    is_secure = scope["scheme"] == "https" or (public_url or "").startswith("https://")
    secure = _SECURE_NAME_BELOW if prefix_of(scope) else _SECURE_NAME
    return secure if is_secure else _NAME


def _host(url: str) -> str | None:
    """Return host and port of a URL; None where it has none."""
    try:
        return urlsplit(url).netloc.lower() or None
    except ValueError:
        return None
