"""Describe Hexo: https://hexo.io/docs/configuration#Directory."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

from buildrunner.project.files import parse_yaml
from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DefaultCommand, Framework
from buildrunner.project.scripts import ScriptCommand


def _find_output(app: App, _: Sequence[ScriptCommand]) -> list[str]:
    config: object = None
    with suppress(ValueError):
        config = parse_yaml(app.read("_config.yml") or "")
    folder = config.get("public_dir") if isinstance(config, dict) else None
    return [folder] if isinstance(folder, str) else []


HEXO = Framework(
    name="Hexo",
    packages=("hexo",),
    commands="hexo (g|generate)( |$)",
    output=("public",),
    find_output=_find_output,
    default_commands=(DefaultCommand(("_config.yml",), "hexo generate"),),
    base_setting="root in _config.yml",
)
