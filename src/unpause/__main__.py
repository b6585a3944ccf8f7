"""The command ``unpause``, or ``python -m unpause``: Ctrl-C ends it quietly also while it is being loaded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from unpause.lazy import LazyModule

if TYPE_CHECKING:
    from unpause.cli import exits, main
else:
    exits = LazyModule("unpause.cli.exits")
    main = LazyModule("unpause.cli.main")


def run() -> None:
    """Load the command and run it."""
    try:
        main.main()
    except KeyboardInterrupt:
        sys.exit(exits.Exit.INTERRUPTED)


if __name__ == "__main__":
    run()
