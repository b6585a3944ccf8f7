"""What an agent process gets of the server's environment: what providers' clients read, and nothing of the server."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pydantic_ai
import pytest

from unpause.agents.process.environment import allowed_environment

PACKAGE = Path(pydantic_ai.__file__).parent
# Read elsewhere in the package than by providers and models.
NOT_OF_PROVIDERS = {"COLUMNS", "LOCALAPPDATA"}


def read_in(tree: ast.AST) -> Iterator[str]:
    """Yield the names in ``os.environ["NAME"]``, ``os.environ.get("NAME")`` and ``os.getenv("NAME")``."""
    for node in ast.walk(tree):
        match node:
            case ast.Subscript(value=ast.Attribute(attr="environ"), slice=ast.Constant(value=str(name))):
                yield name
            case ast.Call(
                func=ast.Attribute(attr="get", value=ast.Attribute(attr="environ")) | ast.Attribute(attr="getenv"),
                args=[ast.Constant(value=str(name)), *_],
            ):
                yield name


def names_of_providers() -> set[str]:
    files = [*(PACKAGE / "providers").rglob("*.py"), *(PACKAGE / "models").rglob("*.py")]
    return {name for file in files for name in read_in(ast.parse(file.read_text(encoding="utf-8")))}


def test_every_variable_that_a_provider_of_pydantic_ai_reads_is_passed() -> None:
    names = names_of_providers() - NOT_OF_PROVIDERS
    assert {"GROQ_API_KEY", "MOONSHOTAI_API_KEY"} <= names
    assert names - set(allowed_environment(dict.fromkeys(names, "x"), ())) == set()


@pytest.mark.parametrize(
    "name", ["UNPAUSE_ENCRYPTION_KEY", "DATABASE_URL", "PGPASSWORD", "GITHUB_TOKEN", "AWS", "LD_PRELOAD"]
)
def test_what_is_not_of_a_provider_is_withheld(name: str) -> None:
    assert allowed_environment({name: "x"}, ()) == {}


def test_a_named_variable_is_passed_unless_it_is_the_servers() -> None:
    environment = {"SHOP_KEY": "x", "UNPAUSE_JWT_KEY": "y"}
    assert allowed_environment(environment, environment) == {"SHOP_KEY": "x"}
