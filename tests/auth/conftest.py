"""The issuers that the tests of JWTs share: making an RSA key takes its time."""

from __future__ import annotations

import pytest

from tests.auth.signing import Issuer, ec_issuer, hmac_issuer, rsa_issuer


@pytest.fixture(scope="session")
def rsa_one() -> Issuer:
    return rsa_issuer()


@pytest.fixture(scope="session")
def rsa_other() -> Issuer:
    return rsa_issuer()


@pytest.fixture(scope="session")
def ec_one() -> Issuer:
    return ec_issuer()


@pytest.fixture(scope="session")
def ec_other() -> Issuer:
    return ec_issuer()


@pytest.fixture(params=["HS256", "RS256", "ES256"])
def issuer(request: pytest.FixtureRequest) -> Issuer:
    match request.param:
        case "HS256":
            return hmac_issuer()
        case "RS256":
            found: Issuer = request.getfixturevalue("rsa_one")
        case _:
            found = request.getfixturevalue("ec_one")
    return found
