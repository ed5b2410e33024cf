"""The terminal's foreground: Ctrl-C and Ctrl-Z reach `dev`, and not `make` around it."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import anyio
from anyio.abc import TaskStatus

_LOOK_SECONDS = 0.1
_SHELL_SECONDS = 1.0  # in which a shell has taken the terminal of a job that was stopped


@contextmanager
def own_terminal() -> Iterator[int | None]:
    """Be the terminal's foreground process group, as a shell's jobs are: Ctrl-C is for us, and not for `make` as well.

    make would end with an error of its own. See *Job Control* in the manual of the GNU C Library. Yields the process group that
    had the terminal before, or None where nothing has been changed.
    """
    group = os.getpgrp()
    if group == os.getpid() or _in_front() != group:
        yield None
        return
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)  # else giving the terminal back would stop us
    os.setpgid(0, 0)
    os.tcsetpgrp(0, os.getpgrp())
    try:
        yield group
    finally:
        if _in_front() == os.getpgrp():
            os.tcsetpgrp(0, group)


async def follow_job(group: int, *, task_status: TaskStatus[None] = anyio.TASK_STATUS_IGNORED) -> None:
    """On Ctrl-Z stop `group`, the job that a shell knows, and give it the terminal; take it again when the job is in front.

    Without that the shell would wait for a job of which one process is stopped that it does not know. The build itself goes on.
    """
    with anyio.open_signal_receiver(signal.SIGTSTP) as stops:
        task_status.started()
        async for _ in stops:
            with suppress(OSError):  # the terminal is gone, or make is
                os.tcsetpgrp(0, group)
                os.killpg(group, signal.SIGTSTP)
                with anyio.move_on_after(_SHELL_SECONDS):  # no shell is there, and the kernel stops no orphans
                    while _in_front() == group:
                        await anyio.sleep(_LOOK_SECONDS)
                while _in_front() not in {group, None}:
                    await anyio.sleep(_LOOK_SECONDS)
                os.tcsetpgrp(0, os.getpgrp())


def _in_front() -> int | None:
    """Return the terminal's foreground process group; None without a terminal, or one that is not ours."""
    try:
        return os.tcgetpgrp(0)
    except OSError:
        return None
