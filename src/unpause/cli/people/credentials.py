"""The servers that ``unpause login`` has stored, with their tokens: a file that only its owner can read."""

from __future__ import annotations

import json
import os
import secrets
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import urlsplit, urlunsplit

from unpause.cli.exits import CommandFailed, Exit

if TYPE_CHECKING:
    from collections.abc import Mapping

DEFAULT_URL: Final = "http://127.0.0.1:7777"
_LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})


def read_url(text: str) -> str:
    """Return the URL of a server in its one form; raise CommandFailed for what is none."""
    try:
        parts = urlsplit(text if "://" in text else f"http://{text}")
        host, port = parts.hostname, parts.port
        # Raises for what no client could send.
        f"{host}{text}".encode(), (host or "").encode("idna")
    except ValueError:
        host = None
    if not host or parts.scheme not in {"http", "https"} or parts.query or parts.fragment:
        raise CommandFailed(f"{text!r} is not the URL of a server, such as {DEFAULT_URL}", Exit.USAGE)
    if parts.username is not None:
        raise CommandFailed("A server's URL contains no user and no password", Exit.USAGE)
    place = f"[{host}]" if ":" in host else host
    return urlunsplit((parts.scheme, f"{place}:{port}" if port else place, parts.path.rstrip("/"), "", ""))


def is_loopback(url: str) -> bool:
    """Whether the URL is of this machine."""
    return urlsplit(url).hostname in _LOOPBACK


def check_token(text: str) -> str:
    """Return the token without surrounding space; raise CommandFailed, without the text, for what cannot be one."""
    token = text.strip()
    if not token or not token.isascii() or not token.isprintable() or " " in token:
        raise CommandFailed("That is not a token: a token is one word, such as unp_….…", Exit.USAGE)
    return token


@dataclass(frozen=True, slots=True)
class Stored:
    """A server as the file has it; the token is None where the server needs none."""

    token: str | None = field(default=None, repr=False)
    user: str | None = None


class Credentials:
    """The file: servers by URL, and the URL of the last login."""

    def __init__(self, file: Path) -> None:
        self.file = file
        content = self._read()
        self.last: str | None = content.get("last")
        self.servers: dict[str, Stored] = {
            url: Stored(one.get("token"), one.get("user")) for url, one in content.get("servers", {}).items()
        }

    def put(self, url: str, stored: Stored) -> None:
        """Keep a server, as the one of the last login."""
        self.servers[url] = stored
        self.last = url
        self._write()

    def remove(self, url: str) -> bool:
        """Forget a server; return whether it was there."""
        found = self.servers.pop(url, None)
        if found is None:
            return False
        if self.last == url:
            self.last = next(reversed(self.servers), None)
        self._write()
        return True

    def _read(self) -> dict[str, Any]:
        try:
            content = json.loads(self.file.read_bytes())
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            # The parser's message would have a part of the text.
            reason = error.strerror if isinstance(error, OSError) else "it is not JSON"
            raise CommandFailed(f"{self.file} cannot be read: {reason}") from None
        if not isinstance(content, dict):
            raise CommandFailed(f"{self.file} cannot be read: it is not an object")
        return content

    def _write(self) -> None:
        """Replace the file; at no moment can anybody else read it."""
        servers = {url: {"token": one.token, "user": one.user} for url, one in self.servers.items()}
        text = json.dumps({"last": self.last, "servers": servers}, indent=2)
        new = self.file.with_name(f".{self.file.name}.{secrets.token_hex(4)}")
        try:
            self.file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
                file.write(f"{text}\n")
            new.replace(self.file)
        except OSError as error:
            new.unlink(missing_ok=True)
            raise CommandFailed(f"{self.file} cannot be written: {error.strerror}") from None


def credentials_of(environment: Mapping[str, str]) -> Credentials:
    """Return the file of this user."""
    configured = environment.get("XDG_CONFIG_HOME", "")
    # The specification of XDG: a relative path is ignored.
    folder = Path(configured) if configured.startswith("/") else Path.home() / ".config"
    return Credentials(folder / "unpause" / "credentials.json")
