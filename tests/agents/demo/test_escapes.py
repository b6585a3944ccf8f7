"""No tool of the demo agent reaches anything outside its workspace, by whatever path or link."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from pydantic_ai import (
    ToolApproved,
)

from tests.agents.demo.calling import call, contents

if TYPE_CHECKING:
    from pathlib import Path


ON_A_PATH: dict[str, dict[str, object]] = {
    "read_file": {},
    "write_file": {"content": "overwritten"},
    "delete_file": {},
    "publish": {},
}


@pytest.mark.parametrize("tool", ON_A_PATH)
class TestEscapes:
    @pytest.mark.parametrize(
        "path",
        [
            "../secret.txt",
            "sub/../../secret.txt",
            "sub/../notes.txt",
            "..",
            "{outside}/secret.txt",
            "file_link",
            "folder_link/secret.txt",
            "folder_link/workspace/notes.txt",
            "loop/x",
            "",
            " ",
            "nul\0byte",
        ],
    )
    async def test_nothing_outside_is_read_or_changed(
        self, workspace: Path, secret: Path, tool: str, path: str
    ) -> None:
        (workspace / "sub").mkdir()
        (workspace / "file_link").symlink_to(secret)
        (workspace / "folder_link").symlink_to(secret.parent)
        (workspace / "loop").symlink_to("loop")
        before = contents(secret.parent)

        ended = await call(workspace, tool, ToolApproved(), path=path.format(outside=secret.parent), **ON_A_PATH[tool])

        assert ended.outcome == "failed"
        assert "Refused" in ended.text or "Failed" in ended.text
        assert contents(secret.parent) == before
        assert (workspace / "file_link").is_symlink()

    async def test_a_link_to_a_new_file_outside_is_not_followed(
        self, workspace: Path, tmp_path: Path, tool: str
    ) -> None:
        (workspace / "link").symlink_to(tmp_path / "new.txt")

        ended = await call(workspace, tool, ToolApproved(), path="link", **ON_A_PATH[tool])

        assert ended.outcome == "failed"
        assert not (tmp_path / "new.txt").exists()


@pytest.mark.parametrize(
    ("folder", "tool", "args"),
    [
        ("published", "publish", {"path": "notes.txt"}),
        ("outbox", "send_report", {"body": "b", "recipient": "ann@example.org", "subject": "s"}),
    ],
)
async def test_a_linked_folder_does_not_lead_the_tools_own_files_outside(
    workspace: Path, tmp_path: Path, folder: str, tool: str, args: dict[str, object]
) -> None:
    (tmp_path / "elsewhere").mkdir()
    (workspace / folder).symlink_to(tmp_path / "elsewhere")

    ended = await call(workspace, tool, ToolApproved(), **args)

    assert ended.outcome == "failed"
    assert contents(tmp_path / "elsewhere") == {}


async def test_a_workspace_behind_a_link_and_named_relatively_works(
    workspace: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "link").symlink_to(workspace)
    monkeypatch.chdir(tmp_path)

    ended = await call((tmp_path / "link").relative_to(tmp_path), "read_file", path="notes.txt")

    assert ended.outcome == "success"


async def test_the_tools_of_two_agents_keep_to_their_own_workspaces(tmp_path: Path) -> None:
    for name in ("one", "two"):
        await call(tmp_path / name, "write_file", ToolApproved(), path="a.txt", content=name)

    assert contents(tmp_path) == {"one": None, "one/a.txt": b"one", "two": None, "two/a.txt": b"two"}
