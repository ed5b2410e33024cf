"""Files that are removed when this process ends in whatever way, SIGKILL included."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

# Reads names until every process that can write them has ended.
_GUARD = 'while IFS= read -r path; do set -- "$@" "$path"; done; rm -rf -- "$@"'


class Leftovers:
    """The files and folders to remove.

    Args:
        descriptor: where their names are written to. A process that inherits it puts off the removal until it has ended, too.

    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def add(self, *paths: str) -> None:
        """Add absolute paths, of files that need not be there yet."""
        os.write(
            self.descriptor,
            "".join(f"{path}\n" for path in paths if "\n" not in path).encode("utf-8", "surrogateescape"),
        )


@contextmanager
def removed_at_end() -> Iterator[Leftovers]:
    """Remove what is added when the block ends, or this process is killed: a shell that outlives it sees to that."""
    guard = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "sh"],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={"PATH": os.defpath},
        start_new_session=True,  # Ctrl-C and the end of the terminal are not for it
    )
    assert guard.stdin
    try:
        with guard.stdin:
            yield Leftovers(guard.stdin.fileno())
    finally:
        guard.wait()
