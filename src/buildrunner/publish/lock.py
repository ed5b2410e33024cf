"""Order concurrent builds of a site by `current.json`, the pointer, below `__manifests/{slug}/` in the state bucket.

The pointer names the build that claimed the site last, its progress, and the newest manifest. It is written conditionally
(If-Match, If-None-Match), so that one of two concurrent builds is the later one.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Collection
from contextlib import aclosing, suppress
from dataclasses import asdict, dataclass, replace
from typing import Literal, Self, get_args

import anyio
import anyio.to_thread

from buildrunner.errors import BuildFailed, BuildSuperseded
from buildrunner.publish.manifest import MAX_BYTES, Manifest, ManifestReader, rfc3339, text_of
from buildrunner.s3.bucket import Bucket, Fetched
from buildrunner.s3.errors import AccessRefused, ConditionsUnsupported

State = Literal["building", "publishing", "deleting", "published"]

_ATTEMPTS = 10  # to claim the site while other builds write the pointer
# For each access to the pointer. A state bucket that doesn't respond must not block a site that can be published.
STEP_SECONDS = 5
_MAX_POINTER = 2**20  # bytes; also the limit for the records of ended builds
_NAMED_AT_MOST = 10_000  # keys in the record of a stopped build
_JSON = "application/json"
_UNCONDITIONAL = (
    "The S3 server does not support conditional writes (If-Match, If-None-Match). Two builds of this site that publish at the"
    " same time may not be detected as concurrent."
)


@dataclass(frozen=True, slots=True)
class _Pointer:
    """`current.json`."""

    token: str  # of the process that wrote it, because two builds may have the same BUILD_ID
    build: str
    run: int  # orders builds that started at the same time
    state: State
    manifest: str | None  # build id of the newest manifest
    unfinished: tuple[str, ...]  # `identity` of earlier builds that began to publish and did not record their end

    def to_json(self) -> bytes:
        return json.dumps({"v": 1, **asdict(self)}).encode()

    @classmethod
    def parse(cls, body: bytes) -> Self | None:
        try:
            found = json.loads(body)
            manifest = found["manifest"]
            if found["v"] != 1 or found["state"] not in get_args(State):
                return None
            return cls(
                token=text_of(found["token"]),
                build=text_of(found["build"]),
                run=int(found["run"]),
                state=found["state"],
                manifest=None if manifest is None else text_of(manifest),
                unfinished=tuple(text_of(each) for each in found["unfinished"]),
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None

    @property
    def identity(self) -> str:
        """Identifier of the build, unique even among builds with the same BUILD_ID."""
        return f"{self.build}.{self.token}"

    @property
    def begun(self) -> tuple[str, ...]:
        """Builds that may be writing to the site."""
        writing = self.state in {"publishing", "deleting"}
        return (*self.unfinished, self.identity) if writing else self.unfinished


@dataclass(frozen=True, slots=True)
class _End:
    """The record of a build that has ended, `ended/{identity}.json`."""

    published: bool  # the whole site; its manifest lists the objects
    replaced: tuple[str, ...] | None  # keys that it may have written or removed; None if it lists none

    @classmethod
    def parse(cls, body: bytes) -> Self | None:
        try:
            found = json.loads(body)
            replaced = found.get("replaced")
            named = None if replaced is None else tuple(text_of(each) for each in replaced)
            return cls(found["ended"] == "published", named)
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


class DeploymentLock:
    """The claim of one build on a site: made at the start, checked before the live site changes and before deletions.

    If the state bucket can't be used, the lock warns once, and the build publishes without detecting other builds.

    Args:
        state: state bucket.
        slug: name of the site.
        build: id of the build.
        age: function that returns the seconds since the build started.
        warn: function that logs a warning.

    """

    def __init__(
        self, state: Bucket, *, slug: str, build: str, age: Callable[[], float], warn: Callable[[str], None]
    ) -> None:
        self.in_progress: tuple[str, ...] = ()  # other builds that may be writing to the site
        self.newest: str | None = None  # build id of the newest manifest
        self.trusted = False  # whether the newest manifest is true for all keys except `replaced`
        self.replaced: frozenset[str] = frozenset()
        self.took_over_at: float | None = None  # monotonic clock; set if the superseded build may be sending new keys
        self._state = state
        self._folder = f"__manifests/{slug}/"
        self._key = f"{self._folder}current.json"
        self._routing_key = f"__routing/{slug}.json"
        self._own = _Pointer(secrets.token_hex(8), build, 0, "building", None, ())
        self._age = age
        self._warn = warn
        self._claimed = False  # whether this build has written the pointer
        self._written = b""  # the pointer as this build wrote it
        self._etag = ""  # of `_written`
        self._conditional = True
        self._alone = False  # whether the state bucket is unusable
        self._superseded = False
        self._earlier: tuple[str, ...] = ()  # in progress when this build claimed the site
        self._ends: dict[str, _End] = {}  # by identity

    @property
    def superseded(self) -> bool:
        """Whether a later build is known to have claimed the site."""
        return self._superseded

    async def claim(self, run: int) -> None:
        """Write this build to the pointer, unless a later build has claimed the site; may be called again.

        Args:
            run: number that orders builds that started at the same time.

        Raises:
            BuildFailed: the state bucket cannot be used.

        """
        for _ in range(_ATTEMPTS):
            # Without permission to list, GetObject refuses missing objects with 403. The conditional write still detects them.
            refused = False
            try:
                fetched, there = await self._read()
            except AccessRefused:
                fetched, there, refused = None, None, True
            others = there and there.token != self._own.token
            if there and fetched and others and there.run > run and fetched.age <= self._age() + 1:
                self._superseded = True  # a build that started after this one claimed it
                return
            self.in_progress = self._earlier = there.begun if there else ()
            self.newest = there.manifest if there else None
            own = replace(self._own, run=run, manifest=self.newest, unfinished=self.in_progress)
            if await self._write(own, fetched):
                self._claimed = True
                self.trusted = not self.in_progress
                if others and there and there.state == "building":
                    self.took_over_at = anyio.current_time()
                # Some servers ignore the headers of conditional writes. This write must be refused by a server that supports them.
                again = await self._put_if(own, replacing="0") if self._conditional else None
                if again:
                    self._etag = again
                    self._leave_conditions()
                return
            if refused:
                await self._read()
        self._superseded = True  # other builds kept writing the pointer

    async def settle(self) -> None:
        """Check which builds in progress have recorded their end."""
        for identity in self.in_progress:
            fetched = None
            with suppress(AccessRefused):  # see `claim`
                fetched = await self._state.get(f"{self._folder}ended/{identity}.json", most=_MAX_POINTER)
            if fetched and (end := _End.parse(fetched.body)):
                self._ends[identity] = end
        self.in_progress = tuple(identity for identity in self._earlier if identity not in self._ends)
        if self.in_progress or not self._claimed:
            return
        known, replaced = True, set[str]()
        for identity in self._earlier:
            end = self._ends[identity]
            if end.published:
                self.newest, known, replaced = identity.partition(".")[0], True, set()
            elif end.replaced is None:
                known = False
            else:
                replaced.update(end.replaced)
        self.trusted, self.replaced = known, frozenset(replaced)

    async def check(self) -> None:
        """Check for a later build that has claimed the site; call it before and while new keys are sent.

        Raises:
            BuildSuperseded: there is one.

        """
        if self._claimed and not self._superseded:
            with anyio.move_on_after(STEP_SECONDS), suppress(BuildFailed):  # `begin` reports it
                _, there = await self._read()
                self._superseded = bool(there and there.token != self._own.token)
        if self._superseded:
            raise BuildSuperseded

    async def begin(self, run: int) -> None:
        """Record that the live site is about to change, after checking for a later build.

        Raises:
            BuildSuperseded: a later build has claimed the site.

        """
        with anyio.move_on_after(STEP_SECONDS) as scope:
            try:
                if not self._claimed and not self._superseded:
                    await self.claim(run)
                if not self._superseded and not await self._write(replace(self._own, state="publishing")):
                    self._superseded = True
            except BuildFailed as error:
                self._continue_alone(error.reason)
        if scope.cancelled_caught:
            self._continue_alone(f"The state bucket did not answer within {STEP_SECONDS} s.")
            with anyio.move_on_after(STEP_SECONDS):  # last check: a later build may have published meanwhile
                await self.look()
        if self._superseded:
            raise BuildSuperseded

    async def look(self) -> None:
        """Check for a later build that has begun to change the live site. It restores everything this build may have overwritten.

        Raises:
            BuildSuperseded: there is one.

        """
        try:
            _, there = await self._read()
        except BuildFailed:
            return  # the next check reports it
        if there and there.token != self._own.token and self._is_overtaken_by(there):
            raise BuildSuperseded(
                "A later build of this site took over during the upload, and publishes the whole site."
            )

    async def delete(self) -> bool:
        """Record that deletions begin; return False if a later build has claimed the site."""
        if not self._alone:
            return await self._advance("deleting")
        try:
            with anyio.move_on_after(STEP_SECONDS):
                _, there = await self._read()
                return there is None or there.token == self._own.token
        except AccessRefused:
            return True  # without permission to read, the check is impossible
        except BuildFailed:
            pass
        return False

    async def end(self, manifest: Manifest) -> int:
        """Write the manifest, which also records the end of the build, and name it in the pointer.

        Returns:
            Number of objects that did not fit into the manifest.

        Raises:
            BuildFailed: the manifest cannot be written.

        """
        body, left_out = await anyio.to_thread.run_sync(manifest.to_json)
        await self._state.put(self._name_of(manifest.build), body, content_type=_JSON)
        self._own = replace(self._own, manifest=manifest.build, unfinished=())
        if not await self._advance("published"):
            await self._record_end("published")  # the build that claimed the site since may be waiting for it
        return left_out

    async def store_routing(self, document: bytes) -> None:
        """Store the rules of the site for the server of sites.

        Raises:
            BuildFailed: they cannot be stored.

        """
        await self._state.put(self._routing_key, document, content_type=_JSON)

    async def stopped(self, replaced: Collection[str]) -> None:
        """Record that the build ended before the whole site was published, and which objects it may have replaced.

        Raises:
            BuildFailed: the record cannot be written.

        """
        await self._record_end("stopped", replaced if len(replaced) <= _NAMED_AT_MOST else None)

    async def _record_end(self, how: Literal["published", "stopped"], replaced: Collection[str] | None = None) -> None:
        word = {"v": 1, "build": self._own.build, "ended": how, "at": rfc3339(time.time())}
        named = {} if replaced is None else {"replaced": sorted(replaced)}
        body = json.dumps(word | named).encode()
        if len(body) > _MAX_POINTER:
            body = json.dumps(word).encode()
        await self._state.put(f"{self._folder}ended/{self._own.identity}.json", body, content_type=_JSON)

    def _is_overtaken_by(self, there: _Pointer) -> bool:
        """Return whether a later build has begun to publish, according to its pointer."""
        if not self._claimed:
            return False  # without a claim, this build has no place in the order
        return there.begun[-1:] != (self._own.identity,)

    async def manifest_of(self, build: str | None) -> Manifest | None:
        """Read the manifest of a build; None if it is missing, damaged or too large."""
        if build is None:
            return None
        reader, size = ManifestReader(), 0
        with suppress(AccessRefused):  # see `claim`
            async with aclosing(self._state.lines(self._name_of(build))) as batches:
                async for lines in batches:
                    reader.feed(lines)
                    size += sum(len(line) + 1 for line in lines)
                    if size > MAX_BYTES:
                        return None
        return reader.end()

    def _name_of(self, build: str) -> str:
        return f"{self._folder}{build}{'.manifest' if build == 'current' else ''}.json"

    async def _advance(self, state: State) -> bool:
        if self._alone or self._superseded:
            return False
        own = replace(self._own, state=state)
        self._superseded = not await self._write(own)
        return not self._superseded

    async def _read(self) -> tuple[Fetched | None, _Pointer | None]:
        fetched = await self._state.get(self._key, most=_MAX_POINTER)
        return fetched, _Pointer.parse(fetched.body) if fetched else None

    async def _write(self, own: _Pointer, before: Fetched | Literal["own"] | None = "own", attempts: int = 3) -> bool:
        """Replace the pointer that was read before; by default, the one that this build wrote last."""
        if before == "own":
            before = Fetched(self._written, self._etag, 0.0)
        if before and not before.etag and self._conditional:
            self._leave_conditions()  # the server returned no ETag
        etag = await self._put_if(own, replacing=before.etag if before else None) if self._conditional else None
        if etag is None:
            fetched, there = await self._read()
            unchanged = (fetched.body if fetched else None) == (before.body if before else None)
            if there == own and fetched:
                etag = fetched.etag  # it was written, and the response was lost
            elif not self._conditional and unchanged:
                await self._state.put(self._key, own.to_json(), content_type=_JSON)
                fetched, there = await self._read()
                etag = fetched.etag if fetched and there == own else None
            elif self._conditional and fetched and unchanged and attempts > 1:
                await anyio.sleep(0.2)  # refused although unchanged: another request of this build is in progress (409)
                return await self._write(own, fetched, attempts - 1)
            elif fetched is None and before is not None:  # it was deleted
                return await self._write(own, None)
        if etag is None:
            return False
        self._own, self._written, self._etag = own, own.to_json(), etag
        return True

    async def _put_if(self, own: _Pointer, *, replacing: str | None) -> str | None:
        try:
            return await self._state.put_if(self._key, own.to_json(), content_type=_JSON, replacing=replacing)
        except ConditionsUnsupported:
            self._leave_conditions()
            return None

    def _leave_conditions(self) -> None:
        self._conditional = False
        self._warn(_UNCONDITIONAL)

    def _continue_alone(self, reason: str) -> None:
        self._alone = True
        self._warn(f"{reason} This build cannot detect another build of this site that runs at the same time.")
