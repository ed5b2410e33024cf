"""Check the machine: programs, disk, memory, the sandbox, the npm registry, and the repository if one is named."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import anyio

from buildrunner.build.workspace import Workspace, make_workspace, runs_in_image
from buildrunner.cache.packing import Packer
from buildrunner.checkout.git import CONFIGURATION, Git, git_environment
from buildrunner.checkout.git_errors import explain
from buildrunner.commands.doctor.check import CHECK_SECONDS, Check, Checks, Status, attempt
from buildrunner.config.addresses import Repository
from buildrunner.errors import BuildFailed
from buildrunner.events.journal import RUNNER_EVENTS_BYTES
from buildrunner.sandbox import Sandbox, memory_limit
from buildrunner.toolchain.registry import open_registry

_OLDEST_GIT = (2, 31)  # the first that takes its configuration from GIT_CONFIG_COUNT
_SMALL_DISK_BYTES = 2 * 2**30  # for node_modules, its cache and the output of an app of usual size
_SMALL_MEMORY_BYTES = 2 * 2**30
_WELL_KNOWN = ("npm", "10.9.2")  # a package that every registry has
_VERSION = re.compile(r"\d+(?:\.\d+)+")
_LOOK = 'id -u; grep -hE "^(NoNewPrivs|CapEff):" /proc/self/status; head -c 1 "/proc/$1/environ" >/dev/null && echo readable'


@dataclass(frozen=True, slots=True)
class _Program:
    """A program that builds start."""

    name: str
    command: tuple[str, ...]
    needed_for: str  # a sentence about what does not work without it
    is_required: bool


_PROGRAMS = (
    _Program("git", ("git", "--version"), "Every build starts with a clone.", is_required=True),
    _Program(
        "git-lfs", ("git-lfs", "version"), "Repositories with files in Git LFS cannot be built.", is_required=False
    ),
    _Program("node", ("node", "--version"), "Builds need it.", is_required=True),
    _Program("npm", ("npm", "--version"), "Builds need it.", is_required=True),
)


class MachineChecks:
    """Checks the machine that builds.

    Args:
        root: a folder that the build's user can enter.
        log_max_bytes: `LOG_MAX_BYTES`.
        repository: that `REPO_URL` names, if it is set.

    """

    def __init__(self, root: Path, *, log_max_bytes: int, repository: Repository | None) -> None:
        self._root = root
        self._log_max_bytes = log_max_bytes
        self._repository = repository

    async def run(self) -> Checks:
        """Yield the checks."""
        path = os.environ.get("PATH") or os.defpath
        for program in _PROGRAMS:
            yield await _check_program(program, path)
        yield _check_packing()
        yield self._check_disk()
        yield _check_memory()
        try:
            sandbox = Sandbox(in_image=runs_in_image())
            workspace = make_workspace(self._root, sandbox, slug="doctor")
        except BuildFailed as error:
            yield Check("sandbox", "failed", error.reason, error.hint or "")
            return
        yield await attempt("sandbox", lambda: self._check_sandbox(sandbox)) if sandbox.account else _no_account()
        yield await attempt(
            "npm registry", lambda: self._ask_registry(workspace), consequence="Builds cannot install packages."
        )
        if self._repository:
            yield await attempt("repository", lambda: self._ask_repository(workspace))

    def _check_disk(self) -> Check:
        usage = shutil.disk_usage(self._root)
        needed = self._log_max_bytes * 3 // 2 + RUNNER_EVENTS_BYTES
        free = f"{usage.free / 1e9:.1f} GB of {self._root.parent} are free"
        if usage.free < needed:
            return Check(
                "disk",
                "failed",
                f"{free}; a build reserves {needed / 1e6:.0f} MB for its log alone.",
                "Free some space, lower LOG_MAX_BYTES, or set TMPDIR to another folder.",
            )
        if usage.free < needed + _SMALL_DISK_BYTES:
            return Check(
                "disk",
                "warning",
                f"{free}, which is little: dependencies of an app often take 1 GB.",
                "Free some space, or set TMPDIR to another folder.",
            )
        return Check("disk", "ok", f"{free}.")

    async def _check_sandbox(self, sandbox: Sandbox) -> str:
        account = sandbox.account
        assert account
        found = (await sandbox.look(_LOOK, [str(os.getpid())])).decode().split()
        expected = [str(account.uid), "NoNewPrivs:", "1", "CapEff:", "0" * 16]
        # grep prints the lines in the order of the file, which differs between kernels.
        if sorted(found) != sorted(expected):
            raise BuildFailed(
                "prepare",
                f"Commands of a repository are not isolated as they should be ({' '.join(found) or 'nothing ran'}).",
                "Run the image as docs/deploying.md describes it: as root, with the capabilities SETUID and SETGID.",
            )
        return f"Commands of a repository run as {account.name} (uid {account.uid}), without capabilities."

    async def _ask_registry(self, workspace: Workspace) -> str:
        package, version = _WELL_KNOWN
        async with open_registry(
            workspace.environment, downloads=workspace.work, log=lambda _: None, tool_store=None
        ) as registry:
            await registry.find(package, version)
        return "The npm registry answers."

    async def _ask_repository(self, workspace: Workspace) -> str:
        repository = self._repository
        assert repository
        configuration = workspace.root / "gitconfig"
        configuration.write_text(CONFIGURATION)
        configuration.chmod(0o644)
        variables = {**workspace.environment, **git_environment(repository, configuration)}
        git = Git(workspace.sandbox, workspace.work, variables, lambda *_: None)
        ended, said, _ = await git("ls-remote", "--quiet", "--", repository.url, repository.ref or "HEAD", shown=False)
        if ended.failed:
            token = repository.password is not None
            failure, _, _ = await explain(repository.url, repository.ref, said, ended, token=token)
            raise failure
        return f"{repository.url} can be read."


async def _check_program(program: _Program, path: str) -> Check:
    status: Status = "failed" if program.is_required else "warning"
    if not shutil.which(program.command[0], path=path):
        return Check(
            program.name,
            status,
            f"{program.name} is not installed. {program.needed_for}",
            "Install it, or use the image.",
        )
    printed = ""
    with anyio.move_on_after(CHECK_SECONDS):
        try:
            ended = await anyio.run_process(
                program.command, stdin=subprocess.DEVNULL, check=False, cwd="/", stderr=subprocess.STDOUT
            )
            printed = ended.stdout.decode(errors="replace") if ended.returncode == 0 else ""
        except OSError:
            printed = ""
    version = _VERSION.search(printed)
    if version is None:
        return Check(
            program.name,
            status,
            f"{program.name} is installed, but does not run here. {program.needed_for}",
            f"Run `{' '.join(program.command)}` to see why.",
        )
    numbers = tuple(map(int, version[0].split(".")[:2]))
    if program.name == "git" and numbers < _OLDEST_GIT:
        oldest = ".".join(map(str, _OLDEST_GIT))
        return Check("git", "failed", f"git {version[0]} is too old: builds need {oldest} or newer.", "Update git.")
    return Check(program.name, "ok", f"{program.name} {version[0]}")


def _check_packing() -> Check:
    name, hint = "zstd", "Install zstd, or use the image."
    if not Packer.is_available():
        return Check(name, "warning", "The dependency cache is off: bash, find, tar or zstd are missing.", hint)
    if "zst" not in Packer.compressions():
        return Check(name, "warning", "zstd is missing: the dependency cache uses gzip, which is slower.", hint)
    return Check(name, "ok", "bash, find, tar and zstd are installed, which pack the dependency cache.")


def _check_memory() -> Check:
    limit = memory_limit() or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    has = f"Builds have {limit / 2**30:.1f} GiB of memory"
    if limit < _SMALL_MEMORY_BYTES:
        return Check(
            "memory",
            "warning",
            f"{has}, which is too little for larger apps.",
            "Give the task at least 2 GiB; 4 GiB suits most apps.",
        )
    return Check("memory", "ok", f"{has}.")


def _no_account() -> Check:
    return Check(
        "sandbox",
        "warning",
        "Commands of a repository run as you, because buildrunner was not started as root.",
        "Use the image to build repositories that you don't trust.",
    )
