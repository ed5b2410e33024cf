"""The environment, read once into one frozen `Settings`; every problem is named in one message.

The table of variables, their defaults and rules is the contract's section 2, repeated in the README. Written by hand
rather than with pydantic-settings because of the cold start: its import takes 0.18 s of the 0.3 s in which git must have
been started (asyncio and anyio take 0.08 s).
"""

from __future__ import annotations

import configparser
import os
import re
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatchcase
from itertools import pairwise
from typing import Literal, TypeVar
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

from buildrunner.errors import ConfigurationError
from buildrunner.redaction import REDACTED, Redactor

T = TypeVar("T")

# Names that change how programs are loaded, and names that buildrunner sets itself.
_REFUSED_NAMES = re.compile(
    r"LD_.*|GLIBC_TUNABLES|GCONV_PATH|BASH_ENV|PATH|HOME|USER|LOGNAME|SHELL|PWD|TMPDIR|CI|SLUG|COMMIT_.*"
)
# What says that a variable holds a secret: whole words of its name, separated by `_`, a digit or case; KEY after another.
_SECRET_WORDS = {"TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASS", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS"}
_SECRET_WORDS |= {"JWT", "PAT"}
_KEYS = {
    "API",
    "ACCESS",
    "PRIVATE",
    "SECRET",
    "SIGNING",
    "ENCRYPTION",
    "DEPLOY",
    "SERVICE",
    "ROLE",
    "MASTER",
    "SSH",
    "HMAC",
}
_WORDS = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+")
# Never shown, not even when they are malformed.
_NEVER_SHOWN = re.compile(
    r"AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN)|GIT_TOKEN|(BUILD|INSTALL)_ENV_.*|REDIS_URI"
)
_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_SECRET_ACCESS_KEY",
    "AWS_SESSION_TOKEN",
    "AWS_CONTAINER_AUTHORIZATION_TOKEN",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",  # who knows it gets the role's credentials
    "GIT_TOKEN",
)
# What may stand behind the ? of REDIS_URI: options of redis-py's connections that are not decided here, and their values.
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
_URL_VARIABLES = {"REPO_URL", "GIT_REPOSITORY__URL", "REDIS_URI", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"}
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")  # but for TAB
# In no address. Surrogates are what Python makes of bytes in the environment that are not UTF-8.
_NOT_IN_URL = re.compile(r"[\x00-\x20\x7f-\x9f\ud800-\udfff]")

_SLUG = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_SLUG_RULE = "1 to 63 of a-z, 0-9 and -, not beginning or ending with -"
_SHORTEST_TOKEN = 16  # as a user name in REPO_URL: GitHub's have 40, GitLab's 26; gitlab-ci-token has 15


@dataclass(frozen=True, slots=True)
class Repository:
    """What to clone. `url` never holds user info: that goes to git as a header for its own origin."""

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


@dataclass(frozen=True, slots=True)
class Settings:
    """One run's configuration. Times are in seconds, sizes in bytes; `{slug}` has been filled in everywhere."""

    repository: Repository
    slug: str
    build_id: str
    bucket: str
    state_bucket: str
    region: str
    s3_endpoint_url: str | None = field(repr=False)
    redis_uri: str = field(repr=False)
    root_dir: str | None
    install_command: str | None
    build_command: str | None
    output_dir: str | None
    node_version: str | None
    build_env: Mapping[str, str] = field(repr=False)
    install_env: Mapping[str, str] = field(repr=False)
    s3_key_prefix: str
    log_format: Literal["text", "json"]
    log_channel: str
    event_stream: str
    log_ttl: int
    log_max_bytes: int
    console_format: Literal["auto", "text", "json"]
    clone_timeout: float
    install_timeout: float
    build_timeout: float
    upload_timeout: float
    upload_concurrency: int
    site_max_files: int
    site_max_bytes: int
    site_max_file_bytes: int
    asset_grace: int
    dependency_cache: Literal["s3", "off"]
    cache_scope: str
    strict_lockfile: bool
    git_submodules: bool
    git_history: Literal["auto", "full", "none"]
    secrets: tuple[str, ...] = field(repr=False)


def read_settings(environment: Mapping[str, str], *, publishes: str | None = None) -> Settings:
    """Read the settings of one run from `environment`.

    A variable that is set but empty counts as not set: templates of task definitions cannot leave one out. Where a run
    only `publishes` a folder, no repository is needed, and Redis only if its log is to be followed there.

    Raises:
        ConfigurationError: with every problem, each naming its variable, what was found and what is expected.

    """
    redactor = Redactor(_secrets(environment))
    problems: list[str] = []

    def problem(name: str, expected: str) -> None:
        hidden = _NEVER_SHOWN.fullmatch(name)
        shown = "a value that is not shown" if hidden else _shown(environment.get(name, ""), redactor)
        problems.append(f"{name} is {shown}, but must be {expected}.")

    def read(name: str, parse: Callable[[str], T | None], expected: str, default: T) -> T:
        """Parse one variable; a parser answers None (or raises ValueError) for what is malformed."""
        found = environment.get(name, "")
        if not found:
            return default
        try:
            value = parse(found)
        except ValueError:
            value = None
        if value is None:
            problem(name, expected)
            return default
        return value

    def required(name: str, alias: str | None, what: str) -> str:
        """Answer the name of the two under which a value was found."""
        if not environment.get(name) and alias and environment.get(alias):
            return alias
        if not environment.get(name):
            problems.append(f"{name} is missing: {what}.")
        return name

    # The values below may be stand-ins where there is a problem: nothing of them is used then.
    slug_name = required("SLUG", "PROJECT_ID", "the id of the deployment, such as my-site")
    slug = read(
        slug_name,
        _matching(_SLUG),
        _SLUG_RULE,
        "x",
    )
    schemes = read(
        "REPO_ALLOWED_SCHEMES",
        _schemes,
        "a comma-separated list of https, http, ssh and file",
        frozenset({"https"}),
    )
    ref = read(
        "REPO_REF",
        _git_ref,
        "a branch, a tag or a full commit id, as git allows them",
        None,
    )
    url_name = "REPO_URL"
    if publishes is None:
        url_name = required("REPO_URL", "GIT_REPOSITORY__URL", "the repository to build, https://…")
    repository = Repository("", "", None, None, None)
    if publishes == "":
        problems.append("DIR is empty: name the folder that becomes the site.")
    elif publishes is not None and not os.path.isdir(publishes):
        problems.append(f"There is no folder {ascii(publishes)[1:-1]} that could be published.")
    try:
        repository = _repository(environment.get(url_name, ""), schemes, ref, environment.get("GIT_TOKEN") or None)
    except ValueError as error:
        if environment.get(url_name) and publishes is None:
            problem(url_name, str(error))
    read("GIT_TOKEN", _matching(r"[\x21-\x7e]+"), "a token without spaces or control characters", "")

    required("AWS_BUCKET_NAME", None, "the bucket that the site goes to")
    bucket_rule = "the name of a bucket (3 characters or more) or the ARN of an access point"
    bucket = read("AWS_BUCKET_NAME", _bucket, bucket_rule, "")
    region_name = next((name for name in ("AWS_REGION", "AWS_DEFAULT_REGION") if environment.get(name)), None)
    region = environment[region_name] if region_name else _region_of_profile(environment)
    if region is None:
        problems.append(
            "AWS_REGION is missing, and the AWS configuration has no region: set it, for instance to eu-central-1."
        )
    elif not re.fullmatch(r"(?![0-9]+$)(?!-)[A-Za-z0-9-]{1,63}(?<!-)", region):  # botocore's rule
        if region_name:
            problem(region_name, "a region, such as eu-central-1")
        else:
            problems.append("The region in the AWS configuration is malformed: mend it, or set AWS_REGION.")
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        read(name, _matching(r"[\x21-\x7e]+"), "without spaces, line ends or other control characters", "")
    for one, other in (
        ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
        ("AWS_SECRET_ACCESS_KEY", "AWS_ACCESS_KEY_ID"),
    ):
        if environment.get(one) and not environment.get(other):
            problems.append(f"{other} is missing, though {one} is set: set both, or neither to use the task's role.")
    endpoint_name = "AWS_ENDPOINT_URL_S3" if environment.get("AWS_ENDPOINT_URL_S3") else "AWS_ENDPOINT_URL"
    endpoint = read(endpoint_name, _http_url, "an http:// or https:// address", None)

    if publishes is None:
        required("REDIS_URI", None, "where the log goes, redis://…, rediss://… or unix://…")
    if environment.get("REDIS_URI"):
        try:
            _check_redis_uri(environment["REDIS_URI"])
        except ValueError as error:
            problem("REDIS_URI", str(error))

    templates = {}
    for name, default in (("LOG_CHANNEL", "logs:{slug}"), ("EVENT_STREAM", "events:{slug}")):
        expected = "printable text in which {slug} stands, and no other placeholder"
        templates[name] = read(name, _template, expected, default).replace("{slug}", slug)
    prefix = read(
        "S3_KEY_PREFIX",
        _key_prefix,
        "a prefix that holds {slug} as a whole part, such as sites/{slug}/: it ends with /, begins neither with / nor with"
        " __logs/, __manifests/ or __cache/, and has no other placeholder",
        "{slug}/",
    ).replace("{slug}", slug)

    def seconds(name: str, default: float) -> float:
        return read(name, _seconds, "a number of seconds above 0, at most 86400", default)

    def whole(name: str, default: int, least: int, most: int) -> int:
        return read(name, _whole(least, most), f"a whole number from {least} to {most}", default)

    def folder(name: str, of: str) -> str | None:
        return read(name, _folder, f"a folder inside {of}, such as apps/web: relative, without .. and .git", None)

    if environment.get("REDACT_VARS") and _name_patterns(environment["REDACT_VARS"]) is None:
        problem("REDACT_VARS", "a comma-separated list of variable names, without BUILD_ENV_; * stands for any text")
    settings = Settings(
        repository=repository,
        slug=slug,
        build_id=read("BUILD_ID", _matching(r"[A-Za-z0-9_-]{1,64}"), "1 to 64 of A-Z, a-z, 0-9, _ and -", "")
        or make_build_id(),
        bucket=bucket,
        state_bucket=read("STATE_BUCKET_NAME", _bucket, bucket_rule, bucket),
        region=region or "",
        s3_endpoint_url=endpoint,
        redis_uri=environment.get("REDIS_URI", ""),
        root_dir=folder("ROOT_DIR", "the repository"),
        install_command=read("INSTALL_COMMAND", _command, "a command for the shell", None),
        build_command=read("BUILD_COMMAND", _command, "a command for the shell", None),
        output_dir=folder("OUTPUT_DIR", "the app's folder"),
        node_version=read(
            "NODE_VERSION", _matching(r"[\x20-\x7e]{1,100}"), "a version or range of Node, such as 22", None
        ),
        build_env=_named(environment, "BUILD_ENV_", problems),
        install_env=_named(environment, "INSTALL_ENV_", problems),
        s3_key_prefix=prefix,
        log_format=read("LOG_FORMAT", _one_of("text", "json"), "text or json", "text"),
        log_channel=templates["LOG_CHANNEL"],
        event_stream=templates["EVENT_STREAM"],
        log_ttl=whole("LOG_TTL", 86400, 1, 10**9),
        log_max_bytes=whole("LOG_MAX_BYTES", 64 * 1024 * 1024, 1, 10**12),
        console_format=read("CONSOLE_FORMAT", _one_of("auto", "text", "json"), "auto, text or json", "auto"),
        clone_timeout=seconds("CLONE_TIMEOUT", 120),
        install_timeout=seconds("INSTALL_TIMEOUT", 600),
        build_timeout=seconds("BUILD_TIMEOUT", 1200),
        upload_timeout=seconds("UPLOAD_TIMEOUT", 600),
        upload_concurrency=whole("UPLOAD_CONCURRENCY", 64, 1, 1024),
        site_max_files=whole("SITE_MAX_FILES", 100_000, 1, 10**9),
        site_max_bytes=whole("SITE_MAX_BYTES", 10 * 2**30, 1, 10**15),
        site_max_file_bytes=whole("SITE_MAX_FILE_BYTES", 2**30, 1, 5 * 2**40),  # S3's objects have 5 TiB at the most
        asset_grace=whole("ASSET_GRACE", 604800, 0, 10**9),
        dependency_cache=read("DEPENDENCY_CACHE", _one_of("s3", "off"), "s3 or off", "s3"),
        cache_scope=read("CACHE_SCOPE", _matching(_SLUG), f"{_SLUG_RULE}, as a slug", slug),
        strict_lockfile=read("STRICT_LOCKFILE", _one_of("1", "0"), "1 or 0", "0") == "1",
        git_submodules=read("GIT_SUBMODULES", _one_of("on", "off"), "on or off", "on") == "on",
        git_history=read("GIT_HISTORY", _one_of("auto", "full", "none"), "auto, full or none", "auto"),
        secrets=_secrets(environment),
    )
    if problems:
        raise ConfigurationError(problems)
    return settings


def make_build_id() -> str:
    """Make an id that sorts by time and holds 64 random bits."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{secrets.token_hex(8)}"


def is_secret_name(name: str) -> bool:
    """Return whether the name of a variable says that its value is a secret: `DB_PASS` and `apiKey`, not `AUTHOR`."""
    words = [word.upper() for word in _WORDS.findall(name)]
    return (
        not _SECRET_WORDS.isdisjoint(words)
        or words[-1:] == ["AUTH"]
        or any(word == "KEY" and before in _KEYS for before, word in pairwise(words))
    )


def _secrets(environment: Mapping[str, str]) -> tuple[str, ...]:
    """List what must not leave the process (the contract's section 6); the redactor skips values under 6 characters."""
    found = [environment[name] for name in _CREDENTIALS if environment.get(name)]
    more_names = _name_patterns(environment.get("REDACT_VARS", "")) or ()
    for full_name, value in environment.items():
        prefix = next((prefix for prefix in ("BUILD_ENV_", "INSTALL_ENV_") if full_name.startswith(prefix)), None)
        name = full_name[len(prefix) :] if prefix else full_name
        if prefix and (is_secret_name(name) or any(fnmatchcase(name, pattern) for pattern in more_names)):
            found.append(value)
        elif (
            name in _URL_VARIABLES
            or name.lower().endswith("_proxy")
            or (prefix and "://" in value)  # postgres://user:password@…
        ):
            found += _secrets_of_url(value)
    return tuple(found)


def _secrets_of_url(value: str) -> list[str]:
    url = value if "://" in value else f"http://{value}"  # a proxy's scheme may be left out
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query)
    except ValueError:
        return []
    has_secret = parts.password or (parts.username and parts.scheme in {"http", "https"})  # https://TOKEN@host
    return [*([url] if has_secret else []), *(secret for key, secret in query if is_secret_name(key))]


def _shown(value: str, redactor: Redactor) -> str:
    """Quote a malformed value for people: without secrets, and without what of an address may be one."""
    text = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    # Up to the last @: a password in which / ? or # was not encoded makes the address malformed.
    if "/" in text or ":" in text:
        text = re.sub(r"^([A-Za-z][A-Za-z0-9+.-]*://)?+(?!git@[^@]*$).*@", rf"\1{REDACTED}@", text, flags=re.DOTALL)
        text = re.sub(r"([?#]).+", rf"\1{REDACTED}", text, flags=re.DOTALL)
    text = redactor.redact(text)
    plain = _CONTROLS.sub("", text)
    redacted = redactor.redact(plain)  # a secret may be broken by control characters, or hold them itself
    return ascii((text if redacted == plain else redacted)[:200])


def _matching(pattern: str) -> Callable[[str], str | None]:
    return lambda text: text if re.fullmatch(pattern, text) else None


def _one_of(*values: T) -> Callable[[str], T | None]:
    return lambda text: next((value for value in values if value == text), None)


def _whole(least: int, most: int) -> Callable[[str], int | None]:
    return lambda text: int(text) if re.fullmatch(r"[0-9]{1,18}", text) and least <= int(text) <= most else None


def _seconds(text: str) -> float | None:
    return float(text) if re.fullmatch(r"[0-9]{1,6}(\.[0-9]{1,9})?", text) and 0 < float(text) <= 86400 else None


def _schemes(text: str) -> frozenset[str] | None:
    names = frozenset(name.strip() for name in text.split(","))
    return names if names <= {"https", "http", "ssh", "file"} else None


def _name_patterns(text: str) -> tuple[str, ...] | None:
    names = tuple(name.strip() for name in text.split(",") if name.strip())
    return names if all(re.fullmatch(r"[A-Za-z_*][A-Za-z0-9_*]*", name) for name in names) else None


def _git_ref(text: str) -> str | None:
    """Follow `git check-ref-format`; a leading - would be an option."""
    bad = r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|/\.|^[-/.]|[/.]$|\.lock(/|$)|^@$"
    return None if re.search(bad, text) or len(text) > 255 else text


def _command(text: str) -> str | None:
    return text if text.strip() and "\0" not in text else None


def _folder(text: str) -> str | None:
    parts = [part for part in text.split("/") if part not in {"", "."}]
    if text.startswith("/") or ".." in parts or ".git" in parts or re.search(r"[\x00-\x1f\x7f]", text):
        return None
    return "/".join(parts) or "."


def _bucket(text: str) -> str | None:
    # Wider than S3's own rule of today: old buckets, and those of other servers, have capitals, _ and longer names.
    name = r"[A-Za-z0-9](?!.*\.\.)[A-Za-z0-9._-]{1,253}[A-Za-z0-9]"
    return text if re.fullmatch(rf"{name}|arn:aws[a-z-]*:s3[a-z-]*:[A-Za-z0-9:/._-]+", text) else None


def _http_url(text: str) -> str | None:
    parts = urlsplit(text)
    valid = not _NOT_IN_URL.search(text) and parts.scheme in {"http", "https"} and _host_and_port(parts)
    return text if valid else None


def _host_and_port(parts: SplitResult) -> bool:
    """Tell whether there is a host, and a port that is one or none; a host that begins with - is an option of ssh's."""
    host = unquote(parts.hostname or "")  # git decodes it for ssh
    return host != "" and not host.startswith("-") and (parts.port is None or parts.port > 0)


def _template(text: str) -> str | None:
    without = text.replace("{slug}", "")
    plain = without.isprintable() and "{" not in without and "}" not in without
    return text if without != text and plain and len(text) <= 500 else None


def _key_prefix(text: str) -> str | None:
    parts = text.split("/")
    whole = _template(text) and "{slug}" in parts and all("{" not in part or part == "{slug}" for part in parts)
    if not whole or parts[-1] or any(part in {"", ".", ".."} for part in parts[:-1]):
        return None
    return None if parts[0] in {"__logs", "__manifests", "__cache"} else text


def _named(environment: Mapping[str, str], prefix: str, problems: list[str]) -> dict[str, str]:
    """Collect the variables behind `BUILD_ENV_` or `INSTALL_ENV_`."""
    named = {}
    for full_name, value in environment.items():
        if not full_name.startswith(prefix):
            continue
        name = full_name[len(prefix) :]
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            problems.append(f"{full_name!a} must have the name of a variable behind {prefix}: letters, digits and _.")
        elif _REFUSED_NAMES.fullmatch(name):
            problems.append(
                f"{full_name} is refused: {name} changes how programs are loaded, or is set by buildrunner itself. Remove it."
            )
        else:
            named[name] = value
    return named


def _repository(text: str, schemes: frozenset[str], ref: str | None, token: str | None) -> Repository:
    """Parse `REPO_URL` strictly, so that it can become neither an option of git nor a transport helper (`ext::`).

    Raises:
        ValueError: its text completes the sentence "REPO_URL is …, but must be".

    """
    allowed = " or ".join(f"{scheme}://…" for scheme in ("https", "http", "ssh", "file") if scheme in schemes)
    if _NOT_IN_URL.search(text) or re.search(r"\\|%[01][0-9a-fA-F]|%7[fF]", text):
        raise ValueError("an address without spaces, backslashes and control characters")
    if re.match(r"[A-Za-z0-9._-]+@[A-Za-z0-9.-]+:", text):
        raise ValueError(f"written as an address, {allowed}, not in the short form of ssh")
    try:
        parts = urlsplit(text)
        valid = parts.scheme == "file" or _host_and_port(parts)
        username, password = parts.username, parts.password
    except ValueError:
        raise ValueError(f"a valid address, {allowed}") from None
    if parts.scheme not in schemes or "::" in text.split("//", 1)[0] or not text.startswith(f"{parts.scheme}://"):
        raise ValueError(f"{allowed} (REPO_ALLOWED_SCHEMES says which schemes may be used)")
    if not valid or parts.path in {"", "/"}:
        raise ValueError(f"an address with a host and a path, {allowed}, such as https://github.com/owner/name")
    if parts.query or parts.fragment or text.endswith(("?", "#")):
        raise ValueError("an address without ? and #; a branch, tag or commit goes into REPO_REF")
    if parts.scheme == "file" and parts.netloc not in {"", "localhost"}:
        raise ValueError("file:/// followed by an absolute path")
    if unquote(username or "").startswith("-"):
        raise ValueError("an address whose user does not begin with -")
    if parts.scheme == "ssh":  # the user belongs to the address there; git has no other way to be told
        if password is not None:
            raise ValueError("an ssh address without a password: ssh uses keys")
        return Repository(text, "ssh", ref, None, None)
    if parts.scheme == "file":
        return Repository(f"file://{parts.path}", "file", ref, None, None)
    host = parts.netloc.rpartition("@")[2]
    if token:
        # GitHub and GitLab take any user name beside a token, Bitbucket wants x-token-auth: a name in the URL wins.
        user, secret = (unquote(username) if username and password is None else "") or "x-access-token", token
    else:
        user, secret = unquote(username or ""), unquote(password or "")
    # A bare short name (https://git@…) is none: git would not send it either before it was asked for a password.
    given = bool(secret) or len(user) >= _SHORTEST_TOKEN
    return Repository(
        f"{parts.scheme}://{host}{parts.path}", parts.scheme, ref, user if given else None, secret if given else None
    )


def _check_redis_uri(text: str) -> None:
    """Check `REDIS_URI`.

    Raises:
        ValueError: its text completes the sentence "REDIS_URI is …, but must be".

    """
    shape = "redis://host:port/0, rediss://host:port/0 or unix:///path"
    encode = "In a password, write # as %23, / as %2F, ? as %3F, @ as %40, : as %3A and % as %25"
    try:
        parts = urlsplit(text)
        host = parts.scheme == "unix" or _host_and_port(parts)
        options = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError:
        raise ValueError(f"a valid address, {shape}. {encode}") from None
    if parts.scheme not in {"redis", "rediss", "unix"} or not text.startswith(f"{parts.scheme}://"):
        raise ValueError(shape)
    # An @ behind the authority: the password holds what ends an authority (RFC 3986, 3.2).
    if "@" in text.partition("://")[2][len(parts.netloc) :] and parts.scheme != "unix":
        raise ValueError(f"a valid address, {shape}. {encode}")
    if not host:
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


def _region_of_profile(environment: Mapping[str, str]) -> str | None:
    """Find the region in the AWS configuration file, as the AWS SDKs and Tools Reference Guide lays it out."""
    home = environment.get("HOME") or os.path.expanduser("~")
    path = environment.get("AWS_CONFIG_FILE") or os.path.join(home, ".aws", "config")
    profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(os.path.expanduser(path), encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return None
    for section in (f"profile {profile}", profile):
        if parser.has_option(section, "region"):
            return parser.get(section, "region").strip() or None
    return None
