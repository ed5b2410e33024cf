"""Parse the text of one variable: a kind is a parser, the rule in words, and how to write a value.

A parser returns None, or raises ValueError, for malformed text. If the error has a text, that text replaces the rule.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

# Prefixes of keys that hold no site: logs, manifests, caches, routing rules, objects of earlier deployments.
RESERVED_PREFIXES = ("__logs", "__manifests", "__cache", "__routing", "__objects")
SLUG_PATTERN = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"

_SECONDS_OF_UNIT = {"d": 86400, "h": 3600, "m": 60, "s": 1}
_BYTES_OF_UNIT: dict[str, int] = {"b": 1} | {
    f"{prefix}{suffix}": base**power
    for suffix, base in (("b", 1000), ("ib", 1024))
    for power, prefix in enumerate("kmgt", start=1)
}


@dataclass(frozen=True, slots=True)
class Kind:
    """How the values of a variable are written."""

    parse: Callable[[str], Any]
    rule: str  # completes the sentence "NAME is …, but must be"
    metavar: str = "TEXT"
    unit: str = ""  # of a plain number
    choices: tuple[str, ...] = ()
    format: Callable[[Any], str] = str  # the inverse of `parse`
    is_url: bool = False  # an address, of which parts may be credentials
    abbreviate: Callable[[Any], str] | None = None  # how people say it: 5m, 64MiB

    def describe(self, value: Any) -> str:
        """Return a value for people, in Markdown: `` `300` seconds (5m) ``."""
        text = f"`{self.format(value)}`{f' {self.unit}' if self.unit else ''}"
        return f"{text} ({self.abbreviate(value)})" if self.abbreviate and value else text


def matching(pattern: str, rule: str, metavar: str = "TEXT") -> Kind:
    """Accept text that matches a pattern completely."""
    return Kind(lambda text: text if re.fullmatch(pattern, text) else None, rule, metavar)


def choice(*choices: str) -> Kind:
    """Accept one of a few words."""
    *others, last = choices
    rule = f"{', '.join(others)} or {last}" if others else last
    return Kind(lambda text: text if text in choices else None, rule, "|".join(choices), choices=choices)


def switch(on: str, off: str) -> Kind:
    """Accept two words that stand for yes and no."""
    return Kind(
        {on: True, off: False}.get,
        f"{on} or {off}",
        f"{on}|{off}",
        choices=(on, off),
        format=lambda value: on if value else off,
    )


def number(least: int, most: int) -> Kind:
    """Accept a whole number."""

    def parse(text: str) -> int | None:
        found = int(text) if re.fullmatch(r"[0-9]{1,18}", text) else -1
        return found if least <= found <= most else None

    return Kind(parse, f"a whole number from {least} to {most}", "NUMBER")


def duration(least: int, most: int) -> Kind:
    """Accept a whole number of seconds, also written like `90s`, `5m`, `1h30m` or `7d`."""

    def parse(text: str) -> int | None:
        found = parse_duration(text)
        return int(found) if found is not None and found.is_integer() and least <= found <= most else None

    rule = f"a whole number of seconds from {least} to {most}, or a duration such as 90s, 5m, 1h30m or 7d"
    return Kind(parse, rule, "DURATION", "seconds", abbreviate=format_duration)


def time_limit(most: int) -> Kind:
    """Accept seconds above 0, also a fraction, and durations like `90s`, `5m` or `1h30m`."""

    def parse(text: str) -> float | None:
        found = parse_duration(text)
        return found if found is not None and 0 < found <= most else None

    rule = f"a number of seconds above 0, at most {most}, or a duration such as 90s, 5m or 1h30m"
    return Kind(parse, rule, "DURATION", "seconds", abbreviate=format_duration)


def size(least: int, most: int) -> Kind:
    """Accept a whole number of bytes, also written like `64MiB` (2**20 bytes) or `64MB` (10**6 bytes)."""

    def parse(text: str) -> int | None:
        found = parse_size(text)
        return found if found is not None and least <= found <= most else None

    rule = f"a whole number of bytes from {least} to {most}, or a size such as 64MiB, 1.5GiB or 64MB"
    return Kind(parse, rule, "SIZE", "bytes", abbreviate=format_size)


def parse_duration(text: str) -> float | None:
    """Return the seconds of `90`, `0.5`, `90s`, `1h30m` or `7d`: units descend, and each is there at most once."""
    if re.fullmatch(r"[0-9]{1,12}(\.[0-9]{1,9})?", text):
        return float(text)
    parts = re.fullmatch(r"(?=.)" + "".join(rf"(?:([0-9]{{1,9}}){unit})?" for unit in _SECONDS_OF_UNIT), text)
    if not parts:
        return None
    return float(sum(int(part or 0) * of for part, of in zip(parts.groups(), _SECONDS_OF_UNIT.values(), strict=True)))


def parse_size(text: str) -> int | None:
    """Return the bytes of `67108864`, `64MiB`, `64 MB` or `1.5GiB`; the case of units does not matter."""
    if re.fullmatch(r"[0-9]{1,18}", text):
        return int(text)
    parts = re.fullmatch(r"([0-9]{1,18})(?:\.([0-9]{1,3}))? ?([kmgt]?i?b)", text, re.IGNORECASE | re.ASCII)
    if not parts or parts[3].lower() not in _BYTES_OF_UNIT:
        return None
    thousandths = int(parts[1]) * 1000 + int((parts[2] or "0").ljust(3, "0"))
    return thousandths * _BYTES_OF_UNIT[parts[3].lower()] // 1000


def format_duration(seconds: float) -> str:
    """Return seconds as `parse_duration` reads them, in the largest units: 5400 is `1h30m`."""
    if seconds != int(seconds):
        return str(seconds)
    rest, parts = int(seconds), ""
    for unit, length in _SECONDS_OF_UNIT.items():
        count, rest = divmod(rest, length)
        parts += f"{count}{unit}" if count else ""
    return parts or "0s"


def format_size(number_of_bytes: int) -> str:
    """Return bytes as `parse_size` reads them, in the largest binary unit that leaves a whole number."""
    for power, unit in ((4, "TiB"), (3, "GiB"), (2, "MiB"), (1, "KiB")):
        if number_of_bytes and number_of_bytes % 1024**power == 0:
            return f"{number_of_bytes // 1024**power}{unit}"
    return str(number_of_bytes)


def _parse_git_ref(text: str) -> str | None:
    """Follow `git check-ref-format`; a leading - would be an option."""
    bad = r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|^[-/.]|[/.]$|\.lock(/|$)|^@$"
    return None if re.search(bad, text) or len(text) > 255 else text


def _parse_folder(text: str) -> str | None:
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if text.startswith("/") or ".." in parts or ".git" in parts or re.search(r"[\x00-\x1f\x7f]", text):
        return None
    return "/".join(parts) or "."


def _parse_bucket(text: str) -> str | None:
    # Wider than S3's own rule of today: old buckets, and those of other servers, have capitals, _ and longer names.
    name = r"[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._-]{1,253}[A-Za-z0-9]"
    return text if re.fullmatch(rf"{name}|arn:aws[a-z-]*:s3[a-z-]*:[A-Za-z0-9:/._-]+", text) else None


def _parse_template(text: str) -> str | None:
    without = text.replace("{slug}", "")
    plain = without.isprintable() and "{" not in without and "}" not in without
    return text if without != text and plain and len(text) <= 500 else None


def _parse_key_prefix(text: str) -> str | None:
    parts = text.split("/")
    whole = _parse_template(text) and "{slug}" in parts and all("{" not in part or part == "{slug}" for part in parts)
    if not whole or parts[-1] or any(part in {"", ".", ".."} for part in parts[:-1]):
        return None
    return None if parts[0] in RESERVED_PREFIXES else text


def _parse_schemes(text: str) -> frozenset[str] | None:
    names = frozenset(name.strip() for name in text.split(","))
    return names if names <= {"https", "http", "ssh", "file"} else None


def _parse_name_patterns(text: str) -> tuple[str, ...] | None:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    return names if all(re.fullmatch(r"[A-Za-z_*][A-Za-z0-9_*]*", name) for name in names) else None


def _parse_list(text: str, pattern: str) -> tuple[str, ...] | None:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    return names if names and all(re.fullmatch(pattern, name) for name in names) else None


def _parse_webhook_secret(text: str) -> bytes | None:
    """Return the key of a secret of https://www.standardwebhooks.com, which has 24 to 64 bytes."""
    try:
        key = base64.b64decode(text.removeprefix("whsec_"), validate=True)
    except (binascii.Error, ValueError):
        return None
    return key if text.startswith("whsec_") and 24 <= len(key) <= 64 else None


TEXT = Kind(lambda text: text, "text")
SLUG = matching(SLUG_PATTERN, "1 to 63 of a-z, 0-9 and -, not starting or ending with -", "SLUG")
BUILD_ID = matching(r"[A-Za-z0-9_-]{1,64}", "1 to 64 of A-Z, a-z, 0-9, _ and -", "ID")
GIT_REF = Kind(_parse_git_ref, "a branch, a tag or a full commit id, as git allows them", "REF")
COMMAND = Kind(lambda text: text if text.strip() and "\0" not in text else None, "a shell command", "COMMAND")
NODE_VERSION = matching(r"[\x20-\x7e]{1,100}", "a version or range of Node, such as 22", "VERSION")
BUCKET = Kind(
    _parse_bucket, "the name of a bucket (3 characters or more) or the ARN of an access point", metavar="BUCKET"
)
DEPENDENCY_CACHE = matching(r"s3|off|/[^\0]+", "s3, off, or the absolute path of a folder", "s3|off|FOLDER")
REGION = matching(
    r"(?![0-9]+$)(?!-)[A-Za-z0-9-]{1,63}(?<!-)", "a region, such as eu-central-1", "REGION"
)  # as botocore
CREDENTIAL = matching(r"[\x21-\x7e]+", "text without spaces, line breaks or other control characters")
WEBHOOK_SECRET = Kind(
    _parse_webhook_secret,
    "whsec_ followed by base64 of 24 to 64 bytes",
    format=lambda key: f"whsec_{base64.b64encode(key).decode()}",
)
_AWS_NAME = r"[A-Za-z0-9_/:.-]{1,300}"  # a name, an id, or an ARN
AWS_NAME = matching(_AWS_NAME, "a name, an id or an ARN of AWS", "NAME")
AWS_NAMES = Kind(
    lambda text: _parse_list(text, _AWS_NAME), "a comma-separated list of ids of AWS", "LIST", format=",".join
)
TRACEPARENT = matching(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}",
    "a trace context of the W3C, such as 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
)
SHARE = matching(r"[A-Za-z0-9]{1,255}", "1 to 255 letters and digits", "NAME")
HOST = matching(r"[A-Za-z0-9.:\[\]%_-]+", "a host name or an IP address", "HOST")
DOMAIN = matching(
    r"(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.)*[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?",
    "a domain such as example.com, in lower case and without a port",
    "DOMAIN",
)
TEMPLATE = Kind(_parse_template, "printable text that contains {slug} and no other placeholder", "TEMPLATE")
KEY_PREFIX = Kind(
    _parse_key_prefix,
    "a prefix with {slug} as a whole path part, such as sites/{slug}/. It ends with /, has no other placeholder, and does"
    f" not start with / or {', '.join(f'{prefix}/' for prefix in RESERVED_PREFIXES)}",
    "TEMPLATE",
)
SCHEMES = Kind(
    _parse_schemes,
    "a comma-separated list of https, http, ssh and file",
    "LIST",
    format=lambda value: ",".join(sorted(value)),
)
NAME_PATTERNS = Kind(
    _parse_name_patterns,
    "a comma-separated list of variable names, without BUILD_ENV_; * stands for any text",
    "LIST",
    format=",".join,
)


def folder(parent: str) -> Kind:
    """Accept a relative path below a folder that `parent` names for people."""
    return Kind(
        _parse_folder, f"a folder inside {parent}, such as apps/web: relative, without .. and .git", metavar="FOLDER"
    )
