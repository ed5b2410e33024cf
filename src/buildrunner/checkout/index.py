"""Read git's index for submodules and LFS files, so that repositories without them cost nothing extra."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

# Of about 600,000 files; and more than any real .gitattributes.
_MAX_INDEX_BYTES, _MAX_ATTRIBUTES_BYTES = 64 * 2**20, 2**20


@dataclass(frozen=True, slots=True)
class Tree:
    """Submodules and LFS files according to the index of a checkout."""

    submodules: Mapping[str, str]  # path → commit
    names_lfs: bool  # whether a .gitattributes mentions LFS
    pointers: tuple[str, ...] = ()  # LFS pointers in a repository whose .gitattributes doesn't mention LFS


def read_tree(folder: Path, commit: str) -> Tree:
    """Find submodules and LFS files in the index (gitformat-index(5), version 2) of a new checkout."""
    index = _read_file(folder / ".git" / "index", _MAX_INDEX_BYTES)
    submodules: dict[str, str] = {}
    attributes: list[str] = []
    small: list[str] = []
    size, place = len(commit) // 2, 12  # of an object id; of the first entry
    for _ in range(int.from_bytes(index[8:12], "big")):
        start = place + 42 + size
        end = index.index(b"\0", start)
        mode = index[place + 24 : place + 28]
        if mode == _GITLINK:
            submodules[os.fsdecode(index[start:end])] = index[place + 40 : start - 2].hex()
        elif (
            index.endswith(b".gitattributes", start, end) and index[start:end].rpartition(b"/")[2] == b".gitattributes"
        ):
            attributes.append(os.fsdecode(index[start:end]))
        elif mode[2] >> 4 == 8 and _may_be_pointer(index[place + 36 : place + 40]) and len(small) < _MAX_SMALL:
            small.append(os.fsdecode(index[start:end]))
        place += (end - place + 8) // 8 * 8
    names_lfs = any(b"filter=lfs" in _read_file(folder / name, _MAX_ATTRIBUTES_BYTES) for name in attributes)
    pointers = [name for name in small if not names_lfs and _read_file(folder / name, 255).startswith(_POINTER)]
    return Tree(submodules, names_lfs, tuple(pointers))


def _may_be_pointer(size: bytes) -> bool:
    """Examine a regular file by its size."""
    return size[:3] == b"\0\0\0" and size[3] >= _MIN_POINTER


_GITLINK = (0o160000).to_bytes(4, "big")  # mode of a submodule
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:"
_MIN_POINTER = len(_POINTER) + 64  # at most 255 bytes
_MAX_SMALL = 20_000  # small files to examine


def _read_file(path: Path, max_bytes: int) -> bytes:
    """Return the content of a regular file; empty for a link, or a file larger than `max_bytes`."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_size <= max_bytes:
                return file.read(max_bytes)
    return b""
