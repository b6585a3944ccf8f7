"""A server for all tests of these commands, and people with a shell each."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType

import pytest

from tests.cli.here import Here
from tests.cli.people.shell import Shell, people_server
from tests.support.processes import ServerProcess
from tests.support.tokens import first_token, new_token

_SCOPES = "agents:read,agents:run,approvals:read,sessions:read,system:read"
_PEOPLE = MappingProxyType({"olga": f"{_SCOPES},approvals:write", "dev": _SCOPES})


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with people_server(tmp_path_factory.mktemp("people")) as server:
        yield server


@pytest.fixture(scope="session")
def tokens(server: ServerProcess) -> Mapping[str, str]:
    """Return a token of each person; root is an administrator."""
    made = {user: new_token(server, "--user", user, "--scopes", scopes) for user, scopes in _PEOPLE.items()}
    return MappingProxyType({"root": first_token(server), **made})


@pytest.fixture
def shell_of(
    server: ServerProcess, tokens: Mapping[str, str], here: Here, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Shell]:
    return lambda user: Shell(here, monkeypatch, server.address, tokens[user])


@pytest.fixture
def root(shell_of: Callable[[str], Shell]) -> Shell:
    return shell_of("root")


@pytest.fixture
def olga(shell_of: Callable[[str], Shell]) -> Shell:
    return shell_of("olga")


@pytest.fixture
def dev(shell_of: Callable[[str], Shell]) -> Shell:
    return shell_of("dev")
