from __future__ import annotations

import base64
import json
import re
from itertools import pairwise
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.redaction import REDACTED, SGR, Redactor

TOKEN = "ghp_x7Q/k+2~Zß\"q'9"
REDIS = "rediss://default:Tr0ub%264dor@cache.example.com:6379/0"
SECRETS = [TOKEN, "abcabcabc", "bcabca", "aaaaaa", "first line\nsecond line", REDIS]
COLORS = st.sampled_from(["\x1b[m", "\x1b[1;31m", "\x1b[38;2;1;2;3m"])


def redacted_slowly(text: str, redactor: Redactor) -> str:
    """Redact character by character, as the oracle of the property tests."""
    characters: list[str] = []
    codes = [""]  # before each character, and after the last
    for match in re.finditer(r"(\x1b\[[0-9;:]*m)|[\s\S]", text):
        if match[1]:
            codes[-1] += match[1]
        else:
            characters.append(match[0])
            codes.append("")
    visible = "".join(characters)
    longest = 64 * max(map(len, redactor._needles), default=0)
    stops: dict[int, int] = {}
    for start in range(len(visible)):
        for needle in redactor._needles:
            stop = start + len(needle)
            span = len(needle) + sum(map(len, codes[start + 1 : stop]))
            if visible.startswith(needle, start) and span <= longest:
                stops[start] = max(stop, stops.get(start, 0))
    result, index, covered = "", 0, 0
    while index < len(visible):
        if index >= covered:
            result += codes[index]
            result += REDACTED if index in stops else characters[index]
        covered = max(covered, stops.get(index, 0))
        index += 1
    return result + codes[-1]


def redacted_in_parts(parts: list[str], redactor: Redactor) -> str:
    result, rest, hidden = "", "", 0
    for part in parts:
        out, rest, hidden = redactor.split(rest + part, hidden)
        result += out
    return result + redactor.redact(rest, hidden)


# Texts in which whole secrets, parts of them and color codes stand close together.
LIKE_SECRETS = st.lists(
    st.one_of(
        st.sampled_from([*SECRETS, "a", "b", "abca", "default:Tr0u", quote(TOKEN), TOKEN[:7], TOKEN[7:], "aaaa", " "]),
        COLORS,
        st.text("abc", max_size=12),
    ).map(lambda text: text.replace("\n", " ")),
    max_size=12,
)


@given(LIKE_SECRETS)
def test_redacting_is_the_same_as_looking_at_every_character(parts: list[str]) -> None:
    redactor = Redactor(SECRETS)

    assert redactor.redact("".join(parts)) == redacted_slowly("".join(parts), redactor)


@given(LIKE_SECRETS, st.lists(st.integers(0, 200), max_size=6))
def test_a_text_in_parts_is_redacted_like_the_whole(parts: list[str], cuts: list[int]) -> None:
    redactor = Redactor(SECRETS)
    # Color codes come whole: escape sequences are put together before.
    tokens = re.findall(r"\x1b\[[0-9;:]*m|[\s\S]", "".join(parts))
    edges = [0, *sorted(min(cut, len(tokens)) for cut in cuts), len(tokens)]
    chunks = ["".join(tokens[start:stop]) for start, stop in pairwise(edges)]

    assert redacted_in_parts(chunks, redactor) == redactor.redact("".join(parts))


@given(st.text(st.characters(codec="utf-8"), min_size=6, max_size=24), st.binary(max_size=5), st.binary(max_size=5))
def test_no_form_of_any_secret_comes_through(secret: str, before: bytes, after: bytes) -> None:
    secret = "Ke" + re.sub(r"[^\S ]|[\x00-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", "_", secret) + "y7"
    redactor = Redactor([secret])
    encoded = base64.b64encode(before + secret.encode() + after).decode()
    first, last = -(-len(before) * 8 // 6), (len(before) + len(secret.encode())) * 8 // 6

    forms = [secret, quote(secret), quote(secret, safe=""), json.dumps(secret)[1:-1], encoded[first:last]]

    assert [redactor.redact(f"<{form}>") for form in forms] == ["<[redacted]>"] * len(forms)


@pytest.mark.parametrize("secret", [TOKEN, REDIS, "abcabcabc"])
def test_every_form_of_a_secret_split_anywhere_is_redacted(secret: str) -> None:
    redactor = Redactor([secret])
    colored = [re.sub(r"(?!^)(?=.)", "\x1b[1m", needle) for needle in redactor._needles]

    for needle in [*redactor._needles, *colored]:
        tokens = SGR.split(needle) if "\x1b" in needle else list(needle)
        glue = "\x1b[1m" if "\x1b" in needle else ""
        for index in range(len(tokens)):
            parts = [" " + glue.join(tokens[:index]) + glue, glue.join(tokens[index:]) + " "]
            assert redacted_in_parts(parts, redactor) == redactor.redact("".join(parts))
            assert redacted_in_parts(parts, redactor).replace("\x1b[1m", "").count(REDACTED) == 1


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("a token: ghp_abc/def+ghi.", "a token: [redacted]."),
        ("?t=ghp_abc%2Fdef%2Bghi&x", "?t=[redacted]&x"),
        ("?t=ghp_abc%2fdef%2bghi&x", "?t=[redacted]&x"),
        ("?t=ghp_abc/def%2Bghi&x", "?t=[redacted]&x"),
        ("ghp_abc/def+ghighp_abc/def+ghi", "[redacted][redacted]"),
        ("\x1b[1mghp_\x1b[31mabc/\x1b[0mdef+ghi\x1b[0m", "\x1b[1m[redacted]\x1b[0m"),
        ("ghp_abc/def+gh", "ghp_abc/def+gh"),
        ("one\nghp_abc/def+ghi\nthree", "one\n[redacted]\nthree"),
        ("ghp_abc/\ndef+ghi", "ghp_abc/\ndef+ghi"),
    ],
)
def test_a_token_is_redacted_in_what_is_printed(printed: str, expected: str) -> None:
    assert Redactor(["ghp_abc/def+ghi"]).redact(printed) == expected


@pytest.mark.parametrize(
    "value",
    ["", "short", "true", "FALSE", "12345", "https://example.com/a@b?c"],
)
def test_what_everybody_prints_is_no_secret(value: str) -> None:
    assert Redactor([value]).redact(f"it is {value}, {value}") == f"it is {value}, {value}"


@pytest.mark.parametrize(
    ("url", "printed", "expected"),
    [
        (REDIS, f"at {REDIS}!", "at [redacted]!"),
        (REDIS, "auth default:Tr0ub%264dor", "auth [redacted]"),
        (REDIS, "auth Tr0ub%264dor or Tr0ub&4dor", "auth [redacted] or [redacted]"),
        (REDIS, "default cache.example.com:6379", "default cache.example.com:6379"),
        ("https://tokentoken@github.com/a/b", "tokentoken", "[redacted]"),
        ("https://tokentoken:x-oauth-basic@github.com/a/b", "tokentoken", "[redacted]"),
        ("postgres://postgres@db/x", "postgres", "postgres"),
    ],
)
def test_of_a_url_with_user_info_the_secret_parts_are_redacted(url: str, printed: str, expected: str) -> None:
    assert Redactor([url]).redact(printed) == expected


def test_basic_authentication_with_a_token_is_redacted() -> None:
    header = base64.b64encode(b"x-access-token:ghp_abcdefghij").decode()

    assert "[redacted]" in Redactor(["ghp_abcdefghij"]).redact(f"Authorization: Basic {header}")


def wrapped(redactor: Redactor, blocks: list[str]) -> str:
    follower = redactor.wrapped_base64()
    return "\n".join(redactor.redact(follower.redact(block)) for block in blocks)


def lines_of(text: str, width: int) -> list[str]:
    return [text[start : start + width] for start in range(0, len(text), width)]


LONG_TOKEN = "github_pat_11ABCDEFG0x7Qk2Zs9vT9qLw71xNnB40sYcUe82/Kq3wErTyUiOp+aSdFgHjKlZxCvBnM012345"


@given(
    st.integers(6, 100),
    st.binary(max_size=90),
    st.binary(max_size=90),
    st.sampled_from(["", "  ", '"', "\x1b[32m", "> "]),
    st.booleans(),
    st.booleans(),
)
def test_base64_wrapped_at_any_width_is_redacted(
    width: int, before: bytes, after: bytes, indentation: str, url: bool, whole: bool
) -> None:
    data = before + LONG_TOKEN.encode() + after
    encoded = (base64.urlsafe_b64encode if url else base64.b64encode)(data).decode()
    lines = [indentation + line for line in lines_of(encoded, width)]

    shown = wrapped(Redactor([LONG_TOKEN]), ["\n".join(lines)] if whole else lines)

    first, last = -(-len(before) * 8 // 6), (len(before) + len(LONG_TOKEN)) * 8 // 6
    left = re.sub(r"[^A-Za-z0-9+/=_-]", "", shown.replace("\x1b[32m", "").replace(REDACTED, "\n"))
    # Where the secret's first or last line is no longer than 5 characters, these may be left.
    assert len(left) <= len(encoded) - (last - first) + 10


@pytest.mark.parametrize("width", [1, 2, 3, 4, 5])
def test_base64_in_very_short_lines_is_redacted(width: int) -> None:
    encoded = base64.b64encode(LONG_TOKEN.encode()).decode()

    together = wrapped(Redactor([LONG_TOKEN]), ["\n".join(lines_of(encoded, width))])
    one_by_one = wrapped(Redactor([LONG_TOKEN]), lines_of(encoded, width))

    assert len(together.replace(REDACTED, "").replace("\n", "")) <= 10
    assert len(one_by_one.replace(REDACTED, "").replace("\n", "")) <= 20


@given(st.lists(st.text("ab{}[] dne\n-", max_size=9), max_size=30))
def test_short_lines_of_others_stay_as_they_are(lines: list[str]) -> None:
    text = "\n".join(lines)

    assert wrapped(Redactor([LONG_TOKEN]), [text]) == text


@pytest.mark.parametrize(
    "printed",
    [
        r"a\ b~c\,d\'e\&f\$g",  # bash: printf %q
        r"a\ b~c,d\'e\&f\$g",  # zsh: printf %q
        r"a b~c,d'\''e&f$g",  # set -x
        "a b~c,d'\"'\"'e&f$g",  # Python: shlex.quote
        r"a b~c,d'e&f\$g",
        "a b~c,d&#39;e&amp;f$g",
        "a b~c,d&#x27;e&amp;f$g",
        "a b~c,d&#039;e&amp;f$g",
        "a b~c,d&apos;e&amp;f$g",
        "a b~c,d'e&amp;f$g",
    ],
)
def test_what_a_shell_or_html_escapes_is_redacted(printed: str) -> None:
    assert Redactor(["a b~c,d'e&f$g"]).redact(f"it is {printed}.") == "it is [redacted]."


def test_each_line_of_a_secret_is_redacted_by_itself() -> None:
    redactor = Redactor(["-----BEGIN KEY-----\r\nMIIEpAIBAAKCAQEA\n  x\n-----END KEY-----\n"])

    assert redactor.redact("  MIIEpAIBAAKCAQEA\nx") == "  [redacted]\nx"
    assert redactor.split("-----BEGIN KEY-----\n") == ("[redacted]\n", "", 0)


def test_a_secret_that_is_not_utf_8_is_redacted_as_it_is_shown() -> None:
    secret = b"caf\xe9-secret".decode("utf-8", "surrogateescape")

    assert Redactor([secret]).redact("caf\ufffd-secret, caf%E9-secret") == "[redacted], [redacted]"


def test_only_what_may_begin_a_secret_is_held_back() -> None:
    redactor = Redactor(["s3cr3t-token"])

    assert redactor.split("see s3cr\x1b[1m3t") == ("see ", "s3cr\x1b[1m3t", 0)
    assert redactor.split("see s3cr\x1b[1m3T") == ("see s3cr\x1b[1m3T", "", 0)
    assert redactor.split("s3cr3t-token") == ("[redacted]", "", 0)


def test_a_secret_that_overlaps_itself_for_ever_is_not_held_back() -> None:
    redactor = Redactor(["aaaaaa"])
    result, rest, hidden = "", "", 0

    for _ in range(50):
        out, rest, hidden = redactor.split(rest + "a" * 100, hidden)
        result += out
        assert len(rest) < 6

    assert result + redactor.redact(rest, hidden) == REDACTED


def test_endless_color_codes_in_a_secret_are_not_held_back() -> None:
    redactor = Redactor(["s3cr3t"])
    longest, rest = 0, ""

    for part in ["s3c", *["\x1b[1m" * 100] * 1000, "r3t"]:
        _, rest, _ = redactor.split(rest + part)
        longest = max(longest, len(rest))

    assert longest < 64 * max(map(len, redactor._needles))


def test_more_codes_than_a_secret_may_hold_leave_it_unredacted() -> None:
    redactor = Redactor(["s3cr3t"])
    parts = ["s3c", *["\x1b[1m" * 100] * 20, "r3t"]

    assert redactor.redact("".join(parts)) == redacted_in_parts(parts, redactor) == "".join(parts)


def test_without_secrets_text_is_handed_through() -> None:
    text = "nothing\x1b[1m to hide"

    assert Redactor([]).redact(text) is text
    assert Redactor([]).split(text) == (text, "", 0)
