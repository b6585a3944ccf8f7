"""Signs JWTs for tests, as an issuer would, and as somebody would who has only some of what it takes."""

from __future__ import annotations

import hashlib
import hmac
import json
from base64 import urlsafe_b64encode
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

from unpause.domain.principal import Principal

# What `SettableClock` (tests/support/server.py) shows first.
NOW = int(datetime(2026, 1, 1, tzinfo=UTC).timestamp())
SECRET = "a-secret-of-tests-that-is-long-enough-for-every-HMAC-canary-4711"

WANTED = Principal(1, "alice", subject="alice", scopes=frozenset({"agents:run", "agents:read"}))


@dataclass(frozen=True)
class Issuer:
    """Whoever signs: ``public`` is the text that a server is given to check it with."""

    algorithm: str
    private: Any = field(repr=False)
    public: str = field(repr=False)

    def sign(self, payload: dict[str, Any] | bytes, **header: Any) -> str:  # noqa: ANN401 - any JSON
        """Return a token with these claims, or with whatever bytes in their place."""
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return jwt.api_jws.encode(content, self.private, self.algorithm, headers=header or None)


def hmac_issuer(secret: str = SECRET) -> Issuer:
    """Return one who signs with a shared secret."""
    return Issuer("HS256", secret, secret)


def rsa_issuer() -> Issuer:
    """Return one who signs with a new RSA key."""
    return _with_key("RS256", rsa.generate_private_key(65537, 2048))


def ec_issuer() -> Issuer:
    """Return one who signs with a new key on the curve P-256."""
    return _with_key("ES256", ec.generate_private_key(ec.SECP256R1()))


def private_text(issuer: Issuer) -> str:
    """Return the text of the key that must not leave the issuer."""
    text: bytes = issuer.private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    return text.decode()


def _with_key(algorithm: str, key: rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey) -> Issuer:
    public = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    return Issuer(algorithm, key, public.decode())


def claims(**changes: Any) -> dict[str, Any]:  # noqa: ANN401 - any JSON
    """Return the claims of a token that counts; one that is changed to ``...`` is left out."""
    usual = {"sub": "alice", "exp": NOW + 60, "scopes": ["agents:run", "agents:read"]}
    return {name: value for name, value in {**usual, **changes}.items() if value is not ...}


def sign_by_hand(header: bytes, payload: bytes, secret: bytes = SECRET.encode()) -> str:
    """Return a token with this very header and a good HMAC-SHA256 signature, whatever the header says."""
    signed = b".".join((_encoded(header), _encoded(payload)))
    return b".".join((signed, _encoded(hmac.digest(secret, signed, hashlib.sha256)))).decode()


def unsigned(algorithm: str, payload: dict[str, Any]) -> str:
    """Return a token without a signature that says so."""
    header = json.dumps({"alg": algorithm, "typ": "JWT"}).encode()
    return b".".join((_encoded(header), _encoded(json.dumps(payload).encode()), b"")).decode()


def _encoded(content: bytes) -> bytes:
    return urlsafe_b64encode(content).rstrip(b"=")
