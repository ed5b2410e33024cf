"""Fetch history and tags for builds that use git beyond the cloned commit (GIT_HISTORY).

`auto` searches the repository for signs of that with `git grep` in the sandbox. Then it fetches commits, folders and tags, without
the contents of old files unless a sign requires them. They are fetched here because the build has no token. What is missing
afterwards stays missing, and git never requests it from the network.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import Literal

import anyio

from buildrunner.checkout.git import Checkout, Git, Retries
from buildrunner.checkout.git_errors import explain
from buildrunner.config.addresses import Repository
from buildrunner.errors import BuildFailed

AUTO_SECONDS = 60.0  # for data that may turn out to be unnecessary
_MAX_SIGN = 80
# Settings for the dates of pages, of VitePress, VuePress, Docusaurus, Starlight, Nextra and others.
_CONFIGURATIONS = (
    *(f":(glob)**/{name}/**" for name in (".vitepress", ".vuepress", "docs/.vitepress")),
    *(
        f":(glob)**/{name}"
        for name in ("*.config.*", "*-config.js", "_config.yml", "themeConfig.*", ".eleventy.js", "mkdocs.yml")
    ),
)
_KEYS = (
    r"\b(lastUpdated|showLastUpdate(Time|Author)|lastUpdateTime|enableGitInfo|gitTimestamp|git-revision-date)\b"
    r"([\"']? *[:=] *[a-z]+\b)?"
)
_IS_OFF = re.compile(r"[:=] *(?:false|null|undefined)\b")
# Packages that read the history, by their names in package.json.
_PACKAGES = (
    r'"(nextra(-[a-z-]+)?|@vuepress/plugin-(git|last-updated)|@nolebase/vitepress-plugin-git-changelog|gatsby-transformer-git[a-z]*'
    r"|[@a-z0-9/-]*git-(changelog|commit|date|describe|info|last|log|rev|revision|semver|tag|version)[a-z0-9-]*|gitversion|gitlog"
    r"|simple-git|@napi-rs/simple-git|nodegit|es-git|isomorphic-git|conventional-changelog[a-z-]*"
    r'|auto-changelog|unplugin-info|remark-[a-z-]*(git|modified)[a-z-]*|eleventy-plugin-[a-z-]*git[a-z-]*|git-cliff)" *:'
)
# Words of one command, in a shell command or a list of arguments.
_BETWEEN = r"""["', \[]+"""
_COMMANDS = (
    rf"\bgit{_BETWEEN}(-[-a-zA-Z.=/]+{_BETWEEN})*(log|describe|rev-list|blame|shortlog|tag|for-each-ref|show|diff)\b"
)
_SUFFIXES = ("js", "mjs", "cjs", "ts", "mts", "cts", "sh", "py", "astro", "vue", "svelte")
_PROGRAMS = (*(f"*.{suffix}" for suffix in _SUFFIXES), "Makefile", "*/Makefile", "package.json", "*/package.json")
_DATES = r"^ *[\"']?date[\"']?: *[\"']?git (Last Modified|Created)"  # Eleventy's
_PAGES = ("*.md", "*.mdx", "*.njk", "*.liquid", "*.html", "*.json", "*.yml", "*.yaml")
# Commands that compare files, as git does to detect renames.
_CONTENTS = (
    rf"--follow\b|--name-(status|only)\b|--diff-filter|--(num|short)?stat\b|\bdiff-tree\b|\bgit{_BETWEEN}(blame|show|diff)\b"
    r"|isomorphic-git|nodegit|plugin-git\b|git-changelog"
)


async def fetch_history(
    git: Git,
    repository: Repository,
    checkout: Checkout,
    wish: Literal["auto", "full"],
    log: Callable[..., None],
) -> None:
    """Fetch the history and tags of a checkout if they are needed.

    Args:
        git: runs in the parent folder of the checkout.
        repository: repository of the build.
        checkout: checkout of one commit, or of the whole history if the server supports nothing else.
        wish: GIT_HISTORY; `full` also fetches the contents of old files.
        log: function that logs a line; its level is "warning" for anything that could not be fetched.

    Raises:
        BuildFailed: `full` failed in the stage `clone`.

    """
    contents = wish == "full"
    if wish == "auto":
        sign = await _sign(git, checkout)
        if sign is None:
            return
        text, contents = sign
        log(f"{text!a} needs the git history; fetching it with tags (GIT_HISTORY=none skips this).")
    else:
        log("Fetching the whole history, with tags (GIT_HISTORY=full).")
    # The stage has a time limit, and the commit itself is already checked out.
    seconds = min(AUTO_SECONDS, max(1.0, (anyio.current_effective_deadline() - anyio.current_time()) / 2))
    retries = Retries(log)
    while True:
        command = _command(checkout, repository.ref, contents=contents)
        try:
            with anyio.fail_after(None if wish == "full" else seconds):
                ended, text, _ = await git("-C", checkout.folder.name, *command)
                if not ended.failed:
                    break
                failure, transient, _ = await explain(
                    repository.url, repository.ref, text, ended, token=repository.password is not None
                )
                await retries.wait(failure, transient=transient)
        except TimeoutError:
            reason = f"it took longer than {seconds:.0f} s."
        except BuildFailed as error:
            if wish == "full":
                raise
            reason = error.reason
        else:
            continue
        log(
            f"The history could not be fetched: {reason} Dates and versions that the build takes from git may be wrong."
            " Set GIT_HISTORY=full to fail instead.",
            "warning",
        )
        break
    # Git must not request missing objects: the build has no token, and libgit2 refuses repositories with a promisor remote.
    for key in ("remote.origin.promisor", "remote.origin.partialclonefilter", "extensions.partialclone"):
        await git("-C", checkout.folder.name, "config", "--unset-all", key, shown=False)


def _command(checkout: Checkout, ref: str | None, *, contents: bool) -> list[str]:
    shallow = ["--unshallow"] if os.path.lexists(checkout.folder / ".git" / "shallow") else []
    without = [] if contents or not shallow else ["--filter=blob:none"]
    named = bool(ref) and (ref == checkout.commit or (ref or "").startswith("refs/"))
    wanted = [ref] if named and ref else []
    return [
        "fetch",
        "--quiet",
        "--tags",
        "--force",
        "--no-write-fetch-head",
        *shallow,
        *without,
        "--",
        "origin",
        *wanted,
    ]


async def _sign(git: Git, checkout: Checkout) -> tuple[str, bool] | None:
    """Return the first sign that the history is used, and whether the contents of old files are needed."""
    searches = (
        (_KEYS, _CONFIGURATIONS),
        (_PACKAGES, ("package.json", "*/package.json")),
        (_COMMANDS, _PROGRAMS),
        (_DATES, _PAGES),
    )
    # Most repositories have no sign, which one process finds out as well as four.
    if not await _grep(
        git, checkout.folder, [pattern for pattern, _ in searches], {name for _, files in searches for name in files}
    ):
        return None
    for pattern, files in searches:
        if found := await _first_match(git, checkout.folder, pattern, files):
            contents = await _first_match(git, checkout.folder, _CONTENTS, (*_PROGRAMS, *_CONFIGURATIONS))
            return found, contents is not None
    return None


async def _first_match(git: Git, folder: Path, pattern: str, files: Collection[str]) -> str | None:
    """Return the first match of a pattern in some files of the repository, unless the line turns the setting off."""
    found = (line for line in await _grep(git, folder, [pattern], files) if not _IS_OFF.search(line))
    return _readable(next(found, ""))[:_MAX_SIGN] or None


async def _grep(git: Git, folder: Path, patterns: Sequence[str], files: Collection[str]) -> list[str]:
    """Return what matches one of the patterns in some files of the repository."""
    arguments = (
        "grep",
        "-I",
        "-h",
        "-o",
        "-E",
        *(word for pattern in patterns for word in ("-e", pattern)),
        "--",
        *files,
        ":!*.min.js",
        ":!*-lock.json",
    )
    _, _, printed = await git("-C", folder.name, *arguments, shown=False)
    return printed.decode(errors="replace").splitlines()


def _readable(sign: str) -> str:
    """Return a sign as a person would write it: `git show` for `'git', ["show`."""
    return re.sub(r"(?:[^ -~]|[\"', \[\]])+", " ", sign).strip(" :")
