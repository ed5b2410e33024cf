"""Generate the tables in docs/troubleshooting.md from the rules, for `make docs`."""

from __future__ import annotations

import re

from buildrunner.diagnose.rule import FailedCommand, Rule, render
from buildrunner.diagnose.rules import AREAS, load_rules
from support.harness import ROOT

PAGE = ROOT / "docs" / "troubleshooting.md"
BEGIN, END = "<!-- from the rules: -->\n", "<!-- end of the rules -->\n"
_TITLES = {
    "machine": "Memory, disk and processes",
    "registry": "Lockfiles and registries",
    "native": "Native packages and downloads",
    "node": "Node versions",
    "manifest": "Network, package.json and scripts",
    "frameworks": "Frameworks and bundlers",
    "environment": "Variables, history and servers",
    "scripts": "Shell scripts and programs",
    "modules": "Missing modules",
    "code": "Code of the site",
    "weak": "Where nothing else is known",
}


def tables() -> str:
    """Return a table of the rules for each area."""
    return "\n".join(
        f"### {_TITLES[area]}\n\n| kind | what it means | what to do |\n|---|---|---|\n"
        + "".join(_row(rule) for rule in sorted(load_rules(), key=lambda rule: rule.id) if rule.area == area)
        for area in AREAS
    )


def _row(rule: Rule) -> str:
    retried = ""
    if rule.fallback:
        variable = "=".join(rule.fallback.variable)
        retried = f" (Retried with {f'Node {rule.fallback.node}' if rule.fallback.node else f'`{variable}`'}.)"
    return f"| `{rule.id}` | {_shown(rule.reason)}{retried} | {_shown(rule.hint)} |\n"


def _shown(text: str) -> str:
    filled = render(text.replace("{at}", "").replace("{variable}", "BUILD_ENV_"), FailedCommand(""), "…")
    return re.sub(r"(?<!`)<(\w+)>(?!`)", r"`<\1>`", filled).replace("|", "\\|").replace("<<<<<<<", "`<<<<<<<`")


def written(page: str) -> str:
    """Return the page with tables from the current rules."""
    before, _, rest = page.partition(BEGIN)
    return f"{before}{BEGIN}\n{tables()}\n{END}{rest.partition(END)[2]}"


if __name__ == "__main__":
    PAGE.write_text(written(PAGE.read_text()))
