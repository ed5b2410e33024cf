"""The files and rules of a site: open what a build wrote, and warn about what its visitors would not get."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from buildrunner import publish
from buildrunner.build.run import Run
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.errors import BuildFailed
from buildrunner.routing.document import Document

MAX_NAMED = 50  # files that are not published


@dataclass(frozen=True, slots=True)
class PreparedSite:
    """A site that is ready to be published; a context manager that closes its files."""

    files: publish.Site
    routing: Document  # how the site answers requests

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.files.close()


async def prepare_site(
    run: Run,
    folder: Path,
    inside: Path,
    *,
    rules_in: Sequence[Path] = (),
    owner: int | None = None,
    selected: publish.Selected | None = None,
    framework: str | None = None,
) -> PreparedSite:
    """Open the files to publish and read their rules, and warn about what is wrong with them.

    Args:
        run: the build.
        folder: of the site.
        inside: the folder that no link may lead out of.
        rules_in: folders beside the site's own where rules of it may be.
        owner: id of the user that wrote it, where that is another one.
        selected: of the folder, where that is not all.
        framework: that wrote it.

    Raises:
        BuildFailed: when it cannot be published.

    """
    files = await _collect(run, folder, inside, owner, selected)
    rules = await run_in_thread(
        lambda: publish.take_rules(files, folder, rules_in, inside, noindex=run.settings.noindex, owner=owner)
    )
    for warning in rules.warnings:
        run.warn(str(warning))
    if rules.document.summary:
        run.log(f"Rules of the site: {rules.document.summary}")
    await _review(run, files, rules.document, framework)
    return PreparedSite(files, rules.document)


async def _collect(
    run: Run, folder: Path, inside: Path, owner: int | None, selected: publish.Selected | None
) -> publish.Site:
    settings = run.settings
    limits = publish.Limits(settings.site_max_files, settings.site_max_bytes, settings.site_max_file_bytes)
    prefix = settings.s3_key_prefix
    files = await run_in_thread(
        lambda: publish.collect(folder, inside, prefix=prefix, limits=limits, owner=owner, selected=selected)
    )
    for sentence in files.left_out[:MAX_NAMED]:
        run.warn(sentence)
    if len(files.left_out) > MAX_NAMED:
        run.warn(f"{len(files.left_out) - MAX_NAMED} more were left out.")
    return files


async def _review(run: Run, files: publish.Site, rules: Document, framework: str | None) -> None:
    """Warn about what visitors would not get; fail where STRICT_REFERENCES forbids broken references."""
    review = await run_in_thread(lambda: publish.review_site(files, framework, rules))
    for sentence in review.warnings:
        run.warn(sentence)
    if review.broken and run.settings.strict_references:
        count = len(review.broken)
        first = f"{review.broken[0]}, which the site does not have"
        raise BuildFailed(
            "build",
            f"{first}." if count == 1 else f"{first}; {count - 1:,} more {'is' if count == 2 else 'are'} broken.",
            "Correct the references that the warnings name, or unset STRICT_REFERENCES.",
            kind="broken-references",
        )
