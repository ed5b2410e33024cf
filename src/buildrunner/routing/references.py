"""Find broken references in the pages of a site.

A reference is a `src` or `href` to the same site. It is broken if `route` answers it with neither 200 nor a redirect.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from selectolax.lexbor import LexborHTMLParser

from buildrunner.routing.document import Document
from buildrunner.routing.paths import encode_path, normalize_path
from buildrunner.routing.route import Exists, Request, route

_MAX_REFERENCES = 5_000  # of a page
_MAX_CHARACTERS = 2_000  # of a reference
_MAX_CHECKED = 200_000  # results that are cached
# A comment; the end of an element, or a declaration; the start of an element (HTML, 13.2.5).
_MARKUP = re.compile(
    r"<!--(?:-?>|.*?(?:--!?>|\Z))|<[!/?][^>]*+(?:>|\Z)"
    r"|<(?P<name>[A-Za-z][^\s/>]*+)(?:[^>\"'=]++|=\s*+(?:\"[^\"]*+\"|'[^']*+')|[=\"'])*+>",
    re.DOTALL,
)
_OF_TEXT = frozenset(("script", "style", "textarea", "title", "xmp", "iframe", "noembed", "noframes"))
_HAS_ADDRESS = re.compile("src|href", re.IGNORECASE)
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,40}:")
_PLAIN = re.compile(r"/[\w~-](?:[\w~%-]|[/.](?=[\w~-]|\Z)){0,1999}", re.ASCII)  # most references; needs no resolving
_IGNORED = str.maketrans({"\t": None, "\n": None, "\r": None, "\\": "/"})  # as browsers read addresses (WHATWG URL)
# Link relations that name a host or another address of the page instead of a file.
_NO_FILE = frozenset({"preconnect", "dns-prefetch", "canonical", "shortlink"})
# Paths that other hosts add to sites, for instance for analytics.
_OF_HOST = re.compile(r"/(?:_vercel|\.netlify|cdn-cgi|__|_sites)/")


@dataclass(frozen=True, slots=True)
class Reference:
    """A reference of a page to its own site."""

    address: str  # path and query, from /, as a browser requests it
    element: str  # script, link, img, a, …


@dataclass(slots=True)
class ReferenceCheck:
    """Checks the references of pages; those that many pages share are checked once.

    Args:
        document: the rules of the site.
        exists: whether the site has a file with a key.

    """

    document: Document
    exists: Exists
    _answered: dict[str, bool] = field(default_factory=dict)

    def find_broken(self, page: str, html: str) -> list[Reference]:
        """Return the broken references of the page with the key `page`, each address once."""
        broken: dict[str, Reference] = {}
        for element, address in find_addresses(html, self._address_of(page)):
            if not self._is_answered(address) and address not in broken:
                broken[address] = Reference(address, element)
        return list(broken.values())

    def _address_of(self, page: str) -> str:
        """Return the path of a page on the site, which its relative references are resolved against."""
        path = f"/{page.removesuffix('.html')}"
        slash = self.document.trailing_slash
        if path == "/index":
            path = "/"
        elif path.endswith("/index"):
            path = path.removesuffix("index") if slash is not False else path.removesuffix("/index")
        elif slash:
            path += "/"
        return encode_path(path)

    def _is_answered(self, address: str) -> bool:
        found = self._answered.get(address)
        if found is None:
            path, _, query = address.partition("?")
            found = bool(_OF_HOST.match(path)) or route(Request(path, query), self.document, self.exists).status < 400
            if len(self._answered) < _MAX_CHECKED:
                self._answered[address] = found
        return found


def find_addresses(html: str, page: str) -> Iterator[tuple[str, str]]:
    """Yield the elements of a page that reference its own site, each with the path and query.

    Args:
        html: the text of the page.
        page: the page's path on the site, escaped.

    """
    tree = LexborHTMLParser(_flatten(html))
    base = tree.css_first("base[href]")
    start = page
    if base is not None:
        found = _resolve(base.attributes.get("href") or "", page)
        if found is None:
            return  # all relative references lead to another host
        start = found
    for count, node in enumerate(tree.css("[src],[href]")):
        if count == _MAX_REFERENCES:
            return
        element = node.tag or ""
        attributes = node.attributes
        if element == "base" or (element == "link" and _NO_FILE & set((attributes.get("rel") or "").lower().split())):
            continue
        for name in ("src", "href"):
            value = attributes.get(name)
            address = _resolve(value, start) if value else None
            if address:
                yield element, address


def _flatten(html: str) -> str:
    """Return the elements of a page that have a src or href, without those around them.

    A parser takes minutes for a page of 256 KiB whose elements are nested in odd ways, and nothing else runs meanwhile. This takes
    time in proportion to the size.
    """
    found: list[str] = []
    templates = at = 0
    while (at := html.find("<", at)) >= 0 and len(found) <= _MAX_REFERENCES:
        markup = _MARKUP.match(html, at)
        if markup is None:
            if html[at + 1 : at + 2].isalpha():
                break  # a tag without an end
            at += 1
            continue
        at = markup.end()
        if not (name := (markup["name"] or "").lower()):
            templates -= markup[0][:10].lower() == "</template" and templates > 0
            continue
        templates += name == "template"
        if name in _OF_TEXT:
            end = re.compile(f"</{name}(?=[\\s/>])", re.IGNORECASE).search(html, at)
            at = end.start() if end else len(html)
        if not templates and _HAS_ADDRESS.search(markup[0]):
            found.append(f"<{markup[0][1:].replace('<', '&lt;')}</{name}>")
    return "".join(found)


def _resolve(value: str, start: str) -> str | None:
    """Return the path and query of a reference; None if it leads to another site or to the page itself."""
    if _PLAIN.fullmatch(value):
        return value
    value = value.strip().translate(_IGNORED)
    if not value or value[0] == "#" or len(value) > _MAX_CHARACTERS or "{" in value:
        return None  # "{" is in templates that a script fills
    if value.startswith("//") or _SCHEME.match(value):
        return None
    address = value.partition("#")[0]
    if address.startswith("?"):
        return start.partition("?")[0] + address
    if not address.startswith("/"):
        address = start[: start.partition("?")[0].rfind("/") + 1] + address
    if "/." not in address:
        return address
    path, mark, query = address.partition("?")
    return f"{encode_path(normalize_path(path))}{mark}{query}"
