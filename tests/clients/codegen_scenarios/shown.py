"""What the scenarios share: names for the client's long methods, and what is shown of its answers."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, TypeAlias
from unittest import mock

from codegen_api_client import (  # type: ignore[import-not-found]
    AgentsApi,
    ApiException,
    CreateAgentRunInput,
    OrganizationsApi,
    UsersApi,
)

# The client is not installed where these files are checked.
Client: TypeAlias = Any
Json: TypeAlias = Any

ORGANIZATION = 1
NOBODY = 999_999
WORKING = "ACTIVE"

_POLL_SECONDS = 0.1
_DEADLINE = 60.0


class Calls:
    """The five operations of the client, with a token that is sent with each."""

    def __init__(self, client: Client, token: str) -> None:
        sent = {"authorization": f"Bearer {token}"}
        agents, organizations, users = AgentsApi(client), OrganizationsApi(client), UsersApi(client)
        self._create = partial(agents.create_agent_run_v1_organizations_org_id_agent_run_post_with_http_info, **sent)
        self.get = partial(agents.get_agent_run_v1_organizations_org_id_agent_run_agent_run_id_get, **sent)
        self.organizations = partial(organizations.get_organizations_v1_organizations_get, **sent)
        self.users = partial(users.get_users_v1_organizations_org_id_users_get, **sent)
        self.user = partial(users.get_user_v1_organizations_org_id_users_user_id_get, **sent)

    def create(self, prompt: str, organization: int = ORGANIZATION) -> Any:  # noqa: ANN401 - the client's own class
        """Return the client's answer with its status and headers; the run is its ``data``."""
        return self._create(organization, CreateAgentRunInput(prompt=prompt))

    def wait(self, run_id: int) -> Any:  # noqa: ANN401 - the client's own class
        """Poll until the run is no longer at work, as all clients of Codegen do; return it."""
        deadline = time.monotonic() + _DEADLINE
        while (run := self.get(run_id, ORGANIZATION)).status == WORKING and time.monotonic() < deadline:
            time.sleep(_POLL_SECONDS)
        return run


def show_refusal(call: Callable[[], object]) -> Json:
    """Return what the client raises: its class, the status, the body as it came, and what it reads in it."""
    try:
        return {"answered": str(call())}
    except ApiException as error:
        read = error.data.to_dict() if hasattr(error.data, "to_dict") else None
        headers = {name.lower(): value for name, value in error.headers.items()}
        return {
            "class": type(error).__name__,
            "status": error.status,
            "body": error.body,
            "read": read,
            "retry_after": headers.get("retry-after"),
        }


@contextmanager
def watched_sleeps() -> Iterator[list[float]]:
    """Give a list of how long the client sleeps between its tries, in seconds; it does sleep."""
    slept: list[float] = []
    sleep = time.sleep

    def watched(seconds: float) -> None:
        slept.append(seconds)
        sleep(seconds)

    with mock.patch("urllib3.util.retry.time.sleep", watched):
        yield slept
