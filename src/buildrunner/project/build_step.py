"""Plan the build stage: the command, the steps in other folders before it, and the framework."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from buildrunner.project.alternatives import find_site_script
from buildrunner.project.frameworks.detect import detect_framework, prefer_preset
from buildrunner.project.frameworks.record import DetectedFramework
from buildrunner.project.locate import LocatedApp
from buildrunner.project.package_json import get_table, read_package
from buildrunner.project.package_managers.detect import detect_manager
from buildrunner.project.package_managers.install import list_strategies
from buildrunner.project.package_managers.record import SHELL, ManagerRequirement
from buildrunner.project.scripts import find_subfolder_builds
from buildrunner.project.sites import (
    builds_library,
    find_build_script,
    find_uninstalled,
    is_site,
    read_build_script,
    select_sites,
)
from buildrunner.project.task_graph import list_steps_before
from buildrunner.project.workspaces import Workspaces


@dataclass(frozen=True, slots=True)
class BuildStep:
    """The build command; it is executed without a shell unless it starts with one."""

    command: tuple[str, ...] = ()  # empty for a site without a build
    shown: str = ""  # as a person would type it
    script: str = ""  # the text of the build script, or BUILD_COMMAND; empty for a site without a build


@dataclass(frozen=True, slots=True)
class BuildContext:
    """What is known of the app before its build is planned."""

    checkout: Path
    app: LocatedApp
    root: Path  # where dependencies are installed
    manager: ManagerRequirement
    workspaces: Workspaces
    build_command: str | None
    output_dir: str | None
    preset: str | None = None  # the framework that vercel.json names
    from_file: bool = False  # whether `build_command` comes from a file instead of BUILD_COMMAND

    @property
    def scripts(self) -> Mapping[str, Any]:
        return get_table(self.app.package, "scripts")

    @property
    def script_name(self) -> str:
        """The name of the build script; empty if BUILD_COMMAND is set or there is no build script."""
        return "" if self.build_command else find_build_script(self.app.package) or ""

    def find_site(self) -> Path:
        """Return the folder of the package whose output is the site: the app, or a package that its build script builds."""
        folder = self.app.folder
        if self.workspaces.find_root(folder) == folder and not self.build_command:
            sites = select_sites(self.workspaces.members(folder), self.checkout)
            if len(sites) == 1 and not is_site(folder, self.checkout):
                return sites[0]
        return folder


@dataclass(frozen=True, slots=True)
class PlannedBuild:
    """The plan of a build, with notes and warnings for the log."""

    step: BuildStep
    site: Path
    framework: DetectedFramework
    tried_scripts: frozenset[str]  # names of the scripts that the build runs
    installers: frozenset[str] = frozenset()  # names of the managers that install in other folders
    notes: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def plan_build_step(context: BuildContext, *, installs_below: bool) -> PlannedBuild:
    """Plan the command of the build and the steps before it.

    Args:
        context: what is known of the app.
        installs_below: whether to install dependencies in subfolders where the build script runs commands.

    Raises:
        BuildFailed: if the build could not produce a site.

    """
    planned = _choose_command(context)
    steps = [] if context.build_command else _list_steps_before(context)
    installers: set[str] = set()
    warnings: list[str] = []
    if installs_below and not context.build_command:
        for folder, line, name in _list_installs_below(context, planned.step.script):
            installers.add(name)
            # With NODE_ENV=production, devDependencies are not installed. A failure is ignored: the build may not need them.
            steps.append((folder, f"NODE_ENV= {line} || true"))
            warnings.append(
                f"The build script runs in {os.path.relpath(folder, context.app.folder)}, where dependencies are not"
                f" installed: running {line} there first. Add that command to the build script."
            )
    return replace(
        planned,
        step=_with_steps_before(planned.step, steps, context.app.folder),
        installers=frozenset(installers),
        warnings=tuple(warnings),
    )


def _choose_command(context: BuildContext) -> PlannedBuild:
    app, manager, scripts, script = context.app, context.manager, context.scripts, context.script_name
    folder, package = app.folder, app.package
    text = context.build_command or str(scripts.get(app.command or script, app.command))
    site = context.find_site()
    framework = (
        detect_framework(site, context.checkout, package, text)
        if site == folder
        else detect_framework(
            site, context.checkout, read_package(site, context.checkout), read_build_script(site, context.checkout)
        )
    )
    framework = prefer_preset(framework, context.preset) if site == folder else framework
    notes = list(app.notes)
    runs_script = False
    forced = bool(context.build_command) and not context.from_file
    if framework.certain and not forced and not context.output_dir:
        raise framework.refusal()
    if context.build_command:
        programs = f"PATH={_programs(context)}:$PATH; " if context.from_file else ""
        command: tuple[str, ...] = (*SHELL, f"{programs}{context.build_command}")
    elif framework.build_instead and site == folder:
        notes += [framework.note] if framework.note else []
        command = _command_instead(context, framework.build_instead)
        text = str(scripts.get(framework.build_instead, framework.build_instead))
    elif app.command:
        if not app.notes:  # the notes already name an Nx project
            prefix = f"{manager.name} run " if app.command in scripts else ""
            notes.append(
                f"package.json has no build script: running {app.command}."
                f' Add "build": "{prefix}{app.command}" under "scripts".'
            )
        command = _command_instead(context, app.command)
    else:
        command, runs_script = (manager.name, "run", script), True
        if script != "build":
            notes.append(f'package.json has no "build" script; running {script}.')
    tried = {script, app.command}
    shown = text if command[:2] == SHELL else " ".join(command)
    if runs_script and site == folder and not context.output_dir:
        beside = _find_script_beside_library(context, text)
        if beside:
            notes.append(f"The script {script} builds a library; also running {beside}, which builds the site.")
            framework = detect_framework(folder, context.checkout, package, scripts[beside])
            lines = [f"{manager.name} run {name}" for name in (script, beside)]
            calls_it = f" run {script}" in scripts[beside] or f"yarn {script}" in scripts[beside]
            shown = " && ".join(lines[calls_it:])
            command = (*SHELL, shown)
            tried.add(beside)
    return PlannedBuild(BuildStep(command, shown, text), site, framework, frozenset(tried), notes=tuple(notes))


def _find_script_beside_library(context: BuildContext, script: str) -> str | None:
    """Return the script that builds a site, if the build script only builds a library."""
    if context.build_command or not builds_library(context.app.folder, context.checkout, context.app.package, script):
        return None
    return find_site_script(context.app.package, sure=True)


def _command_instead(context: BuildContext, line: str) -> tuple[str, ...]:
    """Return the command that replaces the build script: another script, or a shell command."""
    if line in context.scripts:
        return (context.manager.name, "run", line)
    if context.manager.record.exec_command:
        return (*context.manager.record.exec_command, line)
    return (*SHELL, f"PATH={_programs(context)}:$PATH; {line}")


def _programs(context: BuildContext) -> str:
    """Return the node_modules/.bin folders for PATH, quoted for a shell."""
    folders = dict.fromkeys((context.app.folder, context.root))
    return shlex.quote(os.pathsep.join(str(folder / "node_modules/.bin") for folder in folders))


def _list_steps_before(context: BuildContext) -> list[tuple[Path, str]]:
    """List the scripts that Turborepo or Nx would run before the app's build, as folders and command lines."""
    if context.app.folder == context.root:
        return []
    named: dict[str, Path] = {}
    for member in context.workspaces.members(context.root):
        name = read_package(member, context.checkout).get("name")
        if isinstance(name, str):
            named.setdefault(name, member)
    return [
        (step.folder, f"{context.manager.name} run {shlex.quote(step.script)}")
        for step in list_steps_before(context.app.folder, context.root, context.checkout, named)
    ]


def _list_installs_below(context: BuildContext, script: str) -> list[tuple[Path, str, str]]:
    """List the subfolders to install before the build script runs there, each with its command and manager."""
    builds = find_subfolder_builds(context.app.package, script)
    if builds is None:
        return []
    found: list[tuple[Path, str, str]] = []
    for folder in find_uninstalled(
        context.app.folder, context.app.package, builds.scripts, builds.installed, context.workspaces, context.checkout
    ):
        manager, *_ = detect_manager(folder, context.checkout)
        if manager.record.installs_below:
            line = list_strategies(manager, lockfile=None, needed=True)[0].shown
            found.append((folder, line, manager.name))
    return found


def _with_steps_before(step: BuildStep, steps: list[tuple[Path, str]], folder: Path) -> BuildStep:
    if not steps:
        return step
    first = [f"(cd {shlex.quote(os.path.relpath(place, folder))} && {line})" for place, line in steps]
    command = (*SHELL, " && ".join([*first, shlex.join(step.command)]))
    return BuildStep(command, " && ".join([*first, step.shown]), step.script)
