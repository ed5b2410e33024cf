"""See that a build script has stopped working and only serves or watches, as `vite build && vite preview` does.

A build that is still at work uses the CPU or the disk, or waits for an answer of the network; it may listen on a port all the
while, as prerenderers do. One that never ends says nothing, does nothing, and waits for nobody in particular.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

import anyio
import anyio.to_thread

SAMPLE_SECONDS = 1.0
# Without a sound, work, or a change among its processes, for so long. What serves or watches is quiet a second after its last
# word: measured with vite, serve, http-server, sirv, live-server, browser-sync, parcel, next, webpack, rollup and tsc.
QUIET_SECONDS = 10.0
QUIET_WITHOUT_OUTPUT_SECONDS = 15.0
# While it may be waiting for something: an answer over a connection, a timer, a page in a browser. For comparison: serve looks
# for updates of itself for 7 s. What stays connected to a database is ended all the same.
QUIET_WAITING_SECONDS = 120.0
MOST_SCRIPT = 10_000  # characters of a script, and processes, that are looked through
MOST_COMMANDS = 200
IDLE_CPU_SHARE = 0.03  # of one CPU; those tools take 0.01 at the most, for collecting garbage

# What a command line or a script says that watches. `-w` alone is npm's too: it names a workspace.
_WATCHES = re.compile(
    r"(?<!\S)--watch(?!\S)|(?<!\S)--watch[= ]true"
    r"|\b(webpack|rollup|rolldown|tsc|tsup|esbuild|sass|postcss|tailwindcss|babel|microbundle|ng build)\b[^&|;\n]{0,200}\s-w(?!\S)"
    r"|\b(webpack|parcel|gulp|turbo|nx) watch\b"
)
_SAYS_WATCHES = re.compile(
    r"(?i:watching for (file )?changes|waiting for (file )?changes|watch mode|watching files for updates|watching for changes)"
)
_WAITS = re.compile(r"(\S*/)?(sleep|wait-on|chrome|chromium|chrome-headless-shell|headless_shell|firefox)(?!\S)")
_SHELL = re.compile(r"(\S*/)?(ba|da|z|a)?sh\b")
_MANAGER = re.compile(
    r"(\S*/)?node\b.*/(npm-cli|npx-cli|pnpm|yarn|yarnpkg|corepack)[\w.-]*( |$)|(\S*/)?(npm|npx|pnpm|yarn|yarnpkg|bun|bunx)\s"
)
# https://www.kernel.org/doc/Documentation/networking/proc_net_tcp.txt
_ESTABLISHED, _SYN_SENT, _LISTENS = "01", "02", "0A"


@dataclass(frozen=True, slots=True)
class Endless:
    """What a command that never ends is at: the program that is left, and whether it only watches files."""

    program: str
    watches: bool
    has_output: bool

    @property
    def does(self) -> str:
        return "watches files for changes" if self.watches else "serves the site"

    @property
    def hint(self) -> str:
        """Say what to change."""
        if self.watches:
            return "Take --watch (or -w, or watch: true) out of the build: it has to write its files and end."
        if self.has_output:
            return f"Take `{self.program}` out of the build script in package.json: it has to write its files and end."
        name = re.split(r"[ .]", self.program, maxsplit=1)[0]
        instead = _INSTEAD.get(name)
        better = f"`{instead}`" if instead else "the command that writes the site"
        return f"Put {better} into the build script in package.json in place of `{self.program}`: it has to write files and end."


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


async def wait_until_endless(
    *,
    script: str,
    silent: Callable[[], float],
    said: Callable[[], str],
    has_output: Callable[[], bool],
    user: int | None,
) -> Endless:
    """Wait until what descends from this process only serves or watches; of a command that works or ends, for ever.

    Args:
        script: the text of the build script.
        silent: seconds since the command said something.
        said: the end of what it said, without colours.
        has_output: whether it wrote a page; called in another thread.
        user: as whom the command runs, where that is another user: that one's sockets are the command's where its open
            files cannot be read, as in a container.

    """
    first = await anyio.to_thread.run_sync(_look, user)
    started = anyio.current_time()
    while True:
        await anyio.sleep(SAMPLE_SECONDS)
        now = anyio.current_time()
        if silent() < SAMPLE_SECONDS:
            started = now
            continue
        look = await anyio.to_thread.run_sync(_look, user)
        quiet = now - started
        if look.busy or look.processes != first.processes or look.cpu - first.cpu > quiet * IDLE_CPU_SHARE:
            first, started = look, now
            continue
        quiet = min(quiet, silent())
        if quiet < (QUIET_WAITING_SECONDS if look.waits else QUIET_SECONDS):
            continue
        says_so = look.listens or _watches(f"{script[:MOST_SCRIPT]}\n{look.commands}", said())
        if not says_so and not (look.watches and quiet >= QUIET_WAITING_SECONDS):  # a timer of its own does not show
            continue
        output = await anyio.to_thread.run_sync(has_output)
        if output or (says_so and quiet >= QUIET_WITHOUT_OUTPUT_SECONDS):
            return Endless(look.program, not look.listens, output)


def _watches(commands: str, said: str) -> bool:
    # Package managers print the scripts that they run: "> webpack --watch", "$ webpack --watch".
    scripts = re.findall(r"(?m)^(?:>|\$) .*", said)
    return bool(_WATCHES.search("\n".join([commands, *scripts])) or _SAYS_WATCHES.search(said))


@dataclass(frozen=True, slots=True)
class _Look:
    """The command's processes at one moment."""

    processes: frozenset[int]
    cpu: float  # seconds, of all of them so far
    busy: bool  # one of them runs, or waits for a disk
    commands: str  # command lines, one a line
    program: str  # as a person would type it
    listens: bool
    watches: bool  # files, as far as the kernel tells: by inotify(7)
    waits: bool  # for something that may come


def _look(user: int | None) -> _Look:
    tree = list(_descendants(os.getpid()))
    ticks = os.sysconf("SC_CLK_TCK")
    lines = [line for pid, _, _ in tree[:MOST_COMMANDS] if (line := _command_line(pid))]
    own = [line for line in lines if not _SHELL.match(line) and not _MANAGER.match(line)]
    states, watches = _what_is_open([pid for pid, _, _ in tree], user)
    return _Look(
        processes=frozenset(pid for pid, _, _ in tree),
        cpu=sum(cpu for _, _, cpu in tree) / ticks,
        busy=any(state in "RD" for _, state, _ in tree),
        commands="\n".join(lines),
        program=_as_typed((own or lines or ["a program"])[0]),
        listens=_LISTENS in states,
        watches=watches,
        waits=not states.isdisjoint({_ESTABLISHED, _SYN_SENT}) or any(map(_WAITS.match, lines)),
    )


def _descendants(root: int) -> Iterator[tuple[int, str, int]]:
    """Give what descends from `root` and is not dead, parents first: pid, state and ticks of the CPU (proc(5))."""
    found: dict[int, tuple[str, int]] = {}
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # The name of the program stands in brackets, and may itself hold brackets and spaces.
                fields = file.read().rpartition(b")")[2].split()
                # utime and stime, and those of its children that have ended.
                found[int(name)] = fields[0].decode(), sum(int(field) for field in fields[11:15])
                children.setdefault(int(fields[1]), []).append(int(name))
    waiting = sorted(children.get(root, ()))
    while waiting:
        pid = waiting.pop(0)
        waiting += sorted(children.get(pid, ()))
        if found[pid][0] != "Z":
            yield pid, *found[pid]


def _command_line(pid: int) -> str:
    with suppress(OSError), open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read(512).replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def _as_typed(line: str) -> str:
    """Leave out of a command line what only its interpreter and the place of its program add."""
    line = re.sub(r"^(\S*/)?(node|nodejs|bun|python[\d.]*)\s+(--?\S+\s+)*", "", line)
    line = re.sub(r"^next-server\b.*", "next start", re.sub(r"^\S*/", "", line))  # what Next calls itself
    return "".join(character for character in line if character.isprintable())[:60].strip() or "a program"


def _what_is_open(processes: list[int], user: int | None) -> tuple[set[str], bool]:
    """Give the states of the TCP sockets of these processes, and of UDP's, where a name is asked for over one.

    And whether one of them watches files, which is known only where their open files can be read.
    """
    links: set[str] = set()
    readable = True
    for pid in processes:
        with suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            try:
                for descriptor in os.listdir(f"/proc/{pid}/fd"):
                    try:
                        links.add(os.readlink(f"/proc/{pid}/fd/{descriptor}"))
                    except PermissionError:
                        raise
                    except OSError:  # it is closed, or its path is longer than a page
                        pass
            except PermissionError:
                readable = False  # root without CAP_SYS_PTRACE may list them, and not more
    states = set()
    for table in ("tcp", "tcp6", "udp", "udp6"):
        with suppress(OSError), open(f"/proc/net/{table}", encoding="ascii") as file:
            next(file, None)
            for line in file:
                fields = line.split()
                if f"socket:[{fields[9]}]" in links or (not readable and user is not None and fields[7] == str(user)):
                    # An unconnected socket of UDP is in the state that TCP calls closed.
                    states.add(fields[3])
    return states, "anon_inode:inotify" in links
