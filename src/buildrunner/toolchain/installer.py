"""Node and package managers in the versions that a repository asks for: which these are, and how its commands find them.

Each is one package of the npm registry that needs no other, so the runner fetches it itself. The tools lie where the repository's
commands can read and start them and, as root, not change them.
"""

from __future__ import annotations

import json
import os
import platform
import re
import shlex
import shutil
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import anyio.to_thread

from buildrunner.errors import BuildFailed
from buildrunner.project.node_version import NodeRequirement
from buildrunner.project.package_managers.install import Manager, Name
from buildrunner.project.versions import intersects, major, numbers, satisfies
from buildrunner.toolchain.registry import Keeper, Registry, Release, has_digest, open_registry

_MACHINES = {"x86_64": "x64", "amd64": "x64", "aarch64": "arm64", "arm64": "arm64"}
# Which npm came with the last release of a line: https://nodejs.org/en/about/previous-releases. Later ones run with the
# installed npm.
_NPM_OF_NODE: Mapping[int, int] = {
    4: 2,
    5: 3,
    6: 3,
    7: 4,
    8: 6,
    9: 5,
    15: 7,
    16: 8,
    17: 8,
    18: 10,
    19: 9,
    **dict.fromkeys(range(10, 15), 6),
    **dict.fromkeys(range(20, 24), 10),
}
# A manager that is called in a repository that names another, or another version, is not to refuse.
_ONE_OF_ITS_OWN = {"COREPACK_ENABLE_STRICT": "0", "SKIP_YARN_COREPACK_CHECK": "1"}
# These fetch nothing with Node 20 and later, which checks the `this` of URLSearchParams (ERR_INVALID_THIS).
_PNPM_BEFORE_NODE_20 = "<7.33.0 || >=8.0.0 <8.3.1"


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a package manager that was fetched."""

    name: str
    script: Path
    engines: str | None  # range of Node that it runs with

    def runs_with(self, node: str) -> bool:
        return self.engines is None or satisfies(node, self.engines)


@dataclass(frozen=True, slots=True)
class Toolchain:
    """What install and build run with."""

    environment: Mapping[str, str]  # what install and build need so that they find the tools, and no others: PATH, …
    node: str  # version, such as 22.12.0
    manager: str | None  # version; None where what is installed is used as it is
    warnings: tuple[str, ...] = ()
    commands: tuple[Command, ...] = ()


class Tools:
    """Gets tools into a folder of the run's.

    Args:
        folder: where they go; it is made. `downloads` in it holds their packages.
        environment: that of the commands: PATH, and the settings of npm and of the network.
        log: takes a line for the build's log.
        keeper: keeps packages from build to build.

    """

    def __init__(
        self, folder: Path, environment: Mapping[str, str], log: Callable[[str], None], keeper: Keeper | None = None
    ) -> None:
        self.downloads = folder / "downloads"
        self._folder = folder
        self._bin = folder / "bin"
        self._environment = environment
        self._log = log
        self._keeper = keeper
        self._commands: list[Command] = []
        for place in (folder, self.downloads, self._bin):
            place.mkdir(exist_ok=True)
            place.chmod(0o755)

    async def prepare(
        self,
        wish: NodeRequirement | None,
        manager: Manager,
        *,
        others: Iterable[Name],
        installed: str | None,
        lockfile_version: int | None,
    ) -> Toolchain:
        """Get what is asked for and is not there.

        Args:
            wish: the Node that is asked for, if one is.
            manager: the package manager.
            others: managers that scripts call besides it.
            installed: version of the Node that is installed; None where there is none.
            lockfile_version: of npm's lockfile, if it is npm's.

        Raises:
            BuildFailed: when it cannot be had.

        """
        warnings: list[str] = []
        async with self._registry() as registry:
            release = None
            if wish and not (installed and wish.accepts(installed)):
                release = await self._choose_node(registry, wish, installed, warnings)
            node = release.version if release else installed
            if node is None:
                raise BuildFailed(
                    "install",
                    "node is not installed on the machine that builds.",
                    "Install Node.js with npm there, or use the image.",
                )
            needed = None
            if manager.version and not manager.release and not (wish and wish.must):
                needed = await self._node_of_manager(registry, manager, wish, node, installed, warnings)
            if needed:
                wish, release = needed
                node = release.version
            if release:
                unpacked = await self._fetch(registry, release, only="bin/node")
                (self._bin / "node").symlink_to(unpacked / "bin/node")
            shown = None
            if manager.release:
                self._write_command(Command("yarn", manager.release, None), with_chosen=True)
                shown = "as the repository holds it"
            elif manager.name == "npm" and not manager.version:
                wanted = _npm_for(node, lockfile_version) if release else None
                if wanted:
                    shown = await self._get_manager(registry, Manager("npm", wanted), node, warnings)
            elif manager.name == "npm" and not release and not manager.digest and self._has_npm(manager):
                pass
            else:
                line = _npm_for(node, lockfile_version) if manager.name == "npm" and release else None
                if line and intersects(line, manager.version or "*", *manager.engines):
                    manager = replace(manager, version=line, engines=(manager.version or "*", *manager.engines))
                try:
                    shown = await self._get_manager(registry, manager, node, warnings)
                except BuildFailed as error:
                    if manager.name != "npm" or release or not shutil.which("npm", path=self._environment["PATH"]):
                        raise
                    warnings.append(f"{error.reason} The installed npm is used.")
            for name in sorted(set(others) - {manager.name}):
                if not shutil.which(name, path=self._environment["PATH"]):
                    version = {"yarn": "^1.22.0", "pnpm": "^10.0.0"}.get(name)
                    await self._get_manager(registry, Manager(name, version), node, warnings)
        because = f" ({wish.because}: {wish.text})" if wish and wish.text and release else ""
        tool = f", {manager.label}{f' {shown}' if shown else ''}" if manager.name != "npm" or shown else ""
        self._log(f"Node {node}{because}{tool}")
        found = {"PATH": f"{self._bin}{os.pathsep}{self._environment['PATH']}", **_ONE_OF_ITS_OWN}
        if manager.modern and not manager.release:
            found["YARN_IGNORE_PATH"] = "1"  # what .yarnrc.yml names is not in the repository
        return Toolchain(found, node, shown, tuple(warnings), tuple(self._commands))

    async def change_node(self, wish: NodeRequirement, toolchain: Toolchain) -> Toolchain:
        """Get another Node for what has been installed already; the package manager stays.

        It runs with that Node, too, where it can: Yarn starts scripts with the Node that it runs with itself.

        Raises:
            BuildFailed: when it cannot be had.

        """
        warnings: list[str] = []
        async with self._registry() as registry:
            release = await self._choose_node(registry, wish, toolchain.node, warnings)
            if release is None:
                return replace(toolchain, environment={}, warnings=tuple(warnings))
            if any(command.name == "yarn" and not command.runs_with(release.version) for command in toolchain.commands):
                raise BuildFailed(
                    "install",
                    f"Yarn does not run with Node {release.version}, and starts scripts with the Node that it runs with.",
                )
            unpacked = await self._fetch(registry, release, only="bin/node")
            (self._bin / "node").symlink_to(unpacked / "bin/node")
        for command in toolchain.commands:
            if command.runs_with(release.version):
                self._write_command(command, with_chosen=True)
        self._keep_installed_npm()
        because = f" ({wish.because}: {wish.text})" if wish.text else ""
        self._log(f"Node {release.version} for the build{because}")
        changed = {"PATH": f"{self._bin}{os.pathsep}{self._environment['PATH']}"}
        return replace(toolchain, environment=changed, node=release.version, warnings=tuple(warnings))

    def _has_npm(self, manager: Manager) -> bool:
        """Return whether the installed npm is one that the repository asks for."""
        found = shutil.which("npm", path=self._environment["PATH"])
        with suppress(OSError, ValueError, TypeError, AttributeError):
            package = json.loads((Path(found or "").resolve().parent.parent / "package.json").read_text())
            return package.get("name") == "npm" and manager.accepts(package["version"])
        return False

    def _keep_installed_npm(self) -> None:
        """Have the installed npm run with the Node that it ran with: its first line asks for that of PATH, which is another now."""
        for name in ("npm", "npx"):
            found = shutil.which(name, path=self._environment["PATH"])
            script = Path(found).resolve() if found else None
            if script and script.suffix == ".js" and not (self._bin / name).exists():
                self._write_command(Command(name, script, None), with_chosen=False)

    async def _node_of_manager(
        self,
        registry: Registry,
        manager: Manager,
        wish: NodeRequirement | None,
        node: str,
        installed: str | None,
        warnings: list[str],
    ) -> tuple[NodeRequirement, Release] | None:
        """Find the Node that the manager runs with, where `node` and the installed one are too old for it.

        It is of the lowest line that will do, for the wish as well if there is one: the nearest to what it would have been.
        """
        try:
            tool = await self._choose_manager(registry, manager, node, [])
        except BuildFailed:
            if manager.name != "npm":
                raise
            return None  # the installed one may do
        engines = tool.engines
        if engines is None or any(satisfies(version, engines) for version in (node, installed or node)):
            return None
        try:
            releases = await registry.releases(_node_package())
        except BuildFailed as error:
            warnings.append(f"{error.reason} {manager.label} {tool.version} asks for Node {engines}; {node} is used.")
            return None
        lines = [
            release
            for release in releases
            if major(release.version) >= major(node)
            and major(release.version) % 2 == 0
            and satisfies(release.version, engines)
        ]
        both = [release for release in lines if wish is None or wish.accepts(release.version)]
        lowest = min((major(release.version) for release in both or lines), default=None)
        found = _newest(release for release in both or lines if major(release.version) == lowest)
        if found is None:
            return None
        because = f"engines of {manager.label} {tool.version}"
        if wish and not both:
            warnings.append(
                f"{wish.because} asks for Node {wish.text or ' and '.join(wish.ranges)}, with which {manager.label}"
                f" {tool.version} does not run: Node {found.version} is used. Name one that both accept."
            )
        return NodeRequirement((engines,), because, engines, must=False), found

    async def _choose_node(
        self, registry: Registry, wish: NodeRequirement, installed: str | None, warnings: list[str]
    ) -> Release | None:
        """Choose the newest Node that satisfies; None is the installed one, where nothing does and it may be."""
        try:
            releases = await registry.find(_node_package(), wish.ranges[0] if len(wish.ranges) == 1 else "")
        except BuildFailed as error:
            if wish.must or not installed:
                raise
            warnings.append(
                f"{error.reason} {wish.because} asks for Node {wish.text}; the installed {installed} is used."
            )
            return None
        found = _newest(release for release in releases if wish.accepts(release.version))
        if found:
            return found
        exact = re.fullmatch(r"[v=\s]*(\d{1,9})\.\d{1,9}\.\d{1,9}\s*", wish.text)
        if exact and (near := _newest(release for release in releases if _is_line(release.version, int(exact[1])))):
            warnings.append(
                f"{wish.because} asks for Node {wish.text}, which the registry does not have: {near.version} is used."
            )
            return None if installed and near.version == installed else near
        there = f"The installed one is {installed or 'missing'}; the registry has {_lines(releases)}."
        asked = f"{wish.because} asks for Node {wish.text or ' and '.join(wish.ranges)}, which cannot be had"
        if wish.must or not installed:
            raise BuildFailed("install", f"{asked}.", f"{there} Name one of these.")
        warnings.append(f"{asked}. {there} The installed one is used.")
        return None

    async def _get_manager(self, registry: Registry, manager: Manager, node: str, warnings: list[str]) -> str:
        """Get a package manager, make its commands, and give its version."""
        release = await self._choose_manager(registry, manager, node, warnings)
        digest = manager.digest if release.version == manager.version else None
        # It is that of the package; of Yarn's one file from 2 on; and pnpm 12's program is in a package of its own.
        of_package = not manager.modern and not release.package.startswith("@pnpm/")
        unpacked = await self._fetch(registry, release, digest=digest if of_package else None)
        if digest and manager.modern and not has_digest(unpacked / "bin/yarn.js", *digest):
            raise _wrong_digest(f"Yarn {release.version}")
        for name, script in _commands_of(manager.name, unpacked).items():
            command = Command(name, unpacked / script, release.engines)
            self._write_command(command, with_chosen=command.runs_with(node))
        return release.version

    async def _choose_manager(self, registry: Registry, manager: Manager, node: str, warnings: list[str]) -> Release:
        wanted = manager.version or "*"
        # Yarn 2.4 and later is a package of its own; pnpm 12 and Bun are programs, one package for each machine.
        machine = _machine()
        package = {
            "npm": "npm",
            "pnpm": "pnpm",
            "yarn": "@yarnpkg/cli-dist" if manager.modern else "yarn",
            "bun": f"@oven/bun-linux-{'aarch64' if machine == 'arm64' else machine}",
        }[manager.name]
        releases = await registry.find(package, wanted)
        if manager.name == "pnpm" and major(node) >= 20:
            old = _newest(release for release in releases if manager.accepts(release.version))
            if old and satisfies(old.version, _PNPM_BEFORE_NODE_20):
                line = max(major(old.version), 7)
                warnings.append(f"pnpm {old.version} cannot work with Node {node}: the newest pnpm {line} is used.")
                wanted = f"^{line}.0.0"
                manager = replace(manager, version=wanted, engines=())
                releases = await registry.releases(package)
        fitting = [release for release in releases if manager.accepts(release.version)]
        if not fitting and manager.engines and (fitting := [r for r in releases if satisfies(r.version, wanted)]):
            warnings.append(
                f"The registry has no {manager.label} {' '.join((wanted, *manager.engines))}, which package.json asks for:"
                f" {manager.label} {wanted} is used."
            )
        release = _newest(r for r in fitting if r.engines is None or satisfies(node, r.engines)) or _newest(fitting)
        if release is None and re.fullmatch(r"v?\d+\.\d+\.\d+", wanted):
            release = _newest(r for r in releases if _is_line(r.version, major(wanted)))
            if release:
                warnings.append(f"{manager.label} {wanted} is not in the registry: {release.version} is used.")
        if release is None:
            raise BuildFailed(
                "install",
                f"{manager.label} {wanted}, which {manager.because} asks for, is not in the registry.",
                f"The registry has {_lines(releases)}. Name one of these.",
            )
        if package == "pnpm" and major(release.version) >= 12:
            programs = await registry.find(f"@pnpm/exe.linux-{machine}", release.version)
            release = next((r for r in programs if r.version == release.version), release)
        return release

    def _write_command(self, command: Command, *, with_chosen: bool) -> None:
        """Make a command; a manager that is too new for the chosen Node runs with the one that was there before."""
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
        """Get a package, check it, and unpack it (or the one file `only`)."""
        archive = await registry.fetch(release)
        if digest and not await anyio.to_thread.run_sync(has_digest, archive, *digest):
            raise _wrong_digest(f"{release.package} {release.version}")
        target = self._folder / release.file_name
        await registry.unpack(release, target, only=only)
        return target

    def _registry(self) -> AbstractAsyncContextManager[Registry]:
        return open_registry(self._environment, downloads=self.downloads, log=self._log, keeper=self._keeper)


def _machine() -> str:
    return _MACHINES.get(platform.machine().lower(), platform.machine())


def _node_package() -> str:
    return f"node-linux-{_machine()}"


def _wrong_digest(what: str) -> BuildFailed:
    return BuildFailed(
        "install",
        f"packageManager of package.json names another digest than {what} has.",
        "Set it anew with `corepack use`, or leave out what is behind the + sign.",
    )


def _commands_of(name: Name, package: Path) -> dict[str, str]:
    """Give the commands of a manager, and the file of its package that each starts."""
    wanted = {"npm": ("npm", "npx"), "pnpm": ("pnpm", "pnpx"), "yarn": ("yarn", "yarnpkg"), "bun": ("bun", "bunx")}[
        name
    ]
    bins: Any = None
    with suppress(OSError, ValueError):
        bins = json.loads((package / "package.json").read_text()).get("bin")
    if name == "bun":
        return dict.fromkeys(wanted, "bin/bun")  # it looks at the name that it is started by
    if not isinstance(bins, dict):
        bins = {}
    if name == "pnpm" and (package / "pnpm").is_file() and "pnpm" not in bins:
        bins = {"pnpm": "pnpm"}
    return {command: str(bins[command]) for command in wanted if command in bins}


def _npm_for(node: str, lockfile_version: int | None) -> str | None:
    """Choose the npm for a Node that was fetched: the one it came with, unless that cannot read the lockfile.

    npm 6 and older read lockfileVersion 1 and, of 2, the same part; 3 lacks it.
    https://docs.npmjs.com/cli/configuring-npm/package-lock-json#lockfileversion
    """
    line = _NPM_OF_NODE.get(major(node))
    if line is None:
        return None
    return "^8.0.0" if lockfile_version == 3 and line < 7 else f"^{line}.0.0"


def _newest(releases: Iterable[Release]) -> Release | None:
    return max(releases, key=lambda release: numbers(release.version), default=None)


def _lines(releases: Sequence[Release]) -> str:
    plain = sorted((r.version for r in releases if "-" not in r.version), key=numbers)
    return f"{plain[0]} to {plain[-1]}" if plain else "none"


def _is_line(version: str, line: int) -> bool:
    return "-" not in version and major(version) == line
