"""Reads the parameters of a request in one pass, where those of its route are plain ones.

FastAPI looks at the annotation of each parameter anew with each request. For a create with its twenty form fields that
takes as long as everything else that a request does on its way to its route. Here each route is looked at once.
FastAPI still describes the routes, and still handles each request that is not plain: one without a required parameter,
with an invalid one, with uploads, or with a body that is no URL-encoded form. So all errors are its own.
"""

from __future__ import annotations

from dataclasses import MISSING, dataclass, fields
from inspect import iscoroutinefunction
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Final, Union, get_args, get_origin

from fastapi import UploadFile, params
from fastapi.dependencies.models import Dependant
from pydantic import Json
from starlette.exceptions import HTTPException

from unpause.api.json import URLENCODED, StrictRequest

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine, Mapping, Sequence

    from fastapi._compat import ModelField
    from fastapi.routing import APIRoute
    from starlette.requests import Request
    from starlette.responses import Response

    Handler = Callable[[Request], Coroutine[Any, Any, Response]]

_PLAIN: Final = frozenset({str, int, float, bool, NoneType})
_IMMUTABLE: Final = (str, int, float, bool, NoneType)
# What else there may be of a function: where it is not as it is by default, FastAPI calls it.
_KNOWN: Final = frozenset(
    {
        *("path_params", "query_params", "header_params", "body_params", "dependencies"),
        *("name", "call", "request_param_name", "path"),
        # When a generator ends: there is none among functions that are called here.
        "scope",
    }
)
# As in FastAPI.
_BODY_REFUSED: Final = "There was an error parsing the body"


class _NotPlain(Exception):
    """A route, or a request, that FastAPI handles."""


@dataclass(frozen=True, slots=True)
class _Parameter:
    """A parameter of a function, and its name in requests. ``is_plain`` False where only its absence is plain."""

    name: str
    key: str
    field: ModelField
    is_required: bool
    default: Any
    is_plain: bool

    def read(self, sent: Mapping[str, Any], *, is_form: bool) -> Any:  # noqa: ANN401 - whatever the function takes
        """Return the valid value; raise _NotPlain without one."""
        value = sent.get(self.key)
        if value is not None and not self.is_plain:
            raise _NotPlain
        if value is None or (is_form and value == ""):
            if self.is_required:
                raise _NotPlain
            return self.default
        valid, errors = self.field.validate(value, {}, loc=())
        if errors:
            raise _NotPlain
        return valid


@dataclass(frozen=True, slots=True)
class _Step:
    """A function to call: a dependency, or at last the route's own; with the results of earlier steps."""

    call: Callable[..., Coroutine[Any, Any, Any]]
    path: Sequence[_Parameter]
    query: Sequence[_Parameter]
    header: Sequence[_Parameter]
    form: Sequence[_Parameter]
    results: Sequence[tuple[str, int]]
    request: str | None

    def read(self, request: Request, form: Mapping[str, Any]) -> dict[str, Any]:
        """Return the arguments that come from the request."""
        values: dict[str, Any] = {} if self.request is None else {self.request: request}
        for parameter in self.path:
            values[parameter.name] = parameter.read(request.path_params, is_form=False)
        for parameter in self.query:
            values[parameter.name] = parameter.read(request.query_params, is_form=False)
        for parameter in self.header:
            values[parameter.name] = parameter.read(request.headers, is_form=False)
        for parameter in self.form:
            values[parameter.name] = parameter.read(form, is_form=True)
        return values


def reading_directly(route: APIRoute, handler: Handler) -> Handler:
    """Return a handler for plain requests of the route that leaves all others to ``handler``, which is FastAPI's."""
    try:
        steps = _steps_of(route)
    except _NotPlain:
        return handler
    limits, has_body = dict(route.form_limits or {}), route.body_field is not None

    async def handle(request: Request) -> Response:
        form: Mapping[str, Any] = {}
        if has_body:
            if not isinstance(request, StrictRequest) or request.media_type != URLENCODED:
                return await handler(request)
            form = await _form_of(request, limits)
        try:
            arguments = [step.read(request, form) for step in steps]
        except _NotPlain:
            return await handler(request)
        results: list[Any] = []
        for step, values in zip(steps, arguments, strict=True):
            for name, number in step.results:
                values[name] = results[number]
            results.append(await step.call(**values))
        response: Response = results[-1]
        return response

    return handle


async def _form_of(request: Request, limits: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the form, which the request keeps; it has no files to close. Raises HTTPException, as FastAPI does."""
    try:
        return await request.form(**limits)
    except HTTPException:
        raise
    except Exception as error:
        raise HTTPException(400, _BODY_REFUSED) from error


def _steps_of(route: APIRoute) -> list[_Step]:
    """Return the functions to call for a request; raise _NotPlain for a route that has something else to it."""
    returned = getattr(route.endpoint, "__annotations__", {}).get("return")
    if returned != "Response" or route.dependency_overrides_provider is not None:
        raise _NotPlain
    steps: list[_Step] = []
    numbers: dict[Any, int] = {}
    _add_step(route.dependant, steps, numbers)
    if len({parameter.name for step in steps for parameter in step.form}) == 1:
        # FastAPI may take the whole body for the only field.
        raise _NotPlain
    return steps


def _add_step(dependant: Dependant, steps: list[_Step], numbers: dict[Any, int]) -> int:
    """Add the function after its dependencies, once; return its number."""
    call = dependant.call
    if call is None or not iscoroutinefunction(call) or not _is_usual(dependant):
        raise _NotPlain
    if call in numbers:
        return numbers[call]
    inner = [(sub.name, _add_step(sub, steps, numbers)) for sub in dependant.dependencies]
    steps.append(
        _Step(
            call=call,
            path=[_parameter(field) for field in dependant.path_params],
            query=[_parameter(field) for field in dependant.query_params],
            header=[_parameter(field) for field in dependant.header_params],
            form=[_parameter(field) for field in dependant.body_params],
            results=[(name, number) for name, number in inner if name is not None],
            request=dependant.request_param_name,
        )
    )
    numbers[call] = len(steps) - 1
    return numbers[call]


def _is_usual(dependant: Dependant) -> bool:
    """Whether there is nothing about the function that this module does not know, in whichever version of FastAPI."""
    for field in fields(dependant):
        default = field.default_factory() if field.default_factory is not MISSING else field.default
        if field.name not in _KNOWN and getattr(dependant, field.name) not in (default, []):
            return False
    return all(isinstance(found.field_info, params.Form) for found in dependant.body_params)


def _parameter(field: ModelField) -> _Parameter:
    info = field.field_info
    is_plain, is_required = _members(info.annotation) <= _PLAIN, info.is_required()
    default = None if is_required else field.get_default()
    known_alias = info.validation_alias is None or isinstance(info.validation_alias, str)
    is_json = any(type(item) is Json for item in info.metadata)
    if not known_alias or is_json or info.validate_default or field.config or not isinstance(default, _IMMUTABLE):
        raise _NotPlain
    if not is_plain and not (_members(info.annotation) <= {list[UploadFile], NoneType}):
        raise _NotPlain
    return _Parameter(
        name=field.name,
        key=field.validation_alias or field.alias,
        field=field,
        is_required=is_required,
        default=default,
        is_plain=is_plain,
    )


def _members(annotation: Any) -> set[Any]:  # noqa: ANN401 - any type
    """Return the types of a union; the type itself where it is none."""
    return set(get_args(annotation)) if get_origin(annotation) in {Union, UnionType} else {annotation}
