"""What surrounds the story of a build: its stages, signals, logs and storage, and its end.

One task group holds it all. The followers of the journal outlive the story until the result is delivered.
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
# For deletions and the manifest, once the site is published; of the deadline after a signal, what they leave for the rest.
TIDY_SECONDS = 90.0
TIDY_RESERVE_SECONDS = 8.0
NUMBER_SECONDS = 1.0  # for Redis to say by which number it orders this build
LEAVE_SECONDS = 75.0  # for what is left to do when the result is delivered: closing connections, removing the workspace


class Run:
    """One build: what its stages use, and how it is ended.

    Args:
        settings: of the build.
        journal: of its events.
        redactor: knows its secrets.
        tasks: the task group that all of it runs in.
        in_image: whether it runs in the image, beside which others may be that nobody else can reach.

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
        self._started_at = time.time_ns() // 1_000_000  # ms: orders builds where Redis does not
        self._command_started = anyio.Event()

    async def execute(self, story: Callable[[], Awaitable[None]], early_signals: Sequence[int]) -> int:
        """Run the story, deliver the result, and return the exit code."""
        run_deadline.set(self.ending.deadline)
        alive = anyio.CancelScope()
        self._tasks.start_soon(self.signals.run, early_signals)
        self._tasks.start_soon(self._keep_alive, alive)
        self._tasks.start_soon(self._console_follower.run)
        self._tasks.start_soon(self._run_sinks)
        self._tasks.start_soon(self._open_storage)
        try:
            with self.ending.pipeline:
                await story()
        except BuildEnded as error:
            self.ending.decide(error)
        except Exception as error:  # whatever it is, the result has to be delivered
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
        # The result is delivered: whatever does not end by then, such as a thread that asks a silent server for a name, is left.
        leave_at = min(self.ending.deadline.at, anyio.current_time() + LEAVE_SECONDS)
        asyncio.get_running_loop().call_at(leave_at, os._exit, code)
        self._tasks.cancel_scope.cancel()
        return code

    # --- what the story uses ---------------------------------------------------------------------------------

    def stage(
        self, name: Stage, limit: float | None, text: str, *, tail_share: float = 0.25
    ) -> AbstractAsyncContextManager[None]:
        """Run a part of the story as a stage; see `Stages.run`."""
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
        """Let start what the first command must not wait for: the imports of Redis and S3 take half a second."""
        self._command_started.set()

    async def check_superseded(self) -> None:
        """Look for the last time whether a later build took over.

        Raises:
            BuildSuperseded: when it did.

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
        """Do what follows the pages, and log what it reports. Nothing of it can fail the build."""
        report = None
        with self.ending.deadline.limit(TIDY_SECONDS, TIDY_RESERVE_SECONDS, shield=True) as scope:
            report = await tidy_up()
        if scope.cancelled_caught:
            self.warn("Removing obsolete files timed out. The next build removes them.")
        elif report:
            self.log(report)

    @contextmanager
    def optional(self, seconds: float) -> Iterator[anyio.CancelScope]:
        """Limit a step that a published site does without: a signal ends it at once."""
        with self.ending.deadline.limit(seconds, AFTER_SIGNAL_SECONDS) as scope:
            yield scope

    # --- where the log goes ----------------------------------------------------------------------------------

    @cached_property
    def sinks(self) -> list[Sink]:
        """Where the log goes besides the console, which reports what these lack. A new sink is a line here.

        They are made after git has started, because their imports take time.
        """
        sinks: list[Sink | None] = [
            self._publisher,
            *self._notifiers,
        ]
        return [sink for sink in sinks if sink]

    @cached_property
    def _publisher(self) -> redis.Publisher | None:
        """Redis, which also orders the builds of a site; None if the build uses none."""
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

    # --- what ends it ----------------------------------------------------------------------------------------

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
        )
        await finish.run()

    # --- what runs beside the story --------------------------------------------------------------------------

    def _age(self) -> float:
        """Return the seconds since the build began."""
        return anyio.current_time() - self._started

    async def _order(self) -> int:
        """Return what orders the builds of the site: when they began, in ms, by Redis or else by this clock."""
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
    story: Callable[[Run], Awaitable[None]],
    early_signals: Sequence[int],
    *,
    in_image: bool = False,
) -> int:
    """Run a story as a build, and return its exit code; SIGINT and SIGTERM in `early_signals` came before."""
    async with anyio.create_task_group() as tasks:
        run = Run(settings, journal, redactor, tasks, in_image=in_image)
        return await run.execute(partial(story, run), early_signals)
    raise AssertionError  # the group is cancelled only when its result is there
