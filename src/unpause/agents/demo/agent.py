"""The demo agent: tools on a workspace folder, one for each way in which a run can pause.

Nothing outside the workspace is read or changed: absolute paths, `..` and links are refused. A process that
swaps a folder for a link between the check and the use is not guarded against; the workspace is the user's.
"""

from __future__ import annotations

import os
import shutil
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Final

from pydantic_ai import Agent, Tool, ToolDefinition
from pydantic_ai.exceptions import ToolFailed
from pydantic_ai.toolsets import ExternalToolset

from unpause.agents.demo.model import DemoModel
from unpause.agents.policy import policy

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from pydantic_ai.models import Model

MAX_FILE_BYTES: Final = 64 * 1024
"""The largest file that is read or written."""

MAX_LISTED_FILES: Final = 500

OUTBOX: Final = "outbox"
PUBLISHED: Final = "published"

_INSTRUCTIONS: Final = """\
You work on the files of one workspace folder, with the tools given. Paths are relative to it.
Some calls pause until a person has answered; call the tool without asking for permission first.
When a call was declined, do not repeat it: say what was not done, and follow the person's note.
Say plainly what was done and what failed."""

_SAMPLES: Final[Mapping[str, str]] = MappingProxyType(
    {
        "notes.txt": "Shopping: bread, apples, coffee.\nCall the printer about the new labels.\n",
        "budget.csv": "month,planned,spent\nJanuary,1200,1130\nFebruary,1200,1265\n",
        "old.log": "09:00 started\n09:01 nothing to do\n09:02 stopped\n",
    },
)

_RUN_SHELL: Final = ToolDefinition(
    name="run_shell",
    description="Run a shell command on the user's own machine and return what it printed.",
    parameters_json_schema={
        "type": "object",
        "properties": {"command": {"type": "string", "description": "The command line to run."}},
        "required": ["command"],
        "additionalProperties": False,
    },
)


def prepare_workspace(folder: Path) -> None:
    """Create the folder with three small sample files; leave a folder that exists as it is.

    Raises `NotADirectoryError` if something else has that name.
    """
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        if not folder.is_dir():
            message = f"the workspace {folder} is not a folder"
            raise NotADirectoryError(message) from None
        return
    for name, text in _SAMPLES.items():
        (folder / name).write_bytes(text.encode())


def build_demo_agent(workspace: Path, model: Model | str | None) -> Agent[None, str]:
    """Return the agent `files`, whose tools work on `workspace`.

    Without a model it is the demo model, which needs no key. A model's name that Pydantic AI does not know,
    or whose key is missing, raises `pydantic_ai.exceptions.UserError`.
    """
    files = Workspace(workspace.resolve())
    return Agent(
        DemoModel() if model is None else model,
        name="files",
        instructions=_INSTRUCTIONS,
        tools=[
            Tool(files.list_files, metadata=policy(idempotent=True)),
            Tool(files.read_file, metadata=policy(idempotent=True)),
            Tool(files.write_file, requires_approval=True),
            Tool(files.delete_file, requires_approval=True),
            Tool(files.send_report, metadata=policy(user_input=["recipient", "subject"])),
            Tool(files.publish, requires_approval=True, metadata=policy(approval="required")),
        ],
        toolsets=[ExternalToolset([_RUN_SHELL], id="shell")],
    )


@dataclass(frozen=True)
class Workspace:
    """The tools on one folder; `root` must be absolute and free of links.

    Every method is a tool: it returns words for the model, and raises `ToolFailed` with words for the model
    when the path is refused or the file system says no. The words name no path outside the workspace.
    """

    root: Path

    def list_files(self) -> str:
        """List the files of the workspace with their sizes, one a line."""
        with _plain_failure("cannot list the files"):
            places = sorted(islice(_regular_files(self.root), MAX_LISTED_FILES + 1))
            lines = [f"{self._shown(place)} ({place.stat().st_size} bytes)" for place in places]
        if not lines:
            return "The workspace is empty."
        if len(lines) > MAX_LISTED_FILES:
            lines[MAX_LISTED_FILES:] = [f"There are more than these {MAX_LISTED_FILES} files."]
        return "\n".join(lines)

    def read_file(self, path: str) -> str:
        """Return the text of a file.

        Args:
            path: The file, relative to the workspace.
        """
        place = self._existing_file(path)
        with _plain_failure(f"cannot read {path}"), place.open("rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
        _refuse_if(len(content) > MAX_FILE_BYTES, f"{path} is larger than {MAX_FILE_BYTES} bytes")
        try:
            return content.decode()
        except UnicodeDecodeError as error:
            message = f"{path} is not a text file"
            raise ToolFailed(message) from error

    def write_file(self, path: str, content: str) -> str:
        """Create a file, or replace all that it holds.

        Args:
            path: The file, relative to the workspace. Missing folders are created.
            content: The whole new text of the file.
        """
        place = self._changeable(path)
        data = content.encode()
        _refuse_if(len(data) > MAX_FILE_BYTES, f"the text is larger than {MAX_FILE_BYTES} bytes")
        existed = place.exists()
        _refuse_if(existed and not place.is_file(), f"{path} is not a file")
        with _plain_failure(f"cannot write {path}"):
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(data)
        return f"{'Overwrote' if existed else 'Created'} {self._shown(place)} ({len(data)} bytes)."

    def delete_file(self, path: str) -> str:
        """Delete a file. It cannot be brought back.

        Args:
            path: The file, relative to the workspace.
        """
        self._changeable(path)
        place = self._existing_file(path)
        with _plain_failure(f"cannot delete {path}"):
            place.unlink()
        return f"Deleted {self._shown(place)}."

    def send_report(self, body: str, recipient: str, subject: str) -> str:
        """Send a report by mail: it is put into the outbox folder.

        Args:
            body: The text of the report.
            recipient: The mail address of the one who gets it.
            subject: The subject line.
        """
        for name, value in (("recipient", recipient), ("subject", subject)):
            # A line break would let the value add header lines of its own.
            _refuse_if(not value.strip() or not value.isprintable(), f"the {name} must be one line of text")
        head = f"To: {recipient.strip()}\nSubject: {subject.strip()}\n"
        head += "MIME-Version: 1.0\nContent-Type: text/plain; charset=utf-8\n\n"
        with _plain_failure("cannot write the report"):
            place = self._new_report(f"{head}{body}\n".encode())
        return f"Put the report “{subject.strip()}” for {recipient.strip()} into {self._shown(place)}."

    def publish(self, path: str) -> str:
        """Publish a file: copy it, under the same name, into the folder of published files.

        Args:
            path: The file, relative to the workspace.
        """
        self._changeable(path)
        source = self._existing_file(path)
        target = self._place(f"{PUBLISHED}/{self._shown(source)}")
        with _plain_failure(f"cannot publish {path}"):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target, follow_symlinks=False)
        return f"Published {self._shown(source)} as {self._shown(target)}."

    def _place(self, path: str) -> Path:
        """Return where `path` is, whether or not it exists; refuse what could lead out of the workspace."""
        relative = Path(path)
        outside = not path.strip() or bool(relative.anchor) or ".." in relative.parts
        _refuse_if(outside, f"the path {path!r} is not inside the workspace")
        place = self.root / relative
        with _plain_failure(f"cannot use the path {path!r}"):
            steps = [place, *place.parents[: len(relative.parts)]]
            linked = any(step.is_symlink() for step in steps if step != self.root)
            # First, because to resolve a loop of links is an error of its own kind.
            _refuse_if(linked, f"the path {path!r} goes through a link")
            inside = place.resolve().is_relative_to(self.root)
        _refuse_if(not inside, f"the path {path!r} is not inside the workspace")
        return place

    def _existing_file(self, path: str) -> Path:
        place = self._place(path)
        with _plain_failure(f"cannot use the path {path!r}"):
            _refuse_if(not place.exists(), f"there is no file {path} in the workspace")
            _refuse_if(not place.is_file(), f"{path} is not a file")
        return place

    def _changeable(self, path: str) -> Path:
        """Like `_place`, but refuse the folders that only `publish` and `send_report` fill.

        Otherwise a confirmed write could publish a file that no administrator has approved.
        """
        place = self._place(path)
        first = place.relative_to(self.root).parts[:1]
        reserved = bool(first) and first[0].casefold() in {OUTBOX, PUBLISHED}
        _refuse_if(reserved, f"only send_report and publish fill {OUTBOX} and {PUBLISHED}")
        return place

    def _new_report(self, content: bytes) -> Path:
        """Write under the first free number, so that no report is ever overwritten."""
        number = 0
        while True:
            number += 1
            place = self._place(f"{OUTBOX}/report-{number:03}.eml")
            place.parent.mkdir(exist_ok=True)
            try:
                with place.open("xb") as file:
                    file.write(content)
            except FileExistsError:
                continue
            return place

    def _shown(self, place: Path) -> str:
        return place.relative_to(self.root).as_posix()


def _regular_files(root: Path) -> Iterator[Path]:
    for folder, _, names in os.walk(root):
        for name in names:
            place = Path(folder, name)
            if place.is_file() and not place.is_symlink():
                yield place


def _refuse_if(condition: bool, reason: str) -> None:  # noqa: FBT001
    if condition:
        message = f"Refused: {reason}."
        raise ToolFailed(message)


@contextmanager
def _plain_failure(what: str) -> Iterator[None]:
    """Turn an error of the file system into words that do not show where the workspace is."""
    try:
        yield
    except OSError as error:
        message = f"Failed: {what}: {error.strerror}."
        raise ToolFailed(message) from error
    except ValueError as error:
        # Python refuses some names, such as one with a null byte, before it asks the file system.
        message = f"Failed: {what}: the name is not valid."
        raise ToolFailed(message) from error
