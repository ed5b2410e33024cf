"""The programs of `docs/consuming-logs.md`, as they stand there, reading real runs out of a real Valkey."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import anyio
import pytest
from redis.exceptions import RedisError

from buildrunner.commands.dev.node import path_with_node
from support.harness import (
    PLAIN,
    ROOT,
    Event,
    LogReader,
    Process,
    Program,
    Redis,
    Repositories,
    Run,
    wait_for,
)
from support.node_modules import node_modules
from support.s3_server import S3Server
from support.warm import WarmProgram

DOCUMENT = (ROOT / "docs" / "consuming-logs.md").read_text()
LANGUAGES = ("node", "python")
# Both print each event as the next line; what is imported is the document's.
EVENTS_OF = {
    "node": """\
import { follow } from "./consume.mjs";
for await (const event of follow(process.env.REDIS_URI, ...process.argv.slice(2))) console.log(JSON.stringify(event));
""",
    "python": """\
import json, os, sys
from buildrunner.client import follow
for event in follow(os.environ["REDIS_URI"], *sys.argv[1:]): print(json.dumps(event), flush=True)
""",
}
SITE = "mkdir dist; echo '<h1>hello</h1>' >dist/index.html\n"


def lines(count: int, seconds: float) -> str:
    """Write a build that prints so many lines, each after a pause."""
    return f"i=1; while [ $i -le {count} ]; do echo line $i; sleep {seconds}; i=$((i+1)); done; {SITE}"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


def consumer(language: str) -> str:
    """Return the program of the document."""
    if language == "python":
        (code,) = blocks("python")
        return code
    (code,) = blocks("js")
    return code


class Reader:
    """One of the programs, and what it has printed so far."""

    def __init__(self, process: subprocess.Popen[str], language: str) -> None:
        self.process = process
        self.language = language
        self.lines: list[str] = []
        self.stderr: list[str] = []
        pipes = ((process.stdout, self.lines), (process.stderr, self.stderr))
        self._threads = [threading.Thread(target=_keep, args=pipe, daemon=True) for pipe in pipes]
        for thread in self._threads:
            thread.start()

    def end(self, seconds: float = 30) -> int:
        """Wait for its end, and give its exit code."""
        try:
            code = self.process.wait(seconds)
        except subprocess.TimeoutExpired:
            pytest.fail(f"{self.language} goes on after {self.lines[-3:]}; it said {self.stderr}")
        for thread in self._threads:
            thread.join()
        return code


def _keep(pipe: IO[str], lines: list[str]) -> None:
    with pipe:
        lines.extend(line.removesuffix("\n") for line in pipe)


class Readers:
    """Starts the programs; all that still run at the end of a test are killed."""

    def __init__(self, folder: Path, path: str) -> None:
        self.folder = folder
        self._path = path
        self._started: list[Reader] = []

    def start(self, uri: str, slug: str, build: str, *, events: bool = False) -> list[Reader]:
        """Start the one for Node and the one for Python."""
        return [self.start_one(language, uri, slug, build, events=events) for language in LANGUAGES]

    def start_one(
        self, language: str, uri: str, slug: str, build: str, lost_after: int | None = None, *, events: bool = False
    ) -> Reader:
        suffix = {"node": "mjs", "python": "py"}[language]
        folder = self.folder
        if lost_after is not None:
            code = consumer(language)
            assert code.count("90") == 1
            folder = self.folder / f"lost-after-{lost_after}"
            folder.mkdir(exist_ok=True)
            (folder / f"consume.{suffix}").write_text(code.replace("90", str(lost_after)))
        script = folder / f"{'events' if events else 'consume'}.{suffix}"
        return self.run(language, script, uri, slug, build)

    def run(self, language: str, script: Path, uri: str, *arguments: str) -> Reader:
        command = ["node"] if language == "node" else [sys.executable]
        process = subprocess.Popen(
            [*command, script, *arguments],
            env={"PATH": self._path, "REDIS_URI": uri, "LANG": "C.UTF-8"},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(Reader(process, language))
        return self._started[-1]

    def close(self) -> None:
        for reader in self._started:
            reader.process.kill()
            reader.end()
        self._started.clear()


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory, open_folder: Path) -> Readers:
    """The programs of the document in a folder, with what they import."""
    folder = tmp_path_factory.mktemp("consumers")
    path = anyio.run(path_with_node, str(open_folder))
    (folder / "node_modules").symlink_to(node_modules(path))
    for language, suffix in (("node", "mjs"), ("python", "py")):
        (folder / f"consume.{suffix}").write_text(consumer(language))
        (folder / f"events.{suffix}").write_text(EVENTS_OF[language])
    return Readers(folder, path)


@pytest.fixture
def readers(written: Readers) -> Iterator[Readers]:
    yield written
    written.close()


@pytest.fixture
def program(own_redis: Redis, s3: S3Server, open_folder: Path) -> Program:
    return WarmProgram(own_redis, s3, open_folder)


def wait_until_they_wait(redis: Redis, count: int) -> None:
    """Wait until so many readers have all that there is and are blocked."""
    with redis.client() as client:
        wait_for(lambda: client.info("clients")["blocked_clients"] == count, f"{count} readers to wait")


def logs(events: list[Event]) -> list[str]:
    return [event["log"] for event in events if "log" in event]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_consumer_has_at_most_forty_lines(language: str) -> None:
    code = consumer(language).splitlines()

    assert len(code) <= 40
    assert max(map(len, code)) <= 120


def test_every_event_comes_once_and_in_order_for_any_reader(
    program: Program, readers: Readers, repositories: Repositories
) -> None:
    names = (program.redis.uri, "whole", "the-build")
    early = readers.start(*names)
    all_of_it = readers.start(*names, events=True)
    wait_until_they_wait(program.redis, 4)
    late: list[Reader] = []

    def join(_: object, slug: str) -> None:
        program.wait_for_event(slug, lambda event: event.get("log") == "line 5")
        late.extend(readers.start(*names))

    run = program.run(
        repositories.app(f"{lines(10, 0.2)}printf '\\033[32mcaf\\303\\251\\033[0m\\n\\nDone\\n'"),
        SLUG="whole",
        BUILD_ID="the-build",
        meanwhile=join,
        **PLAIN,
    )
    afterwards = readers.start(*names)

    assert run.code == 0
    assert {"\x1b[32mcafé\x1b[0m", "", "Done"} <= set(run.lines)
    for reader in (*early, *late, *afterwards):
        assert reader.end() == 0, reader.stderr
        assert reader.lines == logs(run.events)
        assert reader.stderr == []
    for reader in all_of_it:
        assert reader.end() == 0, reader.stderr
        assert [json.loads(line) for line in reader.lines] == run.events == program.archive(run)


def test_a_failing_build_is_told_by_its_exit_code(
    program: Program, readers: Readers, repositories: Repositories
) -> None:
    both = readers.start(program.redis.uri, "failing", "the-build")

    run = program.run(repositories.app("echo oops; exit 3"), SLUG="failing", BUILD_ID="the-build", **PLAIN)

    assert run.code == 40
    for reader in both:
        assert reader.end() == 40
        assert reader.lines == logs(run.events)


def test_a_redis_that_returns_empty_in_mid_build_loses_nothing(
    program: Program, readers: Readers, repositories: Repositories
) -> None:
    both = readers.start(program.redis.uri, "forgetful", "the-build", events=True)

    def lose_memory(process: Process, slug: str) -> None:
        program.wait_for_event(slug, lambda event: event.get("log") == "line 2")
        program.redis.kill()
        time.sleep(0.5)
        program.redis.start()
        program.wait_for_event(slug, lambda event: event.get("log") == "line 5")
        # Now so that the readers are there before the run, and find nothing.
        process.send_signal(signal.SIGSTOP)
        program.redis.kill()
        program.redis.start()
        wait_until_they_wait(program.redis, 2)
        time.sleep(3)
        process.send_signal(signal.SIGCONT)

    run = program.run(
        repositories.app(lines(8, 0.4)), SLUG="forgetful", BUILD_ID="the-build", meanwhile=lose_memory, **PLAIN
    )

    assert run.code == 0
    for reader in both:
        assert reader.end() == 0, reader.stderr
        assert [json.loads(line) for line in reader.lines] == program.archive(run)


def test_a_reader_ahead_of_an_empty_redis_restarts_from_zero(
    program: Program, readers: Readers, repositories: Repositories
) -> None:
    earlier = {"v": 1, "build": "earlier", "seq": 1, "type": "log", "stage": "build", "log": "of another time"}
    with program.redis.client() as client:
        client.xadd("events:ahead", {"event": json.dumps(earlier)}, id="99999999999999-1")
    both = readers.start(program.redis.uri, "ahead", "the-build")
    wait_until_they_wait(program.redis, 2)
    program.redis.kill()
    program.redis.start()

    run = program.run(repositories.app(), SLUG="ahead", BUILD_ID="the-build", **PLAIN)

    for reader in both:
        assert reader.end() == 0, reader.stderr
        assert reader.lines == logs(run.events)


def test_a_connection_that_is_cut_is_made_again(program: Program, readers: Readers, repositories: Repositories) -> None:
    both = readers.start(program.redis.uri, "cut", "the-build", events=True)

    def cut(_: object, slug: str) -> None:
        with program.redis.client() as client:
            for line in range(1, 10, 2):
                program.wait_for_event(slug, lambda event, line=line: event.get("log") == f"line {line}")  # type: ignore[misc]
                client.client_kill_filter(_type="normal", skipme=True)
            # What a server answers when it stops to be the primary.
            wait_for(lambda: client.info("clients")["blocked_clients"] == 2, "the readers to wait")
            for found in client.client_list():
                if found["cmd"] == "xread":
                    with suppress(RedisError):
                        client.client_unblock(int(found["id"]), error=True)

    run = program.run(repositories.app(lines(16, 0.25)), SLUG="cut", BUILD_ID="the-build", meanwhile=cut, **PLAIN)

    assert run.code == 0
    for reader in both:
        assert reader.end() == 0, reader.stderr
        assert [json.loads(line) for line in reader.lines] == run.events


def test_a_later_run_ends_the_earlier_log_with_60(
    program: Program, readers: Readers, repositories: Repositories
) -> None:
    earlier = readers.start(program.redis.uri, "twice", "first")
    later: list[Reader] = []
    runs: list[Run] = []

    def take_over(_: object, slug: str) -> None:
        later.extend(readers.start(program.redis.uri, slug, "second"))
        wait_for(lambda: all("line 3" in reader.lines for reader in earlier), "the readers of the earlier run")
        runs.append(program.run(repositories.app(lines(3, 0.1)), SLUG=slug, BUILD_ID="second", **PLAIN))

    first = program.run(repositories.app(lines(100, 0.2)), SLUG="twice", BUILD_ID="first", meanwhile=take_over, **PLAIN)

    assert first.code == 60
    (second,) = runs
    body = program.client().get_object(Bucket="sites", Key="__logs/twice/first.ndjson")["Body"].read()
    archived = [json.loads(line) for line in body.splitlines()]
    for reader in earlier:
        assert reader.end() == 60, reader.stderr
        assert "line 3" in reader.lines
        assert reader.lines == logs(archived)[: len(reader.lines)]
    for reader in later:
        assert reader.end() == 0, reader.stderr
        assert reader.lines == logs(second.events)


def test_a_silent_run_is_lost_counting_only_time_with_redis(
    program: Program, readers: Readers, repositories: Repositories
) -> None:
    redis = program.redis
    with program.running(repositories.app(lines(40, 0.25)), SLUG="lost", BUILD_ID="the-build", **PLAIN) as running:
        program.wait_for_event("lost", lambda event: event.get("log") == "line 1")
        both = [readers.start_one("node", redis.uri, "lost", "the-build", lost_after=4)]  # test_logs has the other
        wait_for(lambda: all("line 2" in reader.lines for reader in both), "the readers to read")
        redis.process.send_signal(signal.SIGSTOP)
        time.sleep(4.5)
        redis.process.send_signal(signal.SIGCONT)
        seen = [len(reader.lines) for reader in both]
        wait_for(lambda: all(len(reader.lines) > count for reader, count in zip(both, seen, strict=True)), "more lines")
        running.process.send_signal(signal.SIGKILL)

    for reader in both:
        assert reader.end() == 1
        assert "Build the-build of lost stopped sending events." in "\n".join(reader.stderr)
        numbers = [line for line in reader.lines if line.startswith("line ")]
        assert numbers == [f"line {number}" for number in range(1, len(numbers) + 1)]


def test_the_documented_user_reads_and_a_wrong_password_ends(
    program: Program, readers: Readers, repositories: Repositories
) -> None:
    (command,) = blocks("redis")
    with program.redis.client() as client:
        client.execute_command(*command.replace("PASSWORD", "s3cret-of-the-test").split())

    def address(password: str) -> str:
        return program.redis.uri.replace("//", f"//viewer:{password}@")

    allowed = readers.start(address("s3cret-of-the-test"), "acl", "the-build")
    wait_until_they_wait(program.redis, 2)
    refused = readers.start(address("wrong"), "acl", "the-build")
    run = program.run(repositories.app(), SLUG="acl", BUILD_ID="the-build", **PLAIN)

    for reader in allowed:
        assert reader.end() == 0, reader.stderr
        assert reader.lines == logs(run.events)
        assert reader.stderr == []
    for reader in refused:
        assert reader.end(60) == 1
        assert reader.lines == []
    with program.redis.client() as client:
        client.execute_command("AUTH", "viewer", "s3cret-of-the-test")
        for other in (["XRANGE", "events:acl", "-", "+"], ["XREAD", "STREAMS", "other", "0"], ["KEYS", "*"]):
            with pytest.raises(RedisError, match="permission"):
                client.execute_command(*other)


def test_a_second_run_with_the_same_id_is_read_too(
    program: Program, readers: Readers, repositories: Repositories
) -> None:
    """A task that was killed is started again, as AWS Batch does it."""
    everything = readers.start(program.redis.uri, "again", "the-build", events=True)
    with program.running(repositories.app(lines(100, 0.2)), SLUG="again", BUILD_ID="the-build", **PLAIN) as running:
        program.wait_for_event("again", lambda event: event.get("log") == "line 3")
        reader = LogReader(program, "again", "--follow", "--json", "--build", "the-build")
        wait_for(lambda: all(len(each.lines) > 3 for each in everything), "the readers to read")
        time.sleep(1)
        running.process.send_signal(signal.SIGKILL)
        running.process.wait()
    second = program.run(repositories.app(SITE), SLUG="again", BUILD_ID="the-build", **PLAIN)

    for each in everything:
        assert each.end() == 0, each.stderr
        events = [json.loads(line) for line in each.lines]
        assert events[-len(second.events) :] == second.events
        assert any(event.get("log") == "line 3" for event in events[: -len(second.events)])
    assert reader.end() == 0
    assert reader.events[-len(second.events) :] == second.events
    assert "Build the-build was started again." in reader.stderr
