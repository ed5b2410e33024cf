"""What webhooks and commit statuses share: two messages a build, sent beside it, in order, and again until they arrive."""

from __future__ import annotations

import json
from abc import abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import anyio

from buildrunner.concurrency.retry import RetryPolicy
from buildrunner.events.follower import Sink
from buildrunner.events.journal import Journal
from buildrunner.notify.http import NotDelivered

AFTER_END_SECONDS = 10.0  # from the result on
_FIRST_AFTER_END_SECONDS = 5.0  # of these, for the first message
_WHILE_RUNNING = RetryPolicy(first=1.5, longest=60.0, jitter=(0.5, 1.0))
_AFTER_END = RetryPolicy(first=1.0, longest=3.0, jitter=(0.5, 1.0))


@dataclass(slots=True)
class Message:
    """One message, and how far it has got."""

    name: str  # for people
    send: Callable[[], Awaitable[None]]  # one attempt, which may raise NotDelivered
    failure: str | None = None  # why the last attempt failed
    is_delivered: bool = False
    is_over: bool = False  # no further attempt is made


class Notifier(Sink):
    """Sends a message when the commit is known, and one with the result. A failure is a warning.

    Args:
        journal: of the build.
        receiver: for people, such as a host name.

    """

    def __init__(self, journal: Journal, *, receiver: str) -> None:
        self.commit: str | None = None
        self._journal = journal
        self._receiver = receiver
        self._commit_known = anyio.Event()
        self._ended_at: float | None = None
        self._first: Message | None = None
        self._last: Message | None = None

    @abstractmethod
    def first_message(self) -> Message | None:
        """Make the message about the start of the build; None for none."""

    @abstractmethod
    def last_message(self, result: Mapping[str, Any]) -> Message | None:
        """Make the message about its end from the result event; None for none."""

    # Whether the last message replaces the first, and both are about a commit; else both are sent in any case.
    is_about_commit = False

    def set_commit(self, commit: str) -> None:
        """Send the first message: the commit is known."""
        self.commit = commit
        self._commit_known.set()

    @property
    def undelivered(self) -> int:
        return sum(1 for message in (self._first, self._last) if message and not message.is_delivered)

    @property
    def last_wait(self) -> float:
        return AFTER_END_SECONDS

    @property
    def pending_warning(self) -> str | None:
        first = self._first
        is_pending = first and first.failure and not (first.is_delivered or first.is_over or self.is_about_commit)
        return self._warning([first]) if first and is_pending else None

    def final_warning(self, *, finished: bool, total: int, place: str) -> str | None:
        messages = [message for message in (self._first, self._last) if message and not message.is_delivered]
        return self._warning(messages) if messages else None

    async def run(self) -> None:
        """Send both messages; return when nothing more can be sent."""
        journal = self._journal
        async with self._until_end():
            await self._commit_known.wait()
        if self._first is None and (self.commit or not self.is_about_commit):
            self._first = self.first_message()
        if self._first:
            async with self._until_end(_FIRST_AFTER_END_SECONDS):
                await self._deliver(self._first)
            self._first.is_over = True
        ended_at = await self._wait_for_end()
        if self._last is None:
            self._last = self.last_message(json.loads(journal.result()))
        if self._last:
            with anyio.CancelScope(deadline=ended_at + AFTER_END_SECONDS):
                await self._deliver(self._last)

    async def _deliver(self, message: Message) -> None:
        """Try until the message is delivered, or cannot be; the caller limits the time."""
        retries = 0
        while not (message.is_delivered or message.is_over):
            is_running = not self._journal.complete
            try:
                await message.send()
                message.is_delivered = True
            except NotDelivered as error:
                message.failure, message.is_over = error.reason, error.final
                if message.is_over and is_running:
                    self._journal.log(self._warning([message]), "warning")
                policy = _WHILE_RUNNING if is_running else _AFTER_END
                pause = max(policy.pause(retries), min(error.retry_after or 0.0, policy.longest))
                retries += 1
                if message.is_over:
                    return
                await self._pause(pause, until_end=is_running)
                if is_running and self._journal.complete:
                    retries = 0
                    message.is_over = self.is_about_commit and message is self._first

    async def _pause(self, seconds: float, *, until_end: bool) -> None:
        with anyio.move_on_after(seconds):
            await (self._journal.ended.wait() if until_end else anyio.sleep_forever())

    @asynccontextmanager
    async def _until_end(self, seconds: float = 0.0) -> AsyncIterator[None]:
        """Limit the block to so many seconds after the end of the build."""
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as tasks:

                async def limit() -> None:
                    scope.deadline = await self._wait_for_end() + seconds

                tasks.start_soon(limit)
                yield
                tasks.cancel_scope.cancel()

    async def _wait_for_end(self) -> float:
        """Wait until the build has ended, and return when that was."""
        await self._journal.ended.wait()
        self._ended_at = self._ended_at or anyio.current_time()
        return self._ended_at

    def _warning(self, messages: list[Message]) -> str:
        kind, names = self.name.capitalize(), " and ".join(message.name for message in messages)
        why = next((message.failure for message in reversed(messages) if message.failure), "it did not answer in time")
        what = f"{kind}s {names} were" if messages[1:] else f"{kind} {names} was"
        return f"{what} not delivered to {self._receiver}: {why}."
