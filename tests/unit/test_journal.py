from __future__ import annotations

import errno
import json
import math
import os
import re
import tempfile
from collections.abc import Awaitable, Callable
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, TypeVar

import anyio
import anyio.lowlevel
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildrunner.events import journal as journal_module
from buildrunner.events.journal import RUNNER_EVENTS_BYTES, SILENCE_SECONDS, Journal, lines_of_output
from buildrunner.events.lines import Line
from buildrunner.events.ring import Ring
from buildrunner.redaction import Redactor

T = TypeVar("T")
Event = dict[str, Any]
MIB = 1024 * 1024
TOKEN = "ghp_0123456789abcdef"

# No deadline: test machines are busy.
QUICKLY = settings(deadline=None, max_examples=60)

# Lines as the decoder hands them out: clean, at most 16 KiB, with all that JSON has to escape.
TEXTS = st.one_of(
    st.sampled_from(
        ["", "x", '\t"quoted" \\ ', "\x1b[31mred\x1b[0m", "ünïcödé 🚀", "\x7f\u2028\ufffd", "y" * 300, "ä" * 8000]
    ),
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"], exclude_characters="\n"), max_size=40),
)
LINES = st.lists(st.tuples(TEXTS, st.booleans()), max_size=60)


def run(main: Callable[[], Awaitable[T]]) -> T:
    return anyio.run(main)


def with_journal(
    use: Callable[[Journal], Awaitable[T]], *, max_bytes: int = MIB, secrets: tuple[str, ...] = (), build: str = "b1"
) -> T:
    async def main() -> T:
        with (
            tempfile.TemporaryDirectory() as folder,
            Journal(Path(folder), build=build, redactor=Redactor(secrets), max_bytes=max_bytes) as journal,
        ):
            return await use(journal)

    return run(main)


def all_events(journal: Journal) -> list[Event]:
    return [json.loads(event) for event in all_bytes(journal)]


def all_bytes(journal: Journal) -> list[bytes]:
    reader, events = journal.reader(), list[bytes]()
    while batch := reader.read(500, 65536):
        events += batch
    return events


def is_output(event: Event) -> bool:
    return bool(event["type"] == "log" and event["stream"] != "runner")


# --- events ---


def test_events_of_all_writers_are_numbered_without_a_gap() -> None:
    async def use(journal: Journal) -> list[Event]:
        journal.log("Hello")
        journal.stage = "build"
        journal.write("stage", "Building", state="started")
        journal.output("stdout", [("one", False), ("two", False)])
        journal.output("stderr", [("three", False)])
        journal.output("stdout", [])
        journal.write("progress")
        await journal.end_output(share=1.0)
        journal.log("Careful", "warning")
        assert journal.last_seq == 7
        return all_events(journal)

    events = with_journal(use)

    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6, 7]
    assert {(event["v"], event["build"]) for event in events} == {(1, "b1")}
    assert [event["stage"] for event in events] == ["prepare"] + ["build"] * 6
    assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", event["ts"]) for event in events)


def test_events_hold_exactly_the_documented_fields() -> None:
    async def use(journal: Journal) -> list[Event]:
        journal.log("Hello")
        journal.write("stage", "done", state="succeeded", seconds=1.25)
        journal.output("stdout", [("long", False), ("er", True)])
        journal.write("progress", done=1, total=2, bytes=10, total_bytes=20)
        journal.write("progress")
        journal.write("result", "Done", stage="finish", status="succeeded", exit_code=0, reason=None, hint=None)
        return all_events(journal)

    events = with_journal(use)

    for event in events:
        for name in ("v", "build", "seq", "ts"):
            del event[name]
    prepare = {"stage": "prepare"}
    assert events == [
        {"type": "log", **prepare, "stream": "runner", "level": "info", "log": "Hello"},
        {"type": "stage", **prepare, "state": "succeeded", "seconds": 1.25, "log": "done"},
        {"type": "log", **prepare, "stream": "stdout", "log": "long"},
        {"type": "log", **prepare, "stream": "stdout", "cont": True, "log": "er"},
        {"type": "progress", **prepare, "done": 1, "total": 2, "bytes": 10, "total_bytes": 20},
        {"type": "progress", **prepare},
        {"type": "result", "stage": "finish", "status": "succeeded", "exit_code": 0, "log": "Done"},
    ]


def test_fields_for_programs_are_not_redacted() -> None:
    async def use(journal: Journal) -> list[Event]:
        journal.write("log", "runner said succeeded", stream="runner", level="info")
        journal.write("stage", "succeeded", state="succeeded", seconds=1.0)
        journal.write("result", "Superseded", status="succeeded", reason="it succeeded", hint="runner")
        journal.write("result", "Failed: Failed: runner", status="succeeded")
        return all_events(journal)

    log, stage, superseded, failed = with_journal(use, secrets=("runner", "succeeded", "Superseded", "Failed: "))

    assert (log["stream"], log["log"]) == ("runner", "[redacted] said [redacted]")
    assert (stage["state"], stage["log"]) == ("succeeded", "[redacted]")
    assert (superseded["status"], superseded["log"]) == ("succeeded", "Superseded")
    assert (superseded["reason"], superseded["hint"]) == ("it [redacted]", "[redacted]")
    assert failed["log"] == "Failed: [redacted] [redacted]"


@QUICKLY
@given(LINES)
def test_what_is_encoded_is_what_was_written(lines: list[Line]) -> None:
    async def use(journal: Journal) -> list[bytes]:
        journal.output("stdout", lines)
        return all_bytes(journal)

    encoded = with_journal(use, max_bytes=8 * MIB)

    assert [(event["log"], event.get("cont", False)) for event in map(json.loads, encoded)] == lines
    for event in encoded:  # no spaces, no needless escapes: as compact as json.dumps can be told to be
        assert event == json.dumps(json.loads(event), ensure_ascii=False, separators=(",", ":")).encode()


@QUICKLY
@given(LINES, st.sampled_from(["a", "B-1_x"]))
def test_the_line_of_an_event_is_found_without_full_decoding(lines: list[Line], build: str) -> None:
    async def write(journal: Journal) -> None:
        journal.output("stdout", lines)
        journal.log('"type":"log","stream":"stdout","log":"x"}')
        journal.write("progress")
        encoded = all_bytes(journal)
        expected = [event["log"] if is_output(event) else None for event in map(json.loads, encoded)]
        assert lines_of_output(encoded) == expected
        assert lines_of_output(encoded[: len(lines)]) == expected[: len(lines)]
        assert [line for event in encoded for line in lines_of_output([event])] == expected

    with_journal(write, build=build)


def test_a_line_cannot_forge_an_event() -> None:
    forged = '"}\n{"v":1,"type":"result"}'

    async def use(journal: Journal) -> list[Event]:
        journal.output("stdout", [(forged, False)])
        return all_events(journal)

    (event,) = with_journal(use)

    assert (event["type"], event["log"]) == ("log", forged)


def test_sentences_of_the_runner_are_redacted_in_every_field() -> None:
    async def use(journal: Journal) -> list[Event]:
        journal.log(f"Cloning\n\x1b[2Jhttps://x:{TOKEN}@host\u202e/\udcff", "warning")
        journal.write("result", "Failed: no", reason=f"{TOKEN} is refused.", hint=f"See {TOKEN}\x07.")
        return all_events(journal)

    log, result = with_journal(use, secrets=(TOKEN,))

    assert log["log"] == "Cloning https://x:[redacted]@host/\ufffd"
    assert (result["reason"], result["hint"]) == ("[redacted] is refused.", "See [redacted].")


# --- readers ---


@QUICKLY
@given(LINES, st.integers(1, 7), st.integers(1, 5000))
def test_a_reader_gets_events_in_order_in_batches_of_any_size(
    lines: list[Line], max_events: int, max_bytes: int
) -> None:
    async def use(journal: Journal) -> None:
        journal.output("stdout", lines)
        expected, reader, got = all_bytes(journal), journal.reader(), list[bytes]()

        while batch := reader.read(max_events, max_bytes):
            assert reader.next_seq == json.loads(batch[-1])["seq"] + 1
            assert len(batch) <= max_events
            assert len(batch) == 1 or sum(map(len, batch)) <= max_bytes
            got += batch

        assert got == expected
        assert reader.waiting_bytes == 0
        assert not reader.at_end()

    with_journal(use, max_bytes=8 * MIB)


@QUICKLY
@given(st.lists(st.integers(1, 400), min_size=1, max_size=6), st.data())
def test_a_reader_can_go_to_any_event(batches: list[int], data: st.DataObject) -> None:
    async def use(journal: Journal) -> None:
        for count in batches:
            journal.output("stdout", [(f"{'x' * (n % 70)}", False) for n in range(count)])
        reader = journal.reader()
        for seq in data.draw(st.lists(st.integers(1, sum(batches) + 1), min_size=1, max_size=5)):
            reader.go_to(seq)

            assert reader.next_seq == seq
            events = reader.read(3, 65536)
            assert [json.loads(event)["seq"] for event in events] == list(range(seq, min(seq + 3, sum(batches) + 1)))

    with_journal(use)


def test_a_reader_slower_than_the_writer_is_in_a_flood() -> None:
    async def use(journal: Journal) -> None:
        reader, flooded = journal.reader(), list[bool]()

        journal.log("Hello")
        flooded.append(reader.flooded)
        journal.output("stdout", [("x" * 200, False)] * 1000)
        flooded.append(reader.flooded)
        await anyio.sleep(journal_module.FLOOD_SECONDS)  # what nobody adds to is read without a pause
        flooded.append(reader.flooded)
        journal.output("stdout", [("x" * 200, False)] * 10)
        flooded.append(reader.flooded)
        while reader.read(500, 65536):
            pass
        flooded.append(reader.flooded)

        assert flooded == [False, True, False, True, False]

    with_journal(use)


def test_a_reader_waits_for_the_next_event_and_for_the_end() -> None:
    async def use(journal: Journal) -> list[int]:
        got: list[int] = []

        async def follow() -> None:
            reader = journal.reader()
            while not reader.at_end():
                await reader.wait()
                got.extend(json.loads(event)["seq"] for event in reader.read(2, 65536))

        async with anyio.create_task_group() as readers:
            for _ in range(3):
                readers.start_soon(follow)
            for _ in range(5):
                await anyio.wait_all_tasks_blocked()
                journal.log("Hello")
            journal.seal([("result", "Done", {})])
            await anyio.wait_all_tasks_blocked()
            assert sorted(got) == sorted([1, 2, 3, 4, 5] * 3)
            journal.publish_seal()
        return got

    with anyio_fails_after(5):
        got = with_journal(use)

    assert sorted(got) == sorted([1, 2, 3, 4, 5, 6] * 3)


class anyio_fails_after:
    """End a test that hangs: SIGALRM interrupts even a loop that never yields."""

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        import signal

        def fail(*_: object) -> None:
            raise TimeoutError

        signal.signal(signal.SIGALRM, fail)
        signal.alarm(self.seconds)

    def __exit__(self, *_: object) -> None:
        import signal

        signal.alarm(0)
        signal.signal(signal.SIGALRM, signal.SIG_DFL)


# --- LOG_MAX_BYTES ---

STAGES = st.lists(
    st.tuples(
        st.lists(st.tuples(st.sampled_from(["stdout", "stderr"]), LINES), max_size=6),
        st.sampled_from([0.0, 0.25, 0.5, 1.0]),
        st.booleans(),  # whether the runner says something in between
    ),
    min_size=1,
    max_size=4,
)
LIMITS = st.one_of(st.sampled_from([1, 2, 3, 100, 400, 1000, 5000, 33000, 70000]), st.integers(1, 300_000))


@QUICKLY
@given(STAGES, LIMITS)
def test_head_and_tail_of_output_stay_and_the_rest_is_counted(
    stages: list[tuple[list[tuple[Literal["stdout", "stderr"], list[Line]]], float, bool]], max_bytes: int
) -> None:
    async def use(journal: Journal) -> None:
        written: list[tuple[str, bool]] = []
        for puts, share, says_something in stages:
            journal.stage = "build"
            before = journal.last_seq
            put = [(stream, *line) for stream, lines in puts for line in lines]
            for stream, lines in puts:
                journal.output(stream, lines)
                if says_something:
                    journal.log("By the way")
            await journal.end_output(share=share)

            events = all_events(journal)[before:]
            kept = [(event["stream"], event["log"], event.get("cont", False)) for event in events if is_output(event)]
            dropped = [event for event in events if event["type"] == "dropped"]
            assert all(event["lines"] > 0 and event["reason"] for event in dropped)
            # What is missing is one piece out of the middle: the order is kept, and nothing is there twice.
            missing = len(put) - len(kept)
            assert sum(event["lines"] for event in dropped) == missing
            assert any(put[:head] + put[head + missing :] == kept for head in range(len(kept) + 1))
            text_bytes = [sum(len(text.encode()) for _, text, _ in lines) for lines in (put, kept)]
            assert sum(event["bytes"] for event in dropped) == text_bytes[0] - text_bytes[1]
            written += [(text, cont) for _, text, cont in put]

        everything = all_bytes(journal)
        assert [json.loads(event)["seq"] for event in everything] == list(range(1, len(everything) + 1))
        sizes = [len(event) + 1 for event in everything if is_output(json.loads(event))]
        assert sum(sizes) <= max_bytes

    with_journal(use, max_bytes=max_bytes)


@QUICKLY
@given(st.integers(20, 2000), st.integers(0, 2000), st.integers(1, 50), st.integers(40_000, 400_000))
def test_head_and_tail_fill_the_room_that_they_have(count: int, length: int, batch: int, max_bytes: int) -> None:
    async def use(journal: Journal) -> list[bytes]:
        lines = [(f"{n:06}{'x' * length}", False) for n in range(count)]
        for start in range(0, count, batch):
            journal.output("stdout", lines[start : start + batch])
        await journal.end_output(share=1.0)
        return [event for event in all_bytes(journal) if is_output(json.loads(event))]

    kept = with_journal(use, max_bytes=max_bytes)

    cost = len(kept[0]) + 7  # with its line end and a number of seven digits (bytes)
    numbers = [int(json.loads(event)["log"][:6]) for event in kept]
    head = next((n for n, number in enumerate(numbers) if n != number), len(numbers))
    if len(kept) == count:
        return
    assert head == (max_bytes - max_bytes // 2) // cost
    tail = numbers[head:]
    assert tail == list(range(count - len(tail), count))
    # The ring gives way in blocks of a sixteenth; at the end of its file a block may find no room.
    assert len(tail) * cost >= max_bytes // 2 * 13 // 16 - 3 * cost


def test_the_head_is_sent_live_and_the_tail_when_the_stage_ends() -> None:
    async def use(journal: Journal) -> None:
        journal.output("stdout", [(f"line {n}", False) for n in range(1000)])
        live = [event["log"] for event in all_events(journal) if is_output(event)]
        assert live == [f"line {n}" for n in range(len(live))]
        assert 50 < len(live) < 100

        await journal.end_output(share=1.0)

        events = all_events(journal)[len(live) :]
        assert [event["type"] for event in events[:2]] == ["dropped", "log"]
        assert {event["type"] for event in events[1:]} == {"log"}
        assert events[-1]["log"] == "line 999"

    with_journal(use, max_bytes=20_000)


def test_a_dropped_event_comes_at_most_every_five_seconds(monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(journal: Journal) -> list[float]:
        now, told = anyio.current_time(), list[float]()
        monkeypatch.setattr(anyio, "current_time", lambda: now)
        for tenth in range(300):
            now += 0.1
            before = journal.last_seq
            journal.output("stdout", [("x" * 100, False)] * 20)
            if any(event["type"] == "dropped" for event in all_events(journal)[before:]):
                told.append(tenth / 10)
        return told

    told = with_journal(use, max_bytes=5000)

    assert all(later - earlier >= 4.99 for earlier, later in pairwise(told))
    assert 5 <= len(told) <= 7


def test_later_stages_have_a_tail_too() -> None:
    async def use(journal: Journal) -> list[str]:
        for stage, share in (("clone", 0.25), ("install", 0.5), ("build", 1.0)):
            journal.output("stdout", [(f"{stage} {n}", False) for n in range(500)])
            await journal.end_output(share=share)
        return [event["log"] for event in all_events(journal) if is_output(event)]

    logs = with_journal(use, max_bytes=40_000)

    for stage in ("clone", "install", "build"):
        assert f"{stage} 499" in logs
        tail = [log for log in logs if log.startswith(stage)][-20:]
        assert tail == [f"{stage} {n}" for n in range(480, 500)]


def test_own_lines_are_kept_when_output_has_used_its_space() -> None:
    async def use(journal: Journal) -> list[Event]:
        for n in range(100):
            journal.output("stdout", [("x" * 200, False)] * 10)
            journal.log(f"word {n}")
        await journal.end_output(share=1.0)
        return all_events(journal)

    events = with_journal(use, max_bytes=100)

    assert [event["log"] for event in events if event.get("stream") == "runner"] == [f"word {n}" for n in range(100)]
    assert not any(is_output(event) for event in events)
    assert sum(event["lines"] for event in events if event["type"] == "dropped") == 1000


def test_the_time_of_a_line_in_the_ring_is_when_it_was_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal_module, "_now", lambda: "then")

    async def use(journal: Journal) -> Event:
        journal.output("stdout", [("x" * 60, False)] * 20)
        monkeypatch.setattr(journal_module, "_now", lambda: "now")
        await journal.end_output(share=1.0)
        return all_events(journal)[-1]

    assert with_journal(use, max_bytes=2000)["ts"] == "then"


# --- the ring, against a list ---


@QUICKLY
@given(
    st.integers(0, 4000),
    st.lists(
        st.one_of(
            st.lists(st.binary(max_size=300).map(lambda data: data.translate(None, b"\r\n") + b"\n"), max_size=30),
            st.sampled_from([0.0, 0.3, 1.0]),  # take all that is left after a resize to so much of the capacity
        ),
        max_size=12,
    ),
    st.integers(0, 80),
)
def test_the_ring_holds_the_newest_records(capacity: int, steps: list[list[bytes] | float], overhead: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ring = Ring(Path(folder) / "ring", capacity)
        model: list[bytes] = []
        for step in [*steps, 1.0]:
            if isinstance(step, list):
                ring.put(step, [len(record) - 1 for record in step], overhead)
                model += step
                continue
            ring.resize(int(capacity * step))
            taken = [record for block in ring.take() for record in block]

            assert taken == model[len(model) - len(taken) :]
            assert sum(len(record) + overhead for record in taken) <= int(capacity * step)
            fallen = model[: len(model) - len(taken)]
            assert ring.dropped_lines == len(fallen)
            assert ring.dropped_bytes == sum(len(record) - 1 for record in fallen)
            ring.dropped_lines = ring.dropped_bytes = 0
            model = []
            ring.resize(capacity)
        assert os.stat(Path(folder) / "ring").st_size <= capacity
        ring.close()


# --- room on disk ---


def test_the_room_on_disk_is_reserved_at_the_start(tmp_path: Path) -> None:
    async def main() -> None:
        with Journal(tmp_path, build="b", redactor=Redactor([]), max_bytes=10 * MIB):
            journal, tail = os.stat(tmp_path / "journal"), os.stat(tmp_path / "tail")
            assert journal.st_blocks * 512 >= 10 * MIB + RUNNER_EVENTS_BYTES
            assert tail.st_blocks * 512 >= 5 * MIB
            assert {journal.st_mode & 0o777, tail.st_mode & 0o777} == {0o600}

    run(main)


def test_a_full_disk_fails_immediately(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)

    async def main() -> None:
        with pytest.raises(OSError, match="No space left"):
            Journal(tmp_path, build="b", redactor=Redactor([]), max_bytes=MIB)

    run(main)


# --- the end ---


def test_sealed_events_are_archived_before_readers_see_them() -> None:
    async def use(journal: Journal) -> None:
        journal.log("one")

        size = journal.seal([("stage", "done", {"state": "succeeded"}), ("result", "Done", {"exit_code": 0})])

        assert [event["log"] for event in all_events(journal)] == ["one"]
        assert not journal.complete
        archived = archive(journal, size)
        assert [(event["seq"], event["log"]) for event in archived] == [(1, "one"), (2, "done"), (3, "Done")]
        reader = journal.reader()
        journal.publish_seal()
        assert all_events(journal) == archived
        assert journal.last_seq == 3
        assert not reader.at_end()
        reader.read(10, 65536)
        assert reader.at_end()

    with_journal(use)


def archive(journal: Journal, size: int) -> list[Event]:
    descriptor = journal.archive_file()
    try:
        data = os.pread(descriptor, size, 0)
    finally:
        os.close(descriptor)
    assert len(data) == size
    assert data.endswith(b"\n")
    return [json.loads(line) for line in data.splitlines()]


@pytest.mark.parametrize("late", ["SIGTERM received", "x" * 3000])
def test_an_event_after_the_seal_does_not_follow_the_result(late: str) -> None:
    async def use(journal: Journal) -> None:
        journal.log("one")
        size = journal.seal([("result", "Done", {"exit_code": 0})])

        journal.log(late, "warning")
        journal.output("stdout", [("late", False)])

        archived = archive(journal, size)
        journal.publish_seal()
        assert [event["log"] for event in archived] == ["one", "Done"]
        assert all_events(journal) == archived

    with_journal(use)


def test_events_after_a_seal_precede_the_result_of_the_next_seal() -> None:
    async def use(journal: Journal) -> None:
        journal.log("one")
        journal.seal([("stage", "finish: done", {"state": "succeeded"}), ("result", "Done", {"reason": "long" * 100})])
        journal.log("SIGTERM received", "warning")
        journal.log("The log could not be kept", "warning")

        size = journal.seal([("stage", "finish: failed", {"state": "failed"}), ("result", "Done", {})])

        visible = ["one", "SIGTERM received", "The log could not be kept"]
        assert [event["log"] for event in all_events(journal)] == visible
        archived = archive(journal, size)
        journal.publish_seal()
        assert all_events(journal) == archived
        assert [event["log"] for event in archived] == [*visible, "finish: failed", "Done"]
        assert [event["seq"] for event in archived] == [1, 2, 3, 4, 5]

    with_journal(use)


def test_nothing_is_written_after_the_result() -> None:
    async def use(journal: Journal) -> None:
        journal.seal([("result", "Done", {})])
        journal.publish_seal()
        size = journal.size

        journal.log("late")
        journal.write("progress")
        journal.output("stdout", [("late", False)])
        await journal.end_output(share=1.0)

        assert (journal.size, journal.last_seq) == (size, 1)
        assert [event["log"] for event in all_events(journal)] == ["Done"]

    with_journal(use)


# --- signs of life ---


@pytest.mark.parametrize("silent", [True, False])
def test_a_sign_of_life_is_written_in_silence_only(silent: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The clock is fake: a sleep of the journal advances it."""

    async def use(journal: Journal) -> list[Event]:
        journal._last_write = now = 1000.0
        times: list[float] = []

        async def sleep(seconds: float) -> None:
            nonlocal now
            assert seconds > 0
            for _ in range(10):
                now += seconds / 10
                if not silent:
                    journal.log("busy")
            times.append(now)
            if len(times) == 20:
                scope.cancel()
            await anyio.lowlevel.checkpoint()

        monkeypatch.setattr(anyio, "current_time", lambda: now)
        monkeypatch.setattr(anyio, "sleep", sleep)
        with anyio.CancelScope() as scope:
            await journal.keep_alive()
        return all_events(journal)

    with anyio_fails_after(5):
        events = with_journal(use)

    signs = [event for event in events if event["type"] == "progress"]
    assert SILENCE_SECONDS < 30
    assert len(signs) == (19 if silent else 0)
    assert all("log" not in event and "done" not in event for event in signs)


@pytest.mark.parametrize("published", [True, False])
def test_signs_of_life_end_with_the_run(published: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    async def use(journal: Journal) -> None:
        journal.seal([("result", "Done", {})])
        if published:
            journal.publish_seal()
        journal._last_write = -math.inf
        with anyio.move_on_after(0.05):
            await journal.keep_alive()

    with anyio_fails_after(5):
        with_journal(use)
