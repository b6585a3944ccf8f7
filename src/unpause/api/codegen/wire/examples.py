"""Examples of Codegen's bodies and answers for the OpenAPI document: runs of the demo, from ``examples.json``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from unpause.api.examples import put_examples

_VALUES = Path(__file__).with_suffix(".json")

_JSON = "application/json"

_REQUESTS = {
    "create_agent_run_v1_organizations__org_id__agent_run_post": {_JSON: {"codegen_create": "Create a run"}},
    "resume_agent_run_v1_organizations__org_id__agent_run_resume_post": {
        _JSON: {
            "codegen_confirm": "Confirm a call",
            "codegen_decline": "Decline what is open, with the prompt as the note",
        }
    },
}
_ACTIVE = {"200": {_JSON: {"codegen_active_run": "The run is under way"}}}
_RESPONSES = {
    "create_agent_run_v1_organizations__org_id__agent_run_post": _ACTIVE,
    "resume_agent_run_v1_organizations__org_id__agent_run_resume_post": _ACTIVE,
    "get_agent_run_v1_organizations__org_id__agent_run__agent_run_id__get": {
        "200": {
            _JSON: {
                "codegen_paused_run": "A paused run: `delete_file` waits for a confirmation",
                "codegen_complete_run": "A run that has ended",
            }
        }
    },
    "list_agent_runs_v1_organizations__org_id__agent_runs_get": {"200": {_JSON: {"codegen_runs": "One run"}}},
}


def add_examples(document: dict[str, Any]) -> None:
    """Add the examples to the operations of the document."""
    put_examples(document, _VALUES, _REQUESTS, _RESPONSES)
