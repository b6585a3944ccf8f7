"""Reads the Idempotency-Key of a request, fingerprints the request, and gives a repeated one the same answer."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Header
from pydantic_core import to_json
from starlette.responses import Response

from unpause.domain.idempotency import RequestKey, versioned
from unpause.errors import InvalidInput
from unpause.vault import KEY_CHARACTERS, Encrypted

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from unpause.bootstrap import Application
    from unpause.domain.principal import Principal
    from unpause.domain.runs import RunRef
    from unpause.services.commands import ContinueRun, CreateRun, ResolveApproval

_LONGEST_KEY = 255

# The header as clients send it; None where they do not.
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key")]


def read_request_key(principal: Principal, key: str | None, operation: str, **request: object) -> RequestKey | None:
    """Return the key with a fingerprint of the ``request``, by field, or None without a key; raise InvalidInput.

    Each user has keys of their own: a key reveals nothing about another user's requests.
    """
    if key is None:
        return None
    if not key.strip() or len(key) > _LONGEST_KEY or not key.isprintable():
        raise InvalidInput(f"Idempotency-Key must be 1 to {_LONGEST_KEY} printable characters")
    owned = hashlib.sha256(to_json([principal.subject, key])).hexdigest()
    named = {"operation": operation, **dict(sorted(request.items()))}
    marks: list[str] = []
    content = to_json(named, bytes_mode="base64", fallback=partial(_mark, marks))
    key_name = marks[0][:KEY_CHARACTERS] if marks else ""
    return RequestKey(principal.organization_id, owned, versioned(hashlib.sha256(content).hexdigest(), key_name))


async def respond_once(
    application: Application, request_key: RequestKey | None, earlier: str | None, make: Callable[[], Awaitable[bytes]]
) -> Response:
    """Return the earlier answer to the request; without one make it, and keep it for a request with the same key."""
    if earlier is not None:
        return Response(earlier, media_type="application/json")
    answer = await make()
    if request_key is not None:
        await application.service.keep_answer(request_key, answer.decode())
    return Response(answer, media_type="application/json")


def fields_of(command: CreateRun | ContinueRun | ResolveApproval | RunRef) -> dict[str, Any]:
    """Return the command's fields that differ from their defaults, so that a new field changes no older request."""
    pairs = ((field, getattr(command, field.name)) for field in fields(command))
    return {field.name: value for field, value in pairs if value != field.default}


def _mark(marks: list[str], value: object) -> str:
    """Return the keyed mark of a secret, and note it: from a plain hash a weak secret could be guessed."""
    if isinstance(value, Encrypted):
        marks.append(value.mark)
        return value.mark
    raise TypeError(f"{type(value).__name__} has no place in a fingerprint")
