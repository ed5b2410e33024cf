"""A checked-out folder becomes a `BuildPlan`: what installs, what builds, and where the output will be.

Reads a few files of the repository, never through a link that leads out of it, and runs nothing.
"""

from __future__ import annotations

import json
import os
import stat
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from buildrunner.errors import BuildFailed, Stage

# Looked for in this order; all but the first must hold an index.html, because sources go by these names too.
OUTPUT_FOLDERS = ("dist", "build", "out", "_site", ".output/public")
# `npm ci` reads the first of these that is there: https://docs.npmjs.com/cli/configuring-npm/npm-shrinkwrap-json
_NPM_LOCKFILES = ("npm-shrinkwrap.json", "package-lock.json")
_OTHER_LOCKFILES = {"pnpm-lock.yaml": "pnpm", "yarn.lock": "Yarn", "bun.lock": "Bun", "bun.lockb": "Bun"}
_MOST_BYTES = 4 * 1024 * 1024  # of a package.json


@dataclass(frozen=True, slots=True)
class BuildPlan:
    """What is run where. Commands are for exec, not for a shell, unless they begin with one."""

    folder: Path  # of the app
    install: tuple[str, ...]
    build: tuple[str, ...]
    install_shown: str  # as a person would type it
    build_shown: str
    output_folders: tuple[str, ...]  # candidates, relative to `folder`


def plan_build(
    checkout: Path,
    *,
    root_dir: str | None,
    install_command: str | None,
    build_command: str | None,
    output_dir: str | None,
) -> BuildPlan:
    """Find out how the app in `checkout` is built; what is given wins over what is found.

    Raises:
        BuildFailed: at the first stage that could not work, with every problem that was found in its reason.

    """
    folder = (checkout / root_dir) if root_dir else checkout
    if not os.path.isdir(folder) or not _is_inside(folder, checkout):
        raise BuildFailed("install", f"The repository has no folder {root_dir}.", "Look at the spelling of ROOT_DIR.")
    folder = Path(os.path.realpath(folder))  # as it is before any code of the repository runs

    where = f" in {root_dir}" if root_dir and root_dir != "." else ""
    package, broken = None, None
    needed = not (install_command and build_command)
    if needed:
        try:
            package = _read_package(folder / "package.json", checkout)
        except ValueError as error:
            broken = str(error)
    if needed and package is None and broken is None:
        raise BuildFailed(
            "install",
            f"The repository has no package.json{where or ' at its top'}.",
            "Commit one, or set ROOT_DIR to the folder that holds the app.",
        )

    problems: list[tuple[Stage, str, str]] = []  # the stage that could not work, the reason, the hint
    if not install_command and not any(_is_file(folder / name) for name in _NPM_LOCKFILES):
        other = next((name for name in _OTHER_LOCKFILES if _is_file(folder / name)), None)
        problems.append(
            (
                "install",
                f"The repository's lockfile is {_OTHER_LOCKFILES[other]}'s ({other}), and only npm's is known so far",
                "Commit a package-lock.json (`npm install` makes it), or set INSTALL_COMMAND.",
            )
            if other
            else (
                "install",
                f"The repository has no lockfile (package-lock.json){where}, which `npm ci` needs",
                "Run `npm install` and commit package-lock.json.",
            )
        )
    scripts = (package or {}).get("scripts")
    if broken:
        problems.append(("install", f"package.json{where} {broken}", "Mend and commit it."))
    elif not build_command and not (isinstance(scripts, dict) and isinstance(scripts.get("build"), str)):
        problems.append(
            (
                "build",
                f"package.json{where} has no build script",
                'Add one under "scripts", such as "build": "vite build", or set BUILD_COMMAND.',
            )
        )
    if problems:
        raise BuildFailed(
            "install" if any(stage == "install" for stage, _, _ in problems) else "build",
            f"{'; and '.join(reason for _, reason, _ in problems)}.",
            " ".join(hint for _, _, hint in problems),
        )

    shell = ("/bin/sh", "-c")
    return BuildPlan(
        folder=folder,
        install=(*shell, install_command) if install_command else ("npm", "ci"),
        build=(*shell, build_command) if build_command else ("npm", "run", "build"),
        install_shown=install_command or "npm ci",
        build_shown=build_command or "npm run build",
        output_folders=(output_dir,) if output_dir else OUTPUT_FOLDERS,
    )


def find_output(plan: BuildPlan) -> Path:
    """Find the folder that the build has made.

    Raises:
        BuildFailed: when there is none; it names the folders that there are.

    """
    for name in plan.output_folders:
        folder = plan.folder / name
        with suppress(OSError):
            wanted = name == plan.output_folders[0] or (folder / "index.html").is_file()
            if wanted and stat.S_ISDIR(folder.stat().st_mode):
                return folder
            if wanted and folder.exists():
                raise BuildFailed(
                    "build", f"{name} is a file, not a folder that could be published.", "Look at OUTPUT_DIR."
                )
    if len(plan.output_folders) == 1:
        reason = f"The build ended well, but it made no folder {plan.output_folders[0]}."
    else:
        reason = "The build ended well, but it made no output: there is no folder dist."
    there: list[str] = []
    with suppress(OSError):  # the build may have removed the folder itself, or put a link in its place
        if os.path.realpath(plan.folder) != str(plan.folder):
            raise NotADirectoryError
        with os.scandir(plan.folder) as entries:
            some = [entry.name for entry in islice(entries, 1000) if os.path.isdir(entry)]  # there may be millions
        there = sorted(name for name in some if name not in {".git", "node_modules"})
    folders = f" The folders there are: {', '.join(there[:20])}." if there else ""
    raise BuildFailed("build", reason, f"Set OUTPUT_DIR to the folder that the build writes to.{folders}")


def _is_inside(path: Path, root: Path) -> bool:
    return Path(os.path.realpath(path)).is_relative_to(os.path.realpath(root))


def _is_file(path: Path) -> bool:
    with suppress(OSError):
        return stat.S_ISREG(path.stat().st_mode)
    return False


def _read_package(path: Path, root: Path) -> dict[str, Any] | None:
    """Read a package.json; None where there is none.

    Raises:
        ValueError: its text completes the sentence "package.json …".

    """
    if not os.path.lexists(path):
        return None
    if not _is_inside(path, root):
        raise ValueError("is a link that leads out of the repository")
    try:
        descriptor = os.open(os.path.realpath(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        if status.st_size > _MOST_BYTES:
            raise ValueError(f"is larger than {_MOST_BYTES // 2**20} MiB")
        with open(descriptor, "rb", closefd=False) as file:
            text = file.read(_MOST_BYTES).decode("utf-8-sig", errors="replace")
    finally:
        os.close(descriptor)
    try:
        package = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not valid JSON: {error}") from None
    except RecursionError:
        raise ValueError("is not valid JSON: it is nested too deeply") from None
    if not isinstance(package, dict):
        raise ValueError("is not valid: it must hold a JSON object, { … }")  # noqa: TRY004
    return package
