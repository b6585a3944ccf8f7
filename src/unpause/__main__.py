"""Makes ``python -m unpause`` the same as ``unpause``."""

from __future__ import annotations

from unpause.cli.main import main

if __name__ == "__main__":
    main()
