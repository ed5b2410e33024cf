"""Test the URL that a submodule is fetched from, for any content of .gitmodules."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.checkout import lfs, submodules
from buildrunner.checkout.git import Git
from buildrunner.checkout.git_errors import explain
from buildrunner.checkout.index import Tree, read_tree
from buildrunner.checkout.submodules import fetch_submodules, find_address, without_user
from buildrunner.config.addresses import Repository
from buildrunner.errors import BuildFailed
from buildrunner.sandbox.command import Exit

HTTPS = Repository("https://git.example.org:8443/team/app.git", "https", None, None, None)
SSH = Repository("ssh://git@git.example.org/team/app.git", "ssh", None, None, None)
FILE = Repository("file:///home/me/app", "file", None, None, None)
HTTP = Repository("http://git.example.org/team/app", "http", None, None, None)


@pytest.mark.parametrize(
    ("repository", "url", "address"),
    [
        (HTTPS, "https://github.com/owner/name.git", "https://github.com/owner/name.git"),
        (HTTPS, "https://me@github.com/owner/name", "https://me@github.com/owner/name"),
        # Relative to the repository (git-submodule(1)), and never to another host.
        (HTTPS, "../theme.git", "https://git.example.org:8443/team/theme.git"),
        (HTTPS, "./part", "https://git.example.org:8443/team/app.git/part"),
        (HTTPS, "../../other/theme", "https://git.example.org:8443/other/theme"),
        (HTTPS, "../../../../evil.example/x", "https://git.example.org:8443/evil.example/x"),
        (FILE, "../theme", "file:///home/me/theme"),
        (SSH, "../theme", "ssh://git@git.example.org/team/theme"),
        # What takes a key, or is gone from most hosts.
        (HTTPS, "git@github.com:owner/name.git", "https://github.com/owner/name.git"),
        (HTTPS, "github.com:owner/name.git", "https://github.com/owner/name.git"),
        (HTTPS, "ssh://git@github.com/owner/name.git", "https://github.com/owner/name.git"),
        (HTTPS, "ssh://git@github.com:22/owner/name.git", "https://github.com/owner/name.git"),
        (HTTPS, "git://github.com/owner/name.git", "https://github.com/owner/name.git"),
        (HTTPS, "http://github.com/owner/name.git", "https://github.com/owner/name.git"),
        (FILE, "git@github.com:owner/name.git", "https://github.com/owner/name.git"),
        (HTTP, "http://other.example:8080/name", "http://other.example:8080/name"),
        (HTTP, "https://github.com/owner/name", "https://github.com/owner/name"),
        # The repository's own host is where the repository came from.
        (HTTPS, "git@git.example.org:team/theme.git", "https://git.example.org:8443/team/theme.git"),
        (HTTP, "git@Git.example.org:/team/theme.git", "http://git.example.org/team/theme.git"),
        # With keys at hand.
        (SSH, "git@github.com:owner/name.git", "git@github.com:owner/name.git"),
        (SSH, "ssh://git@github.com/owner/name.git", "ssh://git@github.com/owner/name.git"),
        (SSH, "git://github.com/owner/name.git", "https://github.com/owner/name.git"),
        (FILE, "/srv/git/theme", "/srv/git/theme"),
        (FILE, "file:///srv/git/theme", "file:///srv/git/theme"),
        # Nothing else.
        (HTTPS, "", None),
        (HTTPS, "/srv/git/theme", None),
        (HTTPS, "file:///etc", None),
        (HTTPS, "ext::sh -c touch% x", None),
        (HTTPS, "ext::touch", None),
        (HTTPS, "https::ext::touch", None),
        (HTTPS, "fd::0/x", None),
        (HTTPS, "--upload-pack=touch", None),
        (HTTPS, "-u./x", None),
        (HTTPS, "ssh://-oProxyCommand=touch/x", None),
        (SSH, "ssh://-oProxyCommand=touch/x", None),
        (SSH, "-oProxyCommand=touch:x", None),
        (HTTPS, "https://-x/y", None),
        (HTTPS, "https://", None),
        (HTTPS, "https://host:port/x", None),
        (HTTPS, "ftp://github.com/owner/name", None),
        (HTTPS, "http://other.example:8080/name", None),
        (HTTPS, "https://github.com/a\nb", None),
        (HTTP, "http://127.0.0.1:EVIL#@github.com/owner/name", None),
        (HTTP, "http://127.0.0.1:80#@github.com/owner/name", None),
        (HTTPS, "https://evil.example?@github.com/owner/name", None),
        (HTTPS, "https://github.com@x@evil.example/owner/name", None),
        (HTTPS, "https://github.com/owner/name?a=b", None),
        (HTTPS, "C:\\repositories\\theme", None),
        (HTTPS, "theme", None),
        (HTTPS, "https://github.com/" + "a" * 3000, None),
    ],
)
def test_a_submodule_comes_by_https_or_as_its_repository_does(
    repository: Repository, url: str, address: str | None
) -> None:
    assert find_address(url, repository.url, repository) == address


@given(
    st.sampled_from([HTTPS, SSH, FILE, HTTP]),
    st.lists(
        st.sampled_from(["https", "http", "ssh", "file", "ext", "git", ":", "::", "//", "/", "..", ".", "@", "-", "x"])
        | st.text(max_size=3)
    ).map("".join),
)
def test_no_address_is_an_option_a_helper_or_of_another_scheme(repository: Repository, url: str) -> None:
    address = find_address(url, repository.url, repository)

    if address is not None and re.match(r"\w+://", address):
        parts = urlsplit(address)
        assert parts.scheme in {"https", repository.scheme}
        assert "::" not in address.split("//")[0]
        assert not (parts.hostname or "").startswith("-")
    elif address is not None:
        assert (repository is FILE and address.startswith("/")) or (repository is SSH and not address.startswith("-"))


@given(
    st.sampled_from([HTTPS, SSH, FILE, HTTP]),
    st.sampled_from(["https://", "http://", "ssh://", ""]),
    st.lists(st.sampled_from(["a.example", "b.example", ":", "@", "/", "#", "?", "%2f", "80", "x", "[", "]"])).map(
        "".join
    ),
)
def test_the_host_that_is_shown_is_the_one_that_is_asked(repository: Repository, scheme: str, rest: str) -> None:
    address = find_address(scheme + rest, repository.url, repository)

    if address is not None and re.match(r"\w+://", address):
        assert urlsplit(without_user(address)).hostname == urlsplit(address).hostname
        assert address.partition("://")[2].partition("/")[0].count("@") <= 1


def run_job(said: bytes) -> tuple[Exit, str]:
    """Return what is made of the output of a job that fetches a submodule."""

    class Said:
        def output(self, stream: str, data: bytes) -> None:
            pass

        async def __call__(self, *_: str, listen: Any, **__: Any) -> tuple[Exit, str, bytes]:
            for start in range(0, len(said), 60_000):
                listen("stdout", said[start : start + 60_000])
            return Exit(0, None), "", b""

    submodule = submodules._Submodule("a", "https://github.com/a/b", "0" * 40, token=False)
    (result,) = anyio.run(submodules._run_jobs, cast(Git, Said()), HTTPS, Path("/x"), [submodule])
    return result


@pytest.mark.parametrize(
    "said", [b"1" * 200_000 + b"\n", b"\xb2 x\n", b"0 exit " + b"9" * 200_000 + b"\n", b"99999 x\n"]
)
def test_whatever_a_server_says_a_job_fails_in_words(said: bytes) -> None:
    assert run_job(said + b"0 exit 128\n")[0].code == 128


def test_a_job_that_was_killed_has_no_exit_code_of_the_server() -> None:
    assert run_job(b"0 exit " + b"9" * 5000 + b"\n")[0].code == 1


def test_a_line_without_end_belongs_to_its_job() -> None:
    assert "x" * 1000 in run_job(b"0 " + b"x" * 200_000 + b"\n0 exit 128\n")[1]


def test_submodules_and_lfs_are_read_from_the_index(tmp_path: Path) -> None:
    def git(*arguments: str) -> str:
        command = ["git", "-c", "user.name=x", "-c", "user.email=x@example.org", *arguments]
        return subprocess.run(command, cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()

    for object_format in ("sha1", "sha256"):
        folder = tmp_path / object_format
        git("init", "-q", f"--object-format={object_format}", object_format)
        inside = ("-C", object_format)
        assert read_tree(folder, "0" * (40 if object_format == "sha1" else 64)).submodules == {}
        for length in range(1, 20):  # entries are padded to eight bytes
            (folder / ("f" * length)).write_text(str(length))
        git(*inside, "add", "-A")
        git(*inside, "commit", "-q", "-m", "1")
        commit = git(*inside, "rev-parse", "HEAD")
        assert (read_tree(folder, commit).submodules, read_tree(folder, commit).names_lfs) == ({}, False)

        (folder / "a ä").mkdir()
        (folder / "a ä" / ".gitattributes").write_text("*.psd filter=lfs\n")
        (folder / ".gitattributes").symlink_to("/etc/passwd")
        git(*inside, "update-index", "--add", "--cacheinfo", f"160000,{commit},zz/part")
        git(*inside, "add", "-A", "--", "a ä", ".gitattributes")
        found = read_tree(folder, commit)
        assert (found.submodules, found.names_lfs) == ({"zz/part": commit}, True)

        (folder / "a ä" / ".gitattributes").write_text("*.psd binary\n")
        assert not read_tree(folder, commit).names_lfs


@pytest.mark.parametrize(
    ("links", "is_link"),
    [({"a/b": "1" * 40}, True), ({"a": "1" * 40, "a/b": "1" * 40}, False)],
)
def test_nothing_is_fetched_behind_a_link_or_into_a_submodule(
    tmp_path: Path, links: Mapping[str, str], is_link: bool
) -> None:
    class Answers(Git):
        def __init__(self) -> None:
            pass

        async def __call__(self, *arguments: str, **_: object) -> tuple[Exit, str, bytes]:
            assert "config" in arguments  # nothing is fetched
            lines = (f"submodule.{path}.path\n{path}\0submodule.{path}.url\nhttps://x.example/y" for path in links)
            return Exit(0, None), "", "\0".join(lines).encode() + b"\0"

    checkout = tmp_path.resolve() / "repository"
    (checkout / "home").mkdir(parents=True)
    if is_link:
        (checkout / "a").symlink_to("home")

    with pytest.raises(BuildFailed, match="a/b is behind a link or inside another submodule"):
        anyio.run(fetch_submodules, Answers(), HTTPS, checkout, Tree(links, False), print)


@pytest.mark.parametrize(
    ("said", "reason", "transient"),
    [  # of git-lfs 3.3 and 3.6
        ("[0a] Object does not exist: [404] Object does not exist", "does not have all files", False),
        ("batch response: Not found.", "does not have all files", False),
        ("batch response: This repository exceeded its LFS budget. The account", "quota exceeded", False),
        ("batch response: This repository is over its data quota.", "quota exceeded", False),
        ("batch response: Git credentials for https://x/a not found.", "refused access", False),
        ("batch response: Authentication required: Authorization error: https://x/a", "refused access", False),
        ("batch response: LFS: rate limit exceeded", "temporarily", True),
        ("batch response: Fatal error: down", "temporarily", True),
        ('batch response: Post "http://x/": dial tcp 127.0.0.1:1: connect: connection refused', "temporarily", True),
        ('Post "https://x/": net/http: request canceled (Client.Timeout exceeded)', "temporarily", True),
        ("expected OID 2c, got 04 after 5 bytes written", "temporarily", True),
        ('Post "https://x/": x509: certificate signed by unknown authority', "is not trusted", False),
        ("write .git/lfs/tmp/1: no space left on device", "do not fit", False),
    ],
)
def test_errors_of_git_lfs_are_explained(said: str, reason: str, transient: bool) -> None:
    text = f"{said}\nFailed to fetch some objects from 'https://x.example/a.git/info/lfs'\n"

    async def told() -> tuple[BuildFailed, bool, object]:
        return await explain("https://x.example/a", None, text, Exit(2, None), token=False, patterns=lfs._PATTERNS)

    failure, is_transient, _ = anyio.run(told)

    assert reason in failure.reason
    assert failure.hint
    assert is_transient == transient
