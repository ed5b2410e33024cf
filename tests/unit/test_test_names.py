"""Test that the names of tests fit on one line of a report."""

from __future__ import annotations

import re

from support.harness import ROOT

MAX_CHARACTERS = 60


def test_names_of_tests_are_short() -> None:
    modules = [*(ROOT / "tests").rglob("*.py")]
    names = [
        name for path in modules for name in re.findall(r"^(?:async )?def (test_\w+)", path.read_text(), re.MULTILINE)
    ]

    assert "test_names_of_tests_are_short" in names
    assert [name for name in names if len(name) > MAX_CHARACTERS] == []
