"""Encrypts other people's secrets before they are stored."""

from __future__ import annotations

import hashlib
import hmac
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

from unpause.errors import InvalidSetting, SecretsNotKept

if TYPE_CHECKING:
    from collections.abc import Sequence

# Why a message is not sent.
UNREADABLE: Final = "its secrets cannot be decrypted with the keys that this server has"

_MARK_CHARACTERS = 32
# The first of them name the key.
KEY_CHARACTERS = 8


class Encrypted:
    """An encrypted secret; ``token`` is what may be stored.

    The same secret has another token each time it is encrypted. To compare two requests without it, a vault adds a
    ``mark``: the same one for the same secret and vault's key, useless without that key. It begins with the key's name.
    """

    __slots__ = ("mark", "token")

    def __init__(self, token: str, mark: str = "") -> None:
        self.token = token
        self.mark = mark

    def __repr__(self) -> str:
        return f"Encrypted({self.mark})"


class Vault:
    """Encrypts with the first key, decrypts with any; without keys it refuses both.

    A key is 32 bytes in URL-safe base64, as ``unpause keys new`` prints. Raises InvalidSetting for anything else.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        try:
            fernets = [_load_fernet().Fernet(key) for key in keys]
        except ValueError:
            raise InvalidSetting("encryption_key: a key is 32 bytes in URL-safe base64: `unpause keys new`") from None
        self._fernet = _load_fernet().MultiFernet(fernets) if keys else None
        self._newest = fernets[0] if keys else None
        self._mark_key = hashlib.sha256(f"mark {keys[0]}".encode()).digest() if keys else b""
        self._key_name = hashlib.sha256(self._mark_key).hexdigest()[:KEY_CHARACTERS]

    def encrypt(self, secret: str) -> Encrypted:
        """Return what may be stored; raise SecretsNotKept without a key."""
        if self._fernet is None:
            raise SecretsNotKept
        digest = hmac.new(self._mark_key, secret.encode(), hashlib.sha256).hexdigest()
        mark = f"{self._key_name}{digest}"[:_MARK_CHARACTERS]
        return Encrypted(self._fernet.encrypt(secret.encode()).decode(), mark)

    @property
    def keeps_secrets(self) -> bool:
        """Whether there is a key."""
        return self._fernet is not None

    def uses_newest_key(self, encrypted: Encrypted) -> bool:
        """Whether it was encrypted with the first key; raise SecretsNotKept without a key."""
        if self._newest is None:
            raise SecretsNotKept
        try:
            self._newest.decrypt(encrypted.token)
        except _load_fernet().InvalidToken:
            return False
        return True

    def can_decrypt(self, encrypted: Encrypted) -> bool:
        """Whether one of the keys fits."""
        try:
            self.decrypt(encrypted)
        except SecretsNotKept:
            return False
        return True

    def decrypt(self, encrypted: Encrypted) -> str:
        """Return the secret; raise SecretsNotKept where no key fits any more."""
        if self._fernet is None:
            raise SecretsNotKept
        try:
            secret: str = self._fernet.decrypt(encrypted.token).decode()
        except _load_fernet().InvalidToken:
            raise SecretsNotKept from None
        return secret


def new_key() -> str:
    """Return a new key for a vault; it never begins with a dash, which looks like an option."""
    while (key := _load_fernet().Fernet.generate_key().decode()).startswith("-"):
        continue
    return str(key)


def _load_fernet() -> Any:  # noqa: ANN401 - a module
    """Load the library where there is a key: it takes 7 MB, which most servers do not need."""
    return import_module("cryptography.fernet")
