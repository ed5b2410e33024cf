"""What surrounds the story of a run: stages and their limits, signals, the first cause of the end, and the end itself.

One task group holds it all: the story, the followers of the journal, the S3 client, the watcher of signals. Cancelling the
story is the only way in which signals, limits and later runs end it; the followers outlive it until the result is delivered.
"""

from __future__ import annotations

import asyncio
import gc
import math
import os
import signal
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Literal

import anyio
import anyio.abc
import anyio.lowlevel

from buildrunner.concurrency.cancellation import Deadline, run_deadline
from buildrunner.config.settings import Settings
from buildrunner.errors import (
    EXIT_PUBLISHED,
    BuildCancelled,
    BuildEnded,
    BuildFailed,
    BuildSuperseded,
    BuildTimedOut,
    Failure,
    Stage,
)
from buildrunner.events.follower import restart_after_faults
from buildrunner.events.journal import Field, Journal
from buildrunner.events.sinks import console
from buildrunner.events.sinks.redis.publisher import Publisher
from buildrunner.redaction import Redactor
from buildrunner.sandbox.command import Sandbox
from buildrunner.sandbox.processes import as_typed, main_program

if TYPE_CHECKING:
    from buildrunner.publish.uploader import Upload
    from buildrunner.s3.bucket import S3

# After a signal one deadline covers everything: the contract promises 15 s, and the process itself takes some time to end.
AFTER_SIGNAL_SECONDS = 14.5
# From the second look on a signal lets the upload finish for so long.
PUBLISH_AFTER_SIGNAL_SECONDS = 8.0
# No event can be written while the archive is, and the contract promises one every 30 s. Giving it up takes 5 s more.
ARCHIVE_SECONDS = 20.0
# Of the deadline after a signal, what the archive leaves for the delivery of the result. (`cancellation` has what clean-ups leave.)
DELIVERY_RESERVE_SECONDS = 2.5
CONSOLE_RESERVE_SECONDS = 0.5  # the same, of the delivery for the console
SECOND_LOOK_SECONDS = 2.0
CONSOLE_SECONDS = 5.0
# For deletions and the manifest, once the site is published; of the deadline after a signal, what they leave for the rest.
TIDY_SECONDS = 90.0
TIDY_RESERVE_SECONDS = 8.0
NUMBER_SECONDS = 1.0  # for Redis to say by which number it orders this run
LEAVE_SECONDS = 75.0  # for what is left to do when the result is delivered: closing connections, removing the workspace

_Fields = dict[str, Field]


class Run:
    """One run. The first cause of its end decides, and nothing later changes it."""

    def __init__(self, settings: Settings, journal: Journal, redactor: Redactor) -> None:
        self.journal = journal
        self.redactor = redactor
        self.sandbox: Sandbox | None = None
        # What the result tells beside how the run ended.
        self.commit: str | None = None
        self.files: int | None = None
        self.bytes: int | None = None
        self.unfinished: dict[
            str, str
        ] = {}  # files open for writing when a command ended → the program that wrote them
        self._last_output = -math.inf  # when a command said something before its time ran out
        self._settings = settings
        self._started = anyio.current_time()
        self._started_at = time.time_ns() // 1_000_000  # ms: orders runs where Redis does not
        self._cause: BuildEnded | None = None
        self._cause_stage: Stage = "prepare"
        self._published = False  # all pages are written: nothing can fail the run any more
        self._deadline = Deadline()
        self._exit_code: int | None = None  # when all is told: then there is nothing left to stop
        self._story_scope = anyio.CancelScope()
        self._limit_scope: anyio.CancelScope | None = None  # of the stage
        self._publish_scope: anyio.CancelScope | None = None  # from the second look on
        self._followers: anyio.abc.TaskGroup | None = None
        self._beside: list[anyio.CancelScope] = []  # of what is done beside the story
        self._command_started = anyio.Event()
        self._s3: S3 | BuildEnded | None = None
        self._s3_ready = anyio.Event()
        self._upload: Upload | None = None
        self._stage_seconds: dict[str, float] = {}
        self._publisher = Publisher(
            journal,
            uri=settings.redis_uri,
            channel=settings.log_channel,
            stream=settings.event_stream,
            ttl=settings.log_ttl,
            log_format=settings.log_format,
            on_superseded=lambda: self._stop(BuildSuperseded()),
        )

    async def tell(self, story: Callable[[], Awaitable[None]], early_signals: Sequence[int]) -> int:
        """Run the story with its followers beside it until the result is delivered, and give the exit code."""
        delivered, printed = anyio.Event(), anyio.Event()
        run_deadline.set(self._deadline)
        async with anyio.create_task_group() as followers:
            alive = anyio.CancelScope()
            followers.start_soon(self._watch_signals, early_signals)
            followers.start_soon(self._keep_alive, alive)
            followers.start_soon(self._publish_log, delivered)
            followers.start_soon(self._print_log, printed)
            followers.start_soon(self._open_s3)
            self._followers = followers
            try:
                with self._story_scope:
                    await story()
            except BuildEnded as error:
                self._decide(error)
            except Exception as error:  # whatever it is, the result has to be told
                self._decide(
                    BuildEnded(
                        f"buildrunner itself failed ({type(error).__name__}); this is not a fault of the repository.",
                        "Please report it with the lines that the console shows.",
                        failure=Failure("internal-error"),
                    )
                )
                self._report(error)
            self.release_followers()
            for scope in self._beside:
                scope.cancel()
            alive.cancel()
            await self._finish(delivered, printed)
            cause = None if self._published else self._cause
            self._exit_code = code = cause.exit_code if cause else EXIT_PUBLISHED
            # All is told: whatever does not end by then, such as a thread that asks a silent server for a name, is left.
            leave_at = min(self._deadline.at, anyio.current_time() + LEAVE_SECONDS)
            asyncio.get_running_loop().call_at(leave_at, os._exit, code)
            followers.cancel_scope.cancel()
        return code

    def release_followers(self) -> None:
        """Let what the first command need not wait for begin: the imports of Redis and S3 take half a second."""
        self._command_started.set()

    # --- what the story uses ---------------------------------------------------------------------------------

    @asynccontextmanager
    async def stage(
        self, name: Stage, limit: float | None, text: str, *, tail_share: float = 0.25
    ) -> AsyncIterator[None]:
        """Tell the beginning and the end of a stage, and end it when its time runs out (`limit` in seconds)."""
        journal = self.journal
        journal.stage = name
        journal.write("stage", text, state="started")
        started = anyio.current_time()
        state = "failed"
        if self.sandbox:
            self.sandbox.stopped = []

        def check_limit() -> None:
            # Also what did not notice that its time ran out, as work in a thread does not, is too late.
            if limit is not None and anyio.current_time() >= started + limit and not self._published:
                silent = started + limit - max(started, self._last_output)
                stopped = self.sandbox.stopped if self.sandbox else []
                program = as_typed(main_program(stopped), self.redactor.redact) if stopped else None
                self._decide(_timed_out(name, limit, silent, program))
                assert self._cause is not None
                raise self._cause

        try:
            with anyio.move_on_after(limit) as self._limit_scope:
                yield
            check_limit()
            state = "succeeded"
        except BuildEnded as error:
            if self._cause is None:
                check_limit()
            self._decide(error)
            raise
        finally:
            self._limit_scope = None
            seconds = anyio.current_time() - started
            if self.sandbox and self.sandbox.has_leftovers:
                self.sandbox.has_leftovers = False
                journal.log(
                    "A process that this stage started cannot be ended: the kernel does not release it.", "warning"
                )
            with anyio.CancelScope(shield=True):  # bounded by LOG_MAX_BYTES
                await journal.end_output(share=tail_share)
            said = {"succeeded": "done", "failed": "failed"}[state]
            self._stage_seconds[name] = round(seconds, 3)
            journal.write("stage", f"{name}: {said} in {seconds:.1f} s", state=state, seconds=round(seconds, 3))

    def saw_output(self) -> None:
        """Note that a command said something. What it says when it is told to stop does not count."""
        if not (self._limit_scope and self._limit_scope.cancel_called):
            self._last_output = anyio.current_time()

    async def s3(self) -> S3:
        """Give the S3 client, which was imported and made while git and npm ran.

        Raises:
            BuildFailed: when it could not be made.

        """
        await self._s3_ready.wait()
        if isinstance(self._s3, BuildEnded):
            raise self._s3
        assert self._s3 is not None
        return self._s3

    async def upload(self) -> Upload:
        """Give what publishes the site, which has looked at the bucket while git and npm ran.

        Raises:
            BuildFailed: when there is no S3 client.

        """
        await self.s3()
        assert self._upload is not None
        return self._upload

    async def second_look(self) -> None:
        """Look for the last time whether a later run took over.

        Raises:
            BuildSuperseded: when it did.

        """
        if self._settings.redis_uri:
            await self._publisher.caught_up(SECOND_LOOK_SECONDS)
        if self._publisher.superseded:
            raise BuildSuperseded
        await (await self.upload()).begin()

    async def publish(self, publish: Callable[[], Awaitable[None]], what_is_new: Callable[[], str]) -> None:
        """Do what changes the live site. A signal lets it finish for a while; when it is done the run has succeeded."""
        limit = self._limit_scope.deadline if self._limit_scope else math.inf
        # A signal that came since the last wait ends the run here: the shield would keep the cancellation out.
        await anyio.lowlevel.checkpoint_if_cancelled()
        with anyio.CancelScope(shield=True, deadline=limit) as self._publish_scope:
            try:
                await publish()
                self._published = True
            except BuildEnded as error:
                self._decide(error)
                assert self._cause is not None
                self._cause.reason = f"{self._cause.reason} {what_is_new()}"
                raise self._cause from None
        if not self._published:
            self._decide(_timed_out("upload", self._settings.upload_timeout))
            assert self._cause is not None
            self._cause.reason = f"{self._cause.reason} {what_is_new()}"
            raise self._cause

    async def tidy_up(self, tidy_up: Callable[[], Awaitable[str | None]]) -> None:
        """Do what comes after the pages, and tell what it says. Nothing of it can fail the run."""
        said = None
        with self._deadline.limit(TIDY_SECONDS, TIDY_RESERVE_SECONDS, shield=True) as scope:
            said = await tidy_up()
        if scope.cancelled_caught:
            self.journal.log(
                "What is no longer part of the site was not removed in time. The next build does it.",
                "warning",
            )
        elif said:
            self.journal.log(said)

    def beside(self, work: Callable[[], Awaitable[None]]) -> None:
        """Have something done beside the story that it may wait for or not; the end of the story cancels it."""
        assert self._followers is not None
        self._followers.start_soon(self._do_beside, work)

    @contextmanager
    def optional(self, seconds: float) -> Iterator[anyio.CancelScope]:
        """Limit a step that a published site does without: a signal ends it at once."""
        with self._deadline.limit(seconds, AFTER_SIGNAL_SECONDS) as scope:
            yield scope

    # --- causes and signals ----------------------------------------------------------------------------------

    def _decide(self, cause: BuildEnded) -> None:
        """Keep the first cause of the end, and the stage that it befell."""
        if isinstance(cause, BuildSuperseded):
            self._publisher.yield_stream()
        if self._cause is None and not self._published:
            self._cause, self._cause_stage = cause, self.journal.stage

    def _stop(self, cause: BuildEnded) -> None:
        """End the story from outside: a signal, or a later run."""
        if self._limit_scope and self._limit_scope.cancel_called:
            return  # its time ran out first, and it is being ended
        if self._publish_scope is None:
            self._decide(cause)
            self._story_scope.cancel()
        elif isinstance(cause, BuildCancelled):  # a later run is not stopped for: what is live has begun to change
            self._decide(cause)
            soon = anyio.current_time() + PUBLISH_AFTER_SIGNAL_SECONDS
            self._publish_scope.deadline = min(self._publish_scope.deadline, soon)

    @contextmanager
    def survives_faults(self) -> Iterator[None]:
        """Do what a build can do without: a fault of ours in it is reported, and the build continues."""
        try:
            yield
        except BuildEnded:
            raise
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        """Show a fault of ours where the operator looks."""
        print(self.redactor.redact("".join(traceback.format_exception(error))), file=sys.stderr, flush=True)

    async def _watch_signals(self, early: Sequence[int]) -> None:
        hang_up = () if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else (signal.SIGHUP,)  # nohup has it ignored
        loop = asyncio.get_running_loop()
        send, signals = anyio.create_memory_object_stream[int](math.inf)

        def catch(number: int, _frame: object) -> None:
            if self._exit_code is not None:
                os._exit(self._exit_code)
            if not loop.is_closed():
                loop.call_soon_threadsafe(send.send_nowait, number)

        # Not the loop's own handlers: it takes them back when it ends, and a signal that comes after that would kill a run
        # that has said how it ended, with another code.
        for number in (signal.SIGINT, signal.SIGTERM, *hang_up):
            signal.signal(number, catch)
        for number in early[:1]:
            self._on_signal(number)
        async for number in signals:
            if self._deadline.at < math.inf:
                if self.sandbox:
                    self.sandbox.end_all_now()
                os._exit(128 + _counted(number))
            self._on_signal(number)

    def _on_signal(self, number: int) -> None:
        name = signal.Signals(number).name
        ending = self._published or self._cause is not None
        self.journal.log(f"{name} received: the build is {'ending already' if ending else 'being stopped'}.", "warning")
        self._stop(BuildCancelled(_counted(number), f"The build was stopped by {name}."))
        self._deadline.set(anyio.current_time() + AFTER_SIGNAL_SECONDS)

    # --- the end ---------------------------------------------------------------------------------------------

    async def _finish(self, delivered: anyio.Event, printed: anyio.Event) -> None:
        """Upload the archive with the result as its last line, then send the result."""
        journal, cause = self.journal, None if self._published else self._cause
        started = anyio.current_time()
        journal.stage = "finish"
        journal.write("stage", "Keeping the log", state="started")
        if why := self._publisher.behind:
            journal.log(f"The live log is incomplete so far: Redis {why}. The whole log is kept in S3.", "warning")

        def last_events(state: Literal["succeeded", "failed"]) -> list[tuple[str, str, _Fields]]:
            seconds = anyio.current_time() - started
            result: _Fields = {
                "stage": self._cause_stage if cause else "finish",
                "status": cause.status if cause else "succeeded",
                "exit_code": cause.exit_code if cause else EXIT_PUBLISHED,
                "reason": cause.reason if cause else None,
                "hint": cause.hint if cause else None,
                "failure": cause.failure.fields if cause and cause.failure else None,
                "seconds": round(anyio.current_time() - self._started, 3),
                "stages": self._stage_seconds or None,
                "commit": self.commit,
                "files": self.files,
                "bytes": self.bytes,
            }
            said = "done" if state == "succeeded" else "failed"
            stage: _Fields = {"state": state, "seconds": round(seconds, 3)}
            end: list[tuple[str, str, _Fields]] = [
                ("stage", f"finish: {said} in {seconds:.1f} s", stage),
                ("result", cause.end_word if cause else "Done", result),
            ]
            if cause and cause.hint:  # for whoever reads lines: a message of the channel is no more than one
                end.insert(0, ("log", f"What to do: {cause.hint}", {"stream": "runner", "level": "info"}))
            return end

        failure = await self._archive(journal.seal(last_events("succeeded")))
        if failure:
            journal.log(f"The log of this build could not be kept in S3: {failure}", "warning")
            journal.seal(last_events("failed"))
        journal.publish_seal()
        self._publisher.hurry()
        with self._deadline.limit(self._publisher.last_wait, CONSOLE_RESERVE_SECONDS):
            await delivered.wait()
        if not delivered.is_set() and not self._publisher.superseded:
            lost = journal.last_seq - self._publisher.delivered
            why = f"Redis {self._publisher.trouble}" if self._publisher.trouble else "Redis was too slow"
            with self._deadline.limit(CONSOLE_SECONDS):
                await printed.wait()
            kept = (
                "; they are lost"
                if failure
                else f"; they are in s3://{self._settings.state_bucket}/{self._archive_key}"
            )
            sentence = f"{lost:,} of {journal.last_seq:,} events were not delivered: {why}{kept}."
            with self._deadline.limit(CONSOLE_SECONDS):
                await console.warn(sentence, self._settings.console_format)
        with self._deadline.limit(CONSOLE_SECONDS):
            await printed.wait()

    @property
    def _archive_key(self) -> str:
        return f"__logs/{self._settings.slug}/{self._settings.build_id}.ndjson"

    async def _archive(self, size: int) -> str | None:
        """Keep the journal in the state bucket; give the reason when that fails."""
        file = self.journal.archive_file()
        try:
            with self._deadline.limit(ARCHIVE_SECONDS, DELIVERY_RESERVE_SECONDS) as scope:
                await self._s3_ready.wait()
                if isinstance(self._s3, BuildEnded):
                    return self._s3.reason
                assert self._s3 is not None
                bucket = self._s3.bucket(self._settings.state_bucket)
                await bucket.put_file(
                    self._archive_key, file, size, content_type="application/x-ndjson", parts_in_flight=2
                )
            return "S3 did not take it in time." if scope.cancelled_caught else None
        except BuildEnded as error:
            return error.reason
        except Exception as error:  # whatever it is, the result has to be delivered
            self._report(error)
            return f"Internal error in buildrunner ({type(error).__name__})."
        finally:
            os.close(file)

    # --- what runs beside the story --------------------------------------------------------------------------

    async def _do_beside(self, work: Callable[[], Awaitable[None]]) -> None:
        with anyio.CancelScope() as scope:
            self._beside.append(scope)
            try:
                await work()
            except Exception as error:  # a fault in it must not cost the build
                self._report(error)

    async def _keep_alive(self, scope: anyio.CancelScope) -> None:
        with scope:
            await self.journal.keep_alive()

    async def _publish_log(self, delivered: anyio.Event) -> None:
        if not self._settings.redis_uri:
            delivered.set()
            return
        await self._command_started.wait()
        await restart_after_faults(self._publisher.run, self.journal, name="the live log", report=self._report)
        delivered.set()

    async def _print_log(self, printed: anyio.Event) -> None:
        reader = self.journal.reader()  # continues behind what could not be printed
        follow = partial(console.follow, reader, self._settings.console_format)
        await restart_after_faults(follow, self.journal, name="the console", report=self._report)
        printed.set()

    async def _open_s3(self) -> None:
        """Have the S3 client imported and made while git and npm run."""
        await self._command_started.wait()
        from buildrunner.s3.bucket import open_s3

        settings = self._settings
        try:
            async with open_s3(
                region=settings.region, endpoint_url=settings.s3_endpoint_url, concurrency=settings.upload_concurrency
            ) as s3:
                # The imports are done: what they left stays for good, and the collector need not walk through it.
                gc.freeze()
                gc.enable()
                self._s3, self._upload = s3, self._make_upload(s3)
                self._s3_ready.set()
                await s3.warm_up(settings.bucket)
                with suppress(BuildFailed):  # told when the site is to be published
                    await self._upload.survey()
                if self._upload.superseded:
                    self._stop(BuildSuperseded())
                await anyio.sleep_forever()
        except BuildEnded as error:
            self._s3 = error
        except Exception as error:  # told when the site is to be published, not in the middle of the build
            self._s3 = BuildFailed(
                "upload",
                f"The S3 client cannot be made: {error}.",
                "Look at the AWS configuration.",
                kind="aws-configuration",
            )
        gc.enable()
        self._s3_ready.set()

    def _make_upload(self, s3: S3) -> Upload:
        from buildrunner.publish.lock import Turn
        from buildrunner.publish.uploader import Upload

        settings = self._settings

        def warn(sentence: str) -> None:
            self.journal.log(sentence, "warning")

        async def run_number() -> int:
            redis = self._settings.redis_uri
            return (await self._publisher.run_number(NUMBER_SECONDS) if redis else None) or self._started_at

        turn = Turn(
            s3.bucket(settings.state_bucket),
            slug=settings.slug,
            build=settings.build_id,
            age=lambda: anyio.current_time() - self._started,
            warn=warn,
        )
        return Upload(
            s3.bucket(settings.bucket),
            turn,
            prefix=settings.s3_key_prefix,
            concurrency=settings.upload_concurrency,
            asset_grace=settings.asset_grace,
            run_number=run_number,
            warn=warn,
        )


def _counted(number: int) -> int:
    """Give the signal that the exit code tells of: a terminal that is closed (SIGHUP) ends a run as SIGTERM does."""
    return signal.SIGINT if number == signal.SIGINT else signal.SIGTERM


def _timed_out(stage: Stage, limit: float, silent: float = 0.0, program: str | None = None) -> BuildTimedOut:
    """Say that a stage's time has run out, and that its command hung rather than worked if it was silent for half of it.

    `program` is what ran then; of a clone it is git, which says nothing to people.
    """
    words = {"clone": "Cloning", "install": "Installing dependencies", "build": "The build", "upload": "Publishing"}
    reason = f"{words.get(stage, stage)} took longer than {limit:g} s"
    raise_it = f"raise {stage.upper()}_TIMEOUT"
    if program and stage in {"install", "build"}:
        reason = f"{reason} and was stopped at `{program}`"
    if stage in {"install", "build"} and silent >= limit / 2:
        return BuildTimedOut(
            f"{reason}; it had printed nothing for the last {silent:.0f} s.",
            f"Something in it may wait for an answer, or serve or watch and never end. If it only is slow, {raise_it}.",
        )
    return BuildTimedOut(f"{reason}.", f"Make it faster, or {raise_it}.")
