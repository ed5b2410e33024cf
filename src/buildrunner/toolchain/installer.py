"""Install Node and package managers in the versions that a repository requires, and set up its environment for them.

Each is one package of the npm registry without dependencies, so the runner fetches it directly. The commands of the repository can
read and run the tools but, in the image, not change them.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import anyio.to_thread

from buildrunner.errors import BuildFailed
from buildrunner.project.node_version import NodeRequirement
from buildrunner.project.package_managers.record import ManagerRequirement
from buildrunner.project.package_managers.table import DEFAULT_MANAGER, MANAGERS
from buildrunner.project.versions import intersects, major, satisfies
from buildrunner.toolchain.registry import Registry, Release, ToolStore, has_digest, open_registry
from buildrunner.toolchain.releases import find_commands, is_of_line, machine_name, newest, node_package, shown_range

# A manager must not refuse to run because the repository names another manager or version.
_ONE_OF_ITS_OWN = {"COREPACK_ENABLE_STRICT": "0", "SKIP_YARN_COREPACK_CHECK": "1"}


@dataclass(frozen=True, slots=True)
class ManagerCommand:
    """A command of a package manager."""

    name: str
    script: Path
    engines: str | None  # range of Node versions that it supports
    uses_own_node: bool = False  # whether it runs scripts with its own Node

    def runs_with(self, node: str) -> bool:
        return self.engines is None or satisfies(node, self.engines)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """The tools of an install and a build."""

    environment: Mapping[str, str]  # variables that make the tools available to install and build: PATH, …
    node: str  # version, such as 22.12.0
    manager: str | None  # version; None for the installed one
    warnings: tuple[str, ...] = ()
    commands: tuple[ManagerCommand, ...] = ()


class ToolchainInstaller:
    """Install tools into a folder of the build.

    Args:
        folder: folder for the tools, which is created; packages are stored in its folder `downloads`.
        environment: environment of the commands: PATH, and settings of npm and the network.
        log: function that logs a line.
        tool_store: cache of packages between builds.

    """

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        log: Callable[[str], None],
        tool_store: ToolStore | None = None,
    ) -> None:
        self.downloads = folder / "downloads"
        self._folder = folder
        self._bin = folder / "bin"
        self._environment = environment
        self._log = log
        self._tool_store = tool_store
        self._commands: list[ManagerCommand] = []
        for place in (folder, self.downloads, self._bin):
            place.mkdir(exist_ok=True)
            place.chmod(0o755)

    async def prepare(
        self,
        requirement: NodeRequirement | None,
        manager: ManagerRequirement,
        *,
        others: Iterable[str],
        installed: str | None,
        lockfile_version: int | None,
    ) -> Toolchain:
        """Install required tools that are not installed yet.

        Args:
            requirement: required Node; None for any.
            manager: required package manager.
            others: other managers that scripts call.
            installed: version of the installed Node; None if there is none.
            lockfile_version: version of npm's lockfile; None for other lockfiles.

        Raises:
            BuildFailed: a tool is not available.

        """
        warnings: list[str] = []
        async with self._registry() as registry:
            release = None
            if requirement and not (installed and requirement.accepts(installed)):
                release = await self._choose_node(registry, requirement, installed, warnings)
            node = release.version if release else installed
            if node is None:
                raise BuildFailed(
                    "install",
                    "node is not installed on the machine that builds.",
                    "Install Node.js with npm there, or use the image.",
                    kind="node-missing",
                )
            needed = None
            if manager.version and not manager.release and not (requirement and requirement.must):
                needed = await self._node_of_manager(registry, manager, requirement, node, installed, warnings)
            if needed:
                requirement, release = needed
                node = release.version
            if release:
                unpacked = await self._fetch(registry, release, only="bin/node")
                (self._bin / "node").symlink_to(unpacked / "bin/node")
            shown = None
            release_of_node = manager.record.release_of_node
            if manager.release:
                command = ManagerCommand(manager.name, manager.release, None, manager.record.uses_own_node)
                self._write_command(command, with_chosen=True)
                shown = "from the repository"
            elif release_of_node and not manager.version:
                wanted = release_of_node(node, lockfile_version) if release else None
                if wanted:
                    shown = await self._get_manager(registry, replace(manager, version=wanted), node, warnings)
            elif release_of_node and not release and not manager.digest and self._is_installed(manager):
                pass
            else:
                line = release_of_node(node, lockfile_version) if release_of_node and release else None
                if line and intersects(line, manager.version or "*", *manager.engines):
                    manager = replace(manager, version=line, engines=(manager.version or "*", *manager.engines))
                try:
                    shown = await self._get_manager(registry, manager, node, warnings)
                except BuildFailed as error:
                    if not release_of_node or release or not self._find_installed(manager.name):
                        raise
                    warnings.append(f"{error.reason} Continuing with the installed {manager.label}.")
            for name in sorted(set(others) - {manager.name}):
                if not self._find_installed(name):
                    called = ManagerRequirement(MANAGERS[name], MANAGERS[name].fetching.default)
                    await self._get_manager(registry, called, node, warnings)
        because = (
            f" ({requirement.because}: {requirement.text})" if requirement and requirement.text and release else ""
        )
        tool = f", {manager.label}{f' {shown}' if shown else ''}" if shown or not release_of_node else ""
        self._log(f"Node {node}{because}{tool}")
        found = {"PATH": f"{self._bin}{os.pathsep}{self._environment['PATH']}", **_ONE_OF_ITS_OWN}
        if not manager.release:
            found |= dict(manager.record.fetching.environment)
        return Toolchain(found, node, shown, tuple(warnings), tuple(self._commands))

    async def change_node(self, requirement: NodeRequirement, toolchain: Toolchain) -> Toolchain:
        """Install another Node for dependencies that are already installed; the package manager stays.

        The manager runs with that Node too if it can, because Yarn runs scripts with its own Node.

        Raises:
            BuildFailed: that Node is not available.

        """
        warnings: list[str] = []
        async with self._registry() as registry:
            release = await self._choose_node(registry, requirement, toolchain.node, warnings)
            if release is None:
                return replace(toolchain, environment={}, warnings=tuple(warnings))
            for command in toolchain.commands:
                if command.uses_own_node and not command.runs_with(release.version):
                    raise BuildFailed(
                        "install",
                        f"`{command.name}` does not run with Node {release.version}, and starts scripts with its own Node.",
                        kind="package-manager-unusable",
                    )
            unpacked = await self._fetch(registry, release, only="bin/node")
            (self._bin / "node").symlink_to(unpacked / "bin/node")
        for command in toolchain.commands:
            if command.runs_with(release.version):
                self._write_command(command, with_chosen=True)
        self._pin_installed_npm()
        because = f" ({requirement.because}: {requirement.text})" if requirement.text else ""
        self._log(f"Node {release.version} for the build{because}")
        changed = {"PATH": f"{self._bin}{os.pathsep}{self._environment['PATH']}"}
        return replace(toolchain, environment=changed, node=release.version, warnings=tuple(warnings))

    def _find_installed(self, program: str) -> str | None:
        return shutil.which(program, path=self._environment["PATH"])

    def _is_installed(self, manager: ManagerRequirement) -> bool:
        """Return whether the installed manager satisfies the repository's requirement."""
        found = self._find_installed(manager.name)
        with suppress(OSError, ValueError, TypeError, AttributeError):
            package = json.loads((Path(found or "").resolve().parent.parent / "package.json").read_text())
            return package.get("name") == manager.name and manager.accepts(package["version"])
        return False

    def _pin_installed_npm(self) -> None:
        """Run the installed npm with its own Node; its shebang would use the Node on PATH, which differs now."""
        for name in DEFAULT_MANAGER.fetching.commands:
            found = self._find_installed(name)
            script = Path(found).resolve() if found else None
            if script and script.suffix == ".js" and not (self._bin / name).exists():
                self._write_command(ManagerCommand(name, script, None), with_chosen=False)

    async def _node_of_manager(
        self,
        registry: Registry,
        manager: ManagerRequirement,
        requirement: NodeRequirement | None,
        node: str,
        installed: str | None,
        warnings: list[str],
    ) -> tuple[NodeRequirement, Release] | None:
        """Find the Node to run the manager with if `node` and the installed one are too old for it.

        It is the lowest suitable major version, which also satisfies the requirement if there is one, and so the closest to `node`.
        """
        try:
            tool = await self._choose_manager(registry, manager, node, [])
        except BuildFailed:
            if not manager.record.release_of_node:
                raise
            return None  # the installed one may be suitable
        engines = tool.engines
        if engines is None or any(satisfies(version, engines) for version in (node, installed or node)):
            return None
        try:
            releases = await registry.releases(node_package())
        except BuildFailed as error:
            warnings.append(f"{error.reason} {manager.label} {tool.version} requires Node {engines}; {node} is used.")
            return None
        lines = [
            release
            for release in releases
            if major(release.version) >= major(node)
            and major(release.version) % 2 == 0
            and satisfies(release.version, engines)
        ]
        both = [release for release in lines if requirement is None or requirement.accepts(release.version)]
        lowest = min((major(release.version) for release in both or lines), default=None)
        found = newest(release for release in both or lines if major(release.version) == lowest)
        if found is None:
            return None
        because = f"engines of {manager.label} {tool.version}"
        if requirement and not both:
            warnings.append(
                f"{requirement.because} requires Node {requirement.shown}, with which {manager.label} {tool.version} does not"
                f" run: Node {found.version} is used. Name one that both accept."
            )
        return NodeRequirement((engines,), because, engines, must=False), found

    async def _choose_node(
        self, registry: Registry, requirement: NodeRequirement, installed: str | None, warnings: list[str]
    ) -> Release | None:
        """Return the newest Node that satisfies the requirement; None for the installed one, if it may be used instead."""
        try:
            releases = await registry.find(
                node_package(), requirement.ranges[0] if len(requirement.ranges) == 1 else ""
            )
        except BuildFailed as error:
            if requirement.must or not installed:
                raise
            warnings.append(
                f"{error.reason} {requirement.because} requires Node {requirement.text}; using the installed {installed}."
            )
            return None
        found = newest(release for release in releases if requirement.accepts(release.version))
        if found:
            return found
        exact = re.fullmatch(r"[v=\s]*(\d{1,9})\.\d{1,9}\.\d{1,9}\s*", requirement.text)
        if exact and (near := newest(release for release in releases if is_of_line(release.version, int(exact[1])))):
            warnings.append(
                f"{requirement.because} requires Node {requirement.text}, which the registry does not provide:"
                f" {near.version} is used."
            )
            return None if installed and near.version == installed else near
        there = f"The installed one is {installed or 'missing'}; the registry has {shown_range(releases)}."
        asked = f"{requirement.because} requires Node {requirement.shown}, which the registry does not provide"
        if requirement.must or not installed:
            raise BuildFailed("install", f"{asked}.", f"{there} Name one of these.", kind="node-version-missing")
        warnings.append(f"{asked}. {there} Using the installed one.")
        return None

    async def _get_manager(
        self, registry: Registry, manager: ManagerRequirement, node: str, warnings: list[str]
    ) -> str:
        """Install a package manager, create its commands, and return its version."""
        release = await self._choose_manager(registry, manager, node, warnings)
        digest = manager.digest if release.version == manager.version else None
        fetching = manager.record.fetching
        # The digest may be that of another package with the same program.
        of_package = not fetching.digest_file and release.package == fetching.package_for(machine_name())
        unpacked = await self._fetch(registry, release, digest=digest if of_package else None)
        if digest and fetching.digest_file and not has_digest(unpacked / fetching.digest_file, *digest):
            raise _wrong_digest(f"{manager.label} {release.version}")
        for name, script in find_commands(manager.record, unpacked).items():
            command = ManagerCommand(name, unpacked / script, release.engines, manager.record.uses_own_node)
            self._write_command(command, with_chosen=command.runs_with(node))
        return release.version

    async def _choose_manager(
        self, registry: Registry, manager: ManagerRequirement, node: str, warnings: list[str]
    ) -> Release:
        wanted = manager.version or "*"
        machine = machine_name()
        fetching = manager.record.fetching
        package = fetching.package_for(machine)
        releases = await registry.find(package, wanted)
        conflict = manager.record.node_conflict
        if conflict and major(node) >= conflict.node:
            old = newest(release for release in releases if manager.accepts(release.version))
            if old and satisfies(old.version, conflict.releases):
                line = max(major(old.version), conflict.oldest)
                warnings.append(
                    f"{manager.label} {old.version} cannot work with Node {node}: using the newest {manager.label} {line}."
                )
                wanted = f"^{line}.0.0"
                manager = replace(manager, version=wanted, engines=())
                releases = await registry.releases(package)
        fitting = [release for release in releases if manager.accepts(release.version)]
        if not fitting and manager.engines and (fitting := [r for r in releases if satisfies(r.version, wanted)]):
            warnings.append(
                f"The registry has no {manager.label} {' '.join((wanted, *manager.engines))}, which package.json requires:"
                f" {manager.label} {wanted} is used."
            )
        release = newest(r for r in fitting if r.engines is None or satisfies(node, r.engines)) or newest(fitting)
        if release is None and re.fullmatch(r"v?\d+\.\d+\.\d+", wanted):
            release = newest(r for r in releases if is_of_line(r.version, major(wanted)))
            if release:
                warnings.append(f"{manager.label} {wanted} is not in the registry: {release.version} is used.")
        if release is None:
            raise BuildFailed(
                "install",
                f"{manager.label} {wanted}, which {manager.because} requires, is not in the registry.",
                f"The registry has {shown_range(releases)}. Name one of these.",
                kind="package-manager-version-missing",
            )
        if fetching.native and major(release.version) >= fetching.native[0]:
            programs = await registry.find(fetching.native[1].format(machine=machine), release.version)
            release = next((r for r in programs if r.version == release.version), release)
        return release

    def _write_command(self, command: ManagerCommand, *, with_chosen: bool) -> None:
        """Create a command; a manager that doesn't run with the chosen Node runs with the Node installed before."""
        self._commands.append(command)
        path, script = self._bin / command.name, command.script
        if script.suffix not in {".js", ".cjs", ".mjs"}:
            path.symlink_to(script)
            return
        program = self._bin / "node"
        if not (with_chosen and program.exists()):
            program = Path(shutil.which("node", path=self._environment["PATH"]) or "node")
        path.write_text(f'#!/bin/sh\nexec {shlex.quote(str(program))} {shlex.quote(str(script))} "$@"\n')
        path.chmod(0o755)

    async def _fetch(
        self,
        registry: Registry,
        release: Release,
        *,
        only: str | None = None,
        digest: tuple[str, str] | None = None,
    ) -> Path:
        """Fetch a package, verify it, and unpack it, or only the file `only`."""
        archive = await registry.fetch(release)
        if digest and not await anyio.to_thread.run_sync(has_digest, archive, *digest):
            raise _wrong_digest(f"{release.package} {release.version}")
        target = self._folder / release.file_name
        await registry.unpack(release, target, only=only)
        return target

    def _registry(self) -> AbstractAsyncContextManager[Registry]:
        return open_registry(self._environment, downloads=self.downloads, log=self._log, tool_store=self._tool_store)


def _wrong_digest(what: str) -> BuildFailed:
    return BuildFailed(
        "install",
        f"packageManager of package.json names another digest than {what} has.",
        "Set it again with `corepack use`, or remove the part after the + sign.",
        kind="package-manager-digest-mismatch",
    )
