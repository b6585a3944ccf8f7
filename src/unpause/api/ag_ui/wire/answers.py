"""A client's answers to interrupts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from pydantic_core import to_json

from unpause.domain.requirements import Requirement, RequirementKind, ToolAnswer
from unpause.errors import RequirementMismatch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ag_ui.core import ResumeEntry


_LONGEST_NOTE = 200_000


class ResumePayload(BaseModel):
    """The payload of a resolved interrupt; its ``responseSchema`` says which of the keys it takes.

    Another key is refused: a misspelt ``editedArgs`` would approve what the person has changed. ``reason`` is what
    assistant-ui (0.0.57) sends for ``note``.
    """

    model_config = ConfigDict(extra="forbid", strict=True)

    approved: bool | None = None
    note: str | None = Field(default=None, max_length=_LONGEST_NOTE)
    reason: str | None = Field(default=None, max_length=_LONGEST_NOTE)
    edited_args: dict[str, Any] | None = Field(default=None, alias="editedArgs")
    values: dict[str, Any] | None = None
    result: Any = None

    @property
    def words(self) -> str | None:
        """What the person says about the decision."""
        return self.reason if self.note is None else self.note


def answer_from(requirement: Requirement, entry: ResumeEntry) -> ToolAnswer:
    """Return the entry as an answer to the requirement; raise RequirementMismatch for one of another kind."""
    call_id = requirement.tool_call_id
    if entry.status == "cancelled":
        return ToolAnswer(call_id, confirmed=False)
    payload = _read(requirement, entry.payload)
    if payload.approved is False:
        return ToolAnswer(call_id, confirmed=False, note=payload.words)
    if requirement.kind is RequirementKind.EXTERNAL_EXECUTION:
        return ToolAnswer(call_id, note=payload.words, result=_result(requirement, payload))
    if payload.result is not None:
        raise RequirementMismatch(f"{_interrupt(requirement)} is run by the server: it takes no result")
    is_form = requirement.kind is RequirementKind.USER_INPUT
    if is_form and payload.values is None:
        raise RequirementMismatch(f"{_interrupt(requirement)} needs `values` in its payload")
    if not is_form and payload.approved is None:
        raise RequirementMismatch(f"{_interrupt(requirement)} needs `approved` in its payload: true or false")
    if not is_form and payload.values:
        raise RequirementMismatch(f"{_interrupt(requirement)} has no form: it takes no values")
    arguments = None if payload.edited_args is None else {**requirement.tool_args, **payload.edited_args}
    return ToolAnswer(call_id, tool_args=arguments, confirmed=True, note=payload.words, values=payload.values)


def refuse_other_answers(entries: Iterable[ResumeEntry]) -> None:
    """Raise RequirementMismatch for an interrupt that is answered in two ways."""
    first: dict[str, ResumeEntry] = {}
    for entry in entries:
        known = first.setdefault(entry.interrupt_id, entry)
        if (known.status, known.payload) != (entry.status, entry.payload):
            raise RequirementMismatch(f"Interrupt {entry.interrupt_id} is answered twice, and not the same way")


def _read(requirement: Requirement, payload: object) -> ResumePayload:
    try:
        return ResumePayload.model_validate({} if payload is None else payload)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, ("payload", *first["loc"])))
        raise RequirementMismatch(f"{_interrupt(requirement)}: {place}: {first['msg']}") from None


def _result(requirement: Requirement, payload: ResumePayload) -> str:
    """Return what was given back elsewhere, as text; null is a result, too."""
    if payload.values or payload.edited_args:
        raise RequirementMismatch(f"{_interrupt(requirement)} is not run by the server: it takes only a result")
    if requirement.question and not isinstance(payload.result, str):
        raise RequirementMismatch(f"{_interrupt(requirement)} needs `result` in its payload: the answer in words")
    if "result" not in payload.model_fields_set:
        raise RequirementMismatch(f"{_interrupt(requirement)} needs `result` in its payload")
    return payload.result if isinstance(payload.result, str) else to_json(payload.result).decode()


def _interrupt(requirement: Requirement) -> str:
    return f"Interrupt {requirement.id} ({requirement.tool_name})"
