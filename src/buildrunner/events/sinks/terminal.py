"""What a person at a terminal sees: the log, a line below it that moves, and at the end a summary or the failure.

A stage has a heading once it has something to say. Below the log one row shows what is going on: the stage, how long it takes,
and what was printed last, or how far the upload is. It is drawn in the same write as the lines above it, so nothing
flickers, and a terminal that was stopped catches up at once.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING, Any

from buildrunner.events.lines import without_color

if TYPE_CHECKING:
    from rich.console import Console

CLEAR_ROW = "\r\x1b[K"
_FRAMES = "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"
_FRAME_SECONDS = 0.1
_BAR_COLUMNS, _LEAST_BAR_COLUMNS = 24, 8
_STAGE_BAR_COLUMNS = 32
_QUIET_STAGES = {"prepare", "finish"}  # hidden while they are quick and silent
_QUICK_SECONDS = 1.0
_HINT = "What to do: "
_PLAIN_STYLES = {"succeeded": "green", "failed": "red", "timed_out": "red"}


class Terminal:
    """Turns events into what is written to a terminal.

    Args:
        console: rich's, for styles and the width.
        columns: returns the width of the terminal as it is now.
        live: whether a row is redrawn; no other program may write to the terminal then.
        clock: in seconds.

    """

    def __init__(
        self,
        console: Console,
        *,
        columns: Callable[[], int],
        live: bool,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.live = live
        self._console = console
        self._columns = columns
        self._clock = clock
        self._stage: dict[str, Any] | None = None  # the event that began it
        self._has_heading = False
        self._activity = ""  # what was printed last
        self._progress: tuple[dict[str, Any], dict[str, Any]] | None = (
            None  # the first event of the upload's, and the last
        )
        self._last: tuple[datetime, float] | None = None  # when the last event was written, and came, by two clocks
        self._row = ""  # what is drawn

    def show(self, events: Sequence[bytes]) -> bytes:
        """Return what is to be written for events; without any, what moves the row on."""
        text = "".join(self._lines_of(event) for event in map(json.loads, events))
        row = self._draw() if self.live and self._stage else ""
        drawn, self._row = self._row, row
        if not text and row == drawn:
            return b""
        # Without lines the old row is written over, and never away before the new one is there.
        return ((CLEAR_ROW if drawn and (text or not row) else "") + text + (f"\r{row}\x1b[K" if row else "")).encode()

    def clear(self) -> bytes:
        """Return the control sequence that removes the row before a line of another writer."""
        drawn, self._row = self._row, ""
        return CLEAR_ROW.encode() if drawn else b""

    # --- the log ---------------------------------------------------------------------------------------------

    def _lines_of(self, event: dict[str, Any]) -> str:
        self._last = datetime.fromisoformat(event["ts"]), self._clock()
        kind = event["type"]
        if kind == "progress":
            if "done" in event:
                self._progress = (self._progress[0] if self._progress else event), event
            return ""
        if kind == "stage":
            return self._begin(event) if event["state"] == "started" else self._end(event)
        if kind == "result":
            self._stage = None
            return self._render(_describe_result(event, self._console.width))
        log = event.get("log", "")
        if event["stage"] == "finish" and log.startswith(_HINT):
            return ""  # the result has it, too
        self._activity = log if log.strip() else self._activity
        if kind == "log" and event["stream"] != "runner":
            # The line's own colors go through as they are, and end with it.
            return self._heading() + (f"  {log}\x1b[0m\n" if "\x1b" in log else f"  {log}\n")
        from rich.text import Text

        color = "yellow" if event.get("level") == "warning" or kind == "dropped" else "dim"
        return self._heading() + self._render([Text(f"  {without_color(log)}", color)])

    def _begin(self, event: dict[str, Any]) -> str:
        self._stage, self._has_heading, self._activity, self._progress = event, False, "", None
        return ""

    def _end(self, event: dict[str, Any]) -> str:
        from rich.text import Text

        begun, self._stage = self._stage, None
        failed = event["state"] == "failed"
        name, seconds = event["stage"], event.get("seconds", 0.0)
        if name in _QUIET_STAGES and not failed and not self._has_heading and seconds < _QUICK_SECONDS:
            return ""
        title = name if self._has_heading or not begun else str(begun["log"])
        mark = ("✗ ", "red") if failed else ("✓ ", "green")
        return self._render([Text.assemble(mark, without_color(title), (f" {_duration(seconds)}", "dim"))])

    def _heading(self) -> str:
        """Return the heading of the stage, once."""
        from rich.text import Text

        if self._has_heading or not self._stage:
            return ""
        self._has_heading = True
        return "\n" + self._render([Text.assemble(("● ", "bold cyan"), (without_color(self._stage["log"]), "bold"))])

    def _render(self, parts: Sequence[Any]) -> str:
        with self._console.capture() as captured:
            for part in parts:
                self._console.print(part)
        return "".join(f"{line.rstrip()}\n" for line in str(captured.get()).split("\n")[:-1])

    # --- the row ---------------------------------------------------------------------------------------------

    def _draw(self) -> str:
        """Return the row, as much of it as fits: the last column stays free, where a terminal begins a new line."""
        from rich.cells import set_cell_size
        from rich.text import Text

        assert self._stage
        room = (self._columns() or 80) - 1
        frame = _FRAMES[int(self._clock() / _FRAME_SECONDS) % len(_FRAMES)]
        text = Text.assemble(
            (f"{frame} ", "cyan"), (self._stage["stage"], "bold"), (f" {self._elapsed():.0f} s", "dim")
        )
        rest = room - text.cell_len - 2
        if self._progress:
            text.append("  ").append_text(_describe_progress(*self._progress, rest))
        elif rest > 0:
            activity = without_color(self._activity or self._stage["log"]).replace("\t", " ").strip()
            text.append(f"  {set_cell_size(activity, rest).rstrip()}", "dim")
        text.truncate(max(room, 1))
        return self._render([text]).rstrip("\n")

    def _elapsed(self) -> float:
        """Return the seconds since the stage began: by the clock of the build, and since its last event by this one."""
        assert self._stage
        assert self._last
        written, came = self._last
        begun = datetime.fromisoformat(self._stage["ts"])
        return max(0.0, (written - begun).total_seconds() + self._clock() - came)


def describe_failure(event: Mapping[str, Any]) -> tuple[str, list[str]]:
    """Return where a result's failure is, with its kind, and the excerpt of the output; empty for what is not known."""
    failure = event.get("failure") or {}
    place = ":".join(str(failure[name]) for name in ("file", "line", "column") if name in failure)
    kind = failure.get("kind")
    heading = f"{place} ({kind})" if place and kind else str(place or kind or "")
    return heading, str(failure["excerpt"]).split("\n") if "excerpt" in failure else []


def describe_files(event: Mapping[str, Any]) -> str:
    """Return the files of a result, for people; empty where nothing was published."""
    if "files" not in event:
        return ""
    total = f"{_count(event['files'])} ({readable_size(event.get('bytes', 0))})"
    sent = event.get("sent")
    if not sent:
        return total
    unchanged = event["files"] - sent["files"]
    if not unchanged:
        return f"{total}, all sent"
    return f"{total}, {sent['files']:,.0f} sent ({readable_size(sent['bytes'])}), {unchanged:,.0f} unchanged"


def readable_size(size: float) -> str:
    """Return a number of bytes for people."""
    return f"{size / 1e6:,.1f} MB" if abs(size) >= 1e6 else f"{size / 1e3:,.1f} kB"


def _describe_result(event: Mapping[str, Any], columns: int) -> list[Any]:
    """Return the lines of a result: a summary, or the failure with what to do last."""
    from rich.text import Text

    status = event["status"]
    style = _PLAIN_STYLES.get(status, "yellow")
    stages = _describe_stages(event.get("stages") or {}, event["stage"] if status in {"failed", "timed_out"} else "")
    if status == "succeeded":
        rows = [*stages, *_facts(event)]
        return [
            Text(""),
            Text.assemble(("✓ Published", f"bold {style}"), (f" in {_duration(event['seconds'])}", "dim")),
            *rows,
        ]
    lines: list[Any] = [Text(""), *stages, Text("")] if stages else [Text("")]
    edge = ("┃ ", style)
    place, excerpt = describe_failure(event)
    headline = Text.assemble(edge, (without_color(event["log"]), f"bold {style}"))
    card = [headline]
    if place:
        card.append(Text.assemble(edge, (without_color(place), "bold")))
    if excerpt:
        card += [
            Text.assemble(edge),
            *(Text.assemble(edge, f"  {without_color(line)}") for line in excerpt),
            Text.assemble(edge),
        ]
    if hint := event.get("hint"):
        card.append(Text.assemble(edge, (_HINT, "bold"), without_color(hint)))
    return [*lines, *(wrapped for line in card for wrapped in _wrap(line, columns, edge))]


def _wrap(line: Any, columns: int, edge: tuple[str, str]) -> list[Any]:
    """Break a line of the card between words, with its edge before each part."""
    from rich.console import Console
    from rich.text import Text

    if line.cell_len < columns:
        return [line]
    body = line[len(edge[0]) :]
    indent = len(body.plain) - len(body.plain.lstrip())
    parts = body.wrap(Console(width=columns), max(20, columns - len(edge[0]) - 1 - indent))
    return [
        Text.assemble(edge, " " * (indent if number else 0), part) if number else Text.assemble(edge) + part
        for number, part in enumerate(parts)
    ]


def _facts(event: Mapping[str, Any]) -> list[Any]:
    from rich.text import Text

    changes = event.get("size_changes")
    sizes = ""
    if changes is not None:
        parts = [f"{kind} {'+' if size > 0 else '−'}{readable_size(abs(size))}" for kind, size in changes.items()]
        sizes = ", ".join(parts) or "unchanged"
    rows = {
        "commit": str(event.get("commit") or "")[:12],
        "site": describe_files(event),
        "size": f"{sizes} since the last deployment" if sizes else "",
        "address": event.get("url") or "",
    }
    return [
        Text.assemble((f"  {name:<9}", "dim"), (value, "bold underline" if name == "address" else ""))
        for name, value in rows.items()
        if value
    ]


def _describe_stages(stages: Mapping[str, float], failed: str) -> list[Any]:
    """Return a bar for the duration of each stage that took a while."""
    from rich.text import Text

    shown = {
        name: seconds for name, seconds in stages.items() if name not in _QUIET_STAGES or seconds >= _QUICK_SECONDS
    }
    longest = max(shown.values(), default=0.0) or 1.0
    width = max((len(_duration(seconds)) for seconds in shown.values()), default=0)
    rows = []
    for name, seconds in shown.items():
        style = "red" if name == failed else "cyan"
        eighths = round(seconds / longest * _STAGE_BAR_COLUMNS * 8)
        bar = "█" * (eighths // 8) + ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]
        rows.append(Text.assemble((f"  {name:<9}", "dim"), f"{_duration(seconds):>{width}} ", (bar or "▏", style)))
    return rows


def _describe_progress(first: Mapping[str, Any], state: Mapping[str, Any], room: int) -> Any:
    """Return the state of the upload: a bar if there is room for it, files, bytes and the rate."""
    from rich.text import Text

    seconds = (datetime.fromisoformat(state["ts"]) - datetime.fromisoformat(first["ts"])).total_seconds()
    unit, name = (1e6, "MB") if state["total_bytes"] >= 1e6 else (1e3, "kB")
    parts = [
        f"{state['done']:,} of {state['total']:,} files",
        f"{state['bytes'] / unit:,.1f} of {state['total_bytes'] / unit:,.1f} {name}",
    ]
    if seconds > 0:
        parts.append(f"{(state['bytes'] - first['bytes']) / seconds / 1e6:,.1f} MB/s")
    while len(parts) > 1 and len(", ".join(parts)) > room:
        parts.pop()
    text = Text(", ".join(parts))
    columns = min(_BAR_COLUMNS, room - len(text) - 2)
    if columns < _LEAST_BAR_COLUMNS:
        return text
    full = int(columns * min(1.0, state["bytes"] / (state["total_bytes"] or 1)))
    return Text.assemble(("━" * full, "cyan"), "╌" * (columns - full), "  ", text)


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{seconds:.1f} s"


def _count(files: int) -> str:
    return f"{files:,} file{'' if files == 1 else 's'}"
