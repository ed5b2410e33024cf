"""DeploymentLock an output directory into the list of files to publish, without ever following a link out of it.

The directory was written by a stranger's build. So it is walked and read by descriptors, one component of a path after
the other below the directory's own descriptor, and what is opened is looked at before anything is read from it.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import NamedTuple, Self

from buildrunner.concurrency.cancellation import check_cancelled
from buildrunner.errors import BuildFailed
from buildrunner.project.output.pages import is_page
from buildrunner.publish.bundlers import MAX_BYTES, judge_by_manifests
from buildrunner.publish.headers import cache_control, content_type
from buildrunner.redaction import visible

MAX_KEY_BYTES = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDER = _OPEN_FILE | os.O_DIRECTORY
_MAX_LINKS = 1000  # links to folders
_MAX_BEHIND_LINKS = 100_000  # files and folders that they add together
# Folders that tools keep beside the sources: a site is in none of them.
_TOOL_FOLDERS = frozenset((".git", ".github", ".gitlab", ".circleci", ".vscode", ".idea", ".husky", ".yarn", ".ssh"))
Selected = Callable[[str, bool], bool]  # the path of an entry and whether it is a folder → whether it is published


@dataclass(frozen=True, slots=True)
class SiteFile:
    """A regular file that will be an object."""

    path: str  # below the output directory, `/` between its parts
    size: int  # bytes, when the directory was walked
    content_type: str
    cache_control: str
    is_page: bool


@dataclass(frozen=True, slots=True)
class Limits:
    """What a site may have (`SITE_MAX_FILES`, `SITE_MAX_BYTES`, `SITE_MAX_FILE_BYTES`)."""

    files: int
    total_bytes: int
    file_bytes: int


class Site:
    """An output directory, held open by its descriptor until the context ends."""

    def __init__(
        self, root: int, files: tuple[SiteFile, ...], left_out: tuple[str, ...], real_paths: Mapping[str, str]
    ) -> None:
        self.files = files
        self.left_out = left_out  # sentences for people
        self.total_bytes = sum(file.size for file in files)
        self._root = root
        self._real_paths = real_paths  # the published path → the path of the file that a link leads to

    def open(self, file: SiteFile) -> int:
        """Return a descriptor to read `file` from, which the caller closes.

        Raises BuildFailed when what is there now is not the regular file of that size that `collect` saw.
        """
        try:
            descriptor = _open_below(self._root, self._real_paths.get(file.path, file.path), _OPEN_FILE)
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
        """Publish all but these files, which say something about the site."""
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
    """Say that a file is not what it was when the directory was walked."""
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
    """Walk `root` and list what can be published, in the order of the paths; reads no file but bundlers' manifests.

    `root` may be a link as long as it leads to a directory in `inside`, the real path that the checkout had before any code of
    the repository ran: whatever stands there now, a link elsewhere included, is the build's. A link in `root` that leads to a
    regular file or a folder in `root` is published as that file or folder, except for a folder that holds the link. Everything
    else that is not a regular file, whose name cannot be a key of S3 behind `prefix`, or that belongs to another user than `owner`
    (if that is given), is left out and named: a hard link to somebody else's file takes no right to read it. What `selected`
    does not want is left out without a word. Raises BuildFailed when there is nothing to publish, or more than `limits` allow.
    """
    shown = visible(os.path.relpath(root, inside))
    descriptor = _open_root(root, inside, shown)
    try:
        walk = _Walk(descriptor, prefix, shown, limits, owner, selected)
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
    """Return the site's files with what their bundler's manifest says of them."""
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
    real = _real_path(descriptor)
    below = _below(real, str(inside))
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


class _Walk:
    """Lists what is in an output directory: first its own folders, then the folders that links in it lead to.

    A folder behind a link is listed under the link's path and opened by its real one. Such folders never make a site exceed its
    limits: a link whose folder does not fit is left out as a whole, so that the order of entries on the disk decides nothing.
    """

    def __init__(
        self, root: int, prefix: str, shown: str, limits: Limits | None, owner: int | None, selected: Selected | None
    ) -> None:
        self.files: list[SiteFile] = []
        self.left_out: list[tuple[str, str]] = []
        self.real_paths: dict[str, str] = {}  # of files that a link leads to, by the path they are published under
        self._root = root
        self._real_root = _real_path(root)
        self._key_bytes = MAX_KEY_BYTES - len(prefix.encode())
        self._shown = shown
        self._limits = limits
        self._owner = owner
        self._selected = selected
        self._total_bytes = self._folders_found = 0

    def run(self) -> None:
        links: list[_Folder] = []
        folders = [_Folder("", "", ())]
        while folders:  # one descriptor at a time, however deep the folders go
            for _ in self._scan(folders.pop(), folders, links):
                if self._limits:
                    _check_limits(self._limits, self.files, self._total_bytes, self._others)
        if self._limits:
            _check_limits(self._limits, self.files, self._total_bytes, self._others)
        for index, link in enumerate(sorted(links)):
            if index >= _MAX_LINKS or not self._follow(link):
                limit = f"links may add {_MAX_BEHIND_LINKS:,} files and folders, within the site's limits"
                self.left_out.append((link.path, f"it is a link to a folder, and {limit}"))

    @property
    def _others(self) -> int:
        return self._folders_found + len(self.left_out)

    def _follow(self, link: _Folder) -> bool:
        """List the folder that a link leads to, with the links in it; undo and return False where it does not fit."""
        before = len(self.files), len(self.left_out), self._total_bytes, self._folders_found
        most = min(_MAX_BEHIND_LINKS - self._behind_links, self._limits.files if self._limits else _MAX_BEHIND_LINKS)
        max_bytes = self._limits.total_bytes if self._limits else self._total_bytes + 2**63
        folders = [link]
        while folders:
            for _ in self._scan(folders.pop(), folders, folders):
                added = len(self.files) + self._others - before[0] - before[1] - before[3]
                fits = added <= most and self._total_bytes <= max_bytes
                if self._limits:
                    fits = fits and max(len(self.files), self._others) <= self._limits.files
                if not fits:
                    for file in self.files[before[0] :]:
                        self.real_paths.pop(file.path, None)
                    del self.files[before[0] :], self.left_out[before[1] :]
                    self._total_bytes, self._folders_found = before[2:]
                    self._behind_links = _MAX_BEHIND_LINKS  # what has been read in vain is bounded, too
                    return False
        self._behind_links += len(self.files) + self._others - before[0] - before[1] - before[3]
        return True

    _behind_links = 0  # files and folders that links have added

    def _scan(self, folder: _Folder, folders: list[_Folder], links: list[_Folder]) -> Iterator[None]:
        """List a folder's entries, and yield after each: there may be millions."""
        check_cancelled()
        try:
            descriptor = _open_below(self._root, folder.real or ".", _OPEN_FOLDER)
            entries = os.scandir(descriptor)
            try:
                for entry in entries:
                    self._take(entry, descriptor, folder, folders, links)
                    yield
            finally:
                entries.close()
                os.close(descriptor)
        except OSError as error:
            where = visible(f"{self._shown}/{folder.path}" if folder.path else self._shown)
            raise BuildFailed(
                "build",
                f"The folder {where} of the build's output cannot be read: {error.strerror}.",
                "Make the build leave its output readable.",
                kind="output-unreadable",
            ) from None

    def _take(
        self,
        entry: os.DirEntry[str],
        descriptor: int,
        folder: _Folder,
        folders: list[_Folder],
        links: list[_Folder],
    ) -> None:
        if entry.name == ".git":  # where the output is the repository's own folder
            return
        path, real = (f"{above}/{entry.name}" if above else entry.name for above in (folder.path, folder.real))
        if flaw := _flaw_of_name(entry.name, path, self._key_bytes):
            self.left_out.append((path, flaw))
            return
        is_folder = entry.is_dir(follow_symlinks=False)
        if self._selected and not self._selected(path, is_folder):
            return
        if is_folder:
            folders.append(_Folder(path, real, folder.holders))
            self._folders_found += 1
            return
        found = entry.stat(follow_symlinks=False)
        if stat.S_ISLNK(found.st_mode):
            target = _behind_link(descriptor, entry.name, self._real_root)
            if isinstance(target, str):
                self.left_out.append((path, target))
                return
            real, found = target
            is_folder = stat.S_ISDIR(found.st_mode)
            if self._selected and not self._selected(real, is_folder):
                return
            if is_folder:
                holders = (*folder.holders, folder.real)
                if any(real == "." or f"{holder}/".startswith(f"{real}/") for holder in holders):
                    self.left_out.append((path, "it is a link to a folder that holds the link itself"))
                else:
                    links.append(_Folder(path, real, holders))
                return
        if stat.S_ISREG(found.st_mode) and self._owner not in {None, found.st_uid}:
            self.left_out.append((path, "it belongs to another user"))
        elif stat.S_ISREG(found.st_mode):
            self.files.append(_site_file(path, found.st_size))
            self._total_bytes += found.st_size
            if real != path:
                self.real_paths[path] = real
        else:
            self.left_out.append((path, f"it is {_KINDS.get(stat.S_IFMT(found.st_mode), 'not a regular file')}"))


class _Folder(NamedTuple):
    path: str  # that its files are published under
    real: str  # that it is opened by, below the root; no part of it is a link
    holders: tuple[str, ...]  # the real folders that hold the links on the way to it: a link to one of them is a cycle


def _check_limits(limits: Limits, files: list[SiteFile], total_bytes: int, others: int) -> None:
    last = files[-1] if files else None
    right_one = "Check that the output folder is the right one, or raise"
    if last and last.size > limits.file_bytes:
        reason = f"The file {visible(last.path)} is {last.size:,} bytes; the limit is {limits.file_bytes:,} bytes."
        hint = "Leave it out of the site, or raise SITE_MAX_FILE_BYTES."
    elif len(files) > limits.files:
        reason, hint = f"The site has more than {limits.files:,} files.", f"{right_one} SITE_MAX_FILES."
    elif others > limits.files:  # walking through them takes as long
        reason = f"The output has more than {limits.files:,} folders, links and other things that are not files."
        hint = f"{right_one} SITE_MAX_FILES."
    elif total_bytes > limits.total_bytes:
        reason, hint = f"The site has more than {limits.total_bytes:,} bytes.", f"{right_one} SITE_MAX_BYTES."
    else:
        return
    raise BuildFailed("build", reason, hint, kind="site-too-large")


_KINDS = {
    stat.S_IFIFO: "a named pipe, not a file",
    stat.S_IFSOCK: "a socket, not a file",
    stat.S_IFCHR: "a device, not a file",
    stat.S_IFBLK: "a device, not a file",
}


_CONTROL_CHARACTER = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def _flaw_of_name(name: str, path: str, room: int) -> str | None:
    try:
        length = len(path.encode())
    except UnicodeEncodeError:
        return "its name is not UTF-8"
    if _CONTROL_CHARACTER.search(name):
        return "its name contains control characters"
    if "\\" in name:
        return "its name contains a backslash, which browsers treat as /"
    if length > room:
        return f"its path is longer than the {room} bytes that S3 allows"
    return None


def _behind_link(folder: int, name: str, real_root: str) -> tuple[str, os.stat_result] | str:
    """Return the path below the root of the file or folder that a link leads to, with its status; else why there is none.

    The kernel follows the link. O_PATH opens nothing: no device is touched, and a pipe does not wait for a writer.
    """
    try:
        descriptor = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return "it is a link to something that does not exist"
    except OSError:
        return "it is a link that leads nowhere"
    try:
        found = os.fstat(descriptor)
        target = _below(_real_path(descriptor), real_root)
    finally:
        os.close(descriptor)
    if target is None:
        return "it is a link that leads out of the output directory"
    if ".git" in target.split("/"):
        return "it is a link to .git, which is git's, not the site's"
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        return "it is a link to something that is not a file"
    return target, found


def _open_below(root: int, path: str, flags: int) -> int:
    """Open `path` below the directory `root`, no component of which may be a link."""
    *folders, name = path.split("/")
    folder = root
    try:
        for part in folders:
            below = os.open(part, _OPEN_FOLDER, dir_fd=folder)
            if folder != root:
                os.close(folder)
            folder = below
        return os.open(name, flags, dir_fd=folder)
    finally:
        if folder != root:
            os.close(folder)


def _real_path(descriptor: int) -> str:
    return os.readlink(f"/proc/self/fd/{descriptor}")


def _below(path: str, root: str) -> str | None:
    """Return `path` relative to `root`, or None when it is not below it."""
    if path == root:
        return "."
    return path.removeprefix(f"{root.rstrip('/')}/") if path.startswith(f"{root.rstrip('/')}/") else None


def _site_file(path: str, size: int) -> SiteFile:
    return SiteFile(path, size, content_type(path), cache_control(path), is_page=is_page(path))
