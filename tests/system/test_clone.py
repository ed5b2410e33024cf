"""The clone, seen from outside: real git against a real git server, with everything that can stand between the two."""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from support.git_server import GitServer, git_server
from support.harness import Program, Repositories, Run, free_port

TOKEN = "ghp_Zk3vT9qLw71xNnB40sYcUe82"
ENCODED = (base64.b64encode(TOKEN.encode()).decode(), base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode())
# What a build sees of its clone; it needs neither npm nor a package.json.
LOOK = "git log --format='head %H'; env | grep ^COMMIT_; mkdir dist; cp page dist/index.html"


@dataclass(frozen=True)
class History:
    """A repository with three commits on main and one beside it; each has a file `page` with its name."""

    path: Path
    older: str  # has no name
    tagged: str
    tip: str
    branch: str  # of feature/a.b/c, and of the branch `both`


@pytest.fixture(scope="module")
def history(repositories: Repositories) -> History:
    path = repositories.make({"page": "older"})
    older = repositories.git(path, "rev-parse", "HEAD")
    tagged = repositories.commit(path, {"page": "tagged"})
    repositories.git(path, "tag", "light")
    repositories.git(path, "tag", "-a", "annotated", "-m", "a tag")
    repositories.git(path, "tag", "both")
    tip = repositories.commit(path, {"page": "tip"})
    repositories.git(path, "switch", "-q", "-c", "feature/a.b/c")
    branch = repositories.commit(path, {"page": "branch"})
    repositories.git(path, "branch", "both", branch)
    repositories.git(path, "switch", "-q", "main")
    repositories.git(path, "update-server-info")
    return History(path, older, tagged, tip, branch)


@pytest.fixture(scope="module")
def server(open_folder: Path) -> Iterator[GitServer]:
    """A server without faults; what it was asked is that of all tests."""
    with git_server(open_folder) as running:
        yield running


def build(program: Program, url: str | Path, command: str = LOOK, **options: Any) -> Run:
    return program.run(url, **{"INSTALL_COMMAND": "true", "BUILD_COMMAND": command, **options})


def retries(run: Run) -> list[str]:
    return [event["log"] for event in run.events if "Retrying in" in event.get("log", "")]


def seen(program: Program, run: Run) -> str:
    """Everything that has left the process."""
    return "\n".join([run.stdout, run.stderr, str(run.events), *run.messages, str(program.archive(run))])


def command_lines() -> str:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            with suppress(OSError):
                found.append(Path("/proc", name, "cmdline").read_bytes().decode(errors="replace").replace("\0", " "))
    return "\n".join(found)


# --- what is checked out ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ref", "commit"),
    [
        (None, "tip"),
        ("feature/a.b/c", "branch"),
        ("light", "tagged"),
        ("annotated", "tagged"),
        ("both", "branch"),
        ("refs/tags/both", "tagged"),
        ("id of the tip", "tip"),
        ("id of an older commit", "older"),
    ],
)
def test_one_commit_is_checked_out_whatever_names_it(
    program: Program, server: GitServer, history: History, ref: str | None, commit: str
) -> None:
    expected = getattr(history, commit)
    ref = expected if ref and ref.startswith("id of") else ref

    run = build(program, server.url(history.path), REPO_REF=ref)

    assert run.code == 0, run.stdout
    assert run.result["commit"] == expected
    assert [line for line in run.lines if line.startswith("head ")] == [f"head {expected}"]
    assert {f"COMMIT_SHA={expected}", f"COMMIT_REF={ref or 'main'}"} <= set(run.lines)
    assert program.objects(run.slug)["index.html"]["body"] == commit.encode()


@pytest.mark.parametrize(
    ("kind", "ref", "whole"),
    [
        ("old", "tip", False),
        ("old", "older", True),
        ("dumb", None, True),
        ("dumb", "older", True),
    ],
)
def test_a_server_without_single_commits_sends_its_history(
    program: Program, open_folder: Path, history: History, kind: str, ref: str | None, whole: bool
) -> None:
    expected = history.older if ref == "older" else history.tip

    with git_server(open_folder, dumb=kind == "dumb", old=kind == "old") as limited:
        run = build(program, limited.url(history.path), REPO_REF=expected if ref else None)

    assert run.code == 0, run.stdout
    assert run.result["commit"] == expected
    assert f"head {expected}" in run.lines
    assert run.said("fetching the whole history") == whole


def test_a_sha256_repository_is_built_by_its_commit_id(
    program: Program, repositories: Repositories, open_folder: Path
) -> None:
    path = open_folder / "newer-object-format"
    path.mkdir()
    repositories.git(path, "init", "-q", "-b", "main", "--object-format=sha256")
    commit = repositories.commit(path, {"page": "1"})

    run = build(program, path, REPO_REF=commit)

    assert run.code == 0, run.stdout
    assert len(run.result["commit"]) == 64
    assert run.result["commit"] == commit


@pytest.mark.skipif(os.geteuid() != 0, reason="only root reads folders that the build's user cannot enter")
def test_a_closed_repository_of_root_is_built_and_no_copy_stays(
    program: Program, repositories: Repositories, tmp_path: Path
) -> None:
    closed = tmp_path / "a%b c"
    closed.mkdir(mode=0o700)
    path = Repositories(closed).make({"page": "1"})
    repositories.commit(path, {"page": "2"})

    run = build(program, f"file://{tmp_path}/a%25b%20c/{path.name}", f"ls -A ..; {LOOK}")

    assert run.code == 0, run.stdout
    assert len([line for line in run.lines if line.startswith("head ")]) == 1
    assert "repository" in run.lines
    assert "source" not in run.lines


# --- submodules -------------------------------------------------------------------------------------------------


def add_submodule(repositories: Repositories, path: Path, place: str, url: str | None, commit: str) -> None:
    """Commit a submodule without fetching it; without `url` as people do by mistake, who add a clone like a folder."""
    repositories.git(path, "update-index", "--add", "--cacheinfo", f"160000,{commit},{place}")
    if url:
        with (path / ".gitmodules").open("a") as file:
            file.write(
                f'[submodule "{place}"]\n\tpath = {place}\n\turl = {url}\n\tupdate = checkout\n\tbranch = none\n'
            )
        repositories.git(path, "add", ".gitmodules")
    repositories.git(path, "commit", "-q", "-m", "a submodule")


def test_submodules_of_every_kind_get_the_token_on_its_host_only(
    program: Program, repositories: Repositories, history: History, open_folder: Path
) -> None:
    look = (
        'for part in one two/three \'f öur\' five; do echo "$part: $(cat "$part/page") $(git -C "$part" rev-parse HEAD)"; done;'
        ' echo "$(cat one/inner/page) and $(ls -A empty | wc -l)"; git submodule update --init -- one two/three;'
        " git status --short; cp one/page page; " + LOOK
    )
    open_to_all = repositories.make({"page": "open"})
    inner = repositories.make({"page": "inner"})
    with (
        git_server(open_folder, old=True) as other,
        git_server(open_folder, password=TOKEN) as asked,
    ):
        asked.refuses_tokens_for = open_to_all.name
        outer = repositories.make({"page": "outer"})
        add_submodule(repositories, outer, "inner", f"../{inner.name}", repositories.git(inner, "rev-parse", "HEAD"))
        outer_tip = repositories.git(outer, "rev-parse", "HEAD")
        path = repositories.make({"nothing": ""})
        # Relative, with a submodule of its own; a key's address of the own host, and a commit that is no branch's end; one of
        # another host, which gives no commit by its id; one of the own host, that all may read but those who show this token.
        add_submodule(repositories, path, "one", f"../{outer.name}", outer_tip)
        add_submodule(repositories, path, "two/three", f"git@127.0.0.1:{history.path.name}", history.older)
        add_submodule(repositories, path, "f öur", other.url(history.path), history.older)
        add_submodule(
            repositories, path, "five", asked.url(open_to_all), repositories.git(open_to_all, "rev-parse", "HEAD")
        )
        add_submodule(repositories, path, "empty", None, history.tip)

        run = build(program, asked.url(path), look, GIT_TOKEN=TOKEN)

        assert run.code == 0, run.stdout
        assert {f"one: outer {outer_tip}", f"two/three: older {history.older}", f"f öur: older {history.older}"} <= set(
            run.lines
        )
        assert "inner and 0" in run.lines
        assert not [line for line in run.lines if line.startswith((" M", "??", "Cloning into '/"))]
        assert any(line.startswith("five: open ") for line in run.lines)
        assert run.said("empty is recorded as a submodule, but .gitmodules has no address for it")
        assert asked.authorizations() == {f"Basic {ENCODED[1]}"}
        assert other.requests
        assert other.authorizations() == set()
        for secret in (TOKEN, *ENCODED):
            assert secret not in seen(program, run)


def test_a_submodule_that_cannot_be_fetched_is_named_or_skipped(
    program: Program, repositories: Repositories, history: History, open_folder: Path
) -> None:
    with git_server(open_folder) as asked:
        gone = repositories.make({"page": "1"})
        address = f"http://someone:pass-word-1@127.0.0.1:{asked.port}/gone.git"
        add_submodule(repositories, gone, "themes/gone", address, history.tip)
        failed = build(program, asked.url(gone))
        requests = len(asked.requests)
        without = build(program, asked.url(gone), f"ls -A themes/gone | wc -l; {LOOK}", GIT_SUBMODULES="off")

    assert (failed.code, failed.result["stage"]) == (20, "clone")
    assert failed.result["reason"] == (
        "The submodule themes/gone cannot be fetched: the repository"
        f" http://127.0.0.1:{asked.port}/gone.git was not found, or it is private."
    )
    assert "GIT_SUBMODULES=off" in failed.result["hint"]
    assert ".gitmodules" in failed.result["hint"]
    assert "pass-word-1" not in seen(program, failed)
    assert without.code == 0, without.stdout
    assert "0" in without.lines
    assert without.said("1 submodule is left empty (GIT_SUBMODULES=off).")
    assert not [path for _, path, _ in asked.requests[requests:] if "/gone" in path]


# --- Git LFS ----------------------------------------------------------------------------------------------------

ASKS = (
    "mkdir dist; { git log --format=%s; git log --format=%s -- page; git describe --tags; git rev-list --count HEAD; }"
    " >dist/index.html 2>&1"
)


@pytest.fixture(scope="module")
def long_history(repositories: Repositories) -> Path:
    files: dict[str, str | bytes] = {
        "page": "older",
        "large": os.urandom(300_000),
        "package.json": '{"devDependencies": {"git-describe": "4"}}',
    }
    path = repositories.make({"other": "x"})
    repositories.commit(path, files, "older")
    repositories.commit(path, {"page": "tagged", "large": os.urandom(300_000)}, "tagged")
    repositories.git(path, "tag", "-a", "v1.2.0", "-m", "a release")
    repositories.commit(path, {"page": "tip", "large": "none"}, "tip")
    repositories.git(path, "config", "uploadpack.allowFilter", "true")
    return path


@pytest.mark.parametrize("filters", [True, False])
def test_history_and_tags_are_there_for_what_asks_git(
    filters: bool, program: Program, long_history: Path, server: GitServer, repositories: Repositories
) -> None:
    """The server asks for a token, which the build does not have: nothing that it asks of git is fetched then."""
    repositories.git(long_history, "config", "uploadpack.allowFilter", str(filters).lower())
    with git_server(server.folder, password=TOKEN) as private:
        size = "git count-objects -v | sed -n 's/size-pack: //p' >dist/size; git config --get-regexp 'promisor|partial' || true"
        run = build(program, private.url(long_history), f"{ASKS}; {size}", GIT_TOKEN=TOKEN)

    page = program.objects(run.slug)["index.html"]["body"].decode()
    assert run.code == 0, run.stdout
    assert run.said("'git-describe' needs the git history")
    described = page.splitlines()[-2]
    assert described.startswith("v1.2.0-1-g")
    assert page.splitlines()[:3] == ["tip", "tagged", "older"]
    assert page.splitlines()[-1] == "4"
    assert "fatal" not in page
    assert (int(program.objects(run.slug)["size"]["body"]) < 100) == filters, "old contents were fetched"
    assert not any("promisor" in line for line in run.lines)


def test_one_commit_is_cloned_where_nothing_asks_for_more(
    program: Program, long_history: Path, history: History, repositories: Repositories
) -> None:
    command = "mkdir dist; git rev-list --count HEAD >dist/index.html"
    off = repositories.make({"docs/.vitepress/config.mts": "export default { themeConfig: { lastUpdated: false } }"})
    repositories.commit(off, {"page": "tip"})
    none = build(program, long_history, command, GIT_HISTORY="none")
    auto = build(program, history.path, command)
    turned_off = build(program, off, command)
    full = build(program, history.path, command, GIT_HISTORY="full")

    counts = [int(program.objects(run.slug)["index.html"]["body"]) for run in (none, auto, turned_off, full)]
    assert counts == [1, 1, 1, 3]


@pytest.mark.parametrize("name", ["\u3000", "\u00a0", "a\u3000", "\u2028b"])
def test_a_branch_may_be_named_by_a_space_of_unicodes(name: str, program: Program, repositories: Repositories) -> None:
    path = repositories.make({"page": "one"})
    repositories.git(path, "branch", "-m", name)
    run = build(program, path, LOOK)
    named = build(program, path, LOOK, REPO_REF=name)

    assert (run.code, named.code) == (0, 0), run.stdout + named.stdout


def test_a_gitmodules_file_that_is_too_large_is_named(
    program: Program, repositories: Repositories, history: History
) -> None:
    path = repositories.make({"page": "x", ".gitmodules": '[submodule "a"]\n\tpath = a\n\turl = ../b\n' * 40_000})
    repositories.git(path, "update-index", "--add", "--cacheinfo", f"160000,{history.tip},a")
    repositories.git(path, "commit", "-q", "-m", "submodule")
    run = build(program, path, LOOK)

    assert run.code == 20, run.stdout
    assert run.result["reason"] == ".gitmodules is larger than 1 MiB."


def test_lfs_pointers_without_attributes_are_named_in_a_warning(program: Program, repositories: Repositories) -> None:
    path = repositories.make({"page": "x", "img/a.png": POINTER, "b.png": POINTER})
    run = build(program, path, LOOK)

    (warning,) = [event["log"] for event in run.events if event.get("level") == "warning"]
    assert warning.startswith("b.png is a pointer of Git LFS, and so are 1 more files: no .gitattributes names it")


PICTURE = b"\x89PNG " * 1000
OID = hashlib.sha256(PICTURE).hexdigest()
POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{OID}\nsize {len(PICTURE)}\n"
needs_lfs = pytest.mark.skipif(not shutil.which("git-lfs"), reason="git-lfs is not installed")


@needs_lfs
def test_lfs_files_replace_pointers_and_other_hosts_get_no_token(
    program: Program, repositories: Repositories, open_folder: Path
) -> None:
    attributes = "*.png filter=lfs diff=lfs merge=lfs -text\n"
    part = repositories.make({"a.png": POINTER, ".gitattributes": attributes})
    path = repositories.make({"page": "1", "pictures/b c.png": POINTER, "pictures/.gitattributes": attributes})
    add_submodule(repositories, path, "part", f"../{part.name}", repositories.git(part, "rev-parse", "HEAD"))
    look = f"sha256sum part/a.png 'pictures/b c.png'; grep -rlE '{TOKEN[:12]}|{ENCODED[1][:20]}' .. | sed 's/^/in: /'; {LOOK}"

    with git_server(open_folder) as storage, git_server(open_folder, password=TOKEN) as asked:
        asked.lfs, asked.lfs_storage, storage.lfs = {OID: b""}, storage.origin, {OID: PICTURE}
        asked.troubles_of_lfs = [503]
        run = build(program, asked.url(path), look, GIT_TOKEN=TOKEN)

    assert run.code == 0, run.stdout
    assert len([line for line in run.lines if line.startswith(OID)]) == 2
    assert len(retries(run)) == 1
    assert not [line for line in run.lines if line.startswith("in: ")]
    assert asked.authorizations() == {f"Basic {ENCODED[1]}"}
    assert len(storage.requests) == 2
    assert storage.authorizations() == set()
    for secret in (TOKEN, *ENCODED):
        assert secret not in seen(program, run)


@needs_lfs
def test_an_exhausted_lfs_quota_fails_with_a_clear_message(
    program: Program, repositories: Repositories, open_folder: Path
) -> None:
    path = repositories.make({"page": "1", "a.png": POINTER, ".gitattributes": "*.png filter=lfs\n"})

    with git_server(open_folder) as asked:
        asked.lfs_refusal = (403, "This repository exceeded its LFS budget.")
        run = build(program, asked.url(path))

    assert (run.code, run.result["stage"]) == (20, "clone")
    assert run.result["reason"] == f"Git LFS quota exceeded on 127.0.0.1 for {asked.url(path)}."
    assert "lfs.fetchexclude" in run.result["hint"]
    assert retries(run) == []


def test_without_git_lfs_pointers_stay_with_a_warning(
    program: Program, repositories: Repositories, open_folder: Path
) -> None:
    path = repositories.make({"page": "1", "a.png": POINTER, "b.png": POINTER, ".gitattributes": "*.png filter=lfs\n"})
    programs = open_folder / "programs-without-git-lfs"
    programs.mkdir()
    for folder in os.environ["PATH"].split(":"):
        for file in Path(folder).iterdir() if Path(folder).is_dir() else ():
            if file.name != "git-lfs" and not (programs / file.name).exists():
                (programs / file.name).symlink_to(file)

    run = build(program, path, f"cat a.png; {LOOK}", PATH=str(programs))

    assert run.code == 0, run.stdout
    assert f"oid sha256:{OID}" in run.lines
    assert run.said(
        "git-lfs is not installed on the machine that builds: 2 files of Git LFS (a.png, …) will be pointers."
    )


# --- the token --------------------------------------------------------------------------------------------------


def test_a_token_opens_a_private_repository_and_is_seen_nowhere(
    program: Program, repositories: Repositories, open_folder: Path
) -> None:
    look = f"cat .git/config echo.txt; grep -rl '{TOKEN[:12]}' .git ../home ../tmp; {LOOK}"
    # What the repository prints as it comes back from a server that echoes what it was sent.
    echo = "".join(f"echo {value}\n" for value in (TOKEN, *ENCODED))
    private = repositories.make({"page": "1", "echo.txt": echo})
    sampled: list[str] = []

    def sample(*_: object) -> None:
        until = time.monotonic() + 20
        while not asked.requests and time.monotonic() < until:
            sampled.append(command_lines())
        sampled.append(command_lines())  # while git waits for the answer
        hold.set()

    hold = threading.Event()
    with git_server(open_folder, password=TOKEN, hold=hold) as asked:
        run = build(program, asked.url(private), look, GIT_TOKEN=TOKEN, meanwhile=sample)

    assert run.code == 0, run.stdout
    assert asked.authorizations() == {f"Basic {ENCODED[1]}"}
    assert any(asked.origin in text for text in sampled)
    assert any(f"url = {asked.url(private)}" in line for line in run.lines)
    assert len([line for line in run.lines if line.startswith("echo ") and "[redacted]" in line]) == 3
    assert not [line for line in run.lines if line.startswith((".git", "../"))]
    for secret in (TOKEN, *ENCODED):
        assert secret not in seen(program, run)
        assert not any(secret in text for text in sampled)


def test_user_info_in_the_url_opens_a_private_repository_unseen(
    program: Program, history: History, open_folder: Path
) -> None:
    pair = base64.b64encode(b"some one:p@ss/w0rd:x").decode()

    with git_server(open_folder, password="p@ss/w0rd:x") as asked:
        address = f"http://some%20one:p%40ss%2Fw0rd:x@127.0.0.1:{asked.port}/{history.path.name}"
        run = build(program, address, f"cat .git/config; {LOOK}")

    assert run.code == 0, run.stdout
    assert asked.authorizations() == {f"Basic {pair}"}
    for secret in ("p@ss", "p%40ss", "some%20one", pair):
        assert secret not in seen(program, run)


@pytest.mark.parametrize("refusal", [401, 403])
def test_a_token_that_is_refused_is_said_to_be(
    program: Program, history: History, open_folder: Path, refusal: int
) -> None:
    with git_server(open_folder, password="another", refusal=refusal) as asked:
        run = build(program, asked.url(history.path), GIT_TOKEN=TOKEN)

    assert run.code == 20
    assert run.result["reason"] == f"127.0.0.1 refused the token for {asked.url(history.path)}."
    assert retries(run) == []
    for secret in (TOKEN, *ENCODED):
        assert secret not in seen(program, run)


def test_a_token_is_not_sent_to_where_a_redirect_leads(program: Program, history: History, open_folder: Path) -> None:
    with git_server(open_folder) as other, git_server(open_folder, redirect_to=other.origin) as asked:
        with_token = build(program, asked.url(history.path), GIT_TOKEN=TOKEN)
        sent = list(other.requests)
        without = build(program, asked.url(history.path))

    assert with_token.code == 20
    assert "redirects" in with_token.result["reason"]
    assert "REPO_URL" in with_token.result["hint"]
    assert asked.authorizations() == {f"Basic {ENCODED[1]}"}
    assert sent == []
    assert without.code == 0, without.stdout
    assert other.authorizations() == set()


def test_a_token_is_not_sent_to_the_host_of_objects(
    program: Program, repositories: Repositories, open_folder: Path
) -> None:
    whole = repositories.make({"page": "1"})
    hollow = repositories.make({"page": "2"})
    for repository in (whole, hollow):
        repositories.git(repository, "update-server-info")
    commit = repositories.git(whole, "rev-parse", "HEAD")
    (hollow / ".git" / "info" / "refs").write_text(f"{commit}\trefs/heads/main\n")

    with git_server(open_folder, dumb=True) as other, git_server(open_folder, dumb=True) as asked:
        alternates = hollow / ".git" / "objects" / "info" / "http-alternates"
        alternates.write_text(f"{other.url(whole)}/.git/objects/\n{other.url(whole)}/objects/\n")
        run = build(program, asked.url(hollow), GIT_TOKEN=TOKEN)

    assert run.code == 20
    assert asked.authorizations()
    assert any(path.endswith("/http-alternates") for _, path, _ in asked.requests)
    assert other.requests == []


# --- what goes wrong, in words ----------------------------------------------------------------------------------


def test_private_and_missing_repositories_look_alike(
    program: Program, history: History, server: GitServer, open_folder: Path
) -> None:
    with git_server(open_folder, password="another") as closed, git_server(open_folder, dumb=True) as files:
        addresses = [
            closed.url(history.path),  # 401
            f"{server.origin}/nothing-here",  # 404, of git itself
            f"{files.origin}/nothing-here",  # 404, of a web server
            f"file://{open_folder}/nothing-here",
        ]
        runs = [build(program, address) for address in addresses]

    for run, address in zip(runs, addresses, strict=True):
        assert run.code == 20
        assert run.result["stage"] == "clone"
        assert run.result["reason"] == f"The repository {address} was not found, or it is private."
        assert "GIT_TOKEN" in run.result["hint"]
        assert run.messages[-1] == f"Failed: {run.result['reason']}"
        assert retries(run) == []
    assert len(closed.requests) == 1
    assert len(files.requests) <= 2  # smart, then dumb


@pytest.mark.parametrize(
    ("kind", "ref"),
    [
        ("smart", "no-such-branch"),
        ("smart", "refs/heads/no-such-branch"),
        ("smart", "0123456789" * 4),
        ("old", "0123456789" * 4),
        ("dumb", "no-such-branch"),
        ("dumb", "0123456789" * 4),
    ],
)
def test_a_ref_that_does_not_exist_is_named(
    program: Program, history: History, open_folder: Path, kind: str, ref: str
) -> None:
    with git_server(open_folder, dumb=kind == "dumb", old=kind == "old") as asked:
        run = build(program, asked.url(history.path), REPO_REF=ref)

    assert run.code == 20
    assert run.result["reason"] == f"The repository has no branch, tag or commit {ref!r}."
    assert "REPO_REF" in run.result["hint"]
    assert retries(run) == []


def test_a_repository_without_a_commit_is_said_to_have_none(
    program: Program, repositories: Repositories, open_folder: Path
) -> None:
    path = open_folder / "without-a-commit"
    path.mkdir()
    repositories.git(path, "init", "-q", "-b", "main")

    run = build(program, path)

    assert run.code == 20
    assert "no commit" in run.result["reason"]


@pytest.mark.parametrize("host", ["127.0.0.1", "nowhere.invalid"])
def test_a_host_that_cannot_be_reached_is_named(program: Program, host: str) -> None:
    run = build(program, f"http://{host}:{free_port()}/owner/name.git")

    assert run.code == 20
    assert run.result["reason"] == f"The host {host} cannot be reached."
    if host == "127.0.0.1":
        assert [text[-9:] for text in retries(run)] == ["(1 of 3).", "(2 of 3).", "(3 of 3)."]


@pytest.mark.parametrize("address", [f"http://{'a' * 70}.invalid/owner/name.git", f"file:///{'a' * 300}"])
def test_an_address_that_the_system_refuses_is_not_our_error(program: Program, address: str) -> None:
    run = build(program, address)

    assert run.code == 20
    assert run.result["hint"].startswith("Check the address")


def test_trouble_that_passes_is_outlived_and_told(program: Program, history: History, open_folder: Path) -> None:
    with git_server(open_folder, troubles=[503, 503, "reset"]) as asked:
        run = build(program, asked.url(history.path))

    assert run.code == 0, run.stdout
    assert [text[-9:] for text in retries(run)] == ["(1 of 3).", "(2 of 3).", "(3 of 3)."]
    assert "returned a temporary error" in retries(run)[0]
    assert "was lost" in retries(run)[2]


def test_a_lasting_error_ends_the_run_after_three_retries(
    program: Program, history: History, open_folder: Path
) -> None:
    with git_server(open_folder, troubles=[500] * 9) as asked:
        run = build(program, asked.url(history.path))

    assert run.code == 20
    assert run.result["reason"] == "127.0.0.1 returned a temporary error."
    assert len(asked.requests) == 4


def test_a_clone_that_takes_too_long_is_ended_with_its_processes(
    program: Program, history: History, open_folder: Path
) -> None:
    started = time.monotonic()

    with git_server(open_folder, hold=threading.Event()) as asked:
        run = build(program, asked.url(history.path), CLONE_TIMEOUT="1")
        left = [line for line in command_lines().splitlines() if asked.origin in line]

    assert time.monotonic() - started < 40
    assert run.code == 124
    assert (run.result["status"], run.result["stage"]) == ("timed_out", "clone")
    assert run.messages[-1].startswith("Timed out: ")
    assert "CLONE_TIMEOUT" in run.result["hint"]
    assert len(asked.requests) == 1
    assert left == []


# --- whose configuration counts ---------------------------------------------------------------------------------


def test_configuration_of_machine_and_repository_has_no_effect(
    program: Program, repositories: Repositories, history: History, open_folder: Path
) -> None:
    with ExitStack() as stack:
        asked = stack.enter_context(git_server(open_folder))
        closed = stack.enter_context(git_server(open_folder, password=TOKEN))
        other = stack.enter_context(git_server(open_folder))
        pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 5\n"
        attributes = "page filter=evil\n*.bin filter=other\n"
        path = repositories.make({"page": "as it is", "a.bin": pointer, ".gitattributes": attributes})
        add_submodule(repositories, path, "part", other.url(history.path), history.tip)
        home = _evil_home(open_folder, asked.port, closed.port)
        evil = {
            "HOME": str(home),
            "XDG_CONFIG_HOME": str(home),
            "GIT_CONFIG_GLOBAL": str(home / ".gitconfig"),
            "GIT_CONFIG_SYSTEM": str(home / ".gitconfig"),
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "core.hooksPath",
            "GIT_CONFIG_VALUE_0": str(home / "hooks"),
            "GIT_TEMPLATE_DIR": str(home / "template"),
            "GIT_DIR": str(home),
            "GIT_ASKPASS": str(home / "hooks" / "post-checkout"),
        }
        look = f"cat a.bin; ls -A part; find .git -type f; {LOOK}"

        run = build(program, asked.url(path), look, GIT_SUBMODULES="off", **evil)
        private = build(program, closed.url(history.path), **evil)

        assert run.code == 0, run.stdout
        assert program.objects(run.slug)["index.html"]["body"] == b"as it is"
        assert pointer.splitlines()[1] in run.lines
        assert not [line for line in run.lines if "hooks/" in line or line == "page"]
        assert not (home / "marker").exists()
        assert other.requests == []
        assert private.code == 20  # the password in .netrc is another's
        assert "or it is private" in private.result["reason"]

        # It would have an effect, if it were read.
        variables = {"PATH": os.environ["PATH"], "HOME": str(home)}
        command = ["git", "clone", "-q", asked.url(path), str(home / "clone")]
        subprocess.run(command, env=variables, check=False, capture_output=True)
        assert (home / "marker").exists()


def _evil_home(folder: Path, port: int, private_port: int) -> Path:
    """Make a home whose configuration of git runs things and leads elsewhere; everybody can read it."""
    home = folder / "evil-home"
    for hooks in (home / "hooks", home / "template" / "hooks"):
        hooks.mkdir(parents=True)
        hook = hooks / "post-checkout"
        hook.write_text(f"#!/bin/sh\necho ran >>{home}/marker\n")
        hook.chmod(0o755)
    home.chmod(0o777)
    (home / ".netrc").write_text(f"machine 127.0.0.1 login x password {TOKEN}\n")
    (home / ".gitconfig").write_text(
        f"""
[alias]
\tclone = !touch {home}/marker
[core]
\thooksPath = {home}/hooks
\tfsmonitor = {home}/hooks/post-checkout
[init]
\ttemplateDir = {home}/template
[submodule]
\trecurse = true
[filter "evil"]
\tsmudge = tee {home}/marker
[filter "lfs"]
\tsmudge = tee {home}/marker
\trequired = true
[credential]
\thelper = "!echo password={TOKEN};"
[url "http://127.0.0.1:{private_port}/"]
\tinsteadOf = http://127.0.0.1:{port}/nothing
"""
    )
    return home


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("REPO_URL", "--upload-pack=touch {marker}"),
        ("REPO_URL", "--upload-pack=touch${{IFS}}{marker}"),
        ("REPO_URL", "-c"),
        ("REPO_URL", "ext::sh -c touch% {marker}"),
        ("REPO_URL", "ext::touch%20{marker}"),
        ("REPO_URL", "http::ext::touch"),
        ("REPO_URL", "fd::17/x"),
        ("REPO_URL", "ssh://-oProxyCommand=touch/x"),
        ("REPO_URL", "file://{repository}"),
        ("REPO_URL", "{repository}"),
        ("REPO_URL", "http://127.0.0.1/x"),
        ("REPO_REF", "--upload-pack=touch"),
        ("REPO_REF", "main:refs/heads/x"),
    ],
)
def test_options_helpers_and_refused_schemes_start_nothing(
    program: Program, history: History, tmp_path: Path, variable: str, value: str
) -> None:
    marker = tmp_path / "marker"
    given: dict[str, Any] = {"REPO_URL": "https://127.0.0.1/owner/name"}
    given[variable] = value.format(marker=marker, repository=history.path)

    run = program.run(None, REPO_ALLOWED_SCHEMES="https,ssh", **given)

    assert run.code == 2
    assert variable in run.stderr
    assert "Traceback" not in run.stderr
    assert run.events == []
    assert not marker.exists()
