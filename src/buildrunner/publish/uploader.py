"""Upload a site in an order in which no page is ever live before the files it needs.

    await upload.survey()        during the build: claim the site, list its objects, read the last manifest
    await upload.plan(site)      find out which files are new, changed or possibly unchanged
    await upload.send_new()      check for a later build, then send files with new keys; nothing live changes
    await upload.begin()         check again for a later build
    await upload.publish()       send files that replace objects, then the rules of the site, then the pages
    await upload.tidy_up(…)      restore what an earlier build overwrote, delete obsolete objects, write the manifest

The caller owns the cancel scopes: a signal stops the steps before `publish` at once, and gives `publish` a few seconds to finish.
docs/publishing.md describes the guarantees after each step.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio

from buildrunner.concurrency.cancellation import cleanup
from buildrunner.concurrency.parallel import in_parallel
from buildrunner.errors import BuildFailed, BuildSuperseded
from buildrunner.publish.comparison import ClassifiedFiles, classify, find_changed
from buildrunner.publish.files import Site
from buildrunner.publish.lock import STEP_SECONDS, DeploymentLock
from buildrunner.publish.manifest import Manifest
from buildrunner.publish.remote_site import RemoteSite
from buildrunner.publish.retention import find_leftovers
from buildrunner.publish.size_changes import compare_sizes
from buildrunner.publish.walk import SiteFile
from buildrunner.s3.bucket import Bucket
from buildrunner.s3.errors import Unreachable

Progress = Callable[[int, int], None]  # files and bytes that are in the bucket

SURVEY_RETRY_SECONDS = 30.0  # after which a server that did not respond during the build is tried again
WATCH_SECONDS = 1.0  # between two checks for a later build that publishes
# After `begin`, a build waits this long for an earlier one to end. A live one notices within WATCH_SECONDS that it must stop, and
# records that it did. A killed one records nothing.
EARLIER_BUILD_SECONDS = 30.0
MANIFEST_SECONDS = 30.0  # for reading one; that of 100,000 files is 29 MB
DELETE_SECONDS = 20.0  # so that there is time for the manifest
STOPPED_SECONDS = 3.0  # for recording that the build stopped, also during a cancellation
# An earlier build that has not begun to publish sends no more new keys this long after it was superseded: it checks every
# WATCH_SECONDS and cancels its requests.
_NEW_KEYS_SECONDS = 4.0
_MAX_RESTORES = 3  # attempts to restore what an earlier build has overwritten


class Upload:
    """Upload one site into one bucket: call `survey`, `plan`, `send_new`, `begin`, `publish` and `tidy_up`, in this order.

    Args:
        bucket: bucket of the site.
        lock: deployment lock of this build.
        prefix: prefix of the site's keys.
        concurrency: files sent at the same time.
        asset_grace: seconds that a hashed asset stays after the first deployment without it.
        run_number: function that returns the number that orders this build among the builds of the site.
        warn: function that logs a warning.

    """

    def __init__(
        self,
        bucket: Bucket,
        lock: DeploymentLock,
        *,
        prefix: str,
        concurrency: int,
        asset_grace: float,
        run_number: Callable[[], Awaitable[int]],
        warn: Callable[[str], None],
    ) -> None:
        self._bucket = bucket
        self._lock = lock
        self._prefix = prefix
        self._remote = RemoteSite(bucket, prefix, concurrency=concurrency, on_done=self._done, warn=warn)
        self._asset_grace = asset_grace
        self._run_number = run_number
        self._warn = warn
        self._surveying = anyio.Lock()
        self._surveyed = False
        self._unreachable: tuple[float, Unreachable] | None = None
        self._newest: Manifest | None = None  # the newest manifest of the site
        self._last: Manifest | None = None  # the same, if what it says about objects is still true
        self._site: Site | None = None
        self._routing: bytes | None = None  # the rules of the site; None keeps the stored ones
        self._on_progress: Progress = lambda _files, _bytes: None
        self._files = ClassifiedFiles()
        self._publishing_since = 0.0
        self._deleted = 0
        self.unchanged = 0  # files
        self.unchanged_bytes = 0
        self.files_done = 0
        self.bytes_done = 0

    async def survey(self) -> None:
        """Claim the site, list its objects, and read the last manifest; a second call does nothing.

        If listing is refused, every key counts as existing, so that the whole site is sent after `begin`.

        Raises:
            BuildFailed: the bucket cannot be read.

        """
        async with self._surveying:
            if self._unreachable and anyio.current_time() < self._unreachable[0] + SURVEY_RETRY_SECONDS:
                raise self._unreachable[1]
            if self._surveyed:
                return
            try:
                try:
                    with anyio.move_on_after(STEP_SECONDS):
                        await self._lock.claim(await self._run_number())
                except Unreachable:
                    raise
                except BuildFailed:
                    pass  # `begin` tries again and reports it
                await self._read_manifest()
                await self._remote.update_listing()
            except Unreachable as error:
                self._unreachable = anyio.current_time(), error
                raise
            self._surveyed = True

    async def plan(self, site: Site, *, on_progress: Progress, routing: bytes | None = None) -> None:
        """Decide which files to send, and in what order, without reading them.

        Args:
            site: files of the site.
            on_progress: function that is called with the total number of files and bytes in the bucket.
            routing: rules of the site as JSON; None keeps the stored ones.

        """
        await self.survey()
        self._site, self._on_progress, self._routing = site, on_progress, routing
        if self._lock.in_progress:  # earlier builds may have written since the survey
            with anyio.move_on_after(STEP_SECONDS), suppress(BuildFailed):
                await self._lock.settle()
            await self._read_manifest()
            await self._remote.update_listing()
        self._files = classify(
            site.files,
            prefix=self._prefix,
            last=self._last,
            outdated=self._lock.replaced,
            listed=self._remote.listed,
        )

    async def send_new(self) -> None:
        """Send files other than pages whose keys are new, and compare possibly unchanged files meanwhile.

        Nothing live changes.

        Raises:
            BuildSuperseded: a later build has claimed the site.

        """

        async def send() -> None:
            await in_parallel(
                lambda work: work(), (self._compare, lambda: self._send(self._files.new, live=False)), limit=2
            )

        await self._lock.check()
        await self._watch(send, self._lock.check)

    async def begin(self) -> None:
        """Check again for a later build, and record that the live site is about to change.

        Raises:
            BuildSuperseded: a later build has taken over.

        """
        if not self._bucket.takes_checksums:
            self._warn("The S3 server refuses SHA-256 checksums, so objects are verified by MD5 instead.")
        number = await self._run_number()
        try:
            await self._lock.begin(number)
        except BuildSuperseded:
            raise
        except BaseException:  # the record may have been written although the request failed
            await self._record_stop()
            raise
        self._publishing_since = anyio.current_time()

    async def publish(self) -> None:
        """Send files that replace other objects, then the rules of the site, then the pages.

        Raises:
            BuildSuperseded: a later build has begun to publish.

        """

        async def publish() -> None:
            await self._send(self._files.replacing)
            await self._store_routing()
            await self._send(self._files.pages)

        try:
            await self._watch(publish)
        except BaseException:
            await self._record_stop()
            raise

    async def tidy_up(self, *, build: str, slug: str, commit: str | None) -> str | None:
        """Restore what an earlier build has overwritten, delete obsolete objects, and write the manifest.

        The site is published, so that failures are only logged as warnings.

        Args:
            build: id of the build, for the manifest.
            slug: name of the site.
            commit: hash of the commit.

        Returns:
            A sentence about deleted and kept files; None if there are none.

        """
        now = time.time()
        try:
            if self._lock.in_progress:
                await self._watch(self._restore)
                await self._store_routing()
            else:
                await self._list_late_keys()
        except BuildSuperseded as superseded:
            self._warn(superseded.reason)
            await self._record_stop()
            return None
        except BuildFailed as error:
            self._warn(f"An earlier build may have overwritten files of this one. Run this build again: {error.reason}")
            await self._record_stop()
            return None
        except BaseException:
            await self._record_stop()
            raise
        stored = self._remote.stored
        leftovers = find_leftovers(
            self._remote.listed, self._newest, stored, prefix=self._prefix, asset_grace=self._asset_grace, now=now
        )
        if leftovers.early:
            self._warn(
                f"There are too many assets of earlier builds: removing {leftovers.early:,} before ASSET_GRACE has passed."
                " Deploy less often, or lower ASSET_GRACE."
            )
        kept = leftovers.kept
        manifest = Manifest(
            build, slug, self._bucket.name, self._prefix, commit, published=now, objects=stored, kept=kept
        )
        try:
            await self._remove(leftovers.expired)
            left_out = await self._lock.end(manifest)
            if left_out:
                self._warn(f"The manifest is full: the next build uploads {left_out:,} of {len(stored):,} files again.")
        except BuildFailed as error:
            self._warn(
                f"The manifest of this build was not stored, so the next build uploads all files: {error.reason}"
            )
        except BaseException:  # no time is left, but later builds need the record of what this one did
            with cleanup(STOPPED_SECONDS), suppress(BuildFailed):
                await self._lock.stopped(self._remote.touched)
                await self._lock.end(manifest)
            raise
        done = [f"removed {_count(self._deleted, 'obsolete ')}"] if self._deleted else []
        done += [f"kept {_count(len(kept))} of earlier builds for open tabs"] if kept else []
        report = ", ".join(done)
        return f"{report[0].upper()}{report[1:]}." if report else None

    async def _remove(self, expired: Sequence[str]) -> None:
        try:
            if expired and await self._lock.delete():
                with anyio.move_on_after(DELETE_SECONDS) as scope:
                    await self._watch(lambda: self._delete(expired))
                if scope.cancelled_caught:
                    self._warn("Removing obsolete files timed out. The next build removes them.")
            elif expired:
                self._warn("A later build of this site took over, and removes the obsolete files.")
        except BuildSuperseded:
            self._warn("A later build of this site took over, and removes the remaining obsolete files.")
        except BuildFailed as error:
            self._warn(f"Obsolete files were not removed: {error.reason} {error.hint or ''}".strip())

    @property
    def size_changes(self) -> dict[str, int] | None:
        """Bytes that each kind of file has gained or lost since the deployment before; None if there is none."""
        if self._newest is None or self._site is None:
            return None
        return compare_sizes(
            ((file.path, file.size) for file in self._site.files),
            ((key, published.size) for key, published in self._newest.objects.items()),
        )

    @property
    def superseded(self) -> bool:
        """Whether a later build is known to have claimed the site."""
        return self._lock.superseded

    @property
    def what_is_new(self) -> str:
        """A sentence about the progress of `publish`, for a build that was stopped during it."""
        total, replaced = len(self._files.replacing) + len(self._files.pages), self._remote.replaced
        doubt = sorted(self._remote.in_doubt)
        unknown = f"It is not known whether S3 stored {_names(doubt)}." if doubt else ""
        if not replaced:
            return unknown or "Nothing live has changed."
        if len(replaced) >= total:
            return "The whole site is new."
        new = f"Replaced {len(replaced)} of {total} live files: {_names(replaced)}."
        return f"{new} {unknown}".strip()

    async def _store_routing(self) -> None:
        """Store the rules of the site; a failure of the state bucket must not prevent publishing."""
        if self._routing is None:
            return
        reason = f"The state bucket did not answer within {STEP_SECONDS} s."
        with anyio.move_on_after(STEP_SECONDS):
            try:
                await self._lock.store_routing(self._routing)
                return
            except BuildFailed as error:
                reason = error.reason
        self._warn(
            f"The routing of the site was not stored, so `buildrunner sites` continues with the earlier one. {reason}"
        )

    async def _record_stop(self) -> None:
        with cleanup(STOPPED_SECONDS), suppress(BuildFailed):
            await self._lock.stopped(self._remote.touched)

    async def _read_manifest(self) -> None:
        found = None
        with anyio.move_on_after(MANIFEST_SECONDS) as scope, suppress(BuildFailed):
            found = await self._lock.manifest_of(self._lock.newest)
        if scope.cancelled_caught:
            self._warn("Reading the manifest of the previous build timed out; uploading all files.")
        elsewhere = found and (found.bucket, found.prefix) != (self._bucket.name, self._prefix)
        self._newest = None if elsewhere else found
        self._last = self._newest if self._lock.trusted else None

    async def _compare(self) -> None:
        site, last, candidates = self._site, self._last, self._files.candidates
        if not candidates:
            return
        assert site is not None
        assert last is not None
        stored, prefix, objects = self._remote.stored, self._prefix, last.objects

        def keep(files: Sequence[SiteFile]) -> None:
            self.unchanged += len(files)
            self.unchanged_bytes += sum(file.size for file in files)
            stored.update((prefix + file.path, objects[prefix + file.path]) for file in files)
            self._done(len(files), sum(file.size for file in files))

        self._files.add_live(await find_changed(site, candidates, prefix=prefix, last=last, on_unchanged=keep))

    async def _send(self, files: Sequence[SiteFile], *, live: bool = True, again: bool = False) -> None:
        assert self._site is not None
        blocked = await self._remote.send(self._site, files, last=self._newest, live=live, again=again)
        self._files.add_live(blocked)

    async def _watch(
        self, work: Callable[[], Awaitable[None]], check: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Do `work`, and check every second for a later build; by default, for one that publishes.

        Raises:
            BuildSuperseded: there is one.

        """
        watching = anyio.CancelScope()

        async def watch() -> None:
            with watching:
                while True:
                    await anyio.sleep(WATCH_SECONDS)
                    await (check or self._lock.look)()

        async def do() -> None:
            await work()
            watching.cancel()

        await in_parallel(lambda each: each(), (watch, do), limit=2)

    def _done(self, files: int, size: int) -> None:
        self.files_done += files
        self.bytes_done += size
        self._on_progress(self.files_done, self.bytes_done)

    async def _restore(self) -> None:
        """Send again what an earlier build has overwritten or removed, once that build has stopped."""
        assert self._site is not None
        while self._lock.in_progress and anyio.current_time() < self._publishing_since + EARLIER_BUILD_SECONDS:
            with anyio.move_on_after(STEP_SECONDS), suppress(BuildFailed):
                await self._lock.settle()
            await anyio.sleep(0.2)  # also after it stopped: S3 may still be storing its cancelled requests
        for _ in range(_MAX_RESTORES):
            await self._remote.update_listing()
            listed = self._remote.listed
            if listed is None:
                return
            differing = [
                file
                for file in self._site.files
                if (key := self._prefix + file.path) not in listed or listed[key].etag != self._remote.stored[key].etag
            ]
            if not differing:
                return
            for pages in (False, True):
                await self._send([file for file in differing if file.is_page == pages], again=True)

    async def _list_late_keys(self) -> None:
        """List again if a superseded build may have sent new keys before it noticed."""
        since = self._lock.took_over_at
        if since is None or self._remote.listed is None:
            return
        await anyio.sleep_until(since + _NEW_KEYS_SECONDS)
        with suppress(BuildFailed):
            await self._remote.update_listing()

    async def _delete(self, keys: Sequence[str]) -> None:
        refused = await self._remote.delete(keys, on_deleted=self._count_deleted)
        if refused:
            key, code = next(iter(refused.items()))
            self._warn(
                f"Removing {_count(len(refused), 'obsolete ')} failed: S3 answered {code} for {key}."
                " Allow s3:DeleteObject to the credentials or task role of buildrunner."
            )

    def _count_deleted(self, objects: int) -> None:
        self._deleted += objects


def _count(files: int, kind: str = "") -> str:
    return f"{files:,} {kind}{'file' if files == 1 else 'files'}"


def _names(files: Sequence[str]) -> str:
    more = f" and {len(files) - 10} more" if files[10:] else ""
    return ", ".join(files[:10]) + more
