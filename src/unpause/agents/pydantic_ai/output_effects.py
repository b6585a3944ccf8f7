"""Whether an agent runs code of its author's on every output: validators, actions behind choices, hooks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_ai.capabilities import AbstractCapability, Hooks

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

_HOOKS = (
    "before_output_validate",
    "after_output_validate",
    "wrap_output_validate",
    "on_output_validate_error",
    "before_output_process",
    "after_output_process",
    "wrap_output_process",
    "on_output_process_error",
)


def has_effects(validators: Sequence[object], schema: Any, root: AbstractCapability[Any]) -> bool:  # noqa: ANN401 - private type
    """Whether something of the author's runs on every output; output functions are known by their own outputs."""
    return bool(validators) or any(map(_chooses_actions, _processors(schema))) or _hooks_into_outputs(root)


def _processors(schema: Any) -> Iterator[object]:  # noqa: ANN401 - a private type of the framework's
    if schema.toolset is not None:
        yield from schema.toolset.processors.values()
    if schema.text_processor is not None:
        yield schema.text_processor
        yield from getattr(schema.text_processor, "_processors", {}).values()


def _chooses_actions(processor: object) -> bool:
    """Whether the model picks functions to be called, which the framework does not count as output functions."""
    return any(callable(value) for value in (getattr(processor, "_choice_values", None) or {}).values())


def _hooks_into_outputs(root: AbstractCapability[Any]) -> bool:
    leaves: list[AbstractCapability[Any]] = []
    root.apply(leaves.append)
    return any(map(_hooks_in, leaves))


def _hooks_in(capability: AbstractCapability[Any]) -> bool:
    kind = type(capability)
    if isinstance(capability, Hooks):
        # It overrides all hooks, and calls those that were registered.
        return any(name in capability._registry for name in _HOOKS)  # noqa: SLF001 - there is no other way to know
    if kind.__module__.startswith(("pydantic_ai.", "unpause.")):
        return False
    return any(getattr(kind, name) is not getattr(AbstractCapability, name) for name in _HOOKS)
