"""Run git in the sandbox: its configuration, its environment, and the commands that fetch one commit.

Git reads only this configuration, never prompts, runs no hook or filter, and uses only the protocol of the address (for
submodules, also https). The environment passes a token to git as a header for the origin of the repository.
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
# Limits for the output of one git command that is stored, and for its part on stdout, such as lists.
MAX_OUTPUT_BYTES, MAX_PRINTED_BYTES = 2**16, 2**20

# A connection without data for a minute is closed and retried; upload-pack sends a keep-alive every 5 s.
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
    ref: str  # requested ref, or the name of the default branch
    committed: str  # date of the commit, YYYY-MM-DD


class Git:
    """Run git in the sandbox, in the parent folder of the checkout."""

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
        """Run git; return its exit, the end of its output, and the part of that on stdout.

        Args:
            arguments: arguments of git.
            program: another program to run instead of git.
            shown: the command as logged.
            listen: function that receives the output instead of the log.
            variables: variables in addition to those of every command.

        Raises:
            BuildFailed: git could not be started.

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
    """Count the retries of one operation."""

    def __init__(self, log: Callable[[str], None]) -> None:
        self._log = log
        self._count = 0

    async def wait(self, failure: BuildFailed, *, transient: bool) -> None:
        """Log the retry and wait before it, or raise `failure` if there is no further one."""
        if not transient or self._count == RETRY.most:
            raise failure
        pause = RETRY.pause(self._count)
        self._count += 1
        self._log(f"{failure.reason} Retrying in {pause:.1f} s ({self._count} of {RETRY.most}).")
        await anyio.sleep(pause)


def commands(address: str, ref: str | None, folder: str, *, shallow: bool) -> list[list[str]]:
    """Return the commands of one attempt. Addresses and refs follow `--` or `=`, so that they can't be options.

    As in `git clone --branch`, a name is a branch, or a tag if there is no such branch. A commit id, or a full name that
    begins with refs/, is fetched.
    """
    depth = ["--depth=1"] if shallow else []
    commit_id = ref if re.fullmatch(r"[0-9a-fA-F]{40}([0-9a-fA-F]{24})?", ref or "") else None
    if ref is None or not (commit_id or ref.startswith("refs/")):
        branch = [f"--branch={ref}"] if ref else []
        return [["clone", "--template=", "--no-tags", "--single-branch", *depth, *branch, "--", address, folder]]
    inside = ["-C", folder]
    object_format = "sha256" if commit_id and len(commit_id) == 64 else "sha1"
    # A commit that can't be requested by its id is searched for in all branches and tags.
    wanted = [ref] if shallow or not commit_id else ["+refs/heads/*:refs/remotes/origin/*", "+refs/tags/*:refs/tags/*"]
    return [
        ["init", "--quiet", "--template=", f"--object-format={object_format}", "--", folder],
        [*inside, "remote", "add", "--", "origin", address],
        [*inside, "fetch", "--no-tags", *depth, "--", "origin", *wanted],
        [*inside, "checkout", "--quiet", "--detach", commit_id or "FETCH_HEAD"],
    ]


def git_environment(repository: Repository, configuration: Path) -> dict[str, str]:
    """Return git's own variables; see gitenv(7) and git-config(1)."""
    variables = {
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_CONFIG_GLOBAL": str(configuration),
        "GIT_ATTR_NOSYSTEM": "1",
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ALLOW_PROTOCOL": repository.scheme,
        "LC_ALL": "C.UTF-8",  # git's messages are matched in English
    }
    if repository.scheme == "ssh":
        variables["GIT_SSH_COMMAND"] = "ssh -oBatchMode=yes -oStrictHostKeyChecking=accept-new -oConnectTimeout=20"
        if agent := os.environ.get("SSH_AUTH_SOCK"):
            variables["SSH_AUTH_SOCK"] = agent
    if header := authorization(repository):
        # No redirects with the header: git would send it to the host of the redirect.
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
    """Return the variables that set configuration entries for one git command (git-config(1))."""
    variables = {"GIT_CONFIG_COUNT": str(len(entries))}
    for number, (key, value) in enumerate(entries):
        variables[f"GIT_CONFIG_KEY_{number}"] = key
        variables[f"GIT_CONFIG_VALUE_{number}"] = value
    return variables
