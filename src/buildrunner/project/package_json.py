"""Read package.json: its tables, dependencies and scripts, and whether the package is a server."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildrunner.project.files import read_json

DEPENDENCY_TABLES = ("dependencies", "devDependencies", "optionalDependencies")
# The repository's own scripts that an install runs, in this order: https://docs.npmjs.com/cli/using-npm/scripts#npm-ci.
# `npm run install` also runs preinstall and postinstall, and `npm run prepare` runs preprepare and postprepare.
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
    """Return an object in package.json, such as "scripts"; empty if there is none."""
    table = package.get(name)
    return table if isinstance(table, dict) else {}


def get_scripts(package: Mapping[str, Any]) -> dict[str, str]:
    """Return the scripts of package.json by name, without values that are not strings."""
    return {name: text for name, text in get_table(package, "scripts").items() if isinstance(text, str)}


def dependency_names(package: Mapping[str, Any]) -> set[str]:
    """Return the names of all dependencies that an install of the package needs."""
    return {name for table in DEPENDENCY_TABLES for name in get_table(package, table)}


def has_install_scripts(package: Mapping[str, Any]) -> bool:
    """Return whether an install runs any of the package's own scripts."""
    return not get_scripts(package).keys().isdisjoint(name for group in INSTALL_SCRIPTS for name in group)


def is_server(package: Mapping[str, Any]) -> bool:
    """Return whether the package depends on a server framework, so that its index.html may not be a complete site."""
    return bool(_SERVERS & get_table(package, "dependencies").keys())
