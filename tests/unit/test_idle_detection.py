"""Test idle detection with real child processes and shorter times than in builds."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import anyio
import pytest

from buildrunner.sandbox import idle_detection
from buildrunner.sandbox.idle_detection import IdleProcess, _watches, wait_until_idle
from buildrunner.sandbox.processes import CONNECTED, as_typed, running_descendants
from support.harness import wait_for

LISTEN = "import socket, time; s = socket.create_server(('127.0.0.1', 0)); "


@pytest.fixture(autouse=True)
def short_times(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_detection, "SAMPLE_SECONDS", 0.05)
    monkeypatch.setattr(idle_detection, "QUIET_SECONDS", 0.4)
    monkeypatch.setattr(idle_detection, "QUIET_WITHOUT_OUTPUT_SECONDS", 0.8)
    monkeypatch.setattr(idle_detection, "QUIET_WAITING_SECONDS", 60)
    # Servers of other tests may be children of this process, too.
    before = {process.pid for process in running_descendants()}
    monkeypatch.setattr(
        idle_detection, "running_descendants", lambda: [p for p in running_descendants() if p.pid not in before]
    )


@pytest.fixture
def start() -> Iterator[Callable[..., None]]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        started.append(subprocess.Popen(command, stdin=subprocess.DEVNULL))

    yield start
    for process in started:
        process.kill()
        process.wait()


def see(
    *, seconds: float, script: str = "", said: str = "", output: bool = True, silent: Callable[[], float] | None = None
) -> IdleProcess | None:
    """Wait for this time; return None if the command seems to work."""
    found: list[IdleProcess] = []

    async def wait() -> None:
        with anyio.move_on_after(seconds):
            found.append(
                await wait_until_idle(
                    script=script,
                    silent=silent or (lambda: 60.0),
                    output=lambda: said,
                    has_output=lambda: output,
                    user=None,
                    redact=str,
                )
            )

    anyio.run(wait)
    return found[0] if found else None


def test_what_listens_and_does_nothing_more_is_seen(start: Callable[..., None], tmp_path: Path) -> None:
    program = tmp_path / "node_modules" / ".bin" / "preview"
    program.parent.mkdir(parents=True)
    program.write_text(f"#!{sys.executable}\n{LISTEN}time.sleep(60)")
    program.chmod(0o755)
    start("/bin/sh", "-c", f"{program} --port 1; true")

    found = see(seconds=10)

    assert found is not None
    assert (found.watches, found.has_output) == (False, True)
    assert "preview --port 1" in found.program


def test_without_output_it_takes_longer(start: Callable[..., None]) -> None:
    start(sys.executable, "-c", LISTEN + "time.sleep(60)")
    started = time.monotonic()

    found = see(seconds=10, output=False)

    assert found is not None
    assert not found.has_output
    assert time.monotonic() - started >= 0.8


@pytest.mark.skipif(os.geteuid() != 0, reason="only root is forbidden something here")
@pytest.mark.parametrize(
    "missing", ["-sys_ptrace", "-sys_ptrace,-dac_override,-dac_read_search"], ids=["not read", "not even listed"]
)
def test_it_is_seen_where_open_files_of_others_cannot_be_read(missing: str) -> None:
    user = 64_321  # no build of another test runs as that one
    # Perl, because that user may not reach this Python.
    listen = 'use IO::Socket::INET; $s = IO::Socket::INET->new(Listen => 1, LocalAddr => "127.0.0.1"); sleep 60'
    other = ["setpriv", f"--reuid={user}", "--clear-groups", "perl", "-e", listen]
    script = (
        "import anyio, subprocess; from buildrunner.sandbox import idle_detection as e\n"
        "e.SAMPLE_SECONDS, e.QUIET_SECONDS = 0.05, 0.4\n"
        f"with subprocess.Popen({other!r}) as process:\n"
        "    wait = lambda: e.wait_until_idle("
        f"script='', silent=lambda: 9, output=lambda: '', has_output=lambda: True, user={user}, redact=str)\n"
        "    print(anyio.run(wait)); process.kill()"
    )
    less = ["setpriv", f"--bounding-set={missing}", f"--inh-caps={missing}", sys.executable, "-c", script]

    ended = subprocess.run(less, capture_output=True, text=True, timeout=20, check=True)

    assert "watches=False" in ended.stdout


def test_many_open_files_do_not_keep_the_check_busy(
    start: Callable[..., None], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Whatever is not examined may be a connection."""
    ready = tmp_path / "ready"
    before = {process.pid for process in running_descendants()}
    opens = f"files = [open('/dev/null') for _ in range(300)]; open({str(ready)!r}, 'x'); time.sleep(60)"
    for _ in range(2):
        start(sys.executable, "-c", f"import time; {opens}")
        wait_for(ready.exists, "the process to open its files")
        ready.unlink()
    pids = [process.pid for process in running_descendants() if process.pid not in before]
    examined: list[str] = []
    readlink = os.readlink

    def note(path: str) -> str:
        examined.append(path)
        return readlink(path)

    monkeypatch.setattr(os, "readlink", note)
    monkeypatch.setattr(idle_detection, "MAX_DESCRIPTORS", 400)
    states, _ = idle_detection._what_is_open(pids, None)

    assert len(examined) == 400
    assert states >= CONNECTED


@pytest.mark.parametrize(
    "program",
    [
        "time.sleep(60)",  # no server
        LISTEN + "\nwhile True: sum(range(100000)); time.sleep(0.005)",  # it works
        LISTEN + "c = socket.create_connection(s.getsockname()); time.sleep(60)",  # an answer may come
        # A name is being asked for.
        LISTEN + "u = socket.socket(type=socket.SOCK_DGRAM); u.connect(('127.0.0.1', 53)); time.sleep(60)",
        # It starts something again and again.
        LISTEN
        + "import subprocess as p\nwhile True:\n    c = p.Popen(['/bin/cat'], stdin=p.PIPE); time.sleep(0.15); c.communicate()",
        LISTEN + "import subprocess; subprocess.run(['/bin/sleep', '60'])",
    ],
    ids=["idle", "busy", "connected", "resolving", "starting", "sleeping"],
)
def test_a_build_that_is_at_work_is_left_alone(start: Callable[..., None], program: str) -> None:
    start(sys.executable, "-c", f"import socket, time; {program}" if "\n" not in program else program)

    assert see(seconds=1.5) is None


def test_a_build_that_says_something_is_left_alone(start: Callable[..., None]) -> None:
    start(sys.executable, "-c", LISTEN + "time.sleep(60)")

    assert see(seconds=2, silent=lambda: 0.01) is None


def test_what_watches_need_not_listen(start: Callable[..., None]) -> None:
    start("/bin/sh", "-c", "read x; true")  # its stdin is empty: it ends at once
    start(sys.executable, "-c", "import time; time.sleep(60)")

    found = see(seconds=10, script="webpack --mode production --watch")

    assert found is not None
    assert found.watches


def test_silent_file_watchers_are_seen_by_inotify(start: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(idle_detection, "QUIET_WAITING_SECONDS", 1)
    # webpack with `watch: true` in its configuration prints what it always does.
    start(sys.executable, "-c", "import ctypes, time; assert ctypes.CDLL(None).inotify_init1(0) >= 0; time.sleep(60)")

    found = see(seconds=10, script="webpack")

    assert found is not None
    assert found.watches
    assert see(seconds=3, script="webpack", output=False) is None


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ("webpack --watch", ""),
        ("vite build --watch --mode x", ""),
        ("rollup -c -w", ""),
        ("webpack -w && echo", ""),
        ("parcel watch index.html", ""),
        ("npm run x", "> a@1.0.0 x\n> webpack --watch\n"),
        ("yarn x", "$ webpack --watch\n"),
        ("", "[2026-11-24 13:15:44] waiting for changes...\n"),  # rollup 4.68.8
        ("", "watching for file changes...\nbuild started...\n"),  # vite 8.3.8
        ("", "1:16:03 PM - Found 0 errors. Watching for file changes.\n"),  # TypeScript
    ],
)
def test_what_watches_says_so(commands: str, said: str) -> None:
    assert _watches(commands, said)


@pytest.mark.parametrize(
    ("commands", "said"),
    [
        ("npm run build -w web", ""),
        ("vite build --watch=false", ""),
        ("node build.js --no-watch", ""),
        ("webpack --watchful", ""),
        ("npm run build", "Use --watch to rebuild\n"),
    ],
)
def test_what_does_not_watch_is_not_taken_for_it(commands: str, said: str) -> None:
    assert not _watches(commands, said)


@pytest.mark.parametrize(
    ("line", "typed"),
    [
        ("node /app/node_modules/.bin/vite preview", "vite preview"),
        ("/usr/bin/node --no-warnings /app/node_modules/.bin/serve dist", "serve dist"),
        ("/usr/bin/node /app/scripts/server.mjs --port 80", "node server.mjs --port 80"),
        ("node srv.js", "node srv.js"),
        ("python3 -m http.server", "http.server"),
        ("next-server (v16.4.6)", "next start"),
        ("webpack", "webpack"),
        ("\x1b[31m\u202ex", "[31mx"),
        ("", "a program"),
    ],
)
def test_a_program_is_named_as_a_person_types_it(line: str, typed: str) -> None:
    assert as_typed(line) == typed


def test_hints_say_what_to_change() -> None:
    assert "Remove `vite preview` from" in IdleProcess("vite preview", watches=False, has_output=True).hint
    assert "Replace `vite` with `vite build`" in IdleProcess("vite", watches=False, has_output=False).hint
    assert "Replace `next start` with `next build`" in IdleProcess("next start", watches=False, has_output=False).hint
    assert "the command that writes the site" in IdleProcess("x.js", watches=False, has_output=False).hint
    assert "--watch" in IdleProcess("webpack", watches=True, has_output=True).hint
