"""Simulate a shared queue: bursts of builds, fair shares between customers, and interrupted Spot tasks.

A build waits until the queue has a free vCPU and Fargate allows another task launch (a token bucket of 100 that is refilled
with 20 per second). The policy chooses the next build: the oldest (FIFO), or the oldest of the customer with the least recent
usage (fair), like AWS Batch's fair-share scheduling with a half-life. If a Spot task is interrupted, its build starts again on
demand.
"""

from __future__ import annotations

import argparse
import heapq
import math
import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

LAUNCHES, LAUNCHES_PER_SECOND = 100, 20  # https://docs.aws.amazon.com/AmazonECS/latest/developerguide/throttling.html
HALF_LIFE = 3600  # seconds, as the template's ShareDecaySeconds
START = 30.0  # seconds until the first line: placing the task and pulling the image
USD_SECOND = (0.04048 + 2 * 0.004445) / 3600  # a task of 1 vCPU and 2 GB on demand, us-east-1
SPOT_PRICE = 0.3


@dataclass(slots=True)
class Build:
    """A build, and its outcome."""

    customer: int
    submitted: float  # seconds
    seconds: float  # duration
    attempts: int = 0
    started: float = math.nan
    ended: float = math.nan
    usd: float = 0.0


@dataclass(slots=True)
class Queue:
    """The waiting builds and the recent usage of each customer."""

    fair: bool
    waiting: dict[int, deque[Build]] = field(default_factory=dict)
    used: dict[int, tuple[float, float]] = field(default_factory=dict)  # vCPU-seconds, and when they were counted

    def put(self, build: Build) -> None:
        self.waiting.setdefault(build.customer, deque()).append(build)

    def usage(self, customer: int, now: float) -> float:
        amount, when = self.used.get(customer, (0.0, now))
        return amount * math.exp2((when - now) / HALF_LIFE)

    def charge(self, customer: int, amount: float, now: float) -> None:
        self.used[customer] = (self.usage(customer, now) + amount, now)

    def take(self, now: float) -> Build | None:
        customers = [customer for customer, builds in self.waiting.items() if builds]
        if not customers:
            return None
        if self.fair:
            customer = min(customers, key=lambda each: (self.usage(each, now), each))
        else:
            customer = min(customers, key=lambda each: self.waiting[each][0].submitted)
        return self.waiting[customer].popleft()


def arrivals(
    rng: random.Random, hours: float, hourly: float, customers: int, burst: int, burst_at: float
) -> Iterator[Build]:
    """Yield builds: a steady stream from many customers, and a burst from one customer, such as a bot's updates."""
    now = 0.0
    while (now := now + rng.expovariate(hourly / 3600)) < hours * 3600:
        yield Build(rng.randrange(1, customers + 1), now, rng.lognormvariate(math.log(50), 0.6))
    for _ in range(burst):
        yield Build(0, burst_at, rng.lognormvariate(math.log(50), 0.6))


def simulate(
    builds: Sequence[Build], vcpus: int, *, fair: bool, spot: float, lost_an_hour: float, rng: random.Random
) -> None:
    """Run all builds; `spot` is the share of Spot tasks, and `lost_an_hour` their interruptions per hour of running."""
    queue, running, tokens, refilled = Queue(fair), 0, float(LAUNCHES), 0.0
    events: list[tuple[float, int, str, Build | None]] = [
        (build.submitted, number, "submitted", build) for number, build in enumerate(builds)
    ]
    heapq.heapify(events)
    number = len(events)
    while events:
        now, _, kind, build = heapq.heappop(events)
        if kind == "submitted" and build:
            queue.put(build)
        elif kind == "ended":
            running -= 1
        elif kind == "lost" and build:
            running -= 1
            queue.put(build)
        tokens, refilled = min(LAUNCHES, tokens + (now - refilled) * LAUNCHES_PER_SECOND), now
        while running < vcpus and tokens >= 1 and (taken := queue.take(now)):
            on_spot = taken.attempts == 0 and rng.random() < spot
            duration = START + taken.seconds
            life = rng.expovariate(lost_an_hour / 3600) if on_spot and lost_an_hour else math.inf
            billed = max(60.0, min(duration, life))  # Fargate's minimum is a minute
            taken.usd += billed * USD_SECOND * (SPOT_PRICE if on_spot else 1)
            taken.attempts += 1
            running, tokens, number = running + 1, tokens - 1, number + 1
            queue.charge(taken.customer, billed, now)
            if life < duration:
                heapq.heappush(events, (now + life, number, "lost", taken))
            else:
                taken.started, taken.ended = now, now + duration
                heapq.heappush(events, (now + duration, number, "ended", taken))
        if running < vcpus and tokens < 1 and any(queue.waiting.values()):
            number += 1
            heapq.heappush(events, (now + (1 - tokens) / LAUNCHES_PER_SECOND, number, "token", None))


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else math.nan


def main() -> None:
    """Print how long builds wait under each policy, and what they cost."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--hourly", type=float, default=1000, help="builds per hour, without the burst")
    parser.add_argument("--hours", type=float, default=3)
    parser.add_argument("--customers", type=int, default=100)
    parser.add_argument("--burst", type=int, default=2000, help="builds of one customer at once, after an hour")
    parser.add_argument("--vcpus", type=int, default=64)
    parser.add_argument("--lost", type=float, default=0.05, help="interruptions of a Spot task per hour of running")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    print("policy  spot   others wait, s: p50    p95    p99   burst done, min   run twice   USD per build")
    for fair in (False, True):
        for spot in (0.0, 1.0):
            rng = random.Random(options.seed)
            builds = list(arrivals(rng, options.hours, options.hourly, options.customers, options.burst, 3600))
            simulate(builds, options.vcpus, fair=fair, spot=spot, lost_an_hour=options.lost, rng=rng)
            assert not any(math.isnan(build.ended) for build in builds), "a build was never run"
            waits = [build.started - build.submitted for build in builds if build.customer and build.submitted > 3600]
            burst = max((build.ended for build in builds if not build.customer), default=3600.0)
            twice = sum(build.attempts > 1 for build in builds) / len(builds)
            shown = "   ".join(f"{percentile(waits, share):6.0f}" for share in (0.5, 0.95, 0.99))
            usd = sum(build.usd for build in builds) / len(builds)
            print(
                f"{'fair' if fair else 'FIFO':6}  {spot:4.0%}             {shown}   "
                f"{(burst - 3600) / 60:15.0f}   {twice:9.2%}   {usd:13.5f}"
            )


if __name__ == "__main__":
    main()
