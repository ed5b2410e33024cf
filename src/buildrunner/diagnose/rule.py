"""Define rules for known failures, and the failed command that they are matched with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from buildrunner.project import DEFAULT_MANAGER, MANAGERS


@dataclass(frozen=True, slots=True)
class FailedCommand:
    """A command that failed, with its output and its environment."""

    text: str  # the end of its output, without colors
    command: str = "npm run build"  # as a person would type it
    stage: Literal["install", "build"] = "build"
    folder: Path | None = None  # working directory
    checkout: Path | None = None  # the top of the repository
    script: str = ""  # the text of the script that ran
    manager: str = "npm"
    node: str | None = None  # version of Node.js
    node_named_by: str | None = (
        None  # source of that version, such as NODE_VERSION or .nvmrc; None if buildrunner chose it
    )
    environment: Mapping[str, str] = field(default_factory=dict)
    package: Mapping[str, Any] = field(default_factory=dict)  # package.json
    memory: int | None = None  # memory limit in bytes; None if there is none

    @property
    def prefix(self) -> str:
        """The prefix of variables that configure this command's environment."""
        return "INSTALL_ENV_" if self.stage == "install" else "BUILD_ENV_"

    @property
    def node_major(self) -> int | None:
        match = re.match(r"v?(\d{1,3})\b", self.node or "")
        return int(match[1]) if match else None

    @property
    def words(self) -> dict[str, str]:
        """The placeholders in hints that don't depend on the match."""
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
        """Return the table of package.json that lists a package; None if none does."""
        for group in ("dependencies", "devDependencies", "optionalDependencies", "peerDependencies"):
            table = self.package.get(group)
            if isinstance(table, dict) and name in table:
                return group
        return None

    @property
    def leaves_out(self) -> str | None:
        """The variable that prevents the installation of devDependencies; None if there is none.

        The environment of the build contains the install's variables with empty values.
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
        """Return a path relative to the command's folder or the repository; empty for the folder itself."""
        for top in (self.folder, self.checkout):
            if top and path == str(top):
                return ""
            if top and path.startswith(f"{top}/"):
                path = path.removeprefix(f"{top}/")
                break
        return path.removeprefix("./")


@dataclass(frozen=True, slots=True)
class BuildFallback:
    """A retry of a failed build, either with an environment variable or with another version of Node.js."""

    reason: str  # for people: what failed, and what the retry uses
    remedy: str  # for people: how to fix the cause
    variable: tuple[str, str] = ("", "")  # name and value; a value of NODE_OPTIONS is appended
    node: int | None = None  # the last major version with long-term support that does not fail in this way


@dataclass(frozen=True, slots=True)
class Rule:
    """A known cause of failures; the docstring of `rules` describes its fields."""

    id: str
    area: str
    patterns: tuple[str, ...]  # all have to match; their groups `name0`, `name1`, … are {name}
    reason: str
    hint: str
    advice: str | None = None
    file: str | None = None
    last: bool = False
    summary: bool = False
    fallback: BuildFallback | None = None

    @property
    def text(self) -> str:
        """The reason and the hint."""
        return f"{self.reason} {self.hint}"


def render(hint: str, failed: FailedCommand, name: str = "") -> str:
    """Fill in the placeholders of a hint."""
    return hint.format(name=name, at=f" ({name})" if name else "", **failed.words)
