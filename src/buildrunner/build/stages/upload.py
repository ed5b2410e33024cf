"""Publish the site."""

from __future__ import annotations

import math

import anyio

from buildrunner.build.run import Run
from buildrunner.build.stages.site import PreparedSite

PROGRESS_SECONDS = 0.5


async def publish_site(run: Run, site: PreparedSite) -> None:
    """Publish a site.

    Raises:
        BuildFailed: the stage `upload` failed.
        BuildSuperseded: a later build took over.

    """
    settings, total, total_bytes = run.settings, len(site.files.files), site.files.total_bytes
    last_event = -math.inf

    def on_progress(files: int, size: int) -> None:
        nonlocal last_event
        now = anyio.current_time()
        if now - last_event >= PROGRESS_SECONDS or files == total:
            last_event = now
            run.journal.write("progress", done=files, total=total, bytes=size, total_bytes=total_bytes)

    files = "file" if total == 1 else "files"
    async with run.stage("upload", settings.upload_timeout, f"Publishing {total} {files} ({_readable(total_bytes)})"):
        uploader = await run.storage.uploader()
        await uploader.plan(site.files, on_progress=on_progress, routing=site.routing.to_json())
        await uploader.send_new()
        if uploader.unchanged:
            run.log(f"Skipped {uploader.unchanged} of {total} {files} (unchanged).")
        await run.check_superseded()
        await run.publish(uploader.publish, lambda: uploader.what_is_new)
        run.facts.files, run.facts.bytes = total, total_bytes
        run.facts.sent = {
            "files": total - uploader.unchanged,
            "bytes": total_bytes - uploader.unchanged_bytes,
        }
        run.facts.size_changes = uploader.size_changes
        await run.tidy_up(
            lambda: uploader.tidy_up(build=settings.build_id, slug=settings.slug, commit=run.facts.commit)
        )


def _readable(size: int) -> str:
    return f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
