"""Find the top folder of a site whose pages are all in subfolders of the build's output folder.

The pages' references show it: `/main.js` is at the top of the site, and `../main.js` one folder above the page.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from buildrunner.project.config_files import dict_of, parse_json, read_configuration
from buildrunner.project.files import read_text
from buildrunner.project.output.pages import MAX_PAGE_BYTES, find_references

_MAX_READ = 20  # pages that are read
_LOCALE = re.compile(r"[a-z]{2,3}(?:[-_][A-Za-z]{2,4}){0,2}")
# Names that Polymer and others give to several builds of one site, one for each group of browsers.
_BUILDS = re.compile(r"(?:default|bundled|unbundled|(?:es\d{1,4}|esm|modern|legacy)(?:-(?:un)?bundled)?)")
_BUILD_ORDER = ("default", "es5-bundled", "es6-bundled", "esm-bundled", "bundled", "legacy", "modern")
# Files that tools write next to the output folder.
_TOOL_FILES = re.compile(r"\..*|.*\.tsbuildinfo|stats\.json|3rdpartylicenses\.txt|.*\.log")
# Files that scripts add to a site and that no page references.
_SITE_METADATA = re.compile(
    r"robots\.txt|humans\.txt|sitemap[\w-]{0,40}\.(?:xml|txt)(?:\.gz)?|CNAME|version\.(?:json|txt)"
)


def find_roots(around: Path, pages: Sequence[Path], checkout: Path, *, pages_by_address: bool) -> list[Path]:
    """Return the top folder of the site, or several if the pages belong to several sites.

    Args:
        around: the output folder, which has no index.html itself.
        pages: the outermost folders inside it that have an index.html.
        checkout: the repository's folder.
        pages_by_address: whether each page is in the folder of its URL path, as site generators write them.

    """
    common = Path(os.path.commonpath(pages))
    if len(pages) == 1 and _is_chain(around, common):
        return [common]  # otherwise the site would have no home page; references that fail cause a warning
    candidates = [common, *(above for above in common.parents if above == around or above.is_relative_to(around))]
    texts = {page: _read_page(page, checkout) for page in pages[:_MAX_READ]}
    if len(pages) > 1:
        names = {page.relative_to(common).parts[0]: page for page in pages}
        if build := _one_of_several_builds(around, common, names, checkout):
            return [build]
        alone = [page for page, text in texts.items() if _is_whole_site(page, text, common)]
        if len(alone) == len(pages) and not all(map(_LOCALE.fullmatch, names)):
            return list(pages)
        if pages_by_address:
            return [around]
    scores = {folder: sum(_count_resolved(folder, page, text) for page, text in texts.items()) for folder in candidates}
    best = max(scores.values())
    if scores[common] == scores[around]:
        beside = _has_files(around) or (pages_by_address and not _is_chain(around, common))
        return [around if beside else common]
    return [next(folder for folder in candidates if scores[folder] == best)]


def _one_of_several_builds(around: Path, common: Path, names: dict[str, Path], checkout: Path) -> Path | None:
    """Choose one of several builds of the same site for different browsers; None if the folders are not such builds."""
    for place in (around.parent, *islice(around.parents, 1, 4)):
        if place.is_relative_to(checkout) and (
            polymer := parse_json(read_configuration(place / "polymer.json", checkout))
        ):
            builds = polymer.get("builds")
            named = [dict_of(build) for build in builds] if isinstance(builds, list) else []
            order = [*_BUILD_ORDER, *(str(build.get("name") or build.get("preset")) for build in named)]
            return next((names[name] for name in order if name in names), None)
    if all(map(_BUILDS.fullmatch, names)):
        return next((names[name] for name in _BUILD_ORDER if name in names), names[min(names)])
    return None


def _is_whole_site(page: Path, text: str, around: Path) -> bool:
    """Return whether more of a page's references resolve if its own folder is the top of the site."""
    return _count_resolved(page, page, text) > _count_resolved(around, page, text)


def _count_resolved(top: Path, page: Path, text: str) -> int:
    """Count the references of a page that resolve if `top` is the top of the site."""
    address = os.path.relpath(page / "index.html", top)
    asked = {reference.path for reference in find_references(text, address) if reference.kind != "page"}
    return sum(contains_file(top, path) for path in asked if path)


def find_files_beside(site: Path, app: Path) -> list[str]:
    """List files such as robots.txt in the folders above a site, as paths relative to the app's folder."""
    around = [above for above in site.parents if above != app and above.is_relative_to(app)]
    return [
        os.path.relpath(above / name, app)
        for above in around
        for name in sorted(_list_names(above))
        if _SITE_METADATA.fullmatch(name)
    ]


def contains_file(top: Path, path: str) -> bool:
    """Return whether a folder contains a file at this path."""
    place = os.path.normpath(top / path)
    with suppress(ValueError):  # a name that contains \0
        return Path(place).is_relative_to(top) and os.path.isfile(place)
    return False


def _is_chain(top: Path, bottom: Path) -> bool:
    """Return whether each folder from `top` down to `bottom` contains only the next one."""
    folder = top
    while folder != bottom:
        entries = [name for name in _list_names(folder) if not name.startswith(".")]
        if len(entries) != 1:
            return False
        folder = folder / entries[0]
    return True


def _has_files(folder: Path) -> bool:
    """Return whether a folder contains a file that belongs to a site."""
    with suppress(OSError), os.scandir(folder) as entries:
        for entry in islice(entries, 1000):
            expected = _TOOL_FILES.fullmatch(entry.name) or _SITE_METADATA.fullmatch(entry.name)
            if not entry.is_dir(follow_symlinks=False) and not expected:
                return True
    return False


def _list_names(folder: Path) -> Iterable[str]:
    with suppress(OSError), os.scandir(folder) as entries:
        return [entry.name for entry in islice(entries, 1000)]
    return []


def _read_page(folder: Path, checkout: Path) -> str:
    with suppress(ValueError):
        return read_text(folder / "index.html", checkout, max_bytes=MAX_PAGE_BYTES) or ""
    return ""
