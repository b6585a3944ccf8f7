"""Whether an answer was given just so before: a repeated request, which changes nothing and is no conflict."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unpause.domain.arguments import is_echo
from unpause.domain.requirements import Answer, Decision, Requirement, ToolAnswer

if TYPE_CHECKING:
    from collections.abc import Mapping


def is_repeat(requirement: Requirement, answer: Answer, sent: ToolAnswer) -> bool:
    """Whether the requirement's ``answer`` is what ``sent`` would make of it; who sent it is not looked at.

    Of ``tool_args`` only those that differ from the shown ones count.
    """
    is_rejection = sent.confirmed is False
    if (answer.decision is Decision.REJECTED) is not is_rejection or answer.note != sent.note:
        return False
    # What else comes with a rejection is not kept.
    return is_rejection or (sent.result == answer.result and _has_same_values(requirement, answer.values or {}, sent))


def contradicts(requirement: Requirement, answer: Answer, sent: ToolAnswer) -> bool:
    """Whether the requirement's ``answer`` is another one than ``sent``, whatever their notes are."""
    is_rejection = sent.confirmed is False
    if (answer.decision is Decision.REJECTED) is not is_rejection:
        return True
    if is_rejection:
        return False
    return sent.result not in {None, answer.result} or bool(_changes(requirement, answer.values or {}, sent))


def _has_same_values(requirement: Requirement, kept: Mapping[str, Any], sent: ToolAnswer) -> bool:
    chosen = _chosen(sent)
    # An empty field may be kept as null.
    is_complete = all(value is None or name in chosen for name, value in kept.items())
    return is_complete and not _changes(requirement, kept, sent)


def _changes(requirement: Requirement, kept: Mapping[str, Any], sent: ToolAnswer) -> set[str]:
    """Return the names of the arguments for which another value was kept, or left as shown, than was sent."""
    shown = requirement.tool_args
    return {
        name
        for name, value in _chosen(sent).items()
        # As text: the tool's own check may have converted a value.
        if (str(kept[name]) != str(value) if name in kept else not is_echo(value, shown.get(name)))
    }


def _chosen(sent: ToolAnswer) -> dict[str, Any]:
    return {**(sent.tool_args or {}), **(sent.values or {})}
