"""Every weakness of agno.md section 15 has its test here."""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

_TEST = re.compile(r"^(?:async )?def test_(\d\d)_\w+\(", re.MULTILINE)


def test_each_of_the_27_weaknesses_has_one_test() -> None:
    files = sorted(Path(__file__).parent.glob("test_*.py"))
    tested = Counter(int(number) for file in files for number in _TEST.findall(file.read_text(encoding="utf-8")))
    assert set(tested.values()) == {1}
    assert sorted(tested) == list(range(1, 28))
