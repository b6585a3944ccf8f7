"""Completes the OpenAPI document with the models that routes only name, and with examples."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from unpause.api.ag_ui.wire.schemas import list_schemas
from unpause.api.agentos.wire.document import complete
from unpause.api.codegen.wire.examples import add_examples as add_codegen_examples
from unpause.api.codegen.wire.runs import ERRORS as CODEGEN_ERRORS
from unpause.api.console import me, tokens
from unpause.api.inbox import grants
from unpause.api.inbox.models import RESPONSES as INBOX_RESPONSES
from unpause.api.runs.models import MODELS as RUN_MODELS

if TYPE_CHECKING:
    from pydantic import BaseModel

_NATIVE_MODELS: tuple[type[BaseModel], ...] = (me.MeResponse, *tokens.MODELS, *INBOX_RESPONSES, *grants.MODELS)


def complete_document(document: dict[str, Any]) -> dict[str, Any]:
    """Return the document, completed."""
    completed = complete(document, (*CODEGEN_ERRORS, *_NATIVE_MODELS, *RUN_MODELS), list_schemas())
    add_codegen_examples(completed)
    return completed
