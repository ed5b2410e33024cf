"""Describe Astro: https://docs.astro.build/en/guides/on-demand-rendering/; an adapter alone doesn't require a server."""

from __future__ import annotations

import re
from collections.abc import Mapping

from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DefaultCommand, DetectedFramework, Framework


def _check_server(app: App, detected: DetectedFramework) -> Mapping[str, object]:
    served = re.search(r"\boutput\s*:\s*[\"'`]server[\"'`]", app.config_text("astro.config"))
    if not served and not app.mentions("src/pages", r"\bprerender\s*=\s*false\b"):
        return {}
    return {
        "needs_server": (
            "This Astro site has pages that a server renders.",
            "Remove output: 'server' and the adapter from astro.config, and `export const prerender = false` from all pages.",
        ),
        "server_files": tuple(f"{folder}/server/entry.mjs" for folder in detected.folders),
        "certain": bool(served)
        and not app.mentions("src/pages", r"\bprerender\s*=\s*true\b")
        and app.runs_only("astro build"),
    }


ASTRO = Framework(
    name="Astro",
    packages=("astro",),
    commands="astro build",
    output=("dist", "dist/client"),
    config_files=("astro.config",),
    output_keys=("outDir",),
    output_options=("--outDir",),
    check_server=_check_server,
    default_commands=(DefaultCommand(("src/pages",), "astro build"),),
    base_setting="base in astro.config",
)
