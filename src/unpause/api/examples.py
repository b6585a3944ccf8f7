"""Puts examples of bodies and answers into the OpenAPI document."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from pathlib import Path

# Names in the file of values, with their summaries, by media type.
Examples: TypeAlias = Mapping[str, Mapping[str, str]]


def put_examples(
    document: dict[str, Any],
    values_file: Path,
    bodies: Mapping[str, Examples],
    answers: Mapping[str, Mapping[str, Examples]],
) -> None:
    """Add examples to the operations that ``bodies`` and ``answers`` name; those of answers are by status."""
    values = json.loads(values_file.read_text(encoding="utf-8"))
    for item in document["paths"].values():
        for operation in item.values():
            name = operation["operationId"]
            contents = [(bodies.get(name, {}), operation.get("requestBody"))]
            contents += [(media, operation["responses"][status]) for status, media in answers.get(name, {}).items()]
            for examples, part in contents:
                for media, summaries in examples.items():
                    part["content"][media]["examples"] = {
                        key: {"summary": summary, "value": values[key]} for key, summary in summaries.items()
                    }
