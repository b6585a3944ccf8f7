"""Idempotency keys: a client sends a request again under the same key, and it takes effect once."""

from __future__ import annotations

from dataclasses import dataclass

# Raise it whenever the input of a fingerprint changes.
_VERSION = "2"
# The length of the database's column.
_LENGTH = 64


def versioned(fingerprint: str, key_name: str = "") -> str:
    """Return the fingerprint with the version of the rules that made it, and the key where it is of a secret, too."""
    return f"{_VERSION}{key_name and '-'}{key_name}:{fingerprint}"[:_LENGTH]


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A client's key within its organization, with the fingerprint of the request that came with it."""

    organization_id: int
    key: str
    fingerprint: str

    def came_with(self, fingerprint: str) -> bool:
        """Whether a stored fingerprint may be that of the same request.

        One of another version, or with a secret under another key, cannot be compared: during an upgrade, or while keys
        are changed, a retry is likelier than a key used twice.
        """
        if fingerprint == self.fingerprint:
            return True
        (version, key_name), (own_version, own_key_name) = _version(fingerprint), _version(self.fingerprint)
        return version != own_version or bool(key_name and own_key_name and key_name != own_key_name)


def _version(fingerprint: str) -> tuple[str, str]:
    made_by, colon, _ = fingerprint.partition(":")
    version, _, key_name = made_by.partition("-") if colon else ("", "", "")
    return version, key_name
