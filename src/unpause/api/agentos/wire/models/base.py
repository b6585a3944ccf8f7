"""What the models have in common."""

from __future__ import annotations

from typing import Any, Generic, TypeVar

from pydantic import BaseModel, Field
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema

T = TypeVar("T")


def nullable(description: str | None = None) -> Any:  # noqa: ANN401 - as Pydantic's Field
    """Return a field that may be absent, and may be null."""
    return Field(default_factory=lambda: None, description=description)


class WireSchema(GenerateJsonSchema):
    """Writes the schema of a field whose default is None as one that is absent rather than null.

    Responses leave out such keys; a request may have them as null. A field without a default is always there; see
    ``nullable`` for the rest.
    """

    def default_schema(self, schema: core_schema.WithDefaultSchema) -> JsonSchemaValue:
        """Return the schema of the value alone where the default only stands for an absent key."""
        inner = schema["schema"]
        is_response = self.mode == "serialization"
        if is_response and schema.get("default", ...) is None and inner["type"] == "nullable":
            return self.generate_inner(inner["schema"])
        return super().default_schema(schema)


class PaginationInfo(BaseModel):
    """The page of a list."""

    page: int = Field(description="Number of the page, from 1")
    limit: int = Field(description="Items per page")
    total_pages: int
    total_count: int
    search_time_ms: float = Field(description="Always 0")


class PaginatedResponse(BaseModel, Generic[T]):
    """A page of a list."""

    data: list[T]
    meta: PaginationInfo
