"""The demo agent's tools really change the workspace, and nothing but the workspace."""

from __future__ import annotations

import errno
from typing import TYPE_CHECKING

import pytest
from pydantic_ai import (
    ToolApproved,
    ToolDenied,
)

from tests.agents.demo.calling import call, contents
from unpause.agents.demo.workspace import MAX_FILE_BYTES, MAX_LISTED_FILES, prepare_workspace
from unpause.errors import InvalidSetting

if TYPE_CHECKING:
    from pathlib import Path


class TestPrepareWorkspace:
    def test_a_new_workspace_holds_three_small_files(self, tmp_path: Path) -> None:
        prepare_workspace(tmp_path / "deep" / "workspace")

        found = contents(tmp_path / "deep" / "workspace")
        assert len(found) == 3
        assert all(content for content in found.values())

    def test_an_existing_workspace_is_left_alone(self, workspace: Path) -> None:
        (workspace / "notes.txt").write_text("mine")
        (workspace / "old.log").unlink()
        before = contents(workspace)

        prepare_workspace(workspace)

        assert contents(workspace) == before

    def test_an_empty_folder_of_the_user_stays_empty(self, tmp_path: Path) -> None:
        prepare_workspace(tmp_path)

        assert contents(tmp_path) == {}

    def test_a_file_in_the_workspaces_place_is_an_error(self, tmp_path: Path) -> None:
        (tmp_path / "workspace").write_text("a file")

        with pytest.raises(InvalidSetting, match="not a folder"):
            prepare_workspace(tmp_path / "workspace")

    def test_a_folder_that_cannot_be_made_is_an_error_that_says_why(self, tmp_path: Path) -> None:
        (tmp_path / "file").write_text("a file")

        with pytest.raises(InvalidSetting, match="file/workspace cannot be made: Not a directory"):
            prepare_workspace(tmp_path / "file" / "workspace")


class TestListing:
    async def test_the_files_are_listed_with_their_sizes(self, workspace: Path) -> None:
        (workspace / "sub").mkdir()
        (workspace / "sub" / "ä.txt").write_text("abc")

        ended = await call(workspace, "list_files")

        assert ended.outcome == "success"
        names = [line.split(" (")[0] for line in ended.text.splitlines()]
        assert names == ["budget.csv", "notes.txt", "old.log", "sub/ä.txt"]
        assert "sub/ä.txt (3 bytes)" in ended.text

    async def test_an_empty_workspace_says_so(self, tmp_path: Path) -> None:
        assert (await call(tmp_path, "list_files")).text == "The workspace is empty."

    async def test_what_lies_behind_links_is_not_listed(self, workspace: Path, secret: Path) -> None:
        (workspace / "file_link").symlink_to(secret)
        (workspace / "folder_link").symlink_to(secret.parent)

        text = (await call(workspace, "list_files")).text

        assert "link" not in text
        assert "secret" not in text

    async def test_a_long_list_is_cut(self, tmp_path: Path) -> None:
        for number in range(MAX_LISTED_FILES + 1):
            (tmp_path / f"{number}.txt").touch()

        lines = (await call(tmp_path, "list_files")).text.splitlines()

        assert len(lines) == MAX_LISTED_FILES + 1
        assert lines[-1] == f"There are more than these {MAX_LISTED_FILES} files."


class TestReading:
    async def test_reading_gives_the_text_without_a_pause(self, workspace: Path) -> None:
        (workspace / "notes.txt").write_bytes("grüße\r\n".encode())

        ended = await call(workspace, "read_file", path="notes.txt")

        assert (ended.outcome, ended.text, ended.paused) == ("success", "grüße\r\n", None)

    async def test_a_file_of_the_largest_size_is_read(self, workspace: Path) -> None:
        (workspace / "big.txt").write_bytes(b"a" * MAX_FILE_BYTES)

        assert len((await call(workspace, "read_file", path="big.txt")).text) == MAX_FILE_BYTES

    async def test_a_larger_file_is_refused(self, workspace: Path) -> None:
        (workspace / "big.txt").write_bytes(b"a" * (MAX_FILE_BYTES + 1))

        ended = await call(workspace, "read_file", path="big.txt")

        assert ended.outcome == "failed"
        assert "larger than" in ended.text

    @pytest.mark.parametrize(
        ("path", "words"), [("none.txt", "no file"), ("folder", "not a file"), ("bytes", "not a text file")]
    )
    async def test_what_is_no_text_file_is_refused(self, workspace: Path, path: str, words: str) -> None:
        (workspace / "folder").mkdir()
        (workspace / "bytes").write_bytes(b"\xff\xfe")

        ended = await call(workspace, "read_file", path=path)

        assert ended.outcome == "failed"
        assert words in ended.text


class TestDeleting:
    async def test_an_unanswered_delete_leaves_the_file(self, workspace: Path) -> None:
        ended = await call(workspace, "delete_file", path="notes.txt")

        assert ended.paused is not None
        assert [part.args for part in ended.paused.approvals] == [{"path": "notes.txt"}]
        assert (workspace / "notes.txt").exists()

    async def test_a_confirmed_delete_removes_the_file_and_no_other(self, workspace: Path) -> None:
        expected = contents(workspace)
        del expected["notes.txt"]

        ended = await call(workspace, "delete_file", ToolApproved(), path="notes.txt")

        assert (ended.outcome, ended.text) == ("success", "Deleted notes.txt.")
        assert contents(workspace) == expected

    async def test_a_denied_delete_leaves_the_file(self, workspace: Path) -> None:
        before = contents(workspace)

        ended = await call(workspace, "delete_file", ToolDenied("keep it"), path="notes.txt")

        assert (ended.outcome, ended.text) == ("denied", "keep it")
        assert contents(workspace) == before

    async def test_deleting_what_is_not_there_fails_in_plain_words(self, workspace: Path) -> None:
        ended = await call(workspace, "delete_file", ToolApproved(), path="none.txt")

        assert (ended.outcome, ended.text) == ("failed", "Refused: there is no file none.txt in the workspace.")

    async def test_a_folder_is_not_deleted(self, workspace: Path) -> None:
        (workspace / "folder").mkdir()

        assert (await call(workspace, "delete_file", ToolApproved(), path="folder")).outcome == "failed"
        assert (workspace / "folder").is_dir()

    async def test_what_the_file_system_refuses_is_said_without_the_place_of_the_workspace(
        self, workspace: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path, *_: object, **__: object) -> None:
            raise PermissionError(errno.EACCES, "Permission denied", str(path))

        monkeypatch.setattr("pathlib.Path.unlink", refuse)

        ended = await call(workspace, "delete_file", ToolApproved(), path="notes.txt")

        assert ended.text == "Failed: cannot delete notes.txt: Permission denied."


class TestWriting:
    async def test_an_unanswered_write_changes_nothing(self, workspace: Path) -> None:
        before = contents(workspace)

        ended = await call(workspace, "write_file", path="new.txt", content="hello")

        assert ended.paused is not None
        assert contents(workspace) == before

    async def test_a_confirmed_write_creates_the_file_and_its_folders(self, workspace: Path) -> None:
        ended = await call(workspace, "write_file", ToolApproved(), path="a/b/new.txt", content="grüße\n")

        assert ended.text == "Created a/b/new.txt (8 bytes)."
        assert (workspace / "a/b/new.txt").read_bytes() == "grüße\n".encode()

    async def test_a_confirmed_write_replaces_all_that_a_file_held(self, workspace: Path) -> None:
        ended = await call(workspace, "write_file", ToolApproved(), path="notes.txt", content="x")

        assert ended.text == "Overwrote notes.txt (1 bytes)."
        assert (workspace / "notes.txt").read_bytes() == b"x"

    @pytest.mark.parametrize("path", ["folder", "notes.txt/inside.txt", ".", "n" * 300])
    async def test_a_place_that_can_hold_no_file_is_refused(self, workspace: Path, path: str) -> None:
        (workspace / "folder").mkdir()
        before = contents(workspace)

        ended = await call(workspace, "write_file", ToolApproved(), path=path, content="x")

        assert ended.outcome == "failed"
        assert contents(workspace) == before

    async def test_a_text_too_large_to_be_read_back_is_refused(self, workspace: Path) -> None:
        before = contents(workspace)

        ended = await call(
            workspace, "write_file", ToolApproved(), path="big.txt", content="ä" * (MAX_FILE_BYTES // 2 + 1)
        )

        assert ended.outcome == "failed"
        assert contents(workspace) == before


class TestReports:
    async def test_a_report_is_written_for_the_users_recipient(self, workspace: Path) -> None:
        ended = await call(
            workspace, "send_report", body="All fine.\nÄ. B.", recipient="ann@example.org", subject="Grüße"
        )

        assert ended.outcome == "success"
        assert "ann@example.org" in ended.text
        head, body = (workspace / "outbox/report-001.eml").read_text(encoding="utf-8").split("\n\n", 1)
        assert head.splitlines()[:2] == ["To: ann@example.org", "Subject: Grüße"]
        assert body == "All fine.\nÄ. B.\n"

    async def test_a_second_report_does_not_replace_the_first(self, workspace: Path) -> None:
        for subject in ("one", "two"):
            await call(workspace, "send_report", body="b", recipient="ann@example.org", subject=subject)

        reports = sorted((workspace / "outbox").iterdir())
        assert [report.name for report in reports] == ["report-001.eml", "report-002.eml"]
        assert "Subject: one\n" in reports[0].read_text()

    @pytest.mark.parametrize(
        ("recipient", "subject"),
        [("ann@example.org\nBcc: eve@example.org", "s"), ("ann@example.org", "s\r\nX: y"), (" ", "s"), ("a", "")],
    )
    async def test_a_header_that_is_not_one_line_is_refused(
        self, workspace: Path, recipient: str, subject: str
    ) -> None:
        ended = await call(workspace, "send_report", body="b", recipient=recipient, subject=subject)

        assert ended.outcome == "failed"
        assert not (workspace / "outbox").exists()


class TestShell:
    async def test_a_command_waits_for_the_client_to_run_it(self, workspace: Path) -> None:
        before = contents(workspace)

        ended = await call(workspace, "run_shell", command="rm notes.txt")

        assert ended.paused is not None
        assert ended.paused.approvals == []
        assert [part.args for part in ended.paused.calls] == [{"command": "rm notes.txt"}]
        assert contents(workspace) == before

    async def test_the_model_gets_the_result_that_the_client_brings(self, workspace: Path) -> None:
        ended = await call(workspace, "run_shell", "3 files", command="ls")

        assert (ended.outcome, ended.text) == ("success", "3 files")


class TestPublishing:
    async def test_an_approved_file_is_copied(self, workspace: Path) -> None:
        (workspace / "docs").mkdir()
        (workspace / "docs/a.bin").write_bytes(b"\x00\xff")

        ended = await call(workspace, "publish", ToolApproved(), path="docs/a.bin")

        assert ended.text == "Published docs/a.bin as published/docs/a.bin."
        assert (workspace / "published/docs/a.bin").read_bytes() == b"\x00\xff"
        assert (workspace / "docs/a.bin").exists()

    async def test_a_file_that_is_not_approved_is_not_copied(self, workspace: Path) -> None:
        before = contents(workspace)

        assert (await call(workspace, "publish", path="notes.txt")).paused is not None
        assert (await call(workspace, "publish", ToolDenied("no"), path="notes.txt")).outcome == "denied"
        assert contents(workspace) == before

    @pytest.mark.parametrize("path", ["published/evil.txt", "./published/evil.txt", "Published/evil.txt"])
    async def test_a_confirmed_write_cannot_publish_past_the_administrator(self, workspace: Path, path: str) -> None:
        before = contents(workspace)

        ended = await call(workspace, "write_file", ToolApproved(), path=path, content="x")

        assert ended.outcome == "failed"
        assert contents(workspace) == before

    async def test_a_published_file_is_not_deleted_by_a_confirmation(self, workspace: Path) -> None:
        await call(workspace, "publish", ToolApproved(), path="notes.txt")

        assert (await call(workspace, "delete_file", ToolApproved(), path="published/notes.txt")).outcome == "failed"
        assert (workspace / "published/notes.txt").exists()
