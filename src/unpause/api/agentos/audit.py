"""The audit trail, in the form of AgentOS's lists. AgentOS has no such route."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from fastapi import APIRouter, Depends, Query

from unpause.api.agentos.caller import Caller
from unpause.api.agentos.replies import json_response
from unpause.api.agentos.wire.pages import page_at, page_json
from unpause.api.agentos.wire.responses import ERRORS
from unpause.api.answers import answer
from unpause.api.audit_json import audit_json, read_audit_filter
from unpause.api.dependencies import App
from unpause.api.errors import OwnAgnoRoute
from unpause.domain.audit import AuditFilter

if TYPE_CHECKING:
    from starlette.responses import Response

router = APIRouter(route_class=OwnAgnoRoute, tags=["Audit"], responses=ERRORS)


@router.get(
    "/audit",
    operation_id="list_audit_entries",
    response_model=None,
    responses=answer("PaginatedResponse_AuditEntryResponse_", "The entries, newest first"),
)
async def list_audit_entries(
    application: App,
    caller: Caller,
    chosen: Annotated[AuditFilter, Depends(read_audit_filter)],
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
    page: Annotated[int, Query(ge=1, le=1_000_000)] = 1,
) -> Response:
    """Return a page of the organization's audit trail, newest first."""
    at = page_at(page, limit)
    found, total = await application.audit.list_entries(caller, chosen, at)
    return json_response({"data": [audit_json(entry) for entry in found], "meta": page_json(at, total)})
