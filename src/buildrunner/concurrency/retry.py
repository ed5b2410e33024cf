"""Compute how long to wait before a retry."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """Exponential backoff with a maximum and jitter.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/ compares kinds of jitter.
    """

    first: float  # seconds before the first retry
    longest: float  # seconds, before jitter
    jitter: tuple[float, float] = (1.0, 1.0)  # bounds of a random factor; (0, 1) is full jitter
    most: float = math.inf  # retries

    def pause(self, retries: int) -> float:
        """Return the seconds to wait before the next retry, after so many retries."""
        seconds = min(self.longest, self.first * 2.0 ** min(retries, 60))
        return seconds * random.uniform(*self.jitter)  # noqa: S311 - no secret
