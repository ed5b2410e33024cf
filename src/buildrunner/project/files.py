"""Read files of an untrusted checkout safely: no link leads out of it, no read hangs, and everything is bounded."""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from buildrunner.concurrency.cancellation import check_cancelled

MAX_BYTES = 4 * 2**20  # of a file; lockfiles may be larger
_MAX_YAML_BYTES = 128 * 1024
_MAX_TOML, _MAX_DOTS = 128 * 1024, 500  # characters; dots per line
# Limits for structured files, which can take a hundred times their size in memory. A lockfile of 5,000 packages has 150,000
# values.
_MAX_VALUES, _MAX_YAML_VALUES, _MAX_ALIASES, _MAX_DEPTH = 1_000_000, 20_000, 100, 50
# Limits for walks: a repository may contain millions of folders.
_MAX_FOLDERS = 5000
_MAX_ENTRIES = 100_000
_MAX_WALKED = 20_000  # entries
_WALKED_DEPTH = 4  # levels below an app: dist/<project>/browser/<language>
# Folders that walks skip: installed packages, and HTML reports about the code.
_NOT_WALKED = frozenset(
    ("node_modules", "bower_components", "coverage", "lcov-report", "playwright-report", "test-results", "reports")
)


def is_inside(path: Path, root: Path) -> bool:
    """Return whether `path` is inside `root` after resolving all links; `root` was resolved before untrusted code ran."""
    return Path(os.path.realpath(path)).is_relative_to(root)


def ancestors(folder: Path, root: Path) -> Iterator[Path]:
    """Yield a folder and its ancestors, up to `root`."""
    yield folder
    while folder != root and folder.is_relative_to(root):
        folder = folder.parent
        yield folder


def is_file(path: Path) -> bool:
    """Return whether `path` is a regular file, or a link to one."""
    with suppress(OSError, ValueError):  # ValueError: a name that contains \0
        return stat.S_ISREG(path.stat().st_mode)
    return False


def read_text(path: Path, root: Path, *, max_bytes: int = MAX_BYTES) -> str | None:
    """Read a text file of the repository `root`; None if there is none.

    Raises:
        ValueError: its text is a predicate, such as "is not a regular file", that callers put after the file's name.

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
        if status.st_size > max_bytes:
            raise ValueError(f"is larger than {max_bytes // 2**20} MiB")
        with open(descriptor, "rb", closefd=False) as file:
            return file.read(max_bytes).decode("utf-8-sig", errors="replace")
    except OSError as error:
        raise ValueError(f"cannot be read: {error.strerror}") from None
    finally:
        os.close(descriptor)


def read_json(path: Path, root: Path) -> dict[str, Any] | None:
    """Read a file that contains a JSON object, such as package.json; None if there is none.

    Raises:
        ValueError: as `read_text`.

    """
    text = read_text(path, root)
    if text is None:
        return None
    value = parse_json(text)
    if not isinstance(value, dict):
        raise ValueError("is not valid: it must contain a JSON object, { … }")  # noqa: TRY004
    return value


def parse_json(text: str) -> Any:
    """Parse JSON with a bounded number of values.

    Raises:
        ValueError: as `read_text`.

    """
    if sum(map(text.count, "[{,")) > _MAX_VALUES:
        raise ValueError(f"has more than {_MAX_VALUES} values")
    try:
        return json.loads(text)
    except ValueError as error:
        raise ValueError(f"is not valid JSON: {error}") from None
    except RecursionError:
        raise ValueError("is not valid JSON: it is nested too deeply") from None


def read_yaml(path: Path, root: Path) -> dict[str, Any] | None:
    """Read a file that contains a YAML mapping, such as pnpm-workspace.yaml; None if there is none. All scalars are text.

    Raises:
        ValueError: as `read_text`.

    """
    text = read_text(path, root, max_bytes=_MAX_YAML_BYTES)
    if text is None:
        return None
    value = parse_yaml(text)
    return value if isinstance(value, dict) else {}


def parse_yaml(text: str) -> Any:
    """Parse a YAML document with bounded depth, values and aliases. Tags are ignored, and `<<` is an ordinary key.

    Raises:
        ValueError: as `read_text`.

    """
    import yaml  # most repositories don't need it

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    value: Any
    root: list[Any] = []
    open_ones: list[Any] = [root]  # lists and mappings
    keys: list[str | None] = [None]  # of the open mappings: the key of the next value
    anchors: dict[str, Any] = {}
    values = aliases = 0
    try:
        for event in yaml.parse(text, Loader=loader):
            values += 1
            if isinstance(event, yaml.CollectionEndEvent):
                open_ones.pop()
                keys.pop()
                continue
            if isinstance(event, yaml.AliasEvent):
                aliases += 1
                value = anchors.get(event.anchor)
            elif isinstance(event, yaml.ScalarEvent):
                value = event.value
            elif isinstance(event, yaml.SequenceStartEvent):
                value = []
            elif isinstance(event, yaml.MappingStartEvent):
                value = {}
            else:
                continue
            if values > _MAX_YAML_VALUES or aliases > _MAX_ALIASES or len(open_ones) > _MAX_DEPTH:
                raise ValueError("has too many values or levels")
            if isinstance(event, yaml.NodeEvent) and event.anchor and not isinstance(event, yaml.AliasEvent):
                anchors[event.anchor] = value
            around, key = open_ones[-1], keys[-1]
            if isinstance(around, list):
                around.append(value)
            elif key is None:
                keys[-1] = value if isinstance(value, str) else ""
            else:
                around[key] = value
                keys[-1] = None
            if isinstance(event, yaml.CollectionStartEvent):
                open_ones.append(value)
                keys.append(None)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f" in line {mark.line + 1}" if mark else ""
        raise ValueError(f"is not valid YAML{line}") from None
    return root[0] if root else None


def parse_toml(text: str) -> dict[str, Any]:
    """Parse TOML of bounded size and depth, since the time of `tomllib` grows with the square of a key's parts.

    Raises:
        ValueError: as `read_text`.

    """
    import tomllib  # most repositories don't need it

    if len(text) > _MAX_TOML or any(line.count(".") > _MAX_DOTS for line in text.splitlines()):
        raise ValueError("is too large, or has too many levels")
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise ValueError(f"is not valid TOML: {error}") from None
    except RecursionError:
        raise ValueError("is not valid TOML: it is nested too deeply") from None


def find_folders(root: Path, depth: int) -> Iterator[Path]:
    """Yield the folders below `root` that may contain an app, level by level and sorted by name, `depth` levels deep.

    Links are not followed; hidden folders and node_modules are skipped.
    """
    level, entries_left = [root], _MAX_ENTRIES
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
            if len(below) > _MAX_FOLDERS:
                break
        for folder in below:
            given += 1
            if given > _MAX_FOLDERS:
                return
            yield folder
        level = below


def walk(top: str, *, hidden: bool = False) -> Iterator[tuple[str, os.stat_result]]:
    """Yield the paths in a folder with their status, a few levels deep and without following links.

    Hidden folders are entered only if `hidden` is set, and .git never is.
    """
    left = _MAX_WALKED
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
