"""How a build ends: the first cause decides, and nothing later changes it.

Cancelling the story is the only way in which signals, limits and later builds end it.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import anyio
import anyio.lowlevel

from buildrunner.concurrency.cancellation import Deadline
from buildrunner.errors import BuildCancelled, BuildEnded, BuildTimedOut, Stage
from buildrunner.events.journal import Journal

# From the last look for a later build on, a signal lets the upload finish for so long.
PUBLISH_AFTER_SIGNAL_SECONDS = 8.0


class Ending:
    """The cause of the end, and the scopes through which it ends the build.

    Args:
        journal: knows the stage that runs.
        on_cause: is called with each cause, also with those that come too late.

    """

    def __init__(self, journal: Journal, *, on_cause: Callable[[BuildEnded], None]) -> None:
        self.cause: BuildEnded | None = None
        self.stage: Stage = "prepare"  # that the cause befell
        self.published = False  # all pages are written: nothing can fail the build any more
        self.deadline = Deadline()
        self.story = anyio.CancelScope()
        self.limit: anyio.CancelScope | None = None  # of the stage that runs
        self._publishing: anyio.CancelScope | None = None  # from when on the live site may change
        self._journal = journal
        self._on_cause = on_cause

    @property
    def failure(self) -> BuildEnded | None:
        """Why the build did not succeed; None when it did."""
        return None if self.published else self.cause

    @property
    def timed_out(self) -> bool:
        """Whether the time of the stage has run out, and it is being stopped."""
        return self.limit is not None and self.limit.cancel_called

    def decide(self, cause: BuildEnded) -> BuildEnded:
        """Note a cause; return the one that decides."""
        self._on_cause(cause)
        if self.cause is None and not self.published:
            self.cause, self.stage = cause, self._journal.stage
        return self.cause or cause

    def stop(self, cause: BuildEnded) -> None:
        """End the story from outside: for a signal, or a later build."""
        if self.timed_out:
            return
        if self._publishing is None:
            self.decide(cause)
            self.story.cancel()
        elif isinstance(cause, BuildCancelled):  # a later build does not stop it: the live site has begun to change
            self.decide(cause)
            soon = anyio.current_time() + PUBLISH_AFTER_SIGNAL_SECONDS
            self._publishing.deadline = min(self._publishing.deadline, soon)

    async def publish(
        self, publish: Callable[[], Awaitable[None]], *, progress: Callable[[], str], timed_out: BuildTimedOut
    ) -> None:
        """Change the live site. A signal lets that finish for a while; when it is done the build has succeeded.

        Args:
            publish: does it.
            progress: says how far it came.
            timed_out: is the cause when the time of the stage runs out.

        """
        limit = self.limit.deadline if self.limit else math.inf
        # A signal that came since the last wait ends the build here: the shield would keep the cancellation out.
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
