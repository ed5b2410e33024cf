"""Which `dev` runs on this machine: one file for each, locked as long as it lives, so that `logs` finds its servers."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from buildrunner.commands.dev.folders import runtime_folder


@dataclass(frozen=True, slots=True)
class RunningDev:
    """A `dev` that runs."""

    slug: str
    environment: Mapping[str, str] = field(repr=False)  # how its servers are reached; holds their passwords


@contextmanager
def announce(running: RunningDev) -> Iterator[None]:
    """Let other commands of this user find a `dev` while the block runs."""
    try:
        descriptor, path = _create(running)
    except OSError:  # a home that cannot be written: only `logs` cannot find it
        yield
        return
    try:
        yield
    finally:
        with suppress(OSError):
            os.unlink(path)
        os.close(descriptor)
        with suppress(OSError):  # others use it
            os.rmdir(path.parent)


def path_of_announcement() -> Path:
    """Return the file by which other commands find this process."""
    return runtime_folder() / f"dev-{os.getpid()}.json"


def _create(running: RunningDev) -> tuple[int, Path]:
    path = path_of_announcement()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    unfinished = path.parent / f".dev-{os.getpid()}"
    descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        os.write(descriptor, json.dumps({"slug": running.slug, "environment": dict(running.environment)}).encode())
        os.rename(unfinished, path)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor, path


def find_newest(slug: str | None = None) -> RunningDev | None:
    """Return the `dev` that was started last, of all or of those that build `slug`. Files of those that were killed are removed."""
    with suppress(OSError):
        paths = [path for path in runtime_folder().iterdir() if path.name.startswith("dev-")]
        for path in sorted(paths, key=lambda path: path.stat().st_mtime_ns, reverse=True):
            found = _read(path)
            if found and slug in {None, found.slug}:
                return found
    return None


def _read(path: Path) -> RunningDev | None:
    with suppress(OSError, ValueError, KeyError), path.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            content = json.load(file)
            return RunningDev(content["slug"], content["environment"])
        path.unlink()
    return None
