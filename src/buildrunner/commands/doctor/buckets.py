"""Check the buckets: each permission that a build needs, tried with a key of its own, and what the public can read."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from email.utils import parsedate_to_datetime
from functools import partial

import anyio

from buildrunner import s3
from buildrunner.commands.doctor.check import CHECK_SECONDS, Check, Checks, attempt
from buildrunner.config.kinds import RESERVED_PREFIXES
from buildrunner.errors import BuildEnded
from buildrunner.s3.permissions import PermissionProbe

# Requests of AWS are refused from 15 minutes on: https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_SKEW_SECONDS = 60.0
_CLEANUP_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class BucketSettings:
    """Which buckets builds use, and for which site the permissions are tried."""

    site_bucket: str
    state_bucket: str
    site_prefix: str  # S3_KEY_PREFIX with the slug
    slug: str
    cache_scope: str | None  # None: the dependency cache is off
    region: str | None
    endpoint_url: str | None


@dataclass(frozen=True, slots=True)
class _Area:
    """The keys that a build uses for one thing, and what it does with them."""

    name: str
    bucket: str
    prefix: str  # of keys, as policies name it
    needs: tuple[str, ...]  # permissions
    consequence: str  # without them


@dataclass(frozen=True, slots=True)
class _Permission:
    """One permission, in the words of a check."""

    done: str  # a sentence about the address of the prefix
    attempt: Callable[[PermissionProbe, str, str], Awaitable[object]]  # probe, key and prefix


_PERMISSIONS = {
    "put": _Permission("Objects can be written to {}.", lambda probe, key, _: probe.put(key)),
    "parts": _Permission("Large objects can be written in parts to {}.", lambda probe, key, _: probe.put_in_parts(key)),
    "get": _Permission("Objects can be read from {}.", lambda probe, key, _: probe.get(key)),
    "list": _Permission("Objects can be listed in {}.", lambda probe, _, prefix: probe.list_keys(prefix)),
    "delete": _Permission("Objects can be removed from {}.", lambda probe, key, _: probe.delete(key)),
}


class BucketChecks:
    """Checks the buckets of builds.

    Args:
        settings: which they are.
        token: a random text, a part of every key.
        clock: takes what a server says about the time, in the format of HTTP.

    """

    def __init__(self, settings: BucketSettings, token: str, clock: Callable[[str], None]) -> None:
        self._settings = settings
        self._token = token
        self._clock = clock
        self._written: list[tuple[PermissionProbe, str]] = []  # what is still to be removed
        self._tried: list[str] = []  # prefixes where the public was tried
        self._public: list[str] = []  # addresses that anybody can read

    async def run(self) -> Checks:
        """Yield the checks."""
        settings = self._settings
        try:
            async with s3.open_s3(region=settings.region, endpoint_url=settings.endpoint_url, concurrency=8) as client:
                probes = {name: client.probe(name) for name in {settings.site_bucket, settings.state_bucket}}
                try:
                    for check in [await self._reach(probes[name], prefix) for name, prefix in self._buckets().items()]:
                        yield check
                        if check.status == "failed":
                            return
                    for area in self._areas():
                        async for check in self._check_area(probes[area.bucket], area):
                            yield check
                    async for check in self._check_conditions(client):
                        yield check
                    yield self._describe_public()
                finally:
                    await self._clean_up()
        except BuildEnded as error:
            yield Check("s3", "failed", error.reason, error.hint or "")

    def _buckets(self) -> dict[str, str]:
        settings = self._settings
        return {settings.state_bucket: f"__manifests/{settings.slug}/", settings.site_bucket: settings.site_prefix}

    def _areas(self) -> Sequence[_Area]:
        settings = self._settings
        state = partial(_Area, bucket=settings.state_bucket)
        areas = [
            _Area(
                "site",
                settings.site_bucket,
                settings.site_prefix,
                ("put", "parts", "list", "delete"),
                "Builds cannot publish, or publish without removing obsolete files.",
            ),
            state(
                "log", prefix=f"__logs/{settings.slug}/", needs=("put", "parts"), consequence="Logs are not archived."
            ),
            state(
                "manifest",
                prefix=f"__manifests/{settings.slug}/",
                needs=("put", "get"),
                consequence="Builds that overlap cannot be ordered.",
            ),
            state("routing", prefix="__routing/", needs=("put",), consequence="Redirects and headers are not applied."),
        ]
        if settings.cache_scope:
            areas.append(
                state(
                    "cache",
                    prefix=f"__cache/{settings.cache_scope}/",
                    needs=("put", "parts", "get", "list", "delete"),
                    consequence="Each build installs from scratch.",
                )
            )
        return areas

    async def _reach(self, probe: PermissionProbe, prefix: str) -> Check:
        """Check that a bucket exists and the credentials are known, whatever they may do."""

        async def reach() -> str:
            with suppress(s3.AccessRefused):  # each permission has a check of its own
                await probe.get(f"{prefix}{self._token}")
            with suppress(OSError):
                self._clock((await probe.ask_as_public(f"{prefix}{self._token}")).date)
            return f"The bucket {probe.name} exists, and the credentials are accepted."

        return await attempt(f"s3 {probe.name}", reach)

    async def _check_area(self, probe: PermissionProbe, area: _Area) -> AsyncIterator[Check]:
        key = f"{area.prefix}{self._token}.txt"
        removable = await self._is_removable(probe, key)
        for need in area.needs:
            permission = _PERMISSIONS[need]

            async def check(need: str = need, permission: _Permission = permission) -> str:
                if need == "put" and not removable:
                    if await probe.may_put(key):
                        self._written.append((probe, key))
                else:
                    if need == "put":
                        self._written.append((probe, key))
                    await permission.attempt(probe, key, area.prefix)
                    if need == "put" and area.bucket == self._settings.state_bucket and area.name != "site":
                        await self._ask_as_public(probe, area, key)
                return permission.done.format(f"s3://{area.bucket}/{area.prefix}")

            yield await attempt(f"s3 {area.name} {need}", check, consequence=area.consequence)
        await self._clean_up()

    async def _is_removable(self, probe: PermissionProbe, key: str) -> bool:
        """Return whether what is written to a key can be removed again."""
        try:
            with anyio.move_on_after(CHECK_SECONDS):
                await probe.delete(key)
                return True
        except BuildEnded:
            return False
        return False

    async def _ask_as_public(self, probe: PermissionProbe, area: _Area, key: str) -> None:
        top = area.prefix.partition("/")[0]
        with suppress(OSError):
            answer = await probe.ask_as_public(key)
            self._tried.append(top)
            if answer.is_readable:
                self._public.append(f"s3://{probe.name}/{top}/")
            elif (await probe.list_as_public(area.prefix)).is_readable:
                self._public.append(f"the list of s3://{probe.name}/{top}/")

    def _describe_public(self) -> Check:
        name, bucket = "s3 public", self._settings.state_bucket
        if self._public:
            return Check(
                name,
                "failed",
                f"Anyone can read {', '.join(self._public)}: logs and caches may hold what is not for everyone.",
                "Block public access to the bucket, or set STATE_BUCKET_NAME to a private bucket.",
            )
        if not self._tried:
            return Check(
                name,
                "warning",
                f"Whether the public can read the reserved prefixes of {bucket} was not tried: these credentials cannot"
                " remove an object there.",
                "Run doctor with credentials that can, or block public access to the bucket.",
            )
        rest = [prefix for prefix in RESERVED_PREFIXES if prefix not in self._tried]
        untried = f" (not tried: {', '.join(rest)}, where these credentials cannot remove objects)" if rest else ""
        return Check(name, "ok", f"The public cannot read {', '.join(self._tried)} in {bucket}{untried}.")

    async def _check_conditions(self, client: s3.S3) -> AsyncIterator[Check]:
        """Check whether the server writes an object only if there is none yet, which decides between two builds at once."""
        settings = self._settings
        probe = client.probe(settings.site_bucket)
        key = f"{settings.site_prefix}{self._token}-once.txt"
        bucket = client.bucket(settings.site_bucket)
        if not await self._is_removable(probe, key):
            return

        async def check() -> str:
            self._written.append((probe, key))
            put = partial(bucket.put_if, key, b"", content_type="text/plain", replacing=None)
            try:
                first, second = await put(), await put()
            except s3.ConditionsUnsupported:
                first = second = "unsupported"
            if second or not first:
                raise BuildEnded(
                    "The server does not support conditional writes, so of two builds that end at once either may win.",
                    "Update the server, or do not run two builds of one site at once.",
                )
            return "Conditional writes decide between builds that overlap."

        found = await attempt("s3 conditions", check)
        yield Check(found.name, "warning" if found.status == "failed" else "ok", found.message, found.hint)

    async def _clean_up(self) -> None:
        with anyio.move_on_after(_CLEANUP_SECONDS, shield=True):
            while self._written:
                probe, key = self._written[-1]
                with suppress(BuildEnded):
                    await probe.delete(key)
                self._written.pop()


def describe_clocks(dates: Sequence[tuple[str, float, str]]) -> Check | None:
    """Compare this machine's clock with those of servers.

    Args:
        dates: names of servers, the seconds since the epoch here when they answered, and their time as HTTP writes it.

    Returns:
        None where no server said the time: the checks of the servers say why.

    """
    differences = []
    for server, here, date in dates:
        with suppress(ValueError, TypeError):
            differences.append((here - parsedate_to_datetime(date).timestamp(), server))
    if not differences:
        return None
    seconds, server = max(differences, key=lambda difference: abs(difference[0]))
    if abs(seconds) < _SKEW_SECONDS:
        return Check(
            "clock", "ok", f"The clock agrees with that of {' and '.join(sorted({name for _, name in differences}))}."
        )
    direction = "ahead of" if seconds > 0 else "behind"
    return Check(
        "clock",
        "warning" if abs(seconds) < 900 else "failed",
        f"The clock of this machine is {abs(seconds):.0f} s {direction} that of {server}. S3 refuses requests from 900 s on.",
        "Set the clock, for example with NTP.",
    )
