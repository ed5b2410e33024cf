"""Plan the install stage: the package manager, Node.js version, lockfile and commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from buildrunner.errors import BuildFailed
from buildrunner.project.locate import LocatedApp
from buildrunner.project.node_version import NodeRequirement, find_node
from buildrunner.project.package_json import dependency_names, read_package
from buildrunner.project.package_managers.detect import detect_manager
from buildrunner.project.package_managers.install import list_strategies
from buildrunner.project.package_managers.record import SHELL, InstallStrategy, ManagerRequirement
from buildrunner.project.workspaces import Workspaces


@dataclass(frozen=True, slots=True)
class RequiredTools:
    """The package manager and the Node.js version that a repository requires."""

    root: Path  # where dependencies are installed: the app's folder, or the top of its workspace
    manager: ManagerRequirement
    lockfile: Path | None  # the one that the manager reads
    node: NodeRequirement | None
    warnings: tuple[str, ...]


def find_required_tools(
    folder: Path, checkout: Path, workspaces: Workspaces, node_version: str | None
) -> RequiredTools:
    """Detect the tools that install the app in `folder`; `node_version` is NODE_VERSION.

    Raises:
        BuildFailed: if NODE_VERSION is not a version.

    """
    manager, lockfile, about_manager = detect_manager(folder, checkout)
    root = workspaces.find_root(folder) or folder
    if lockfile and lockfile.parent == folder:
        root = folder
    elif lockfile and lockfile.parent != root:
        lockfile = None  # belongs to another project in the repository
    node, about_node = find_node(folder, checkout, node_version)
    return RequiredTools(root, manager, lockfile, node, (*about_manager, *about_node))


def plan_strategies(
    app: LocatedApp,
    tools: RequiredTools,
    checkout: Path,
    *,
    install_command: str | None,
    skip: bool,
    strict_lockfile: bool,
) -> tuple[InstallStrategy, ...]:
    """List the strategies to install dependencies, in the order in which they are tried; empty if there are none to install.

    Raises:
        BuildFailed: if a lockfile is required but missing.

    """
    if skip:
        return ()
    if install_command:
        return (InstallStrategy((*SHELL, install_command)),)
    if not app.package:
        return ()
    needed = any(dependency_names(read_package(place, checkout)) for place in {app.folder, tools.root})
    lockfile = tools.lockfile.name if tools.lockfile else None
    strategies = list_strategies(tools.manager, lockfile=lockfile, needed=needed)
    if strict_lockfile and not strategies[0].frozen:
        raise BuildFailed(
            "install",
            f"The repository has no lockfile of {tools.manager.label}, and STRICT_LOCKFILE requires one.",
            strategies[0].remedy,
            kind="lockfile-missing",
        )
    return strategies
