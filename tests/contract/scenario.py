"""One captured scenario on one server: sends its requests in order and collects every difference."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Final

from tests.contract.captures import Capture, JsonObject, load_captures
from tests.contract.comparison import Comparison
from tests.contract.differences import DELIBERATE, Difference
from tests.contract.replaying import Answer, Replay

CAPTURES: Final = load_captures()

_REFUSED: Final = 400
_NO_CONTENT: Final = 204


@dataclass(slots=True)
class Scenario:
    """One run of a scenario: what was sent, what the tools did, and every difference that was found."""

    replay: Replay
    executed: list[str]
    found: list[str] = field(default_factory=list)

    async def step(self, number: str) -> None:
        """Replay one request and compare; a refused one must have changed nothing."""
        capture = CAPTURES.by_number[number]
        before = await self._state(capture)
        try:
            answer = await self.replay.send(capture)
        except LookupError as missing:
            self.found.append(f"{capture.file}: an earlier answer lacks what this is made from: {missing!r}")
            return
        self.check(number, answer)
        if answer.status >= _REFUSED and before != (after := await self._state(capture)):
            self.found.append(f"{capture.file}: refused, but it changed {before} to {after}")

    def check(self, number: str, answer: Answer) -> None:
        """Compare an answer with the captured one, or with ours where it differs on purpose."""
        capture = CAPTURES.by_number[number]
        comparison = Comparison(CAPTURES.shapes)
        difference = DELIBERATE.get(capture.file)
        try:
            if difference is None:
                self._compare(comparison, capture, answer)
            elif not self._differs(capture, answer):
                comparison.found.append("is listed as a difference, but is answered as it was captured")
            elif difference.like is not None:
                self._compare(comparison, _ours(capture, difference), answer)
            else:
                self._compare_with_ours(comparison, capture, difference, answer)
        except LookupError as missing:
            comparison.found.append(f"an answer lacks what is compared: {missing!r}")
        self.found += [f"{capture.file}: {line}" for line in comparison.found]

    def _differs(self, capture: Capture, answer: Answer) -> bool:
        comparison = Comparison(CAPTURES.shapes)
        self._compare(comparison, capture, answer)
        return bool(comparison.found)

    async def _state(self, capture: Capture) -> tuple[JsonObject | None, list[str]]:
        """Return what the run that the scenario is about looks like, and the executions so far."""
        created = capture.run_of or capture.scenario[:3]
        known = created in self.replay.answers and "run_id" in self.replay.answers[created].result
        return await self.replay.stored_run(created) if known else None, list(self.executed)

    def _compare(self, comparison: Comparison, capture: Capture, answer: Answer) -> None:
        run_id = self.replay.run_id(capture.run_of) if capture.run_of else None
        same = answer.status == capture.status and answer.content_type == capture.content_type
        if not same and capture.status != _NO_CONTENT:
            comparison.say("status", capture.status, answer.status)
            comparison.say("content type", capture.content_type, answer.content_type)
            comparison.found.append(f"body: {answer.body or answer.events}")
            return
        comparison.say("status", capture.status, answer.status)
        for name, value in capture.answer_headers.items():
            shown = answer.headers.get(name, "")
            # These two are lists, of which a newer framework names more.
            same = value in shown.split(", ") if name in {"vary", "allow"} else value == shown
            comparison.say(f"header {name}: {shown} for {value}", expected=True, got=same)
        fill = self.replay.fill
        if capture.error is not None:
            comparison.error(fill(capture.error), answer.body)
        elif capture.events is not None:
            comparison.events(fill(capture.events), answer.events, run_id)
        elif capture.run is not None:
            comparison.run(fill(capture.run), answer.body, run_id)
        elif capture.items is not None:
            self._compare_runs(comparison, capture, answer)
        else:
            comparison.value("body", fill(capture.text if capture.text is not None else capture.body), answer.body)

    def _compare_runs(self, comparison: Comparison, capture: Capture, answer: Answer) -> None:
        expected = self.replay.fill(capture.items)
        got = [answer.body] if capture.single else answer.body
        comparison.say("number of runs", len(expected), len(got))
        for wanted, run in zip(expected, got, strict=False):
            comparison.run(wanted, run, wanted["run_id"])

    def _compare_with_ours(
        self, comparison: Comparison, capture: Capture, difference: Difference, answer: Answer
    ) -> None:
        comparison.say("status", difference.status, answer.status)
        if difference.frames is not None:
            comparison.say("frames", list(difference.frames), _names(answer.events))
            return
        comparison.say("content type", "application/json", answer.content_type)
        if answer.status != difference.status:
            comparison.found.append(f"body: {answer.body or answer.events}")
        elif difference.body is not None:
            comparison.value("body", self.replay.fill(difference.body), answer.body)
        elif difference.detail is not None:
            detail = difference.detail
            if "{run}" in detail:
                run_id = self.replay.run_id(capture.run_of) if capture.run_of else capture.path.split("/")[4]
                detail = detail.replace("{run}", run_id)
            comparison.error({"detail": detail}, answer.body)
        else:
            names = (difference.names or "").replace("{call}", self.replay.call_id(capture.run_of or ""))
            if names not in str(answer.body.get("detail")):
                comparison.found.append(f"expected a detail that names {names}, got {answer.body}")


def _ours(capture: Capture, difference: Difference) -> Capture:
    """Return the capture as it would read if our server had answered."""
    like = CAPTURES.by_number[difference.like or ""]
    run = _changed(like.run, difference.run)
    if run is not None and "tools" in run:
        run["tools"] = [tool | dict(difference.tools.get(place, {})) for place, tool in enumerate(run["tools"])]
    events = like.events and tuple(
        event | dict(difference.events.get(place, {})) for place, event in enumerate(like.events)
    )
    answer = {name: getattr(like, name) for name in ("content_type", "single", "error", "text")}
    items = like.items and tuple(_merged(list(like.items), difference.changes))
    headers = like.answer_headers if like is capture else {}
    body = _merged(like.body, difference.changes)
    return replace(
        capture,
        status=difference.status,
        run=run,
        events=events,
        items=items,
        body=body,
        answer_headers=headers,
        **answer,
    )


def _changed(expected: JsonObject | None, changes: Any) -> JsonObject | None:  # noqa: ANN401 - a mapping
    return None if expected is None else {**expected, **changes}


def _merged(expected: Any, changes: Any) -> Any:  # noqa: ANN401 - any JSON
    """Return the JSON with the changes in their places: objects by key, lists by position."""
    if isinstance(expected, dict) and isinstance(changes, dict):
        merged = {key: _merged(value, changes[key]) if key in changes else value for key, value in expected.items()}
        return merged | {key: value for key, value in changes.items() if key not in expected}
    if isinstance(expected, list) and isinstance(changes, dict):
        return [_merged(value, changes[place]) if place in changes else value for place, value in enumerate(expected)]
    return changes if changes != {} else expected


def _names(events: tuple[JsonObject, ...]) -> list[str]:
    """Return the names of the frames; neighbouring RunContent count as one."""
    names: list[str] = []
    for event in events:
        if not (names and event["event"] == names[-1] == "RunContent"):
            names.append(event["event"])
    return names
