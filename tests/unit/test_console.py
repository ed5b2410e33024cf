"""Test the output in a terminal: the log, the progress row below it, and the summary or failure at the end."""

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
from buildrunner.events.sinks.console import make_display, print_bytes
display = make_display(sys.argv[1], live=True)
display._clock = lambda: 0.0
for line in sys.stdin:
    print_bytes(display.show([json.dumps(event).encode() for event in json.loads(line)]))
    print("written", file=sys.stderr, flush=True)
"""
Event = dict[str, Any]


def event(kind: str, at: float, log: str | None = None, **fields: Any) -> Event:
    ts = f"2026-01-01T12:00:{at:06.3f}Z"
    return {"ts": ts, "type": kind, "stage": "upload"} | fields | ({} if log is None else {"log": log})


def progress(at: float, done: int, size: float, total: int = 1500, total_bytes: float = 9e6) -> Event:
    return event("progress", at, done=done, total=total, bytes=int(size), total_bytes=int(total_bytes))


STARTED = event("stage", 0, "Publishing 1,500 files (9.0 MB)", state="started")
ENDED = event("stage", 4, "Published", state="succeeded", seconds=4.0)
WARNING = event("log", 2.5, "a.txt is left out", stream="runner", level="warning")
UPLOAD = [[STARTED, progress(0.1, 1, 0)], [progress(1.1, 500, 3e6)], [progress(2.1, 1000, 6e6)], [ENDED]]
NUMBERS = "1,000 of 1,500 files, 6.0 of 9.0 MB, 3.0 MB/s"
BAR = f"{'━' * 16}{'╌' * 8}"
RESULT = event(
    "result",
    4,
    "Done",
    status="succeeded",
    seconds=75.2,
    commit="0123456789abcdef",
    files=28,
    bytes=1_200_000,
    sent={"files": 16, "bytes": 400_000},
    size_changes={"js": 12_300, "css": -400},
    stages={"prepare": 0.01, "clone": 0.5, "install": 60.0, "build": 12.0, "upload": 2.0},
    url="https://my-site.example.com",
)
FAILED = event(
    "result",
    4,
    "Failed: npm run build ended with exit code 2.",
    status="failed",
    stage="build",
    seconds=3.0,
    hint="Assign a number, or change the type of title, which is what a long sentence would say as well.",
    failure={"kind": "typescript-error", "file": "src/app.ts", "line": 12, "column": 5, "excerpt": "one\n  two"},
    stages={"clone": 1.0, "build": 2.0},
)


class Screen:
    """A minimal terminal: rows of characters, CR, LF, erasing to the end of the row, and colors."""

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
    """Return the rows of the screen after each batch, the bytes written for each, and the screen."""
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


def row(rest: str, seconds: int, stage: str = "upload") -> str:
    """Return the progress row; the clock of these tests stands still."""
    return f"⠋ {stage} {seconds} s  {rest}"


# --- the row that moves ----------------------------------------------------------------------------------------------


def test_the_row_shows_stage_time_and_upload_and_ends_with_it() -> None:
    shown, _, screen = watch(UPLOAD)

    assert shown[0] == [row("1 of 1,500 files, 0.0 of 9.0 MB", 0).replace("  1", f"  {'╌' * 24}  1")]
    assert shown[1] == [row(f"{'━' * 8}{'╌' * 16}  500 of 1,500 files, 3.0 of 9.0 MB, 3.0 MB/s", 1)]
    assert shown[2] == [row(f"{BAR}  {NUMBERS}", 2)]
    assert shown[3] == ["✓ Publishing 1,500 files (9.0 MB) 4.0 s", ""]
    assert screen.colored


def test_the_row_shows_what_was_printed_last() -> None:
    started = event("stage", 0, "Building", stage="build", state="started")
    line = event("log", 3, "\x1b[32mtransforming\x1b[0m\t…", stage="build", stream="stdout")
    empty = event("log", 4, "", stage="build", stream="stdout")

    shown, _, _ = watch([[started], [line], [empty], []])

    assert shown[0] == [row("Building", 0, "build")]
    assert shown[1][:2] == ["", "● Building"]
    assert shown[1][-1] == row("transforming …", 3, "build")
    assert shown[2][-1] == shown[3][-1] == row("transforming …", 4, "build")


def test_lines_that_come_meanwhile_stand_above_it() -> None:
    shown, written, _ = watch([*UPLOAD[:3], [WARNING], [WARNING, progress(3, 1200, 7e6)], [ENDED]])

    head = ["", "● Publishing 1,500 files (9.0 MB)", "  a.txt is left out"]
    assert shown[3] == [*head, shown[2][-1]]
    assert shown[4][:4] == [*head, head[-1]]
    assert "1,200 of 1,500 files" in shown[4][4]
    assert shown[5] == [*head, head[-1], "✓ upload 4.0 s", ""]
    # Between two states the row is never empty.
    assert written[2].startswith(b"\r\x1b[36m")
    assert written[2].count(b"\x1b[K") == 1


def test_a_state_that_is_drawn_already_is_not_written_again() -> None:
    _, written, _ = watch([*UPLOAD[:2], [], [event("progress", 1.1)]])

    assert written[2:] == [b"", b""]


def test_a_terminal_that_was_stopped_sees_the_last_state_alone() -> None:
    batch = [each for batch in UPLOAD[:3] for each in batch]

    shown, written, _ = watch([batch, [*batch[1:], ENDED]])

    assert written[0].count(b"files,") == 1
    assert "1,000 of 1,500 files" in shown[0][-1]
    assert b"files," not in written[1]


@pytest.mark.parametrize(
    ("columns", "rest"),
    [
        (100, f"{BAR}  {NUMBERS}"),
        (len(NUMBERS) + 41, f"{BAR}  {NUMBERS}"),
        (len(NUMBERS) + 25, f"━━━━━╌╌╌  {NUMBERS}"),
        (len(NUMBERS) + 24, NUMBERS),
        (len(NUMBERS) + 14, "1,000 of 1,500 files, 6.0 of 9.0 MB"),
        (40, "1,000 of 1,500 files"),
        (0, f"{BAR}  {NUMBERS}"[:66]),  # a terminal that does not know its size
    ],
)
def test_a_narrow_terminal_shows_as_much_as_fits_one_row(columns: int, rest: str) -> None:
    shown, _, _ = watch([UPLOAD[0], UPLOAD[2]], columns=columns)

    assert len(shown[-1]) == 1
    assert shown[-1][0].startswith("⠋ upload 2 s  ")
    assert len(shown[-1][0]) < (columns or 80)
    assert columns == 0 or shown[-1][0].endswith(f"  {rest}")


def test_a_long_line_is_cut_to_the_row() -> None:
    line = event("log", 1, "字" * 18, stage="build", stream="stdout")

    shown, _, _ = watch([[event("stage", 0, "Building", stage="build", state="started"), line]], columns=40)

    assert shown[-1][-1] == row("字" * 13, 1, "build")


@pytest.mark.parametrize(
    ("console_format", "variables"),
    [
        ("text", {}),
        ("json", {}),
        ("auto", {"TERM": "dumb"}),
        ("auto", {"NO_COLOR": "1"}),
        ("auto", {"CI": "true"}),
        ("auto", {"ECS_CONTAINER_METADATA_URI_V4": "http://169.254.170.2/v4"}),
    ],
)
def test_where_the_output_is_kept_nothing_is_redrawn(console_format: str, variables: dict[str, str]) -> None:
    shown, written, screen = watch(UPLOAD, columns=1000, console_format=console_format, **variables)

    assert not any(b"\x1b[K" in data for data in written)
    assert console_format == "json" or not any("1,000" in row for row in shown[-1])
    assert not screen.colored or "NO_COLOR" not in variables


# --- stages and the end ----------------------------------------------------------------------------------------------


def test_a_stage_that_did_nothing_is_not_shown() -> None:
    def stage(name: str, seconds: float, state: str = "succeeded") -> list[Event]:
        begun = event("stage", 0, f"About {name}", stage=name, state="started")
        return [begun, event("stage", seconds, f"{name}: done", stage=name, state=state, seconds=seconds)]

    shown, _, _ = watch(
        [[*stage("prepare", 0.1), *stage("clone", 0.1), *stage("finish", 0.2), *stage("prepare", 0.1, "failed")]]
    )
    slow, _, _ = watch([stage("finish", 3.0)])

    assert shown[-1] == ["✓ About clone 0.1 s", "✗ About prepare 0.1 s", ""]
    assert slow[-1] == ["✓ About finish 3.0 s", ""]


def test_a_success_ends_with_a_summary() -> None:
    shown, _, _ = watch([[RESULT]])

    assert shown[-1] == [
        "",
        "✓ Published in 1 min 15 s",
        "  clone        0.5 s ▎",
        "  install  1 min 0 s " + "█" * 32,
        "  build       12.0 s ██████▍",
        "  upload       2.0 s █▏",
        "  commit   0123456789ab",
        "  site     28 files (1.2 MB), 16 sent (400.0 kB), 12 unchanged",
        "  size     js +12.3 kB, css −0.4 kB since the last deployment",
        "  address  https://my-site.example.com",
        "",
    ]


def test_a_failure_ends_with_its_place_excerpt_and_hint() -> None:
    hint = event("log", 4, f"What to do: {FAILED['hint']}", stage="finish", stream="runner", level="info")

    shown, _, screen = watch([[hint], [FAILED]], columns=70)

    assert shown[0] == [""]
    assert shown[1] == [
        "",
        "  clone    1.0 s ████████████████",
        "  build    2.0 s ████████████████████████████████",
        "",
        "┃ Failed: npm run build ended with exit code 2.",
        "┃ src/app.ts:12:5 (typescript-error)",
        "┃",
        "┃   one",
        "┃     two",
        "┃",
        "┃ What to do: Assign a number, or change the type of title, which is",
        "┃ what a long sentence would say as well.",
        "",
    ]
    assert screen.colored


def test_plain_lines_end_with_the_same() -> None:
    hint = event("log", 4, f"What to do: {FAILED['hint']}", stage="finish", stream="runner", level="info")

    failed, _, _ = watch([[hint, FAILED]], columns=200, console_format="text")
    published, _, _ = watch([[RESULT]], columns=200, console_format="text")

    assert failed[-1] == [
        "Cause: src/app.ts:12:5 (typescript-error)",
        "    one",
        "      two",
        f"What to do: {FAILED['hint']}",
        "Failed: npm run build ended with exit code 2.",
        "",
    ]
    assert published[-1] == [
        "Published commit 0123456789ab in 75.2 s (clone 0.5 s, install 60.0 s, build 12.0 s, upload 2.0 s):"
        " 28 files (1.2 MB), 16 sent (400.0 kB), 12 unchanged. https://my-site.example.com",
        "Done",
        "",
    ]


def test_plain_lines_name_the_failure_before_the_hint() -> None:
    result = {
        **FAILED,
        "failure": {"kind": "manifest-missing"},
        "reason": "There is no package.json.",
        "hint": "Add it.",
    }

    (lines, _, _) = watch([[result]], columns=200, console_format="text")

    assert lines[-1][:2] == ["Cause: There is no package.json. (manifest-missing)", "What to do: Add it."]


def test_output_that_would_block_is_waited_for_and_whole() -> None:
    """Node.js makes a shared terminal or pipe non-blocking."""
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
