"""What a rule is, and what is known of the command that failed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from buildrunner.project import DEFAULT_MANAGER, MANAGERS


@dataclass(frozen=True, slots=True)
class FailedCommand:
    """A command that failed, what it printed, and what was chosen for it."""

    text: str  # the end of its output, without colors
    command: str = "npm run build"  # as a person would type it
    stage: Literal["install", "build"] = "build"
    folder: Path | None = None  # working directory
    checkout: Path | None = None  # the top of the repository
    script: str = ""  # the text of the script that ran
    manager: str = "npm"
    node: str | None = None  # version
    node_named_by: str | None = None  # such as NODE_VERSION or .nvmrc; None if buildrunner chose it
    environment: Mapping[str, str] = field(default_factory=dict)
    package: Mapping[str, Any] = field(default_factory=dict)  # package.json
    memory: int | None = None  # memory limit, bytes; None without one

    @property
    def prefix(self) -> str:
        """Return the prefix for the names of variables of this command."""
        return "INSTALL_ENV_" if self.stage == "install" else "BUILD_ENV_"

    @property
    def node_major(self) -> int | None:
        match = re.match(r"v?(\d{1,3})\b", self.node or "")
        return int(match[1]) if match else None

    @property
    def words(self) -> dict[str, str]:
        """Return the placeholders of hints that do not depend on what was found."""
        manager = MANAGERS.get(self.manager, DEFAULT_MANAGER)
        return {
            "install": f"{manager.name} install",
            "add": manager.add_command,
            "add_dev": manager.add_dev_command,
            "lockfile": manager.lockfile,
            "variable": self.prefix,
            "command": self.command,
            "stage": self.stage,
            "manager": self.manager,
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


@dataclass(frozen=True, slots=True)
class BuildFallback:
    """One more try for a build that failed: either with `variable`, or with `node`."""

    reason: str  # sentences for people: what failed, and what the retry uses
    remedy: str  # sentence for people: how to fix it for good
    variable: tuple[str, str] = ("", "")  # name and value; NODE_OPTIONS is appended to
    node: int | None = None  # the last line with long-term support that does not fail in this way


@dataclass(frozen=True, slots=True)
class Rule:
    """One known cause of a failure; the docstring of `rules` describes its fields."""

    id: str
    area: str
    patterns: tuple[str, ...]  # all of them have to be found; their groups `name0`, `name1`, … are {name}
    reason: str
    hint: str
    advice: str | None = None
    file: str | None = None
    last: bool = False
    summary: bool = False
    fallback: BuildFallback | None = None

    @property
    def text(self) -> str:
        """Return reason and hint as one text."""
        return f"{self.reason} {self.hint}"


def render(hint: str, failed: FailedCommand, name: str = "") -> str:
    """Fill in the placeholders of a hint."""
    return hint.format(name=name, at=f" ({name})" if name else "", **failed.words)
