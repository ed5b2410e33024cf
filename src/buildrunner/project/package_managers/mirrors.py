"""Replace registries that an install cannot reach by the npm registry, in lockfiles and settings files.

Such a registry may be a company's, or a site generator's cache. Only the digest in the lockfile, which package managers check,
proves that the npm registry has the same package instead of another one with its name (dependency confusion). So entries
without a digest are not changed, and settings files only if all packages have digests.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from urllib.parse import unquote

from buildrunner.project.files import ancestors, read_text
from buildrunner.project.package_managers.lockfiles import REGISTRY, host_of, is_tarball_url
from buildrunner.project.package_managers.record import RegistrySettings
from buildrunner.project.package_managers.registry_urls import MIRRORS
from buildrunner.project.package_managers.table import LOCKFILES, PACKAGE_MANAGERS

_MAX_HOSTS = 20
_NPM_HOSTS = {"registry.npmjs.org", ""}
_ADDRESS = re.compile(r"https?://[^\s\"'#,{}]{1,2000}")
_QUOTED = re.compile(r"__archiveUrl=([^\s\"&]{1,2000})")
_SETTINGS: Mapping[str, RegistrySettings] = {
    settings.name: settings for record in PACKAGE_MANAGERS for settings in record.registry_settings
}
_MAX_LINE_CHARACTERS = 2000  # of a settings file
# Credentials that are not tied to one registry would be sent to the npm registry as well.
_CREDENTIALS = re.compile(
    r"^[ \t]*(?:_auth|_authToken|_password|username)[ \t]*=|\bnpmAuth(?:Token|Ident)\b|\b(?:token|password)[ \t]*=",
    re.MULTILINE,
)
# Errors of package managers that could not reach or read a registry.
_UNREADABLE = re.compile(
    r"ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|EHOSTUNREACH|ENETUNREACH|ERR_SOCKET_TIMEOUT|ESOCKETTIMEDOUT"
    r"|DNSResolveFailed|ConnectionRefused|ConnectionClosed|ConnectionTimeout|FailedToOpenSocket|UnableToConnect"
    r"|\bE?40[134]\b|\bE?5\d\d\b|ERR_PNPM_FETCH_\d|ERR_PNPM_META_FETCH_FAIL|YN00(?:01|35|41)\b|ERR_TLS|CERT_"
    r"|certificate|trouble with your network"
)
_NAMED = re.compile(r"https?://[\w.-]|\b(?:getaddrinfo|connect) E[A-Z_]{2,20} [\w.-]")
# Links to documentation in error messages, which don't name what failed.
_HELP = re.compile(
    r"https?://(?:[\w-]+\.)?(?:yarnpkg\.com/en/docs|docs\.npmjs\.com|pnpm\.io|bun\.(?:sh|com))\b\S{0,200}"
)


@dataclass(frozen=True, slots=True)
class RegistrySetting:
    """A settings file that names registries other than npm's."""

    path: Path
    hosts: frozenset[str]


# --- registries that a repository names ---


def find_lockfile_hosts(text: str) -> frozenset[str]:
    """Return the hosts of the tarballs in a lockfile, except the npm registry."""
    addresses = chain(
        (match[0] for match in _ADDRESS.finditer(text)), (unquote(match[1]) for match in _QUOTED.finditer(text))
    )
    return frozenset(host_of(address) for address in addresses if is_tarball_url(address)) - _NPM_HOSTS


def find_registry_settings(folder: Path, checkout: Path) -> tuple[RegistrySetting, ...]:
    """Return the settings files that name other registries, from `folder` up to the repository's top."""
    found = []
    for place in ancestors(folder, checkout):
        for name in _SETTINGS:
            text = ""
            with suppress(ValueError):
                text = read_text(place / name, checkout) or ""
            hosts = {host_of(_find_registry(name, line)) for line in text.split("\n")} - _NPM_HOSTS
            if hosts:
                found.append(RegistrySetting(place / name, frozenset(hosts)))
    return tuple(found)


def is_registry_unreadable(output: str) -> bool:
    """Return whether the output of an install reports that it could not read from a registry."""
    return _UNREADABLE.search(output) is not None


def find_unreadable_hosts(output: str, hosts: Iterable[str]) -> tuple[str, ...]:
    """Return which of `hosts` a failed install could not read from.

    Args:
        output: the end of the install's output, without colors.
        hosts: the hosts in the lockfile and the settings files.

    """
    named = tuple(sorted(set(hosts)))[:_MAX_HOSTS]
    if not is_registry_unreadable(output):
        return ()
    mentioned = tuple(host for host in named if re.search(rf"(?<![\w.-]){re.escape(host)}(?![\w-])", output))
    # Bun and npm don't always name the host.
    return mentioned or (() if _NAMED.search(_HELP.sub("", output)) else named)


def _find_registry(name: str, line: str) -> str:
    """Return the registry address in a line of a settings file; empty if there is none."""
    found = _ADDRESS.search(line) if len(line) <= _MAX_LINE_CHARACTERS else None
    if found is None:
        return ""
    return found[0] if _SETTINGS[name].is_registry_key(line[: found.start()].strip(" \t\"'")) else ""


# --- replacement by the npm registry ---


def rewrite_settings(name: str, text: str, hosts: Iterable[str]) -> str:
    """Replace `hosts` by the npm registry in a settings file; a file with credentials is returned unchanged."""
    if _CREDENTIALS.search(text):
        return text
    named = set(hosts)
    lines = text.split("\n")
    for number, line in enumerate(lines):
        address = _find_registry(name, line)
        if address and host_of(address) in named:
            lines[number] = line.replace(address, REGISTRY, 1)
    return "\n".join(lines)


def replace_mirrors_in_settings(name: str, text: str) -> str:
    """Replace public mirrors by the npm registry in a settings file."""
    return rewrite_settings(name, text, {mirror.partition("/")[0] for mirror in MIRRORS})


def rewrite_lockfile(name: str, text: str, hosts: Iterable[str]) -> str:
    """Replace `hosts` by the npm registry in a lockfile, for packages with a digest."""
    _, lockfile = LOCKFILES[name]
    return lockfile.rewrite_hosts(text, set(hosts))


def has_all_digests(name: str, text: str) -> bool:
    """Return whether a lockfile has a digest for every package from a registry."""
    _, lockfile = LOCKFILES[name]
    return lockfile.find_undigested is not None and not any(True for _ in lockfile.find_undigested(text))
