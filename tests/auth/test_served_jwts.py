"""What a server makes of JWTs: who it takes the caller for, beside its own tokens, and what it says to all others."""

from __future__ import annotations

import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import jwt
import pytest

from tests.auth.signing import Issuer, claims, sign_by_hand
from tests.support.caller import body_of
from tests.support.scripted_driver import ScriptedDriver
from tests.support.server import Server, served
from tests.support.serving import serving

RUN = ["agents:run", "agents:read", "sessions:read"]
SECRET = b"a secret for tests that is long enough for HS256"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens={}) as server:
        yield server


async def test_the_subject_overrides_the_user_that_a_form_names(server: Server) -> None:
    alice = server.by_jwt("alice", *RUN)
    run = await alice.create("hello", agent="other", user_id="mallory", session_id="s-1")
    [row] = (await server.dump())["runs"]
    assert (row["run_id"], row["user_id"]) == (run["run_id"], "alice")
    assert body_of(await alice.get("/sessions/s-1", user_id="mallory"))["user_id"] == "alice"
    assert (await server.by_jwt("mallory", *RUN).get("/sessions/s-1")).status_code == 404


async def test_the_session_of_the_claim_overrides_the_one_that_a_form_names(server: Server) -> None:
    bound = server.by_jwt("alice", *RUN, session_id="bound")
    run = await bound.create("hello", agent="other", session_id="elsewhere")
    assert run["session_id"] == "bound"
    assert [row["session_id"] for row in (await server.dump())["sessions"]] == ["bound"]


async def test_a_run_of_another_session_cannot_be_continued_with_the_claim(server: Server) -> None:
    run = await server.by_jwt("alice", *RUN).create('[[["delete_file", {"path": "a"}]]]', session_id="mine")
    async with server.nothing_changes():
        tools = json.dumps([{**run["tools"][0], "confirmed": True}])
        path = f"/agents/toolbox/runs/{run['run_id']}/continue"
        bound = server.by_jwt("alice", *RUN, session_id="bound")
        refused = await bound.form(path, tools=tools, session_id="mine")
        assert (refused.status_code, refused.json()) == (404, {"detail": f"No runs found for run ID {run['run_id']}"})
    assert (await server.by_jwt("alice", *RUN, session_id="mine").form(path, tools=tools)).status_code == 200


async def test_the_organization_of_the_claim_is_whose_things_are_there(server: Server) -> None:
    await server.add_organization(7, "seven")
    run = await server.by_jwt("alice", *RUN, organization=7).create("hello", agent="other")
    path = f"/agents/other/runs/{run['run_id']}"
    assert (await server.by_jwt("alice", *RUN, organization=7).get(path)).status_code == 200
    assert (await server.by_jwt("alice", *RUN).get(path)).status_code == 404
    unknown = await server.by_jwt("alice", *RUN, organization=8).get("/agents")
    assert (unknown.status_code, unknown.json()) == (401, {"detail": "Invalid token: unknown organization"})


async def test_a_token_counts_with_and_without_the_name_of_the_scheme(server: Server) -> None:
    text = server.by_jwt("alice", *RUN).authorization.removeprefix("Bearer ")
    for sent in (text, f"Bearer {text}", f"bearer  {text} "):
        assert (await server.client.get("/agents", headers={"Authorization": sent})).status_code == 200
    for sent in (f"Basic {text}", f"Token {text}", "Bearer", "Bearer ", ""):
        refused = await server.client.get("/agents", headers={"Authorization": sent})
        assert (refused.status_code, refused.json()) == (401, {"detail": "Authorization header missing"}), sent


async def test_tokens_of_the_server_count_beside_jwts(server: Server) -> None:
    person = await server.add_user(1, "alice")
    assert (await person.get("/agents")).status_code == 200


HOSTILE = [
    b"\xff\xfe",
    "käse".encode("latin-1"),
    b"a.b.c",
    b"eyJhbGciOiJub25lIn0..",
    b"a" * (1024 * 1024),
    b"." * (1024 * 1024),
    b"unp_" + b"a" * (1024 * 1024),
    sign_by_hand(b'{"alg": "HS256", "crit": ["\\ud800"]}', b"{}", SECRET).encode(),
    sign_by_hand(b'{"alg": "HS256"}', b'{"sub": "\\ud800", "exp": 99999999999}', SECRET).encode(),
    sign_by_hand(b'{"alg": "HS256"}', b'{"sub": "\\u0000", "exp": 99999999999}', SECRET).encode(),
    sign_by_hand(b'{"alg": "HS256"}', b'{"sub": "alice", "exp": NaN}', SECRET).encode(),
    sign_by_hand(b'{"alg": "HS256"}', b"[[]]", SECRET).encode(),
]


@pytest.mark.parametrize("text", HOSTILE, ids=lambda value: repr(value[:40]))
async def test_whatever_is_sent_as_a_token_is_refused_in_the_apis_own_shape(server: Server, text: bytes) -> None:
    headers = {b"Authorization": b"Bearer " + text}
    # A head that is too large is not looked at any further.
    status = 401 if len(text) < 64 * 1024 else 431
    agno = await server.client.post("/agents/toolbox/runs", headers=headers, content=b"x")
    assert (agno.status_code, list(agno.json())) == (status, ["detail"])
    assert len(agno.content) < 200
    codegen = await server.client.post("/v1/organizations/1/agent/run", headers=headers, content=b"x")
    assert (codegen.status_code, set(codegen.json())) == (status, {"message", "status_code"})
    if status == 401:
        assert codegen.json() == {"message": "Invalid or missing API token", "status_code": 401}


async def test_time_ends_a_token_on_a_running_server(server: Server) -> None:
    alice = server.by_jwt("alice", *RUN)
    assert (await alice.get("/agents")).status_code == 200
    server.clock.move(86_400)
    refused = await alice.get("/agents")
    assert (refused.status_code, refused.json()) == (401, {"detail": "Token has expired"})


async def test_scopes_of_a_jwt_are_those_of_the_routes(server: Server) -> None:
    alice = server.by_jwt("alice", "sessions:read")
    assert (await alice.get("/sessions")).status_code == 200
    refused = await alice.get("/approvals")
    missing = {"detail": "Insufficient permissions. Required scope(s): approvals:read"}
    assert (refused.status_code, refused.json()) == (403, missing)
    assert (await server.by_jwt("olga", *["agent_os:admin"]).get("/audit")).status_code == 200


@contextmanager
def publishing(issuer: Issuer, requested: list[str]) -> Iterator[str]:
    """Publish the issuer's key on a real port for the length of the block; yield the address."""
    algorithm = jwt.get_algorithm_by_name(issuer.algorithm)
    key = algorithm.to_jwk(algorithm.prepare_key(issuer.public), as_dict=True)
    body = json.dumps({"keys": [{**key, "kid": "one", "use": "sig"}]}).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            requested.append(self.path)
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Keys) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/keys"
        finally:
            server.shutdown()
            thread.join()


async def test_a_server_asks_the_address_of_the_keys_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rsa_one: Issuer, rsa_other: Issuer
) -> None:
    # Proxies would stand between the server and the address.
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
    requested: list[str] = []
    with publishing(rsa_one, requested) as address:
        async with serving(tmp_path, drivers=[ScriptedDriver()], dev=False, jwt_jwks_url=address) as client:
            for issuer, status in [(rsa_one, 200), (rsa_other, 401)] * 5:
                token = issuer.sign(claims(exp=99_999_999_999), kid="one")
                answer = await client.get("/agents", headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == status
    assert requested == ["/keys"]


async def test_a_jwt_without_a_subject_is_refused_where_users_are_kept_apart(server: Server) -> None:
    nobody = server.by_jwt(None, *RUN)
    refused = await nobody.get("/sessions")
    assert (refused.status_code, refused.json()) == (
        403,
        {"detail": "Authenticated request is missing a user identity"},
    )
    async with server.nothing_changes():
        assert (await nobody.form("/agents/other/runs", message="hello", user_id="bob")).status_code == 403
    # An administrator sees everybody's anyway.
    assert (await server.by_jwt(None, "agent_os:admin").get("/sessions")).status_code == 200


async def test_a_jwt_without_a_subject_acts_for_the_user_of_the_request_where_users_are_not(tmp_path: Path) -> None:
    async with served(tmp_path, tokens={}, user_isolation=False) as server:
        run = await server.by_jwt(None, *RUN).create("hello", agent="other", user_id="bob")
        assert [row["user_id"] for row in (await server.dump())["runs"]] == ["bob"]
        assert (await server.by_jwt(None, *RUN).get(f"/agents/other/runs/{run['run_id']}")).status_code == 200
