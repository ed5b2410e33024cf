"""What frameworks and bundlers say."""

from __future__ import annotations

import re

from buildrunner.diagnose.rule import FailedCommand


def ci_warnings(failed: FailedCommand, _: str) -> str:
    """Explain warnings that fail a build, by whether CI=false was tried."""
    if failed.environment.get("CI") == "false":
        return (
            "Warnings fail this build although CI=false was tried: its script sets CI itself. Fix the warnings, or remove"
            " CI from the script."
        )
    return (
        "Warnings fail this build, because CI=true is set. Fix what the lines above name, or set"
        f' BUILD_COMMAND="CI=false {failed.command}".'
    )


def required_file(failed: FailedCommand, name: str) -> str:
    """Explain a missing file of react-scripts, with its folder."""
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
    """Explain the TypeScript version that Angular needs."""
    wanted = re.sub(r" and (?=[<>=\d])", " ", name)
    return (
        f"Angular needs TypeScript {name}, and another version is installed. Run"
        f' `{failed.words["add_dev"]} "typescript@{wanted}"`, and commit package.json and the lockfile.'
    )
