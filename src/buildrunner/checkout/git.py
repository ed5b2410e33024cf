"""Run git in the sandbox: its configuration, its environment, and the commands that fetch one commit.

Git finds no configuration but ours, asks nobody anything, runs no hook or filter, and speaks only the scheme of the address
(for submodules, https too). A token goes to git as a header for the repository's own origin, through the environment.
"""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import anyio

from buildrunner.concurrency.retry import RetryPolicy
from buildrunner.config.addresses import Repository
from buildrunner.errors import BuildFailed
from buildrunner.sandbox.command import Exit, Output, Sandbox

RETRY = RetryPolicy(first=0.5, longest=2.0, jitter=(0.75, 1.25), most=3)
# Of the end of what one command of git says, and of the part of it on stdout, where lists come.
MAX_OUTPUT_BYTES, MAX_PRINTED_BYTES = 2**16, 2**20

# A connection on which nothing comes for a minute is dropped and tried again; upload-pack sends a sign of life every 5 s.
CONFIGURATION = """\
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
            del said[:-MAX_OUTPUT_BYTES]
            if stream == "stdout":
                printed.extend(data)
                del printed[:-MAX_PRINTED_BYTES]
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
            raise BuildFailed(
                "clone", f"git could not be started: {error.strerror}.", kind="git-not-started"
            ) from error
        return ended, said.decode(errors="replace"), bytes(printed)


class Retries:
    """Counts how often one thing was tried again."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._count = 0

    async def wait(self, failure: BuildFailed, *, transient: bool) -> None:
        """Wait before another attempt and say so, or raise `failure` where none is worth it."""
        if not transient or self._count == RETRY.most:
            raise failure
        pause = RETRY.pause(self._count)
        self._count += 1
        self._log(f"{failure.reason} Retrying in {pause:.1f} s ({self._count} of {RETRY.most}).")
        await anyio.sleep(pause)


def commands(address: str, ref: str | None, folder: str, *, shallow: bool) -> list[list[str]]:
    """Return the commands of one attempt. An address and a ref can be no options: they stand behind -- or =.

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


def git_environment(repository: Repository, configuration: Path) -> dict[str, str]:
    """Return git's own variables: gitenv(7) and git-config(1) name them."""
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
    """Return the header that carries the token."""
    if repository.password is None:
        return None
    pair = base64.b64encode(f"{repository.username}:{repository.password}".encode()).decode()
    return f"Authorization: Basic {pair}"


def configuration_of(entries: Sequence[tuple[str, str]]) -> dict[str, str]:
    """Return the variables that set `entries` for one command of git (git-config(1))."""
    variables = {"GIT_CONFIG_COUNT": str(len(entries))}
    for number, (key, value) in enumerate(entries):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables
