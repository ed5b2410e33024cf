"""Describe Eleventy: https://www.11ty.dev/docs/config/#output-directory."""

from __future__ import annotations

import re
from collections.abc import Sequence

from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DefaultCommand, Framework
from buildrunner.project.scripts import ScriptCommand


def _find_output(app: App, _: Sequence[ScriptCommand]) -> list[str]:
    text = app.config_text(".eleventy", "eleventy.config")
    return re.findall(r"setOutputDirectory\(\s*[\"'`]([^\"'`\n]+)", text)


ELEVENTY = Framework(
    name="Eleventy",
    packages=("@11ty/eleventy",),
    commands="(eleventy|11ty)( |$)",
    output=("_site",),
    config_files=(".eleventy", "eleventy.config"),
    output_keys=("output",),
    output_options=("--output",),
    find_output=_find_output,
    default_commands=(
        DefaultCommand(
            (
                *(
                    ".eleventy.js",
                    "eleventy.config.js",
                    "eleventy.config.mjs",
                    "eleventy.config.cjs",
                    "eleventy.config.ts",
                ),
                *("index.md", "index.njk", "index.liquid", "index.html"),
            ),
            "eleventy",
        ),
    ),
    base_setting="pathPrefix in the Eleventy configuration",
)
