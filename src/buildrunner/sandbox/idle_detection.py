"""Detect that a build script has finished and only serves or watches, as in `vite build && vite preview`.

A build in progress uses the CPU or the disk, or waits for a response of the network; it may also listen on a port, as prerenderers
do. A script that never exits prints nothing, does nothing, and waits for no particular peer.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from itertools import islice

import anyio

from buildrunner.concurrency.cancellation import check_cancelled, run_in_thread
from buildrunner.sandbox.processes import (
    CONNECTED,
    LISTENS,
    as_typed,
    command_line,
    main_program,
    running_descendants,
    socket_states,
)

SAMPLE_SECONDS = 1.0
# Without output, work or a change of its processes for this time. Servers and watchers are quiet a second after their last
# output: measured with vite, serve, http-server, sirv, live-server, browser-sync, parcel, next, webpack, rollup and tsc.
QUIET_SECONDS = 10.0
QUIET_WITHOUT_OUTPUT_SECONDS = 15.0
# While it may be waiting for a response, a timer, or a page in a browser. For comparison: serve checks for updates for 7 s. A
# script that stays connected to a database is stopped, too.
QUIET_WAITING_SECONDS = 120.0
MAX_SCRIPT = 10_000  # characters of a script, and processes, that are examined
MAX_COMMANDS = 200
MAX_DESCRIPTORS = 20_000  # of all processes; some open very many to keep this check busy
IDLE_CPU_SHARE = 0.03  # of one CPU; those tools use at most 0.01, for garbage collection

# Command lines and scripts that watch files. `-w` alone is also npm's option for a workspace.
_WATCHES = re.compile(
    r"(?<!\S)--watch(?!\S)|(?<!\S)--watch[= ]true"
    r"|\b(webpack|rollup|rolldown|tsc|tsup|esbuild|sass|postcss|tailwindcss|babel|microbundle|ng build)\b[^&|;\n]{0,200}\s-w(?!\S)"
    r"|\b(webpack|parcel|gulp|turbo|nx) watch\b"
)
_SAYS_WATCHES = re.compile(
    r"(?i:watching for (file )?changes|waiting for (file )?changes|watch mode|watching files for updates|watching for changes)"
)
_WAITS = re.compile(r"(\S*/)?(sleep|wait-on|chrome|chromium|chrome-headless-shell|headless_shell|firefox)(?!\S)")


@dataclass(frozen=True, slots=True)
class IdleProcess:
    """A command that never exits: the program that is left, and whether it only watches files."""

    program: str
    watches: bool
    has_output: bool

    @property
    def does(self) -> str:
        return "watches files for changes" if self.watches else "serves the site"

    @property
    def started(self) -> str:
        return "started a watcher" if self.watches else "started a server"

    @property
    def hint(self) -> str:
        """What to change."""
        if self.watches:
            return "Remove --watch (or -w, or watch: true) from the build: it must write its files and exit."
        if self.has_output:
            return f"Remove `{self.program}` from the build script in package.json: it must write its files and exit."
        name = re.split(r"[ .]", self.program, maxsplit=1)[0]
        instead = _INSTEAD.get(name)
        better = f"`{instead}`" if instead else "the command that writes the site"
        return (
            f"Replace `{self.program}` with {better} in the build script in package.json: it must write files and exit."
        )


_INSTEAD = {
    "vite": "vite build",
    "next": "next build",
    "react-scripts": "react-scripts build",
    "astro": "astro build",
    "parcel": "parcel build",
    "webpack": "webpack",
    "webpack-dev-server": "webpack",
    "ng": "ng build",
    "nuxt": "nuxt generate",
    "gatsby": "gatsby build",
    "vue-cli-service": "vue-cli-service build",
    "eleventy": "eleventy",
    "docusaurus": "docusaurus build",
    "vitepress": "vitepress build",
    "vuepress": "vuepress build",
    "storybook": "storybook build",
    "remix": "remix vite:build",
    "react-router": "react-router build",
    "rsbuild": "rsbuild build",
    "ember": "ember build",
    "gridsome": "gridsome build",
}


async def wait_until_idle(
    *,
    script: str,
    silent: Callable[[], float],
    output: Callable[[], str],
    has_output: Callable[[], bool],
    user: int | None,
    redact: Callable[[str], str],
) -> IdleProcess:
    """Wait until the descendants of this process only serve or watch; forever for a command that works or exits.

    Args:
        script: text of the build script.
        silent: function that returns the seconds since its last output.
        output: function that returns the end of its output, without colors.
        has_output: function that returns whether it wrote a page; called in another thread.
        user: id of the command's user if it is not this one. If open files can't be read, as in a container, all sockets of
            that user count.
        redact: function that replaces secrets in a command line.

    """
    look_now = partial(_look, user, redact)
    first = await run_in_thread(look_now)
    started = anyio.current_time()
    while True:
        await anyio.sleep(SAMPLE_SECONDS)
        now = anyio.current_time()
        if silent() < SAMPLE_SECONDS:
            started = now
            continue
        look = await run_in_thread(look_now)
        quiet = now - started
        if look.has_worked_since(first, quiet):
            first, started = look, now
            continue
        quiet = min(quiet, silent())
        if quiet < (QUIET_WAITING_SECONDS if look.waits else QUIET_SECONDS):
            continue
        says_so = look.listens or _watches(f"{script[:MAX_SCRIPT]}\n{look.commands}", output())
        if not says_so and not (look.watches and quiet >= QUIET_WAITING_SECONDS):  # its own timers can't be detected
            continue
        has_page = await run_in_thread(has_output)
        # Looking for pages may have taken long, and the command may be working again.
        if silent() < SAMPLE_SECONDS or (await run_in_thread(look_now)).has_worked_since(look, SAMPLE_SECONDS):
            first, started = look, anyio.current_time()
        elif has_page or (says_so and quiet >= QUIET_WITHOUT_OUTPUT_SECONDS):
            return IdleProcess(look.program, not look.listens, has_page)


def _watches(commands: str, output: str) -> bool:
    # Package managers print the scripts they run: "> webpack --watch", "$ webpack --watch".
    scripts = re.findall(r"(?m)^(?:>|\$) .*", output)
    return bool(_WATCHES.search("\n".join([commands, *scripts])) or _SAYS_WATCHES.search(output))


@dataclass(frozen=True, slots=True)
class _ProcessSnapshot:
    """The processes of a command at one moment."""

    processes: frozenset[int]
    cpu: float  # total seconds of all of them
    busy: bool  # whether one of them is running, or waiting for a disk
    commands: str  # command lines, one a line
    program: str  # as a person would type it
    listens: bool
    watches: bool  # whether it watches files, as far as the kernel shows (inotify(7))
    waits: bool  # whether it waits for something that may arrive

    def has_worked_since(self, earlier: _ProcessSnapshot, seconds: float) -> bool:
        """Return whether a process works, or has worked since an earlier snapshot."""
        return self.busy or self.processes != earlier.processes or self.cpu - earlier.cpu > seconds * IDLE_CPU_SHARE


def _look(user: int | None, redact: Callable[[str], str]) -> _ProcessSnapshot:
    tree = running_descendants()
    lines = [line for process in tree[:MAX_COMMANDS] if (line := command_line(process.pid))]
    states, watches = _what_is_open([process.pid for process in tree], user)
    return _ProcessSnapshot(
        processes=frozenset(process.pid for process in tree),
        cpu=sum(process.cpu for process in tree),
        busy=any(process.state in "RD" for process in tree),
        commands="\n".join(lines),
        program=as_typed(main_program(lines), redact),
        listens=LISTENS in states,
        watches=watches,
        waits=bool(states & CONNECTED) or any(map(_WAITS.match, lines)),
    )


def _what_is_open(processes: list[int], user: int | None) -> tuple[set[str], bool]:
    """Return the states of the TCP sockets of these processes, and of UDP sockets with a peer, such as DNS lookups.

    Also return whether one of them watches files, which is only known if their open files can be read.
    """
    links: set[str] = set()
    readable = True
    left = MAX_DESCRIPTORS
    for pid in processes:
        check_cancelled()
        try:
            with suppress(FileNotFoundError, ProcessLookupError), os.scandir(f"/proc/{pid}/fd") as descriptors:
                for descriptor in islice(descriptors, left):
                    left -= 1
                    try:
                        links.add(os.readlink(descriptor.path))
                    except PermissionError:
                        raise
                    except OSError:  # it is closed, or its path is longer than a page
                        pass
        # Without CAP_SYS_PTRACE root may only list them, and other users not even that while a process ends or is not dumpable.
        except PermissionError:
            readable = False
    states = socket_states(links, None if readable else user)
    # Any descriptor that was not examined may be a connection.
    if not left:
        states |= CONNECTED
    return states, "anon_inode:inotify" in links
