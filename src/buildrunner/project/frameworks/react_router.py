"""Describe React Router and Remix: https://reactrouter.com/how-to/spa and https://v2.remix.run/docs/guides/spa-mode."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial

from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DetectedFramework, Framework


def _check_server(app: App, detected: DetectedFramework, *, config: str, place: str) -> Mapping[str, object]:
    text = app.config_text(config)
    if re.search(r"\bssr\s*:\s*false\b", text):
        return {}
    return {
        "needs_server": (
            f"This {detected.name} app is rendered by a server: ssr: false is not set.",
            f"Set ssr: false in {place}, and load data with clientLoader instead of loader.",
        ),
        "server_files": tuple(
            f"{folder.removesuffix('client')}server/index.js"
            for folder in detected.folders
            if folder.endswith("client")
        ),
        "certain": not re.search(r"\bssr\b(?!\s*:\s*true)|\bprerender\b", text)
        and not app.has_imports(text)
        and app.runs_only("(react-router|vite) build|remix (vite:)?build"),
    }


REACT_ROUTER = Framework(
    name="React Router",
    packages=("@react-router/dev",),
    commands="(react-router|vite) build",
    needs_package=True,
    output=("build/client",),
    config_files=("react-router.config",),
    output_keys=("buildDirectory",),
    browser_folder="client",
    check_server=partial(_check_server, config="react-router.config", place="react-router.config"),
    suggested_command="react-router build",
    base_setting="base in vite.config",
)
REMIX = Framework(
    name="Remix",
    packages=("@remix-run/dev",),
    commands="remix (vite:)?build|vite build",
    needs_package=True,
    output=("build/client",),
    config_files=("vite.config",),
    output_keys=("buildDirectory",),
    browser_folder="client",
    check_server=partial(_check_server, config="vite.config", place="the Remix plugin in vite.config"),
    base_setting="base in vite.config",
)
