"""Ask the npm registry in place of one that an install cannot read: which ones a repository names, and how they are replaced.

Such a registry may be a company's, or the cache of a generator of sites. That the npm registry has the same package, and not
another one of the same name, only its digest in the lockfile can say (dependency confusion). So an entry without a digest stays
as it is, and files of settings are changed only where every package of a registry has a digest. Package managers check these.
"""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

from buildrunner.project.files import parse_json, read_text
from buildrunner.project.package_managers.install import MIRRORS, places, without_host

REGISTRY = "https://registry.npmjs.org/"
_MOST_HOSTS = 20
_OWN_HOSTS = {"registry.npmjs.org", ""}
_ADDRESS = re.compile(r"https?://[^\s\"'#,{}]{1,2000}")
_QUOTED = re.compile(r"__archiveUrl=([^\s\"&]{1,2000})")
_HOST = re.compile(r"https?://([\w.-]{1,253})")
_SETTINGS = (".npmrc", ".yarnrc", ".yarnrc.yml", "bunfig.toml")
_LONGEST_LINE = 2000  # characters of a file of settings
# With credentials for whatever the registry is, these would be sent to the npm registry as well.
_CREDENTIALS = re.compile(
    r"^[ \t]*(?:_auth|_authToken|_password|username)[ \t]*=|\bnpmAuth(?:Token|Ident)\b|\b(?:token|password)[ \t]*=",
    re.MULTILINE,
)
# How package managers say that they could not read something.
_UNREADABLE = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ERR_SOCKET_TIMEOUT|ESOCKETTIMEDOUT"
    r"|DNSResolveFailed|ConnectionRefused|ConnectionClosed|ConnectionTimeout|FailedToOpenSocket|UnableToConnect"
    r"|\bE?40[134]\b|\bE?5\d\d\b|ERR_PNPM_FETCH_\d|ERR_PNPM_META_FETCH_FAIL|YN00(?:01|35|41)\b|ERR_TLS|CERT_"
    r"|certificate|trouble with your network"
)
_NAMED = re.compile(r"https?://[\w.-]|\b(?:getaddrinfo|connect) E[A-Z_]{2,20} [\w.-]")
# Addresses that say nothing of what failed: those of documentation.
_HELP = re.compile(
    r"https?://(?:[\w-]+\.)?(?:yarnpkg\.com/en/docs|docs\.npmjs\.com|pnpm\.io|bun\.(?:sh|com))\b\S{0,200}"
)
_DIGEST = re.compile(r"sha\d{1,3}-[A-Za-z0-9+/=]{20,200}")
_FROM_GIT = re.compile(
    r"\b(?:type|directory|commit):|gitHosted|tarball: https://(?:codeload\.github\.com|gitlab\.com|bitbucket\.org)/"
)
_ARCHIVE_OF_BERRY = re.compile(
    r"^  resolution: \"[^\"\n]{1,500}?@npm:[^\"\n:]{1,100}(::__archiveUrl=([^\"\n&]{1,2000}))\"$", re.MULTILINE
)
_CHECKSUM_OF_BERRY = re.compile(r"^  checksum: \S{20,300}$", re.MULTILINE)
_DIGEST_OF_YARN = re.compile(r"^  integrity sha\d|^  resolved \"[^\"\n]{1,2000}#[0-9a-f]{40}\"$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class RegistrySetting:
    """A file of settings that names other registries than npm's."""

    path: Path
    hosts: frozenset[str]


# --- what a repository names ---


def hosts_of_lockfile(text: str) -> frozenset[str]:
    """Return the hosts of the tarballs that a lockfile names, without the npm registry's own."""
    addresses = chain(
        (match[0] for match in _ADDRESS.finditer(text)), (unquote(match[1]) for match in _QUOTED.finditer(text))
    )
    return frozenset(_host(address) for address in addresses if _is_of_registry(address)) - _OWN_HOSTS


def registry_settings(folder: Path, checkout: Path) -> tuple[RegistrySetting, ...]:
    """Return the files that name other registries for the app in `folder`, from there up to the top."""
    found = []
    for place in places(folder, checkout):
        for name in _SETTINGS:
            text = ""
            with suppress(ValueError):
                text = read_text(place / name, checkout) or ""
            hosts = {_host(_registry_of(name, line)) for line in text.split("\n")} - _OWN_HOSTS
            if hosts:
                found.append(RegistrySetting(place / name, frozenset(hosts)))
    return tuple(found)


def is_unreadable(said: str) -> bool:
    """Return whether an install says that it could not read something from a registry."""
    return _UNREADABLE.search(said) is not None


def unreadable_hosts(said: str, hosts: Iterable[str]) -> tuple[str, ...]:
    """Return the hosts that a failed install could not read, of those that the repository names.

    Args:
        said: the end of its output, without colors.
        hosts: that the lockfile or a file of settings names.

    """
    named = tuple(sorted(set(hosts)))[:_MOST_HOSTS]
    if not is_unreadable(said):
        return ()
    mentioned = tuple(host for host in named if re.search(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", said))
    # Bun and npm do not always say which host it was.
    return mentioned or (() if _NAMED.search(_HELP.sub("", said)) else named)


def _host(address: str) -> str:
    match = _HOST.match(address)
    return match[1] if match else ""


def _is_of_registry(address: str) -> bool:
    """Return whether an address looks like those of a registry, such as …/name/-/name-1.0.0.tgz."""
    path = address.partition("?")[0].partition("#")[0]
    return path.endswith(".tgz") and ("/-/" in path or "/download/" in path)


def _registry_of(name: str, line: str) -> str:
    """Return the address of the registry that a line of a file of settings names; empty for none."""
    found = _ADDRESS.search(line) if len(line) <= _LONGEST_LINE else None
    if found is None:
        return ""
    key = line[: found.start()].strip(" \t\"'")
    if name == "bunfig.toml":  # registry = "…", { url = "…" }, and under [install.scopes] any name
        named = key.endswith("=") and not key.startswith("#")
    elif name == ".yarnrc.yml":
        named = key == "npmRegistryServer:"
    else:
        named = re.fullmatch(r"(?:@[\w.~-]{1,214}:)?registry\"?[ \t]*=?", key) is not None
    return found[0] if named else ""


# --- the npm registry in place of it ---


def rewrite_settings(name: str, text: str, hosts: Iterable[str]) -> str:
    """Name the npm registry in a file of settings where it names one of `hosts`; with credentials the file stays as it is."""
    if _CREDENTIALS.search(text):
        return text
    named = set(hosts)
    lines = text.split("\n")
    for number, line in enumerate(lines):
        address = _registry_of(name, line)
        if address and _host(address) in named:
            lines[number] = line.replace(address, REGISTRY, 1)
    return "\n".join(lines)


def without_mirror_settings(name: str, text: str) -> str:
    """Name the npm registry in a file of settings where it names a public mirror of it."""
    return rewrite_settings(name, text, {mirror.partition("/")[0] for mirror in MIRRORS})


def rewrite_lockfile(name: str, text: str, hosts: Iterable[str]) -> str:
    """Name the npm registry in a lockfile for the packages of `hosts` that it has the digests of."""
    named = set(hosts)
    if name == "bun.lock":
        return _each(text, "\n", lambda line: _rewrite_bun(line, named))
    if name == "pnpm-lock.yaml":
        return _each(text, "\n", lambda line: _rewrite_pnpm(line, named))
    if name == "yarn.lock" and _is_berry(text):
        return _each(text, "\n\n", lambda entry: _rewrite_berry(entry, named))
    for host in named:
        text = without_host(text, host)
    return text


def _each(text: str, between: str, change: Callable[[str], str]) -> str:
    written = io.StringIO()
    for number, part in enumerate(_parts(text, between)):
        if number:
            written.write(between)
        written.write(change(part))
    return written.getvalue()


def _parts(text: str, between: str) -> Iterator[str]:
    """Yield what `split` returns: a list of all takes twenty times the memory of a text of short lines."""
    start = 0
    while (end := text.find(between, start)) >= 0:
        yield text[start:end]
        start = end + len(between)
    yield text[start:]


def _rewrite_bun(line: str, hosts: set[str]) -> str:
    """Rewrite an entry of bun.lock: "name": ["name@version", "address", {…}, "digest"]; an empty address is the registry's."""
    parts = _bun_entry(line) if "://" in line else []
    if len(parts) > 7 and _host(parts[5]) in hosts and _DIGEST.fullmatch(parts[-2]):
        parts[5] = ""
        return '"'.join(parts)
    return line


def _bun_entry(line: str) -> list[str]:
    """Split an entry of bun.lock for a package of a registry at its quotes; empty for other lines."""
    parts = line.split('"')
    named = len(parts) > 5 and parts[2] == ": [" and parts[4].startswith(",")
    return parts if named and parts[3].rpartition("@")[2][:1].isdigit() else []


def _rewrite_pnpm(line: str, hosts: set[str]) -> str:
    """Rewrite `resolution: {integrity: sha512-…, tarball: https://…}`; without an address it is the registry's."""
    before, named_address, address = line.partition(", tarball: ")
    if not named_address:
        return line
    named = re.fullmatch(r" {1,20}resolution: \{integrity: sha\d{1,3}-[^\s,}]{20,200}", before)
    return (
        f"{before}}}"
        if named and _host(address) in hosts and _is_of_registry(address.rstrip().removesuffix("}"))
        else line
    )


def _rewrite_berry(entry: str, hosts: set[str]) -> str:
    """Rewrite `resolution: "name@npm:version::__archiveUrl=https%3A…"` of an entry with a checksum."""
    found = _ARCHIVE_OF_BERRY.search(entry)
    if found and _CHECKSUM_OF_BERRY.search(entry) and _host(unquote(found[2])) in hosts:
        return entry.replace(found[1], "", 1)
    return entry


def _is_berry(text: str) -> bool:
    return "__metadata:" in text[:2000]


# --- digests ---


def has_all_digests(name: str, text: str) -> bool:
    """Return whether a lockfile has a digest for every package that comes from a registry."""
    if name in {"bun.lockb", ""}:
        return False
    read = _WITHOUT_DIGEST.get(name, _without_digest_npm)
    return not any(True for _ in read(text))


def _without_digest_bun(text: str) -> Iterator[str]:
    for line in _parts(text.partition('"packages": {')[2], "\n"):
        parts = _bun_entry(line)
        if parts and not _DIGEST.fullmatch(parts[-2]):
            yield parts[3]


def _without_digest_pnpm(text: str) -> Iterator[str]:
    for match in re.finditer(r"^ {2,6}resolution: \{([^}\n]{0,2000})\}", text, re.MULTILINE):
        if "integrity:" not in match[1] and not _FROM_GIT.search(match[1]):
            yield match[1]


def _without_digest_yarn(text: str) -> Iterator[str]:
    berry = _is_berry(text)
    for entry in _parts(text, "\n\n"):
        if berry:
            if "@npm:" in entry and "\n  version:" in entry and not _CHECKSUM_OF_BERRY.search(entry):
                yield entry.partition("\n")[0]
            continue
        if "\n  version " not in entry:
            continue
        address = re.search(r"^  resolved \"([^\"\n]{1,2000})\"$", entry, re.MULTILINE)
        of_registry = address is None or _is_of_registry(address[1])
        if of_registry and not _DIGEST_OF_YARN.search(entry):
            yield entry.partition("\n")[0]


def _without_digest_npm(text: str) -> Iterator[str]:
    lockfile: object = None
    with suppress(ValueError):
        lockfile = parse_json(text)
    packages = lockfile.get("packages") if isinstance(lockfile, dict) else None
    if not isinstance(packages, dict):
        yield "all"  # npm 6 and older: not read here
        return
    for path, entry in packages.items():
        if "node_modules/" not in path or not isinstance(entry, dict) or entry.get("link") or entry.get("inBundle"):
            continue
        resolved = entry.get("resolved")
        if (not isinstance(resolved, str) or _is_of_registry(resolved)) and not entry.get("integrity"):
            yield path


_WITHOUT_DIGEST: Mapping[str, Callable[[str], Iterator[str]]] = {
    "bun.lock": _without_digest_bun,
    "pnpm-lock.yaml": _without_digest_pnpm,
    "yarn.lock": _without_digest_yarn,
}
