"""Read turbo.json and nx.json: the scripts to run before a package of a workspace is built, and the Nx projects.

https://turborepo.dev/docs/reference/configuration#dependson and https://nx.dev/reference/project-configuration#dependson.
"""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildrunner.project.config_files import Config, dict_of, parse_json, paths_of, read_configuration, without_comments
from buildrunner.project.files import find_folders
from buildrunner.project.package_json import DEPENDENCY_TABLES, get_table, read_package

_PROJECT_DEPTH = 3  # levels of folders that are searched for Nx projects
_MAX_PROJECTS = 200
_MAX_STEPS = 1000


@dataclass(frozen=True, slots=True)
class Step:
    """A script that has to run before the app's build."""

    folder: Path
    script: str


def list_steps_before(app: Path, root: Path, checkout: Path, members: Mapping[str, Path]) -> list[Step]:
    """List the scripts to run before the app's build script, in order.

    The app's workspace dependencies are built first, even without turbo.json or nx.json, which can add more scripts.

    Args:
        app: the folder of the app; `checkout` is the repository's.
        root: the top of the workspace.
        members: the folders of the workspace's packages by package name.

    """
    graph = _Graph(root, checkout, members)
    first = Step(app, "build")
    order: list[Step] = []
    seen = {first}
    waiting: list[tuple[Step, Iterator[Step]]] = [(first, graph.needs(first))]
    while waiting:  # depth first without recursion: a repository may chain thousands of scripts
        step, needs = waiting[-1]
        following = next((need for need in needs if need not in seen), None)
        if following and len(seen) < _MAX_STEPS:
            seen.add(following)
            waiting.append((following, graph.needs(following)))
            continue
        waiting.pop()
        if step != first and isinstance(
            get_table(read_package(step.folder, checkout), "scripts").get(step.script), str
        ):
            order.append(step)
    return order


class _Graph:
    def __init__(self, root: Path, checkout: Path, members: Mapping[str, Path]) -> None:
        self._root = root
        self._checkout = checkout
        self._members = members
        self._names = {folder: name for name, folder in members.items()}
        turbo = self._read_json(root / "turbo.json")
        self._turbo = {**dict_of(turbo.get("pipeline")), **dict_of(turbo.get("tasks"))}
        nx = parse_json(read_configuration(root / "nx.json", checkout))
        self._nx = nx or {}
        self._has_nx = nx is not None

    def needs(self, step: Step) -> Iterator[Step]:
        """Yield the steps that a step depends on; their scripts may not exist."""
        if step.folder == self._root and step.folder not in self._names:
            return
        entries = self._read_depends_on(step)
        if step.script == "build":
            entries = ["^build", *entries]
        for entry in entries:
            if isinstance(entry, dict):  # only in Nx
                yield from self._resolve_object(entry, step)
            elif isinstance(entry, str) and not entry.startswith("$"):
                yield from self._resolve_text(entry, step)

    def _resolve_text(self, entry: str, step: Step) -> Iterator[Step]:
        package, separator, task = entry.partition("#")
        if entry.startswith("^"):
            for folder in self._dependencies(step.folder):
                yield Step(folder, entry[1:])
        elif separator:
            if package == "//" or package in self._members:
                yield Step(self._members.get(package, self._root), task)
        elif ":" in entry and entry.partition(":")[0] in self._members:  # only in Nx
            name, _, task = entry.partition(":")
            yield Step(self._members[name], task)
        else:
            yield Step(step.folder, entry)

    def _resolve_object(self, entry: Mapping[str, Any], step: Step) -> Iterator[Step]:
        task, projects = entry.get("target"), entry.get("projects")
        if not isinstance(task, str):
            return
        if projects == "dependencies" or entry.get("dependencies") is True:
            yield from self._resolve_text(f"^{task}", step)
        elif projects in (None, "self"):
            yield Step(step.folder, task)
        for name in projects if isinstance(projects, list) else [projects]:
            if isinstance(name, str) and name in self._members:
                yield Step(self._members[name], task)

    def _dependencies(self, folder: Path) -> Iterator[Path]:
        package = read_package(folder, self._checkout)
        for kind in DEPENDENCY_TABLES:
            yield from (self._members[name] for name in get_table(package, kind) if name in self._members)
        for settings in (dict_of(package.get("nx")), self._read_json(folder / "project.json") if self._has_nx else {}):
            names = settings.get("implicitDependencies")
            for name in names if isinstance(names, list) else []:
                if isinstance(name, str) and name in self._members:
                    yield self._members[name]

    def _read_depends_on(self, step: Step) -> list[Any]:
        own = dict_of(self._read_json(step.folder / "turbo.json").get("tasks")) if self._turbo else {}
        package = read_package(step.folder, self._checkout)
        project = self._read_json(step.folder / "project.json") if self._has_nx else {}
        candidates = (
            own.get(step.script),
            self._turbo.get(f"{self._names.get(step.folder)}#{step.script}"),
            self._turbo.get(step.script),
            dict_of(project.get("targets")).get(step.script),
            dict_of(dict_of(package.get("nx")).get("targets")).get(step.script),
            dict_of(self._nx.get("targetDefaults")).get(step.script),
        )
        for candidate in candidates:
            if isinstance(found := dict_of(candidate).get("dependsOn"), list):
                return found[:_MAX_PROJECTS]
        legacy = dict_of(self._nx.get("targetDependencies")).get(step.script)
        return legacy[:_MAX_PROJECTS] if isinstance(legacy, list) else []

    def _read_json(self, path: Path) -> dict[str, Any]:
        return parse_json(read_configuration(path, self._checkout)) or {}


@dataclass(frozen=True, slots=True)
class NxProject:
    """An Nx project with a project.json."""

    name: str
    folder: str  # relative to the top of the workspace
    outputs: tuple[str, ...]  # folders that its build may write to, relative to the same
    builds: bool  # whether it has a build target


def read_nx_project(folder: Path, root: Path, checkout: Path) -> NxProject | None:
    """Read a folder's project.json; None if there is none."""
    found = parse_json(read_configuration(folder / "project.json", checkout))
    if found is None:
        return None
    name = found.get("name")
    targets = dict_of(found.get("targets") or found.get("architect"))
    build = dict_of(targets.get("build"))
    path = folder.relative_to(root).as_posix()
    options = [dict_of(build.get("options")), dict_of(dict_of(build.get("configurations")).get("production"))]
    outputs = [str(option["outputPath"]) for option in options if isinstance(option.get("outputPath"), str)]
    for suffix in ("ts", "mts", "js", "mjs"):
        text = read_configuration(folder / f"vite.config.{suffix}", checkout)
        values = paths_of(Config(without_comments(text), ""), "outDir") if text else []
        outputs += [posixpath.normpath(posixpath.join(path, value)) for value in values]
    outputs = [posixpath.join(output, inner) for output in outputs for inner in ("browser", "")]
    outputs += [f"dist/{path}/browser", f"dist/{path}"]
    is_text = isinstance(name, str) and bool(name)
    return NxProject(str(name) if is_text else folder.name, path, tuple(outputs), "build" in targets)


def list_nx_projects(root: Path, checkout: Path) -> list[NxProject]:
    """List the projects of an Nx workspace that have a build target; empty if `root` is not the top of one."""
    if read_configuration(root / "nx.json", checkout) is None:
        return []
    found: list[NxProject] = []
    for folder in find_folders(root, _PROJECT_DEPTH):
        project = read_nx_project(folder, root, checkout)
        if project and project.builds:
            found.append(project)
        if len(found) >= _MAX_PROJECTS:
            break
    return found
