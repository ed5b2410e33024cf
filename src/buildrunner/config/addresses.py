"""Parse addresses: of repositories, of Redis, of HTTP servers, and the templates of links."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

# Never part of an address. Python represents bytes in the environment that are not UTF-8 as surrogates.
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f-\x9f\ud800-\udfff]")
_ORIGIN = r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?"
_SHORTEST_TOKEN = 16  # characters of a user name in REPO_URL: GitHub's have 40, GitLab's 26; gitlab-ci-token has 15
# Options of redis-py's connections that REDIS_URI may set after its ?, and their values.
_REDIS_OPTIONS = {
    "db": (r"[0-9]{1,9}", "a number"),
    "username": (r".+", "not empty"),
    "password": (r".+", "not empty"),
    "protocol": (r"[23]", "2 or 3"),
    "client_name": (r"[\x21-\x7e]+", "a name without spaces"),
    "ssl_cert_reqs": (r"required|optional", "required or optional, so that the server's certificate is checked"),
    "ssl_check_hostname": (r"(?i:true|false)", "true or false"),
    "ssl_min_version": (r"771|772", "771 (TLS 1.2) or 772 (TLS 1.3)"),  # the numbers of ssl.TLSVersion
    "ssl_ca_certs": (r".+", "the path of a file"),
    "ssl_ca_path": (r".+", "the path of a folder"),
    "ssl_certfile": (r".+", "the path of a file"),
    "ssl_keyfile": (r".+", "the path of a file"),
}


@dataclass(frozen=True, slots=True)
class Repository:
    """What to clone. `url` never contains credentials; git receives them as a header for their origin."""

    url: str
    scheme: str
    ref: str | None
    username: str | None = field(repr=False)
    password: str | None = field(repr=False)

    @property
    def origin(self) -> str:
        """Scheme, host and port, as git's `http.<url>.*` matches them."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}"


def parse_repository(text: str, schemes: frozenset[str], ref: str | None, token: str | None) -> Repository:
    """Parse `REPO_URL` strictly, so that it can become neither an option of git nor a transport helper (`ext::`).

    Raises:
        ValueError: its text completes the sentence "REPO_URL is …, but must be".

    """
    allowed = " or ".join(f"{scheme}://…" for scheme in ("https", "http", "ssh", "file") if scheme in schemes)
    if _NOT_IN_URL.search(text) or re.search(r"\\|%[01][0-9a-fA-F]|%7[fF]", text):
        raise ValueError("an address without spaces, backslashes and control characters")
    if re.match(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:", text):
        raise ValueError(f"a full address, {allowed}, not the short form of ssh")
    try:
        parts = urlsplit(text)
        valid = parts.scheme == "file" or _has_valid_host_and_port(parts)
        username, password = parts.username, parts.password
    except ValueError:
        raise ValueError(f"a valid address, {allowed}") from None
    if parts.scheme not in schemes or "::" in text.split("//", 1)[0] or not text.startswith(f"{parts.scheme}://"):
        raise ValueError(f"{allowed} (REPO_ALLOWED_SCHEMES lists the allowed schemes)")
    if not valid or parts.path in {"", "/"}:
        raise ValueError(f"an address with a host and a path, {allowed}, such as https://github.com/owner/name")
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError("an address without ? and #. Set REPO_REF for a branch, tag or commit")
    if parts.scheme == "file" and parts.netloc not in {"", "localhost"}:
        raise ValueError("file:/// followed by an absolute path")
    if unquote(username or "").startswith("-"):
        raise ValueError("an address whose user does not start with -")
    if parts.scheme == "ssh":  # the user belongs to the address there; git accepts it nowhere else
        if password is not None:
            raise ValueError("an ssh address without a password: ssh uses keys")
        return Repository(text, "ssh", ref, None, None)
    if parts.scheme == "file":
        return Repository(f"file://{parts.path}", "file", ref, None, None)
    host = parts.netloc.rpartition("@")[2]
    if token:
        # GitHub and GitLab accept any user name with a token, Bitbucket requires x-token-auth; a name in the URL takes precedence.
        user, secret = (unquote(username) if username and password is None else "") or "x-access-token", token
    else:
        user, secret = unquote(username or ""), unquote(password or "")
    # A bare short name (https://git@…) is not a credential: git itself would not send it before being asked for a password.
    has_credentials = bool(secret) or len(user) >= _SHORTEST_TOKEN
    return Repository(
        f"{parts.scheme}://{host}{parts.path}",
        parts.scheme,
        ref,
        user if has_credentials else None,
        secret if has_credentials else None,
    )


def parse_redis_uri(text: str) -> str:
    """Check `REDIS_URI` and return it.

    Raises:
        ValueError: its text completes the sentence "REDIS_URI is …, but must be".

    """
    shape = "redis://host:port/0, rediss://host:port/0 or unix:///path"
    encode = "In a password, write # as %23, / as %2F, ? as %3F, @ as %40, : as %3A and % as %25"
    try:
        parts = urlsplit(text)
        has_host = parts.scheme == "unix" or _has_valid_host_and_port(parts)
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(f"a valid address, {shape}. {encode}") from None
    if parts.scheme not in {"redis", "rediss", "unix"} or not text.startswith(f"{parts.scheme}://"):
        raise ValueError(shape)
    # An @ after the authority: the password contains a character that ends an authority (RFC 3986, 3.2).
    if "@" in text.partition("://")[2][len(parts.netloc) :] and parts.scheme != "unix":
        raise ValueError(f"a valid address, {shape}. {encode}")
    if not has_host:
        raise ValueError(shape)
    if _NOT_IN_URL.search(text):
        raise ValueError("an address without spaces and control characters; in a password, write a space as %20")
    if parts.fragment:
        raise ValueError(f"an address without #, {shape}. {encode}")
    if parts.scheme == "unix" and not parts.path.startswith("/"):
        raise ValueError("unix:// followed by an absolute path")
    if parts.scheme != "unix" and not re.fullmatch(r"(/[0-9]*)?", parts.path):
        raise ValueError(f"an address whose path is the number of a database, {shape}. {encode}")
    for name, value in options:
        if name not in _REDIS_OPTIONS:
            shown = name if re.fullmatch(r"[A-Za-z_]{1,40}", name) else "that is not shown"
            raise ValueError(
                f"an address without the option {shown}; known options: {', '.join(sorted(_REDIS_OPTIONS))}"
            )
        if name.startswith("ssl_") and parts.scheme != "rediss":
            raise ValueError(f"a rediss:// address, since it has the option {name}")
        pattern, expected = _REDIS_OPTIONS[name]
        if not re.fullmatch(pattern, value):
            raise ValueError(f"an address whose option {name} is {expected}")
    return text


def parse_http_url(text: str) -> str | None:
    """Return an http:// or https:// address unchanged, None for anything else."""
    try:
        parts = urlsplit(text)
        valid = parts.scheme in {"http", "https"} and _has_valid_host_and_port(parts)
    except ValueError:
        return None
    return text if valid and not _NOT_IN_URL.search(text) else None


def parse_api_root(text: str) -> str | None:
    """Return the root of an HTTP API without a final slash, to which paths are added."""
    valid = parse_http_url(text) and not set("?#") & set(text) and "@" not in urlsplit(text).netloc
    return text.rstrip("/") if valid else None


def parse_link_template(text: str, placeholders: tuple[str, ...]) -> str | None:
    """Return the template of a link, if its address is valid once filled in, and contains no credentials.

    The first placeholder must be in it, but for an address of this machine: that may be of one site, or one build.
    """
    filled = text
    for name in placeholders:
        filled = filled.replace(f"{{{name}}}", "a")
    if "{" in filled or "}" in filled or len(text) > 500 or not parse_http_url(filled):
        return None
    address = urlsplit(filled)
    names_site = f"{{{placeholders[0]}}}" in text or address.hostname in {"127.0.0.1", "localhost", "::1"}
    return text if names_site and "@" not in address.netloc else None


def parse_origins(text: str) -> tuple[str, ...] | None:
    """Return a comma-separated list of web origins (RFC 6454): scheme, host and port without a path."""
    origins = tuple(origin.strip() for origin in text.split(",") if origin.strip())
    return origins if origins and all(re.fullmatch(_ORIGIN, origin) for origin in origins) else None


def _has_valid_host_and_port(parts: SplitResult) -> bool:
    """Return whether there is a host and no impossible port. A host that starts with - would be an option of ssh."""
    host = unquote(parts.hostname or "")  # git decodes it for ssh
    return host != "" and not host.startswith("-") and (parts.port is None or parts.port > 0)
