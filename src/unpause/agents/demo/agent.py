"""The demo agent: an ordinary Pydantic AI agent, with a tool for each way in which a run can pause."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from pydantic_ai import Agent, Tool, ToolDefinition
from pydantic_ai.toolsets import ExternalToolset

from unpause.agents.demo.model import DemoModel
from unpause.agents.demo.workspace import Workspace
from unpause.agents.policy import policy

if TYPE_CHECKING:
    from pathlib import Path

    from pydantic_ai.models import Model

_INSTRUCTIONS: Final = """\
You work on the files of one workspace folder. Paths are relative to it.
Some calls pause until a person has answered; call the tool without asking for permission first.
When a call was declined, do not repeat it: report what was not done, and follow the person's note.
Report plainly what was done and what failed."""

_RUN_SHELL: Final = ToolDefinition(
    name="run_shell",
    description="Run a shell command on the user's own machine and return what it printed.",
    parameters_json_schema={
        "type": "object",
        "properties": {"command": {"type": "string"}},
        "required": ["command"],
        "additionalProperties": False,
    },
)


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
