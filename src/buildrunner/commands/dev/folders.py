"""Where `dev` leaves what outlives it, and what it tells other commands while it runs (XDG Base Directory Specification)."""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import time
from contextlib import suppress
from pathlib import Path

_MAX_UNUSED_SECONDS = 30 * 86400


def cache_of(repo: str, slug: str) -> Path | None:
    """Make the folder that caches the dependencies of one repository, and remove those that were not used for 30 days.

    Repositories do not share one: a build can write what a later build of the same folder installs.

    Returns:
        None where nothing can be written there.

    """
    parent = _user_cache() / "dependencies"
    name = hashlib.sha256(repo.encode(errors="surrogateescape")).hexdigest()[:12]
    folder = parent / f"{slug}-{name}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.utime(folder)
        for other in parent.iterdir():
            if time.time() - other.stat().st_mtime > _MAX_UNUSED_SECONDS:
                shutil.rmtree(other, ignore_errors=True)
        return folder if os.access(folder, os.W_OK) else None
    except OSError:
        return None


def runtime_folder() -> Path:
    """Return the folder, not made yet, for what is there only while `dev` runs, and is for this user alone."""
    given = os.environ.get("XDG_RUNTIME_DIR", "")
    with suppress(OSError):
        status = os.stat(given)
        if os.path.isabs(given) and stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
            return Path(given, "buildrunner")
    return _user_cache() / "running"


def _user_cache() -> Path:
    given = os.environ.get("XDG_CACHE_HOME", "")
    return Path(given if os.path.isabs(given) else os.path.expanduser("~/.cache"), "buildrunner")
