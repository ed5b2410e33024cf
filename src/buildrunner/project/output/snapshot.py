"""What a build wrote, by the kernel's time of change, which the owner of a file cannot set."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from buildrunner.project.files import walk

Snapshot = Mapping[str, int]  # the path of everything that is not too deep → when the kernel last saw it change, ns


def take_snapshot(app: Path, checkout: Path) -> Snapshot:
    """Record what is in the folders of the app and of the repository before the build, a few levels deep."""
    return {
        path: status.st_ctime_ns
        for top in dict.fromkeys((app, checkout))
        for path, status in walk(str(top), hidden=True)
    }


class WrittenFiles:
    """What was written since a snapshot; without one, everything."""

    def __init__(self, before: Snapshot | None, checkout: Path) -> None:
        self._before = before
        self._checkout = checkout

    def __call__(self, folder: Path) -> bool:
        real = os.path.realpath(folder)
        if self._before is None or not Path(real).is_relative_to(self._checkout):
            return True  # a link that leads outside is refused when it is opened
        # What is new shows in the folder that it is in, so what was too deep for the snapshot needs no look.
        return self.itself(str(folder)) or any(
            self._before.get(path, status.st_ctime_ns) != status.st_ctime_ns for path, status in walk(real, hidden=True)
        )

    def itself(self, path: str) -> bool:
        try:
            changed = os.lstat(path).st_ctime_ns
        except OSError:
            return False
        return self._before is None or self._before.get(path) != changed
