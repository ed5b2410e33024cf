"""Check the response headers that a site's rules set."""

from __future__ import annotations

import re

from buildrunner.routing.sources import RuleError

MAX_VALUE_CHARACTERS = 8_000
# Proxies obey these headers in upstream responses: they would send one of their own files instead, or limit the rate.
# https://nginx.org/en/docs/http/ngx_http_proxy_module.html#proxy_ignore_headers
_FOR_PROXIES = re.compile(r"x-(?:accel-.*|sendfile.*|lighttpd-.*|litespeed-.*|reproxy-.*)")
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,100}")  # RFC 9110, 5.6.2
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# Headers that only the server may set, because a wrong value breaks responses: RFC 9110 and 9112, and Netlify's list,
# https://docs.netlify.com/manage/routing/headers/#limitations
_RESERVED = frozenset(
    (
        "accept-ranges",
        "age",
        "allow",
        "alt-svc",
        "connection",
        "content-encoding",
        "content-length",
        "content-range",
        "date",
        "etag",
        "keep-alive",
        "last-modified",
        "location",
        "proxy-authenticate",
        "proxy-connection",
        "server",
        "status",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    )
)


def steers_proxies(name: str) -> bool:
    """Return whether a proxy would obey a header instead of passing it on; `name` is in lowercase."""
    return _FOR_PROXIES.fullmatch(name) is not None


def check_header(name: str, value: str | None) -> None:
    """Check a header that a rule sets, or removes if its value is None.

    Raises:
        RuleError: if the rule is not allowed.

    """
    if not _NAME.fullmatch(name):
        raise RuleError("the name of the header is not valid")
    if name.lower() == "basic-auth":
        raise RuleError("Basic-Auth is not supported, so these pages are NOT password-protected")
    if name.lower() in _RESERVED or steers_proxies(name.lower()):
        raise RuleError(f"{name} cannot be set")
    if value is None:
        return
    if not value:
        raise RuleError(f"{name} has no value")
    if len(value) > MAX_VALUE_CHARACTERS or _CONTROL.search(value):
        raise RuleError(f"the value of {name} has control characters or is too long")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise RuleError(f"the value of {name} is not valid Unicode") from None
