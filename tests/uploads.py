"""A site on its way into a bucket, step by step, without a run around it."""

from __future__ import annotations

import time
from collections.abc import Callable

from buildrunner.site.bucket import Bucket
from buildrunner.site.files import Site
from buildrunner.site.manifest import Turn
from buildrunner.site.upload import Upload


def make_upload(
    bucket: Bucket,
    prefix: str,
    *,
    build: str = "a-build",
    slug: str = "",
    run: int = 1,
    asset_grace: float = 3600,
    concurrency: int = 4,
    warnings: list[str] | None = None,
    began: float | None = None,
    state: Bucket | None = None,
) -> Upload:
    """Give an upload whose state lies in the same bucket unless `state` is given; `slug` is the prefix's unless it is given."""
    warn: Callable[[str], None] = (lambda _: None) if warnings is None else warnings.append
    start = time.monotonic() if began is None else began

    async def number() -> int:
        return run

    turn = Turn(
        state or bucket, slug=slug or prefix.rstrip("/"), build=build, age=lambda: time.monotonic() - start, warn=warn
    )
    return Upload(
        bucket,
        turn,
        prefix=prefix,
        concurrency=concurrency,
        asset_grace=asset_grace,
        run_number=number,
        warn=warn,
    )


async def plan(
    site: Site,
    bucket: Bucket,
    prefix: str,
    seen: list[tuple[int, int]] | None = None,
    *,
    concurrency: int = 4,
    warnings: list[str] | None = None,
    on_progress: Callable[[int, int], None] | None = None,
) -> Upload:
    """Give an upload that is planned; `seen` gets what it tells of its progress."""
    upload = make_upload(bucket, prefix, concurrency=concurrency, warnings=warnings)
    told = (lambda *each: seen.append(each)) if seen is not None else (lambda *_: None)
    await upload.plan(site, on_progress=on_progress or told)
    return upload
