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
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import anyio

from buildrunner.errors import BuildFailed
from buildrunner.sandbox import Exit, Output, Sandbox, remove_tree
from buildrunner.settings import Repository

RETRIES = 3

# A connection on which nothing comes for a minute is dropped and tried again; upload-pack sends a sign of life every 5 s.
_CONFIGURATION = """\
[core]
\thooksPath = /dev/null
\tfsmonitor = false
[credential]
\thelper =
[http]
\tlowSpeedLimit = 1
\tlowSpeedTime = 30
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


@dataclass(frozen=True, slots=True)
class _Trouble:
    """What git says (or the curl or ssh below it) when something is wrong, and what that means."""

    said: str  # a regular expression
    reason: str  # {host}, {url} and {ref} are filled in
    hint: str
    transient: bool = False  # trying again may help


_NOT_FOUND = (
    "The repository {url} was not found, or it is private.",
    "Check the address; for a private repository give a token that can read it (GIT_TOKEN).",
)
_UNREACHABLE = ("The host {host} cannot be reached.", "Check the address, and the network of the task.")
_REFUSED = (
    r"Authentication failed|could not read (Username|Password)|returned error: 40[13]|invalid credentials|Access denied"
    r"|Permission denied|HTTP Basic"
)
_RESOLVE = "Could not resolve host"
# The first one that matches decides.
_TROUBLES = (
    _Trouble(
        r"No space left on device|Disk quota exceeded",
        "The disk of the machine that builds has no room for the repository.",
        "Give the task more ephemeral storage.",
    ),
    _Trouble(
        r"Remote branch .* not found|couldn't find remote ref|not our ref|unadvertised object|want \S+ not valid"
        r"|reference is not a tree|non-commit",
        "The repository has no branch, tag or commit {ref!r}.",
        "Look at the spelling of REPO_REF, and whether it was pushed.",
    ),
    _Trouble(
        r"invalid path|would be overwritten by merge|unable to checkout",
        "The repository holds a path that git refuses to check out.",
        "Look for .git in another spelling, .. and control characters among the names of its files, and for two that differ"
        " in nothing but capitals.",
    ),
    _Trouble(
        r"returned error: 30\d|redirects followed|Protocol \S+ (not supported|disabled)",
        "{host} redirects {url} to another address, and that is not followed.",
        "Set REPO_URL to the address that it redirects to, often the same with .git at its end: a token is sent nowhere else.",
    ),
    _Trouble(
        r"SSL certificate|certificate verif|server certificate|Host key verification",
        "The certificate or key of {host} is not trusted.",
        "Check it, or install its authority.",
    ),
    _Trouble(_REFUSED, *_NOT_FOUND),
    _Trouble(
        r"returned error: (408|425|429|5\d\d)",
        "{host} is in trouble or busy: it answered with an error.",
        "Try again later; the status page of {host} may say more.",
        transient=True,
    ),
    _Trouble(
        _RESOLVE + r"|Failed to connect|Couldn't connect|(Connection|Operation) (refused|timed out)"
        r"|Network is unreachable|No route to host|Temporary failure",
        *_UNREACHABLE,
        transient=True,
    ),
    _Trouble(
        r"not found|does not appear to be a git repo|does not exist|is this a git repo|update url base|error: 4(04|10)",
        *_NOT_FOUND,
    ),
    _Trouble(
        r"Connection (reset|closed)|Empty reply|early EOF|unexpected disconnect|RPC failed|remote end hung up"
        r"|transfer closed|Recv failure|Send failure|GnuTLS recv error|SSL_ERROR_SYSCALL|SSL_read|HTTP/2 stream"
        r"|expected (packfile|flush)|Operation too slow",
        "The connection to {host} broke off.",
        "Try again later.",
        transient=True,
    ),
    _Trouble(r"Could not read from remote", *_NOT_FOUND),
)
# Dumb HTTP, and servers before version 2 of the protocol, which may give out only the ends of branches and tags.
_NO_SINGLE_COMMIT = re.compile(r"dumb http transport does not support shallow|unadvertised object|want \S+ not valid")


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checked-out commit."""

    folder: Path  # its real path
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
    if not shutil.which("git", path=environment["PATH"]):
        raise BuildFailed(
            "clone", "git is not installed on the machine that builds.", "Install git there, or use the image."
        )
    configuration = private / "gitconfig"
    configuration.write_text(_CONFIGURATION)
    configuration.chmod(0o644)
    variables = {**environment, **_git_environment(repository, configuration)}
    address, copy = repository.url, folder.parent / "source"
    if repository.scheme == "file" and sandbox.account and (closed := _closed_git_folder(address)):
        # By processes rather than by a thread: those end when time runs out. Links are neither followed nor given away.
        owner = f"{sandbox.account.uid}:{sandbox.account.gid}"
        for command in (
            ["/bin/cp", "-R", "-P", "--", str(closed), str(copy)],
            ["/bin/chown", "-R", "-h", owner, "--", str(copy)],
        ):
            await anyio.run_process(command, check=False, env={})
        address = copy.as_uri()

    async def git(*arguments: str, shown: bool = True) -> tuple[Exit, str, str]:
        """Run git; give how it ended, the end of all that it said, and the part of that on stdout."""
        said, printed = bytearray(), bytearray()

        def listen(stream: Literal["stdout", "stderr"], data: bytes) -> None:
            for kept in (said, printed) if stream == "stdout" else (said,):
                kept.extend(data)
                del kept[:-65536]
            if shown:
                output(stream, data)

        try:
            ended = await sandbox.run(["git", *arguments], folder=folder.parent, environment=variables, output=listen)
        except OSError as error:
            raise BuildFailed("clone", f"git could not be started: {error.strerror}.") from error
        return ended, said.decode(errors="replace"), printed.decode(errors="replace").strip()

    shallow, tried_again = True, 0
    while True:
        if tried_again or not shallow:
            await remove_tree(folder)
        for command in _commands(address, repository.ref, folder.name, shallow=shallow):
            ended, text, _ = await git(*command)
            if ended.failed:
                break
        if not ended.failed:
            break
        if shallow and _NO_SINGLE_COMMIT.search(text):
            log("The server cannot give a single commit; its whole history is fetched.")
            shallow = False
            continue
        failure, transient = await _explain(repository, text, ended)
        if not transient or tried_again == RETRIES:
            raise failure
        delay = 0.5 * 2**tried_again * random.uniform(0.75, 1.25)  # noqa: S311 - seconds
        tried_again += 1
        log(f"{failure.reason} Trying again in {delay:.1f} s ({tried_again} of {RETRIES}).")
        await anyio.sleep(delay)
    if address != repository.url:
        await remove_tree(copy)

    ended, _, said = await git("-C", folder.name, "rev-parse", "HEAD^{commit}", "--abbrev-ref", "HEAD", shown=False)
    if ended.failed:
        raise BuildFailed(
            "clone", "The repository has no commit on its default branch.", "Push one, or set REPO_REF to a branch."
        )
    commit, branch = said.split("\n", 1)
    # Its real path as it is now: the build may put a link in the place of any part of it.
    return Checkout(Path(str(await anyio.Path(folder).resolve())), commit, repository.ref or branch)


def _commands(address: str, ref: str | None, folder: str, *, shallow: bool) -> list[list[str]]:
    """Give the commands of one attempt. An address and a ref can be no options: they stand behind -- or =.

    A name is a branch, and if there is none, a tag, as `git clone --branch` has it. A commit id, and a name that begins
    with refs/ and so says which of them it is, are fetched.
    """
    depth = ["--depth=1"] if shallow else []
    commit_id = ref if re.fullmatch(r"[0-9a-fA-F]{40}([0-9a-fA-F]{24})?", ref or "") else None
    if ref is None or not (commit_id or ref.startswith("refs/")):
        branch = [f"--branch={ref}"] if ref else []
        return [["clone", "--template=", "--no-tags", "--single-branch", *depth, *branch, "--", address, folder]]
    inside = ["-C", folder]
    object_format = "sha256" if commit_id and len(commit_id) == 64 else "sha1"
    # A commit that cannot be asked for by its id is looked for below all branches and tags.
    wanted = [ref] if shallow or not commit_id else ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    return [
        ["init", "--quiet", "--template=", f"--object-format={object_format}", "--", folder],
        [*inside, "remote", "add", "--", "origin", address],
        [*inside, "fetch", "--no-tags", *depth, "--", "origin", *wanted],
        [*inside, "checkout", "--quiet", "--detach", commit_id or "FETCH_HEAD"],
    ]


def _git_environment(repository: Repository, configuration: Path) -> dict[str, str]:
    """Give git's own variables: gitenv(7) and git-config(1) name them."""
    variables = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(configuration),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": repository.scheme,
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


async def _explain(repository: Repository, text: str, ended: Exit) -> tuple[BuildFailed, bool]:
    """Say why git failed, in the words of who runs or uses the platform, and whether trying again may help."""
    host = urlsplit(repository.url).hostname or "the server"
    if ended.left_behind or ended.out_of_memory or ended.code > 129:  # git's own codes are 1, 128 and 129
        return BuildFailed("clone", f"git {ended.explanation}."), False
    trouble = next((trouble for trouble in _TROUBLES if re.search(trouble.said, text, re.IGNORECASE)), None)
    if trouble is None:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing").strip()
        return BuildFailed("clone", f"The repository {repository.url} could not be cloned: {last}"), False
    reason, hint, transient = trouble.reason, trouble.hint, trouble.transient
    if trouble.said == _REFUSED and repository.password is not None:
        reason = "{host} refused the token for {url}."
        hint = "Check that the token has not expired and may read this repository."
    if transient and _RESOLVE in text:
        transient = await _may_resolve(host)
    filled = [words.format(host=host, url=repository.url, ref=repository.ref) for words in (reason, hint)]
    return BuildFailed("clone", *filled), transient


async def _may_resolve(host: str) -> bool:
    """Tell a host name that does not exist, which is a wrong address, from a resolver that has no answer now."""
    try:
        await anyio.getaddrinfo(host, None)
    except socket.gaierror as error:
        return error.errno == socket.EAI_AGAIN
    except UnicodeError:  # it cannot be a host's name
        return False
    return True


def _closed_git_folder(address: str) -> Path | None:
    """Give the git folder of a local repository where other users than its owner cannot get to it, else None."""
    with suppress(OSError):  # git says in its own words what is wrong there
        place = Path(os.path.realpath(unquote(urlsplit(address).path)))
        folder = place / ".git" if (place / ".git").is_dir() else place
        # What is no repository is never copied to where the build's user can read it.
        is_repository = (folder / "HEAD").is_file() and (folder / "objects").is_dir()
        if is_repository and not all(part.stat().st_mode & 0o001 for part in (folder, *folder.parents)):
            return folder
    return None
