"""What git says when something is wrong, and what that means."""

from __future__ import annotations

import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import urlsplit

import anyio

from buildrunner.errors import BuildFailed
from buildrunner.sandbox.command import Exit


@dataclass(frozen=True, slots=True)
class Trouble:
    """What git says (or the curl or ssh below it) when something is wrong, and what that means."""

    said: str  # a regular expression
    reason: str  # {host}, {url} and {ref} are filled in
    hint: str
    transient: bool = False  # trying again may help
    of_settings: bool = False  # the hint is about variables of REPO_URL, and thus none for a submodule
    kind: str = "clone-failed"  # stable id


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
        kind="disk-full",
    ),
    Trouble(
        r"Remote branch .* not found|couldn't find remote ref|not our ref|unadvertised object|want \S+ not valid"
        r"|reference is not a tree|non-commit",
        "The repository has no branch, tag or commit {ref!r}.",
        "Look at the spelling of REPO_REF, and whether it was pushed.",
        of_settings=True,
        kind="ref-missing",
    ),
    Trouble(
        r"invalid path|would be overwritten by merge|unable to checkout",
        "The repository holds a path that git refuses to check out.",
        "Look for .git in another spelling, .. and control characters among the names of its files, and for two that differ"
        " in nothing but capitals.",
        kind="path-refused",
    ),
    Trouble(
        r"returned error: 30\d|redirects followed|Protocol \S+ (not supported|disabled)",
        "{host} redirects {url} to another address, and that is not followed.",
        "Set REPO_URL to the address that it redirects to, often the same with .git at its end: a token is sent nowhere else.",
        of_settings=True,
        kind="repository-moved",
    ),
    Trouble(
        r"SSL certificate|certificate verif|server certificate|Host key verification",
        "The certificate or key of {host} is not trusted.",
        "Check it, or install its authority.",
        kind="certificate-or-key-refused",
    ),
    Trouble(_REFUSED, *_NOT_FOUND, of_settings=True, kind="repository-not-found"),
    Trouble(
        r"returned error: (408|425|429|5\d\d)",
        "{host} is in trouble or busy: it answered with an error.",
        "Try again later; the status page of {host} may say more.",
        transient=True,
        kind="git-host-busy",
    ),
    Trouble(
        _RESOLVE + r"|Failed to connect|Couldn't connect|(Connection|Operation) (refused|timed out)"
        r"|Network is unreachable|No route to host|Temporary failure",
        *_UNREACHABLE,
        transient=True,
        kind="git-host-unreachable",
    ),
    Trouble(
        r"not found|does not appear to be a git repo|does not exist|is this a git repo|update url base|error: 4(04|10)",
        *_NOT_FOUND,
        of_settings=True,
        kind="repository-not-found",
    ),
    Trouble(
        r"Connection (reset|closed)|Empty reply|early EOF|unexpected disconnect|RPC failed|remote end hung up"
        r"|transfer closed|Recv failure|Send failure|GnuTLS recv error|SSL_ERROR_SYSCALL|SSL_read|HTTP/2 stream"
        r"|expected (packfile|flush)|Operation too slow",
        "The connection to {host} broke off.",
        "Try again later.",
        transient=True,
        kind="connection-lost",
    ),
    Trouble(r"Could not read from remote", *_NOT_FOUND, of_settings=True, kind="repository-not-found"),
)
# Dumb HTTP, and servers before version 2 of the protocol, which may give out only the ends of branches and tags.
NO_SINGLE_COMMIT = re.compile(r"dumb http transport does not support shallow|unadvertised object|want \S+ not valid")


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
        return BuildFailed("clone", f"git {ended.explanation}.", kind="git-not-started"), False, None
    trouble = next((trouble for trouble in troubles if re.search(trouble.said, text, re.IGNORECASE)), None)
    if trouble is None:
        last = next((line for line in reversed(text.splitlines()) if line.strip()), "it said nothing").strip()
        return (
            BuildFailed("clone", f"The repository {url} could not be cloned: {last}", kind="clone-failed"),
            False,
            None,
        )
    reason, hint, transient = trouble.reason, trouble.hint, trouble.transient
    if trouble.said == _REFUSED and token:
        reason = "{host} refused the token for {url}."
        hint = "Check that the token has not expired and may read this repository."
    if transient and _RESOLVE in text:
        transient = await _may_resolve(host)
    filled = [words.format(host=host, url=url, ref=ref) for words in (reason, hint)]
    return BuildFailed("clone", *filled, kind=trouble.kind), transient, trouble


async def _may_resolve(host: str) -> bool:
    """Tell a host name that does not exist, which is a wrong address, from a resolver that has no answer now."""
    try:
        await anyio.getaddrinfo(host, None)
    except socket.gaierror as error:
        return error.errno == socket.EAI_AGAIN
    except UnicodeError:  # it cannot be a host's name
        return False
    return True
