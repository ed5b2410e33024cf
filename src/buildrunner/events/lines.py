r"""Convert the bytes of a pipe to clean lines of text. Incremental, without I/O.

Bytes are decoded, sequences that would control a terminal are removed, and the text is split into lines. Of a line that is
redrawn, only the last state remains. Then secrets are replaced. Each step processes blocks of many lines at once, and examines a
block only if one quick test finds something to do.

`\r` and cursor movements redraw a line. At the start of the line, a new state begins; elsewhere, new characters replace the
old ones one by one, as on a terminal.

Escape sequences follow ECMA-48 5.3 to 5.6 and 8.3, ECMA-35 13, and *XTerm Control Sequences*. An interrupted one ends as in
xterm: at the next ESC, at CAN and at SUB.
"""

from __future__ import annotations

import codecs
import re
from collections import deque
from itertools import groupby, repeat
from typing import TypeAlias

from buildrunner.events.cursor import MOVED, Drawing, drawn, encode_move, may_move
from buildrunner.redaction import SGR, Redactor

# The text of a line, or of a piece of a long line, and whether it continues the previous piece (`cont`). A plain tuple,
# because one is created for every line: 0.03 µs, where a NamedTuple takes 0.27 µs and a frozen dataclass 0.37 µs.
Line: TypeAlias = tuple[str, bool]

MAX_LINE_BYTES = 16 * 1024  # of UTF-8
_SHORT = 2048  # characters; even replacing secrets can't make such a text a long line

_MAX_SGR = 128  # characters between `ESC [` and `m`; three colors and all attributes take less than 80
_STRING = r"[^\x07\x18\x1a\x1b\x9c\n]*"  # up to BEL, ST or an interruption, so that a missing end doesn't hide the log
_ESCAPE_SEQUENCE = (
    rf"\x1b(?!\[[0-9;:]{{0,{_MAX_SGR}}}m)"
    rf"(?:\[[ -?]*[@-~]?|[PX\]^_]{_STRING}[\x07\x9c]?|[ -/]+[0-~]?|[0-~])?"  # CSI; DCS, SOS, OSC, PM, APC; the others
)
_ESCAPES = re.compile(_ESCAPE_SEQUENCE)
_UNWANTED = re.compile(
    # The lookahead makes a search in text without sequences twice as fast.
    r"(?=[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069])(?:"
    rf"{_ESCAPE_SEQUENCE}"
    rf"|\x9b[ -?]*[@-~]?|[\x90\x98\x9d-\x9f]{_STRING}[\x07\x9c]?"  # the same with 8-bit introducers
    r"|[\x00-\x08\x0b\x0c\x0e-\x1a\x1c-\x1f\x7f-\x8f\x91-\x97\x99\x9a\x9c\u202a-\u202e\u2066-\u2069]+)"
)
_UNFINISHED = re.compile(rf"\x1b(?:\[[ -?]*|[PX\]^_]{_STRING}|[ -/]*)|\x9b[ -?]*|[\x90\x98\x9d-\x9f]{_STRING}")

_PLAIN = bytes({*b"\t\n\r", *range(0x20, 0x7F), *range(0x80, 0x100)} - {0xC2, 0xE2})
# C1 controls and the bidirectional controls, in UTF-8. One pattern each, because a constant prefix is searched with memchr.
_RARE = [re.compile(pattern) for pattern in (rb"\xc2[\x80-\x9f]", rb"\xe2\x80[\xaa-\xae]", rb"\xe2\x81[\xa6-\xa9]")]


class LineDecoder:
    """Convert the data of one pipe to lines.

    Memory is limited to 16 KiB, the longest secret with its color codes, and the chunk that is fed. A line is returned as a
    whole when its end arrives; the pieces of a line longer than 16 KiB are returned while it grows.
    """

    def __init__(self, redactor: Redactor) -> None:
        self._redactor = redactor
        self._wrapped = redactor.wrapped_base64()
        self._bytes = b""  # start of a character
        self._sequence = ""  # start of an escape sequence
        self._line = ""  # start of a line: clean, with its `\r` and moves, secrets not yet replaced
        # The line is long: its earlier states are resolved, and `_line` is only the rest of the current one, which starts with the
        # redacted `_state` (see `Redactor.split` for `_hidden`).
        self._long = False
        self._kept = ""  # state to show unless a better one follows
        self._drawing = Drawing(MAX_LINE_BYTES)  # the current state, before it is added to `_line`
        self._state = ""
        self._hidden = 0
        self._state_is_out = False  # pieces of it were returned, so later text cannot replace it
        self._line_is_out = False

    def feed(self, data: bytes) -> list[Line]:
        """Return the lines that end in `data`, and the complete pieces of a long one."""
        return self._split(self._decode(data, final=False))

    def finish(self) -> list[Line]:
        """Return the incomplete last line after the pipe was closed."""
        lines = self._split(self._decode(b"", final=True))
        rest = ""
        if not self._long:
            rest, self._line = self._wrapped.redact(self._line) if self._line else "", ""
        return lines + self._grow(rest) + self._end_line(terminated=False)

    def _decode(self, data: bytes, *, final: bool) -> str:
        if self._bytes:
            data = self._bytes + data
        text, decoded = codecs.utf_8_decode(data, "replace", final)
        self._bytes = data[decoded:]
        unusual = data.translate(None, _PLAIN)
        if not (unusual or self._sequence):
            return text
        pattern = _ESCAPES
        if self._sequence or unusual.translate(None, b"\x1b\xc2\xe2") or any(rare.search(data) for rare in _RARE):
            pattern = _UNWANTED
        elif b"\x1b" not in unusual:
            return text
        text = self._sequence + text

        # An ESC always starts a new sequence, so nothing before the last one can be unfinished.
        last = deque(pattern.finditer(text, max(text.rfind("\x1b"), 0)), maxlen=1)
        self._sequence = ""
        if last and last[0].end() == len(text) and _UNFINISHED.fullmatch(last[0][0]):
            self._sequence = _shortened(last[0][0])
            text = text[: last[0].start()]
        first = pattern.search(text)
        if first is None:  # only colors, as in most text with escape sequences
            return text
        if not may_move(text, first.start()):
            return pattern.sub("", text)
        rest = pattern.sub(lambda found: encode_move(found[0]), text[first.start() :])
        return text[: first.start()] + rest

    def _split(self, text: str) -> list[Line]:
        lines: list[Line] = []
        if self._long:
            line, newline, text = text.partition("\n")
            lines += self._grow(line)
            if not newline:
                return lines
            lines += self._end_line()
        text, self._line = self._line + text, ""
        if "\r" in text:
            text = text.replace("\r\n", "\n")  # faster than examining the states of each line
        block, newline, beginning = text.rpartition("\n")
        if newline:
            lines += self._whole_lines(block)
        if len(beginning) > MAX_LINE_BYTES:
            lines += self._grow(beginning)
        else:
            self._line = beginning
        return lines

    def _whole_lines(self, block: str) -> list[Line]:
        if "\r" in block or MOVED in block:
            lines = block.split("\n")
            if max(map(len, lines)) > _SHORT:
                return [piece for line in lines for piece in self._grow(line) + self._end_line()]
            redrawn = [_last_state(line.split("\r")) if "\r" in line or MOVED in line else line for line in lines]
            block = "\n".join(redrawn)
        lines = self._redactor.redact(self._wrapped.redact(block)).split("\n")
        if max(map(len, lines)) <= MAX_LINE_BYTES // 4:  # a character takes at most 4 bytes
            return list(zip(lines, repeat(False)))
        return [(piece, index > 0) for line in lines for index, piece in enumerate(_pieces(line))]

    # A line in parts (`_grow`, then `_end_line`) gives the same result as a whole one.

    def _grow(self, text: str) -> list[Line]:
        self._long = True
        present, *states = text.split("\r")
        self._line += self._drawing.add(present)
        lines: list[Line] = []
        if states:
            lines += self._end_state()
            *states, present = states
            for is_short, group in groupby(states, key=lambda state: len(state) <= _SHORT):
                for state in [_last_state(list(group))] if is_short else group:
                    self._line = drawn(state, MAX_LINE_BYTES)
                    lines += self._end_state()
            self._line = self._drawing.add(present)
        redacted, self._line, self._hidden = self._redactor.split(self._line, self._hidden)
        return lines + self._hand_out(self._state + redacted)

    def _end_state(self) -> list[Line]:
        rest = self._line + self._drawing.finish()
        lines = self._hand_out(self._state + self._redactor.redact(rest, self._hidden))
        if self._state_is_out:
            lines += self._number([self._state])
            self._kept = ""
        else:
            self._kept = _last_state([self._kept, self._state])
        self._line, self._state, self._hidden, self._state_is_out = "", "", 0, False
        return lines

    def _end_line(self, *, terminated: bool = True) -> list[Line]:
        lines = self._end_state()
        if self._kept or (terminated and not self._line_is_out):
            lines += self._number([self._kept])
        self._long, self._kept, self._line_is_out = False, "", False
        return lines

    def _hand_out(self, state: str) -> list[Line]:
        *pieces, self._state = _pieces(state)
        self._state_is_out |= bool(pieces)
        return self._number(pieces)

    def _number(self, pieces: list[str]) -> list[Line]:
        lines = [(piece, self._line_is_out or index > 0) for index, piece in enumerate(pieces)]
        self._line_is_out |= bool(pieces)
        return lines


def clean(text: str) -> str:
    """Return a line of buildrunner itself, cleaned like the lines of a build."""
    text = re.sub(r"[\ud800-\udfff]", "\ufffd", text)  # from file names that are not UTF-8
    return re.sub(r"[\r\n]+", " ", _UNWANTED.sub("", text).strip("\r\n"))


def without_color(text: str) -> str:
    """Return clean lines without color codes."""
    return SGR.sub("", text) if "\x1b" in text else text


def _last_state(states: list[str]) -> str:
    """Return the last visible state of a line, else the last one with color codes."""
    colored = ""
    for raw in reversed(states):
        state = drawn(raw, MAX_LINE_BYTES)
        if state and without_color(state):
            return state
        colored = colored or state
    return colored


def _pieces(line: str) -> list[str]:
    """Cut `line` into pieces that are as long as possible, between characters and outside color codes."""
    if len(line) <= MAX_LINE_BYTES // (1 if line.isascii() else 4):
        return [line]
    data = line.encode()
    pieces: list[str] = []
    start = 0
    while len(data) - start > MAX_LINE_BYTES:
        end = start + MAX_LINE_BYTES
        while data[end] & 0xC0 == 0x80:
            end -= 1
        code = data.rfind(b"\x1b", start + 1, end)
        if code >= 0 and b"m" not in data[code:end]:
            end = code
        pieces.append(data[start:end].decode())
        start = end
    pieces.append(data[start:].decode())
    return pieces


def _shortened(sequence: str) -> str:
    """Return the shortest part of an unfinished sequence that determines its end, so that an endless one needs no memory."""
    if sequence.startswith(("\x1b[", "\x9b")):
        return sequence if len(sequence) <= _MAX_SGR + 2 else f"{sequence[:2].rstrip('0123456789')}?"
    return sequence[: 2 if sequence[0] == "\x1b" else 1]
