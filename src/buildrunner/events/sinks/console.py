"""Follow the journal to the process's own output: a person's terminal, a pipe, or CloudWatch.

A terminal gets what `terminal` makes of the events; a pipe gets plain lines; `CONSOLE_FORMAT=json` gets the events as they
are, one a line, which CloudWatch Logs Insights reads by itself.
"""

from __future__ import annotations

import json
import os
import select
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal, Protocol

import anyio
import anyio.to_thread

from buildrunner.events.follower import Sink
from buildrunner.events.journal import lines_of_output
from buildrunner.events.lines import without_color

if TYPE_CHECKING:
    from buildrunner.events.journal import Reader

_STDOUT = 1
STDERR = 2
_BATCH_EVENTS = 2000
_BATCH_BYTES = 256 * 1024
# Between two batches while a build floods: that is more than eyes can follow, and the CPU is the build's.
_FLOOD_BATCH_SECONDS = 0.2
HINT = "What to do: "
_SHORT_SECONDS = 0.05  # a stage that took less is not worth a word
FRAME_SECONDS = 0.1  # between two states of the row that moves
# A collector stores this output, even if it looks like a terminal (`docker run --tty`).
_KEPT_LOGS = ("CI", "ECS_CONTAINER_METADATA_URI_V4")


class Console(Sink):
    """Print events to standard output.

    Args:
        reader: of the journal.
        console_format: `auto` is for a person at a terminal, and plain text elsewhere.

    """

    name = "the console"
    undelivered = 0  # there is no other place to report it

    def __init__(self, reader: Reader, console_format: Literal["auto", "text", "json"]) -> None:
        self._reader = reader
        self._format = console_format

    async def run(self) -> None:
        """Print every event up to the result. When standard output is closed (EPIPE), only the printing ends."""
        reader = self._reader
        display = await anyio.to_thread.run_sync(lambda: make_display(self._format, live=True))
        try:
            while not reader.at_end():
                with anyio.move_on_after(FRAME_SECONDS if display.live else None):
                    await reader.wait()
                if reader.flooded:
                    await anyio.sleep(_FLOOD_BATCH_SECONDS)
                events = reader.read(_BATCH_EVENTS, _BATCH_BYTES)
                if shown := display.show(events):
                    # In a thread, which is abandoned when the build ends: Ctrl-S may have stopped the terminal.
                    await anyio.to_thread.run_sync(print_bytes, shown, abandon_on_cancel=True)
        except OSError:
            return

    async def warn(self, sentence: str) -> None:
        """Print a warning that is no event: what could not be delivered."""
        json_line = self._format == "json"
        line = json.dumps({"level": "warning", "log": sentence}) if json_line else f"warning: {sentence}"
        await self.print_line(line)

    async def print_line(self, line: str) -> None:
        """Print a line that is no event."""
        with suppress(OSError):
            await anyio.to_thread.run_sync(print_bytes, f"{line}\n".encode(), abandon_on_cancel=True)


class Display(Protocol):
    """Turns events into what stdout is to get for them."""

    @property
    def live(self) -> bool:
        """Whether `show` has something to write without events, too: a row that moves."""

    def show(self, events: Sequence[bytes]) -> bytes:
        """Return what is to be written for encoded events."""

    def clear(self) -> bytes:
        """Return what to write before a line of another writer."""


class _Lines:
    """Plain lines, or the events themselves."""

    live = False

    def __init__(self, show: Callable[[Sequence[bytes]], bytes]) -> None:
        self._show = show

    def show(self, events: Sequence[bytes]) -> bytes:
        return self._show(events)

    def clear(self) -> bytes:
        return b""


def make_display(console_format: Literal["auto", "text", "json"], *, live: bool = False) -> Display:
    """Return how events are shown on stdout.

    With `live`, a terminal also gets the row that moves; no other program may write there then.
    """
    if console_format == "json":
        return _Lines(lambda events: b"\n".join([*events, b""]) if events else b"")
    if not is_for_people(console_format):
        return _Lines(_plain)
    from rich.console import Console  # takes 0.08 s, and is wanted by people alone

    from buildrunner.events.sinks.terminal import Terminal

    person = Console(highlight=False, soft_wrap=True)
    live = live and not any(map(os.environ.get, _KEPT_LOGS))
    return Terminal(person, columns=lambda: os.get_terminal_size(_STDOUT).columns, live=live)


def is_for_people(console_format: str) -> bool:
    """Return whether stdout gets what `terminal` makes of the events, rather than plain lines or the events themselves."""
    plain = not os.isatty(_STDOUT) or os.environ.get("TERM", "dumb") == "dumb" or os.environ.get("NO_COLOR")
    return console_format == "auto" and not plain


def print_bytes(data: bytes, descriptor: int = _STDOUT) -> None:
    """Write all of `data`, also to what another program has set not to block, as Node does with a terminal that it shares."""
    view = memoryview(data)
    while view:
        try:
            view = view[os.write(descriptor, view) :]
        except BlockingIOError:
            room = select.poll()
            room.register(descriptor, select.POLLOUT)
            room.poll()


def print_line(sentence: str, descriptor: int = _STDOUT) -> None:
    """Print a sentence of our own; on a terminal in the place of the row that a build may draw there."""
    plain = not os.isatty(descriptor) or os.environ.get("TERM", "dumb") == "dumb" or os.environ.get("NO_COLOR")
    clear = "" if plain else "\r\x1b[K"
    print_bytes(f"{clear}{sentence}\n".encode(errors="surrogateescape"), descriptor)


def _plain(events: Sequence[bytes]) -> bytes:
    lines = lines_of_output(events)
    shown = [f"{line}\n" if line is not None else _own(event) for event, line in zip(events, lines, strict=True)]
    return without_color("".join(shown)).encode()


def _own(encoded: bytes) -> str:
    event = json.loads(encoded)
    if "log" not in event:
        return ""
    line = event["log"]
    if event["type"] == "stage" and event["state"] == "started":
        return f"==> {line}\n"
    if event["stage"] == "finish" and line.startswith(HINT):
        return ""  # the result has it, too
    if event.get("level") == "warning":
        return f"warning: {line}\n"
    more = _summary_lines(event) if event["type"] == "result" else []
    return "".join(f"{each}\n" for each in (*more, line))


def _summary_lines(event: dict[str, Any]) -> list[str]:
    """Return what a result tells besides its end word: the cause of a failure, or what was published."""
    from buildrunner.events.sinks.terminal import describe_failure, describe_files  # not needed before the end

    cause, excerpt = describe_failure(event)
    if "reason" in event and "file" not in (event.get("failure") or {}):  # else a stable id alone, or nothing
        cause = f"{event['reason']} ({cause})" if cause else event["reason"]
    lines = [*([f"Cause: {cause}"] if cause else []), *(f"    {line}" for line in excerpt)]
    if hint := event.get("hint"):
        lines.append(f"{HINT}{hint}")
    if event["status"] == "succeeded" and (files := describe_files(event)):
        commit = f" commit {event['commit'][:12]}" if "commit" in event else ""
        stages = ", ".join(
            f"{name} {seconds:.1f} s" for name, seconds in event.get("stages", {}).items() if seconds >= _SHORT_SECONDS
        )
        took = f"{event['seconds']:.1f} s{f' ({stages})' if stages else ''}"
        address = f" {event['url']}" if "url" in event else ""
        lines.append(f"Published{commit} in {took}: {files}.{address}")
    return lines
