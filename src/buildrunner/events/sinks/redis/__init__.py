"""Deliver events to a Redis stream and channel."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.events.sinks.redis.publisher import Publisher as Publisher
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "publisher": "Publisher",
        },
    )
