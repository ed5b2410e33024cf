"""Decide how a site answers a request: with an object, a redirect, or an error.

The order is that of "Rules" in docs/routing.md:

1. redirects of vercel.json, its cleanUrls and trailingSlash
2. the first matching rule of _redirects, then netlify.toml; unless it is forced, only where the site has no file
3. a file
4. rewrites of vercel.json
5. 200.html, or index.html of a single-page application
6. the nearest 404.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from buildrunner.routing.document import REDIRECTS, Document, Rule, Template
from buildrunner.routing.matching import Request, index_of
from buildrunner.routing.paths import (
    encode_part,
    encode_path,
    encode_url,
    has_extension,
    key_of,
    normalize_path,
    without_slash,
)
from buildrunner.routing.sources import is_url

Exists = Callable[[str], bool]  # whether the site has a file with this key, relative to the site

# Redirects and errors may change with the next deployment.
_FRESH = ("Cache-Control", "public, max-age=0, must-revalidate")
_NO_INDEX = ("X-Robots-Tag", "noindex")
_MAX_LOCATION_CHARACTERS = 8_000
# Of the headers that rules give to one answer: authors and visitors are strangers, and a placeholder can be repeated. What does
# not fit is left out; proxies accept less than that.
_MAX_HEADER_CHARACTERS = 64_000
_WITH_SLASHES = re.compile(r"^/[/\\]+")
# https://github.com/vercel/vercel/blob/main/packages/routing-utils/src/superstatic.ts (cleanUrls, trailingSlash)
_INDEX = re.compile(r"^(.*/)index(?:\.html)?/?$")
_FILE_WITH_SLASH = re.compile(r"\.\w+/$", re.ASCII)

__all__ = ["Answer", "Exists", "Request", "route"]


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a request."""

    status: int
    key: str | None = None  # the object to send, relative to the site; None for a default page or an empty body
    location: str | None = None  # of a redirect; printable ASCII
    headers: tuple[
        tuple[str, str], ...
    ] = ()  # replace the headers stored with the object; only Set-Cookie may occur more than once
    removed: tuple[str, ...] = ()  # names of stored headers that are not sent, in lowercase
    vary: tuple[str, ...] = ()  # names of request headers that rules depend on, in lowercase


def route(request: Request, document: Document, exists: Exists) -> Answer:
    """Decide how a site answers a request. It never raises, and never returns a key outside of the site.

    Args:
        request: the request.
        document: the rules of the site.
        exists: whether the site has a file with a key.

    """
    if request.method not in {"GET", "HEAD"}:
        return Answer(405, headers=(("Allow", "GET, HEAD"),))
    answer = _Router(request, document, exists).answer()
    headers = answer.headers
    if answer.status != 200:
        headers = (_FRESH, *headers)
    if document.noindex:
        headers = (*(header for header in headers if header[0].lower() != "x-robots-tag"), _NO_INDEX)
    vary = index_of(document).vary
    if headers is answer.headers and vary == answer.vary:
        return answer
    return replace(answer, headers=headers, vary=vary)


class _Router:
    def __init__(self, request: Request, document: Document, exists: Exists) -> None:
        self._request = request
        self._document = document
        self._index = index_of(document)
        self._exists = exists
        self._path = normalize_path(request.path)

    def answer(self) -> Answer:
        for decide in (self._redirect, self._apply_rules, self._serve_file, self._rewrite, self._fall_back):
            answer = decide()
            if answer:
                return answer
        return self._missing()

    # Point 1

    def _redirect(self) -> Answer | None:
        for rule, captures in self._index.redirects.matching(self._path, self._request):
            location = self._location(rule, captures)
            if location:
                return Answer(rule.status, location=location)
        path = self._path
        if self._document.clean_urls:
            path = self._clean(path)
        path = self._set_slash(path)
        return self._move(path, 308) if path != self._path else None

    def _clean(self, path: str) -> str:
        """Return `/about` for `/about.html`, and `/dir` for `/dir/index` or `/dir/index.html`."""
        found = _INDEX.match(path)
        if found and not self._has(without_slash(path) + "/index.html"):  # the page of a folder named index
            return without_slash(found[1])
        bare = without_slash(path)
        return bare.removesuffix(".html") if bare.endswith(".html") and bare.rpartition("/")[2] != ".html" else path

    def _set_slash(self, path: str) -> str:
        wanted = self._document.trailing_slash
        if path == "/" or wanted is None:
            return path
        if not wanted:
            return without_slash(path)
        if path == "/.well-known" or path.startswith("/.well-known/"):
            return path
        if path.endswith("/"):
            return without_slash(path) if _FILE_WITH_SLASH.search(path) else path
        return path if has_extension(path) or self._has(path) else f"{path}/"

    # Point 2

    def _apply_rules(self) -> Answer | None:
        for rule, captures in self._index.rules.matching(self._path, self._request):
            if rule.status in REDIRECTS:
                location = self._location(rule, captures, either_slash=True)
                if not location:
                    continue  # it would redirect to the same address
                if not rule.forced and self._serve_file():
                    return None
                return Answer(rule.status, location=location)
            if not rule.forced and self._serve_file():
                return None
            if rule.status == 200:
                return self._serve(rule, captures)
            return Answer(rule.status, self._destination(rule, captures))
        return None

    # Point 3

    def _serve_file(self) -> Answer | None:
        path, fixed = self._path, self._document.trailing_slash is not None
        key = self._file_at(path)
        if key:
            return self._found(key)
        if path == "/":
            return None
        other = without_slash(path) if path.endswith("/") else f"{path}/"
        key = self._file_at(other)
        if not key:
            return None
        if fixed or self._leads_back(other):
            return self._found(key)
        return self._move(other, 308)

    def _leads_back(self, path: str) -> bool:
        """Return whether a rule would redirect `path` back to the path of the request."""
        request = replace(self._request, path=encode_path(path))
        router = _Router(request, self._document, self._exists)
        back = encode_path(self._path)
        answer = router._redirect()
        if answer:
            return (answer.location or "").partition("?")[0] == back
        rule, captures = next(self._index.rules.matching(path, request), (None, ()))
        if rule is None or not rule.forced or rule.status not in REDIRECTS:
            return False
        return (router._location(rule, captures) or "").partition("?")[0] == back

    def _file_at(self, path: str) -> str | None:
        """Return the key of the file that a path names: itself, its `.html`, or the `index.html` in a folder."""
        candidates = (f"{path}index.html",) if path.endswith("/") else (path, f"{path}.html")
        return next((candidate[1:] for candidate in candidates if self._has(candidate)), None)

    def _find(self, path: str) -> str | None:
        """Return the key of the file that a destination names, with or without a trailing slash."""
        path = normalize_path(path)
        return self._file_at(path) or (None if path == "/" else self._file_at(_other_slash(path)))

    def _destination(self, rule: Rule, captures: Sequence[str]) -> str | None:
        """Return the key of the file that a rule serves."""
        path = _expand_path(rule.destination, captures)
        return None if path is None else self._find(path)

    def _has(self, path: str) -> bool:
        key = key_of(path)
        return key is not None and self._exists(key)

    def _found(self, key: str) -> Answer:
        headers, removed = self._headers()
        return Answer(200, key, headers=headers, removed=removed)

    # Points 4 to 6

    def _rewrite(self) -> Answer | None:
        for rule, captures in self._index.rewrites.matching(self._path, self._request):
            return self._serve(rule, captures)
        return None

    def _serve(self, rule: Rule, captures: Sequence[str]) -> Answer:
        key = self._destination(rule, captures)
        return self._found(key) if key else self._missing()

    def _fall_back(self) -> Answer | None:
        if has_extension(self._path):
            return None
        if self._exists("200.html"):
            return self._found("200.html")
        if self._document.single_page and not self._exists("404.html") and self._exists("index.html"):
            return self._found("index.html")
        return None

    def _missing(self) -> Answer:
        folder = self._path
        while folder:
            folder = folder[:-1].rpartition("/")[0] if folder.endswith("/") else folder.rpartition("/")[0]
            if self._has(f"{folder}/404.html"):
                return Answer(404, f"{folder}/404.html"[1:])
        return Answer(404)

    # For all points

    def _headers(self) -> tuple[tuple[tuple[str, str], ...], tuple[str, ...]]:
        """Return the headers that rules set for the path, and the names of those that they remove."""
        values: dict[str, tuple[str, list[str]]] = {}
        removed: dict[str, None] = {}
        left = _MAX_HEADER_CHARACTERS
        for rule, captures in self._index.headers.matching(self._path, self._request):
            mine: set[str] = set()  # headers that this rule has set: its values don't replace each other
            for name, template in rule.headers:
                lower = name.lower()
                if template is None:
                    values.pop(lower, None)
                    removed[lower] = None
                    continue
                removed.pop(lower, None)
                value = _expand_value(template, captures, left)
                if value is None:
                    continue
                left -= len(name) + len(value)
                if lower in values and (rule.joins or (lower in mine and lower == "set-cookie")):
                    values[lower][1].append(value)
                else:
                    values[lower] = (name, [value])
                mine.add(lower)
        headers: list[tuple[str, str]] = []
        for lower, (name, found) in values.items():
            headers += [(name, value) for value in (found if lower == "set-cookie" else [", ".join(found)])]
        return tuple(headers), tuple(removed)

    def _move(self, path: str, status: int) -> Answer:
        query = _safe_query(self._request.query)
        return Answer(status, location=f"{encode_path(path)}{'?' if query else ''}{query}")

    def _location(self, rule: Rule, captures: Sequence[str], *, either_slash: bool = False) -> str | None:
        """Return the target of a redirect; None if it is too long or the address of the request itself."""
        if _length(rule.destination, captures) > _MAX_LOCATION_CHARACTERS:
            return None
        location = _expand_url(rule.destination, captures)
        query = _safe_query(self._request.query)
        if rule.passes_query and query:
            before, hash_sign, fragment = location.partition("#")
            location = f"{before}{'&' if '?' in before else '?'}{query}{hash_sign}{fragment}"
        if len(location) > _MAX_LOCATION_CHARACTERS:
            return None
        if location.startswith("/"):
            target, _, target_query = location.partition("#")[0].partition("?")
            path, here = normalize_path(target), self._path
            if either_slash:
                path, here = without_slash(path), without_slash(here)
            if path == here and target_query == query:
                return None
        return location


def _other_slash(path: str) -> str:
    return without_slash(path) if path.endswith("/") else f"{path}/"


def _safe_query(query: str) -> str:
    return encode_url(query).replace("#", "%23")


def _capture(captures: Sequence[str], number: int) -> str:
    return captures[number] if number < len(captures) else ""


def _expand_url(template: Template, captures: Sequence[str]) -> str:
    """Return the URL of a destination. A path inside the site starts with exactly one slash."""
    url = ""
    for part in template:
        if isinstance(part, str):
            follows_nothing = url.endswith("/") and part.startswith("/") and not is_url(part)
            url += encode_url(part[1:] if follows_nothing else part)
        else:
            # A capture must not end the host or the query parameter that contains it.
            inside = "?" in url or "#" in url or (is_url(url) and url.count("/") < 3)
            url += (encode_part if inside else encode_path)(_capture(captures, part))
    return url if is_url(url) else _WITH_SLASHES.sub("/", url)


def _length(template: Template, captures: Sequence[str]) -> int:
    """Return how many characters a template has at least with what was captured."""
    return sum([len(part if isinstance(part, str) else _capture(captures, part)) for part in template])


def _expand_path(template: Template, captures: Sequence[str]) -> str | None:
    """Return the path of a destination inside the site, escaped, without its query; None if no file can have it."""
    if _length(template, captures) > _MAX_LOCATION_CHARACTERS:
        return None
    path = "".join(part if isinstance(part, str) else encode_path(_capture(captures, part)) for part in template)
    return re.split(r"[?#]", path, maxsplit=1)[0]


def _expand_value(template: Template, captures: Sequence[str], max_characters: int) -> str | None:
    """Return the value of a header; None if it is too long. Captures from the request are escaped as in a URL."""
    if _length(template, captures) > max_characters:
        return None
    value = "".join(part if isinstance(part, str) else encode_path(_capture(captures, part)) for part in template)
    return value if len(value) <= max_characters else None
