"""Analyze the text of a page: whether it is an unfilled template, and which files it references.

A page may show template code to readers, so only code that no browser can display counts. Vue, Angular and Alpine fill
`{{ … }}` in the browser, and Underscore fills `<% … %>` in a script: pages that use these are complete.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from html import unescape
from itertools import islice
from urllib.parse import unquote, urljoin, urlsplit

MAX_PAGE_BYTES = 256 * 1024  # of a page; the rest is not analyzed
_MAX_REFERENCES = 500  # of a page
_SITE = "http://site.invalid"
_EXTENSIONS = (".html", ".htm", ".xhtml", ".shtml")

# Elements that may show code, or are filled in the browser. An unclosed one matches up to the end of the text: a single pass.
_QUOTES = re.compile(
    r"(<(pre|code|samp|kbd|script|style|template|textarea|xmp)\b[^>]{0,500}>).*?(?:</\2|\Z)|<!--(?!#).*?(?:-->|\Z)",
    re.IGNORECASE | re.DOTALL,
)

UNKNOWN_LANGUAGE = "a language with {{ … }}"
_DJANGO = "load|url|static|csrf_token|blocktrans|blocktranslate|trans|translate|autoescape|get_current_language"
_LIQUID = (
    "assign|capture|unless|include_relative|seo|feed_meta|highlight|paginate|schema|section|render|layout|post_url"
)
_OTHERS = (
    "extends|include|block|endblock|if|elif|elsif|else|endif|for|endfor|import|from|macro|set|with|comment|raw|case|embed|use"
    "|filter|spaceless|verbatim|asyncEach|cache|form|partial"
)
_TAG = r"\{%[-+~]?\s{0,5}"
_GO_WORDS = r"(?:define|partial|partialCached|template|block)\s{1,3}[\"`]"
# A template language, and a pattern that no page for browsers matches. The first match counts.
_LANGUAGES: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (name, re.compile(pattern))
    for name, pattern in (
        ("PHP", r"<\?(?:php\b|=)"),
        (
            "Blade",
            r"@(?:extends|section|yield|include|includeIf|vite|stack|push|foreach|forelse|if|unless|isset)\s?\(\s?[\[\"'$]"
            r"|@(?:csrf|endsection|endforeach|endif|endpush|viteReactRefresh)\b|\{!![^\n]{1,200}?!!\}",
        ),
        ("Thymeleaf", r"\bxmlns:th\s?=|\sth:(?:text|utext|each|href|src|if|unless|replace|insert|fragment|action)\s?="),
        ("Razor", r"(?m)^[ \t]{0,20}@(?:model|inject|inherits)\s|@RenderBody\(|@RenderSection\(|@Html\.[A-Z]"),
        (
            "Go",
            rf"\{{\{{-?\s{{0,5}}(?:{_GO_WORDS}|(?:range|with|if)\s{{1,3}}(?:not\s|and\s|or\s|eq\s)?[.$(]|[.$][A-Z]\w|\$\.|\.\s?[|}}])",
        ),
        (
            "Handlebars",
            r"\{\{~?(?:#(?:if|each|unless|with|\w{1,30}\s)|>\s{0,3}[\w./\"'-]|/(?:if|each|unless|with)\b|!--)"
            r"|\{\{(?:content-for|outlet\}\}|rootURL\}\})",
        ),
        ("Django", rf"{_TAG}(?:{_DJANGO})\b"),
        ("Liquid", rf"{_TAG}(?:{_LIQUID})\b|\{{\{{[^{{}}\n]{{1,100}}\|\s?(?:relative_url|absolute_url|asset_url)\b"),
        (
            "Jinja, Nunjucks or Twig",
            rf"{_TAG}(?:{_OTHERS})\b|\{{\{{-?\s{{0,5}}(?:url_for|get_flashed_messages|asset)\(",
        ),
        ("JSP", r"<%@|<(?:c|fmt|jsp):[a-zA-Z]{2,20}\s"),
        ("EJS", r"<%[-_]\s?include\b|<%=\s{0,3}(?:htmlWebpackPlugin|BASE_URL)"),
        ("ERB or EJS", r"<%[-=_#]?\s{0,5}[\w@(}/]"),
        ("FreeMarker", r"<#(?:if|list|assign|include|import|macro)\b"),
        ("server-side includes (SSI)", r"<!--#(?:include|echo|exec|set|if)\s"),
        ("SvelteKit", r"%(?:sveltekit|svelte|sapper)\.[a-z.]{2,30}%"),
        ("Create React App", r"%PUBLIC_URL%"),
        # Title and links take effect before a script of the page could fill them.
        (
            UNKNOWN_LANGUAGE,
            r"<title>[^<>]{0,200}\{\{|<(?:script|link)\s[^>]{0,100}\b(?:src|href)\s?=\s?[\"']?[^\"'>\s]{0,200}\{\{",
        ),
    )
)
_FRONT_MATTER = re.compile(r"\ufeff?---[ \t]*\r?\n(?:[^\n]{0,1000}\n){0,200}?---[ \t]*\r?(?:\n|\Z)")
_IN_BROWSER = re.compile(
    r"\b(?:data-)?ng-[a-z]|\bv-(?:if|for|bind|cloak|text|html)\b|\bx-data\b|\[\[|data-bind=", re.IGNORECASE
)
_PLACEHOLDER = re.compile(r"\{\{[{~-]?\s{0,5}[A-Za-z_][\w.]{0,100}\s{0,5}(?:\|[^{}\n]{1,100})?[~-]?\}?\}\}")


def template_language(text: str) -> str | None:
    """Return the template language of an `.html` file's text; None for a page."""
    text = text[:MAX_PAGE_BYTES]
    plain = _QUOTES.sub(lambda match: match[1] or " ", text)
    front_matter = bool(_FRONT_MATTER.match(text))
    for name, pattern in _LANGUAGES:
        if pattern.search(plain) and not (name == UNKNOWN_LANGUAGE and _IN_BROWSER.search(text)):
            return f"{name} with front matter" if front_matter else name
    if front_matter:
        return "a site generator (it has front matter)"
    if "<script" not in text and not _IN_BROWSER.search(text) and _PLACEHOLDER.search(plain):  # no script could fill it
        return UNKNOWN_LANGUAGE
    return None


@dataclass(frozen=True, slots=True)
class PageReference:
    """A reference from a page to a file or page of the same site."""

    path: str  # in the site, without the leading /
    shown: str  # as the browser requests it
    kind: str  # "script", "style", "asset" or "page"


_ELEMENT = re.compile(
    r"<(script|link|img|source|a|iframe|video|audio|embed|input)\s((?:[^>\"']|\"[^\"]{0,4000}\"|'[^']{0,4000}'){1,2000}+)",
    re.IGNORECASE,
)
_ATTRIBUTE = re.compile(
    r"(?<![\w:.@-])(src|href|rel|type)\s{0,5}=\s{0,5}(?:\"([^\"]{0,4000})\"|'([^']{0,4000})'|([^\s\"'>]{1,2000}))"
)
_BASE = re.compile(r"<base\s[^>]{0,100}?\bhref\s?=\s?[\"']?([^\"'\s>]{1,300})", re.IGNORECASE)
_IMPORT = re.compile(r"\bimport\s?\(?\s?[\"'](\.{0,2}/[^\"'\n]{1,300})[\"']")
_NO_FILE = {
    "canonical",
    "alternate",
    "preconnect",
    "dns-prefetch",
    "next",
    "prev",
    "author",
    "license",
    "me",
    "shortlink",
}


def find_references(text: str, page: str, *, imports: bool = True) -> list[PageReference]:
    """List a page's references to its own site, as a browser resolves them.

    Args:
        text: of the page.
        page: its path in the site.
        imports: whether to include import statements, which may also be code that the page shows to readers.

    """
    found = islice(_all_references(text[:MAX_PAGE_BYTES], page, imports=imports), _MAX_REFERENCES)
    return [reference for reference in found if reference]


def _all_references(text: str, page: str, *, imports: bool) -> Iterator[PageReference | None]:
    plain = _QUOTES.sub(lambda match: match[1] or " ", text)
    base = _BASE.search(plain)
    address = f"{_SITE}/{page.removesuffix('index.html')}"
    if base:
        address = _join(address, unescape(base[1])) or address
    for element in _ELEMENT.finditer(plain):
        name = element[1].lower()
        attributes = {
            match[1].lower(): match[2] or match[3] or match[4] or "" for match in _ATTRIBUTE.finditer(element[2])
        }
        relations = set(attributes.get("rel", "").lower().split())
        value = attributes.get("href" if name in {"a", "link"} else "src", "")
        if value and not (name == "link" and relations & _NO_FILE):
            kind = {"script": "script", "a": "page", "iframe": "page"}.get(name, "asset")
            if relations & {"stylesheet", "modulepreload"}:
                kind = "style"
            yield _reference(address, unescape(value), kind)
    for imported in _IMPORT.finditer(text) if imports else ():
        yield _reference(address, imported[1], "script")


def _reference(address: str, value: str, kind: str) -> PageReference | None:
    url = _join(address, value.strip())
    if not url or not url.startswith(f"{_SITE}/") or value.startswith("#") or "{" in value:
        return None
    path = urlsplit(url).path
    return PageReference(unquote(path).lstrip("/"), path, kind)


def _join(address: str, value: str) -> str | None:
    try:
        return urljoin(address, value)
    except ValueError:
        return None


def can_serve(path: str, files: Collection[str]) -> bool:
    """Return whether a web server could serve one of these files for a path."""
    path = path.strip("/") if path.endswith("/") else path
    return not path or path in files or f"{path}/index.html" in files or f"{path}.html" in files


@dataclass(frozen=True, slots=True)
class BasePath:
    """The base path that a site was built for, such as /my-repo, although its files are at the top."""

    path: str  # such as /my-repo
    page: str  # a page that references a file below the base path
    asked: str  # the reference, such as /my-repo/a.js
    there: str  # the file's path in the site, such as a.js


def find_base_path(pages: Collection[tuple[str, str]], files: Collection[str]) -> BasePath | None:
    """Return the base path that the pages were built for; None if it is the top of the site.

    Args:
        pages: paths and texts of some pages.
        files: the paths of all files of the site.

    """
    votes: dict[str, list[tuple[str, BasePath]]] = {}
    resolved = 0  # references by an absolute path that exist
    for page, text in pages:
        for reference in find_references(text, page):
            if can_serve(reference.path, files):
                resolved += bool(reference.path) and reference.kind != "page"
            elif found := _find_below_base(reference, page, files):
                votes.setdefault(found.path, []).append((reference.kind, found))
    for found_votes in sorted(votes.values(), key=len, reverse=True):
        kinds = [kind for kind, _ in found_votes]
        asked = {vote.asked for kind, vote in found_votes}
        # A single missing script or style sheet breaks a page. An image or a link may be missing for other reasons.
        sure = "script" in kinds or "style" in kinds or (len(asked) > 1 and not resolved)
        if sure:
            return min((vote for _, vote in found_votes), key=lambda vote: vote.page.count("/"))
    return None


def _find_below_base(reference: PageReference, page: str, files: Collection[str]) -> BasePath | None:
    parts = reference.path.split("/")
    for count in range(1, min(len(parts), 5)):
        rest = "/".join(parts[count:])
        if rest.strip("/") and can_serve(rest, files):
            there = rest if rest in files else posixpath.join(rest, "index.html")
            return BasePath("/" + "/".join(parts[:count]), page, reference.shown, there)
    return None


def is_page(path: str) -> bool:
    """Return whether a file is a page: pages are published last, and are never cached for long."""
    name = path.rpartition("/")[2].lstrip(".")
    return name.lower().endswith(_EXTENSIONS) and "." in name
