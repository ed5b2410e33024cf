"""Describe Angular: https://angular.dev/reference/configs/workspace-config#output-path-configuration."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from buildrunner.project.config_files import dict_of, parse_json
from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import Framework
from buildrunner.project.scripts import ScriptCommand


def _find_output(app: App, commands: Sequence[ScriptCommand]) -> list[str]:
    """Read `outputPath` from angular.json, a string or an object.

    The application builder, introduced in Angular 17, writes the files for browsers to a subfolder.
    """
    workspace = parse_json(app.read("angular.json")) or parse_json(app.read(".angular.json")) or {}
    projects = dict_of(workspace.get("projects"))
    if not projects and (single := parse_json(app.read("project.json"))):  # an Nx project
        projects = {str(single.get("name", "")): single}
    wanted = [command.positional for command in commands] + [workspace.get("defaultProject")]
    apps = [name for name, project in projects.items() if dict_of(project).get("projectType") != "library"]
    chosen = [name for name in wanted if isinstance(name, str) and name in projects] or apps
    modes = [mode for c in commands for mode in c.option("-c", "--configuration")] + ["production"]
    found: list[str] = []
    for name in chosen:
        project = dict_of(projects[name])
        build = dict_of(dict_of(project.get("architect") or project.get("targets")).get("build"))
        modern = ":application" in str(build.get("builder") or build.get("executor"))
        settings = [dict_of(dict_of(build.get("configurations")).get(mode)) for mode in modes] + [
            dict_of(build.get("options"))
        ]
        for path in [options.get("outputPath") for options in settings] + ([f"dist/{name}"] if modern else []):
            if isinstance(path, dict):
                base, browser = str(path.get("base", "")), path.get("browser", "browser")
                found.append(posixpath.join(base, str(browser)))
            elif isinstance(path, str):
                found += [posixpath.join(path, "browser"), path] if modern else [path]
    return found


ANGULAR = Framework(
    name="Angular",
    packages=("@angular/cli", "@angular/build", "@angular-devkit/build-angular"),
    commands="ng (b|build)( |$)",
    output_options=("--output-path", "--outputPath"),
    find_output=_find_output,
    output_subfolders=True,
    prerender_hint='Set "outputMode": "static" among the options of the build in angular.json.',
    suggested_command="ng build",
    base_setting="baseHref in angular.json, or --base-href,",
    openssl_3=(("@angular-devkit/build-angular", 13),),
)
