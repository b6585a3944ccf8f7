"""U+0000, which PostgreSQL stores nowhere, is refused wherever a client can say it."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.api.exchange import ORGANIZATION, at_desk


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/agents/desk/runs/%00"),
        ("GET", "/agents/desk/runs?session_id=a%00b"),
        ("POST", "/agents/desk/runs/%00/continue"),
        ("GET", "/approvals?user_id=%00"),
        ("GET", "/sessions/%00"),
        ("GET", "/v1/organizations/1/agent/run/1?x=%00"),
    ],
)
async def test_an_address_with_it_is_a_400(tmp_path: Path, method: str, path: str) -> None:
    async with at_desk(tmp_path) as desk:
        response = await desk.client.request(method, path)
        said = response.json()
        assert response.status_code == 400
        assert "U+0000" in said.get("detail", said.get("message"))


async def test_a_session_cannot_be_made_or_named_with_it(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        made = await desk.client.post("/sessions", json={"session_id": "s", "agent_id": "desk"})
        assert made.status_code == 201
        refused = await desk.client.post("/sessions", json={"session_id": "a\0b", "agent_id": "desk"})
        renamed = await desk.client.post("/sessions/s/rename", json={"session_name": "a\0b"})
        assert (refused.status_code, renamed.status_code) == (400, 400)


async def test_a_prompt_with_it_makes_no_run(tmp_path: Path) -> None:
    async with at_desk(tmp_path) as desk:
        codegen = await desk.client.post(ORGANIZATION, json={"prompt": "a\0b"})
        agno = await desk.client.post("/agents/desk/runs", data={"message": "a\0b"})
        assert (codegen.status_code, agno.status_code) == (400, 400)
        assert codegen.json() == {"message": "Text must not contain the character U+0000", "status_code": 400}
        assert agno.json() == {"detail": "Text must not contain the character U+0000"}
