r"""Apply the cursor movements of spinners and progress bars to a line. Incremental, without I/O.

Only movements within the line count. A move back to its start begins a new state of the line (as `\r` does in `text`);
elsewhere, new characters replace old ones one by one, as on a terminal. In clean text, which has no other control characters, a
move is MOVED, a count and a letter: D back, C forward, G to a column, P to an existing column, S save, R restore.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MOVED = "\x01"
# CUF, CUB, CPL, CHA, HPA; EL 1 and 2, which erase the start; SCOSC, SCORC, DECSC, DECRC. Backspaces are removed like other
# control characters, because a program may print them only to hide its output.
_MOVE = re.compile(r"(?:(?:\x1b\[|\x9b)(?:(?P<count>[0-9]{0,5})(?P<final>[CDFG`])|(?P<erase>[12]K)|[su])|\x1b[78])")
# A constant prefix without a group takes a third of the time of _MOVE in colored text without moves.
_SEVEN_BIT_MOVE = re.compile(r"\x1b(?:\[(?:[0-9]{0,5}[CDFGsu`]|[12]K)|[78])")
_ENCODED = re.compile(r"\x01[0-9]*[A-Z]")
_TOKEN = re.compile(r"\x01([0-9]*[A-Z])|(\x1b\[[0-9;:]*m)|([^\x01\x1b]+)")


def may_move(text: str, start: int) -> bool:
    """Return quickly whether there is a move after `start` in text that is not clean yet; colors don't count."""
    return "\x9b" in text or _SEVEN_BIT_MOVE.search(text, start) is not None


@lru_cache(maxsize=1024)
def encode_move(sequence: str) -> str:
    r"""Return the move of an escape sequence, `\r` for one to the start of the line, or an empty string for others."""
    move = _MOVE.fullmatch(sequence)
    if not move:
        return ""
    count, final = int(move["count"] or 0) or 1, move["final"]
    if final in {"C", "D"}:
        return f"\x01{count}{final}"
    if final in {"G", "`"} and count > 1:
        return f"\x01{count - 1}G"
    if final or move["erase"]:
        return "\r"
    return "\x01S" if sequence[-1] in "7s" else "\x01R"


def drawn(state: str, longest: int) -> str:
    """Return the visible text at the end of a state of a line."""
    return _ENCODED.sub("", _draw(state, longest)[0]) if MOVED in state else state


class Drawing:
    """The state of a line that is still being written.

    Args:
        longest: characters, including color codes. A longer state continues without its moves, so that memory is bounded.

    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._held = ""
        self._is_long = False

    def add(self, text: str) -> str:
        """Return the text that can no longer be replaced."""
        if self._is_long:
            return _ENCODED.sub("", text)
        self._held += text
        if MOVED not in self._held:
            self._is_long = len(self._held) > self._longest
        elif len(self._held) > 2 * self._longest:  # not for each chunk, because it takes as long as the whole text
            self._held, self._is_long = _draw(self._held, self._longest)
        if not self._is_long:
            return ""
        held, self._held = self._held, ""
        return held

    def finish(self) -> str:
        """Return the rest, and start a new state."""
        rest = drawn(self._held, self._longest)
        self._held, self._is_long = "", False
        return rest


def _draw(state: str, longest: int) -> tuple[str, bool]:
    """Apply the moves of a state; return the resulting text, with the moves that restore the cursor.

    The second value is true if the text has more than `longest` characters; moves after that are left out.
    """
    # Each is a character with the color codes before it, or empty for the second half of a wide character.
    columns: list[str] = []
    codes = ""  # before the next character
    held = at = saved = 0
    for token in _TOKEN.finditer(state):
        move, code, text = token.groups()
        if text:
            if at == 0 and columns:
                columns.clear()
                held = len(codes)
            if at == len(columns) and text.isascii():
                columns += [codes + text[0], *text[1:]]
                held += len(text)
                at += len(text)
                codes = text = ""
            for index, character in enumerate(text):
                at, more = _put(columns, at, character, codes)
                held += more - len(codes)
                codes = ""
                if held > longest:
                    return "".join(columns) + text[index + 1 :] + _ENCODED.sub("", state[token.end() :]), True
        elif code:
            codes += code
            held += len(code)
        elif move == "S":
            saved = at
        elif move == "R":
            at = min(saved, len(columns))
        else:
            count, kind = int(move[:-1]), move[-1]
            if kind == "D":
                at = max(0, at - count)
            elif kind == "G" and count > len(columns) > 0:
                if columns[-1] != " ":  # a gap, as between columns of a table, which need not be as wide
                    columns.append(" ")
                    held += 1
                at = len(columns)
            else:
                at = min(at + count if kind == "C" else count, len(columns))
        if held > longest:
            return "".join(columns) + codes + _ENCODED.sub("", state[token.end() :]), True
    cursor = f"\x01{saved}P\x01S" * bool(saved) + f"\x01{at}P" * bool(saved or at < len(columns))
    return "".join(columns) + cursor + codes, False


def _put(columns: list[str], at: int, character: str, codes: str) -> tuple[int, int]:
    """Write a character; return the next column, and the number of columns added."""
    width = 1 if character <= "\u02ff" else _width(character)
    if not width and at:
        columns[at - (1 if columns[at - 1] else 2)] += codes + character
        return at, len(codes) + 1
    cell = [codes + character, ""][: width or 1]
    end, more = at + len(cell), 0
    # Overwriting half of a wide character removes it.
    if columns[at : at + 1] == [""]:
        more += 1 - len(columns[at - 1])
        columns[at - 1] = " "
    if columns[end : end + 1] == [""]:
        more += 1
        columns[end] = " "
    more += len(cell[0]) - sum(map(len, columns[at:end]))
    columns[at:end] = cell
    return end, more


def _width(character: str) -> int:
    """Return the number of terminal columns of a character."""
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
