"""Reads multipart forms, and refuses those that Starlette would change: text that is not UTF-8, and half a form."""

from __future__ import annotations

from contextlib import aclosing
from typing import TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser

if TYPE_CHECKING:
    from starlette.datastructures import FormData
    from starlette.requests import Request

_LONGEST_NAME = 200


class _WholeParser(MultiPartParser):
    """Starlette's parser, which would read other text as Latin-1, and leave out a part without an end."""

    is_begun = False
    is_whole = False

    def on_part_begin(self) -> None:
        """Note that there is a part."""
        self.is_begun = True
        super().on_part_begin()

    def on_part_end(self) -> None:
        """Add the part; raise MultiPartException for a field whose text is not UTF-8."""
        part = self._current_part
        if part.file is None:
            try:
                part.data.decode()
            except UnicodeDecodeError:
                raise MultiPartException(not_utf8(part.field_name)) from None
        super().on_part_end()

    def on_end(self) -> None:
        """Note that the last boundary was there."""
        self.is_whole = True


async def read_multipart(request: Request, max_files: float, max_fields: float, max_part_size: int) -> FormData:
    """Return the form; raise HTTPException for a broken one."""
    async with aclosing(request.stream()) as stream:
        parser = _WholeParser(
            request.headers, stream, max_files=max_files, max_fields=max_fields, max_part_size=max_part_size
        )
        try:
            form = await parser.parse()
        except MultiPartException as error:
            raise HTTPException(400, error.message) from None
    if parser.is_begun and not parser.is_whole:
        await form.close()
        raise HTTPException(400, "Invalid multipart data: the last boundary is missing")
    return form


def not_utf8(name: str) -> str:
    """Return the error message for a field whose text is not UTF-8."""
    return f"The form's field {name[:_LONGEST_NAME]!r} is not UTF-8"
