"""Explain errors in the site's own code."""

from __future__ import annotations

import re

from buildrunner.diagnose.missing_module import find_any_case
from buildrunner.diagnose.rule import FailedCommand


def require_of_es_module(failed: FailedCommand, name: str) -> str:
    """Explain require() of an ES module; the hint depends on the version of Node.js.

    Node.js 20.19 and 22.12 allow it without an option (https://nodejs.org/api/modules.html, "Loading ECMAScript modules").
    """
    at = f" ({name})" if name else ""
    older = "Install the last version of the package that is CommonJS (chalk 4, del 6, node-fetch 2)."
    version = tuple(int(part) for part in re.findall(r"\d{1,9}", failed.node or "")[:2])
    if version >= (22, 12) or (20, 19) <= version < (21,):
        return (
            f"An ES module is loaded with require(){at}, but it uses features that require() does not support. {older}"
        )
    node = f"Node {failed.node}" if failed.node else "this Node"
    return (
        f"An ES module is loaded with require(){at}, which {node} does not allow. Set NODE_VERSION=22, which does."
        f" {older.replace('Install', 'Or install', 1)}"
    )


def import_case(failed: FailedCommand, name: str) -> str:
    """Explain an import whose case differs from the file's name, or two files whose names differ only in case."""
    match = re.search(r"already included file name '([^'\n]{1,200})'", failed.text)
    other = failed.relative(match[1]) if match else name
    actual = find_any_case(failed.folder, name) if failed.folder else None
    if actual == name and failed.folder and find_any_case(failed.folder, other) == other != name:
        return (
            f"The repository has both {other} and {name}, which TypeScript treats as one file. Remove one with `git rm`, and"
            " import the other by its exact name."
        )
    if actual and actual != name:
        return f"A file is imported as {name}, but its name is {actual}: Linux file names are case-sensitive. Fix the import."
    return f"The import path differs in case from the file name: {name}. Linux file names are case-sensitive. Fix the import."


def _eslint_package(kind: str, name: str) -> str:
    """Return the package name of an ESLint configuration or plugin, whose name is written without the prefix."""
    parts = name.split("/")
    scope = f"{parts.pop(0)}/" if name.startswith("@") else ""
    short = parts[0] if parts else ""  # next/core-web-vitals is in eslint-config-next
    prefix = f"eslint-{kind}"
    return scope + (short if short.startswith(prefix) else f"{prefix}-{short}".rstrip("-"))


def eslint_config(failed: FailedCommand, name: str) -> str:
    """Explain an ESLint configuration or plugin that is not installed."""
    match = re.search(r" (config|plugin) [\"']" + re.escape(name), failed.text)
    package = _eslint_package(match[1] if match else "config", name)
    return (
        f"ESLint's {name} is not installed, because package.json does not list it. Run `{failed.words['add_dev']}"
        f" {package}`, or build without lint (BUILD_ENV_DISABLE_ESLINT_PLUGIN=true for react-scripts)."
    )


def unknown_class(failed: FailedCommand, name: str) -> str:
    """Explain an unknown class in @apply; the hint depends on the Tailwind version."""
    if "unknown utility class" in failed.text:
        return (
            f"@apply names a class that Tailwind does not know: {name}. Define it with `@utility`, or fix it. In a CSS module or"
            ' <style>, add `@reference "./main.css"` with the path of your style sheet.'
        )
    return (
        f"@apply names a class that Tailwind does not know: {name}. Define it in tailwind.config, or fix it. Or install the"
        " Tailwind version that these styles are for."
    )
