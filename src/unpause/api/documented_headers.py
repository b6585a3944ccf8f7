"""Header fields of responses, as the OpenAPI documents describe them."""

from __future__ import annotations

from typing import Any

# FastAPI's ``headers`` of a response. None is `required`: a server without authentication limits nobody.
RETRY_AFTER: dict[str, Any] = {
    "Retry-After": {"description": "Seconds to wait before the next attempt", "schema": {"type": "integer"}}
}
RATE_LIMIT: dict[str, Any] = {
    "RateLimit-Policy": {
        "description": "The limit: its name, `q` requests in a window of `w` seconds",
        "schema": {"type": "string"},
        "example": '"create";q=10;w=60',
    },
    "RateLimit": {
        "description": "What remains of the limit: `r` requests in the next `t` seconds",
        "schema": {"type": "string"},
        "example": '"create";r=9;t=60',
    },
}
