"""Known texts of failures, and what to do about each. A table: the first pattern that is found decides."""

from __future__ import annotations

import re

from buildrunner.logs.text import without_colour

_HINTS: tuple[tuple[str, str], ...] = (
    (
        r"can only install packages when your package\.json and package-lock\.json .* are in sync|"
        r"Missing: .* from lock file|Invalid: lock file's",
        "The lockfile is out of step with package.json. Run `npm install` and commit package-lock.json.",
    ),
    (
        r"JavaScript heap out of memory",
        "The build needs more memory than Node may use. Set BUILD_ENV_NODE_OPTIONS=--max-old-space-size=… or give the"
        " task more memory.",
    ),
    (
        r"npm (error|ERR!) code ERESOLVE",
        "Two packages want different versions of a third. Update them, or commit an .npmrc with legacy-peer-deps=true.",
    ),
    (
        r"npm (error|ERR!) code E40[13]",
        "A package registry refused access. Give the install a token that can read it (INSTALL_ENV_NPM_TOKEN, named in .npmrc).",
    ),
    (
        r"npm (error|ERR!) code (ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ECONNRESET)",
        "The package registry cannot be reached. Try again; if it stays so, look at the task's network and NAT.",
    ),
    (
        r"(?i:no space left on device)|code ENOSPC",  # but not "ENOSPC: System limit for number of file watchers reached"
        "The disk is full. Give the task more ephemeral storage, or make the build write less.",
    ),
    (
        r"sh: (?:(?:line )?\d+: )?([\w./@-]+): (?:command )?not found",
        "The build calls a program that is not installed. Add the package that brings it to package.json, and commit the lockfile.",
    ),
)


def find_hint(output: str) -> str | None:
    """Find what to do about a failure, from the end of what the command printed; colours in it do not matter."""
    text = without_colour(output)  # npm colours the words of one error differently
    return next((hint for pattern, hint in _HINTS if re.search(pattern, text)), None)
