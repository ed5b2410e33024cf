"""Fetch Git LFS files: a checkout has pointers of a few lines in their place, and a server has their contents.

`git-lfs` fetches them after the checkout, in the sandbox; no filter runs while git checks out. In .lfsconfig, git-lfs ignores
every key that runs a command (git-lfs-config(5), LFSCONFIG). The address of the server is decided here: http or https, without
the token unless it is on the host of the repository.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

from buildrunner.checkout.git import Git, Retries, authorization, configuration_of
from buildrunner.checkout.git_errors import GitErrorPattern, explain
from buildrunner.checkout.submodules import find_address, origin_of, without_user
from buildrunner.concurrency.cancellation import cleanup
from buildrunner.config.addresses import Repository
from buildrunner.errors import BuildFailed
from buildrunner.redaction import visible
from buildrunner.sandbox.command import REMOVE_SECONDS, remove_tree

_POINTER = "^version https://git-lfs.github.com/spec/v1$"
_LEAVE_OUT = "Exclude files that the build does not need with lfs.fetchexclude in .lfsconfig."
# Messages of git-lfs (3.3 and 3.6), of Go's net/http below it, and of servers. Statuses from 500 on are a "Fatal error". The
# first match counts.
_PATTERNS = (
    GitErrorPattern(
        r"No space left on device|Disk quota exceeded",
        "The Git LFS files do not fit on the disk of the machine that builds.",
        "Give the build more disk space.",
        kind="disk-full",
    ),
    GitErrorPattern(
        r"x509:|certificate",
        "The certificate of {host} is not trusted.",
        "Check it, or install the certificate of its authority.",
        kind="certificate-or-key-refused",
    ),
    GitErrorPattern(
        r"no such host|connection (refused|reset)|i/o timeout|network is unreachable|no route to host|handshake timeout"
        r"|(deadline|Timeout) exceeded|EOF\b|broken pipe|Fatal error|rate limit|too many requests|expected OID",
        "Git LFS files are temporarily not available from {host}.",
        "Try again later, and check the status page of {host}.",
        transient=True,
        kind="git-host-busy",
    ),
    GitErrorPattern(
        r"budget|quota|exceeded|bandwidth limit|payment required",
        "Git LFS quota exceeded on {host} for {url}.",
        f"Raise the quota there, or move the files out of LFS. {_LEAVE_OUT}",
        kind="lfs-quota-exceeded",
    ),
    GitErrorPattern(
        r"Authori[sz]ation error|Authentication required|could not read (Username|Password)|authentication attempts"
        r"|credentials|access denied|forbidden",
        "{host} refused access to the Git LFS files of {url}.",
        "Set GIT_TOKEN to a token that can read them; it is sent only to the host of REPO_URL.",
        kind="lfs-access-denied",
    ),
    GitErrorPattern(
        r"\[(404|410)\]|does not exist|not found|missing on the server",
        "The Git LFS server for {url} does not have all files.",
        f"Push them (`git lfs push --all origin`), or look at lfs.url in .lfsconfig. {_LEAVE_OUT}",
        kind="lfs-file-missing",
    ),
)


async def fetch_lfs(git: Git, repository: Repository, url: str, folder: Path, log: Callable[..., None]) -> None:
    """Replace the pointers of Git LFS in a checkout by the contents of the files, if there are any.

    Args:
        repository: repository of the build, whose token is only sent to its own host.
        url: address of this checkout, which may be a submodule.
        folder: real path of the checkout.
        log: function that logs how many files are fetched, and a "warning" if git-lfs is missing.

    Raises:
        BuildFailed: the stage `clone` failed: a site with pointers instead of images must not be published.

    """
    inside = ("-C", str(folder))
    # Only regular files in the index, listed by git in the sandbox.
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
            f"lfs.url in .lfsconfig is not a supported address: {visible(without_user(named))[:200]}",
            "Write it as https://…, and push that.",
            kind="lfs-address-refused",
        )
    variables = _variables(repository, server)
    retries = Retries(log)
    while True:
        try:
            ended, text, _ = await git(*inside, "lfs", "pull", variables=variables)
        finally:
            # On a server error, git-lfs logs its environment, which includes the token.
            with cleanup(REMOVE_SECONDS):
                await remove_tree(folder / ".git" / "lfs" / "logs")
        if not ended.failed:
            return
        shown = visible(without_user(server if named else url))
        failure, transient, _ = await explain(shown, None, text, ended, token=False, patterns=_PATTERNS)
        await retries.wait(failure, transient=transient)


def _default(url: str) -> str:
    """Return the server's address as git-lfs derives it from that of a repository (git-lfs, docs/api/server-discovery)."""
    url = url.rstrip("/")
    if urlsplit(url).scheme not in {"http", "https"}:
        return url  # the same for a file; over ssh, the server returns it
    return f"{url}/info/lfs" if url.endswith(".git") else f"{url}.git/info/lfs"


def _variables(repository: Repository, server: str) -> dict[str, str]:
    """Return the configuration of `git lfs pull`, which replaces that of other commands and takes precedence over .lfsconfig."""
    entries = [
        ("lfs.url", server),
        ("lfs.transfer.maxRetries", "3"),
        # Without them, it leaves the checkout unchanged. It uses them to refresh the index after writing the files.
        ("filter.lfs.clean", "git-lfs clean -- %f"),
        ("filter.lfs.smudge", "git-lfs smudge -- %f"),
        ("filter.lfs.process", "git-lfs filter-process"),
        ("filter.lfs.required", "true"),
    ]
    # Only for the address of the batch request: the response contains all that a download needs, and may name another host. (For
    # the whole host, the header would be sent twice if the server returns it for the downloads.)
    own = origin_of(server) == repository.origin.lower() and re.fullmatch(r"[A-Za-z0-9.:/_~%+-]+", server)
    if own and (header := authorization(repository)):
        entries.append((f"http.{server.rstrip('/')}/objects/batch.extraHeader", header))
    return configuration_of(entries)
