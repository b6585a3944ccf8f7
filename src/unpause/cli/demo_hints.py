"""The lines to try that the demo prints when it is up."""

from __future__ import annotations

_HINTS = """
Try it from another terminal (the demo agent works in the folder unpause-workspace, on a small local model):

  # 1. The agent stops before it deletes a file:
  curl -s {address}/agents/files/runs -F message='delete old.log' -F stream=false

  # 2. Put the run_id and the tool_call_id of that answer in here to let it go on:
  curl -s {address}/agents/files/runs/RUN_ID/continue -F stream=false \\
       -F 'tools=[{{"tool_call_id":"TOOL_CALL_ID","confirmed":true}}]'

  # The same agent through Codegen's API; ID is the "id" of the first answer:
  curl -s {address}/v1/organizations/1/agent/run -H 'content-type: application/json' \\
       -d '{{"prompt":"delete notes.txt"}}'
  curl -s {address}/v1/organizations/1/agent/run/ID
  curl -s {address}/v1/organizations/1/agent/run/resume -H 'content-type: application/json' \\
       -d '{{"agent_run_id":ID,"prompt":"no, keep it"}}'

Stop it with Ctrl-C; start it again and everything that was paused is still there.
"""


def demo_hints(address: str) -> str:
    """Return the curl lines for a demo server at ``address``."""
    return _HINTS.format(address=address)
