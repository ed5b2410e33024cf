"""Run the program for minutes while its Redis and its S3 go through everything that can happen to one: `make soak`.

Builds follow one another, sometimes two of a slug at once; the faults come from a printed seed: Redis restarted, frozen, full,
cut off; answers of S3 lost after it acted; SIGTERM at any time and at any request of the upload; children that refuse to
end. From 20 minutes on, one build runs beside the others whose Redis is away for 15 minutes.

After each build, what its readers have seen is compared with docs/events.md and docs/publishing.md: the archive is whole;
the stream has each event once and in order, if Redis was back in time; a subscriber of the channel saw no line twice or out
of order; `buildrunner logs --follow --json` ended with the same log and the build's own exit code; the site is the last
published build's, and what a stopped build has changed is named in its result. The first violation ends it: exit code 1,
with the seed, the faults and the folder where everything that was seen is kept.
"""

from __future__ import annotations

import argparse
import json
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from buildrunner.events.lines import without_color
from support.harness import PLAIN, Event, Program, Redis, Repositories, Run, Running, free_port
from support.redis_relay import RedisRelay
from support.relay import Fault as RequestFault
from support.relay import Relay, Request, cut_after_the_body
from support.s3_server import S3Server, s3_server

EVIDENCE = "evidence"  # folder for what was seen when something was wrong
MAX_RUN = 90.0  # seconds; the longest that is drawn takes half of it
AWAY = 900.0  # seconds for which Redis is away in the one long scene
FROM_MINUTES = 20  # a shorter soak leaves the long scene out
# After a signal everything is to be over within 15 s; a machine that is busy takes some time to say so.
AFTER_SIGNAL = 17.0
# A Redis that is there for so long before a run ends has to get all of its log: what was asked before it came back may
# take 5 s to be given up.
TIME_TO_DELIVER = 6.0
NO_SCRIPTS = "no-scripts"  # a user of Redis
SUCCEEDED, SUPERSEDED, CANCELLED = 0, 60, 143
STATUS = {SUCCEEDED: "succeeded", SUPERSEDED: "superseded", CANCELLED: "cancelled"}


class ViolationError(Exception):
    """The program broke a promise of its documents."""


# --- what is planned -----------------------------------------------------------------------------------------------------


LARGE = 40_000_000  # bytes
PLAIN_FILES = ("index.html", "about.html", "robots.txt")  # without a hash in their names
STUCK = (
    "",
    "",
    "",
    "(trap '' TERM HUP INT; exec sleep 300) &",
    "setsid sh -c 'trap \"\" TERM HUP INT; kill -STOP $$; sleep 300' &",
    "setsid sh -c 'setsid sleep 300 &' >/dev/null 2>&1 &",
)


@dataclass(frozen=True, slots=True)
class Part:
    """Lines that a build prints at once, and how long it pauses after them (seconds)."""

    out: int
    err: int
    pause: float


@dataclass(frozen=True, slots=True)
class Build:
    """One run of a scene."""

    name: str
    starts: float  # seconds after the scene's beginning
    viewer_joins: float  # seconds after the start of the run
    signal: float | None  # the same, for SIGTERM
    signal_at_request: int | None  # SIGTERM when so many requests of this build have changed something in S3
    stuck: str  # a command that the build leaves behind: it does not end by itself, or by SIGTERM
    files: int  # assets of the site
    large: bool  # one file of the site is uploaded in parts
    padding: int
    parts: tuple[Part, ...]

    def lines(self, stream: str) -> list[str]:
        count = sum(part.out if stream == "stdout" else part.err for part in self.parts)
        padding = " " + "." * self.padding if stream == "stdout" else ""
        return [f"{self.name} {stream} {number:06}{padding}" for number in range(1, count + 1)]

    @property
    def script(self) -> str:
        commands, out, err = [], 1, 1
        for part in self.parts:
            commands.append(f"seq -f '{self.name} stdout %06.0f {'.' * self.padding}' {out} {out + part.out - 1}")
            commands.append(f"seq -f '{self.name} stderr %06.0f' {err} {err + part.err - 1} >&2")
            commands.append(f"sleep {part.pause}")
            out, err = out + part.out, err + part.err
        commands += ["mkdir -p dist/assets", *(f"echo {text} >dist/{path}" for path, text in self.site.items())]
        if self.large:
            commands.append(f"head -c {LARGE} /dev/zero >dist/large.bin")
        return "\n".join([*([self.stuck] if self.stuck else []), *commands])

    @property
    def site(self) -> dict[str, str]:
        """What the build writes, but for the large file: the text of each file by its path."""
        assets = {
            f"assets/part{number}-{zlib.crc32(f'{self.name}{number}'.encode()):08x}.js": f"{self.name} {number}"
            for number in range(self.files)
        }
        return {**assets, **{path: f"{self.name} {path}" for path in PLAIN_FILES}}

    @property
    def length(self) -> float:
        """How long its commands take, about (seconds)."""
        return 1 + sum(part.pause for part in self.parts)


@dataclass(frozen=True, slots=True)
class Fault:
    """What befalls Redis, when, and for how long (seconds)."""

    name: str
    at: float
    lasts: float

    def __str__(self) -> str:
        return f"{self.name} at {self.at:.1f} s" + (f" for {self.lasts:.1f} s" if self.lasts else "")


@dataclass(frozen=True, slots=True)
class Scene:
    """One run or two of a slug, and what befalls them."""

    slug: str
    log_format: str
    scripts: bool  # Redis allows them
    published: bool  # an earlier build's site is live
    lost_answers: float  # share of S3's answers that are lost after it acted
    builds: tuple[Build, ...]
    faults: tuple[Fault, ...]


def plan(seed: str) -> Scene:
    """Draw a scene; the same seed draws the same."""
    dice = random.Random(seed)
    builds = []
    starts = 0.0
    for name in ("one", "two")[: dice.choice((1, 1, 1, 2))]:
        pause = dice.choice((0.05, 0.3, 1.0))
        parts = tuple(
            Part(
                dice.randint(1, dice.choice((20, 300, 1500))), dice.randint(1, 30), round(dice.uniform(0, 2 * pause), 2)
            )
            for _ in range(dice.randint(3, 12))
        )
        length = 1 + sum(part.pause for part in parts)
        joins = dice.uniform(0, min(4.0, length))
        signalled = dice.choice(("", "", "", "at a time", "at a request"))
        files = dice.choice((1, 8, 40))
        builds.append(
            Build(
                name,
                starts,
                joins,
                signal=dice.uniform(0.2, length + 1) if signalled == "at a time" else None,
                signal_at_request=dice.randint(1, files + 12) if signalled == "at a request" else None,
                stuck=dice.choice(STUCK),
                files=files,
                large=dice.random() < 0.2,
                padding=dice.choice((10, 80, 400)),
                parts=parts,
            )
        )
        starts += joins + dice.uniform(0, 3)
    length = max(build.starts + build.length for build in builds)
    faults = []
    for _ in range(dice.randint(1, 4)):
        name, longest = dice.choice(list(LONGEST.items()))
        at = dice.choice(
            (dice.uniform(0, length), dice.uniform(0, length), dice.uniform(max(0.0, length - 1.5), length))
        )
        faults.append(Fault(name, at, dice.uniform(0, longest) if longest else 0.0))
    return Scene(
        slug=f"soak-{dice.getrandbits(32):08x}",
        log_format=dice.choice(("text", "json")),
        scripts=dice.random() < 0.7,
        published=dice.random() < 0.5,
        lost_answers=dice.choice((0.0, 0.0, 0.1, 0.4)),
        builds=tuple(builds),
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
    )


def plan_long(seed: str) -> Scene:
    """Return the scene in which Redis is away for `AWAY` seconds while a build prints."""
    parts = tuple(Part(50, 5, 30.0) for _ in range(int(AWAY / 30) + 2))
    build = Build("long", 0.0, 0.5, None, None, "", 4, False, 80, parts)
    slug = f"soak-away-{zlib.crc32(seed.encode()):08x}"
    return Scene(slug, "text", True, False, 0.0, (build,), (Fault("cut", 3.0, AWAY),))


# --- what befalls Redis --------------------------------------------------------------------------------------------------

# The faults that `Faults` can do, a method each, and how long they last at the most (seconds).
LONGEST = {
    "restart_empty": 6.0,
    "freeze": 8.0,
    "cut": 3.0,
    "cut_before_it_is_executed": 0.0,
    "cut_after_it_was_executed": 0.0,
    "flush": 0.0,
    "delete_the_stream": 0.0,
    "kill_clients": 0.0,
    "fill_the_memory": 3.0,
    "slow_subscriber": 0.0,
}


class Faults:
    """Does to a Redis, and to the relay in front of it, what was planned."""

    def __init__(self, redis: Redis, relay: RedisRelay, stack: ExitStack, slug: str) -> None:
        self.done: list[Fault] = []
        self.last_ended = 0.0  # monotonic clock, seconds
        self.ended_before_loss: set[str] = set()  # builds whose result was in a stream that was then lost
        self._redis = redis
        self._relay = relay
        self._stack = stack
        self._slug = slug
        self._key = f"events:{slug}"

    def inject(self, faults: Sequence[Fault], began: float, over: threading.Event) -> None:
        """Do one after another, until `over`; what one did to Redis is undone at its end."""
        for fault in faults:
            if over.wait(max(0.0, began + fault.at - time.monotonic())):
                return
            self.done.append(fault)
            try:
                getattr(self, fault.name)(fault.lasts)
            finally:
                self.last_ended = time.monotonic()

    def restart_empty(self, seconds: float) -> None:
        with self._redis.client() as client:
            client.client_pause(5000, all=False)  # so that nothing is written between the look and the end
            self._note_end(client.xrevrange(self._key, count=1))
        self._redis.kill()
        time.sleep(seconds)
        self._redis.start()
        make_user(self._redis)

    def freeze(self, seconds: float) -> None:
        self._redis.process.send_signal(signal.SIGSTOP)
        time.sleep(seconds)
        self._redis.process.send_signal(signal.SIGCONT)

    def cut(self, seconds: float) -> None:
        self._relay.leave()
        time.sleep(seconds)
        self._relay.come()

    def cut_before_it_is_executed(self, _seconds: float) -> None:
        self._redis.process.send_signal(signal.SIGSTOP)
        time.sleep(0.3)  # a batch lies before a server that does not read it
        self._relay.leave()
        self._redis.process.send_signal(signal.SIGCONT)
        self._relay.come()

    def cut_after_it_was_executed(self, _seconds: float) -> None:
        left = 3

        def loses(request: bytes) -> bool:
            nonlocal left
            left -= b'{"v":1,' in request
            return b'{"v":1,' in request and left >= 0

        self._relay.loses = loses

    def flush(self, _seconds: float) -> None:
        self._lose("flushall")

    def delete_the_stream(self, _seconds: float) -> None:
        self._lose("delete", self._key)

    def kill_clients(self, _seconds: float) -> None:
        with self._redis.client() as client:
            for kind in ("normal", "pubsub"):
                client.client_kill_filter(_type=kind, skipme=True)

    def fill_the_memory(self, seconds: float) -> None:
        with self._redis.client() as client:
            client.config_set("maxmemory", max(1, int(client.info("memory")["used_memory"]) + 50_000))
            time.sleep(seconds)
            client.config_set("maxmemory", 0)

    def slow_subscriber(self, _seconds: float) -> None:
        """Subscribe and never read, so that the server drops it in the end."""
        with self._redis.client() as client:
            client.config_set("client-output-buffer-limit", "pubsub 1048576 524288 1")
        sleepy = self._stack.enter_context(socket.socket())
        sleepy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sleepy.connect(("127.0.0.1", self._redis.port))
        sleepy.sendall(f"SUBSCRIBE logs:{self._slug}\r\n".encode())

    def _lose(self, command: str, *arguments: str) -> None:
        with self._redis.client() as client, client.pipeline(transaction=True) as pipeline:
            pipeline.xrevrange(self._key, count=1)
            getattr(pipeline, command)(*arguments)
            self._note_end(pipeline.execute()[0])

    def _note_end(self, last: Sequence[tuple[str, dict[str, str]]]) -> None:
        for _, fields in last:
            event = json.loads(fields["event"])
            if event["type"] == "result":
                self.ended_before_loss.add(event["build"])


def make_user(redis: Redis) -> None:
    """Make the user whose scripts are refused, so that another way of delivery is gone."""
    rules = ("on", "nopass", "~*", "&*", "+@all", "-@scripting")
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", NO_SCRIPTS, *rules)


# --- what is seen --------------------------------------------------------------------------------------------------------


@dataclass
class Cast:
    """One run of a scene, its viewer, and what came of both."""

    build: Build
    id: str
    running: Running
    viewer: subprocess.Popen[bytes]
    viewer_file: Path
    ended: Future[float]  # when (monotonic clock, seconds)
    signalled: Future[float | None]
    s3_faults: S3Faults
    objects: dict[str, bytes] = field(init=False)  # of the site, when it and all others had ended
    run: Run = field(init=False)
    viewer_code: int = field(init=False)
    viewed: list[bytes] = field(init=False)
    archive: list[bytes] = field(init=False)
    events: list[Event] = field(init=False)  # the archive's

    @property
    def log_was_lost(self) -> bool:
        """Whether a build that a signal stopped says that S3 did not take its log in time, as on a machine without CPU."""
        return self.run.code == CANCELLED and not self.archive and self.run.said("S3 did not accept it in time")


@dataclass
class Seen:
    """What is left of a scene."""

    casts: list[Cast]
    faults: Faults
    stream: list[tuple[str, bytes]]  # id, event


class S3Faults:
    """Loses answers of S3 after it acted, and sends SIGTERM at a request, through a relay of one build's own."""

    def __init__(self, relay: Relay, scene: Scene, build: Build) -> None:
        self.signalled: Future[float | None] = Future()
        self.lost = 0
        self.process: subprocess.Popen[str] | None = None
        self._scene = scene
        self._build = build
        self._changes = 0
        relay.fault = self._fault

    def no_signal(self) -> None:
        """Note that the build ended before the request at which it was to be stopped."""
        if not self.signalled.done():
            self.signalled.set_result(None)

    def _fault(self, request: Request) -> RequestFault | None:
        if request.method not in {"PUT", "POST", "DELETE"}:
            return None
        self._changes += 1
        if self._changes == self._build.signal_at_request and self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.signalled.set_result(time.monotonic())
        dice = random.Random(f"{self._scene.slug}{request.path}{request.query}")
        if request.times > 1 or dice.random() >= self._scene.lost_answers:
            return None
        self.lost += 1
        return cut_after_the_body


class Theatre:
    """Plays scenes on servers of its own."""

    def __init__(self, program: Program, repositories: Repositories, folder: Path, s3: S3Server) -> None:
        self._program = program
        self._repositories = repositories
        self._folder = folder
        self._s3 = program.client()
        self._s3_port = int(s3.endpoint.rpartition(":")[2])

    @contextmanager
    def play(self, scene: Scene) -> Iterator[Seen]:
        """Play a scene to its end, and give what is left of it for as long as the context lasts."""
        redis, over = self._program.redis, threading.Event()
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor())
            stack.callback(over.set)
            relay = stack.enter_context(RedisRelay(redis.port))
            faults = Faults(redis, relay, stack, scene.slug)
            make_user(redis)
            repositories = [self._repositories.app(build.script) for build in scene.builds]
            if scene.published:
                self._publish_before(scene)
            began = time.monotonic()
            injected = pool.submit(faults.inject, scene.faults, began, over)
            casts = []
            for build, repository in zip(scene.builds, repositories, strict=True):
                time.sleep(max(0.0, began + build.starts - time.monotonic()))
                casts.append(self._start(scene, build, repository, relay.uri, stack, pool))
            for cast in casts:
                cast.ended.result()
            over.set()
            injected.result()
            objects = {path: found["body"] for path, found in self._program.objects(scene.slug).items()}
            for cast in casts:
                cast.objects = objects
                self._finish(scene, cast)
            with redis.client() as client:
                entries = client.xrange(f"events:{scene.slug}")
            yield Seen(casts, faults, [(place, fields["event"].encode()) for place, fields in entries])

    def _publish_before(self, scene: Scene) -> None:
        folder = self._folder / f"{scene.slug}-before"
        folder.mkdir()
        for path in PLAIN_FILES:
            (folder / path).write_text(f"before {path}\n")
        environment = self._program.environment(None, SLUG=scene.slug, REDIS_URI=None)
        process = self._program.start(environment, "publish", str(folder))
        output = process.communicate(timeout=MAX_RUN)
        require(process.returncode == 0, f"the site before could not be published: {output}")

    def _start(
        self, scene: Scene, build: Build, repository: Path, uri: str, stack: ExitStack, pool: ThreadPoolExecutor
    ) -> Cast:
        variables = {"SLUG": scene.slug, "BUILD_ID": f"{build.name}-{uuid.uuid4().hex}", "REDIS_URI": uri}
        if not scene.scripts:
            variables["REDIS_URI"] = uri.replace("//", f"//{NO_SCRIPTS}:any@")
        s3_relay = stack.enter_context(Relay(self._s3_port))
        s3_faults = S3Faults(s3_relay, scene, build)
        variables["AWS_ENDPOINT_URL_S3"] = f"http://127.0.0.1:{s3_relay.port}"
        running = stack.enter_context(
            self._program.running(repository, **variables, LOG_FORMAT=scene.log_format, **PLAIN)
        )
        s3_faults.process = running.process
        started = time.monotonic()
        ended = pool.submit(wait_for_end, running.process, MAX_RUN + build.length)
        if build.signal_at_request is None:
            signalled = pool.submit(send_signal, running, None if build.signal is None else started + build.signal)
        else:
            signalled = s3_faults.signalled
            ended.add_done_callback(lambda _: s3_faults.no_signal())
        time.sleep(build.viewer_joins)
        file = self._folder / f"{variables['BUILD_ID']}.viewer"
        arguments = ["logs", scene.slug, "--build", variables["BUILD_ID"], "--follow", "--json"]
        with file.open("wb") as output, file.with_suffix(".viewer-stderr").open("wb") as errors:
            viewer = subprocess.Popen(
                [sys.executable, "-P", "-m", "buildrunner", *arguments],
                env=self._program.environment(None, REDIS_URI=uri),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=errors,
            )
        stack.callback(viewer.wait)
        stack.callback(viewer.kill)
        return Cast(build, variables["BUILD_ID"], running, viewer, file, ended, signalled, s3_faults)

    def _finish(self, scene: Scene, cast: Cast) -> None:
        cast.run = cast.running.end()
        cast.archive = []
        with suppress(self._s3.exceptions.NoSuchKey):
            answer = self._s3.get_object(Bucket="sites", Key=f"__logs/{scene.slug}/{cast.id}.ndjson")
            cast.archive = answer["Body"].read().splitlines()
        cast.events = [json.loads(line) for line in cast.archive]
        try:
            cast.viewer_code = cast.viewer.wait(60)
        except subprocess.TimeoutExpired:
            cast.viewer_code = -1
        cast.viewed = cast.viewer_file.read_bytes().splitlines()


def wait_for_end(process: subprocess.Popen[str], seconds: float) -> float:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()
    return time.monotonic()


def send_signal(running: Running, at: float | None) -> float | None:
    """Send SIGTERM at that time, but not before Python has come as far as to say something."""
    if at is None:
        return None
    while time.monotonic() < at or not running.stdout:
        if running.process.poll() is not None:
            return None
        time.sleep(0.01)
    running.process.send_signal(signal.SIGTERM)
    return time.monotonic()


# --- what must hold ------------------------------------------------------------------------------------------------------


def check(scene: Scene, seen: Seen) -> None:
    """Hold what was seen against what is promised; raises ViolationError."""
    for cast in seen.casts:
        check_end(scene, cast)
    if any(cast.log_was_lost for cast in seen.casts):  # there is nothing to hold the rest against
        return
    for cast in seen.casts:
        check_archive(cast)
        check_viewer(cast)
    codes = [cast.run.code for cast in seen.casts]
    require(codes != [SUPERSEDED] * len(codes), "every run was superseded")
    for cast in seen.casts:  # each of them had a subscriber
        check_channel(scene, seen.casts, cast.run.messages)
    check_stream(seen)
    check_site(scene, seen.casts)


def require(condition: object, sentence: str) -> None:
    if not condition:
        raise ViolationError(sentence)


def check_end(scene: Scene, cast: Cast) -> None:
    signalled, name = cast.signalled.result(), cast.build.name
    allowed = {SUCCEEDED} | ({SUPERSEDED} if len(scene.builds) > 1 else set()) | ({CANCELLED} if signalled else set())
    require(cast.run.code in allowed, f"{name}: it ended with {cast.run.code}")
    require(not cast.run.stderr, f"{name}: it wrote to stderr")
    if signalled:
        took = cast.ended.result() - signalled
        require(took < AFTER_SIGNAL, f"{name}: it ended {took:.1f} s after the signal")


def check_archive(cast: Cast) -> None:
    name, events, code = cast.build.name, cast.events, cast.run.code
    require(events, f"{name}: there is no archive")
    require([event["seq"] for event in events] == list(range(1, len(events) + 1)), f"{name}: the archive has a gap")
    require([event["type"] for event in events].index("result") == len(events) - 1, f"{name}: the result is not last")
    result = events[-1]
    require((result["status"], result["exit_code"]) == (STATUS[code], code), f"{name}: the result is {result}")
    for stream in ("stdout", "stderr"):
        # Git writes to stderr as well.
        lines = [e["log"] for e in events if e.get("stream") == stream and e["stage"] == "build"]
        expected = cast.build.lines(stream)
        if (
            code != SUCCEEDED and lines and expected[len(lines) - 1 :][:1]
        ):  # a program can be killed in the middle of a line
            expected = [*expected[: len(lines) - 1], expected[len(lines) - 1][: len(lines[-1])]]
        whole = lines == expected[: None if code == SUCCEEDED else len(lines)]
        require(
            whole, f"{name}: {stream} is not in the archive as it was printed, {len(lines)} of {len(expected)} lines"
        )


def check_viewer(cast: Cast) -> None:
    name, viewed, archive = cast.build.name, cast.viewed, cast.archive
    wrong = next((seq for seq, pair in enumerate(zip(viewed, archive, strict=False), 1) if pair[0] != pair[1]), None)
    require(
        viewed == archive,
        f"{name}: `logs --follow` ended with {cast.viewer_code} and showed {len(viewed)} of {len(archive)} events"
        + (f"; event {wrong} is not the archive's" if wrong else ""),
    )
    require(cast.viewer_code == cast.run.code, f"{name}: `logs --follow` ended with {cast.viewer_code}")


def check_channel(scene: Scene, casts: Sequence[Cast], messages: Sequence[str]) -> None:
    """Check that nothing came twice, out of order, or is not of these runs."""
    if scene.log_format == "json":
        for cast in casts:
            lines = iter([event for event in cast.events if "log" in event])
            for event in map(json.loads, messages):
                require(
                    event["build"] != cast.id or event in lines,
                    f"{cast.build.name}: event {event['seq']} is on the channel twice or out of order",
                )
        return
    for cast in casts:
        texts = iter([without_color(event["log"]) for event in cast.events if "log" in event])
        for message in messages:
            # Of two runs' own words nobody can say whose they are.
            if len(casts) == 1 or message.startswith(f"{cast.build.name} std"):
                require(
                    message in texts, f"{cast.build.name}: {message[:40]!r} is on the channel twice or out of order"
                )


def check_stream(seen: Seen) -> None:
    """Check that the stream is one run's, from its first event on without a gap, and whole if that could be."""
    places = [place.split("-") for place, _ in seen.stream]
    require(len({run for run, _ in places}) <= 1, "the stream has two numbers of runs")
    require([int(seq) for _, seq in places] == list(range(1, len(places) + 1)), "the stream has a gap")
    events = [event for _, event in seen.stream]
    owners = [cast for cast in seen.casts if events and json.loads(events[0])["build"] == cast.id]
    require(len(owners) == (1 if events else 0), "the stream is not of this run")
    for cast in owners:
        name = cast.build.name
        require(cast.run.code != SUPERSEDED, f"{name}: the stream is that of a run that was superseded")
        require(events == cast.archive[: len(events)], f"{name}: stream and archive differ")
    # A stream that is gone was that of the run which began last: it had removed the events of one that ended before.
    rest = sorted(
        (cast for cast in seen.casts if cast.run.code != SUPERSEDED),
        key=lambda cast: str(json.loads(cast.archive[0])["ts"]),
    )
    for cast in owners or rest[-1:]:
        name, whole = cast.build.name, len(events) == len(cast.archive)
        told = "were not delivered" in cast.run.stdout
        in_time = cast.ended.result() - seen.faults.last_ended >= TIME_TO_DELIVER
        require(not (told and in_time), f"{name}: it gave up although Redis was there")
        require(
            whole or told or cast.id in seen.faults.ended_before_loss,
            f"{name}: the stream has {len(events)} of {len(cast.archive)} events, and nobody was told",
        )


def check_site(scene: Scene, casts: Sequence[Cast]) -> None:
    """Check that the site is that of the last published build, but for what a later one that was stopped names as new."""
    objects = casts[0].objects
    casts = sorted(casts, key=lambda cast: str(cast.events[0]["ts"]))
    live = {path: f"before {path}\n".encode() for path in PLAIN_FILES} if scene.published else {}
    kept = dict(live)
    for cast in casts:
        site = {path: f"{text}\n".encode() for path, text in cast.build.site.items()}
        if cast.build.large:
            site["large.bin"] = bytes(LARGE)
        if cast.run.code == SUCCEEDED:
            live, kept = site, {**kept, **site}
        else:  # hashed assets that it had sent stay for ASSET_GRACE, as those of earlier builds do
            kept = {**kept, **site}
    last = casts[-1]
    if last.run.code == CANCELLED:
        reason = last.events[-1].get("reason", "")
        for path in live:
            new = objects.get(path) != live[path]
            require(
                not new or path in reason or "whole site" in reason, f"{path} is new, and nobody was told: {reason}"
            )
        return
    for path, body in live.items():
        require(objects.get(path) == body, f"{path} of the site is not the published build's")
    for path in objects.keys() - live.keys():
        require(path.startswith("assets/") and path in kept, f"{path} is left in the site of a later build")


# --- the soak ------------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="how long (default: 10)")
    parser.add_argument("--seed", type=int, help="of all that is drawn (default: a new one)")
    parser.add_argument("--first", type=int, default=1, help="scene to begin with, to see one again (default: 1)")
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    print(f"seed {seed}", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="buildrunner-soak-"))
    folder.chmod(0o755)
    try:
        return soak(folder, seed, options.first, options.minutes)
    finally:
        if not (folder / EVIDENCE).exists():
            shutil.rmtree(folder, ignore_errors=True)


def soak(folder: Path, seed: int, number: int, minutes: float) -> int:
    """Play scenes for so many minutes, from that number on; return the exit code."""
    until = time.monotonic() + minutes * 60
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        s3 = stack.enter_context(s3_server())
        s3.make_bucket("sites")
        long = None
        pool = stack.enter_context(ThreadPoolExecutor(1))
        if minutes >= FROM_MINUTES:
            long = pool.submit(play, theatre(stack, s3, folder / "long"), plan_long(f"{seed}"), folder, "away", counts)
        short = theatre(stack, s3, folder / "short")
        while time.monotonic() < until:
            if not play(
                short, plan(f"{seed}:{number}"), folder, f"{number:4}", counts, f"--seed {seed} --first {number}"
            ):
                return 1
            if long and long.done() and not long.result():
                return 1
            number += 1
        if long and not long.result():
            return 1
    print("; ".join(f"{count} {what}" for what, count in counts.items()), flush=True)
    print(f"{counts['builds']} runs, {counts['faults']} faults, 0 lost, 0 doubled")
    return 0


def theatre(stack: ExitStack, s3: S3Server, folder: Path) -> Theatre:
    folder.mkdir(mode=0o755)
    redis = Redis(free_port(), folder)
    stack.callback(redis.kill)
    return Theatre(Program(redis, s3, folder), Repositories(folder), folder, s3)


def play(theatre: Theatre, scene: Scene, folder: Path, name: str, counts: Counter[str], again: str = "") -> bool:
    """Play a scene, and return whether all was as it must be."""
    with theatre.play(scene) as seen:
        signals = sum(cast.signalled.result() is not None for cast in seen.casts)
        lost = sum(cast.s3_faults.lost for cast in seen.casts)
        counts.update(
            {
                "builds": len(seen.casts),
                "faults": len(seen.faults.done) + signals + lost,
                "answers of S3 lost": lost,
                "signals": signals,
                "signals while publishing": sum(
                    cast.build.signal_at_request is not None and cast.signalled.result() is not None
                    for cast in seen.casts
                ),
                "logs that were lost, and said so": sum(cast.log_was_lost for cast in seen.casts),
                "stuck children": sum(bool(cast.build.stuck) for cast in seen.casts),
            }
        )
        try:
            check(scene, seen)
        except ViolationError as violation:
            keep(folder / EVIDENCE, scene, seen)
            print(f"scene {name}: {violation}\n  {describe(scene, seen)}")
            print(f"  planned: {'; '.join(map(str, scene.faults))}\n  again: {again}")
            print(f"  what was seen is in {folder / EVIDENCE}", flush=True)
            return False
        print(f"{name}  {describe(scene, seen)}", flush=True)
    return True


def describe(scene: Scene, seen: Seen) -> str:
    ends = [
        f"{cast.build.name} {STATUS.get(cast.run.code, cast.run.code)}, {len(cast.archive):,} events"
        + (", not all delivered" if "were not delivered" in cast.run.stdout else "")
        for cast in seen.casts
    ]
    signals = [
        f"SIGTERM to {cast.build.name} at "
        + (
            f"request {cast.build.signal_at_request}"
            if cast.build.signal_at_request
            else f"{cast.build.starts + (cast.build.signal or 0):.1f} s"
        )
        for cast in seen.casts
        if cast.signalled.result()
    ]
    ways = [] if scene.scripts else ["no scripts"]
    lost = sum(cast.s3_faults.lost for cast in seen.casts)
    ways += [f"{lost} answers of S3 lost"] if lost else []
    ways += [f"{cast.build.name} leaves {cast.build.stuck!r}" for cast in seen.casts if cast.build.stuck]
    return "; ".join([*ends, f"stream {len(seen.stream):,}", *ways, *signals, *map(str, seen.faults.done)])


def keep(folder: Path, scene: Scene, seen: Seen) -> None:
    folder.mkdir()

    def write(name: str, lines: Sequence[str | bytes]) -> None:
        texts = [line.decode() if isinstance(line, bytes) else line for line in lines]
        (folder / name).write_text("".join(f"{text}\n" for text in texts))

    write("scene", [str(scene)])
    write("stream", [f"{place} {event.decode()}" for place, event in seen.stream])
    for cast in seen.casts:
        name = cast.build.name
        write(f"{name}.archive", cast.archive)
        write(f"{name}.viewer", cast.viewed)
        write(f"{name}.viewer-stderr", cast.viewer_file.with_suffix(".viewer-stderr").read_bytes().splitlines())
        write(f"{name}.channel", cast.run.messages)
        write(f"{name}.console", cast.run.stdout.splitlines())
        write(f"{name}.stderr", cast.run.stderr.splitlines())


if __name__ == "__main__":
    sys.exit(main())
