"""The demo agent's tools: they work on the files of one folder.

Nothing outside of it is read or changed: absolute paths, `..` and links are refused. A process that swaps a folder
for a link between the check and the use is not guarded against; the workspace is the user's.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count, islice
from typing import TYPE_CHECKING, Final

from pydantic_ai.exceptions import ToolFailed

from unpause.errors import InvalidSetting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# Of a file that is read or written.
MAX_FILE_BYTES: Final = 64 * 1024
MAX_LISTED_FILES: Final = 500

# Only `send_report` and `publish` fill these: a confirmed write must not publish what no administrator has approved.
_OUTBOX: Final = "outbox"
_PUBLISHED: Final = "published"

_SAMPLES: Final = (
    ("notes.txt", "Shopping: bread, apples, coffee.\nCall the printer about the new labels.\n"),
    ("budget.csv", "month,planned,spent\nJanuary,1200,1130\nFebruary,1200,1265\n"),
    ("old.log", "09:00 started\n09:01 nothing to do\n09:02 stopped\n"),
)


def prepare_workspace(folder: Path) -> None:
    """Create the folder with three small sample files; leave a folder that exists as it is.

    Raises InvalidSetting if something else has that name, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True)
        for name, text in _SAMPLES:
            (folder / name).write_bytes(text.encode())
    except FileExistsError:
        if not folder.is_dir():
            raise InvalidSetting(f"the workspace {folder} is not a folder") from None
    except OSError as error:
        raise InvalidSetting(f"the workspace {folder} cannot be made: {error.strerror}") from None


@dataclass(frozen=True)
class Workspace:
    """The tools on one folder; `root` must be absolute and free of links.

    A tool returns text for the model, and raises `ToolFailed` for a path that is refused or an error of the file
    system. No text names a path outside of the workspace.
    """

    root: Path

    def list_files(self) -> str:
        """List the files of the workspace with their sizes, one a line."""
        with _failing("cannot list the files"):
            files = (place for place in self.root.rglob("*") if place.is_file() and not place.is_symlink())
            places = sorted(islice(files, MAX_LISTED_FILES + 1))
            lines = [f"{self._name(place)} ({place.stat().st_size} bytes)" for place in places]
        if len(lines) > MAX_LISTED_FILES:
            lines[MAX_LISTED_FILES:] = [f"There are more than these {MAX_LISTED_FILES} files."]
        return "\n".join(lines) or "The workspace is empty."

    def read_file(self, path: str) -> str:
        """Return the text of a file."""
        with _failing(f"cannot read {path}"), self._find_file(path).open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
            _refuse_if(len(content) > MAX_FILE_BYTES, f"{path} is larger than {MAX_FILE_BYTES} bytes")
            return content.decode()

    def write_file(self, path: str, content: str) -> str:
        """Create a file with this content, and missing folders, or replace all that the file holds."""
        with _failing(f"cannot write {path}"):
            place, data = self._place(path, changes=True), content.encode()
            _refuse_if(len(data) > MAX_FILE_BYTES, f"the text is larger than {MAX_FILE_BYTES} bytes")
            existed = place.exists()
            _refuse_if(existed and not place.is_file(), f"{path} is not a file")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return f"{'Overwrote' if existed else 'Created'} {self._name(place)} ({len(data)} bytes)."

    def delete_file(self, path: str) -> str:
        """Delete a file. It cannot be brought back."""
        with _failing(f"cannot delete {path}"):
            place = self._find_file(path, changes=True)
            place.unlink()
        return f"Deleted {self._name(place)}."

    def send_report(self, body: str, recipient: str, subject: str) -> str:
        """Send a report by mail to an address: it is put into the outbox folder."""
        for name, value in (("recipient", recipient), ("subject", subject)):
            # A line break would let the value add header lines of its own.
            _refuse_if(not value.strip() or not value.isprintable(), f"the {name} must be one line of text")
        head = f"To: {recipient.strip()}\nSubject: {subject.strip()}\n"
        head += "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n"
        with _failing("cannot write the report"):
            place = self._new_report(f"{head}{body}\n".encode())
        return f"Put the report “{subject.strip()}” for {recipient.strip()} into {self._name(place)}."

    def publish(self, path: str) -> str:
        """Publish a file: copy it, under the same name, into the folder of published files."""
        with _failing(f"cannot publish {path}"):
            source = self._find_file(path, changes=True)
            target = self._place(f"{_PUBLISHED}/{self._name(source)}")
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target, follow_symlinks=False)
        return f"Published {self._name(source)} as {self._name(target)}."

    def _place(self, path: str, *, changes: bool = False) -> Path:
        """Return where the path is, whether or not it exists; refuse what could lead out of the workspace."""
        place = self.root / path
        # Its real path differs where a link or `..` is on the way.
        inside = path.strip() and place.is_relative_to(self.root) and os.path.realpath(place) == str(place)
        _refuse_if(not inside, f"{path!r} is not a path inside the workspace, or goes through a link")
        reserved = self._name(place).casefold().split("/")[0] in {_OUTBOX, _PUBLISHED}
        _refuse_if(changes and reserved, f"only send_report and publish fill {_OUTBOX} and {_PUBLISHED}")
        return place

    def _find_file(self, path: str, *, changes: bool = False) -> Path:
        place = self._place(path, changes=changes)
        _refuse_if(not place.exists(), f"there is no file {path} in the workspace")
        _refuse_if(not place.is_file(), f"{path} is not a file")
        return place

    def _new_report(self, content: bytes) -> Path:
        """Write under the first free number, so that no report is ever overwritten."""
        numbers = count(1)
        while True:
            place = self._place(f"{_OUTBOX}/report-{next(numbers):03}.eml")
            place.parent.mkdir(exist_ok=True)
            try:
                with place.open("xb") as file:
                    file.write(content)
            except FileExistsError:
                continue
            return place

    def _name(self, place: Path) -> str:
        return place.relative_to(self.root).as_posix()


def _refuse_if(condition: bool, reason: str) -> None:  # noqa: FBT001 - the condition itself
    if condition:
        raise ToolFailed(f"Refused: {reason}.")


@contextmanager
def _failing(what: str) -> Iterator[None]:
    """Turn an error of the file system into text that does not show where the workspace is."""
    try:
        yield
    except UnicodeError:
        raise ToolFailed(f"Failed: {what}: not a text file.") from None
    except (OSError, ValueError) as error:
        # A ValueError is a name that Python refuses, such as one with a null byte.
        raise ToolFailed(f"Failed: {what}: {getattr(error, 'strerror', None) or 'the name is not valid'}.") from error
