"""The plugin that pytest loads wherever Unpause is installed: the fixture ``unpause``.

Every pytest of an environment loads this module, so it loads Unpause only in the fixture.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from unpause.lazy import LazyModule

if TYPE_CHECKING:
    from unpause import testing
else:
    testing = LazyModule("unpause.testing")


@pytest.fixture
def unpause(tmp_path: Path) -> testing.Unpause:
    """Serve agents in the test's own process, on a database of its own: see ``unpause.testing``."""
    # It takes a second to load, for tests that use it.
    return testing.Unpause(tmp_path)
