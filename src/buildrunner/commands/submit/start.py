"""Ask for a task until AWS has room for it: with jittered backoff, for up to five minutes."""

from __future__ import annotations

from collections.abc import Callable

import anyio

from buildrunner.commands.submit.engine import Engine
from buildrunner.concurrency.retry import RetryPolicy
from buildrunner.fleet.requests import RequestFailed
from buildrunner.fleet.transient import Kind

START_SECONDS = 300.0
RETRY = RetryPolicy(first=2.0, longest=20.0, jitter=(0.0, 1.0))  # full jitter: many are throttled at the same time
_WHY: dict[Kind, str] = {
    "throttled": "AWS limits the rate of requests",
    "capacity": "AWS has no capacity at the moment",
    "unavailable": "AWS cannot be reached",
}


class Starter:
    """Starts the task of one build.

    Args:
        engine: is asked for it.
        say: takes a sentence for people.

    """

    def __init__(self, engine: Engine, say: Callable[[str], None]) -> None:
        self.is_started = False
        self.given_up = 0  # the signal that came before there was a task
        self._engine = engine
        self._say = say
        self._wake = anyio.Event()
        self._until = anyio.current_time() + START_SECONDS
        self._retries = 0
        self._said: Kind | None = None

    def give_up(self, number: int) -> None:
        """Ask for no task any more."""
        self.given_up = self.given_up or number
        self._wake.set()

    async def start(self) -> None:
        """Return once there is a task, or `give_up` was called while AWS was asked.

        Raises:
            RequestFailed: AWS refused, the time is over, or `give_up` was called.

        """
        while True:
            try:
                if self.given_up:
                    raise RequestFailed("interrupted")
                await self._engine.launch()
                self.is_started = True
                return
            except RequestFailed as error:
                if error.transient is None:
                    raise
                if not await self._wait(error.transient, error.reason):
                    raise

    async def restart(self, reason: str) -> None:
        """Start the task again that stopped for lack of capacity; see `start`."""
        self.is_started = False
        if not await self._wait("capacity", reason):
            raise RequestFailed(reason, "capacity")
        await self.start()

    async def _wait(self, transient: Kind, reason: str) -> bool:
        """Wait before the task is asked for again; return False when the time is over."""
        pause = RETRY.pause(self._retries)
        self._retries += 1
        if anyio.current_time() + pause > self._until:
            return False
        if transient != self._said:
            self._said = transient
            self._say(f"The build is queued: {_WHY[transient]} ({reason.rstrip('.')}). Retrying for up to 5 minutes.")
        with anyio.move_on_after(pause):
            await self._wake.wait()
        return True

    async def stop(self) -> None:
        """Ask for the end of the task until AWS has answered; the caller limits the time.

        Raises:
            RequestFailed: AWS refused.

        """
        retries = 0
        while True:
            try:
                return await self._engine.stop()
            except RequestFailed as error:
                if error.transient is None:
                    raise
            await anyio.sleep(RETRY.pause(retries))
            retries += 1
