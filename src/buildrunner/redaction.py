"""Replace secrets by `[redacted]` in text, also in an incomplete line. Incremental, without I/O.

Only visible text is searched; color codes inside a secret are replaced with it. This protects against accidents (`env` in a
script, a URL in a stack trace). A program that has a secret and wants to print it can always encode it differently.
"""

from __future__ import annotations

import base64
import itertools
import json
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from operator import itemgetter
from urllib.parse import quote, quote_plus, unquote

REDACTED = "[redacted]"

# SGR ("select graphic rendition", ECMA-48 8.3.117): color and weight, the only escape sequences that remain in lines.
SGR = re.compile(r"\x1b\[[0-9;:]*m")

_SHORTEST = 6  # characters; shorter values occur in every log by chance
# RFC 3986, 3.2: user info is the part before the last `@` of the authority.
_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.-]*)://(?:(?P<userinfo>[^/?#\s]*)@)?\S*", re.IGNORECASE)
_CONTROLS = dict.fromkeys([*range(9), *range(10, 32), *range(127, 160), *range(0x202A, 0x202F), *range(0x2066, 0x206A)])
_WORD = re.compile(r"[A-Za-z0-9]{4,}")

# A secret is detected if it takes at most this many characters per character of its own, color codes included. True color
# with a reset for every character (as printed by gradient libraries) takes 24. Without a limit, a build could make the runner
# hold any number of codes after the first letter of a secret.
_LENGTH_OF_COLORED_CHARACTER = 64


class Redactor:
    """The secrets of a build in all forms in which they may be printed."""

    def __init__(self, secrets: Iterable[str]) -> None:
        values = {value for secret in secrets for value in _values(secret)}
        needles = {form for value in values for form in _forms(value) if len(form) >= _SHORTEST}
        self._base64 = _index(form for value in values for form in _base64_forms(_bytes(value)))
        self._needles = sorted(needles, key=len, reverse=True)
        self._longest = _LENGTH_OF_COLORED_CHARACTER * max(map(len, needles), default=0)
        # The forms of one secret have most letters in common. Text without any of these few anchors contains no form, and
        # searching for one with `in` takes 10 µs per 64 KiB; 5 secrets have 100 forms and about 20 anchors.
        self._anchors: dict[str, list[str]] = {}
        for needle in sorted(needles, key=lambda needle: (len(needle), needle)):
            anchor = next((anchor for anchor in self._anchors if anchor in needle), None)
            anchor = anchor or max(_WORD.findall(needle), key=len, default=needle)
            self._anchors.setdefault(anchor, []).append(needle)

    def wrapped_base64(self) -> WrappedBase64:
        """Return an object that replaces base64 wrapped over several lines of one stream."""
        return WrappedBase64(self._base64)

    def redact(self, text: str, hidden: int = 0) -> str:
        """Return `text`, one line or a block of whole lines, without secrets; overlapping secrets are replaced together.

        With `hidden`, `text` begins with the rest that `split` returned.
        """
        return self._replace(text, hidden, growing=False)[0]

    def split(self, text: str, hidden: int = 0) -> tuple[str, str, int]:
        """Redact the start of an incomplete line; return the text that is safe to print, the raw rest, and its `hidden`.

        The rest may be the start of a secret; the next call receives it again with the following text. Its first `hidden`
        visible characters belong to a secret whose replacement has already been returned, which keeps the rest short even if a
        secret overlaps itself for gigabytes.
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
        replaced = hidden  # in `visible`: end of the last replacement
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
        """Return the start of the longest end of `visible` that may be the start of a secret."""
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
    """Return a function that maps the index of a visible character to its index in `text`."""
    indexes: list[int] = []  # of the first visible character after each code
    lengths = [0]  # total length of the codes so far
    for code in SGR.finditer(text):
        indexes.append(code.start() - lengths[-1])
        lengths.append(lengths[-1] + len(code[0]))
    return lambda index: index + lengths[bisect_right(indexes, index)]


def _values(secret: str) -> Iterator[str]:
    """Yield the lines of a secret, at least 6 characters each.

    Each line counts as a secret of its own, so that nothing is held back beyond the end of a line.
    """
    for line in re.split(r"[\r\n]+", secret):
        for part in _secret_parts(line.strip()):
            if len(part) >= _SHORTEST:
                yield part


def _secret_parts(value: str) -> set[str]:
    url = _URL.fullmatch(value)
    if not url:
        return {value}
    if not url["userinfo"]:
        return set()
    user, _, password = url["userinfo"].partition(":")
    # GitHub and others accept a token as the user, without a password or with a constant one. In other schemes, the user may
    # be `default` or `postgres`.
    token = user if "http" in url["scheme"].lower() and password in {"", "x-oauth-basic"} else password
    parts = {token, password, url["userinfo"]} if password else {token}
    return {value, *parts, *map(unquote, parts)}


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")  # the environment may contain bytes that are not UTF-8


def _forms(value: str) -> Iterator[str]:
    """Yield `value` unchanged, URL-encoded, in base64, in a JSON string, and as escaped by shells and in HTML."""
    data = _bytes(value)
    value = data.decode("utf-8", "replace")
    yield value.translate(_CONTROLS)
    yield json.dumps(value)[1:-1]
    yield json.dumps(value, ensure_ascii=False)[1:-1]
    yield from _url_forms(data)
    yield from _base64_forms(data)
    yield from (form.translate(_CONTROLS) for form in (*_shell_forms(value, data), *_html_forms(value)))


def _url_forms(data: bytes) -> Iterator[str]:
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


def _base64_forms(data: bytes) -> Iterator[str]:
    """Yield `data` in both alphabets of base64 (RFC 4648, 4 and 5), for each offset in a group of three bytes."""
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + data).decode()
        # A character has 6 bits; characters that consist only of bits of the secret are always the same.
        encoded = encoded[-(-before * 8 // 6) : (before + len(data)) * 8 // 6]
        yield from {encoded, encoded.replace("+", "-").replace("/", "_")}


def _shell_forms(value: str, data: bytes) -> Iterator[str]:
    """Yield `value` as quoted by shells: in single quotes, in double quotes, with backslashes, and as `$'…'`."""
    yield value.replace("'", "'\\''")
    yield value.replace("'", "'\"'\"'")
    yield re.sub(r'([$`"\\])', r"\\\1", value)
    yield re.sub(r'([$`"\\!])', r"\\\1", value)
    for escaped in (r"[^\w@%+=:./~#-]|^[~#]", r"[^\w@%+=:./~,-]|^~"):  # `printf %q` of bash and of zsh
        yield re.sub(escaped, r"\\\g<0>", value)
    ansi = value.replace("\\", "\\\\").replace("'", "\\'").replace("\t", "\\t").replace("\x1b", "\\E")
    yield ansi
    octal = data.replace(b"\\", b"\\\\").replace(b"'", b"\\'")
    yield "".join(chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}" for byte in octal)


def _html_forms(value: str) -> Iterator[str]:
    """Yield `value` as libraries escape it for HTML and XML; they differ in quotes and `/`."""
    inner = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    doubles, singles = ('"', "&quot;", "&#34;"), ("'", "&#39;", "&#x27;", "&#039;", "&apos;")
    for double, single in itertools.product(doubles, singles):
        yield inner.replace('"', double).replace("'", single)
    for character, entity in (("/", "&#x2F;"), ("=", "&#x3D;"), ("`", "&#x60;"), ('"', "&quot;"), ("'", "&#39;")):
        inner = inner.replace(character, entity)  # as in mustache.js
    yield inner


# --- base64 over several lines -----------------------------------------------------------------------------------

_GRAM = 6  # characters that identify a part of an encoded secret
_SURE = 12  # characters of an encoded secret that are certain anywhere in a line
_SHORT_LINES = 8  # characters of consecutive lines shorter than `_GRAM` that are certain together
_FIRST, _LAST = itemgetter(slice(None, _GRAM)), itemgetter(slice(-_GRAM, None))
_RUN = re.compile(rf"[A-Za-z0-9+/_-]{{{_SHORT_LINES},}}")  # in consecutive short lines
_HELD = 64  # characters of short lines that are stored, because the next line may show that they must be replaced
_AROUND = " \t\"',|>\\"  # what may surround a wrapped line: indentation, quotes, a border

Index = Mapping[str, list[tuple[str, int]]]


def _index(encodings: Iterable[str]) -> Index:
    """Return the positions of each sequence of `_GRAM` characters in the encodings, at most a few for repeated ones."""
    index: dict[str, list[tuple[str, int]]] = {}
    for encoding in set(encodings):
        for start in range(len(encoding) - _GRAM + 1):
            places = index.setdefault(encoding[start : start + _GRAM], [])
            if len(places) < 8:
                places.append((encoding, start))
    return index


class WrappedBase64:
    """Replace secrets in base64 that a program wrapped, as `base64` does after 76 characters and `openssl` after 64.

    One object follows one stream. The first or last characters of a line identify it as part of a secret; then the start of
    the next line is known. Of lines shorter than 6 characters that arrive one by one, the first few are printed, but no more
    characters than the minimum length of a secret.
    """

    def __init__(self, index: Index) -> None:
        self._index = index
        self._next: list[tuple[str, int]] = []  # possible starts of the next line: an encoding, and the position in it
        self._short = ""  # consecutive short lines so far

    def redact(self, block: str) -> str:
        """Return `block`, whole lines, without parts of wrapped secrets."""
        if not self._index:
            return block
        index = self._index
        visible = [line.strip(_AROUND) for line in (SGR.sub("", block) if "\x1b" in block else block).split("\n")]
        grams = index.keys()
        if not self._next and grams.isdisjoint(map(_FIRST, visible)) and grams.isdisjoint(map(_LAST, visible)):
            short = ""
            if min(map(len, visible)) < _GRAM:
                short = self._short + "".join([line if len(line) < _GRAM else "\n" for line in visible])
            runs = _RUN.findall(short)
            if not any(run[at : at + _GRAM] in index for run in runs for at in range(len(run) - _GRAM + 1)):
                self._short = short.rpartition("\n")[2][-_HELD:]
                return block
        lines = block.split("\n")
        for number, line in enumerate(visible):
            if self._next or len(line) < _GRAM or line[:_GRAM] in index or line[-_GRAM:] in index:
                if line:
                    self._redact_line(lines, visible, number)
            else:
                self._short = ""
        return "\n".join(lines)

    def _redact_line(self, lines: list[str], visible: list[str], number: int) -> None:
        line = visible[number]
        start, stop, self._next = self._find(line)
        if stop > start:
            self._short = ""
            lines[number] = _replace_visible(lines[number], line, start, stop)
        elif len(line) >= _GRAM:
            self._short = ""
        else:
            self._short = (self._short + line)[-_HELD:]
            found = self._find(self._short[-_SHORT_LINES:]) if len(self._short) >= _SHORT_LINES else (0, 0, [])
            if found[1] - found[0] == _SHORT_LINES:
                self._next, self._short = found[2], ""
                left = _SHORT_LINES
                while left > 0 and number >= 0 and 0 < len(visible[number]) < _GRAM:
                    lines[number] = _replace_visible(lines[number], visible[number], 0, len(visible[number]))
                    left -= len(visible[number])
                    number -= 1

    def _find(self, line: str) -> tuple[int, int, list[tuple[str, int]]]:
        """Return the part of `line` that belongs to a secret, and the possible starts of the next line."""
        if not (self._next or line[:_GRAM] in self._index or line[-_GRAM:] in self._index):
            return 0, 0, []
        best, following = (0, 0), list[tuple[str, int]]()

        def found(start: int, stop: int, encoding: str, end: int) -> None:
            nonlocal best
            if stop - start > best[1] - best[0]:
                best = (start, stop)
                following.clear()
            if (start, stop) == best and stop == len(line) and end < len(encoding):
                following.append((encoding, end))

        for encoding, place in self._next:
            length = _common(line, encoding[place:])
            if length in {len(line), len(encoding) - place}:
                found(0, length, encoding, place + length)
        for encoding, place in self._index.get(line[:_GRAM], ()):
            length = _common(line, encoding[place:])
            if length >= _SURE or length in {len(line), len(encoding) - place}:
                found(0, length, encoding, place + length)
        for encoding, place in self._index.get(line[-_GRAM:], ()):
            end = place + _GRAM
            length = _common(line[::-1], encoding[:end][::-1])
            if length >= _SURE or length in {len(line), end}:
                found(len(line) - length, len(line), encoding, end)
        return *best, following


def _common(one: str, other: str) -> int:
    """Return the length of the common prefix of two texts."""
    length = min(len(one), len(other))
    return next((index for index in range(length) if one[index] != other[index]), length)


def _replace_visible(line: str, visible: str, start: int, stop: int) -> str:
    """Replace a part of the visible text of `line`, given as indexes into its stripped visible text."""
    position = _positions(line)
    offset = (SGR.sub("", line) if "\x1b" in line else line).index(visible)
    first, last = position(offset + start), position(offset + stop - 1) + 1
    return f"{line[:first]}{REDACTED}{line[last:]}"


def visible(text: str) -> str:
    r"""Show nonprintable characters, such as control characters and bytes that are not UTF-8, as `\x1b`."""

    def escaped(character: str) -> str:
        if "\udc80" <= character <= "\udcff":  # Python's representation of a byte that is not UTF-8 (PEP 383)
            return f"\\x{ord(character) - 0xDC00:02x}"
        return character.encode("unicode_escape", "surrogatepass").decode()

    return "".join(c if c.isprintable() else escaped(c) for c in text)
