"""List, store and delete the objects of a site in its bucket, and record what S3 confirmed."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence

import anyio

from buildrunner.concurrency.parallel import in_parallel
from buildrunner.errors import BuildFailed
from buildrunner.publish.files import Site, changed_meanwhile
from buildrunner.publish.manifest import Manifest, PublishedObject
from buildrunner.publish.walk import SiteFile
from buildrunner.s3.bucket import Bucket, Listed
from buildrunner.s3.errors import AccessRefused, S3Failed

_MAX_DELETIONS = 1000  # per request; https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
_RETRY_SECONDS = (0.2, 1.0, 3.0)  # after an object was removed that blocked another: some servers free the folder later


class RemoteSite:
    """The objects of one site, as far as this build knows.

    Args:
        bucket: bucket of the site.
        prefix: prefix of the site's keys.
        concurrency: files sent at the same time.
        on_done: function that is called with the number of files and bytes that have just been stored.
        warn: function that logs a warning.

    """

    def __init__(
        self,
        bucket: Bucket,
        prefix: str,
        *,
        concurrency: int,
        on_done: Callable[[int, int], None],
        warn: Callable[[str], None],
    ) -> None:
        self.listed: dict[str, Listed] | None = None  # objects by key; None if listing is refused
        self.stored: dict[str, PublishedObject] = {}  # objects of this build by key
        self.replaced: list[str] = []  # paths of live files that this build replaced
        self.in_doubt: set[str] = set()  # paths of live files sent without a response of S3
        self.touched: set[str] = set()  # keys of live objects that this build may have replaced or removed
        self._bucket = bucket
        self._prefix = prefix
        self._concurrency = concurrency
        self._on_done = on_done
        self._warn = warn
        self._warned_of_listing = False
        self._removed: set[str] = set()  # keys that blocked a file of this build
        self._removing = anyio.Lock()

    async def update_listing(self) -> None:
        """Update `listed`; warn once if listing is refused."""
        try:
            self.listed = await self._bucket.list_objects(self._prefix)
        except AccessRefused as refused:
            self.listed = None
            if not self._warned_of_listing:
                self._warned_of_listing = True
                self._warn(f"{refused.reason} Uploading the whole site; files of earlier builds are not removed.")

    async def send(
        self, site: Site, files: Sequence[SiteFile], *, last: Manifest | None, live: bool = False, again: bool = False
    ) -> list[SiteFile]:
        """Send files in parallel.

        Args:
            site: opens the files.
            files: files to send.
            last: newest manifest before this build; names the objects if listing is refused.
            live: whether the files replace live objects.
            again: whether they were sent before, so that they don't count again.

        Returns:
            Files that cannot be stored before a live object is removed, because it blocks them; empty if `live`.

        """
        blocked: list[SiteFile] = []

        async def send(file: SiteFile) -> None:
            if live:
                self.touched.add(self._prefix + file.path)
                self.in_doubt.add(file.path)
            try:
                await self._put(site, file)
            except S3Failed as error:
                if not error.in_doubt:
                    self.in_doubt.discard(file.path)
                if error.cause_known or not self._blocking(file, last):
                    raise
                if not live:
                    blocked.append(file)
                    return
                await self._put_instead(site, file, last)
            except BuildFailed:
                self.in_doubt.discard(file.path)
                raise
            self.in_doubt.discard(file.path)
            if not again:
                if live:
                    self.replaced.append(file.path)
                self._on_done(1, file.size)

        await in_parallel(send, files, limit=self._concurrency)
        return blocked

    async def delete(self, keys: Sequence[str], *, on_deleted: Callable[[int], None]) -> dict[str, str]:
        """Delete objects; return key → error code of the server, for every object that it did not delete."""
        refused: dict[str, str] = {}
        for start in range(0, len(keys), _MAX_DELETIONS):
            batch = keys[start : start + _MAX_DELETIONS]
            answer = await self._bucket.delete(batch)
            refused |= answer
            on_deleted(len(batch) - len(answer))
        return refused

    async def _put(self, site: Site, file: SiteFile) -> None:
        key = self._prefix + file.path
        descriptor = site.open(file)
        written = os.fstat(descriptor).st_mtime_ns

        def check() -> None:
            if os.fstat(descriptor).st_mtime_ns != written:
                raise changed_meanwhile(file.path)

        try:
            stored = await self._bucket.put_file(
                key,
                descriptor,
                file.size,
                content_type=file.content_type,
                cache_control=file.cache_control,
                check=check,
            )
        finally:
            os.close(descriptor)
        self.stored[key] = PublishedObject(file.size, stored.sha256, file.content_type, file.cache_control, stored.etag)

    def _blocking(self, file: SiteFile, last: Manifest | None) -> list[str]:
        """Return the objects that prevent a server with real folders from storing a file: `a` and `a/b/…` for `a/b`."""
        key = self._prefix + file.path
        known: set[str] = set(self.listed or ())
        if self.listed is None and last:
            known = {*last.objects, *last.kept}
        parts = key.split("/")
        folders = {"/".join(parts[:count]) for count in range(1, len(parts))}
        return [each for each in self._removed | known if each in folders or each.startswith(f"{key}/")]

    async def _put_instead(self, site: Site, file: SiteFile, last: Manifest | None) -> None:
        """Remove the objects that block a file, then send it. Such a server cannot have both at any time."""
        async with self._removing:
            keys = [key for key in self._blocking(file, last) if key not in self._removed]
            for start in range(0, len(keys), _MAX_DELETIONS):
                await self._bucket.delete(keys[start : start + _MAX_DELETIONS])
            self._removed.update(keys)
            self.touched.update(keys)
            for key in keys:
                if self.listed:
                    self.listed.pop(key, None)
        for pause in _RETRY_SECONDS:
            try:
                await self._put(site, file)
            except S3Failed:
                await anyio.sleep(pause)
            else:
                return
        await self._put(site, file)
