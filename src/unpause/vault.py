"""Keeps other people's secrets encrypted: what goes into the database goes through here."""

from __future__ import annotations

from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from unpause.errors import InvalidSetting, SecretsNotKept

if TYPE_CHECKING:
    from collections.abc import Sequence


class Vault:
    """Encrypts with the first of the keys, decrypts with any of them; without keys it keeps nothing.

    A key is 32 bytes in URL-safe base64, as ``unpause keys new`` prints. Raises InvalidSetting for one that is not.
    """

    def __init__(self, keys: Sequence[str] = ()) -> None:
        try:
            self._fernet = MultiFernet([Fernet(key) for key in keys]) if keys else None
        except ValueError:
            raise InvalidSetting("encryption_key: a key is 32 bytes in URL-safe base64: `unpause keys new`") from None

    def encrypt(self, secret: str) -> str:
        """Return what may be stored; raise SecretsNotKept without a key."""
        if self._fernet is None:
            raise SecretsNotKept
        return self._fernet.encrypt(secret.encode()).decode()

    def decrypt(self, stored: str) -> str:
        """Return the secret; raise SecretsNotKept where no key fits any more."""
        if self._fernet is None:
            raise SecretsNotKept
        try:
            return self._fernet.decrypt(stored).decode()
        except InvalidToken:
            raise SecretsNotKept from None
