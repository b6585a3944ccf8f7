"""Watches what one organization has, while another one asks for things: it must stay as it is, and stay unseen."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

import pytest

from tests.access.other_organization import CANARY, THEIRS, rows_of
from tests.support.server import Dump, Server
from unpause.domain.webhooks import DeliveryResult
from unpause.notifications.sender import AppriseSender
from unpause.vault import Encrypted
from unpause.webhooks.http import SafeHttpClient

if TYPE_CHECKING:
    import httpx

_SUCCESS: Final = range(200, 300)
_SERVER_ERROR: Final = 500
_NUMBER: Final = re.compile(r"(?<![0-9A-Za-z])[0-9]{7}(?![0-9A-Za-z])")
# What of a row only its owner can know, beside texts with a canary: ids that the server made, and a token's hash.
_IDS: Final[Mapping[str, tuple[str, ...]]] = {
    "organizations": ("id",),
    "users": ("id",),
    "sessions": ("session_id",),
    "runs": ("id", "run_id", "pause_id", "session_id"),
    "requirements": ("id", "tool_call_id"),
    "tool_calls": ("tool_call_id",),
    "idempotency_keys": ("key", "fingerprint"),
    "webhook_deliveries": ("id",),
    "tokens": ("id", "hash"),
    "notification_channels": ("id",),
}


@contextmanager
def nobody_outside(sent: list[bytes]) -> Iterator[None]:
    """Answer webhooks here during the block, and keep what they said."""

    async def answer(_: SafeHttpClient, url: str, content: bytes, headers: Mapping[str, str]) -> DeliveryResult:
        sent.append(url.encode() + content + repr(headers).encode())
        return DeliveryResult(200)

    async def take(_: AppriseSender, channel: int, url: Encrypted, text: tuple[str, str]) -> DeliveryResult:
        sent.append(f"{channel} {url.token} {text}".encode())
        return DeliveryResult()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(SafeHttpClient, "post", answer)
        patch.setattr(AppriseSender, "send_text", take)
        yield


@dataclass
class Watch:
    """What is theirs at the beginning; ``known`` are names of it that a stranger has used with success."""

    server: Server
    rows: Dump
    executed: list[str]
    sent: list[bytes]
    ids: frozenset[str]
    known: set[str] = field(default_factory=set)

    @classmethod
    async def begin(cls, server: Server, sent: list[bytes]) -> Watch:
        """Begin now."""
        sent.clear()
        rows = rows_of(await server.lasting(), THEIRS)
        return cls(server, rows, list(server.executed), sent, frozenset(_ids_in(rows)))

    def check_answer(self, words: str, response: httpx.Response) -> None:
        """Fail where an answer to a stranger, whose request had these words, holds what only the owner can know.

        A name that the stranger has used before, and was not refused, may be in what is the stranger's own since.
        """
        assert response.status_code < _SERVER_ERROR, (words, response.text)
        answer = f"{dict(response.headers)} {response.text}"
        assert CANARY not in answer.casefold(), (words, answer)
        mentioned = {name for name in self.ids if name in words}
        seen = {name for name in self.ids if _is_in(name, answer)} - mentioned - self.known
        assert not seen, (words, answer)
        if response.status_code in _SUCCESS:
            self.known |= mentioned

    async def check_rows(self) -> None:
        """Fail where anything of theirs is not as it was: a row, a tool that ran, a message that went out."""
        now = rows_of(await self.server.lasting(), THEIRS)
        for table, rows in self.rows.items():
            assert now[table] == rows, table
        told = [call for call in self.server.executed if CANARY in call]
        assert told == [call for call in self.executed if CANARY in call]
        assert not [message for message in self.sent if CANARY.encode() in message]


def _ids_in(rows: Dump) -> Iterator[str]:
    for table, columns in _IDS.items():
        for row in rows[table]:
            yield from (str(row[column]) for column in columns if row[column] is not None)


def _is_in(name: str, answer: str) -> bool:
    return name in _NUMBER.findall(answer) if name.isdecimal() else name in answer


async def view_of_owner(server: Server, token: str) -> dict[str, str]:
    """Return all that the owner's administrator sees through both APIs, by address."""
    admin = server.user(token)
    organization = f"/v1/organizations/{THEIRS}"
    rows = rows_of(await server.dump(), THEIRS)
    addresses = ["/sessions?limit=1000", "/approvals?limit=1000", "/approvals/count", "/audit?limit=1000"]
    addresses += ["/v1/users/me", "/v1/organizations", f"{organization}/users", f"{organization}/webhooks/agent-run"]
    addresses.append("/notifications/channels")
    addresses += [f"{organization}/agent/runs?limit=100", f"{organization}/audit?limit=100"]
    for session in rows["sessions"]:
        addresses += [f"/sessions/{session['session_id']}", f"/sessions/{session['session_id']}/runs"]
    for run in rows["runs"]:
        path = f"/agents/{run['agent_id']}/runs/{run['run_id']}"
        addresses += [path, f"{organization}/agent/run/{run['id']}", f"{organization}/agent/run/{run['id']}/logs"]
        if run["status"] != "RUNNING":
            # The stream of one that is executed has no end.
            addresses.append(f"{path}/events")
    addresses += [f"/approvals/{approval['id']}" for approval in rows["approvals"]]
    seen: dict[str, str] = {}
    for address in addresses:
        response = await admin.get(address)
        assert response.status_code in _SUCCESS, (address, response.text)
        seen[address] = response.text
    return seen
