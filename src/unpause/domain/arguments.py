"""Arguments of tool calls as JSON, and whether two of them say the same."""

from __future__ import annotations

import json


def is_same_json(one: object, other: object) -> bool:
    """Whether two JSON values are the same; the order of an object's keys says nothing, 1 is no 1.0 and no true."""
    return one is other or json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
