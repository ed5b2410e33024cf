"""Tell when files of a folder change, without those that its .gitignore names."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing

from buildrunner.commands.dev.snapshot import SnapshotRepository
from buildrunner.errors import EXIT_CONFIGURATION, BuildEnded

_QUIET_MILLISECONDS = (
    200  # without a change, until what changed is reported: editors and git write several files at once
)
_FIRST_LOOK_MILLISECONDS = 1000


async def watch_changes(repository: SnapshotRepository) -> AsyncGenerator[None]:
    """Yield whenever something may have changed: first at once, then after each change. Compare snapshots to know.

    Only folders with something in them that git does not ignore are watched: `node_modules` alone has thousands, and the kernel
    limits their number.

    Raises:
        BuildEnded: there is no watchfiles, or the kernel's limit is too small.

    """
    try:
        from watchfiles import awatch
    except ImportError:
        raise BuildEnded(
            "--watch needs watchfiles, which is not installed.",
            "Install it: pip install 'buildrunner-static[dev]'",
            exit_code=EXIT_CONFIGURATION,
        ) from None
    while True:
        folders = await repository.list_folders()
        try:
            watched = awatch(
                *sorted(folders),
                recursive=False,
                watch_filter=None,
                step=_QUIET_MILLISECONDS,
                rust_timeout=_FIRST_LOOK_MILLISECONDS,
                yield_on_timeout=True,
            )
            async with aclosing(watched):
                first = True
                async for changes in watched:
                    if changes or first:  # what changed between the list and the start of the watch is not reported
                        yield
                    first = False
                    if changes and await repository.list_folders() != folders:
                        break
        except FileNotFoundError:  # a folder that was removed since it was listed
            continue
        except OSError as error:
            raise BuildEnded(
                f"The files of {repository.folder} cannot be watched: {error.strerror or error}.",
                "Raise fs.inotify.max_user_watches and fs.inotify.max_user_instances by sysctl.",
            ) from None
