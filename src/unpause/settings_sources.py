"""Reads the settings from options and the environment, and refuses what is no setting."""

from __future__ import annotations

import os
import re
from difflib import get_close_matches
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from unpause.errors import InvalidSetting
from unpause.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Mapping

_PREFIX = "UNPAUSE_"
# Those of the commands for people.
_OF_PEOPLE = frozenset({"UNPAUSE_URL", "UNPAUSE_TOKEN"})
_SERVICE = re.compile(r"UNPAUSE_(?:\w+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_\w+)?|PORT_\d+_(?:TCP|UDP|SCTP)(?:_\w+)?)")


def read_settings(**options: Any) -> Settings:  # noqa: ANN401 - as they come; pydantic checks them
    """Return the settings of these options and the environment; raise InvalidSetting, without the wrong values.

    Also for a variable that is no setting: a misspelt one would have the server start with a default instead.
    """
    _refuse_unknown(os.environ)
    _refuse_undecodable({**_variables(os.environ), **options})
    try:
        return Settings(**options)
    except ValidationError as error:
        wrong = (f"{'.'.join(map(str, item['loc']))}: {item['msg']}" for item in error.errors(include_input=False))
        raise InvalidSetting("; ".join(wrong)) from None


def _variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of settings by their names."""
    return {name: value for name, value in environment.items() if name.upper().startswith(_PREFIX)}


def _refuse_undecodable(texts: Mapping[str, object]) -> None:
    """Refuse bytes of a command line or a variable that are not UTF-8: Python keeps them as halves of pairs."""
    for name, text in texts.items():
        try:
            str(text).encode()
        except UnicodeEncodeError:
            raise InvalidSetting(f"{name}: the value is not UTF-8") from None


def _refuse_unknown(environment: Mapping[str, str]) -> None:
    known = {f"{_PREFIX}{name.upper()}" for name in Settings.model_fields} | _OF_PEOPLE
    unknown = [
        name
        for name, value in environment.items()
        if name.upper().startswith(_PREFIX) and name.upper() not in known and not _is_of_kubernetes(name, value)
    ]
    if not unknown:
        return
    # Not the value: it may be a secret under a misspelt name.
    names = [name.removeprefix(_PREFIX) for name in known]
    near = get_close_matches(unknown[0].upper().removeprefix(_PREFIX), names, 1)
    hint = f"did you mean {_PREFIX}{near[0]}?" if near else "`unpause settings` lists all"
    raise InvalidSetting(f"{unknown[0]} is no setting: {hint}")


def _is_of_kubernetes(name: str, value: str) -> bool:
    """Whether Kubernetes sets the variable, for a Service whose name begins with ``unpause``."""
    return _SERVICE.fullmatch(name) is not None or (name.endswith("_PORT") and "://" in value)
