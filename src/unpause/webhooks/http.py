"""The one door to servers that clients name: it connects only to addresses that it has looked at itself.

A name is resolved once, every address that it has is looked at, and the connection goes to one of those: a name that
resolves to something else a moment later changes nothing. The server is still spoken to by its name, in the Host header
and in TLS. Redirects are not followed, no proxy of the environment is used, and of an answer only the head is read.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable
from functools import cached_property
from ipaddress import ip_address
from typing import TYPE_CHECKING, TypeAlias

import httpx

from unpause.domain.urls import IPAddress, ServerUrl, is_public, read_url
from unpause.domain.webhooks import Sent
from unpause.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

# From a name and a port to the IP addresses, as text; OSError where there are none.
Resolver: TypeAlias = Callable[[str, int], Awaitable["Sequence[str]"]]

# Of a name with many addresses all are looked at, and so many tried.
_TRIED = 4
_FIRST_BAD_STATUS = 300
_FIRST_GOOD_STATUS = 200


class SafeHttpClient:
    """Sends POST requests to URLs that clients gave.

    ``timeout_seconds`` is for all of one request, from the name to the answer's head. ``allow_private`` lets it connect
    to any address. ``tls`` says whom it trusts; else that is whom httpx trusts.
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
        self._allow_private = allow_private
        self._resolve = resolve or resolve_name
        self._given_tls = tls

    async def post(self, url: str, content: bytes, headers: Mapping[str, str]) -> Sent:
        """Send one request and return what came of it; nothing is raised for what the other side can cause."""
        try:
            async with asyncio.timeout(self._timeout_seconds):
                return await self._post(read_url(url), content, headers)
        except TimeoutError:
            return Sent(error=f"no answer within {self._timeout_seconds:g} seconds")
        except InvalidInput as error:
            return Sent(error=error.message)
        except httpx.HTTPError as error:
            return Sent(error=_reason(error))
        except httpx.InvalidURL:
            # An address that httpx cannot write, such as one with a zone.
            return Sent(error="could not connect")

    async def _post(self, url: ServerUrl, content: bytes, headers: Mapping[str, str]) -> Sent:
        addresses = await self._addresses(url)
        if not addresses:
            return Sent(error="the name does not resolve")
        if not self._allow_private and not all(is_public(address) for address in addresses):
            return Sent(error="the address is private or of this machine")
        tried = addresses[:_TRIED]
        # Where the first address is silent there must be time left for the others.
        share = self._timeout_seconds / len(tried)
        requests = [_request(address, url, content, headers, share) for address in tried]
        for request in requests[:-1]:
            try:
                return await self._send(request)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                # Nothing was sent yet, so the next address may have it.
                continue
        return await self._send(requests[-1])

    async def _addresses(self, url: ServerUrl) -> list[IPAddress]:
        if url.literal is not None:
            return [url.literal]
        try:
            return [ip_address(text) for text in await self._resolve(url.host, url.port)]
        except OSError:
            return []

    async def _send(self, request: httpx.Request) -> Sent:
        # A transport for each request: no connection is kept that was made for another name.
        async with httpx.AsyncHTTPTransport(verify=self._tls, trust_env=False) as transport:
            response = await transport.handle_async_request(request)
            await response.aclose()
        if _FIRST_GOOD_STATUS <= response.status_code < _FIRST_BAD_STATUS:
            return Sent(response.status_code)
        return Sent(response.status_code, f"answered {response.status_code}")

    @cached_property
    def _tls(self) -> ssl.SSLContext:
        # Made when it is first needed: reading all authorities takes a while.
        return self._given_tls or httpx.create_ssl_context()


def _request(
    address: IPAddress, url: ServerUrl, content: bytes, headers: Mapping[str, str], connect_seconds: float
) -> httpx.Request:
    """Return a request to this address that names the server by the URL."""
    return httpx.Request(
        "POST",
        httpx.URL(scheme=url.scheme, host=str(address), port=url.port, raw_path=url.resource.encode()),
        headers={**headers, "Host": url.host_header},
        content=content,
        extensions={"sni_hostname": url.host, "timeout": {"connect": connect_seconds}},
    )


async def resolve_name(name: str, port: int) -> list[str]:
    """Return the addresses of a name, the best first; raise OSError where there are none.

    In a thread that nobody waits for: a server that stops does not wait for a name server that is silent.
    """
    loop = asyncio.get_running_loop()
    found: asyncio.Future[list[str]] = loop.create_future()

    def settle(addresses: list[str] | None) -> None:
        if found.done():
            return
        if addresses is None:
            found.set_exception(OSError("the name does not resolve"))
        else:
            found.set_result(addresses)

    def look() -> None:
        try:
            rows = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM)
            addresses = list(dict.fromkeys(str(row[4][0]) for row in rows))
        except (OSError, UnicodeError):
            addresses = None
        try:
            loop.call_soon_threadsafe(settle, addresses)
        except RuntimeError:
            # The loop has closed meanwhile.
            return

    threading.Thread(target=look, name="resolve a webhook's name", daemon=True).start()
    return await found


def _reason(error: httpx.HTTPError) -> str:
    """Return what went wrong, without anything that the other side or the address says."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLCertVerificationError):
            return f"TLS: certificate not accepted: {cause.verify_message}"[:200]
        if isinstance(cause, ssl.SSLError):
            return f"TLS: {cause.reason or 'failed'}"[:200]
        cause = cause.__cause__ or cause.__context__
    match error:
        case httpx.ConnectTimeout() | httpx.ConnectError():
            return "could not connect"
        case httpx.ProtocolError():
            return "the answer is not HTTP"
        case _:
            return "the connection broke off"
