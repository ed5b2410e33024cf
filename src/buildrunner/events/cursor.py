r"""Draw a line on which the cursor moves, as spinners and progress bars do. Incremental, without I/O.

Only moves within the line count. Back at the beginning, the line begins anew (which `text` does with `\r`); elsewhere, new
characters replace the old ones one by one, as on a terminal. In clean text, which has no other control characters, a move
is MOVED, a count and a letter: D back, C forward, G to a column, P to a column that is there, S save, R restore.
"""

from __future__ import annotations

import re
import unicodedata
from functools import lru_cache

MOVED = "\x01"
# CUF, CUB, CPL, CHA, HPA; EL 1 and 2, which erase the beginning; SCOSC, SCORC, DECSC, DECRC. Backspaces are removed like other
# control characters: a program that prints one may only want to hide what it wrote before.
_MOVE = re.compile(r"(?:(?:\x1b\[|\x9b)(?:(?P<count>[0-9]{0,5})(?P<final>[CDFG`])|(?P<erase>[12]K)|[su])|\x1b[78])")
# A constant beginning and no group: a third of the time that _MOVE takes to find none in colored text.
_SEVEN_BIT_MOVE = re.compile(r"\x1b(?:\[(?:[0-9]{0,5}[CDFGsu`]|[12]K)|[78])")
_ENCODED = re.compile(r"\x01[0-9]*[A-Z]")
_TOKEN = re.compile(r"\x01([0-9]*[A-Z])|(\x1b\[[0-9;:]*m)|([^\x01\x1b]+)")


def may_move(text: str, start: int) -> bool:
    """Return quickly whether there is a move after `start` in text that is not clean yet; colors alone are none."""
    return "\x9b" in text or _SEVEN_BIT_MOVE.search(text, start) is not None


@lru_cache(maxsize=1024)
def encode_move(sequence: str) -> str:
    r"""Return the move that an escape sequence is, `\r` for one to the beginning, or nothing."""
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
    """Return what can be seen at the end of a state of a line."""
    return _ENCODED.sub("", _draw(state, longest)[0]) if MOVED in state else state


class Drawing:
    """A state of a line that still grows.

    Args:
        longest: characters, color codes included. A state that gets longer goes on without its moves, so that memory is bounded.

    """

    def __init__(self, longest: int) -> None:
        self._longest = longest
        self._held = ""
        self._is_long = False

    def add(self, text: str) -> str:
        """Return what nothing can replace any more."""
        if self._is_long:
            return _ENCODED.sub("", text)
        self._held += text
        if MOVED not in self._held:
            self._is_long = len(self._held) > self._longest
        elif len(self._held) > 2 * self._longest:  # not at each chunk: it takes as long as all that is held
            self._held, self._is_long = _draw(self._held, self._longest)
        if not self._is_long:
            return ""
        held, self._held = self._held, ""
        return held

    def finish(self) -> str:
        """Return the rest, and begin a new state."""
        rest = drawn(self._held, self._longest)
        self._held, self._is_long = "", False
        return rest


def _draw(state: str, longest: int) -> tuple[str, bool]:
    """Follow the moves of a state; return what there is then, with the moves that restore the cursor.

    The second value tells whether it had more than `longest` characters; moves after that are left out.
    """
    # Each is a character with the color codes before it, or empty: the second half of a wide one.
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
                if columns[-1] != " ":  # a gap, as between the columns of a table; it need not be as wide
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
    """Write a character; return the next column, and by how many characters `columns` has grown."""
    width = 1 if character <= "\u02ff" else _width(character)
    if not width and at:
        columns[at - (1 if columns[at - 1] else 2)] += codes + character
        return at, len(codes) + 1
    cell = [codes + character, ""][: width or 1]
    end, more = at + len(cell), 0
    # Of a wide character that is half written over, nothing stays.
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
    """Return how many columns of a terminal a character takes."""
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1
