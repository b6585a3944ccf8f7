"""The tokens of an organization, as its administrators see them: listed and revoked, and shown once when created."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from unpause.auth.tokens import create_token, is_token_id, revoke_token
from unpause.domain.scopes import METRICS
from unpause.errors import NotFound, ScopeMissing
from unpause.store.tokens import find_token, page_tokens

if TYPE_CHECKING:
    from unpause.auth.tokens import NewToken
    from unpause.clock import Clock
    from unpause.domain.principal import Principal
    from unpause.domain.tokens import Token
    from unpause.store.engine.database import Connection, Database


class TokenList:
    """Lists, creates and revokes the tokens of the principal's organization."""

    def __init__(self, database: Database, clock: Clock) -> None:
        self._database = database
        self._clock = clock

    async def list_tokens(self, principal: Principal, limit: int, after: str | None) -> list[Token]:
        """Return the tokens that follow the one with the id ``after``, newest first, expired and revoked ones too."""
        organization_id = principal.organization_id
        return await self._database.read(lambda connection: page_tokens(connection, organization_id, limit, after))

    async def create(self, principal: Principal, new: NewToken) -> tuple[Token, str]:
        """Create a token of the principal's organization; return it and its text, which is stored nowhere.

        Raises InvalidInput, and ScopeMissing for the metrics of all organizations by somebody who may not see them.
        """
        if METRICS in new.scopes and not principal.sees_metrics:
            raise ScopeMissing(METRICS)
        own, now = replace(new, organization_id=principal.organization_id), self._clock.now()
        return await self._database.write(lambda connection: create_token(connection, own, principal, now))

    async def revoke(self, principal: Principal, token_id: str) -> Token:
        """Revoke the token and return it; every process refuses it within two seconds. Raises NotFound."""

        def unit(connection: Connection) -> Token:
            token = find_token(connection, token_id) if is_token_id(token_id) else None
            if token is None or token.organization_id != principal.organization_id:
                raise NotFound("Token not found")
            revoke_token(connection, token_id, principal, self._clock.now())
            revoked = find_token(connection, token_id)
            return token if revoked is None else revoked

        return await self._database.write(unit)
