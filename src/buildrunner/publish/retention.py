"""Decide which objects of earlier builds to delete, and which to keep for browser tabs that are still open."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

from buildrunner.publish.headers import IMMUTABLE, cache_control
from buildrunner.publish.manifest import MAX_BYTES, Manifest
from buildrunner.s3.bucket import Listed

# Assets of earlier builds. With more of them, or longer names, the manifest would be too large to read back, and listing the
# site would take minutes.
MAX_KEPT = 250_000
_MAX_KEPT_BYTES = MAX_BYTES // 2
_ENTRY_BYTES = 64  # of an entry in the manifest, without its key
_MAX_KEY_BYTES = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html


@dataclass(frozen=True, slots=True)
class Leftovers:
    """Objects below the prefix of a site that are not part of it."""

    expired: list[str]  # keys to delete
    kept: dict[str, float]  # key → since when it is not part of the site (Unix time, seconds)
    early: int  # assets that are not kept although ASSET_GRACE has not passed, because there are too many


def find_leftovers(
    listed: Mapping[str, Listed] | None,
    last: Manifest | None,
    published: Collection[str],
    *,
    prefix: str,
    asset_grace: float,
    now: float,
) -> Leftovers:
    """Return what to delete and what to keep after a deployment.

    Args:
        listed: objects below the prefix; None if listing is refused. Then nothing is deleted, and the manifest keeps the times.
        last: newest manifest before this build.
        published: keys of the site.
        prefix: prefix of its keys.
        asset_grace: seconds that a hashed asset stays after the first deployment without it.
        now: Unix time, seconds.

    """
    since = dict(last.kept) if last else {}

    def is_hashed(key: str) -> bool:
        if last and (key in last.objects or key in last.kept):
            return key in last.kept or last.objects[key].cache_control == IMMUTABLE
        return cache_control(key.removeprefix(prefix)) == IMMUTABLE

    if listed is None:
        since.update((key, now) for key in (last.objects if last else ()) if is_hashed(key))
        unlisted = {key: time for key, time in since.items() if key not in published}
        kept = _newest(unlisted, {})
        return Leftovers([], kept, len(unlisted) - len(kept))
    expired: list[str] = []
    recent: dict[str, float] = {}
    for key in listed:
        if key in published or key.endswith("/"):  # consoles create an empty object with such a name for a folder
            continue
        time = min(since.get(key, now), now)
        if is_hashed(key) and now - time < asset_grace:
            recent[key] = time
        else:
            expired.append(key)
    kept = _newest(recent, listed)
    return Leftovers(expired + [key for key in recent if key not in kept], kept, len(recent) - len(kept))


def _newest(kept: dict[str, float], listed: Mapping[str, Listed]) -> dict[str, float]:
    """Return as many entries as fit, those that left the site last first."""
    if len(kept) <= MAX_KEPT and len(kept) * (_MAX_KEY_BYTES + _ENTRY_BYTES) <= _MAX_KEPT_BYTES:
        return kept

    def age(key: str) -> tuple[float, float]:
        return -kept[key], -listed[key].modified.timestamp() if key in listed else 0.0

    size, newest = 0, dict[str, float]()
    for key in sorted(kept, key=age)[:MAX_KEPT]:
        size += len(key.encode()) + _ENTRY_BYTES
        if size > _MAX_KEPT_BYTES:
            break
        newest[key] = kept[key]
    return newest
