"""`buildrunner dev` as who has just cloned the repository meets it: a real process, on the servers that it starts."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import IO

import anyio
import pytest

from buildrunner.commands.dev.leftovers import removed_at_end
from buildrunner.commands.dev.servers import servers
from buildrunner.errors import BuildEnded
from support.harness import wait_for

ADDRESS = re.compile(r"^http://127\.0\.0\.1:\d+/\r?$", re.MULTILINE)
# Writes a site with pages, a folder and a script, without a single dependency.
BUILD = """
import { mkdirSync, writeFileSync } from "node:fs";
console.log(`node ${process.version}`);
mkdirSync("dist/docs", { recursive: true });
writeFileSync("dist/index.html", '<!doctype html><script type="module" src="/app-4f9a1c2e.js"></script>\\n');
writeFileSync("dist/app-4f9a1c2e.js", "console.log(1)\\n");
writeFileSync("dist/docs/index.html", "the docs\\n");
writeFileSync("dist/robots.txt", "User-agent: *\\n");
"""
SLEEP = "console.log('sleeping'); setTimeout(() => {}, 60_000);"
WITHOUT_TERMINAL = subprocess.DEVNULL
# For tests in which npm plays no part; it takes twice the CPU of the build.
WITHOUT_NPM = {"INSTALL_COMMAND": "true", "BUILD_COMMAND": "node build.js"}

TempDir = Path
MakeApp = Callable[..., Path]


@pytest.fixture
def temp() -> Iterator[TempDir]:
    """Make a TMPDIR that every user can enter, as /tmp is: pytest's own is closed to the build's user."""
    with tempfile.TemporaryDirectory(prefix="test-dev-") as folder:
        os.chmod(folder, 0o755)
        yield Path(folder)


@pytest.fixture
def make_app(tmp_path: Path) -> MakeApp:
    """Make the folder of an app whose build is the given script."""

    def make(script: str, name: str = "My App") -> Path:
        folder = tmp_path / name
        folder.mkdir()
        package = {"name": "app", "version": "1.0.0", "type": "module", "scripts": {"build": "node build.js"}}
        lock = {"name": "app", "version": "1.0.0", "lockfileVersion": 3, "packages": {"": {"name": "app"}}}
        (folder / "package.json").write_text(json.dumps(package))
        (folder / "package-lock.json").write_text(json.dumps(lock))
        (folder / "build.js").write_text(script)
        return folder

    return make


def folders_of(temp: TempDir) -> dict[str, str]:
    """Return the variables that keep all that `dev` writes below one folder."""
    return {"TMPDIR": str(temp), "XDG_CACHE_HOME": f"{temp}/cache", "XDG_RUNTIME_DIR": str(temp)}


@contextmanager
def started(
    app: Path | str, temp: TempDir, stdin: int, *options: str, **environment: str
) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-P", "-m", "buildrunner", "dev", str(app), *options],
        stdin=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, **folders_of(temp), **environment},
    ) as process:
        try:
            yield process
        finally:
            if process.poll() is None:
                process.kill()


@contextmanager
def terminal() -> Iterator[int]:
    """Yield the end of a terminal that a program has as its stdin."""
    ours, theirs = os.openpty()
    try:
        yield theirs
    finally:
        os.close(ours)
        os.close(theirs)


def run(app: Path | str, temp: TempDir, *options: str, **environment: str) -> tuple[int, str]:
    with started(app, temp, WITHOUT_TERMINAL, *options, **environment) as process:
        output, _ = process.communicate(timeout=180)
        return process.returncode, output


def read_until(pattern: str, output: IO[str]) -> str:
    """Read to the line that `pattern` is found in; the lines until there are in the message when it does not come."""
    lines: list[str] = []
    for line in output:
        lines.append(line)
        if found := re.search(pattern, line):
            return found[0]
    raise AssertionError(f"{pattern} did not come:\n{''.join(lines)}")


def running(temp: TempDir) -> list[str]:
    """List the processes whose command line or environment names the folder."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):
            command = Path(f"/proc/{pid}/cmdline").read_bytes()
            known = command
            with suppress(PermissionError):
                known += Path(f"/proc/{pid}/environ").read_bytes()
            if int(pid) != os.getpid() and bytes(temp) in known:
                found.append(f"{pid} {command.decode(errors='replace')}")
    return found


def left_behind(temp: TempDir) -> list[str]:
    return running(temp) + sorted(set(os.listdir(temp)) - {"cache"})


def get(address: str | urllib.request.Request) -> tuple[int, str, str, str]:
    """Fetch an address: status, type, cache control, body."""
    try:
        with urllib.request.urlopen(address, timeout=10) as response:
            headers = response.headers
            return response.status, headers["Content-Type"], headers["Cache-Control"], response.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, "", "", ""


def show_logs(temp: TempDir, *arguments: str) -> str:
    """Return what `logs` prints in another terminal of the same user."""
    environment = {name: value for name, value in os.environ.items() if name != "REDIS_URI"} | folders_of(temp)
    command = [sys.executable, "-P", "-m", "buildrunner", "logs", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False).stdout


def test_two_at_once_have_live_pages_and_logs_finds_the_newest(temp: TempDir, make_app: MakeApp) -> None:
    script = f"console.log('built in', process.env.SLUG); {SLEEP}"
    with started(make_app(script, "first"), temp, WITHOUT_TERMINAL, **WITHOUT_NPM) as first, ExitStack() as stack:
        assert first.stdout
        page = read_until(r"http://\S+/sites/\w+", first.stdout)
        read_until("sleeping", first.stdout)
        other_app = make_app(script, "second")
        second = stack.enter_context(started(other_app, temp, WITHOUT_TERMINAL, "--port", "0", **WITHOUT_NPM))
        assert second.stdout
        other = read_until(r"http://\S+/sites/\w+", second.stdout)
        read_until("sleeping", second.stdout)
        shown = get(page)
        log = get(page.replace("/sites/", "/api/sites/") + "/builds/latest/log.txt")[3]
        wrong_host, *_ = get(urllib.request.Request(page, headers={"Host": "example.org"}))
        newest, named = show_logs(temp), show_logs(temp, "first")
        for process in (first, second):
            process.send_signal(signal.SIGINT)
        for process in (first, second):
            rest, _ = process.communicate(timeout=30)
            assert process.returncode == 130, rest

    assert other != page
    assert shown[:3] == (200, "text/html; charset=utf-8", "no-store")
    assert wrong_host == 421
    assert "built in first" in log
    assert "built in second" in newest
    assert "built in first" in named
    assert show_logs(temp) == ""
    assert left_behind(temp) == []


WATCHED = """
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
const content = readFileSync("src/content.txt", "utf8");
mkdirSync("dist", { recursive: true });
writeFileSync("dist/index.html", content);
console.log(`content ${content}.`);
if (content === "slow") setTimeout(() => {}, 120_000);
"""


def test_a_change_supersedes_the_build_and_page_and_site_follow(temp: TempDir, make_app: MakeApp) -> None:
    app = make_app(WATCHED)
    (app / "src").mkdir()
    (app / "src" / "content.txt").write_text("slow")
    (app / ".gitignore").write_text("*.log\n")
    with started(app, temp, WITHOUT_TERMINAL, "--watch") as process:
        assert process.stdout
        page = read_until(r"http://\S+/sites/\S+", process.stdout)
        read_until("content slow", process.stdout)
        (app / "src" / "content.txt").write_text("second")
        read_until("Superseded", process.stdout)
        site = read_until(ADDRESS.pattern, process.stdout).strip()
        wait_for(lambda: get(site)[3] == "second", "the site of the second build")  # seen within 2 s
        read_until("Watching", process.stdout)
        (app / "debug.log").write_text("x")  # git ignores it: were it built, it would come before the next
        (app / "src" / "content.txt").write_text("third")
        read_until("content third", process.stdout)
        read_until("Watching", process.stdout)
        wait_for(lambda: get(site)[3] == "third", "the site of the third build")
        builds = json.loads(get(page.replace("/sites/", "/api/sites/") + "/builds")[3])["builds"]
        process.send_signal(signal.SIGINT)
        rest, _ = process.communicate(timeout=30)

    assert [build["status"] for build in builds] == ["succeeded", "succeeded", "superseded"]
    assert builds[0]["url"] == site
    assert process.returncode == 0, rest
    assert left_behind(temp) == []


def test_a_failed_build_keeps_its_page_at_a_terminal(temp: TempDir, make_app: MakeApp) -> None:
    with terminal() as stdin, started(make_app("process.exit(7)"), temp, stdin, **WITHOUT_NPM) as process:
        assert process.stdout
        page = read_until(r"http://\S+/sites/\S+", process.stdout)
        read_until("Press Ctrl-C", process.stdout)
        status = get(page)[0]
        failed = json.loads(get(page.replace("/sites/", "/api/sites/") + "/builds/latest")[3])
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert status == 200
    assert failed["status"] == "failed"
    assert process.returncode == 40
    assert left_behind(temp) == []


def test_a_failing_build_gives_its_exit_code_and_leaves_nothing(temp: TempDir, make_app: MakeApp) -> None:
    code, output = run(make_app("process.exit(7)"), temp, **WITHOUT_NPM)

    assert code == 40, output
    assert not ADDRESS.search(output)
    assert left_behind(temp) == []


def test_at_a_terminal_the_site_is_served_until_ctrl_c(temp: TempDir, make_app: MakeApp) -> None:
    with terminal() as stdin, started(make_app(BUILD), temp, stdin) as process:
        assert process.stdout
        address = read_until(ADDRESS.pattern, process.stdout).strip()
        read_until("Ctrl-C", process.stdout)
        page = get(address)
        script = get(f"{address}app-4f9a1c2e.js")
        answers = {path: get(address + path)[::3] for path in ("docs/", "docs", "a/route", "no.js", "%2e%2e/my-app/x")}

        process.send_signal(signal.SIGINT)
        process.communicate(timeout=30)

    assert page[:3] == (200, "text/html; charset=utf-8", "public, max-age=0, must-revalidate")
    assert script[:3] == (200, "text/javascript; charset=utf-8", "public, max-age=31536000, immutable")
    assert answers == {
        "docs/": (200, "the docs\n"),
        "docs": (200, "the docs\n"),
        "a/route": (404, ""),  # with a second page it is no single-page application
        "no.js": (404, ""),
        "%2e%2e/my-app/x": (404, ""),
    }
    assert process.returncode == 0
    assert left_behind(temp) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_during_the_build_ends_it_in_order(
    number: signal.Signals, code: int, temp: TempDir, make_app: MakeApp
) -> None:
    with started(make_app(SLEEP), temp, WITHOUT_TERMINAL, **WITHOUT_NPM) as process:
        assert process.stdout
        read_until("sleeping", process.stdout)
        process.send_signal(number)
        rest, _ = process.communicate(timeout=30)

    assert process.returncode == code, rest
    assert "Cancelled" in rest
    assert left_behind(temp) == []


def test_ctrl_c_of_a_real_terminal_ends_the_build_once(temp: TempDir, make_app: MakeApp) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-P", "-m", "buildrunner", "dev", str(make_app(SLEEP))]
    environment = {**os.environ, **folders_of(temp)}
    # In the child, because a terminal's Ctrl-C goes to the group of the session that it belongs to.
    with subprocess.Popen(command, env=environment, preexec_fn=lambda: os.login_tty(theirs)) as process:  # noqa: PLW1509
        os.close(theirs)
        seen = b""
        with open(ours, "r+b", buffering=0) as screen, suppress(OSError):  # EIO, when the last process has gone
            while chunk := screen.read(4096):
                if b"sleeping" in chunk and b"sleeping" not in seen:
                    screen.write(b"\x03")
                seen += chunk
        process.wait(timeout=30)

    assert process.returncode == 130, seen.decode()
    assert b"Traceback" not in seen
    assert left_behind(temp) == []


def test_ctrl_c_under_make_ends_the_preview_with_0(temp: TempDir, make_app: MakeApp, tmp_path: Path) -> None:
    """Also after Ctrl-Z, which gives make the terminal; no shell stops it here, so the preview takes the terminal again."""
    ours, theirs = os.openpty()
    makefile = tmp_path / "Makefile"
    makefile.write_text(f"demo:\n\t@{sys.executable} -P -m buildrunner dev '{make_app(BUILD)}'\n")
    environment = {**os.environ, **folders_of(temp), **WITHOUT_NPM}
    with subprocess.Popen(
        ["make", "-f", str(makefile)],
        env=environment,
        preexec_fn=lambda: os.login_tty(theirs),  # noqa: PLW1509
    ) as process:
        os.close(theirs)
        with ExitStack() as stack, open(ours, "r+b", buffering=0) as screen:
            seen = read_screen(screen, "Press Ctrl-C to stop")
            preview = os.tcgetpgrp(ours)
            stack.callback(kill, preview)
            screen.write(b"\x1a")
            wait_for(lambda: os.tcgetpgrp(ours) == process.pid, "make to have the terminal")
            wait_for(lambda: os.tcgetpgrp(ours) == preview, "the preview to have the terminal")
            screen.write(b"\x03")
            with suppress(OSError):  # EIO, when the last process has gone
                while select.select([screen], [], [], 60)[0] and (chunk := screen.read(4096)):
                    seen += chunk.decode(errors="replace")
        process.wait(timeout=30)

    assert process.returncode == 0, seen
    assert "***" not in seen
    assert len(re.findall(r"http://127\.0\.0\.1:\d+/[\s\x1b]", seen)) == 1, seen
    assert left_behind(temp) == []


PREVIEW = """
import anyio, os, signal
from buildrunner.commands.dev.terminal import follow_job, own_terminal

async def preview():
    with own_terminal() as job, anyio.open_signal_receiver(signal.SIGINT) as interrupts:
        async with anyio.create_task_group() as tasks:
            await tasks.start(follow_job, job)
            print(f"serving {os.getpid()}.", flush=True)
            await anext(interrupts)
            tasks.cancel_scope.cancel()

anyio.run(preview)
"""


@pytest.mark.parametrize("made_by_shell", [True, False], ids=["in a shell with jobs", "without a shell"])
def test_ctrl_z_under_make_gives_the_terminal_back(tmp_path: Path, made_by_shell: bool) -> None:
    """As under `make demo`, of which the shell knows the process of make alone."""
    (tmp_path / "preview.py").write_text(PREVIEW)
    (tmp_path / "Makefile").write_text(f"demo:\n\t@{sys.executable} preview.py\n")
    ours, theirs = os.openpty()
    command = ["bash", "--norc", "--noprofile", "-i"] if made_by_shell else ["make", "demo"]
    environment = {**os.environ, "PS1": "prompt ", "TERM": "dumb", "HOME": str(tmp_path)}
    with subprocess.Popen(
        command,
        cwd=tmp_path,
        env=environment,
        preexec_fn=lambda: os.login_tty(theirs),  # noqa: PLW1509
    ) as process:
        os.close(theirs)
        with ExitStack() as stack, open(ours, "r+b", buffering=0) as screen:
            typed = [("prompt", b"make demo\n")] if made_by_shell else []
            typed += [(r"serving \d+\.", b"\x1a")]
            if made_by_shell:
                typed += [("Stopped", b"echo $((40 + 2))\n"), ("42", b"fg\n"), ("make demo", b"")]
            seen = ""
            for awaited, keys in typed:
                seen += read_screen(screen, awaited)
                screen.write(keys)
            found = re.search(r"serving (\d+)\.", seen)
            assert found
            stack.callback(kill, int(found[1]))  # make waits for it, even if it is stopped
            time.sleep(0.2)  # so that the key has been seen
            wait_for(lambda: os.tcgetpgrp(ours) == int(found[1]), "the terminal")
            screen.write(b"\x03")
            if made_by_shell:
                seen += read_screen(screen, "prompt")
                screen.write(b"exit\n")
            with suppress(OSError):  # EIO, when the last process has gone
                while select.select([screen], [], [], 60)[0] and (chunk := screen.read(4096)):
                    seen += chunk.decode(errors="replace")
            assert process.wait(timeout=30) == 0, seen
    assert "***" not in seen
    assert "Traceback" not in seen


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def read_screen(screen: IO[bytes], awaited: str) -> str:
    seen = ""
    while not re.search(awaited, seen):
        assert select.select([screen], [], [], 60)[0], f"{awaited} did not come: {seen}"
        seen += screen.read(4096).decode(errors="replace")
    return seen


def sockets_of(temp: TempDir) -> list[Path]:
    """List the sockets that the S3 server of a `dev` has in /tmp."""
    server = next(line for line in running(temp) if "-dir=" in line)
    return [
        Path(f"/tmp/seaweedfs-{part}-grpc-{port}.sock")
        for part, port in re.findall(r"-(\w+)\.port\.grpc=(\d+)", server)
    ]


@pytest.mark.parametrize("end", ["SIGKILL", "closed terminal"])
def test_nothing_is_left_however_it_ends(end: str, temp: TempDir, make_app: MakeApp) -> None:
    ours, theirs = os.openpty()
    command = [sys.executable, "-P", "-m", "buildrunner", "dev", str(make_app(SLEEP))]
    with subprocess.Popen(
        command,
        env={**os.environ, **folders_of(temp)},
        preexec_fn=lambda: os.login_tty(theirs),  # noqa: PLW1509
    ) as process:
        os.close(theirs)
        with open(ours, "r+b", buffering=0) as screen:
            read_screen(screen, "sleeping")
            sockets = sockets_of(temp)
            wait_for(lambda: all(path.exists() for path in sockets), "the S3 server")
            if end == "SIGKILL":
                process.kill()
                with suppress(OSError):  # EIO, when the last process has gone
                    while screen.read(4096):
                        pass
        process.wait(timeout=30)

    def is_left() -> bool:
        # os.walk passes over a folder that is removed meanwhile.
        kept = [folder for folder, _, files in os.walk(temp) if files and "cache" not in Path(folder).parts]
        return bool(kept or running(temp))

    wait_for(lambda: not is_left(), "the end of all processes", 20)
    assert [path for path in sockets if path.exists()] == []
    assert process.returncode == (-9 if end == "SIGKILL" else 143)


def test_without_node_on_the_path_that_of_the_wheel_builds(temp: TempDir, make_app: MakeApp) -> None:
    programs = temp / "bin"
    programs.mkdir(mode=0o755)
    for folder in os.environ["PATH"].split(os.pathsep):
        for name in os.listdir(folder) if os.path.isdir(folder) else ():
            if name not in {"node", "npm", "npx", "nodejs"} and not (programs / name).is_symlink():
                (programs / name).symlink_to(os.path.join(folder, name))

    code, output = run(make_app(BUILD), temp, PATH=str(programs))

    assert code == 0, output
    assert "node v24." in output
    shutil.rmtree(programs)
    assert left_behind(temp) == []


def test_what_is_neither_a_folder_nor_a_url_is_named(temp: TempDir) -> None:
    code, output = run(Path("/no/such/folder"), temp)

    assert code == 2
    assert output == "'/no/such/folder' is neither a folder nor a URL.\n"
    assert run("https://h/x", temp, "--watch")[0] == 2
    assert run(temp, temp, "--watch", "--ref", "main")[0] == 2


def test_without_the_wheels_one_sentence_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    def not_installed(name: str) -> None:
        raise importlib.metadata.PackageNotFoundError(name)

    async def enter() -> None:
        with removed_at_end() as leftovers:
            async with servers(leftovers):
                pytest.fail("servers() began without its wheels")

    monkeypatch.setattr(importlib.metadata, "files", not_installed)

    with pytest.raises(BuildEnded, match=r"pip install 'buildrunner-static\[dev\]'"):
        anyio.run(enter)
