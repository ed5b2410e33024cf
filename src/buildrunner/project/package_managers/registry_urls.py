"""Replace the addresses of mirrors and other registries by the npm registry's in lockfiles.

The lockfiles of npm and Yarn 1, and older formats of pnpm's and Bun's, contain a tarball address for each package.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from buildrunner.project.package_managers.lockfiles import REGISTRY

# Mirrors of the npm registry in lockfiles; the first was shut down in 2024. A tarball's path is /name/-/name-1.0.0.tgz, as in
# the registry, or /@scope/name/download/@scope/name-1.0.0.tgz?cache=0&….
MIRRORS = (
    "registry.npm.taobao.org",
    "registry.nlark.com",
    "registry.npmmirror.com",
    "cdn.npmmirror.com/packages",
    "r.cnpmjs.org",
    "registry.cnpmjs.org",
    "mirrors.cloud.tencent.com/npm",
    "mirrors.tencent.com/npm",
    "mirrors.huaweicloud.com/repository/npm",
    "repo.huaweicloud.com/repository/npm",
)
# Addresses are found first and then examined one by one, so that the time is proportional to the lockfile's size.
_ADDRESS = re.compile(r"https?://([^/\s\"'#?<>\\]{1,255})/([^\s\"'#?<>\\]{1,2000})(?:\?[^\"'#\s]{0,2000})?")
_TARBALL = re.compile(
    r"(?:[\w.~-]{1,100}/){0,8}?((?:@[\w.~-]{1,214}(?:/|%2[fF]))?[\w.~-]{1,214})/(?:download|-)/"
    r"(?:@[\w.~-]{1,214}/)?([\w.~+-]{1,300}\.tgz)"
)
_INTEGRITY = re.compile(r"(?:#[0-9a-f]{1,64})?\"?,?\s{1,20}\"?integrity\"?:? \"?sha\d")
_RESOLVED_OF_YARN = 'resolved "'
_FRAGMENT_OF_YARN = re.compile(r"#[0-9a-f]{40}\"$", re.MULTILINE)  # a digest that Yarn 1 checks, but npm doesn't


def replace_mirrors(lockfile: str) -> str:
    """Replace mirrors by the npm registry in a lockfile; its digests ensure that the packages are the same."""

    def in_registry(address: re.Match[str]) -> str:
        place = f"{address[1]}/{address[2]}"
        mirror = next((mirror for mirror in MIRRORS if place.startswith(f"{mirror}/")), None)
        tarball = _TARBALL.fullmatch(place[len(mirror) + 1 :]) if mirror else None
        return _registry_url(tarball) if tarball else address[0]

    return _ADDRESS.sub(in_registry, lockfile)


def replace_hosts(lockfile: str, hosts: set[str]) -> str:
    """Replace `hosts` by the npm registry in a lockfile, for packages with a digest.

    Without a digest, another package of the same name could be installed.
    """
    for host in hosts:
        lockfile = _replace_host(lockfile, host)
    return lockfile


def _replace_host(lockfile: str, host: str) -> str:
    def in_registry(address: re.Match[str]) -> str:
        tarball = _TARBALL.fullmatch(address[2]) if address[1].partition(":")[0] == host else None
        of_yarn = lockfile.startswith(_RESOLVED_OF_YARN, max(0, address.start() - len(_RESOLVED_OF_YARN)))
        proven = _INTEGRITY.match(lockfile, address.end()) or (
            of_yarn and _FRAGMENT_OF_YARN.match(lockfile, address.end())
        )
        return _registry_url(tarball) if tarball and proven else address[0]

    return _ADDRESS.sub(in_registry, lockfile)


def _registry_url(tarball: re.Match[str]) -> str:
    return f"{REGISTRY}{unquote(tarball[1])}/-/{tarball[2]}"
