"""Compiles JSON schemas that come from clients."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jsonschema_rs import RegexOptions, ValidationError, Validator, validator_for

if TYPE_CHECKING:
    from collections.abc import Mapping


def validator_of(schema: Mapping[str, Any]) -> Validator:
    """Return what checks values by the schema; raise ValueError where it is none, with the reason."""
    try:
        # No reference is fetched, and a pattern takes time linear in the text.
        return validator_for(dict(schema), offline=True, pattern_options=RegexOptions())
    except ValidationError as error:
        raise ValueError(str(error)) from None
