"""Where an agent process starts: ``python -m unpause.cli.agent_process``, by a server, and by nobody else."""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
from typing import TYPE_CHECKING

from unpause.agents.process.environment import end_with, give_up_looking_in
from unpause.cli.loading import without_collections
from unpause.lazy import LazyModule

if TYPE_CHECKING:
    from unpause.cli import agent_server
else:
    agent_server = LazyModule("unpause.cli.agent_server")


def main() -> None:
    """Load Pydantic AI, and serve the agents that the server names over the socket that it handed down."""
    descriptor, stacks, parent = (int(argument) for argument in sys.argv[1:4])
    end_with(parent)
    give_up_looking_in()
    for inherited in (descriptor, stacks):
        os.set_inheritable(inherited, False)  # noqa: FBT003 - the standard library's
    faulthandler.register(signal.SIGUSR1, file=stacks, all_threads=True)
    with without_collections():
        run_agents = agent_server.run_agents
    run_agents(descriptor)


if __name__ == "__main__":
    main()
