"""Limit the number of concurrent requests to S3, and adapt it when S3 asks to slow down."""

from __future__ import annotations

import math
import time

import anyio

_MIN = 2  # concurrent requests, however often S3 asks to slow down


class AdaptiveLimiter:
    """Limit concurrent requests: half as many when S3 asks to slow down, one more after each successful round.

    Requests that were already in progress when the limit was halved don't halve it again.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._now = float(most)
        self._taken = 0
        self._slowed = -math.inf  # time of the last halving (monotonic clock, seconds)
        self._freed: anyio.Event | None = None  # set while a request waits

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
        """Release the caller's turn for the duration of the context; the caller gets one again, even if it is cancelled."""
        self.end()
        try:
            await anyio.sleep(seconds)
            await self.begin()
        except BaseException:
            self._taken += 1
            raise
