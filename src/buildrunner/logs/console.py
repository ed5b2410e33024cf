"""Follow the journal to the process's own output: a person's terminal, a pipe, or CloudWatch.

A terminal gets headers with times, and colour; a pipe gets plain lines; `CONSOLE_FORMAT=json` gets the events as they are,
one a line, which CloudWatch Logs Insights reads by itself.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import anyio
import anyio.to_thread

from buildrunner.logs.journal import line_of_output
from buildrunner.logs.text import without_colour

if TYPE_CHECKING:
    from buildrunner.logs.journal import Journal

_STDOUT = 1
_BATCH_EVENTS = 2000
_BATCH_BYTES = 256 * 1024
# Between two batches while a build floods: that is more than eyes can follow, and the CPU is the build's.
_FLOOD_BATCH_SECONDS = 0.2


async def follow(journal: Journal, console_format: Literal["auto", "text", "json"]) -> None:
    """Print every event from the first to the result. A reader that has gone away (EPIPE) ends the printing, not the run."""
    reader = journal.reader()
    show = await anyio.to_thread.run_sync(make_formatter, console_format)
    try:
        while not reader.at_end():
            await reader.wait()
            if reader.flooded:
                await anyio.sleep(_FLOOD_BATCH_SECONDS)
            events = reader.read(_BATCH_EVENTS, _BATCH_BYTES)
            # In a thread, which is left behind when the run ends: a terminal may be stopped by Ctrl-S.
            await anyio.to_thread.run_sync(print_bytes, show(events), abandon_on_cancel=True)
    except OSError:
        return


def make_formatter(console_format: Literal["auto", "text", "json"]) -> Callable[[Sequence[bytes]], bytes]:
    """Give a function that makes of encoded events what stdout is to get for them."""
    if console_format == "json":
        return lambda events: b"\n".join([*events, b""])
    if console_format == "text" or not os.isatty(_STDOUT) or os.environ.get("TERM", "dumb") == "dumb":
        return lambda events: "".join(map(_plain, events)).encode()
    from rich.console import Console  # takes 0.08 s, and is wanted by people alone

    person = Console(highlight=False, soft_wrap=True)
    return lambda events: "".join(_shown(person, json.loads(event)) for event in events).encode()


async def warn(sentence: str, console_format: Literal["auto", "text", "json"]) -> None:
    """Print a warning that is no event: what could not be delivered."""
    line = json.dumps({"level": "warning", "log": sentence}) if console_format == "json" else f"warning: {sentence}"
    with suppress(OSError):
        await anyio.to_thread.run_sync(print_bytes, f"{line}\n".encode(), abandon_on_cancel=True)


def print_bytes(data: bytes) -> None:
    """Write all of `data` to stdout."""
    view = memoryview(data)
    while view:
        view = view[os.write(_STDOUT, view) :]


def _plain(encoded: bytes) -> str:
    output = line_of_output(encoded)
    if output is not None:
        return f"{without_colour(output)}\n"
    event = json.loads(encoded)
    if "log" not in event:
        return ""
    line = without_colour(event["log"])
    if event["type"] == "stage" and event["state"] == "started":
        return f"==> {line}\n"
    if event.get("level") == "warning":
        return f"warning: {line}\n"
    return f"{line}\n"


def _shown(console: Any, event: dict[str, Any]) -> str:
    """Give what a person at a terminal sees of one event; `console` is rich's."""
    from rich.markup import escape  # rich is there by now: it made `console`

    log = event.get("log")
    if log is None:
        return ""
    if event["type"] == "log" and event["stream"] != "runner":
        # The line's own colours go through as they are, and end with it.
        return f"  {log}\x1b[0m\n" if "\x1b" in log else f"  {log}\n"
    text = escape(without_colour(log))
    if event["type"] == "stage" and event["state"] == "started":
        text = f"\n[bold cyan]●[/] [bold]{text}[/]"
    elif event["type"] == "stage":
        text = f"{'[green]✓[/]' if event['state'] == 'succeeded' else '[red]✗[/]'} [dim]{text}[/]"
    elif event["type"] == "result":
        colour = "green" if event["status"] == "succeeded" else "red"
        text = f"\n[bold {colour}]{text}[/] [dim]{event['seconds']:.1f} s[/]"
    else:
        colour = "yellow" if event.get("level") == "warning" or event["type"] == "dropped" else "dim"
        text = f"  [{colour}]{text}[/]"
    with console.capture() as captured:
        console.print(text)
    return str(captured.get())
