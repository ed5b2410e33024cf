"""Explain failures of frameworks and bundlers."""

from __future__ import annotations

import re

from buildrunner.diagnose.rule import FailedCommand


def ci_warnings(failed: FailedCommand, _: str) -> str:
    """Explain warnings that fail a build; the hint depends on whether CI=false was tried."""
    if failed.environment.get("CI") == "false":
        return (
            "Warnings fail this build although CI=false was tried, because its script sets CI. Fix the warnings, or remove"
            " CI from the script."
        )
    return (
        "Warnings fail this build because CI=true is set. Fix the warnings in the log above, or set"
        f' BUILD_COMMAND="CI=false {failed.command}".'
    )


def required_file(failed: FailedCommand, name: str) -> str:
    """Explain a file that react-scripts requires and that is missing."""
    match = re.search(r"\n  Searched in: (\S{1,500})$", failed.text, re.MULTILINE)
    folder = match[1] if match else ""
    if failed.checkout and not folder.startswith(f"{failed.checkout}/"):
        folder = folder.rpartition("/")[2]
    path = f"{failed.relative(folder)}/{name}" if folder else name
    return (
        f"The build looks for {path}, which is not in the repository. Commit it (check .gitignore), or set ROOT_DIR to the app's"
        " folder."
    )


def angular_typescript(failed: FailedCommand, name: str) -> str:
    """Explain a version of TypeScript that Angular does not support."""
    wanted = re.sub(r" and (?=[<>=\d])", " ", name)
    return (
        f"Angular needs TypeScript {name}, and another version is installed. Run"
        f' `{failed.words["add_dev"]} "typescript@{wanted}"`, and commit package.json and the lockfile.'
    )
