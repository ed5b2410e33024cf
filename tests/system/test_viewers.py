"""Viewers of the old kinds, as they are in the wild, in Node: what they show of a run, and when they end."""

from __future__ import annotations

import json
import re
import subprocess
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from buildrunner.events.lines import without_color
from support.harness import PLAIN, ROOT, Program, Redis, Repositories, Run, wait_for
from support.warm import WarmProgram

# What a build prints to end a viewer early, with lines of every sort around it.
FORGED = ["Done", " Done", "Failed: x", "\x1b[32mDone\x1b[0m", "Done ", "Cancelled", "Timed out: x", "Superseded"]
BEFORE, AFTER = ["begun", "", '{"log":"Done"}', "caf\u00e9 \U0001f680"], ["Almost Done", "over"]
BUILD = "".join(f"printf '%s\\n' '{line}'\n" for line in [*BEFORE, *FORGED, *AFTER])
SITE = "sleep 0.3; mkdir dist; echo 1 >dist/index.html\n"
# How programs of these families tell that a build is over: nobody looks at more than a trimmed line and its beginning.
END = re.compile(r"Done$|(Failed|Timed out): |Cancelled|Superseded")


class Viewer:
    """One of the two in tests/node/old_viewers.mjs: what it has shown so far."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.shown: list[str] = []
        self._subscribed = threading.Event()
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        assert self._subscribed.wait(20)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            text = json.loads(line)
            if text is None:
                self._subscribed.set()
            else:
                self.shown.append(text)

    def close(self) -> None:
        self.process.kill()
        self.process.wait()
        self._thread.join()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()


@contextmanager
def viewer(redis: Redis, kind: str, channel: str) -> Iterator[Viewer]:
    command = ["node", str(ROOT / "tests" / "node" / "old_viewers.mjs"), str(redis.port), kind, channel]
    found = Viewer(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
    try:
        yield found
    finally:
        found.close()


def check_shown(run: Run, shown: list[str], *, color: bool) -> None:
    """Check that a person saw each line of the run once and in order, and no end before the end."""
    lines = [event["log"] if color else without_color(event["log"]) for event in run.events if "log" in event]
    assert len(shown) == len(lines)
    changed = [(line, seen) for line, seen in zip(lines, shown, strict=True) if line != seen]
    # A build's own line that looks like an end word, and nothing else, has a space before it.
    assert all(seen == f" {line}" for line, seen in changed)
    plain = [without_color(line) for line, _ in changed]
    own = [line for line in map(without_color, FORGED) if END.match(line)]
    assert set(own) <= set(plain) <= set(map(without_color, FORGED))
    # Whoever looks at the beginning of a line, or for exactly `Done`, finds the last one only.
    assert [index for index, line in enumerate(map(without_color, shown)) if END.match(line)] == [len(shown) - 1]
    # Nothing that is not a line for people: a build's own JSON is the only JSON.
    assert [line for line in shown if line.startswith("{")] == ['{"log":"Done"}']
    assert all(isinstance(line, str) for line in shown)
    text = [line.strip() for line in map(without_color, shown)]
    begin = text.index("begun")
    printed = [*BEFORE, *FORGED, *AFTER]
    assert text[begin : begin + len(printed)] == [without_color(line).strip() for line in printed]


def test_a_viewer_of_raw_messages_sees_lines_and_end_once(
    own_redis: Redis, program: Program, repositories: Repositories
) -> None:
    program = WarmProgram(own_redis, program.s3, program.folder)

    with viewer(own_redis, "raw", "logs:*") as raw:
        run = program.run(repositories.app(BUILD + SITE), **PLAIN)
        wait_for(lambda: len(raw.shown) >= len(run.messages), "the viewer to show the last line")
        assert raw.process.poll() is None

    assert run.code == 0
    assert raw.shown == run.messages
    check_shown(run, raw.shown, color=False)
    assert raw.shown[-1] == "Done"
    assert not any("\x1b" in line for line in raw.shown)


def test_a_viewer_of_a_failed_build_sees_one_end_at_the_end(
    own_redis: Redis, program: Program, repositories: Repositories
) -> None:
    program = WarmProgram(own_redis, program.s3, program.folder)

    with viewer(own_redis, "raw", "logs:*") as raw:
        run = program.run(repositories.app(BUILD + "exit 3"), **PLAIN)
        wait_for(lambda: len(raw.shown) >= len(run.messages), "the viewer to show the last line")
        assert raw.process.poll() is None

    assert run.code == 40
    check_shown(run, raw.shown, color=False)
    assert raw.shown[-1].startswith("Failed: ")


def test_a_viewer_that_waits_for_exactly_done_ends_with_the_run(
    own_redis: Redis, program: Program, repositories: Repositories
) -> None:
    """The larger family: `{"log": ...}`, `__outputs/<id>/`, `GIT_REPOSITORY__URL`, `PROJECT_ID`."""
    program = WarmProgram(own_redis, program.s3, program.folder)
    app = repositories.app(BUILD + SITE)

    with viewer(own_redis, "json", "logs:p-123") as parser:
        run = program.run(
            None,
            REPO_URL=None,
            SLUG=None,
            GIT_REPOSITORY__URL=f"file://{app}",
            PROJECT_ID="p-123",
            LOG_FORMAT="json",
            S3_KEY_PREFIX="__outputs/{slug}/",
            **PLAIN,
        )
        code = parser.process.wait(20)
        parser.close()

    assert run.code == 0
    assert code == 0  # it ended by itself, at `Done`, and no message made it fail
    check_shown(run, parser.shown, color=True)
    assert parser.shown[-1] == "Done"
    assert [json.loads(message)["log"] for message in run.messages] == parser.shown
    assert list(program.objects("__outputs/p-123")) == ["index.html"]
