"""A repository's address becomes a checked-out folder: one commit, shallow, by git in the sandbox.

Git finds no configuration but ours, asks nobody anything, runs no hook, filter or submodule, and speaks only the scheme of
the address. A token goes to git as a header for the repository's own origin, through the environment.
"""

from __future__ import annotations

import base64
import os
import random
import re
import shutil
import socket
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

import anyio
import anyio.to_thread

from buildrunner.errors import BuildFailed
from buildrunner.sandbox import Account, Exit, Output, Sandbox
from buildrunner.settings import Repository

RETRIES = 3

_CONFIGURATION = """\
[core]
\thooksPath = /dev/null
\tfsmonitor = false
[credential]
\thelper =
[protocol]
\tallow = never
[protocol "{scheme}"]
\tallow = always
[safe]
\tdirectory = *
[submodule]
\trecurse = false
[fetch]
\trecurseSubmodules = false
[transfer]
\tbundleURI = false
[gc]
\tauto = 0
[maintenance]
\tauto = false
[advice]
\tdetachedHead = false
[init]
\tdefaultBranch = main
"""

# What git says (or the curl below it), in the order in which it is looked for; `transient` is tried again.
_TRANSIENT = re.compile(
    r"returned error: (408|425|429|5\d\d)|Connection (refused|reset|timed out)|Failed to connect|Couldn't connect"
    r"|Empty reply|early EOF|unexpected disconnect|RPC failed|remote end hung up|transfer closed|Recv failure|Send failure"
    r"|GnuTLS recv error|SSL_ERROR_SYSCALL|SSL_read|HTTP/2 stream|expected (packfile|flush)|Operation (too slow|timed out)"
    r"|Temporary failure|Network is unreachable|No route to host|Could not resolve",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"Authentication failed|could not read (Username|Password)|returned error: 40[13]|invalid credentials|Access denied"
    r"|Permission denied|HTTP Basic",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(
    r"not found|does not appear to be a git repo|does not exist|Could not read from remote", re.IGNORECASE
)
_NO_REF = re.compile(
    r"Remote branch .* not found|couldn't find remote ref|not our ref|unadvertised object|no such remote ref", re.I
)
_UNREACHABLE = re.compile(
    r"Could not resolve|Failed to connect|Couldn't connect|Connection (refused|timed out)|unreachable|No route to host",
    re.I,
)


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checked-out commit."""

    folder: Path
    commit: str  # full id
    ref: str  # what was asked for, or the name of the default branch


async def clone(
    repository: Repository,
    folder: Path,
    *,
    private: Path,
    environment: Mapping[str, str],
    sandbox: Sandbox,
    output: Output,
    log: Callable[[str], None],
) -> Checkout:
    """Check one commit of `repository` out into `folder`, which must not exist; errors of the network are tried again.

    Args:
        private: a folder of the runner's that commands can read but not write; git's configuration is put there.
        environment: that the commands of this run find.
        log: is told what is tried again.

    Raises:
        BuildFailed: at `clone`, in words of its own for what is known to go wrong.

    """
    address, said = repository.url, bytearray()
    if not shutil.which("git", path=environment["PATH"]):
        raise BuildFailed(
            "clone", "git is not installed on the machine that builds.", "Install git there, or use the image."
        )
    if repository.scheme == "file" and sandbox.account:
        address = await anyio.to_thread.run_sync(_reachable, repository.url, folder.parent / "source", sandbox.account)
    configuration = private / "gitconfig"
    configuration.write_text(_CONFIGURATION.format(scheme=repository.scheme))
    configuration.chmod(0o644)
    variables = {**environment, **_git_environment(repository, configuration)}

    async def git(*arguments: str, quiet: bool = False) -> Exit:
        said.clear()

        def listen(stream: str, data: bytes) -> None:
            said.extend(data)
            del said[:-65536]
            if not quiet:
                output("stdout" if stream == "stdout" else "stderr", data)

        try:
            return await sandbox.run(["git", *arguments], folder=folder.parent, environment=variables, output=listen)
        except OSError as error:
            raise BuildFailed("clone", f"git could not be started: {error.strerror}.") from error

    commit_id = repository.ref if re.fullmatch(r"[0-9a-f]{40}([0-9a-f]{24})?", repository.ref or "") else None
    depth = ["--depth=1"]
    for attempt in range(RETRIES + 1):
        await anyio.to_thread.run_sync(lambda: shutil.rmtree(folder, ignore_errors=True))
        for commands in _commands(address, commit_id, repository.ref, folder, depth):
            ended = await git(*commands)
            if ended.code != 0:
                break
        text = said.decode(errors="replace")
        if ended.code == 0:
            break
        if depth and re.search(r"dumb http transport does not support shallow|unadvertised object|not our ref", text):
            # An old server, or one that gives out only the ends of branches: the commit is looked for in all of them.
            log("The server cannot give a single commit; its whole history is fetched.")
            depth = []
            continue
        reason = await _explain(repository, text, ended)
        if attempt == RETRIES or not await _is_transient(repository, text):
            raise reason
        delay = 0.5 * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311
        log(f"{reason.reason} Trying again in {delay:.1f} s ({attempt + 1} of {RETRIES}).")
        await anyio.sleep(delay)

    if (await git("-C", folder.name, "rev-parse", "HEAD^{commit}", quiet=True)).code != 0:
        raise BuildFailed("clone", "The repository is empty: it has no commit to build.", "Push a commit first.")
    commit = said.decode().strip()
    ref = repository.ref
    if ref is None:
        await git("-C", folder.name, "rev-parse", "--abbrev-ref", "HEAD", quiet=True)
        ref = said.decode(errors="replace").strip()
    return Checkout(folder, commit, ref)


def _commands(
    address: str, commit_id: str | None, ref: str | None, folder: Path, depth: Sequence[str]
) -> list[list[str]]:
    """Give the commands of one attempt. An address and a ref can be no options: they stand behind -- or =."""
    if commit_id is None:
        name = re.sub(r"^refs/(heads|tags)/", "", ref) if ref else None
        branch = [f"--branch={name}"] if name else []
        return [["clone", "--template=", "--no-tags", "--single-branch", *depth, *branch, "--", address, folder.name]]
    inside = ["-C", folder.name]
    wanted = [commit_id] if depth else ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    return [
        ["init", "--quiet", "--template=", "--", folder.name],
        [*inside, "remote", "add", "--", "origin", address],
        [*inside, "fetch", "--no-tags", *depth, "--", "origin", *wanted],
        [*inside, "checkout", "--quiet", "--detach", commit_id],
    ]


def _git_environment(repository: Repository, configuration: Path) -> dict[str, str]:
    """Give git's own variables: gitenv(7) and git-config(1) name them."""
    variables = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(configuration),
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": repository.scheme,
        "GIT_LFS_SKIP_SMUDGE": "1",
        "LC_ALL": "C.UTF-8",  # what git says is looked at, and it says it in English
    }
    if repository.scheme == "ssh":
        variables["GIT_SSH_COMMAND"] = "ssh -oBatchMode=yes -oStrictHostKeyChecking=accept-new -oConnectTimeout=20"
        if agent := os.environ.get("SSH_AUTH_SOCK"):
            variables["SSH_AUTH_SOCK"] = agent
    if repository.password is not None:
        pair = base64.b64encode(f"{repository.username}:{repository.password}".encode()).decode()
        # While there is a header, no redirect is followed: git would hand it to whatever host a 302 names.
        entries = [
            (f"http.{repository.origin}/.extraHeader", f"Authorization: Basic {pair}"),
            ("http.followRedirects", "false"),
        ]
        variables["GIT_CONFIG_COUNT"] = str(len(entries))
        for number, (key, value) in enumerate(entries):
            variables[f"GIT_CONFIG_KEY_{number}"] = key
            variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


async def _explain(repository: Repository, text: str, ended: Exit) -> BuildFailed:
    """Say why git failed, in the words of who pushed the repository or of who runs the platform."""
    host = urlsplit(repository.url).hostname or "the server"
    shown = repository.url
    if ended.code >= 128 and ended.code != 128:
        return BuildFailed("clone", f"git {ended.explanation}.")
    if _NO_REF.search(text):
        return BuildFailed(
            "clone",
            f"The repository has no branch, tag or commit {repository.ref!r}.",
            "Look at the spelling of REPO_REF, and whether it was pushed.",
        )
    if re.search(r"redirect|returned error: 30\d", text) and repository.password is not None:
        return BuildFailed(
            "clone",
            f"{host} redirects {shown} to another address, and a token is not sent along.",
            "Set REPO_URL to the address that it redirects to (often the same with .git at its end).",
        )
    if re.search(r"SSL certificate|certificate verif|server certificate|Host key verification", text, re.IGNORECASE):
        return BuildFailed(
            "clone", f"The certificate or key of {host} is not trusted.", "Check it, or install its authority."
        )
    if _REFUSED.search(text):
        if repository.password is not None:
            return BuildFailed(
                "clone",
                f"{host} refused the token for {shown}.",
                "Check that the token has not expired and may read this repository.",
            )
        return BuildFailed(
            "clone",
            f"The repository {shown} was not found, or it is private.",
            "Check the address; for a private repository give a token that can read it (GIT_TOKEN).",
        )
    if _UNREACHABLE.search(text):
        return BuildFailed(
            "clone", f"The host {host} cannot be reached.", "Check the address, and the network of the task."
        )
    if _NOT_FOUND.search(text):
        return BuildFailed(
            "clone",
            f"The repository {shown} was not found, or it is private.",
            "Check the address; for a private repository give a token that can read it (GIT_TOKEN).",
        )
    last = next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing")
    return BuildFailed("clone", f"The repository {shown} could not be cloned: {last.strip()}")


async def _is_transient(repository: Repository, text: str) -> bool:
    """Tell whether trying again may help. A host name that does not exist is a wrong address, a silent resolver is not."""
    if not _TRANSIENT.search(text) or re.search(r"returned error: 4(0[0-7]|1\d)|certificate", text):
        return False
    if "Could not resolve host" in text:
        try:
            await anyio.getaddrinfo(urlsplit(repository.url).hostname or "", None)
        except socket.gaierror as error:
            return error.errno == socket.EAI_AGAIN
    return True


def _reachable(address: str, copy: Path, account: Account) -> str:
    """Give an address of a local repository that `account` can read: a copy of it, where it lies in a closed folder."""
    place = Path(unquote(urlsplit(address).path))
    with suppress(OSError):
        status = place.stat()
        open_to_all = all(folder.stat().st_mode & 0o001 for folder in [place, *place.parents])
        if not open_to_all and status.st_mode & 0o040000:
            git_dir = place / ".git" if (place / ".git").is_dir() else place
            shutil.copytree(git_dir, copy, symlinks=True)
            for folder, _, files in os.walk(copy):
                for name in (folder, *(os.path.join(folder, file) for file in files)):
                    os.chown(name, account.uid, account.gid, follow_symlinks=False)
            return f"file://{copy}"
    return address
