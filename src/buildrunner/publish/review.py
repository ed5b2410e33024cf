"""What to warn about before a site is published: templates, rules for other hosts, and pages built for another address."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Sequence

from buildrunner.concurrency.cancellation import check_cancelled
from buildrunner.project.frameworks.table import find_base_setting
from buildrunner.project.output.pages import (
    MOST_PAGE_BYTES,
    UNKNOWN_LANGUAGE,
    find_base_path,
    find_references,
    template_language,
)
from buildrunner.publish.files import Site
from buildrunner.redaction import visible

_MOST_PAGES = 100  # that are looked through
_MOST_BYTES = 4 * 2**20  # of them together
_MOST_SECONDS = 5.0
# Programs of a server: as files of a site they show their source.
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
# Files at the top of a site that tell other hosts what to do.
_RULE_FILES = (
    "_redirects",
    "_headers",
    "_routes.json",
    "_worker.js",
    ".htaccess",
    "web.config",
    "staticwebapp.config.json",
)
# What other hosts add to a site; without it their statistics are missing, and nothing else.
_OF_HOST = re.compile(r"_vercel/|\.netlify/|cdn-cgi/|__/|_sites/|\Z")
_NAMED = 3  # examples in a warning


def review_site(site: Site, framework: str | None) -> list[str]:
    """Return warnings, one sentence or two each, about what visitors of this site would not get."""
    paths = frozenset(file.path for file in site.files)
    return [
        *_rules(paths),
        *_programs([file.path for file in site.files]),
        *_pages(site, paths, framework),
    ]


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


def _pages(site: Site, paths: frozenset[str], framework: str | None) -> list[str]:
    pages = _read_pages(site)
    warnings: list[str] = []
    templates: list[tuple[str, str]] = []
    for path, text in pages:
        check_cancelled()
        language = template_language(text)
        # Scripts fetch parts of pages, and fill them in the browser.
        if language and not (_is_part(path, text) and language in {"Handlebars", UNKNOWN_LANGUAGE}):
            templates.append((path, language))
    if templates:
        names = _list([path for path, _ in templates])
        warnings.append(
            f"{names}: published unfilled, as a template of {templates[0][1]}."
            " Let the build write finished pages, or set OUTPUT_DIR to the folder that has them."
        )
    if base := find_base_path(pages, paths):
        setting = find_base_setting(framework) or "the base path in the build's configuration"
        warnings.append(
            f"{visible(base.page)} asks for {visible(base.asked)}, but the site has it as /{visible(base.there)}."
            f" Set {setting} to /, or the page may stay blank."
        )
    elif missing := _missing(pages, paths):
        count = len(missing) - 1
        more = f", and {count} more {'is' if count == 1 else 'are'} missing" if count else ""
        page, asked = missing[0]
        warnings.append(
            f"{visible(page)} asks for {visible(asked)}, which the site does not have{more}."
            " Let the build write it, or correct the address in the page."
        )
    return warnings


def _is_part(path: str, text: str) -> bool:
    return path != "index.html" and not re.search(r"<html\b|<!doctype", text, re.IGNORECASE)


def _missing(pages: Sequence[tuple[str, str]], paths: frozenset[str]) -> list[tuple[str, str]]:
    """List the scripts and style sheets that the site lacks, each with the first page that asks for it."""
    found: dict[str, str] = {}
    for page, text in pages:
        check_cancelled()
        if not _is_part(page, text) and not template_language(text):
            for reference in find_references(text, page, imports=False):
                path = reference.path
                if reference.kind in {"script", "style"} and path not in paths and not _OF_HOST.match(path):
                    found.setdefault(reference.shown, page)
    return [(page, asked) for asked, page in found.items()]


def _read_pages(site: Site) -> list[tuple[str, str]]:
    """Read some pages of a site, those nearest to its top first."""
    pages = [file for file in site.files if file.is_page]
    pages.sort(key=lambda file: (file.path.count("/"), file.path != "index.html", file.path))
    ends = time.monotonic() + _MOST_SECONDS
    found: list[tuple[str, str]] = []
    left = _MOST_BYTES
    for file in pages[:_MOST_PAGES]:
        if left <= 0 or time.monotonic() > ends:
            break
        descriptor = site.open(file)
        try:
            data = os.read(descriptor, MOST_PAGE_BYTES)
        finally:
            os.close(descriptor)
        left -= len(data)
        found.append((file.path, data.decode("utf-8-sig", errors="replace")))
    return found


def _list(paths: Sequence[str]) -> str:
    shown = ", ".join(visible(path) for path in paths[:_NAMED])
    return shown if len(paths) <= _NAMED else f"{shown} and {len(paths) - _NAMED} more"
