"""Reads the Idempotency-Key of a request, and computes a fingerprint to compare requests by."""

from __future__ import annotations

import hashlib
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import Header
from pydantic_core import to_json

from unpause.domain.idempotency import RequestKey, versioned
from unpause.errors import InvalidInput
from unpause.vault import Sealed

if TYPE_CHECKING:
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
    fingerprint = hashlib.sha256(to_json(named, bytes_mode="base64", fallback=_mark)).hexdigest()
    return RequestKey(principal.organization_id, owned, versioned(fingerprint))


def fields_of(command: CreateRun | ContinueRun | ResolveApproval | RunRef) -> dict[str, Any]:
    """Return the command's fields that differ from their defaults, so that a new field changes no older request."""
    pairs = ((field, getattr(command, field.name)) for field in fields(command))
    return {field.name: value for field, value in pairs if value != field.default}


def _mark(value: object) -> str:
    """Return the keyed mark of a secret: from a plain hash a weak secret could be guessed."""
    if isinstance(value, Sealed):
        return value.mark
    raise TypeError(f"{type(value).__name__} has no place in a fingerprint")
