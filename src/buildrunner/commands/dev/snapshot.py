"""A folder as a git repository that a build can clone, whatever the folder is."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass

import anyio

from buildrunner.commands.dev.workspace import open_to_all
from buildrunner.errors import EXIT_CONFIGURATION, BuildEnded

# Neither the user's nor the machine's configuration: no hooks, no signing, no background work, no question. What is missing
# of a partial clone is not fetched: the folder's configuration would say by which program.
_ENVIRONMENT = {
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "3",
    "GIT_CONFIG_KEY_0": "gc.auto",
    "GIT_CONFIG_VALUE_0": "0",
    "GIT_CONFIG_KEY_1": "maintenance.auto",
    "GIT_CONFIG_VALUE_1": "false",
    "GIT_CONFIG_KEY_2": "uploadpack.allowAnySHA1InWant",  # a commit that no branch or tag leads to
    "GIT_CONFIG_VALUE_2": "true",
    "GIT_TERMINAL_PROMPT": "0",
    **{f"GIT_{who}_NAME": "buildrunner dev" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "dev@localhost" for who in ("AUTHOR", "COMMITTER")},
}
# What is made anew by each build.
_EXCLUDED = "node_modules\n/dist\n"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """One commit of a folder."""

    tree: str  # id of its content
    what: str  # for people


class SnapshotRepository:
    """A bare repository with one commit of a folder, which each `take` replaces. Nothing of the folder runs.

    The folder's own configuration can name programs to run (fsmonitor, filters). It is read for the names of its commits and
    branches alone, and only where the repository is the user's own.

    Args:
        folder: to be committed.
        path: of the repository, which does not exist yet.

    """

    def __init__(self, folder: str, path: str) -> None:
        self.folder = os.path.realpath(folder)
        self.path = path
        self._here = (f"--git-dir={path}", f"--work-tree={self.folder}", "-C", self.folder)
        self._branch = ""

    async def take(self, ref: str = "") -> Snapshot:
        """Commit the folder as it is now, without what its .gitignore names.

        A folder that is the top of a repository without uncommitted changes gives that repository's own last commit. With
        `ref` it is the commit that the folder's repository has under that name, whatever lies in the folder.

        Raises:
            BuildEnded: git is missing or refuses, or there is no such commit.

        """
        if shutil.which("git") is None:
            raise BuildEnded(
                "git is not installed, and builds start with a clone. Install it.", exit_code=EXIT_CONFIGURATION
            )
        if ref:
            return await self._take_ref(ref)
        is_top = await self._ask("rev-parse", "--show-toplevel") == self.folder
        await self._create((is_top and await self._ask("symbolic-ref", "--quiet", "--short", "HEAD")) or "main")
        committed = is_top and await self._fetch("HEAD", check=False) is not None
        submodules = await self._read_commit() if committed else []
        await _git(*self._here, "add", "--all", "--", ".", *(f":(exclude,literal){path}" for path in submodules))
        tree = await _git(*self._here, "write-tree") or ""
        if committed and tree == await _git(*self._here, "rev-parse", f"{self._branch}^{{tree}}"):
            return await self._finish("its last commit")
        message = f"{os.path.basename(self.folder)} as it is now"
        parents = ["-p", self._branch] if committed else []
        commit = await _git(*self._here, "commit-tree", tree, *parents, "-m", message)
        await _git(*self._here, "update-ref", f"refs/heads/{self._branch}", commit or "")
        return await self._finish("as it is now, committed on the fly")

    async def _read_commit(self) -> list[str]:
        """Begin the index with the commit, keeping what it knows of unchanged files; return the submodules.

        Of submodules `git add` would run the status, by their own configuration.
        """
        await _git(*self._here, "read-tree", "-m", "-i", self._branch)
        listed = await _git(*self._here, "ls-files", "-z", "--stage") or ""
        submodules = [entry.partition("\t")[2] for entry in listed.split("\0") if entry.startswith("160000 ")]
        if submodules:
            await _git(*self._here, "update-index", "--remove", "--", *submodules)
        return submodules

    async def _take_ref(self, ref: str) -> Snapshot:
        commit = await self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        if not commit:
            raise BuildEnded(
                f"The repository of {self.folder} has no branch, tag or commit {ref!r}.",
                "List what there is by `git branch --all` and `git tag`.",
                exit_code=EXIT_CONFIGURATION,
            )
        is_branch = await self._ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"refs/heads/{ref}")
        await self._create(ref if is_branch else "main")
        await self._fetch(commit)
        return await self._finish(f"the commit of {ref}")

    async def list_folders(self) -> set[str]:
        """Return the folders, absolute, in which something lies that git does not ignore; after the first `take`."""
        listed = await _git(*self._here, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
        folders = {self.folder}
        for name in (listed or "").split("\0"):
            path = os.path.join(self.folder, os.path.dirname(name)).rstrip("/")
            while path not in folders:
                folders.add(path)
                path = os.path.dirname(path)
        return set(filter(os.path.isdir, folders))

    async def describe_change(self, before: Snapshot, after: Snapshot) -> str:
        """Return which files differ, for people: `src/App.tsx and 2 more files`."""
        listed = await _git(*self._here, "diff-tree", "-r", "-z", "--name-only", before.tree, after.tree) or ""
        first, *others = [name for name in listed.split("\0") if name] or ["The folder"]
        more = f" and {len(others)} more file{'s' if len(others) > 1 else ''}" if others else ""
        return first.encode(errors="replace").decode() + more

    async def _create(self, branch: str) -> None:
        if not self._branch:
            self._branch = branch
            await _git("init", "--quiet", "--bare", "--template=", f"--initial-branch={branch}", self.path)
            await anyio.Path(self.path, "info").mkdir()
            await anyio.Path(self.path, "info", "exclude").write_text(_EXCLUDED)

    async def _fetch(self, commit: str, *, check: bool = True) -> str | None:
        target = f"+{commit}:refs/heads/{self._branch}"
        return await _git(*self._here, "fetch", "--quiet", "--no-tags", "--depth=1", self.folder, target, check=check)

    async def _finish(self, what: str) -> Snapshot:
        await open_to_all(self.path)
        tree, _, commit = (
            await _git(*self._here, "show", "--no-patch", "--format=%T %h", self._branch) or ""
        ).partition(" ")
        return Snapshot(tree, f"{what} ({commit})")

    async def _ask(self, *arguments: str) -> str | None:
        """Ask the folder's own repository; None where it does not answer."""
        return await _git("-C", self.folder, *arguments, check=False)


async def _git(*arguments: str, check: bool = True) -> str | None:
    """Run git: what it prints, without the last line's end; None when it fails and `check` is false."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    result = await anyio.run_process(
        ["git", *arguments], stdin=subprocess.DEVNULL, check=False, env={**inherited, **_ENVIRONMENT}
    )
    if result.returncode == 0:
        return result.stdout.decode(errors="surrogateescape").rstrip("\n")
    if check:
        raise BuildEnded(f"git could not commit the folder: {result.stderr.decode(errors='replace').strip()}")
    return None
