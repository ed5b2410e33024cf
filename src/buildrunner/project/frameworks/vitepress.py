"""Describe VitePress and VuePress, which write to a subfolder of the folder with their pages."""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from functools import partial

from buildrunner.project.config_files import paths_of
from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DefaultCommand, Framework
from buildrunner.project.scripts import ScriptCommand


def _find_output(app: App, commands: Sequence[ScriptCommand], *, hidden: str, key: str) -> list[str]:
    """Return the output folders for the folder with the pages, which the command names."""
    folders = [command.positional for command in commands if command.positional] or [".", "docs", "src"]
    found: list[str] = []
    for folder in folders:
        configs = app.read_configs(posixpath.join(folder, hidden, "config"))
        for value in (value for config in configs for value in paths_of(config, key)):
            found += [posixpath.join(folder, value), value]
        found.append(posixpath.join(folder, hidden, "dist"))
    return found


def _default_commands(program: str) -> tuple[DefaultCommand, ...]:
    return (
        DefaultCommand((f"docs/.{program}",), f"{program} build docs"),
        DefaultCommand((f".{program}",), f"{program} build"),
        DefaultCommand((f"src/.{program}",), f"{program} build src"),
    )


VITEPRESS = Framework(
    name="VitePress",
    packages=("vitepress",),
    commands="vitepress build",
    output_options=("--outDir",),
    find_output=partial(_find_output, hidden=".vitepress", key="outDir"),
    default_commands=_default_commands("vitepress"),
    base_setting="base in .vitepress/config",
)
VUEPRESS = Framework(
    name="VuePress",
    packages=("vuepress", "@vuepress/cli"),
    commands="vuepress(-vite|-webpack)? build",
    output_options=("--dest", "-d"),
    find_output=partial(_find_output, hidden=".vuepress", key="dest"),
    default_commands=_default_commands("vuepress"),
    base_setting="base in .vuepress/config",
    openssl_3=(("vuepress", 2),),
)
