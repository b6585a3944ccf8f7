"""Idempotency keys: a client sends a request again under the same key, and it takes effect once."""

from __future__ import annotations

from dataclasses import dataclass

# Raise it whenever the input of a fingerprint changes.
_VERSION = "2"
# The length of the database's column.
_LENGTH = 64


def versioned(fingerprint: str) -> str:
    """Return the fingerprint with the version of the rules that made it."""
    return f"{_VERSION}:{fingerprint}"[:_LENGTH]


@dataclass(frozen=True, slots=True)
class RequestKey:
    """A client's key within its organization, with the fingerprint of the request that came with it."""

    organization_id: int
    key: str
    fingerprint: str

    def came_with(self, fingerprint: str) -> bool:
        """Whether a stored fingerprint may be that of the same request.

        One of another version cannot be compared: during an upgrade a retry is likelier than a key used twice.
        """
        return fingerprint == self.fingerprint or _version(fingerprint) != _version(self.fingerprint)


def _version(fingerprint: str) -> str:
    version, colon, _ = fingerprint.partition(":")
    return version if colon else ""
