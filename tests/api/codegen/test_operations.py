"""The operations as our OpenAPI document names them: paths, ids, response codes and schemas are the original's."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.published import read_document

_RUN = "/v1/organizations/{org_id}/agent/run"
_HERE = "/v1/organizations/{org_id}"
_OF_RUN = {"403": "PermissionsErrorResponse", "404": "AgentRunNotFoundErrorResponse"}
_CREATE = {
    "402": "AgentRunLimitReachedErrorResponse",
    "403": "PermissionsErrorResponse",
    "404": "NoReposFoundInOrgErrorResponse",
}
_MEMBER = {"403": "PermissionsErrorResponse"}

# Method, path, operation id, schema of a 200, schemas of the refusals. (codegen.md sections 2 and 3)
_OPERATIONS: list[tuple[str, str, str, str | None, dict[str, str]]] = [
    ("post", _RUN, "create_agent_run_v1_organizations__org_id__agent_run_post", "AgentRunResponse", _CREATE),
    (
        "get",
        f"{_RUN}/{{agent_run_id}}",
        "get_agent_run_v1_organizations__org_id__agent_run__agent_run_id__get",
        "AgentRunResponse",
        _OF_RUN,
    ),
    (
        "get",
        f"{_RUN}s",
        "list_agent_runs_v1_organizations__org_id__agent_runs_get",
        "Page_AgentRunResponse_",
        _MEMBER,
    ),
    (
        "post",
        f"{_RUN}/resume",
        "resume_agent_run_v1_organizations__org_id__agent_run_resume_post",
        "AgentRunResponse",
        _OF_RUN,
    ),
    ("post", f"{_RUN}/ban", "ban_all_checks_for_agent_run_v1_organizations__org_id__agent_run_ban_post", None, _OF_RUN),
    (
        "post",
        f"{_RUN}/unban",
        "unban_all_checks_for_agent_run_v1_organizations__org_id__agent_run_unban_post",
        None,
        _OF_RUN,
    ),
    (
        "post",
        f"{_RUN}/remove-from-pr",
        "remove_codegen_from_pr_v1_organizations__org_id__agent_run_remove_from_pr_post",
        None,
        _OF_RUN,
    ),
    (
        "get",
        "/v1/alpha/organizations/{org_id}/agent/run/{agent_run_id}/logs",
        "get_agent_run_logs_v1_alpha_organizations__org_id__agent_run__agent_run_id__logs_get",
        "AgentRunWithLogsResponse",
        _OF_RUN,
    ),
    ("get", "/v1/users/me", "get_current_user_info_v1_users_me_get", "UserResponse", _MEMBER),
    ("get", "/v1/organizations", "get_organizations_v1_organizations_get", "Page_OrganizationResponse_", {}),
    ("get", f"{_HERE}/users", "get_users_v1_organizations__org_id__users_get", "Page_UserResponse_", _MEMBER),
    (
        "get",
        f"{_HERE}/users/{{user_id}}",
        "get_user_v1_organizations__org_id__users__user_id__get",
        "UserResponse",
        {**_MEMBER, "404": "UserNotFoundErrorResponse"},
    ),
    (
        "get",
        f"{_HERE}/models",
        "get_available_models_v1_organizations__org_id__models_get",
        "ModelsResponse",
        _MEMBER,
    ),
    ("get", f"{_HERE}/repos", "get_repositories_v1_organizations__org_id__repos_get", "Page_RepoResponse_", {}),
    (
        "get",
        f"{_HERE}/integrations",
        "get_organization_integrations_endpoint_v1_organizations__org_id__integrations_get",
        "OrganizationIntegrationsResponse",
        _MEMBER,
    ),
    ("get", f"{_HERE}/cli/rules", "get_cli_rules_v1_organizations__org_id__cli_rules_get", "CLIRulesResponse", _MEMBER),
    ("get", "/v1/mcp-providers", "get_mcp_providers_v1_mcp_providers_get", None, {}),
]


@pytest.fixture(scope="module")
def document() -> dict[str, Any]:
    """Return the document of Codegen's API."""
    return read_document("codegen")


def _schema(response: dict[str, Any]) -> str:
    return str(response["content"]["application/json"]["schema"].get("$ref", "")).rpartition("/")[2]


def test_every_operation_has_the_originals_id_and_schemas(document: dict[str, Any]) -> None:
    for method, path, operation_id, answer, refusals in _OPERATIONS:
        operation = document["paths"][path][method]
        assert operation["operationId"] == operation_id
        responses = operation["responses"]
        if answer is not None:
            assert _schema(responses["200"]) == answer
        expected = {"422": "HTTPValidationError", "429": "APIRateLimitErrorResponse", **refusals}
        assert {code: _schema(responses[code]) for code in expected} == expected, path
        [header] = [item for item in operation["parameters"] if item["name"] == "authorization"]
        assert (header["in"], header["required"], header["schema"]["title"]) == ("header", False, "Authorization")


def test_operation_ids_are_all_different(document: dict[str, Any]) -> None:
    ids = [operation["operationId"] for item in document["paths"].values() for operation in item.values()]
    assert len(ids) == len(set(ids))


def test_inputs_require_what_the_original_requires_and_take_more(document: dict[str, Any]) -> None:
    schemas = document["components"]["schemas"]
    required = {
        "CreateAgentRunInput": ["prompt"],
        "ResumeAgentRunInput": ["agent_run_id", "prompt"],
        "StopAgentRunInput": ["agent_run_id"],
        "PauseAgentRunInput": ["agent_run_id"],
    }
    for name, keys in required.items():
        assert schemas[name]["required"] == keys
        assert schemas[name].get("additionalProperties") is not False
    assert set(schemas["CreateAgentRunInput"]["properties"]) == {
        "prompt",
        "images",
        "metadata",
        "repo_id",
        "model",
        "agent_type",
        "webhooks",
    }
    assert schemas["AgentRunResponse"]["required"] == ["id", "organization_id"]
    assert schemas["AgentRunLogResponse"]["required"] == ["agent_run_id"]
    assert schemas["AgentRunWithLogsResponse"]["required"] == ["id", "organization_id", "logs"]
    assert schemas["Page_AgentRunResponse_"]["title"] == "Page[AgentRunResponse]"


@pytest.mark.parametrize(
    "path",
    [
        f"{_HERE}/repos/check-suite-settings",
        f"{_HERE}/prs/{{pr_id}}",
        f"{_HERE}/repos/{{repo_id}}/prs/{{pr_id}}",
        f"{_HERE}/sandbox/{{sandbox_id}}/analyze-logs",
        "/v1/oauth/tokens/status",
        "/v1/oauth/tokens/revoke",
        "/v1/slack-connect/generate-token",
    ],
)
def test_what_makes_no_sense_here_is_not_offered(document: dict[str, Any], path: str) -> None:
    assert path not in document["paths"]
