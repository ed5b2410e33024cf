"""Read an app's package.json, build commands and configuration files for framework detection."""

from __future__ import annotations

import posixpath
import re
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import islice
from pathlib import Path
from typing import Any

from buildrunner.project.config_files import Config, read_configuration, without_comments
from buildrunner.project.files import walk
from buildrunner.project.package_json import get_scripts
from buildrunner.project.scripts import HARMLESS, ScriptCommand, parse_script

_MAX_SOURCES = 500  # files that are searched
_MAX_SCRIPTS = 60  # scripts that are searched for a command
_SUFFIXES = ("", ".js", ".mjs", ".ts", ".cjs", ".mts", ".cts", ".json")
_LIKELY_SCRIPTS = {"generate", "export", "static"}


@dataclass(frozen=True)
class App:
    """The app to build; nothing outside of the checkout is read."""

    folder: Path
    checkout: Path
    package: Mapping[str, Any]
    build_script: str = ""  # the text of the build script or build command

    @cached_property
    def scripts(self) -> Mapping[str, str]:
        return get_scripts(self.package)

    @cached_property
    def commands(self) -> tuple[ScriptCommand, ...]:
        """The commands that the build script and its hooks run."""
        commands = parse_script(self.build_script, self.scripts)
        if self.scripts.get("build") == self.build_script:
            for hook in ("prebuild", "postbuild"):
                commands += parse_script(self.scripts.get(hook, ""), self.scripts)
        return tuple(commands)

    @cached_property
    def packages(self) -> Mapping[str, str]:
        """All packages in package.json, with their version ranges."""
        found: dict[str, str] = {}
        for kind in ("peerDependencies", "optionalDependencies", "devDependencies", "dependencies"):
            names = self.package.get(kind)
            if isinstance(names, dict):
                found |= {name: str(version) for name, version in names.items()}
        return found

    def read(self, name: str) -> str | None:
        return read_configuration(self.folder / name, self.checkout)

    def read_configs(self, *names: str) -> list[Config]:
        """Read the configuration files with these names and any usual suffix."""
        found: list[Config] = []
        for name in names:
            for suffix in _SUFFIXES:
                text = self.read(name + suffix)
                if text is not None:
                    found.append(Config(without_comments(text), posixpath.dirname(name), name + suffix))
        return found

    def config_text(self, *names: str) -> str:
        return "".join(config.text for config in self.read_configs(*names))

    def mentions(self, folder: str, pattern: str) -> bool:
        """Return whether any file below a folder of the app contains a pattern."""
        files = (Path(path) for path, status in walk(str(self.folder / folder)) if stat.S_ISREG(status.st_mode))
        return any(
            re.search(pattern, read_configuration(file, self.checkout) or "") for file in islice(files, _MAX_SOURCES)
        )

    def commands_like(self, pattern: str) -> list[ScriptCommand]:
        return [command for command in self.commands if re.match(pattern, command.line)]

    def runs_only(self, pattern: str) -> bool:
        """Return whether only commands that match the pattern can produce output in this build."""
        return bool(self.commands_like(pattern)) and all(
            re.match(pattern, command.line) or HARMLESS.match(command.line) for command in self.commands
        )

    def find_script(self, *patterns: str) -> str | None:
        """Return the name of a script that runs commands that match all patterns, and otherwise only harmless ones."""
        for name in sorted(self.scripts, key=lambda name: (name not in _LIKELY_SCRIPTS, name))[:_MAX_SCRIPTS]:
            lines = [command.line for command in parse_script(self.scripts[name], self.scripts)]
            if all(any(re.match(pattern, line) for line in lines) for pattern in patterns) and all(
                any(re.match(pattern, line) for pattern in patterns) or HARMLESS.match(line) for line in lines
            ):
                return name
        return None

    def has_imports(self, text: str) -> bool:
        """Return whether a configuration imports files or packages of the same repository."""
        own = {name for name, version in self.packages.items() if re.match(r"workspace:|file:|link:|\*", version)}
        for name in re.findall(r"(?:\bfrom|\bimport|\brequire\(|\bimport\()\s*[\"'`]([^\"'`\n]+)", text):
            package = "/".join(name.split("/")[: 2 if name[0] == "@" else 1])
            if name.startswith((".", "/", "~", "@/")) or package in own:
                return True
        return False
