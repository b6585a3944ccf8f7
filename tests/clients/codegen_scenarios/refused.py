"""What the client raises where the server refuses, and when it tries again."""

from __future__ import annotations

from functools import partial

from codegen_api_client import ApiClient, Configuration  # type: ignore[import-not-found]

from tests.clients.codegen_scenarios.shown import (
    NOBODY,
    ORGANIZATION,
    Calls,
    Client,
    Json,
    show_refusal,
    watched_sleeps,
)


def unknown_things(client: Client, token: str) -> Json:
    """Name an organization, a run and a user that are not there."""
    calls = Calls(client, token)
    return {
        "create in an unknown organization": show_refusal(partial(calls.create, "say hello", NOBODY)),
        "users of an unknown organization": show_refusal(partial(calls.users, str(NOBODY))),
        "an unknown run": show_refusal(partial(calls.get, NOBODY, ORGANIZATION)),
        "an unknown user": show_refusal(partial(calls.user, str(ORGANIZATION), str(NOBODY))),
    }


def creating(client: Client, token: str, prompt: str) -> Json:
    """Create a run that is refused."""
    with watched_sleeps() as slept:
        refusal = show_refusal(partial(Calls(client, token).create, prompt))
    return {**refusal, "slept": slept}


def ids_by_name(client: Client, token: str) -> Json:
    """Say names where ids belong: this client takes any text for one."""
    return show_refusal(partial(Calls(client, token).user, "local", "alice"))


def two_reads(client: Client, token: str) -> Json:
    """Read twice in a row."""
    calls = Calls(client, token)
    with watched_sleeps() as slept:
        found = [calls.organizations().total, calls.organizations().total]
    return {"found": found, "slept": slept}


def with_a_slash(client: Client, token: str) -> Json:
    """Read from a base URL that ends in a slash: the client asks for `//v1/…`."""
    doubled = ApiClient(Configuration(host=f"{client.configuration.host}/"))
    return show_refusal(Calls(doubled, token).organizations)
