"""``unpause approve``, ``reject``, ``answer`` and ``result``: decide a request, and send its run on."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

from cyclopts import Parameter

from unpause.cli.exits import CommandFailed, Exit, tell
from unpause.cli.people.escapes import harmless
from unpause.cli.people.ids import find_request
from unpause.cli.people.input import read_file_or_words, read_words
from unpause.cli.people.options import DEFAULTS, Common, RequestId
from unpause.cli.people.requests import call_text
from unpause.cli.people.times import moment_after, now

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from unpause.cli.people.client import Client
    from unpause.cli.people.errors import JsonObject

Note = Annotated[str | None, Parameter(metavar="TEXT", help="Note for the model and for the record.")]


@Parameter(name="*")
@dataclass(frozen=True, slots=True)
class RememberOptions:
    """For how long later calls are approved, too, and which."""

    for_session: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Also for later calls in this session.")
    ] = False
    for_run: Annotated[bool, Parameter(negative=(), show_default=False, help="Also for later calls of this run.")] = (
        False
    )
    until: Annotated[
        str | None, Parameter(metavar="TIME", help="Also for later calls until then: 8h, or 2026-12-01.")
    ] = None
    any_arguments: Annotated[
        bool,
        Parameter(negative=(), show_default=False, help="Those later calls may have any arguments."),
    ] = False

    def body(self) -> JsonObject | None:
        """Return what is sent; None where only this call is approved."""
        chosen = [
            name
            for name, is_chosen in (("run", self.for_run), ("session", self.for_session), ("until", self.until))
            if is_chosen
        ]
        if not chosen and not self.any_arguments:
            return None
        if len(chosen) != 1:
            raise CommandFailed("Give one of --for-run, --for-session and --until", Exit.USAGE)
        match = "tool" if self.any_arguments else "arguments"
        moment = moment_after(self.until, now())
        return {"scope": chosen[0], "match": match, **({"until": moment} if moment else {})}


def approve(
    *requests: RequestId,
    values: Annotated[
        list[str] | None,
        Parameter(
            name="--set",
            negative=(),
            metavar="NAME=VALUE",
            help="A value of the form, or an argument to change; NAME:=JSON for a value as JSON. May be repeated.",
        ),
    ] = None,
    note: Note = None,
    remember: RememberOptions = RememberOptions(),
    yes: Annotated[
        bool, Parameter(negative=(), show_default=False, help="Approve also a call that may already have run.")
    ] = False,
    common: Common = DEFAULTS,
) -> None:
    """Approve calls; their runs go on."""
    kept = remember.body()

    def decision_on(item: JsonObject) -> JsonObject:
        check_doubt(item, yes=yes)
        return {"decision": "approve", "note": note, "remember": kept, **_read_values(values or [], item)}

    _decide_each(requests, common, decision_on)


def reject(*requests: RequestId, note: Note = None, common: Common = DEFAULTS) -> None:
    """Reject calls; their runs go on, and the model reads the note."""
    _decide_each(requests, common, lambda _: {"decision": "reject", "note": note})


def answer(
    request: RequestId,
    words: Annotated[str, Parameter(help="The answer; @- for standard input.")],
    /,
    *,
    common: Common = DEFAULTS,
) -> None:
    """Answer a question of the model in words; its run goes on."""
    text = read_words(words)
    _decide_each([request], common, lambda _: {"decision": "answer", "answer": text})


def result(
    request: RequestId,
    value: Annotated[str, Parameter(help="The result: text, @FILE for that of a file, @- for standard input.")],
    /,
    *,
    common: Common = DEFAULTS,
) -> None:
    """Give the result of a call that runs outside; its run goes on."""
    text = read_file_or_words(value)
    _decide_each([request], common, lambda _: {"decision": "answer", "result": text})


def _decide_each(texts: Sequence[str], common: Common, decision_on: Callable[[JsonObject], JsonObject]) -> None:
    """Decide one request after the other; what is refused does not stop the rest, a server that is away does."""
    if not texts:
        raise CommandFailed("Name at least one request: `unpause inbox` lists them", Exit.USAGE)
    failures: list[CommandFailed] = []
    with common.connect() as client:
        for text in texts:
            try:
                item = find_request(client, text)
                _decide(client, common, item, decision_on(item))
            except CommandFailed as error:
                if len(texts) == 1 or error.code is Exit.UNREACHABLE:
                    raise
                failures.append(error)
                tell(f"{harmless(f'{text}: {error.message}')}\n")
    if failures:
        raise CommandFailed(f"{len(failures)} of {len(texts)} requests were not decided", failures[0].code)


def _decide(client: Client, common: Common, item: JsonObject, decision: JsonObject) -> None:
    body = {name: value for name, value in decision.items() if value is not None}
    done = client.post_once(f"/inbox/{item['requirement_id']}/decide", json=body)
    run = done["run"]
    word = {"approve": "Approved", "reject": "Rejected", "answer": "Answered"}[body["decision"]]
    goes_on = "goes on" if done["continued"] else f"is {run['status']}"
    common.printer().object(
        done, item["requirement_id"], f"{word} {harmless(call_text(item))}; run {run['run_id']} {goes_on}"
    )


def check_doubt(item: JsonObject, *, yes: bool) -> None:
    """Ask before a call runs that may have run already."""
    if not item["in_doubt"] or yes:
        return
    warning = f"{harmless(call_text(item))} may already have run."
    if not sys.stdin.isatty():
        raise CommandFailed(f"{warning} Approve it with --yes", Exit.USAGE)
    sys.stderr.write(f"{warning} Run it? [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise CommandFailed("Nothing was decided")


def _read_values(texts: list[str], item: JsonObject) -> dict[str, dict[str, Any]]:
    """Return the values of the form, and the arguments that replace editable ones."""
    form = item.get("form") or {}
    properties = (form.get("schema") or {}).get("properties", {})
    values: dict[str, dict[str, Any]] = {}
    for text in texts:
        name, found, value = text.partition("=")
        name, is_json = name.removesuffix(":"), name.endswith(":")
        if not found or not name:
            raise CommandFailed(f"--set takes NAME=VALUE or NAME:=JSON, and not {text!r}", Exit.USAGE)
        key = "arguments" if name in form.get("editable", ()) else "values"
        read = _read_json(value, text) if is_json else _typed(value, properties.get(name, {}))
        values.setdefault(key, {})[name] = read
    return values


def _read_json(value: str, text: str) -> Any:  # noqa: ANN401 - whatever is JSON
    try:
        return json.loads(value)
    except ValueError:
        raise CommandFailed(f"--set {text!r}: what follows := is not JSON", Exit.USAGE) from None


def _typed(value: str, schema: JsonObject) -> Any:  # noqa: ANN401 - whatever is JSON
    """Return the value with the type of the form: text where that fits, else as JSON. The server checks it."""
    if "string" in _types(schema) or value in schema.get("enum", ()):
        return value
    try:
        return json.loads(value)
    except ValueError:
        return value


def _types(schema: JsonObject) -> set[str]:
    kinds = schema.get("type", ())
    own = {kinds} if isinstance(kinds, str) else set(kinds)
    return own.union(*(_types(each) for key in ("anyOf", "oneOf") for each in schema.get(key, ())))
