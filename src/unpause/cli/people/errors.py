"""What a server's refusal means for a command: its message and its exit code."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, Final, NoReturn

from unpause.cli.exits import CommandFailed, Exit

if TYPE_CHECKING:
    import httpx

JsonObject = dict[str, Any]

_CODES: Final = {
    400: Exit.USAGE,
    401: Exit.FORBIDDEN,
    403: Exit.FORBIDDEN,
    404: Exit.NOT_FOUND,
    409: Exit.CONFLICT,
    422: Exit.USAGE,
    502: Exit.UNREACHABLE,
    503: Exit.UNREACHABLE,
    504: Exit.UNREACHABLE,
}
# What Starlette answers where there is no such route.
_NO_ROUTE: Final = "Not Found"
_ANOTHER: Final = "it is no Unpause server, or one of another version"


def check_response(response: httpx.Response, url: str, *, has_token: bool) -> None:
    """Raise CommandFailed unless the response, which has been read, is a success."""
    if response.is_success:
        return
    status = response.status_code
    if response.is_redirect:
        where = response.headers.get("location", "elsewhere")
        raise CommandFailed(f"{url} redirects to {where}: use that server's URL", Exit.USAGE)
    body = _object_of(response)
    if status == 401:  # noqa: PLR2004 - HTTP's own
        reason = "refuses the token" if has_token else "needs a token"
        raise CommandFailed(f"{url} {reason}: `unpause login {url}`", Exit.FORBIDDEN)
    message = _message_of(body)
    if status == 404 and message in {"", _NO_ROUTE}:  # noqa: PLR2004 - HTTP's own
        message = f"{url} does not know {response.request.url.path}: it is no Unpause server, or an older one"
    if isinstance(decision := body.get("decision"), dict):
        message = f"{message.rstrip('.')}: {decision_text(decision)}"
    raise CommandFailed(message or f"{url} answered with status {status}", _CODES.get(status, Exit.FAILED))


def object_of(response: httpx.Response, url: str) -> JsonObject:
    """Return the JSON object of a success; raise CommandFailed for anything else."""
    try:
        return read_object(response.content)
    except ValueError:
        raise CommandFailed(f"{url} did not answer with JSON: it is no Unpause server") from None


def items_of(page: JsonObject) -> list[JsonObject]:
    """Return the items of a list's page; raise CommandFailed where they are none."""
    items = page["data"]
    if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
        raise CommandFailed(f"The server's answer has no list of objects as its 'data': {_ANOTHER}")
    return items


def read_object(text: str | bytes) -> JsonObject:
    """Return a JSON object that raises CommandFailed for what it lacks; raise ValueError for anything else."""
    try:
        found = json.loads(text, object_hook=_Answer, parse_constant=_refuse_constant)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(found, dict):
        raise ValueError("it is no object")  # noqa: TRY004 - as for what is no JSON
    return found


class _Answer(dict[str, Any]):
    """An object that a server has sent. Whether one of another version sends all that a command reads, nobody knows."""

    def __missing__(self, name: str) -> NoReturn:
        raise CommandFailed(f"The server's answer has no {name!r}: {_ANOTHER}")


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def decision_text(decision: JsonObject) -> str:
    """Return a decision as a sentence: who decided what, when, with which note."""
    who = decision.get("by") or "somebody"
    note = f" ({decision['note']})" if decision.get("note") else ""
    return f"{decision.get('decision', 'decided')} by {who} at {decision.get('at', 'an unknown time')}{note}"


def _object_of(response: httpx.Response) -> JsonObject:
    try:
        return read_object(response.content)
    except ValueError:
        return {}


def _message_of(body: JsonObject) -> str:
    """Return the reason in a refusal of any of the server's APIs."""
    detail = body.get("detail", body.get("message", ""))
    if isinstance(detail, list):
        return "; ".join(
            f"{'.'.join(map(str, one.get('loc', ())[1:]))}: {one.get('msg', '')}"
            for one in detail
            if isinstance(one, dict)
        )
    return str(detail)
