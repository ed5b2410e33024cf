"""Find the files that a build wrote, by the kernel's change time (ctime), which a program cannot set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from buildrunner.project.files import walk

Snapshot = Mapping[str, int]  # path → change time in ns, for the upper levels of folders


def take_snapshot(app: Path, checkout: Path) -> Snapshot:
    """Record the change times of files and folders in the app and in the repository, a few levels deep."""
    return {
        path: status.st_ctime_ns
        for top in dict.fromkeys((app, checkout))
        for path, status in walk(str(top), hidden=True)
    }


class WrittenFiles:
    """Tells whether folders and files were written since a snapshot; without one, all were."""

    def __init__(self, before: Snapshot | None, checkout: Path) -> None:
        self._before = before
        self._checkout = checkout

    def __call__(self, folder: Path) -> bool:
        real = os.path.realpath(folder)
        if self._before is None or not Path(real).is_relative_to(self._checkout):
            return True  # a link that leads outside is refused when the folder is published
        # A new entry changes the ctime of its folder, so the levels below the snapshot's don't have to be searched.
        return self.is_new(str(folder)) or any(
            self._before.get(path, status.st_ctime_ns) != status.st_ctime_ns for path, status in walk(real, hidden=True)
        )

    def is_new(self, path: str) -> bool:
        try:
            changed = os.lstat(path).st_ctime_ns
        except OSError:
            return False
        return self._before is None or self._before.get(path) != changed
