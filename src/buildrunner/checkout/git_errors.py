"""Explain known errors of git to people."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio
import anyio.lowlevel

from buildrunner.errors import BuildFailed
from buildrunner.sandbox.command import Exit


@dataclass(frozen=True, slots=True)
class GitErrorPattern:
    """A message of git (or of the curl or ssh below it) and its explanation."""

    pattern: str  # regular expression
    reason: str  # may contain {host}, {url} and {ref}
    hint: str
    transient: bool = False  # whether a retry may help
    of_settings: bool = False  # whether the hint is about REPO_URL's variables, and so useless for a submodule
    kind: str = "clone-failed"  # stable id


_NOT_FOUND = (
    "The repository {url} was not found, or it is private.",
    "Check the address. For a private repository, set GIT_TOKEN to a token that can read it.",
)
_UNREACHABLE = ("The host {host} cannot be reached.", "Check the address, and the network of the machine that builds.")
_REFUSED = (
    r"Authentication failed|could not read (Username|Password)|returned error: 40[13]|invalid credentials|Access denied"
    r"|Permission denied|HTTP Basic"
)
_RESOLVE = "Could not resolve host"
# The first match counts.
_PATTERNS = (
    GitErrorPattern(
        r"No space left on device|Disk quota exceeded",
        "The repository does not fit on the disk of the machine that builds.",
        "Give the build more disk space.",
        kind="disk-full",
    ),
    GitErrorPattern(
        r"Remote branch [^ \n]+ not found|couldn't find remote ref|not our ref|unadvertised object|want \S+ not valid"
        r"|reference is not a tree|non-commit",
        "The repository has no branch, tag or commit {ref!r}.",
        "Check the spelling of REPO_REF, and that it was pushed.",
        of_settings=True,
        kind="ref-missing",
    ),
    GitErrorPattern(
        r"invalid path|would be overwritten by merge|unable to checkout",
        "The repository contains a path that git refuses to check out.",
        "Look for .git in another spelling, .. and control characters among the names of its files, and for two that differ"
        " in nothing but capitals.",
        kind="path-refused",
    ),
    GitErrorPattern(
        r"returned error: 30\d|redirects followed|Protocol \S+ (not supported|disabled)",
        "{host} redirects {url} to another address. Redirects are not followed.",
        "Set REPO_URL to the address that it redirects to, often the same with .git at the end.",
        of_settings=True,
        kind="repository-moved",
    ),
    GitErrorPattern(
        r"SSL certificate|certificate verif|server certificate|Host key verification",
        "The certificate or key of {host} is not trusted.",
        "Check it, or install the certificate of its authority.",
        kind="certificate-or-key-refused",
    ),
    GitErrorPattern(_REFUSED, *_NOT_FOUND, of_settings=True, kind="repository-not-found"),
    GitErrorPattern(
        r"returned error: (408|425|429|5\d\d)",
        "{host} returned a temporary error.",
        "Try again later, and check the status page of {host}.",
        transient=True,
        kind="git-host-busy",
    ),
    GitErrorPattern(
        _RESOLVE + r"|Failed to connect|Couldn't connect|(Connection|Operation) (refused|timed out)"
        r"|Network is unreachable|No route to host|Temporary failure",
        *_UNREACHABLE,
        transient=True,
        kind="git-host-unreachable",
    ),
    GitErrorPattern(
        r"not found|does not appear to be a git repo|does not exist|is this a git repo|update url base|error: 4(04|10)",
        *_NOT_FOUND,
        of_settings=True,
        kind="repository-not-found",
    ),
    GitErrorPattern(
        r"Connection (reset|closed)|Empty reply|early EOF|unexpected disconnect|RPC failed|remote end hung up"
        r"|transfer closed|Recv failure|Send failure|GnuTLS recv error|SSL_ERROR_SYSCALL|SSL_read|HTTP/2 stream"
        r"|expected (packfile|flush)|Operation too slow",
        "The connection to {host} was lost.",
        "Try again later.",
        transient=True,
        kind="connection-lost",
    ),
    GitErrorPattern(r"Could not read from remote", *_NOT_FOUND, of_settings=True, kind="repository-not-found"),
)
# Dumb HTTP, and servers before protocol version 2, which may serve only the tips of branches and tags.
NO_SINGLE_COMMIT = re.compile(r"dumb http transport does not support shallow|unadvertised object|want \S+ not valid")


async def explain(
    url: str,
    ref: str | None,
    text: str,
    ended: Exit,
    *,
    token: bool,
    patterns: Sequence[GitErrorPattern] = _PATTERNS,
) -> tuple[BuildFailed, bool, GitErrorPattern | None]:
    """Explain to users or operators of the platform why git failed, and decide whether a retry may help.

    Args:
        url: address of the repository, without user info.
        ref: requested ref.
        text: output of git.
        ended: exit of git.
        token: whether a token was sent.
        patterns: known errors; the third part of the result is the one that matched.

    """
    await anyio.lowlevel.checkpoint()  # the caller may explain hundreds of outputs, each of which takes 0.1 s
    host = urlsplit(url).hostname or "the server"
    if ended.left_behind or ended.out_of_memory or ended.code > 129:  # git's own codes are 1, 128 and 129
        return BuildFailed("clone", f"git {ended.explanation}.", kind="git-not-started"), False, None
    known = next((each for each in patterns if re.search(each.pattern, text, re.IGNORECASE)), None)
    if known is None:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing").strip()
        return (
            BuildFailed("clone", f"The repository {url} could not be cloned: {last}", kind="clone-failed"),
            False,
            None,
        )
    reason, hint, transient = known.reason, known.hint, known.transient
    if known.pattern == _REFUSED and token:
        reason = "{host} refused the token for {url}."
        hint = "Check that the token has not expired and may read this repository."
    if transient and _RESOLVE in text:
        transient = await _may_resolve(host)
    filled = [words.format(host=host, url=url, ref=ref) for words in (reason, hint)]
    return BuildFailed("clone", *filled, kind=known.kind), transient, known


async def _may_resolve(host: str) -> bool:
    """Return whether a host name may exist: its resolver has no answer at present, or has an address by now."""
    try:
        await anyio.getaddrinfo(host, None)
    except socket.gaierror as error:
        return error.errno == socket.EAI_AGAIN
    except UnicodeError:  # not a valid host name
        return False
    return True
