"""Compile a rule of `_redirects` or `netlify.toml`, which have the same parts."""

from __future__ import annotations

from collections.abc import Mapping

from buildrunner.routing.document import STATUSES, Condition, Rule
from buildrunner.routing.expressions import escape
from buildrunner.routing.sources import (
    RuleError,
    check_destination,
    compile_source,
    compile_template,
    is_url,
    unknown_names,
)

_MAX_PARAMETERS = 20  # query parameters in a rule


def compile_rule(
    source: str,
    destination: str | None,
    status: int,
    *,
    forced: bool,
    query: Mapping[str, str],
    conditions: Mapping[str, object],
) -> tuple[Rule, str | None]:
    """Compile a redirect, rewrite or error page, and return a warning if it may behave differently than on Netlify.

    Args:
        source: a path or URL with placeholders.
        destination: likewise; None means the source itself, which is allowed for a rewrite that ends with `/*`.
        status: status of the answer.
        forced: whether the rule also applies to existing files.
        query: parameters that a request must have, by name; a value `:name` captures the parameter.
        conditions: Netlify's conditions on the visitor, such as Country.

    Raises:
        RuleError: if the rule cannot be applied.

    """
    if status not in STATUSES:
        raise RuleError(f"status {status} is not supported")
    for name in conditions:
        raise RuleError(f"conditions on {_shown_condition(name)} are not supported")
    if destination is None:
        if not source.endswith("/*") or status != 200:
            raise RuleError("it has no destination")
        destination = f"{source.removesuffix('*')}:splat"
        if is_url(source):
            destination = f"/{destination.split('/', 3)[3]}"
    check_destination(destination, status)
    pattern, host = compile_source(source)
    if host and is_url(destination) and _authority(source) == _authority(destination):
        raise RuleError("redirects between http and https of the same host must be configured where TLS is terminated")
    if len(query) > _MAX_PARAMETERS:
        raise RuleError(f"it has more than {_MAX_PARAMETERS} query parameters")
    parameters = tuple(_parameter(name, value) for name, value in query.items())
    names = [*pattern.names, *(name for condition in (*host, *parameters) for name in condition.names)]
    template = compile_template(destination, names)
    rule = Rule(
        pattern,
        template,
        status,
        forced=forced,
        passes_query=not query and "?" not in destination,
        conditions=(*host, *parameters),
    )
    unknown = unknown_names(template)
    return rule, f"its path has no :{unknown[0]}, so the destination contains that text literally" if unknown else None


def _parameter(name: str, value: str) -> Condition:
    if value.startswith(":") and value[1:].replace("_", "").isalnum():
        return Condition("query", name, "(.*)", (value[1:],))
    return Condition("query", name, escape(value))


def _authority(url: str) -> str:
    return url.split("/", 3)[2].lower()


def _shown_condition(name: str) -> str:
    known = {
        "Country": "the visitor's country",
        "Language": "the visitor's language",
        "Role": "a role",
        "Cookie": "a cookie",
    }
    return known.get(name.capitalize(), f'"{name[:40]}"')
