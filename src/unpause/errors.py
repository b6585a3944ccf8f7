"""What can go wrong, as classes; nothing here knows HTTP.

UnpauseError
├── NotFound       RunNotFound  SessionNotFound  AgentNotFound  ApprovalNotFound  RequirementNotFound  GrantNotFound
├── Conflict       InvalidTransition (PauseIsOver  RunHasEnded  RequirementExpired)  AlreadyResolved  Collision
│                  AlreadyDecided  RunUnreadable  RunInProgress
├── Unacceptable   RequirementMismatch  RequirementsOpen  InvalidInput  IdempotencyMismatch  ModelNotAllowed
│                  SecretsNotKept  InvalidOutputSchema
├── Unauthenticated
├── Denied         OrganizationForbidden  ForeignPage  ApprovalPending  ScopeMissing  AgentForbidden  UserMissing
│                  NotADecider
├── TooLarge
├── Limited        RateLimited  RunLimitReached
├── Unavailable    DatabaseUnavailable (DatabaseFull)  DatabaseBusy  AgentUnavailable  AgentsLoading  ShuttingDown
├── LeaseLost      inside the executor only
└── Startup        InvalidSetting  SchemaMismatch  DatabaseInUse

StorageError is no UnpauseError: it means a bug or a broken database.

``api/errors.py`` maps these classes to a status.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence


class UnpauseError(Exception):
    """The root: clients may see ``message``, which contains no secret."""

    code: str = "ERROR"

    def __init__(self, message: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.details: Mapping[str, object] = details or {}


class NotFound(UnpauseError):
    """The object does not exist, or the caller may not see it."""

    code = "NOT_FOUND"


class RunNotFound(NotFound):
    """No such run in the caller's organization."""

    def __init__(self, message: str = "Run not found") -> None:
        super().__init__(message)


class SessionNotFound(NotFound):
    """No such session in the caller's organization."""


class AgentNotFound(NotFound):
    """No agent with that id is served here."""

    def __init__(self, message: str = "Agent not found") -> None:
        super().__init__(message)


class ApprovalNotFound(NotFound):
    """No such approval in the caller's organization."""

    def __init__(self) -> None:
        super().__init__("Approval not found")


class RequirementNotFound(NotFound):
    """No such requirement in the caller's organization, or none that it may see."""

    def __init__(self) -> None:
        super().__init__("Requirement not found")


class GrantNotFound(NotFound):
    """No such grant in the caller's organization."""

    def __init__(self) -> None:
        super().__init__("Grant not found")


class Conflict(UnpauseError):
    """The request comes too late: the state that it needs is over."""

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
    """The approval was decided before, or needs no decision any more."""

    def __init__(self, status: str, details: Mapping[str, object] | None = None) -> None:
        super().__init__(f"Approval is already '{status}' and cannot be resolved", details)


class AlreadyDecided(Conflict):
    """The requirement was decided before, or its run was cancelled; ``details`` tell who was first."""

    code = "ALREADY_DECIDED"


class RunInProgress(Conflict):
    """The conversation has a run that has not ended, and takes another one after that; ``details`` name it."""

    code = "RUN_IN_PROGRESS"

    def __init__(self, run_id: str, status: str) -> None:
        message = f"The thread's run {run_id} is {status}: send the message again when it has ended, or cancel it"
        super().__init__(message, {"runId": run_id, "status": status})


class Collision(Conflict):
    """A concurrent request did the same or removed what this one needs; nothing was changed."""

    def __init__(self) -> None:
        super().__init__("A concurrent request changed the same data; nothing was changed. Try again.")


class RunUnreadable(Conflict):
    """The stored run cannot be read, such as one that a newer version wrote."""

    def __init__(self) -> None:
        super().__init__("This version of the server cannot read the stored run")


class Unacceptable(UnpauseError):
    """The request is invalid; it changed nothing."""

    code = "BAD_REQUEST"


class RequirementMismatch(Unacceptable):
    """An answer does not fit the call that was shown: its id, name, arguments, fields or kind."""


class RequirementsOpen(Unacceptable):
    """A continue answers none of the run's requirements."""


class InvalidInput(Unacceptable):
    """A value is malformed."""


class IdempotencyMismatch(Unacceptable):
    """An Idempotency-Key was used before with another request."""

    code = "IDEMPOTENCY_MISMATCH"

    def __init__(self, name: str = "Idempotency-Key") -> None:
        super().__init__(f"This {name} was used before with another request")


class InvalidOutputSchema(Unacceptable):
    """The requested schema of the answer is invalid or not supported."""

    code = "INVALID_OUTPUT_SCHEMA"

    def __init__(self, reason: str) -> None:
        super().__init__(f"Invalid output_schema: {reason}")


class ModelNotAllowed(Unacceptable):
    """The settings do not allow the requested model."""

    def __init__(self, model: str, allowed: Sequence[str]) -> None:
        super().__init__(f"Model {model!r} is not available here; available: {', '.join(allowed) or 'none'}")


class SecretsNotKept(Unacceptable):
    """There is no key to encrypt a secret with."""

    def __init__(self) -> None:
        super().__init__("This server cannot store secrets: it was started without --encryption-key")


class Limited(UnpauseError):
    """A limit was reached."""

    code = "LIMITED"


class RateLimited(Limited):
    """Too many requests in a window of time; ``retry_after`` is the number of seconds to wait."""

    def __init__(self, retry_after: int, message: str = "Rate limit exceeded. Please try again later.") -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RunLimitReached(Limited):
    """The organization has created as many runs as it may."""

    def __init__(self) -> None:
        super().__init__("The organization has reached its limit of runs")


class Unauthenticated(UnpauseError):
    """The request has no valid token."""

    code = "UNAUTHENTICATED"


class Denied(UnpauseError):
    """The caller may not do this."""

    code = "FORBIDDEN"


class OrganizationForbidden(Denied):
    """The caller is not a member of the organization in the path."""

    def __init__(self) -> None:
        super().__init__("You do not have access to this organization.")


class ForeignPage(Denied):
    """A page that is not this server's sent the console's cookie."""

    def __init__(self) -> None:
        super().__init__("The console's cookie is accepted only from pages of this server")


class ApprovalPending(Denied):
    """An administrator has to decide before the run can be continued."""

    def __init__(self) -> None:
        super().__init__("This run requires admin approval before it can be continued")


class ScopeMissing(Denied):
    """The token lacks a scope."""

    def __init__(self, scope: str) -> None:
        super().__init__(f"Insufficient permissions. Required scope(s): {scope}")


class AgentForbidden(Denied):
    """The token lacks a scope for this agent."""

    def __init__(self, action: str) -> None:
        super().__init__(f"Access denied to {action} this agent")


class UserMissing(Denied):
    """The token names no user, and this server isolates users."""

    def __init__(self) -> None:
        super().__init__("Authenticated request is missing a user identity")


class NotADecider(Denied):
    """The tool's policy requires another decider."""


class TooLarge(UnpauseError):
    """The request body is over the limit."""

    code = "TOO_LARGE"


class Unavailable(UnpauseError):
    """Temporarily impossible; a later request may succeed."""

    code = "UNAVAILABLE"


class DatabaseUnavailable(Unavailable):
    """The database does not answer: the statement had no effect, or its answer was lost."""

    def __init__(self, message: str = "The database does not answer") -> None:
        super().__init__(message)


class DatabaseFull(DatabaseUnavailable):
    """The database has no room on its disk: it can be read, and nothing was written."""

    def __init__(self) -> None:
        super().__init__("The database's disk is full: nothing was changed")


class DatabaseBusy(Unavailable):
    """A lock was not free in time; nothing was changed."""

    def __init__(self, what: str = "A row") -> None:
        super().__init__(f"{what} is locked by another transaction. Try again.")


@contextmanager
def busy_with(what: str) -> Iterator[None]:
    """Name the locked object in a DatabaseBusy of the block."""
    try:
        yield
    except DatabaseBusy as error:
        raise DatabaseBusy(what) from error


class AgentUnavailable(Unavailable):
    """No live process serves the agent; the decision was not accepted."""

    def __init__(self, agent_id: str) -> None:
        message = f"No running server serves agent {agent_id!r}: nothing was decided. Try again when one does."
        super().__init__(message, {"agent_id": agent_id})


class AgentsLoading(Unavailable):
    """The server has just started and does not know its agents yet; nothing was changed."""

    def __init__(self) -> None:
        super().__init__("The server is loading its agents. Try again in a moment.")


class ShuttingDown(Unavailable):
    """The server is stopping and accepts no new work."""

    def __init__(
        self, message: str = "The server is shutting down", details: Mapping[str, object] | None = None
    ) -> None:
        super().__init__(message, details)


class LeaseLost(UnpauseError):
    """The executor's fence is stale: another claim or a cancel took the run."""


class StorageError(Exception):
    """The database refused a statement; the cause is the driver's error.

    The driver's message contains the statement and is for the log alone: clients may see this one.
    """

    def __init__(self) -> None:
        super().__init__("The database refused a statement")


class Startup(UnpauseError):
    """The server refuses to start; the message says how to fix it."""


class InvalidSetting(Startup):
    """A setting has an invalid value."""


class SchemaMismatch(Startup):
    """The database does not have the schema of this version."""


class DatabaseInUse(Startup):
    """Another server has the SQLite file open."""
