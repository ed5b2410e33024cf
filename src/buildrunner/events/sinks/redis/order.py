"""Order the builds of a site: the stream belongs to the one that began last, and the others are superseded."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from buildrunner.events.sinks.redis.stream import AppendOutcome, StreamPosition, StreamWriter

if TYPE_CHECKING:
    from redis.asyncio import Redis


class BuildOrder:
    """The place of one build among those of its site.

    Args:
        writer: of the stream.
        on_superseded: called once, when a later build has taken the stream.

    """

    def __init__(self, writer: StreamWriter, *, on_superseded: Callable[[], None]) -> None:
        self._writer = writer
        self._on_superseded = on_superseded
        self._yields = False  # a later build is known to have taken over: the stream is not taken from it
        self.superseded = False

    @property
    def known(self) -> bool:
        """Return whether Redis has said whose the stream is."""
        return self._writer.claimed or self.superseded

    @property
    def number(self) -> int | None:
        """Number by which Redis orders this build; None until it is known."""
        return self._writer.number if self.known else None

    def yield_stream(self) -> None:
        """Take the stream no more: a later build has taken over, though Redis doesn't say so.

        It was away, or lost its data. If the stream is this build's already, the build continues it.
        """
        self._yields = True

    async def claim(self, client: Redis) -> bool:
        """Take the stream for this build; return whether it has it, and not a later one."""
        return not self._yields and await self._writer.claim(client)

    def owns(self, place: StreamPosition) -> bool:
        """Return whether that position was written by this build."""
        return place.run == self._writer.number

    def is_lost(self, outcome: AppendOutcome, place: StreamPosition) -> bool:
        """Return whether an append that wrote nothing shows that the stream is left to a later build."""
        return outcome is AppendOutcome.LATER or (self._yields and not self.owns(place))

    def supersede(self) -> None:
        """Note that a later build has the stream, and end this one."""
        self.superseded = True
        self._on_superseded()
