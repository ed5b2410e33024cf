"""`buildrunner logs`: readers that come early, late, in the middle, again; of runs that end, vanish, or are taken over."""

from __future__ import annotations

import os
import random
import re
import signal
import threading
import time
import uuid
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from support.harness import (
    PLAIN,
    LogReader,
    Process,
    Program,
    Redis,
    Repositories,
    Run,
    add_first_event,
    free_port,
    wait_for,
)
from support.redis_relay import RedisRelay
from support.s3_server import S3Server
from support.warm import WarmProgram

SITE = "mkdir dist; echo 1 >dist/index.html"
READERS = 50
LOST = "buildrunner: Build {} was lost: no events for {} s\\.\n"


def read(program: Program, *arguments: str, **variables: str) -> LogReader:
    reader = LogReader(program, *arguments, **variables)
    reader.end()
    return reader


@pytest.fixture
def program(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Program:
    """Run builds without npm, which plays no part here."""
    return WarmProgram(shared_redis, s3, open_folder, PLAIN)


@pytest.fixture(scope="module", autouse=True)
def reader_of_the_dead(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Iterator[LogReader]:
    """Follow a run whose task was killed, beside the other tests: it takes 90 s to know that it is lost."""
    add_first_event(shared_redis, "dead", "the-dead", seconds_ago=0)
    reader = LogReader(WarmProgram(shared_redis, s3, open_folder), "dead", "--follow")
    yield reader
    reader.close()


@pytest.fixture(scope="module", autouse=True)
def reader_of_the_silent(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Iterator[LogReader]:
    """Read the log of a run that has been silent for long, beside the other tests: it takes 35 s to be sure."""
    add_first_event(shared_redis, "silent", "gone", seconds_ago=100)
    reader = LogReader(WarmProgram(shared_redis, s3, open_folder), "silent")
    yield reader
    reader.close()


@pytest.fixture(scope="module")
def built(shared_redis: Redis, s3: Any, open_folder: Any, repositories: Repositories) -> Run:
    """A run that has ended well."""
    return WarmProgram(shared_redis, s3, open_folder, PLAIN).run(repositories.app("seq 1 300; " + SITE))


# --- what has been ---------------------------------------------------------------------------------------------------


def test_a_log_is_printed_whole_with_the_exit_code_of_the_build(program: Program, built: Run) -> None:
    reader = read(program, built.slug)

    assert reader.process.returncode == 0
    lines = reader.stdout.splitlines()
    assert lines[0].startswith("==> Preparing build")
    assert [line for line in lines if line.isdigit()] == [str(number) for number in range(1, 301)]
    assert lines[-1] == "Done"
    assert reader.stderr == ""


def test_a_build_that_failed_gives_its_exit_code_and_its_hint(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app("echo JavaScript heap out of memory; exit 1"))

    reader = read(program, run.slug, "--follow")

    assert reader.process.returncode == run.code == 40
    lines = reader.stdout.splitlines()
    cause, excerpt, hint, result = lines[-4:]
    assert hint == f"What to do: {run.result['hint']}"
    assert (cause, excerpt.strip()) == (
        f"Cause: {run.result['reason']} (node-heap)",
        run.result["failure"]["excerpt"],
    )
    assert result == run.result["log"]


def test_json_gives_the_events_as_they_are(program: Program, built: Run) -> None:
    assert read(program, built.slug, "--json").events == built.events
    assert read(program, built.slug, "--json", "--build", built.result["build"]).events == built.events


def test_a_reader_in_the_new_protocol_of_redis_sees_the_same(program: Program, built: Run) -> None:
    reader = read(program, built.slug, "--json", REDIS_URI=f"{program.redis.uri}?protocol=3")

    assert reader.events == built.events


def test_when_the_stream_is_gone_the_archive_is_read(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app("exit 3"))
    with program.redis.client() as client:
        client.delete(f"events:{run.slug}")

    for more in ([], ["--follow"], ["--build", run.result["build"]]):
        reader = read(program, run.slug, "--json", *more)

        assert (reader.process.returncode, reader.events) == (40, run.events), more


def test_when_redis_is_away_the_archive_is_read_and_that_is_said(program: Program, built: Run) -> None:
    reader = read(program, built.slug, "--json", REDIS_URI=f"redis://user:secret@127.0.0.1:{free_port()}")

    assert (reader.process.returncode, reader.events) == (0, built.events)
    assert "refuses connections" in reader.stderr
    assert "secret" not in reader.stderr


def test_what_was_never_built_is_said_to_have_no_log(program: Program) -> None:
    reader = read(program, "never-built")

    assert (reader.process.returncode, reader.stdout) == (1, "")
    assert reader.stderr == "buildrunner: There is no log of never-built.\n"
    assert "AWS_BUCKET_NAME is not set" in read(program, "never-built", AWS_BUCKET_NAME="").stderr


def test_a_bucket_that_may_not_be_read_is_named(program: Program) -> None:
    reader = read(program, "never-built", AWS_BUCKET_NAME="no-such-bucket")

    assert reader.process.returncode == 1
    assert "its archive cannot be read: The bucket no-such-bucket does not exist" in reader.stderr


@pytest.mark.parametrize(
    ("arguments", "variables", "names"),
    [
        (["x"], {"REDIS_URI": ""}, ["REDIS_URI"]),
        (["Not_A_Slug"], {}, ["SLUG"]),
        (["x", "--build", "no/id"], {"REDIS_URI": "http://x"}, ["BUILD_ID", "REDIS_URI"]),
        (["x"], {"AWS_REGION": ""}, ["AWS_REGION"]),
    ],
)
def test_a_wrong_call_names_every_problem_and_ends_with_2(
    program: Program, arguments: list[str], variables: Mapping[str, str], names: list[str]
) -> None:
    reader = read(program, *arguments, **variables)

    assert (reader.process.returncode, reader.stdout) == (2, "")
    assert all(f"- {name} is" in reader.stderr for name in names)
    assert "REPO_URL" not in reader.stderr


def test_a_reader_whose_output_is_closed_ends_without_a_word(program: Program, built: Run) -> None:
    reader = program.launch(program.environment(None), "logs", built.slug, "--json")
    assert reader.stdout
    reader.stdout.close()

    assert reader.wait(30) == 128 + signal.SIGPIPE
    assert reader.stderr
    with reader.stderr:
        assert reader.stderr.read() == ""


# --- what is under way -----------------------------------------------------------------------------------------------


def test_readers_joining_at_50_moments_get_the_same_complete_log(program: Program, repositories: Repositories) -> None:
    chance = random.Random(5)
    readers: list[LogReader] = []
    build = "i=0; while [ $i -lt 60 ]; do seq $((i*50)) $((i*50+49)); sleep 0.2; i=$((i+1)); done; " + SITE

    def join(_process: Process, slug: str) -> None:
        for pause in sorted(chance.uniform(0, 14) for _ in range(READERS)):
            wait_for(lambda pause=pause: time.monotonic() - started >= pause, "the moment")  # type: ignore[misc]
            readers.append(LogReader(program, slug, "--follow", "--json", "--build", "joined"))

    started = time.monotonic()
    run = program.run(repositories.app(build), meanwhile=join, BUILD_ID="joined")

    assert run.code == 0
    assert [line for line in run.lines if line.isdigit()] == [str(number) for number in range(3000)]
    assert {reader.end() for reader in readers} == {0}
    assert len(readers) == READERS
    assert all(reader.events == run.events for reader in readers)


def test_who_follows_before_there_is_anything_waits_for_it(program: Program, repositories: Repositories) -> None:
    slug = f"early-{os.getpid()}"
    reader = LogReader(program, slug, "--follow", "--json")
    time.sleep(1.5)

    run = program.run(repositories.app(SITE), SLUG=slug)

    assert (run.code, reader.end()) == (0, 0)
    assert reader.events == run.events
    assert reader.stderr == f"buildrunner: There is no log of {slug} yet. Waiting for a build.\n"


def test_a_log_under_way_is_printed_so_far_and_said_to_go_on(program: Program, repositories: Repositories) -> None:
    readers: list[LogReader] = []

    def look(_process: Process, slug: str) -> None:
        program.wait_for_event(slug, lambda event: event.get("log") == "half")
        readers.append(read(program, slug))

    run = program.run(repositories.app("echo half; sleep 3; " + SITE), meanwhile=look)

    assert run.code == 0
    assert readers[0].process.returncode == 0
    assert readers[0].stdout.splitlines()[-1] == "half"
    assert readers[0].stderr == "buildrunner: The build is still running. Use --follow to stay until its end.\n"


def test_lines_are_shown_as_they_come(program: Program, repositories: Repositories) -> None:
    shown: list[str] = []

    def look(process: Process, slug: str) -> None:
        program.wait_for_event(slug, lambda event: event.get("log") == "first")
        reader = LogReader(program, slug, "--follow")
        assert reader.process.stdout is not None
        for line in reader.process.stdout:
            shown.append(line.strip())
            if line == "first\n":
                (program.folder / f"go-{slug}").touch()
        assert process.wait(30) == reader.end()

    wait = f"echo first; while [ ! -e {program.folder}/go-$SLUG ]; do sleep 0.05; done; echo second; " + SITE
    run = program.run(repositories.app(wait), meanwhile=look)

    assert run.code == 0
    assert shown.index("first") < shown.index("second")
    assert shown[-1] == "Done"


def test_a_run_that_is_named_is_waited_for(program: Program, repositories: Repositories) -> None:
    slug = f"waited-{os.getpid()}"
    old = program.run(repositories.app("echo old; " + SITE), SLUG=slug)
    reader = LogReader(program, slug, "--build", "the-next", "--follow", "--json")
    time.sleep(1)

    run = program.run(repositories.app("echo new; " + SITE), SLUG=slug, BUILD_ID="the-next")

    assert (old.code, run.code, reader.end()) == (0, 0, 0)
    assert reader.events == run.events


def test_a_redis_that_comes_back_empty_costs_a_reader_nothing(
    own_redis: Redis, program: Program, repositories: Repositories
) -> None:
    program = WarmProgram(own_redis, program.s3, program.folder, PLAIN)
    readers: list[LogReader] = []

    def kill(_process: Process, slug: str) -> None:
        readers.append(LogReader(program, slug, "--follow", "--json"))
        program.wait_for_event(slug, lambda event: event.get("log") == "30")
        own_redis.kill()
        time.sleep(1)
        own_redis.start()

    build = "i=0; while [ $i -lt 80 ]; do echo $i; sleep 0.1; i=$((i+1)); done; " + SITE
    run = program.run(repositories.app(build), meanwhile=kill)

    assert (run.code, readers[0].end()) == (0, 0)
    assert readers[0].events == run.events
    assert "Redis at 127.0.0.1" in readers[0].stderr
    assert "Redis responds again." in readers[0].stderr


def test_repeated_connection_cuts_cost_a_reader_nothing(
    own_redis: Redis, program: Program, repositories: Repositories
) -> None:
    own_program = WarmProgram(own_redis, program.s3, program.folder, PLAIN)
    readers: list[LogReader] = []
    connections = []

    def disturb(process: Process, slug: str) -> None:
        with RedisRelay(own_redis.port) as relay:
            readers.append(LogReader(own_program, slug, "--follow", "--json", REDIS_URI=relay.uri))
            while process.poll() is None:
                time.sleep(0.3)
                relay.leave()
                relay.come()
            readers[0].end()
            connections.append(relay.connections)

    build = "i=0; while [ $i -lt 60 ]; do echo $i; sleep 0.1; i=$((i+1)); done; " + SITE
    run = own_program.run(repositories.app(build), meanwhile=disturb)

    assert (run.code, readers[0].process.returncode) == (0, 0)
    assert readers[0].events == run.events
    assert connections[0] > 2  # one for each cut after which the reader had time to connect


def test_without_redis_the_reader_gets_the_archive(
    own_redis: Redis, program: Program, repositories: Repositories, open_folder: Path
) -> None:
    gate = open_folder / f"gate-{uuid.uuid4().hex[:12]}"
    program = WarmProgram(own_redis, program.s3, program.folder, PLAIN)
    readers: list[LogReader] = []

    def kill(process: Process, slug: str) -> None:
        readers.append(LogReader(program, slug, "--follow", "--json"))
        program.wait_for_event(slug, lambda event: event.get("log") == "half")
        with own_redis.client() as client:  # the reader has what there is
            wait_for(lambda: client.info("clients")["blocked_clients"] == 1, "the reader to wait")
        own_redis.kill()
        gate.touch()
        process.wait(60)
        readers[0].end()
        own_redis.start()

    run = program.run(repositories.app(f"echo half; until [ -e {gate} ]; do sleep 0.05; done; exit 9"), meanwhile=kill)

    assert (run.code, readers[0].process.returncode) == (40, 40)
    assert readers[0].events[-1]["type"] == "result"
    assert [event["seq"] for event in readers[0].events] == list(range(1, len(readers[0].events) + 1))


def test_a_later_run_is_followed_too_unless_a_build_was_named(program: Program, repositories: Repositories) -> None:
    readers: list[LogReader] = []
    later: list[Run] = []

    def take_over(_process: Process, slug: str) -> None:
        readers.append(LogReader(program, slug, "--follow", "--json"))
        readers.append(LogReader(program, slug, "--follow", "--json", "--build", "earlier"))
        program.wait_for_event(slug, lambda event: event.get("log") == "old")
        time.sleep(2)
        later.append(program.run(repositories.app("echo new; " + SITE), SLUG=slug, BUILD_ID="later"))

    run = program.run(repositories.app("echo old; sleep 30"), meanwhile=take_over, BUILD_ID="earlier")

    assert (run.code, later[0].code) == (60, 0)
    assert [reader.end() for reader in readers] == [0, 60]
    assert [event for event in readers[0].events if event["build"] == "later"] == later[0].events
    assert "A later build took over: later." in readers[0].stderr
    named = readers[1].events
    assert {event["build"] for event in named} == {"earlier"}
    assert [event["seq"] for event in named] == list(range(1, len(named) + 1))
    assert named[-1]["status"] == "superseded"


def test_a_finished_build_is_shown_at_once_while_a_later_prints(program: Program, repositories: Repositories) -> None:
    slug = f"chatty-{os.getpid()}"
    old = program.run(repositories.app(SITE), SLUG=slug, BUILD_ID="old")
    readers: list[LogReader] = []

    def look(process: Process, _slug: str) -> None:
        program.wait_for_event(slug, lambda event: event.get("log") == "chatty")
        readers.append(read(program, slug, "--json", "--build", "old"))
        assert process.poll() is None, "the later build goes on"

    program.run(
        repositories.app("while :; do echo chatty; sleep 0.1; done"), SLUG=slug, BUILD_TIMEOUT="10", meanwhile=look
    )

    assert (readers[0].process.returncode, readers[0].events) == (0, old.events)


def test_ctrl_c_ends_a_reader_as_it_ends_any_program(program: Program, shared_redis: Redis) -> None:
    add_first_event(shared_redis, "interrupted", "x", seconds_ago=0)
    reader = LogReader(program, "interrupted", "--follow")
    assert reader.process.stdout is not None
    assert reader.process.stdout.readline() == "Preparing\n"

    reader.process.send_signal(signal.SIGINT)

    assert reader.end(5) == -signal.SIGINT
    assert reader.stderr == ""


# --- runs that vanish ------------------------------------------------------------------------------------------------


def test_a_run_whose_clock_is_wrong_is_not_lost(program: Program, shared_redis: Redis) -> None:
    add_first_event(shared_redis, "skewed", "x", seconds_ago=3600)
    reader = LogReader(program, "skewed")
    time.sleep(2)

    add_first_event(shared_redis, "skewed", "x", seconds_ago=-10, seq=2)

    assert reader.end() == 0
    assert reader.stdout == "Preparing\n" * 2
    assert reader.stderr == "buildrunner: The build is still running. Use --follow to stay until its end.\n"


def test_a_superseded_run_without_an_archive_ends_with_60(program: Program, shared_redis: Redis) -> None:
    add_first_event(shared_redis, "taken", "mine", seconds_ago=0)
    reader = LogReader(program, "taken", "--build", "mine", "--follow", AWS_BUCKET_NAME="")
    assert reader.process.stdout is not None
    assert reader.process.stdout.readline() == "Preparing\n"

    add_first_event(shared_redis, "taken", "other", seconds_ago=0, seq=2)

    assert reader.end(10) == 60
    assert "A later build took over" in reader.stderr


def test_a_redis_that_refuses_the_reader_is_not_asked_for_ever(program: Program, own_redis: Redis) -> None:
    with own_redis.client() as client:
        client.execute_command("ACL", "SETUSER", "nobody", "on", ">pass", "~none", "+@all")
    own_program = WarmProgram(own_redis, program.s3, program.folder, PLAIN)
    for user in ("nobody:pass", "nobody:wrong"):
        reader = read(own_program, "x", "--follow", REDIS_URI=f"redis://{user}@127.0.0.1:{own_redis.port}")

        assert reader.process.returncode == 1
        assert "There is no log of x" in reader.stderr
        assert "tried again" not in reader.stderr


def test_a_run_that_has_been_silent_for_long_is_lost(reader_of_the_silent: LogReader) -> None:
    """It has waited since the module began, to be sure although clocks may differ."""
    assert reader_of_the_silent.end(60) == 1
    assert reader_of_the_silent.stdout == "Preparing\n"
    assert re.fullmatch(LOST.format("gone", r"\d+"), reader_of_the_silent.stderr)


def test_a_run_that_falls_silent_is_lost_after_90_s(reader_of_the_dead: LogReader) -> None:
    """It has waited since the module began."""
    ended = threading.Event()

    def wait() -> None:
        reader_of_the_dead.end(150)
        ended.set()

    threading.Thread(target=wait).start()

    assert ended.wait(150)
    assert reader_of_the_dead.process.returncode == 1
    assert reader_of_the_dead.stdout == "Preparing\n"
    assert re.fullmatch(LOST.format("the-dead", r"(?:9|1\d)\d"), reader_of_the_dead.stderr)
