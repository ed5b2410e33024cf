"""Encode events for viewers: Server-Sent Events in blocks that all viewers share, NDJSON, and plain text. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from itertools import accumulate
from typing import Any

BUILD_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")
SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
BLOCK_BYTES = 128 * 2**10  # of events, after which a block ends
_COLOR = re.compile(r"\x1b\[[0-9;:]*m")
_LINE_ENDS = re.compile(rb"\r\n|\r|\n")


@dataclass(frozen=True, slots=True)
class Event:
    """The fields of an event that decide where it belongs, and its original JSON."""

    build: str
    seq: int
    type: str
    ts: str
    json: bytes


@dataclass(frozen=True, slots=True)
class Block:
    """Consecutive events of one build, encoded once for all viewers."""

    build: str
    first: int  # number of its first event
    last: int
    began: str  # `ts` of the event with number 1 if it is included, else empty
    ended: str  # `ts` of the last event
    ends: bool  # whether the last event is the result
    entry: bytes  # id of the last event's entry in the stream; empty if it comes from an archive
    payload: bytes  # messages of Server-Sent Events
    starts: tuple[int, ...] = field(repr=False)  # offset of each message in `payload`

    def after(self, seq: int) -> bytes:
        """Return the messages after event `seq`."""
        return self.payload if seq < self.first else self.payload[self.starts[seq - self.first + 1] :]


@dataclass(slots=True)
class Position:
    """The position of a viewer in a build."""

    build: str
    seq: int = 0  # number of the last event
    began: str = ""  # `ts` of the first event, if known; it differs for a restarted build

    def take(self, block: Block) -> bytes:
        """Return the messages of a block of the same build that are new to the viewer."""
        if block.began:
            if self.began not in {"", block.began}:
                self.seq = 0
            self.began = block.began
        if block.last <= self.seq:
            return b""
        new = block.after(self.seq)
        self.seq = block.last
        return new


def parse_event(encoded: bytes) -> Event | None:
    """Parse an event; None if it is invalid. Writers of the stream are trusted, but may be faulty."""
    try:
        event = json.loads(encoded)
        build, seq = event["build"], event["seq"]
        if not BUILD_ID.fullmatch(build) or type(seq) is not int or seq < 1:
            return None
        return Event(build, seq, str(event.get("type")), str(event.get("ts", "")), encoded)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def to_blocks(entries: Iterable[tuple[bytes, bytes]]) -> list[Block]:
    """Encode entries (id and event) in order, into few blocks of limited size."""
    blocks: list[Block] = []
    group: list[Event] = []
    size = 0  # bytes of the group
    last_entry = b""

    def flush() -> None:
        if group:
            messages = [_message(event) for event in group]
            first, last = group[0], group[-1]
            starts = tuple(accumulate(map(len, messages), initial=0))
            blocks.append(
                Block(
                    first.build,
                    first.seq,
                    last.seq,
                    first.ts if first.seq == 1 else "",
                    last.ts,
                    last.type == "result",
                    last_entry,
                    b"".join(messages),
                    starts,
                )
            )
            group.clear()

    for entry, encoded in entries:
        event = parse_event(encoded)
        if event is None:
            continue
        continues = bool(group) and (event.build, event.seq) == (group[-1].build, group[-1].seq + 1)
        if not continues or size >= BLOCK_BYTES:
            flush()
            size = 0
        group.append(event)
        size += len(encoded)
        last_entry = entry
        if event.type == "result":
            flush()
    flush()
    return blocks


def _message(event: Event) -> bytes:
    data = event.json
    if (
        b"\n" in data or b"\r" in data
    ):  # https://html.spec.whatwg.org/multipage/server-sent-events.html#parsing-an-event-stream
        data = b"\ndata: ".join(_LINE_ENDS.split(data))
    return b"id: %s:%d\ndata: %s\n\n" % (event.build.encode(), event.seq, data)


def end_message(reason: str) -> bytes:
    """Return the message after which the server closes."""
    return b'event: end\ndata: {"reason":"%s"}\n\n' % reason.encode()


def task_comment(described: Mapping[str, Any]) -> bytes:
    """Return what AWS says of the task of a build without a log, as a comment, which clients of events ignore."""
    return b": task %s\n\n" % json.dumps(described).encode()


class PlainText:
    """Convert a log to text without colors, with one line for each event that has one."""

    def __init__(self) -> None:
        self._is_empty = True

    def add(self, events: Iterable[bytes]) -> str:
        """Return the text of the next events; a line ends when the next one starts, because pieces with `cont` belong to it."""
        text = []
        for encoded in events:
            event = json.loads(encoded)
            line = event.get("log")
            if isinstance(line, str):
                text.append(("" if self._is_empty or event.get("cont") else "\n") + _COLOR.sub("", line))
                self._is_empty = False
        return "".join(text)

    def end(self) -> str:
        """Return the end of the last line."""
        return "" if self._is_empty else "\n"
