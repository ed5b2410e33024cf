"""Compute the key of an install from its lockfile and all other inputs; installs with the same key are the same."""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildrunner.cache.archive import CacheableInstall, Kind
from buildrunner.config.secret_names import is_secret_name
from buildrunner.project.files import is_inside, parse_json, read_text
from buildrunner.project.package_json import has_install_scripts
from buildrunner.project.package_managers.lockfiles import read_lockfile
from buildrunner.project.package_managers.table import CONFIG_FILES

if TYPE_CHECKING:
    from buildrunner.project.package_managers.record import ManagerRequirement
    from buildrunner.project.plan import BuildPlan

MIN_LOCKFILE_CHARACTERS = 4096  # npm's has about 300 per package; fewer than a dozen packages need no cache
_MAX_PATCHES = 200
_MAX_LINKS = 500  # packages of a workspace
_MAX_INPUT = 8 * 2**20  # characters of all files in the key
_FORMAT = 2  # part of every key; raise it when the content or format of the cache changes
NO_SCRIPTS = r"^[ \t]*ignore-scripts[ \t]*=[ \t]*[\"']?true"


def describe_install(
    plan: BuildPlan,
    *,
    own: bool,
    downloads: Path,
    node: str | None,
    manager: str | None,
    install_env: Mapping[str, str],
) -> CacheableInstall | None:
    """Return what can be cached of a plan's install; None for nothing.

    Args:
        plan: plan of the build.
        own: whether the scope is a single slug.
        downloads: folder for the manager's downloads.
        node: version of Node.
        manager: version of the package manager; None for the one included in Node.
        install_env: other variables of the install.

    """
    install, app = plan.install, plan.app
    if install.manager is None or install.lockfile is None or not install.strategies:
        return None
    cached = install.manager.record.cache
    if cached is None or not (own or cached.shareable):
        return None
    if os.path.lexists(app.root / "node_modules"):  # the repository contains its own
        return None
    try:
        lockfile = read_lockfile(install.lockfile, app.checkout) or ""
        if len(lockfile) < MIN_LOCKFILE_CHARACTERS:
            return None
        files = read_inputs(app.root, app.checkout)
    except ValueError:  # the install reports unreadable files
        return None
    kinds: tuple[Kind, ...] = ("packages",) if own else ("shared",)
    if own and cached.complete_modules and not _has_linked_scripts(lockfile, app.root, app.checkout):
        kinds = ("modules", *kinds)
    versions = _versions(install.manager, manager, node)
    keys = {kind: key_of(kind, versions, lockfile=lockfile, files=files, environment=install_env) for kind in kinds}
    scripts = not re.search(NO_SCRIPTS, files.get(".npmrc", ""), re.MULTILINE) and "true" not in {
        value for name, value in install_env.items() if name.lower() == "npm_config_ignore_scripts"
    }
    own_scripts = scripts and has_install_scripts(_parse_package(files.get("package.json", "")))
    if cached.linked and own_scripts:
        return None
    return CacheableInstall(install.manager.label, cached, keys, lockfile, scripts, own_scripts, app.root, downloads)


def key_of(
    kind: Kind,
    versions: Sequence[str],
    *,
    lockfile: str,
    files: Mapping[str, str],
    environment: Mapping[str, str],
) -> str:
    """Return the key of an install.

    Args:
        kind: what is cached.
        versions: versions of the manager, Node and the machine.
        lockfile: text of the lockfile.
        files: text of other files of the repository that matter, by path.
        environment: environment of the install. Only the names of secrets count: tokens change between builds, and nothing
            derived from them belongs in a bucket.

    """
    visible = {name: "" if is_secret_name(name) else value for name, value in environment.items()}
    parts = [_FORMAT, kind, list(versions), lockfile, sorted(files.items()), sorted(visible.items())]
    text = json.dumps(parts, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def _versions(manager: ManagerRequirement, version: str | None, node: str | None) -> list[str]:
    return [manager.name, version or "", node or "", platform.machine(), *platform.libc_ver()]


def read_inputs(root: Path, checkout: Path) -> dict[str, str]:
    """Read the other files of the repository that matter; raise ValueError if there are too many."""
    paths = [root / name for name in CONFIG_FILES]
    patches = root / "patches"
    with suppress(OSError):
        if is_inside(patches, checkout):
            names = sorted(os.listdir(patches))
            if len(names) > _MAX_PATCHES:
                raise ValueError("has too many patches")
            paths += [patches / name for name in names if name.endswith(".patch")]
    texts: dict[str, str] = {}
    for path in paths:
        text = read_text(path, checkout)
        if text is not None:
            texts[str(path.relative_to(root))] = text
        if sum(map(len, texts.values())) > _MAX_INPUT:
            raise ValueError("has too much that decides")
    return texts


def _parse_package(text: str) -> Mapping[str, Any]:
    with suppress(ValueError):
        package = parse_json(text)
        return package if isinstance(package, dict) else {}
    return {}


def _has_linked_scripts(lockfile: str, root: Path, checkout: Path) -> bool:
    """Return whether linked packages of the repository have install scripts, which npm runs with those of dependencies."""
    lock = _parse_package(lockfile)
    packages = lock.get("packages")
    if not isinstance(packages, dict):
        return '"file:' in lockfile
    links = [entry.get("resolved") for entry in packages.values() if isinstance(entry, dict) and entry.get("link")]
    if len(links) > _MAX_LINKS:
        return True
    for link in links:
        if not isinstance(link, str):
            return True
        try:
            text = read_text(root / link / "package.json", checkout)
        except ValueError:
            return True
        if has_install_scripts(_parse_package(text or "")):
            return True
    return False
