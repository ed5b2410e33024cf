"""Turn a checked-out folder into a `BuildPlan`: where the app is, how it is installed and built, where its output will be.

Reads a few files of the repository, never through a link that leads out of it, and runs nothing.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildrunner.errors import BuildFailed
from buildrunner.project.alternatives import hint_at_site
from buildrunner.project.build_step import BuildContext, BuildStep, plan_build_step
from buildrunner.project.files import is_file, is_inside
from buildrunner.project.frameworks.record import DetectedFramework
from buildrunner.project.install_step import RequiredTools, find_required_tools, plan_strategies
from buildrunner.project.locate import AppLocator, LocatedApp, Search
from buildrunner.project.node_version import NodeRequirement
from buildrunner.project.other_hosts import read_other_hosts
from buildrunner.project.package_json import get_table, read_package
from buildrunner.project.package_managers.record import InstallStrategy, ManagerRequirement
from buildrunner.project.package_managers.table import find_called_managers, install_lines, run_lines
from buildrunner.project.workspaces import Workspaces

_HOOKS = ("prebuild", "postbuild", "preinstall", "install", "postinstall", "prepare")


@dataclass(frozen=True, slots=True)
class AppLocation:
    """Where the app is."""

    checkout: Path  # the top of the repository
    folder: Path  # of the app: what builds is run here, and OUTPUT_DIR is below it
    root: Path  # where dependencies are installed: the app's folder, or the top of its workspace
    site: Path  # of the package whose output is the site: the app's, or one that its build script builds
    package: Mapping[str, Any] = field(default_factory=dict)  # package.json of `site`; empty where there is none


@dataclass(frozen=True, slots=True)
class InstallStep:
    """How dependencies are installed."""

    folder: Path  # where the commands run
    strategies: tuple[InstallStrategy, ...] = ()  # tried in this order; empty where nothing is to be installed
    manager: ManagerRequirement | None = None  # None where nothing is installed
    lockfile: Path | None = None  # that the manager reads
    node: NodeRequirement | None = None  # what the repository or NODE_VERSION asks for
    other_managers: frozenset[str] = frozenset()  # names of those that scripts call besides
    needs_tools: bool = False  # whether Node is run for sure


@dataclass(frozen=True, slots=True)
class ExpectedOutput:
    """Where the site will be."""

    folder: str | None = None  # OUTPUT_DIR, or that of a site that nothing builds
    framework: DetectedFramework = field(default_factory=DetectedFramework)
    other_site: str | None = None  # the hint that names what else makes a site, where the build makes none
    other_host: tuple[Path, str] | None = None  # the folder that another host publishes, and the setting that says so


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What is run where."""

    app: AppLocation
    install: InstallStep
    build: BuildStep
    output: ExpectedOutput
    notes: tuple[str, ...] = ()  # for the log
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Overrides:
    """Settings that win over what is found; None for what is not given."""

    root_dir: str | None
    install_command: str | None
    build_command: str | None
    output_dir: str | None
    node_version: str | None = None
    strict_lockfile: bool = False

    def names(self) -> list[str]:
        """Return the names of those that another host's settings would replace."""
        given = {
            "INSTALL_COMMAND": self.install_command,
            "BUILD_COMMAND": self.build_command,
            "OUTPUT_DIR": self.output_dir,
        }
        return [name for name, value in given.items() if value]


def plan_build(checkout: Path, overrides: Overrides) -> BuildPlan:
    """Find out how the app in `checkout` is built.

    Raises:
        BuildFailed: at the first stage that could not work.

    """
    checkout = Path(os.path.realpath(checkout))
    top = (checkout / overrides.root_dir) if overrides.root_dir else checkout
    if not os.path.isdir(top) or not is_inside(top, checkout):
        raise BuildFailed(
            "install",
            f"The repository has no folder {overrides.root_dir}.",
            "Check the spelling of ROOT_DIR.",
            kind="root-dir-missing",
        )
    top = Path(os.path.realpath(top))  # as it is before any code of the repository runs
    workspaces = Workspaces(checkout)
    app = _locate(checkout, top, workspaces, overrides)
    if app.static:
        return _plan_static(checkout, app, top, overrides)
    tools = find_required_tools(app.folder, checkout, workspaces, overrides.node_version)
    context = BuildContext(
        checkout, app, tools.root, tools.manager, workspaces, overrides.build_command, overrides.output_dir
    )
    installs_below = not overrides.install_command and not overrides.strict_lockfile
    build = plan_build_step(context, installs_below=installs_below)
    strategies = plan_strategies(
        app,
        tools,
        checkout,
        install_command=overrides.install_command,
        strict_lockfile=overrides.strict_lockfile,
    )
    called = find_called_managers(
        get_table(app.package, "scripts"), [build.step.script, overrides.install_command or "", *_HOOKS]
    )
    host = read_other_hosts(
        app.folder,
        checkout,
        builds=[build.step.script, *run_lines(context.script_name or app.command), build.step.shown],
        installs=[*install_lines(), *(strategy.shown for strategy in strategies)],
        given=overrides.names(),
    )
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
            needs_tools=bool(
                tools.node or called or (app.package and not (overrides.install_command and overrides.build_command))
            ),
        ),
        build.step,
        ExpectedOutput(
            overrides.output_dir,
            build.framework,
            hint_at_site(app.folder, checkout, app.package, tools.manager.name, tried=build.tried_scripts),
            host.published,
        ),
        build.notes,
        tuple(filter(None, (*tools.warnings, *build.warnings, monorepo, host.warning))),
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
        raise locator.no_app()
    return app


def _plan_static(checkout: Path, app: LocatedApp, top: Path, overrides: Overrides) -> BuildPlan:
    """Plan for a site that nothing builds: its folder is what is published, or else that of OUTPUT_DIR."""
    host = read_other_hosts(app.folder, checkout, builds=(), installs=install_lines(), given=overrides.names())
    output_dir = overrides.output_dir
    folder = top if output_dir and not os.path.isdir(app.folder / output_dir) else app.folder
    note = "There is nothing to build: publishing the folder with index.html as it is."
    return BuildPlan(
        AppLocation(checkout, folder, folder, folder),
        InstallStep(folder),
        BuildStep(),
        ExpectedOutput(output_dir or ".", other_host=host.published),
        app.notes or (note,),
        (host.warning,) if host.warning else (),
    )


def _warn_of_monorepo_tools(checkout: Path, app: LocatedApp, tools: RequiredTools, overrides: Overrides) -> str | None:
    """Return the warning that a tool of the repository that links and builds packages is not run."""
    if overrides.build_command or app.folder == checkout:
        return None
    if is_file(checkout / "rush.json"):
        return (
            "rush.json is not read: what the app depends on in the repository is not built first."
            " Set INSTALL_COMMAND and BUILD_COMMAND to run Rush."
        )
    if tools.root == app.folder and is_file(checkout / "lerna.json"):
        return "lerna.json is not read: packages of the repository are not linked. Name them under workspaces in package.json."
    return None
