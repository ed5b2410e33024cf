"""Detect the framework of an app, the folders where its output may be, and whether it needs a server.

Configuration files are JavaScript, which is not executed here but read as text without comments. So the folders are only
candidates, likeliest first: after the build, their content decides which one is published. docs/frameworks.md lists the sources
of the defaults.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from buildrunner.project.config_files import paths_of
from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.paths import clean_folders, with_parents
from buildrunner.project.frameworks.record import DetectedFramework, Framework
from buildrunner.project.frameworks.table import FRAMEWORKS
from buildrunner.project.package_json import get_scripts
from buildrunner.project.scripts import ScriptCommand, parse_script
from buildrunner.project.task_graph import list_nx_projects

BUILD_SCRIPT = "the build script"
_WATCHES = re.compile(r"--(?:serve|watch)\b| -w\b")
_FILE_OPTIONS = ("-o", "--output", "--outfile")
_FOLDER_OPTIONS = ("--outdir", "--out-dir", "--dist-dir", "--output-path", "--dest")


def detect_framework(app: Path, checkout: Path, package: Mapping[str, Any], build_script: str) -> DetectedFramework:
    """Return the framework of the app in the folder `app`, and its possible output folders.

    Args:
        app: the folder of the app; `checkout` is the repository's, and nothing outside it is read.
        package: the app's package.json.
        build_script: the text of the build script or build command.

    """
    facts = App(app, checkout, package, build_script)
    found = [
        framework
        for framework in FRAMEWORKS
        if facts.commands_like(framework.commands)
        and (not framework.needs_package or framework.has_package(facts.packages))
    ]
    found = found or [framework for framework in FRAMEWORKS if framework.has_package(facts.packages)][:1]
    places = [
        *((folder, "the Nx project") for folder in _find_nx_outputs(facts)),
        *(place for framework in found for place in _find_output(framework, facts)),
        *((folder, BUILD_SCRIPT) for folder in _find_option_values(facts.commands)),
    ]
    folders = clean_folders(folder for folder, _ in places)
    source = next((source for folder, source in places if clean_folders([folder]) == folders[:1]), "")
    if not found:
        return DetectedFramework(folders=folders, folder_source=source)
    first = found[0]
    detected = DetectedFramework(first, folders, source)
    if first.check_server:
        return replace(detected, **first.check_server(facts, detected))  # type: ignore[arg-type]
    if first.prerender_hint:
        reason = f"The {first.name} build produced no page, because a server renders the app."
        return replace(detected, needs_server=(reason, first.prerender_hint))
    return detected


def prefer_preset(detected: DetectedFramework, name: str | None) -> DetectedFramework:
    """Return the framework that a preset in vercel.json names, or what was detected if there is no such preset."""
    record = next((framework for framework in FRAMEWORKS if framework.name == name), None)
    if record is None or detected.name == name:
        return detected
    return DetectedFramework(record, clean_folders((*record.output, *detected.folders)), record.name)


def find_site_generator(package: Mapping[str, Any], script: str, *, bundlers: bool = False) -> str | None:
    """Return the name of the site generator that a script runs; None if it runs none.

    Args:
        package: package.json.
        script: the text of the script.
        bundlers: whether bundlers such as Vite count, which also build libraries.

    """
    for command in parse_script(script, get_scripts(package)):
        if _WATCHES.search(command.line):
            continue
        for framework in FRAMEWORKS:
            counts = not framework.needs_package and (bundlers or framework.kind != "bundler")
            if counts and re.match(framework.commands, command.line):
                return framework.name
    return None


def _find_output(framework: Framework, app: App) -> list[tuple[str, str]]:
    """List the possible output folders of a framework with their sources: the app's settings first, then the defaults."""
    commands = app.commands_like(framework.commands)
    options = [value for command in commands for value in command.option(*framework.output_options)]
    named = [name for command in commands for name in command.option("--config", "-c") if "=" not in name]
    configs = app.read_configs(*named, *framework.config_files)
    keys = framework.output_keys
    values = [(value, config.name) for config in configs for value in paths_of(config, *keys)] if keys else []
    extra = framework.find_output(app, commands) if framework.find_output else []
    found = [
        *((option, BUILD_SCRIPT) for option in options),
        *((folder, f"the configuration of {framework.name}") for folder in extra),
        *values,
    ]
    default = f"the default of {framework.name}"
    if framework.root_output:
        roots = [(command.positional, BUILD_SCRIPT) for command in commands if command.positional]
        roots += [(root, config.name) for config in configs for root in paths_of(config, "root")]
        below = [
            (posixpath.join(root, value), by)
            for root, by in roots
            for value in (*(v for v, _ in found), framework.root_output)
        ]
        found = below + found
    if framework.writes_below:
        found = [(value, by) for path, by in values for value in with_parents(posixpath.dirname(path) or path)]
    if framework.browser_folder:
        found = [(posixpath.join(value, framework.browser_folder), by) for value, by in found] + found
    return [*found, *((folder, default) for folder in framework.output)]


def _find_nx_outputs(app: App) -> list[str]:
    """List the output folders of the project that `nx build` names, or of the only application in the workspace."""
    if not (commands := app.commands_like("nx ")):
        return []
    projects = list_nx_projects(app.folder, app.checkout)
    named = {word.partition(":")[0] for command in commands for word in command.words[2:]}
    chosen = [project for project in projects if project.name in named]
    if not chosen:
        chosen = [project for project in projects if not project.name.endswith(("-e2e", "-api"))]
        chosen = chosen if len(chosen) == 1 else []
    return [output for project in chosen for output in project.outputs]


def _find_option_values(commands: Iterable[ScriptCommand]) -> list[str]:
    """List the output folders in options of any program, with their parents."""
    found: list[str] = []
    for command in commands:
        found += [above for value in command.option(*_FOLDER_OPTIONS, *_FILE_OPTIONS) for above in with_parents(value)]
    return found
