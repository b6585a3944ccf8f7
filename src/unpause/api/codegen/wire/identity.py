"""Codegen's responses about users and organizations."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel


class UserResponse(BaseModel):
    """A user; without accounts on GitHub here, its keys have the user's own id and name."""

    id: int
    email: str | None = None
    github_user_id: str
    github_username: str
    avatar_url: str | None = None
    full_name: str | None = None
    role: str | None = None
    is_admin: bool | None = None


class UserNotFoundErrorResponse(BaseModel):
    """No such user in the organization."""

    message: str = "User not found."
    status_code: int = 404


class OrganizationSettings(BaseModel):
    """Settings of Codegen's; this server does not use them."""

    enable_pr_creation: bool = True
    enable_rules_detection: bool = True


class OrganizationResponse(BaseModel):
    """An organization."""

    id: int
    name: str
    settings: OrganizationSettings


class ModelOption(BaseModel):
    """A model: ``value`` is the name to create a run with."""

    label: str
    value: str


class ProviderModels(BaseModel):
    """The models of one provider."""

    name: str
    models: list[ModelOption]


class ModelsResponse(BaseModel):
    """The models that a run may be created with, and the default."""

    providers: list[ProviderModels]
    default_model: str


class OAuthProviderResponse(BaseModel):
    """A provider of MCP servers; there are none here."""

    id: int
    name: str
    issuer: str
    authorization_endpoint: str
    token_endpoint: str
    default_scopes: list[str] | None
    is_mcp: bool
    meta: dict[str, Any] | None = None


class IntegrationStatus(BaseModel):
    """An integration; there are none here."""

    integration_type: str
    active: bool
    token_id: int | None = None
    installation_id: int | None = None
    metadata: dict[str, Any] | None = None


class OrganizationIntegrationsResponse(BaseModel):
    """An organization's integrations."""

    organization_id: int
    organization_name: str
    integrations: list[IntegrationStatus]
    total_active_integrations: int


class CLIRulesResponse(BaseModel):
    """Rules for the agents of Codegen's command line; there are none here."""

    organization_rules: str | None
    user_custom_prompt: str | None


class RepoResponse(BaseModel):
    """A repository; there are none here."""

    id: int
    name: str
    full_name: str
    description: str | None
    github_id: str
    organization_id: int
    visibility: str | None
    archived: bool | None
    setup_status: str
    language: str | None
