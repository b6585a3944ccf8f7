"""Who asks: the organization and, where it is known, the user."""

from __future__ import annotations

from dataclasses import dataclass

# Until tokens name others there is one organization; the first migration makes it.
DEFAULT_ORGANIZATION = 1


@dataclass(frozen=True, slots=True)
class Principal:
    """The one on whose behalf a request is made.

    ``via`` names the API it came through (``agno`` or ``codegen``), for the record of a decision.
    """

    organization_id: int
    user_id: str | None = None
    via: str = "server"
