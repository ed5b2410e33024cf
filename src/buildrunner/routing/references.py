"""Check what pages refer to against what the site would answer.

A reference is a `src` or `href` that stays in the site. It is broken when `route` answers it with neither 200 nor a redirect.
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
_MAX_CHECKED = 200_000  # answers that are remembered
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]{0,40}:")
_PLAIN = re.compile(r"/[\w~-](?:[\w~%-]|[/.](?=[\w~-]|\Z)){0,1999}", re.ASCII)  # what most references are
_IGNORED = str.maketrans({"\t": None, "\n": None, "\r": None, "\\": "/"})  # as browsers read addresses (WHATWG URL)
# Relations that name no file: a host to connect to, and what a page is called elsewhere.
_NO_FILE = frozenset({"preconnect", "dns-prefetch", "canonical", "shortlink"})
# What other hosts add to a site; without it their statistics are missing, and nothing else.
_OF_HOST = re.compile(r"/(?:_vercel|\.netlify|cdn-cgi|__|_sites)/")


@dataclass(frozen=True, slots=True)
class Reference:
    """An address of the site that a page refers to."""

    address: str  # path and query, from /, as a browser requests it
    element: str  # script, link, img, a, …


@dataclass(slots=True)
class ReferenceCheck:
    """Check pages one after the other; references shared by many pages are checked once.

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
        """Return the path at which visitors get a page, which its relative references start from."""
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
    """Yield the elements of a page that refer to its own site, and to which path and query there.

    Args:
        html: the text of the page.
        page: its path on the site, escaped.

    """
    tree = LexborHTMLParser(html)
    base = tree.css_first("base[href]")
    start = page
    if base is not None:
        found = _resolve(base.attributes.get("href") or "", page)
        if found is None:
            return  # the page lives on another host
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


def _resolve(value: str, start: str) -> str | None:
    """Return path and query of a reference in this site; None for one to another place, or to the page itself."""
    if _PLAIN.fullmatch(value):
        return value
    value = value.strip().translate(_IGNORED)
    if not value or value[0] == "#" or len(value) > _MAX_CHARACTERS or "{" in value:
        return None  # a template that a script fills, at last
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
