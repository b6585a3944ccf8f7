"""The only way to servers that clients name: it connects only to addresses that it has checked itself.

A name is resolved once, all its addresses are checked, and the connection goes to one of those: a name that resolves to
another address a moment later changes nothing. The Host header and TLS still use the name. Redirects are not followed,
no proxy of the environment is used, and only the head of an answer is read, up to a size.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Awaitable, Callable, Iterable
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, TypeAlias

import httpcore
import httpx

from unpause.domain.urls import IPAddress, is_public, read_url
from unpause.domain.webhooks import DeliveryResult
from unpause.errors import InvalidInput
from unpause.tasks import in_daemon_thread

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# Takes a name and a port, returns IP addresses as text; may raise OSError where there are none.
Resolver: TypeAlias = Callable[[str, int], Awaitable["Sequence[str]"]]

# All addresses of a name are checked, but only this many are tried.
_MAX_ATTEMPTS = 4
# Of an answer, interim ones (1xx) before it included: a receiver that sends those without end is cut off.
_MAX_HEAD_BYTES = 65_536
# Parsed in one step of the event loop.
_READ_BYTES = 4096
_FIRST_BAD_STATUS = 300
_FIRST_GOOD_STATUS = 200


class _AddressRefused(httpcore.ConnectError):
    """No connection is made; the message has the reason."""


class _HeadStream(httpcore.AsyncNetworkStream):
    """Reads an answer in small pieces, and no more of it than its head may take."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._left = _MAX_HEAD_BYTES

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:  # noqa: ASYNC109 - httpcore's
        """Return some bytes; raise RemoteProtocolError where the head has not ended after its most bytes."""
        if self._left <= 0:
            raise httpcore.RemoteProtocolError("the head of the answer is too long")
        received = await self._stream.read(min(max_bytes, _READ_BYTES), timeout)
        self._left -= len(received)
        return received

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:  # noqa: ASYNC109 - httpcore's
        """Send all bytes."""
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        """Close the connection."""
        await self._stream.aclose()

    async def start_tls(
        self,
        ssl_context: ssl.SSLContext,
        server_hostname: str | None = None,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's
    ) -> httpcore.AsyncNetworkStream:
        """Return the encrypted stream of this connection."""
        return _HeadStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:  # noqa: ANN401 - httpcore's
        """Return what is known about the connection."""
        return self._stream.get_extra_info(info)


class _CheckedBackend(httpcore.AnyIOBackend):
    """Resolves names, checks their addresses, and connects to one of them."""

    def __init__(self, resolve: Resolver, *, allow_private: bool) -> None:
        self._resolve = resolve
        self._allow_private = allow_private

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109 - httpcore's signature
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        """Connect to the first address that accepts; raise _AddressRefused unless all of them are allowed."""
        addresses = await self._addresses(host, port)
        if not addresses:
            raise _AddressRefused("the name does not resolve")
        if not self._allow_private and not all(is_public(address) for address in addresses):
            raise _AddressRefused("the address is private or of this machine")
        *others, last = addresses[:_MAX_ATTEMPTS]
        # Where the first address is silent, the others still need time.
        seconds = timeout / (len(others) + 1) if timeout is not None else None
        for address in others:
            try:
                return _HeadStream(
                    await super().connect_tcp(str(address), port, seconds, local_address, socket_options)
                )
            except (httpcore.ConnectError, httpcore.ConnectTimeout):
                continue
        return _HeadStream(await super().connect_tcp(str(last), port, seconds, local_address, socket_options))

    async def _addresses(self, host: str, port: int) -> list[IPAddress]:
        try:
            return [ip_address(host)]
        except ValueError:
            pass
        try:
            return [ip_address(text) for text in await self._resolve(host, port)]
        except OSError:
            return []


class SafeHttpClient:
    """Sends POST requests to URLs from clients.

    ``timeout_seconds`` limits one whole request, from the name to the head of the answer. ``allow_private`` permits any
    address. ``tls`` has the trusted authorities; by default those that httpx trusts.
    """

    def __init__(
        self,
        timeout_seconds: float,
        *,
        allow_private: bool = False,
        resolve: Resolver | None = None,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._timeout_seconds = timeout_seconds
        self._backend = _CheckedBackend(resolve or resolve_name, allow_private=allow_private)
        self._given_tls = tls

    async def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> DeliveryResult:
        """Send one request and return the result; raise nothing for what the other side can cause."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._post(url, content, headers)
        except TimeoutError:
            return DeliveryResult(error=f"no answer within {self._timeout_seconds:g} seconds")
        except (InvalidInput, _AddressRefused) as error:
            return DeliveryResult(error=str(error))
        except (httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException) as error:
            return DeliveryResult(error=_reason(error))

    async def _post(self, url: str, content: bytes, headers: Mapping[str, str]) -> DeliveryResult:
        read = read_url(url)
        host = read.host if read.literal is None else str(read.literal)
        # A pool for each request: no connection is kept that was made for another name.
        async with (
            httpcore.AsyncConnectionPool(self._tls, network_backend=self._backend) as pool,
            pool.stream(
                "POST",
                httpcore.URL(scheme=read.scheme, host=host, port=read.port, target=read.resource),
                headers=[*headers.items(), ("Host", read.host_header)],
                content=content,
                extensions={"sni_hostname": read.host, "timeout": {"connect": self._timeout_seconds}},
            ) as response,
        ):
            status = response.status
        return DeliveryResult(
            status, None if _FIRST_GOOD_STATUS <= status < _FIRST_BAD_STATUS else f"answered {status}"
        )

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # Created at the first use: loading all authorities takes a while.
        return self._given_tls or httpx.create_ssl_context()


async def resolve_name(name: str, port: int) -> list[str]:
    """Return the addresses of a name, the best first; none where it does not resolve.

    A server stops without waiting for a silent name server.
    """

    def resolve() -> list[str]:
        try:
            rows = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return []
        return list(dict.fromkeys(str(row[4][0]) for row in rows))

    return await in_daemon_thread(resolve, "resolve a webhook's name")


def _reason(error: Exception) -> str:
    """Return what went wrong, without any text of the other side or of the address."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: certificate not accepted: {cause.verify_message}"[:200]
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or 'failed'}"[:200]
        cause = cause.__cause__ or cause.__context__
    match error:
        case httpcore.ConnectTimeout() | httpcore.ConnectError():
            return "could not connect"
        case httpcore.ProtocolError():
            return "the answer is not HTTP"
        case _:
            return "the connection broke off"
