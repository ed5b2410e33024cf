"""Test that packages export the same names to mypy and at runtime, and that modules named in strings exist."""

from __future__ import annotations

import ast
import importlib
import importlib.util
from pathlib import Path

import pytest

import buildrunner
from buildrunner.build.stages import clone
from buildrunner.commands.dev import build_process

ROOT = Path(buildrunner.__file__).parent
DOORS = sorted(path.parent.name for path in ROOT.glob("*/__init__.py") if "export_lazily" in path.read_text())


@pytest.mark.parametrize("room", DOORS)
def test_room_exports_what_its_types_say(room: str) -> None:
    door = importlib.import_module(f"buildrunner.{room}")
    tree = ast.parse((ROOT / room / "__init__.py").read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    typed = {
        (node.module, alias.name) for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    (table,) = (node for node in ast.walk(block) if isinstance(node, ast.Dict))
    exported = {
        (f"buildrunner.{room}.{module}", name)
        for module, names in ast.literal_eval(table).items()
        for name in names.split()
    }

    assert exported == typed
    for module, name in exported:
        assert getattr(door, name) is getattr(importlib.import_module(module), name)


def test_room_has_no_other_attributes() -> None:
    with pytest.raises(AttributeError, match=r"module 'buildrunner\.publish' has no attribute 'nothing'"):
        _ = importlib.import_module("buildrunner.publish").nothing


@pytest.mark.parametrize("module", sorted({*clone._NEXT, *build_process._MODULES}))
def test_modules_that_are_imported_ahead_by_name_exist(module: str) -> None:
    assert importlib.util.find_spec(module)
