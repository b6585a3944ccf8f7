"""The keys and rules of JWTs as the settings have them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from unpause.auth.jwks import PublishedKeys
from unpause.auth.jwts import JwtRules, Jwts, StaticKeys
from unpause.errors import InvalidSetting

if TYPE_CHECKING:
    from unpause.auth.jwts import KeySource
    from unpause.clock import Clock
    from unpause.settings import Settings


def load_jwt_keys(settings: Settings) -> KeySource | None:
    """Return the keys that JWTs are verified with, or None without any; raise InvalidSetting."""
    keys = [_read_key(file) for file in settings.jwt_key_files]
    if settings.jwt_key is not None:
        keys.insert(0, settings.jwt_key.get_secret_value())
    if settings.jwt_jwks_url is None:
        return StaticKeys(keys, settings.jwt_algorithm) if keys else None
    if keys:
        raise InvalidSetting("jwt_jwks_url cannot be combined with jwt_key or jwt_key_files")
    if settings.jwt_algorithm.startswith("HS"):
        raise InvalidSetting(f"jwt_algorithm {settings.jwt_algorithm} needs a shared secret: a JWKS has public keys")
    if not settings.jwt_jwks_url.startswith(("https://", "http://")):
        raise InvalidSetting("jwt_jwks_url must begin with https:// or http://")
    return PublishedKeys(settings.jwt_jwks_url, settings.jwt_algorithm)


def _read_key(file: str) -> str:
    try:
        return Path(file).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not text"
        raise InvalidSetting(f"jwt_key_files: {file} cannot be read: {why}") from None


def configured_jwts(settings: Settings, clock: Clock) -> Jwts | None:
    """Return the verifier of JWTs, or None without a key; raise InvalidSetting for an invalid key."""
    keys = load_jwt_keys(settings)
    if keys is None:
        return None
    rules = JwtRules(
        algorithm=settings.jwt_algorithm,
        audience=settings.jwt_audience,
        issuer=settings.jwt_issuer,
        scopes_claim=settings.jwt_scopes_claim,
        organization_claim=settings.jwt_organization_claim,
        organization=settings.jwt_organization,
        leeway_seconds=settings.jwt_leeway_seconds,
    )
    return Jwts(keys, rules, clock)
