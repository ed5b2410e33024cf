"""Find or suggest the command that builds an app without a build script."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from buildrunner.project.config_files import without_comments
from buildrunner.project.files import is_file, is_inside
from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DefaultCommand, Framework
from buildrunner.project.frameworks.table import FRAMEWORKS
from buildrunner.project.task_graph import list_nx_projects

_TASK_FILES: tuple[tuple[str, tuple[str, ...], str], ...] = (
    (
        "gulp",
        (
            *("gulpfile.js", "Gulpfile.js", "gulpfile.babel.js", "gulpfile.mjs", "gulpfile.cjs", "gulpfile.ts"),
            "gulpfile.esm.js",
        ),
        r"\.task\(\s{0,20}[\"'`]([\w:.-]{1,60})[\"'`]|\bexports\.(\w{1,60})\s{0,20}="
        r"|\bexport (?:const |(?:async )?function )?(\w{1,60})",
    ),
    (
        "grunt",
        ("Gruntfile.js", "gruntfile.js", "Gruntfile.cjs"),
        r"\.registerTask\(\s{0,20}[\"'`]([\w:.-]{1,60})[\"'`]",
    ),
)


def find_default_command(app: Path, checkout: Path, package: Mapping[str, Any]) -> str | None:
    """Return the command for an app without a build script: the name of another script, or the framework's command.

    None if the app's files don't show that it is a site.
    """
    facts = App(app, checkout, package)
    for framework in FRAMEWORKS:
        if framework.has_package(facts.packages):
            for default in framework.default_commands:
                if _applies(default, facts):
                    script = _find_one_shot_script(facts, framework)
                    return script or (default.command if default.command not in facts.scripts else None)
    return None


def suggest_build_script(app: Path, checkout: Path, package: Mapping[str, Any]) -> str | None:
    """Return the script to add to package.json, for a message; None if it is unknown."""
    facts = App(app, checkout, package)
    if is_file(checkout / "nx.json"):
        sites = [project.name for project in list_nx_projects(checkout, checkout) if not project.name.endswith("-e2e")]
        return f'"build": "nx build {sites[0] if len(sites) == 1 else "NAME"}"'
    if task := _find_task(facts):
        return f'"build": "{task}"'
    framework = next((framework for framework in FRAMEWORKS if framework.has_package(facts.packages)), None)
    if framework is None:
        return None
    if script := _find_one_shot_script(facts, framework):
        return f'"build": "npm run {script}"'
    if framework.default_commands:
        return f'"build": "{framework.default_commands[0].command}"'
    if framework.suggested_command:
        return f'"build": "{framework.suggested_command}"'
    return f'"build" with the build command of {framework.name}'


def _applies(default: DefaultCommand, app: App) -> bool:
    if default.content and not any(re.search(default.content, app.read(file) or "") for file in default.files):
        return False
    return any(
        os.path.exists(app.folder / file) and is_inside(app.folder / file, app.checkout) for file in default.files
    )


def _find_task(app: App) -> str | None:
    """Return the gulp or Grunt command that probably builds the app."""
    for program, names, pattern in _TASK_FILES:
        text = next((text for name in names if (text := app.read(name)) is not None), None)
        if text is not None:
            found = re.findall(pattern, without_comments(text))
            tasks = [task if isinstance(task, str) else "".join(task) for task in found]
            likely = ["build", *(task for task in tasks if re.match("build[:_-]", task)), "default"]
            task = next((task for task in likely if task in tasks), "build")
            return program if task == "default" else f"{program} {task}"
    return None


def _find_one_shot_script(app: App, framework: Framework) -> str | None:
    return app.find_script(rf"(?:{framework.commands})(?!.*(?:--serve|--watch| -w\b))")
