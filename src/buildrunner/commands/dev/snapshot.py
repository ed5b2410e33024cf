"""A folder as a git repository that a build can clone, whatever the folder is."""

from __future__ import annotations

import os
import shutil
import subprocess

import anyio

from buildrunner.commands.dev.workspace import open_to_all
from buildrunner.errors import EXIT_CONFIGURATION, BuildEnded

# Neither the user's nor the machine's configuration: no hooks, no signing, no background work, no question. What is missing
# of a partial clone is not fetched: the folder's configuration would say by which program.
_ENVIRONMENT = {
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_CONFIG_GLOBAL": os.devnull,
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_COUNT": "2",
    "GIT_CONFIG_KEY_0": "gc.auto",
    "GIT_CONFIG_VALUE_0": "0",
    "GIT_CONFIG_KEY_1": "maintenance.auto",
    "GIT_CONFIG_VALUE_1": "false",
    "GIT_TERMINAL_PROMPT": "0",
    **{f"GIT_{who}_NAME": "buildrunner dev" for who in ("AUTHOR", "COMMITTER")},
    **{f"GIT_{who}_EMAIL": "dev@localhost" for who in ("AUTHOR", "COMMITTER")},
}
# What is made anew by each build.
_EXCLUDED = "node_modules\n/dist\n"


async def take_snapshot(folder: str, repository: str) -> str:
    """Make the bare repository `repository` with one commit of `folder`; answer what that commit is, for people.

    A folder that is the top of a repository without uncommitted changes gives that repository's own last commit. Any
    other is committed as it lies there, without what its own .gitignore names. Nothing of the folder runs.

    Raises:
        BuildEnded: git is missing, or refuses.

    """
    if shutil.which("git") is None:
        raise BuildEnded(
            "git is not installed, and builds start with a clone. Install it.", exit_code=EXIT_CONFIGURATION
        )
    folder = str(await anyio.Path(folder).resolve())
    # The folder's own configuration can name programs to run (fsmonitor, filters). It is read for the names of its commit and
    # branch alone, and only where the repository is the user's own.
    is_top = await _git("-C", folder, "rev-parse", "--show-toplevel", check=False) == folder
    branch = is_top and await _git("-C", folder, "symbolic-ref", "--quiet", "--short", "HEAD", check=False)
    branch = branch or "main"
    await _git("init", "--quiet", "--bare", "--template=", f"--initial-branch={branch}", repository)
    here = (f"--git-dir={repository}", f"--work-tree={folder}", "-C", folder)
    await anyio.Path(repository, "info").mkdir()
    await anyio.Path(repository, "info", "exclude").write_text(_EXCLUDED)
    fetch = ("fetch", "--quiet", "--no-tags", "--depth=1", folder, f"HEAD:refs/heads/{branch}")
    committed = is_top and await _git(f"--git-dir={repository}", *fetch, check=False) is not None
    submodules: list[str] = []
    if committed:
        await _git(*here, "read-tree", branch)
        listed = await _git(*here, "ls-files", "-z", "--stage") or ""
        submodules = [entry.partition("\t")[2] for entry in listed.split("\0") if entry.startswith("160000 ")]
    if submodules:  # of these `git add` would run the status, by their own configuration
        await _git(*here, "update-index", "--remove", "--", *submodules)
    await _git(*here, "add", "--all", "--", ".", *(f":(exclude,literal){path}" for path in submodules))
    what = "its last commit"
    if not committed or await _git(*here, "diff-index", "--cached", "--quiet", branch, check=False) is None:
        await _git(*here, "commit", "--quiet", "--allow-empty", "--message", f"{os.path.basename(folder)} as it is now")
        what = "as it is now, committed on the fly"
    await open_to_all(repository)
    return f"{what} ({await _git(*here, 'rev-parse', '--short', branch)})"


async def _git(*arguments: str, check: bool = True) -> str | None:
    """Run git: what it prints, without the last line's end; None when it fails and `check` is false."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    result = await anyio.run_process(
        ["git", *arguments], stdin=subprocess.DEVNULL, check=False, env={**inherited, **_ENVIRONMENT}
    )
    if result.returncode == 0:
        return result.stdout.decode(errors="replace").rstrip("\n")
    if check:
        raise BuildEnded(f"git could not commit the folder: {result.stderr.decode(errors='replace').strip()}")
    return None
