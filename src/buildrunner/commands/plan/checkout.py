"""Check out what a plan is for: a folder as it is now, or a repository, cloned as a build clones it."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio

from buildrunner.build.workspace import make_workspace, runs_in_image, temporary_folder
from buildrunner.checkout import Checkout, clone_repository
from buildrunner.commands.dev.snapshot import SnapshotRepository
from buildrunner.config.addresses import Repository, parse_repository
from buildrunner.errors import BuildTimedOut, ConfigurationError
from buildrunner.sandbox import Sandbox, remove_tree


@dataclass(frozen=True, slots=True)
class Source:
    """Where a repository is."""

    folder: str | None = None  # of this machine
    repository: Repository | None = None

    @property
    def shown(self) -> str:
        """The folder, or the address without credentials."""
        return self.folder or (self.repository.url if self.repository else "")


def find_source(repo: str, schemes: frozenset[str], ref: str | None, token: str | None) -> Source:
    """Find out what `repo` is.

    Raises:
        ConfigurationError: it is neither a folder nor an address.

    """
    if "://" in repo:
        try:
            return Source(repository=parse_repository(repo, schemes, ref, token))
        except ValueError as error:
            raise ConfigurationError([f"REPO must be {error}."]) from None
    if os.path.isdir(repo):
        return Source(folder=os.path.realpath(repo))
    hint = "Name a folder, or an address that starts with https://."
    if re.fullmatch(r"[\w-]{1,39}/[\w.-]{1,100}", repo):
        hint = f"For a repository on GitHub, write https://github.com/{repo}."
    raise ConfigurationError([f"REPO is {repo!a}, which is neither a folder nor an address. {hint}"])


@asynccontextmanager
async def open_checkout(
    source: Source, *, submodules: bool, seconds: float, log: Callable[..., None]
) -> AsyncIterator[Checkout]:
    """Check out a source into a temporary folder, which is removed when the block ends.

    Args:
        source: what is checked out.
        submodules: whether they are fetched.
        seconds: that the clone may take.
        log: takes sentences of the clone.

    Raises:
        BuildFailed: at `clone`.
        BuildTimedOut: the clone took too long.

    """
    root = Path(tempfile.mkdtemp(prefix="buildrunner-plan-", dir=temporary_folder()))
    try:
        sandbox = Sandbox(in_image=runs_in_image())
        workspace = make_workspace(root, sandbox, slug="plan")
        repository = source.repository
        if repository is None:
            assert source.folder
            copy = root / "snapshot.git"
            await SnapshotRepository(source.folder, str(copy)).take()
            repository = Repository(copy.as_uri(), "file", None, None, None)
        checkout = None
        with anyio.move_on_after(seconds):
            checkout = await clone_repository(
                repository,
                workspace.repository,
                submodules=submodules,
                history="none",
                private=workspace.root,
                environment=workspace.environment,
                sandbox=sandbox,
                output=_ignore,
                log=log,
            )
        if checkout is None:
            raise BuildTimedOut(f"The clone took longer than {seconds:.0f} s.", "Raise CLONE_TIMEOUT.")
        yield checkout
    finally:
        with anyio.CancelScope(shield=True):
            await remove_tree(root)


def _ignore(_stream: str, _chunk: bytes) -> None:
    """Drop what git prints: its errors come with the reason."""
