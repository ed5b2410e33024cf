"""What to send of a site, and in what order, so that no page is ever live before what it needs.

    await upload.survey()        while the build runs: claim the site, list what is there, read the last manifest
    await upload.plan(site)      what is new, what differs, what can stay as it is
    await upload.send_new()      the first look, then new keys: changes nothing that is live
    await upload.begin()         the second look: did a later run take over?
    await upload.publish()       what replaces objects, the rules of the site, then the pages
    await upload.tidy_up(…)      what another run has overwritten, deletions, the manifest

The caller keeps the cancel scopes around the halves: a signal stops the first at once, and gives the second some seconds to
finish. docs/publishing.md says what is guaranteed after each step.
"""

from __future__ import annotations

import os
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

import anyio
import anyio.from_thread
import anyio.to_thread

from buildrunner.concurrency.cancellation import cleanup
from buildrunner.concurrency.parallel import in_parallel
from buildrunner.errors import BuildFailed, BuildSuperseded
from buildrunner.publish.files import Site, SiteFile, changed_meanwhile
from buildrunner.publish.headers import IMMUTABLE, cache_control
from buildrunner.publish.lock import STEP_SECONDS, DeploymentLock
from buildrunner.publish.manifest import MAX_BYTES, Manifest, PublishedObject
from buildrunner.s3.bodies import sha256_of
from buildrunner.s3.bucket import Bucket, Listed
from buildrunner.s3.errors import AccessRefused, S3Failed, Unreachable

Progress = Callable[[int, int], None]  # files and bytes that are in the bucket by now

ASKED_AGAIN_AFTER = 30.0  # seconds: a server that was found silent while the build ran may be back
LOOK_SECONDS = 1.0  # between two looks whether a later run publishes, too
# After its second look a run waits for so long for an earlier one to end, which sees within LOOK_SECONDS that it has to, and says
# when it has. One that was killed says nothing.
OTHERS_END_WITHIN = 30.0
MANIFEST_WITHIN = 30.0  # seconds for reading one: of 100,000 files it has 29 MB
DELETE_WITHIN = 20.0  # seconds, so that there is time for the manifest
STOPPED_WITHIN = 3.0  # seconds for saying so, also when the run is being cancelled
# An earlier run that has not begun to publish sends no new keys any more when it was taken over from for so long: it looks
# each LOOK_SECONDS, and cuts off what is under way.
_NEW_KEYS_END_WITHIN = 4.0
# Assets of earlier builds. With more of them, or longer names, the manifest could not be read back, and a listing takes minutes.
KEPT_AT_MOST = 250_000
_KEPT_MAX_BYTES = MAX_BYTES // 2
_BYTES_OF_KEPT = 64  # of the entry of one in the manifest, beside its key
_ROUNDS = 3  # of sending again what another run has overwritten
_DELETED_AT_ONCE = 1000  # https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html
_HASHED_AT_ONCE = 250  # files in one hop through a thread
_HASHING_THREADS = 2


class Upload:
    """One site on its way into one bucket. `survey`, `plan`, `send_new`, `begin`, `publish`, `tidy_up`, in this order.

    Args:
        bucket: of the site.
        lock: the hold of this build on the site.
        prefix: of the site's keys.
        concurrency: objects in flight.
        asset_grace: seconds that a hashed asset stays after the first deployment without it.
        run_number: gives what orders this run among those that began at the same time.
        warn: takes a sentence for people.

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
        self._concurrency = concurrency
        self._asset_grace = asset_grace
        self._run_number = run_number
        self._warn = warn
        self._surveying = anyio.Lock()
        self._surveyed = False
        self._unreachable: tuple[float, Unreachable] | None = None
        self._there: dict[str, Listed] | None = None  # None where listing is refused
        self._told = False  # that it is
        self._before: Manifest | None = None  # the newest there is: since when things are kept
        self._last: Manifest | None = None  # the same, if what it says of objects is still true
        self._site: Site | None = None
        self._routing: bytes | None = None  # how the site answers; None leaves what is stored
        self._on_progress: Progress = lambda _files, _bytes: None
        self._new: list[SiteFile] = []
        self._candidates: Sequence[SiteFile] = ()  # that may be unchanged
        self._replacing: list[SiteFile] = []
        self._pages: list[SiteFile] = []
        self._replaced: list[str] = []  # paths
        self._in_doubt: set[str] = (
            set()
        )  # paths that were sent to replace others, and S3 has not said what became of it
        self._touched: set[str] = set()  # keys of both, and of what was removed for them
        self._out_of_the_way: set[str] = set()  # keys that were removed for others
        self._clearing = anyio.Lock()
        self._objects: dict[str, PublishedObject] = {}
        self._publishing_since = 0.0
        self._deleted = 0
        self.unchanged = 0  # files
        self.files_done = 0
        self.bytes_done = 0

    async def survey(self) -> None:
        """Claim the site, list what is there, and read the last manifest; once, however often it is called.

        Where listing is refused every key counts as existing: then all of the site waits for the second look.
        Raises BuildFailed when the bucket cannot be read.
        """
        async with self._surveying:
            if self._unreachable and anyio.current_time() < self._unreachable[0] + ASKED_AGAIN_AFTER:
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
                    pass  # `begin` tries again, and tells
                await self._read_manifest()
                await self._list()
            except Unreachable as error:
                self._unreachable = anyio.current_time(), error
                raise
            self._surveyed = True

    async def plan(self, site: Site, *, on_progress: Progress, routing: bytes | None = None) -> None:
        """Decide what has to be sent, and in what order; reads no file yet. `routing` says how the site answers requests."""
        await self.survey()
        self._site, self._on_progress, self._routing = site, on_progress, routing
        if self._lock.in_progress:  # what they have written since the survey is not in it
            with anyio.move_on_after(STEP_SECONDS), suppress(BuildFailed):
                await self._lock.settle()
            await self._read_manifest()
            await self._list()
        last, there = self._last, self._there
        new: list[SiteFile] = []
        candidates: list[SiteFile] = []
        replacing: list[SiteFile] = []
        pages: list[SiteFile] = []
        for file in site.files:
            key = self._prefix + file.path
            before = last.objects.get(key) if last and key not in self._lock.replaced else None
            if (
                before
                and before.etag
                and there
                and key in there
                and there[key].etag == before.etag
                and (file.size, file.content_type, file.cache_control)
                == (before.size, before.content_type, before.cache_control)
            ):
                candidates.append(file)
            elif file.is_page:
                pages.append(file)
            elif there is not None and key not in there:
                new.append(file)
            else:
                replacing.append(file)
        self._new, self._candidates, self._replacing, self._pages = new, candidates, replacing, pages

    async def send_new(self) -> None:
        """Send what has a key that is not in the bucket yet, but no pages, and compare what may be unchanged meanwhile.

        What is live stays as it is.

        Raises:
            BuildSuperseded: when a later run has claimed the site.

        """

        async def send() -> None:
            await in_parallel(lambda work: work(), (self._compare, lambda: self._send(self._new)), limit=2)

        await self._lock.check()
        await self._watching(send, self._lock.check)

    async def begin(self) -> None:
        """Take the second look, and begin to change what is live.

        Raises:
            BuildSuperseded: when a later run has taken over.

        """
        if not self._bucket.takes_checksums:
            self._warn("The S3 server refuses SHA-256 checksums, so objects are verified by MD5 instead.")
        number = await self._run_number()
        try:
            await self._lock.begin(number)
        except BuildSuperseded:
            raise
        except BaseException:  # what it was about to say may have arrived all the same
            await self._say_stopped()
            raise
        self._publishing_since = anyio.current_time()

    async def publish(self) -> None:
        """Send what replaces other objects, and when all of it is there, the rules of the site, then the pages.

        Raises:
            BuildSuperseded: when a later run began to do the same meanwhile.

        """

        async def publish() -> None:
            await self._send(self._replacing, live=True)
            await self._store_routing()
            await self._send(self._pages, live=True)

        try:
            await self._watching(publish)
        except BaseException:
            await self._say_stopped()
            raise

    async def tidy_up(self, *, build: str, slug: str, commit: str | None) -> str | None:
        """Send again what another run has overwritten, delete what is no longer part of the site, and write the manifest.

        Gives a sentence on what was deleted and kept. Whatever fails in it is told as a warning: the site is published.
        """
        now = time.time()
        try:
            if self._lock.in_progress:
                await self._watching(self._mend)
                await self._store_routing()
            else:
                await self._list_what_came_later()
        except BuildSuperseded as superseded:
            self._warn(superseded.reason)
            await self._say_stopped()
            return None
        except BuildFailed as error:
            self._warn(f"An earlier build may have overwritten files of this one. Run this build again: {error.reason}")
            await self._say_stopped()
            return None
        except BaseException:
            await self._say_stopped()
            raise
        expired, kept = self._leftovers(now)
        manifest = Manifest(
            build, slug, self._bucket.name, self._prefix, commit, published=now, objects=self._objects, kept=kept
        )
        try:
            await self._remove(expired)
            left_out = await self._lock.end(manifest)
            if left_out:
                self._warn(
                    f"The manifest is full: the next build uploads {left_out:,} of {len(self._objects):,} files again."
                )
        except BuildFailed as error:
            self._warn(
                f"The manifest of this build was not stored, so the next build uploads all files: {error.reason}"
            )
        except BaseException:  # no time is left; what this run has done is to be known all the same
            with cleanup(STOPPED_WITHIN), suppress(BuildFailed):
                await self._lock.stopped(self._touched)
                await self._lock.end(manifest)
            raise
        done = [f"removed {_count(self._deleted, 'obsolete ')}"] if self._deleted else []
        done += [f"kept {_count(len(kept))} of earlier builds for open tabs"] if kept else []
        report = ", ".join(done)
        return f"{report[0].upper()}{report[1:]}." if report else None

    async def _remove(self, expired: Sequence[str]) -> None:
        try:
            if expired and await self._lock.delete():
                with anyio.move_on_after(DELETE_WITHIN) as scope:
                    await self._watching(lambda: self._delete(expired))
                if scope.cancelled_caught:
                    self._warn("Removing obsolete files timed out. The next build removes them.")
            elif expired:
                self._warn("A later build of this site took over, and removes the obsolete files.")
        except BuildSuperseded:
            self._warn("A later build of this site took over, and removes the remaining obsolete files.")
        except BuildFailed as error:
            self._warn(f"Obsolete files were not removed: {error.reason} {error.hint or ''}".strip())

    @property
    def superseded(self) -> bool:
        """Whether a later run is known to have claimed the site."""
        return self._lock.superseded

    @property
    def what_is_new(self) -> str:
        """Say how far `publish` came, for a run that was cut short in it."""
        total = len(self._replacing) + len(self._pages)
        doubt = sorted(self._in_doubt)
        unknown = f"It is not known whether S3 stored {_names(doubt)}." if doubt else ""
        if not self._replaced:
            return unknown or "Nothing live has changed."
        if len(self._replaced) >= total:
            return "The whole site is new."
        new = f"Replaced {len(self._replaced)} of {total} live files: {_names(self._replaced)}."
        return f"{new} {unknown}".strip()

    async def _store_routing(self) -> None:
        """Store how the site answers. A state bucket that does not take it must not hold up a site that can be published."""
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

    async def _say_stopped(self) -> None:
        with cleanup(STOPPED_WITHIN), suppress(BuildFailed):
            await self._lock.stopped(self._touched)

    async def _read_manifest(self) -> None:
        found = None
        with anyio.move_on_after(MANIFEST_WITHIN) as scope, suppress(BuildFailed):
            found = await self._lock.manifest_of(self._lock.newest)
        if scope.cancelled_caught:
            self._warn("Reading the manifest of the previous build timed out; uploading all files.")
        elsewhere = found and (found.bucket, found.prefix) != (self._bucket.name, self._prefix)
        self._before = None if elsewhere else found
        self._last = self._before if self._lock.trusted else None

    async def _list(self) -> None:
        try:
            self._there = await self._bucket.list_objects(self._prefix)
        except AccessRefused as refused:
            self._there = None
            if not self._told:
                self._told = True
                self._warn(f"{refused.reason} Uploading the whole site; files of earlier builds are not removed.")

    async def _compare(self) -> None:
        """Find out which candidates have the content that the last manifest names; the others are sent."""
        site, last = self._site, self._last
        if not self._candidates:
            return
        assert site is not None
        assert last is not None
        changed: set[str] = set()

        def compare(files: Sequence[SiteFile]) -> None:
            for file in files:
                anyio.from_thread.check_cancelled()
                key = self._prefix + file.path
                descriptor = site.open(file)
                try:
                    if sha256_of(key, descriptor, file.size) != last.objects[key].sha256:
                        changed.add(file.path)
                finally:
                    os.close(descriptor)

        async def work(files: Sequence[SiteFile]) -> None:
            await anyio.to_thread.run_sync(compare, files)
            same = [file for file in files if file.path not in changed]
            self.unchanged += len(same)
            self._objects.update((self._prefix + file.path, last.objects[self._prefix + file.path]) for file in same)
            self._done(len(same), sum(file.size for file in same))

        chunks = [
            self._candidates[start : start + _HASHED_AT_ONCE]
            for start in range(0, len(self._candidates), _HASHED_AT_ONCE)
        ]
        await in_parallel(work, chunks, limit=_HASHING_THREADS)
        sent = [file for file in self._candidates if file.path in changed]
        self._replacing = [*self._replacing, *(file for file in sent if not file.is_page)]
        self._pages = [*self._pages, *(file for file in sent if file.is_page)]

    async def _send(self, files: Sequence[SiteFile], *, live: bool = False, again: bool = False) -> None:
        """Send files, `live` ones in the place of others, and some of those `again`."""

        async def send(file: SiteFile) -> None:
            if live:
                self._touched.add(self._prefix + file.path)
                self._in_doubt.add(file.path)
            try:
                await self._put(file)
            except S3Failed as error:
                if not error.in_doubt:
                    self._in_doubt.discard(file.path)
                if error.cause_known or not self._in_the_way(file):
                    raise
                if not live:  # it has to wait: what is in its way is live
                    (self._pages if file.is_page else self._replacing).append(file)
                    return
                await self._put_instead(file)
            except BuildFailed:
                self._in_doubt.discard(file.path)
                raise
            self._in_doubt.discard(file.path)
            if not again:
                if live:
                    self._replaced.append(file.path)
                self._done(1, file.size)

        await in_parallel(send, files, limit=self._concurrency)

    async def _put(self, file: SiteFile) -> None:
        assert self._site is not None
        key = self._prefix + file.path
        descriptor = self._site.open(file)
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
        self._objects[key] = PublishedObject(
            file.size, stored.sha256, file.content_type, file.cache_control, stored.etag
        )

    def _in_the_way(self, file: SiteFile) -> list[str]:
        """Return the objects that keep a server from storing a file if it has folders: of `a/b` these are `a` and `a/b/…`."""
        key = self._prefix + file.path
        there: set[str] = set(self._there or ())
        if self._there is None and self._before:  # listing is refused
            there = {*self._before.objects, *self._before.kept}
        parts = key.split("/")
        folders = {"/".join(parts[:count]) for count in range(1, len(parts))}
        return [each for each in self._out_of_the_way | there if each in folders or each.startswith(f"{key}/")]

    async def _put_instead(self, file: SiteFile) -> None:
        """Remove what is in the way of a file, and send it then: on such a server there is no moment at which both are there."""
        async with self._clearing:
            keys = [key for key in self._in_the_way(file) if key not in self._out_of_the_way]
            for start in range(0, len(keys), _DELETED_AT_ONCE):
                await self._bucket.delete(keys[start : start + _DELETED_AT_ONCE])
            self._out_of_the_way.update(keys)
            self._touched.update(keys)
            for key in keys:
                if self._there:
                    self._there.pop(key, None)
        for pause in (0.2, 1.0, 3.0):  # some servers remove an empty folder a moment later
            try:
                await self._put(file)
            except S3Failed:
                await anyio.sleep(pause)
            else:
                return
        await self._put(file)

    async def _watching(
        self, work: Callable[[], Awaitable[None]], look: Callable[[], Awaitable[None]] | None = None
    ) -> None:
        """Do `work`, and see every second whether a later run publishes, too: this one has to stop then."""
        watching = anyio.CancelScope()

        async def watch() -> None:
            with watching:
                while True:
                    await anyio.sleep(LOOK_SECONDS)
                    await (look or self._lock.look)()

        async def do() -> None:
            await work()
            watching.cancel()

        await in_parallel(lambda each: each(), (watch, do), limit=2)

    def _done(self, files: int, size: int) -> None:
        self.files_done += files
        self.bytes_done += size
        self._on_progress(self.files_done, self.bytes_done)

    async def _mend(self) -> None:
        """Send again what an earlier run has overwritten or removed, once it has seen that this one publishes."""
        assert self._site is not None
        while self._lock.in_progress and anyio.current_time() < self._publishing_since + OTHERS_END_WITHIN:
            with anyio.move_on_after(STEP_SECONDS), suppress(BuildFailed):
                await self._lock.settle()
            await anyio.sleep(0.2)  # also when it has ended: what it cut off may still be stored
        for _ in range(_ROUNDS):
            await self._list()
            there = self._there
            if there is None:
                return
            differing = [
                file
                for file in self._site.files
                if (key := self._prefix + file.path) not in there or there[key].etag != self._objects[key].etag
            ]
            if not differing:
                return
            for pages in (False, True):
                await self._send([file for file in differing if file.is_page == pages], live=True, again=True)

    async def _list_what_came_later(self) -> None:
        """List once more where an earlier run may have sent new keys before it saw that this one took over."""
        since = self._lock.took_over_at
        if since is None or self._there is None:
            return
        await anyio.sleep_until(since + _NEW_KEYS_END_WITHIN)
        with suppress(BuildFailed):
            await self._list()

    def _leftovers(self, now: float) -> tuple[list[str], dict[str, float]]:
        """Return what is to be deleted, and what stays for open tabs with the time since when it is no longer part of the site."""
        last = self._before
        before = dict(last.kept) if last else {}
        if self._there is None:  # what is there is not known: the times are carried on
            before.update((key, now) for key in (last.objects if last else ()) if self._is_hashed(key))
            return [], self._bounded({key: since for key, since in before.items() if key not in self._objects})
        expired: list[str] = []
        kept: dict[str, float] = {}
        for key in self._there:
            if key in self._objects or key.endswith("/"):  # with an empty object of such a name consoles show a folder
                continue
            since = min(before.get(key, now), now)
            if self._is_hashed(key) and now - since < self._asset_grace:
                kept[key] = since
            else:
                expired.append(key)
        bounded = self._bounded(kept)
        return expired + [key for key in kept if key not in bounded], bounded

    def _bounded(self, kept: dict[str, float]) -> dict[str, float]:
        """Leave out those that were kept longest where they are too many."""
        if len(kept) <= KEPT_AT_MOST and (len(kept) * (1024 + _BYTES_OF_KEPT) <= _KEPT_MAX_BYTES):
            return kept
        there, size, newest = self._there or {}, 0, dict[str, float]()

        def age(key: str) -> tuple[float, float]:
            return -kept[key], -there[key].modified.timestamp() if key in there else 0.0

        for key in sorted(kept, key=age)[:KEPT_AT_MOST]:
            size += len(key.encode()) + _BYTES_OF_KEPT
            if size > _KEPT_MAX_BYTES:
                break
            newest[key] = kept[key]
        if left := len(kept) - len(newest):
            self._warn(
                f"There are too many assets of earlier builds: removing {left:,} before ASSET_GRACE has passed. Deploy less"
                " often, or lower ASSET_GRACE."
            )
        return newest

    def _is_hashed(self, key: str) -> bool:
        last = self._before
        if last and (key in last.objects or key in last.kept):
            return key in last.kept or last.objects[key].cache_control == IMMUTABLE
        return cache_control(key.removeprefix(self._prefix)) == IMMUTABLE

    async def _delete(self, keys: Sequence[str]) -> None:
        refused: dict[str, str] = {}
        for start in range(0, len(keys), _DELETED_AT_ONCE):
            batch = keys[start : start + _DELETED_AT_ONCE]
            answer = await self._bucket.delete(batch)
            refused |= answer
            self._deleted += len(batch) - len(answer)
        if refused:
            key, code = next(iter(refused.items()))
            self._warn(
                f"Removing {_count(len(refused), 'obsolete ')} failed: S3 answered {code} for {key}."
                " Allow s3:DeleteObject to the credentials or task role of this run."
            )


def _count(files: int, kind: str = "") -> str:
    return f"{files:,} {kind}{'file' if files == 1 else 'files'}"


def _names(files: Sequence[str]) -> str:
    more = f" and {len(files) - 10} more" if files[10:] else ""
    return ", ".join(files[:10]) + more
