"""Makes copies of Pydantic AI's run contexts cheap: it makes one for each hook of each capability."""

from __future__ import annotations

from typing import Any

from pydantic_ai.tools import RunContext


def copy_contexts_directly() -> None:
    """Have ``copy.copy`` of a run context take a sixth of the time, with the same result.

    Without a method of its own an object is taken apart and put together as if it were pickled: 14 microseconds, 150
    times in two segments. Nothing is changed where the class has such a method already, or no dictionary to copy.
    """
    own = ("__copy__", "__reduce__", "__reduce_ex__", "__getstate__", "__setstate__", "__slots__")
    if not any(name in vars(RunContext) for name in own):
        RunContext.__copy__ = _copied  # type: ignore[attr-defined]  # it is what copy.copy looks for


def copied_with(context: RunContext[Any], **changes: Any) -> RunContext[Any]:  # noqa: ANN401 - the context's own fields
    """Return the context with other values of some fields, as ``dataclasses.replace`` does."""
    made = _copied(context)
    vars(made).update(changes)
    return made


def _copied(context: RunContext[Any]) -> RunContext[Any]:
    kind = type(context)
    made = kind.__new__(kind)
    made.__dict__ = context.__dict__.copy()
    return made
