"""Explain failures for lack of environment variables or of git history."""

from __future__ import annotations

import os
import re

from buildrunner.diagnose.rule import FailedCommand

_RESERVED = re.compile(r"LD_.*|PATH|HOME|USER|LOGNAME|SHELL|PWD|TMPDIR|CI|SLUG|COMMIT_.*")  # that BUILD_ENV_ can't set


def missing_variable(failed: FailedCommand, name: str) -> str | None:
    """Explain a missing environment variable; the hint depends on which variables are set."""
    if _RESERVED.fullmatch(name):
        return None
    if re.search(rf"^(?:[>$] )?[^\n]{{0,200}}\bset {name} ?=", f"{failed.script}\n", re.MULTILINE | re.IGNORECASE):
        return (
            f"{name} is not set: `set {name}=…` works only on Windows. Run `{failed.words['add_dev']} cross-env`, and write"
            f" `cross-env {name}=…` in the script."
        )
    value = failed.environment.get(name)
    if value:
        return (
            f"{failed.prefix}{name} is set, but the {failed.stage} does not accept its value or does not read it. Check the value"
            " and the lines above."
        )
    if value == "" and failed.stage == "build":
        return f"INSTALL_ENV_{name} is set, but it is empty in the build by design. Set BUILD_ENV_{name} too."
    if failed.stage == "install":
        return f"An install script needs the environment variable {name}. Set INSTALL_ENV_{name}."
    return f"Environment variable {name} is not set. Set BUILD_ENV_{name}."


def history_missing(failed: FailedCommand, _: str) -> str:
    """Explain missing tags; the hint depends on the depth of the clone."""
    if failed.checkout and os.path.lexists(failed.checkout / ".git" / "shallow"):
        return "The build reads tags or older commits from git, but only one commit was cloned. Set GIT_HISTORY=full."
    return (
        "git describe found no tag. Push the tags with `git push --tags`, or use `git describe --tags --always`, which falls"
        " back to the commit."
    )
