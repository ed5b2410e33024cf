"""Replace secrets by `[redacted]` in text, also in a line that has no end yet. Incremental, without I/O.

What is searched is the visible text: colour codes inside a secret are replaced with it. This guards against accidents
(`env` in a script, a URL in a stack trace); who is given a secret and wants to print it can always encode it once more.
"""

from __future__ import annotations

import base64
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from urllib.parse import quote, quote_plus, unquote

REDACTED = "[redacted]"

# SGR ("select graphic rendition", ECMA-48 8.3.117): colour and weight, the only escape sequence that lines still have.
SGR = re.compile(r"\x1b\[[0-9;:]*m")

_SHORTEST = 6  # characters; what is shorter stands in every log by chance
_COMMON = {"true", "false", "production", "development"}
_NUMBER = re.compile(r"[+-]?[0-9]+(?:\.[0-9]+)?")
# RFC 3986, 3.2: user info is what stands before the last `@` of the authority.
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<userinfo>[^/?#\s]*)@)?\S*", re.IGNORECASE)
_CONTROLS = dict.fromkeys([*range(9), *range(10, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
_WORD = re.compile(r"[A-Za-z0-9]{6,}")

# A secret counts as one when it takes at most this many characters for each of its own, colour codes included: true
# colour with a reset around every character (what gradient libraries print) takes 24. A bound there must be, or a
# build could make us hold any amount of codes after the first letter of a secret.
_LENGTH_OF_COLOURED_CHARACTER = 64


class Redactor:
    """Know a run's secrets in all the forms in which they may be printed."""

    def __init__(self, secrets: Iterable[str]) -> None:
        needles = {needle for secret in secrets for needle in _needles(secret)}
        self._needles = sorted(needles, key=len, reverse=True)
        self._longest = _LENGTH_OF_COLOURED_CHARACTER * max(map(len, needles), default=0)
        # Forms of one secret share most of their letters. A text that has none of these few anchors has no needle,
        # and looking for one with `in` costs 10 µs for 64 KiB; 5 secrets have 100 needles and some 20 anchors.
        self._anchors: dict[str, list[str]] = {}
        for needle in sorted(needles, key=lambda needle: (len(needle), needle)):
            anchor = next((anchor for anchor in self._anchors if anchor in needle), None)
            anchor = anchor or max(_WORD.findall(needle), key=len, default=needle)
            self._anchors.setdefault(anchor, []).append(needle)

    def redact(self, text: str, hidden: int = 0) -> str:
        """Return `text`, one line or a block of whole lines, without its secrets; overlapping ones become one.

        With `hidden`, `text` is the rest that `split` returned, or begins with it.
        """
        return self._replace(text, hidden, growing=False)[0]

    def split(self, text: str, hidden: int = 0) -> tuple[str, str, int]:
        """Redact the beginning of a line that still grows; return what can go out, the raw rest, and its `hidden`.

        The rest may be the beginning of a secret: the next call gets it again, with what came after it. Of its visible
        characters the first `hidden` belong to a secret whose replacement has gone out already. That is what keeps the
        rest short where a secret overlaps itself for gigabytes.
        """
        return self._replace(text, hidden, growing=True)

    def _replace(self, text: str, hidden: int, *, growing: bool) -> tuple[str, str, int]:
        if not self._needles:
            return text, "", 0
        visible = SGR.sub("", text) if "\x1b" in text else text
        hits = [
            hit
            for anchor, needles in self._anchors.items()
            if anchor in visible
            for needle in needles
            for hit in _find(needle, visible)
        ]
        if not (hits or hidden or growing):
            return text, "", 0
        position = _positions(text)
        end = self._beginning(text, visible, position) if growing else len(visible)

        redacted: list[str] = []
        replaced = hidden  # in `visible`: how far the last replacement reaches
        copied = position(hidden - 1) + 1 if hidden else 0  # in `text`
        for start, stop in sorted(hits):
            if start >= end:
                break
            first, last = position(start), position(stop - 1) + 1
            if last - first > self._longest:
                continue
            if start >= replaced:
                redacted += (text[copied:first], REDACTED)
            if stop > replaced:
                replaced, copied = stop, last
        cut = position(end) if end < len(visible) else len(text)
        redacted.append(text[copied:cut])
        return "".join(redacted), text[cut:], max(replaced - end, 0)

    def _beginning(self, text: str, visible: str, position: Callable[[int], int]) -> int:
        """Return where the longest end of `visible` begins that a secret may begin with."""
        found = len(visible)
        for needle in self._needles:
            start = max(len(visible) - len(needle) + 1, 0)
            while (start := visible.find(needle[0], start, found)) >= 0:
                if needle.startswith(visible[start:]) and len(text) - position(start) < self._longest:
                    found = start
                    break
                start += 1
        return found


def _find(needle: str, text: str) -> Iterator[tuple[int, int]]:
    start = text.find(needle)
    while start >= 0:
        yield start, start + len(needle)
        start = text.find(needle, start + 1)


def _positions(text: str) -> Callable[[int], int]:
    """Return the function from the index of a visible character to its index in `text`."""
    indexes: list[int] = []  # of the first visible character after each code
    lengths = [0]  # of all codes so far
    for code in SGR.finditer(text):
        indexes.append(code.start() - lengths[-1])
        lengths.append(lengths[-1] + len(code[0]))
    return lambda index: index + lengths[bisect_right(indexes, index)]


def _needles(secret: str) -> Iterator[str]:
    """Yield what to look for: no line breaks, at least 6 characters each.

    Every line of a secret stands for itself, so that nothing is ever held back past the end of a line.
    """
    for line in re.split(r"[\r\n]+", secret):
        for part in _secret_parts(line.strip()):
            if len(part) >= _SHORTEST and part.casefold() not in _COMMON and not _NUMBER.fullmatch(part):
                yield from (form for form in _forms(part) if len(form) >= _SHORTEST)


def _secret_parts(value: str) -> set[str]:
    url = _URL.fullmatch(value)
    if not url:
        return {value}
    if not url["userinfo"]:
        return set()
    user, _, password = url["userinfo"].partition(":")
    # GitHub and others take a token as the user, with no password or a constant one. Not so in other schemes, where
    # the user may be `default` or `postgres`.
    token = user if "http" in url["scheme"].lower() and password in {"", "x-oauth-basic"} else password
    parts = {token, password, url["userinfo"]} if password else {token}
    return {value, *parts, *map(unquote, parts)}


def _forms(secret: str) -> Iterator[str]:
    """Yield `secret` as it is, URL-encoded, in base64 (RFC 4648, 4 and 5) and as part of a JSON string."""
    data = secret.encode("utf-8", "surrogateescape")  # what the environment holds as bytes that are not UTF-8
    secret = data.decode("utf-8", "replace")
    yield secret.translate(_CONTROLS)
    yield json.dumps(secret)[1:-1]
    yield json.dumps(secret, ensure_ascii=False)[1:-1]

    for encoded in (
        quote(data),
        quote(data, safe=""),
        quote_plus(data),
        quote_plus(data, safe="*").replace("~", "%7E"),  # URLSearchParams of JavaScript
        quote(data, safe="!'()*"),  # encodeURIComponent
        quote(data, safe="!'()*;,/?:@&=+$#"),  # encodeURI
    ):
        yield encoded
        yield re.sub("%..", lambda escape: escape[0].lower(), encoded)

    for before in range(3):  # bytes of something else that share a group of three with the secret
        encoded = base64.b64encode(bytes(before) + data).decode()
        # A character holds 6 bits; those of which all bits are the secret's are always the same.
        encoded = encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield encoded
        yield encoded.replace("+", "-").replace("/", "_")
