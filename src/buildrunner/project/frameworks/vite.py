"""Describe Vite: https://vite.dev/guide/build."""

from __future__ import annotations

import re
from collections.abc import Mapping

from buildrunner.project.files import is_file
from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DefaultCommand, DetectedFramework, Framework
from buildrunner.project.scripts import parse_script


def is_library_mode(app: App) -> bool:
    """Return whether Vite is configured to build a library: https://vite.dev/guide/build#library-mode."""
    commands = parse_script(app.build_script, app.scripts)
    return any(re.match("vite build", command.line) for command in commands) and any(
        re.search(r"\blib\s*:\s*\{", config.text) for config in app.read_configs("vite.config")
    )


def _check_server(app: App, _: DetectedFramework) -> Mapping[str, object]:
    if "laravel-vite-plugin" in app.packages and is_file(app.folder / "artisan"):
        return {
            "needs_server": (
                "This is a Laravel app, which needs a PHP server: its build produces scripts and style sheets but no page.",
                "Commit a built site with its index.html, or set ROOT_DIR to the folder of a Node.js app.",
            ),
            "certain": app.runs_only("vite build") and not is_file(app.folder / "index.html"),
        }
    for_server = [index for index, command in enumerate(app.commands) if "--ssr" in command.line]
    if not for_server or any(command.words[0] in {"node", "tsx"} for command in app.commands[for_server[-1] :]):
        return {}  # a later command renders the pages
    return {
        "needs_server": (
            "The build produced pages that a server has to render (`vite build --ssr`).",
            "Prerender them in the build script, or build a single-page app with `vite build` alone.",
        ),
    }


VITE = Framework(
    name="Vite",
    packages=("vite", "rolldown-vite", "vite-ssg", "vite-react-ssg"),
    commands="(vite|vite-ssg|vite-react-ssg|vp) build",
    output=("dist",),
    config_files=("vite.config",),
    output_keys=("outDir",),
    output_options=("--outDir",),
    root_output="dist",
    kind="bundler",
    writes_page=True,
    check_server=_check_server,
    # Vite only bundles scripts that are modules.
    default_commands=(DefaultCommand(("index.html",), "vite build", content=r"\btype\s?=\s?[\"']?module\b"),),
    base_setting="base in vite.config",
)
