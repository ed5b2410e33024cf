"""Find problems of a site before it is published: unfilled templates, rules for other hosts, and broken references."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence
from dataclasses import dataclass

from buildrunner.concurrency.cancellation import check_cancelled
from buildrunner.project.frameworks.table import find_base_setting
from buildrunner.project.output.pages import (
    MAX_PAGE_BYTES,
    UNKNOWN_LANGUAGE,
    find_base_path,
    template_language,
)
from buildrunner.publish.files import Site
from buildrunner.publish.walk import SiteFile
from buildrunner.redaction import visible
from buildrunner.routing.document import Document
from buildrunner.routing.references import Reference, ReferenceCheck

_MAX_PAGES = 100  # pages to search
_MAX_BYTES = 4 * 2**20  # of all these pages together
_MAX_SECONDS = 5.0
# Server-side programs; served as files, they show their source.
_PROGRAMS = (
    ".php",
    ".phtml",
    ".erb",
    ".ejs",
    ".jsp",
    ".asp",
    ".aspx",
    ".cshtml",
    ".hbs",
    ".njk",
    ".liquid",
    ".twig",
    ".j2",
)
# Files at the top of a site that configure other hosts.
_RULE_FILES = (
    "_routes.json",
    "_worker.js",
    ".htaccess",
    "web.config",
    "staticwebapp.config.json",
)
_NAMED = 3  # examples in a warning
_NAMED_REFERENCES = 10  # with a warning each
_REFERENCE_SECONDS = 30.0  # for checking the references of all pages
_MAX_REFERENCES = 100_000  # broken references to remember
# References that a page depends on come first.
_ELEMENTS = ("script", "link", "img", "iframe", "a")


@dataclass(frozen=True, slots=True)
class Review:
    """The problems of a site for its visitors."""

    warnings: tuple[str, ...]  # one or two sentences each
    broken: tuple[str, ...]  # broken references, such as "index.html references /a.js"


@dataclass(slots=True)
class _Broken:
    page: str  # first page with the reference
    reference: Reference
    others: int = 0  # other pages with it


def review_site(site: Site, framework: str | None, document: Document) -> Review:
    """Review a site before it is published; `document` has its rules."""
    paths = frozenset(file.path for file in site.files)
    pages = _read_pages(site)
    warnings = [*_rules(paths), *_programs([file.path for file in site.files]), *_templates(pages)]
    found, unchecked = _find_broken(site, paths, document)
    broken = [f"{visible(each.page)} references {visible(each.reference.address)}" for each in found]
    base = find_base_path(pages, paths)
    if base:
        setting = find_base_setting(framework) or "the base path in the build's configuration"
        asked = f"{visible(base.page)} references {visible(base.asked)}"
        warnings.append(
            f"{asked}, but the site has it as /{visible(base.there)}. Set {setting} to /, or the page may stay blank."
        )
        broken = list(dict.fromkeys((asked, *broken)))
        found = [each for each in found if not each.reference.address.startswith(f"{base.path}/")]
    for each in found[:_NAMED_REFERENCES]:
        also = f", and so {'does' if each.others == 1 else 'do'} {each.others:,} more" if each.others else ""
        warnings.append(
            f"{visible(each.page)} references {visible(each.reference.address)}, which the site does not have{also}."
        )
    if (more := len(found) - _NAMED_REFERENCES) > 0:
        warnings.append(f"Pages reference {more:,} more addresses that the site does not have.")
    if unchecked:
        warnings.append(f"References of {unchecked:,} pages were not checked, because it would take too long.")
    return Review(tuple(warnings), tuple(broken))


def _find_broken(site: Site, paths: frozenset[str], document: Document) -> tuple[list[_Broken], int]:
    """Return the broken references of all pages, and the number of pages not checked in time."""
    check = ReferenceCheck(document, paths.__contains__)
    found: dict[str, _Broken] = {}
    pages = [file for file in site.files if file.is_page]
    pages.sort(key=lambda file: (file.path.count("/"), file.path != "index.html", file.path))
    ends = time.monotonic() + _REFERENCE_SECONDS
    unchecked = 0
    for number, file in enumerate(pages):
        check_cancelled()
        if time.monotonic() > ends:
            unchecked = len(pages) - number
            break
        text = _read_page(site, file)
        broken = check.find_broken(file.path, text)
        # References in fragments that scripts insert elsewhere don't resolve from where the fragments are stored.
        if any(each.address not in found for each in broken) and (_is_part(file.path, text) or template_language(text)):
            continue
        for each in broken:
            if each.address in found:
                found[each.address].others += 1
            elif len(found) < _MAX_REFERENCES:
                found[each.address] = _Broken(file.path, each)
    ranks = {element: rank for rank, element in enumerate(_ELEMENTS)}
    return sorted(found.values(), key=lambda each: ranks.get(each.reference.element, 2)), unchecked


def _rules(paths: frozenset[str]) -> list[str]:
    found = [name for name in _RULE_FILES if name in paths]
    if not found:
        return []
    return [f"The rules in {_list(found)} are not applied; only the files themselves are published."]


def _programs(paths: Sequence[str]) -> list[str]:
    found = [path for path in paths if path.lower().endswith(_PROGRAMS)]
    if not found:
        return []
    return [f"Nothing runs {_list(found)} here: visitors see the source. Remove such files from the output."]


def _templates(pages: Sequence[tuple[str, str]]) -> list[str]:
    templates: list[tuple[str, str]] = []
    for path, text in pages:
        check_cancelled()
        language = template_language(text)
        # Scripts load such fragments, and fill them in the browser.
        if language and not (_is_part(path, text) and language in {"Handlebars", UNKNOWN_LANGUAGE}):
            templates.append((path, language))
    if not templates:
        return []
    names = _list([path for path, _ in templates])
    return [
        f"{names}: published unfilled, as a template of {templates[0][1]}."
        " Let the build write finished pages, or set OUTPUT_DIR to the folder that has them."
    ]


def _is_part(path: str, text: str) -> bool:
    return path != "index.html" and not re.search(r"<html\b|<!doctype", text, re.IGNORECASE)


def _read_pages(site: Site) -> list[tuple[str, str]]:
    """Read some pages of a site, the ones closest to its top first."""
    pages = [file for file in site.files if file.is_page]
    pages.sort(key=lambda file: (file.path.count("/"), file.path != "index.html", file.path))
    ends = time.monotonic() + _MAX_SECONDS
    found: list[tuple[str, str]] = []
    left = _MAX_BYTES
    for file in pages[:_MAX_PAGES]:
        if left <= 0 or time.monotonic() > ends:
            break
        text = _read_page(site, file)
        left -= len(text)
        found.append((file.path, text))
    return found


def _read_page(site: Site, file: SiteFile) -> str:
    descriptor = site.open(file)
    try:
        return os.read(descriptor, MAX_PAGE_BYTES).decode("utf-8-sig", errors="replace")
    finally:
        os.close(descriptor)


def _list(paths: Sequence[str]) -> str:
    shown = ", ".join(visible(path) for path in paths[:_NAMED])
    return shown if len(paths) <= _NAMED else f"{shown} and {len(paths) - _NAMED} more"
