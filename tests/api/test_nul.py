"""U+0000, which PostgreSQL stores nowhere, is refused wherever a client can say it."""

from __future__ import annotations

from tests.support.caller import CODEGEN
from tests.support.server import Server


async def test_an_address_with_it_is_a_400(server: Server) -> None:
    for method, path in (
        ("GET", "/agents/toolbox/runs/%00"),
        ("GET", "/agents/toolbox/runs?session_id=a%00b"),
        ("POST", "/agents/toolbox/runs/%00/continue"),
        ("GET", "/approvals?user_id=%00"),
        ("GET", "/sessions/%00"),
        ("GET", "/v1/organizations/1/agent/run/1?x=%00"),
    ):
        response = await server.client.request(method, path)
        sent = response.json()
        assert response.status_code == 400
        assert "U+0000" in sent.get("detail", sent.get("message"))


async def test_a_session_cannot_be_made_or_named_with_it(server: Server) -> None:
    made = await server.post("/sessions", {"session_id": "s", "agent_id": "toolbox"})
    assert made.status_code == 201
    refused = await server.post("/sessions", {"session_id": "a\0b", "agent_id": "toolbox"})
    renamed = await server.post("/sessions/s/rename", {"session_name": "a\0b"})
    assert (refused.status_code, renamed.status_code) == (400, 400)


async def test_a_prompt_with_it_makes_no_run(server: Server) -> None:
    codegen = await server.post(CODEGEN, {"prompt": "a\0b"})
    agno = await server.client.post("/agents/toolbox/runs", data={"message": "a\0b"})
    assert (codegen.status_code, agno.status_code) == (400, 400)
    assert codegen.json() == {"message": "Text must not contain the character U+0000", "status_code": 400}
    assert agno.json() == {"detail": "Text must not contain the character U+0000"}
