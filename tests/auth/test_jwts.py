"""Which JWTs count, whom they speak for, and that everything else is refused with words that can be answered."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from tests.auth.signing import (
    NOW,
    SECRET,
    WANTED,
    Issuer,
    claims,
    hmac_issuer,
    sign_by_hand,
    unsigned,
)
from tests.support.server import SettableClock
from unpause.auth.jwts import JwtRules, Jwts, StaticKeys
from unpause.domain.principal import Principal
from unpause.errors import Unauthenticated

# Deeper than Python's parser goes.
DEEP = b'{"a":' * 100_000

PAYLOADS = [
    b"",
    b"[]",
    b'"alice"',
    b"null",
    b"1",
    b"{",
    b"\xff\xfe",
    DEEP,
    b'{"sub": "alice", "exp": ' + b"9" * 5000 + b"}",
]
EXPIRIES = [
    b"NaN",
    b"Infinity",
    b"-Infinity",
    b"1e400",
    b"9" * 400,
    b"-1",
    b"0",
    b"true",
    b"null",
    b'"9999999999"',
    b"[9999999999]",
    b"{}",
]
CLAIMS: list[dict[str, Any]] = [
    {"sub": None},
    {"sub": ""},
    {"sub": 1},
    {"sub": ["alice"]},
    {"sub": {"name": "alice"}},
    {"sub": "a" * 256},
    {"sub": "al\0ice"},
    {"sub": "al\ud800ice"},
    {"exp": ...},
    {"nbf": "soon"},
    {"nbf": None},
    {"iat": {}},
    {"iat": True},
    {"jti": 1},
    {"scopes": 1},
    {"scopes": None},
    {"scopes": {"agents:run": True}},
    {"scopes": ["agents:run", 1]},
    {"scopes": [["agents:run"]]},
    {"scopes": ["finance\0"]},
    {"scopes": "finance\ud800"},
    {"session_id": 1},
    {"session_id": ""},
    {"session_id": ["s"]},
    {"session_id": "s" * 256},
    {"session_id": "\udfff"},
    {"organization_id": 0},
    {"organization_id": -1},
    {"organization_id": 2**63},
    {"organization_id": 10**30},
    {"organization_id": 1.0},
    {"organization_id": True},
    {"organization_id": None},
    {"organization_id": "one"},
    {"organization_id": "1.0"},
    {"organization_id": "+1"},
    {"organization_id": "\N{FULLWIDTH DIGIT ONE}"},
    {"organization_id": "1" * 30},
    {"organization_id": [1]},
]
HEADERS: list[bytes] = [
    b"",
    b"[]",
    b"null",
    b"\xff",
    DEEP,
    b"{}",
    b'{"alg": null}',
    b'{"alg": ["HS256"]}',
    b'{"alg": {"HS256": 1}}',
    b'{"alg": "hs256"}',
    b'{"alg": "HS512"}',
    b'{"alg": "HS256", "kid": 1}',
    b'{"alg": "HS256", "b64": false}',
    b'{"alg": "HS256", "b64": false, "crit": ["b64"]}',
    b'{"alg": "HS256", "crit": []}',
    b'{"alg": "HS256", "crit": ["exp"], "exp": 1}',
    b'{"alg": "HS256", "crit": ["\\ud800"], "\\ud800": 1}',
]
TEXTS = ["", ".", "..", "...", "a.b.c", "eyJhbGciOiJIUzI1NiJ9..", "\xe9\xff.\xe9.\xe9", "unp_", "=.=.=", "a" * 16_000]


def jwts_for(issuer: Issuer, clock: SettableClock | None = None, /, **rules: Any) -> Jwts:  # noqa: ANN401 - any rule
    expected = JwtRules(algorithm=issuer.algorithm, organization=1, **rules)
    return Jwts(StaticKeys([issuer.public], issuer.algorithm), expected, clock or SettableClock())


async def refusal(jwts: Jwts, token: str) -> str:
    """Return why the token is refused, in words that an answer can hold."""
    with pytest.raises(Unauthenticated) as caught:
        await jwts.read(token)
    caught.value.message.encode()
    assert SECRET not in caught.value.message
    return caught.value.message


async def test_a_token_of_the_issuer_says_who_asks(issuer: Issuer) -> None:
    assert await jwts_for(issuer).read(issuer.sign(claims())) == WANTED


@pytest.mark.parametrize(
    ("sent", "read"),
    [
        (["agents:run", "sessions:read"], ["agents:run", "sessions:read"]),
        ("agents:run sessions:read", ["agents:run", "sessions:read"]),
        (" agents:run  agents:run\n", ["agents:run"]),
        ([], []),
        ("", []),
        (..., []),
    ],
    ids=str,
)
async def test_scopes_are_a_list_or_a_text_and_none_without_the_claim(sent: object, read: list[str]) -> None:
    issuer = hmac_issuer()
    principal = await jwts_for(issuer).read(issuer.sign(claims(scopes=sent)))
    assert principal.scopes == frozenset(read)
    assert not principal.is_admin


async def test_claims_may_have_other_names() -> None:
    issuer = hmac_issuer()
    token = issuer.sign(claims(scopes=..., permissions="approvals:read", tenant="7", organization_id=3))
    found = await jwts_for(issuer, scopes_claim="permissions", organization_claim="tenant").read(token)
    assert found == replace(WANTED, organization_id=7, scopes=frozenset({"approvals:read"}))


@pytest.mark.parametrize(("sent", "read"), [(2, 2), ("2", 2), ("007", 7), (2**63 - 1, 2**63 - 1), (..., 1)], ids=str)
async def test_the_organization_is_a_number_or_the_digits_of_one(sent: object, read: int) -> None:
    issuer = hmac_issuer()
    assert (await jwts_for(issuer).read(issuer.sign(claims(organization_id=sent)))).organization_id == read


async def test_the_session_is_the_one_of_the_claim() -> None:
    issuer = hmac_issuer()
    assert (await jwts_for(issuer).read(issuer.sign(claims(session_id="s-1")))).session_id == "s-1"


async def test_a_token_counts_until_the_second_it_expires(issuer: Issuer) -> None:
    clock = SettableClock()
    jwts, token = jwts_for(issuer, clock), issuer.sign(claims(exp=NOW + 10, nbf=NOW, iat=NOW))
    clock.move(9.9)
    assert await jwts.read(token) == WANTED
    clock.move(0.1)
    assert await refusal(jwts, token) == "Token has expired"


@pytest.mark.parametrize("claim", ["nbf", "iat"])
async def test_a_token_does_not_count_before_its_time(claim: str) -> None:
    issuer, clock = hmac_issuer(), SettableClock()
    jwts, token = jwts_for(issuer, clock), issuer.sign(claims(**{claim: NOW + 0.5}))
    assert claim in await refusal(jwts, token)
    clock.move(1)
    assert await jwts.read(token) == WANTED


async def test_the_issuers_clock_may_be_wrong_by_as_much_as_the_settings_allow() -> None:
    issuer, clock = hmac_issuer(), SettableClock()
    jwts = jwts_for(issuer, clock, leeway_seconds=5)
    assert await jwts.read(issuer.sign(claims(exp=NOW - 4, nbf=NOW + 5, iat=NOW + 5))) == WANTED
    assert await refusal(jwts, issuer.sign(claims(exp=NOW - 5))) == "Token has expired"
    assert "nbf" in await refusal(jwts, issuer.sign(claims(nbf=NOW + 6)))


@pytest.mark.parametrize("wrong", [..., "other", "", 1, None, ["unpause"], "Unpause", "unpause "], ids=str)
async def test_the_issuer_must_be_the_one_of_the_settings(wrong: object) -> None:
    issuer = hmac_issuer()
    jwts = jwts_for(issuer, issuer="unpause")
    assert await jwts.read(issuer.sign(claims(iss="unpause"))) == WANTED
    await refusal(jwts, issuer.sign(claims(iss=wrong)))


@pytest.mark.parametrize("wrong", [..., "other", "", 1, None, [], ["other"], [1, "unpause"], {"unpause": 1}], ids=str)
async def test_the_audience_must_be_or_hold_the_one_of_the_settings(wrong: object) -> None:
    issuer = hmac_issuer()
    jwts = jwts_for(issuer, audience="unpause")
    for right in ("unpause", ["other", "unpause"]):
        assert await jwts.read(issuer.sign(claims(aud=right))) == WANTED
    await refusal(jwts, issuer.sign(claims(aud=wrong)))


async def test_what_the_settings_say_nothing_of_is_not_looked_at() -> None:
    issuer = hmac_issuer()
    assert await jwts_for(issuer).read(issuer.sign(claims(iss="anybody", aud="anything", x={"y": [None]}))) == WANTED


@pytest.mark.parametrize("name", ["none", "None", "NONE", "nOnE", ""])
async def test_a_token_without_a_signature_is_refused_whatever_it_calls_that(issuer: Issuer, name: str) -> None:
    jwts = jwts_for(issuer)
    assert await refusal(jwts, unsigned(name, claims())) == "Invalid token: The specified alg value is not allowed"
    header, payload, _ = issuer.sign(claims()).split(".")
    await refusal(jwts, f"{header}.{payload}.")


async def test_a_public_key_taken_for_a_secret_signs_nothing(rsa_one: Issuer, ec_one: Issuer) -> None:
    for issuer in (rsa_one, ec_one):
        for text in (issuer.public, issuer.public.strip(), issuer.public.replace("\n", "")):
            for sent in ("HS256", issuer.algorithm):
                header = json.dumps({"alg": sent, "typ": "JWT"}).encode()
                forged = sign_by_hand(header, json.dumps(claims()).encode(), text.encode())
                await refusal(jwts_for(issuer), forged)


async def test_another_algorithm_of_the_same_key_is_refused(rsa_one: Issuer) -> None:
    jwts = jwts_for(rsa_one)
    for name in ("RS384", "RS512", "PS256"):
        token = replace(rsa_one, algorithm=name).sign(claims())
        assert await refusal(jwts, token) == "Invalid token: The specified alg value is not allowed"


async def test_another_key_of_the_same_kind_is_refused(issuer: Issuer, rsa_other: Issuer, ec_other: Issuer) -> None:
    others = {"HS256": hmac_issuer(SECRET[::-1]), "RS256": rsa_other, "ES256": ec_other}
    token = others[issuer.algorithm].sign(claims())
    assert await refusal(jwts_for(issuer), token) == "Invalid token: Signature verification failed"


async def test_a_key_that_the_token_brings_along_is_not_used(rsa_one: Issuer, rsa_other: Issuer) -> None:
    own = {"jwk": {"kty": "RSA"}, "jku": "https://evil.example/keys", "x5u": "https://evil.example", "x5c": ["AAAA"]}
    token = rsa_other.sign(claims(), **own)
    assert await refusal(jwts_for(rsa_one), token) == "Invalid token: Signature verification failed"
    assert await jwts_for(rsa_other).read(token) == WANTED


async def test_while_keys_are_changed_the_old_and_the_new_count(rsa_one: Issuer, rsa_other: Issuer) -> None:
    rules = JwtRules(algorithm="RS256", organization=1)
    both = Jwts(StaticKeys([rsa_other.public, rsa_one.public], "RS256"), rules, SettableClock())
    for issuer in (rsa_one, rsa_other):
        assert await both.read(issuer.sign(claims(), kid="any")) == WANTED
    assert await refusal(both, rsa_one.sign(claims(exp=NOW))) == "Token has expired"


@pytest.mark.parametrize("payload", PAYLOADS, ids=lambda value: repr(value)[:30])
async def test_a_payload_that_is_no_object_is_refused(payload: bytes) -> None:
    await refusal(jwts_for(hmac_issuer()), sign_by_hand(b'{"alg": "HS256"}', payload))


@pytest.mark.parametrize("text", EXPIRIES, ids=lambda value: repr(value)[:30])
@pytest.mark.parametrize("leeway", [0, 600])
async def test_an_expiry_that_is_no_moment_to_come_is_refused(text: bytes, leeway: float) -> None:
    token = sign_by_hand(b'{"alg": "HS256"}', b'{"sub": "alice", "exp": ' + text + b"}")
    await refusal(jwts_for(hmac_issuer(), leeway_seconds=leeway), token)


@pytest.mark.parametrize("changes", CLAIMS, ids=lambda value: repr(value)[:40])
async def test_a_claim_that_makes_no_sense_is_refused(changes: dict[str, Any]) -> None:
    issuer = hmac_issuer()
    await refusal(jwts_for(issuer), issuer.sign(claims(**changes)))


@pytest.mark.parametrize("header", HEADERS, ids=lambda value: repr(value)[:50])
async def test_a_header_that_makes_no_sense_is_refused(header: bytes) -> None:
    await refusal(jwts_for(hmac_issuer()), sign_by_hand(header, json.dumps(claims()).encode()))


@pytest.mark.parametrize("text", TEXTS, ids=lambda value: repr(value)[:30])
async def test_a_text_that_is_no_token_is_refused(issuer: Issuer, text: str) -> None:
    await refusal(jwts_for(issuer), text)


def mutations(token: str) -> st.SearchStrategy[str]:
    """Return texts that are the token but for a piece that is put in, left out or replaced, or two that swap places."""
    place = st.integers(0, len(token))
    other = st.text("abcXYZ019-_.=+/ \xe9", max_size=4)
    spliced = st.builds(lambda at, more, put: token[:at] + put + token[at + more :], place, st.integers(0, 3), other)
    header, payload, signature = token.split(".")
    parts = st.permutations([header, payload, signature]).map(".".join)
    return st.one_of(spliced, parts, st.just(f"{header}.{payload}.{header}"), place.map(lambda at: token[:at]))


@given(st.data())
async def test_no_token_that_was_tampered_with_is_accepted(data: st.DataObject) -> None:
    issuer = hmac_issuer()
    token = issuer.sign(claims())
    mutated = data.draw(mutations(token))
    # Padding says nothing more: PyJWT takes the same bytes with it or without.
    assume(mutated.replace("=", "") != token)
    await refusal(jwts_for(issuer), mutated)


@given(st.data())
async def test_no_token_of_a_key_pair_that_was_tampered_with_is_accepted(ec_one: Issuer, data: st.DataObject) -> None:
    token = ec_one.sign(claims())
    mutated = data.draw(mutations(token))
    assume(mutated.replace("=", "") != token)
    await refusal(jwts_for(ec_one), mutated)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(
    st.dictionaries(
        st.sampled_from(["sub", "exp", "nbf", "iat", "jti", "scopes", "session_id", "organization_id", "iss", "aud"]),
        JSON,
    )
)
async def test_whatever_is_well_signed_is_read_or_refused_and_nothing_else(changes: dict[str, Any]) -> None:
    issuer = hmac_issuer()
    try:
        found = await jwts_for(issuer).read(issuer.sign(json.dumps(claims(**changes)).encode()))
    except Unauthenticated as error:
        error.message.encode()
        return
    assert isinstance(found, Principal)
    assert found.subject == found.user_id == changes.get("sub", "alice")
    assert 1 <= found.organization_id < 2**63
    assert not found.is_admin or "agent_os:admin" in str(changes["scopes"])


async def test_a_token_without_a_subject_is_nobody_and_acts_for_whom_a_request_names() -> None:
    issuer = hmac_issuer()
    named_nobody = {name: value for name, value in claims().items() if name != "sub"}
    found = await jwts_for(issuer).read(issuer.sign(named_nobody))
    assert (found.subject, found.user_id, found.is_nameless_jwt) == (None, None, True)
    assert found.acting_for("bob").user_id == "bob"
    # Its requests are counted all the same.
    assert found.credential is not None


async def test_another_audience_is_refused_in_the_words_of_agentos() -> None:
    issuer = hmac_issuer()
    with pytest.raises(Unauthenticated, match="Invalid token audience - token not valid for this AgentOS instance"):
        await jwts_for(issuer, audience="unpause").read(issuer.sign(claims(aud="other")))
