"""The other side of `scenario_process`, in the client's environment: one JSON line in, one JSON line out.

In: `{"scenario": "MODULE.FUNCTION", "inputs": {…}}`. Out: `{"returned": …, "logged": […], "failed": …}`, where
`failed` is a traceback and `logged` what the client logged as errors. Needs nothing but Python's own library.
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any, TextIO


class _Errors(logging.Handler):
    """Keeps the errors that are logged."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.kept: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.kept.append(record.getMessage())


def run_scenarios(package: str, logger: str, make_client: Callable[[], object]) -> None:
    """Run the scenarios of the package that standard input asks for, each with a client of its own.

    A scenario takes the client and its inputs, and returns JSON or an awaitable of it.
    """
    errors = _Errors()
    logging.getLogger(logger).addHandler(errors)
    # Whatever else is printed, by the client or by its logger, must not stand between the answers.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        os.dup2(2, 1)
        asyncio.run(_serve(package, make_client, errors, answers))


async def _serve(package: str, make_client: Callable[[], object], errors: _Errors, answers: TextIO) -> None:
    while line := await asyncio.to_thread(sys.stdin.readline):
        errors.kept.clear()
        answer = await _run(package, json.loads(line), make_client)
        answers.write(json.dumps({**answer, "logged": errors.kept}) + "\n")
        answers.flush()


async def _run(package: str, requested: dict[str, Any], make_client: Callable[[], object]) -> dict[str, Any]:
    try:
        module, _, function = requested["scenario"].partition(".")
        scenario = getattr(importlib.import_module(f"{package}.{module}"), function)
        returned = scenario(make_client(), **requested["inputs"])
        if inspect.isawaitable(returned):
            returned = await returned
    except Exception:  # noqa: BLE001 - the boundary of this process: whatever it is, the test is told
        return {"returned": None, "failed": traceback.format_exc()}
    return {"returned": returned, "failed": None}
