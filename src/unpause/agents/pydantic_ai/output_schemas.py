"""The type of an answer that is to fit a client's JSON schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pydantic_ai.output import StructuredDict
from pydantic_core import core_schema

from unpause.domain.output_schema import compile_schema

if TYPE_CHECKING:
    from collections.abc import Mapping


def output_type(stored: Mapping[str, Any] | None) -> Any:  # noqa: ANN401 - a type made from the schema
    """Return the type for the run's ``output_schema``; None, the agent's own, where there is none.

    The framework's own type for a JSON schema shows it to the model and takes any object: here one that does not fit
    goes back to the model.
    """
    if stored is None:
        return None
    find_misfit = compile_schema(stored["schema"])

    def check(answer: dict[str, Any]) -> dict[str, Any]:
        misfit = find_misfit(answer)
        if misfit is not None:
            raise ValueError(misfit)
        return answer

    class Answer(StructuredDict(stored["schema"], stored["name"])):  # type: ignore[misc]  # a class made at run time
        @classmethod
        def __get_pydantic_core_schema__(cls, source: Any, handler: Any) -> core_schema.CoreSchema:  # noqa: ANN401
            values = core_schema.dict_schema(core_schema.str_schema(), core_schema.any_schema())
            return core_schema.no_info_after_validator_function(check, values)

    return Answer
