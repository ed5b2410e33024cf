"""What Redis allows this user, as far as it is known, and which way remains when it refuses one."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

import anyio

from buildrunner.events.sinks.redis.stream import StreamWriter

if TYPE_CHECKING:
    from buildrunner.events.journal import Journal

REFUSED_SECONDS = 10.0  # after which Redis is asked again for what it did not allow: somebody may have changed the ACL


class Permissions:
    """Whether the stream may be written, and the channel published to.

    What Redis refused is tried again now and then, and at the end of the build.

    Args:
        journal: gets a warning for each way that is refused.
        writer: of the stream; told when scripts are refused.
        channel: of the lines.
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
        """Deliver another way, now that Redis has refused this one; return False when none is left."""
        self._ask_again_at = anyio.current_time() + REFUSED_SECONDS
        if re.search("channel|'publish'", refusal) and self.publishes and self.writes:
            self.publishes = False
            self._warn(
                "channel",
                f"Redis does not let this user publish to {self._channel}: the live log is in the stream alone.",
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
            f"Redis does not let this user write the stream {self._stream} ({refusal}): the live log goes to the channel"
            " alone, and who comes late sees nothing of it.",
        )
        return True

    def ask_again(self) -> None:
        """Try what Redis refused once more, now and then and at the end."""
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
