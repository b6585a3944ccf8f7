"""Codegen's routes for the webhook of an organization, and the webhooks that a request names for one run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastapi import APIRouter

from unpause.api.answers import Responses
from unpause.api.codegen.caller import Member, get_member
from unpause.api.codegen.wire.runs import OF_MEMBERS
from unpause.api.codegen.wire.webhooks import (
    WebhookConfigRequest,
    WebhookConfigResponse,
    WebhookRefusedErrorResponse,
    WebhookTestRequest,
    WebhookTestResponse,
)
from unpause.api.dependencies import App
from unpause.api.errors import CodegenRoute
from unpause.api.rate_limits import Bucket, limited
from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Sequence

    from unpause.api.codegen.wire.webhooks import WebhookOverride
    from unpause.bootstrap import Application
    from unpause.domain.webhooks import WebhookTarget

router = APIRouter(route_class=CodegenRoute, tags=["organizations"])

_PATH = "/v1/organizations/{org_id}/webhooks/agent-run"
_REFUSED: Responses = {
    400: {"model": WebhookRefusedErrorResponse, "description": "The URL or the secret is invalid"},
    **OF_MEMBERS,
}
_MAX_OVERRIDES = 10


def read_webhooks(
    overrides: Sequence[WebhookOverride] | None, application: Application
) -> tuple[WebhookTarget, ...] | None:
    """Return the webhooks of a create or resume request, checked and with encrypted secrets.

    None keeps the present ones; an empty tuple sends no messages about the run. Raises InvalidInput or SecretsNotKept;
    then the request must change nothing.
    """
    if overrides is None:
        return None
    if len(overrides) > _MAX_OVERRIDES:
        raise InvalidInput(f"webhooks: more than {_MAX_OVERRIDES} for one run")
    return tuple(application.webhooks.build_target(each.url, each.secret) for each in overrides)


@router.get(
    _PATH,
    operation_id="get_webhook_config_v1_organizations__org_id__webhooks_agent_run_get",
    responses=OF_MEMBERS,
    dependencies=limited(Bucket.READ, get_member),
)
async def get_webhook_config(application: App, principal: Member) -> WebhookConfigResponse:
    """Return the organization's webhook, and whether it has a secret; never the secret itself."""
    return _config(application, await application.webhooks.find_target(principal))


@router.post(
    _PATH,
    operation_id="set_webhook_config_v1_organizations__org_id__webhooks_agent_run_post",
    responses=_REFUSED,
    dependencies=limited(Bucket.CHANGE, get_member),
)
async def set_webhook_config(application: App, principal: Member, body: WebhookConfigRequest) -> WebhookConfigResponse:
    """Send messages about the organization's runs to this URL: paused, completed, error, cancelled, and reminders.

    It replaces the previous webhook and its secret: without a secret messages are not signed.
    """
    target = application.webhooks.build_target(body.url, body.secret, enabled=body.enabled)
    await application.webhooks.replace_target(principal, target)
    return _config(application, target)


@router.delete(
    _PATH,
    operation_id="delete_webhook_config_v1_organizations__org_id__webhooks_agent_run_delete",
    responses=OF_MEMBERS,
    dependencies=limited(Bucket.CHANGE, get_member),
)
async def delete_webhook_config(application: App, principal: Member) -> WebhookConfigResponse:
    """Delete the organization's webhook and its secret."""
    await application.webhooks.replace_target(principal, None)
    return _config(application, None)


@router.post(
    f"{_PATH}/test",
    operation_id="test_webhook_v1_organizations__org_id__webhooks_agent_run_test_post",
    responses=_REFUSED,
    dependencies=limited(Bucket.WEBHOOK_TEST, get_member),
)
async def test_webhook(application: App, principal: Member, body: WebhookTestRequest) -> WebhookTestResponse:
    """Send one message of the type ``agent_run.test`` to the URL and return the result."""
    sent = await application.webhooks.send_test(principal, body.url)
    return WebhookTestResponse(success=sent.success, status_code=sent.status_code, error=sent.error)


def _config(application: Application, target: WebhookTarget | None) -> WebhookConfigResponse:
    if target is None:
        return WebhookConfigResponse(url=None, enabled=False, has_secret=False)
    url = application.webhooks.target_url(target)
    return WebhookConfigResponse(url=url, enabled=target.enabled, has_secret=target.secret is not None)
