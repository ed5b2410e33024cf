"""Run builds for minutes while faults are injected into Redis and S3: `make soak`.

Builds run one after another, sometimes two of the same slug at once. Faults are drawn from a printed seed: Redis is restarted,
frozen, full or disconnected; responses of S3 are lost after it acted; SIGTERM arrives at any time or at any request of the
upload; child processes refuse to exit. In a run of 20 minutes or more, Redis is also unavailable to one build for 15 minutes.

After each build, the results are compared with docs/events.md and docs/publishing.md:

- The archive is complete.
- The stream has each event once and in order, if Redis was available again in time.
- A subscriber of the channel got no line twice or out of order.
- `buildrunner logs --follow --json` printed the same log and exited with the build's exit code.
- The site is that of the last published build, and the result of a stopped build names the files that it changed.

The first violation ends the run with exit code 1, and prints the seed, the faults and the folder with all evidence.
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
from support.harness import PLAIN, Event, Process, Program, Redis, Repositories, Run, Running, free_port
from support.redis_relay import RedisRelay
from support.relay import Fault as RequestFault
from support.relay import Relay, Request, cut_after_the_body
from support.s3_server import S3Server, s3_server

EVIDENCE = "evidence"  # folder for logs and streams of a scenario with a violation
MAX_RUN = 90.0  # seconds; the longest drawn build takes half as long
AWAY = 900.0  # seconds for which Redis is unavailable in the long scenario
FROM_MINUTES = 20  # shorter runs skip the long scenario
# A build has to end within 15 s of a signal; the rest is tolerance for a busy machine.
AFTER_SIGNAL = 17.0
# If Redis is available for this long before a build ends, it has to get the whole log. Requests from before it was available
# may take 5 s to time out.
TIME_TO_DELIVER = 6.0
NO_SCRIPTS = "no-scripts"  # Redis user without permission for scripts
SUCCEEDED, SUPERSEDED, CANCELLED = 0, 60, 143
STATUS = {SUCCEEDED: "succeeded", SUPERSEDED: "superseded", CANCELLED: "cancelled"}


class ViolationError(Exception):
    """The program broke a promise in its documentation."""


# --- plans ---------------------------------------------------------------------------------------------------------------


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
    """A number of lines that a build prints at once, and the pause after them in seconds."""

    out: int
    err: int
    pause: float


@dataclass(frozen=True, slots=True)
class Build:
    """The plan of a build in a scenario."""

    name: str
    starts: float  # seconds after the start of the scenario
    viewer_joins: float  # seconds after the start of the build
    signal: float | None  # time of SIGTERM, in seconds after the start of the build
    signal_at_request: int | None  # number of the changing S3 request at which SIGTERM is sent
    stuck: str  # command that the build leaves running, which does not exit by itself or on SIGTERM
    files: int  # assets of the site
    large: bool  # whether the site has a file that is uploaded in parts
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
        """The text of each file that the build writes, by path, without the large file."""
        assets = {
            f"assets/part{number}-{zlib.crc32(f'{self.name}{number}'.encode()):08x}.js": f"{self.name} {number}"
            for number in range(self.files)
        }
        return {**assets, **{path: f"{self.name} {path}" for path in PLAIN_FILES}}

    @property
    def length(self) -> float:
        """The approximate duration of the build's commands in seconds."""
        return 1 + sum(part.pause for part in self.parts)


@dataclass(frozen=True, slots=True)
class Fault:
    """A fault of Redis, with its time and duration in seconds."""

    name: str
    at: float
    lasts: float

    def __str__(self) -> str:
        return f"{self.name} at {self.at:.1f} s" + (f" for {self.lasts:.1f} s" if self.lasts else "")


@dataclass(frozen=True, slots=True)
class Scenario:
    """One or two builds of a slug, and the faults during them."""

    slug: str
    log_format: str
    scripts: bool  # whether Redis allows scripts
    published: bool  # whether an earlier build's site is live
    lost_answers: float  # share of S3's responses that are lost after it acted
    builds: tuple[Build, ...]
    faults: tuple[Fault, ...]


def plan(seed: str) -> Scenario:
    """Return the scenario that a seed determines."""
    rng = random.Random(seed)
    builds = []
    starts = 0.0
    for name in ("one", "two")[: rng.choice((1, 1, 1, 2))]:
        pause = rng.choice((0.05, 0.3, 1.0))
        parts = tuple(
            Part(rng.randint(1, rng.choice((20, 300, 1500))), rng.randint(1, 30), round(rng.uniform(0, 2 * pause), 2))
            for _ in range(rng.randint(3, 12))
        )
        length = 1 + sum(part.pause for part in parts)
        joins = rng.uniform(0, min(4.0, length))
        signalled = rng.choice(("", "", "", "at a time", "at a request"))
        files = rng.choice((1, 8, 40))
        builds.append(
            Build(
                name,
                starts,
                joins,
                signal=rng.uniform(0.2, length + 1) if signalled == "at a time" else None,
                signal_at_request=rng.randint(1, files + 12) if signalled == "at a request" else None,
                stuck=rng.choice(STUCK),
                files=files,
                large=rng.random() < 0.2,
                padding=rng.choice((10, 80, 400)),
                parts=parts,
            )
        )
        starts += joins + rng.uniform(0, 3)
    length = max(build.starts + build.length for build in builds)
    faults = []
    for _ in range(rng.randint(1, 4)):
        name, longest = rng.choice(list(LONGEST.items()))
        at = rng.choice((rng.uniform(0, length), rng.uniform(0, length), rng.uniform(max(0.0, length - 1.5), length)))
        faults.append(Fault(name, at, rng.uniform(0, longest) if longest else 0.0))
    return Scenario(
        slug=f"soak-{rng.getrandbits(32):08x}",
        log_format=rng.choice(("text", "json")),
        scripts=rng.random() < 0.7,
        published=rng.random() < 0.5,
        lost_answers=rng.choice((0.0, 0.0, 0.1, 0.4)),
        builds=tuple(builds),
        faults=tuple(sorted(faults, key=lambda fault: fault.at)),
    )


def plan_long_outage(seed: str) -> Scenario:
    """Return the scenario in which Redis is unavailable for `AWAY` seconds during a build."""
    parts = tuple(Part(50, 5, 30.0) for _ in range(int(AWAY / 30) + 2))
    build = Build("long", 0.0, 0.5, None, None, "", 4, False, 80, parts)
    slug = f"soak-away-{zlib.crc32(seed.encode()):08x}"
    return Scenario(slug, "text", True, False, 0.0, (build,), (Fault("cut", 3.0, AWAY),))


# --- faults of Redis -----------------------------------------------------------------------------------------------------

# Names of the methods of `Faults`, and the longest duration of each fault in seconds.
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
    """Injects the planned faults into Redis and the relay in front of it."""

    def __init__(self, redis: Redis, relay: RedisRelay, stack: ExitStack, slug: str) -> None:
        self.done: list[Fault] = []
        self.last_ended = 0.0  # monotonic clock, seconds
        self.ended_before_loss: set[str] = set()  # ids of builds whose result was in a stream that was later lost
        self._redis = redis
        self._relay = relay
        self._stack = stack
        self._slug = slug
        self._key = f"events:{slug}"

    def inject(self, faults: Sequence[Fault], began: float, over: threading.Event) -> None:
        """Inject faults one after another until `over` is set; each fault is undone at its end."""
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
            client.client_pause(5000, all=False)  # so that nothing is written between the check and the kill
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
        time.sleep(0.3)  # until a batch waits for a server that does not read it
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
        """Subscribe without reading, so that the server disconnects the subscriber in the end."""
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
    """Create the user without permission for scripts."""
    rules = ("on", "nopass", "~*", "&*", "+@all", "-@scripting")
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", NO_SCRIPTS, *rules)


# --- scenarios -----------------------------------------------------------------------------------------------------------


@dataclass
class ObservedBuild:
    """A build of a scenario with its viewer, and the results of both."""

    build: Build
    id: str
    running: Running
    viewer: subprocess.Popen[bytes]
    viewer_file: Path
    ended: Future[float]  # time of the end (monotonic clock, seconds)
    signalled: Future[float | None]
    s3_faults: S3Faults
    objects: dict[str, bytes] = field(init=False)  # of the site, after all builds have ended
    run: Run = field(init=False)
    viewer_code: int = field(init=False)
    viewed: list[bytes] = field(init=False)
    archive: list[bytes] = field(init=False)
    events: list[Event] = field(init=False)  # the archive's

    @property
    def log_was_lost(self) -> bool:
        """Whether a stopped build reports that S3 did not accept its log in time, as on an overloaded machine."""
        return self.run.code == CANCELLED and not self.archive and self.run.said("S3 did not accept it in time")


@dataclass
class Outcome:
    """The results of a scenario."""

    builds: list[ObservedBuild]
    faults: Faults
    stream: list[tuple[str, bytes]]  # id, event


class S3Faults:
    """Loses responses of S3 after it acted, and sends SIGTERM at a request, in the relay of one build."""

    def __init__(self, relay: Relay, scenario: Scenario, build: Build) -> None:
        self.signalled: Future[float | None] = Future()
        self.lost = 0
        self.process: Process | None = None
        self._scene = scenario
        self._build = build
        self._changes = 0
        relay.fault = self._fault

    def no_signal(self) -> None:
        """Record that the build ended before the request at which it was to be stopped."""
        if not self.signalled.done():
            self.signalled.set_result(None)

    def _fault(self, request: Request) -> RequestFault | None:
        if request.method not in {"PUT", "POST", "DELETE"}:
            return None
        self._changes += 1
        if self._changes == self._build.signal_at_request and self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            self.signalled.set_result(time.monotonic())
        rng = random.Random(f"{self._scene.slug}{request.path}{request.query}")
        if request.times > 1 or rng.random() >= self._scene.lost_answers:
            return None
        self.lost += 1
        return cut_after_the_body


class ScenarioRunner:
    """Runs scenarios on its own servers."""

    def __init__(self, program: Program, repositories: Repositories, folder: Path, s3: S3Server) -> None:
        self._program = program
        self._repositories = repositories
        self._folder = folder
        self._s3 = program.client()
        self._s3_port = int(s3.endpoint.rpartition(":")[2])

    @contextmanager
    def run(self, scenario: Scenario) -> Iterator[Outcome]:
        """Run a scenario, and yield its results; its processes exist as long as the context."""
        redis, over = self._program.redis, threading.Event()
        with ExitStack() as stack:
            pool = stack.enter_context(ThreadPoolExecutor())
            stack.callback(over.set)
            relay = stack.enter_context(RedisRelay(redis.port))
            faults = Faults(redis, relay, stack, scenario.slug)
            make_user(redis)
            repositories = [self._repositories.app(build.script) for build in scenario.builds]
            if scenario.published:
                self._publish_before(scenario)
            began = time.monotonic()
            injected = pool.submit(faults.inject, scenario.faults, began, over)
            observed_builds = []
            for build, repository in zip(scenario.builds, repositories, strict=True):
                time.sleep(max(0.0, began + build.starts - time.monotonic()))
                observed_builds.append(self._start(scenario, build, repository, relay.uri, stack, pool))
            for observed in observed_builds:
                observed.ended.result()
            over.set()
            injected.result()
            objects = {path: found["body"] for path, found in self._program.objects(scenario.slug).items()}
            for observed in observed_builds:
                observed.objects = objects
                self._finish(scenario, observed)
            with redis.client() as client:
                entries = client.xrange(f"events:{scenario.slug}")
            yield Outcome(observed_builds, faults, [(place, fields["event"].encode()) for place, fields in entries])

    def _publish_before(self, scenario: Scenario) -> None:
        folder = self._folder / f"{scenario.slug}-before"
        folder.mkdir()
        for path in PLAIN_FILES:
            (folder / path).write_text(f"before {path}\n")
        environment = self._program.environment(None, SLUG=scenario.slug, REDIS_URI=None)
        process = self._program.start(environment, "publish", str(folder))
        output = process.communicate(timeout=MAX_RUN)
        require(process.returncode == 0, f"the earlier site could not be published: {output}")

    def _start(
        self, scenario: Scenario, build: Build, repository: Path, uri: str, stack: ExitStack, pool: ThreadPoolExecutor
    ) -> ObservedBuild:
        variables = {"SLUG": scenario.slug, "BUILD_ID": f"{build.name}-{uuid.uuid4().hex}", "REDIS_URI": uri}
        if not scenario.scripts:
            variables["REDIS_URI"] = uri.replace("//", f"//{NO_SCRIPTS}:any@")
        s3_relay = stack.enter_context(Relay(self._s3_port))
        s3_faults = S3Faults(s3_relay, scenario, build)
        variables["AWS_ENDPOINT_URL_S3"] = f"http://127.0.0.1:{s3_relay.port}"
        running = stack.enter_context(
            self._program.running(repository, **variables, LOG_FORMAT=scenario.log_format, **PLAIN)
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
        arguments = ["logs", scenario.slug, "--build", variables["BUILD_ID"], "--follow", "--json"]
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
        return ObservedBuild(build, variables["BUILD_ID"], running, viewer, file, ended, signalled, s3_faults)

    def _finish(self, scenario: Scenario, observed: ObservedBuild) -> None:
        observed.run = observed.running.end()
        observed.archive = []
        with suppress(self._s3.exceptions.NoSuchKey):
            answer = self._s3.get_object(Bucket="sites", Key=f"__logs/{scenario.slug}/{observed.id}.ndjson")
            observed.archive = answer["Body"].read().splitlines()
        observed.events = [json.loads(line) for line in observed.archive]
        try:
            observed.viewer_code = observed.viewer.wait(60)
        except subprocess.TimeoutExpired:
            observed.viewer_code = -1
        observed.viewed = observed.viewer_file.read_bytes().splitlines()


def wait_for_end(process: Process, seconds: float) -> float:
    with suppress(subprocess.TimeoutExpired):
        process.wait(seconds)
    process.kill()
    return time.monotonic()


def send_signal(running: Running, at: float | None) -> float | None:
    """Send SIGTERM at a time, but not before the first output; return when, or None if the process exited before."""
    if at is None:
        return None
    while time.monotonic() < at or not running.stdout:
        if running.process.poll() is not None:
            return None
        time.sleep(0.01)
    running.process.send_signal(signal.SIGTERM)
    return time.monotonic()


# --- checks --------------------------------------------------------------------------------------------------------------


def check(scenario: Scenario, outcome: Outcome) -> None:
    """Check that a scenario's results keep all promises; raise ViolationError otherwise."""
    for observed in outcome.builds:
        check_end(scenario, observed)
    if any(observed.log_was_lost for observed in outcome.builds):  # there is no archive to compare with
        return
    for observed in outcome.builds:
        check_archive(observed)
        check_viewer(observed)
    codes = [observed.run.code for observed in outcome.builds]
    require(codes != [SUPERSEDED] * len(codes), "every run was superseded")
    for observed in outcome.builds:  # each build had a subscriber
        check_channel(scenario, outcome.builds, observed.run.messages)
    check_stream(outcome)
    check_site(scenario, outcome.builds)


def require(condition: object, sentence: str) -> None:
    if not condition:
        raise ViolationError(sentence)


def check_end(scenario: Scenario, observed: ObservedBuild) -> None:
    signalled, name = observed.signalled.result(), observed.build.name
    allowed = (
        {SUCCEEDED} | ({SUPERSEDED} if len(scenario.builds) > 1 else set()) | ({CANCELLED} if signalled else set())
    )
    require(observed.run.code in allowed, f"{name}: it ended with {observed.run.code}")
    require(not observed.run.stderr, f"{name}: it wrote to stderr")
    if signalled:
        took = observed.ended.result() - signalled
        require(took < AFTER_SIGNAL, f"{name}: it ended {took:.1f} s after the signal")


def check_archive(observed: ObservedBuild) -> None:
    name, events, code = observed.build.name, observed.events, observed.run.code
    require(events, f"{name}: there is no archive")
    require([event["seq"] for event in events] == list(range(1, len(events) + 1)), f"{name}: the archive has a gap")
    require([event["type"] for event in events].index("result") == len(events) - 1, f"{name}: the result is not last")
    result = events[-1]
    require((result["status"], result["exit_code"]) == (STATUS[code], code), f"{name}: the result is {result}")
    for stream in ("stdout", "stderr"):
        # Git writes to stderr as well.
        lines = [e["log"] for e in events if e.get("stream") == stream and e["stage"] == "build"]
        expected = observed.build.lines(stream)
        if (
            code != SUCCEEDED and lines and expected[len(lines) - 1 :][:1]
        ):  # a program can be killed in the middle of a line
            expected = [*expected[: len(lines) - 1], expected[len(lines) - 1][: len(lines[-1])]]
        whole = lines == expected[: None if code == SUCCEEDED else len(lines)]
        require(
            whole, f"{name}: {stream} is not in the archive as it was printed, {len(lines)} of {len(expected)} lines"
        )


def check_viewer(observed: ObservedBuild) -> None:
    name, viewed, archive = observed.build.name, observed.viewed, observed.archive
    wrong = next((seq for seq, pair in enumerate(zip(viewed, archive, strict=False), 1) if pair[0] != pair[1]), None)
    require(
        viewed == archive,
        f"{name}: `logs --follow` ended with {observed.viewer_code} and showed {len(viewed)} of {len(archive)} events"
        + (f"; event {wrong} is not the archive's" if wrong else ""),
    )
    require(observed.viewer_code == observed.run.code, f"{name}: `logs --follow` ended with {observed.viewer_code}")


def check_channel(scenario: Scenario, observed_builds: Sequence[ObservedBuild], messages: Sequence[str]) -> None:
    """Check that no message is duplicated, out of order, or from another build."""
    if scenario.log_format == "json":
        for observed in observed_builds:
            lines = iter([event for event in observed.events if "log" in event])
            for event in map(json.loads, messages):
                require(
                    event["build"] != observed.id or event in lines,
                    f"{observed.build.name}: event {event['seq']} is on the channel twice or out of order",
                )
        return
    for observed in observed_builds:
        texts = iter([without_color(event["log"]) for event in observed.events if "log" in event])
        for message in messages:
            # The runner's own messages don't show which of two builds they are from.
            if len(observed_builds) == 1 or message.startswith(f"{observed.build.name} std"):
                require(
                    message in texts, f"{observed.build.name}: {message[:40]!r} is on the channel twice or out of order"
                )


def check_stream(outcome: Outcome) -> None:
    """Check that the stream is from a single build, starts with its first event, has no gap, and is complete if possible."""
    places = [place.split("-") for place, _ in outcome.stream]
    require(len({run for run, _ in places}) <= 1, "the stream has the numbers of two builds")
    require([int(seq) for _, seq in places] == list(range(1, len(places) + 1)), "the stream has a gap")
    events = [event for _, event in outcome.stream]
    owners = [observed for observed in outcome.builds if events and json.loads(events[0])["build"] == observed.id]
    require(len(owners) == (1 if events else 0), "the stream is not of this run")
    for observed in owners:
        name = observed.build.name
        require(observed.run.code != SUPERSEDED, f"{name}: the stream is that of a run that was superseded")
        require(events == observed.archive[: len(events)], f"{name}: stream and archive differ")
    # A missing stream was that of the last build to start, which had removed the events of the build before it.
    rest = sorted(
        (observed for observed in outcome.builds if observed.run.code != SUPERSEDED),
        key=lambda observed: str(json.loads(observed.archive[0])["ts"]),
    )
    for observed in owners or rest[-1:]:
        name, whole = observed.build.name, len(events) == len(observed.archive)
        told = "were not delivered" in observed.run.stdout
        in_time = observed.ended.result() - outcome.faults.last_ended >= TIME_TO_DELIVER
        require(not (told and in_time), f"{name}: it gave up although Redis was there")
        require(
            whole or told or observed.id in outcome.faults.ended_before_loss,
            f"{name}: the stream has {len(events)} of {len(observed.archive)} events, without a warning",
        )


def check_site(scenario: Scenario, observed_builds: Sequence[ObservedBuild]) -> None:
    """Check that the site is that of the last published build, except for files that a later, stopped build reports."""
    objects = observed_builds[0].objects
    observed_builds = sorted(observed_builds, key=lambda observed: str(observed.events[0]["ts"]))
    live = {path: f"before {path}\n".encode() for path in PLAIN_FILES} if scenario.published else {}
    kept = dict(live)
    for observed in observed_builds:
        site = {path: f"{text}\n".encode() for path, text in observed.build.site.items()}
        if observed.build.large:
            site["large.bin"] = bytes(LARGE)
        if observed.run.code == SUCCEEDED:
            live, kept = site, {**kept, **site}
        else:  # hashed assets that it has uploaded stay for ASSET_GRACE, like those of earlier builds
            kept = {**kept, **site}
    last = observed_builds[-1]
    if last.run.code == CANCELLED:
        reason = last.events[-1].get("reason", "")
        for path in live:
            new = objects.get(path) != live[path]
            require(
                not new or path in reason or "whole site" in reason, f"{path} is new, which is not reported: {reason}"
            )
        return
    for path, body in live.items():
        require(objects.get(path) == body, f"{path} of the site is not the published build's")
    for path in objects.keys() - live.keys():
        require(path.startswith("assets/") and path in kept, f"{path} is left in the site of a later build")


# --- the soak ------------------------------------------------------------------------------------------------------------


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10, help="duration (default: 10)")
    parser.add_argument("--seed", type=int, help="seed of all scenarios (default: a random one)")
    parser.add_argument("--first", type=int, default=1, help="scenario to begin with, to see one again (default: 1)")
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
    """Run scenarios for some minutes, starting with scenario `number`; return the exit code."""
    until = time.monotonic() + minutes * 60
    counts: Counter[str] = Counter()
    with ExitStack() as stack:
        s3 = stack.enter_context(s3_server())
        s3.make_bucket("sites")
        long = None
        pool = stack.enter_context(ThreadPoolExecutor(1))
        if minutes >= FROM_MINUTES:
            long = pool.submit(
                run_scenario,
                start_runner(stack, s3, folder / "long"),
                plan_long_outage(f"{seed}"),
                folder,
                "away",
                counts,
            )
        short = start_runner(stack, s3, folder / "short")
        while time.monotonic() < until:
            if not run_scenario(
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


def start_runner(stack: ExitStack, s3: S3Server, folder: Path) -> ScenarioRunner:
    folder.mkdir(mode=0o755)
    redis = Redis(free_port(), folder)
    stack.callback(redis.kill)
    return ScenarioRunner(Program(redis, s3, folder), Repositories(folder), folder, s3)


def run_scenario(
    runner: ScenarioRunner, scenario: Scenario, folder: Path, name: str, counts: Counter[str], again: str = ""
) -> bool:
    """Run a scenario, and return whether it kept all promises."""
    with runner.run(scenario) as outcome:
        signals = sum(observed.signalled.result() is not None for observed in outcome.builds)
        lost = sum(observed.s3_faults.lost for observed in outcome.builds)
        counts.update(
            {
                "builds": len(outcome.builds),
                "faults": len(outcome.faults.done) + signals + lost,
                "answers of S3 lost": lost,
                "signals": signals,
                "signals while publishing": sum(
                    observed.build.signal_at_request is not None and observed.signalled.result() is not None
                    for observed in outcome.builds
                ),
                "logs reported as lost": sum(observed.log_was_lost for observed in outcome.builds),
                "stuck children": sum(bool(observed.build.stuck) for observed in outcome.builds),
            }
        )
        try:
            check(scenario, outcome)
        except ViolationError as violation:
            keep(folder / EVIDENCE, scenario, outcome)
            print(f"scenario {name}: {violation}\n  {describe(scenario, outcome)}")
            print(f"  planned: {'; '.join(map(str, scenario.faults))}\n  again: {again}")
            print(f"  evidence: {folder / EVIDENCE}", flush=True)
            return False
        print(f"{name}  {describe(scenario, outcome)}", flush=True)
    return True


def describe(scenario: Scenario, outcome: Outcome) -> str:
    ends = [
        f"{observed.build.name} {STATUS.get(observed.run.code, observed.run.code)}, {len(observed.archive):,} events"
        + (", not all delivered" if "were not delivered" in observed.run.stdout else "")
        for observed in outcome.builds
    ]
    signals = [
        f"SIGTERM to {observed.build.name} at "
        + (
            f"request {observed.build.signal_at_request}"
            if observed.build.signal_at_request
            else f"{observed.build.starts + (observed.build.signal or 0):.1f} s"
        )
        for observed in outcome.builds
        if observed.signalled.result()
    ]
    ways = [] if scenario.scripts else ["no scripts"]
    lost = sum(observed.s3_faults.lost for observed in outcome.builds)
    ways += [f"{lost} answers of S3 lost"] if lost else []
    ways += [
        f"{observed.build.name} leaves {observed.build.stuck!r}" for observed in outcome.builds if observed.build.stuck
    ]
    return "; ".join([*ends, f"stream {len(outcome.stream):,}", *ways, *signals, *map(str, outcome.faults.done)])


def keep(folder: Path, scenario: Scenario, outcome: Outcome) -> None:
    folder.mkdir()

    def write(name: str, lines: Sequence[str | bytes]) -> None:
        texts = [line.decode() if isinstance(line, bytes) else line for line in lines]
        (folder / name).write_text("".join(f"{text}\n" for text in texts))

    write("scenario", [str(scenario)])
    write("stream", [f"{place} {event.decode()}" for place, event in outcome.stream])
    for observed in outcome.builds:
        name = observed.build.name
        write(f"{name}.archive", observed.archive)
        write(f"{name}.viewer", observed.viewed)
        write(f"{name}.viewer-stderr", observed.viewer_file.with_suffix(".viewer-stderr").read_bytes().splitlines())
        write(f"{name}.channel", observed.run.messages)
        write(f"{name}.console", observed.run.stdout.splitlines())
        write(f"{name}.stderr", observed.run.stderr.splitlines())


if __name__ == "__main__":
    sys.exit(main())
