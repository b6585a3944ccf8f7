"""What is installed is not known to be bad, fits together, and cannot be older than what pyproject.toml allows.

Works without a network. The table holds what matters to a server like this one; it is no substitute for a scanner that
asks a database of advisories, and grows by a row when one is read about.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, distribution, requires, version
from pathlib import Path
from typing import NamedTuple

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

PROJECT = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
# What the server itself may have; the others are for who works on it.
EXTRAS = ("anthropic", "openai", "postgres")


class Bad(NamedTuple):
    """Versions of a package below ``fixed_in`` have the fault of this advisory."""

    package: str
    fixed_in: str
    advisory: str


KNOWN = [
    Bad("certifi", "2024.7.4", "CVE-2024-39689"),
    Bad("cryptography", "44.0.1", "CVE-2024-12797"),
    Bad("cryptography", "46.0.5", "CVE-2026-26007"),
    Bad("cryptography", "46.0.6", "CVE-2026-34073"),
    Bad("cryptography", "46.0.7", "CVE-2026-39892"),
    Bad("fastapi", "0.109.1", "CVE-2024-24762"),
    Bad("filelock", "3.20.1", "CVE-2025-68146"),
    Bad("filelock", "3.20.3", "CVE-2026-22701"),
    Bad("h11", "0.16.0", "CVE-2025-43859"),
    Bad("httpx", "0.23.0", "CVE-2021-41945"),
    Bad("idna", "3.7", "CVE-2024-3651"),
    Bad("idna", "3.15", "CVE-2026-45409"),
    Bad("mako", "1.3.11", "CVE-2026-41205"),
    Bad("mako", "1.3.12", "CVE-2026-44307"),
    Bad("pydantic", "2.4.0", "CVE-2024-3772"),
    Bad("pydantic-ai-slim", "1.56.0", "GHSA-2jrp-274c-jhv3"),
    Bad("pydantic-ai-slim", "2.0.0", "GHSA-cg7w-rg45-pc59"),
    Bad("pyjwt", "2.4.0", "CVE-2022-29217"),
    Bad("pyjwt", "2.10.1", "CVE-2024-53861"),
    Bad("pyjwt", "2.12.0", "CVE-2026-32597"),
    Bad("pyjwt", "2.13.0", "CVE-2026-48526"),
    Bad("python-dotenv", "1.2.2", "CVE-2026-28684"),
    Bad("python-multipart", "0.0.18", "CVE-2024-53981"),
    Bad("python-multipart", "0.0.22", "CVE-2026-24486"),
    Bad("python-multipart", "0.0.26", "CVE-2026-40347"),
    Bad("python-multipart", "0.0.27", "CVE-2026-42561"),
    Bad("starlette", "0.40.0", "CVE-2024-47874"),
    Bad("starlette", "0.47.2", "CVE-2025-54121"),
    Bad("starlette", "0.49.1", "CVE-2025-62727"),
    Bad("starlette", "1.0.1", "CVE-2026-48710"),
    Bad("uvicorn", "0.11.7", "CVE-2020-7694"),
]


def required_by(name: str, extras: frozenset[str] = frozenset()) -> Iterator[Requirement]:
    """Yield what a package needs here, with these of its extras."""
    own = [*PROJECT["dependencies"], *(text for extra in EXTRAS for text in PROJECT["optional-dependencies"][extra])]
    for text in own if name == "unpause" else requires(name) or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield requirement


def needed() -> dict[str, list[Requirement]]:
    """Return what the server needs, directly or not, with its extras for databases and models as they are installed."""
    found: dict[str, list[Requirement]] = {}
    todo = [("unpause", frozenset({""}))]
    seen = set(todo)
    while todo:
        name, extras = todo.pop()
        for requirement in required_by(name, extras):
            own = canonicalize_name(requirement.name)
            found.setdefault(own, []).append(requirement)
            step = (own, frozenset({*requirement.extras, ""}))
            if step not in seen and is_installed(own):
                seen.add(step)
                todo.append(step)
    return found


def is_installed(name: str) -> bool:
    try:
        distribution(name)
    except PackageNotFoundError:
        return False
    return True


def lower_bound(requirement: Requirement) -> Version | None:
    bounds = [Version(one.version) for one in requirement.specifier if one.operator in {">=", "~="}]
    return max(bounds, default=None)


@pytest.mark.parametrize("bad", KNOWN, ids=lambda bad: f"{bad.package} {bad.advisory}")
def test_no_version_is_installed_that_is_known_to_be_bad(bad: Bad) -> None:
    assert Version(version(bad.package)) >= Version(bad.fixed_in)


def test_every_row_of_the_table_is_about_something_that_is_needed() -> None:
    assert {bad.package for bad in KNOWN} <= needed().keys()
    assert len({bad.advisory for bad in KNOWN}) == len(KNOWN)


def test_no_requirement_of_our_own_allows_a_version_that_is_known_to_be_bad() -> None:
    own = [Requirement(text) for text in PROJECT["dependencies"]]
    own += [Requirement(text) for texts in PROJECT["optional-dependencies"].values() for text in texts]
    checked = 0
    for requirement in own:
        name = canonicalize_name(requirement.name)
        lowest = lower_bound(requirement)
        assert name == "unpause" or lowest is not None, f"{name} may be of any age"
        for bad in KNOWN:
            if bad.package == name and lowest is not None:
                checked += 1
                assert lowest >= Version(bad.fixed_in), f"{requirement} allows {bad.advisory}"
    assert checked >= 10


def test_the_framework_that_fastapi_brings_cannot_be_so_old_that_it_is_bad() -> None:
    bounds = [lowest for each in needed()["starlette"] if (lowest := lower_bound(each)) is not None]
    assert max(bounds) >= max(Version(bad.fixed_in) for bad in KNOWN if bad.package == "starlette")


def test_what_is_installed_fits_together() -> None:
    found = needed()
    assert len(found) > 30
    optional = {canonicalize_name(name) for name in ("anthropic",)}
    for name, requirements in found.items():
        if not is_installed(name):
            assert name in optional, f"{name} is not installed"
            continue
        for requirement in requirements:
            assert requirement.specifier.contains(version(name), prereleases=True), f"{requirement}: {version(name)}"
