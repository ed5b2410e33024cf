"""Delivery to Redis while something is wrong with it, and the order of a run's last moments. Each fault is a real one."""

from __future__ import annotations

import itertools
import re
import signal
import socket
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import anyio
import pytest

from buildrunner.events.journal import Journal
from buildrunner.events.lines import without_color
from buildrunner.events.sinks.redis.publisher import Publisher
from buildrunner.redaction import Redactor
from support.harness import PLAIN, Event, Program, Redis, Repositories, Run, Running, Subscriber, free_port, wait_for
from support.redis_relay import RedisRelay
from support.relay import Relay
from support.s3_server import S3Server
from support.warm import WarmProgram

# What Redis refuses to the run: without scripts delivery goes another way, which has to keep the same promises.
WITH_AND_WITHOUT_SCRIPTS = pytest.mark.parametrize("refused", ["", "-@scripting"])


class PacedBuild:
    """A build that prints numbered lines in three parts, and before the second and the third waits for the test.

    A part is more than the pipe and the batch that is on its way can hold: so a part that has been printed while Redis is
    in trouble is the proof that the build does not wait for it.
    """

    PARTS = 3

    def __init__(self, folder: Path, *, lines: int = 2000, padding: int = 90) -> None:
        self._lines = lines
        self._padding = "." * padding
        self._gates = folder / f"gates-{uuid.uuid4().hex[:12]}"
        self._gates.mkdir()
        self._gates.chmod(0o777)
        parts = "".join(
            f"until [ -e {self._gates}/go-{part} ]; do sleep 0.02; done; began=$(date +%s%3N);"
            f" seq -f 'line %06.0f {self._padding}' {lines * (part - 1) + 1} {lines * part};"
            f" echo part {part} took $(($(date +%s%3N) - began)) ms; : >{self._gates}/printed-{part}\n"
            for part in range(1, self.PARTS + 1)
        )
        self.script = f"{parts}mkdir dist; echo 1 >dist/index.html"
        self.go(1)

    def go(self, part: int) -> None:
        (self._gates / f"go-{part}").touch()

    def wait(self, part: int) -> None:
        wait_for((self._gates / f"printed-{part}").exists, f"part {part} to be printed")

    def last_line(self, part: int) -> str:
        return f"line {self._lines * part:06} {self._padding}"

    @property
    def lines(self) -> list[str]:
        return [f"line {number:06} {self._padding}" for number in range(1, self._lines * self.PARTS + 1)]


@pytest.fixture
def build(open_folder: Path) -> PacedBuild:
    return PacedBuild(open_folder)


@pytest.fixture
def relay(own_redis: Redis) -> Iterator[RedisRelay]:
    with RedisRelay(own_redis.port) as relay:
        yield relay


@pytest.fixture
def slow_s3(s3: S3Server) -> Iterator[Relay]:
    with Relay(urlsplit(s3.endpoint).port or 0) as relay:
        yield relay


@pytest.fixture
def own_program(program: Program, own_redis: Redis) -> Program:
    return WarmProgram(own_redis, program.s3, program.folder)


def info(redis: Redis, section: str) -> dict[str, Any]:
    with redis.client() as client:
        return dict(client.info(section))


def set_memory(redis: Redis, *, room: int | None, policy: str = "noeviction") -> None:
    """Let the server have so much more memory than it uses (bytes); None sets no limit."""
    with redis.client() as client:
        used = int(client.info("memory")["used_memory"])
        client.config_set("maxmemory-policy", policy)
        client.config_set("maxmemory", 0 if room is None else max(1, used + room))


def limited(redis: Redis, port: int, refused: str) -> str:
    """Make a user who may do everything but what is refused, such as `-@scripting`; give its address, by that port."""
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "limited", "on", ">pass", "~*", "&*", "+@all", *refused.split())
    return f"redis://limited:pass@127.0.0.1:{port}"


def refusals(redis: Redis) -> set[str]:
    """Return the commands that the server refused to that user."""
    with redis.client() as client:
        return {entry["object"] for entry in client.acl_log() if entry["username"] == "limited"}


def has_line(redis: Redis, slug: str, line: str) -> bool:
    return any(event.get("log") == line for event in redis.events(slug))


def wait_for_line(redis: Redis, slug: str, line: str) -> None:
    wait_for(lambda: has_line(redis, slug, line), "the line to be in the stream")


@contextmanager
def half_way(
    program: Program, repositories: Repositories, build: PacedBuild, uri: str | None = None
) -> Iterator[Running]:
    """Start the build; the first part is printed and delivered, and it waits for the test to let it go on."""
    variables = {"REDIS_URI": uri or program.redis.uri}
    with program.running(repositories.app(build.script), **variables, **PLAIN) as running:
        build.wait(1)
        wait_for_line(program.redis, running.slug, build.last_line(1))
        yield running


def check_archive(program: Program, run: Run, build: PacedBuild) -> list[Event]:
    """Check that the site is published and the archive whole, and that the build never waited; give the archive."""
    assert run.code == 0, run.stdout + run.stderr
    assert list(program.objects(run.slug)) == ["index.html"]
    archive = program.archive(run)
    assert [event["seq"] for event in archive] == list(range(1, len(archive) + 1))
    assert [event["type"] for event in archive].index("result") == len(archive) - 1
    assert archive[-1]["status"] == "succeeded"
    output = [event["log"] for event in archive if event.get("stream") == "stdout"]
    assert [line for line in output if line.startswith("line ")] == build.lines
    took = [int(found[1]) for line in output if (found := re.fullmatch(r"part \d took (\d+) ms", line))]
    assert len(took) == build.PARTS
    assert max(took) < 5000
    return archive


def check_channel(messages: Sequence[str], archive: Sequence[Event]) -> None:
    """Check that no message is there twice, out of order, or not a line of the run."""
    lines = iter([without_color(event["log"]) for event in archive if "log" in event])
    for index, message in enumerate(messages):
        assert message in lines, f"message {index} ({message[:40]!r}) is there twice, too late, or not of the run"


def check_delivered(program: Program, run: Run, build: PacedBuild) -> list[Event]:
    """Check that the stream has each event exactly once and in order, and the channel none twice; give the archive."""
    archive = check_archive(program, run, build)
    assert run.events == archive
    with program.redis.client() as client:
        places = [str(place).split("-") for place, _ in client.xrange(f"events:{run.slug}")]
    assert len({number for number, _ in places}) == 1
    assert [int(seq) for _, seq in places] == list(range(1, len(archive) + 1))
    check_channel(run.messages, archive)
    return archive


def check_console(run: Run, *, stopped: int, resumed: int, lost: int = 0) -> None:
    """Check in how many lines the console says that delivery stopped, that it resumed, and what was not delivered."""
    lines = run.stdout.splitlines()
    said = [
        sum(sentence in line for line in lines)
        for sentence in ("The live log is not delivered", "The live log continues", "were not delivered")
    ]
    assert said == [stopped, resumed, lost], [line for line in lines if not line.startswith("line ")]


# --- Redis goes away and comes back ---


def test_a_killed_redis_that_returns_empty_gets_each_event_once(
    own_program: Program, own_redis: Redis, repositories: Repositories, relay: RedisRelay, build: PacedBuild
) -> None:
    with half_way(own_program, repositories, build, relay.uri) as running:
        relay.leave()
        own_redis.kill()
        build.go(2)
        build.wait(2)
        running.wait_for_line("The live log is not delivered")
        own_redis.start()
        assert own_redis.events(running.slug) == []
        running.subscriber.wait_until_back()  # so that it would see what is sent twice
        relay.come()
        wait_for_line(own_redis, running.slug, build.last_line(2))
        build.go(3)
        run = running.end()

    check_delivered(own_program, run, build)
    check_console(run, stopped=1, resumed=1)
    assert {build.last_line(1), build.last_line(3)} <= set(run.messages)
    assert run.messages[-1] == "Done"


def test_a_redis_frozen_for_10_s_slows_loses_and_doubles_nothing(
    own_program: Program, own_redis: Redis, repositories: Repositories, build: PacedBuild
) -> None:
    with half_way(own_program, repositories, build) as running:
        own_redis.process.send_signal(signal.SIGSTOP)
        thaws_at = time.monotonic() + 10
        build.go(2)
        build.wait(2)
        assert time.monotonic() < thaws_at - 5
        time.sleep(max(0.0, thaws_at - time.monotonic()))  # the fault lasts 10 s
        own_redis.process.send_signal(signal.SIGCONT)
        wait_for_line(own_redis, running.slug, build.last_line(2))
        build.go(3)
        run = running.end()

    check_delivered(own_program, run, build)
    check_console(run, stopped=1, resumed=1)
    assert run.messages[-1] == "Done"


def test_a_redis_that_comes_late_gets_the_whole_log(
    own_program: Program, own_redis: Redis, repositories: Repositories, build: PacedBuild
) -> None:
    with (
        RedisRelay(own_redis.port, away=True) as relay,
        own_program.running(repositories.app(build.script), REDIS_URI=relay.uri, **PLAIN) as running,
    ):
        build.go(2)
        build.wait(2)
        running.wait_for_line("The live log is not delivered")
        assert own_redis.events(running.slug) == []
        relay.come()
        wait_for_line(own_redis, running.slug, build.last_line(2))
        build.go(3)
        run = running.end()

    archive = check_delivered(own_program, run, build)
    check_console(run, stopped=1, resumed=1)
    # It was never there before: so nothing of it is missing on the channel either.
    assert run.messages == [event["log"] for event in archive if "log" in event]


def test_a_redis_that_left_costs_the_live_log_and_15_s(
    own_program: Program, own_redis: Redis, repositories: Repositories, build: PacedBuild
) -> None:
    with half_way(own_program, repositories, build) as running:
        seen = len(own_redis.events(running.slug))
        own_redis.kill()
        build.go(2)
        build.wait(2)
        running.wait_for_line("The live log is not delivered")
        build.go(3)
        running.wait_for_line("upload: done")
        published = time.monotonic()
        running.process.wait(30)
        waited = time.monotonic() - published
        own_redis.start()  # so that `end` can look into it
        run = running.end()

    assert run.events == []
    archive = check_archive(own_program, run, build)
    check_console(run, stopped=1, resumed=0, lost=1)
    (sentence,) = (line for line in run.stdout.splitlines() if "were not delivered" in line)
    (count,) = re.findall(r"([\d,]+) of [\d,]+ events", sentence)
    assert f"of {len(archive):,} events" in sentence
    assert len(archive) - seen - 5 <= int(count.replace(",", "")) <= len(archive) - seen
    assert waited < 17
    check_channel(run.messages, archive)
    assert build.last_line(1) in run.messages


# --- connections that break ---


def losing(batches: set[int]) -> Callable[[bytes], bool]:
    """Lose the answers to these batches of events, counted from 1, to the claim of the stream, and to the result, once each."""
    seen = 0
    once = {"claim", "result"}

    def loses(request: bytes) -> bool:
        nonlocal seen
        if b'{"v":1,' in request:
            seen += 1
            kind = "result" if b'"type":"result"' in request else "batch"
        else:
            kind = "claim" if b"events:" in request and re.search(rb"\r\n(EVAL|EVALSHA|EXEC)\r\n", request) else "other"
        if kind in once:
            once.remove(kind)
            return True
        return kind == "batch" and seen in batches

    return loses


CUT = {1, 2, 4, 6, 7, 8, 11}


@WITH_AND_WITHOUT_SCRIPTS
def test_cuts_after_a_batch_ran_double_and_lose_nothing(
    own_program: Program,
    own_redis: Redis,
    repositories: Repositories,
    relay: RedisRelay,
    build: PacedBuild,
    refused: str,
) -> None:
    relay.loses = losing(CUT)
    build.go(2)
    build.go(3)
    # Lines in doubt are sent again only if this is certainly the server of before the cut, by the seconds that it has run.
    wait_for(lambda: info(own_redis, "server")["uptime_in_seconds"] >= 3, "Redis to be older than any doubt")

    run = own_program.run(repositories.app(build.script), REDIS_URI=limited(own_redis, relay.port, refused), **PLAIN)

    archive = check_delivered(own_program, run, build)
    assert len(relay.lost) == len(CUT) + 2
    assert relay.connections > len(CUT) + 2
    # What was executed has reached the subscribers although nobody was told: so nothing is missing.
    assert run.messages == [event["log"] for event in archive if "log" in event]


def test_a_dropped_slow_subscriber_does_not_affect_others(
    own_program: Program, own_redis: Redis, repositories: Repositories, open_folder: Path
) -> None:
    build = PacedBuild(open_folder, padding=2000)
    with own_redis.client() as client:
        client.config_set("client-output-buffer-limit", "pubsub 1048576 524288 1")
        with own_program.running(repositories.app(build.script), **PLAIN) as running, socket.socket() as sleepy:
            channel = f"logs:{running.slug}"
            sleepy.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sleepy.connect(("127.0.0.1", own_redis.port))
            sleepy.sendall(f"SUBSCRIBE {channel}\r\n".encode())
            wait_for(lambda: client.pubsub_numsub(channel)[0][1] == 2, "both subscribers")
            build.go(2)
            build.go(3)
            run = running.end()

    archive = check_delivered(own_program, run, build)
    assert info(own_redis, "stats")["client_output_buffer_limit_disconnections"] == 1
    assert run.messages == [event["log"] for event in archive if "log" in event]
    check_console(run, stopped=0, resumed=0)


# --- Redis without its memory ---


@WITH_AND_WITHOUT_SCRIPTS
def test_a_full_redis_gets_what_is_missing_when_it_has_room(
    own_program: Program, own_redis: Redis, repositories: Repositories, build: PacedBuild, refused: str
) -> None:
    with half_way(own_program, repositories, build, limited(own_redis, own_redis.port, refused)) as running:
        set_memory(own_redis, room=100_000)
        build.go(2)
        build.wait(2)
        running.wait_for_line("The live log is not delivered")
        assert info(own_redis, "errorstats")["errorstat_OOM"]["count"] > 0
        assert not has_line(own_redis, running.slug, build.last_line(2))
        set_memory(own_redis, room=None)
        wait_for_line(own_redis, running.slug, build.last_line(2))
        build.go(3)
        run = running.end()

    check_delivered(own_program, run, build)
    check_console(run, stopped=1, resumed=1)
    assert any("maxmemory" in line for line in run.stdout.splitlines() if "is not delivered" in line)
    assert run.messages[-1] == "Done"


def delete(redis: Redis, key: str) -> None:
    with redis.client() as client:
        assert client.delete(key) == 1


def flush(redis: Redis, _key: str) -> None:
    with redis.client() as client:
        client.flushall()


def evict(redis: Redis, key: str) -> None:
    set_memory(redis, room=-1_000_000_000, policy="allkeys-lru")
    with redis.client() as client:
        wait_for(lambda: client.exists(key) == 0 or client.ping() is None, "the stream to be evicted")
    assert info(redis, "stats")["evicted_keys"] >= 1
    set_memory(redis, room=None)


@pytest.mark.parametrize(
    ("lose", "refused"), [(delete, ""), (flush, ""), (evict, ""), (delete, "-@scripting -unwatch")]
)
def test_a_lost_stream_is_recreated_and_no_line_is_sent_twice(
    own_program: Program,
    own_redis: Redis,
    repositories: Repositories,
    build: PacedBuild,
    lose: Callable[[Redis, str], None],
    refused: str,
) -> None:
    uri = limited(own_redis, own_redis.port, refused)
    with half_way(own_program, repositories, build, uri) as running:
        lose(own_redis, f"events:{running.slug}")
        assert not has_line(own_redis, running.slug, build.last_line(1))
        build.go(2)
        build.go(3)
        run = running.end()

    archive = check_delivered(own_program, run, build)
    # Nothing of a batch that found the stream elsewhere went out: so none of its lines is missing either.
    assert run.messages == [event["log"] for event in archive if "log" in event]


def test_a_replica_gets_the_last_batches_after_the_failover(
    own_program: Program, own_redis: Redis, repositories: Repositories, relay: RedisRelay, build: PacedBuild
) -> None:
    replica = Redis(free_port(), own_redis.folder)
    try:
        with replica.client() as client, own_redis.client() as primary:
            primary.config_set("repl-diskless-sync-delay", 0)
            client.replicaof("127.0.0.1", own_redis.port)
            wait_for(lambda: client.info("replication")["master_link_status"] == "up", "the replica")
        with own_program.running(repositories.app(build.script), REDIS_URI=relay.uri, **PLAIN) as running:
            new = Subscriber(replica, f"logs:{running.slug}")
            build.wait(1)
            subscribers = (new, running.subscriber)
            wait_for(
                lambda: all("".join(each.messages[-1:]).startswith("part 1") for each in subscribers), "part 1 at both"
            )
            common = len(new.messages)
            with replica.client() as client:
                client.replicaof("NO", "ONE")
            build.go(2)
            build.wait(2)
            wait_for_line(own_redis, running.slug, build.last_line(2))
            assert not has_line(replica, running.slug, build.last_line(2))
            relay.leave()
            own_redis.kill()
            relay.come(replica.port)
            build.go(3)
            running.process.wait(60)
            own_redis.start()  # so that `end` can look into it
            old = running.end()
            new.close()

        run = Run(old.code, old.stdout, old.stderr, replica.events(old.slug), new.messages, old.slug)
        archive = check_delivered(WarmProgram(replica, own_program.s3, own_program.folder), run, build)
        # What came to both, what the first server's subscriber got alone, and what came after the failover.
        assert old.messages[:common] == new.messages[:common]
        check_channel([*old.messages, *new.messages[common:]], archive)
        assert build.last_line(1) in new.messages[:common]
        assert build.last_line(2) in old.messages
        assert {build.last_line(3), "Done"} <= set(new.messages)
    finally:
        replica.kill()


# --- Redis that does not allow what is needed ---


def test_a_redis_that_refuses_scripts_gets_each_event_once(
    own_program: Program, own_redis: Redis, repositories: Repositories, build: PacedBuild
) -> None:
    build.go(2)
    build.go(3)
    uri = limited(own_redis, own_redis.port, "-@scripting")

    run = own_program.run(repositories.app(build.script), REDIS_URI=uri, **PLAIN)

    archive = check_delivered(own_program, run, build)
    assert refusals(own_redis) & {"eval", "evalsha"}
    assert run.messages == [event["log"] for event in archive if "log" in event]
    check_console(run, stopped=0, resumed=0)


@pytest.mark.parametrize("refused", ["-xadd", "-@scripting -xadd"])
def test_a_redis_that_refuses_xadd_gets_the_channel_and_a_line(
    own_program: Program, own_redis: Redis, repositories: Repositories, build: PacedBuild, refused: str
) -> None:
    build.go(2)
    build.go(3)
    uri = limited(own_redis, own_redis.port, refused)

    run = own_program.run(repositories.app(build.script), REDIS_URI=uri, **PLAIN)

    assert run.events == []
    archive = check_archive(own_program, run, build)
    assert "xadd" in refusals(own_redis)
    assert run.messages == [event["log"] for event in archive if "log" in event]
    (warning,) = (line for line in run.stdout.splitlines() if line.startswith("warning: "))
    assert "events:" in warning
    assert "channel" in warning


@pytest.mark.parametrize("refused", ["resetchannels &others:*", "-publish", "-@scripting -publish"])
def test_a_redis_that_refuses_publish_gets_the_stream_and_a_line(
    own_program: Program, own_redis: Redis, repositories: Repositories, build: PacedBuild, refused: str
) -> None:
    build.go(2)
    build.go(3)
    uri = limited(own_redis, own_redis.port, refused)

    run = own_program.run(repositories.app(build.script), REDIS_URI=uri, **PLAIN)

    check_delivered(own_program, run, build)
    assert run.messages == []
    (warning,) = (line for line in run.stdout.splitlines() if line.startswith("warning: "))
    assert warning == f"warning: The Redis user may not publish to logs:{run.slug}: the live log is only in the stream."


# --- the end ---


def test_the_archive_ends_with_the_result_before_it_is_sent(
    own_program: Program, own_redis: Redis, repositories: Repositories, slow_s3: Relay
) -> None:
    slow_s3.hold = lambda request: request.startswith("PUT") and "/__logs/" in request

    with own_program.running(
        repositories.app(), AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{slow_s3.port}", **PLAIN
    ) as running:
        assert slow_s3.held.wait(30)
        wait_for_line(own_redis, running.slug, "Archiving the log")
        until = time.monotonic() + 1
        while time.monotonic() < until:
            assert not {"result"} & {event["type"] for event in own_redis.events(running.slug)}
            assert "Done" not in running.subscriber.messages
            assert "Done\n" not in running.stdout
            time.sleep(0.02)
        slow_s3.release()
        run = running.end()

    assert run.code == 0
    assert own_program.archive(run) == run.events
    assert run.result["status"] == "succeeded"
    assert run.messages[-1] == "Done"


def test_a_signal_ends_all_in_15_s_with_redis_and_s3_stuck(
    own_program: Program, own_redis: Redis, repositories: Repositories, slow_s3: Relay
) -> None:
    building = repositories.app("echo building; sleep 60")
    page = repositories.app()
    endpoint = f"http://127.0.0.1:{slow_s3.port}"
    slow_s3.hold = lambda request: request.startswith("PUT")

    with (
        own_program.running(building, AWS_ENDPOINT_URL_S3=endpoint, **PLAIN) as first,
        own_program.running(page, AWS_ENDPOINT_URL_S3=endpoint, **PLAIN) as second,
    ):
        wait_for_line(own_redis, first.slug, "building")
        wait_for(lambda: any(request.endswith("/index.html") for request in slow_s3.requests), "the page to be sent")
        own_redis.process.send_signal(signal.SIGSTOP)
        signalled = time.monotonic()
        for running in (first, second):
            running.process.send_signal(signal.SIGTERM)
        took = []
        for running in (first, second):
            running.process.wait(30)
            took.append(time.monotonic() - signalled)
        own_redis.process.send_signal(signal.SIGCONT)
        runs = [first.end(), second.end()]

    assert max(took) < 16
    assert [run.code for run in runs] == [143, 143]
    for run in runs:
        kept, word, lost = (
            next(index for index, line in enumerate(run.stdout.splitlines()) if text in line)
            for text in ("was not archived", "Cancelled", "were not delivered")
        )
        assert kept < word < lost  # the warning stands before the result
        assert "they are lost" in run.stdout.splitlines()[lost]
        assert run.stdout.count("were not delivered") == 1


def test_a_second_signal_ends_at_once_while_the_end_waits(
    own_program: Program, own_redis: Redis, repositories: Repositories, slow_s3: Relay
) -> None:
    slow_s3.hold = lambda request: "/__logs/" in request

    with own_program.running(
        repositories.app("echo building; sleep 60"), AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{slow_s3.port}", **PLAIN
    ) as running:
        wait_for_line(own_redis, running.slug, "building")
        own_redis.process.send_signal(signal.SIGSTOP)
        running.process.send_signal(signal.SIGTERM)
        assert slow_s3.held.wait(10)
        assert running.process.poll() is None
        again = time.monotonic()
        running.process.send_signal(signal.SIGTERM)
        running.process.wait(10)
        took = time.monotonic() - again
        own_redis.process.send_signal(signal.SIGCONT)
        run = running.end()

    assert took < 5  # instead of the 15 s that the first signal leaves
    assert run.code == 143


# --- two runs of a slug ---


def test_a_silent_run_that_was_superseded_ends_with_60_by_itself(
    own_program: Program, own_redis: Redis, repositories: Repositories, open_folder: Path
) -> None:
    gate = open_folder / f"gate-{uuid.uuid4().hex[:12]}"
    silent = repositories.app("echo building; sleep 60; mkdir dist; echo old >dist/index.html")
    busy = repositories.app(f"until [ -e {gate} ]; do sleep 0.05; done; mkdir dist; echo new >dist/index.html")

    with own_program.running(silent, BUILD_ID="earlier", **PLAIN) as earlier:
        wait_for_line(own_redis, earlier.slug, "building")
        with own_program.running(busy, SLUG=earlier.slug, BUILD_ID="later", **PLAIN) as later:
            own_program.wait_for_event(earlier.slug, lambda event: event["build"] == "later")
            earlier.wait_for_line("build: failed", 10)  # it looks each second
            earlier.process.wait(20)
            assert later.process.poll() is None  # it did not learn it from the other's end
            gate.touch()
            second = later.end()
        first = earlier.end()

    assert first.code == 60
    assert first.stdout.rstrip().splitlines()[-1] == "Superseded"
    assert second.code == 0
    assert second.events == own_program.archive(second)
    assert own_program.objects(first.slug)["index.html"]["body"] == b"new\n"


@WITH_AND_WITHOUT_SCRIPTS
def test_a_later_run_right_after_a_check_is_found_by_the_next(
    own_program: Program, own_redis: Redis, repositories: Repositories, relay: RedisRelay, refused: str
) -> None:
    uri = limited(own_redis, relay.port, refused)

    with (
        own_program.running(repositories.app("echo building; sleep 60"), REDIS_URI=uri, **PLAIN) as earlier,
        own_redis.client() as client,
    ):
        key = f"events:{earlier.slug}"
        wait_for_line(own_redis, earlier.slug, "building")
        answered = relay.answered
        wait_for(lambda: relay.answered > answered, "a look")
        number = int(client.xinfo_stream(key)["last-generated-id"].split("-")[0])
        client.xadd(key, {"event": '{"v":1,"build":"later","seq":1,"type":"log","log":"x"}'}, id=f"{number + 1}-1")
        earlier.wait_for_line("build: failed", 10)  # it looks each second
        run = earlier.end()

    assert run.code == 60
    assert run.events[-1]["build"] == "later"  # and nothing was written behind it


@WITH_AND_WITHOUT_SCRIPTS
def test_two_runs_that_print_without_end_are_never_mixed(
    own_program: Program, own_redis: Redis, repositories: Repositories, refused: str
) -> None:
    noisy = repositories.app(
        "i=0; while [ $i -lt 5000 ]; do seq -f 'old %.0f' 100; sleep 0.02; i=$((i+1)); done; exit 1"
    )
    app = repositories.app(
        "for i in 1 2 3 4 5 6 7 8 9; do seq -f 'new %.0f' 100; sleep 0.1; done; mkdir dist; echo 1 >dist/a"
    )
    looks: list[list[Event]] = []

    uri = limited(own_redis, own_redis.port, refused)
    with own_program.running(noisy, BUILD_ID="earlier", REDIS_URI=uri, **PLAIN) as earlier:
        wait_for_line(own_redis, earlier.slug, "old 100")
        with own_program.running(app, SLUG=earlier.slug, BUILD_ID="later", REDIS_URI=uri, **PLAIN) as later:
            while later.process.poll() is None:
                looks.append(own_redis.events(earlier.slug))
            second = later.end()
        first = earlier.end()

    assert (first.code, second.code) == (60, 0)
    builds = []
    for look in looks:
        assert [event["seq"] for event in look] == list(range(1, len(look) + 1))
        builds += sorted({event["build"] for event in look})
    assert [build for build, _ in itertools.groupby(builds)] == ["earlier", "later"]
    assert second.events == own_program.archive(second)


@WITH_AND_WITHOUT_SCRIPTS
def test_a_superseded_run_cannot_write_again_whatever_its_clock(
    own_program: Program, own_redis: Redis, repositories: Repositories, refused: str
) -> None:
    """The host of the run before was an hour ahead; and the earlier of two runs sleeps while the later one runs."""
    slug = f"t-{uuid.uuid4().hex[:12]}"
    key = f"events:{slug}"
    future = int((time.time() + 3600) * 1000)
    noisy = repositories.app("i=0; while [ $i -lt 5000 ]; do echo old $i; sleep 0.02; i=$((i+1)); done; exit 1")
    with own_redis.client() as client:
        client.xadd(key, {"event": '{"v":1,"build":"before","seq":5,"type":"log","log":"before"}'}, id=f"{future}-5")

        uri = limited(own_redis, own_redis.port, refused)
        with own_program.running(noisy, SLUG=slug, REDIS_URI=uri, **PLAIN) as earlier:
            wait_for_line(own_redis, slug, "old 5")
            numbers = [int(client.xinfo_stream(key)["last-generated-id"].split("-")[0])]
            assert not has_line(own_redis, slug, "before")
            earlier.process.send_signal(signal.SIGSTOP)
            second = own_program.run(repositories.app(), SLUG=slug, REDIS_URI=uri, **PLAIN)
            numbers.append(int(client.xinfo_stream(key)["last-generated-id"].split("-")[0]))
            earlier.process.send_signal(signal.SIGCONT)
            first = earlier.end()

    assert future < numbers[0] < numbers[1]
    assert (first.code, second.code) == (60, 0)
    assert first.events == second.events == own_program.archive(second)
    # The channel has the lines of both, and of the earlier nothing after the later's but its end word.
    assert first.messages[first.messages.index("Done") + 1 :] in ([], ["Superseded"])


@WITH_AND_WITHOUT_SCRIPTS
def test_the_earlier_of_two_runs_gives_way_even_if_it_comes_last(
    own_program: Program, own_redis: Redis, repositories: Repositories, refused: str
) -> None:
    """S3 and Redis each have an order of the runs. If they differed, each of the two could stop for the other."""
    slow = repositories.app("echo building; sleep 60")
    app = repositories.app("echo building; sleep 4; mkdir dist; echo 1 >dist/index.html")

    with RedisRelay(own_redis.port, away=True) as relay:
        uri = limited(own_redis, relay.port, refused)
        with own_program.running(slow, BUILD_ID="earlier", REDIS_URI=uri, **PLAIN) as earlier:
            earlier.wait_for_line("building")
            uri = limited(own_redis, own_redis.port, refused)
            with own_program.running(app, SLUG=earlier.slug, BUILD_ID="later", REDIS_URI=uri, **PLAIN) as later:
                wait_for_line(own_redis, earlier.slug, "building")
                relay.come()
                first, second = earlier.end(), later.end()

    assert (first.code, second.code) == (60, 0)
    assert second.events == own_program.archive(second)


def test_a_run_superseded_in_s3_does_not_take_an_empty_stream(
    own_program: Program, own_redis: Redis, repositories: Repositories, open_folder: Path
) -> None:
    gate = open_folder / f"gate-{uuid.uuid4().hex[:12]}"
    slow = repositories.app(
        f"echo building; until [ -e {gate} ]; do sleep 0.05; done; mkdir dist; echo old >dist/index.html"
    )
    quick = repositories.app("mkdir dist; echo new >dist/index.html")

    with (
        RedisRelay(own_redis.port, away=True) as relay,
        own_program.running(slow, BUILD_ID="earlier", REDIS_URI=relay.uri, **PLAIN) as earlier,
    ):
        earlier.wait_for_line("building")
        later = own_program.run(quick, SLUG=earlier.slug, BUILD_ID="later", **PLAIN)
        own_redis.kill()
        gate.touch()
        earlier.wait_for_line("upload: failed", 15)
        own_redis.start()
        relay.come()
        first = earlier.end()

    assert (later.code, first.code) == (0, 60)
    assert own_redis.events(first.slug) == []
    assert "were not delivered" not in first.stdout
    assert first.stdout.rstrip().splitlines()[-1] == "Superseded"


def test_a_claim_whose_reply_is_lost_takes_the_next_number(
    own_program: Program, own_redis: Redis, repositories: Repositories, relay: RedisRelay
) -> None:
    """The stream may be at that number because of another build, and its own claim must not supersede it.

    The clock of the run before was ahead, so the number was not the current time when it was given.
    """
    slug = f"t-{uuid.uuid4().hex[:12]}"
    lost: list[bytes] = []
    ahead = int(time.time() * 1000) + 60_000
    with own_redis.client() as client:
        client.xadd(
            f"events:{slug}", {"event": '{"v":1,"build":"before","seq":5,"type":"log","log":"x"}'}, id=f"{ahead}-5"
        )

    def loses(request: bytes) -> bool:
        if b"EVAL" in request and str(ahead + 1).encode() in request and not lost:
            lost.append(request)
            return True
        return False

    relay.loses = loses
    run = own_program.run(repositories.app(), SLUG=slug, REDIS_URI=relay.uri, **PLAIN)

    with own_redis.client() as client:
        number = client.xinfo_stream(f"events:{slug}")["last-generated-id"].split("-")[0]
    assert lost
    assert int(number) == ahead + 2
    assert run.code == 0
    assert run.events == own_program.archive(run)


@WITH_AND_WITHOUT_SCRIPTS
def test_the_clock_of_redis_orders_runs_without_a_stream(own_redis: Redis, tmp_path: Path, refused: str) -> None:
    """S3 is asked with that number: by the clock of this machine it might be the later of the two there."""

    async def main() -> tuple[int | None, bool]:
        with Journal(tmp_path, build="earlier", redactor=Redactor(()), max_bytes=10_000) as journal:
            publisher = Publisher(
                journal,
                uri=limited(own_redis, own_redis.port, refused),
                channel="logs:x",
                stream="events:x",
                ttl=60,
                log_format="text",
                on_superseded=lambda: None,
            )
            await anyio.sleep(2)
            with own_redis.client() as client:
                client.xadd("events:x", {"event": "{}"})  # of a run that began meanwhile
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(publisher.run)
                number = await publisher.run_number(5)
                tasks.cancel_scope.cancel()
            return number, publisher.order.superseded

    before = time.time() * 1000
    number, superseded = anyio.run(main)

    assert superseded
    assert number is not None
    assert before - 100 <= number <= before + 1900


@WITH_AND_WITHOUT_SCRIPTS
def test_a_stream_with_the_largest_id_is_reported_and_build_runs(
    own_program: Program, own_redis: Redis, repositories: Repositories, refused: str
) -> None:
    slug = f"t-{uuid.uuid4().hex[:12]}"
    with own_redis.client() as client:
        client.xadd(f"events:{slug}", {"event": "{}"}, id=f"{2**64 - 1}-5")
        uri = limited(own_redis, own_redis.port, refused)
        run = own_program.run(
            repositories.app("sleep 2; mkdir dist; echo 1 >dist/a"), SLUG=slug, REDIS_URI=uri, **PLAIN
        )
        calls = client.info("commandstats")

    assert run.code == 0
    assert "which no run can follow: delete it" in run.stdout
    assert sum(found["calls"] for name, found in calls.items() if "eval" in name or "watch" in name) < 500
