"""The documents are true: their commands run, their links lead somewhere, and what they install exists."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Final

import pytest

from tests.contract.captures import load_captures
from tests.docs.commands import preloaded_unpause
from tests.docs.pages import Page, all_pages
from tests.docs.running import run_page
from tests.support.client_environments import ROOT

PAGES: Final = all_pages()
# What they execute takes hours: `test_performance.py` looks at it.
_EXAMINED_ELSEWHERE: Final = {"docs/explanation/performance.md"}
EXECUTED: Final = [
    page
    for page in PAGES
    if page.name not in _EXAMINED_ELSEWHERE and any(block.not_run is None for block in page.blocks)
]
# Seconds each, of starting servers. What they show has tests of its own elsewhere.
_SLOW: Final = {"docs/tutorial.md"} | {
    f"docs/how-to/{name}.md"
    for name in (
        *("ag-ui", "agent-processes", "agentos-front-end", "audit", "backup", "codegen-client", "command-line"),
        *("external-tools", "many-nodes", "mount", "notifications", "one-machine", "remember", "retention"),
        *("setup-commands", "structured-output", "test-your-agents", "tokens", "upgrade", "webhooks", "who-decides"),
    )
}
# With the program `unpause` itself, which takes seconds of loading each time.
_AS_INSTALLED: Final = "README.md"
# The PostgreSQL of the documents.
POSTGRES: Final = "postgresql+psycopg://unpause:secret@db.example/unpause"
_PROGRAMS: Final = ("bash", "curl", "sqlite3")


@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, id=page.name, marks=[pytest.mark.full] if page.name in _SLOW else []) for page in EXECUTED],
)
def test_a_page_does_what_it_says(page: Page, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    programs = (*_PROGRAMS, "node") if "```javascript" in page.text else _PROGRAMS
    missing = [program for program in programs if shutil.which(program) is None]
    if missing:
        pytest.skip(f"this machine has no {', '.join(missing)}")
    replaced = {POSTGRES: request.getfixturevalue("postgres_url")} if POSTGRES in page.text else {}
    if page.name == _AS_INSTALLED:
        run_page(page, tmp_path, replaced)
        return
    # A path that a socket can have.
    with TemporaryDirectory() as folder, preloaded_unpause(Path(folder)) as commands:
        run_page(page, tmp_path, replaced, commands)


def test_a_link_leads_to_a_file_and_to_a_heading_in_it() -> None:
    broken = [f"{page.name}: {link}" for page in PAGES for link in page.links if not _leads_somewhere(page, link)]
    assert not broken


def _leads_somewhere(page: Page, link: str) -> bool:
    if link.startswith("https://"):
        return True
    file, _, anchor = link.partition("#")
    target = (page.path.parent / file).resolve() if file else page.path
    if not target.exists() or not target.is_relative_to(ROOT):
        return False
    return not anchor or anchor in Page(target).anchors


def test_a_file_of_the_repository_that_a_page_names_is_there() -> None:
    named = re.compile(r"`((?:src|tests|docs|openapi|migrations|\.ci|\.github)/[\w./-]*)`")
    missing = [
        f"{page.name}: {path}" for page in PAGES for path in named.findall(page.text) if not (ROOT / path).exists()
    ]
    assert not missing


def test_every_document_is_in_the_list_of_documents() -> None:
    listed = {(ROOT / "docs" / link.partition("#")[0]).resolve() for link in Page(ROOT / "docs/README.md").links}
    documents = {page.path for page in PAGES if page.path.is_relative_to(ROOT / "docs")}
    assert documents - listed == {ROOT / "docs/README.md"}


def test_the_map_of_the_tests_has_each_folder() -> None:
    text = Page(ROOT / ".github/CONTRIBUTING.md").text
    listed = {
        name for row in re.findall(r"^\| (`tests/[^|]*) \|", text, re.MULTILINE) for name in re.findall(r"\w+", row)
    }
    assert listed - {"tests"} == {file.parent.name for file in ROOT.glob("tests/*/*.py")}


def test_a_block_that_no_test_runs_says_why() -> None:
    for page in PAGES:
        for block in page.blocks:
            assert block.not_run is None or len(block.not_run) > len("no reason"), f"{page.name}:{block.line}"


def test_extras_that_a_page_installs_exist() -> None:
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    installed = {
        extra.strip()
        for page in PAGES
        for names in re.findall(r"pip install [^\n]*'\.\[([\w, ]+)\]", page.text)
        for extra in names.split(",")
    }
    assert "openai" in installed
    assert installed <= extras.keys()


@pytest.mark.full
@pytest.mark.timeout(900)
def test_the_tutorial_works_with_what_it_installs(tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    subprocess.run([sys.executable, "-m", "venv", environment], check=True)
    subprocess.run(
        [environment / "bin/pip", "install", "--quiet", f"{ROOT}[openai]", "pytest", "pytest-asyncio"], check=True
    )
    folder = tmp_path / "project"
    folder.mkdir()
    run_page(Page(ROOT / "docs/tutorial.md"), folder, {}, environment / "bin")


def test_captures_that_the_contract_names_exist() -> None:
    text = Page(ROOT / "docs/contracts/agentos.md").text
    named = {number for row in re.findall(r"^\|.*\| ([r\d ]+) \|$", text, re.MULTILINE) for number in row.split()}
    assert len(named) > 30
    assert named <= load_captures().by_number.keys()


def test_ci_runs_on_every_python_that_the_package_supports() -> None:
    classifiers = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
    supported = [name.rpartition(" ")[2] for name in classifiers if re.search(r":: 3\.\d+$", name)]
    workflow = (ROOT / ".github/workflows/ci.yml").read_text()
    listed = ", ".join(f'"{version}"' for version in supported)
    assert f"python: [{listed}]" in workflow
