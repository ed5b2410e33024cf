"""Order the builds of a site: the latest build owns the stream, and earlier ones are superseded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from buildrunner.events.sinks.redis.stream import AppendOutcome, StreamPosition, StreamWriter

if TYPE_CHECKING:
    from redis.asyncio import Redis


class BuildOrder:
    """The position of one build among the builds of its site.

    Args:
        writer: writer of the stream.
        on_superseded: called once, when a later build takes the stream.

    """

    def __init__(self, writer: StreamWriter, *, on_superseded: Callable[[], None]) -> None:
        self._writer = writer
        self._on_superseded = on_superseded
        self._yields = False  # a later build took over: do not take the stream from it
        self.superseded = False

    @property
    def known(self) -> bool:
        """Whether Redis has confirmed the owner of the stream."""
        return self._writer.claimed or self.superseded

    @property
    def number(self) -> int | None:
        """Number by which Redis orders this build; None until it is known."""
        return self._writer.number if self.known else None

    def yield_stream(self) -> None:
        """Stop claiming the stream: a later build took over, but Redis doesn't know it yet.

        Redis was unreachable or lost its data. A stream that this build already owns is continued.
        """
        self._yields = True

    async def claim(self, client: Redis) -> bool:
        """Claim the stream for this build; return False if a later build owns it."""
        return not self._yields and await self._writer.claim(client)

    def owns(self, place: StreamPosition) -> bool:
        """Return whether this build wrote the entry at that position."""
        return place.run == self._writer.number

    def is_lost(self, outcome: AppendOutcome, place: StreamPosition) -> bool:
        """Return whether an append that wrote nothing leaves the stream to a later build."""
        return outcome is AppendOutcome.LATER or (self._yields and not self.owns(place))

    def supersede(self) -> None:
        """End this build: a later one owns the stream."""
        self.superseded = True
        self._on_superseded()
