"""Describe a failed command for programs: the kind of failure, its location in the repository, and an excerpt of the output."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Sequence
from dataclasses import dataclass

from buildrunner.diagnose.location import Location, find_locations
from buildrunner.diagnose.quote import MAX_CHARACTERS, is_heading, is_noise, is_usage
from buildrunner.diagnose.rule import FailedCommand
from buildrunner.errors import Failure

MAX_LINES = 20  # of an excerpt
_MAX_LINE_CHARACTERS = 400
_LINES_ABOVE = 4  # at most, from a location to a message below it
_LINES_BELOW = 12  # at most, from a message to a location below it
_STACK = re.compile(r"\s{0,12}(?:at \S|\d{1,3}: <unknown>|Stack (?:back)?trace:$)")
_SCRIPT = re.compile(  # headers of scripts, and progress
    r"[>$] \S|npm (?:warn|WARN|notice)\b|\s{0,4}(?:\[?\d\d:\d\d:\d\d|[✓▲⚠]|(?:transform|render|comput|Creat|Lint)ing\b"
    r"|(?:Collect|Generat)ing\b)"
)
_OF_MESSAGE = re.compile(r"\s{0,6}(?:[│╷╵|]|\d{1,6} {0,2}[|│]|npm (?:error|ERR!))")  # excerpts of code
# Folders that builds write, whose files are not in the repository.
_GENERATED = re.compile(
    r"(?:^|/)(?:node_modules|\.next|\.nuxt|\.output|\.svelte-kit|\.astro|\.cache|\.parcel-cache|\.docusaurus|\.turbo|\.vite)/"
)
_NOT_SHOWN = re.compile(r"npm (?:error|ERR!) (?:A complete log of this run|For a full report see:|/\S{1,300}$)")
_LINE_AND_COLUMN = re.compile(r"\(line (\d{1,7}) column (\d{1,7})\)")  # in errors of JSON.parse
_MAX_LINES_BEFORE = 6  # of a message, above the line that a rule matches
_TASK = re.compile(r"(?P<folder>[\w@/.-]{1,200})(?:[ :](?:build|install|prepare|postinstall): |:build: )")


@dataclass(frozen=True, slots=True)
class Cause:
    """A rule's match in the output of a failed command."""

    kind: str
    start: int = 0  # span of the match, in characters
    end: int = 0
    file: str | None = None  # as printed; None if the rule doesn't name it
    anywhere: bool = False  # whether the location may be far above the match, which is a summary


def describe_failure(failed: FailedCommand, cause: Cause | None, *, quoted: str = "") -> Failure | None:
    """Return the description of a failed command; None if its output doesn't help.

    Args:
        failed: the command and its output.
        cause: the rule that matches, with the span of its match in the last `MAX_CHARACTERS` of the output.
        quoted: the line that is probably the reason, if no rule matches.

    """
    text = failed.text[-MAX_CHARACTERS:]
    lines, folders = _without_tasks(text.split("\n"))
    if cause and cause.end:
        first, last = text.count("\n", 0, cause.start), text.count("\n", 0, max(cause.end - 1, cause.start))
        while first < last and not lines[first].strip():
            first += 1
    else:
        first = last = _find_line(lines, quoted)
    above = len(lines) if cause and cause.anywhere else _LINES_ABOVE
    named = _in_repository(failed, cause.file, "") if cause and cause.file else None
    place, file = _nearest_place(failed, find_locations(lines), folders, (first - above, first, last))
    if named and named != file:
        place, file = None, named
    excerpt = _excerpt(failed, lines, min(first, place.first) if place else first, place)
    if not (cause or file or excerpt):
        return None
    line, column = (place.line, place.column) if place else (None, None)
    if named and not place and (match := _LINE_AND_COLUMN.search("\n".join(lines[first : last + _LINES_ABOVE]))):
        line, column = int(match[1]), int(match[2])
    return Failure(cause.kind if cause else None, file, line, column, excerpt)


def _nearest_place(
    failed: FailedCommand, places: Sequence[Location], folders: Sequence[str], message: tuple[int, int, int]
) -> tuple[Location | None, str | None]:
    """Return the location that belongs to a message, and its file in the repository.

    `message` is the first line where the location may be, and the first and last line of the message.
    """
    above, first, last = message
    near = [place for place in places if above <= place.at <= last + _LINES_BELOW]
    inside = [place for place in near if first <= place.at <= last and not place.frame]
    order = [
        *inside,
        *sorted(
            (each for each in near if each not in inside),
            key=lambda e: (
                (e.frame, e.line is None, abs(e.at - last))
                if above >= first - _LINES_ABOVE
                else (e.frame, e.line is None, e.at)
            ),
        ),
    ]
    named = [(place, _in_repository(failed, place.file, folders[place.at])) for place in order]
    found = [(place, file) for place, file in named if file]
    if not found:
        return None, None
    # A location in the same file with a line number is better than one without.
    best = found[0]
    if best[0].line is None:
        best = next((each for each in found if each[1] == best[1] and each[0].line), best)
    return best


def _in_repository(failed: FailedCommand, path: str, task_folder: str) -> str | None:
    """Return the path of a file relative to the repository; None if it is outside of it or missing.

    The path comes from an untrusted log, so it is only checked for existence, never opened.
    """
    path = path.removeprefix("file://").rpartition("!")[2].partition("?")[0]
    top, folder = failed.checkout, failed.folder or failed.checkout
    if path.startswith("/"):
        places = [path]
    elif folder:
        places = [
            posixpath.join(str(base), path) for base in (folder, top, *_task_folders(failed, task_folder)) if base
        ]
    else:
        places = [path]
    for place in places:
        relative = posixpath.normpath(place)
        if top:
            if not relative.startswith(f"{top}/"):
                continue
            relative = relative.removeprefix(f"{top}/")
        if relative.startswith(("/", "..")) or _GENERATED.search(relative):
            continue
        if top is None or os.path.lexists(top / relative):
            return relative
    return None


def _task_folders(failed: FailedCommand, task_folder: str) -> Sequence[str]:
    """Return the folder of the package in a line's prefix, such as pnpm prints; empty if there is none."""
    return [str(failed.checkout / task_folder)] if task_folder and failed.checkout else []


def _without_tasks(lines: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return lines without the prefixes that task runners add, and the folder in each prefix."""
    found = [_TASK.match(line) for line in lines]
    return (
        [line[match.end() :] if match else line for line, match in zip(lines, found, strict=True)],
        [match["folder"] if match else "" for match in found],
    )


def _find_line(lines: Sequence[str], quoted: str) -> int:
    """Return the index of the line with the quoted text, or of the first of the last `MAX_LINES` meaningful lines."""
    start = " ".join(quoted.split())[:40]
    if start:
        for index, line in enumerate(lines):
            if start in " ".join(line[:1000].split()):
                return index
    telling = [index for index, line in enumerate(lines) if line.strip() and not is_noise(line)]
    return telling[-MAX_LINES:][0] if telling else len(lines)


def _excerpt(failed: FailedCommand, lines: Sequence[str], first: int, place: Location | None) -> str | None:
    """Return a message from its first line up to a stack trace, without paths of this machine."""
    for _ in range(_MAX_LINES_BEFORE):
        if first == 0 or first > len(lines) or not lines[first - 1].strip() or _begins(lines[first - 1]):
            break
        first -= 1
    kept: list[str] = []
    for index in range(first, len(lines)):
        line = lines[index].rstrip()
        if _STACK.match(line):
            if kept and (place is None or index > place.at):
                break
            if place is None or index != place.at:
                continue
        if _NOT_SHOWN.match(line) or (not line and (not kept or not kept[-1])):
            continue
        if kept and is_usage(line):
            break
        line = _shortened(failed, line)
        kept.append(line)
        if len(kept) == MAX_LINES:
            break
    return "\n".join(kept).rstrip() or None


def _begins(line: str) -> bool:
    """Return whether a message starts below a line, such as progress, a script's header, or a bare "error:"."""
    return bool(_SCRIPT.match(line)) or is_heading(line) or (is_noise(line) and not _OF_MESSAGE.match(line))


def _shortened(failed: FailedCommand, line: str) -> str:
    """Return a line without the checkout's path, cut to `_MAX_LINE_CHARACTERS`."""
    line = line[: 4 * _MAX_LINE_CHARACTERS]
    if failed.checkout:
        line = line.replace(f"file://{failed.checkout}/", "").replace(f"{failed.checkout}/", "")
        line = line.replace(str(failed.checkout), ".")
    return line if len(line) <= _MAX_LINE_CHARACTERS else f"{line[: _MAX_LINE_CHARACTERS - 1]}…"
