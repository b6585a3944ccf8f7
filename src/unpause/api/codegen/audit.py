"""The audit trail, in the form of Codegen's lists. Codegen has no such route."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends
from starlette.responses import JSONResponse, Response

from unpause.api.audit_json import AuditEntryResponse, audit_json, read_audit_filter
from unpause.api.codegen.caller import Member, get_member
from unpause.api.codegen.wire.pages import Page, Paging, page_json
from unpause.api.codegen.wire.runs import OF_MEMBERS
from unpause.api.dependencies import App
from unpause.api.errors import OwnCodegenRoute
from unpause.api.rate_limits import Bucket, limited
from unpause.domain.audit import AuditFilter

router = APIRouter(route_class=OwnCodegenRoute, tags=["organizations"])


@router.get(
    "/v1/organizations/{org_id}/audit",
    operation_id="list_audit_entries_v1_organizations__org_id__audit_get",
    response_model=Page[AuditEntryResponse],
    responses=OF_MEMBERS,
    dependencies=limited(Bucket.READ, get_member),
)
async def list_audit_entries(
    application: App, principal: Member, page: Paging, chosen: Annotated[AuditFilter, Depends(read_audit_filter)]
) -> Response:
    """Return a page of the organization's audit trail, newest first."""
    found, total = await application.audit.list_entries(principal, chosen, page)
    return JSONResponse(page_json([audit_json(entry) for entry in found], total, page))
