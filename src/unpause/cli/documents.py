"""``unpause openapi`` and ``unpause settings``: documents that the code itself writes."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

from cyclopts import App, Parameter
from pydantic import BaseModel

from unpause.agents.served import Agents
from unpause.api.app import create_app
from unpause.api.openapi import openapi_documents
from unpause.bootstrap import build_application
from unpause.cli.options import shown_default
from unpause.settings import GROUPS, Settings

openapi = App(name="openapi")


@openapi.command
def write(*, folder: Annotated[Path, Parameter(metavar="PATH", help="Where the files go.")] = Path("openapi")) -> None:
    """Write the OpenAPI documents into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for title, text in openapi_texts().items():
        (folder / f"{title}.json").write_text(text, encoding="utf-8")


def settings() -> None:
    """Print all settings, in Markdown."""
    sys.stdout.write(settings_tables())


def openapi_texts() -> dict[str, str]:
    """Return the OpenAPI documents as JSON text, by name."""
    documents = openapi_documents(create_app(build_application(Settings(), Agents(()))))
    return {title: json.dumps(document, indent=1, ensure_ascii=False) + "\n" for title, document in documents.items()}


def settings_tables() -> str:
    """Return the settings as Markdown, a table for each group, in the order of the help."""
    return "\n".join(map(_settings_table, GROUPS))


def _settings_table(group: type[BaseModel]) -> str:
    heading = (group.__doc__ or "").splitlines()[0].rstrip(".")
    lines = [f"## {heading}", "", "| option | environment | default | what it does |", "| --- | --- | --- | --- |"]
    for name, field in group.model_fields.items():
        default = shown_default(field)
        lines.append(
            f"| `--{name.replace('_', '-')}` | `UNPAUSE_{name.upper()}` | {f'`{default}`' if default else ''} "
            f"| {field.description} |"
        )
    return "\n".join(lines) + "\n"
