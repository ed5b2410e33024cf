"""Run buildrunner, and sample its current task a thousand times per second of CPU time.

    python sampled.py FILE

SIGPROF takes the samples, so waiting does not count. C code counts for its caller. A tracing profiler would overestimate
functions that are called for every line. The counts are written to FILE as JSON.
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
# The innermost frame in this table determines the task of a sample: (end of the file's name, prefixes of functions, task).
WHAT: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("buildrunner/redaction.py", (), "redaction"),
    ("events/lines.py", (), "decoding and splitting"),
    ("events/ring.py", ("write_all",), "writing the journal"),
    ("events/ring.py", ("Ring.",), "the ring buffer"),
    ("events/journal.py", ("Journal.",), "encoding"),
    ("events/journal.py", ("_now",), "encoding"),
    ("redis/messages.py", (), "publisher: extracting lines"),
    ("redis/stream.py", (), "publisher: sending batches"),
    ("redis/publisher.py", (), "publisher: sending batches"),
    ("sinks/console.py", (), "console"),
    ("build/command.py", ("CommandOutput.",), "storing the end for hints"),
    ("sandbox/command.py", (), "reading the pipe"),
    ("asyncio/unix_events.py", (), "reading the pipe"),
    ("asyncio/selector_events.py", (), "event loop: sockets"),
    ("asyncio/base_events.py", (), "event loop"),
)
IMPORTS = "imports, once per build"


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

    os._exit = write_and_exit  # type: ignore[assignment]  # buildrunner exits with it
    signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, EVERY_SECONDS, EVERY_SECONDS)

    from buildrunner.cli import main as run

    run()


if __name__ == "__main__":
    main()
