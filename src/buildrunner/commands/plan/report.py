"""Describe a build plan: each choice with the file or the variable that decides it. Nothing of the repository runs."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from buildrunner.cache.key import MIN_LOCKFILE_CHARACTERS, describe_install
from buildrunner.project.files import ancestors, is_file, read_text
from buildrunner.project.output.search import OUTPUT_FOLDERS
from buildrunner.project.overrides import Overrides
from buildrunner.project.package_managers.lockfiles import read_format_version
from buildrunner.project.plan import BuildPlan
from buildrunner.routing.collect import MAX_FILE_BYTES, OUTPUT_FILES, RuleFile, collect_rules

_COPIED = ("public", "static")  # what frameworks copy from these into their output, they copy as it is
_INSTALLED = "the installed version"
_CONTENTS = {"modules": "node_modules", "packages": "downloads", "shared": "downloads"}


@dataclass(frozen=True, slots=True)
class InstalledTools:
    """Versions of what is installed on this machine; None for what is not."""

    node: str | None = None
    npm: str | None = None


@dataclass(frozen=True, slots=True)
class CacheSettings:
    """What the settings say of the dependency cache."""

    enabled: bool
    scope: str | None  # CACHE_SCOPE; None: the site's own


@dataclass(frozen=True, slots=True)
class Choice:
    """One choice of a plan."""

    key: str  # in the JSON
    label: str  # for people
    value: str  # for people
    source: str  # the file or the variable that decides
    details: tuple[str, ...] = ()  # more lines for people
    fields: dict[str, Any] = field(default_factory=dict)  # in the JSON; `source` is added

    def to_json(self) -> dict[str, Any]:
        """Return the fields that are known."""
        known = {name: value for name, value in self.fields.items() if value not in (None, "", [], ())}
        return {**known, "source": self.source}


@dataclass(frozen=True, slots=True)
class PlanReport:
    """What would be built."""

    choices: tuple[Choice, ...]
    notes: tuple[str, ...]
    warnings: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the report for programs; docs/plan.md describes it."""
        return {
            **{choice.key: choice.to_json() for choice in self.choices},
            "notes": list(self.notes),
            "warnings": list(self.warnings),
        }


def describe_plan(plan: BuildPlan, overrides: Overrides, *, tools: InstalledTools, cache: CacheSettings) -> PlanReport:
    """Describe a plan.

    Args:
        plan: of the build.
        overrides: that it was made with.
        tools: that are installed where the build would run.
        cache: of its dependencies.

    """
    describer = _Describer(plan, overrides, tools, cache)
    return PlanReport(tuple(describer.choices()), plan.notes, (*plan.warnings, *describer.warnings))


class _Describer:
    def __init__(self, plan: BuildPlan, overrides: Overrides, tools: InstalledTools, cache: CacheSettings) -> None:
        self._plan = plan
        self._overrides = plan.overrides
        self._tools = tools
        self._cache = cache
        self._is_static = not plan.build.command
        self.warnings: list[str] = []

    def choices(self) -> Iterator[Choice]:
        yield self._folder()
        plan = self._plan
        if plan.output.framework.name:
            source = self._shown(plan.app.site / "package.json")
            yield _choice("framework", "Framework", plan.output.framework.name, source, name=plan.output.framework.name)
        if plan.install.manager and not self._is_static:
            yield self._manager()
        if plan.install.needs_tools:
            yield self._node()
        if plan.install.strategies:
            yield self._install()
        if not self._is_static:
            yield self._build()
        yield self._output()
        if routing := self._routing():
            yield routing
        if plan.install.strategies:
            yield self._caching()

    def _folder(self) -> Choice:
        plan, overrides = self._plan, self._overrides
        folder = plan.app.folder
        source = self._shown(folder / ("index.html" if self._is_static else "package.json"))
        if overrides.root_dir:
            source = self._overrides.source_of("ROOT_DIR")
        elif not os.path.lexists(folder / source.rpartition("/")[2]):
            source = next((name for name, value in self._given() if value), source)
        details = []
        if plan.app.root != folder:
            details.append(f"in the workspace {self._shown(plan.app.root)}, where dependencies are installed")
        if plan.app.site != folder:
            details.append(f"the site is that of {self._shown(plan.app.site)}")
        path = self._shown(folder)
        return _choice("folder", "Folder", path, source, *details, path=path)

    def _given(self) -> Iterator[tuple[str, str | None]]:
        yield "INSTALL_COMMAND", self._overrides.install_command
        yield "BUILD_COMMAND", self._overrides.build_command
        yield "OUTPUT_DIR", self._overrides.output_dir

    def _manager(self) -> Choice:
        manager = self._plan.install.manager
        assert manager
        version = " ".join(filter(None, (manager.version, *manager.engines)))
        words = _range_words(version)
        node = self._plan.install.node
        if not version and manager.record.release_of_node:
            same_node = self._tools.node and (node is None or node.accepts(self._tools.node))
            lockfile = self._plan.install.lockfile
            line = (
                manager.record.release_of_node(
                    node.ranges[0], read_format_version(lockfile, self._plan.app.checkout) if lockfile else None
                )
                if node and not same_node and re.match(r"\d", node.ranges[0])
                else None
            )
            version = (self._tools.npm if same_node else line) or ""
            words = _range_words(version) if version else "the one that comes with Node"
        source = _readable(manager.because)
        if manager.because == "nothing names another":
            source = "default"
        elif os.path.lexists(named := self._nearest(manager.because)):
            source = self._shown(named)
        name = f"{manager.label} {words}" if words else manager.label
        return _choice(
            "package_manager",
            "Package manager",
            name,
            source,
            name=manager.name,
            version=version,
        )

    def _node(self) -> Choice:
        node, installed = self._plan.install.node, self._tools.node
        if node is None:
            return _choice("node", "Node.js", installed or "not installed", _INSTALLED, version=installed)
        source = _readable(node.because)
        if os.path.lexists(named := self._nearest(node.because)):
            source = self._shown(named)
        if installed and node.accepts(installed):
            value, version = f"{installed} ({node.shown})", installed
        else:
            value, version = _range_words(node.shown), node.shown
        return _choice("node", "Node.js", value, source, version=version, requirement=node.shown)

    def _install(self) -> Choice:
        install = self._plan.install
        first, *others = (strategy.shown for strategy in install.strategies)
        source = (
            self._shown(install.lockfile) if install.lockfile else self._shown(self._plan.app.root / "package.json")
        )
        if self._overrides.install_command:
            source = self._overrides.source_of("INSTALL_COMMAND")
        folder = self._shown(install.folder)
        details = () if install.folder == self._plan.app.folder else (f"in {folder}",)
        return _choice(
            "install",
            "Install",
            first,
            source,
            *details,
            folder=folder,
            command=first,
            fallbacks=others,
        )

    def _build(self) -> Choice:
        plan = self._plan
        source = self._shown(plan.app.folder / "package.json")
        if self._overrides.build_command:
            source = self._overrides.source_of("BUILD_COMMAND")
        details = (plan.build.script,) if plan.build.script not in ("", plan.build.shown) else ()
        return _choice(
            "build",
            "Build",
            plan.build.shown,
            source,
            *details,
            command=plan.build.shown,
            script=plan.build.script,
        )

    def _output(self) -> Choice:
        expected = self._plan.output
        candidates = [expected.folder] if expected.folder else list(expected.framework.folders)
        if self._overrides.output_dir or self._overrides.output:
            source = self._overrides.source_of("OUTPUT_DIR")
        elif self._is_static:
            source = self._shown(self._plan.app.folder / "index.html")
        elif candidates:
            source = self._named_source(expected.framework.folder_source)
        else:
            candidates, source = list(OUTPUT_FOLDERS), "default"
        paths = [self._shown(Path(os.path.normpath(self._plan.app.site / folder))) for folder in candidates]
        more = paths[1:4]
        details = [f"else {', '.join(more)}{' and others' if len(paths) > 4 else ''}"] if more else []
        return _choice(
            "output", "Output", paths[0], source, *details, folder=candidates[0], path=paths[0], candidates=candidates
        )

    def _routing(self) -> Choice | None:
        app, checkout = self._plan.app.site, self._plan.app.checkout
        output = app / (self._plan.output.folder or ".") if self._is_static else None
        copied = [output] if output else [app / name for name in _COPIED]
        tops = [folder for folder in dict.fromkeys((app, checkout)) if folder != output]
        paths = [(name, folder / name) for folder in copied for name in OUTPUT_FILES]
        paths += [(name, folder / name) for folder in tops for name in OUTPUT_FILES if "." in name]
        there = [(name, path) for name, path in paths if is_file(path)]
        if output is None:
            self.warnings += [
                f"{self._shown(app / name)} is applied only if the build copies it into its output."
                for name in OUTPUT_FILES
                if "." not in name and is_file(app / name)
            ]
        if not there:
            return None
        rules = collect_rules([RuleFile(name, self._shown(path), self._reader(name, path)) for name, path in there], ())
        self.warnings += [str(warning) for warning in rules.warnings]
        files = [self._shown(path) for _, path in there]
        details = [f"and {', '.join(files[1:])}"] if len(files) > 1 else []
        summary = rules.document.summary or "no rules"
        return _choice("routing", "Routing", summary, files[0], *details, files=files, rules=summary)

    def _reader(self, name: str, path: Path) -> Callable[[], bytes | None]:
        def read() -> bytes | None:
            with suppress(ValueError):  # a build says what is wrong with it
                text = read_text(path, self._plan.app.checkout, max_bytes=MAX_FILE_BYTES[name])
                return None if text is None else text.encode()
            return None

        return read

    def _caching(self) -> Choice:
        plan = self._plan
        make = partial(_choice, "cache", "Cache")
        if not self._cache.enabled:
            return make("off", "DEPENDENCY_CACHE")
        if self._overrides.install_command:
            return make("nothing", self._overrides.source_of("INSTALL_COMMAND"))
        if plan.install.lockfile is None:
            return make("nothing, without a lockfile", self._shown(plan.app.root / "package.json"))
        manager = plan.install.manager
        source = self._shown(plan.install.lockfile)
        found = describe_install(
            plan,
            own=self._cache.scope is None,
            downloads=plan.app.checkout,
            node=self._tools.node,
            manager=manager.version if manager else None,
            install_env={},
        )
        scope = self._cache.scope
        if found is None:
            small = plan.install.lockfile.stat().st_size < MIN_LOCKFILE_CHARACTERS
            why = "few packages" if small else f"{manager.label} has no cache here" if manager else ""
            return make(f"nothing ({why})", source)
        content = _CONTENTS[found.best_kind]
        value = content if content == "node_modules" else f"what {found.label} downloads"
        where = f"shared by CACHE_SCOPE={scope}" if scope else ""
        return make(value, source, *filter(None, [where]), content=content, scope=scope)

    def _named_source(self, source: str) -> str:
        """Return the path of a file that is named relative to the app; other sources stay as they are."""
        path = self._plan.app.site / source
        if source and os.path.lexists(path):
            return self._shown(path)
        return source.replace(
            "the build script", f"build script in {self._shown(self._plan.app.site / 'package.json')}"
        )

    def _nearest(self, name: str) -> Path:
        """Return the nearest file of that name, from the app's folder up; a path that does not exist where there is none."""
        app, checkout = self._plan.app.folder, self._plan.app.checkout
        return next((place / name for place in ancestors(app, checkout) if is_file(place / name)), app / name)

    def _shown(self, path: Path) -> str:
        return os.path.relpath(path, self._plan.app.checkout)


def _choice(key: str, label: str, value: str, source: str, *details: str, **fields: Any) -> Choice:
    return Choice(key, label, value, source, details, fields)


def _readable(source: str) -> str:
    """Return where a setting is, as `engines.node in package.json`."""
    if source in {"packageManager", "devEngines"}:
        return f"{source} in package.json"
    return source.replace(" of package.json", " in package.json")


def _range_words(version: str) -> str:
    """Return a range of versions for people: a range stands for its newest release."""
    if not version or re.fullmatch(r"v?\d+\.\d+\.\d+\S*", version):
        return version
    return f"{version} (newest)"
