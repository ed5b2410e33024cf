"""Normalize the paths of requests, map them to keys, and encode paths for URLs."""

from __future__ import annotations

import re
from urllib.parse import quote, unquote

MAX_KEY_BYTES = 1024  # https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
# Characters that don't have to be escaped in a path (RFC 3986, 3.3).
_PATH_SAFE = "/:@!$&'()*+,;=-._~"
# The same for a URL that may contain escapes.
_URL_SAFE = f"{_PATH_SAFE}%?#[]"
# A path that stays as it is: no escapes, and no part that is empty, `.` or `..`.
_PLAIN = re.compile(r"(?:/[A-Za-z0-9_~-][A-Za-z0-9._~-]*+)++/?|/", re.ASCII)
_UNSAFE_IN_KEY = re.compile(r"[\x00-\x1f\x7f-\x9f\\\ufffd\ud800-\udfff]")


def normalize_path(raw: str) -> str:
    """Return the path of a request: decoded once, with a leading `/`, and without empty parts, `.` and `..`.

    A trailing slash is kept. `..` never leads above the site (RFC 3986, 5.2.4). Bytes that are not UTF-8 become U+FFFD.
    """
    if _PLAIN.fullmatch(raw):
        return raw
    path = unquote(raw.encode(errors="surrogatepass").decode(errors="replace"), errors="replace")
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in {"", "."}:
            parts.append(part)
    slash = bool(parts) and path.rpartition("/")[2] in {"", ".", ".."}
    return f"/{'/'.join(parts)}{'/' if slash else ''}"


def key_of(path: str) -> str | None:
    """Return the key of the file at a normalized path, relative to the site; None if no file can have this path.

    Files whose names have control characters or a backslash are never published.
    """
    key = path[1:]
    if not key or _UNSAFE_IN_KEY.search(key) or (len(key) if key.isascii() else len(key.encode())) > MAX_KEY_BYTES:
        return None
    return key


def has_extension(path: str) -> bool:
    """Return whether the last part of a path looks like a file (`app.js`, `.env`) instead of a page."""
    return "." in path.rstrip("/").rpartition("/")[2]


def without_slash(path: str) -> str:
    """Return a path without its trailing slash; `/` is returned unchanged."""
    return path.rstrip("/") or "/"


def encode_path(path: str) -> str:
    """Return a decoded path as it is written in a URL: ASCII without control characters."""
    return quote(path, safe=_PATH_SAFE, errors="replace")


def encode_part(text: str) -> str:
    """Escape a text so that it can't end the part of a URL, such as a host or a query, that contains it."""
    return quote(text, safe="-._~", errors="replace")


def encode_url(text: str) -> str:
    """Escape the characters that are not valid in a URL; existing escapes are kept."""
    return quote(text, safe=_URL_SAFE, errors="replace")
