"""The version that is installed: read once, because each look parses the package's metadata for some milliseconds."""

from __future__ import annotations

from importlib.metadata import version
from typing import Final

VERSION: Final = version("unpause")
