"""Load the files of the page, and give each a name with a hash, also where they reference each other."""

from __future__ import annotations

import gzip
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from importlib.resources.abc import Traversable

_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "woff2": "font/woff2",
}
_MODULES = ("client.js", "embed.js")
_TEXT = {"css", "html", "js", "svg"}
_REFERENCE = re.compile(rb"""(?<=["'(])(?:\./|/static/)([A-Za-z0-9_.-]+)(?=["')])""")
_COMMENT_LINES = re.compile(rb"^[ \t]*(?://|/\*\*|\*[ /]|\*$).*\n", re.M)
# After a semicolon, and without quotes, which the end of a string that contains `; //` would have.
_COMMENTS_AT_END = re.compile(rb"(?<=;) // [^\"'`\n]*$", re.M)
_CSS_COMMENTS = re.compile(rb"/\*.*?\*/\n?", re.S)
_INDENTATION = re.compile(rb"^[ \t]+", re.M)


@dataclass(frozen=True, slots=True)
class Asset:
    """A file as it is sent."""

    content_type: str
    body: bytes
    compressed: bytes | None  # gzip, if that is smaller
    etag: str


@dataclass(frozen=True, slots=True)
class Assets:
    """The files of the page."""

    shell: Asset  # index.html
    error: Asset  # error.html, with {{title}} and {{message}}
    modules: Mapping[str, Asset]  # by their plain names, for imports from other pages
    static: Mapping[str, Asset]  # by the name with the hash


def load_assets(folder: Traversable | None = None) -> Assets:
    """Read `static/`. One hash covers all files, because modules may import each other in a cycle."""
    folder = folder or files("buildrunner.gateway") / "static"
    bodies = {
        entry.name: entry.read_bytes()
        for entry in folder.iterdir()
        if entry.is_file() and _suffix(entry.name) in _TYPES
    }
    digest = hashlib.sha256()
    for name in sorted(bodies):
        digest.update(f"{name}\0{len(bodies[name])}\0".encode() + bodies[name])
    version = digest.hexdigest()[:12]
    hashed = {name: _with_hash(name, version) for name in bodies}

    def refer(match: re.Match[bytes]) -> bytes:
        name = match[1].decode()
        return b"/static/" + hashed[name].encode() if name in hashed else match[0]

    assets = {}
    for name, body in bodies.items():
        served = _compact(_suffix(name), _REFERENCE.sub(refer, body)) if _suffix(name) in _TEXT else body
        compressed = gzip.compress(served, mtime=0)
        assets[name] = Asset(
            _TYPES[_suffix(name)],
            served,
            compressed if len(compressed) < len(served) else None,
            f'"{hashlib.sha256(served).hexdigest()[:16]}"',
        )
    shell, error = assets.pop("index.html"), assets.pop("error.html")
    modules = {name: assets[name] for name in _MODULES}
    return Assets(shell, error, modules, {hashed[name]: asset for name, asset in assets.items()})


def _compact(suffix: str, body: bytes) -> bytes:
    """Remove comments and indentation, a sixth of the size of the page. No string may span lines."""
    if suffix == "js":
        body = _COMMENTS_AT_END.sub(b"", _COMMENT_LINES.sub(b"", body))
    elif suffix == "css":
        body = _CSS_COMMENTS.sub(b"", body)
    return _INDENTATION.sub(b"", body)


def _suffix(name: str) -> str:
    return name.rpartition(".")[2]


def _with_hash(name: str, version: str) -> str:
    stem, _, suffix = name.rpartition(".")
    return f"{stem}.{version}.{suffix}"
