"""A repository's address becomes a checked-out folder: one commit, shallow, by git in the sandbox.

Git finds no configuration but ours, asks nobody anything, runs no hook or filter, and speaks only the scheme of the address
(for submodules, https too). A token goes to git as a header for the repository's own origin, through the environment.
Whether there are submodules and files of Git LFS is read from the index, so that other repositories pay nothing for them.
"""

from __future__ import annotations

import base64
import os
import random
import re
import shutil
import socket
import stat
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import unquote, urlsplit

import anyio

from buildrunner.cancellation import run_in_thread
from buildrunner.errors import BuildFailed
from buildrunner.sandbox import Exit, Output, Sandbox, remove_tree, run_program
from buildrunner.settings import Repository
from buildrunner.site.files import visible

RETRIES = 3
# Of the end of what one command of git says, and of the part of it on stdout, where lists come.
MOST_SAID_BYTES, MOST_PRINTED_BYTES = 2**16, 2**20
# Of 600,000 files or so; and more than anybody writes into a .gitattributes.
_MOST_INDEX_BYTES, _MOST_ATTRIBUTES_BYTES = 64 * 2**20, 2**20

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
[index]
\tversion = 2
"""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What git says (or the curl or ssh below it) when something is wrong, and what that means."""

    said: str  # a regular expression
    reason: str  # {host}, {url} and {ref} are filled in
    hint: str
    transient: bool = False  # trying again may help
    of_settings: bool = False  # the hint is about variables of REPO_URL, and thus none for a submodule


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
    Trouble(
        r"No space left on device|Disk quota exceeded",
        "The disk of the machine that builds has no room for the repository.",
        "Give the task more ephemeral storage.",
    ),
    Trouble(
        r"Remote branch .* not found|couldn't find remote ref|not our ref|unadvertised object|want \S+ not valid"
        r"|reference is not a tree|non-commit",
        "The repository has no branch, tag or commit {ref!r}.",
        "Look at the spelling of REPO_REF, and whether it was pushed.",
        of_settings=True,
    ),
    Trouble(
        r"invalid path|would be overwritten by merge|unable to checkout",
        "The repository holds a path that git refuses to check out.",
        "Look for .git in another spelling, .. and control characters among the names of its files, and for two that differ"
        " in nothing but capitals.",
    ),
    Trouble(
        r"returned error: 30\d|redirects followed|Protocol \S+ (not supported|disabled)",
        "{host} redirects {url} to another address, and that is not followed.",
        "Set REPO_URL to the address that it redirects to, often the same with .git at its end: a token is sent nowhere else.",
        of_settings=True,
    ),
    Trouble(
        r"SSL certificate|certificate verif|server certificate|Host key verification",
        "The certificate or key of {host} is not trusted.",
        "Check it, or install its authority.",
    ),
    Trouble(_REFUSED, *_NOT_FOUND, of_settings=True),
    Trouble(
        r"returned error: (408|425|429|5\d\d)",
        "{host} is in trouble or busy: it answered with an error.",
        "Try again later; the status page of {host} may say more.",
        transient=True,
    ),
    Trouble(
        _RESOLVE + r"|Failed to connect|Couldn't connect|(Connection|Operation) (refused|timed out)"
        r"|Network is unreachable|No route to host|Temporary failure",
        *_UNREACHABLE,
        transient=True,
    ),
    Trouble(
        r"not found|does not appear to be a git repo|does not exist|is this a git repo|update url base|error: 4(04|10)",
        *_NOT_FOUND,
        of_settings=True,
    ),
    Trouble(
        r"Connection (reset|closed)|Empty reply|early EOF|unexpected disconnect|RPC failed|remote end hung up"
        r"|transfer closed|Recv failure|Send failure|GnuTLS recv error|SSL_ERROR_SYSCALL|SSL_read|HTTP/2 stream"
        r"|expected (packfile|flush)|Operation too slow",
        "The connection to {host} broke off.",
        "Try again later.",
        transient=True,
    ),
    Trouble(r"Could not read from remote", *_NOT_FOUND, of_settings=True),
)
# Dumb HTTP, and servers before version 2 of the protocol, which may give out only the ends of branches and tags.
NO_SINGLE_COMMIT = re.compile(r"dumb http transport does not support shallow|unadvertised object|want \S+ not valid")


@dataclass(frozen=True, slots=True)
class Checkout:
    """A checked-out commit."""

    folder: Path  # its real path
    commit: str  # full id
    ref: str  # what was asked for, or the name of the default branch
    committed: str  # the day, YYYY-MM-DD


class Git:
    """Runs git in the sandbox, beside the checkout."""

    def __init__(self, sandbox: Sandbox, folder: Path, variables: Mapping[str, str], output: Output) -> None:
        self.variables = variables
        self.output = output
        self._sandbox = sandbox
        self._folder = folder

    async def __call__(
        self,
        *arguments: str,
        program: Sequence[str] = ("git",),
        shown: bool = True,
        listen: Output | None = None,
        variables: Mapping[str, str] | None = None,
    ) -> tuple[Exit, str, bytes]:
        """Run git; give how it ended, the end of all that it said, and the part of that on stdout.

        Args:
            arguments: of git.
            program: another one, in git's place.
            shown: in the log.
            listen: is handed the output in the log's place.
            variables: beside those of every command.

        Raises:
            BuildFailed: when it cannot be started.

        """
        said, printed = bytearray(), bytearray()

        def keep(stream: Literal["stdout", "stderr"], data: bytes) -> None:
            said.extend(data)
            del said[:-MOST_SAID_BYTES]
            if stream == "stdout":
                printed.extend(data)
                del printed[:-MOST_PRINTED_BYTES]
            if listen:
                listen(stream, data)
            elif shown:
                self.output(stream, data)

        environment = {**self.variables, **(variables or {})}
        try:
            ended = await self._sandbox.run(
                [*program, *arguments], folder=self._folder, environment=environment, output=keep
            )
        except OSError as error:
            raise BuildFailed("clone", f"git could not be started: {error.strerror}.") from error
        return ended, said.decode(errors="replace"), bytes(printed)


class Patience:
    """How often one thing is tried again."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._tried_again = 0

    async def wait(self, failure: BuildFailed, *, transient: bool) -> None:
        """Wait before another attempt and say so, or raise `failure` where none is worth it."""
        if not transient or self._tried_again == RETRIES:
            raise failure
        delay = 0.5 * 2**self._tried_again * random.uniform(0.75, 1.25)  # noqa: S311 - seconds
        self._tried_again += 1
        self._log(f"{failure.reason} Trying again in {delay:.1f} s ({self._tried_again} of {RETRIES}).")
        await anyio.sleep(delay)


async def clone(
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
) -> Checkout:
    """Check one commit of `repository` out into `folder`, which must not exist, with its submodules and files of Git LFS.

    Errors of the network are tried again.

    Args:
        submodules: fetch them; without it their folders are empty.
        history: whether history and tags are fetched, too.
        private: a folder of the runner's that commands can read but not write; git's configuration is put there.
        environment: that the commands of this run find.
        log: is told what is tried again, and as a "warning" what is left out.

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
    git = Git(sandbox, folder.parent, {**environment, **_git_environment(repository, configuration)}, output)
    address, copy = repository.url, folder.parent / "source"
    if repository.scheme == "file" and sandbox.account and (closed := _closed_git_folder(address)):
        # By processes rather than by a thread: those end when time runs out. Links are neither followed nor given away.
        owner = f"{sandbox.account.uid}:{sandbox.account.gid}"
        for command in (
            ["/bin/cp", "-R", "-P", "--", str(closed), str(copy)],
            ["/bin/chown", "-R", "-h", owner, "--", str(copy)],
        ):
            await run_program(*command)
        address = copy.as_uri()

    shallow, patience = True, Patience(log)
    while True:
        for command in commands(address, repository.ref, folder.name, shallow=shallow):
            ended, text, _ = await git(*command)
            if ended.failed:
                break
        if not ended.failed:
            break
        if shallow and NO_SINGLE_COMMIT.search(text):
            log("The server cannot give a single commit; its whole history is fetched.")
            shallow = False
        else:
            failure, transient, _ = await explain(
                repository.url, repository.ref, text, ended, token=repository.password is not None
            )
            await patience.wait(failure, transient=transient)
        await remove_tree(folder)

    ended, _, printed = await git("-C", folder.name, "rev-parse", "HEAD^{commit}", "--abbrev-ref", "HEAD", shown=False)
    if ended.failed:
        raise BuildFailed(
            "clone", "The repository has no commit on its default branch.", "Push one, or set REPO_REF to a branch."
        )
    # A branch may be named by a space of Unicode's.
    commit, _, branch = printed.decode(errors="replace").rstrip("\n").partition("\n")
    _, _, printed = await git("-C", folder.name, "show", "--no-patch", "--format=%cs", "HEAD", shown=False)
    # Its real path as it is now: the build may put a link in the place of any part of it.
    real = Path(str(await anyio.Path(folder).resolve()))
    checkout = Checkout(real, commit, repository.ref or branch, printed.decode(errors="replace").strip())

    if history != "none":
        from buildrunner.history import fetch_history

        await fetch_history(git, repository, checkout, history, log)

    tree = await run_in_thread(partial(read_tree, checkout.folder, commit))
    trees = {"": (address, tree)}  # of all repositories: path → address, tree
    if tree.submodules and submodules:
        # Here and not at the top: most repositories have none.
        from buildrunner.submodules import fetch_submodules

        trees |= await fetch_submodules(git, repository, checkout.folder, tree, log)
    elif tree.submodules:
        count = len(tree.submodules)
        log(f"{count} {'submodule is' if count == 1 else 'submodules are'} left empty (GIT_SUBMODULES=off).")
    for path, (url, found) in trees.items():
        if found.names_lfs:
            from buildrunner.lfs import fetch_lfs

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


@dataclass(frozen=True, slots=True)
class Tree:
    """What the index of a checkout says about files that are elsewhere."""

    submodules: Mapping[str, str]  # path → commit
    names_lfs: bool  # a .gitattributes speaks of LFS
    pointers: tuple[str, ...] = ()  # files of LFS, where none does


def read_tree(folder: Path, commit: str) -> Tree:
    """Look for submodules and LFS in the index (gitformat-index(5), version 2) of a checkout that git has just made."""
    index = _read_file(folder / ".git" / "index", _MOST_INDEX_BYTES)
    submodules: dict[str, str] = {}
    attributes: list[str] = []
    small: list[str] = []
    size, place = len(commit) // 2, 12  # of an object's id; of the first entry
    for _ in range(int.from_bytes(index[8:12], "big")):
        start = place + 42 + size
        end = index.index(b"\0", start)
        mode = index[place + 24 : place + 28]
        if mode == _GITLINK:
            submodules[os.fsdecode(index[start:end])] = index[place + 40 : start - 2].hex()
        elif (
            index.endswith(b".gitattributes", start, end) and index[start:end].rpartition(b"/")[2] == b".gitattributes"
        ):
            attributes.append(os.fsdecode(index[start:end]))
        elif mode[2] >> 4 == 8 and _may_be_pointer(index[place + 36 : place + 40]) and len(small) < _MOST_SMALL:
            small.append(os.fsdecode(index[start:end]))
        place += (end - place + 8) // 8 * 8
    names_lfs = any(b"filter=lfs" in _read_file(folder / name, _MOST_ATTRIBUTES_BYTES) for name in attributes)
    pointers = [name for name in small if not names_lfs and _read_file(folder / name, 255).startswith(_POINTER)]
    return Tree(submodules, names_lfs, tuple(pointers))


def _may_be_pointer(size: bytes) -> bool:
    """Tell by the size of a regular file."""
    return size[:3] == b"\0\0\0" and size[3] >= _LEAST_POINTER


_GITLINK = (0o160000).to_bytes(4, "big")  # the mode of a submodule
_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:"
_LEAST_POINTER = len(_POINTER) + 64  # and at most 255 bytes
_MOST_SMALL = 20_000  # files of such a size that are looked into


def _read_file(path: Path, most_bytes: int) -> bytes:
    """Give the content of a regular file; of a link, or a file that is larger than `most_bytes`, nothing."""
    with suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if stat.S_ISREG(status.st_mode) and status.st_size <= most_bytes:
                return file.read(most_bytes)
    return b""


def commands(address: str, ref: str | None, folder: str, *, shallow: bool) -> list[list[str]]:
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
    if header := authorization(repository):
        # Where the header goes, no redirect is followed: git would hand it to whatever host a 302 names.
        entries = [
            (f"http.{repository.origin}/.extraHeader", header),
            (f"http.{repository.origin}/.followRedirects", "false"),
        ]
        variables |= configuration_of(entries)
    return variables


def authorization(repository: Repository) -> str | None:
    """Give the header that carries the token."""
    if repository.password is None:
        return None
    pair = base64.b64encode(f"{repository.username}:{repository.password}".encode()).decode()
    return f"Authorization: Basic {pair}"


def configuration_of(entries: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Give the variables that set `entries` for one command of git (git-config(1))."""
    variables = {"GIT_CONFIG_COUNT": str(len(entries))}
    for number, (key, value) in enumerate(entries):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables


async def explain(
    url: str,
    ref: str | None,
    text: str,
    ended: Exit,
    *,
    token: bool,
    troubles: Sequence[Trouble] = _TROUBLES,
) -> tuple[BuildFailed, bool, Trouble | None]:
    """Say why git failed, in the words of who runs or uses the platform, and whether trying again may help.

    Args:
        url: of the repository, without user info.
        ref: that was asked for.
        text: what git said.
        ended: how it ended.
        token: one was sent.
        troubles: that are known; the third part of the answer is the one that it was.

    """
    host = urlsplit(url).hostname or "the server"
    if ended.left_behind or ended.out_of_memory or ended.code > 129:  # git's own codes are 1, 128 and 129
        return BuildFailed("clone", f"git {ended.explanation}."), False, None
    trouble = next((trouble for trouble in troubles if re.search(trouble.said, text, re.IGNORECASE)), None)
    if trouble is None:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing").strip()
        return BuildFailed("clone", f"The repository {url} could not be cloned: {last}"), False, None
    reason, hint, transient = trouble.reason, trouble.hint, trouble.transient
    if trouble.said == _REFUSED and token:
        reason = "{host} refused the token for {url}."
        hint = "Check that the token has not expired and may read this repository."
    if transient and _RESOLVE in text:
        transient = await _may_resolve(host)
    filled = [words.format(host=host, url=url, ref=ref) for words in (reason, hint)]
    return BuildFailed("clone", *filled), transient, trouble


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
