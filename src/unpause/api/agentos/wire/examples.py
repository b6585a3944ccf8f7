"""Examples of bodies and answers for the OpenAPI document: runs of the demo, as ``examples.json`` has them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unpause.api.examples import put_examples

_VALUES = Path(__file__).with_suffix(".json")

_JSON = "application/json"
_EVENTS = "text/event-stream"

# By operation, the examples of each media type: names in `examples.json` with their summaries.
_REQUESTS = {
    "create_agent_run": {
        _JSON: {
            "create": "Respond when the run pauses or ends",
            "create_streamed": "Stream the events",
            "create_in_background": "Respond at once",
        },
        "multipart/form-data": {"create_form": "Respond when the run pauses or ends"},
    },
    "continue_agent_run": {
        _JSON: {
            "confirm": "Confirm a call",
            "decline": "Decline a call, with a note for the model",
            "fill_in": "Fill in the form of a call",
            "bring_result": "Bring the result of an external call",
            "after_approval": "Continue after an administrator's decision",
        },
        "application/x-www-form-urlencoded": {"confirm_form": "Confirm a call"},
    },
    "resolve_approval_approvals__approval_id__resolve_post": {
        _JSON: {"approve": "Approve", "reject": "Reject, with a note for the model"},
    },
}
_PAUSED = {"paused_run": "A paused run: `delete_file` waits for a confirmation"}
_COMPLETED = {"completed_run": "A completed run"}
_ACCEPTED = {_JSON: {"accepted_run": "A run in the background"}}
_TO_THE_PAUSE = {"events_to_the_pause": "From the start to the pause"}
_AFTER_THE_PAUSE = {"events_after_the_pause": "From the pause to the end"}
_APPROVED = {"approved": "An approved call; the run waits to be continued"}
_RESPONSES = {
    "create_agent_run": {"200": {_JSON: _PAUSED | _COMPLETED, _EVENTS: _TO_THE_PAUSE}, "202": _ACCEPTED},
    "continue_agent_run": {"200": {_JSON: _COMPLETED | _PAUSED, _EVENTS: _AFTER_THE_PAUSE}, "202": _ACCEPTED},
    "get_agent_run": {"200": {_JSON: _PAUSED | _COMPLETED}},
    "follow_agent_run": {"200": {_EVENTS: _TO_THE_PAUSE | _AFTER_THE_PAUSE}},
    "get_approval_approvals__approval_id__get": {"200": {_JSON: _APPROVED}},
    "resolve_approval_approvals__approval_id__resolve_post": {"200": {_JSON: _APPROVED}},
}


def add_examples(document: dict[str, Any]) -> None:
    """Add the examples to the operations of the document."""
    put_examples(document, _VALUES, _REQUESTS, _RESPONSES)
