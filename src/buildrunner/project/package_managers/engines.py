"""Read package managers in `engines` of package.json: a version range, or a text that forbids the manager."""

from __future__ import annotations

import re
from dataclasses import dataclass

from buildrunner.project.package_managers.record import PackageManager
from buildrunner.project.package_managers.table import MANAGERS
from buildrunner.project.versions import intersects, is_range

MAX_RANGE_CHARACTERS = 100
_NAMED = re.compile(rf"\b({'|'.join(MANAGERS)})\b", re.IGNORECASE)
_ANY_VERSION = {"*", "x", "any", "latest", "current", "stable", "lts", "next"}
_AND_LATER = re.compile(
    r"v?(\d{1,4}(?:\.\d{1,4}){0,2})(?:\.x)?\s*(?:\+|(?:or|and) (?:later|newer|higher|above|up|greater)\.?)",
    re.IGNORECASE,
)
_OPERATORS = re.compile(r"[\d\s.<>=^~|xv*-]+")


@dataclass(frozen=True, slots=True)
class EngineRefusal:
    """A value in package.json that forbids a manager, such as "please use pnpm" or 0.0.0."""

    source: str  # for messages, such as "engines.npm of package.json"
    text: str
    instead: str | None  # name of the manager to use instead
    enforced: bool = False  # whether an install by the manager fails


def read_engine(record: PackageManager, value: object) -> str | EngineRefusal | None:
    """Return the version range that `engines` has for a manager, a refusal, or None for any version.

    Raises:
        ValueError: if the value is none of these; its text is the value.

    """
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        value = str(value)
    text = "false" if value is False else value.strip()[:MAX_RANGE_CHARACTERS] if isinstance(value, str) else ""
    if not text or text.lower() in _ANY_VERSION:
        return None
    if later := _AND_LATER.fullmatch(text):
        return f">={later[1]}"
    others = [other for other in map(str.lower, _NAMED.findall(text)) if other != record.name]
    if not others and is_range(text) and intersects(text, record.plausible):
        return text
    if others or not re.search(r"\d", text) or _OPERATORS.fullmatch(text):
        return EngineRefusal(f"engines.{record.name} of package.json", text, others[0] if others else None)
    raise ValueError(text)
