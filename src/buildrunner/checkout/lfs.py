"""Git LFS: files of a checkout that are pointers, a few lines each, to what a server keeps beside the repository.

`git-lfs` gets them after the checkout, in the sandbox and by itself: no filter runs while git checks out. Of .lfsconfig
git-lfs takes no key that runs anything (git-lfs-config(5), LFSCONFIG). Where the server is, is decided here: http or https,
without the token unless it is on the repository's own host.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from buildrunner.checkout.git import Git, Patience, authorization, configuration_of
from buildrunner.checkout.git_errors import Trouble, explain
from buildrunner.checkout.submodules import find_address, origin_of, without_user
from buildrunner.concurrency.cancellation import cleanup
from buildrunner.config.addresses import Repository
from buildrunner.errors import BuildFailed
from buildrunner.redaction import visible
from buildrunner.sandbox.command import REMOVE_SECONDS, remove_tree

_POINTER = "^version https://git-lfs.github.com/spec/v1$"
_LEAVE_OUT = "What the build can do without is left out by lfs.fetchexclude in .lfsconfig."
# What git-lfs says (3.3 and 3.6), with what is below it, Go's net/http, and what servers answer in their own words. A status
# of 500 or more is a "Fatal error". The first one that matches decides.
_TROUBLES = (
    Trouble(
        r"No space left on device|Disk quota exceeded",
        "The disk of the machine that builds has no room for the files of Git LFS.",
        "Give the task more ephemeral storage.",
        kind="disk-full",
    ),
    Trouble(
        r"x509:|certificate",
        "The certificate of {host} is not trusted.",
        "Check it, or install its authority.",
        kind="certificate-or-key-refused",
    ),
    Trouble(
        r"no such host|connection (refused|reset)|i/o timeout|network is unreachable|no route to host|handshake timeout"
        r"|(deadline|Timeout) exceeded|EOF\b|broken pipe|Fatal error|rate limit|too many requests|expected OID",
        "The files of Git LFS cannot be fetched from {host} now.",
        "Try again later; the status page of {host} may say more.",
        transient=True,
        kind="git-host-busy",
    ),
    Trouble(
        r"budget|quota|exceeded|bandwidth limit|payment required",
        "{host} gives out no files of Git LFS for {url}: its quota is used up.",
        f"Raise it there, or take the files out of LFS. {_LEAVE_OUT}",
        kind="lfs-quota-exceeded",
    ),
    Trouble(
        r"Authori[sz]ation error|Authentication required|could not read (Username|Password)|authentication attempts"
        r"|credentials|access denied|forbidden",
        "{host} refused to give the files of Git LFS for {url}.",
        "Give a token that can read them (GIT_TOKEN goes to the host of REPO_URL alone).",
        kind="lfs-access-denied",
    ),
    Trouble(
        r"\[(404|410)\]|does not exist|not found|missing on the server",
        "The server that keeps files of Git LFS for {url} does not have them all.",
        f"Push them (`git lfs push --all origin`), or look at lfs.url in .lfsconfig. {_LEAVE_OUT}",
        kind="lfs-file-missing",
    ),
)


async def fetch_lfs(git: Git, repository: Repository, url: str, folder: Path, log: Callable[..., None]) -> None:
    """Put the files of Git LFS in the places of their pointers, where a checkout has such.

    Args:
        repository: that is built, whose token goes to its own host.
        url: that this checkout came from, a submodule's perhaps.
        folder: of the checkout, a real path.
        log: is told how many files are fetched, and as a "warning" that git-lfs is missing.

    Raises:
        BuildFailed: at `clone`, when the server does not give them all: a site whose pictures are pointers is none.

    """
    inside = ("-C", str(folder))
    # Only regular files of the index, by git in the sandbox.
    arguments = ("grep", "--files-with-matches", "-z", "-I", "-e", _POINTER, "--", ":(attr:filter=lfs)")
    _, _, printed = await git(*inside, *arguments, shown=False)
    pointers = printed.split(b"\0")[:-1]
    if not pointers:
        return
    first = visible(os.fsdecode(pointers[0]))[:200]
    count = f"1 file of Git LFS ({first})" if len(pointers) == 1 else f"{len(pointers)} files of Git LFS ({first}, …)"
    if not shutil.which("git-lfs", path=git.variables["PATH"]):
        log(
            f"git-lfs is not installed on the machine that builds: {count} will be pointers. Install it there.",
            "warning",
        )
        return
    log(f"Fetching {count}")

    keys = ("config", "-z", "--blob=HEAD:.lfsconfig", "--get-regexp", r"^(lfs\.url|remote\.origin\.lfsurl)$")
    _, _, printed = await git(*inside, *keys, shown=False)
    settings = dict(entry.partition("\n")[::2] for entry in os.fsdecode(printed).split("\0"))
    named = settings.get("lfs.url") or settings.get("remote.origin.lfsurl") or ""
    server = find_address(named, url, repository) if named else _default(url)
    if server is None:
        raise BuildFailed(
            "clone",
            f"lfs.url in .lfsconfig is an address that is not used: {visible(without_user(named))[:200]}",
            "Write it as https://…, and push that.",
            kind="lfs-address-refused",
        )
    variables = _variables(repository, server)
    patience = Patience(log)
    while True:
        try:
            ended, text, _ = await git(*inside, "lfs", "pull", variables=variables)
        finally:
            # Where it writes its environment, and thus the token, when a server is in trouble.
            with cleanup(REMOVE_SECONDS):
                await remove_tree(folder / ".git" / "lfs" / "logs")
        if not ended.failed:
            return
        shown = visible(without_user(server if named else url))
        failure, transient, _ = await explain(shown, None, text, ended, token=False, troubles=_TROUBLES)
        await patience.wait(failure, transient=transient)


def _default(url: str) -> str:
    """Give the server's address as git-lfs derives it from a repository's (git-lfs, docs/api/server-discovery)."""
    url = url.rstrip("/")
    if urlsplit(url).scheme not in {"http", "https"}:
        return url  # of a file it is the same; over ssh the server says it
    return f"{url}/info/lfs" if url.endswith(".git") else f"{url}.git/info/lfs"


def _variables(repository: Repository, server: str) -> dict[str, str]:
    """Give the configuration of `git lfs pull`, in place of that of other commands: it wins over .lfsconfig."""
    entries = [
        ("lfs.url", server),
        ("lfs.transfer.maxRetries", "3"),
        # Without them it leaves the checkout as it is. It refreshes the index by them when it has written the files.
        ("filter.lfs.clean", "git-lfs clean -- %f"),
        ("filter.lfs.smudge", "git-lfs smudge -- %f"),
        ("filter.lfs.process", "git-lfs filter-process"),
        ("filter.lfs.required", "true"),
    ]
    # For one address alone, that of the request for a list: the server's answer has all that a download needs, and what it
    # names may be elsewhere. (On the whole host the header would be sent twice where the server hands it back for the downloads.)
    own = origin_of(server) == repository.origin.lower() and re.fullmatch(r"[A-Za-z0-9.:/_~%+-]+", server)
    if own and (header := authorization(repository)):
        entries.append((f"http.{server.rstrip('/')}/objects/batch.extraHeader", header))
    return configuration_of(entries)
