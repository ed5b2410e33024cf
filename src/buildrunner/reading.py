"""Read files of a checked-out repository as root: no link is followed out of it, nothing hangs, and all is bounded."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildrunner.cancellation import check_cancelled

MOST_BYTES = 4 * 2**20  # of a file that is read as a whole; lockfiles may be larger
# A walk ends here: a repository may hold millions of folders, and the app is in none of those that come after so many.
_MOST_FOLDERS = 5000
_MOST_ENTRIES = 100_000
_MOST_WALKED = 20_000  # entries
_WALKED_DEPTH = 4  # of folders below an app: dist/<project>/browser/<language>
# Not walked through: what is installed, and reports about the code that come as pages.
_NOT_WALKED = frozenset(
    ("node_modules", "bower_components", "coverage", "lcov-report", "playwright-report", "test-results", "reports")
)


def is_inside(path: Path, root: Path) -> bool:
    """Tell whether `path` is in `root` once all links are followed; `root` is a real path from before any foreign code ran."""
    return Path(os.path.realpath(path)).is_relative_to(root)


def is_file(path: Path) -> bool:
    """Tell whether `path` is a regular file, or a link to one."""
    with suppress(OSError, ValueError):  # a name may hold \0
        return stat.S_ISREG(path.stat().st_mode)
    return False


def read_text(path: Path, root: Path, *, most_bytes: int = MOST_BYTES) -> str | None:
    """Read a text file of the repository `root`; None where there is none.

    Raises:
        ValueError: its text completes the sentence "package.json …".

    """
    if not os.path.lexists(path):
        return None
    if not is_inside(path, root):
        raise ValueError("is a link that leads out of the repository")
    try:
        descriptor = os.open(os.path.realpath(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    try:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ValueError("is not a regular file")
        if status.st_size > most_bytes:
            raise ValueError(f"is larger than {most_bytes // 2**20} MiB")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(most_bytes).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def read_json(path: Path, root: Path) -> dict[str, Any] | None:
    """Read a file that holds a JSON object, such as package.json; None where there is none.

    Raises:
        ValueError: as `read_text`.

    """
    text = read_text(path, root)
    if text is None:
        return None
    try:
        value = json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not valid JSON: {error}") from None
    except RecursionError:
        raise ValueError("is not valid JSON: it is nested too deeply") from None
    if not isinstance(value, dict):
        raise ValueError("is not valid: it must hold a JSON object, { … }")  # noqa: TRY004
    return value


def folders(root: Path, depth: int) -> Iterator[Path]:
    """Give the folders below `root` that may hold an app, `depth` levels deep, the upper ones first, in order of their names.

    Links are not followed; hidden folders and node_modules are left out.
    """
    level, entries_left = [root], _MOST_ENTRIES
    given = 0
    for _ in range(depth):
        below: list[Path] = []
        for folder in level:
            check_cancelled()
            with suppress(OSError), os.scandir(folder) as entries:
                names = []
                for entry in entries:
                    entries_left -= 1
                    if entries_left < 0:
                        break
                    if entry.name[0] != "." and entry.name != "node_modules" and entry.is_dir(follow_symlinks=False):
                        names.append(entry.name)
                below += [folder / name for name in sorted(names)]
            if len(below) > _MOST_FOLDERS:
                break
        for folder in below:
            given += 1
            if given > _MOST_FOLDERS:
                return
            yield folder
        level = below


def walk(top: str, *, hidden: bool = False) -> Iterator[tuple[str, os.stat_result]]:
    """Give what is in a folder, a few levels deep and never through a link: there may be millions.

    What hidden folders hold is left out unless `hidden`, and what .git holds always is.
    """
    left = _MOST_WALKED
    level = [top]
    for _ in range(_WALKED_DEPTH + 1):
        below: list[str] = []
        for folder in level:
            check_cancelled()
            with suppress(OSError), os.scandir(folder) as entries:
                for entry in entries:
                    left -= 1
                    if left < 0:
                        return
                    with suppress(OSError):
                        yield entry.path, entry.stat(follow_symlinks=False)
                    if (
                        entry.name not in _NOT_WALKED
                        and (not entry.name.startswith(".") or (hidden and entry.name != ".git"))
                        and entry.is_dir(follow_symlinks=False)
                    ):
                        below.append(entry.path)
        level = below
