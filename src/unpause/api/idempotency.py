"""Reads the Idempotency-Key of a request, and says whether two requests ask for the same."""

from __future__ import annotations

import hashlib
from typing import Annotated

from fastapi import Header
from pydantic_core import to_json

from unpause.domain.idempotency import RequestKey
from unpause.domain.principal import Principal
from unpause.errors import InvalidInput

_LONGEST_KEY = 255

# The header as clients send it; None where they do not.
IdempotencyKey = Annotated[str | None, Header(alias="Idempotency-Key")]


def request_key(principal: Principal, key: str | None, *asked: object) -> RequestKey | None:
    """Return the key with a fingerprint of what was ``asked``, or None without one; raise InvalidInput.

    Each user has keys of their own: nobody learns from a key what another one did with it.
    """
    if key is None:
        return None
    if not key.strip() or len(key) > _LONGEST_KEY or not key.isprintable():
        raise InvalidInput(f"Idempotency-Key must be 1 to {_LONGEST_KEY} printable characters")
    owned = hashlib.sha256(to_json([principal.subject, key])).hexdigest()
    fingerprint = hashlib.sha256(to_json(asked, bytes_mode="base64", fallback=repr)).hexdigest()
    return RequestKey(principal.organization_id, owned, fingerprint)
