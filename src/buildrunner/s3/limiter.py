"""How many requests S3 gets at once, as it asks to slow down."""

from __future__ import annotations

import math
import time

import anyio

_MIN = 2  # requests at once, however often S3 asks to slow down


class AdaptiveLimiter:
    """How many requests at once: half of it when S3 asks to slow down, one more for each round that goes well.

    What was under way already when it was halved does not halve it again.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = float(most)
        self._taken = 0
        self._slowed = -math.inf  # when it was halved (monotonic clock, seconds)
        self._freed: anyio.Event | None = None  # while somebody waits

    async def __aenter__(self) -> None:
        await self.begin()

    async def __aexit__(self, *_: object) -> None:
        self.end()

    async def begin(self) -> None:
        while self._taken >= int(self._now):
            self._freed = self._freed or anyio.Event()
            await self._freed.wait()
        self._taken += 1

    def end(self) -> None:
        self._taken -= 1
        if self._freed:
            self._freed.set()
            self._freed = None

    def faster(self) -> None:
        if self._now < self._most:
            self._now = min(self._most, self._now + 1 / self._now)

    def slower(self, began: float) -> None:
        if began > self._slowed:
            self._now = max(min(_MIN, self._most), self._now / 2)
            self._slowed = time.monotonic()

    async def pause(self, seconds: float) -> None:
        """Let others have the turn of the caller, who has one again after that, also when cancelled."""
        self.end()
        try:
            await anyio.sleep(seconds)
            await self.begin()
        except BaseException:
            self._taken += 1
            raise
