"""The inbox's routes to decide."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from unpause.api.answers import answer
from unpause.api.dependencies import App, address_of
from unpause.api.error_texts import text_of
from unpause.api.idempotency import IdempotencyKey, read_request_key, respond_once
from unpause.api.inbox.models import (
    DecisionRefusal,
    DecisionRequest,
    DecisionResponse,
    DecisionsRequest,
    DecisionsResponse,
    InboxRun,
    NamedDecisionRequest,
    OneDecisionResponse,
)
from unpause.api.inbox.wire import outcome_of
from unpause.api.native import ERRORS, Caller, NativeRoute, model_response
from unpause.domain.grants import GrantRequest
from unpause.errors import UnpauseError
from unpause.services.commands import DecideRequirement, Verb

if TYPE_CHECKING:
    from unpause.bootstrap import Application
    from unpause.domain.principal import Principal
    from unpause.services.commands import Decided

router = APIRouter(route_class=NativeRoute, tags=["Inbox"], responses=ERRORS)

_OPERATION = "inbox.decide"


@router.post(
    "/inbox/decide",
    operation_id="decide_inbox_requests",
    response_model=None,
    responses=answer("DecisionsResponse", "What became of each decision"),
)
async def decide_inbox_requests(
    application: App, request: Request, caller: Caller, body: DecisionsRequest, idempotency_key: IdempotencyKey = None
) -> Response:
    """Decide several requests, one after the other; each is taken, or refused, by itself."""
    address = address_of(application, request)
    taken = [await _take_one(application, caller, item, idempotency_key, address) for item in body.decisions]
    return model_response(DecisionsResponse(data=taken))


@router.post(
    "/inbox/{requirement_id}/decide",
    operation_id="decide_inbox_request",
    response_model=None,
    responses={
        **answer("DecisionResponse", "The request, decided or confirmed by one of several"),
        **answer("AlreadyDecidedResponse", "Somebody was faster", 409),
    },
)
async def decide_inbox_request(
    application: App,
    request: Request,
    caller: Caller,
    requirement_id: str,
    body: DecisionRequest,
    idempotency_key: IdempotencyKey = None,
) -> Response:
    """Decide a request, and send its run on once nothing of it is open any more.

    The same decision of the same person again is answered the same.
    """
    principal = caller.acting_for(body.acting_for)
    request_key = read_request_key(principal, idempotency_key, _OPERATION, **_fingerprint(requirement_id, body))
    decided = await application.inbox_decisions.decide(principal, _command(requirement_id, body), request_key)

    async def make() -> bytes:
        return response_of(decided, address_of(application, request)).model_dump_json(by_alias=True).encode()

    return await respond_once(application, request_key, decided.answer, make)


def response_of(decided: Decided, address: str) -> DecisionResponse:
    """Return what a decision is answered."""
    run = InboxRun(run_id=decided.run.run_id, status=decided.run.status)
    return DecisionResponse(requirement=outcome_of(decided.item, address), run=run, continued=decided.continued)


async def _take_one(
    application: Application, caller: Principal, body: NamedDecisionRequest, key: str | None, address: str
) -> OneDecisionResponse:
    name, principal = body.requirement_id, caller.acting_for(body.acting_for)
    # Each decision has a key of its own.
    own = None if key is None else hashlib.sha256(f"{key} {name}".encode()).hexdigest()
    request_key = read_request_key(principal, own, _OPERATION, **_fingerprint(name, body))
    try:
        decided = await application.inbox_decisions.decide(principal, _command(name, body), request_key)
    except UnpauseError as error:
        status, details = NativeRoute.refuse(error)
        refusal = DecisionRefusal.model_validate({"decision": None, **details, "detail": text_of(error)})
        return OneDecisionResponse(
            requirement_id=name, status_code=status, requirement=None, run=None, continued=False, error=refusal
        )
    return OneDecisionResponse(requirement_id=name, status_code=200, error=None, **dict(response_of(decided, address)))


def _command(requirement_id: str, body: DecisionRequest) -> DecideRequirement:
    result, remember = body.result, body.remember
    return DecideRequirement(
        requirement_id,
        Verb(body.decision),
        note=body.note,
        values=body.values,
        arguments=body.arguments,
        result=result if result is None or isinstance(result, str) else to_json(result).decode(),
        words=body.answer,
        continues=body.continue_run,
        remember=None if remember is None else GrantRequest(remember.scope, remember.match, remember.until),
    )


def _fingerprint(requirement_id: str, body: DecisionRequest) -> dict[str, Any]:
    return {**body.model_dump(exclude_defaults=True), "requirement_id": requirement_id}
