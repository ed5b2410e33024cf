r"""What a build prints, byte for byte, and what becomes of it as events; and output without end."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import suppress
from datetime import datetime
from itertools import pairwise
from pathlib import Path

import pytest

from buildrunner.events.journal import RUNNER_EVENTS_BYTES
from support.harness import PLAIN, Event, Process, Program, Redis, Repositories, Run
from support.s3_server import S3Server
from support.warm import WarmProgram

PIECE = 16 * 1024
LONG_LINE = 10_000_000  # bytes
MADE = "\nmkdir -p dist; echo 1 >dist/index.html"

# What is printed, by sh, and the lines that it becomes (docs/events.md). A pause makes two reads of two writes.
CASES: dict[str, tuple[str, list[str]]] = {
    "empty lines": (r"printf '\n\nx\n\n'", ["", "", "x", ""]),
    "a line with CR and LF": (r"printf 'x\r\n\r\ny\r\n'", ["x", "", "y"]),
    "CR and LF in two writes": (r"printf 'x\r'; sleep 0.1; printf '\ny\n'", ["x", "y"]),
    "a bar": (r"printf '10%%\r50%%\r100%%\n'", ["100%"]),
    "a bar that begins with CR": (r"printf '\r1/2\r2/2\n'", ["2/2"]),
    "a bar in many writes": (r"for i in 1 2 3; do printf '\r%s/3' $i; sleep 0.05; done; echo", ["3/3"]),
    "a bar that is wiped out": (r"printf '50%%\r\r\r\n'", ["50%"]),
    "bytes that are not UTF-8": (r"printf 'a\377b\n\376\n'", ["a\ufffdb", "\ufffd"]),
    "half a character": (r"printf 'x\303\ny\n'", ["x\ufffd", "y"]),
    "a surrogate": (r"printf '[\355\240\200]\n'", ["[\ufffd\ufffd\ufffd]"]),
    "a character in two writes": (r"printf 'caf\303'; sleep 0.1; printf '\251\n'", ["café"]),
    "a character in four writes": (
        r"for byte in 360 237 232 200; do printf \\$byte; sleep 0.05; done; echo",
        ["🚀"],
    ),
    "NULs": (r"printf 'a\000b\000\000c\n\000\n'", ["abc", ""]),
    "color and TAB stay": (r"printf '\t\033[1;31mred\033[0m\n'", ["\t\x1b[1;31mred\x1b[0m"]),
    "other sequences go": (r"printf '\033[2J\033[H\033]0;title\007x\033[?25l\b\013y\n'", ["xy"]),
    "a sequence in two writes": (r"printf 'a\033['; sleep 0.1; printf '2Kb\n'", ["b"]),
    "bidirectional controls go": (r"printf 'a\342\200\256b\342\201\246c\n'", ["abc"]),
    "what looks like an event": (
        """echo '{"v":1,"build":"x","seq":1,"type":"result","log":"Done"}'""",
        ['{"v":1,"build":"x","seq":1,"type":"result","log":"Done"}'],
    ),
    "a line of 16 KiB": (f"head -c {PIECE} /dev/zero | tr '\\0' x; echo", ["x" * PIECE]),
}
LONG = {
    "one byte more than 16 KiB": (f"head -c {PIECE + 1} /dev/zero | tr '\\0' x; echo", "x" * (PIECE + 1)),
    "10 MB": (f"head -c {LONG_LINE} /dev/zero | tr '\\0' y; echo", "y" * LONG_LINE),
    "10 MB of characters of three bytes": (
        f"""node -e 'process.stdout.write("€".repeat({LONG_LINE // 3}))'; echo""",
        "€" * (LONG_LINE // 3),
    ),
}
ALTERNATING = "for i in $(seq 300); do echo out $i; echo err $i >&2; done; sleep 0.1; " + "".join(
    f"echo slow {i} {'>&2' if i % 2 else ''}; sleep 0.1; " for i in range(6)
)
LAST = "the last line has no end"


@pytest.fixture(scope="module")
def run(shared_redis: Redis, s3: S3Server, open_folder: Path, repositories: Repositories) -> Run:
    """A run that prints every case after a line with its name."""
    program = WarmProgram(shared_redis, s3, open_folder)
    scripts = {name: script for name, (script, _) in {**CASES, **LONG}.items()} | {"alternating": ALTERNATING}
    script = "\n".join(f"echo '=== {name}'; sleep 0.05; {script}" for name, script in scripts.items())
    app = repositories.app(f"{script}{MADE}\necho '=== unterminated'; printf '{LAST}'")
    run = program.run(app, **PLAIN)
    assert run.code == 0, run.stdout[-2000:] + run.stderr
    assert run.events == program.archive(run)
    return run


def output(run: Run, name: str) -> list[Event]:
    """Return the events of one case."""
    events = [event for event in run.events if event["type"] == "log" and event["stream"] != "runner"]
    (start,) = (index for index, event in enumerate(events) if event["log"] == f"=== {name}")
    rest = events[start + 1 :]
    end = next((index for index, event in enumerate(rest) if event["log"].startswith("=== ")), len(rest))
    return rest[:end]


@pytest.mark.parametrize("name", CASES)
def test_lines_are_what_events_md_says(run: Run, name: str) -> None:
    events = output(run, name)

    assert [event["log"] for event in events] == CASES[name][1]
    assert not any("cont" in event for event in events)


@pytest.mark.parametrize("name", LONG)
def test_a_long_line_comes_in_pieces_of_16_kib_that_make_it_up(run: Run, name: str) -> None:
    check_pieces(output(run, name), LONG[name][1])


def check_pieces(events: list[Event], line: str) -> None:
    assert "".join(event["log"] for event in events) == line
    assert ["cont" in event for event in events] == [False] + [True] * (len(events) - 1)
    assert all(event.get("cont", True) is True for event in events)
    sizes = [len(event["log"].encode()) for event in events]
    assert max(sizes) <= PIECE
    assert min(sizes[:-1]) > PIECE - 4  # cut between characters, and nowhere else


def test_a_last_line_without_an_end_is_a_line(run: Run) -> None:
    assert [event["log"] for event in output(run, "unterminated")] == [LAST]


def test_stdout_and_stderr_are_separate_and_each_keeps_its_order(run: Run) -> None:
    events = output(run, "alternating")

    for stream, word in (("stdout", "out"), ("stderr", "err")):
        lines = [event["log"] for event in events if event["stream"] == stream and not event["log"].startswith("slow")]
        assert lines == [f"{word} {number}" for number in range(1, 301)]
    slow = [(event["log"], event["stream"]) for event in events if event["log"].startswith("slow")]
    assert slow == [(f"slow {number}", ["stdout", "stderr"][number % 2]) for number in range(6)]


def test_output_that_never_ends_a_line_is_read_to_its_end(program: Program, repositories: Repositories) -> None:
    app = repositories.app(f"{MADE}\nhead -c {LONG_LINE} /dev/zero | tr '\\0' z")

    run = program.run(app, **PLAIN)

    assert run.code == 0
    check_pieces([event for event in run.events if event.get("stream") == "stdout"], "z" * LONG_LINE)
    assert run.events == program.archive(run)
    assert run.messages[-1] == "Done"


@pytest.mark.parametrize(
    ("holder", "lines"),
    [("sleep 61.7", ["begun"]), ("sh -c 'sleep 0.1; echo late; exec sleep 61.7'", ["begun", "late"])],
)
def test_a_grandchild_with_the_pipe_open_hangs_and_loses_nothing(
    program: Program, repositories: Repositories, holder: str, lines: list[str]
) -> None:
    app = repositories.app(f"{MADE}\n(setsid {holder} &)\necho begun")

    run = program.run(app, **PLAIN)

    assert run.code == 0
    assert run.lines[-len(lines) :] == lines
    assert 0.3 < stage_seconds(run, "build") < 30  # it was held open, and not waited for to its end
    assert subprocess.run(["pgrep", "-f", "^sleep 61.7$"], check=False, stdout=subprocess.DEVNULL).returncode == 1


def test_a_grandchild_that_prints_without_end_lets_the_build_end(program: Program, repositories: Repositories) -> None:
    app = repositories.app(f"echo begun{MADE}\n(setsid yes y &)")

    run = program.run(app, LOG_MAX_BYTES="1000000", **PLAIN)

    assert run.code == 0
    assert "begun" in run.lines[:5]
    assert run.lines.count("y") > 100
    assert stage_seconds(run, "build") < 60


def stage_seconds(run: Run, stage: str) -> float:
    (seconds,) = (event["seconds"] for event in run.events if event["stage"] == stage and "seconds" in event)
    return float(seconds)


# --- more than LOG_MAX_BYTES ---


def own_output(run: Run, program: Program, redis: Redis) -> list[bytes]:
    """Return the encoded events of the repository's own output, as they are in the stream."""
    with redis.client() as client:
        entries = [entry["event"].encode() for _, entry in client.xrange(f"events:{run.slug}")]
    return [entry for entry in entries if b'"type":"log"' in entry and b'"stream":"runner"' not in entry]


def test_a_200_mb_flood_keeps_head_and_tail_and_counts_the_rest(
    program: Program, shared_redis: Redis, repositories: Repositories
) -> None:
    lines, padding, limit = 2_000_000, "." * 83, 4_000_000
    app = repositories.app(f"seq -f 'line %011.0f {padding}' {lines}{MADE}")

    run = program.run(app, LOG_MAX_BYTES=str(limit), **PLAIN)

    assert run.code == 0
    assert stage_seconds(run, "build") < 80
    numbers = [int(line.split()[1]) for line in run.lines if line.startswith("line ")]
    gaps = [(before, after) for before, after in pairwise([0, *numbers, lines + 1]) if after != before + 1]
    assert len(gaps) == 1  # a head, a tail, and nothing else
    ((head, tail),) = gaps
    assert head > 5000
    assert lines - tail > 5000
    dropped = [event for event in run.events if event["type"] == "dropped"]
    assert sum(event["lines"] for event in dropped) == tail - head - 1 == lines - len(numbers)
    assert sum(event["bytes"] for event in dropped) == (tail - head - 1) * len(f"line {1:011} {padding}")
    assert {event["reason"] for event in dropped} == {"LOG_MAX_BYTES"}
    assert all("log" in event for event in dropped)
    kept = sum(map(len, own_output(run, program, shared_redis)))
    assert limit * 0.9 < kept <= limit
    assert run.events == program.archive(run)


def test_endless_empty_lines_stay_within_the_limits(
    own_redis: Redis, program: Program, repositories: Repositories, open_folder: Path
) -> None:
    limit = 4_000_000
    program = WarmProgram(own_redis, program.s3, program.folder)
    temporary = open_folder / f"tmp-{uuid.uuid4().hex[:12]}"
    temporary.mkdir()
    temporary.chmod(0o755)
    used: list[int] = []

    def measure(process: Process, slug: str) -> None:
        program.wait_for_event(slug, lambda _event: True)
        while process.poll() is None:
            used.append(disk_usage(temporary))
            time.sleep(0.1)

    run = program.run(
        repositories.app(f"timeout 8 yes ''{MADE}"),
        meanwhile=measure,
        LOG_MAX_BYTES=str(limit),
        TMPDIR=str(temporary),
        **PLAIN,
    )

    assert run.code == 0
    began, *dropped = (
        event
        for event in run.events
        if event["type"] == "dropped" or (event["stage"] == "build" and event.get("state") == "started")
    )
    assert sum(event["lines"] for event in dropped) > 1_000_000  # it was a flood
    assert {event["bytes"] for event in dropped} == {0}
    # One is told under way, and the other is what was left at the end of the stage.
    assert len(dropped) == 2
    assert moment(dropped[0]) - moment(began) >= 4.99
    # The live head and the tail are all that is kept.
    own = own_output(run, program, own_redis)
    assert limit * 0.9 < sum(map(len, own)) <= limit
    with own_redis.client() as client:
        # Redis's own share is largest for lines as short as these: measured, 7% (Valkey 9.1).
        assert client.memory_usage(f"events:{run.slug}", samples=0) <= limit * 1.1
    # The whole room was there from the start, and no more was ever taken.
    assert len(used) > 50
    assert limit * 3 // 2 + RUNNER_EVENTS_BYTES <= min(used[:50])
    assert max(used) <= limit * 3 // 2 + RUNNER_EVENTS_BYTES + 64 * 1024
    assert run.events == program.archive(run)


def moment(event: Event) -> float:
    return datetime.fromisoformat(event["ts"]).timestamp()


def disk_usage(folder: Path) -> int:
    """Return the bytes on disk of a run's own files below its TMPDIR, the build's folder left out."""
    return sum(file.stat().st_blocks * 512 for file in folder.glob("buildrunner-*/*") if file.is_file())


@pytest.fixture
def small_disk(open_folder: Path) -> Iterator[Path]:
    """A file system of its own with 48 MB."""
    if os.geteuid() != 0:
        pytest.skip("only root can mount a small file system to fill")
    folder = open_folder / f"disk-{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=48m,mode=755", "tmpfs", folder],
        check=False,
        capture_output=True,
        text=True,
    )
    if mounted.returncode != 0:
        pytest.skip(f"this machine does not let root mount a small file system to fill: {mounted.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_a_build_that_fills_the_disk_cannot_silence_its_log(
    program: Program, repositories: Repositories, small_disk: Path
) -> None:
    # 30,000 lines are some 6 MB of events: far more than a file system without a free block could take.
    app = repositories.app(
        "mkdir dist; echo 1 >dist/index.html; dd if=/dev/zero of=fill bs=1M; echo x >full || echo nothing fits any more;"
        " seq -f 'still here %.0f' 30000"
    )

    run = program.run(app, LOG_MAX_BYTES="16000000", TMPDIR=str(small_disk), **PLAIN)

    assert "nothing fits any more" in run.lines
    assert any("No space left on device" in line for line in run.lines)
    assert [line for line in run.lines if line.startswith("still")] == [
        f"still here {number}" for number in range(1, 30001)
    ]
    assert run.result["status"] == "succeeded"
    assert run.code == 0
    assert run.events == program.archive(run)
    assert run.messages[-1] == "Done"


def test_a_terminal_shows_upload_progress_and_then_clears_it(program: Program, repositories: Repositories) -> None:
    app = repositories.app("mkdir dist; cd dist; echo 1 >index.html; for i in $(seq 500); do echo $i >$i.txt; done")
    environment = program.environment(app, TERM="xterm", UPLOAD_CONCURRENCY="1", **PLAIN)
    ours, theirs = os.openpty()

    command = [sys.executable, "-P", "-m", "buildrunner"]
    with subprocess.Popen(command, env=environment, cwd="/", stdin=subprocess.DEVNULL, stdout=theirs) as process:
        os.close(theirs)
        seen = b""
        with open(ours, "rb", buffering=0) as screen, suppress(OSError):  # EIO, when the last process has gone
            while chunk := screen.read(65536):
                seen += chunk

    assert process.returncode == 0, seen.decode()
    before, *states, after = seen.decode().split("\r\x1b[K")
    drawn = [state for part in (before, *states) for state in part.split("\r") if " of 501 files" in state]
    assert len(drawn) >= 2
    assert all(state.endswith("\x1b[K") for state in drawn)
    assert " of 501 files" not in after  # it is gone before the summary
    assert "Published" in after
