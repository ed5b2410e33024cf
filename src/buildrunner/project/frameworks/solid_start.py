"""Describe SolidStart: https://docs.solidjs.com/solid-start."""

from __future__ import annotations

import re
from collections.abc import Mapping

from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DetectedFramework, Framework


def _check_server(app: App, _: DetectedFramework) -> Mapping[str, object]:
    if re.search(r"\bpreset\s*:\s*[\"'`](static|github[-_]pages)[\"'`]", app.config_text("app.config", "vite.config")):
        return {}
    hint = 'Set server: { preset: "static" } in app.config and commit it.'
    return {
        "needs_server": ("This SolidStart app is rendered by a server.", hint),
        "server_files": (".output/server/index.mjs",),
    }


SOLID_START = Framework(
    name="SolidStart",
    packages=("@solidjs/start", "solid-start"),
    commands="(vinxi|vite|solid-start) build",
    needs_package=True,
    output=(".output/public", "dist/client", "dist/public"),
    check_server=_check_server,
)
