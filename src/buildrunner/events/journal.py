"""Number each event of a build and append it to the build's journal file, which readers follow.

The journal is the only queue. A writer never waits for a reader, memory use doesn't depend on the speed of Redis, a reader can go
back, and the same file is the archive. Its disk space is reserved at the start, so that a build that fills the disk can't silence
its own log. `os.pwrite` writes to the page cache: 15 µs for 64 KiB, where a thread switch costs 100 µs.
"""

from __future__ import annotations

import json
import math
import os
import re
from array import array
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring
from pathlib import Path
from types import TracebackType
from typing import Literal, Self, TypeAlias

import anyio
import anyio.lowlevel

from buildrunner.errors import Stage
from buildrunner.events.lines import Line, clean
from buildrunner.events.ring import Ring, write_all
from buildrunner.redaction import Redactor

# Reserved in addition to LOG_MAX_BYTES for buildrunner's own events, which don't count toward it.
RUNNER_EVENTS_BYTES = 4 * 1024 * 1024
# docs/events.md promises an event every 30 s; viewers report a build as lost after 90 s of silence.
SILENCE_SECONDS = 25
DROPPED_EVERY_SECONDS = 5
_OF_OUTPUT = b',"stream":"std'
_OUTPUT = re.compile(r',"stream":"std(?:out|err)",(?:"cont":true,)?"log":"(.*)"\}')
_FIELDS_OF_TEXT = {"log", "reason", "hint", "file", "excerpt"}
Field: TypeAlias = str | float | Mapping[str, str | float] | None  # value of a field of an event; None is left out
_END_WORD = re.compile(r"Done|Cancelled|Superseded|Failed: |Timed out: |Skipped: ")
# A reader is flooded while more bytes than this wait for it and the last write is more recent than that.
FLOOD_BYTES = 128 * 1024
FLOOD_SECONDS = 0.02
_INDEX_EVERY = 256


class Journal:
    """Append events of one build to a file, as lines of JSON.

    Args:
        folder: folder for the journal and its ring, which other users must not be able to enter.
        build: id of the build.
        redactor: redactor of secrets. It is applied to everything but `output`, whose lines are already redacted.
        max_bytes: maximum size of the encoded events of output (`LOG_MAX_BYTES`), bytes.

    Raises:
        OSError: the disk has no space for it.

    """

    def __init__(self, folder: Path, *, build: str, redactor: Redactor, max_bytes: int) -> None:
        self.build = build
        self.stage: Stage = "prepare"
        self.size = 0  # bytes visible to readers
        self.complete = False  # the result is visible to readers; nothing follows
        self.ended = anyio.Event()  # set when `complete`
        self._redactor = redactor
        self._head = f'{{"v":1,"build":"{build}","seq":'
        # Bytes that a record grows by when it becomes an event. Its number has seven digits, or the maximum possible.
        self._overhead = len(self._head) + max(7, len(str(max_bytes // 100)))
        self._seq = 0
        self._indexed_seqs = array("Q", [1])  # every _INDEX_EVERY events: number and offset of an event
        self._indexed_offsets = array("Q", [0])
        self._sealed: tuple[bytes, int] | None = None  # last events and their number, not yet visible to readers
        self._held_back: list[str] = []  # records written after `seal`
        self._changed: anyio.Event | None = None
        self._last_write = anyio.current_time()
        self._live_bytes = max_bytes - max_bytes // 2  # remaining for live output
        self._tail_bytes = max_bytes // 2  # remaining for the ends of stages
        self._ring = Ring(folder / "tail", max_bytes // 2)
        self._dropped_at = math.inf  # time of the last event about dropped lines, or of the first dropped line since
        self._file = os.open(folder / "journal", os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        os.posix_fallocate(self._file, 0, max_bytes + RUNNER_EVENTS_BYTES)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._file)
        self._ring.close()

    @property
    def last_seq(self) -> int:
        """Number of the newest event."""
        return self._seq

    def log(self, text: str, level: Literal["info", "warning"] = "info") -> None:
        """Append a line of buildrunner itself."""
        self.write("log", text, stream="runner", level=level)

    def write(self, kind: str, log: str | None = None, **fields: Field) -> None:
        """Append one event other than output; clean and redact its texts.

        Args:
            kind: type of the event.
            log: line for people; None for none.
            fields: other fields; None values are left out.

        """
        self._append([self._encode(kind, log, fields)])

    def output(self, stream: Literal["stdout", "stderr"], lines: Sequence[Line]) -> None:
        """Append clean, redacted lines of a command; to the ring once half of `LOG_MAX_BYTES` is used."""
        if not lines:
            return
        middle = f',"ts":"{_now()}","type":"log","stage":"{self.stage}","stream":"{stream}",'
        rest = [
            f'{middle}"cont":true,"log":{encode_basestring(text)}}}\n'
            if cont
            else f'{middle}"log":{encode_basestring(text)}}}\n'
            for text, cont in lines
        ]
        live = 0
        if self._live_bytes > 0:
            total = len("".join(rest).encode()) + self._overhead * len(rest)
            if total <= self._live_bytes:
                live = len(rest)
                self._live_bytes -= total
            else:
                for record in rest:
                    size = len(record.encode()) + self._overhead
                    if size > self._live_bytes:
                        self._live_bytes = 0
                        break
                    self._live_bytes -= size
                    live += 1
            self._append(rest[:live])
        if live < len(rest):
            texts = [len(line[0].encode()) for line in lines[live:]]
            self._ring.put([record.encode() for record in rest[live:]], texts, self._overhead)
            if self._ring.dropped_lines:
                now = anyio.current_time()
                self._dropped_at = min(self._dropped_at, now)
                if now - self._dropped_at >= DROPPED_EVERY_SECONDS:
                    self._report_dropped()

    async def end_output(self, *, share: float) -> None:
        """Append the lines in the ring at the end of a stage.

        Args:
            share: fraction, 0 to 1, of the remaining space for the ends of stages that this stage may use, so that later stages
                have space too.

        """
        self._ring.resize(int(self._tail_bytes * share))
        if self._ring.dropped_lines:
            self._report_dropped()
        self._dropped_at = math.inf
        for records in self._ring.take():
            self._tail_bytes -= sum(map(len, records)) + self._overhead * len(records)
            self._append([record.decode() for record in records])
            await anyio.lowlevel.checkpoint()
        self._ring.resize(self._tail_bytes)

    def seal(self, events: Sequence[tuple[str, str, dict[str, Field]]]) -> int:
        """Write the last events for the archive without making them visible to readers.

        Events written later are held back, because the archive may be in progress. If the journal is sealed again after the
        archive failed, they are written before the last events; otherwise they are lost.

        Args:
            events: type, log line and fields of each event.

        Returns:
            Size of the whole journal, bytes.

        """
        held_back, self._held_back, self._sealed = self._held_back, [], None
        self._append(held_back)
        records = [self._encode(kind, log, fields) for kind, log, fields in events]
        data = self._numbered(records).encode()
        write_all(self._file, data, self.size)
        self._sealed = (data, len(events))
        return self.size + len(data)

    def publish_seal(self) -> None:
        """Make the sealed events visible to readers; the last one is the result, and nothing follows it."""
        assert self._sealed is not None
        data, count = self._sealed
        self._seq += count
        self.size += len(data)
        self.complete = True
        self.ended.set()
        self._notify()

    async def keep_alive(self) -> None:
        """Append a heartbeat whenever the build has been silent for SILENCE_SECONDS, until the journal is complete."""
        while not self.complete:
            silent = anyio.current_time() - self._last_write
            if silent >= SILENCE_SECONDS:
                self.write("progress")
            else:
                await anyio.sleep(SILENCE_SECONDS - silent)

    def archive_file(self) -> int:
        """Return a descriptor of the file; the caller closes it."""
        return os.dup(self._file)

    def result(self) -> bytes:
        """Return the last event, once `ended` is set."""
        reader = self.reader()
        reader.go_to(self._seq)
        return reader.read(1, 65536)[0]

    def reader(self) -> Reader:
        """Open a cursor at the first event."""
        return Reader(self)

    def _encode(self, kind: str, log: str | None, fields: dict[str, Field]) -> str:
        """Return the record of an event: its JSON without the start, which includes its number."""
        event: dict[str, object] = {"ts": _now(), "type": kind, "stage": self.stage}
        event |= self._shown_fields(kind, {**fields, "log": log})
        return f",{json.dumps(event, ensure_ascii=False, separators=(',', ':'))[1:]}\n"

    def _shown_fields(self, kind: str, fields: Mapping[str, Field]) -> dict[str, object]:
        shown: dict[str, object] = {}
        for name, value in fields.items():
            if isinstance(value, str):
                shown[name] = self._shown(kind, name, value)
            elif isinstance(value, Mapping):
                shown[name] = self._shown_fields(kind, value)
            elif value is not None:
                shown[name] = value
        return shown

    def _shown(self, kind: str, field: str, text: str) -> str:
        """Return the text of a field; fields for programs (`stream`, `state`, `status`, the end word) are not redacted."""
        text = "\n".join(map(clean, text.split("\n"))) if field == "excerpt" else clean(text)
        if field not in _FIELDS_OF_TEXT:
            return text
        end_word = _END_WORD.match(text) if kind == "result" else None
        start = end_word.end() if end_word else 0
        return text[:start] + self._redactor.redact(text[start:])

    def _numbered(self, records: Sequence[str]) -> str:
        head = self._head
        return "".join([f"{head}{seq}{record}" for seq, record in enumerate(records, self._seq + 1)])

    def _append(self, records: Sequence[str]) -> None:
        if not records or self.complete:
            return
        self._last_write = anyio.current_time()
        if self._sealed is not None:
            self._held_back += records
            return
        data = self._numbered(records).encode()
        write_all(self._file, data, self.size)
        if self._seq + 1 - self._indexed_seqs[-1] >= _INDEX_EVERY:
            self._indexed_seqs.append(self._seq + 1)
            self._indexed_offsets.append(self.size)
        self._seq += len(records)
        self.size += len(data)
        self._notify()

    def _report_dropped(self) -> None:
        lines, size = self._ring.dropped_lines, self._ring.dropped_bytes
        self._ring.dropped_lines = self._ring.dropped_bytes = 0
        self._dropped_at = anyio.current_time()
        self.write(
            "dropped",
            f"{lines:,} lines of output ({size:,} bytes) were dropped here: the build prints more than LOG_MAX_BYTES.",
            lines=lines,
            bytes=size,
            reason="LOG_MAX_BYTES",
        )

    def _notify(self) -> None:
        if self._changed:
            self._changed.set()
            self._changed = None


def lines_of_output(events: Sequence[bytes]) -> Sequence[str | None]:
    """Return the line of each event of output; None for every other event.

    It takes a twentieth of the time of decoding whole events. Quotation marks in strings are escaped, so `_OUTPUT` can only match
    fields of the event, of which `"log"` is the last.
    """
    text = b"\n".join(events).decode()
    lines: list[str] = _OUTPUT.findall(text)
    if lines and "\\" in text:
        lines = json.loads('["{}"]'.format('","'.join(lines)))
    if len(lines) == len(events):
        return lines
    following = iter(lines)
    return [next(following) if _OF_OUTPUT in event else None for event in events]


class Reader:
    """A cursor of one follower in a journal."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._offset = 0
        self.next_seq = 1  # number of the event that `read` returns next

    @property
    def waiting_bytes(self) -> int:
        """Bytes of events that have not been read."""
        return self._journal.size - self._offset

    @property
    def flooded(self) -> bool:
        """Whether the build writes faster than this reader reads; the reader may wait then, to leave the CPU to the build."""
        written = anyio.current_time() - self._journal._last_write
        return self.waiting_bytes > FLOOD_BYTES and written < FLOOD_SECONDS

    def at_end(self) -> bool:
        """Return whether the result has been read."""
        return self._journal.complete and self.waiting_bytes == 0

    def read(self, max_events: int, max_bytes: int) -> list[bytes]:
        """Return the next events without line breaks, within these limits; a single event may exceed `max_bytes`."""
        data = b""
        size = max_bytes
        while not (end := data.rfind(b"\n") + 1) and self.waiting_bytes > len(data):
            data = os.pread(self._journal._file, min(size, self.waiting_bytes), self._offset)
            size *= 2
        events = data[:end].split(b"\n")
        del events[-1], events[max_events if len(data) <= max_bytes else 1 :]
        self._offset += sum(map(len, events)) + len(events)
        self.next_seq += len(events)
        return events

    def go_to(self, seq: int) -> None:
        """Move the cursor to the event with that number, which must exist."""
        place = bisect_right(self._journal._indexed_seqs, seq) - 1
        self.next_seq = self._journal._indexed_seqs[place]
        self._offset = self._journal._indexed_offsets[place]
        while self.next_seq < seq:
            self.read(seq - self.next_seq, 65536)

    async def wait(self) -> None:
        """Wait until there are events to read, or the journal is complete."""
        while not self.waiting_bytes and not self._journal.complete:
            if self._journal._changed is None:
                self._journal._changed = anyio.Event()
            await self._journal._changed.wait()


def _now() -> str:
    """Return the current time by RFC 3339, in UTC with milliseconds."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
