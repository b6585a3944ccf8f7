"""Which folder is a repository's checkout, and how much of it a model is told."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unpause.agents.setup.checkout import describe_checkout, find_checkout


def test_the_checkout_is_the_folder_named_after_the_repository(tmp_path: Path) -> None:
    (tmp_path / "12").mkdir()
    assert find_checkout(tmp_path, 12) == (tmp_path / "12").resolve()


def test_a_root_may_be_given_through_a_link_or_relative(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "real" / "12").mkdir(parents=True)
    (tmp_path / "root").symlink_to("real")
    monkeypatch.chdir(tmp_path)
    assert find_checkout(Path("root"), 12) == (tmp_path / "real" / "12").resolve()


def test_a_link_inside_the_root_is_followed(tmp_path: Path) -> None:
    (tmp_path / "7").mkdir()
    (tmp_path / "12").symlink_to("7")
    assert find_checkout(tmp_path, 12) == (tmp_path / "7").resolve()


@pytest.mark.parametrize("target", ["..", "../outside", ".", "12", "missing"])
def test_a_link_that_leads_elsewhere_is_no_checkout(tmp_path: Path, target: str) -> None:
    root = tmp_path / "root"
    root.mkdir()
    (tmp_path / "outside").mkdir()
    (root / "12").symlink_to(target)
    assert find_checkout(root, 12) is None


def test_a_file_or_nothing_is_no_checkout(tmp_path: Path) -> None:
    (tmp_path / "12").write_text("a file", encoding="utf-8")
    assert find_checkout(tmp_path, 12) is None
    assert find_checkout(tmp_path, 13) is None
    assert find_checkout(tmp_path / "no-root", 12) is None


@pytest.mark.parametrize("number", [-1, 2**63, 10**400])
def test_a_number_that_no_repository_can_have_is_no_checkout(tmp_path: Path, number: int) -> None:
    (tmp_path / "-1").mkdir()
    (tmp_path / str(2**63)).mkdir()
    assert find_checkout(tmp_path, number) is None


def test_the_description_has_the_names_and_the_beginnings_of_what_tells_most(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("Run `make`.\n", encoding="utf-8")
    (tmp_path / "secrets.txt").write_text("hush", encoding="utf-8")
    (tmp_path / "web" / "src").mkdir(parents=True)
    (tmp_path / "web" / "package.json").write_text('{"name": "web"}', encoding="utf-8")
    (tmp_path / "node_modules" / "left").mkdir(parents=True)
    described = describe_checkout(tmp_path)
    names, *contents = described.split("\n\n")
    assert names.splitlines() == [
        *("Files:", "README.md", "secrets.txt", "node_modules/", "web/", "web/package.json", "web/src/")
    ]
    assert contents == ["README.md:\nRun `make`.", 'web/package.json:\n{"name": "web"}']
    assert "hush" not in described


def test_links_are_named_and_not_read(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret").write_text("hush", encoding="utf-8")
    checkout = tmp_path / "12"
    checkout.mkdir()
    (checkout / "README").symlink_to(outside / "secret")
    (checkout / "docs").symlink_to(outside)
    assert describe_checkout(checkout) == "Files:\nREADME\ndocs"


def test_a_pipe_with_a_telling_name_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "Makefile")
    assert describe_checkout(tmp_path) == "Files:\nMakefile"


def test_the_description_is_bounded_whatever_the_checkout_holds(tmp_path: Path) -> None:
    for number in range(500):
        (tmp_path / f"requirements-{number:03}.txt").write_text("x" * 100_000, encoding="utf-8")
    described = describe_checkout(tmp_path)
    assert "… and more" in described
    assert len(described) < 70_000


def test_deep_folders_are_named_and_not_entered(tmp_path: Path) -> None:
    (tmp_path / "a" / "b" / "c" / "d").mkdir(parents=True)
    (tmp_path / "a" / "b" / "c" / "file").touch()
    (tmp_path / "a" / "b" / "c" / "d" / "file").touch()
    assert describe_checkout(tmp_path).splitlines() == ["Files:", "a/", "a/b/", "a/b/c/", "a/b/c/file", "a/b/c/d/"]


def test_names_and_contents_that_are_no_text_are_marked(tmp_path: Path) -> None:
    (tmp_path / os.fsdecode(b"na\xffme")).touch()
    (tmp_path / "README").write_bytes(b"a\xff\x00b")
    described = describe_checkout(tmp_path)
    assert "na\ufffdme" in described
    assert described.endswith("README:\na\ufffd\ufffdb")


def test_an_empty_checkout_says_so(tmp_path: Path) -> None:
    assert describe_checkout(tmp_path) == "Files:\nnone"
