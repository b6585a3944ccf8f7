"""``unpause openapi`` and ``unpause settings``: writes down what the code says about itself."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticUndefined

from unpause.api.app import create_app
from unpause.api.openapi import openapi_documents
from unpause.bootstrap import build_application
from unpause.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Sequence


def run(name: str, arguments: Sequence[str]) -> None:
    """Write the OpenAPI documents into a folder, or print the table of the settings."""
    parser = argparse.ArgumentParser(prog=f"unpause {name}", description=__doc__)
    if name == "openapi":
        parser.add_argument("action", choices=["write"])
        parser.add_argument("--folder", type=Path, default=Path("openapi"), help="where the files go; default: openapi")
    options = parser.parse_args(arguments)
    if name == "settings":
        sys.stdout.write(settings_table())
        return
    options.folder.mkdir(parents=True, exist_ok=True)
    for title, text in openapi_texts().items():
        (options.folder / f"{title}.json").write_text(text, encoding="utf-8")


def openapi_texts() -> dict[str, str]:
    """Return the OpenAPI documents as JSON text, by name."""
    documents = openapi_documents(create_app(build_application(Settings(), [])))
    return {title: json.dumps(document, indent=1, ensure_ascii=False) + "\n" for title, document in documents.items()}


def settings_table() -> str:
    """Return the settings as a Markdown table, in the order of the code."""
    lines = ["| option | environment | default | what it does |", "| --- | --- | --- | --- |"]
    for field_name, field in Settings.model_fields.items():
        option, variable = f"--{field_name.replace('_', '-')}", f"UNPAUSE_{field_name.upper()}"
        lines.append(f"| `{option}` | `{variable}` | {_shown(field.default)} | {field.description} |")
    return "\n".join(lines) + "\n"


def _shown(default: Any) -> str:  # noqa: ANN401 - whatever a setting's default is
    if default is PydanticUndefined or default is None or default == ():
        return ""
    return f"`{str(default).lower() if isinstance(default, bool) else default}`"
