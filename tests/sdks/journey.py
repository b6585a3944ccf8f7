"""The journeys that generated SDKs make, and what they have to see.

Over Codegen's routes a journey creates a run with metadata that pauses, waits for the pause, resumes it with a prompt,
waits for the end, lists the organization's runs, reads the log in both directions, and resumes the run once more.

Over AgentOS's routes it creates a run without a token; creates one that pauses, inspects its call, follows its events
to the pause, continues it with the confirmation, and once more; creates another in the same session whose call an
administrator approves, and continues it; then it counts the user's sessions and lists the session's runs.
"""

from __future__ import annotations

from typing import Any

# A user's words; what is awaited; the user's words again, which decline the call; the answer.
_LOG = ["USER_MESSAGE", "PLAN_EVALUATION", "USER_MESSAGE", "FINAL_ANSWER"]


def expected_of(name: str) -> dict[str, Any]:
    """Return what the journey with this name has to see, except `awaited` and `page`."""
    return {
        "statuses": ["ACTIVE", "PAUSED", "ACTIVE", "COMPLETE"],
        "one_run": True,
        "metadata": {"by": name},
        "result": f"kept {name}",
        "listed": True,
        "log": {"types": _LOG, "total": len(_LOG)},
        "log_reversed": {"types": _LOG[::-1], "total": len(_LOG)},
        "again": [409, True],
    }


def expected_of_agentos(name: str) -> dict[str, Any]:
    """Return what the journey over AgentOS's routes with this name has to see."""
    return {
        "refused": [401, "Authorization header required"],
        "statuses": ["PAUSED", "COMPLETED"],
        "calls": [["delete_file", {"path": name}]],
        "followed": [["delete_file"], True],
        "content": f"Told: deleted {name}",
        "user_id": name,
        "again": 409,
        "approval": ["approved", "deploy", "PAUSED", "COMPLETED", f"Told: deployed to {name}"],
        "sessions": 1,
        "runs": ["COMPLETED", "COMPLETED"],
    }
