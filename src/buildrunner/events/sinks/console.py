"""Follow the journal to the process's own output: a person's terminal, a pipe, or CloudWatch.

A terminal gets headers with times, color, and a line that is redrawn while the site is published; a pipe gets plain lines;
`CONSOLE_FORMAT=json` gets the events as they are, one a line, which CloudWatch Logs Insights reads by itself.
"""

from __future__ import annotations

import json
import os
import select
from collections.abc import Callable, Sequence
from contextlib import suppress
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

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
# Before this a site of the usual size is published, and a line that only flashes up is for nobody.
_BAR_AFTER_SECONDS = 0.5
_BAR_COLUMNS = 24
_CLEAR_LINE = "\r\x1b[K"
# Somebody keeps what is printed there, even if it looks like a terminal (`docker run --tty`).
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
        show = await anyio.to_thread.run_sync(lambda: make_formatter(self._format, progress=True))
        try:
            while not reader.at_end():
                await reader.wait()
                if reader.flooded:
                    await anyio.sleep(_FLOOD_BATCH_SECONDS)
                events = reader.read(_BATCH_EVENTS, _BATCH_BYTES)
                # In a thread, which is abandoned when the build ends: Ctrl-S may have stopped the terminal.
                await anyio.to_thread.run_sync(print_bytes, show(events), abandon_on_cancel=True)
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


def make_formatter(
    console_format: Literal["auto", "text", "json"], *, progress: bool = False
) -> Callable[[Sequence[bytes]], bytes]:
    """Return a function that makes of encoded events what stdout is to get for them.

    With `progress` a terminal gets the line that is redrawn, too: nobody else may write there meanwhile.
    """
    if console_format == "json":
        return lambda events: b"\n".join([*events, b""])
    if console_format == "text" or not os.isatty(_STDOUT) or os.environ.get("TERM", "dumb") == "dumb":
        return _plain
    from rich.console import Console  # takes 0.08 s, and is wanted by people alone

    person = Console(highlight=False, soft_wrap=True)
    return _Terminal(person, progress=progress and not any(map(os.environ.get, _KEPT_LOGS))).show


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
    """Print a sentence of our own."""
    print_bytes(f"{sentence}\n".encode(errors="surrogateescape"), descriptor)


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
    if event.get("level") == "warning":
        return f"warning: {line}\n"
    return "".join(f"{each}\n" for each in (*_failure_lines(event), line))


def _failure_lines(event: dict[str, Any]) -> list[str]:
    """Return what a result tells of a failure: its kind, its place, and the excerpt of the output."""
    failure = event.get("failure") or {}
    place = ":".join(str(failure[name]) for name in ("file", "line", "column") if name in failure)
    kind = failure.get("kind")
    heading = f"{place} ({kind})" if place and kind else place or kind
    excerpt = str(failure.get("excerpt", "")).split("\n") if "excerpt" in failure else []
    return [*([f"Cause: {heading}"] if heading else []), *(f"    {line}" for line in excerpt)]


class _Terminal:
    """What a person sees: the lines so far, and below them how far publishing has got, as long as it goes on.

    Of the events of one call only the last state is drawn, in the same write as the lines above it: so nothing flickers, and
    a terminal that was stopped catches up at once.
    """

    def __init__(self, console: Any, *, progress: bool) -> None:
        self._console = console  # rich's
        self._progress = progress
        self._started: datetime | None = None  # of the upload
        self._first: dict[str, Any] | None = None  # of its states: the rate is counted from there
        self._bar = ""  # what is drawn

    def show(self, events: Sequence[bytes]) -> bytes:
        """Return what is to be written for these events."""
        lines, bar, state = "", self._bar, None
        for event in map(json.loads, events):
            lines += _shown(self._console, event)
            if event["type"] == "progress" and "done" in event:
                state = event
            elif event["type"] in {"stage", "result"}:
                self._started = self._first = state = None
                bar = ""
                if event["stage"] == "upload" and event.get("state") == "started":
                    self._started = datetime.fromisoformat(event["ts"])
        if state and self._progress:
            bar = self._draw(state) or bar
        drawn, self._bar = self._bar, bar
        if not lines and bar == drawn:
            return b""
        # Without lines the old state is written over, and never away before the new one is there.
        return (
            (_CLEAR_LINE if drawn and (lines or not bar) else "") + lines + (f"\r{bar}\x1b[K" if bar else "")
        ).encode()

    def _draw(self, state: dict[str, Any]) -> str:
        """Return the line for a state of the upload, as much of it as fits the terminal; none while it is too early."""
        now = datetime.fromisoformat(state["ts"])
        self._first = self._first or state
        if self._started and (now - self._started).total_seconds() < _BAR_AFTER_SECONDS:
            return ""
        seconds = (now - datetime.fromisoformat(self._first["ts"])).total_seconds()
        unit, name = (1e6, "MB") if state["total_bytes"] >= 1e6 else (1e3, "kB")
        parts = [
            f"{state['done']:,} of {state['total']:,} files",
            f"{state['bytes'] / unit:,.1f} of {state['total_bytes'] / unit:,.1f} {name}",
        ]
        if seconds > 0:
            parts.append(f"{(state['bytes'] - self._first['bytes']) / seconds / 1e6:,.1f} MB/s")
        # The last column stays free: a terminal that has written there is about to begin a new line.
        room = (os.get_terminal_size(_STDOUT).columns or 80) - 1
        while len(parts) > 1 and len("  " + ", ".join(parts)) > room:
            parts.pop()
        text = f"  {', '.join(parts)}"[:room]
        if len(text) + _BAR_COLUMNS + 2 > room:
            return text
        full = int(_BAR_COLUMNS * min(1.0, state["bytes"] / (state["total_bytes"] or 1)))
        color, end = ("", "") if self._console.no_color else ("\x1b[36m", "\x1b[0m")
        return f"  {color}{'━' * full}{end}{'╌' * (_BAR_COLUMNS - full)}{text}"


def _shown(console: Any, event: dict[str, Any]) -> str:
    """Return what a person at a terminal sees of one event; `console` is rich's."""
    from rich.markup import escape  # rich is there by now: it made `console`

    log = event.get("log")
    if log is None:
        return ""
    if event["type"] == "log" and event["stream"] != "runner":
        # The line's own colors go through as they are, and end with it.
        return f"  {log}\x1b[0m\n" if "\x1b" in log else f"  {log}\n"
    text = escape(without_color(log))
    if event["type"] == "stage" and event["state"] == "started":
        text = f"\n[bold cyan]●[/] [bold]{text}[/]"
    elif event["type"] == "stage":
        text = f"{'[green]✓[/]' if event['state'] == 'succeeded' else '[red]✗[/]'} [dim]{text}[/]"
    elif event["type"] == "result":
        color = "green" if event["status"] == "succeeded" else "red"
        cause = "".join(f"\n[dim]{escape(line)}[/]" for line in _failure_lines(event))
        text = f"{cause}\n[bold {color}]{text}[/] [dim]{event['seconds']:.1f} s[/]"
    else:
        color = "yellow" if event.get("level") == "warning" or event["type"] == "dropped" else "dim"
        text = f"  [{color}]{text}[/]"
    with console.capture() as captured:
        console.print(text)
    return str(captured.get())
