"""Find the location of an error in a tool's output: file, line and column, as the tool prints them.

Each format is a regular expression for a single line, so that the time is proportional to the output. A line with only a file
name, such as ESLint prints above its findings, is the heading of the lines that follow.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

_MAX_COLUMNS = 1000  # characters of a line that are examined
_FILE = r"(?!at |\d{1,6}  )(?P<file>(?:file://)?[^\s:()\[\]'\"!?*|<>][^\n:()'\"!?*|<>]{0,298}\.\w{1,10})"
_LINE, _COLUMN = r"(?P<line>\d{1,7})", r"(?P<column>\d{1,7})"
_AT = rf":{_LINE}(?::{_COLUMN})?"

# Formats of lines with a location. The first one that matches counts.
_PLACES = tuple(
    re.compile(pattern)
    for pattern in (
        rf"{_FILE}\({_LINE},{_COLUMN}\): error TS",  # tsc, vue-tsc
        rf"{_FILE}{_AT} - error\b",  # tsc --pretty, astro check, Angular
        rf"\[tsl\] ERROR in {_FILE}\({_LINE},{_COLUMN}\)",  # ts-loader
        rf"(?:[✘✗X] )?\[[\w:-]{{1,40}}\](?: \[[\w:/ -]{{1,60}}\])? {_FILE} \({_LINE}:{_COLUMN}\): ",  # Vite's plugins
        rf"{_FILE} \({_LINE}:{_COLUMN}\): ",  # Rollup
        rf"(?:\[[\w:-]{{1,40}}\] )?\[postcss\] (?:postcss-import: )?{_FILE}{_AT}: ",
        rf"(?:CssSyntaxError: )(?:[\w-]{{1,30}}: )?{_FILE}{_AT}: ",
        rf"{_FILE}{_AT}: (?:ERROR|error): ",  # esbuild's API
        rf"(?:ERROR in|Error in) {_FILE}(?: \([^\n]{{1,600}}\))?(?: {_LINE}:{_COLUMN}(?:-[\d:]{{1,15}})?)?$",  # webpack 5
        rf"(?:Uncaught )?SyntaxError: (?:unknown: )?{_FILE}: [^\n]{{1,600}}\({_LINE}:{_COLUMN}\)",  # Babel
        rf" {{0,8}}(?:[,╭][-─]\[) ?{_FILE}{_AT}\]",  # SWC
        rf" {{0,8}}{_FILE} {_LINE}:{_COLUMN} {{1,4}}(?:root stylesheet|@\w{{1,20}}|[\w-]{{1,60}}\(\))",  # Sass
        rf"\d\d:\d\d:\d\d ▶ {_FILE}$",  # Astro, above the page that failed
        rf"MDX compilation failed for file \"{_FILE}\"",
        rf"file: {_FILE}(?:{_AT})?$",  # Vite and Rollup, below their message
        rf" {{0,8}}{_FILE}{_AT}:?$",  # Next, svelte-check, esbuild, Astro; Node above an excerpt of code
    )
)
# A heading, and the start of the lines below it.
_HEADING = re.compile(rf"(?:\./)?{_FILE}$")
_FINDING = re.compile(
    r" {2,6}(?P<line>\d{1,7}):(?P<column>\d{1,7}) {1,6}error\b"  # ESLint
    r"|(?P<line2>\d{1,7}):(?P<column2>\d{1,7}) {2}Error: "  # next lint
    r"| {2}Line (?P<line3>\d{1,7}):(?:(?P<column3>\d{1,7}):)? "  # react-scripts
    r"|(?P<plain>Module not found: |Error: |Type error: |Syntax error|SyntaxError: |Module build failed|Module parse failed"
    r"|Cannot find module: |Attempted import error: )"
)
_INDENTED = re.compile(r" {2,6}\d{1,7}:\d{1,7} {1,6}\w|\d{1,7}:\d{1,7} {2}\w| {2}Line \d")
# A stack frame is the least certain location, because it shows where a program failed instead of the cause.
_FRAME = re.compile(rf" {{2,8}}at (?:[^\n(]{{1,200}} \()?{_FILE}{_AT}\)?$")
_IN_BRACKETS = re.compile(r"\((?P<line>\d{1,7}):(?P<column>\d{1,7})\)")  # in a message below a heading


@dataclass(frozen=True, slots=True)
class Location:
    """A location in a file, as the output names it."""

    file: str  # as printed
    line: int | None
    column: int | None  # as counted by the tool; some start with 0
    first: int  # index of the first line of output about it
    at: int  # index of the line of output that names it
    frame: bool = False  # whether it is a stack frame


def find_locations(lines: Sequence[str]) -> list[Location]:
    """Return the locations in lines without colors, in order."""
    found: list[Location] = []
    heading: tuple[str, int] | None = None
    for index, raw in enumerate(lines):
        line = raw[:_MAX_COLUMNS].rstrip()
        if not line:
            continue
        if match := next((match for pattern in _PLACES if (match := pattern.match(line))), None):
            found.append(Location(match["file"], *_numbers(match), index, index))
            heading = None if found[-1].line else (match["file"], index)
        elif heading and (finding := _FINDING.match(line)):
            file, first = heading
            found.append(Location(file, *_numbers(finding), first, index))
            if finding["plain"] is None:
                heading = None  # only the first error of a file
        elif match := _FRAME.match(line):
            found.append(Location(match["file"], *_numbers(match), index, index, frame=True))
            heading = None
        elif match := _HEADING.match(line):
            heading = match["file"], index
        elif heading and not _INDENTED.match(line):
            if (
                found
                and found[-1].line is None
                and found[-1].first == heading[1]
                and (match := _IN_BRACKETS.search(line))
            ):
                found.append(Location(heading[0], *_numbers(match), heading[1], index))
            if index - heading[1] > 3:
                heading = None
    return found


def _numbers(match: re.Match[str]) -> tuple[int | None, int | None]:
    groups = match.groupdict()
    line = next((value for name, value in groups.items() if name.startswith("line") and value), None)
    column = next((value for name, value in groups.items() if name.startswith("column") and value), None)
    return (int(line) if line else None, int(column) if column else None)
