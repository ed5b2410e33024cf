"""Follow the journal to the process's own output: a person's terminal, a pipe, or CloudWatch.

A terminal gets headers with times, and colour; a pipe gets plain lines; `CONSOLE_FORMAT=json` gets the events as they are,
one a line, which CloudWatch Logs Insights reads by itself.
"""

from __future__ import annotations

import importlib
import json
import os
from contextlib import suppress
from typing import TYPE_CHECKING, Any, Literal

import anyio
import anyio.to_thread

from buildrunner.logs.text import without_colour

if TYPE_CHECKING:
    from buildrunner.logs.journal import Journal

_STDOUT = 1
_BATCH_EVENTS = 2000
_BATCH_BYTES = 256 * 1024


async def follow(journal: Journal, console_format: Literal["auto", "text", "json"]) -> None:
    """Print every event from the first to the result. A reader that has gone away (EPIPE) ends the printing, not the run."""
    reader = journal.reader()
    terminal = console_format == "auto" and os.isatty(_STDOUT) and os.environ.get("TERM", "dumb") != "dumb"
    # rich takes 0.08 s to import, and is wanted by people alone.
    rich = await anyio.to_thread.run_sync(importlib.import_module, "rich.console") if terminal else None
    person = rich.Console(highlight=False, soft_wrap=True) if rich else None
    try:
        while not reader.at_end():
            await reader.wait()
            events = reader.read(_BATCH_EVENTS, _BATCH_BYTES)
            if console_format == "json":
                data = b"\n".join([*events, b""])
            elif person:
                with person.capture() as captured:
                    for event in events:
                        _show(person, json.loads(event))
                data = captured.get().encode()
            else:
                data = "".join(_plain(json.loads(event)) for event in events).encode()
            # In a thread, which is left behind when the run ends: a terminal may be stopped by Ctrl-S.
            await anyio.to_thread.run_sync(_print, data, abandon_on_cancel=True)
    except OSError:
        return


async def warn(sentence: str, console_format: Literal["auto", "text", "json"]) -> None:
    """Print a warning that is no event: what could not be delivered."""
    line = json.dumps({"level": "warning", "log": sentence}) if console_format == "json" else f"warning: {sentence}"
    with suppress(OSError):
        await anyio.to_thread.run_sync(_print, f"{line}\n".encode(), abandon_on_cancel=True)


def _print(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(_STDOUT, view) :]


def _plain(event: dict[str, Any]) -> str:
    if "log" not in event:
        return ""
    line = without_colour(event["log"])
    if event["type"] == "stage" and event["state"] == "started":
        return f"==> {line}\n"
    if event.get("level") == "warning":
        return f"warning: {line}\n"
    return f"{line}\n" + (f"{event['hint']}\n" if event.get("hint") else "")


def _show(console: Any, event: dict[str, Any]) -> None:
    """Show one event to a person at a terminal."""
    log = event.get("log")
    if log is None:
        return
    if event["type"] == "stage":
        if event["state"] == "started":
            console.print(f"\n[bold cyan]●[/] [bold]{_escaped(log)}[/]")
        else:
            mark = "[green]✓[/]" if event["state"] == "succeeded" else "[red]✗[/]"
            console.print(f"{mark} {_escaped(log)} [dim]{event['seconds']:.1f} s[/]")
    elif event["type"] == "result":
        good = event["status"] == "succeeded"
        console.print(f"\n[bold {'green' if good else 'red'}]{_escaped(log)}[/] [dim]{event['seconds']:.1f} s[/]")
        if event.get("hint"):
            console.print(_escaped(event["hint"]))
    elif event.get("stream") == "runner" or event["type"] == "dropped":
        colour = "yellow" if event.get("level") == "warning" or event["type"] == "dropped" else "dim"
        console.print(f"  [{colour}]{_escaped(log)}[/]")
    else:
        # The line's own colours go through as they are, and end with it.
        console.out("  ", end="")
        console.file.write(f"{log}\x1b[0m\n" if "\x1b" in log else f"{log}\n")


def _escaped(text: str) -> str:
    return without_colour(text).replace("[", r"\[")
