"""What was published, and whose turn it is: documents below `__manifests/{slug}/` in the state bucket.

`{build}.json` is the manifest of one run: for audits, and for the next run, which sends only what differs from it. `current.json`
is the pointer: it names the run that claimed the site last and how far that has come, and the manifest that is the newest. It is
written on condition that nobody else has written it (If-Match, If-None-Match), so of two runs at once one is the later.
"""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, fields, replace
from datetime import UTC, datetime
from typing import Any, Literal, Self, get_args

import anyio
import anyio.to_thread

from buildrunner.errors import BuildFailed, BuildSuperseded
from buildrunner.site.bucket import Bucket, Fetched
from buildrunner.site.failures import AccessRefused, ConditionsUnsupported

State = Literal["building", "publishing", "deleting", "published"]

MOST_BYTES = 64 * 2**20  # of a manifest: some 250,000 files
_ATTEMPTS = 10  # to claim, each time that another run was quicker
# For each step of the pointer. A state bucket that does not answer must not hold up a site that can be published.
STEP_SECONDS = 5
_JSON = "application/json"
_UNCONDITIONAL = (
    "The S3 server has no conditional writes (If-Match, If-None-Match): two builds of this site that publish at the same moment"
    " are told apart less surely."
)


@dataclass(frozen=True, slots=True)
class PublishedObject:
    """One object of the site."""

    size: int  # bytes
    sha256: str  # of `bucket.sha256_of`
    content_type: str
    cache_control: str
    etag: str  # as the server answered it


@dataclass(frozen=True, slots=True)
class Manifest:
    """All that one run published. Keys are those of S3, with their prefix."""

    build: str
    slug: str
    bucket: str
    prefix: str
    commit: str | None
    published: float  # seconds since 1970
    objects: Mapping[str, PublishedObject]
    kept: Mapping[str, float]  # for open tabs: key → when the first deployment without it was published

    def to_json(self) -> bytes:
        """Give the document, with one object a line."""
        head = {
            "v": 1,
            "build": self.build,
            "slug": self.slug,
            "bucket": self.bucket,
            "prefix": self.prefix,
            **({"commit": self.commit} if self.commit else {}),
            "published": _rfc3339(self.published),
            "files": len(self.objects),
            "bytes": sum(there.size for there in self.objects.values()),
        }
        lines = (
            _encode({"key": key, **{name: getattr(there, name) for name in _FIELDS}})
            for key, there in sorted(self.objects.items())
        )
        kept = (_encode({"key": key, "since": _rfc3339(since)}) for key, since in sorted(self.kept.items()))
        start = _encode(head).removesuffix("}")
        return f'{start},\n"objects": [\n{_JOIN.join(lines)}\n],\n"kept": [\n{_JOIN.join(kept)}\n]}}\n'.encode()

    @classmethod
    def parse(cls, body: bytes) -> Self | None:
        """Read a document; None when anything about it is not as `to_json` writes it."""
        try:
            found = json.loads(body)
            if found["v"] != 1:
                return None
            objects = {
                _text(each["key"]): PublishedObject(
                    size=int(each["size"]),
                    sha256=_text(each["sha256"]),
                    content_type=_text(each["content_type"]),
                    cache_control=_text(each["cache_control"]),
                    etag=_text(each["etag"]),
                )
                for each in found["objects"]
            }
            return cls(
                build=_text(found["build"]),
                slug=_text(found["slug"]),
                bucket=_text(found["bucket"]),
                prefix=_text(found["prefix"]),
                commit=found.get("commit"),
                published=_seconds(found["published"]),
                objects=objects,
                kept={_text(each["key"]): _seconds(each["since"]) for each in found["kept"]},
            )
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            return None


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
                token=_text(found["token"]),
                build=_text(found["build"]),
                run=int(found["run"]),
                state=found["state"],
                manifest=None if manifest is None else _text(manifest),
                unfinished=tuple(_text(each) for each in found["unfinished"]),
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


class Turn:
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
        self.trusted = False  # nobody has written to the site since then
        self._state = state
        self._folder = f"__manifests/{slug}/"
        self._key = f"{self._folder}current.json"
        self._own = _Pointer(secrets.token_hex(8), build, 0, "building", None, ())
        self._age = age
        self._warn = warn
        self._etag: str | None = None  # of the pointer as this run wrote it; None before the claim
        self._conditional = True
        self._alone = False  # the state bucket cannot be used
        self._superseded = False

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
            self.in_progress = there.begun if there else ()
            self.newest = there.manifest if there else None
            own = replace(self._own, run=run, manifest=self.newest, unfinished=self.in_progress)
            if await self._write(own, replacing=fetched.etag if fetched else None):
                self.trusted = not self.in_progress
                # Some servers do not know conditional writes and take no notice of the header: this one has to be refused.
                again = await self._put_if(own, replacing='"0"') if self._conditional else None
                if again:
                    self._etag, self._conditional = again, False
                    self._warn(_UNCONDITIONAL)
                return
            if refused:
                await self._read()
        self._superseded = True  # others came in between all the time

    async def settle(self) -> None:
        """See whether those in progress have ended: each leaves a word when it has."""
        left: list[str] = []
        for identity in self.in_progress:
            build = identity.partition(".")[0]
            ended = None
            with suppress(AccessRefused):  # see `claim`
                ended = await self._state.get(f"{self._folder}ended/{identity}.json", most=MOST_BYTES)
            if ended is None:
                left.append(identity)
            elif self._etag and identity == self.in_progress[-1] and not left and b'"published"' in ended.body:
                self.newest, self.trusted = build, True
        self.in_progress = tuple(left)

    async def begin(self, run: int) -> None:
        """Begin to change what is live: the second look.

        Raises:
            BuildSuperseded: when a later run has claimed the site.

        """
        with anyio.move_on_after(STEP_SECONDS) as scope:
            try:
                if self._etag is None and not self._superseded:
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
                "A later build of this site took over while this one was being published; that one sends the whole site."
            )

    async def delete(self) -> bool:
        """Begin to delete, and tell whether that is still this run's to do."""
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

    async def end(self, manifest: Manifest) -> None:
        """Write the manifest, which tells others that this run has ended, and name it in the pointer.

        Raises:
            BuildFailed: when it cannot be written.

        """
        body = await anyio.to_thread.run_sync(manifest.to_json)
        await self._state.put(self._name_of(manifest.build), body, content_type=_JSON)
        self._own = replace(self._own, manifest=manifest.build, unfinished=())
        if not await self._advance("published"):
            await self._say_ended("published")  # who has claimed the site since may wait for it

    async def stopped(self) -> None:
        """Tell others that this run has ended without having published all of its site.

        Raises:
            BuildFailed: when that cannot be written.

        """
        await self._say_ended("stopped")

    async def _say_ended(self, how: Literal["published", "stopped"]) -> None:
        body = json.dumps({"v": 1, "build": self._own.build, "ended": how, "at": _rfc3339(time.time())}).encode()
        await self._state.put(f"{self._folder}ended/{self._own.identity}.json", body, content_type=_JSON)

    def _is_overtaken_by(self, there: _Pointer) -> bool:
        """Tell whether a later run has begun to publish, by the pointer that it has written."""
        if self._etag is None:
            return False  # this one has no place in the order: it never could claim
        return there.begun[-1:] != (self._own.identity,)

    async def manifest_of(self, build: str | None) -> Manifest | None:
        """Read a run's manifest; None where there is none, or one that is damaged."""
        if build is None:
            return None
        fetched = None
        with suppress(AccessRefused):  # see `claim`
            fetched = await self._state.get(self._name_of(build), most=MOST_BYTES)
        return await anyio.to_thread.run_sync(Manifest.parse, fetched.body) if fetched else None

    def _name_of(self, build: str) -> str:
        return f"{self._folder}{build}{'.manifest' if build == 'current' else ''}.json"

    async def _advance(self, state: State) -> bool:
        if self._alone or self._superseded:
            return False
        own = replace(self._own, state=state)
        self._superseded = not await self._write(own)
        return not self._superseded

    async def _read(self) -> tuple[Fetched | None, _Pointer | None]:
        fetched = await self._state.get(self._key, most=MOST_BYTES)
        return fetched, _Pointer.parse(fetched.body) if fetched else None

    async def _write(self, own: _Pointer, replacing: str | None = "", attempts: int = 3) -> bool:
        """Write the pointer in the place of `replacing`: None is nothing, and unless it is given, what this run wrote last."""
        replacing = self._etag if replacing == "" else replacing
        etag = await self._put_if(own, replacing=replacing) if self._conditional else None
        if etag is None:
            fetched, there = await self._read()
            if there == own and fetched:
                etag = fetched.etag  # it was written, and the answer got lost
            elif not self._conditional and (fetched.etag if fetched else None) == replacing:
                await self._state.put(self._key, own.to_json(), content_type=_JSON)
                fetched, there = await self._read()
                etag = fetched.etag if fetched and there == own else None
            elif self._conditional and fetched and fetched.etag == replacing and attempts > 1:
                await anyio.sleep(0.2)  # refused, though nobody has written: another request of ours is under way (409)
                return await self._write(own, replacing, attempts - 1)
            elif fetched is None and replacing is not None:  # somebody has deleted it
                return await self._write(own, replacing=None)
        if etag is None:
            return False
        self._own, self._etag = own, etag
        return True

    async def _put_if(self, own: _Pointer, *, replacing: str | None) -> str | None:
        try:
            return await self._state.put_if(self._key, own.to_json(), content_type=_JSON, replacing=replacing)
        except ConditionsUnsupported:
            self._conditional = False
            self._warn(_UNCONDITIONAL)
            return None

    def _go_on_alone(self, reason: str) -> None:
        self._alone = True
        self._warn(f"{reason} So this build cannot tell whether another of this site runs at the same time.")


_JOIN = ",\n"
_encode = json.JSONEncoder(ensure_ascii=False).encode  # json.dumps would make one for each object
_FIELDS = tuple(field.name for field in fields(PublishedObject))


def _text(found: Any) -> str:
    if not isinstance(found, str):
        raise TypeError
    return found


def _rfc3339(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _seconds(text: str) -> float:
    return datetime.fromisoformat(_text(text)).timestamp()
