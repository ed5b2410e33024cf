"""Read the rules of a site from its output and its repository, and remove their files from what is published."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from buildrunner.errors import BuildFailed
from buildrunner.project.files import read_text
from buildrunner.publish.files import Site
from buildrunner.publish.walk import SiteFile
from buildrunner.redaction import visible
from buildrunner.routing.collect import MAX_FILE_BYTES, OUTPUT_FILES, RuleFile, SiteRules, collect_rules
from buildrunner.routing.warnings import RuleWarning

_IN_REPOSITORY = ("netlify.toml", "vercel.json")
_IN_OUTPUT_ALONE = ("_redirects", "_headers")


def take_rules(
    site: Site, output: Path, folders: Sequence[Path], inside: Path, *, noindex: bool, owner: int | None = None
) -> SiteRules:
    """Compile the rules of a site, and remove their files from what is published.

    Args:
        site: files of the site.
        output: folder of the output.
        folders: folders of the app and the repository, the closest to the output first; empty if only an output is published.
        inside: folder of the repository, which no file may leave.
        noindex: whether to ask search engines not to index the site.
        owner: id of the user that must own the files; None for any. A hard link to another user's file gives no right to read it.

    Raises:
        BuildFailed: nothing else is left to publish.

    """
    inside = Path(os.path.realpath(inside))
    in_output = {file.path: file for file in site.files if file.path in OUTPUT_FILES}

    def shown(folder: Path, name: str) -> str:
        return visible(os.path.relpath(folder / name, inside))

    files = [RuleFile(name, shown(output, name), partial(_read, site, file)) for name, file in in_output.items()]
    warnings: list[RuleWarning] = []
    real_output = os.path.realpath(output)
    others = [folder for folder in dict.fromkeys(folders) if os.path.realpath(folder) != real_output]
    for folder in dict.fromkeys(folders):
        for name in _IN_REPOSITORY:
            if folder not in others and name in in_output:
                continue  # the same file
            try:
                _check_owner(folder / name, owner)
                text = read_text(folder / name, inside, max_bytes=MAX_FILE_BYTES[name])
            except ValueError as error:
                warnings.append(RuleWarning(shown(folder, name), None, f"it {error}, so it is not applied"))
            else:
                data = None if text is None else text.encode()
                files.append(RuleFile(name, shown(folder, name), partial(_same, data)))
    for name in _IN_OUTPUT_ALONE:
        if name not in in_output and others and os.path.isfile(others[0] / name):
            reason = "it is not applied, because the build does not copy it into its output"
            warnings.append(RuleWarning(shown(others[0], name), None, reason))
    rules = collect_rules(files, [file.path for file in site.files if file.is_page], noindex=noindex)
    site.leave_out(in_output)
    if not site.files:
        raise BuildFailed(
            "build",
            f"The build left nothing to publish but {', '.join(in_output)}.",
            "Add a page, for example an index.html.",
            kind="output-empty",
        )
    return SiteRules(rules.document, (*warnings, *rules.warnings))


def _check_owner(path: Path, owner: int | None) -> None:
    """Raise ValueError for a file of another user; its message completes the sentence "vercel.json …"."""
    try:
        found = os.stat(path).st_uid
    except OSError:
        return  # reading it reports the error
    if owner not in {None, found}:
        raise ValueError("belongs to another user")


def _same(data: bytes | None) -> bytes | None:
    return data


def _read(site: Site, file: SiteFile) -> bytes:
    descriptor = site.open(file)
    try:
        return os.read(descriptor, MAX_FILE_BYTES[file.path] + 1)
    finally:
        os.close(descriptor)
