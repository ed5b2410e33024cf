"""Read configuration files as text: JSON with comments, and folder names in JavaScript configuration.

No code of the repository runs here. Each pattern reads a text in a single pass, whatever the text contains.
"""

from __future__ import annotations

import json
import posixpath
import re
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from buildrunner.project.files import read_text

_MAX_BYTES = 256 * 1024  # of a configuration file


@dataclass(frozen=True, slots=True)
class Config:
    text: str  # the content without comments
    folder: str  # the folder of the file, relative to the app
    name: str = ""  # the file's path, relative to the app


# Each pattern also matches an unclosed string or comment up to its end, so that no text takes more than one pass.
_STRING = r"\"(?:\\.|[^\"\\\n])*+\"?|'(?:\\.|[^'\\\n])*+'?|`(?:\\.|[^`\\])*+`?"
_COMMENT = re.compile(rf"({_STRING})|(?<![:\\])//[^\n]*|/\*.*?(?:\*/|\Z)", re.DOTALL)


def without_comments(text: str) -> str:
    return _COMMENT.sub(lambda match: match[1] or " ", text)


def read_configuration(path: Path, checkout: Path) -> str | None:
    """Read a configuration file; None if it is missing, too large, or outside of the repository."""
    with suppress(ValueError):
        return read_text(path, checkout, max_bytes=_MAX_BYTES)
    return None


def parse_json(text: str | None) -> dict[str, Any] | None:
    """Parse a JSON object as tools accept it, with comments and trailing commas; None if it is not valid."""
    text = re.sub(rf"({_STRING})|,(?=\s*[}}\]])", lambda match: match[1] or "", without_comments(text or ""))
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def dict_of(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def paths_of(config: Config, *keys: str, whole: str | None = None) -> list[str]:
    """Return the folders that these keys of a configuration name, relative to the app.

    Args:
        config: the configuration.
        keys: names of its settings.
        whole: the file's whole text, to look up constants, if `config` is only a part of it.

    """
    found: list[str] = []
    names = "|".join(map(re.escape, keys))
    for match in islice(re.finditer(rf"(?<![\w$.-])[\"']?(?:{names})[\"']?\s*[:=](?!=)\s*", config.text), 20):
        found += _paths(_expression(config.text, match.end()), whole or config.text, config.folder)
    for match in islice(re.finditer(rf"(?<=[{{,])\s*({names})\s*(?=[,}}])", config.text), 5):  # { outDir, … }
        found += _paths(match[1], whole or config.text, config.folder)
    return found


def _expression(text: str, start: int) -> str:
    """Return the JavaScript expression at `start`, up to a comma, a semicolon, or the end of its line."""
    depth, index = 0, start
    while index < min(len(text), start + 400):
        character = text[index]
        if character in "\"'`" and (string := re.compile(_STRING).match(text, index)):
            index = string.end()
            continue
        depth += (character in "([{") - (character in ")]}")
        if depth < 0 or (depth == 0 and character in ",;"):
            break
        if depth == 0 and character == "\n" and not re.match(r"\s*[?:|&.+]", text[index : index + 100]):
            break
        index += 1
    return text[start:index]


def _paths(expression: str, text: str, folder: str, depth: int = 0) -> list[str]:
    expression = re.sub(rf"[=!]==?\s*(?:{_STRING})", "", expression)  # comparisons in conditions
    literals = [literal[1:-1] for literal in re.findall(_STRING, expression)]
    if not literals:
        constant = re.fullmatch(r"\s*([A-Za-z_$][\w$]*)\s*", expression)
        if not constant or depth > 3:
            return []
        match = re.search(rf"\b(?:const|let|var)\s+{re.escape(constant[1])}\s*(?::[^=\n]{{1,100}})?=\s*", text)
        return _paths(_expression(text, match.end()), text, folder, depth + 1) if match else []
    from_file = "__dirname" in expression or "import.meta" in expression
    literals = [
        re.sub(r"\$\{\s*(__dirname|import\.meta\.dirname|process\.cwd\(\))\s*\}", ".", text) for text in literals
    ]
    if re.search(r"\?|\|\|", expression):
        values = literals
    elif re.search(r"\b(resolve|join|URL)\s*\(|\+", expression):
        values = ["/".join(literal.strip("/") for literal in literals)]
    else:
        values = literals[:1]
    return [posixpath.join(folder, value) if from_file else value for value in values]
