"""Makes the options of a command from the settings: their names, help, headings, and words for their values."""

from __future__ import annotations

import inspect
from datetime import timedelta
from pathlib import Path
from types import UnionType
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Group, Parameter, Token
from pydantic import SecretStr

from unpause.cli.numbers import Whole
from unpause.durations import duration_text, parse_duration
from unpause.settings import Settings
from unpause.settings_sources import read_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable, Sequence

    from pydantic import BaseModel
    from pydantic.fields import FieldInfo

# What stands for a value in the help: by the end of the name, or else by the type.
_WORDS_BY_NAME = {"_url": "URL", "_bytes": "BYTES", "_seconds": "SECONDS"}
_WORDS_BY_TYPE = {Path: "PATH", int: "NUMBER", tuple: "LIST", SecretStr: "KEY", timedelta: "DURATION"}

DatabaseUrl = Annotated[
    str | None,
    Parameter(metavar="URL", help="URL of the database; by default UNPAUSE_DATABASE_URL, or unpause.db here."),
]
Organization = Annotated[Whole, Parameter(help="Id of the organization.")]
OrganizationFilter = Annotated[
    Whole | None, Parameter(name="--org", metavar="NUMBER", help="Id of the organization; by default all of them.")
]


def _duration(_: Any, words: Sequence[Token]) -> timedelta:  # noqa: ANN401 - cyclopts passes the type
    [word] = words
    return parse_duration(word.value)


Duration = Annotated[timedelta, Parameter(converter=_duration, metavar="DURATION", n_tokens=1)]


def database_url_or_default(database_url: str | None) -> str:
    """Return the option's value, or that of the settings."""
    return database_url or read_settings().database_url


def settings_command(
    run: Callable[[Settings], None], groups: Iterable[type[BaseModel]], without: Collection[str] = ()
) -> Callable[..., None]:
    """Return a command that takes the settings of these groups as options and runs with them."""

    def command(**options: bool | list[str]) -> None:
        run(read_settings(**{name: _value(name, value=value) for name, value in options.items()}))

    parameters = [
        _option(name, field, Group((group.__doc__ or "").splitlines()[0].rstrip("."), sort_key=place))
        for place, group in enumerate(groups)
        for name, field in group.model_fields.items()
        if name not in without
    ]
    vars(command)["__signature__"] = inspect.Signature(parameters)
    return command


def _value(name: str, *, value: bool | list[str]) -> bool | str:
    """Return the value of an option that may be repeated: a list takes all values, any other option the last."""
    if isinstance(value, bool):
        return value
    return ",".join(value) if _kind(Settings.model_fields[name].annotation) is tuple else value[-1]


def _option(name: str, field: FieldInfo, group: Group) -> inspect.Parameter:
    """Return one option. Its value stays a text: pydantic reads it as it reads a variable."""
    kind = _kind(field.annotation)
    choices = get_args(field.annotation) if get_origin(field.annotation) is Literal else ()
    parameter = Parameter(
        help=field.description,
        group=group,
        metavar=None if kind is bool else "|".join(choices) or _word(name, kind),
        show_default=shown_default(field) or False,
        negative=None if kind is bool else (),
        # A key may begin with a dash.
        allow_leading_hyphen=kind is SecretStr,
    )
    annotation: Any = Annotated[bool | None if kind is bool else list[str] | None, parameter]
    return inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation)


def _kind(annotation: Any) -> type:  # noqa: ANN401 - an annotation can be anything
    """Return the plain type of a setting."""
    origin = get_origin(annotation)
    if origin is Literal:
        return str
    if origin in {Annotated, Union, UnionType}:
        return _kind(get_args(annotation)[0])
    kind: type = origin or annotation
    return kind


def _word(name: str, kind: type) -> str:
    by_name = next((word for end, word in _WORDS_BY_NAME.items() if name.endswith(end)), None)
    return by_name or _WORDS_BY_TYPE.get(kind, "TEXT")


def shown_default(field: FieldInfo) -> str:
    """Return a setting's default as one would write it; an empty text where there is none."""
    default = field.default
    if default is None or default == ():
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, timedelta):
        return duration_text(default)
    return ",".join(default) if isinstance(default, tuple) else str(default)
