"""Refuses parameters in an address that pydantic would take tacitly: repeated ones, and numbers in another spelling.

Of a parameter that stands twice the last one would count, and `1_000`, ` 1` and `1.0` would be whole numbers. Flags
are read as FastAPI documents it: `1`, `on` and `yes` are true, too. Unpause's own routes also refuse parameters that
they do not have: a list without the filter that was meant looks like one that it has been applied to.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from itertools import islice
from types import UnionType
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin

from fastapi.exceptions import RequestValidationError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from fastapi.dependencies.models import Dependant
    from starlette.requests import Request

_SPELLINGS: Final[Mapping[type, tuple[re.Pattern[str], str, str]]] = {
    int: (
        re.compile(r"-?[0-9]+"),
        "int_parsing",
        "Input should be a valid integer, unable to parse string as an integer",
    ),
    float: (
        re.compile(r"-?[0-9]*\.?[0-9]*(?:[eE][+-]?[0-9]+)?"),
        "float_parsing",
        "Input should be a valid number, unable to parse string as a number",
    ),
}

# A response has no more errors than these; a longer name is no misspelling.
_MAX_ERRORS: Final = 20
_LONGEST_NAME: Final = 40


class ParameterTexts:
    """The path and query parameters of one route, as they may be spelt."""

    def __init__(self, dependant: Dependant, *, ignores_unknown: bool) -> None:
        self._ignores_unknown = ignores_unknown
        self._names: set[str] = set()
        # The kind of number by the parameter's name; None for text.
        self._path: dict[str, type | None] = {}
        self._query: dict[str, type | None] = {}
        self._add(dependant)

    def _add(self, dependant: Dependant) -> None:
        """Add the parameters of a function and of what it depends on."""
        for field in dependant.path_params:
            self._path[field.alias] = _number_of(field.field_info.annotation)
        self._names.update(field.alias for field in dependant.query_params)
        for field in dependant.query_params:
            if not _is_list(field.field_info.annotation):
                self._query[field.alias] = _number_of(field.field_info.annotation)
        for inner in dependant.dependencies:
            self._add(inner)

    def check(self, request: Request) -> None:
        """Raise RequestValidationError, with an error for each parameter that is not plain."""
        found = [] if not request.scope["query_string"] else list(islice(self._errors_of_query(request), _MAX_ERRORS))
        found += [
            _error(("path", name), kind, value)
            for name, value in request.path_params.items()
            if (kind := self._path.get(name)) is not None and not _is_plain(kind, value)
        ]
        if found:
            raise RequestValidationError(found)

    def _errors_of_query(self, request: Request) -> Iterator[dict[str, Any]]:
        seen: set[str] = set()
        for name, value in request.query_params.multi_items():
            if name not in self._names and not self._ignores_unknown:
                yield {"type": "unknown", "loc": ("query", name), "msg": self._describe_unknown(name), "input": value}
            if name not in self._query:
                continue
            kind = self._query[name]
            if name in seen:
                yield {"type": "repeated", "loc": ("query", name), "msg": "Input should be sent once", "input": value}
            elif kind is not None and not _is_plain(kind, value):
                yield _error(("query", name), kind, value)
            seen.add(name)

    def _describe_unknown(self, name: str) -> str:
        near = get_close_matches(name.lower(), self._names, 1) if len(name) <= _LONGEST_NAME else ()
        if near:
            return f"There is no such parameter: did you mean {near[0]}?"
        known = ", ".join(sorted(self._names))
        return f"There is no such parameter; there are {known}" if known else "This route has no parameters"


def _number_of(annotation: Any) -> type | None:  # noqa: ANN401 - any type
    """Return int or float where the parameter is a number, or a number or None."""
    members = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    return next((kind for kind in _SPELLINGS if kind in members), None)


def _is_list(annotation: Any) -> bool:  # noqa: ANN401 - any type
    members = get_args(annotation) if get_origin(annotation) in {Union, UnionType} else (annotation,)
    return any(get_origin(member) is list for member in members)


def _is_plain(kind: type, value: str) -> bool:
    return _SPELLINGS[kind][0].fullmatch(value) is not None


def _error(place: tuple[str, str], kind: type, value: str) -> dict[str, Any]:
    _, name, message = _SPELLINGS[kind]
    return {"type": name, "loc": place, "msg": message, "input": value}
