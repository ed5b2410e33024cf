from __future__ import annotations

import re
import tracemalloc
import unicodedata
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from unittest.mock import patch

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildrunner.events import lines as text_module
from buildrunner.events.lines import MAX_LINE_BYTES, Line, LineDecoder, clean, without_color
from buildrunner.redaction import REDACTED, Redactor

SECRET = "s3cr3t-tökéñ/1"
REDACTOR = Redactor([SECRET, "aaaaaaaa", "https://me:pass%20word@example.com"])
NO_SECRETS = Redactor([])
BIDIRECTIONAL = {*map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}


@contextmanager
def lines_of_64_bytes() -> Iterator[None]:
    """Lower the limit for long lines, so that small examples reach the behavior at 16 KiB."""
    with patch.object(text_module, "MAX_LINE_BYTES", 64), patch.object(text_module, "_SHORT", 8):
        yield


def decode(*chunks: bytes, redactor: Redactor = NO_SECRETS) -> list[Line]:
    decoder = LineDecoder(redactor)
    return [line for chunk in chunks for line in decoder.feed(chunk)] + decoder.finish()


def texts(*chunks: bytes) -> list[str]:
    return [text for text, _ in decode(*chunks)]


def cut(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(min(cut, len(data)) for cut in cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


# The oracle applies the rules character by character to the whole text.


def cleaned_slowly(text: str) -> str:
    kept = ""
    at = 0

    def skip(characters: str) -> None:
        nonlocal at
        while at < len(text) and text[at] in characters:
            at += 1

    parameters = "".join(map(chr, range(0x20, 0x40)))
    moves: dict[str, Callable[[int], str]] = {
        "D": "\x01{}D".format,
        "C": "\x01{}C".format,
        "F": lambda _: "\r",
        **dict.fromkeys("G`", lambda column: "\r" if column == 1 else f"\x01{column}G"),
    }
    while at < len(text):
        start, character = at, text[at]
        at += 1
        following = text[at : at + 1]
        if character == "\x9b" or (character == "\x1b" and following == "["):
            at += character == "\x1b"
            inside = at
            skip(parameters)
            if at < len(text) and "@" <= text[at] <= "~":
                at += 1
                if character == "\x1b" and text[at - 1] == "m" and set(text[inside : at - 1]) <= set("0123456789;:"):
                    kept += text[start:at] if at - 1 - inside <= 128 else ""
                given = text[inside : at - 1]
                if text[at - 1] in moves and len(given) <= 5 and set(given) <= set("0123456789"):
                    kept += moves[text[at - 1]](int(given or 1) or 1)
                elif text[inside:at] in {"1K", "2K"}:
                    kept += "\r"
                elif text[inside:at] in {"s", "u"}:
                    kept += "\x01!S" if text[at - 1] == "s" else "\x01!R"
        elif character in "\x90\x98\x9d\x9e\x9f" or (character == "\x1b" and following and following in "PX]^_"):
            at += character == "\x1b"
            while at < len(text) and text[at] not in "\x07\x18\x1a\x1b\x9c\n":
                at += 1
            at += text[at : at + 1] in {"\x07", "\x9c"}
        elif character == "\x1b":
            skip(parameters[:16])
            at += at < len(text) and "0" <= text[at] <= "~"
            if text[start + 1 : at] in {"7", "8"}:
                kept += "\x01!S" if text[at - 1] == "7" else "\x01!R"
        elif character in "\t\n\r" or not (unicodedata.category(character) == "Cc" or character in BIDIRECTIONAL):
            kept += character
    return kept


def width_slowly(character: str) -> int:
    if unicodedata.category(character) in {"Mn", "Me", "Cf"}:
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def draw_slowly(state: str) -> str:
    """Draw on a list of cells without a limit: [codes, characters], None after a wide character."""
    if "\x01" not in state:
        return state
    cells: list[list[str] | None] = []
    codes, at, saved, long = "", 0, 0, False
    for token in re.findall(r"\x01[0-9!]+[A-Z]|\x1b\[[0-9;:]*m|.", state, re.DOTALL):
        if token[0] == "\x01":
            if long:
                continue
            count, move = token[1:-1], token[-1]
            if move == "S":
                saved = at
            elif move == "G" and int(count) > len(cells) + 1 and cells:
                if cells[-1] != ["", " "]:
                    cells.append(["", " "])
                at = len(cells)
            else:
                to = int(count.strip("!") or 0)
                to = {"R": saved, "G": to - 1, "C": at + to, "D": at - to}[move]
                at = max(0, min(to, len(cells)))
        elif token[0] == "\x1b":
            codes += token
        else:
            if long:
                at = len(cells)
            elif at == 0:
                cells.clear()
            width = width_slowly(token)
            if width == 0 and at > 0:
                before = cells[at - 1] or cells[at - 2]
                assert before
                before[1] += codes + token
            else:
                new = [[codes, token], None][: width or 1]
                if at < len(cells) and cells[at] is None:
                    cells[at - 1] = ["", " "]
                if at + len(new) < len(cells) and cells[at + len(new)] is None:
                    cells[at + len(new)] = ["", " "]
                cells[at : at + len(new)] = new
                at += len(new)
            codes = ""
        long = (
            long or sum(map(len, ("".join(cell) for cell in cells if cell))) + len(codes) > text_module.MAX_LINE_BYTES
        )
    return "".join("".join(cell) for cell in cells if cell) + codes


def cut_slowly(line: str) -> list[str]:
    pieces = [""]
    for token in re.findall(r"\x1b\[[0-9;:]*m|.", line, re.DOTALL):
        if len((pieces[-1] + token).encode()) > text_module.MAX_LINE_BYTES:
            pieces.append("")
        pieces[-1] += token
    return pieces


def decode_slowly(data: bytes, redactor: Redactor) -> list[Line]:
    *terminated, last = cleaned_slowly(data.decode("utf-8", "replace")).split("\n")
    lines = []
    for index, line in enumerate([*terminated, last]):
        out: list[str] = []
        shown = ""
        for state in map(draw_slowly, line.split("\r")):
            pieces = cut_slowly(redactor.redact(state))
            if len(pieces) > 1:
                out += pieces
                shown = ""
            elif without_color(pieces[0]) or (pieces[0] and not without_color(shown)):
                shown = pieces[0]
        if shown or (not out and index < len(terminated)):
            out.append(shown)
        lines += [(piece, number > 0) for number, piece in enumerate(out)]
    return lines


PARTS = [
    *(b"\x1b", b"[", b"]", b"P", b"\\", b"\x07", b"(", b"B", b"m", b"31", b";", b"?25l", b"\x18", b"8;;u"),
    *(b"\r", b"\n", b"\r\n", b"\t", b"\0", b" ", b"text", b"\x1b[1;31m", b"\x1b[0m", b"\x1b[2K", b"\x1b[3"),
    *(b"\b", b"\b\b\b", b"\x1b[G", b"\x1b[2G", b"\x1b[9G", b"\x1b[D", b"\x1b[3D", b"\x1b[99D", b"\x1b[2C", b"\x1b[F"),
    *(b"\x1b7", b"\x1b8", b"\x1b[s", b"\x1b[u", b"\x9b2D", b"\x1b[1K", b"\x1b[5`", "\u009b2D".encode()),
    *(b"x" * 30, b"x" * 70, b"a" * 25, b"a" * 70, b"aaaaaaaa", b"s3cr3t-", b"pass%20word", b"me:pass%20wo"),
    *map(
        str.encode,
        (
            "\u009b",
            "\u009d",
            "\u009c",
            "\u0085",
            "\u202e",
            "\u2028",
            "\u2069",
            "✓",
            "😀",
            "漢",
            "e\u0301",
            "\u0301",
            "\ufffd",
        ),
    ),
    *map(str.encode, ("é" * 40, SECRET, SECRET[3:], "s3cr\x1b[1m3t-tökéñ/1")),
]
HOSTILE = st.lists(st.one_of(st.binary(max_size=4), st.sampled_from(PARTS)), max_size=20).map(b"".join)
CUTS = st.lists(st.integers(0, 400), max_size=8)


@settings(max_examples=4 * settings().max_examples)
@given(HOSTILE, CUTS)
def test_any_cut_of_the_bytes_gives_the_lines_of_the_rules(data: bytes, cuts: list[int]) -> None:
    assert decode(*cut(data, cuts), redactor=REDACTOR) == decode_slowly(data, REDACTOR)


@settings(max_examples=4 * settings().max_examples)
@given(HOSTILE, CUTS)
def test_any_cut_of_the_bytes_gives_the_same_long_pieces(data: bytes, cuts: list[int]) -> None:
    with lines_of_64_bytes():
        assert decode(*cut(data, cuts), redactor=REDACTOR) == decode_slowly(data, REDACTOR)


@given(HOSTILE)
def test_byte_by_byte_is_the_same_as_at_once(data: bytes) -> None:
    with lines_of_64_bytes():
        single = [data[index : index + 1] for index in range(len(data))]
        assert decode(*single, redactor=REDACTOR) == decode(data, redactor=REDACTOR)


@given(HOSTILE, CUTS)
def test_no_forbidden_character_comes_out(data: bytes, cuts: list[int]) -> None:
    for text, _ in decode(*cut(data, cuts), redactor=REDACTOR):
        text.encode("utf-8")
        rest = without_color(text).replace("\t", "")
        assert not any(unicodedata.category(character) in {"Cc", "Cs"} for character in rest)
        assert not BIDIRECTIONAL & set(rest)
        assert SECRET not in rest


@given(st.binary().map(lambda data: re.sub(rb"[\x1b\r]|\xc2|\xe2", b"", data)))
def test_there_are_as_many_lines_as_newlines_and_one_for_a_rest(data: bytes) -> None:
    rest = cleaned_slowly(data.rpartition(b"\n")[2].decode("utf-8", "replace"))

    assert len(decode(data)) == data.count(b"\n") + bool(rest)


@pytest.mark.parametrize("padding", range(40))
def test_a_secret_split_at_any_byte_and_over_pieces_is_redacted(padding: int) -> None:
    data = b"." * (30 + padding) + SECRET.encode() + b"." * 60

    with lines_of_64_bytes():
        whole = "." * (30 + padding) + REDACTED + "." * 60
        for index in range(len(data)):
            lines = decode(data[:index], data[index:], redactor=REDACTOR)
            assert "".join(text for text, _ in lines) == whole
            assert [cont for _, cont in lines] == [False] + [True] * (len(lines) - 1)


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        (b"a\nb\r\n\nc", ["a", "b", "", "c"]),
        (b"a\r\r\nb", ["a", "b"]),
        (b"10%\r50%\r100%\n", ["100%"]),
        (b"100%\r\x1b[K\n", ["100%"]),
        (b"100%\r\x1b[0m\n", ["100%"]),
        (b"100%\r    \n", ["    "]),
        (b"100%\r", ["100%"]),
        (b"\x1b[32m\r\n", ["\x1b[32m"]),
        (b"\r\n\r\r\n", ["", ""]),
        (b"", []),
        (b"a\n\x1b[?25h", ["a"]),
        (b"a\n\x1b[0m", ["a", "\x1b[0m"]),
    ],
)
def test_lines_end_at_newlines_and_keep_their_last_state(printed: bytes, expected: list[str]) -> None:
    assert texts(printed) == expected
    assert texts(*cut(printed, list(range(len(printed))))) == expected


@pytest.mark.parametrize(
    "back", ["\r", "\x1b[G", "\x1b[0G", "\x1b[1G", "\x1b[`", "\x1b[80D", "\x1b[2K", "\x1b[2K\x1b[1G", "\x1b[1F"]
)
def test_a_line_that_is_redrawn_keeps_its_last_state(back: str) -> None:
    frames = [f"\x1b[32m{frame}\x1b[0m Building {percent}%" for frame, percent in zip("⠋⠙⠹", (9, 50, 100), strict=True)]
    data = back.join(["", *frames, ""]).encode() + b"\nnext"

    assert texts(data) == [frames[-1], "next"]
    assert texts(*cut(data, list(range(len(data))))) == [frames[-1], "next"]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("Compiling |\x1b[D/\x1b[D-\x1b[D\\\x1b[D done", "Compiling  done"),
        ("Progress: 10%\x1b[3D20%\x1b[3D", "Progress: 20%"),
        ("Progress: 10%\x1b[11G20%", "Progress: 20%"),
        ("[    ]\x1b[5D#\x1b[1D##", "[##  ]"),
        ("Loading \x1b7|\x1b8/\x1b8ok", "Loading ok"),
        ("Loading \x1b[s|\x1b[u/", "Loading /"),
        ("Zeit 🕐\x1b[2D🕑\x1b[2D🕒", "Zeit 🕒"),
        ("ab\x1b[2D\x1b[1Cx", "ax"),
        ("a\x1b[5Cb", "ab"),
        ("Starting\x1b[60G[ OK ]", "Starting [ OK ]"),
        ("10%\x1b[3D\x1b[K", "10%"),
        ("abc\x1b[1;2Gd\x1b[?3De", "abcde"),
    ],
)
def test_moves_within_a_line_replace_what_was_there(printed: str, expected: str) -> None:
    data = printed.encode()

    assert texts(data) == [expected]
    assert texts(*cut(data, list(range(len(data))))) == [expected]


def test_a_spinner_that_turns_for_an_hour_is_one_short_line() -> None:
    data = b"Waiting " + b"|\x1b[D/\x1b[D-\x1b[D\\\x1b[D" * 36_000 + b"done\n"

    assert texts(*cut(data, list(range(0, len(data), 4096)))) == ["Waiting done"]


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("\x1b[1;38:2::1:2:3mred\x1b[m\tx", "\x1b[1;38:2::1:2:3mred\x1b[m\tx"),
        ("a\x1b[K\x1b[1A\x1b[?25l\x1b[>4;2m\x1b[0 qb", "ab"),
        ("a\x1b]0;title\x07b\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\c\x1b]52;c;eA==\x9cd", "ablinkcd"),
        ("a\x1bPq#1\x1b\\b\x1bXs\x1b\\c\x1b^p\x1b\\d\x1b_a\x1b\\e", "abcde"),
        ("a\x1b6b\x1b9c\x1bMd\x1bce\x1b(Bf\x1b#8g\x1b%Gh\x1b\x1bi", "abcdefgh"),
        ("a\x9b31mb\x9d0;title\x07c\x90q\x9cd\x9fx\x1b\\e\x85f\x84g", "abcdefg"),
        ("a\x00\x07\x0b\x0c\x7fb", "ab"),
        ("a\u202a\u202eb\u2066\u2069c\u200d\u2028", "abc\u200d\u2028"),
        ("a\x1b[3\x1b[31mb", "a\x1b[31mb"),
        ("a\x1b]0;title\x1b[31mb", "a\x1b[31mb"),
        ("a\x1b\x00[2Jb", "a[2Jb"),
        ("a\x1b[" + "1" * 129 + "mb", "ab"),
        ('{"type":"result","status":"succeeded"}', '{"type":"result","status":"succeeded"}'),
    ],
)
def test_of_escape_sequences_only_colors_stay(printed: str, expected: str) -> None:
    data = printed.encode()

    assert texts(data) == [expected]
    assert texts(*cut(data, list(range(len(data))))) == [expected]


def test_an_endless_string_sequence_takes_only_its_line() -> None:
    assert texts(b"a\x1b]0;lost\nb\x1bPlost", b" too\nc") == ["a", "b", "c"]


def test_bytes_that_are_not_utf_8_become_replacement_characters() -> None:
    assert texts(b"caf\xe9 \xff\xed\xa0\x80 \xe2\x9c") == ["caf\ufffd \ufffd\ufffd\ufffd\ufffd \ufffd"]


def test_a_bidirectional_control_split_over_chunks_is_removed() -> None:
    assert texts(b"a\xe2", b"\x80", b"\xaeb\xc2", b"\x9b2Jc") == ["abc"]


def test_a_long_line_comes_in_pieces_while_it_grows() -> None:
    decoder = LineDecoder(REDACTOR)

    assert decoder.feed(b"x" * MAX_LINE_BYTES) == []
    assert decoder.feed(b"y") == [("x" * MAX_LINE_BYTES, False)]
    assert decoder.feed(b"y" * MAX_LINE_BYTES) == [("y" * MAX_LINE_BYTES, True)]
    assert decoder.feed(b"\nnext\n") == [("y", True), ("next", False)]
    assert decoder.finish() == []


def test_a_16_kib_line_is_one_piece_and_cuts_no_characters() -> None:
    euros = "€" * (MAX_LINE_BYTES // 3)
    colored = "x" * (MAX_LINE_BYTES - 3) + "\x1b[31m"

    lines = decode(f"{'x' * MAX_LINE_BYTES}\n{euros}€\n{colored}y\n".encode())

    assert lines == [
        ("x" * MAX_LINE_BYTES, False),
        (euros, False),
        ("€", True),
        ("x" * (MAX_LINE_BYTES - 3), False),
        ("\x1b[31my", True),
    ]


def test_a_state_longer_than_a_line_stays_when_it_is_redrawn() -> None:
    data = b"gone\r" + b"x" * (MAX_LINE_BYTES + 1) + b"\rgone\rlast\n"

    expected = [("x" * MAX_LINE_BYTES, False), ("x", True), ("last", True)]

    assert decode(data) == expected
    assert decode(*cut(data, list(range(0, len(data), 1000)))) == expected


def test_a_secret_that_ends_a_long_line_keeps_the_next_line() -> None:
    overlapping = "." * 60 + REDACTED

    with lines_of_64_bytes():
        lines = decode(b"." * 60 + b"a" * 30, b"\n" + b"x" * 30, b"x" * 40 + b"\n", redactor=REDACTOR)

    assert lines == [(overlapping[:64], False), (overlapping[64:], True), ("x" * 64, False), ("x" * 6, True)]


def test_a_complete_line_does_not_wait_for_a_secret() -> None:
    assert LineDecoder(REDACTOR).feed(b"see s3cr3t-\n") == [("see s3cr3t-", False)]


@pytest.mark.parametrize(
    "endless",
    [
        b"x",
        "€".encode(),
        b"\r",
        b"50%\r",
        b"\x1b",
        b"\x1b[m",
        b"\x1b[" + b"1" * 99,
        b"\x1b(((",
        b"\0",
        b"\xff",
        "\u009d".encode(),
        b"\x1b[K\r" + b"x" * 5000,
    ],
)
@pytest.mark.parametrize("beginning", [b"", b"\x1b]0;", b"\x1b[", b"\x9b", b"s3cr3t-"])
def test_memory_is_bounded_whatever_has_no_end(beginning: bytes, endless: bytes) -> None:
    assert held_after(40, beginning, endless) < 4 * MAX_LINE_BYTES + 64 * 1024


@pytest.mark.parametrize("endless", [b"x\x1b[2D", b"xx\x1b[D\x1b[m", b"x\x1b[99999G", "漢\x1b[2D\u0301".encode()])
def test_memory_is_bounded_where_the_cursor_moves_for_ever(endless: bytes) -> None:
    assert held_after(20, b"", endless) < 4 * MAX_LINE_BYTES + 64 * 1024


def held_after(chunks: int, beginning: bytes, endless: bytes) -> int:
    """Return the bytes that a decoder holds after a number of chunks of 4 KiB."""
    decoder = LineDecoder(REDACTOR)
    chunk = (endless * 4096)[:4096]
    decoder.feed(beginning)
    tracemalloc.start()
    for _ in range(chunks):
        decoder.feed(chunk)
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    return held


def test_a_sentence_becomes_one_clean_line() -> None:
    assert clean("no such file:\r\n \x1b[1mcaf\udce9\x1b[0m\x1b[2J\u202e\n") == "no such file:  \x1b[1mcaf\ufffd\x1b[0m"


def test_colors_can_be_taken_away() -> None:
    assert without_color("\x1b[1;31mred\x1b[m and plain") == "red and plain"
