"""Name archives of dependencies, and choose the one that fits an install."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from buildrunner.project.package_managers.record import DownloadCache

Kind = Literal["modules", "packages", "shared"]
Compression = Literal["zst", "gz"]

MIN_WAIT_SECONDS = 5.0  # minimum wait for an archive; otherwise as long as the install that it replaces
MAX_SHARED_WAIT_SECONDS = 30.0  # for an archive of other slugs, which may be slow on purpose
_NAME = re.compile(
    r"(?P<kind>modules|packages|shared)-(?P<manager>[a-z]+)-(?P<key>[0-9a-f]{32})-(?P<seconds>[0-9]{1,5})-(?P<sha256>[0-9a-f]{64})\.tar\.(?P<compression>zst|gz)"
)
_KINDS: Mapping[str, Kind] = {"modules": "modules", "packages": "packages", "shared": "shared"}
_COMPRESSIONS: Mapping[str, Compression] = {"zst": "zst", "gz": "gz"}


@dataclass(frozen=True, slots=True)
class DependencyArchive:
    """An archive as described by its name."""

    kind: Kind
    manager: str  # id of its `DownloadCache`
    key: str
    seconds: int  # duration of the install that it was made from
    sha256: str
    compression: Compression = "zst"

    @property
    def name(self) -> str:
        return f"{self.kind}-{self.manager}-{self.key}-{self.seconds}-{self.sha256}.tar.{self.compression}"

    @property
    def longest_wait(self) -> float:
        """Return how many seconds an install waits for the unpacked archive."""
        seconds = max(self.seconds, MIN_WAIT_SECONDS)
        return min(seconds, MAX_SHARED_WAIT_SECONDS) if self.kind == "shared" else seconds

    @classmethod
    def parse(cls, name: str) -> DependencyArchive | None:
        """Parse a name; None if it is not the name of an archive."""
        match = _NAME.fullmatch(name)
        if not match:
            return None
        return cls(
            _KINDS[match["kind"]],
            match["manager"],
            match["key"],
            int(match["seconds"]),
            match["sha256"],
            _COMPRESSIONS[match["compression"]],
        )


@dataclass(frozen=True, slots=True)
class CacheableInstall:
    """What a build can use from earlier installs, and store from its own."""

    label: str  # of the manager, for people
    cache: DownloadCache
    keys: Mapping[Kind, str]  # key for each possible kind, best first
    lockfile: str
    scripts: bool  # whether npm runs scripts
    own_scripts: bool  # whether the repository has scripts
    root: Path  # folder where dependencies are installed
    downloads: Path  # folder of the manager's downloads

    @property
    def best_kind(self) -> Kind:
        return next(iter(self.keys))

    def fits(self, archive: DependencyArchive) -> bool:
        return archive.manager == self.cache.id and self.keys.get(archive.kind) == archive.key

    def folder(self, kind: Kind) -> Path:
        """Return the folder that an archive is packed from and unpacked into."""
        return self.root if kind == "modules" else self.downloads
