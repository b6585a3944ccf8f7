"""The journey that every generated SDK makes, and what it has to see.

It creates a run with metadata that pauses, waits for the pause, resumes it with a prompt, waits for the end, lists the
organization's runs, reads the log in both directions, and resumes the run once more.
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
