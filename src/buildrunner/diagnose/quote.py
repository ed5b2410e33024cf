"""Quote the most probable reason in an output that no rule matches."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

from buildrunner.events.lines import clean, without_color

MAX_CHARACTERS = 32 * 1024  # of an output, from its end
_MAX_QUOTE_CHARACTERS = 200
# The prefix of a line: the time, or the name of a task or package (gulp, concurrently, Turborepo, package managers).
_TASK = re.compile(
    r"(?:\[\d\d:\d\d:\d\d\] |\[\d{1,2}\] |[\w@/.-]{1,80}[: ]build: |npm (?:error|ERR!) (?=\S)"
    r"|[\w@/.-]{1,200} (?:(?:pre|post)?install|prepare): |➤ YN\d{4}: (?:[│┌└] ){0,2}(?:\S{1,200} STD(?:ERR|OUT) )?)?"
)
# Probable reasons: a line that starts like an error, or contains a word such as "failed".
_ERROR = re.compile(
    r"[^\w\s]{0,4} ?(?:\[[^\]\n]{1,40}\][: ]{0,2}){0,2}(?:(?i:uncaught|unhandled)[ :]{1,2})?(?:[A-Z]\w{0,60}(?:Error|Exception)\b"
    r"|(?i:fatal error|error|fatal|panic|failed|cannot|can't|could not|couldn't|unable to)\b(?![-/\w]|\.\w)|ERR!)|[✘✖✗×⨯🚨❌]"
)
_WORD_OF_ERRORS = re.compile(
    r"\b(?:E[A-Z]{4,12}|(?i:errors?|failed|failure|cannot|can't|could not|couldn't|not found|no such|does not exist|is not"
    r"|unexpected|invalid|missing|denied|unknown|undefined|unresolved))\b(?![-/\w]|\.\w)"
)
# A line that only announces an error on the next line, and one that only shows its location.
_HEADING = re.compile(
    r"(?:x |\W{0,6})(?:\[[^\]\n]{1,40}\]:? ){0,2}(?:error:? )?(?:error during build|build error(?: occurred)?|errors?|failed"
    r"|(?:failed to compile|(?:the )?build failed|transform failed|(?:webpack [\d.]{1,20} )?compiled)"
    r"(?: in [\d.]{1,9} ?m?s| because of webpack errors| with \d{1,5} errors?| \d\d?:\d\d:\d\d [AP]M| in \d{1,9} ms){0,2}"
    r"|module build failed(?: \(from [^)\n]{1,200}\))?|failed to load config from \S{1,300}"
    r"|there was an error [a-z ]{1,40}|unable to build website for locale \w{1,20}"
    r")[.:!]{0,3}",
    re.IGNORECASE,
)
_PLACE = re.compile(r"(?:ERROR in )?[^\s:'\"]{1,200}\.\w{1,10}(?:[: (]\d[\d:, )-]{0,20})?:?")
# Lines without a reason: that a command failed, as package managers and task runners report; warnings, sizes of files, stack
# traces, and excerpts of code.
_NO_REASON = re.compile(
    r"npm (?:ERR!|error) ?(?:(?:code|errno|path|command|workspace|location|syscall|spawn|file|signal)\b|Lifecycle script"
    r"|Exit status|Failed at the|This is probably not|There is likely|A complete log|\S{1,200} \w{1,40}: `|$)"
    r"|npm (?:warn|WARN|notice|info|verb|timing)\b|(?:npm (?:ERR!|error) )?(?:gyp|node-pre-gyp) (?:info|verb)\b"
    r"|npm (?:ERR!|error) (?:at |node:|Node\.js v|[>^]|\W{1,200}$)|[^\n]{0,80}couldn't be built successfully"
    r"|[^\n]{0,100}(?:script from \"|(?:install|prepare): Failed)|[^\n]{0,40}: Command failed\.$"
    r"|[^\n]{0,100}(?:ELIFECYCLE|ERR_PNPM_RECURSIVE_RUN|exited \(\d|run failed: command|command finished with error"
    r"|\bExit status \d|(?i:command failed with exit|error command failed|exited with (?:exit )?code))"
    r"|error: script \"|lerna (?:ERR!|info)|info Visit |make: \*\*\*|Node\.js v\d|Running target|Failed tasks:"
    r"|(?:file://)?/[^\s:]{1,999}:\d{1,6}$|[>$^] |at |\^|node:|throw |errno: |code: |syscall: |\d{1,6}(?: ?[|│]|: )|[|│╷╵├└✓✔]"
    r"|\W{1,200}$"
    r"|[^\n]{0,40}\b(?i:warn|warnings?|deprecationwarning)\b|[^\n]{0,100}\b(?:0|no) errors?\b"
    r"|[^\n]{0,300}\.(?:[cm]?js|css|html|map|json|svg|png|jpe?g|webp|woff2?)\b[^\n]{0,60}\d ?[kKM]?i?B\b"
)


# The start of a usage text, its lines, and other lines about how to call a program.
_USAGE = re.compile(r"\s{0,20}(?:npm (?:error|ERR!) )?(?:usage|syntax)\b ?:?(?: |$)", re.IGNORECASE)
_OF_USAGE = re.compile(
    r"\s|$|-|(?:npm (?:error|ERR!))?\s*$|(?i:(?:[a-z]{1,20} ){0,2}"
    r"(?:options|commands|examples?|arguments|flags|aliases|parameters)\b)|or: |npm (?:error|ERR!) "
)
_ABOUT_USAGE = re.compile(
    r"--?[A-Za-z][\w-]{0,40}(?:[,=< \[]|$)|(?i:(?:try|run|see|use|type)\b[^\n]{0,100} --?h(?:elp)?\b)"
    r"|[^\n]{0,100}(?i:for more information)"
)


def quote_failure(
    output: str, *, folder: Path | None = None, stage: Literal["install", "build"] = "build"
) -> str | None:
    """Return a sentence that quotes the most probable reason of an unknown failure; None if there is no output.

    The quote is one line of at most 200 characters, without colors and control characters.

    Args:
        output: the end of the command's output.
        folder: the repository's folder, which is removed from paths.
        stage: the stage of the command.

    """
    text = without_color(output[-MAX_CHARACTERS:])
    if folder:
        text = text.replace(f"{folder}/", "")
    lines = [" ".join(clean(line[:1000]).split()) for line in _without_usage(text.split("\n"))]
    lines = [_TASK.sub("", line, count=1) for line in lines if not _NO_REASON.match(line)]
    lines = [line for line in lines if line and not _NO_REASON.match(line) and not _ABOUT_USAGE.match(line)]
    for looks_like_it in (_begins_as_error, _HEADING.fullmatch, _WORD_OF_ERRORS.search):
        for position, line in enumerate(lines):
            if looks_like_it(line) and (quote := _with_what_follows(lines[position : position + 4])):
                return f"The {stage} says: {quote}"
    return f"The last line of the {stage} is: {_quoted(lines[-1])}" if lines else None


def is_noise(line: str) -> bool:
    """Return whether a line cannot be the reason of a failure, such as a stack frame, a warning, or a file's size."""
    return bool(_NO_REASON.match(" ".join(line[:1000].split())))


def is_heading(line: str) -> bool:
    """Return whether a line only announces an error on the next line."""
    return bool(_HEADING.fullmatch(" ".join(line[:1000].split())))


def is_usage(line: str) -> bool:
    """Return whether a program's usage text starts with this line."""
    return bool(_USAGE.match(line))


def _without_usage(lines: Sequence[str]) -> Iterator[str]:
    inside = False
    for line in lines:
        inside = bool(_USAGE.match(line) or (inside and _OF_USAGE.match(line)))
        if not inside:
            yield line


def _begins_as_error(line: str) -> bool:
    return bool(_ERROR.match(line)) and not _HEADING.fullmatch(line)


def _with_what_follows(lines: Sequence[str]) -> str | None:
    """Quote the first line, and the next ones while a line is only a heading or a location; None if nothing is left."""
    said: list[str] = []
    for line in lines:
        if _HEADING.fullmatch(line):
            continue
        said.append(line.rstrip(": "))
        if not line.endswith(":") and not _PLACE.fullmatch(line):
            break
    return _quoted(": ".join(said)) if said else None


def _quoted(text: str) -> str:
    if len(text) > _MAX_QUOTE_CHARACTERS:
        text = f"{text[: _MAX_QUOTE_CHARACTERS - 1].rstrip()}…"
    return f"“{text}”{'' if text.endswith(('.', '!', '?', '…')) else '.'}"
