"""Replace addresses of mirrors and other registries by the npm registry's in lockfiles that name whole addresses.

npm, Yarn 1 and older formats of pnpm and Bun name a tarball's address for each package.
"""

from __future__ import annotations

import re
from urllib.parse import unquote

from buildrunner.project.package_managers.lockfiles import REGISTRY

# Mirrors of the npm registry that lockfiles name; the first is gone since 2024. Each has its own form of a tarball's address:
# /name/-/name-1.0.0.tgz as the registry, or /@scope/name/download/@scope/name-1.0.0.tgz?cache=0&….
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
# Addresses are found first, then examined one by one, so that no character of a lockfile is read more than a few times.
_ADDRESS = re.compile(r"https?://([^/\s\"'#?<>\\]{1,255})/([^\s\"'#?<>\\]{1,2000})(?:\?[^\"'#\s]{0,2000})?")
_TARBALL = re.compile(
    r"(?:[\w.~-]{1,100}/){0,8}?((?:@[\w.~-]{1,214}(?:/|%2[fF]))?[\w.~-]{1,214})/(?:download|-)/"
    r"(?:@[\w.~-]{1,214}/)?([\w.~+-]{1,300}\.tgz)"
)
_INTEGRITY = re.compile(r"(?:#[0-9a-f]{1,64})?\"?,?\s{1,20}\"?integrity\"?:? \"?sha\d")
_BEFORE_YARNS = 'resolved "'
_FRAGMENT_OF_YARN = re.compile(r"#[0-9a-f]{40}\"$", re.MULTILINE)  # Yarn 1 checks it, npm does not


def replace_mirrors(lockfile: str) -> str:
    """Name the npm registry where a lockfile names a mirror of it; the digests in it prove that it is the same package."""

    def in_registry(address: re.Match[str]) -> str:
        place = f"{address[1]}/{address[2]}"
        mirror = next((mirror for mirror in MIRRORS if place.startswith(f"{mirror}/")), None)
        tarball = _TARBALL.fullmatch(place[len(mirror) + 1 :]) if mirror else None
        return _in_registry(tarball) if tarball else address[0]

    return _ADDRESS.sub(in_registry, lockfile)


def replace_hosts(lockfile: str, hosts: set[str]) -> str:
    """Replace `hosts` by the npm registry in a lockfile, for packages whose digest it contains.

    Without the digest another package of the same name could be installed.
    """
    for host in hosts:
        lockfile = _replace_host(lockfile, host)
    return lockfile


def _replace_host(lockfile: str, host: str) -> str:
    def in_registry(address: re.Match[str]) -> str:
        tarball = _TARBALL.fullmatch(address[2]) if address[1].partition(":")[0] == host else None
        of_yarn = lockfile.startswith(_BEFORE_YARNS, max(0, address.start() - len(_BEFORE_YARNS)))
        proven = _INTEGRITY.match(lockfile, address.end()) or (
            of_yarn and _FRAGMENT_OF_YARN.match(lockfile, address.end())
        )
        return _in_registry(tarball) if tarball and proven else address[0]

    return _ADDRESS.sub(in_registry, lockfile)


def _in_registry(tarball: re.Match[str]) -> str:
    return f"{REGISTRY}{unquote(tarball[1])}/-/{tarball[2]}"
