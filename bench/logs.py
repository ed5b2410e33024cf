"""Measure the cost and the latency of a build's log: `make bench-logs`.

The servers are started on loopback. Each figure is the median of several rounds, with minimum and maximum; ratios compare
commands that took turns. Figures are only printed; the exit code is 1 only if a command failed, or if a line was missing,
duplicated or out of order.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
import uuid
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import Any

from redis import Redis as Client

from support.harness import PLAIN, Program, Redis, Repositories, free_port
from support.s3_server import s3_server

PEERS = Path(__file__).parent / "peers"
PARTS = ("flood", "latency", "memory", "cpu", "follow", "redact")
RUNNER = ("-m", "buildrunner")

LINES = 200_000
LINE = "line {:06} " + "." * 68  # 80 bytes
PEER_LINES = 10_000  # takes 2 s; the rate does not depend on the number
# By default, only the first 32 MB of events are sent live, and the flood is about 50 MB. With this limit, all lines are sent live.
ALL_LIVE = {"LOG_MAX_BYTES": str(160 * 1024 * 1024)}
SAMPLED_LINES = 500_000
ALL_LIVE_SAMPLED = {"LOG_MAX_BYTES": str(400 * 1024 * 1024)}
# Node.js prints line by line, like tools that build sites; seq prints as fast as possible, unlike any build.
NODE = (
    "node -e \"const d = '.'.repeat(68); for (let i = 1; i <= {}; i++)"
    " console.log('line ' + String(i).padStart(6, '0') + ' ' + d)\""
)
SEQ = f"seq -f 'line %06.0f {'.' * 68}' 1 {{}}"
MAKE_SITE = "mkdir dist; echo 1 >dist/index.html"

PACED_SECONDS = 10
PACED_RATE = 1000  # lines/s
# Each line contains the time when it was written (ms since the epoch, with µs); process.stdout is synchronous for pipes.
PACED = f"""
const start = performance.now(), total = {PACED_RATE * PACED_SECONDS};
let written = 0;
(function tick() {{
  const due = Math.min(total, (performance.now() - start) * {PACED_RATE / 1000});
  for (; written < due; written++)
    process.stdout.write('at ' + (performance.timeOrigin + performance.now()).toFixed(3) + ' ' + '.'.repeat(60) + '\\n');
  if (written < total) setTimeout(tick, 1);
}})();
"""
GIGABYTE = 10**9

BUILDS = 1000
FOLLOW_RATE = 10_000  # events/s of all builds in total
FOLLOW_SECONDS = 10


class DidNotRunError(Exception):
    """A measured command failed, or lost, duplicated or reordered a line."""


@dataclass(frozen=True, slots=True)
class Bench:
    """The servers, programs and repositories of the measurements."""

    folder: Path
    program: Program
    repositories: Repositories
    rounds: int

    @property
    def redis(self) -> Redis:
        return self.program.redis


@dataclass(frozen=True, slots=True)
class Ran:
    """The measured costs of one build."""

    begun: float  # start of the build stage, seconds since the epoch
    stage: float  # duration of the build stage, seconds
    cpu: float  # CPU time of the runner without its child processes, seconds
    peak: float  # peak memory of the runner, MB
    console: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of flood (default: 3); latency has 2")
    options = parser.parse_args()
    if not set(options.parts) <= set(PARTS):
        parser.error(f"the parts are {', '.join(PARTS)}")
    print(describe(), flush=True)
    measures: Mapping[str, Callable[[Bench], None]] = {
        "flood": measure_flood,
        "latency": measure_latency,
        "memory": measure_memory,
        "cpu": measure_cpu,
        "follow": measure_follow,
        "redact": measure_redaction,
    }
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="buildrunner-bench-")))
        folder.chmod(0o755)
        s3 = stack.enter_context(s3_server())
        for bucket in ("sites", "state"):
            s3.make_bucket(bucket)
        redis = Redis(free_port(), folder)
        stack.callback(redis.kill)
        bench = Bench(folder, Program(redis, s3, folder), Repositories(folder), options.rounds)
        try:
            for part in options.parts:
                measures[part](bench)
        except DidNotRunError as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
    return 0


def describe() -> str:
    import redis

    node = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout.strip()
    return (
        f"{datetime.now().astimezone():%Y-%m-%d}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f}), Python"
        f" {sys.version.split()[0]}, redis-py {redis.__version__} with hiredis, node {node}"
    )


# --- redact --------------------------------------------------------------------------------------------------------------

SECRETS = (
    "ghp_Zk3vT9qLw71xNnB40sYcUe82",
    "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "rediss://default:Tr0ub%264dor@cache.example.com:6379/0",
    "npm_0123456789abcdefghijklmnopqrstuvwxyz",
    "tok/Zk3+vT9q?Lw71~xN&B40=",
)


def measure_redaction(bench: Bench) -> None:
    """Print the speed of redacting five secrets in all their forms, compared with a single alternation in `re`."""
    from buildrunner.redaction import REDACTED, Redactor

    redactor = Redactor(SECRETS)
    peer = re.compile("|".join(map(re.escape, redactor._needles)))
    silent = "".join(f"{LINE.format(number)}\n" for number in range(800))[:65536]
    wrapped = redactor.wrapped_base64()
    blocks = {"without a hit": silent, "with a hit in each kB": with_hits(silent)}
    print(
        f"\n| text redacted, MB/s; {len(SECRETS)} secrets in {len(redactor._needles)} forms | here | one alternation | ratio |"
    )
    print("|---|---|---|---|")
    for name, text in blocks.items():
        assert redactor.redact(text).count(REDACTED) == text.count(SECRETS[0])
        ours, theirs = list[float](), list[float]()
        for _ in range(bench.rounds * 2):
            ours.append(speed(lambda block: redactor.redact(wrapped.redact(block)), text, 200))
            theirs.append(speed(lambda block: peer.sub(REDACTED, block), text, 10))
        ratio = median(a / b for a, b in zip(ours, theirs, strict=True))
        print(f"| {name} | {spread(ours, '.0f')} | {spread(theirs, '.1f')} | **{ratio:.1f}** |", flush=True)
    print("goal: 50 MB/s")


def with_hits(text: str) -> str:
    return "".join(f"{text[start : start + 1000]}{SECRETS[0]}" for start in range(0, len(text), 1000))


def speed(redact: Callable[[str], str], text: str, times: int) -> float:
    begun = time.perf_counter()
    for _ in range(times):
        redact(text)
    return len(text) * times / 1e6 / (time.perf_counter() - begun)


# --- flood ---------------------------------------------------------------------------------------------------------------


def measure_flood(bench: Bench) -> None:
    """Print how much a flood of lines slows down its build stage, and the rate at which a subscriber gets the lines."""
    print(f"\n| {LINES:,} lines of 80 bytes; median (min to max) of {bench.rounds} | Node, console.log | seq |")
    print("|---|---|---|")
    columns = [flood(bench, command) for command in (NODE, SEQ)]
    for row in zip(*columns, strict=True):
        print(f"| {row[0][0]} | {' | '.join(cell for _, cell in row)} |")
    print(
        f"goals: at most 1.5 times the stage to /dev/null; 30,000 lines/s; 8 times the peer, better 12."
        f" LOG_MAX_BYTES={ALL_LIVE['LOG_MAX_BYTES']}, so that all lines are sent live; the peer sends {PEER_LINES:,} lines.",
        flush=True,
    )


def flood(bench: Bench, command: str) -> list[tuple[str, str]]:
    loud = bench.repositories.app(f"{command.format(LINES)}; {MAKE_SITE}")
    silent = bench.repositories.app(f"{command.format(LINES)} >/dev/null; {MAKE_SITE}")
    expected = [LINE.format(number) for number in range(1, LINES + 1)]
    stages, silents, rates, peers = [], [], [], []
    for number in range(-1, bench.rounds):  # one uncounted round
        runs: list[Callable[[], None]] = []

        def with_log(counted: bool = number >= 0) -> None:
            ran, arrived = run_with_subscriber(bench, loud, expected, **ALL_LIVE)
            if counted:
                stages.append(ran.stage)
                rates.append(LINES / max(ran.stage, arrived[-1] - ran.begun))

        def without_log(counted: bool = number >= 0) -> None:
            ran = run(bench, silent, f"bench-{uuid.uuid4().hex[:12]}", **ALL_LIVE)
            if counted:
                silents.append(ran.stage)

        def with_peer(counted: bool = number >= 0) -> None:
            rate = run_peer(bench, command.format(PEER_LINES), expected[:PEER_LINES])
            if counted:
                peers.append(rate)

        runs = [with_log, without_log, with_peer]
        for one in runs if number % 2 else reversed(runs):
            one()
    ratios = [a / b for a, b in zip(stages, silents, strict=True)]
    over_peer = [a / b for a, b in zip(rates, peers, strict=True)]
    return [
        ("build stage, s", spread(stages, ".2f")),
        ("the same to /dev/null, s", spread(silents, ".2f")),
        ("**ratio**, by pairs", spread(ratios, ".2f")),
        ("delivered to a subscriber, lines/s", spread(rates, ",.0f")),
        ("one awaited PUBLISH a line, lines/s", spread(peers, ",.0f")),
        ("**ratio**, by pairs", spread(over_peer, ".1f")),
    ]


def run_peer(bench: Bench, command: str, expected: Sequence[str]) -> float:
    """Return the peer's rate in lines/s, from the start of the command until the last line has arrived."""
    channel = f"peer:{uuid.uuid4().hex[:12]}"
    with subscriber(bench.redis.uri, channel) as received:
        peer = [sys.executable, "-P", str(PEERS / "publish_each_line.py"), bench.redis.uri, channel, command]
        ended = subprocess.run(peer, capture_output=True, text=True, check=False)
        if ended.returncode:
            raise DidNotRunError(f"the peer failed:\n{ended.stderr}")
        messages, arrived = received()
    check_lines(messages, expected)
    return len(expected) / (arrived[-1] - float(ended.stdout))


def check_lines(messages: Sequence[str], expected: Sequence[str]) -> None:
    """Check that every line arrived once and in order; other messages are from the runner itself."""
    lines = [message for message in messages if message.startswith("line ")]
    if lines != expected:
        at = next((n for n, (a, b) in enumerate(zip(lines, expected, strict=False)) if a != b), len(lines))
        raise DidNotRunError(f"{len(lines):,} of {len(expected):,} lines arrived; the first wrong one is {at + 1:,}")


# --- latency -------------------------------------------------------------------------------------------------------------


def measure_latency(bench: Bench) -> None:
    repository = bench.repositories.app(f"node paced.js; {MAKE_SITE}", **{"paced.js": PACED})
    print(f"\n| write to subscriber at {PACED_RATE:,} lines/s for {PACED_SECONDS} s, ms | 50% | 99% | max |")
    print("|---|---|---|---|")
    for number in range(2):
        slug = f"bench-{uuid.uuid4().hex[:12]}"
        with subscriber(bench.redis.uri, f"logs:{slug}") as received:
            run(bench, repository, slug)
            messages, arrived = received()
        written = [(float(m.split()[1]), at) for m, at in zip(messages, arrived, strict=True) if m.startswith("at ")]
        if len(written) != PACED_RATE * PACED_SECONDS or written != sorted(written):
            raise DidNotRunError(f"{len(written):,} lines arrived, or they were out of order")
        print(row(f"round {number + 1}", [at * 1000 - ms for ms, at in written]), flush=True)
    print("goal: 99% within 120 ms")


def row(name: str, milliseconds: Sequence[float]) -> str:
    ordered = sorted(milliseconds)
    return f"| {name} | {median(ordered):.0f} | {ordered[len(ordered) * 99 // 100]:.0f} | {ordered[-1]:.0f} |"


# --- memory --------------------------------------------------------------------------------------------------------------


def measure_memory(bench: Bench) -> None:
    output = f"yes {'.' * 79} | head -c {GIGABYTE}; {MAKE_SITE}"
    repository = bench.repositories.app(output)
    silent = bench.repositories.app(f"{{ {output.replace(';', ' >/dev/null;', 1)}; }}")
    slugs = [f"bench-{uuid.uuid4().hex[:12]}" for _ in range(2)]
    away = {"REDIS_URI": f"redis://127.0.0.1:{free_port()}"}
    ran, idle = (run(bench, source, slug, **away) for source, slug in zip((repository, silent), slugs, strict=True))
    if "were dropped here" not in ran.console:
        raise DidNotRunError("no line was dropped, so the output was not large enough")
    print("\n| the runner, 1 GB of output, no Redis at REDIS_URI | |\n|---|---|")
    print(f"| **peak memory, MB** (goal: under 100) | {ran.peak:.0f} |")
    print(f"| the same with the output to /dev/null, MB | {idle.peak:.0f} |")
    print(f"| build stage, s | {ran.stage:.1f} |")
    million = GIGABYTE / 80 / 1e6
    print(
        f"| CPU s per million lines, all but the first go into the ring | {(ran.cpu - idle.cpu) / million:.2f} |",
        flush=True,
    )


# --- CPU -----------------------------------------------------------------------------------------------------------------


def measure_cpu(bench: Bench) -> None:
    """Print the runner's CPU time per million lines by task, and the time for only reading and splitting lines."""
    million = SAMPLED_LINES / 1e6
    seq = SEQ.format(SAMPLED_LINES)
    loud, silent = (bench.repositories.app(f"{seq}{to}; {MAKE_SITE}") for to in ("", " >/dev/null"))
    slugs = [f"bench-{uuid.uuid4().hex[:12]}" for _ in range(3)]
    base = run(bench, silent, slugs[0], **ALL_LIVE_SAMPLED).cpu
    cpu = [run(bench, loud, slug, **ALL_LIVE_SAMPLED).cpu - base for slug in slugs[1:]]
    counts = sample(bench, loud)
    split, decoded = (floor(seq, decode=decode) for decode in (False, True))
    print(
        f"\n| the runner's own CPU, {SAMPLED_LINES:,} lines of 80 bytes, all delivered | s per million lines | share |"
    )
    print("|---|---|---|")
    used = median(cpu) / million
    print(f"| **all**, less what a run without output takes ({base:.2f} s) | {used:.2f} | |")
    once = "imports, once per build"
    total = sum(count for name, count in counts.items() if name != once)
    for name, count in sorted(counts.items(), key=lambda item: -item[1]):
        if name != once:
            print(f"| · {name} | {used * count / total:.2f} | {count / total:.0%} |")
    print(
        f"| the minimum: reading 64 KiB and splitting it, in Python | {split / million:.2f} | {split / million / used:.0%} |"
    )
    print(f"| · and decoding UTF-8 | {decoded / million:.2f} | {decoded / million / used:.0%} |", flush=True)


def sample(bench: Bench, repository: Path) -> dict[str, int]:
    """Return the number of samples by task in one more build (see peers/sampled.py)."""
    file = bench.folder / f"samples-{uuid.uuid4().hex[:8]}"
    command = (str(PEERS / "sampled.py"), str(file))
    run(bench, repository, f"bench-{uuid.uuid4().hex[:12]}", command=command, **ALL_LIVE_SAMPLED)
    return dict(json.loads(file.read_text()))


def floor(command: str, *, decode: bool) -> float:
    """Return the CPU seconds of reading a command's output in chunks and splitting it into lines."""
    with subprocess.Popen(shlex.split(command), stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        count, rest = 0, b""
        began = time.process_time()
        while data := os.read(process.stdout.fileno(), 65536):
            block, _, rest = (rest + data).rpartition(b"\n")
            count += len(block.decode("utf-8", "replace").split("\n") if decode else block.split(b"\n"))
        took = time.process_time() - began
    if count != SAMPLED_LINES:
        raise DidNotRunError(f"{count:,} lines were read")
    return took


# --- one connection, many builds -----------------------------------------------------------------------------------------


def measure_follow(bench: Bench) -> None:
    """Measure one XREAD that follows 1,000 streams, to which events are written in turn."""
    streams = [f"events:follow-{number}" for number in range(BUILDS)]
    total = FOLLOW_RATE * FOLLOW_SECONDS // BUILDS  # of each
    with bench.redis.client() as client:
        client.delete(*streams)
    with helper(write_streams, bench.redis.uri, streams, total) as writer, bench.redis.client() as client:
        writer.send("go")
        latencies, calls, took, cpu = follow(client, streams, total)
    print(f"\n| one connection follows {BUILDS:,} builds, {FOLLOW_RATE:,} events/s in all, ms | 50% | 99% | max |")
    print("|---|---|---|---|")
    print(row("write to reader", latencies))
    print(
        f"{len(latencies):,} events, each once and in order, at {len(latencies) / took:,.0f} events/s; {calls:,} calls of XREAD;"
        f" the reader used {cpu / took:.0%} of a core."
    )
    with bench.redis.client() as client:
        began = time.monotonic()
        again, calls, _, _ = follow(client, streams, total)
        took = time.monotonic() - began
        client.delete(*streams)
    print(f"All events read again from the start: {len(again) / took:,.0f} events/s, {calls:,} calls.", flush=True)


def follow(client: Any, streams: Sequence[str], total: int) -> tuple[list[float], int, float, float]:
    """Read all events of all streams; return their ages on arrival (ms), the number of calls, and wall and CPU seconds."""
    last: dict[str, str] = dict.fromkeys(streams, "0-0")
    seen = dict.fromkeys(streams, 0)
    ages: list[float] = []
    calls = 0
    began = cpu = 0.0
    while len(ages) < total * len(streams):
        answer = client.xread(last, count=10, block=10_000)
        now = time.time()
        if not calls:
            began, cpu = now, time.process_time()
        calls += 1
        if not answer:
            raise DidNotRunError(f"{len(ages):,} events arrived, and then none for 10 s")
        for stream, entries in answer:
            for place, fields in entries:
                event = json.loads(fields["event"])
                if event["seq"] != seen[stream] + 1 or event["build"] != stream:
                    raise DidNotRunError(f"event {event['seq']} arrived after {seen[stream]} in {stream}")
                seen[stream] = event["seq"]
                last[stream] = place
                ages.append(now * 1000 - event["at"])
    return ages, calls, time.time() - began, time.process_time() - cpu


def write_streams(uri: str, streams: Sequence[str], total: int, parent: Connection) -> None:
    """Write `total` events to each stream in turn at FOLLOW_RATE; runs in a separate process."""
    with Client.from_url(uri, protocol=2) as client:
        parent.send("ready")
        parent.recv()
        time.sleep(0.2)  # until the reader waits
        began, written = time.monotonic(), 0
        while written < total * len(streams):
            due = min(total * len(streams), int((time.monotonic() - began) * FOLLOW_RATE))
            pipeline = client.pipeline(transaction=False)
            at = time.time() * 1000
            for number in range(written, min(due, written + 1000)):
                stream, seq = streams[number % len(streams)], number // len(streams) + 1
                event = {"v": 1, "build": stream, "seq": seq, "type": "log", "stage": "build", "stream": "stdout"}
                pipeline.xadd(
                    stream, {"event": json.dumps({**event, "log": LINE.format(seq), "at": at})}, id=f"1-{seq}"
                )
            written += len(pipeline)
            pipeline.execute()
            time.sleep(0.005)


# --- processes -----------------------------------------------------------------------------------------------------------


def run(bench: Bench, repository: Path, slug: str, *, command: Sequence[str] = RUNNER, **variables: str) -> Ran:
    """Run a build that has to succeed, with its console in a file, as with a log driver."""
    environment = bench.program.environment(repository, **PLAIN, SLUG=slug, **variables)
    console = bench.folder / f"{slug}.console"
    peak = 0
    with console.open("wb") as file:
        process = subprocess.Popen(
            [sys.executable, "-P", *command],
            env=environment,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=file,
        )
    try:
        while os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            if found := re.search(r"VmHWM:\s+(\d+) kB", Path(f"/proc/{process.pid}/status").read_text()):
                peak = max(peak, int(found[1]))
            time.sleep(0.02)
        # Until it is reaped, /proc shows the CPU time of an ended process (proc(5): utime and stime, fields 14 and 15).
        fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    finally:
        process.kill()
        code = process.wait()
    said = console.read_text(errors="replace")
    console.unlink()
    if code:
        raise DidNotRunError(f"buildrunner exited with {code}:\n{said[-2000:]}")
    begun, stage = build_stage(bench, slug, in_stream="REDIS_URI" not in variables)
    cpu = (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
    return Ran(begun, stage, cpu, peak * 1.024 / 1000, said)


def build_stage(bench: Bench, slug: str, *, in_stream: bool) -> tuple[float, float]:
    """Return the start and duration of the build stage from the archive; compare it with the stream, and remove both."""
    s3 = bench.program.client()
    (entry,) = s3.list_objects_v2(Bucket="sites", Prefix=f"__logs/{slug}/")["Contents"]
    body = s3.get_object(Bucket="sites", Key=entry["Key"])["Body"].read()
    events = body.splitlines()
    stages = [json.loads(line) for line in events if b'"type":"stage","stage":"build"' in line]
    s3.delete_object(Bucket="sites", Key=entry["Key"])
    with bench.redis.client() as client:
        if in_stream and client.xlen(f"events:{slug}") != len(events):
            raise DidNotRunError(f"the stream does not have the {len(events):,} events of the archive")
        client.unlink(f"events:{slug}")
    started, ended = stages
    return datetime.fromisoformat(started["ts"]).timestamp(), ended["seconds"]


def run_with_subscriber(
    bench: Bench, repository: Path, expected: Sequence[str], **variables: str
) -> tuple[Ran, Sequence[float]]:
    """Run a build with a subscriber; return its costs, and when each line arrived."""
    slug = f"bench-{uuid.uuid4().hex[:12]}"
    with subscriber(bench.redis.uri, f"logs:{slug}") as received:
        ran = run(bench, repository, slug, **variables)
        messages, arrived = received()
    check_lines(messages, expected)
    return ran, [at for message, at in zip(messages, arrived, strict=True) if message.startswith("line ")]


@contextmanager
def subscriber(uri: str, channel: str) -> Iterator[Callable[[], tuple[list[str], Sequence[float]]]]:
    """Subscribe to a channel in a separate process until `Done`; yield a function that returns all messages and their times."""
    with helper(listen, uri, channel) as connection:

        def received() -> tuple[list[str], Sequence[float]]:
            if not connection.poll(30):
                raise DidNotRunError("the subscriber did not see the end word")
            messages, arrived = connection.recv()
            return messages, arrived

        yield received


def listen(uri: str, channel: str, parent: Connection) -> None:
    messages: list[str] = []
    arrived = array("d")
    with Client.from_url(uri, decode_responses=True, protocol=2) as client, client.pubsub() as pubsub:
        pubsub.subscribe(channel)
        for message in pubsub.listen():
            if message["type"] == "subscribe":
                parent.send("ready")
                continue
            arrived.append(time.time())
            messages.append(message["data"])
            if message["data"] == "Done":
                break
    parent.send((messages, arrived))


@contextmanager
def helper(work: Callable[..., None], *arguments: object) -> Iterator[Connection]:
    """Start a process that runs `work`, yield a connection to it once it is ready, and kill it at the end."""
    processes = multiprocessing.get_context("spawn")
    ours, theirs = processes.Pipe()
    process = processes.Process(target=work, args=(*arguments, theirs), daemon=True)
    process.start()
    theirs.close()
    try:
        with suppress(EOFError):
            if ours.poll(30) and ours.recv() == "ready":
                yield ours
                return
        raise DidNotRunError(f"{work.__name__} did not start")
    finally:
        process.kill()
        process.join()
        ours.close()


def spread(values: Sequence[float], form: str) -> str:
    return f"{median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


if __name__ == "__main__":
    sys.exit(main())
