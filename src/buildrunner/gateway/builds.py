"""Describe builds for the API: one build, or the newest builds of a site. Unknown fields are left out."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from redis.exceptions import RedisError

from buildrunner.errors import BuildEnded
from buildrunner.gateway.archive import Archive
from buildrunner.gateway.events import parse_event
from buildrunner.gateway.feed import Feeds
from buildrunner.gateway.settings import GatewaySettings
from buildrunner.gateway.sharing import SharedReads
from buildrunner.gateway.streams import read_ends

LATEST = "latest"
LOST_SECONDS = 90.0  # without an event; a running build writes one every 30 s
_FROM_RESULT = (
    "status",
    "stage",
    "seconds",
    "stages",
    "commit",
    "reason",
    "hint",
    "failure",
    "files",
    "bytes",
)


def describe_build(first: Mapping[str, Any], last: Mapping[str, Any], *, age: float, url: str | None) -> dict[str, Any]:
    """Return the API's JSON for a build.

    Args:
        first: first known event.
        last: last known event; the result if the build has ended.
        age: seconds since the last event.
        url: address of the site.

    """
    build: dict[str, Any] = {"build": last["build"]}
    if last.get("type") == "result":
        build |= {name: last[name] for name in _FROM_RESULT if name in last}
    else:
        build |= {"status": "lost" if age >= LOST_SECONDS else "running"}
        build |= {name: last[name] for name in ("stage",) if name in last}
        started, ended = timestamp(first), timestamp(last)
        if started is not None and ended is not None:
            build["seconds"] = round(max(0.0, ended - started + (age if age < LOST_SECONDS else 0.0)), 3)
    if "ts" in first:
        build["started"] = first["ts"]
    if address := last.get("url") or url:
        build["url"] = address
    return build


def timestamp(event: Mapping[str, Any]) -> float | None:
    """Return `ts` as Unix time, seconds."""
    try:
        return datetime.fromisoformat(event["ts"]).timestamp()
    except (KeyError, ValueError, TypeError):
        return None


@dataclass(frozen=True, slots=True)
class StreamEnds:
    """The first and the last event of the build that owns the stream of a site."""

    first: dict[str, Any]
    last: dict[str, Any]


class Builds:
    """Find builds in the streams and the archive."""

    def __init__(self, settings: GatewaySettings, feeds: Feeds, archive: Archive | None) -> None:
        self._settings = settings
        self._feeds = feeds
        self._archive = archive
        self._reads = SharedReads[StreamEnds | bool]()

    async def resolve(self, slug: str, build: str) -> str | None:
        """Return the current id for `latest`, or any other id unchanged; None if there is no build yet.

        Raises:
            RedisError, OSError: Redis does not answer.

        """
        if build != LATEST:
            return build
        if ends := await self.stream_ends(slug):
            return str(ends.last["build"])
        archived = await self._archive.newest(slug, 1) if self._archive else []
        return archived[0].build if archived else None

    async def find(self, slug: str, build: str) -> dict[str, Any] | None:
        """Describe one build; None if it is unknown.

        Raises:
            RedisError, OSError, BuildEnded: Redis or the archive does not answer, and the other does not know the build.

        """
        error: Exception | None = None
        described = None
        try:
            resolved = await self.resolve(slug, build)
            if resolved is None:
                return None
            build = resolved
            ends = await self.stream_ends(slug)
            if ends and ends.last["build"] == build:
                described = self._describe_live(slug, ends)
        except (RedisError, OSError) as raised:
            error = raised
        if described and described["status"] != "lost":
            return described
        try:
            if build != LATEST and self._archive and (log := await self._archive.find(slug, build)):
                return describe_build(log.first, log.result, age=0, url=self._url(slug))
        except BuildEnded as raised:
            error = raised
        if error and not described:
            raise error
        return described

    async def ended_by(self, slug: str, build: str, seq: int) -> bool:
        """Return whether the result of a build is at or before event `seq`."""
        try:
            ends = await self.stream_ends(slug)
        except (RedisError, OSError):
            return False
        if ends and ends.last["build"] == build:
            return ends.last.get("type") == "result" and ends.last["seq"] <= seq
        try:
            log = await self._archive.find(slug, build) if self._archive else None
        except BuildEnded:
            return False
        return log is not None and int(log.result["seq"]) <= seq

    async def newest(self, slug: str, limit: int) -> list[dict[str, Any]]:
        """Describe the newest builds of a site, by their start.

        Raises:
            RedisError, OSError: Redis does not answer, and there is no archive.
            BuildEnded: the archive cannot be read, and there is nothing in Redis.

        """
        found: dict[str, dict[str, Any]] = {}
        try:
            ends = await self.stream_ends(slug)
        except (RedisError, OSError):
            if not self._archive:
                raise
            ends = None
        try:
            archived = await self._archive.newest(slug, limit) if self._archive else []
        except BuildEnded:
            if not ends:
                raise
            archived = []
        for log in archived:
            found[log.build] = describe_build(log.first, log.result, age=0, url=self._url(slug))
        if ends:
            live = self._describe_live(slug, ends)
            if live["status"] != "lost" or live["build"] not in found:
                found[live["build"]] = live
        return sorted(found.values(), key=lambda each: timestamp({"ts": each.get("started")}) or 0.0, reverse=True)[
            :limit
        ]

    async def stream_ends(self, slug: str) -> StreamEnds | None:
        """Return the ends of the stream of a site."""
        found = await self._reads.get(slug, lambda: self._read_ends(self._settings.logs.stream_of(slug)))
        return found if isinstance(found, StreamEnds) else None

    async def _read_ends(self, key: str) -> StreamEnds | bool:
        ends = []
        for entries in await read_ends(self._feeds.redis, key):
            encoded = entries[0][1] if entries else b""
            if not parse_event(encoded):
                return False
            ends.append(json.loads(encoded))
        first, last = ends
        if first["build"] != last["build"]:
            first = last
        return StreamEnds(first, last)

    def _describe_live(self, slug: str, ends: StreamEnds) -> dict[str, Any]:
        written = timestamp(ends.last)
        age = max(0.0, time.time() - written) if written is not None else 0.0
        feed = self._feeds.find(self._settings.logs.stream_of(slug))
        if feed and feed.had_news:  # its watcher is more accurate than a comparison of two clocks
            age = min(age, feed.quiet)
        return describe_build(ends.first, ends.last, age=age, url=self._url(slug))

    def _url(self, slug: str) -> str | None:
        return self._settings.site_url and self._settings.site_url.replace("{slug}", slug)
