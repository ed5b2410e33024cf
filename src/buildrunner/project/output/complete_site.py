"""Recognize a complete site that is committed to the repository, and select the files that belong to it."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from buildrunner.project.files import is_file, read_text
from buildrunner.project.output.pages import MAX_PAGE_BYTES, find_references, template_language
from buildrunner.project.package_json import get_scripts
from buildrunner.project.scripts import parse_script

_MAX_READ = 300  # files that are searched for references
_MAX_PAGES = 200  # at the top of a site that are read
# Suffixes of files that browsers can't run or show.
_SOURCES: tuple[str, ...] = (
    ".ts",
    ".tsx",
    ".mts",
    ".jsx",
    ".vue",
    ".svelte",
    ".astro",
    ".coffee",
    ".scss",
    ".sass",
    ".less",
    ".styl",
    ".pug",
)
_SOURCES += (".haml", ".ejs", ".hbs", ".njk", ".php", ".md", ".mdx", ".sh", ".log")
_BARE_IMPORT = re.compile(
    r"(?m)(?:^|[;\s])(?:import|export)\s?(?:[\w*{][^\"'\n;]{0,300}from\s?)?[\"'](?![./]|https?:)[^\"'\n]{1,200}[\"']"
)
_UNPROCESSED = re.compile(r"@tailwind\s|@apply\s|@import\s{1,3}[\"']tailwindcss")
_REFERENCE = re.compile(
    r"url\(\s?[\"']?([^\"')\s]{1,300})|@import\s{1,3}[\"']([^\"'\n]{1,300})"
    r"|(?:\bfrom|\bimport|\bimport\(|\bnew URL\(|\bfetch\()\s?[\"'](\.{0,2}/[^\"'\n]{1,300})"
)
# Folders with sources of a site, unless its pages reference something in them.
_SOURCE_FOLDERS = {
    "src",
    "source",
    "sources",
    "scss",
    "sass",
    "less",
    "styl",
    "test",
    "tests",
    "__tests__",
    "spec",
    "e2e",
}
_SOURCE_FOLDERS |= {"cypress", "coverage"}
_MEDIA = (
    ".png",
    ".jpg",
    ".jpeg",
    ".gif",
    ".svg",
    ".webp",
    ".avif",
    ".ico",
    ".mp3",
    ".mp4",
    ".webm",
    ".woff",
    ".woff2",
    ".json",
)
_INSTALLED = {"node_modules", "bower_components"}  # only what pages reference in these counts
# Keys, databases and server-side programs, which are not published unless a page links to them.
_PRIVATE = (
    *(".pem", ".key", ".p12", ".pfx", ".jks", ".keystore", ".sqlite", ".sqlite3", ".db", ".sql", ".bak"),
    *(".py", ".rb", ".go", ".rs", ".java", ".cs", ".pl", ".lua"),
)
_PACKAGE_FILES = re.compile(
    r"package\.json|package-lock\.json|npm-shrinkwrap\.json|yarn\.lock|pnpm-(?:lock|workspace)\.yaml|bun\.lockb?|lerna\.json"
    r"|(?:ts|js)config(?:\..{1,40})?\.json|.{1,60}\.config\.(?:[cm]?[jt]s|json)|(?:gulp|grunt|rake|make|docker|gem)file.{0,40}"
    r"|(?:readme|license|licence|changelog|contributing|authors|security|code_of_conduct)(?:\..{1,10})?|docker-compose.{1,20}"
    r"|netlify\.toml|vercel\.json|now\.json|firebase\.json|turbo\.json|nx\.json|bower\.json|composer\.(?:json|lock)|procfile"
    r"|.{1,60}\.(?:toml|ya?ml|lock)|requirements.{0,40}\.txt|id_(?:rsa|dsa|ecdsa|ed25519)"
    r"|(?:service[-_]?account|credentials?|secrets?|.{1,60}-firebase-adminsdk).{0,60}\.json",
    re.IGNORECASE,
)


def is_complete(folder: Path, checkout: Path) -> bool:
    """Return whether a folder has a page, and all scripts and style sheets that it references, in a form that browsers can use."""
    page = _read(folder / "index.html", checkout)
    if not page.strip() or template_language(page):
        return False
    has_map = "importmap" in page
    for reference in find_references(page, "index.html"):
        if reference.kind in {"script", "style"} or reference.path.endswith((".js", ".mjs", ".css")):
            if reference.path.endswith(_SOURCES) or not is_file(folder / reference.path):
                return False
            text = _read(folder / reference.path, checkout)
            is_module = re.search(r"type\s?=\s?[\"']?module", page) is not None
            if reference.kind == "script" and is_module and not has_map and _BARE_IMPORT.search(text[:MAX_PAGE_BYTES]):
                return False
            if reference.kind == "style" and _UNPROCESSED.search(text):
                return False
    return True


def find_page_source(folder: Path, checkout: Path) -> str | None:
    """Return the first script or style sheet on a folder's page that has to be compiled; None if there is none."""
    for reference in find_references(_read(folder / "index.html", checkout), "index.html"):
        if (
            reference.kind in {"script", "style"}
            and reference.path.endswith(_SOURCES)
            and is_file(folder / reference.path)
        ):
            return reference.path
    return None


class SiteFiles:
    """Selects the files of a site at the top of a package, without sources, configuration and installed packages."""

    def __init__(self, top: Path, checkout: Path, package: Mapping[str, Any], *, only_installed: bool = False) -> None:
        """Collect the files that the pages at the top reference.

        Args:
            top: the package's folder.
            checkout: the repository's folder.
            package: the package's package.json, whose scripts name inputs of the build.
            only_installed: whether to leave out only installed packages.

        """
        self._referenced = frozenset(_find_referenced(top, checkout))
        self._parents = frozenset(above for path in self._referenced for above in _parents_of(path))
        self._only_installed = only_installed
        self._inputs: frozenset[str] = frozenset()
        if not only_installed:
            scripts = get_scripts(package)
            words = {word for command in parse_script(scripts.get("build", ""), scripts) for word in command.words[1:]}
            self._inputs = frozenset(map(posixpath.normpath, words))

    def __call__(self, path: str, is_folder: bool) -> bool:
        if path in self._referenced or path in self._parents:
            return True
        name = posixpath.basename(path)
        parts = path.split("/")
        if not _INSTALLED.isdisjoint(parts):
            return False
        if self._only_installed:
            return True
        if name.startswith(".") and name != ".well-known":
            return False
        if is_folder:
            return len(parts) > 1 or name not in _SOURCE_FOLDERS
        if path in self._inputs or (len(parts) == 1 and _PACKAGE_FILES.fullmatch(name)) or name == "package.json":
            return False
        if parts[0] in _SOURCE_FOLDERS and not name.lower().endswith(_MEDIA):
            return False
        return not name.lower().endswith((*_SOURCES, *_PRIVATE))


def _find_referenced(top: Path, checkout: Path) -> Iterator[str]:
    """Yield the paths of the pages at the top, and of all files that they reference directly or indirectly."""
    pages: list[str] = []
    with suppress(OSError), os.scandir(top) as entries:
        pages = sorted(entry.name for entry in islice(entries, 5000) if entry.name.endswith((".html", ".htm")))
    waiting = pages[:_MAX_PAGES]
    seen = set(waiting)
    for _ in range(_MAX_READ):
        if not waiting:
            return
        path = waiting.pop()
        yield path
        found: list[str] = []
        if path.endswith((".html", ".htm")):
            found = [reference.path for reference in find_references(_read(top / path, checkout), path)]
        elif path.endswith((".css", ".js", ".mjs")):
            for match in islice(_REFERENCE.finditer(_read(top / path, checkout)), 500):
                value = unquote((match[1] or match[2] or match[3]).partition("?")[0].partition("#")[0])
                here = "" if value.startswith("/") else posixpath.dirname(path)
                found.append(posixpath.normpath(posixpath.join(here, value.lstrip("/"))))
        for one in found:
            if one not in seen and not one.startswith("..") and is_file(top / one):
                seen.add(one)
                waiting.append(one)
    yield from waiting


def _parents_of(path: str) -> Iterator[str]:
    while path := posixpath.dirname(path):
        yield path


def _read(path: Path, checkout: Path) -> str:
    with suppress(ValueError):
        return (read_text(path, checkout) or "")[: 4 * MAX_PAGE_BYTES]
    return ""
