"""Test the decisions of the publisher without Redis; `tests/system/test_delivery.py` tests it with Redis."""

from __future__ import annotations

import json
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import MovedError, NoPermissionError, OutOfMemoryError, ResponseError
from redis.exceptions import TimeoutError as RedisTimeoutError

from buildrunner.events.follower import Sink, restart_after_faults
from buildrunner.events.journal import Journal
from buildrunner.events.sinks.redis import publisher as publisher_module
from buildrunner.events.sinks.redis.connection import address, explain
from buildrunner.events.sinks.redis.publisher import Publisher
from buildrunner.events.sinks.redis.stream import AppendOutcome, StreamPosition
from buildrunner.redaction import Redactor


def make(journal: Journal, log_format: Literal["text", "json"] = "text") -> Publisher:
    names: dict[str, Any] = {"channel": "logs:x", "stream": "events:x", "uri": "redis://localhost:1"}
    return Publisher(journal, **names, ttl=60, log_format=log_format, on_superseded=lambda: None)


def test_a_cancelled_check_does_not_leave_the_publisher_hurrying(tmp_path: Path) -> None:
    """Otherwise, it would send empty batches without a pause until the end of the build."""

    async def main() -> None:
        with Journal(tmp_path, build="b", redactor=Redactor(()), max_bytes=10_000) as journal:
            journal.log("x")
            publisher = make(journal)

            with anyio.move_on_after(0.02) as scope:
                await publisher.caught_up(5)

            assert scope.cancelled_caught
            assert not publisher._flush.is_set()

    anyio.run(main)


def test_a_redis_away_for_hours_is_still_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pause that doubles without a limit overflows after 1,024 retries."""
    pauses: list[float] = []
    sleep = anyio.sleep

    async def note(seconds: float) -> None:
        pauses.append(seconds)
        await sleep(0)

    async def main() -> None:
        with Journal(tmp_path, build="b", redactor=Redactor(()), max_bytes=10_000) as journal:
            publisher = make(journal)
            monkeypatch.setattr(anyio, "sleep", note)
            for failures in (0, 1, 10, 1023, 1024, 100_000):
                journal.complete = True
                await publisher._pause(failures)
                publisher._setbacks, publisher._last_setback = failures, anyio.current_time()
                await publisher._pause_after_setback()

    anyio.run(main)

    assert max(pauses) <= 2


def test_a_connection_that_just_dropped_is_no_warning_at_the_end(tmp_path: Path) -> None:
    """Redis is asked again within 0.1 s; only a lasting error makes the log incomplete."""

    async def main() -> None:
        with Journal(tmp_path, build="b", redactor=Redactor(()), max_bytes=10_000) as journal:
            publisher = make(journal)
            publisher._ever_delivered = True
            publisher.trouble = "refuses connections"

            publisher._tell_trouble(lines_go_out=False)
            assert publisher.pending_warning is None

            assert publisher._trouble_since is not None
            publisher._trouble_since -= 1
            publisher._tell_trouble(lines_go_out=False)
            assert "Redis refuses connections" in str(publisher.pending_warning)

    anyio.run(main)


def test_a_sink_that_fails_is_restarted_and_reported(tmp_path: Path) -> None:
    reported: list[Exception] = []

    class FailingSink(Sink):
        name = "the live log"
        undelivered = 0

        async def run(self) -> None:
            if len(reported) < 2:
                raise OverflowError

    async def main() -> list[bytes]:
        with Journal(tmp_path, build="b", redactor=Redactor(()), max_bytes=10_000) as journal:
            await restart_after_faults(FailingSink(), journal, report=reported.append)
            return journal.reader().read(10, 10_000)

    events = [json.loads(event) for event in anyio.run(main)]

    assert len(reported) == 2
    assert [event["log"] for event in events] == [
        "Internal error in buildrunner: the live log failed (OverflowError). Restarting it."
    ], "the log names a fault once"
    assert {event["level"] for event in events} == {"warning"}


def test_lost_answers_to_a_growing_batch_lose_no_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The server runs ten events; their answer is lost, and so is the answer to the same events with ten more.

    Only the first ten are in the stream then, so the others have certainly not been sent.
    """
    monkeypatch.setattr(publisher_module, "is_closed", lambda client: False)
    channel: list[str | bytes] = []
    at = 0
    lost = [True, True, False, False]

    async def append(
        client: Any, first: int, events: list[bytes], messages: list[str], **_: object
    ) -> tuple[AppendOutcome, StreamPosition]:
        nonlocal at
        before = StreamPosition(5, at)
        written = first == at + 1
        if written:
            at += len(events)
            channel.extend(messages)
        if lost.pop(0):
            raise RedisTimeoutError
        return AppendOutcome.WRITTEN if written else AppendOutcome.ELSEWHERE, before

    async def main() -> None:
        with Journal(tmp_path, build="b", redactor=Redactor(()), max_bytes=10_000) as journal:
            journal.output("stdout", [(f"line {number}", False) for number in range(1, 21)])
            events = journal.reader().read(100, 100_000)
            publisher = make(journal)
            publisher._writer.number = 5
            monkeypatch.setattr(publisher._writer, "append", append)
            for batch in (events[:10], events):
                with pytest.raises(RedisTimeoutError):
                    await publisher._append(None, 1, batch)  # type: ignore[arg-type]
            await publisher._append(None, 1, events)  # type: ignore[arg-type]
            await publisher._append(None, publisher.delivered + 1, events[publisher.delivered :])  # type: ignore[arg-type]
            assert publisher.delivered == 20

    anyio.run(main)

    assert channel == [f"line {number}" for number in range(1, 21)]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("Done", " Done"),
        ("\x1b[32m Done \x1b[0m", "  Done "),
        ("Failed: all", " Failed: all"),
        ("Skipped: 3", " Skipped: 3"),
        ("Done.", "Done."),
        ('say "Done"', 'say "Done"'),
    ],
)
def test_a_line_that_looks_like_an_end_word_gets_a_space(tmp_path: Path, line: str, message: str) -> None:
    async def main() -> None:
        with Journal(tmp_path, build="b", redactor=Redactor(()), max_bytes=10_000) as journal:
            journal.output("stdout", [(line, False)])
            journal.write("result", "Done", status="succeeded")
            events = journal.reader().read(10, 10_000)

            assert make(journal)._messages(1, events) == [(1, message), (2, "Done")]
            assert make(journal)._messages(1, events[:1]) == [(1, message)]
            [(_, as_json)] = make(journal, "json")._messages(1, events[:1])
            assert json.loads(as_json)["log"] == (f" {line}" if message.startswith(" ") else line)

    anyio.run(main)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.sampled_from(["", "x", "Done", "\tDone ", "\u2028 Done", "Failed:", '"\\', "\x1b[1mred\x1b[m", None])),
    st.integers(0, 9),
)
def test_a_batch_has_the_same_messages_as_its_events(lines: list[str | None], sent: int) -> None:
    async def main() -> None:
        with (
            TemporaryDirectory() as folder,
            Journal(Path(folder), build="b", redactor=Redactor(()), max_bytes=10_000) as journal,
        ):
            for line in lines:
                if line is None:
                    journal.write("progress")
                else:
                    journal.output("stdout", [(line, False)])
            events = journal.reader().read(100, 10_000)
            publishers = [make(journal), make(journal, "json")]

            for publisher in publishers:
                publisher._sent = sent
                each = [message for seq, event in enumerate(events, 1) for message in publisher._messages(seq, [event])]

                assert publisher._messages(1, events) == each

    anyio.run(main)


def test_errors_of_redis_are_explained() -> None:
    in_transaction = (
        "Command # 1 (XADD events:x) of pipeline caused error: User u has no permissions to run the 'xadd' command"
    )

    assert explain(RedisTimeoutError("Timeout reading from socket")) == "does not answer within 5 s"
    assert explain(OutOfMemoryError("OOM command not allowed")) == "is out of memory (its maxmemory is reached)"
    assert explain(NoPermissionError(in_transaction)) == (
        "does not allow this user what is needed (User u has no permissions to run the 'xadd' command)"
    )
    quoted = (
        "Command # 1 (XADD events:x event OOM unknown command 'x') of pipeline caused error: ('NOREPLICAS Not enough',)"
    )
    assert "too few replicas" in explain(ResponseError(quoted))
    assert "read-only" in explain(ResponseError("ERR Error running script: @user_script:5: -READONLY You can't write"))
    assert "cluster" in explain(MovedError("1493 127.0.0.1:7001"))
    assert address("rediss://user:secret@redis.example.org/0") == "redis.example.org:6379"
    assert address("unix:///run/redis.sock") == "/run/redis.sock"
