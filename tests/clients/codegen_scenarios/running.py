"""Runs, organizations and users, where all goes well."""

from __future__ import annotations

from tests.clients.codegen_scenarios.shown import ORGANIZATION, Calls, Client, Json


def run_to_its_end(client: Client, token: str, prompt: str) -> Json:
    """Create a run and wait until it pauses or ends."""
    calls = Calls(client, token)
    made = calls.create(prompt)
    seen = calls.wait(made.data.id)
    return {"status_code": made.status_code, "created": made.data.to_dict(), "seen": seen.to_dict()}


def identity(client: Client, token: str) -> Json:
    """Read the organizations, the users of the first one, and the first of these alone."""
    calls = Calls(client, token)
    organizations = calls.organizations()
    organization = organizations.items[0]
    users = calls.users(str(organization.id))
    return {
        "organizations": organizations.to_dict(),
        "users": users.to_dict(),
        "user": calls.user(str(organization.id), str(users.items[0].id)).to_dict(),
    }


def by_pages(client: Client, token: str) -> Json:
    """Read a part of the users that begins behind the last one."""
    return Calls(client, token).users(str(ORGANIZATION), skip=5, limit=10).to_dict()
