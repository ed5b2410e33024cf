"""Compile paths and destinations of Netlify and Cloudflare Pages: `:placeholders`, `*` and `:splat`.

https://docs.netlify.com/manage/routing/redirects/redirect-options/
https://developers.cloudflare.com/pages/configuration/redirects/
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from urllib.parse import unquote, urlsplit

from buildrunner.routing.document import Condition, Pattern, Template
from buildrunner.routing.expressions import compile_expression, escape
from buildrunner.routing.paths import normalize_path, without_slash

MAX_SOURCE_CHARACTERS = 1_000  # Cloudflare's limit for a line
MAX_STARS = 10
MAX_PLACEHOLDERS = 50  # of a destination or header value; each may expand to 1,000 characters
_WILD = re.compile(r":([A-Za-z][A-Za-z0-9_]{0,99})|(\*)")
_URL = re.compile(r"(https?)://([^/?#]{1,300})([^?#]{0,2000})", re.IGNORECASE)
_IN_TEMPLATE = re.compile(r":([A-Za-z][A-Za-z0-9_]{0,99})")


class RuleError(ValueError):
    """A rule cannot be applied; the text says why, for the site's author."""


def is_url(text: str) -> bool:
    """Return whether a source or destination names a host."""
    return text.lower().startswith(("http://", "https://"))


def compile_source(text: str) -> tuple[Pattern, tuple[Condition, ...]]:
    """Compile the source of a rule: a path, or a URL whose host becomes a condition.

    Raises:
        RuleError: if it is not a valid source.

    """
    if len(text) > MAX_SOURCE_CHARACTERS:
        raise RuleError(f"the path is longer than {MAX_SOURCE_CHARACTERS:,} characters")
    conditions: tuple[Condition, ...] = ()
    if is_url(text):
        found = _URL.match(text)
        if not found:
            raise RuleError("the URL is not valid")
        conditions = (_host_condition(found[2]),)
        text = found[3] or "/"
    text = text.partition("#")[0]
    if "?" in text:
        raise RuleError("a path has no query; write parameters after it, as name=:value")
    if not text.startswith("/"):
        raise RuleError('the path does not start with "/"')
    if normalize_path(text).startswith("/.netlify"):
        raise RuleError("/.netlify is reserved by Netlify")
    return compile_path(text), conditions


def _host_condition(host: str) -> Condition:
    host = host.rpartition("@")[2].lower()
    host = re.sub(r":[0-9]{1,5}$", "", host)
    regex, names = _expression(host, r"([^.]+)")
    return Condition("host", regex=regex, names=names)


def compile_path(text: str) -> Pattern:
    """Compile a path with placeholders and asterisks, which matches with and without a trailing slash.

    A placeholder matches text within one part of a path, and an asterisk matches any text. An asterisk as the last part may be
    missing together with its slash.

    Raises:
        RuleError: if it has too many asterisks or is too complex.

    """
    if not _WILD.search(text):
        return Pattern(path=without_slash(normalize_path(text)), either_slash=True)
    if text.count("*") > MAX_STARS:
        raise RuleError(f"it has more than {MAX_STARS} asterisks")
    text = re.sub(r"/{2,}", "/", text)
    rest = bool(re.search(r"/\*/?$", text))
    text = re.sub(r"/\*/?$", "", text) if rest else without_slash(text)
    regex, names = _expression(text, "([^/]+)")
    if rest:
        regex, names = f"{regex}(?:/(.*))?", (*names, "splat")
    else:
        regex += "" if text.endswith("*") else "/?"
    if not compile_expression(regex):
        raise RuleError("the path is too complex")
    first = _WILD.search(text)
    prefix = unquote(text[: first.start()] if first else text)
    return Pattern(regex=regex, prefix=prefix or "/", names=names)


def _expression(text: str, placeholder: str) -> tuple[str, tuple[str, ...]]:
    """Return the expression for a text with placeholders and asterisks, and the names of its groups."""
    regex = ""
    names: list[str] = []
    end = 0
    for wild in _WILD.finditer(text):
        regex += escape(unquote(text[end : wild.start()])) + (placeholder if wild[1] else "(.*)")
        names.append(wild[1] or "splat")
        end = wild.end()
    return regex + escape(unquote(text[end:])), tuple(names)


def compile_template(text: str, names: Sequence[str]) -> Template:
    """Replace placeholders by the captures of these names: `:name`, and `:splat` for the last asterisk."""
    return fill_template(text, _IN_TEMPLATE, {name: number for number, name in enumerate(names) if name})


def fill_template(text: str, places: re.Pattern[str], numbers: dict[str, int]) -> Template:
    """Split a text into literal strings and indexes of captures; unknown placeholders stay literal.

    Raises:
        RuleError: if it has too many placeholders.

    """
    parts: list[str | int] = []
    end = 0
    for place in places.finditer(text):
        name = next((group for group in place.groups() if group), "")
        if name in numbers:
            parts += [text[end : place.start()]] * (end < place.start())
            parts.append(numbers[name])
            end = place.end()
    if sum(isinstance(part, int) for part in parts) > MAX_PLACEHOLDERS:
        raise RuleError(f"it uses placeholders more than {MAX_PLACEHOLDERS} times")
    parts += [text[end:]] * (end < len(text))
    return tuple(parts)


def check_destination(text: str, status: int) -> None:
    """Check the destination of a rule.

    Raises:
        RuleError: if a site cannot send visitors there.

    """
    if not text or len(text) > MAX_SOURCE_CHARACTERS:
        raise RuleError(f"the destination is empty or longer than {MAX_SOURCE_CHARACTERS:,} characters")
    if is_url(text):
        if status == 200:
            raise RuleError(
                "a rewrite to another host (a proxy) is not supported; use a redirect, or call that host itself"
            )
        if status in {404, 410}:
            raise RuleError(f"the page for status {status} must be in the site")
        try:
            host = urlsplit(text).hostname
        except ValueError:
            host = None
        if not host:
            raise RuleError("the destination is not a valid URL")
    elif text.startswith(("//", "/\\")):
        raise RuleError('the destination starts with "//"; write https:// for another host')
    elif not text.startswith("/"):
        raise RuleError('the destination does not start with "/", "http://" or "https://"')
    elif text.startswith("/.netlify/"):
        raise RuleError("Netlify's functions are not supported")


def unknown_names(template: Template, places: re.Pattern[str] = _IN_TEMPLATE) -> list[str]:
    """Return the names of placeholders in a template that have no capture."""
    return [name for part in template if isinstance(part, str) for name in places.findall(part)]
