"""What package.json files say: tables, dependencies, and whether a package is a server."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildrunner.project.files import read_json

DEPENDENCY_TABLES = ("dependencies", "devDependencies", "optionalDependencies")
# What an install runs of the repository's own scripts when all files are there, in this order:
# https://docs.npmjs.com/cli/using-npm/scripts#npm-ci. `npm run install` runs preinstall and postinstall itself, as with prepare.
INSTALL_SCRIPTS = (
    ("preinstall", "install", "postinstall"),
    ("prepublish",),
    ("preprepare", "prepare", "postprepare"),
)
_SERVERS = {"express", "koa", "fastify", "@nestjs/core", "@hapi/hapi", "hono"}


def read_package(folder: Path, checkout: Path) -> Mapping[str, Any]:
    """Return the package.json of a folder; empty if it is missing or cannot be read."""
    with suppress(ValueError):
        return read_json(folder / "package.json", checkout) or {}
    return {}


def get_table(package: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return an object of package.json, such as its scripts; empty if there is none."""
    table = package.get(name)
    return table if isinstance(table, dict) else {}


def get_scripts(package: Mapping[str, Any]) -> dict[str, str]:
    """Return the scripts of a package.json by name, without values that are not text."""
    return {name: text for name, text in get_table(package, "scripts").items() if isinstance(text, str)}


def dependency_names(package: Mapping[str, Any]) -> set[str]:
    """Return the names of everything that an install of the package needs."""
    return {name for table in DEPENDENCY_TABLES for name in get_table(package, table)}


def has_install_scripts(package: Mapping[str, Any]) -> bool:
    """Return whether an install runs any script of the package itself."""
    return not get_scripts(package).keys().isdisjoint(name for group in INSTALL_SCRIPTS for name in group)


def is_server(package: Mapping[str, Any]) -> bool:
    """Return whether the package is a server, whose index.html is only part of what it sends."""
    return bool(_SERVERS & get_table(package, "dependencies").keys())
