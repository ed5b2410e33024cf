"""Test a custom sink: how a build runs it, waits for it, and reports missing events."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

import anyio
import pytest

from buildrunner.build.run import Run
from buildrunner.build.signals import SignalWatcher
from buildrunner.build.storage import Storage
from buildrunner.config.settings import read_settings
from buildrunner.errors import BuildFailed
from buildrunner.events.follower import Sink
from buildrunner.events.journal import Journal
from buildrunner.events.sinks.redis import Publisher
from buildrunner.redaction import Redactor

ENVIRONMENT = {
    "REPO_URL": "https://example.org/a.git",
    "SLUG": "a",
    "AWS_BUCKET_NAME": "sites",
    "AWS_REGION": "eu-central-1",
    "REDIS_URI": "redis://127.0.0.1:1",
    "CONSOLE_FORMAT": "json",
}


class FileSink(Sink):
    """Appends each event to a file."""

    name = "the file"

    def __init__(self, journal: Journal, file: IO[bytes]) -> None:
        self._journal = journal
        self._reader = journal.reader()
        self._file = file
        self._written = 0

    @property
    def undelivered(self) -> int:
        return self._journal.last_seq - self._written

    async def run(self) -> None:
        self._reader.go_to(self._written + 1)
        while not self._reader.at_end():
            await self._reader.wait()
            events = self._reader.read(500, 65536)
            self.write(b"".join(event + b"\n" for event in events))
            self._written += len(events)

    def write(self, data: bytes) -> None:
        self._file.write(data)


class UnreliableSink(FileSink):
    """Fails once after it has read events."""

    failed = False

    def write(self, data: bytes) -> None:
        if not self.failed:
            self.failed = True
            raise OSError("the disk is away")
        super().write(data)


class StuckSink(FileSink):
    """Delivers nothing."""

    last_wait = 0.1
    behind = "the file does not answer"

    async def run(self) -> None:
        await anyio.sleep_forever()


@pytest.fixture(autouse=True)
def no_surroundings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Disable the effects of a build on the process and S3."""

    async def wait(*_: Any, **__: Any) -> None:
        await anyio.sleep_forever()

    async def client(_: Storage) -> None:
        raise BuildFailed("upload", "There is no S3 here.", "Use none.")

    monkeypatch.setattr(SignalWatcher, "run", wait)
    monkeypatch.setattr(Storage, "run", wait)
    monkeypatch.setattr(Storage, "client", client)


@pytest.fixture
def file(tmp_path: Path) -> Iterator[IO[bytes]]:
    with (tmp_path / "events").open("w+b") as file:
        yield file


def run_build(folder: Path, make_sinks: Callable[[Journal], list[Sink]]) -> int:
    """Run a build with one line of output, these sinks, and no Redis."""

    async def main() -> int:
        settings = dataclasses.replace(read_settings(ENVIRONMENT), redis_uri="")
        with Journal(folder, build="b", redactor=Redactor(()), max_bytes=10_000) as journal:
            async with anyio.create_task_group() as tasks:
                run = Run(settings, journal, Redactor(()), tasks)
                run.sinks.extend(make_sinks(journal))

                async def story() -> None:
                    run.release_followers()
                    journal.output("stdout", [("hello", False)])
                    await anyio.wait_all_tasks_blocked()  # every sink has read it

                return await run.execute(story, [])
            raise AssertionError

    return anyio.run(main)


def events_of(file: IO[bytes]) -> list[dict[str, Any]]:
    file.seek(0)
    return [json.loads(line) for line in file]


def test_sink_that_is_one_line_gets_every_event_once(tmp_path: Path, file: IO[bytes]) -> None:
    assert run_build(tmp_path, lambda journal: [FileSink(journal, file)]) == 0

    events = events_of(file)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    assert "hello" in [event.get("log") for event in events]
    assert events[-1]["type"] == "result"


def test_sink_that_fails_is_run_again_and_continues(
    tmp_path: Path, file: IO[bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run_build(tmp_path, lambda journal: [UnreliableSink(journal, file)]) == 0

    events = events_of(file)
    assert [event["seq"] for event in events] == list(range(1, len(events) + 1))
    printed = capfd.readouterr()
    assert "the file failed (OSError). Restarting it." in printed.out
    assert "the disk is away" in printed.err


def test_events_that_a_sink_lacks_are_reported(
    tmp_path: Path, file: IO[bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    """The other sink has all events, since the build waits for each sink separately."""
    assert run_build(tmp_path, lambda journal: [StuckSink(journal, file), FileSink(journal, file)]) == 0

    count = len(events_of(file))
    *_, result, last = map(json.loads, capfd.readouterr().out.splitlines())
    assert result["type"] == "result"
    assert last["log"] == f"{count} of {count} events were not delivered: the file does not answer; they are lost."


def test_redis_is_a_sink_in_the_list_of_a_run(tmp_path: Path) -> None:
    async def main() -> list[Sink]:
        with Journal(tmp_path, build="b", redactor=Redactor(()), max_bytes=10_000) as journal:
            async with anyio.create_task_group() as tasks:
                return [*Run(read_settings(ENVIRONMENT), journal, Redactor(()), tasks).sinks]
            raise AssertionError

    assert [type(sink) for sink in anyio.run(main)] == [Publisher]
