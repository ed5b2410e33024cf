"""Choose the rule files of a site, and compile them into one document."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TypeVar

from buildrunner.routing.document import MAX_DOCUMENT_BYTES, MAX_DYNAMIC_RULES, MAX_RULES, Document, HeaderRule, Rule
from buildrunner.routing.headers_file import parse_headers
from buildrunner.routing.netlify_toml import NetlifyRules, parse_netlify_toml
from buildrunner.routing.redirects_file import parse_redirects
from buildrunner.routing.vercel_json import VercelRules, parse_vercel_json
from buildrunner.routing.warnings import RuleWarning, Warnings

# Files with rules. They are not published as part of the site.
OUTPUT_FILES = ("_redirects", "_headers", "netlify.toml", "vercel.json")
MAX_FILE_BYTES = {"_redirects": 2**20, "_headers": 2**20, "netlify.toml": 2**18, "vercel.json": 2**20}

_Rule = TypeVar("_Rule", Rule, HeaderRule)

# Reads a file; None if there is no such regular file. It may stop after more than MAX_FILE_BYTES.
Read = Callable[[], bytes | None]


@dataclass(frozen=True, slots=True)
class RuleFile:
    """A file that may contain rules."""

    name: str  # one of OUTPUT_FILES
    shown: str  # the file's path, for warnings
    read: Read


@dataclass(frozen=True, slots=True)
class SiteRules:
    """The compiled rules of a site, and warnings about those that are not applied."""

    document: Document
    warnings: tuple[RuleWarning, ...]


def collect_rules(files: Collection[RuleFile], pages: Collection[str], *, noindex: bool = False) -> SiteRules:
    """Compile the rules of a site.

    Args:
        files: files that may contain rules, nearest to the output first; for each name, the first existing file is used.
        pages: the keys of the site's pages (.html).
        noindex: whether to ask search engines not to index the site.

    Returns:
        The document, and a warning for each rule that is not applied.

    """
    found: list[RuleWarning] = []
    texts: dict[str, tuple[str, str]] = {}
    for file in files:
        data = file.read()
        if data is None:
            continue
        if file.name in texts:
            nearer = texts[file.name][0]
            found.append(RuleWarning(file.shown, None, f"it is not applied, because {nearer} is nearer to the output"))
            continue
        if len(data) > MAX_FILE_BYTES[file.name]:
            limit = MAX_FILE_BYTES[file.name]
            found.append(
                RuleWarning(file.shown, None, f"the file is larger than {limit:,} bytes, so it is not applied")
            )
            text = ""
        else:
            text = data.decode("utf-8", errors="replace")
        texts[file.name] = file.shown, text

    logs = {name: Warnings(shown) for name, (shown, _) in texts.items()}
    redirects = parse_redirects(texts["_redirects"][1], logs["_redirects"]) if "_redirects" in texts else ()
    headers = parse_headers(texts["_headers"][1], logs["_headers"]) if "_headers" in texts else ()
    netlify = NetlifyRules()
    if "netlify.toml" in texts and texts["netlify.toml"][1]:
        netlify = parse_netlify_toml(texts["netlify.toml"][1], logs["netlify.toml"])
    vercel = VercelRules()
    if "vercel.json" in texts and texts["vercel.json"][1]:
        vercel = parse_vercel_json(texts["vercel.json"][1], logs["vercel.json"])
    document = Document(
        redirects=_bounded(vercel.redirects, "redirects of vercel.json", found),
        rules=_bounded((*redirects, *netlify.rules), "rules of _redirects and netlify.toml", found),
        rewrites=_bounded(vercel.rewrites, "rewrites of vercel.json", found),
        headers=_bounded((*headers, *netlify.headers, *vercel.headers), "rules for headers", found),
        clean_urls=vercel.clean_urls,
        trailing_slash=vercel.trailing_slash,
        noindex=noindex,
        single_page=set(pages) == {"index.html"},
    )
    for log in logs.values():
        found += log.all()
    if len(document.to_json()) > MAX_DOCUMENT_BYTES:
        found.append(
            RuleWarning(
                "rules", None, f"all rules together are larger than {MAX_DOCUMENT_BYTES:,} bytes, so none is applied"
            )
        )
        document = Document(noindex=noindex, single_page=document.single_page)
    return SiteRules(document, tuple(found))


def _bounded(rules: tuple[_Rule, ...], what: str, warnings: list[RuleWarning]) -> tuple[_Rule, ...]:
    """Return the rules up to the limits of a site, and warn of the others."""
    kept: list[_Rule] = []
    dynamic = 0
    for rule in rules:
        dynamic += rule.source.path is None
        if len(kept) < MAX_RULES and (rule.source.path is not None or dynamic <= MAX_DYNAMIC_RULES):
            kept.append(rule)
    if left := len(rules) - len(kept):
        limits = f"{MAX_RULES:,}, of them {MAX_DYNAMIC_RULES:,} with placeholders, splats or expressions"
        warnings.append(RuleWarning(what, None, f"{left:,} are not applied: there may be {limits}"))
    return tuple(kept)
