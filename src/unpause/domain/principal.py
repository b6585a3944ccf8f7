"""Who asks: the organization, the user where that is known, and what both may see and do."""

from __future__ import annotations

from dataclasses import dataclass, replace

from unpause.domain.scopes import ADMIN, allows, allows_any_agent
from unpause.errors import AgentForbidden, ScopeMissing

# What stands for a token id where a JWT names no user; the number of its organization follows.
NAMELESS_JWT = "jwt:"

# The one that the first migration makes; who is not authenticated belongs to it.
DEFAULT_ORGANIZATION = 1
# What `via` says where nobody asked.
SERVER_ITSELF = frozenset({"server", "expiry"})

_TOKEN = "token:"  # noqa: S105 - a word, not a token
_USER = "user:"
# What the database takes.
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
    """The one on whose behalf a request is made.

    ``user_id`` is whom it acts for, as far as anybody said; ``subject`` is the user that it has proved to be, None for
    a program that acts for users of its own. ``via`` names the API it came through (``agno`` or ``codegen``), for the
    record of a decision. ``scopes`` None means everything: of the server itself, and of everybody where nobody is asked
    who they are. ``token_id`` names the token, and is no secret. ``session_id`` is the session that its runs belong to.
    ``is_isolated`` says that other users' runs and sessions are not there for it. ``address`` is the IP address of
    the request.
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

    @property
    def name(self) -> str | None:
        """Whom to write down as the one who did it: the user, or the token of one who acts for nobody.

        A user whose name begins as that of a token would is written with ``user:`` before it, and so is one whose name
        begins with that: no two of them read the same.
        """
        user = self.subject or self.user_id
        if not user:
            return f"{_TOKEN}{self.token_id}" if self.token_id else None
        return f"{_USER}{user}"[:_LONGEST_NAME] if user.startswith((_TOKEN, _USER)) else user

    @property
    def credential(self) -> str | None:
        """What its requests are counted by: the token, or the user whom JWTs name; None for nobody."""
        if self.token_id is not None:
            return self.token_id
        return None if self.subject is None else f"{self.organization_id}:{self.subject}"

    @property
    def is_server(self) -> bool:
        """Whether nobody asked: time is over, or the server does its own work."""
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
        """What it may see of approvals: who decides them sees those of everybody."""
        return Visibility(self.organization_id) if self.may("approvals:write") else self.visibility

    def acting_for(self, user_id: str | None) -> Principal:
        """Return it acting for the user that a request names; who has proved to be somebody acts for nobody else."""
        return replace(self, user_id=self.subject or user_id or None)

    def looking_for(self, user_id: str | None) -> Principal:
        """Return it looking for what belongs to the user that a request names, as far as it may see that.

        An empty name is a name, which nobody has; None looks for what belongs to anybody.
        """
        return replace(self, user_id=user_id) if self.visibility.user_id is None else self

    def may(self, scope: str, agent_id: str | None = None) -> bool:
        """Whether it has the scope, for this agent or for all."""
        return self.scopes is None or allows(self.scopes, scope, agent_id)

    def may_any_agent(self, action: str) -> bool:
        """Whether there may be an agent that it may do this with."""
        return self.scopes is None or allows_any_agent(self.scopes, action)

    def refuse_without(self, scope: str) -> None:
        """Raise ScopeMissing unless it has the scope; one of agents is enough for any of them."""
        resource, _, action = scope.partition(":")
        has_it = self.may_any_agent(action) if resource == "agents" else self.may(scope)
        if not has_it:
            raise ScopeMissing(scope)

    def refuse_agent(self, agent_id: str, action: str = "run") -> None:
        """Raise AgentForbidden unless it may do this with the agent."""
        if not self.may(f"agents:{action}", agent_id):
            raise AgentForbidden(action)
