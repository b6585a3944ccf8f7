"""Whether arguments of tool calls are the same JSON."""

from __future__ import annotations

import json


def is_same_json(one: object, other: object) -> bool:
    """Whether two JSON values are the same; the order of keys does not count, and 1, 1.0 and true differ."""
    return one is other or json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


def is_echo(sent: object, shown: object) -> bool:
    """Whether a client sent the JSON that it was shown: it may write 1.0 as 1, but true is neither."""
    if isinstance(sent, dict) and isinstance(shown, dict):
        return sent.keys() == shown.keys() and all(is_echo(value, shown[key]) for key, value in sent.items())
    if isinstance(sent, list) and isinstance(shown, list):
        return len(sent) == len(shown) and all(map(is_echo, sent, shown))
    return isinstance(sent, bool) is isinstance(shown, bool) and sent == shown
