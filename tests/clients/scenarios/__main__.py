"""Runs scenarios with the published client against the address it is given: one JSON line in, one JSON line out.

In: `{"scenario": "MODULE.FUNCTION", "inputs": {…}}`. Out: `{"returned": …, "logged": […], "failed": …}`, where
`failed` is a traceback and `logged` what agno logged as errors.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import logging
import os
import sys
import traceback
from typing import Any, TextIO

from agno.client import AgentOSClient  # type: ignore[import-not-found]


class _Errors(logging.Handler):
    """Keeps the errors that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.kept.append(record.getMessage())


async def _run(asked: dict[str, Any], address: str, errors: _Errors) -> dict[str, Any]:
    errors.kept.clear()
    returned = failed = None
    try:
        module, _, function = asked["scenario"].partition(".")
        scenario = getattr(importlib.import_module(f"tests.clients.scenarios.{module}"), function)
        returned = await scenario(AgentOSClient(address), **asked["inputs"])
    except Exception:  # noqa: BLE001 - the boundary of this process: whatever it is, the test is told
        failed = traceback.format_exc()
    return {"returned": returned, "logged": list(errors.kept), "failed": failed}


async def _serve(address: str, answers: TextIO) -> None:
    errors = _Errors()
    logging.getLogger("agno").addHandler(errors)
    while line := await asyncio.to_thread(sys.stdin.readline):
        answer = await _run(json.loads(line), address, errors)
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


if __name__ == "__main__":
    # Whatever else is printed, by agno or by its logger, must not stand between the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as stdout:
        os.dup2(2, 1)
        asyncio.run(_serve(sys.argv[1], stdout))
