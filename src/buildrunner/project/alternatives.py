"""Find another script or package that builds a site where the build script builds a library."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildrunner.project.files import is_file, is_inside
from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.detect import find_site_generator
from buildrunner.project.frameworks.vite import is_library_mode
from buildrunner.project.package_json import DEPENDENCY_TABLES, get_scripts, get_table, is_server, read_package
from buildrunner.project.scripts import only_compiles, parse_script

# Usual names of scripts that build the site of a library, likeliest first.
_SUBJECTS = (
    r"docs?|documentation|doc-?site",
    r"site|website|www|pages|gh-?pages|homepage|landing",
    r"storybook|styleguide|histoire|ladle",
    r"demos?|examples?|playground",
)
_LIKELY = re.compile(r"\A[\w:-]{2,40}\Z")
_MAX_SCRIPTS = 10  # scripts that are parsed
_VERB = r"build|generate|export|make|compile"
_FOLDERS = (
    "website",
    "site",
    "docs",
    "doc",
    "documentation",
    "www",
    "docs-site",
    "homepage",
    "demo",
    "example",
    "playground",
)
_ENTRY = re.compile(r'"(?:\./)?(?:dist|lib|build|out|es|esm|cjs|umd)/[\w./@*-]{1,100}\.[cm]?[jt]s"')
_SERVES = re.compile(r"\b(?:dev|serve|start|watch|preview|deploy|publish|gh-pages)\b|--watch|--serve")


def makes_library(app: Path, checkout: Path, package: Mapping[str, Any], build_script: str, *, has_page: bool) -> bool:
    """Return whether a build script builds a library.

    Args:
        app: the folder of the package; `checkout` is the repository's.
        package: its package.json.
        build_script: the text of the script.
        has_page: whether the package's sources include a page.

    """
    if not build_script or is_server(package) or find_site_generator(package, build_script):
        return False
    if has_page and not is_library_mode(App(app, checkout, package, build_script)):
        # Rollup reads no page, so it is the page of the library's demo.
        return only_bundles_scripts(package, build_script) and exports_built_file(package)
    return only_compiles(package, build_script) or exports_built_file(package)


def only_bundles_scripts(package: Mapping[str, Any], build_script: str) -> bool:
    """Return whether a build script runs a bundler that reads no page, and none that does."""
    lines = [command.line for command in parse_script(build_script, get_scripts(package))]
    return any(
        re.match(r"(?:rollup|microbundle|tsup|unbuild|tsdown|bili|tsdx|father)(?: |$)", line) for line in lines
    ) and not any(re.match(r"(?:vite|webpack|parcel|rsbuild|rspack)(?: |$)", line) for line in lines)


def exports_built_file(package: Mapping[str, Any]) -> bool:
    """Return whether a package exports a file that its build creates."""
    with suppress(RecursionError):
        offered = json.dumps([package.get(field) for field in ("main", "module", "exports", "types", "bin")])
        return bool(_ENTRY.search(offered[:20_000]))
    return False


def find_site_script(package: Mapping[str, Any], *, sure: bool) -> str | None:
    """Return the name of the script that builds a library's site; None if there is none.

    Args:
        package: package.json.
        sure: whether the script has to run a program that is known to build sites.

    """
    scripts = {name: text for name, text in get_scripts(package).items() if _LIKELY.search(name)}
    known: dict[str, bool] = {}
    for subject in _SUBJECTS:
        for pattern in (rf"(?:{subject})[:_-]?(?:{_VERB})", rf"(?:{_VERB})[:_-]?(?:{subject})", subject):
            for name in [name for name in scripts if re.fullmatch(pattern, name)]:
                if len(known) < _MAX_SCRIPTS or name in known:
                    known.setdefault(name, bool(find_site_generator(package, scripts[name], bundlers=True)))
                    if known[name] or not (sure or _SERVES.search(scripts[name])):
                        return name
    return None


def find_site_folders(app: Path, checkout: Path) -> list[Path]:
    """List the subfolders of a library, such as docs/, that have their own package.json with a build script."""
    found: list[Path] = []
    for name in _FOLDERS:
        folder = app / name
        if is_file(folder / "package.json") and is_inside(folder, checkout):
            scripts = get_scripts(read_package(folder, checkout))
            if "build" in scripts:
                found.append(folder)
    return found


def has_local_dependencies(package: Mapping[str, Any]) -> bool:
    """Return whether a package depends on another package in the repository, which would have to be built first."""
    versions = [str(version) for kind in DEPENDENCY_TABLES for version in get_table(package, kind).values()]
    return any(version.startswith(("file:", "link:", "portal:")) for version in versions)


def suggest_site(
    app: Path, checkout: Path, package: Mapping[str, Any], manager: str, *, tried: Collection[str]
) -> str | None:
    """Return the hint for a build without a page: which other script or package seems to build the site.

    Scripts in `tried` are left out, since the build has run them.
    """
    scripts = {name: text for name, text in get_scripts(package).items() if name not in tried}
    package = {**package, "scripts": scripts}
    script = find_site_script(package, sure=True) or find_site_script(package, sure=False)
    folders = [folder.relative_to(checkout).as_posix() for folder in find_site_folders(app, checkout)]
    ways = [f'BUILD_COMMAND="{manager} run {script}"'] if script else []
    ways += [f"ROOT_DIR={folder}" for folder in folders[:2]]
    return f"Set {' or '.join(ways)}, which seems to build the site." if ways else None
