"""Fetch submodules: other repositories at recorded commits, in folders of a checkout.

Each is fetched like the repository itself: one commit, shallow, by the same git commands instead of `git submodule`. Names of
submodules therefore never become paths, and .gitmodules only maps paths to addresses. Paths and commits come from the index,
which git has validated.
"""

from __future__ import annotations

import os
import posixpath
import re
import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit, urlunsplit

import anyio

from buildrunner.checkout.git import MAX_OUTPUT_BYTES, MAX_PRINTED_BYTES, Git, Retries, commands
from buildrunner.checkout.git_errors import NO_SINGLE_COMMIT, explain
from buildrunner.checkout.index import Tree, read_tree
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.config.addresses import Repository
from buildrunner.errors import BuildFailed
from buildrunner.redaction import visible
from buildrunner.sandbox.command import Exit, remove_tree

# A commit can contain an older commit of its own repository as a submodule, and so on, so the depth needs a limit.
MAX_SUBMODULES = 256
MAX_DEPTH = 5
AT_ONCE = 8
_MAX_PER_COMMAND = 32  # a path of up to 4 KB occurs several times in a job; Linux allows 2 MB
_MAX_ADDRESS, _MAX_SHOWN = 2048, 200
_NOT_IN_ADDRESS = re.compile(r"[\x00-\x20\x7f-\x9f\ud800-\udfff\\]")
# Each job is a shell script, and each line of its output starts with its number.
_RUN_JOBS = ("/bin/sh", "-c", f'printf "%s\\0" "$@" | xargs -0 -n 1 -P {AT_ONCE} sh -c', "sh")
_OFF = "GIT_SUBMODULES=off builds without submodules."


@dataclass(slots=True)
class _Submodule:
    path: str  # from the top of the checkout
    url: str
    commit: str
    token: bool  # whether to send the token
    shallow: bool = True

    @property
    def shown(self) -> str:
        """Its address without a password that its author may have written there."""
        return visible(without_user(self.url))


def _shown(path: str) -> str:
    return visible(path)[:_MAX_SHOWN]


async def fetch_submodules(
    git: Git, repository: Repository, folder: Path, tree: Tree, log: Callable[..., None]
) -> dict[str, tuple[str, Tree]]:
    """Fetch the submodules of a checkout recursively.

    Args:
        git: runs in the parent folder of `folder`.
        repository: repository of the build; base of relative addresses, and owner of the token.
        folder: real path of the checkout.
        tree: contents of its index.
        log: function that logs what is fetched, retried and left out.

    Returns:
        Path of each submodule from `folder` → its address and the contents of its index.

    Raises:
        BuildFailed: the stage `clone` failed; the reason names the path and address of the submodule.

    """
    done: dict[str, tuple[str, Tree]] = {}
    parents = [("", repository.url, tree)]
    for _ in range(MAX_DEPTH):
        if len(done) + sum(len(found.submodules) for _, _, found in parents) > MAX_SUBMODULES:
            raise BuildFailed(
                "clone", f"The repository has more than {MAX_SUBMODULES} submodules.", _OFF, kind="submodules-too-many"
            )
        level = [
            submodule
            for place, url, found in parents
            for submodule in await _read_submodules(git, repository, folder, place, url, found, log)
        ]
        if not level:
            return done
        for submodule in level:
            log(f"Fetching the submodule {_shown(submodule.path)} from {submodule.shown}")
        await _fetch(git, repository, folder, level, log)
        parents = []
        for submodule in level:
            found = await run_in_thread(partial(read_tree, folder / submodule.path, submodule.commit))
            done[submodule.path] = (submodule.url, found)
            if found.submodules:
                parents.append((submodule.path, submodule.url, found))
    if parents:
        raise BuildFailed(
            "clone",
            f"The repository has submodules of submodules, more than {MAX_DEPTH} levels deep.",
            _OFF,
            kind="submodules-too-many",
        )
    return done


async def _read_submodules(
    git: Git, repository: Repository, folder: Path, place: str, url: str, tree: Tree, log: Callable[..., None]
) -> list[_Submodule]:
    """Return the submodules of one repository, which is checked out at `place` and was fetched from `url`."""
    # From the commit instead of the checkout, where .gitmodules might be a link.
    arguments = ("config", "-z", "--blob=HEAD:.gitmodules", "--get-regexp", r"^submodule\..*\.(path|url)$")
    _, _, printed = await git("-C", f"{folder.name}/{place}", *arguments, shown=False)
    if len(printed) >= MAX_PRINTED_BYTES:
        raise BuildFailed(
            "clone",
            f".gitmodules is larger than {MAX_PRINTED_BYTES // 2**20} MiB.",
            f"Shorten it. {_OFF}",
            kind="gitmodules-too-large",
        )
    sections: dict[str, dict[str, str]] = {}
    for entry in os.fsdecode(printed).split("\0"):
        key, _, value = entry.partition("\n")
        name, _, what = key.rpartition(".")
        sections.setdefault(name, {})[what] = value
    urls = {section["path"].rstrip("/"): section["url"] for section in sections.values() if len(section) == 2}

    found = []
    for path, commit in tree.submodules.items():
        whole = f"{place}/{path}" if place else path
        if path not in urls:
            log(
                f"{_shown(whole)} is recorded as a submodule, but .gitmodules has no address for it: left empty.",
                "warning",
            )
            continue
        address = find_address(urls[path], url, repository)
        if address is None:
            raise BuildFailed(
                "clone",
                f"The submodule {_shown(whole)} has an unsupported address: {_shown(without_user(urls[path]))}",
                f"Write it into .gitmodules as https://…, and push that. {_OFF}",
                kind="submodule-address-refused",
            )
        # Git never writes such a tree, but an attacker can. Nothing is fetched into the target of a link.
        inside = any(str(parent) in tree.submodules for parent in Path(path).parents)
        if inside or await anyio.Path(folder / whole).resolve() != folder / whole:
            raise BuildFailed(
                "clone",
                f"The submodule {_shown(whole)} is behind a link or inside another submodule.",
                f"Move it. {_OFF}",
                kind="submodule-path-unsafe",
            )
        found.append(_Submodule(whole, address, commit, token=origin_of(address) == repository.origin.lower()))
    return found


def find_address(url: str, parent: str, repository: Repository) -> str | None:
    """Return the address to fetch a submodule from: https, or the scheme of REPO_URL.

    Other usual forms lead to the same repository on the same host: git@host:path and ssh://, which need a key, git://, which most
    hosts have dropped, and http://.

    Args:
        url: address in .gitmodules, absolute or relative to `parent` (git-submodule(1)).
        parent: address of the repository that contains it.
        repository: repository of the build.

    Returns:
        None for any other form. The address begins with its scheme, or with / if REPO_URL is a file, so it can't be an option.

    """
    if not url or len(url) > _MAX_ADDRESS or _NOT_IN_ADDRESS.search(url):
        return None
    # Programs disagree about the host of such an address, but the host shown must be the one contacted.
    if re.search(r"[?#]|://[^/]*@[^/]*@", url):
        return None
    if re.match(r"\.\.?(/|$)", url):
        parts = urlsplit(parent)
        if not parts.path.startswith("/"):
            return None
        return urlunsplit(parts._replace(path=posixpath.normpath(f"{parts.path}/{url}")))
    if repository.scheme == "file" and url.startswith("/"):
        return url
    short = re.fullmatch(r"(?:[^@:/]+@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*):(?P<path>[^:/].*|/[^/].*)", url)
    long = re.fullmatch(r"(?:ssh|git)://(?:[^@/]*@)?(?P<host>[A-Za-z0-9][A-Za-z0-9.-]*)(?::\d*)?/(?P<path>.+)", url)
    if (found := short or long) and not (repository.scheme == "ssh" and not url.startswith("git:")):
        return f"{_web_origin(found['host'], repository)}/{found['path'].lstrip('/')}"
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return None
    if short and repository.scheme == "ssh":
        return url
    if (
        not url.startswith(f"{parts.scheme}://")
        or (not host and parts.scheme != "file")
        or (host or "").startswith("-")
    ):
        return None
    if parts.scheme in {"https", repository.scheme}:
        return url
    if parts.scheme == "http" and not port:
        return f"{_web_origin(host or '', repository)}{parts.path}"
    return None


def _web_origin(host: str, repository: Repository) -> str:
    own = urlsplit(repository.url)
    same = own.scheme in {"https", "http"} and own.hostname == host.lower()
    return repository.origin if same else f"https://{host}"


def origin_of(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}".lower()


def without_user(url: str) -> str:
    return re.sub(r"://[^/?#]*@", "://", url)


async def _fetch(
    git: Git, repository: Repository, folder: Path, submodules: Sequence[_Submodule], log: Callable[..., None]
) -> None:
    retries = Retries(log)
    waiting = list(submodules)
    while waiting:
        results: list[tuple[Exit, str]] = []
        for start in range(0, len(waiting), _MAX_PER_COMMAND):
            results += await _run_jobs(git, repository, folder, waiting[start : start + _MAX_PER_COMMAND])
        passing: BuildFailed | None = None
        again = []
        for submodule, (ended, text) in zip(waiting, results, strict=True):
            if not ended.failed:
                continue
            again.append(submodule)
            if submodule.shallow and NO_SINGLE_COMMIT.search(text):
                submodule.shallow = False
                continue
            failure, transient = await _explain(submodule, repository, text, ended)
            if transient:
                passing = failure
            elif submodule.token and repository.password is not None:
                # The token may be for the repository only, and the submodule public. Or it has moved: redirects are only followed
                # without a token.
                submodule.token = False
            else:
                raise failure
        if passing:
            await retries.wait(passing, transient=True)
        for submodule in again:
            await remove_tree(folder / submodule.path)
        waiting = again


async def _run_jobs(
    git: Git, repository: Repository, folder: Path, submodules: Sequence[_Submodule]
) -> list[tuple[Exit, str]]:
    """Fetch some submodules in parallel, in one command of the sandbox; return the exit and the output of each."""
    jobs = []
    for number, submodule in enumerate(submodules):
        target = f"{folder.name}/{submodule.path}"
        steps = commands(submodule.url, submodule.commit, target, shallow=submodule.shallow)
        script = " && ".join(shlex.join(["git", *step]) for step in steps)
        without = "" if submodule.token else "GIT_CONFIG_COUNT=0; "
        jobs.append(f"{without}{{ {script}; echo exit $?; }} 2>&1 | sed -u 's/^/{number} /'")
    outputs = [bytearray() for _ in jobs]
    rest = b""

    def listen(stream: Literal["stdout", "stderr"], data: bytes) -> None:
        nonlocal rest
        *lines, rest = (rest + data).split(b"\n")
        rest = rest[:MAX_OUTPUT_BYTES]  # its start, which has the number
        for line in lines:
            number, text = (*line.split(b" ", 1), b"")[:2]
            # Output without a number comes from the shell.
            if re.fullmatch(rb"[0-9]{1,3}", number) and int(number) < len(outputs):
                outputs[int(number)] += text + b"\n"
                del outputs[int(number)][:-MAX_OUTPUT_BYTES]
            if not text.startswith(b"exit "):
                git.output(stream, (text or line) + b"\n")

    variables = {"GIT_ALLOW_PROTOCOL": f"https:{repository.scheme}"}
    whole, _, _ = await git(*jobs, program=_RUN_JOBS, listen=listen, variables=variables)
    results = []
    for text in outputs:
        code = re.search(rb"^exit ([0-9]{1,3})\n\Z", bytes(text), re.MULTILINE)
        ended = whole if whole.failed or not code else Exit(int(code[1]), whole.out_of_memory, whole.left_behind)
        # A job that did not finish has failed, whatever the others did.
        results.append((ended if code or ended.failed else Exit(1, None), text.decode(errors="replace")))
    return results


async def _explain(submodule: _Submodule, repository: Repository, text: str, ended: Exit) -> tuple[BuildFailed, bool]:
    sent = submodule.token and repository.password is not None
    shown = submodule.shown
    failure, transient, known = await explain(shown, submodule.commit, text, ended, token=sent)
    source = "" if shown in failure.reason else f" from {shown}"
    reason = f"{failure.reason[0].lower()}{failure.reason[1:]}"
    hint = failure.hint
    if known and known.of_settings:
        host = urlsplit(repository.url).hostname
        hint = "Check its address in .gitmodules, and that its commit was pushed."
        if host:
            hint += f" A private submodule must be on {host}, and GIT_TOKEN must be able to read it."
    return BuildFailed(
        "clone",
        f"The submodule {_shown(submodule.path)} cannot be fetched{source}: {reason}",
        f"{hint or ''} {_OFF}".strip(),
        kind="submodule-unreachable",
    ), transient
