"""Read lockfiles of any manager within one size limit, and the package addresses in them."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path

from buildrunner.project.files import read_text

MAX_LOCKFILE_BYTES = 32 * 2**20
REGISTRY = "https://registry.npmjs.org/"
_HOST = re.compile(r"https?://([\w.-]{1,253})")


def read_lockfile(path: Path, checkout: Path) -> str | None:
    """Return the text of a lockfile; None if there is none.

    Raises:
        ValueError: as `read_text`, also for a file larger than `MAX_LOCKFILE_BYTES`.

    """
    return read_text(path, checkout, max_bytes=MAX_LOCKFILE_BYTES)


def read_lockfile_or_empty(path: Path, checkout: Path) -> str:
    """Return the text of a lockfile; empty if it is missing or cannot be read."""
    with suppress(ValueError):
        return read_lockfile(path, checkout) or ""
    return ""


def read_format_version(lockfile: Path, checkout: Path) -> int | None:
    """Return `lockfileVersion` of an npm lockfile; None for other managers' lockfiles."""
    if lockfile.name not in {"package-lock.json", "npm-shrinkwrap.json"}:
        return None
    match = re.search(r'"lockfileVersion"\s*:\s*(\d{1,3})\b', read_lockfile_or_empty(lockfile, checkout)[:5000])
    return int(match[1]) if match else None


def host_of(address: str) -> str:
    """Return the host of an address, without the port; empty for anything else."""
    match = _HOST.match(address)
    return match[1] if match else ""


def is_tarball_url(address: str) -> bool:
    """Return whether an address looks like a package's in a registry, such as …/name/-/name-1.0.0.tgz."""
    path = address.partition("?")[0].partition("#")[0]
    return path.endswith(".tgz") and ("/-/" in path or "/download/" in path)


def count_absent(text: str, wanted: Sequence[tuple[str, str]], as_written: Callable[[str, str], str]) -> int:
    """Count the dependencies (name, range) whose entry, formatted by `as_written`, is not in a lockfile's text."""
    return sum(as_written(name, version) not in text for name, version in wanted)


def split_lazily(text: str, between: str) -> Iterator[str]:
    """Yield the same parts as `str.split`, without its list: short lines would take twenty times the memory of the text."""
    start = 0
    while (end := text.find(between, start)) >= 0:
        yield text[start:end]
        start = end + len(between)
    yield text[start:]


def map_parts(text: str, between: str, change: Callable[[str], str]) -> str:
    """Return a text with `change` applied to each part between separators."""
    written = io.StringIO()
    for number, part in enumerate(split_lazily(text, between)):
        if number:
            written.write(between)
        written.write(change(part))
    return written.getvalue()
