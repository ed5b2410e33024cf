"""Whose turn it is: `current.json`, the pointer, below `__manifests/{slug}/` in the state bucket.

It names the run that claimed the site last and how far that has come, and the manifest that is the newest. It is written on
condition that nobody else has written it (If-Match, If-None-Match), so of two runs at once one is the later.
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

_ATTEMPTS = 10  # to claim, each time that another run was quicker
# For each step of the pointer. A state bucket that does not answer must not hold up a site that can be published.
STEP_SECONDS = 5
_MAX_POINTER = 2**20  # bytes; of the words of runs that have ended, too
_NAMED_AT_MOST = 10_000  # keys in the word of a run that was stopped
_JSON = "application/json"
_UNCONDITIONAL = (
    "The S3 server does not support conditional writes (If-Match, If-None-Match). Two builds of this site that publish at the"
    " same time may not be detected as concurrent."
)


@dataclass(frozen=True, slots=True)
class _Pointer:
    """`current.json`."""

    token: str  # of the process that wrote it: two may have the same BUILD_ID
    build: str
    run: int  # orders runs that began at the same time
    state: State
    manifest: str | None  # build id of the newest manifest
    unfinished: tuple[str, ...]  # of `identity`: had begun to publish before, and were not seen to end

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
        """Name the run, and no other that has the same BUILD_ID."""
        return f"{self.build}.{self.token}"

    @property
    def begun(self) -> tuple[str, ...]:
        """Runs that may be writing to the site."""
        writing = self.state in {"publishing", "deleting"}
        return (*self.unfinished, self.identity) if writing else self.unfinished


@dataclass(frozen=True, slots=True)
class _End:
    """The word of a run that has ended, `ended/{identity}.json`."""

    published: bool  # all of its site; its manifest says what
    replaced: tuple[str, ...] | None  # keys that it may have written or removed; None where it does not name them

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
    """One run's hold on a site: claimed at the start, checked before what is live changes, and again before deletions.

    Where the state bucket cannot be used, `warn` is told once and the run goes on alone, as if there were no other.

    Args:
        state: the state bucket.
        slug, build: of this run.
        age: gives the seconds since this run began.
        warn: takes a sentence for people.

    """

    def __init__(
        self, state: Bucket, *, slug: str, build: str, age: Callable[[], float], warn: Callable[[str], None]
    ) -> None:
        self.in_progress: tuple[str, ...] = ()  # runs that may be writing to the site besides this one
        self.newest: str | None = None  # build id of the newest manifest
        self.trusted = False  # nobody has written to the site since then, but to the keys of `replaced`
        self.replaced: frozenset[str] = frozenset()
        self.took_over_at: float | None = None  # monotonic clock: from a run that may be sending new keys
        self._state = state
        self._folder = f"__manifests/{slug}/"
        self._key = f"{self._folder}current.json"
        self._routing_key = f"__routing/{slug}.json"
        self._own = _Pointer(secrets.token_hex(8), build, 0, "building", None, ())
        self._age = age
        self._warn = warn
        self._claimed = False  # the pointer has been written
        self._written = b""  # the pointer as this run wrote it
        self._etag = ""  # of that
        self._conditional = True
        self._alone = False  # the state bucket cannot be used
        self._superseded = False
        self._earlier: tuple[str, ...] = ()  # in progress when this run claimed the site
        self._ends: dict[str, _End] = {}  # by identity

    @property
    def superseded(self) -> bool:
        """Whether a later run is known to have claimed the site."""
        return self._superseded

    async def claim(self, run: int) -> None:
        """Become the run that the pointer names, unless a run is there that began later.

        `run` orders runs that began at the same time. Raises BuildFailed when the state bucket does not do it; may be called again.
        """
        for _ in range(_ATTEMPTS):
            # Who may not list a bucket is refused what is not there, and so cannot tell (GetObject's 403). The condition can.
            refused = False
            try:
                fetched, there = await self._read()
            except AccessRefused:
                fetched, there, refused = None, None, True
            others = there and there.token != self._own.token
            if there and fetched and others and there.run > run and fetched.age <= self._age() + 1:
                self._superseded = True  # it was claimed after this run began, by one that began after it
                return
            self.in_progress = self._earlier = there.begun if there else ()
            self.newest = there.manifest if there else None
            own = replace(self._own, run=run, manifest=self.newest, unfinished=self.in_progress)
            if await self._write(own, fetched):
                self._claimed = True
                self.trusted = not self.in_progress
                if others and there and there.state == "building":
                    self.took_over_at = anyio.current_time()
                # Some servers do not know conditional writes and take no notice of the header: this one has to be refused.
                again = await self._put_if(own, replacing="0") if self._conditional else None
                if again:
                    self._etag = again
                    self._leave_conditions()
                return
            if refused:
                await self._read()
        self._superseded = True  # others came in between all the time

    async def settle(self) -> None:
        """See whether those in progress have ended: each leaves a word when it has."""
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
        """See whether a later run has claimed the site, before anything is sent and while new keys are.

        Raises:
            BuildSuperseded: when one has.

        """
        if self._claimed and not self._superseded:
            with anyio.move_on_after(STEP_SECONDS), suppress(BuildFailed):  # `begin` tells
                _, there = await self._read()
                self._superseded = bool(there and there.token != self._own.token)
        if self._superseded:
            raise BuildSuperseded

    async def begin(self, run: int) -> None:
        """Begin to change what is live: the second look.

        Raises:
            BuildSuperseded: when a later run has claimed the site.

        """
        with anyio.move_on_after(STEP_SECONDS) as scope:
            try:
                if not self._claimed and not self._superseded:
                    await self.claim(run)
                if not self._superseded and not await self._write(replace(self._own, state="publishing")):
                    self._superseded = True
            except BuildFailed as error:
                self._go_on_alone(error.reason)
        if scope.cancelled_caught:
            self._go_on_alone(f"The state bucket did not answer within {STEP_SECONDS} s.")
            with anyio.move_on_after(STEP_SECONDS):  # a last try: a later run may have published meanwhile
                await self.look()
        if self._superseded:
            raise BuildSuperseded

    async def look(self) -> None:
        """See whether a later run has begun to change what is live, too; what it does not send, this one may have spoilt.

        Raises:
            BuildSuperseded: when one has.

        """
        try:
            _, there = await self._read()
        except BuildFailed:
            return  # the next look tells
        if there and there.token != self._own.token and self._is_overtaken_by(there):
            raise BuildSuperseded(
                "A later build of this site took over during the upload, and publishes the whole site."
            )

    async def delete(self) -> bool:
        """Begin to delete, and return whether that is still this run's to do."""
        if not self._alone:
            return await self._advance("deleting")
        try:
            with anyio.move_on_after(STEP_SECONDS):
                _, there = await self._read()
                return there is None or there.token == self._own.token
        except AccessRefused:
            return True  # it never can be asked
        except BuildFailed:
            pass
        return False

    async def end(self, manifest: Manifest) -> int:
        """Write the manifest, which tells others that this run has ended, and name it in the pointer.

        Gives how many objects the manifest has no room for.

        Raises:
            BuildFailed: when it cannot be written.

        """
        body, left_out = await anyio.to_thread.run_sync(manifest.to_json)
        await self._state.put(self._name_of(manifest.build), body, content_type=_JSON)
        self._own = replace(self._own, manifest=manifest.build, unfinished=())
        if not await self._advance("published"):
            await self._say_ended("published")  # who has claimed the site since may wait for it
        return left_out

    async def store_routing(self, document: bytes) -> None:
        """Store how the site answers requests, for what serves it.

        Raises:
            BuildFailed: when it cannot be stored.

        """
        await self._state.put(self._routing_key, document, content_type=_JSON)

    async def stopped(self, replaced: Collection[str]) -> None:
        """Record that this build ended before it had published all of its site, and what it may have replaced.

        Raises:
            BuildFailed: when that cannot be written.

        """
        await self._say_ended("stopped", replaced if len(replaced) <= _NAMED_AT_MOST else None)

    async def _say_ended(self, how: Literal["published", "stopped"], replaced: Collection[str] | None = None) -> None:
        word = {"v": 1, "build": self._own.build, "ended": how, "at": rfc3339(time.time())}
        named = {} if replaced is None else {"replaced": sorted(replaced)}
        body = json.dumps(word | named).encode()
        if len(body) > _MAX_POINTER:
            body = json.dumps(word).encode()
        await self._state.put(f"{self._folder}ended/{self._own.identity}.json", body, content_type=_JSON)

    def _is_overtaken_by(self, there: _Pointer) -> bool:
        """Return whether a later run has begun to publish, by the pointer that it has written."""
        if not self._claimed:
            return False  # this one has no place in the order: it never could claim
        return there.begun[-1:] != (self._own.identity,)

    async def manifest_of(self, build: str | None) -> Manifest | None:
        """Read a run's manifest; None where there is none, or one that is damaged or too large."""
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
        """Write the pointer in the place of what was read before, or, unless that is given, of what this run wrote last."""
        if before == "own":
            before = Fetched(self._written, self._etag, 0.0)
        if before and not before.etag and self._conditional:
            self._leave_conditions()  # a server that says no ETag
        etag = await self._put_if(own, replacing=before.etag if before else None) if self._conditional else None
        if etag is None:
            fetched, there = await self._read()
            unchanged = (fetched.body if fetched else None) == (before.body if before else None)
            if there == own and fetched:
                etag = fetched.etag  # it was written, and the answer got lost
            elif not self._conditional and unchanged:
                await self._state.put(self._key, own.to_json(), content_type=_JSON)
                fetched, there = await self._read()
                etag = fetched.etag if fetched and there == own else None
            elif self._conditional and fetched and unchanged and attempts > 1:
                await anyio.sleep(0.2)  # refused, though nobody has written: another request of ours is under way (409)
                return await self._write(own, fetched, attempts - 1)
            elif fetched is None and before is not None:  # somebody has deleted it
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

    def _go_on_alone(self, reason: str) -> None:
        self._alone = True
        self._warn(f"{reason} This build cannot detect another build of this site that runs at the same time.")
