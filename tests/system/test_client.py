"""`buildrunner.client`: a build's events in a program, from Redis and from a gateway, with and without asyncio."""

from __future__ import annotations

import asyncio
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildrunner.client import LogIncomplete, fetch, follow
from buildrunner.errors import ConfigurationError
from support.gateway import Gateway, StreamWriter, put_archive
from support.harness import Event, Program, Redis, free_port
from support.redis_relay import RedisRelay
from support.s3_server import S3Server
from support.warm import WarmProgram


@pytest.fixture(scope="module")
def gateway(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Iterator[Gateway]:
    gateway = Gateway(WarmProgram(shared_redis, s3, open_folder))
    yield gateway
    gateway.close()


@pytest.fixture(params=["redis", "gateway"])
def source(request: pytest.FixtureRequest, shared_redis: Redis, gateway: Gateway) -> str:
    return shared_redis.uri if request.param == "redis" else f"http://127.0.0.1:{gateway.port}"


@pytest.fixture
def writer(shared_redis: Redis) -> StreamWriter:
    return StreamWriter(shared_redis, f"c-{uuid.uuid4().hex[:12]}", "b")


@pytest.fixture
def aws(s3: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in s3.environment().items():
        monkeypatch.setenv(name, value)


class InThread:
    """A program that follows a build."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self.events: list[Event] = []
        self.error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(arguments, options), daemon=True)
        self._thread.start()

    def _run(self, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        try:
            for event in follow(*arguments, **options):
                self.events.append(event)
        except Exception as error:
            self.error = error

    def end(self, seconds: float = 60) -> list[Event]:
        self._thread.join(seconds)
        assert not self._thread.is_alive()
        if self.error:
            raise self.error
        return self.events


def test_a_program_that_follows_gets_each_event_once(source: str, writer: StreamWriter) -> None:
    programs = [InThread(source, writer.slug, "b"), InThread(source, writer.slug)]
    writer.write("one", "two")
    programs.append(InThread(source, writer.slug, "b", after=1))
    time.sleep(0.5)
    writer.write("three \u2028 é")
    writer.end()

    for program, after in zip(programs, (0, 0, 1), strict=True):
        assert program.end() == writer.events[after:]
    assert list(follow(source, writer.slug, "b", after=4)) == []
    assert list(fetch(source, writer.slug, "b")) == list(fetch(source, writer.slug)) == writer.events


def test_asyncio_follows_many_builds_at_once(source: str, shared_redis: Redis) -> None:
    writers = [StreamWriter(shared_redis, f"c-{uuid.uuid4().hex[:12]}", "b") for _ in range(5)]
    for writer in writers:
        writer.write(*map(str, range(1500)))
        writer.end()

    async def read(writer: StreamWriter) -> list[Event]:
        return [event async for event in follow(source, writer.slug, "b")]

    async def read_all() -> list[list[Event]]:
        return await asyncio.gather(*map(read, writers))

    assert asyncio.run(read_all()) == [writer.events for writer in writers]


def test_fetch_returns_what_there_is_of_a_running_build(source: str, writer: StreamWriter) -> None:
    writer.write("one", "two")

    assert list(fetch(source, writer.slug, "b")) == writer.events


@pytest.mark.usefixtures("aws")
def test_a_finished_build_comes_from_the_archive(source: str, writer: StreamWriter, program: Program) -> None:
    writer.write("one", "two")
    writer.end()
    put_archive(program, writer.slug, "b", writer.archive)
    with program.redis.client() as client:
        client.delete(f"events:{writer.slug}")

    for build in ("b", None):
        assert list(follow(source, writer.slug, build, bucket="sites")) == writer.events
        assert list(fetch(source, writer.slug, build, bucket="sites")) == writer.events


def test_a_log_without_a_result_raises_and_says_why(shared_redis: Redis, writer: StreamWriter) -> None:
    writer.write("one")
    program = InThread(shared_redis.uri, writer.slug, "b")
    time.sleep(0.5)
    StreamWriter(shared_redis, writer.slug, "later", run=1_700_000_001_000).write("other")

    with pytest.raises(LogIncomplete, match="A later build took over") as raised:
        program.end()
    assert raised.value.reason == "superseded"
    assert [event["log"] for event in program.events] == ["one"]


def test_a_source_that_refuses_raises_at_once(shared_redis: Redis, program: Program, writer: StreamWriter) -> None:
    guarded = Gateway(program, GATEWAY_SECRET="x" * 32)
    try:
        with pytest.raises(LogIncomplete, match="A token is needed") as raised:
            list(follow(f"http://127.0.0.1:{guarded.port}", writer.slug, "b"))
        assert raised.value.reason == "refused"
    finally:
        guarded.close()
    with pytest.raises(LogIncomplete) as refused:
        list(follow(shared_redis.uri.replace("//", "//nobody:wrong@"), writer.slug, "b"))
    assert refused.value.reason == "refused"
    with pytest.raises(ConfigurationError, match="SLUG"):
        list(follow(shared_redis.uri, "Not_A_Slug"))


def test_a_gateway_that_restarts_costs_a_program_nothing(program: Program, writer: StreamWriter) -> None:
    port = str(free_port())
    first = Gateway(program, "--port", port)
    writer.write("one", "two")
    reading = InThread(f"http://127.0.0.1:{port}", writer.slug)
    while len(reading.events) < 2:
        time.sleep(0.02)
    first.stop()
    writer.write("three")
    second = Gateway(program, "--port", port)
    try:
        writer.end()
        assert reading.end() == writer.events
    finally:
        second.close()


def test_connections_that_are_cut_cost_a_program_nothing(shared_redis: Redis, writer: StreamWriter) -> None:
    with RedisRelay(shared_redis.port) as relay:
        reading = InThread(relay.uri, writer.slug, "b")
        for number in range(5):
            writer.write(f"line {number}")
            time.sleep(0.3)
            relay.leave()
            relay.come()
        writer.end()
        assert reading.end() == writer.events
