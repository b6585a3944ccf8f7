"""Keys that are published at an address: asked for when they are needed, not oftener, and never trusted blindly."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx
import jwt
import pytest

from tests.auth.signing import WANTED, Issuer, claims, hmac_issuer, private_text
from tests.support.server import SettableClock
from unpause.auth.jwks import PublishedKeys
from unpause.auth.jwts import JwtRules, Jwts
from unpause.errors import Unauthenticated, Unavailable

INTERVAL, USUAL_AGE, AGE = 30, 2700, 3600
UNKNOWN = "Invalid token: unknown signing key"

GARBAGE: list[bytes] = [
    b"",
    b"no",
    b"null",
    b"1",
    b"[]",
    b'{"keys": null}',
    b'{"keys": []}',
    b'{"keys": {}}',
    b'{"keys": "all"}',
    b'{"keys": [1, null, "x", [], {}]}',
    b'{"keys": [{"kty": ["RSA"]}]}',
    b'{"keys": [{"kty": "RSA"}]}',
    b'{"keys": [{"kty": "RSA", "alg": [], "n": "AQAB", "e": "AQAB"}]}',
    b'{"keys": [{"kty": "RSA", "n": 5, "e": {}}]}',
    b'{"keys": [{"kty": "RSA", "n": "", "e": ""}]}',
    b'{"keys": [{"kty": "RSA", "n": "AQAB", "e": "AQAB", "kid": []}]}',
    b'{"keys": [{"kty": "EC", "crv": {}, "x": "AA", "y": "AA"}]}',
    b'{"keys": [{"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA"}]}',
    b'{"keys": [{"kty": "OKP", "crv": "Ed25519"}]}',
    b"\xff\xfe\xfd",
    b"[" * 100_000,
    b" " * (1024 * 1024 + 1),
]


@dataclass
class Publisher:
    """The address: answers with its keys, or as a test wants; ``asked`` counts."""

    keys: list[dict[str, Any]] = field(default_factory=list)
    requests: int = 0
    instead: Callable[[httpx.Request], httpx.Response] | None = None

    def publish(self, **issuers: Issuer) -> None:
        """Have the keys of these issuers alone, each under its name."""
        self.keys = [published(issuer, kid) for kid, issuer in issuers.items()]

    async def wait(self) -> object:
        """Let whoever else wants to ask do so."""
        await asyncio.sleep(0)
        return None

    async def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        await self.wait()
        if self.instead is not None:
            return self.instead(request)
        return httpx.Response(200, json={"keys": self.keys})


@dataclass
class Watch:
    """What the keys take for the time."""

    seconds: float = 1_000.0

    def __call__(self) -> float:
        return self.seconds


@dataclass
class Desk:
    """Reads tokens with the keys of the publisher."""

    publisher: Publisher
    watch: Watch
    keys: PublishedKeys
    jwts: Jwts

    async def renewed(self) -> None:
        """Wait until nobody asks the address any more."""
        await self.keys._refreshing.wait()  # noqa: SLF001 - nobody else waits for it

    async def read(self, issuer: Issuer, kid: str | None = None) -> bool:
        """Whether a new token of the issuer counts; one that does not is refused for its key."""
        token = issuer.sign(claims(), **({} if kid is None else {"kid": kid}))
        try:
            found = await self.jwts.read(token)
        except Unauthenticated as error:
            if error.message not in {UNKNOWN, "Invalid token: Signature verification failed"}:
                raise
            return False
        return found == WANTED


@pytest.fixture
def desk(monkeypatch: pytest.MonkeyPatch) -> Desk:
    return make_desk(monkeypatch, "RS256")


def make_desk(monkeypatch: pytest.MonkeyPatch, algorithm: str) -> Desk:
    publisher, watch = Publisher(), Watch()
    monkeypatch.setattr("unpause.auth.jwks.monotonic", watch)
    keys = PublishedKeys("https://issuer.example/keys", algorithm, httpx.MockTransport(publisher.answer))
    return Desk(publisher, watch, keys, Jwts(keys, JwtRules(algorithm=algorithm, organization=1), SettableClock()))


def published(issuer: Issuer, kid: str | None, **changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return the public key of the issuer as a JWK."""
    algorithm: Any = jwt.get_algorithm_by_name(issuer.algorithm)
    key: dict[str, Any] = algorithm.to_jwk(algorithm.prepare_key(issuer.public), as_dict=True)
    return {**key, **({} if kid is None else {"kid": kid}), **changes}


def down(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("nobody is there", request=request)


async def test_the_keys_are_asked_for_once_and_not_before_a_token_comes(desk: Desk, rsa_one: Issuer) -> None:
    desk.publisher.publish(one=rsa_one)
    assert desk.publisher.requests == 0
    for _ in range(20):
        assert await desk.read(rsa_one, "one")
        assert await desk.read(rsa_one)
    assert desk.publisher.requests == 1


async def test_many_who_come_at_once_share_one_question(desk: Desk, rsa_one: Issuer) -> None:
    desk.publisher.publish(one=rsa_one)
    assert all(await asyncio.gather(*(desk.read(rsa_one, "one") for _ in range(50))))
    assert desk.publisher.requests == 1


async def test_a_key_that_nobody_knows_is_asked_for_once_in_thirty_seconds(
    desk: Desk, rsa_one: Issuer, rsa_other: Issuer
) -> None:
    desk.publisher.publish(one=rsa_one)
    assert await desk.read(rsa_one, "one")
    desk.publisher.publish(one=rsa_one, two=rsa_other)
    desk.watch.seconds += INTERVAL
    assert not any(await asyncio.gather(*(desk.read(rsa_other, f"unknown-{number}") for number in range(30))))
    assert desk.publisher.requests == 1, "not oftener than every 30 seconds"
    assert not await desk.read(rsa_other, "two")
    desk.watch.seconds += 1
    assert all(await asyncio.gather(*(desk.read(rsa_other, "two") for _ in range(30))))
    assert desk.publisher.requests == 2
    assert not await desk.read(rsa_other, "three")
    assert await desk.read(rsa_one, "one")
    assert desk.publisher.requests == 2


async def test_a_key_that_is_no_longer_published_counts_for_an_hour_at_most(
    desk: Desk, rsa_one: Issuer, rsa_other: Issuer
) -> None:
    desk.publisher.publish(one=rsa_one)
    assert await desk.read(rsa_one, "one")
    desk.publisher.publish(two=rsa_other)
    desk.watch.seconds += AGE
    assert await desk.read(rsa_one, "one")
    desk.watch.seconds += 1
    assert not await desk.read(rsa_one, "one")
    assert await desk.read(rsa_other, "two")
    assert desk.publisher.requests == 2


async def test_known_keys_count_while_the_address_is_down(desk: Desk, rsa_one: Issuer, rsa_other: Issuer) -> None:
    desk.publisher.publish(one=rsa_one)
    assert await desk.read(rsa_one, "one")
    desk.publisher.instead = down
    desk.watch.seconds += AGE + 1
    for _ in range(5):
        assert await desk.read(rsa_one, "one")
        assert not await desk.read(rsa_other, "two")
    assert desk.publisher.requests == 2
    desk.publisher.instead = None
    desk.publisher.publish(two=rsa_other)
    desk.watch.seconds += INTERVAL + 1
    assert await desk.read(rsa_other, "two")
    assert not await desk.read(rsa_one, "one")


async def test_keys_are_renewed_before_they_are_old_and_nobody_waits(
    desk: Desk, rsa_one: Issuer, rsa_other: Issuer
) -> None:
    desk.publisher.publish(one=rsa_one)
    assert await desk.read(rsa_one, "one")
    desk.publisher.publish(two=rsa_other)
    desk.watch.seconds += USUAL_AGE
    assert await desk.read(rsa_one, "one")
    await desk.renewed()
    assert desk.publisher.requests == 1
    desk.watch.seconds += 1
    assert all([await desk.read(rsa_one, "one") for _ in range(20)])
    await desk.renewed()
    assert desk.publisher.requests == 2
    assert not await desk.read(rsa_one, "one")
    assert await desk.read(rsa_other, "two")


async def test_an_address_that_hangs_stops_nobody_whose_key_is_known(
    monkeypatch: pytest.MonkeyPatch, desk: Desk, rsa_one: Issuer
) -> None:
    desk.publisher.publish(one=rsa_one)
    assert await desk.read(rsa_one, "one")
    monkeypatch.setattr(desk.publisher, "wait", asyncio.Event().wait)
    monkeypatch.setattr("unpause.auth.jwks._TIMEOUT_SECONDS", 0.05)
    desk.watch.seconds += USUAL_AGE + 1
    assert all([await desk.read(rsa_one, "one") for _ in range(5)])
    await desk.renewed()
    assert desk.publisher.requests == 2
    # Whoever waited now would wait until the test is given up.
    monkeypatch.setattr("unpause.auth.jwks._TIMEOUT_SECONDS", 3600)
    desk.watch.seconds += AGE
    assert all([await desk.read(rsa_one, "one") for _ in range(5)])
    await asyncio.sleep(0)
    assert all([await desk.read(rsa_one, "one") for _ in range(5)])
    assert desk.publisher.requests <= 3, "one asks for all"


async def test_without_any_keys_yet_nobody_is_told_that_their_token_is_wrong(desk: Desk, rsa_one: Issuer) -> None:
    desk.publisher.publish(one=rsa_one)
    desk.publisher.instead = down
    for _ in range(3):
        with pytest.raises(Unavailable):
            await desk.read(rsa_one, "one")
    assert desk.publisher.requests == 1
    desk.publisher.instead = None
    desk.watch.seconds += INTERVAL + 1
    assert await desk.read(rsa_one, "one")


async def test_an_address_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch, rsa_one: Issuer) -> None:
    monkeypatch.setattr("unpause.auth.jwks._TIMEOUT_SECONDS", 0.05)

    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    keys = PublishedKeys("https://issuer.example/keys", "RS256", httpx.MockTransport(never))
    jwts = Jwts(keys, JwtRules(algorithm="RS256", organization=1), SettableClock())
    with pytest.raises(Unavailable):
        await jwts.read(rsa_one.sign(claims(), kid="one"))


@pytest.mark.parametrize("content", GARBAGE, ids=lambda value: repr(value)[:60])
async def test_what_is_no_key_set_changes_nothing(desk: Desk, rsa_one: Issuer, content: bytes) -> None:
    desk.publisher.instead = lambda _: httpx.Response(200, content=content)
    # A set without one key that could be used is as good as none.
    with pytest.raises((Unavailable, Unauthenticated)):
        await desk.jwts.read(rsa_one.sign(claims(), kid="one"))
    assert desk.publisher.requests == 1


@pytest.mark.parametrize("status", [204, 301, 302, 404, 500])
async def test_an_answer_that_is_no_success_changes_nothing(desk: Desk, rsa_one: Issuer, status: int) -> None:
    body = json.dumps({"keys": [published(rsa_one, "one")]}) if status != 204 else ""
    headers = {"Location": "https://elsewhere.example/keys"}
    desk.publisher.instead = lambda _: httpx.Response(status, text=body, headers=headers)
    with pytest.raises(Unavailable):
        await desk.jwts.read(rsa_one.sign(claims(), kid="one"))


async def test_garbage_later_leaves_the_keys_that_are_known(desk: Desk, rsa_one: Issuer) -> None:
    desk.publisher.publish(one=rsa_one)
    assert await desk.read(rsa_one, "one")
    for content in GARBAGE[:10]:
        desk.publisher.instead = lambda _, content=content: httpx.Response(200, content=content)
        desk.watch.seconds += AGE + 1
        assert await desk.read(rsa_one, "one")
        await desk.renewed()
    assert desk.publisher.requests == 11


async def test_a_secret_that_is_published_signs_nothing(
    monkeypatch: pytest.MonkeyPatch, desk: Desk, rsa_one: Issuer
) -> None:
    secret = {"kty": "oct", "kid": "one", "k": "YS1zZWNyZXQtb2YtdGVzdHMtdGhhdC1pcy1sb25nLWVub3VnaA"}
    hmac = hmac_issuer("a-secret-of-tests-that-is-long-enough")
    for changes in ({}, {"alg": "HS256"}, {"alg": "RS256"}):
        for other in (desk, make_desk(monkeypatch, "HS256")):
            other.publisher.keys = [published(rsa_one, "other"), {**secret, **changes}]
            with pytest.raises(Unauthenticated):
                await other.jwts.read(hmac.sign(claims(), kid="one"))


async def test_keys_that_are_private_small_or_for_something_else_sign_nothing(desk: Desk, rsa_one: Issuer) -> None:
    algorithm: Any = jwt.get_algorithm_by_name("RS256")
    private = algorithm.to_jwk(algorithm.prepare_key(private_text(rsa_one)), as_dict=True)
    desk.publisher.keys = [{**private, "kid": "private"}, published(rsa_one, "sealing", use="enc")]
    desk.publisher.keys.append({"kty": "RSA", "kid": "small", "n": "_" * 86, "e": "AQAB"})
    for kid in ("private", "sealing", "small"):
        assert not await desk.read(rsa_one, kid)
    assert not await desk.read(rsa_one)


async def test_keys_for_other_algorithms_do_not_stand_in_the_way(
    monkeypatch: pytest.MonkeyPatch, rsa_one: Issuer, ec_one: Issuer
) -> None:
    for issuer in (rsa_one, ec_one):
        desk = make_desk(monkeypatch, issuer.algorithm)
        # Some give one id to a key of every kind; some give none.
        desk.publisher.keys = [published(each, kid) for kid in ("one", None) for each in (ec_one, rsa_one)]
        assert await desk.read(issuer, "one")
        assert await desk.read(issuer)


async def test_a_key_signs_only_under_its_own_name(desk: Desk, rsa_one: Issuer, rsa_other: Issuer) -> None:
    desk.publisher.publish(one=rsa_one, two=rsa_other)
    assert not await desk.read(rsa_one, "two")
    assert await desk.read(rsa_other, "two")
    assert await desk.read(rsa_other), "and a token without a name is tried with all"


async def test_a_token_of_another_algorithm_does_not_make_anybody_ask(desk: Desk, ec_one: Issuer) -> None:
    for token in (ec_one.sign(claims(), kid="one"), hmac_issuer().sign(claims(), kid="one"), "a.b.c"):
        with pytest.raises(Unauthenticated):
            await desk.jwts.read(token)
    assert desk.publisher.requests == 0
