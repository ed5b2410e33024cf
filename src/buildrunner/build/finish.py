"""Finish a build: archive the log with the result as its last line, then deliver the result."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import anyio

from buildrunner.build.ending import Ending
from buildrunner.build.faults import FaultReporter
from buildrunner.build.storage import Storage
from buildrunner.build.summary import cpu_seconds, format_summary, largest_process_bytes, make_summary
from buildrunner.config.settings import Settings
from buildrunner.errors import EXIT_PUBLISHED, BuildEnded
from buildrunner.events.follower import Follower
from buildrunner.events.journal import Field, Journal
from buildrunner.events.sinks.console import Console
from buildrunner.sandbox import peak_memory

# docs/events.md promises an event every 30 s, and none can be written during the archiving. Cancelling it takes up to 5 s.
ARCHIVE_SECONDS = 20.0
# Part of the deadline after a signal, reserved for delivering the result. `cancellation` has the reserve for clean-ups.
DELIVERY_RESERVE_SECONDS = 2.5
CONSOLE_RESERVE_SECONDS = 0.5  # the same, reserved for the console
CONSOLE_SECONDS = 5.0

_Fields = dict[str, Field]
_Event = tuple[str, str, _Fields]  # kind, log, fields


@dataclass(slots=True)
class Facts:
    """The fields of the result besides the cause of the end, as far as they are known."""

    commit: str | None = None
    files: int | None = None
    bytes: int | None = None
    cache: Literal["hit", "miss", "off"] | None = None  # of dependencies
    sent: Mapping[str, float] | None = None  # files and bytes that were uploaded
    size_changes: Mapping[str, float] | None = None  # bytes by kind of file, since the deployment before


class Finish:
    """Run the last stage. No command of the repository is running, and the build can no longer fail.

    Args:
        settings: settings of the build.
        journal: journal of its events.
        ending: cause of its end.
        age: function that returns the seconds since the build started.
        facts: fields of the result.
        stage_seconds: duration of each stage, seconds.
        storage: S3 client for the archive.
        followers: tasks that feed the sinks other than the console.
        console: sink that reports undelivered events.
        printed: event that is set when the console has printed the result.
        faults: reporter of internal errors.

    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        ending: Ending,
        *,
        age: Callable[[], float],
        facts: Facts,
        stage_seconds: Mapping[str, float],
        storage: Storage,
        followers: Sequence[Follower],
        console: Console,
        printed: anyio.Event,
        faults: FaultReporter,
        in_image: bool,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._ending = ending
        self._age = age
        self._facts = facts
        self._stage_seconds = stage_seconds
        self._storage = storage
        self._followers = followers
        self._console = console
        self._printed = printed
        self._faults = faults
        self._in_image = in_image
        self._started = anyio.current_time()
        self._archive_key = f"__logs/{settings.slug}/{settings.build_id}.ndjson"

    async def run(self) -> None:
        """Archive the log and wait for the delivery of the result."""
        journal = self._journal
        journal.stage = "finish"
        journal.write("stage", "Archiving the log", state="started")
        for sink in (follower.sink for follower in self._followers):
            if warning := sink.pending_warning:
                journal.log(warning, "warning")
        failure = await self._archive(journal.seal(self._last_events("succeeded")))
        if failure:
            journal.log(f"The log of this build was not archived: {failure}", "warning")
            journal.seal(self._last_events("failed"))
        journal.publish_seal()
        await self._deliver(archived=failure is None)

    def _last_events(self, state: Literal["succeeded", "failed"]) -> list[_Event]:
        """Return the last events: the end of this stage, the hint and the result; `state` is that of the archive."""
        cause, facts = self._ending.failure, self._facts
        seconds = anyio.current_time() - self._started
        result: _Fields = {
            "stage": self._ending.stage if cause else "finish",
            "status": cause.status if cause else "succeeded",
            "exit_code": cause.exit_code if cause else EXIT_PUBLISHED,
            "reason": cause.reason if cause else None,
            "hint": cause.hint if cause else None,
            "failure": cause.failure.fields if cause and cause.failure else None,
            "seconds": round(self._age(), 3),
            "stages": self._stage_seconds or None,
            "commit": facts.commit,
            "files": facts.files,
            "bytes": facts.bytes,
            "sent": facts.sent,
            "size_changes": facts.size_changes,
            "url": None if cause else self._settings.site_url,
        }
        word = "done" if state == "succeeded" else "failed"
        events: list[_Event] = [
            ("stage", f"finish: {word} in {seconds:.1f} s", {"state": state, "seconds": round(seconds, 3)}),
            ("result", cause.end_word if cause else "Done", result),
        ]
        if cause and cause.hint:  # for readers of log lines: the end word is a single line without a hint
            events.insert(0, ("log", f"What to do: {cause.hint}", {"stream": "runner", "level": "info"}))
        return events

    async def _archive(self, size: int) -> str | None:
        """Store the journal in the state bucket; return the reason when that fails."""
        file = self._journal.archive_file()
        try:
            with self._ending.deadline.limit(ARCHIVE_SECONDS, DELIVERY_RESERVE_SECONDS) as scope:
                bucket = (await self._storage.client()).bucket(self._settings.state_bucket)
                await bucket.put_file(
                    self._archive_key, file, size, content_type="application/x-ndjson", parts_in_flight=2
                )
            return "S3 did not accept it in time." if scope.cancelled_caught else None
        except BuildEnded as error:
            return error.reason
        except Exception as error:  # the result must be delivered in any case
            self._faults.report(error)
            return f"Internal error in buildrunner ({type(error).__name__})."
        finally:
            os.close(file)

    async def _deliver(self, *, archived: bool) -> None:
        """Wait until the sinks and the console have the result; report undelivered events on the console."""
        deadline = self._ending.deadline
        waits = [(follower, anyio.current_time() + follower.sink.last_wait) for follower in self._followers]
        for follower in self._followers:
            follower.sink.flush()
        for follower, until in waits:
            with deadline.limit(until - anyio.current_time(), CONSOLE_RESERVE_SECONDS):
                await follower.finished.wait()
        place = f"they are in s3://{self._settings.state_bucket}/{self._archive_key}" if archived else "they are lost"
        found = [
            follower.sink.final_warning(finished=follower.finished.is_set(), total=self._journal.last_seq, place=place)
            for follower in self._followers
        ]
        warnings = list(filter(None, found))
        if warnings:
            with deadline.limit(CONSOLE_SECONDS):
                await self._printed.wait()
        for warning in warnings:
            with deadline.limit(CONSOLE_SECONDS):
                await self._console.warn(warning)
        with deadline.limit(CONSOLE_SECONDS):
            await self._printed.wait()
            if self._settings.summary != "off":
                await self._console.print_line(format_summary(self._summarize(), self._settings.summary))

    def _summarize(self) -> dict[str, Any]:
        settings, facts = self._settings, self._facts
        return make_summary(
            json.loads(self._journal.result()),
            slug=settings.slug,
            facts={
                "cicd.pipeline.run.url.full": settings.build_url,
                "vcs.repository.url.full": settings.repository.url or None,
                "vcs.ref.head.name": settings.repository.ref,
                "buildrunner.upload.files": facts.sent["files"] if facts.sent else None,
                "buildrunner.cache": facts.cache,
                "buildrunner.log.events": self._journal.last_seq,
                "buildrunner.log.bytes": self._journal.size,
                "buildrunner.cpu.time": round(cpu_seconds(), 3),
                # Outside of the image the control group holds more than the build.
                "buildrunner.memory.peak": (peak_memory() if self._in_image else None) or largest_process_bytes(),
                "traceparent": settings.traceparent,
            },
        )
