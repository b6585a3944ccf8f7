"""Signing in to the console: tokens, one-time links, the cookie, who may use it, and how it ends."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.support.caller import body_of
from tests.support.server import Server, served
from unpause.auth.console_sessions import create_login_link
from unpause.auth.tokens import NewToken, revoke_token
from unpause.domain.principal import Principal
from unpause.domain.scopes import ADMIN, DEFAULT_SCOPES

ORIGIN = "http://127.0.0.1"
OWN_PAGE = {"Origin": ORIGIN, "X-Unpause-Console": "1"}
COOKIE = "unpause_console"


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with served(tmp_path, tokens=True) as server:
        yield server


class Browser:
    """A browser with its cookies, whose pages are the server's own."""

    def __init__(self, server: Server, base_url: str = ORIGIN) -> None:
        transport = httpx.ASGITransport(app=server.app, raise_app_exceptions=False)
        self.server = server
        self.client = httpx.AsyncClient(transport=transport, base_url=base_url)
        self.headers = {**OWN_PAGE, "Origin": base_url}

    async def post(self, path: str, body: object = None, **headers: str) -> httpx.Response:
        return await self.client.post(path, json=body or {}, headers={**self.headers, **headers})

    async def get(self, path: str, **headers: str) -> httpx.Response:
        return await self.client.get(path, headers=headers)

    async def sign_in(self, who: str) -> httpx.Response:
        return await self.post("/console/sign-in", {"token": self.server.tokens.get(who, who)})

    @property
    def cookie(self) -> str | None:
        return self.client.cookies.get(COOKIE)


async def me_of(browser: Browser) -> dict[str, Any]:
    return body_of(await browser.get("/me"))


async def link_for(server: Server, **new: Any) -> str:  # noqa: ANN401 - the fields of a new token
    now, by = server.clock.now(), Principal(1, "command line", via="cli")
    return await server.application.database.write(
        lambda connection: create_login_link(connection, NewToken(**new), by, now)
    )


async def revoke(server: Server, public: str) -> None:
    now, by = server.clock.now(), Principal(1, via="cli")
    await server.application.database.write(lambda connection: revoke_token(connection, public, by, now))


async def test_a_token_is_exchanged_for_a_cookie_that_no_script_and_no_other_site_has(server: Server) -> None:
    browser = Browser(server)
    response = await browser.sign_in("alice")
    assert response.status_code == 204
    set_cookie = response.headers["set-cookie"]
    assert {"HttpOnly", "Path=/", "SameSite=strict", "Max-Age=43200"} <= set(set_cookie.split("; "))
    assert "Secure" not in set_cookie
    assert "Domain" not in set_cookie
    assert response.headers["cache-control"] == "no-store"
    me = await me_of(browser)
    assert (me["user_id"], me["is_admin"], me["authenticated"]) == ("alice", False, True)
    assert me["expires_at"] == "2026-01-01T12:00:00Z"


async def test_over_tls_the_cookie_is_bound_to_this_host(server: Server) -> None:
    browser = Browser(server, "https://127.0.0.1")
    set_cookie = (await browser.sign_in("alice")).headers["set-cookie"]
    assert set_cookie.startswith(f"__Host-{COOKIE}=")
    assert "Secure" in set_cookie.split("; ")
    assert (await me_of(browser))["user_id"] == "alice"


async def test_behind_a_proxy_the_public_url_says_what_browsers_see(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=True, public_url="https://agents.example") as server:
        browser = Browser(server, "https://agents.example")
        browser.client.base_url = httpx.URL("http://127.0.0.1")
        response = await browser.sign_in("alice")
        assert response.headers["set-cookie"].startswith(f"__Host-{COOKIE}=")


async def test_only_hashes_are_in_the_database(server: Server) -> None:
    browser = Browser(server)
    code = await link_for(server, user_id="olga")
    await browser.sign_in("alice")
    rows = str(await server.dump())
    assert browser.cookie is not None
    assert browser.cookie not in rows
    assert code not in rows


@pytest.mark.parametrize("token", ["garbage", f"unp_AAAAAAAA.{'A' * 43}", "Bearer ", "\0"])
async def test_a_wrong_token_signs_nobody_in(server: Server, token: str) -> None:
    browser = Browser(server)
    async with server.nothing_changes():
        response = await browser.sign_in(token)
    assert response.status_code == 401
    assert "set-cookie" not in response.headers


async def test_a_jwt_is_not_exchanged_since_nobody_could_revoke_the_session(server: Server) -> None:
    for jwt in (server.by_jwt("alice", ADMIN), server.by_jwt(None, ADMIN)):
        response = await Browser(server).sign_in(jwt.authorization.removeprefix("Bearer "))
        assert response.status_code == 401
        assert "unpause login-link" in response.json()["detail"]


async def test_the_cookie_has_the_scopes_of_its_token_on_every_route(server: Server) -> None:
    browser = Browser(server)
    await browser.sign_in("root")
    assert (await browser.get("/audit")).status_code == 200
    assert (await browser.get("/v1/organizations/1/agent/runs")).status_code == 200
    await browser.sign_in("alice")
    assert (await browser.get("/audit")).status_code == 403


async def test_what_the_cookie_reads_is_kept_nowhere(server: Server) -> None:
    browser = Browser(server)
    await browser.sign_in("alice")
    assert (await browser.get("/sessions")).headers["cache-control"] == "no-store"
    assert "cache-control" not in (await server.user("alice").get("/sessions")).headers


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "http://127.0.0.1:3000"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Sec-Fetch-Site": "same-site"},
        {"X-Unpause-Console": ""},
    ],
)
async def test_other_pages_cannot_use_the_cookie(server: Server, headers: dict[str, str]) -> None:
    browser = Browser(server)
    await browser.sign_in("alice")
    async with server.nothing_changes():
        response = await browser.post("/sessions", {"session_id": "s"}, **headers)
        assert response.status_code == 403
        if "X-Unpause-Console" not in headers:
            assert (await browser.get("/sessions", **headers)).status_code == 403
        # Nor sign their own user in, or this one out.
        for path, body in (("sign-in", {"token": server.tokens["bob"]}), ("login", {"code": "x"}), ("sign-out", {})):
            assert (await browser.post(f"/console/{path}", body, **headers)).status_code == 403
    assert (await me_of(browser))["user_id"] == "alice"


async def test_an_unsafe_request_has_to_prove_where_it_comes_from(server: Server) -> None:
    browser = Browser(server)
    await browser.sign_in("alice")
    response = await browser.client.post("/sessions", json={"session_id": "s"}, headers={"X-Unpause-Console": "1"})
    assert response.status_code == 403
    assert (await browser.post("/sessions", {"session_id": "s"})).status_code == 201


async def test_a_form_of_another_page_is_refused_before_it_is_read(server: Server) -> None:
    browser = Browser(server)
    response = await browser.client.post(
        "/console/sign-in", content="token=x", headers={"Content-Type": "text/plain", "Origin": "https://evil.example"}
    )
    assert response.status_code in {403, 415, 422}
    assert "set-cookie" not in response.headers


async def test_a_header_wins_over_the_cookie(server: Server) -> None:
    browser = Browser(server)
    await browser.sign_in("alice")
    response = await browser.get("/me", Authorization=f"Bearer {server.tokens['bob']}")
    assert response.json()["user_id"] == "bob"
    assert (await browser.get("/me", Authorization="Bearer wrong")).status_code == 401


async def test_a_cookie_that_another_server_added_is_not_read(server: Server) -> None:
    browser = Browser(server)
    await browser.sign_in("alice")
    response = await browser.client.get("/me", headers={"Cookie": f"{COOKIE}={browser.cookie}; {COOKIE}=other"})
    assert response.status_code == 401


async def test_signing_in_makes_a_new_session_and_ends_the_one_before(server: Server) -> None:
    browser = Browser(server)
    await browser.sign_in("alice")
    first = browser.cookie
    await browser.sign_in("bob")
    assert browser.cookie != first
    old = await server.client.get("/me", headers={"Cookie": f"{COOKIE}={first}"})
    assert old.status_code == 401
    assert (await me_of(browser))["user_id"] == "bob"


async def test_signing_out_ends_the_session_for_good(server: Server) -> None:
    browser = Browser(server)
    await browser.sign_in("alice")
    cookie = browser.cookie
    response = await browser.post("/console/sign-out")
    assert response.status_code == 204
    assert "Max-Age=0" in response.headers["set-cookie"]
    assert (await server.client.get("/me", headers={"Cookie": f"{COOKIE}={cookie}"})).status_code == 401
    assert (await browser.post("/console/sign-out")).status_code == 204


async def test_a_session_ends_when_its_token_is_revoked(server: Server) -> None:
    browser = Browser(server)
    await browser.sign_in("alice")
    await revoke(server, server.tokens["alice"][4:12])
    server.clock.move(3)
    assert (await browser.get("/me")).status_code == 401


async def test_a_session_ends_by_itself_and_never_outlives_its_token(server: Server) -> None:
    browser = Browser(server)
    await browser.sign_in("alice")
    server.clock.move(12 * 3600 - 1)
    assert (await browser.get("/me")).status_code == 200
    server.clock.move(1)
    assert (await browser.get("/me")).json()["detail"] == "Token has expired"


async def test_a_link_signs_in_once(server: Server) -> None:
    code = await link_for(server, user_id="olga")
    first, second = Browser(server), Browser(server)
    # A program that looks at links in a mail opens the page, and uses nothing up.
    assert (await first.get(f"/console/login?code={code}")).status_code == 200
    assert (await first.post("/console/login", {"code": code})).status_code == 204
    me = await me_of(first)
    assert (me["user_id"], me["scopes"]) == ("olga", sorted(DEFAULT_SCOPES))
    response = await second.post("/console/login", {"code": code})
    assert response.status_code == 401
    assert "used before" in response.json()["detail"]
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("code", ["x", "A" * 43])
async def test_a_wrong_code_signs_nobody_in(server: Server, code: str) -> None:
    async with server.nothing_changes():
        assert (await Browser(server).post("/console/login", {"code": code})).status_code in {401, 422}


@pytest.mark.parametrize("body", ['{"token": "\\udcff"}', '{"token": ["x"]}', '{"token": ""}', "{}", "[]", "token", ""])
async def test_a_body_that_is_no_token_is_refused(server: Server, body: str) -> None:
    headers = {**OWN_PAGE, "Content-Type": "application/json"}
    response = await server.client.post("/console/sign-in", content=body, headers=headers)
    assert response.status_code in {400, 401, 422}


async def test_a_link_expires(server: Server) -> None:
    code = await link_for(server, user_id="olga")
    server.clock.move(15 * 60)
    assert (await Browser(server).post("/console/login", {"code": code})).status_code == 401


async def test_a_link_is_a_token_that_can_be_revoked_before_and_after_its_use(server: Server) -> None:
    used, unused = [await link_for(server, user_id=user, scopes=(ADMIN,)) for user in ("used", "unused")]
    browser = Browser(server)
    await browser.post("/console/login", {"code": used})
    assert (await me_of(browser))["is_admin"]
    for token in (await server.dump())["tokens"]:
        if token["user_id"] in {"used", "unused"}:
            await revoke(server, token["id"])
    server.clock.move(3)
    assert (await browser.get("/me")).status_code == 401
    assert (await browser.post("/console/login", {"code": unused})).status_code == 401


async def test_guesses_are_limited_by_address(tmp_path: Path) -> None:
    async with served(tmp_path, tokens=True, rate_limit_sign_in="3/minute") as server:
        browser = Browser(server)
        statuses = [(await browser.sign_in("garbage")).status_code for _ in range(4)]
        assert statuses == [401, 401, 401, 429]
        limited = await browser.post("/console/login", {"code": "A" * 43})
        assert limited.status_code == 429
        assert int(limited.headers["retry-after"]) > 0


async def test_signing_in_and_out_is_in_the_audit_trail(server: Server) -> None:
    browser = Browser(server)
    await browser.sign_in("alice")
    await browser.post("/console/sign-out")
    entries = body_of(await server.get("/audit"))["data"][:2]
    assert [entry["action"] for entry in entries] == ["console.signed_out", "console.signed_in"]
    assert {(entry["actor"], entry["via"], entry["address"]) for entry in entries} == {
        ("alice", "console", "127.0.0.1")
    }


async def test_a_server_without_authentication_needs_no_sign_in(tmp_path: Path) -> None:
    async with served(tmp_path) as server:
        me = body_of(await server.get("/me"))
        assert (me["authenticated"], me["is_admin"], me["user_id"]) == (False, True, None)
        response = await Browser(server).post("/console/sign-in", {"token": "x"})
        assert response.status_code == 400


async def test_what_has_expired_is_deleted_with_the_next_sign_in(server: Server) -> None:
    await link_for(server, user_id="olga")
    await Browser(server).sign_in("alice")
    server.clock.move(13 * 3600)
    await Browser(server).sign_in("bob")
    rows = await server.dump()
    assert (len(rows["console_sessions"]), len(rows["login_links"])) == (1, 0)
