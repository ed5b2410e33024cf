"""Ask ECS and Batch about builds that have viewers but no events, with shared and limited requests."""

from __future__ import annotations

import asyncio
import math
import re
import sys
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC
from typing import Any, TypeVar

from buildrunner.concurrency.retry import RetryPolicy
from buildrunner.fleet.find import MOST_DESCRIBED, BatchFinder, EcsFinder, FoundTask, TaskFinder
from buildrunner.fleet.requests import RequestFailed, errors_explained, open_client
from buildrunner.fleet.task_state import TaskState, explain_stop
from buildrunner.gateway.settings import FleetSettings
from buildrunner.redaction import REDACTED

T = TypeVar("T")

# Limits of all requests, regardless of the build ids that viewers make up: one search each 0.5 s, and one description of all
# found tasks each 3 s. A search is one or two requests to each service.
_SEARCH_SECONDS = 0.5
_DESCRIBE_SECONDS = 3.0
_MOST_BUILDS = 100  # that are asked about at the same time
_MOST_BUILDS_OF_A_SITE = 5
# Between two searches for a build: its task may be about to be started, or there may never be one.
_SEARCH_AGAIN = RetryPolicy(first=3.0, longest=30.0)
_SEARCH_SOON = 3  # searches without backoff
_AFTER_A_FAILURE = RetryPolicy(first=5.0, longest=60.0, jitter=(0.5, 1.0))
_REFUSED_SECONDS = 300.0  # until a service that refuses is asked again
_FAILURES_IN_A_ROW = 5  # after which a passing failure is reported, too: the network may be wrong
# Details of the account that viewers should not see: its number, and ARNs.
_PRIVATE = re.compile(r"\barn:aws[\w-]*:[^\s,;()\[\]'\"]+|(?<!\d)\d{12}(?!\d)")


@dataclass(eq=False, slots=True)
class AwaitedBuild:
    """A build without events, and the state of its task."""

    slug: str
    build: str
    state: TaskState | None = None  # None if AWS knows no task, or was not asked yet
    viewers: int = 0
    searches: int = 0
    search_at: float = -math.inf  # time of the next search
    wakers: set[Callable[[], None]] = field(default_factory=set)  # called when `state` has changed


class _Service:
    """One service, the tasks found there, and the pause after a failure."""

    def __init__(self, finder: TaskFinder) -> None:
        self.keys: dict[AwaitedBuild, set[str]] = {}  # of tasks that may be of it
        self._finder = finder
        self._silent_until = -math.inf
        self._failures = 0
        self._has_complained = False

    async def find(self, build: AwaitedBuild) -> Sequence[str]:
        """Return the keys of tasks that may be of a build."""
        return await self._ask(self._finder.find(build.slug, build.build)) or ()

    async def describe(self, keys: Sequence[str]) -> dict[str, FoundTask] | None:
        """Return the tasks by their keys; None if the service does not answer at present."""
        tasks = await self._ask(self._finder.describe(keys))
        return None if tasks is None else {task.key: task for task in tasks}

    async def _ask(self, request: Coroutine[Any, Any, T]) -> T | None:
        try:
            if time.monotonic() < self._silent_until:
                return None
            answer = await request
        except RequestFailed as error:
            pause = _AFTER_A_FAILURE.pause(self._failures) if error.transient else _REFUSED_SECONDS
            self._silent_until = time.monotonic() + pause
            self._failures += 1
            if not self._has_complained and (error.transient is None or self._failures >= _FAILURES_IN_A_ROW):
                self._has_complained = True
                reason = error.reason.rstrip(".")
                print(f"buildrunner: {self._finder.service} does not describe builds: {reason}.", file=sys.stderr)
            return None
        finally:
            request.close()  # one that has not started
        self._failures = 0
        return answer


class AwaitedTasks:
    """The builds that viewers wait for.

    Args:
        finders: the services that run builds.

    """

    def __init__(self, finders: Sequence[TaskFinder]) -> None:
        self._services = [_Service(finder) for finder in finders]
        self._builds: dict[tuple[str, str], AwaitedBuild] = {}
        self._is_awaited = asyncio.Event()
        self._described_at = -math.inf

    @contextmanager
    def wait_for(self, slug: str, build: str, wake: Callable[[], None]) -> Iterator[AwaitedBuild]:
        """Ask about a build while the context is open; `wake` is called when its state has changed."""
        awaited = self._builds.setdefault((slug, build), AwaitedBuild(slug, build))
        awaited.viewers += 1
        awaited.wakers.add(wake)
        self._is_awaited.set()
        try:
            yield awaited
        finally:
            awaited.viewers -= 1
            if not awaited.viewers:
                del self._builds[slug, build]
                for service in self._services:
                    service.keys.pop(awaited, None)
                if not self._builds:
                    self._is_awaited.clear()

    async def run(self) -> None:
        """Ask while there are viewers, until cancelled."""
        while True:
            await self._is_awaited.wait()
            if time.monotonic() - self._described_at >= _DESCRIBE_SECONDS:
                self._described_at = time.monotonic()
                await self._describe()
            if build := choose_search(list(self._builds.values()), time.monotonic()):
                await self._search(build)
            await asyncio.sleep(_SEARCH_SECONDS)

    async def _search(self, build: AwaitedBuild) -> None:
        build.search_at = time.monotonic() + _SEARCH_AGAIN.pause(max(0, build.searches - _SEARCH_SOON))
        build.searches += 1
        for service in self._services:
            keys = await service.find(build)
            if keys and build.viewers:
                service.keys.setdefault(build, set()).update(keys)
                self._described_at = -math.inf

    async def _describe(self) -> None:
        found: dict[AwaitedBuild, FoundTask] = {}
        known = set(self._builds.values())
        for service in self._services:
            owners = {key: build for build, keys in service.keys.items() for key in keys}
            keys = list(owners)
            for at in range(0, len(keys), MOST_DESCRIBED):
                asked = keys[at : at + MOST_DESCRIBED]
                described = await service.describe(asked)
                for key in asked:
                    build = owners[key]
                    if described is None:
                        known.discard(build)  # its state stays what it was
                        continue
                    task = described.get(key)
                    if task is None or (task.slug, task.build) != (build.slug, build.build):
                        service.keys.get(build, set()).discard(key)
                    elif build not in found or found[build].created <= task.created:
                        found[build] = task
        for build in known:
            _set_state(build, found[build].state if build in found else None)


def choose_search(builds: Sequence[AwaitedBuild], now: float) -> AwaitedBuild | None:
    """Return the build to search for next, or None. Pure.

    Sites take turns, so that many awaited builds of one site don't delay the builds of others.

    Args:
        builds: in the order in which they were first waited for.
        now: time.

    """
    ranks = Counter[str]()
    ranked = []
    for build in builds:
        if ranks[build.slug] < _MOST_BUILDS_OF_A_SITE:
            ranked.append((ranks[build.slug], build))
        ranks[build.slug] += 1
    ranked.sort(key=lambda each: each[0])
    due = [build for _, build in ranked[:_MOST_BUILDS] if build.search_at <= now and not _is_running(build)]
    return min(due, key=lambda build: (build.search_at, build.searches), default=None)


def _is_running(build: AwaitedBuild) -> bool:
    """Return whether its task is known. One that has stopped may have been started again."""
    return build.state is not None and build.state.phase not in {"stopping", "stopped"}


def _set_state(build: AwaitedBuild, state: TaskState | None) -> None:
    if state != build.state:
        build.state = state
        for wake in build.wakers:
            wake()


def describe_state(state: TaskState | None) -> dict[str, Any]:
    """Return the part of a task's state that viewers get: `state`, and where AWS says it `since`, `reason` and `hint`."""
    if state is None:
        return {"state": "unknown"}
    described: dict[str, Any] = {"state": state.phase}
    if state.since:
        described["since"] = state.since.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    if state.phase in {"stopping", "stopped"}:
        reason, hint = explain_stop(state, has_begun=False)
        described["reason"] = f"{_PRIVATE.sub(REDACTED, reason)}."
        if hint:
            described["hint"] = hint
    return described


async def open_awaited_tasks(settings: FleetSettings, stack: AsyncExitStack) -> AwaitedTasks | None:
    """Open clients of the services that are set, for as long as the stack is open; None if that fails."""
    finders: list[TaskFinder] = []
    try:
        async with errors_explained():
            if settings.ecs_cluster:
                client = await stack.enter_async_context(open_client("ecs", settings.region))
                finders.append(EcsFinder(client, settings.ecs_cluster))
            if settings.batch_queue:
                client = await stack.enter_async_context(open_client("batch", settings.region))
                finders.append(BatchFinder(client, settings.batch_queue))
    except RequestFailed as error:
        print(f"buildrunner: Queued builds are not shown. {error.reason.rstrip('.')}.", file=sys.stderr)
        return None
    return AwaitedTasks(finders)
