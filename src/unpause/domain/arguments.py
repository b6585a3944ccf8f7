"""Whether two arguments of tool calls are the same JSON."""

from __future__ import annotations

import json


def is_same_json(one: object, other: object) -> bool:
    """Whether two JSON values are the same; the order of keys does not count, and 1, 1.0 and true differ."""
    return one is other or json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
