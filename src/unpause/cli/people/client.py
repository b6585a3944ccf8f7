"""The client of a server's HTTP routes: requests, lists by pages, and streams that reconnect by themselves."""

from __future__ import annotations

import ssl
import time
from typing import TYPE_CHECKING, Any, Final, Self
from uuid import uuid4

from unpause.cli.exits import CommandFailed, Exit, tell
from unpause.cli.people.credentials import DEFAULT_URL, check_token, credentials_of, is_loopback, read_url
from unpause.cli.people.errors import JsonObject, check_response, items_of, object_of
from unpause.cli.people.http import httpx
from unpause.cli.people.sse import Frame, read_frames

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from types import TracebackType

# A request may wait for a run's tool to stop; a stream has a comment every 15 seconds.
_TIMEOUT: Final = httpx.Timeout(60.0, connect=10.0)
_LARGEST_PAGE: Final = 200
_FIRST_DELAY: Final = 0.2
_LONGEST_DELAY: Final = 5.0
_NO_CONTENT: Final = 204
# A page of a list with the largest arguments has less; what is no Unpause server may never end.
_MOST_BYTES: Final = 256 * 1024 * 1024
# Of the body as it came, and not as it is read.
_ENCODING: Final = frozenset({"content-encoding", "content-length", "transfer-encoding"})

# A stream has been opened, again where it is not the first: what happened before it may have been missed.
OPENED: Final = Frame("opened", None, {})


class Client:
    """A server, with the token that it takes."""

    def __init__(self, url: str, token: str | None) -> None:
        self.url = url
        self._has_token = token is not None
        # No certificate is needed for plain HTTP, and loading them all takes a tenth of a command's time.
        verify = True if url.startswith("https:") else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._http = httpx.Client(
            base_url=url,
            headers={"Authorization": f"Bearer {token}"} if token else {},
            timeout=_TIMEOUT,
            verify=verify,
            # A proxy of the environment cannot reach an address of this machine.
            trust_env=not is_loopback(url),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def get(self, path: str, **query: object) -> JsonObject:
        """Read an object."""
        return object_of(self._request("GET", path, params=_query(query)), self.url)

    def get_any(self, path: str) -> tuple[int, JsonObject]:
        """Read an object of whatever status."""
        response = self._send("GET", path)
        return response.status_code, object_of(response, self.url)

    def post(self, path: str, body: Mapping[str, object] | None = None) -> JsonObject:
        """Send a JSON object, at most once."""
        return object_of(self._request("POST", path, json=body or {}), self.url)

    def post_once(self, path: str, **content: Any) -> JsonObject:  # noqa: ANN401 - httpx's own
        """Send a request that takes an Idempotency-Key: once more if the answer was lost on its way."""
        headers = {"Idempotency-Key": str(uuid4())}
        return object_of(self._request("POST", path, is_repeatable=True, headers=headers, **content), self.url)

    def delete(self, path: str) -> JsonObject:
        """Delete or revoke something; return what is left of it."""
        return object_of(self._request("DELETE", path), self.url)

    def items(self, path: str, limit: int, **query: object) -> Iterator[JsonObject]:
        """Yield at most ``limit`` items of a list, page by page."""
        cursor: str | None = None
        while limit > 0:
            page = self.get(path, **query, limit=min(limit, _LARGEST_PAGE), cursor=cursor)
            items = items_of(page)
            yield from items[:limit]
            limit -= len(items)
            cursor = page.get("next")
            if cursor is None:
                return

    def stream(self, path: str, patience: float, **query: object) -> Iterator[Frame]:
        """Yield a stream's frames, after each opening first ``OPENED``; end where the server has no more.

        After a lost connection the stream goes on behind its last event; a server that is away for longer than
        ``patience`` seconds, or at the first attempt, raises CommandFailed.
        """
        last: str | None = None
        lost_at: float | None = None
        delay = _FIRST_DELAY
        is_open = False
        while True:
            try:
                for frame in self._open(path, query, last):
                    if frame is OPENED:
                        if lost_at is not None:
                            _note("Connected again.")
                        is_open, lost_at, delay = True, None, _FIRST_DELAY
                    last = frame.id or last
                    yield frame
            except CommandFailed as error:
                if error.code is not Exit.UNREACHABLE or not is_open:
                    raise
                if lost_at is None:
                    lost_at = time.monotonic()
                    _note("Connection lost; reconnecting.")
                elif time.monotonic() - lost_at > patience:
                    raise
            else:
                return
            time.sleep(delay)
            delay = min(2 * delay, _LONGEST_DELAY)

    def _open(self, path: str, query: Mapping[str, object], last: str | None) -> Iterator[Frame]:
        """Yield the frames of one connection; raise CommandFailed with UNREACHABLE at its end."""
        headers = {"Accept": "text/event-stream", **({} if last is None else {"Last-Event-ID": last})}
        try:
            with self._http.stream("GET", path, params=_query(query), headers=headers) as response:
                if response.status_code == _NO_CONTENT:
                    return
                if not response.is_success:
                    check_response(_whole(response, self.url), self.url, has_token=self._has_token)
                yield OPENED
                yield from read_frames(response.iter_bytes())
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from None
        except ValueError:
            raise CommandFailed(f"{self.url} streams something else than JSON: it is no Unpause server") from None
        raise CommandFailed(f"{self.url} closed the stream", Exit.UNREACHABLE)

    def _request(self, method: str, path: str, *, is_repeatable: bool = False, **content: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        response = self._send(method, path, is_repeatable=is_repeatable, **content)
        check_response(response, self.url, has_token=self._has_token)
        return response

    def _send(self, method: str, path: str, *, is_repeatable: bool = False, **content: Any) -> httpx.Response:  # noqa: ANN401 - httpx's own
        try:
            with self._http.stream(method, path, **content) as response:
                return _whole(response, self.url)
        except (httpx.ReadError, httpx.RemoteProtocolError) as error:
            if not is_repeatable:
                raise _unreachable(self.url, error) from None
        except httpx.HTTPError as error:
            raise _unreachable(self.url, error) from None
        return self._send(method, path, **content)


def _whole(response: httpx.Response, url: str) -> httpx.Response:
    """Read a response to its end, and return it; raise CommandFailed where it is too long."""
    body = bytearray()
    for piece in response.iter_bytes():
        body += piece
        if len(body) > _MOST_BYTES:
            raise CommandFailed(f"{url} sends an answer without end: it is no Unpause server")
    fields = [(name, value) for name, value in response.headers.multi_items() if name not in _ENCODING]
    return httpx.Response(response.status_code, headers=fields, content=bytes(body), request=response.request)


def connect(url: str | None, environment: Mapping[str, str]) -> Client:
    """Return the client of a server: of this URL, of UNPAUSE_URL, of the last login, or on this machine."""
    credentials = credentials_of(environment)
    chosen = read_url(url or environment.get("UNPAUSE_URL") or credentials.last or DEFAULT_URL)
    stored = credentials.servers.get(chosen)
    token = environment.get("UNPAUSE_TOKEN") or (stored.token if stored else None)
    return Client(chosen, check_token(token) if token else None)


def _query(values: Mapping[str, object]) -> httpx.QueryParams:
    """Return the parameters that have a value; a list has one for each of its values."""
    return httpx.QueryParams(
        [
            (name, str(value).lower() if isinstance(value, bool) else str(value))
            for name, some in values.items()
            if some is not None
            for value in (some if isinstance(some, (list, tuple)) else [some])
        ]
    )


def _unreachable(url: str, error: httpx.HTTPError) -> CommandFailed:
    reason = str(error) or type(error).__name__
    return CommandFailed(f"{url} cannot be reached: {reason}", Exit.UNREACHABLE)


def _note(text: str) -> None:
    tell(f"{text}\n")
