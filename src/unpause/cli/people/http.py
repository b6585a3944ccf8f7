"""httpx without its own command line: rich and click, which that loads, are a third of a command's start."""

from __future__ import annotations

import sys

# None is how Python marks a module as unavailable; httpx goes on without this one.
sys.modules.setdefault("httpx._main", None)  # type: ignore[arg-type]  # typeshed knows modules only

import httpx  # noqa: E402 - the line above has to come first

__all__ = ["httpx"]
