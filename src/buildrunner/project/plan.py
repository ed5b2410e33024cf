"""Plan a build: where the app is, how it is installed and built, and where its output will be.

Planning reads a few files of the repository, never through a link that leads out of it, and runs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildrunner.project.alternatives import suggest_site
from buildrunner.project.build_step import BuildContext, BuildStep, plan_build_step
from buildrunner.project.files import is_file
from buildrunner.project.frameworks.record import DetectedFramework
from buildrunner.project.install_step import RequiredTools, find_required_tools, plan_strategies
from buildrunner.project.locate import AppLocator, LocatedApp, Search
from buildrunner.project.node_version import NodeRequirement
from buildrunner.project.other_hosts import read_other_hosts
from buildrunner.project.overrides import Overrides, apply_host_settings, find_top
from buildrunner.project.package_json import get_table, read_package
from buildrunner.project.package_managers.record import InstallStrategy, ManagerRequirement
from buildrunner.project.package_managers.table import find_called_managers
from buildrunner.project.workspaces import Workspaces

_HOOKS = ("prebuild", "postbuild", "preinstall", "install", "postinstall", "prepare")


@dataclass(frozen=True, slots=True)
class AppLocation:
    """The folders of the app and of its repository."""

    checkout: Path  # the top of the repository
    folder: Path  # the app's: the build's commands run here, and OUTPUT_DIR is relative to it
    root: Path  # where dependencies are installed: the app's folder, or the top of its workspace
    site: Path  # folder of the package whose output is the site: the app, or a package that its build script builds
    package: Mapping[str, Any] = field(default_factory=dict)  # package.json of `site`; empty if there is none


@dataclass(frozen=True, slots=True)
class InstallStep:
    """The plan for the install stage."""

    folder: Path  # where the commands run
    strategies: tuple[InstallStrategy, ...] = ()  # tried in this order; empty if there is nothing to install
    manager: ManagerRequirement | None = None  # None if nothing is installed
    lockfile: Path | None = None  # the one that the manager reads
    node: NodeRequirement | None = None  # from the repository or NODE_VERSION
    other_managers: frozenset[str] = frozenset()  # names of other managers that scripts call
    needs_tools: bool = False  # whether the build certainly runs Node
    is_custom: bool = False  # whether INSTALL_COMMAND, or a setting that replaces it, is run


@dataclass(frozen=True, slots=True)
class ExpectedOutput:
    """The folder where the site is expected after the build."""

    folder: str | None = None  # OUTPUT_DIR, or the folder of a site without a build; None to detect it
    framework: DetectedFramework = field(default_factory=DetectedFramework)
    other_site: str | None = None  # hint for a build that writes no site: which other script or package builds one
    other_host: tuple[Path, str] | None = None  # folder that another host would publish, and the setting that names it
    source: str | None = None  # the setting in a file that names `folder`; None for OUTPUT_DIR


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """The plan of a build, stage by stage."""

    app: AppLocation
    install: InstallStep
    build: BuildStep
    output: ExpectedOutput
    notes: tuple[str, ...] = ()  # for the log
    warnings: tuple[str, ...] = ()
    overrides: Overrides = field(default_factory=lambda: Overrides(None, None, None, None))  # applied to this plan


def plan_build(checkout: Path, overrides: Overrides) -> BuildPlan:
    """Plan the build of the app in `checkout`.

    Raises:
        BuildFailed: for the first stage that could not succeed.

    """
    checkout = Path(os.path.realpath(checkout))
    applied = apply_host_settings(checkout, overrides)
    plan = _plan_build(checkout, applied)
    folder = plan.app.folder
    if applied.root_dir is None and folder != checkout and not applied.build_command:
        nearer = apply_host_settings(checkout, overrides, app=folder)
        if (nearer.notes, nearer.warnings) != (applied.notes, applied.warnings):
            plan = _plan_build(checkout, nearer)
    return plan


def _plan_build(checkout: Path, overrides: Overrides) -> BuildPlan:
    top = find_top(checkout, overrides.root_dir)
    workspaces = Workspaces(checkout)
    if overrides.skip_build:
        note = f"{overrides.source_of('BUILD_COMMAND')} is empty: publishing the files as they are."
        return _plan_static(checkout, LocatedApp(top, static=True), top, overrides, note)
    app = _locate(checkout, top, workspaces, overrides)
    if app.static:
        return _plan_static(checkout, app, top, overrides)
    output_dir = _output_dir(overrides, app.folder)
    tools = find_required_tools(app.folder, checkout, workspaces, overrides.node_version)
    context = BuildContext(
        checkout,
        app,
        tools.root,
        tools.manager,
        workspaces,
        overrides.build_command,
        overrides.output_dir,
        preset=overrides.preset,
        from_file="BUILD_COMMAND" in overrides.sources,
    )
    installs_below = not overrides.install_command and not overrides.strict_lockfile
    build = plan_build_step(context, installs_below=installs_below)
    strategies = plan_strategies(
        app,
        tools,
        checkout,
        install_command=overrides.install_command,
        skip=overrides.skip_install,
        strict_lockfile=overrides.strict_lockfile,
    )
    called = find_called_managers(
        get_table(app.package, "scripts"), [build.step.script, overrides.install_command or "", *_HOOKS]
    )
    host = read_other_hosts(app.folder, checkout, given=overrides.names())
    monorepo = _warn_of_monorepo_tools(checkout, app, tools, overrides)
    return BuildPlan(
        AppLocation(
            checkout,
            app.folder,
            tools.root,
            build.site,
            app.package if build.site == app.folder else read_package(build.site, checkout),
        ),
        InstallStep(
            app.folder if overrides.install_command else tools.root,
            strategies,
            tools.manager,
            tools.lockfile,
            tools.node,
            frozenset((called | build.installers) - {tools.manager.name}),
            is_custom=bool(overrides.install_command),
            needs_tools=bool(
                tools.node or called or (app.package and not (overrides.install_command and overrides.build_command))
            ),
        ),
        build.step,
        ExpectedOutput(
            output_dir,
            build.framework,
            suggest_site(app.folder, checkout, app.package, tools.manager.name, tried=build.tried_scripts),
            host.published,
            _source_of_output(overrides),
        ),
        (*overrides.notes, *build.notes),
        tuple(filter(None, (*overrides.warnings, *tools.warnings, *build.warnings, monorepo, host.warning))),
        overrides,
    )


def _locate(checkout: Path, top: Path, workspaces: Workspaces, overrides: Overrides) -> LocatedApp:
    if overrides.install_command and overrides.build_command:
        return LocatedApp(top, read_package(top, checkout))
    search = Search(
        checkout,
        top,
        below=not overrides.root_dir,
        build_command=overrides.build_command,
        fixed=bool(overrides.install_command or overrides.output_dir),
    )
    locator = AppLocator(search, workspaces)
    app = locator.locate()
    if overrides.install_command and not app.package:
        raise locator.missing_app()
    return app


def _output_dir(overrides: Overrides, app: Path) -> str | None:
    """Return OUTPUT_DIR or its replacement, relative to the folder of the app."""
    return overrides.output_dir or (os.path.relpath(overrides.output, app) if overrides.output else None)


def _source_of_output(overrides: Overrides) -> str | None:
    """Return the setting in a file that replaces OUTPUT_DIR."""
    return overrides.sources.get("OUTPUT_DIR") if overrides.output else None


def _plan_static(
    checkout: Path, app: LocatedApp, top: Path, overrides: Overrides, note: str | None = None
) -> BuildPlan:
    """Plan a site without a build: OUTPUT_DIR, if it is set, or the site's folder is published as it is."""
    host = read_other_hosts(app.folder, checkout, given=overrides.names())
    output_dir = _output_dir(overrides, app.folder)
    folder = top if output_dir and not os.path.isdir(app.folder / output_dir) else app.folder
    note = note or "There is nothing to build: publishing the folder with index.html as it is."
    return BuildPlan(
        AppLocation(checkout, folder, folder, folder),
        InstallStep(folder),
        BuildStep(),
        ExpectedOutput(output_dir or ".", other_host=host.published),
        (*overrides.notes, *(app.notes or (note,))),
        (*overrides.warnings, *([host.warning] if host.warning else [])),
        overrides,
    )


def _warn_of_monorepo_tools(checkout: Path, app: LocatedApp, tools: RequiredTools, overrides: Overrides) -> str | None:
    """Return the warning that Rush or Lerna, which the repository uses, is not run."""
    if overrides.build_command or app.folder == checkout:
        return None
    if is_file(checkout / "rush.json"):
        return (
            "rush.json is ignored: packages of the repository that the app depends on are not built."
            " Set INSTALL_COMMAND and BUILD_COMMAND to run Rush."
        )
    if tools.root == app.folder and is_file(checkout / "lerna.json"):
        return "lerna.json is ignored: packages of the repository are not linked. List them under workspaces in package.json."
    return None
