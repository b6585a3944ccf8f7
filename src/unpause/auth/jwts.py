"""Verifies JWTs: signature, times, issuer and audience; and reads the principal from their claims.

As in AgentOS ``sub`` is the user and ``scopes`` a list or a text with spaces; ``session_id`` and the organization are
optional.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Protocol

import jwt
from cryptography.exceptions import UnsupportedAlgorithm

from unpause.domain.principal import NAMELESS_JWT, Principal
from unpause.errors import InvalidSetting, Unauthenticated

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from unpause.clock import Clock

_LONGEST_NAME = 255
_LARGEST_ORGANIZATION = 2**63 - 1
_LONGEST_NUMBER = 20


class KeySource(Protocol):
    """The source of the keys that verify signatures."""

    async def find_keys(self, key_id: str | None) -> Sequence[Any]:
        """Return the keys that may have signed a token with this ``kid``; none where it is unknown."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class JwtRules:
    """What a JWT has to satisfy. ``audience`` and ``issuer`` None are not checked."""

    algorithm: str
    audience: str | None = None
    issuer: str | None = None
    scopes_claim: str = "scopes"
    organization_claim: str = "organization_id"
    organization: int
    leeway_seconds: float = 0.0


class StaticKeys:
    """The keys of the settings: the newest first, older ones may follow."""

    def __init__(self, keys: Iterable[str], algorithm: str) -> None:
        """Raise InvalidSetting for a key that cannot verify signatures."""
        self._keys = [prepare_key(key, algorithm) for key in keys]

    async def find_keys(self, key_id: str | None) -> Sequence[Any]:
        """Return all keys: they have no ids."""
        del key_id
        return self._keys


class Jwts:
    """Implements ``auth.authenticator.JwtReader``."""

    def __init__(self, keys: KeySource, rules: JwtRules, clock: Clock) -> None:
        self._keys = keys
        self._rules = rules
        self._clock = clock

    async def read(self, text: str) -> Principal:
        """Return the token's principal; raise Unauthenticated with AgentOS's texts."""
        claims = await self._verified(text)
        self._check_times(claims)
        return self._principal(claims)

    async def _verified(self, text: str) -> Mapping[str, Any]:
        try:
            header = jwt.get_unverified_header(text)
        except jwt.InvalidTokenError as error:
            raise _invalid(error) from None
        except (ValueError, RecursionError):
            raise Unauthenticated("Invalid token: it cannot be read") from None
        if header.get("alg") != self._rules.algorithm:
            # Never the token's own choice: `none`, or a public key used as a secret.
            raise Unauthenticated("Invalid token: The specified alg value is not allowed")
        key_id = header.get("kid")
        failure: Exception | None = None
        for key in await self._keys.find_keys(key_id if isinstance(key_id, str) else None):
            try:
                return self._decode(text, key)
            except jwt.InvalidSignatureError as error:
                failure = error
            except jwt.InvalidAudienceError:
                raise Unauthenticated(_OTHER_AUDIENCE) from None
            except jwt.PyJWTError as error:
                raise _invalid(error) from None
            except (ValueError, TypeError, RecursionError):
                raise Unauthenticated("Invalid token: it cannot be read") from None
        raise _invalid(failure) if failure is not None else Unauthenticated("Invalid token: unknown signing key")

    def _decode(self, text: str, key: Any) -> Mapping[str, Any]:  # noqa: ANN401 - whatever kind of key
        rules = self._rules
        claims: dict[str, Any] = jwt.decode(
            text,
            key,
            algorithms=[rules.algorithm],
            audience=rules.audience,
            issuer=rules.issuer,
            # `_check_times` checks the times, by this server's clock.
            options={
                "require": ["exp"],
                "verify_aud": rules.audience is not None,
                "verify_exp": False,
                "verify_nbf": False,
                "verify_iat": False,
            },
        )
        return claims

    def _check_times(self, claims: Mapping[str, Any]) -> None:
        now, leeway = self._clock.now().timestamp(), self._rules.leeway_seconds
        if _moment(claims, "exp") <= now - leeway:
            raise Unauthenticated("Token has expired")
        for claim in ("nbf", "iat"):
            if claim in claims and _moment(claims, claim) > now + leeway:
                raise Unauthenticated(f"Invalid token: The token is not yet valid ({claim})")

    def _principal(self, claims: Mapping[str, Any]) -> Principal:
        rules = self._rules
        organization, session = self._organization(claims), claims.get("session_id")
        # Without a subject it acts for the user that each request names, as a service token does.
        user = None if claims.get("sub") is None else _name(claims, "sub")
        return Principal(
            organization,
            user,
            subject=user,
            scopes=_scopes(claims.get(rules.scopes_claim, ())),
            token_id=f"{NAMELESS_JWT}{organization}" if user is None else None,
            session_id=None if session is None else _name(claims, "session_id"),
            expires_at=_expiry(claims),
        )

    def _organization(self, claims: Mapping[str, Any]) -> int:
        rules = self._rules
        named = claims.get(rules.organization_claim, rules.organization)
        if isinstance(named, str) and named.isascii() and named.isdecimal() and len(named) < _LONGEST_NUMBER:
            named = int(named)
        if isinstance(named, bool) or not isinstance(named, int) or not 1 <= named <= _LARGEST_ORGANIZATION:
            raise Unauthenticated(f"Invalid token: the claim {rules.organization_claim} names no organization")
        return named


def prepare_key(key: Any, algorithm: str) -> Any:  # noqa: ANN401 - whatever kind of key
    """Return the key in the form that verifies signatures.

    Raises InvalidSetting for a key of another algorithm, a private one, or one that is too short.
    """
    required = jwt.get_algorithm_by_name(algorithm)
    try:
        prepared = required.prepare_key(key)
    except (jwt.PyJWTError, UnsupportedAlgorithm, ValueError, TypeError):
        # The error may contain the key.
        raise InvalidSetting(f"jwt_key: this is not a key for {algorithm}") from None
    if hasattr(prepared, "private_bytes"):
        raise InvalidSetting("jwt_key: this is a private key; signatures are verified with the public one")
    # A secret shorter than what it signs with can be guessed (RFC 7518 section 3.2); so can a small RSA key.
    if required.check_key_length(prepared):
        raise InvalidSetting(f"jwt_key: this key is too short for {algorithm}")
    return prepared


_OTHER_AUDIENCE = "Invalid token audience - token not valid for this AgentOS instance"


def _invalid(error: Exception) -> Unauthenticated:
    # The error may quote the token, and with it halves of characters, which no response can contain.
    return Unauthenticated(f"Invalid token: {error}".encode(errors="backslashreplace").decode())


def _moment(claims: Mapping[str, Any], claim: str) -> float:
    value = claims[claim]
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value or abs(value) > _LARGEST_MOMENT:  # noqa: PLR0124 - NaN
        raise Unauthenticated(f"Invalid token: {claim} must be a time in seconds")
    return float(value)


def _expiry(claims: Mapping[str, Any]) -> datetime:
    return datetime.fromtimestamp(min(_moment(claims, "exp"), _LAST_MOMENT), UTC)


_LARGEST_MOMENT = 1e15
# What a datetime can hold: the end of the year 9998.
_LAST_MOMENT = 253_370_764_799
# U+0000 and halves of characters, which JSON can contain and no database stores.
_UNSTORABLE = re.compile("[\0\ud800-\udfff]")


def _name(claims: Mapping[str, Any], claim: str) -> str:
    value = claims[claim]
    if not isinstance(value, str) or not 1 <= len(value) <= _LONGEST_NAME or _UNSTORABLE.search(value):
        raise Unauthenticated(f"Invalid token: {claim} must be a text of 1 to {_LONGEST_NAME} characters")
    return value


def _scopes(value: object) -> frozenset[str]:
    scopes = value.split() if isinstance(value, str) else value
    if isinstance(scopes, list | tuple) and all(
        isinstance(each, str) and not _UNSTORABLE.search(each) for each in scopes
    ):
        return frozenset(scopes)
    raise Unauthenticated("Invalid token: scopes must be a list")
