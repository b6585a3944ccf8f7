"""The pages in `docs/reference` are those of the code."""

from __future__ import annotations

from tests.docs.reference import FOLDER, reference_pages


def test_the_reference_is_what_the_code_says() -> None:
    written = {file.name: file.read_text(encoding="utf-8") for file in FOLDER.glob("*.md")}
    assert written == reference_pages(), "run: python -m tests.docs.reference"
