"""Test that docs/troubleshooting.md lists all kinds of failures."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from buildrunner.diagnose.rules import load_rules
from support.harness import ROOT
from support.troubleshooting import PAGE, written


def kinds_of_code() -> Iterator[str]:
    """Yield each text that is passed as `kind` to an error or its record."""
    for path in Path(ROOT, "src").rglob("*.py"):
        if not re.search(r"\b(?:BuildFailed|BuildEnded|S3Failed|Trouble|GitErrorPattern)\b", path.read_text()):
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            values: list[ast.expr] = []
            if isinstance(node, ast.Call):
                values = [keyword.value for keyword in node.keywords if keyword.arg == "kind"]
                if isinstance(node.func, ast.Name) and node.func.id == "Failure":
                    values += node.args[:1]
            elif isinstance(node, ast.Assign) and [getattr(each, "id", "") for each in node.targets] == ["_KINDS"]:
                values = list(getattr(node.value, "values", []))
            elif isinstance(node, ast.FunctionDef):
                values = [value for value in node.args.kw_defaults if value]
            for value in (each for given in values for each in ast.walk(given)):
                if isinstance(value, ast.Constant) and re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", str(value.value)):
                    yield str(value.value)


def test_the_tables_of_rules_are_those_of_the_rules() -> None:
    """Run `python -m support.troubleshooting` in tests to regenerate the tables."""
    page = PAGE.read_text()

    assert written(page) == page


def test_every_kind_is_on_the_page_once() -> None:
    listed = re.findall(r"^\| `([a-z0-9-]+)` \|", PAGE.read_text().partition("## Other messages")[0], re.MULTILINE)
    listed = [kind for kind in listed if kind not in {"kind", "file", "excerpt"}]
    rules = {rule.id for rule in load_rules()}

    assert len(listed) == len(set(listed))
    assert set(listed) == rules | set(kinds_of_code())
