"""docs/troubleshooting.md knows every kind of failure."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from buildrunner.diagnose.rules import load_rules
from support.harness import ROOT
from support.troubleshooting import PAGE, written


def kinds_of_code() -> Iterator[str]:
    """Yield each literal that is given as `kind` to an error, or as the first part of a Failure."""
    for path in Path(ROOT, "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call):
                continue
            of_failure = isinstance(node.func, ast.Name) and node.func.id in ("Failure", "GitErrorPattern", "Trouble")
            given = [keyword.value for keyword in node.keywords if keyword.arg == "kind"]
            for value in (*given, *(node.args[:1] if of_failure and node.func.id == "Failure" else ())):  # type: ignore[attr-defined]
                if isinstance(value, ast.Constant) and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", str(value.value)):
                    yield str(value.value)


def test_the_tables_of_rules_are_those_of_the_rules() -> None:
    """`python -m support.troubleshooting` in tests writes them again."""
    page = PAGE.read_text()

    assert written(page) == page


def test_every_kind_is_on_the_page_once() -> None:
    listed = re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE.read_text().partition("## Other messages")[0], re.MULTILINE)
    listed = [kind for kind in listed if kind not in {"kind", "file", "excerpt"}]
    rules = {rule.id for rule in load_rules()}

    assert len(listed) == len(set(listed))
    assert set(listed) >= rules | set(kinds_of_code())
