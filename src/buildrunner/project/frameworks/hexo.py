"""Hexo: https://hexo.io/docs/configuration#Directory."""

from __future__ import annotations

import re
from collections.abc import Sequence

from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DefaultCommand, Framework
from buildrunner.project.scripts import ScriptCommand


def _find_output(app: App, _: Sequence[ScriptCommand]) -> list[str]:
    return re.findall(r"(?m)^public_dir:[ \t]*[\"']?([^\s\"'#]+)", app.read("_config.yml") or "")


HEXO = Framework(
    name="Hexo",
    packages=("hexo",),
    commands="hexo (g|generate)( |$)",
    output=("public",),
    find_output=_find_output,
    default_commands=(DefaultCommand(("_config.yml",), "hexo generate"),),
    base_setting="root in _config.yml",
)
