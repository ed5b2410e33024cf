"""The end of a build: the first cause decides the result, and later causes don't change it.

Signals, time limits and later builds end a build only by cancelling its pipeline.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

from buildrunner.concurrency.cancellation import Deadline
from buildrunner.errors import BuildCancelled, BuildEnded, BuildTimedOut, Stage
from buildrunner.events.journal import Journal

# After the last check for a later build, a signal allows the upload this time to finish.
PUBLISH_AFTER_SIGNAL_SECONDS = 8.0


class Ending:
    """Record why the build ends, and cancel its scopes.

    Args:
        journal: source of the current stage.
        on_cause: callback for every cause, including those after the first.

    """

    def __init__(self, journal: Journal, *, on_cause: Callable[[BuildEnded], None]) -> None:
        self.cause: BuildEnded | None = None
        self.stage: Stage = "prepare"  # in which the cause occurred
        self.published = False  # all pages are written, and the build can no longer fail
        self.deadline = Deadline()
        self.pipeline = anyio.CancelScope()
        self.limit: anyio.CancelScope | None = None  # of the current stage
        self._publishing: anyio.CancelScope | None = None  # set once the live site may change
        self._journal = journal
        self._on_cause = on_cause

    @property
    def failure(self) -> BuildEnded | None:
        """The reason why the build did not succeed; None when it did."""
        return None if self.published else self.cause

    @property
    def timed_out(self) -> bool:
        """Whether the stage exceeded its time limit and is being stopped."""
        return self.limit is not None and self.limit.cancel_called

    def decide(self, cause: BuildEnded) -> BuildEnded:
        """Record a cause; return the first one recorded."""
        self._on_cause(cause)
        if self.cause is None and not self.published:
            self.cause, self.stage = cause, self._journal.stage
        return self.cause or cause

    def stop(self, cause: BuildEnded) -> None:
        """Cancel the pipeline because of a signal or a later build."""
        if self.timed_out:
            return
        if self._publishing is None:
            self.decide(cause)
            self.pipeline.cancel()
        elif isinstance(cause, BuildCancelled):  # a later build must not interrupt a change of the live site
            self.decide(cause)
            soon = anyio.current_time() + PUBLISH_AFTER_SIGNAL_SECONDS
            self._publishing.deadline = min(self._publishing.deadline, soon)

    async def publish(
        self, publish: Callable[[], Awaitable[None]], *, progress: Callable[[], str], timed_out: BuildTimedOut
    ) -> None:
        """Change the live site; once that completes, the build has succeeded.

        A signal shortens the time limit to PUBLISH_AFTER_SIGNAL_SECONDS instead of cancelling at once.

        Args:
            publish: coroutine function that changes the site.
            progress: function that returns a sentence about the progress so far.
            timed_out: cause to record when the stage exceeds its time limit.

        """
        limit = self.limit.deadline if self.limit else math.inf
        # A signal since the last wait ends the build here; inside the shield, its cancellation would have no effect.
        await anyio.lowlevel.checkpoint_if_cancelled()
        cause: BuildEnded = timed_out
        with anyio.CancelScope(shield=True, deadline=limit) as self._publishing:
            try:
                await publish()
                self.published = True
            except BuildEnded as error:
                cause = error
        if not self.published:
            cause = self.decide(cause)
            cause.reason = f"{cause.reason} {progress()}"
            raise cause from None
