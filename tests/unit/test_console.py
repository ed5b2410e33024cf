"""What a real terminal shows while a site is published: the line that is redrawn, and the log above it."""

from __future__ import annotations

import fcntl
import json
import os
import re
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Sequence
from typing import Any

import pytest

# Each line of stdin is the events of one batch; a line of stderr tells that they are written.
PRINT = """
import json, sys
from buildrunner.events.sinks.console import make_formatter, print_bytes
show = make_formatter(sys.argv[1], progress=True)
for line in sys.stdin:
    print_bytes(show([json.dumps(event).encode() for event in json.loads(line)]))
    print("written", file=sys.stderr, flush=True)
"""
Event = dict[str, Any]


def event(kind: str, at: float, log: str | None = None, **fields: Any) -> Event:
    ts = f"2026-01-01T12:00:{at:06.3f}Z"
    return {"ts": ts, "type": kind, "stage": "upload", **fields} | ({} if log is None else {"log": log})


def progress(at: float, done: int, size: float, total: int = 1500, total_bytes: float = 9e6) -> Event:
    return event("progress", at, done=done, total=total, bytes=int(size), total_bytes=int(total_bytes))


STARTED = event("stage", 0, "Publishing 1,500 files (9.0 MB)", state="started")
ENDED = event("stage", 4, "Published", state="succeeded", seconds=4.0)
WARNING = event("log", 2.5, "a.txt is left out", stream="runner", level="warning")
UPLOAD = [[STARTED, progress(0.1, 1, 0)], [progress(1.1, 500, 3e6)], [progress(2.1, 1000, 6e6)], [ENDED]]
IN_THE_MIDDLE = "  1,000 of 1,500 files, 6.0 of 9.0 MB, 3.0 MB/s"


class Screen:
    """As much of a terminal as is needed: rows of characters, CR, LF, erasing to the end of the row, and colors."""

    def __init__(self, columns: int) -> None:
        self.rows = [""]
        self.colored = False
        self._columns = columns
        self._column = 0

    def feed(self, data: bytes) -> None:
        for token in re.findall(r"\x1b\[[0-9;]*[A-Za-z]|.", data.decode(), re.DOTALL):
            if token == "\r":
                self._column = 0
            elif token == "\n":
                self.rows.append("")
                self._column = 0
            elif token == "\x1b[K":
                self.rows[-1] = self.rows[-1][: self._column]
            elif token.startswith("\x1b"):
                assert token[-1] == "m", token
                self.colored = True
            else:
                assert self._column < self._columns, f"{self.rows[-1]!r} does not fit"
                self.rows[-1] = self.rows[-1][: self._column] + token + self.rows[-1][self._column + 1 :]
                self._column += 1


def watch(
    batches: Sequence[Sequence[Event]], *, columns: int = 100, console_format: str = "auto", **variables: str
) -> tuple[list[list[str]], list[bytes], Screen]:
    """Return what the screen shows after each batch, what was written for it, and the screen."""
    ours, theirs = os.openpty()
    fcntl.ioctl(ours, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {"PATH": os.environ["PATH"], "TERM": "xterm-256color", **variables}
    command = [sys.executable, "-P", "-c", PRINT, console_format]
    screen, shown, written = Screen(columns or 80), [], []
    with subprocess.Popen(
        command, env=environment, stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(theirs)
        assert process.stdin
        assert process.stderr
        os.set_blocking(ours, False)
        for batch in batches:
            process.stdin.write(json.dumps(batch) + "\n")
            process.stdin.flush()
            assert process.stderr.readline() == "written\n", process.stderr.read()
            try:
                written.append(os.read(ours, 1 << 20))
            except BlockingIOError:
                written.append(b"")
            screen.feed(written[-1])
            shown.append([row.rstrip() for row in screen.rows])
        process.stdin.close()
    os.close(ours)
    return shown, written, screen


def test_a_terminal_shows_files_bytes_and_rate_in_one_line_that_goes_with_the_stage() -> None:
    shown, _, screen = watch(UPLOAD)

    head = ["", "● Publishing 1,500 files (9.0 MB)"]
    assert shown[0] == [*head, ""]
    assert [row[:-1] for row in shown[1:3]] == [head, head]
    assert re.fullmatch(r"  ━{8}╌{16}  500 of 1,500 files, 3\.0 of 9\.0 MB, 3\.0 MB/s", shown[1][-1])
    assert shown[2][-1] == f"  {'━' * 16}{'╌' * 8}{IN_THE_MIDDLE}"
    assert shown[3] == [*head, "✓ Published", ""]
    assert screen.colored


def test_lines_that_come_meanwhile_stand_above_it() -> None:
    shown, written, _ = watch([*UPLOAD[:3], [WARNING], [WARNING, progress(3, 1200, 7e6)], [ENDED]])

    assert shown[3][2:] == ["  a.txt is left out", shown[2][-1]]
    assert shown[4][2:4] == ["  a.txt is left out"] * 2
    assert "1,200 of 1,500 files" in shown[4][4]
    assert shown[5][2:] == ["  a.txt is left out"] * 2 + ["✓ Published", ""]
    # Between two states the row is never empty.
    assert written[2].startswith(b"\r  ")
    assert written[2].count(b"\x1b[K") == 1


def test_it_ends_with_a_stage_that_fails_and_with_the_result() -> None:
    failed = event("stage", 4, "Publishing failed", state="failed", seconds=4.0)
    result = event("result", 4, "Failed: no", status="failed", seconds=4.0, hint="Try again.")

    shown, _, _ = watch([*UPLOAD[:3], [failed, result]])

    assert shown[-1][2:] == ["✗ Publishing failed", "", "Failed: no 4.0 s", ""]


def test_what_is_over_at_once_and_a_sign_of_life_draw_nothing() -> None:
    shown, written, _ = watch([[STARTED, progress(0.1, 1, 0)], [progress(0.3, 1500, 9e6)], [event("progress", 0.4)]])

    assert shown[2] == shown[0]
    assert written[1:] == [b"", b""]


def test_a_terminal_that_was_stopped_sees_the_last_state_alone() -> None:
    batch = [each for batch in UPLOAD[:3] for each in batch]

    shown, written, _ = watch([batch, [*batch[1:], ENDED]])

    assert written[0].count(b"files,") == 1
    assert "1,000 of 1,500 files" in shown[0][-1]
    assert b"files," not in written[1]


@pytest.mark.parametrize(
    ("columns", "row"),
    [
        (100, f"  {'━' * 16}{'╌' * 8}{IN_THE_MIDDLE}"),
        (len(IN_THE_MIDDLE) + 27, f"  {'━' * 16}{'╌' * 8}{IN_THE_MIDDLE}"),
        (len(IN_THE_MIDDLE) + 26, IN_THE_MIDDLE),
        (len(IN_THE_MIDDLE), "  1,000 of 1,500 files, 6.0 of 9.0 MB"),
        (30, "  1,000 of 1,500 files"),
        (10, "  1,000 o"),
        (0, f"  {'━' * 16}{'╌' * 8}{IN_THE_MIDDLE}"),  # a terminal that does not know its size
    ],
)
def test_a_narrow_terminal_shows_as_much_as_fits_one_row(columns: int, row: str) -> None:
    shown, _, _ = watch([[progress(0.1, 1, 0)], UPLOAD[2]], columns=columns)

    assert shown[-1] == [row]


def test_a_small_site_is_counted_in_kb_and_an_empty_one_divides_by_nothing() -> None:
    shown, _, _ = watch([[progress(0.1, 1, 0)], [progress(2, 5, 12e3, 10, 48e3)], [progress(3, 1, 0, 2, 0)]])

    assert shown[1][-1].endswith("  5 of 10 files, 12.0 of 48.0 kB, 0.0 MB/s")
    assert shown[2][-1].endswith("  1 of 2 files, 0.0 of 0.0 kB, 0.0 MB/s")


def test_no_color_takes_the_color_and_leaves_the_rest() -> None:
    shown, _, screen = watch([[progress(0.1, 1, 0)], UPLOAD[2]], NO_COLOR="1")

    assert shown[1] == [f"  {'━' * 16}{'╌' * 8}{IN_THE_MIDDLE}"]
    assert not screen.colored


@pytest.mark.parametrize(
    ("console_format", "variables"),
    [
        ("text", {}),
        ("json", {}),
        ("auto", {"TERM": "dumb"}),
        ("auto", {"CI": "true"}),
        ("auto", {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4"}),
    ],
)
def test_where_the_output_is_kept_nothing_is_redrawn(console_format: str, variables: dict[str, str]) -> None:
    shown, written, _ = watch(UPLOAD, columns=1000, console_format=console_format, **variables)

    assert not any(b"\x1b[K" in data for data in written)
    assert console_format == "json" or not any("1,000" in row for row in shown[-1])


def test_output_that_would_block_is_waited_for_and_whole() -> None:
    """Node sets a terminal or a pipe that it shares to be non-blocking."""
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    events = [event("log", 0, f"line {number} {'.' * 100}", stream="stdout") for number in range(5000)]

    with subprocess.Popen(
        [sys.executable, "-c", PRINT, "text"], stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE, text=True
    ) as process:
        os.close(theirs)
        assert process.stdin
        process.stdin.write(f"{json.dumps(events)}\n{json.dumps([event('log', 0, 'last', stream='stdout')])}\n")
        process.stdin.close()
        with open(ours) as screen:
            time.sleep(0.5)  # meanwhile the pipe is full
            lines = screen.read().splitlines()
        assert process.stderr
        assert process.stderr.read() == "written\n" * 2

    assert [line.split()[1] for line in lines[:-1]] == [str(number) for number in range(5000)]
    assert lines[-1] == "last"


def test_a_reader_that_has_gone_ends_the_waiting() -> None:
    ours, theirs = os.pipe()
    os.set_blocking(theirs, False)
    script = "import os; from buildrunner.events.sinks.console import print_bytes; print_bytes(bytes(10 ** 6))"
    with subprocess.Popen([sys.executable, "-c", script], stdout=theirs, stderr=subprocess.PIPE, text=True) as process:
        os.close(theirs)
        os.read(ours, 1)
        os.close(ours)
        _, said = process.communicate(timeout=60)

    assert "BrokenPipeError" in said
