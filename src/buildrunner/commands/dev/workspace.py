"""A folder for one run that the build's user can reach, and commands run as that user to find out.

As root a build runs as the user `build`, else `nobody` (docs/security.md), who can enter neither `/root` nor
what was made under a narrow umask. Without root it runs as who started it.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import anyio

from buildrunner.commands.dev.leftovers import Leftovers
from buildrunner.errors import BuildEnded
from buildrunner.sandbox.command import Sandbox


@asynccontextmanager
async def open_workspace(leftovers: Leftovers) -> AsyncIterator[str]:
    """Make a folder that everyone can enter, and remove it with all that is in it when the block ends."""
    for parent in (tempfile.gettempdir(), "/tmp", "/var/tmp"):  # noqa: S108 - the names below it cannot be guessed
        with tempfile.TemporaryDirectory(prefix="buildrunner-dev-", dir=parent) as folder:
            leftovers.add(folder)
            os.chmod(folder, 0o755)  # noqa: S103 - what is in it is what the build is given anyway
            if await output_as_build_user(f'cd "{folder}"') is not None:
                yield folder
                return
    raise BuildEnded("The user that builds run as cannot enter any folder for temporary files.")


async def output_as_build_user(script: str, path: str = os.defpath) -> str | None:
    """Run a line of shell as the build's user: what it prints, or None when it fails."""
    account = Sandbox(in_image=False).account
    result = await anyio.run_process(
        ["/bin/sh", "-c", script],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        cwd="/",
        env={"PATH": path},
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    )
    return result.stdout.decode(errors="replace") if result.returncode == 0 else None


async def open_to_all(folder: str) -> None:
    """Make all below `folder` readable for everyone, whatever the umask was."""
    await anyio.run_process(["chmod", "-R", "a+rX", folder])
