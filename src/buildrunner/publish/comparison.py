"""Find out which files of a site differ from its last deployment."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field

import anyio.from_thread
import anyio.to_thread

from buildrunner.concurrency.parallel import in_parallel
from buildrunner.publish.files import Site
from buildrunner.publish.manifest import Manifest
from buildrunner.publish.walk import SiteFile
from buildrunner.s3.bodies import sha256_of
from buildrunner.s3.bucket import Listed

_HASH_BATCH = 250  # files per task of a thread
_HASH_THREADS = 2


@dataclass(frozen=True, slots=True)
class ClassifiedFiles:
    """The files of a site by what has to be done with them."""

    new: list[SiteFile] = field(default_factory=list)  # their keys are not in the bucket
    candidates: list[SiteFile] = field(default_factory=list)  # possibly unchanged
    replacing: list[SiteFile] = field(default_factory=list)  # replace other objects
    pages: list[SiteFile] = field(default_factory=list)  # sent last

    def add_live(self, files: Sequence[SiteFile]) -> None:
        """Queue files that change the live site."""
        self.replacing.extend(file for file in files if not file.is_page)
        self.pages.extend(file for file in files if file.is_page)


def classify(
    files: Sequence[SiteFile],
    *,
    prefix: str,
    last: Manifest | None,
    outdated: Collection[str],
    listed: Mapping[str, Listed] | None,
) -> ClassifiedFiles:
    """Classify files without reading them.

    Args:
        files: files of the site.
        prefix: prefix of its keys.
        last: manifest of the last deployment; None if there is none, or if it is no longer true.
        outdated: keys that the manifest is no longer true for.
        listed: objects in the bucket; None if listing is refused, so that every key counts as existing.

    """
    classified = ClassifiedFiles()
    for file in files:
        key = prefix + file.path
        before = last.objects.get(key) if last and key not in outdated else None
        if (
            before
            and before.etag
            and listed
            and key in listed
            and listed[key].etag == before.etag
            and (file.size, file.content_type, file.cache_control)
            == (before.size, before.content_type, before.cache_control)
        ):
            classified.candidates.append(file)
        elif file.is_page:
            classified.pages.append(file)
        elif listed is not None and key not in listed:
            classified.new.append(file)
        else:
            classified.replacing.append(file)
    return classified


async def find_changed(
    site: Site,
    candidates: Sequence[SiteFile],
    *,
    prefix: str,
    last: Manifest,
    on_unchanged: Callable[[Sequence[SiteFile]], None],
) -> list[SiteFile]:
    """Return the candidates whose content differs from the last manifest.

    Args:
        site: opens the files.
        candidates: files to compare by their SHA-256.
        prefix: prefix of the site's keys.
        last: manifest of the last deployment.
        on_unchanged: function that is called with batches of unchanged files.

    """
    changed: set[str] = set()

    def compare(files: Sequence[SiteFile]) -> None:
        for file in files:
            anyio.from_thread.check_cancelled()
            key = prefix + file.path
            descriptor = site.open(file)
            try:
                if sha256_of(key, descriptor, file.size) != last.objects[key].sha256:
                    changed.add(file.path)
            finally:
                os.close(descriptor)

    async def work(files: Sequence[SiteFile]) -> None:
        await anyio.to_thread.run_sync(compare, files)
        on_unchanged([file for file in files if file.path not in changed])

    batches = [candidates[start : start + _HASH_BATCH] for start in range(0, len(candidates), _HASH_BATCH)]
    await in_parallel(work, batches, limit=_HASH_THREADS)
    return [file for file in candidates if file.path in changed]
