"""What differs between hosts that show statuses of commits: one record each."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal
from urllib.parse import quote, unquote, urlsplit

State = Literal["pending", "success", "failure", "error"]


@dataclass(frozen=True, slots=True)
class Host:
    """One kind of host. `{…}` in its texts are filled in."""

    title: str  # for people
    domains: Mapping[str, str]  # well-known ones → root of their API
    path: str  # below the root
    headers: Mapping[str, str]
    state: str  # fields of the body
    names: tuple[str, ...]  # fields that have the name of the status
    states: Mapping[State, str]
    has_groups: bool = False  # a repository may be deeper than owner/name
    repeated: str = ""  # in an answer: the commit has this status already


_GITHUB_STATES: Mapping[State, str] = {
    "pending": "pending",
    "success": "success",
    "failure": "failure",
    "error": "error",
}

HOSTS: Mapping[str, Host] = {
    # https://docs.github.com/en/rest/commits/statuses#create-a-commit-status
    "github": Host(
        "GitHub",
        {"github.com": "https://api.github.com"},
        "/repos/{owner}/{name}/statuses/{sha}",
        {
            "Authorization": "Bearer {token}",
            "Accept": "application/vnd.github+json",
            "X-GitHub-Api-Version": "2022-11-28",
        },
        "state",
        ("context",),
        _GITHUB_STATES,
    ),
    # https://docs.gitlab.com/api/commits/#set-commit-pipeline-status
    "gitlab": Host(
        "GitLab",
        {"gitlab.com": "https://gitlab.com/api/v4"},
        "/projects/{owner}%2F{name}/statuses/{sha}",
        {"PRIVATE-TOKEN": "{token}"},
        "state",
        ("name", "context"),  # GitLab reads either; servers that imitate it may know one
        {"pending": "pending", "success": "success", "failure": "failed", "error": "failed"},
        has_groups=True,
        repeated="Cannot transition status",
    ),
    # https://docs.gitea.com/api/, "Create a commit status"
    "gitea": Host(
        "Gitea",
        {"gitea.com": "https://gitea.com/api/v1", "codeberg.org": "https://codeberg.org/api/v1"},
        "/repos/{owner}/{name}/statuses/{sha}",
        {"Authorization": "token {token}", "Accept": "application/json"},
        "state",
        ("context",),
        _GITHUB_STATES,
    ),
}


@dataclass(frozen=True, slots=True)
class Target:
    """Where the statuses of a repository go."""

    host: Host
    root: str  # of the API
    owner: str  # quoted for a path; in GitLab with its groups
    name: str

    def url(self, commit: str) -> str:
        """Return the address that takes statuses of a commit."""
        return self.root + self.host.path.format(owner=self.owner, name=self.name, sha=commit)


def find_target(repository: str, kind: str | None, root: str | None) -> Target | str:
    """Return where the statuses of a repository go, or a sentence that says why there are none.

    The token is for one API, and the repository's address may come from strangers. So without the root of an API statuses
    go to well-known hosts alone, and only if the address is one of theirs.

    Args:
        repository: its address.
        kind: of the host; None: by the address.
        root: of the API; None: that of the well-known host.

    """
    parts = urlsplit(repository)
    domain = (parts.hostname or "").removeprefix("www.")
    kind = kind or next((kind for kind, host in HOSTS.items() if domain in host.domains), None)
    host = HOSTS[kind] if kind else None
    if host is None:
        return (
            f"No commit statuses are sent: set COMMIT_STATUS, since {domain or 'this host'} is not a well-known host."
        )
    root = root or host.domains.get(domain)
    if root is None:
        return (
            f"No commit statuses are sent: set COMMIT_STATUS_URL, since {domain or 'this host'} is not {host.title}'s."
        )
    words = [] if parts.scheme == "file" else [unquote(word) for word in parts.path.split("/") if word]
    if len(words) < 2 or {".", ".."} & set(words):
        return "No commit statuses are sent: the path of REPO_URL is not owner/name."
    *owner, name = words
    quoted = [quote(word, safe="") for word in (owner if host.has_groups else owner[-1:])]
    return Target(host, root, "%2F".join(quoted), quote(name.removesuffix(".git"), safe=""))
