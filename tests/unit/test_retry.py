"""Test the pauses between retries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from buildrunner.concurrency.retry import RetryPolicy


def test_pauses_double_up_to_the_longest() -> None:
    policy = RetryPolicy(first=0.1, longest=1.0)

    assert [round(policy.pause(retries), 3) for retries in range(6)] == [0.1, 0.2, 0.4, 0.8, 1.0, 1.0]


@given(st.integers(0, 10**6), st.floats(0.01, 10), st.floats(0.01, 100), st.floats(0, 1), st.floats(1, 2))
def test_jitter_stays_within_its_bounds(retries: int, first: float, longest: float, low: float, high: float) -> None:
    pause = RetryPolicy(first, longest, jitter=(low, high)).pause(retries)

    assert low * min(first, longest) <= pause <= high * longest * (1 + 1e-9)
