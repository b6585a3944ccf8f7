"""What can go wrong, as classes; nothing here knows HTTP.

UnpauseError
├── NotFound       RunNotFound  SessionNotFound  AgentNotFound  ApprovalNotFound
├── Conflict       InvalidTransition (PauseIsOver  RunHasEnded  RequirementExpired)  AlreadyResolved  Collision
│                  RunUnreadable
├── Unacceptable   RequirementMismatch  RequirementsOpen  InvalidInput  IdempotencyMismatch  ModelNotAllowed
│                  SecretsNotKept  InvalidOutputSchema
├── Unauthenticated
├── Denied         OrganizationForbidden  ApprovalPending  ScopeMissing  AgentForbidden  UserMissing  NotADecider
├── TooLarge
├── Limited        RateLimited  RunLimitReached
├── Unavailable    DatabaseUnavailable  DatabaseBusy  AgentUnavailable  ShuttingDown
├── LeaseLost      inside the executor only
└── Startup        InvalidSetting  SchemaMismatch  DatabaseInUse

StorageError stands beside them: a bug or a broken database, which no client could do anything about.

``api/errors.py`` holds the one table from these classes to a status.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class UnpauseError(Exception):
    """The root: ``message`` is fit for a client and holds no secret."""

    code: str = "ERROR"

    def __init__(self, message: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, object] = details or {}


class NotFound(UnpauseError):
    """What was named does not exist, or not for who asks."""

    code = "NOT_FOUND"


class RunNotFound(NotFound):
    """No such run in the caller's organization."""

    def __init__(self, message: str = "Run not found") -> None:
        super().__init__(message)


class SessionNotFound(NotFound):
    """No such session in the caller's organization."""


class AgentNotFound(NotFound):
    """No agent of that id is served here."""

    def __init__(self, message: str = "Agent not found") -> None:
        super().__init__(message)


class ApprovalNotFound(NotFound):
    """No such approval in the caller's organization."""

    def __init__(self) -> None:
        super().__init__("Approval not found")


class Conflict(UnpauseError):
    """The request came too late: the state it was meant for is gone."""

    code = "CONFLICT"


class InvalidTransition(Conflict):
    """The run's status does not allow the request.

    ``status`` is the run's; ``details`` repeat it and add who continued the run last, when and with which decision.
    """

    def __init__(self, status: str, details: Mapping[str, object] | None = None, message: str | None = None) -> None:
        super().__init__(message or f"The run is {status}", {"status": status, **(details or {})})
        self.status = status


class PauseIsOver(InvalidTransition):
    """The request answers a pause that was continued before."""


class RunHasEnded(InvalidTransition):
    """The request needs a run that has not ended."""

    def __init__(self, status: str) -> None:
        super().__init__(status, message=f"run has ended: {status}")


class RequirementExpired(InvalidTransition):
    """The request answers a call after its deadline."""

    def __init__(self, status: str, call: str, expired_at: str | None) -> None:
        super().__init__(
            status, {"expired_at": expired_at}, f"{call} expired at {expired_at}: it cannot be answered any more"
        )


class AlreadyResolved(Conflict):
    """Somebody decided this approval before, or nobody has to any more."""

    def __init__(self, status: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(f"Approval is already '{status}' and cannot be resolved", details)


class Collision(Conflict):
    """Another request did the same, or removed what this one builds on, at the same moment; nothing was changed."""

    def __init__(self) -> None:
        super().__init__("Another request changed the same at the same moment; nothing was changed, try again")


class RunUnreadable(Conflict):
    """What is stored of a run cannot be read, such as what a newer version has written."""

    def __init__(self) -> None:
        super().__init__("This version of the server cannot read what is stored of the run")


class Unacceptable(UnpauseError):
    """The request makes no sense as it stands; it changed nothing."""

    code = "BAD_REQUEST"


class RequirementMismatch(Unacceptable):
    """An answer does not fit the call that was shown: its id, name, arguments, fields or kind."""


class RequirementsOpen(Unacceptable):
    """A continue said nothing about what the run waits for."""


class InvalidInput(Unacceptable):
    """A value is malformed."""


class IdempotencyMismatch(Unacceptable):
    """An Idempotency-Key was used before, for another request."""

    code = "IDEMPOTENCY_MISMATCH"

    def __init__(self) -> None:
        super().__init__("This Idempotency-Key was used before with another request")


class InvalidOutputSchema(Unacceptable):
    """The schema that the answer is to have cannot be used."""

    code = "INVALID_OUTPUT_SCHEMA"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Invalid output_schema: {reason}")


class ModelNotAllowed(Unacceptable):
    """A client asked for a model that the settings do not allow."""

    def __init__(self, model: str, allowed: Sequence[str]) -> None:
        super().__init__(f"Model {model!r} is not available here; available: {', '.join(allowed) or 'none'}")


class SecretsNotKept(Unacceptable):
    """A secret would have to be stored, and there is no key to encrypt it with."""

    def __init__(self) -> None:
        super().__init__("This server keeps no secrets: it was started without --encryption-key")


class Limited(UnpauseError):
    """Too much was asked for."""

    code = "LIMITED"


class RateLimited(Limited):
    """Too many requests in a window of time; ``retry_after`` are the seconds until the next may come."""

    def __init__(self, retry_after: int, message: str = "Rate limit exceeded. Please try again later.") -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RunLimitReached(Limited):
    """The organization has created as many runs as it may."""

    def __init__(self) -> None:
        super().__init__("The organization has reached its limit of runs")


class Unauthenticated(UnpauseError):
    """Nobody knows who asks: there is no token, or none that counts."""

    code = "UNAUTHENTICATED"


class Denied(UnpauseError):
    """Who asks may not do this."""

    code = "FORBIDDEN"


class OrganizationForbidden(Denied):
    """The caller is not a member of the organization in the path."""

    def __init__(self) -> None:
        super().__init__("You do not have access to this organization.")


class ApprovalPending(Denied):
    """An administrator has to decide before anybody can continue the run."""

    def __init__(self) -> None:
        super().__init__("This run requires admin approval before it can be continued")


class ScopeMissing(Denied):
    """The token was not made for this (text: agno.md section 2)."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"Insufficient permissions. Required scope(s): {scope}")


class AgentForbidden(Denied):
    """The token was not made for this agent (text: agno.md section 2)."""

    def __init__(self, action: str) -> None:
        super().__init__(f"Access denied to {action} this agent")


class UserMissing(Denied):
    """The token names no user, and what users own is kept apart here."""

    def __init__(self) -> None:
        super().__init__("Authenticated request is missing a user identity")


class NotADecider(Denied):
    """The tool's author wants others to decide this call."""


class TooLarge(UnpauseError):
    """The request body is over the limit."""

    code = "TOO_LARGE"


class Unavailable(UnpauseError):
    """Not now; later may work."""

    code = "UNAVAILABLE"


class DatabaseUnavailable(Unavailable):
    """The database does not answer; what was asked of it was not done, or its answer was lost."""

    def __init__(self) -> None:
        super().__init__("The database does not answer")


class DatabaseBusy(Unavailable):
    """Other transactions are in the way, for longer than one waits for them; nothing was changed."""

    def __init__(self, what: str = "What this needs") -> None:
        super().__init__(f"{what} is locked by another transaction; try again")


@contextmanager
def busy_with(what: str) -> Iterator[None]:
    """Have a DatabaseBusy of the block name what is locked."""
    try:
        yield
    except DatabaseBusy as error:
        raise DatabaseBusy(what) from error


class AgentUnavailable(Unavailable):
    """No live process serves the agent, so what was decided could not be carried out: it was not taken."""

    def __init__(self, agent_id: str) -> None:
        message = f"Agent {agent_id!r} is not served at present: nothing was decided. Try again when it is back."
        super().__init__(message, {"agent_id": agent_id})


class ShuttingDown(Unavailable):
    """The server is stopping and takes no new work."""

    def __init__(
        self, message: str = "The server is shutting down", details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message, details)


class LeaseLost(UnpauseError):
    """The executor's fence is stale: another claim, or a cancel, owns the run now."""


class StorageError(Exception):
    """The database refused a statement, or its answer made no sense; the cause says what the driver said of it.

    The driver's words, with the statement in them, are for the log alone: this text may be shown to anybody.
    """

    def __init__(self) -> None:
        super().__init__("The database could not do what was asked of it")


class Startup(UnpauseError):
    """The server refuses to start; the message says what mends it."""


class InvalidSetting(Startup):
    """A setting has a value that cannot work."""


class SchemaMismatch(Startup):
    """The database's schema is not the one this code was written for."""


class DatabaseInUse(Startup):
    """Another server has the SQLite file open."""
