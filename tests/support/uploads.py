"""Upload a site step by step, without a build around it."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

from buildrunner.publish.files import Site, collect
from buildrunner.publish.lock import DeploymentLock
from buildrunner.publish.uploader import Upload
from buildrunner.s3.bucket import Bucket


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
    """Return an upload; its state is in the same bucket unless `state` is set, and its slug is the prefix by default."""
    warn: Callable[[str], None] = (lambda _: None) if warnings is None else warnings.append
    start = time.monotonic() if began is None else began

    async def number() -> int:
        return run

    turn = DeploymentLock(
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
    """Return a planned upload; `seen` receives its progress."""
    upload = make_upload(bucket, prefix, concurrency=concurrency, warnings=warnings)
    told = (lambda *each: seen.append(each)) if seen is not None else (lambda *_: None)
    await upload.plan(site, on_progress=on_progress or told)
    return upload


def site_of(folder: Path, files: dict[str, str]) -> Site:
    """Create an output directory with these files, and return its site."""
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    return collect(folder, folder)


async def publish(upload: Upload, site: Site, build: str, prefix: str) -> str | None:
    """Run all steps of an upload, and return its final message."""
    await upload.survey()
    await upload.plan(site, on_progress=lambda _files, _bytes: None)
    await upload.send_new()
    await upload.begin()
    await upload.publish()
    return await upload.tidy_up(build=build, slug=prefix.rstrip("/"), commit="c" * 40)


async def bodies_of(bucket: Bucket, prefix: str) -> dict[str, str]:
    """Return the stored bodies by path."""
    found = {}
    for key in await bucket.list_objects(prefix):
        fetched = await bucket.get(key, most=10**8)
        assert fetched
        found[key.removeprefix(prefix)] = fetched.body.decode()
    return found
