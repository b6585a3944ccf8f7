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

from tests.access.guarded import Guarded, guarded
from tests.auth.signing import Issuer, claims, sign_by_hand
from tests.support.office import body_of
from tests.support.scripted_driver import ScriptedDriver
from tests.support.serving import serving

RUN = ["agents:run", "agents:read", "sessions:read"]
SECRET = b"a secret for tests that is long enough for HS256"


@pytest.fixture
async def office(tmp_path: Path) -> AsyncIterator[Guarded]:
    async with guarded(tmp_path) as office:
        yield office


async def test_the_subject_overrides_the_user_that_a_form_names(office: Guarded) -> None:
    alice = office.by_jwt(1, "alice", RUN)
    run = await alice.run("hello", agent="parrot", user_id="mallory", session_id="s-1")
    [row] = (await office.rows())["runs"]
    assert (row["run_id"], row["user_id"]) == (run["run_id"], "alice")
    assert body_of(await alice.get("/sessions/s-1", user_id="mallory"))["user_id"] == "alice"
    assert (await office.by_jwt(1, "mallory", RUN).get("/sessions/s-1")).status_code == 404


async def test_the_session_of_the_claim_overrides_the_one_that_a_form_names(office: Guarded) -> None:
    bound = office.by_jwt(1, "alice", RUN, session_id="bound")
    run = await bound.run("hello", agent="parrot", session_id="elsewhere")
    assert run["session_id"] == "bound"
    assert [row["session_id"] for row in (await office.rows())["sessions"]] == ["bound"]


async def test_a_run_of_another_session_cannot_be_continued_with_the_claim(office: Guarded) -> None:
    run = await office.by_jwt(1, "alice", RUN).run('[[["delete_file", {"path": "a"}]]]', session_id="mine")
    before = await office.rows()
    tools = json.dumps([{**run["tools"][0], "confirmed": True}])
    path = f"/agents/office/runs/{run['run_id']}/continue"
    bound = office.by_jwt(1, "alice", RUN, session_id="bound")
    refused = await bound.form(path, tools=tools, session_id="mine")
    assert (refused.status_code, refused.json()) == (404, {"detail": f"No runs found for run ID {run['run_id']}"})
    assert await office.rows() == before
    assert (await office.by_jwt(1, "alice", RUN, session_id="mine").form(path, tools=tools)).status_code == 200


async def test_the_organization_of_the_claim_is_whose_things_are_there(office: Guarded) -> None:
    await office.add_organization(7, "seven")
    run = await office.by_jwt(7, "alice", RUN).run("hello", agent="parrot")
    path = f"/agents/parrot/runs/{run['run_id']}"
    assert (await office.by_jwt(7, "alice", RUN).get(path)).status_code == 200
    assert (await office.by_jwt(1, "alice", RUN).get(path)).status_code == 404
    unknown = await office.by_jwt(8, "alice", RUN).get("/agents")
    assert (unknown.status_code, unknown.json()) == (401, {"detail": "Invalid token: unknown organization"})


async def test_a_token_counts_with_and_without_the_name_of_the_scheme(office: Guarded) -> None:
    text = office.by_jwt(1, "alice", RUN).authorization.removeprefix("Bearer ")
    for sent in (text, f"Bearer {text}", f"bearer  {text} "):
        assert (await office.client.get("/agents", headers={"Authorization": sent})).status_code == 200
    for sent in (f"Basic {text}", f"Token {text}", "Bearer", "Bearer ", ""):
        refused = await office.client.get("/agents", headers={"Authorization": sent})
        assert (refused.status_code, refused.json()) == (401, {"detail": "Authorization header missing"}), sent


async def test_tokens_of_the_server_count_beside_jwts(office: Guarded) -> None:
    person = await office.person(1, "alice")
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
async def test_whatever_is_sent_as_a_token_is_refused_in_the_apis_own_shape(office: Guarded, text: bytes) -> None:
    headers = {b"Authorization": b"Bearer " + text}
    # A head that is too large is not looked at any further.
    status = 401 if len(text) < 64 * 1024 else 431
    agno = await office.client.post("/agents/office/runs", headers=headers, content=b"x")
    assert (agno.status_code, list(agno.json())) == (status, ["detail"])
    assert len(agno.content) < 200
    codegen = await office.client.post("/v1/organizations/1/agent/run", headers=headers, content=b"x")
    assert (codegen.status_code, set(codegen.json())) == (status, {"message", "status_code"})
    if status == 401:
        assert codegen.json() == {"message": "Invalid or missing API token", "status_code": 401}


async def test_time_ends_a_token_on_a_running_server(office: Guarded) -> None:
    alice = office.by_jwt(1, "alice", RUN)
    assert (await alice.get("/agents")).status_code == 200
    office.clock.move(86_400)
    refused = await alice.get("/agents")
    assert (refused.status_code, refused.json()) == (401, {"detail": "Token has expired"})


async def test_scopes_of_a_jwt_are_those_of_the_routes(office: Guarded) -> None:
    alice = office.by_jwt(1, "alice", ["sessions:read"])
    assert (await alice.get("/sessions")).status_code == 200
    refused = await alice.get("/approvals")
    missing = {"detail": "Insufficient permissions. Required scope(s): approvals:read"}
    assert (refused.status_code, refused.json()) == (403, missing)
    assert (await office.by_jwt(1, "olga", ["agent_os:admin"]).get("/audit")).status_code == 200


@contextmanager
def publishing(issuer: Issuer, asked: list[str]) -> Iterator[str]:
    """Publish the issuer's key on a real port for the length of the block; yield the address."""
    algorithm = jwt.get_algorithm_by_name(issuer.algorithm)
    key = algorithm.to_jwk(algorithm.prepare_key(issuer.public), as_dict=True)
    body = json.dumps({"keys": [{**key, "kid": "one", "use": "sig"}]}).encode()

    class Keys(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
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
    asked: list[str] = []
    with publishing(rsa_one, asked) as address:
        async with serving(tmp_path, drivers=[ScriptedDriver()], dev=False, jwt_jwks_url=address) as client:
            for issuer, status in [(rsa_one, 200), (rsa_other, 401)] * 5:
                token = issuer.sign(claims(exp=99_999_999_999), kid="one")
                answer = await client.get("/agents", headers={"Authorization": f"Bearer {token}"})
                assert answer.status_code == status
    assert asked == ["/keys"]


async def test_a_jwt_without_a_subject_is_refused_where_users_are_kept_apart(office: Guarded) -> None:
    nobody = office.by_jwt(1, None, RUN)
    refused = await nobody.get("/sessions")
    assert (refused.status_code, refused.json()) == (
        403,
        {"detail": "Authenticated request is missing a user identity"},
    )
    before = await office.rows()
    assert (await nobody.form("/agents/parrot/runs", message="hello", user_id="bob")).status_code == 403
    assert await office.rows() == before
    # An administrator sees everybody's anyway.
    assert (await office.by_jwt(1, None, ["agent_os:admin"]).get("/sessions")).status_code == 200


async def test_a_jwt_without_a_subject_acts_for_the_user_of_the_request_where_users_are_not(tmp_path: Path) -> None:
    async with guarded(tmp_path, user_isolation=False) as office:
        run = await office.by_jwt(1, None, RUN).run("hello", agent="parrot", user_id="bob")
        assert [row["user_id"] for row in (await office.rows())["runs"]] == ["bob"]
        assert (await office.by_jwt(1, None, RUN).get(f"/agents/parrot/runs/{run['run_id']}")).status_code == 200
