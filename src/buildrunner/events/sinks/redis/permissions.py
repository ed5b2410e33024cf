"""Adapt to the permissions of the Redis user: the stream, the channel, or only one of them."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import anyio

from buildrunner.events.sinks.redis.stream import StreamWriter

if TYPE_CHECKING:
    from buildrunner.events.journal import Journal

REFUSED_SECONDS = 10.0  # between attempts after a refusal: an operator may change the ACL


class Permissions:
    """Whether the user may write to the stream and publish to the channel.

    What Redis refused is retried every 10 s and at the end of the build.

    Args:
        journal: receives one warning for each refusal.
        writer: writer of the stream; switched from scripts to transactions when Redis refuses scripts.
        channel: name of the channel.
        stream: key of the stream.

    """

    def __init__(self, journal: Journal, writer: StreamWriter, *, channel: str, stream: str) -> None:
        self._journal = journal
        self._writer = writer
        self._channel = channel
        self._stream = stream
        self.writes = True
        self.publishes = True
        self._ask_again_at = math.inf
        self._asked_at_end = False
        self._warned: set[str] = set()

    def do_without(self, refusal: str) -> bool:
        """Choose another way to deliver after a refusal; return False when none is left."""
        self._ask_again_at = anyio.current_time() + REFUSED_SECONDS
        if re.search("channel|'publish'", refusal) and self.publishes and self.writes:
            self.publishes = False
            self._warn(
                "channel",
                f"The Redis user may not publish to {self._channel}: the live log is only in the stream.",
            )
            return True
        if not self.writes or (not self._writer.scripted and not self.publishes):
            return False
        if self._writer.scripted:
            self._writer.scripted = False
            return True
        self.writes = False
        self._warn(
            "stream",
            f"The Redis user may not write to the stream {self._stream} ({refusal}). The live log is only sent to the"
            " channel, so late viewers miss earlier lines.",
        )
        return True

    def ask_again(self) -> None:
        """Retry what Redis refused, if it is time."""
        if self.writes and self.publishes:
            return
        at_end = self._journal.complete and not self._asked_at_end
        if at_end or anyio.current_time() >= self._ask_again_at:
            self._asked_at_end = self._journal.complete
            self._ask_again_at = anyio.current_time() + REFUSED_SECONDS
            if not self.writes:
                self._writer.scripted = True
            self.writes = self.publishes = True

    def _warn(self, about: str, sentence: str) -> None:
        if about not in self._warned:
            self._warned.add(about)
            self._journal.log(sentence, "warning")
