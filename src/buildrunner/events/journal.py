"""The spine of a run: give each event its number and append it to the run's journal file; readers follow that file.

The journal is the only queue. A writer never waits for a reader, memory stays the same however slow Redis is, a reader
may go back, and the same file is the archive. Its room on disk is reserved at the start, so that a build that fills the
disk cannot silence its own log. Writes go to the page cache by plain `os.pwrite`: 15 µs for 64 KiB, where a hop through a
thread costs 100 µs.
"""

from __future__ import annotations

import json
import math
import os
import re
from array import array
from bisect import bisect_right
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from json.encoder import encode_basestring
from pathlib import Path
from types import TracebackType
from typing import Literal, NamedTuple, Self, TypeAlias

import anyio
import anyio.lowlevel

from buildrunner.errors import Stage
from buildrunner.events.lines import Line, clean
from buildrunner.redaction import Redactor

# Reserved beside LOG_MAX_BYTES for buildrunner's own words, which LOG_MAX_BYTES does not count.
RUNNER_EVENTS_BYTES = 4 * 1024 * 1024
# docs/events.md promises an event every 30 s: viewers take a build for lost after 90 s of silence.
SILENCE_SECONDS = 25
DROPPED_EVERY_SECONDS = 5
_OF_OUTPUT = b',"stream":"std'
_OUTPUT = re.compile(r',"stream":"std(?:out|err)",(?:"cont":true,)?"log":"(.*)"\}')
_FIELDS_OF_TEXT = {"log", "reason", "hint", "file", "excerpt"}
Field: TypeAlias = str | float | Mapping[str, str | float] | None  # of an event; None is left out
_END_WORD = re.compile(r"Done|Cancelled|Superseded|Failed: |Timed out: |Skipped: ")
# A reader is in a flood while more than this waits for it and the last write is no older than that.
FLOOD_BYTES = 128 * 1024
FLOOD_SECONDS = 0.02
_INDEX_EVERY = 256


class Journal:
    """Append-only events of one run, as lines of JSON in a file.

    Args:
        folder: where the journal and its ring are kept; nobody else may be able to enter it.
        build: id of the run.
        redactor: knows the secrets; what reaches `output` has been redacted already, everything else is redacted here.
        max_bytes: of encoded events that are kept of the repository's own output (`LOG_MAX_BYTES`).

    Raises:
        OSError: when there is no room for it.

    """

    def __init__(self, folder: Path, *, build: str, redactor: Redactor, max_bytes: int) -> None:
        self.build = build
        self.stage: Stage = "prepare"
        self.size = 0  # bytes that readers may see
        self.complete = False  # the result is there to be read; nothing follows
        self.ended = anyio.Event()  # is set then
        self._redactor = redactor
        self._head = f'{{"v":1,"build":"{build}","seq":'
        # Of a record that becomes an event: its number has seven digits, or as many as there can be (bytes).
        self._overhead = len(self._head) + max(7, len(str(max_bytes // 100)))
        self._seq = 0
        self._indexed_seqs = array("Q", [1])  # every so many events: where the event of that number begins
        self._indexed_offsets = array("Q", [0])
        self._sealed: tuple[bytes, int] | None = None  # the last events and how many they are, before readers see them
        self._held_back: list[str] = []  # records that came after `seal`
        self._changed: anyio.Event | None = None
        self._last_write = anyio.current_time()
        self._live_bytes = max_bytes - max_bytes // 2  # still to go out live
        self._tail_bytes = max_bytes // 2  # still to be kept of what does not
        self._ring = _Ring(folder / "tail", max_bytes // 2)
        self._dropped_told = math.inf  # when the last such event was written, or the first line fell out since
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
        """Say a sentence of buildrunner's own."""
        self.write("log", text, stream="runner", level=level)

    def write(self, kind: str, log: str | None = None, **fields: Field) -> None:
        """Append one event that is not output; fields that are None are left out, texts are cleaned and redacted."""
        self._append([self._encode(kind, log, fields)])

    def output(self, stream: Literal["stdout", "stderr"], lines: Sequence[Line]) -> None:
        """Append clean, redacted lines of a command: live at first, into the ring once half of `LOG_MAX_BYTES` is used."""
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
            if self._ring.fallen_lines:
                now = anyio.current_time()
                self._dropped_told = min(self._dropped_told, now)
                if now - self._dropped_told >= DROPPED_EVERY_SECONDS:
                    self._tell_dropped()

    async def end_output(self, *, share: float) -> None:
        """Append what is in the ring, at the end of a stage; it may use `share` of the room that is left for tails.

        So the stages that follow have a tail too, and only the last one takes all that is left.
        """
        self._ring.resize(int(self._tail_bytes * share))
        if self._ring.fallen_lines:
            self._tell_dropped()
        self._dropped_told = math.inf
        for records in self._ring.take():
            self._tail_bytes -= sum(map(len, records)) + self._overhead * len(records)
            self._append([record.decode() for record in records])
            await anyio.lowlevel.checkpoint()
        self._ring.resize(self._tail_bytes)

    def seal(self, events: Sequence[tuple[str, str, dict[str, Field]]]) -> int:
        """Write the last events (kind, log, fields) behind what readers can see, for the archive.

        From here on the archive may be on its way, so whatever else is written is held back: when the journal is sealed
        again, because the archive failed, it stands before these events; else it comes too late and is left out.

        Returns:
            The size of the whole journal in bytes.

        """
        held_back, self._held_back, self._sealed = self._held_back, [], None
        self._append(held_back)
        records = [self._encode(kind, log, fields) for kind, log, fields in events]
        data = self._numbered(records).encode()
        _write_all(self._file, data, self.size)
        self._sealed = (data, len(events))
        return self.size + len(data)

    def publish_seal(self) -> None:
        """Show readers the sealed events; the last one is the result, and nothing follows it."""
        assert self._sealed is not None
        data, count = self._sealed
        self._seq += count
        self.size += len(data)
        self.complete = True
        self.ended.set()
        self._notify()

    async def keep_alive(self) -> None:
        """Append a sign of life whenever the run has been silent for a while, until it is complete."""
        while not self.complete:
            silent = anyio.current_time() - self._last_write
            if silent >= SILENCE_SECONDS:
                self.write("progress")
            else:
                await anyio.sleep(SILENCE_SECONDS - silent)

    def archive_file(self) -> int:
        """Return a descriptor of the journal's file; the caller closes it."""
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
        """Return the record of an event: all of it but its beginning, which has its number."""
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
        """Return a field's text, redacted unless programs read it: `stream`, `state`, `status`, the end word."""
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
        _write_all(self._file, data, self.size)
        if self._seq + 1 - self._indexed_seqs[-1] >= _INDEX_EVERY:
            self._indexed_seqs.append(self._seq + 1)
            self._indexed_offsets.append(self.size)
        self._seq += len(records)
        self.size += len(data)
        self._notify()

    def _tell_dropped(self) -> None:
        lines, size = self._ring.fallen_lines, self._ring.fallen_bytes
        self._ring.fallen_lines = self._ring.fallen_bytes = 0
        self._dropped_told = anyio.current_time()
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
    """Return the line of each event that is the repository's own output; None for every other event.

    A twentieth of the time that decoding whole events takes. Inside a string a quotation mark is escaped: so what `_OUTPUT`
    matches can only be the event's own fields, and `"log"` is its last.
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
    """A cursor into a journal: where one follower has got to."""

    def __init__(self, journal: Journal) -> None:
        self._journal = journal
        self._offset = 0
        self.next_seq = 1  # number of the event that `read` gives next

    @property
    def waiting_bytes(self) -> int:
        """Bytes of events that have not been read."""
        return self._journal.size - self._offset

    @property
    def flooded(self) -> bool:
        """Return whether a build writes faster than this reader reads; it may wait then, so that the build has the CPU."""
        written = anyio.current_time() - self._journal._last_write
        return self.waiting_bytes > FLOOD_BYTES and written < FLOOD_SECONDS

    def at_end(self) -> bool:
        """Return whether the result has been read."""
        return self._journal.complete and self.waiting_bytes == 0

    def read(self, max_events: int, max_bytes: int) -> list[bytes]:
        """Return the next events without their line ends, at most so many, but one of any size; none when there are none."""
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
        """Set the cursor to the event of that number, which must have been written."""
        place = bisect_right(self._journal._indexed_seqs, seq) - 1
        self.next_seq = self._journal._indexed_seqs[place]
        self._offset = self._journal._indexed_offsets[place]
        while self.next_seq < seq:
            self.read(seq - self.next_seq, 65536)

    async def wait(self) -> None:
        """Wait until there is something to read, or the journal is complete."""
        while not self.waiting_bytes and not self._journal.complete:
            if self._journal._changed is None:
                self._journal._changed = anyio.Event()
            await self._journal._changed.wait()


class _Ring:
    """The newest records of a flood, in a file of a fixed size: blocks of records, of which the oldest give way."""

    def __init__(self, path: Path, capacity: int) -> None:
        self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        if capacity:
            os.posix_fallocate(self._file, 0, capacity)
        self._blocks: deque[_Block] = deque()
        self._cost = 0
        self._next = 0  # where the next block begins
        self.fallen_lines = self.fallen_bytes = 0  # of output, since somebody last set them to 0
        self.resize(capacity)

    def resize(self, capacity: int) -> None:
        """Keep at most `capacity` bytes of encoded events from now on, no more than at first; the oldest go."""
        self._capacity = capacity
        self._block_bytes = max(1, min(65536, capacity // 16))
        while self._cost > capacity:
            self._drop_oldest()

    def put(self, records: Sequence[bytes], text_bytes: Sequence[int], overhead: int) -> None:
        """Keep records of a line each; `overhead` is what each grows by when it becomes an event (bytes)."""
        start = 0
        while start < len(records):
            end, size = start, 0
            while end < len(records) and (end == start or size + len(records[end]) <= self._block_bytes):
                size += len(records[end])
                end += 1
            lines = end - start
            block = _Block(self._next, size, lines, sum(text_bytes[start:end]), size + overhead * lines)
            while self._blocks and self._cost + block.cost > self._capacity:
                self._drop_oldest()
            if block.cost > self._capacity:
                self.fallen_lines += lines
                self.fallen_bytes += block.text_bytes
            else:
                if not self._blocks or block.offset + size > self._capacity:
                    while self._blocks and self._blocks[0].offset >= self._next:
                        self._drop_oldest()
                    block = block._replace(offset=0)
                while self._blocks and block.offset <= self._blocks[0].offset < block.offset + size:
                    self._drop_oldest()
                _write_all(self._file, b"".join(records[start:end]), block.offset)
                self._blocks.append(block)
                self._cost += block.cost
                self._next = block.offset + size
            start = end

    def take(self) -> Iterator[list[bytes]]:
        """Return the blocks of records, oldest first, and forget them."""
        while self._blocks:
            block = self._blocks.popleft()
            self._cost -= block.cost
            yield os.pread(self._file, block.size, block.offset).splitlines(keepends=True)

    def close(self) -> None:
        os.close(self._file)

    def _drop_oldest(self) -> None:
        block = self._blocks.popleft()
        self._cost -= block.cost
        self.fallen_lines += block.lines
        self.fallen_bytes += block.text_bytes


class _Block(NamedTuple):
    """Where some records lie in the ring, and what they cost as encoded events (bytes)."""

    offset: int
    size: int
    lines: int
    text_bytes: int
    cost: int


def _write_all(file: int, data: bytes, offset: int) -> None:
    view = memoryview(data)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written


def _now() -> str:
    """RFC 3339, UTC, milliseconds."""
    return f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z"
