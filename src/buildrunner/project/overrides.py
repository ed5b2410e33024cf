"""Combine the settings that override detection: the build's variables, then netlify.toml and vercel.json."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from buildrunner.errors import BuildFailed
from buildrunner.project.files import is_inside
from buildrunner.project.host_settings import (
    PRESETS,
    HostSetting,
    HostSettings,
    merge_settings,
    read_host_settings,
    resolve_folder,
)
from buildrunner.project.node_version import names_version
from buildrunner.project.package_json import get_scripts, read_package
from buildrunner.project.package_managers.table import install_lines, run_lines
from buildrunner.project.sites import find_build_script

_MAX_SHOWN = 200  # characters of a value in the log


@dataclass(frozen=True, slots=True)
class Overrides:
    """Settings that take precedence over detection; None for what is not set."""

    root_dir: str | None
    install_command: str | None
    build_command: str | None
    output_dir: str | None
    node_version: str | None = None
    strict_lockfile: bool = False
    # From netlify.toml and vercel.json
    sources: Mapping[str, str] = field(default_factory=dict)  # variable → setting that replaces it
    output: Path | None = None  # replaces OUTPUT_DIR; absolute
    preset: str | None = None  # the name of the framework's record
    skip_install: bool = False
    skip_build: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)  # variables for the install and build commands
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()

    def source_of(self, variable: str) -> str:
        """Return the source of a variable's value: the variable itself, or a setting in a file."""
        return self.sources.get(variable, variable)

    def names(self) -> list[str]:
        """Return which of the variables that another host's settings could replace are set."""
        given = {
            "INSTALL_COMMAND": self.install_command,
            "BUILD_COMMAND": self.build_command,
            "OUTPUT_DIR": self.output_dir or self.output,
        }
        return [name for name, value in given.items() if value]


def find_top(checkout: Path, root_dir: str | None, source: str = "ROOT_DIR") -> Path:
    """Return the folder to build; `source` is the setting that names it.

    Raises:
        BuildFailed: if the repository has no such folder.

    """
    top = (checkout / root_dir) if root_dir else checkout
    if not os.path.isdir(top) or not is_inside(top, checkout):
        raise BuildFailed(
            "install",
            f"The repository has no folder {root_dir}" + (f", which {source} names." if source != "ROOT_DIR" else "."),
            f"Check the spelling of {source}.",
            kind="root-dir-missing",
        )
    return Path(os.path.realpath(top))  # resolved before any code of the repository runs


def apply_host_settings(checkout: Path, given: Overrides, *, app: Path | None = None) -> Overrides:
    """Add the settings in netlify.toml and vercel.json that no variable overrides.

    Args:
        checkout: the repository.
        given: the overrides from variables.
        app: the app's folder, if it is a subfolder; its files take precedence over those at the top of the repository.

    Raises:
        BuildFailed: if a folder that a setting names does not exist.

    """
    top = app or find_top(checkout, given.root_dir)
    at_top = read_host_settings(checkout, checkout)
    warnings: list[str] = []
    sources: dict[str, str] = {}
    base = checkout if app else top  # paths in the files at the top of the repository are relative to it
    if at_top.base:
        named = resolve_folder(checkout, at_top.base.value, checkout)
        if given.root_dir is None and app is None:
            top = base = find_top(checkout, at_top.base.value.strip("/"), at_top.base.source)
            sources["ROOT_DIR"] = at_top.base.source
        elif named != top:
            warnings.append(
                f"The build settings for {at_top.base.source} are ignored because ROOT_DIR is another folder."
            )
            at_top = replace(at_top, base=None, command=None, output=None)
    found = [(at_top, base)]
    if top != checkout:
        found.insert(0, (read_host_settings(top, checkout), top))
    settings = merge_settings([_resolve_output(each, place, checkout, warnings) for each, place in found])
    return _override(given, settings, top, checkout, sources, (*settings.warnings, *warnings))


def _resolve_output(settings: HostSettings, base: Path, checkout: Path, warnings: list[str]) -> HostSettings:
    """Return the settings with an absolute output folder."""
    if settings.output is None:
        return settings
    folder = resolve_folder(base, settings.output.value, checkout)
    if folder is None:
        warnings.append(f"{settings.output.source} is ignored because it leads out of the repository.")
        return replace(settings, output=None)
    return replace(settings, output=replace(settings.output, value=str(folder)))


def _override(
    given: Overrides,
    settings: HostSettings,
    top: Path,
    checkout: Path,
    sources: dict[str, str],
    warnings: Sequence[str],
) -> Overrides:
    package = read_package(top, checkout)
    notes: list[str] = []
    more = list(warnings)
    changed = given if top == checkout else replace(given, root_dir=os.path.relpath(top, checkout))
    if "ROOT_DIR" in sources:
        notes.append(f"Applying {sources['ROOT_DIR']}: {changed.root_dir}")

    def note(setting: HostSetting, value: str) -> None:
        notes.append(f"Applying {setting.source}: {' '.join(value.split())[:_MAX_SHOWN] or 'nothing'}")

    command = settings.command
    if command is None and settings.framework and package and not find_build_script(package):
        command = replace(settings.framework, value=PRESETS[settings.framework.value][1])
    if command and not given.build_command:
        note(command, command.value)
        if _does_nothing(command.value):
            changed = replace(changed, skip_build=True)
        elif _normalize_command(command.value) not in _known_builds(package):
            sources["BUILD_COMMAND"] = command.source
            changed = replace(changed, build_command=command.value)
    if settings.install and not given.install_command:
        note(settings.install, settings.install.value)
        if _does_nothing(settings.install.value):
            changed = replace(changed, skip_install=True)
        elif _normalize_command(settings.install.value) not in install_lines():
            sources["INSTALL_COMMAND"] = settings.install.source
            changed = replace(changed, install_command=settings.install.value)
    if settings.output and not given.output_dir:
        folder = Path(settings.output.value)
        note(settings.output, os.path.relpath(folder, checkout))
        sources["OUTPUT_DIR"] = settings.output.source
        changed = replace(changed, output=folder)
    if settings.framework and not given.build_command:
        note(settings.framework, settings.framework.value)
        changed = replace(changed, preset=PRESETS[settings.framework.value][0])
    environment = dict(settings.environment)
    if environment:
        notes.append(f"Applying {settings.environment_source}: {', '.join(environment)[:_MAX_SHOWN]}")
    node = environment.get("NODE_VERSION")
    if node and not given.node_version:
        if names_version(node):
            sources["NODE_VERSION"] = f"NODE_VERSION in {settings.environment_source}"
            changed = replace(changed, node_version=node)
        else:
            more.append(f"NODE_VERSION in {settings.environment_source} is not a Node.js version: {node[:60]!a}.")
    return replace(
        changed, sources=sources, environment=environment, notes=tuple(notes), warnings=(*given.warnings, *more)
    )


def _does_nothing(line: str) -> bool:
    return all(not part.strip() or part.strip().startswith("#") for part in line.splitlines())


def _known_builds(package: Mapping[str, object]) -> set[str]:
    """Return the command lines that only run the build script, as the default does."""
    script = find_build_script(package)
    return (
        {_normalize_command(line) for line in (*run_lines(script), get_scripts(package)[script])} if script else set()
    )


def _normalize_command(line: str) -> str:
    """Return a command without extra spaces, a CI= assignment, and an install before it."""
    line = re.sub(r"\s{1,100}", " ", line.strip()[:1000])
    for first in (*install_lines(), "npm install --force"):
        line = line.removeprefix(f"{first} && ")
    return re.sub(r"^(?:CI=(?:''|\"\"|false|true)? )+", "", line)
