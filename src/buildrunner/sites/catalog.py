"""Know the current deployment of each site: which objects it has, and its rules. A new one is noticed within two seconds.

A site that visitors ask for is checked once a second: whether the pointer that builds write has changed, and for a site without
one, whether its listing has. Then the listing and the rules are read again. What a check finds was there when the check began.

While S3 does not answer, sites stay as they were.
"""

from __future__ import annotations

import asyncio
import sys
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any

from buildrunner.errors import BuildEnded
from buildrunner.routing.document import MAX_DOCUMENT_BYTES, Document, DocumentError
from buildrunner.s3 import AccessRefused, Bucket, ObjectReader
from buildrunner.sites.index import Indexed, RuleBudget, SiteIndex, default_document, merge_listings, pages_of

_FRESH_SECONDS = 0.9  # so long a check holds; then another one begins
_STALE_SECONDS = 1.7  # so long visitors do not wait for it
_WAIT_SECONDS = 1.5  # that visitors wait for S3 where they could be given what was there before
_FIRST_WAIT_SECONDS = 12.0
_CHECK_SECONDS = 30.0  # the longest check
_PAUSE_SECONDS = 0.5  # after a check that failed
_RETIRED_SECONDS = 1.0  # so long assets of the deployment before are served from memory
_LISTED_EVERY_SECONDS = (
    30.0  # though the pointer is the same: objects were written by hand, or the pointer could not be
)
_LISTING_SHARE = 0.1  # of the time may go into listings of one site
_MAX_KEYS = 2_000_000  # of all sites in memory: some 400 MB
_MAX_SITES = 20_000
_AT_ONCE = 32  # checks
_NEW_AT_ONCE = 16  # of them, of sites without earlier requests: names can be made up


class Unavailable(Exception):
    """S3 does not answer, and nothing is known of the site."""


@dataclass(eq=False, slots=True)
class _Site:
    slug: str
    prefix: str
    index: SiteIndex | None = None  # None: there is no such site
    loaded: bool = False
    checked_at: float = 0.0  # when the last check began that succeeded; monotonic clock, like all times here
    failed: bool = False  # the last check
    retry_at: float = 0.0
    pointer: str | None = None  # ETag
    routing: str | None = None  # ETag
    document: Document | None = None
    listed_at: float = 0.0
    listing_seconds: float = 0.0
    unsettled: bool = False  # the listing changed while it was read
    trusts_etags: bool = True  # listings show the ETags that objects have
    retired_at: float = 0.0
    task: asyncio.Task[Any] | None = None
    task_at: float = 0.0
    task_lists: bool = False
    budget: RuleBudget = field(default_factory=RuleBudget)


class Catalog:
    """All sites that visitors have asked for lately.

    Args:
        bucket: with the sites; it is listed.
        state: of the state bucket.
        prefix: template of `S3_KEY_PREFIX`.
        start: starts a task in a group that ends with the server.
        is_cached: whether an object is in memory, by its key in the bucket.

    """

    def __init__(
        self,
        bucket: Bucket,
        state: ObjectReader,
        prefix: str,
        start: Callable[[Coroutine[Any, Any, Any]], asyncio.Task[Any]],
        is_cached: Callable[[str, Indexed], bool],
    ) -> None:
        self._bucket = bucket
        self._state = state
        self._prefix = prefix
        self._start = start
        self._is_cached = is_cached
        self._sites: OrderedDict[str, _Site] = OrderedDict()
        self._keys = 0
        self._slots = asyncio.Semaphore(_AT_ONCE)
        self._new_slots = asyncio.Semaphore(_NEW_AT_ONCE)
        self._outage = False
        self._warned: set[str] = set()

    def prefix_of(self, slug: str) -> str:
        """Return what the keys of a site begin with."""
        return self._prefix.replace("{slug}", slug)

    def current(self, slug: str) -> SiteIndex | None:
        """Return the deployment of a site where that needs no waiting; None says nothing."""
        site = self._sites.get(slug)
        return site.index if site and site.loaded and time.monotonic() - site.checked_at <= _FRESH_SECONDS else None

    async def find(self, slug: str) -> SiteIndex | None:
        """Return the deployment of a site; None if there is no such site.

        Raises:
            Unavailable: nothing is known of the site, and S3 does not answer.

        """
        site = self._sites.get(slug) or self._add(slug)
        self._sites.move_to_end(slug)
        now = time.monotonic()
        age = now - site.checked_at
        if site.loaded and age <= _FRESH_SECONDS:
            return site.index
        task = site.task
        if task is None and (not site.loaded or now >= site.retry_at):
            task = self._check(site)
        if site.loaded and (age <= _STALE_SECONDS or site.failed):
            return site.index
        if task:
            _, late = await asyncio.wait([task], timeout=_WAIT_SECONDS if site.loaded else _FIRST_WAIT_SECONDS)
            if late:
                site.failed = True  # visitors do not wait again until it answers
        if not site.loaded:
            raise Unavailable
        return site.index

    async def reload(self, slug: str, since: float) -> None:
        """Read a site again, unless that began after `since`. It returns also when S3 does not answer."""
        site = self._sites.get(slug) or self._add(slug)
        while site.task and not (site.task_lists and site.task_at > since):
            await asyncio.wait([site.task])
        if site.listed_at <= since:
            await asyncio.wait([site.task or self._check(site, lists=True)], timeout=_FIRST_WAIT_SECONDS)

    def distrust_etags(self, slug: str) -> None:
        """Remember that listings of a site show other ETags than its objects have."""
        if site := self._sites.get(slug):
            site.trusts_etags = False

    def trusts_etags(self, slug: str) -> bool:
        """Return whether an object with another ETag than in the listing is another version of it."""
        site = self._sites.get(slug)
        return site is None or site.trusts_etags

    def _add(self, slug: str) -> _Site:
        site = self._sites[slug] = _Site(slug, self.prefix_of(slug))
        self._make_room(site)
        return site

    def _make_room(self, newest: _Site) -> None:
        for slug in list(self._sites):
            if self._keys <= _MAX_KEYS and len(self._sites) <= _MAX_SITES:
                return
            site = self._sites[slug]
            if site is not newest and site.task is None:
                del self._sites[slug]
                self._keys -= len(site.index.objects) if site.index else 0

    def _check(self, site: _Site, *, lists: bool = False) -> asyncio.Task[Any]:
        site.task_at, site.task_lists = time.monotonic(), lists
        site.task = self._start(self._run_check(site, lists=lists))
        return site.task

    async def _run_check(self, site: _Site, *, lists: bool) -> None:
        try:
            async with self._slots if site.loaded else self._new_slots:
                began = time.monotonic()
                async with asyncio.timeout(_CHECK_SECONDS):
                    await self._examine(site, began, lists=lists)
            site.checked_at, site.failed, site.loaded = began, False, True
            self._outage = False
        except Exception as error:  # an error of one site must not end the server
            site.failed, site.retry_at = True, time.monotonic() + _PAUSE_SECONDS
            if not isinstance(error, (BuildEnded, TimeoutError)):
                traceback.print_exception(error)
            elif not self._outage:
                self._outage = True
                reason = error.reason if isinstance(error, BuildEnded) else "S3 does not answer in time."
                _say(f"Serving sites from memory. {reason}")
        finally:
            site.task = None

    async def _examine(self, site: _Site, began: float, *, lists: bool) -> None:
        """Read what may have changed."""
        pointer = await self._read_pointer(site.slug)
        since = began - site.listed_at
        if site.loaded and not lists and not site.unsettled:
            pause = site.listing_seconds / _LISTING_SHARE
            if pointer is not None:
                pause = max(pause, _LISTED_EVERY_SECONDS)
            if since < pause and pointer == site.pointer:
                if site.index and site.index.retired and began - site.retired_at > _RETIRED_SECONDS:
                    site.index = SiteIndex(site.index.objects, site.index.document, site.budget)
                return
        await self._list(site)
        site.pointer = pointer

    async def _read_pointer(self, slug: str) -> str | None:
        """Return the ETag of what builds write when they begin and end."""
        try:
            async with self._state.open(f"__manifests/{slug}/current.json", method="HEAD") as answer:
                return answer.etag or None if answer.status == 200 else None
        except AccessRefused as error:
            self._warn_once(f"Sites are listed every second, because their deployments cannot be read. {error.hint}")
            return None

    async def _list(self, site: _Site) -> None:
        began = time.monotonic()
        first = second = await self._read_listing(site)
        current = site.index.objects if site.index else {}
        changed = site.loaded and pages_of(first) != pages_of(current)
        await self._read_rules(site)
        if changed:  # see `merge_listings`
            second = await self._read_listing(site)
        objects = merge_listings(first, second) if changed else first
        site.unsettled = changed and pages_of(first) != pages_of(second)
        site.listing_seconds, site.listed_at = (time.monotonic() - began) / (1 + changed), began
        document = site.document or default_document(objects)
        if site.index and objects == current and document == site.index.document and not site.index.retired:
            return
        self._keys += len(objects) - len(current)
        if not objects:
            site.index = None
            return
        retired = {
            key: found
            for key, found in current.items()
            if key not in objects and self._is_cached(site.prefix + key, found)
        }
        for key in pages_of(retired):
            del retired[key]
        site.retired_at = time.monotonic()
        site.index = SiteIndex(objects, document, site.budget, retired)
        self._make_room(site)

    async def _read_listing(self, site: _Site) -> dict[str, Indexed]:
        start = len(site.prefix)
        listed = await self._bucket.list_objects(site.prefix)
        return {key[start:]: Indexed(found.etag, found.size) for key, found in listed.items() if len(key) > start}

    async def _read_rules(self, site: _Site) -> None:
        try:
            async with self._state.open(f"__routing/{site.slug}.json", unless=site.routing) as answer:
                if answer.status == 304:
                    return
                if answer.status != 200:
                    site.document, site.routing = None, None
                    return
                if answer.size > MAX_DOCUMENT_BYTES:
                    return
                data = await answer.read()
        except AccessRefused as error:
            self._warn_once(f"Rules of sites are not applied. {error.hint}")
            return
        try:
            site.document = await asyncio.to_thread(Document.from_json, data)
        except DocumentError as error:
            _say(f"The rules of {site.slug} stay as they were. {error}")
        site.routing = answer.etag

    def _warn_once(self, sentence: str) -> None:
        kind = sentence.partition(".")[0]
        if kind not in self._warned:
            self._warned.add(kind)
            _say(sentence)


def _say(sentence: str) -> None:
    print(f"buildrunner: {sentence}", file=sys.stderr, flush=True)
