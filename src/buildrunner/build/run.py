"""Supervise the pipeline of a build: its stages, signals, logs, storage and end.

One task group runs all of it. The followers of the journal outlive the pipeline until the result is delivered.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from functools import cached_property, partial

import anyio
import anyio.abc

from buildrunner import notify
from buildrunner.build.background import BackgroundWork
from buildrunner.build.ending import Ending
from buildrunner.build.faults import FaultReporter
from buildrunner.build.finish import Facts, Finish
from buildrunner.build.signals import AFTER_SIGNAL_SECONDS, SignalWatcher
from buildrunner.build.stage_limits import Stages, timed_out
from buildrunner.build.storage import Storage
from buildrunner.concurrency.cancellation import run_deadline
from buildrunner.config.settings import Settings
from buildrunner.errors import EXIT_PUBLISHED, BuildEnded, BuildSuperseded, Failure, Stage
from buildrunner.events.follower import Follower, Sink
from buildrunner.events.journal import Journal
from buildrunner.events.sinks import redis
from buildrunner.events.sinks.console import Console
from buildrunner.notify.hosts import find_target
from buildrunner.redaction import Redactor

SECOND_LOOK_SECONDS = 2.0
# For deletions and the manifest, once the site is published; the rest of the deadline after a signal is reserved.
TIDY_SECONDS = 90.0
TIDY_RESERVE_SECONDS = 8.0
NUMBER_SECONDS = 1.0  # for Redis to return the number that orders this build
LEAVE_SECONDS = 75.0  # to close connections and remove the workspace after the result is delivered


class Run:
    """Supervise one build, and provide what its stages use.

    Args:
        settings: settings of the build.
        journal: journal of its events.
        redactor: redactor of its secrets.
        tasks: task group of everything in the build.
        in_image: whether the process runs in the image; webhooks to private addresses then need permission.

    """

    def __init__(
        self,
        settings: Settings,
        journal: Journal,
        redactor: Redactor,
        tasks: anyio.abc.TaskGroup,
        *,
        in_image: bool = False,
    ) -> None:
        self.settings = settings
        self.journal = journal
        self.log = journal.log
        self.redactor = redactor
        self.facts = Facts()
        self.faults = FaultReporter(redactor.redact)
        self.background = BackgroundWork(tasks, self.faults)
        self.ending = Ending(journal, on_cause=self._on_cause)
        self.stages = Stages(journal, redactor, self.ending)
        self.storage = Storage(settings, age=self._age, order=self._order, warn=self.warn)
        self.signals = SignalWatcher(journal, self.ending, kill_commands=self._kill_commands)
        self._console = Console(journal.reader(), settings.console_format)
        self._console_follower = Follower(self._console, journal, report=self.faults.report)
        self._in_image = in_image
        self._tasks = tasks
        self._started = anyio.current_time()
        self._started_at = time.time_ns() // 1_000_000  # ms; orders builds when Redis doesn't
        self._command_started = anyio.Event()

    async def execute(self, pipeline: Callable[[], Awaitable[None]], early_signals: Sequence[int]) -> int:
        """Run the pipeline, deliver the result, and return the exit code."""
        run_deadline.set(self.ending.deadline)
        alive = anyio.CancelScope()
        self._tasks.start_soon(self.signals.run, early_signals)
        self._tasks.start_soon(self._keep_alive, alive)
        self._tasks.start_soon(self._console_follower.run)
        self._tasks.start_soon(self._run_sinks)
        self._tasks.start_soon(self._open_storage)
        try:
            with self.ending.pipeline:
                await pipeline()
        except BuildEnded as error:
            self.ending.decide(error)
        except Exception as error:  # the result must be delivered in any case
            self.ending.decide(
                BuildEnded(
                    f"Internal error in buildrunner ({type(error).__name__}); the repository is not the cause.",
                    "Please report it with the traceback on the console.",
                    failure=Failure("internal-error"),
                )
            )
            self.faults.report(error)
        self.release_followers()
        self.background.cancel()
        alive.cancel()
        await self._finish()
        cause = self.ending.failure
        self.signals.exit_code = code = cause.exit_code if cause else EXIT_PUBLISHED
        # A thread may still be blocked, for instance in a DNS lookup. The result is delivered, so exit without waiting for it.
        leave_at = min(self.ending.deadline.at, anyio.current_time() + LEAVE_SECONDS)
        asyncio.get_running_loop().call_at(leave_at, os._exit, code)
        self._tasks.cancel_scope.cancel()
        return code

    # --- used by the pipeline --------------------------------------------------------------------------------

    def stage(
        self, name: Stage, limit: float | None, text: str, *, tail_share: float = 0.25
    ) -> AbstractAsyncContextManager[None]:
        """Run a part of the pipeline as a stage; see `Stages.run`."""
        return self.stages.run(name, limit, text, tail_share=tail_share)

    def warn(self, sentence: str) -> None:
        """Log a sentence as a warning."""
        self.journal.log(sentence, "warning")

    def set_commit(self, commit: str) -> None:
        """Note which commit is built, as soon as it is known."""
        self.facts.commit = commit
        for notifier in self._notifiers:
            notifier.set_commit(commit)

    def release_followers(self) -> None:
        """Start what must not delay the first command: importing Redis and S3 takes half a second."""
        self._command_started.set()

    async def check_superseded(self) -> None:
        """Check for the last time whether a later build took over.

        Raises:
            BuildSuperseded: a later build took over.

        """
        if self._publisher:
            await self._publisher.caught_up(SECOND_LOOK_SECONDS)
            if self._publisher.order.superseded:
                raise BuildSuperseded
        await (await self.storage.uploader()).begin()

    async def publish(self, publish: Callable[[], Awaitable[None]], progress: Callable[[], str]) -> None:
        """Change the live site; see `Ending.publish`."""
        too_late = timed_out("upload", self.settings.upload_timeout)
        await self.ending.publish(publish, progress=progress, timed_out=too_late)

    async def tidy_up(self, tidy_up: Callable[[], Awaitable[str | None]]) -> None:
        """Run the clean-up after publishing, and log the sentence it returns; it can't fail the build."""
        report = None
        with self.ending.deadline.limit(TIDY_SECONDS, TIDY_RESERVE_SECONDS, shield=True) as scope:
            report = await tidy_up()
        if scope.cancelled_caught:
            self.warn("Removing obsolete files timed out. The next build removes them.")
        elif report:
            self.log(report)

    @contextmanager
    def optional(self, seconds: float) -> Iterator[anyio.CancelScope]:
        """Limit an optional step after publishing; a signal cancels it at once."""
        with self.ending.deadline.limit(seconds, AFTER_SIGNAL_SECONDS) as scope:
            yield scope

    # --- sinks -----------------------------------------------------------------------------------------------

    @cached_property
    def sinks(self) -> list[Sink]:
        """The sinks besides the console, which reports what they did not deliver. Add a new sink here.

        They are created after git has started, because importing them takes time.
        """
        sinks: list[Sink | None] = [
            self._publisher,
            *self._notifiers,
        ]
        return [sink for sink in sinks if sink]

    @cached_property
    def _publisher(self) -> redis.Publisher | None:
        """The Redis sink, which also orders the builds of a site; None for builds without Redis."""
        settings = self.settings
        if not settings.redis_uri:
            return None
        return redis.Publisher(
            self.journal,
            uri=settings.redis_uri,
            channel=settings.log_channel,
            stream=settings.event_stream,
            ttl=settings.log_ttl,
            log_format=settings.log_format,
            on_superseded=self._on_superseded,
            started=self._started,
        )

    @cached_property
    def _notifiers(self) -> list[notify.Notifier]:
        """Webhooks and commit statuses."""
        settings = self.settings
        notifiers: list[notify.Notifier] = []
        if settings.webhook_url:
            notifiers.append(
                notify.Webhook(
                    self.journal,
                    slug=settings.slug,
                    url=settings.webhook_url,
                    key=settings.webhook_key,
                    allow_private=settings.webhook_allow_private or not self._in_image,
                    build_url=settings.build_url,
                    traceparent=settings.traceparent,
                )
            )
        if settings.commit_status_token:
            target = find_target(settings.repository.url, settings.commit_status, settings.commit_status_url)
            if isinstance(target, str):
                self.warn(target)
            else:
                notifiers.append(
                    notify.CommitStatus(
                        self.journal,
                        target=target,
                        token=settings.commit_status_token,
                        slug=settings.slug,
                        ref=settings.repository.ref,
                        link=settings.build_url or settings.site_url,
                        is_superseded=lambda: isinstance(self.ending.failure, BuildSuperseded),
                    )
                )
        return notifiers

    @cached_property
    def _followers(self) -> list[Follower]:
        return [Follower(sink, self.journal, report=self.faults.report) for sink in self.sinks]

    async def _run_sinks(self) -> None:
        await self._command_started.wait()
        async with anyio.create_task_group() as tasks:
            for follower in self._followers:
                tasks.start_soon(follower.run)

    # --- causes of the end -----------------------------------------------------------------------------------

    def _on_cause(self, cause: BuildEnded) -> None:
        if isinstance(cause, BuildSuperseded) and self._publisher:
            self._publisher.order.yield_stream()

    def _on_superseded(self) -> None:
        self.ending.stop(BuildSuperseded())

    def _kill_commands(self) -> None:
        if self.stages.sandbox:
            self.stages.sandbox.end_all_now()

    async def _finish(self) -> None:
        finish = Finish(
            self.settings,
            self.journal,
            self.ending,
            age=self._age,
            facts=self.facts,
            stage_seconds=self.stages.seconds,
            storage=self.storage,
            followers=self._followers,
            console=self._console,
            printed=self._console_follower.finished,
            faults=self.faults,
            in_image=self._in_image,
        )
        await finish.run()

    # --- in parallel with the pipeline -----------------------------------------------------------------------

    def _age(self) -> float:
        """Return the seconds since the build started."""
        return anyio.current_time() - self._started

    async def _order(self) -> int:
        """Return the number that orders the builds of the site: the start in ms, by the clock of Redis or else by this one."""
        publisher = self._publisher
        return (await publisher.run_number(NUMBER_SECONDS) if publisher else None) or self._started_at

    async def _keep_alive(self, scope: anyio.CancelScope) -> None:
        with scope:
            await self.journal.keep_alive()

    async def _open_storage(self) -> None:
        await self._command_started.wait()
        await self.storage.run(on_superseded=self._on_superseded)


async def execute(
    settings: Settings,
    journal: Journal,
    redactor: Redactor,
    pipeline: Callable[[Run], Awaitable[None]],
    early_signals: Sequence[int],
    *,
    in_image: bool = False,
) -> int:
    """Run a pipeline as a build, and return its exit code.

    Args:
        settings: settings of the build.
        journal: journal of its events.
        redactor: redactor of its secrets.
        pipeline: coroutine function that runs the stages.
        early_signals: numbers of the signals received before the event loop started.
        in_image: see `Run`.

    """
    async with anyio.create_task_group() as tasks:
        run = Run(settings, journal, redactor, tasks, in_image=in_image)
        return await run.execute(partial(pipeline, run), early_signals)
    raise AssertionError  # the group is cancelled only after the result is returned
