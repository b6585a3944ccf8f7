"""Odd requests: strategies for what somebody with a valid token, a wrong one or none could send, byte by byte.

A request is made before it is known which run it is about: it has `RUN`, `SESSION`, `APPROVAL`, `KEY` and the names of
tokens in the places of those, and `Request.to` puts them in.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias
from urllib.parse import quote, quote_from_bytes, urlencode

from hypothesis import strategies as st

from tests.security.odd_json import (
    ADMIN,
    AGENT,
    APPROVAL,
    KEY,
    RUN,
    SESSION,
    STRANGER,
    TOOLS,
    USER,
    Json,
    any_text,
    bytes_of,
    odd_json,
    odd_tools,
    once_in,
    one_of,
)
from unpause.api.permissions import PERMISSIONS

Fields: TypeAlias = tuple[tuple[bytes, bytes], ...]

_RUNS: Final = f"/agents/{AGENT}/runs"
_CODEGEN: Final = "/v1/organizations/1/agent/run"
_FORM: Final = b"application/x-www-form-urlencoded"
_JSON: Final = b"application/json"

# Webhooks are told only of these: nobody is there, and names end in one that no resolver knows.
_URLS: Final = (
    "http://127.0.0.1:1/",
    "https://[::1",
    "ftp://a",
    "https://a.invalid\x00/",
    "https://169.254.169.254/",
    "",
)


@dataclass(frozen=True)
class Request:
    """A request; ``announced`` is added to the length it says, ``is_http`` is whether it was made by HTTP's rules."""

    method: str
    target: bytes
    fields: Fields = ()
    body: bytes = b""
    announced: int = 0
    is_http: bool = True
    tail: bytes = b""
    is_chunked: bool = False

    @property
    def keeps_to_http(self) -> bool:
        """Whether it keeps to the rules of HTTP; two Host fields do not."""
        return self.is_http and sum(name.lower() == b"host" for name, _ in self.fields) < 2

    def to(self, names: Mapping[str, str]) -> bytes:
        """Return the bytes to send, about the run, and with the tokens, of these names."""
        target, body = _put_in(self.target, names), _put_in(self.body, names)
        fields = [(name, _put_in(value, names)) for name, value in self.fields]
        known = {name.lower() for name, _ in fields}
        if b"host" not in known:
            fields.append((b"Host", b"127.0.0.1"))
        fields.append((b"Connection", b"close"))
        if self.is_chunked:
            fields.append((b"Transfer-Encoding", b"chunked"))
        elif (body or self.announced or self.method not in {"GET", "HEAD"}) and b"content-length" not in known:
            fields.append((b"Content-Length", str(max(0, len(body) + self.announced)).encode()))
        lines = b"".join(name + b": " + value + b"\r\n" for name, value in fields)
        return self.method.encode() + b" " + target + b" HTTP/1.1\r\n" + lines + b"\r\n" + body + self.tail


def _put_in(text: bytes, names: Mapping[str, str]) -> bytes:
    for placeholder, name in names.items():
        text = text.replace(placeholder.encode(), name.encode())
    return text


# -- header fields ----------------------------------------------------------------------------------------------------

_printable: Final = st.text(
    st.characters(min_codepoint=0x20, max_codepoint=0xFF, exclude_categories=["Cc"]), max_size=40
)
_field_values: Final = _printable.map(lambda text: text.strip().encode("latin-1"))
_proofs: Final = one_of(
    f"Bearer {USER}",
    f"Bearer {STRANGER}",
    ADMIN,
    f"bearer  {ADMIN} ",
    f"Bearer {ADMIN}x",
    "Bearer",
    "Bearer ",
    "Basic YTpi",
    f"Bearer {ADMIN}, Bearer {USER}",
    "Bearer unp_aaaaaaaa." + "a" * 43,
    "Bearer unp_" + "\xe9" * 8 + "." + "a" * 43,
    "Bearer eyJhbGciOiJub25lIn0.eyJzdWIiOiJhIn0.",
    "Bearer eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJhIn0.AAAA",
    "Bearer e30.e30.e30",
    "Bearer " + "a." * 30_000,
    "Bearer ...",
).map(lambda text: text.encode("latin-1"))
_SPECIAL: Final[Mapping[bytes, Sequence[bytes]]] = {
    b"Last-Event-ID": (
        b"0",
        b"1",
        b"-1",
        b"9" * 30,
        b"9" * 5000,
        b"1e3",
        b"\xb2",
        b"\xd9\xa1",
        b"",
        b"1, 2",
        b"2147483648",
    ),
    b"Idempotency-Key": (b"a", b"b", b"", b" ", b"a" * 256, b"a" * 9000, b"\xe9", b"'; --", b"a\tb"),
    b"Accept": (b"text/event-stream", b"*/*;q=2", b"application/xml", b"a", b"," * 500),
    b"Content-Type": (
        *(
            _JSON,
            _FORM,
            b"multipart/form-data",
            b"multipart/form-data; boundary=",
            b"text/plain",
            b"",
            b"a/b; charset=x",
        ),
        *(b"application/json; charset=utf-16", b'multipart/form-data; boundary="' + b"b" * 300, _JSON + b";" * 99),
    ),
    b"Origin": (b"null", b"https://evil.example", b"http://localhost:3000", b"http://[", b"\xff"),
    b"Host": (b"evil.example", b"[::1", b"a:b:c", b"", b"127.0.0.1:99999999", b"\xe9"),
    b"X-Forwarded-For": (b"1.2.3.4", b"a" * 400, b"unix:", b"[::1]:x"),
    b"X-Forwarded-Proto": (b"https", b"wss", b"\xe9"),
    b"Access-Control-Request-Method": (b"POST", b"\xe9"),
    b"Content-Encoding": (b"gzip", b"br"),
    b"Expect": (b"100-continue", b"200-ok"),
    b"Range": (b"bytes=0-1", b"bytes=5-1"),
    b"Cookie": (b"a=b; " * 200, b"\xe9"),
    b"Upgrade": (b"websocket", b"h2c"),
    b"If-None-Match": (b"*",),
}


@st.composite
def _fields(draw: st.DrawFn, content_type: bytes | None = None) -> Fields:
    """Return header fields: mostly an administrator's token and the right type, now and then more than that."""
    fields: list[tuple[bytes, bytes]] = []
    match draw(one_of(*["admin"] * 7, "user", "other", "none", "any")):
        case "admin":
            fields.append((b"Authorization", f"Bearer {ADMIN}".encode()))
        case "user":
            fields.append((b"Authorization", f"Bearer {USER}".encode()))
        case "other":
            fields.append((b"Authorization", draw(_proofs)))
        case "any":
            fields.append((b"Authorization", draw(_field_values)))
    names = draw(st.lists(st.sampled_from(list(_SPECIAL)), max_size=2) if draw(st.booleans()) else st.just([]))
    fields += [(name, draw(st.sampled_from(_SPECIAL[name]) | _field_values)) for name in names]
    if draw(once_in(31)):
        fields.append((b"X-" + b"a" * draw(one_of(1, 300)), b"b" * draw(one_of(0, 9000, 60_000))))
    if content_type is not None and b"Content-Type" not in dict(fields):
        fields.append((b"Content-Type", content_type))
    return tuple(fields)


# -- requests ---------------------------------------------------------------------------------------------------------

_flags: Final = one_of("false", "false", "false", "true", "", "2", "maybe", "\x00")
_names: Final = one_of(SESSION, "", "a", "a" * 256, "\x00", "é", "../a")


@st.composite
def _form_fields(draw: st.DrawFn) -> list[tuple[str, str]]:
    """Return the fields of AgentOS's forms."""
    more: dict[str, st.SearchStrategy[str]] = {
        "tools": odd_tools,
        "message": any_text() | one_of("hello", "call delete", "call deploy", "", "\x00", "a" * 210_000),
        "background": _flags,
        "session_id": _names,
        "user_id": _names,
        "pause_id": _names,
        "metadata": odd_json({"a": {"b": [1]}}),
        "session_state": odd_json({"a": 1}),
        "dependencies": odd_json({"a": "b"}),
        "images": odd_json([{"content": "aGk=", "mime_type": "image/png", "url": _URLS[0]}]),
        "input_files": odd_json([{"filename": "a.txt", "content": "aGk=", "mime_type": "text/plain"}]),
        "last_event_index": one_of("-1", "0", "9" * 40, "\u0661", "a"),
        "any": any_text(),
    }
    names = draw(st.lists(st.sampled_from(list(more)), min_size=1, max_size=4))
    return [("stream", draw(_flags)), *((name, draw(more[name])) for name in names)]


@st.composite
def _continues(draw: st.DrawFn) -> Request:
    """Return a continue of AgentOS, with the form as browsers send it."""
    form = [("stream", draw(_flags)), ("tools", draw(odd_tools))]
    if draw(once_in(4)):
        form += draw(_form_fields())
    body = urlencode([(bytes_of(name), bytes_of(value)) for name, value in form]).encode()
    return Request("POST", f"{_RUNS}/{RUN}/continue".encode(), draw(_fields(_FORM)), body)


@st.composite
def _resumes(draw: st.DrawFn) -> Request:
    """Return a resume of Codegen, or another of its requests with a body."""
    asked: tuple[tuple[str, Json], ...] = (
        ("/resume", {"agent_run_id": KEY, "prompt": "", "tools": list(TOOLS)}),
        ("/resume", {"agent_run_id": KEY, "prompt": "go on", "images": ["data:image/png;base64,aGk="]}),
        ("/resume", {"agent_run_id": KEY, "prompt": "", "tools": [], "webhooks": [{"url": _URLS[0]}], "model": "a"}),
        ("", {"prompt": "call delete", "metadata": {"a": 1}, "repo_id": 1, "images": ["data:,"], "agent_type": "a"}),
        ("/pause", {"agent_run_id": KEY}),
        ("/ban", {"agent_run_id": KEY, "before_card_order_id": "a"}),
    )
    path, template = draw(st.sampled_from((asked[0], asked[0], *asked)))
    body = bytes_of(draw(odd_json(template)))
    if draw(once_in(21)):
        body = draw(one_of(body.decode("utf-8", "replace").encode("utf-16"), b"\xff\xfe" + body, b"\x1f\x8b" + body))
    return Request("POST", (_CODEGEN + path).encode(), draw(_fields(_JSON)), body)


@st.composite
def _part(draw: st.DrawFn, boundary: bytes) -> bytes:
    """Return one part of a multipart body, with its boundary before it."""
    name, value = draw(st.sampled_from(draw(_form_fields())))
    disposition = draw(
        one_of(
            *[b'form-data; name="%b"' % bytes_of(name).replace(b'"', b"%22")] * 5,
            *(b'form-data; name="files"; filename="a.png"', b'form-data; name="files"; filename=""'),
            *(
                b'form-data; name="files"; filename="../\xc3\xa9\xff.txt"',
                b"form-data; name=files; filename*=UTF-8''%ff",
            ),
            *(
                b"form-data",
                b"",
                b'form-data; name="',
                b"attachment; name=tools",
                b'form-data; name="' + b"n" * 20_000 + b'"',
            ),
            *(
                b"form-data; name*=utf-16''%ff%fe",
                b'form-data; name="tools"; name="message"',
                b'form-data; name="\x00"',
            ),
        )
    )
    content_type = draw(
        one_of(None, None, b"image/png", b"text/plain; charset=utf-16", b"application/json; charset=nope", b"\xff", b"")
    )
    lines = [b"--" + boundary, b"Content-Disposition: " + disposition]
    if content_type is not None:
        lines.append(b"Content-Type: " + content_type)
    if draw(once_in(9)):
        lines.append(draw(one_of(b"Content-Transfer-Encoding: base64", b"no colon", b": empty", b"X: " + b"y" * 9000)))
    content = draw(
        one_of(bytes_of(value), bytes_of(value), b"", b"\x89PNG\r\n\x1a\n", b"\xff\xfe\x00", b"--" + boundary)
    )
    return b"\r\n".join([*lines, b"", content, b""])


@st.composite
def _multiparts(draw: st.DrawFn) -> Request:
    """Return a create or a continue with a multipart body, whole or broken."""
    boundary = draw(one_of(b"bound", b"bound", b"b" * 70, b"b" * 300, b"a'()+_,-./:=?", b"\xe9"))
    parts = draw(st.lists(_part(boundary), max_size=4))
    body = b"".join(parts) * draw(one_of(*[1] * 20, 400)) + b"--" + boundary + b"--\r\n"
    match draw(one_of(*["whole"] * 6, "cut", "endless", "before", "newlines", "nothing", "other")):
        case "cut":
            body = body[: draw(st.integers(0, len(body)))]
        case "endless":
            body = body.removesuffix(b"--\r\n")
        case "before":
            body = b"preamble\r\n" + body + b"epilogue"
        case "newlines":
            body = body.replace(b"\r\n", b"\n")
        case "nothing":
            body = b""
        case "other":
            body = body.replace(boundary, b"else")
    path = draw(one_of(_RUNS, f"{_RUNS}/{RUN}/continue", f"{_RUNS}/{RUN}/resume"))
    fields = draw(_fields(b"multipart/form-data; boundary=" + boundary))
    return Request("POST", path.encode(), fields, body, is_chunked=False)


_segments: Final = (
    any_text().map(lambda text: quote(text, safe=""))
    | st.binary(max_size=6).map(lambda raw: quote_from_bytes(raw, safe=""))
    | one_of(*(RUN, SESSION, APPROVAL, str(KEY), "1", "2", "0", "-1", "9" * 30, "%00", "..", "%2F", "%", "%zz", ""))
    | one_of("a" * 3000, "%F0%9F%98%80", "%ED%A0%80", "1.0", "1e3", "%D9%A1", "_1", "1_0", "+1", "%201")
)
_KNOWN: Final = {"agent_id": AGENT, "run_id": RUN, "session_id": SESSION, "approval_id": APPROVAL}
_NUMBERED: Final = {"agent_run_id": str(KEY), "org_id": "1", "user_id": "1"}
_queries: Final = st.lists(
    st.tuples(
        one_of(
            *("limit", "skip", "page", "reverse", "status", "session_id", "user_id", "sort_by", "sort_order", "type")
        )
        | one_of(*("run_id", "agent_id", "component_id", "db_id", "source_type", "created_at", "since", "session_name"))
        | any_text(),
        one_of(*("0", "1", "-1", "9" * 30, "9" * 5000, "nan", "1e5", "true", RUN, SESSION, "", "PAUSED", "2026-01-01"))
        | any_text(),
    ),
    max_size=3,
).map(lambda pairs: urlencode(pairs) if pairs else "")


@st.composite
def _anything(draw: st.DrawFn) -> Request:
    """Return a request to any route, or to none: its path, its query, its method, its body are what they are."""
    label = draw(st.sampled_from([*sorted(PERMISSIONS), "GET /health", "GET /nowhere", "GET /v1/nowhere", "GET /docs"]))
    method, _, path = label.partition(" ")
    for name, known in (*_KNOWN.items(), *_NUMBERED.items()):
        if f"{{{name}}}" in path:
            path = path.replace(f"{{{name}}}", draw(_segments) if draw(once_in(4)) else known)
    if draw(once_in(13)):
        path = "/" + "/".join(draw(st.lists(_segments, max_size=6)))
    method = draw(one_of(*[method] * 8, "OPTIONS", "HEAD", "PUT", "DELETE", "PATCH", "TRACE"))
    query = draw(_queries) or draw(one_of("", "", "&=&", "a=%zz", "%00", "limit=1&limit=2", "limit[]=1"))
    body, content_type = b"", None
    if method in {"POST", "PATCH", "PUT", "DELETE"}:
        template = {
            "status": "approved", "resolved_by": "a", "resolution_data": {"a": 1}, "session_name": "a", "url": _URLS[0],
            "session_ids": [SESSION], "session_types": ["agent"], "session_state": {}, "secret": "s", "enabled": True,
        }  # fmt: skip
        template["url"] = draw(st.sampled_from(_URLS))
        body, content_type = bytes_of(draw(odd_json(template))), _JSON
    target = path + (f"?{query}" if query else "")
    return Request(method, bytes_of(target), draw(_fields(content_type)), body)


_Breaking: TypeAlias = Callable[[Request], Request]


def _with(**changes: Any) -> Callable[[Request], Request]:  # noqa: ANN401 - a request's own fields
    return lambda made: Request(**{**vars(made), **changes, "is_http": False})


def _and_field(name: bytes, value: bytes) -> _Breaking:
    return lambda made: Request(**{**vars(made), "fields": (*made.fields, (name, value)), "is_http": False})


_BREAKINGS: Final[tuple[_Breaking, ...]] = (
    *(_with(announced=number) for number in (1, 5000, 2_000_000, -1, -50)),
    *(_and_field(b"Content-Length", value) for value in (b"-1", b"a", b"9" * 30, b"1, 2", b"", b"+5", b"0")),
    *(
        _with(is_chunked=True, body=body)
        for body in (b"", b"zz\r\n", b"5\r\nabc", b"ffffffffffffffff\r\na", b"0\r\n\r\n")
    ),
    _with(is_chunked=True, body=b"1\r\n{\r\n0\r\nContent-Length: 9\r\nAuthorization: x\r\n\r\n"),
    _and_field(b"Transfer-Encoding", b"gzip, identity"),
    _and_field(b"Transfer-Encoding", b"chunked"),
    *(_and_field(name, b"a") for name in (b"", b"a b", b"\xe9", b"a:b", b"x\x00")),
    *(_and_field(b"X", value) for value in (b"\x00", b"a\rb", b"a\nb: c", b"a\r\n\r\nGET / HTTP/1.1")),
    *(_with(method=method) for method in ("BREW", "get", "", "GET GET", "CONNECT", "A" * 9000, "PRI")),
    *(
        _with(target=target)
        for target in (b"*", b"", b"http://evil.example/v1/x", b"//v1/x", b"/\xe9", b"/\x00", b"/a b")
    ),
    *(
        _with(target=target)
        for target in (b"?", b"#", b"/" + b"a" * 90_000, b"\\", b"http://[", b"/agents/\xff\xfe?\xff")
    ),
    *(_with(tail=tail) for tail in (b"\x16\x03\x01", b"GET /health HTTP/1.1\r\n\r\n", b"a" * 100_000)),
    _and_field(b"Host", b"a"),
)


@st.composite
def _broken(draw: st.DrawFn) -> Request:
    """Return a request that does not keep to the rules of HTTP, or not quite."""
    made = draw(st.one_of(_continues(), _resumes(), _multiparts()))
    return draw(st.sampled_from(_BREAKINGS))(made)


requests: Final = st.sampled_from(
    [
        _continues(),
        _continues(),
        _resumes(),
        _resumes(),
        _multiparts(),
        _multiparts(),
        _anything(),
        _anything(),
        _broken(),
    ]
).flatmap(lambda kind: kind)
