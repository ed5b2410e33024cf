"""What the headers of a request ask for: a site, an encoding, a part of a body, or nothing new. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?")
_ABSOLUTE = re.compile(r"https?://([^/?#]*)(.*)", re.IGNORECASE | re.DOTALL)
# https://www.rfc-editor.org/rfc/rfc9110#section-7.2
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+?)\.?(?::[0-9]*)?")
_ENCODINGS = ("br", "gzip")  # that we have, the better first
_QUALITY = re.compile(r"q\s*=\s*([01](?:\.[0-9]{0,3})?)", re.IGNORECASE)
_RANGE = re.compile(r"bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})", re.IGNORECASE)
_ETAG = re.compile(r'(?:W/)?"([\x21\x23-\x7e\x80-\xff]*)"|\*')
_SUFFIX = re.compile(r"-(?:br|gzip)$")
_MAX_CHARACTERS = 1_000  # of a header that is parsed


def split_target(target: str) -> tuple[str | None, str, str]:
    """Return host, path and query of a request's target; the host is None unless the target names one.

    The absolute form is what proxies are sent (RFC 9112, 3.2.2); its host counts, and not that of the header.
    """
    host = None
    if not target.startswith("/") and (found := _ABSOLUTE.fullmatch(target)):
        host, target = found[1].rpartition("@")[2], found[2]
    path, _, query = target.partition("?")
    return host, path or "/", query


@lru_cache(4096)
def host_name(header: str) -> str | None:
    """Return the name in a Host header, in lower case and without its port; None where it is no name."""
    found = _HOST.fullmatch(header) if len(header) <= _MAX_CHARACTERS else None
    return found[1].lower() if found else None


def slug_of(host: str, domains: Sequence[str]) -> str | None:
    """Return the slug that is the only label before one of the domains; None where there is none."""
    slug, _, domain = host.partition(".")
    return slug if domain in domains and _SLUG.fullmatch(slug) else None


@lru_cache(1024)
def encodings_of(accept: str) -> tuple[str, ...]:
    """Return the encodings that a visitor takes, the best first (RFC 9110, 12.5.3)."""
    qualities: dict[str, float] = {}
    for part in accept[:_MAX_CHARACTERS].lower().split(","):
        name, _, parameters = part.partition(";")
        found = _QUALITY.fullmatch(parameters.strip())
        qualities[name.strip()] = float(found[1]) if found else 0.0 if parameters.strip() else 1.0
    default = qualities.get("*", 0.0)
    accepted = {name: qualities.get(name, default) for name in _ENCODINGS}
    identity = qualities.get("identity", 0.0)
    return tuple(
        name
        for name in sorted(_ENCODINGS, key=lambda name: (-accepted[name], _ENCODINGS.index(name)))
        if accepted[name] > 0 and accepted[name] >= identity
    )


def variant_etag(etag: str, encoding: str | None) -> str:
    """Return the ETag header of a body: each encoding has a validator of its own (RFC 9110, 8.8.3.3)."""
    return f'"{etag}-{encoding}"' if encoding else f'"{etag}"'


def matches_etag(if_none_match: str, etag: str) -> bool:
    """Return whether a visitor has the object already, as it is or compressed; proxies weaken what they compress."""
    if len(if_none_match) > 8 * _MAX_CHARACTERS:
        return False
    return any(
        found[0] == "*" or found[1] == etag or _SUFFIX.sub("", found[1]) == etag
        for found in _ETAG.finditer(if_none_match)
    )


def byte_range(header: str, size: int) -> range | None:
    """Return which bytes of a body are wanted: empty where none of them is there, None for the whole body.

    What is malformed, or asks for several ranges, is ignored, as RFC 9110 (14.2) allows.
    """
    found = _RANGE.fullmatch(header.strip()) if len(header) <= _MAX_CHARACTERS else None
    if not found or not (found[1] or found[2]):
        return None
    if not found[1]:
        return range(max(0, size - int(found[2])), size)
    first = int(found[1])
    if found[2] and int(found[2]) < first:
        return None
    last = min(int(found[2]), size - 1) if found[2] else size - 1
    return range(first, last + 1) if first < size else range(0)
