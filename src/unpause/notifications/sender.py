"""Sends one message to one channel through apprise, in a thread of its own, within limits."""

from __future__ import annotations

import asyncio
import logging
import re
import threading
from collections import Counter
from contextvars import ContextVar
from functools import cache, partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from unpause.domain.webhooks import DeliveryResult
from unpause.errors import InvalidInput, SecretsNotKept
from unpause.notifications.containment import Connections, NotContained, contained
from unpause.notifications.kinds import read_kind
from unpause.notifications.reading import bound_reading
from unpause.tasks import in_daemon_thread
from unpause.vault import UNREADABLE

if TYPE_CHECKING:
    from unpause.notifications.containment import Containment
    from unpause.vault import Encrypted, Vault

NOT_INSTALLED = "apprise is not installed on this server: pip install 'unpause[notify]'"

# Of one channel, those that a silent receiver holds among them.
_MAX_THREADS = 3
_FAILED = "the service did not take the message"
_STATUS = re.compile(r"\berror[=: ]+(\d{3})\b")
_CONNECTION = re.compile(r"connection error|could not connect|socket", re.IGNORECASE)
# What apprise has logged during one call; its texts may contain parts of the URL, and go nowhere else.
_LOGGED: ContextVar[list[str] | None] = ContextVar("logged", default=None)


class ChannelSender(Protocol):
    """Sends one message once."""

    def can_decrypt(self, url: Encrypted) -> bool:
        """Whether its keys fit a channel's URL."""
        ...

    async def send_text(self, channel: int, url: Encrypted, text: tuple[str, str]) -> DeliveryResult:
        """Send title and body; return the result, and raise nothing for what others cause."""
        ...


class AppriseSender:
    """The sender of a server. Private addresses are refused unless ``allow_private``.

    apprise is loaded for the first message: it takes half a second and 40 MB. An attempt ends after
    ``timeout_seconds``; its thread may go on, and a channel with several of them gets no further attempt.
    """

    def __init__(self, vault: Vault, timeout_seconds: float, *, allow_private: bool) -> None:
        self._vault = vault
        self._timeout_seconds = timeout_seconds
        self._allow_private = allow_private
        # The threads of each channel; they count themselves down.
        self._threads: Counter[int] = Counter()
        self._lock = threading.Lock()

    async def check_url(self, url: str) -> str:
        """Return the kind of a channel's URL; raise InvalidInput, without the URL, for one that cannot be used."""
        kind = read_kind(url)
        try:
            is_usable = await in_daemon_thread(partial(_can_load, url), "check a channel's URL")
        except ImportError:
            raise InvalidInput(NOT_INSTALLED) from None
        if not is_usable:
            raise InvalidInput(f"The channel's URL is no valid {kind}:// URL of apprise")
        return kind

    def can_decrypt(self, url: Encrypted) -> bool:
        """Whether the vault's keys fit a channel's URL."""
        return self._vault.can_decrypt(url)

    async def send_text(self, channel: int, url: Encrypted, text: tuple[str, str]) -> DeliveryResult:
        """Send it once; a message whose URL cannot be decrypted is not sent."""
        try:
            opened = self._vault.decrypt(url)
        except SecretsNotKept:
            return DeliveryResult(error=UNREADABLE)
        try:
            # Before the attempt: it takes longer than some attempts may.
            await in_daemon_thread(_load_apprise, "load apprise")
        except ImportError:
            return DeliveryResult(error=NOT_INSTALLED)
        if self._threads[channel] >= _MAX_THREADS:
            return DeliveryResult(error="earlier attempts have not ended yet")
        self._count(channel, 1)
        connections = Connections()

        def attempt() -> str | None:
            try:
                with contained(
                    allow_private=self._allow_private, seconds=self._timeout_seconds, connections=connections
                ) as containment:
                    return _send(opened, text, self._timeout_seconds, containment)
            finally:
                self._count(channel, -1)

        try:
            async with asyncio.timeout(self._timeout_seconds):
                return DeliveryResult(error=await in_daemon_thread(attempt, "send a notification"))
        except TimeoutError:
            return DeliveryResult(error=f"no answer within {self._timeout_seconds:g} seconds")
        except InvalidInput as error:
            return DeliveryResult(error=error.message)
        finally:
            # A thread that is given up ends soon: its answer may never.
            connections.end()

    def _count(self, channel: int, change: int) -> None:
        # The event loop and the threads of a channel do so at the same time.
        with self._lock:
            self._threads[channel] += change
            if not self._threads[channel]:
                del self._threads[channel]


def _can_load(url: str) -> bool:
    apprise = _load_apprise()
    with contained(allow_private=False):
        return _service(apprise, url) is not None


def _send(url: str, text: tuple[str, str], timeout_seconds: float, containment: Containment) -> str | None:
    """Send it now; return why that failed, without any text of the URL or of the other side."""
    apprise = _load_apprise()
    read_kind(url)
    logged: list[str] = []
    token = _LOGGED.set(logged)
    title, body = text
    try:
        service = _service(apprise, url)
        if service is None:
            return "its URL cannot be used any more"
        service.socket_connect_timeout = service.socket_read_timeout = timeout_seconds
        server = apprise.Apprise(asset=service.asset)
        server.add(service)
        is_sent = server.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT)
    except NotContained as error:
        return str(error)
    except Exception as error:  # noqa: BLE001 - the boundary around a service: another's text may be in the message
        return f"{_FAILED}: {type(error).__name__}"
    finally:
        _LOGGED.reset(token)
    return None if is_sent else containment.broken or _reason(logged)


def _service(apprise: Any, url: str) -> Any | None:  # noqa: ANN401 - apprise has no types for what it loads
    """Return the service of a URL, with the parameters undone that would change how a message is sent."""
    asset = apprise.AppriseAsset(
        app_id="Unpause",
        app_desc="Unpause",
        app_url="",
        image_url_mask="",
        image_url_logo="",
        async_mode=False,
        http_redirects=False,
        pgp_autogen=False,
        pem_autogen=False,
        storage_mode="memory",
        service_timeout=0,
        allow_templates=False,
    )
    service = apprise.Apprise.instantiate(url, asset=asset)
    if service is not None:
        service.retry, service.wait, service.optional, service.redirects = 0, 0.0, False, False
        service.verify_certificate = True
    return service


@cache
def _load_apprise() -> Any:  # noqa: ANN401 - a module
    """Load the library with all its services: what runs in containment cannot load them from their files."""
    apprise = import_module("apprise")
    apprise.Apprise.instantiate("json://localhost")
    import_module("encodings.idna")
    bound_reading()
    logger = logging.getLogger("apprise")
    # Its texts name parts of the URL, and what the other side answered.
    logger.propagate = False
    logger.addHandler(_Collect(logging.WARNING))
    logging.getLogger("urllib3").setLevel(logging.CRITICAL)
    return apprise


class _Collect(logging.Handler):
    """Keeps what is logged during a call for ``_reason``."""

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the text, if it belongs to a call."""
        logged = _LOGGED.get()
        if logged is not None:
            logged.append(record.getMessage())


def _reason(logged: list[str]) -> str:
    """Return what went wrong: the status of an answer, that there was no connection, or only that it failed."""
    whole = "\n".join(logged)
    status = _STATUS.search(whole)
    if status is not None:
        return f"answered {status[1]}"
    return "could not connect" if _CONNECTION.search(whole) else _FAILED
