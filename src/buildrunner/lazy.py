"""Export names of a package lazily: import their modules when a name is first used (PEP 562).

What git does not need is imported after git has started. With this, others import the whole room at their top.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from importlib import import_module


def export_lazily(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return a `__getattr__` for a package.

    Args:
        package: its `__name__`.
        modules: module of the package → the names that it exports, separated by spaces.

    """
    homes = {name: module for module, names in modules.items() for name in names.split()}

    def get_attribute(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        value = getattr(import_module(f"{package}.{homes[name]}"), name)
        setattr(sys.modules[package], name, value)  # from now on it is found without this function
        return value

    return get_attribute
