r"""Compile the sources in vercel.json, which have the syntax of path-to-regexp 6, for RE2.

    /blog/:slug     one part of a path           /docs/:path*    any number of parts; also `+` and `?`
    /:id(\d+)       a match of an expression     /(.*)           the same without a name
    /feature{-:x}?  an optional group            /((?!api/).*)   a look-ahead at the start of a group

Sources match whole paths. Case and trailing slashes are significant (`sensitive` and `strict`, as on Vercel).
https://vercel.com/docs/project-configuration/vercel-json and https://github.com/pillarjs/path-to-regexp/tree/v6.1.0
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import unquote

from buildrunner.routing.document import Pattern
from buildrunner.routing.expressions import compile_expression, escape, program_size
from buildrunner.routing.sources import MAX_SOURCE_CHARACTERS, RuleError

_NAME = re.compile(r":([A-Za-z0-9_]{1,100})")
_PART = "[^/]+?"
_LOOK_AHEAD = "(?!"


@dataclass(slots=True)
class _Builder:
    regex: str = ""
    literal: str = ""  # the literal text
    prefix: str | None = None  # the literal text before the first group; None while there is no group
    names: list[str] = field(default_factory=list)
    unless: list[str] = field(default_factory=list)
    custom: bool = False  # whether the source contains expressions
    loose: bool = False  # whether the start of a later group depends on the match of an earlier one

    def add_text(self, text: str) -> None:
        self.regex += escape(unquote(text))
        self.literal += text

    def add_optional(self, text: str, modifier: str) -> None:
        """Add a text with a modifier: optional, or repeated."""
        if self.prefix is None:
            self.prefix = unquote(self.literal)
        self.regex += f"(?:{escape(unquote(text))}){modifier}"
        self.loose = True

    def add_group(self, before: str, name: str, pattern: str, after: str, modifier: str) -> None:
        """Add a token of path-to-regexp: a group with the texts before and after it, which share its modifier."""
        if self.prefix is None:
            self.prefix = unquote(self.literal)
        start, end = escape(unquote(before)), escape(unquote(after))
        if pattern:
            pattern = self._take_look_aheads(start, pattern, modifier)
            self.custom = True
        self.names.append(name)
        inner = pattern or _PART
        self.loose = self.loose or bool(modifier or pattern or not before)
        if not start and not end:
            self.regex += f"({inner}){modifier}"
        elif modifier in {"*", "+"}:
            optional = "?" if modifier == "*" else ""
            self.regex += f"(?:{start}((?:{inner})(?:{end}{start}(?:{inner}))*){end}){optional}"
        else:
            self.regex += f"(?:{start}({inner}){end}){modifier}"

    def _take_look_aheads(self, start: str, pattern: str, modifier: str) -> str:
        """Turn `(?!x)` at the start of a group into an expression that must not match, since RE2 has no look-ahead."""
        while pattern.startswith(_LOOK_AHEAD):
            if modifier or self.loose:
                raise RuleError("a look-ahead (?!…) is supported only at a fixed position, as in /docs/((?!api/).*)")
            end = _end_of_group(pattern, 0)
            self.unless.append(f"{self.regex}{start}(?:{pattern[len(_LOOK_AHEAD) : end - 1]}).*")
            pattern = pattern[end:]
        return pattern or ".{0}"


def compile_vercel_source(source: str) -> tuple[Pattern, int]:
    """Compile a source, and return the program size of the expressions in it.

    Raises:
        RuleError: if it is not valid or not supported.

    """
    if len(source) > MAX_SOURCE_CHARACTERS:
        raise RuleError(f"the source is longer than {MAX_SOURCE_CHARACTERS:,} characters")
    if not source.startswith(("/", "(", ":", "{")):
        raise RuleError('the source does not start with "/"')
    builder = _Builder()
    text = ""
    unnamed = 0
    position = 0
    while position < len(source):
        character = source[position]
        if character in ":(":
            name, pattern, position = _read_key(source, position)
            modifier, position = _read_modifier(source, position)
            before = text[-1:] if text[-1:] in {"/", "."} else ""
            builder.add_text(text[: len(text) - len(before)])
            text = ""
            builder.add_group(before, name or str(unnamed), pattern, "", modifier)
            unnamed += not name
        elif character == "{":
            builder.add_text(text)
            text = ""
            end = _end_of_braces(source, position)
            modifier, after = _read_modifier(source, end)
            unnamed += _add_braces(builder, source[position + 1 : end - 1], modifier, unnamed)
            position = after
        elif character in "*+?})":
            raise RuleError(f'the source has an unexpected "{character}"; escape it with a backslash')
        else:
            if character == "\\" and position + 1 < len(source):
                position += 1
            text += source[position]
            position += 1
    builder.add_text(text)
    return _finish(builder)


def _finish(builder: _Builder) -> tuple[Pattern, int]:
    if builder.prefix is None:
        return Pattern(path=unquote(builder.literal)), 0
    expressions = [builder.regex, *builder.unless]
    compiled = compile_expression(builder.regex)
    if not compiled or any(compile_expression(text) is None for text in builder.unless):
        raise RuleError("its expression is not valid, too large, or uses look-around or back-references")
    if len(compiled.names) != len(builder.names):
        raise RuleError("its expression has capturing groups inside a group; use (?:…)")
    names = tuple("" if name.isdigit() else name for name in builder.names)
    pattern = Pattern(regex=builder.regex, prefix=builder.prefix, names=names, unless=tuple(builder.unless))
    return pattern, program_size(expressions) if builder.custom else 0


def _read_key(source: str, position: int) -> tuple[str, str, int]:
    """Return the name and expression of the group at `position`, and the position after it."""
    name = ""
    if source[position] == ":":
        found = _NAME.match(source, position)
        if not found:
            raise RuleError('the source has a ":" without a name')
        name, position = found[1], found.end()
    if not source.startswith("(", position):
        return name, "", position
    end = _end_of_group(source, position)
    pattern = source[position + 1 : end - 1]
    if not pattern:
        raise RuleError("the source has an empty group")
    return name, pattern, end


def _end_of_group(text: str, position: int) -> int:
    """Return the position after the parenthesis that closes the group at `position`."""
    depth = 0
    in_class = False
    while position < len(text):
        character = text[position]
        if character == "\\":
            position += 1
        elif in_class:
            in_class = character != "]"
        elif character == "[":
            in_class = True
        elif character == "(":
            depth += 1
        elif character == ")":
            depth -= 1
            if not depth:
                return position + 1
        position += 1
    raise RuleError("the source has an unclosed group")


def _end_of_braces(source: str, position: int) -> int:
    while position < len(source):
        if source[position] == "(":
            position = _end_of_group(source, position)
            continue
        if source[position] == "\\":
            position += 1
        elif source[position] == "}":
            return position + 1
        position += 1
    raise RuleError("the source has an unclosed {")


def _read_modifier(source: str, position: int) -> tuple[str, int]:
    modifier = source[position : position + 1]
    return (modifier, position + 1) if modifier and modifier in "*+?" else ("", position)


def _add_braces(builder: _Builder, content: str, modifier: str, unnamed: int) -> int:
    """Add `{text:name(expression)text}`; return the number of groups without a name in it."""
    key = re.search(r"(?<!\\)[:(]", content)
    if not key:
        text = re.sub(r"\\(.)", r"\1", content)
        if modifier:
            builder.add_optional(text, modifier)
        else:
            builder.add_text(text)
        return 0
    name, pattern, end = _read_key(content, key.start())
    before, after = (re.sub(r"\\(.)", r"\1", text) for text in (content[: key.start()], content[end:]))
    if re.search(r"[:({]", after):
        raise RuleError("a group {…} with two parameters is not supported")
    builder.add_group(before, name or str(unnamed), pattern, after, modifier)
    return not name
