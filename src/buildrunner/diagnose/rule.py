"""What a rule is, and what is known of the command that failed."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

NPM = r"npm (?:error|ERR!) "
SHELL = r"(?:^|[\s/:])(?:sh|bash|dash): (?:(?:line )?\d+: )?"
PACKAGE = r"(?:@[\w.~-]{1,100}/)?[\w.~-]{1,100}"
_SCRIPT = r"(?:^|[\s/:])(?:sh|bash|dash|[\w./-]{1,100}): (?:line )?\d{1,6}: "  # where in a shell script an error is
AT_SCRIPT = _SCRIPT

# How each manager does what a hint advises.
_WORDS = {
    "npm": ("npm install", "npm install", "npm install --save-dev", "package-lock.json"),
    "pnpm": ("pnpm install", "pnpm add", "pnpm add --save-dev", "pnpm-lock.yaml"),
    "yarn": ("yarn install", "yarn add", "yarn add --dev", "yarn.lock"),
    "bun": ("bun install", "bun add", "bun add --dev", "bun.lock"),
}


@dataclass(frozen=True, slots=True)
class FailedCommand:
    """A command that failed, what it printed, and what was chosen for it."""

    text: str  # the end of its output, without colors
    command: str = "npm run build"  # as a person would type it
    stage: Literal["install", "build"] = "build"
    folder: Path | None = None  # where it ran
    checkout: Path | None = None  # the top of the repository
    script: str = ""  # the text of the script that ran
    manager: str = "npm"
    node: str | None = None  # version
    node_named_by: str | None = None  # such as NODE_VERSION or .nvmrc; None where it was our choice
    environment: Mapping[str, str] = field(default_factory=dict)
    package: Mapping[str, Any] = field(default_factory=dict)  # package.json
    memory: int | None = None  # bytes that the container may use, where that is limited

    @property
    def prefix(self) -> str:
        """Return what stands before the name of a variable that is set for this command."""
        return "INSTALL_ENV_" if self.stage == "install" else "BUILD_ENV_"

    @property
    def node_major(self) -> int | None:
        match = re.match(r"v?(\d{1,3})\b", self.node or "")
        return int(match[1]) if match else None

    @property
    def words(self) -> dict[str, str]:
        """Return the placeholders of hints that do not depend on what was found."""
        install, add, add_dev, lockfile = _WORDS.get(self.manager, _WORDS["npm"])
        return {
            "install": install,
            "add": add,
            "add_dev": add_dev,
            "lockfile": lockfile,
            "variable": self.prefix,
            "command": self.command,
            "stage": self.stage,
        }

    def dependency_group(self, name: str) -> str | None:
        """Return which of package.json's tables names a package."""
        for group in ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies"):
            table = self.package.get(group)
            if isinstance(table, dict) and name in table:
                return group
        return None

    @property
    def leaves_out(self) -> str | None:
        """Return the variable that keeps devDependencies from being installed.

        A build finds the variables of the install too, but empty.
        """
        for name, values in (
            ("NODE_ENV", "production"),
            ("npm_config_omit", "dev"),
            ("NPM_CONFIG_OMIT", "dev"),
            ("npm_config_production", "true"),
            ("NPM_CONFIG_PRODUCTION", "true"),
        ):
            if self.environment.get(name) == ("" if self.stage == "build" else values):
                return name
        return None

    def relative(self, path: str) -> str:
        """Return a path as the repository's owner knows it; empty for the folder itself."""
        for top in (self.folder, self.checkout):
            if top and path == str(top):
                return ""
            if top and path.startswith(f"{top}/"):
                path = path.removeprefix(f"{top}/")
                break
        return path.removeprefix("./")


Advise = Callable[[FailedCommand, str], str | None]


@dataclass(frozen=True, slots=True)
class Rule:
    """One known cause of a failure.

    A hint is a text with placeholders: those of `FailedCommand.words`, the {name} that was found, and {at}, which is the name
    in brackets or empty. Or it is a function of the command and the name, which returns None where the rule does not apply.
    """

    id: str  # stable: programs may know it
    patterns: str | tuple[str, ...]  # all of them have to be found; a group `name` (name2, …) is {name}
    hint: str | Advise
    last: bool = False  # its last match counts: a script survived the others


def render(hint: str, failed: FailedCommand, name: str = "") -> str:
    """Fill in the placeholders of a hint."""
    return hint.format(name=name, at=f" ({name})" if name else "", **failed.words)
