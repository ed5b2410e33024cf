"""How runs end: signals, limits of time, a Redis or a bucket in trouble, a later run. Each fault is a real one."""

from __future__ import annotations

import os
import signal
import time
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.harness import (
    PLAIN,
    Event,
    Process,
    Program,
    Redis,
    Repositories,
    app_files,
    free_port,
    wait_for,
    wait_for_end,
)
from support.relay import Relay, never_answer
from support.s3_server import S3Server, s3_server
from support.warm import WarmProgram

# A child, one that left the group and refuses SIGTERM, and the build itself.
SLOW = (
    "echo building; sleep 77.{mark} & (setsid sh -c 'trap \"\" TERM; sleep 77.{mark}' &); sleep 77.{mark};"
    " mkdir dist; echo 1 >dist/index.html"
)


@pytest.fixture
def program(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Program:
    """Run builds without npm, except where a signal has to pass through it."""
    return WarmProgram(shared_redis, s3, open_folder, PLAIN)


def building(event: Event) -> bool:
    return event.get("log") == "building"


def alive(words: str, *, whole: bool = False) -> list[int]:
    """Return the processes whose command line holds the words, or is them, each followed by a space."""
    found = []
    for entry in Path("/proc").iterdir():
        with suppress(OSError):
            if not entry.name.isdigit():
                continue
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            if line == words if whole else words in line:
                found.append(int(entry.name))
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130), (signal.SIGHUP, 143)])
def test_a_signal_cancels_the_build_and_leaves_nothing_running(
    program: Program, repositories: Repositories, number: signal.Signals, code: int
) -> None:
    mark = f"1{number.value}"
    app = repositories.app(SLOW.format(mark=mark))

    def interrupt(process: Process, slug: str) -> None:
        program.wait_for_event(slug, building)
        process.send_signal(number)
        wait_for_end(process, 20)

    npm: dict[str, Any] = {"INSTALL_COMMAND": None, "BUILD_COMMAND": None} if number == signal.SIGTERM else {}
    run = program.run(app, meanwhile=interrupt, **npm)

    assert run.code == code
    assert (run.result["status"], run.result["stage"], run.result["exit_code"]) == ("cancelled", "build", code)
    assert run.messages[-1] == "Cancelled"
    assert program.objects(run.slug) == {}
    assert program.archive(run)[-1] == run.result
    assert not alive(f"sleep 77.{mark}")
    states = [(event["stage"], event["state"]) for event in run.events if event["type"] == "stage"]
    assert ("build", "failed") in states


@pytest.mark.parametrize("delay", [0.0, 0.05, 0.1, 0.15, 0.2, 0.3, 0.45, 0.7])
def test_a_signal_at_any_early_moment_is_answered_with_a_result(
    program: Program, repositories: Repositories, delay: float
) -> None:
    app = repositories.app("sleep 30")

    def interrupt(process: Process, _slug: str) -> None:
        status = Path(f"/proc/{process.pid}/status")
        # Until Python runs our first lines, the kernel's own action ends the process: nobody can change that.
        wait_for(lambda: "SigCgt:\t0000000000000000" not in status.read_text() and _catches_sigterm(status), "handlers")
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)

    run = program.run(app, meanwhile=interrupt)

    assert run.code == 143
    assert run.result["status"] == "cancelled"
    assert run.messages[-1] == "Cancelled"
    assert program.archive(run)[-1] == run.result


def _catches_sigterm(status: Path) -> bool:
    caught = next(line for line in status.read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (signal.SIGTERM - 1) & 1)


def test_a_second_signal_ends_at_once_and_leaves_nothing_running(program: Program, repositories: Repositories) -> None:
    app = repositories.app("trap '' TERM; " + SLOW.format(mark="22"))

    def interrupt(process: Process, slug: str) -> None:
        program.wait_for_event(slug, building)
        process.send_signal(signal.SIGTERM)
        time.sleep(0.2)
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=1)

    run = program.run(app, meanwhile=interrupt)

    assert run.code == 143
    assert not alive("sleep 77.22")


@pytest.mark.parametrize("delay", [0.0, 0.02, 0.05, 0.1])
def test_a_signal_after_the_result_changes_no_exit_code(
    program: Program, repositories: Repositories, delay: float
) -> None:
    app = repositories.app("mkdir -p dist junk; echo 1 >dist/index.html; seq -f 'junk/%.0f' 8000 | xargs touch")

    def interrupt(process: Process, slug: str) -> None:
        program.wait_for_event(slug, lambda event: event["type"] == "result")
        time.sleep(delay)
        process.send_signal(signal.SIGTERM)

    run = program.run(app, meanwhile=interrupt)

    assert (run.code, run.result["status"]) == (0, "succeeded")


def test_a_build_that_takes_too_long_is_timed_out_and_ended(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app(SLOW.format(mark="33")), BUILD_TIMEOUT="1.5")

    assert run.code == 124
    assert (run.result["status"], run.result["stage"]) == ("timed_out", "build")
    assert run.messages[-1].startswith("Timed out: ")
    assert "1.5 s" in run.result["reason"]
    assert "was stopped at `sleep 77.33`" in run.result["reason"]
    assert "building" in run.lines
    assert not alive("sleep 77.33")


@contextmanager
def frozen_sleep(seconds: str) -> Iterator[None]:
    """Put a `sleep` into state D, in which SIGKILL does not end it, by the freezer of control groups v1."""
    group = Path(f"/sys/fs/cgroup/freezer/{uuid.uuid4().hex}")
    group.mkdir()
    command = f"sleep {seconds} "  # whole, as the shell that starts it has these words in its own command line
    try:
        wait_for(lambda: len(alive(command, whole=True)) == 1, "the process")
        (group / "cgroup.procs").write_text(str(alive(command, whole=True)[0]))
        (group / "freezer.state").write_text("FROZEN")
        wait_for(lambda: (group / "freezer.state").read_text() == "FROZEN\n", "the kernel")
        yield
    finally:
        (group / "freezer.state").write_text("THAWED")
        wait_for(lambda: not (group / "cgroup.procs").read_text(), "the killed process to end")
        group.rmdir()


@pytest.mark.skipif(not os.access("/sys/fs/cgroup/freezer", os.W_OK), reason="there is no freezer to write to")
def test_a_process_that_cannot_be_killed_holds_up_no_end(program: Program, repositories: Repositories) -> None:
    app = repositories.app()
    started: dict[str, Any] = {"INSTALL_COMMAND": "true"}
    stuck = program.running(app, **started, BUILD_COMMAND="echo building; exec sleep 77.66")
    slow = program.running(app, **started, BUILD_COMMAND="echo building; exec sleep 77.77", BUILD_TIMEOUT="10")
    left = program.running(app, **started, BUILD_COMMAND="echo building; sleep 77.88 & sleep 10")
    with stuck as stopped, slow as timed_out, left as ended, ExitStack() as stack:
        for mark in ("88", "77", "66"):
            stack.enter_context(frozen_sleep(f"77.{mark}"))
        stopped.process.send_signal(signal.SIGTERM)
        runs = [running.end(60) for running in (stopped, timed_out, ended)]

    assert [run.code for run in runs] == [143, 124, 40]
    assert [run.messages[-1].split(":")[0] for run in runs] == ["Cancelled", "Timed out", "Failed"]
    for run in runs:
        assert run.said("the kernel does not release it")


def test_the_last_output_of_a_silent_build_hides_no_silence(program: Program, repositories: Repositories) -> None:
    run = program.run(
        repositories.app(),
        INSTALL_COMMAND="true",
        BUILD_COMMAND="trap 'echo bye; exit 1' TERM; sleep 600 & wait",
        BUILD_TIMEOUT="2",
    )

    assert run.code == 124
    assert "bye" in run.lines
    assert "it had printed nothing for the last 2 s" in run.result["reason"]


def test_an_install_that_takes_too_long_is_timed_out(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app(), INSTALL_COMMAND="sleep 60", INSTALL_TIMEOUT="1")

    assert (run.code, run.result["stage"]) == (124, "install")


def test_what_a_stage_started_does_not_live_in_the_next(program: Program, repositories: Repositories) -> None:
    app = repositories.app("ps ax -o args | grep '[s]leep 77.44' && exit 1; mkdir dist; echo 1 >dist/index.html")

    run = program.run(app, INSTALL_COMMAND="sleep 77.44 & (setsid sh -c 'sleep 77.44 & sleep 77.44' &) ; exit 0")

    assert run.code == 0
    assert not alive("sleep 77.44")


def test_output_of_what_the_command_left_behind_is_still_read(program: Program, repositories: Repositories) -> None:
    run = program.run(repositories.app("(sleep 0.1; echo late) & mkdir dist; echo 1 >dist/index.html; echo early"))

    assert run.code == 0
    assert run.lines[-2:] == ["early", "late"]


def test_a_build_killed_by_a_signal_is_told_by_its_name(program: Program, repositories: Repositories) -> None:
    segfault = program.run(repositories.app("kill -SEGV $$"), BUILD_COMMAND="kill -SEGV $$")
    killed = program.run(repositories.app("true"), BUILD_COMMAND="kill -KILL $$")

    assert (segfault.code, killed.code) == (40, 40)
    assert "SIGSEGV" in segfault.result["reason"]
    assert "SIGKILL" in killed.result["reason"]


def test_a_redis_that_is_away_does_not_fail_the_build(program: Program, repositories: Repositories) -> None:
    run = program.run(
        repositories.app("sleep 2; mkdir dist; echo 1 >dist/index.html"), REDIS_URI=f"redis://127.0.0.1:{free_port()}"
    )

    assert run.code == 0
    assert list(program.objects(run.slug)) == ["index.html"]
    archive = program.archive(run)
    assert archive[-1]["status"] == "succeeded"
    warnings = [event["log"] for event in archive if event.get("level") == "warning"]
    assert "refuses connections" in warnings[0]
    assert "incomplete" in warnings[-1]
    assert "were not delivered" in run.stdout
    assert run.stdout.rstrip().endswith(".")


def test_a_redis_that_returns_empty_gets_the_log_without_repeats(
    own_redis: Redis, program: Program, repositories: Repositories
) -> None:
    program = WarmProgram(own_redis, program.s3, program.folder, PLAIN)
    app = repositories.app(
        "i=0; while [ $i -lt 90 ]; do echo line $i; sleep 0.05; i=$((i+1)); done; mkdir dist; echo 1 >dist/index.html"
    )

    def restart(_process: Process, slug: str) -> None:
        program.wait_for_event(slug, lambda event: event.get("log") == "line 10")
        own_redis.kill()
        time.sleep(2.5)
        own_redis.start()

    run = program.run(app, meanwhile=restart)

    assert run.code == 0
    assert [event["seq"] for event in run.events] == list(range(1, len(run.events) + 1))
    assert [line for line in run.lines if line.startswith("line ")] == [f"line {i}" for i in range(90)]
    assert run.events == program.archive(run)
    assert run.said("The live log continues")
    assert len(set(run.messages)) == len(run.messages) or run.messages.count("line 10") == 1


def test_a_frozen_redis_neither_slows_the_build_nor_loses_events(
    own_redis: Redis, program: Program, repositories: Repositories
) -> None:
    program = WarmProgram(own_redis, program.s3, program.folder, PLAIN)
    app = repositories.app(
        "date +%s >t; for i in 1 2 3 4 5 6 7 8; do echo line $i; sleep 0.2; done; mkdir dist; date +%s >>t; mv t dist/index.html"
    )

    def freeze(process: Process, slug: str) -> None:
        program.wait_for_event(slug, lambda event: event.get("log") == "line 2")
        own_redis.process.send_signal(signal.SIGSTOP)
        time.sleep(7)
        assert process.poll() is None
        own_redis.process.send_signal(signal.SIGCONT)

    run = program.run(app, meanwhile=freeze)

    assert run.code == 0
    began, ended = map(int, program.objects(run.slug)["index.html"]["body"].split())
    assert ended - began <= 4
    assert run.events == program.archive(run)
    lines = [message for message in run.messages if message.startswith("line ")]
    assert lines == sorted(set(lines))


def test_a_signal_with_a_frozen_redis_ends_within_its_deadline(
    own_redis: Redis, program: Program, repositories: Repositories
) -> None:
    program = WarmProgram(own_redis, program.s3, program.folder, PLAIN)
    took = []

    def freeze(process: Process, slug: str) -> None:
        program.wait_for_event(slug, building)
        own_redis.process.send_signal(signal.SIGSTOP)
        started = time.monotonic()
        process.send_signal(signal.SIGTERM)
        process.wait(timeout=25)
        took.append(time.monotonic() - started)
        own_redis.process.send_signal(signal.SIGCONT)

    run = program.run(repositories.app(SLOW.format(mark="55")), meanwhile=freeze)

    assert run.code == 143
    assert took[0] < 16
    assert "were not delivered" in run.stdout


def test_a_signal_in_a_stuck_upload_leaves_time_for_the_log(program: Program, repositories: Repositories) -> None:
    """Giving up the upload of a large file hangs, too."""
    app = repositories.app("mkdir dist; echo $N >dist/index.html; (echo $N; seq 3000000) >dist/big.js")
    first = program.run(app, BUILD_ENV_N="1")
    with Relay(urlsplit(program.s3.endpoint).port or 0) as relay:
        relay.fault = lambda request: never_answer if "uploadId" in request.query else None

        def interrupt(process: Process, _slug: str) -> None:
            wait_for(lambda: relay.first_fault is not None, "a part of the file")
            process.send_signal(signal.SIGTERM)
            wait_for_end(process, 20)

        endpoint = f"http://127.0.0.1:{relay.port}"
        run = program.run(app, BUILD_ENV_N="2", SLUG=first.slug, AWS_ENDPOINT_URL_S3=endpoint, meanwhile=interrupt)

    assert (first.code, run.code) == (0, 143)
    assert "It is not known whether S3 stored big.js" in run.result["reason"]
    assert program.archive(run)[-1] == run.result


def test_a_later_run_takes_over_and_the_earlier_ends_with_60(program: Program, repositories: Repositories) -> None:
    slow = repositories.app(
        "echo building; for i in 1 2 3 4 5 6 7 8 9 10; do echo $i; sleep 0.5; done; mkdir dist; echo old >dist/index.html"
    )
    later = []

    def second(_process: Process, slug: str) -> None:
        program.wait_for_event(slug, building)
        later.append(program.run(repositories.app("mkdir dist; echo new >dist/index.html"), SLUG=slug))

    run = program.run(slow, meanwhile=second)

    assert run.code == 60
    assert later[0].code == 0
    assert program.objects(run.slug)["index.html"]["body"] == b"new\n"
    assert {event["build"] for event in run.events} == {later[0].result["build"]}
    assert '"status":"superseded"' not in str(run.events)
    assert "Superseded" in run.stdout


def test_a_bucket_that_goes_away_in_the_run_ends_with_50(
    program: Program, repositories: Repositories, open_folder: Path
) -> None:
    app = repositories.app("echo building; sleep 1; mkdir dist; echo 1 >dist/index.html")
    with s3_server() as s3:
        s3.make_bucket("sites")
        lonely = WarmProgram(program.redis, s3, open_folder, PLAIN)

        def stop(_process: Process, slug: str) -> None:
            lonely.wait_for_event(slug, building)
            s3.stop()

        run = lonely.run(app, meanwhile=stop)

    assert run.code == 50
    assert "cannot be reached" in run.result["reason"]
    assert run.said("was not archived")


def test_much_output_keeps_the_head_and_the_tail(program: Program, repositories: Repositories) -> None:
    app = repositories.app("seq 1 20000 | sed 's/^/line /'; mkdir dist; echo 1 >dist/index.html")

    run = program.run(app, LOG_MAX_BYTES="200000")

    assert run.code == 0
    lines = [line for line in run.lines if line.startswith("line ")]
    assert lines[0] == "line 1"
    assert lines[-1] == "line 20000"
    (dropped,) = (event for event in run.events if event["type"] == "dropped")  # a flood of a moment is told once
    assert dropped["lines"] + len(lines) == 20000
    assert sum(len(str(event)) for event in run.events) < 300_000
    assert [event["seq"] for event in run.events] == list(range(1, len(run.events) + 1))


def test_nothing_is_left_in_the_temporary_folder(
    program: Program, repositories: Repositories, open_folder: Path
) -> None:
    folder = open_folder / "tmp-of-a-run"
    folder.mkdir()
    folder.chmod(0o755)

    run = program.run(
        repositories.make(app_files("mkdir dist; echo 1 >dist/index.html; chmod 500 dist")), TMPDIR=str(folder)
    )

    assert run.code == 0
    assert os.listdir(folder) == []
