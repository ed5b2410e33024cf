"""Find the build script of a package, and whether it builds a site, a library, or packages in subfolders."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildrunner.project.alternatives import makes_library
from buildrunner.project.files import is_file, is_inside, read_text
from buildrunner.project.frameworks.detect import detect_framework
from buildrunner.project.output.pages import template_language
from buildrunner.project.package_json import DEPENDENCY_TABLES, dependency_names, get_scripts, get_table, read_package
from buildrunner.project.workspaces import Workspaces

# Names of build scripts in order of preference. `build` is npm's convention; the others come from the documentation of VitePress,
# VuePress, older Nuxt and Vercel.
_BUILD_SCRIPTS = ("build", "build:prod", "build:production", "docs:build", "generate", "vercel-build")
# A page at one of these paths shows that a bundler builds a site.
_PAGES = ("index.html", "public/index.html", "src/index.html", "app/index.html", "client/index.html")
_MAX_SUBFOLDERS = 5  # in which a build script runs commands


def find_build_script(package: Mapping[str, Any]) -> str | None:
    """Return the name of the build script; None if there is none."""
    scripts = get_scripts(package)
    return next((name for name in _BUILD_SCRIPTS if name in scripts), None)


def read_build_script(folder: Path, checkout: Path) -> str:
    """Return the text of a package's build script; empty if there is none."""
    package = read_package(folder, checkout)
    return str(get_table(package, "scripts").get(find_build_script(package) or "", ""))


def is_site(folder: Path, checkout: Path) -> bool:
    """Return whether the package in `folder` builds a site, judging by its framework and its pages."""
    script = read_build_script(folder, checkout)
    framework = detect_framework(folder, checkout, read_package(folder, checkout), script).record
    return framework is not None and (framework.kind == "site" or _has_source_page(folder))


def select_sites(folders: Sequence[Path], checkout: Path) -> list[Path]:
    """Return the packages that build a site, without those that others import: a library may have a demo page."""
    sites = [folder for folder in folders if is_site(folder, checkout)]
    if len(sites) < 2:
        return sites
    imported = {name for folder in folders for name in dependency_names(read_package(folder, checkout))}
    return [site for site in sites if read_package(site, checkout).get("name") not in imported] or sites


def builds_library(folder: Path, checkout: Path, package: Mapping[str, Any], script: str) -> bool:
    """Return whether a build script builds a library."""
    return makes_library(folder, checkout, package, script, has_page=_has_source_page(folder))


def template_language_of(folder: Path, checkout: Path) -> str | None:
    """Return the template language of a folder's index.html; None if it is a page."""
    with suppress(ValueError):
        return template_language(read_text(folder / "index.html", checkout) or "")
    return None


def find_uninstalled(
    top: Path,
    package: Mapping[str, Any],
    names: Collection[str],
    installed: Collection[str],
    workspaces: Workspaces,
    checkout: Path,
) -> list[Path]:
    """Return the folders below `top` whose own dependencies are still missing after the install in `top`.

    Args:
        top: the folder where dependencies are installed.
        package: its package.json.
        names: the folders, relative to `top`.
        installed: those of them where a script installs dependencies.
        workspaces: the checkout's workspaces.
        checkout: the repository's folder.

    """
    given = {name: str(version) for table in DEPENDENCY_TABLES for name, version in get_table(package, table).items()}
    if any(version.startswith(("file:", "link:")) for version in given.values()):
        return []
    found: list[Path] = []
    for name in [name for name in names if name not in installed][:_MAX_SUBFOLDERS]:
        folder = top / name
        own = read_package(folder, checkout) if is_inside(folder, checkout) else {}
        if not dependency_names(own) <= given.keys() and not os.path.lexists(folder / "node_modules"):
            root = workspaces.find_root(folder)
            if root is None or root == folder:
                found.append(folder)
    return found


def _has_source_page(folder: Path) -> bool:
    return any(is_file(folder / page) for page in _PAGES)
