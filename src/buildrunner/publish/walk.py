"""List the files of an output directory without following a link out of it.

The build that wrote the directory is untrusted. Paths are therefore opened one component at a time, below the descriptor of the
directory, and checked before anything is read.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple

from buildrunner.concurrency.cancellation import check_cancelled
from buildrunner.errors import BuildFailed
from buildrunner.project.output.pages import is_page
from buildrunner.publish.headers import cache_control, content_type
from buildrunner.redaction import visible

MAX_KEY_BYTES = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
OPEN_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_OPEN_FOLDER = OPEN_FILE | os.O_DIRECTORY
_MAX_LINKS = 1000  # links to folders
_MAX_BEHIND_LINKS = 100_000  # files and folders in all of them
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
    """Limits of a site."""

    files: int  # SITE_MAX_FILES
    total_bytes: int  # SITE_MAX_BYTES
    file_bytes: int  # SITE_MAX_FILE_BYTES


class OutputWalk:
    """List an output directory: first its own folders, then the folders that links in it lead to.

    A folder behind a link is listed under the path of the link and opened by its real path. Such folders never make a site exceed
    its limits: a link whose folder doesn't fit is left out as a whole, so that the result doesn't depend on the order on disk.

    Args:
        root: descriptor of the directory.
        prefix: prefix of the site's keys.
        shown: path of the directory for people.
        limits: limits of the site; None for no limits.
        owner: id of the user that must own the files; None for any.
        selected: selection of entries; None for all.

    """

    def __init__(
        self, root: int, prefix: str, shown: str, limits: Limits | None, owner: int | None, selected: Selected | None
    ) -> None:
        self.files: list[SiteFile] = []
        self.left_out: list[tuple[str, str]] = []
        self.real_paths: dict[str, str] = {}  # published path → real path, for files behind links
        self._root = root
        self._real_root = real_path(root)
        self._key_bytes = MAX_KEY_BYTES - len(prefix.encode())
        self._shown = shown
        self._limits = limits
        self._owner = owner
        self._selected = selected
        self._total_bytes = self._folders_found = 0

    def run(self) -> None:
        links: list[_Folder] = []
        folders = [_Folder("", "", ())]
        while folders:  # one open descriptor at a time, however deep the folders are
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
        """List the folder behind a link, including the links in it; undo that and return False if it doesn't fit."""
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
                    self._behind_links = _MAX_BEHIND_LINKS  # bounds the entries read in vain too
                    return False
        self._behind_links += len(self.files) + self._others - before[0] - before[1] - before[3]
        return True

    _behind_links = 0  # files and folders that links have added

    def _scan(self, folder: _Folder, folders: list[_Folder], links: list[_Folder]) -> Iterator[None]:
        """List the entries of a folder, and yield after each, because there may be millions."""
        check_cancelled()
        try:
            descriptor = open_below(self._root, folder.real or ".", _OPEN_FOLDER)
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
        if entry.name == ".git":  # if the output is the repository's own folder
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
    path: str  # published path
    real: str  # real path below the root, without links
    holders: tuple[str, ...]  # real folders of the links on the way to it; a link to one of them is a cycle


def _check_limits(limits: Limits, files: list[SiteFile], total_bytes: int, others: int) -> None:
    last = files[-1] if files else None
    right_one = "Check that the output folder is the right one, or raise"
    if last and last.size > limits.file_bytes:
        reason = f"The file {visible(last.path)} is {last.size:,} bytes; the limit is {limits.file_bytes:,} bytes."
        hint = "Leave it out of the site, or raise SITE_MAX_FILE_BYTES."
    elif len(files) > limits.files:
        reason, hint = f"The site has more than {limits.files:,} files.", f"{right_one} SITE_MAX_FILES."
    elif others > limits.files:  # they take as long to walk
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
    """Return the path below the root of the target of a link, and its status, or the reason why it can't be published.

    The kernel resolves the link. O_PATH doesn't open the target, so that devices and named pipes are safe.
    """
    try:
        descriptor = os.open(name, os.O_PATH | os.O_CLOEXEC, dir_fd=folder)
    except FileNotFoundError:
        return "it is a link to something that does not exist"
    except OSError:
        return "it is a link that leads nowhere"
    try:
        found = os.fstat(descriptor)
        target = path_below(real_path(descriptor), real_root)
    finally:
        os.close(descriptor)
    if target is None:
        return "it is a link that leads out of the output directory"
    if ".git" in target.split("/"):
        return "it is a link to .git, which is git's, not the site's"
    if not stat.S_ISREG(found.st_mode) and not stat.S_ISDIR(found.st_mode):
        return "it is a link to something that is not a file"
    return target, found


def open_below(root: int, path: str, flags: int) -> int:
    """Open `path` below the directory `root`; fail if a component of it is a link."""
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


def real_path(descriptor: int) -> str:
    """Return the path of an open file or directory, without links."""
    return os.readlink(f"/proc/self/fd/{descriptor}")


def path_below(path: str, root: str) -> str | None:
    """Return `path` relative to `root`; None if it is not below it."""
    if path == root:
        return "."
    return path.removeprefix(f"{root.rstrip('/')}/") if path.startswith(f"{root.rstrip('/')}/") else None


def _site_file(path: str, size: int) -> SiteFile:
    return SiteFile(path, size, content_type(path), cache_control(path), is_page=is_page(path))
