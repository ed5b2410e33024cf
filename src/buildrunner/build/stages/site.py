"""Open the files of a site, read its rules, and warn about problems for its visitors."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from buildrunner import publish
from buildrunner.build.run import Run
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.errors import BuildFailed
from buildrunner.routing.document import Document

MAX_NAMED = 50  # unpublished files named in warnings


@dataclass(frozen=True, slots=True)
class PreparedSite:
    """A site that is ready to publish; a context manager that closes its files."""

    files: publish.Site
    routing: Document  # how the site responds to requests

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
    """Open the files to publish, read their rules, and warn about problems in them.

    Args:
        run: the build.
        folder: folder of the site.
        inside: folder that no symbolic link may leave.
        rules_in: more folders that may contain rules of the site.
        owner: id of the user that wrote the site, if it is not the runner's.
        selected: selection of the folder; None for all of it.
        framework: name of the framework that wrote it.

    Raises:
        BuildFailed: the site cannot be published.

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
    """Warn about broken references; fail the build if STRICT_REFERENCES forbids them."""
    with nullcontext() if run.settings.strict_references else run.faults.tolerate():
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
