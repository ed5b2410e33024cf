"""Run buildrunner as `python -m buildrunner` does, and note a thousand times a second of its CPU time what it is at.

    python sampled.py FILE

A sample is taken by SIGPROF, so waiting counts for nothing. What C code does counts for the line that called it. A profiler
that traces calls would make what is called for every line look dearer than it is. FILE gets the counts as JSON.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from types import FrameType

EVERY_SECONDS = 0.001
# The innermost frame that is in this table says what a sample is for; (end of the file's name, names of functions).
WHAT: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("buildrunner/redaction.py", (), "redaction"),
    ("events/lines.py", (), "decoding and splitting"),
    ("events/journal.py", ("_write_all",), "writing the journal"),
    ("events/journal.py", ("_Ring.",), "the ring"),
    ("events/journal.py", ("Journal.",), "encoding"),
    ("events/journal.py", ("_now",), "encoding"),
    ("redis/messages.py", (), "publisher: the line out of the event"),
    ("redis/stream.py", (), "publisher: the batch to Redis"),
    ("redis/publisher.py", (), "publisher: the batch to Redis"),
    ("sinks/console.py", (), "console"),
    ("build/command.py", ("CommandOutput.",), "keeping the end for hints"),
    ("sandbox/command.py", (), "reading the pipe"),
    ("asyncio/unix_events.py", (), "reading the pipe"),
    ("asyncio/selector_events.py", (), "event loop: sockets"),
    ("asyncio/base_events.py", (), "event loop"),
)
IMPORTS = "imports, once a run"


def what(frame: FrameType | None) -> str:
    while frame:
        name, function = frame.f_code.co_filename, frame.f_code.co_qualname
        if "importlib" in name:
            return IMPORTS
        for end, functions, said in WHAT:
            if name.endswith(end) and (not functions or function.startswith(functions)):
                return said
        frame = frame.f_back
    return "the rest"


def main() -> None:
    counts: Counter[str] = Counter()
    file = Path(sys.argv.pop(1))

    def sample(_number: int, frame: FrameType | None) -> None:
        counts[what(frame)] += 1

    def write_and_exit(code: int, really: object = os._exit) -> None:
        signal.setitimer(signal.ITIMER_PROF, 0)
        file.write_text(json.dumps(counts))
        assert callable(really)
        really(code)

    os._exit = write_and_exit  # type: ignore[assignment]  # how buildrunner ends
    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, EVERY_SECONDS, EVERY_SECONDS)

    from buildrunner.cli import main as run

    run()


if __name__ == "__main__":
    main()
