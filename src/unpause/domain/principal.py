"""The caller: its organization, its user where that is known, and what both may see and do."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from datetime import datetime

from unpause.domain.scopes import ADMIN, METRICS, agents_named, allows, allows_any_agent
from unpause.errors import AgentForbidden, ScopeMissing

# The token id of a JWT that names no user: this prefix and the number of its organization.
NAMELESS_JWT = "jwt:"

# The first migration creates it; clients without authentication belong to it.
DEFAULT_ORGANIZATION = 1
# `via` of what the server does by itself.
SERVER_ITSELF = frozenset({"server", "expiry"})

_TOKEN = "token:"  # noqa: S105 - a word, not a token
_USER = "user:"
# The length of the database's column.
_LONGEST_NAME = 255


@dataclass(frozen=True, slots=True)
class Visibility:
    """What a query may show: what belongs to the organization, and of that with a ``user_id`` only that user's.

    Every statement on what clients own starts from it.
    """

    organization_id: int
    user_id: str | None = None


@dataclass(frozen=True, slots=True)
class Principal:
    """The caller of a request.

    ``user_id`` is the user that the request names; ``subject`` is the authenticated user, None for a program that acts
    for users of its own. ``via`` names the API (``agno``, ``codegen`` or ``unpause``), for the record of a decision.
    ``scopes`` None means all: the server itself has them, and every client of a server without authentication.
    ``token_id`` is the token's public id. ``session_id`` is the session that its runs belong to. ``is_isolated`` hides
    other users' runs and sessions. ``address`` is the IP address of the request. ``expires_at`` is when the
    token expires.
    """

    organization_id: int
    user_id: str | None = None
    via: str = "server"
    subject: str | None = None
    scopes: frozenset[str] | None = None
    token_id: str | None = None
    session_id: str | None = None
    is_isolated: bool = False
    address: str | None = None
    expires_at: datetime | None = field(default=None, compare=False)

    @property
    def name(self) -> str | None:
        """The actor for the audit trail: the user, or the token of a caller without one.

        A user's name that begins with ``token:`` or ``user:`` gets another ``user:`` before it, so that no two actors
        have the same name.
        """
        user = self.subject or self.user_id
        if not user:
            return f"{_TOKEN}{self.token_id}" if self.token_id else None
        return f"{_USER}{user}"[:_LONGEST_NAME] if user.startswith((_TOKEN, _USER)) else user

    @property
    def credential(self) -> str | None:
        """The key of its rate limits: the token, or the user of a JWT; None without authentication."""
        if self.token_id is not None:
            return self.token_id
        return None if self.subject is None else f"{self.organization_id}:{self.subject}"

    @property
    def sees_metrics(self) -> bool:
        """Whether it may see the figures of all organizations, which an administrator of one may not by itself."""
        return self.scopes is None or METRICS in self.scopes

    @property
    def is_server(self) -> bool:
        """Whether the server acts by itself, such as at a deadline."""
        return self.via in SERVER_ITSELF

    @property
    def is_admin(self) -> bool:
        """Whether it may do everything in its organization."""
        return self.scopes is None or ADMIN in self.scopes

    @property
    def is_nameless_jwt(self) -> bool:
        """Whether it is a JWT that names no user."""
        return self.token_id is not None and self.token_id.startswith(NAMELESS_JWT)

    @property
    def visibility(self) -> Visibility:
        """What it may see of runs and sessions."""
        hidden = self.is_isolated and not self.is_admin
        return Visibility(self.organization_id, self.subject or self.user_id if hidden else None)

    @property
    def visibility_of_approvals(self) -> Visibility:
        """What it may see of approvals: a caller who may decide them sees those of all users."""
        return Visibility(self.organization_id) if self.may("approvals:write") else self.visibility

    def acting_for(self, user_id: str | None) -> Principal:
        """Return it acting for the user that the request names; an authenticated user acts for nobody else."""
        return replace(self, user_id=self.subject or user_id or None)

    def narrowed_to(self, user_id: str | None) -> Principal:
        """Return it narrowed to what belongs to the user that the request names, as far as it may see that.

        Nobody has an empty name; None narrows nothing.
        """
        return replace(self, user_id=user_id) if self.visibility.user_id is None else self

    def may(self, scope: str, agent_id: str | None = None) -> bool:
        """Whether it has the scope, for this agent or for all."""
        return self.scopes is None or allows(self.scopes, scope, agent_id)

    def may_any_agent(self, action: str) -> bool:
        """Whether it may do this with any agent."""
        return self.scopes is None or allows_any_agent(self.scopes, action)

    def agents_for(self, *actions: str) -> frozenset[str] | None:
        """Return the agents with which it may do one of these; None for all."""
        return None if self.scopes is None else agents_named(self.scopes, actions)

    @property
    def visible_agents(self) -> frozenset[str] | None:
        """The agents whose runs it may see; None for all."""
        return self.agents_for("read", "run")

    def require_scope(self, scope: str) -> None:
        """Raise ScopeMissing unless it has the scope; a scope for one agent is enough."""
        resource, _, action = scope.partition(":")
        has_it = self.may_any_agent(action) if resource == "agents" else self.may(scope)
        if not has_it:
            raise ScopeMissing(scope)

    def require_agent(self, agent_id: str, action: str = "run") -> None:
        """Raise AgentForbidden unless it may do this with the agent."""
        if not self.may(f"agents:{action}", agent_id):
            raise AgentForbidden(action)
