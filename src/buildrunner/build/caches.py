"""Open and save what is cached between builds: dependencies and tools."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from buildrunner import cache, s3
from buildrunner.build.run import Run
from buildrunner.build.workspace import Workspace


@dataclass(frozen=True, slots=True)
class Caches:
    """The caches of a build."""

    dependencies: cache.DependencyCache
    tools: cache.ToolCache


def open_caches(run: Run, workspace: Workspace) -> Caches | None:
    """Return the caches, which start to read S3 in parallel with the clone; None when caching is off."""
    settings = run.settings
    if settings.dependency_cache == "off":
        return None

    on_disk = settings.dependency_cache != "s3"

    async def bucket() -> s3.Bucket | cache.FolderBucket:
        if on_disk:
            return cache.FolderBucket(Path(settings.dependency_cache))
        return (await run.storage.client()).bucket(settings.state_bucket)

    store = cache.CacheStore(settings.cache_scope, bucket=bucket, log=run.log)
    dependencies = cache.DependencyCache(
        store,
        own=settings.cache_scope == settings.slug,
        sandbox=workspace.sandbox,
        private=workspace.root,
        work=workspace.work,
        log=run.log,
        worth_seconds=cache.WORTH_SECONDS_ON_DISK if on_disk else cache.WORTH_SECONDS,
    )
    run.background.start(dependencies.prefetch)
    return Caches(dependencies, cache.ToolCache(store, run.log))


async def save_caches(run: Run, caches: Caches | None) -> None:
    """Store what the next build can use; the site is already published."""
    if caches:
        with run.optional(caches.dependencies.SAVE_SECONDS) as scope:
            await caches.dependencies.save()
            await caches.tools.save()
        if scope.cancelled_caught:
            run.warn("Saving the cache timed out.")
