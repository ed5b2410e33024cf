"""Describe webpack and Rspack: https://webpack.js.org/configuration/output/#outputpath."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import islice

from buildrunner.project.config_files import Config, paths_of
from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.paths import with_parents
from buildrunner.project.frameworks.record import Framework
from buildrunner.project.scripts import ScriptCommand

_CONFIGS = (
    *("webpack.config", "rspack.config", "webpack.prod", "webpack.production", "webpack.common"),
    *("webpack.config.prod", "webpack.config.production", "config/webpack.prod", "config/webpack.config"),
)


def _find_output(app: App, commands: Sequence[ScriptCommand]) -> list[str]:
    named = [name for command in commands for name in command.option("--config", "-c")]
    found: list[str] = []
    for config in app.read_configs(*named, *_CONFIGS):
        for match in islice(re.finditer(r"\boutput\b\s*[:=]\s*\{", config.text), 20):
            block = Config(config.text[match.end() : match.end() + 800], config.folder)
            found += paths_of(block, "path", whole=config.text)
    return [folder for value in found for folder in with_parents(value)]


WEBPACK = Framework(
    name="webpack",
    packages=("webpack", "@rspack/cli", "@rspack/core"),
    commands="(webpack|webpack-cli|rspack)( |$)",
    output=("dist",),
    output_options=("-o", "--output-path"),
    find_output=_find_output,
    output_subfolders=True,
    kind="bundler",
    writes_page=True,
    suggested_command="webpack --mode production",
    base_setting="output.publicPath in the webpack configuration",
    openssl_3=(("webpack", 5),),
)
