"""Describe Parcel: https://parceljs.org/features/targets/#distdir."""

from __future__ import annotations

from collections.abc import Sequence

from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DefaultCommand, Framework
from buildrunner.project.package_json import get_table
from buildrunner.project.scripts import ScriptCommand


def _find_output(app: App, _: Sequence[ScriptCommand]) -> list[str]:
    targets = get_table(app.package, "targets").values()
    return [str(target["distDir"]) for target in targets if isinstance(target, dict) and "distDir" in target]


PARCEL = Framework(
    name="Parcel",
    packages=("parcel", "parcel-bundler"),
    commands="parcel build",
    output=("dist",),
    output_options=("--dist-dir", "--out-dir", "-d"),
    find_output=_find_output,
    kind="bundler",
    writes_page=True,
    default_commands=(
        DefaultCommand(("index.html",), "parcel build index.html"),
        DefaultCommand(("src/index.html",), "parcel build src/index.html"),
    ),
    base_setting="--public-url",
)
