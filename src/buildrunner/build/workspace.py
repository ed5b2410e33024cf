"""Create the folders of one build and the environment of its commands."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from buildrunner.sandbox import Account, Sandbox

# Variables of the runner that commands inherit: network settings and the time zone.
_PASSED_ON = re.compile(
    r"TZ|(https?|all|no)_proxy|HTTPS?_PROXY|ALL_PROXY|NO_PROXY|SSL_CERT_(FILE|DIR)|NODE_EXTRA_CA_CERTS|GIT_SSL_CAINFO"
    r"|CURL_CA_BUNDLE|(?i:npm_config_(registry|cafile|(https_?|no)?proxy|strict_ssl|fetch_\w+|maxsockets))"
)

# Lockfiles name packages on git hosts by ssh URLs, which need a key even for public packages. The image has neither ssh nor keys.
_GIT_HOSTS = ("github.com", "gitlab.com", "bitbucket.org")
_GIT_CONFIG = "".join(
    f'[url "https://{host}/"]\n\tinsteadOf = ssh://git@{host}/\n\tinsteadOf = git@{host}:\n' for host in _GIT_HOSTS
)


@dataclass(frozen=True, slots=True)
class Workspace:
    """The folders of one build, and the user and environment of its commands."""

    root: Path  # owned by the runner; commands may enter it and read what the runner permits
    sandbox: Sandbox
    environment: Mapping[str, str]  # of every command

    @property
    def work(self) -> Path:
        """The folder that commands may write to."""
        return self.root / "work"

    @property
    def repository(self) -> Path:
        """The folder that the repository is cloned into."""
        return self.work / "repository"

    @property
    def user(self) -> int | None:
        """Id of the user that runs the commands; None if it is the runner's own."""
        return self.sandbox.account.uid if self.sandbox.account else None

    def with_variables(self, variables: Mapping[str, str]) -> Self:
        """Return the same workspace with more variables in the environment of its commands."""
        return replace(self, environment={**self.environment, **variables})


def make_workspace(root: Path, sandbox: Sandbox, *, slug: str) -> Workspace:
    """Create the folders of a build below `root`.

    Commands may list `root`: some tools (Storybook) read every folder from the top down, and fail on one that they can't read.
    """
    work = root / "work"
    for folder in (work, work / "home", work / "tmp"):
        folder.mkdir(mode=0o700)
        _give(folder, sandbox.account)
    config = work / "home" / ".gitconfig"
    config.write_text(_GIT_CONFIG)
    _give(config, sandbox.account)
    root.chmod(0o755)
    return Workspace(root, sandbox, _make_environment(work, sandbox.account, slug))


def runs_in_image() -> bool:
    """Return whether this process runs in the image, which has its own PID namespace."""
    # The Dockerfile sets this variable, and tini is process 1.
    return os.environ.get("BUILDRUNNER_IMAGE") == "1" and os.getppid() == 1


def temporary_folder() -> str:
    """Return the folder for temporary files; for root, one that the user of the commands can enter."""
    folder = Path(tempfile.gettempdir())
    closed = os.geteuid() == 0 and not all(place.stat().st_mode & 0o001 for place in (folder, *folder.parents))
    return "/tmp" if closed else str(folder)  # noqa: S108 - what is made in it is mkdtemp's


def search_path(path: str, account: Account | None) -> list[str]:
    """Return the folders of a PATH that the commands' user may enter.

    With an inaccessible folder, a shell reports "Permission denied" for a program that doesn't exist.
    """

    def may_enter(folder: Path) -> bool:
        with suppress(OSError):
            status = folder.stat()
            bit = 0o100 if account and status.st_uid == account.uid else 0o001
            return bool(status.st_mode & bit)
        return True

    folders = [(folder, Path(os.path.realpath(folder))) for folder in path.split(os.pathsep) if folder]
    return [folder for folder, real in folders if not account or all(map(may_enter, (real, *real.parents)))]


def _make_environment(work: Path, account: Account | None, slug: str) -> dict[str, str]:
    """Return the environment of every command: an allow-list without the runner's secrets."""
    passed = {name: value for name, value in os.environ.items() if _PASSED_ON.fullmatch(name)}
    return passed | {
        "PATH": os.pathsep.join(search_path(os.environ.get("PATH") or os.defpath, account)),
        "HOME": str(work / "home"),
        "TMPDIR": str(work / "tmp"),
        "USER": account.name if account else os.environ.get("USER", "build"),
        "LANG": "C.UTF-8",
        "CI": "true",
        "SLUG": slug,
    }


def _give(path: Path, account: Account | None) -> None:
    if account:
        os.chown(path, account.uid, account.gid)
