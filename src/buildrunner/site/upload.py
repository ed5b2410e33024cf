"""What to send of a site, and in what order, so that no page is ever live before what it needs.

    upload = await Upload.plan(site, bucket, prefix=…)   one listing: which keys are new
    await upload.send_new()                              changes nothing that is live
    …                                                    the second look: did a later run take over?
    await upload.publish()                               what replaces objects, then the pages

The caller keeps the second look and the two cancel scopes around the halves: a signal stops the first half at once,
and gives the second some seconds to finish.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Self

from buildrunner.site.bucket import Bucket, in_parallel
from buildrunner.site.failures import AccessRefused
from buildrunner.site.files import Site, SiteFile

Progress = Callable[[int, int], None]  # files and bytes that are in the bucket by now


class Upload:
    """One site on its way into one bucket. Made by `plan`, then `send_new` and `publish`, in this order."""

    def __init__(
        self,
        site: Site,
        bucket: Bucket,
        existing: set[str] | None,
        *,
        prefix: str,
        concurrency: int,
        on_progress: Progress,
    ) -> None:
        self._site = site
        self._bucket = bucket
        self._prefix = prefix
        self._concurrency = concurrency
        self._on_progress = on_progress
        pages = tuple(file for file in site.files if file.is_page)
        others = tuple(file for file in site.files if not file.is_page)
        self._new = () if existing is None else tuple(file for file in others if prefix + file.path not in existing)
        new = set(self._new)
        self._replacing = tuple(file for file in others if file not in new)
        self._pages = pages
        self._replaced: list[str] = []
        self.warnings: tuple[str, ...] = ()  # sentences for people
        self.files_done = 0
        self.bytes_done = 0

    @classmethod
    async def plan(cls, site: Site, bucket: Bucket, *, prefix: str, concurrency: int, on_progress: Progress) -> Self:
        """List what is in the bucket under `prefix`, and decide the order.

        Where listing is refused every key counts as existing: then all of the site waits for the second look.
        """
        existing: set[str] | None
        warnings: tuple[str, ...] = ()
        try:
            existing = await bucket.list_keys(prefix)
        except AccessRefused as refused:
            existing = None
            warnings = (
                f"{refused.reason} The site is published all the same, only later and with nothing ahead of time.",
            )
        upload = cls(site, bucket, existing, prefix=prefix, concurrency=concurrency, on_progress=on_progress)
        upload.warnings = warnings
        return upload

    async def send_new(self) -> None:
        """Send what has a key that is not in the bucket yet, but no pages. What is live stays as it is."""
        await self._send(self._new)

    async def publish(self) -> None:
        """Send what replaces other objects, and when all of it is there, the pages."""
        for group in (self._replacing, self._pages):
            await self._send(group, self._replaced)

    @property
    def what_is_new(self) -> str:
        """Say how far `publish` came, for a run that was cut short in it."""
        total = len(self._replacing) + len(self._pages)
        if not self._replaced:
            return "Nothing that was live has changed."
        if len(self._replaced) == total:
            return "The whole site is new."
        names = ", ".join(self._replaced[:10])
        more = f" and {len(self._replaced) - 10} more" if self._replaced[10:] else ""
        return f"New are {len(self._replaced)} of the {total} files that replace live ones: {names}{more}."

    async def _send(self, files: Sequence[SiteFile], sent: list[str] | None = None) -> None:
        async def send(file: SiteFile) -> None:
            descriptor = self._site.open(file)
            try:
                await self._bucket.put_file(
                    self._prefix + file.path,
                    descriptor,
                    file.size,
                    content_type=file.content_type,
                    cache_control=file.cache_control,
                )
            finally:
                os.close(descriptor)
            if sent is not None:
                sent.append(file.path)
            self.files_done += 1
            self.bytes_done += file.size
            self._on_progress(self.files_done, self.bytes_done)

        await in_parallel(send, files, limit=self._concurrency)
