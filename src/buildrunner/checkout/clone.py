"""Check out one commit of a repository, shallow, with its submodules and Git LFS files."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import anyio

from buildrunner.checkout.git import CONFIGURATION, Checkout, Git, Retries, commands, git_environment
from buildrunner.checkout.git_errors import NO_SINGLE_COMMIT, explain
from buildrunner.checkout.index import read_tree
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.config.addresses import Repository
from buildrunner.errors import BuildFailed
from buildrunner.redaction import visible
from buildrunner.sandbox.command import Output, Sandbox, remove_tree, run_program


async def clone_repository(
    repository: Repository,
    folder: Path,
    *,
    submodules: bool,
    history: Literal["auto", "full", "none"],
    private: Path,
    environment: Mapping[str, str],
    sandbox: Sandbox,
    output: Output,
    log: Callable[..., None],
    on_commit: Callable[[str], None] = lambda _: None,
) -> Checkout:
    """Check out one commit of `repository` into `folder`, which must not exist, with its submodules and Git LFS files.

    Network errors are retried.

    Args:
        submodules: whether to fetch them; otherwise their folders stay empty.
        history: whether to fetch history and tags, too.
        private: folder of the runner, for git's configuration; commands can read it but not write to it.
        environment: environment of the commands of the build.
        log: function that logs a line; its level is "warning" for anything left out.
        on_commit: function that is called with the id of the commit before history, submodules and LFS files are fetched.

    Raises:
        BuildFailed: the stage `clone` failed; known errors have their own reasons and hints.

    """
    if not shutil.which("git", path=environment["PATH"]):
        raise BuildFailed(
            "clone",
            "git is not installed on the machine that builds.",
            "Install git there, or use the image.",
            kind="git-missing",
        )
    configuration = private / "gitconfig"
    configuration.write_text(CONFIGURATION)
    configuration.chmod(0o644)
    git = Git(sandbox, folder.parent, {**environment, **git_environment(repository, configuration)}, output)
    address, copy = repository.url, folder.parent / "source"
    if repository.scheme == "file" and sandbox.account and (closed := _closed_git_folder(address)):
        # In processes rather than a thread, so that a time limit stops them. Links are neither followed nor change their owner.
        owner = f"{sandbox.account.uid}:{sandbox.account.gid}"
        for command in (
            ["/bin/cp", "-R", "-P", "--", str(closed), str(copy)],
            ["/bin/chown", "-R", "-h", owner, "--", str(copy)],
        ):
            await run_program(*command)
        address = copy.as_uri()

    shallow, retries = True, Retries(log)
    while True:
        for command in commands(address, repository.ref, folder.name, shallow=shallow):
            ended, text, _ = await git(*command)
            if ended.failed:
                break
        if not ended.failed:
            break
        if shallow and NO_SINGLE_COMMIT.search(text):
            log("The server does not offer single commits; fetching the whole history.")
            shallow = False
        else:
            failure, transient, _ = await explain(
                repository.url, repository.ref, text, ended, token=repository.password is not None
            )
            await retries.wait(failure, transient=transient)
        await remove_tree(folder)

    ended, _, printed = await git("-C", folder.name, "rev-parse", "HEAD^{commit}", "--abbrev-ref", "HEAD", shown=False)
    if ended.failed:
        raise BuildFailed(
            "clone",
            "The repository has no commit on its default branch.",
            "Push one, or set REPO_REF to a branch.",
            kind="repository-empty",
        )
    # Names of branches may contain Unicode spaces.
    commit, _, branch = printed.decode(errors="replace").rstrip("\n").partition("\n")
    on_commit(commit)
    _, _, printed = await git("-C", folder.name, "show", "--no-patch", "--format=%cs", "HEAD", shown=False)
    # The real path now, because the build may replace any part of it by a link.
    real = Path(str(await anyio.Path(folder).resolve()))
    checkout = Checkout(real, commit, repository.ref or branch, printed.decode(errors="replace").strip())

    if history != "none":
        from buildrunner.checkout.history import fetch_history

        await fetch_history(git, repository, checkout, history, log)

    tree = await run_in_thread(partial(read_tree, checkout.folder, commit))
    trees = {"": (address, tree)}  # of all repositories: path → address, tree
    if tree.submodules and submodules:
        # Imported here because most repositories have no submodules.
        from buildrunner.checkout.submodules import fetch_submodules

        trees |= await fetch_submodules(git, repository, checkout.folder, tree, log)
    elif tree.submodules:
        count = len(tree.submodules)
        log(f"{count} {'submodule is' if count == 1 else 'submodules are'} left empty (GIT_SUBMODULES=off).")
    for path, (url, found) in trees.items():
        if found.names_lfs:
            from buildrunner.checkout.lfs import fetch_lfs

            await fetch_lfs(git, repository, url, checkout.folder / path, log)
        elif found.pointers:
            first = visible(found.pointers[0])[:200]
            count = len(found.pointers)
            log(
                f"{first} is a pointer of Git LFS{f', and so are {count - 1} more files' if count > 1 else ''}: no .gitattributes"
                " names it, so its content is not fetched. Run `git lfs track` for it, and commit .gitattributes.",
                "warning",
            )
    if address != repository.url:
        await remove_tree(copy)
    return checkout


def _closed_git_folder(address: str) -> Path | None:
    """Return the git folder of a local repository that only its owner can read, else None."""
    with suppress(OSError):  # git reports what is wrong
        place = Path(os.path.realpath(unquote(urlsplit(address).path)))
        folder = place / ".git" if (place / ".git").is_dir() else place
        # Only repositories are copied to where the build's user can read them.
        is_repository = (folder / "HEAD").is_file() and (folder / "objects").is_dir()
        if is_repository and not all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents)):
            return folder
    return None
