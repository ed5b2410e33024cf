"""Collect the files of an output directory to publish, and keep the directory open to read them."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from buildrunner.errors import BuildFailed
from buildrunner.publish.bundlers import MAX_BYTES, judge_by_manifests
from buildrunner.publish.headers import cache_control
from buildrunner.publish.walk import (
    OPEN_FILE,
    Limits,
    OutputWalk,
    Selected,
    SiteFile,
    open_below,
    path_below,
    real_path,
)
from buildrunner.redaction import visible

# Folders of development tools, which never contain a site.
_TOOL_FOLDERS = frozenset((".git", ".github", ".gitlab", ".circleci", ".vscode", ".idea", ".husky", ".yarn", ".ssh"))


class Site:
    """The files of an output directory, which stays open until the context ends.

    Args:
        root: descriptor of the directory; this object closes it.
        files: files to publish.
        left_out: sentences about entries that are not published.
        real_paths: published path → real path, for files behind links.

    """

    def __init__(
        self, root: int, files: tuple[SiteFile, ...], left_out: tuple[str, ...], real_paths: Mapping[str, str]
    ) -> None:
        self.files = files
        self.left_out = left_out  # sentences for people
        self.total_bytes = sum(file.size for file in files)
        self._root = root
        self._real_paths = real_paths

    def open(self, file: SiteFile) -> int:
        """Return a descriptor to read `file`; the caller closes it.

        Raises:
            BuildFailed: the file cannot be opened, or is not the regular file of that size that `collect` found.

        """
        try:
            descriptor = open_below(self._root, self._real_paths.get(file.path, file.path), OPEN_FILE)
        except OSError as error:
            raise BuildFailed(
                "upload",
                f"The file {visible(file.path)} cannot be read: {error.strerror}.",
                "Make the build leave its files readable, and unchanged once it has ended.",
                kind="output-unreadable",
            ) from None
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or found.st_size != file.size:
            os.close(descriptor)
            raise changed_meanwhile(file.path)
        return descriptor

    def leave_out(self, paths: Collection[str]) -> None:
        """Remove files from those to publish, such as files with rules of the site."""
        self.files = tuple(file for file in self.files if file.path not in paths)
        self.total_bytes = sum(file.size for file in self.files)

    def close(self) -> None:
        if self._root >= 0:
            os.close(self._root)
            self._root = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def changed_meanwhile(path: str) -> BuildFailed:
    """Return the error for a file that changed after the directory was listed."""
    return BuildFailed(
        "upload",
        f"The file {visible(path)} changed during upload.",
        "A process still writes to the output directory after the build. Wait for that process in the build script.",
        kind="output-changed",
    )


def collect(
    root: Path,
    inside: Path,
    *,
    prefix: str = "",
    limits: Limits | None = None,
    owner: int | None = None,
    selected: Selected | None = None,
) -> Site:
    """List the files of an output directory, ordered by path, without reading any but the manifests of bundlers.

    A link in the directory to a regular file or folder in it is published as that file or folder, unless the folder contains the
    link. Other entries are left out and reported: those that are not regular files, whose names cannot be keys, or that belong to
    another user, because a hard link to a file doesn't require permission to read it.

    Args:
        root: the directory, or a link to a directory in `inside`.
        inside: real path of the checkout before any code of the repository ran; links may not leave it.
        prefix: prefix of the site's keys.
        limits: limits of the site; None for no limits.
        owner: id of the user that must own the files; None for any.
        selected: selection of entries; the others are left out silently. None selects all.

    Raises:
        BuildFailed: there is nothing to publish, the site exceeds `limits`, or the directory cannot be read.

    """
    shown = visible(os.path.relpath(root, inside))
    descriptor = _open_root(root, inside, shown)
    try:
        walk = OutputWalk(descriptor, prefix, shown, limits, owner, selected)
        walk.run()
        files = tuple(sorted(walk.files, key=lambda file: file.path))
        left_out = tuple(f"{visible(path)} is left out: {why}." for path, why in sorted(walk.left_out))
        if not files:
            raise BuildFailed(
                "build",
                f"The build wrote no files to {shown}.",
                left_out[0]
                if left_out
                else "Check the log of the build, and that OUTPUT_DIR is the folder it writes to.",
                kind="output-empty",
            )
        site = Site(descriptor, files, left_out, walk.real_paths)
        site.files = _with_manifests(site)
        return site
    except BaseException:
        os.close(descriptor)
        raise


def _with_manifests(site: Site) -> tuple[SiteFile, ...]:
    """Return the files with the cache control that the manifests of bundlers imply."""
    files = {file.path: file for file in site.files}

    def read(path: str) -> bytes | None:
        if files[path].size > MAX_BYTES:
            return None
        descriptor = site.open(files[path])
        try:
            return os.pread(descriptor, MAX_BYTES, 0)
        finally:
            os.close(descriptor)

    for path, is_hashed in judge_by_manifests(files, read).items():
        files[path] = replace(files[path], cache_control=cache_control(path, is_hashed))
    return tuple(files.values())


def _open_root(root: Path, inside: Path, shown: str) -> int:
    try:
        descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        reason = {
            FileNotFoundError: f"The build did not create the folder {shown}.",
            NotADirectoryError: f"The build's output {shown} is not a folder.",
        }.get(type(error), f"The build's output {shown} cannot be opened: {error.strerror}.")
        raise BuildFailed(
            "build",
            reason,
            "Set OUTPUT_DIR to the folder that the build script writes the site to.",
            kind="output-missing",
        ) from None
    real = real_path(descriptor)
    below = path_below(real, str(inside))
    if below is None:
        flaw = "is a link that leads out of the repository"
    elif name := next((part for part in below.split("/") if part in _TOOL_FOLDERS), None):
        flaw = (
            "is a tool's folder, not a site" if name == shown else f"is a link to {name}, a tool's folder, not a site"
        )
    elif below.rpartition("/")[2] == "node_modules":
        flaw = "is node_modules, the folder of installed packages"
    elif Path(os.path.normpath(root)) != Path(real) and Path(os.path.normpath(root)).is_relative_to(real):
        flaw = "is a link to a folder that holds the link itself"
    else:
        return descriptor
    os.close(descriptor)
    raise BuildFailed(
        "build",
        f"The build's output {shown} {flaw}.",
        "Make the build write the site into a folder of the repository.",
        kind="output-outside",
    )
