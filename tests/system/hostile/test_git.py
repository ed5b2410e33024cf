"""An attacker's repository, and an attacker's git server: what they bring along runs nowhere, and a token goes to nobody else."""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

import pytest

import support.git_server as server_module
from support.attacker import Attacker, cold_start, in_one_place
from support.git_server import GitServer, git_server
from support.harness import PLAIN, Repositories, Run

T = TypeVar("T")

TOKEN = f"ghp_{uuid.uuid4().hex}"  # of this session alone: a build looks for it in all processes that it can see
PAIR = base64.b64encode(f"x-access-token:{TOKEN}".encode()).decode()
ENCODED = (base64.b64encode(TOKEN.encode()).decode(), PAIR)
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:" + "0" * 64 + "\nsize 5\n"
MADE = "\nmkdir -p dist; echo 1 >dist/index.html"
# All characters that move a cursor, set a title or turn the direction of text; what is left of colors is taken out first.
CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
COLOUR = re.compile(r"\x1b\[[0-9;:]*m")


def host_of(attacker: Attacker) -> str:
    """Return the address of this machine that builds can reach, and that the servers of these tests listen at."""
    return str(urlsplit(attacker.program.s3.endpoint).hostname)


def texts(attacker: Attacker, run: Run) -> list[str]:
    """Return every text that a run has sent to people, on each of its ways."""
    events = [event["log"] for event in (*run.events, *attacker.archive(run)) if "log" in event]
    return [*events, *run.messages, *run.stdout.splitlines(), *run.stderr.splitlines()]


def at_once(start: Callable[[T], Run], cases: Iterable[T]) -> list[Run]:
    """Make a run of each case, some at a time."""
    with ThreadPoolExecutor(3) as pool:
        return list(pool.map(start, cases))


def command_lines() -> str:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                found.append(Path("/proc", name, "cmdline").read_bytes().decode(errors="replace").replace("\0", " "))
            except OSError:
                continue  # it has ended meanwhile
    return "\n".join(found)


# --- the address and the ref ------------------------------------------------------------------------------------


@in_one_place
def test_an_unsafe_address_or_ref_starts_nothing(attacker: Attacker, open_folder: Path) -> None:
    marker = open_folder / f"marker-{uuid.uuid4().hex}"
    repository = attacker.repositories.app()
    addresses = [
        f"--upload-pack=touch {marker}",
        f"-utouch${{IFS}}{marker}",
        f"ext::sh -c touch% {marker}",
        f"https::ext::touch {marker}",
        "fd::0/x",
        f"ssh://-oProxyCommand=touch${{IFS}}{marker}/x",
        f"ssh://%2doProxyCommand=touch${{IFS}}{marker}/x",
        f"ssh://-oProxyCommand=touch@127.0.0.1/{marker}",
        repository.as_uri(),
        str(repository),
        f"https://127.0.0.1/x\n--upload-pack=touch {marker}",
        f"https://127.0.0.1/x%0a--upload-pack=touch {marker}",
    ]
    refs = [f"--upload-pack=touch {marker}", "-x", "--orphan", "main:refs/heads/x", "main\n--orphan"]
    cases = [("REPO_URL", value) for value in addresses] + [("REPO_REF", value) for value in refs]

    def start(case: tuple[str, str]) -> Run:
        given: dict[str, Any] = {"REPO_URL": "https://127.0.0.1/owner/name", case[0]: case[1]}
        return attacker.program.run(None, REPO_ALLOWED_SCHEMES="https,ssh", **given)

    for (variable, value), run in zip(cases, at_once(start, cases), strict=True):
        assert run.code == 2, (value, run.stdout)
        assert variable in run.stderr
        assert "nothing was started" in run.stderr
        assert run.events == []
    assert not marker.exists()


# --- what a repository brings along -----------------------------------------------------------------------------


def test_a_repository_cannot_run_hooks_or_ask_for_input(attacker: Attacker, open_folder: Path) -> None:
    host = host_of(attacker)
    open_to_all = open_folder / f"open-{uuid.uuid4().hex}"
    open_to_all.mkdir()
    open_to_all.chmod(0o777)
    marker = open_to_all / "marker"
    look = (
        "cat a.bin page part/build.sh; echo; find ../out -mindepth 1 | sed 's/^/came: /';"
        " find .git/*hooks .git/modules part/.git/hooks -type f"
        " | sed 's/^/came: /'; ls -A .. | sed 's/^/beside: /'; find .. ! -user $(id -u) | sed 's/^/not mine: /';"
        " git config --show-origin --list --local | sed 's/^/set: /'; echo \"uid $(id -u)\""
    )
    with git_server(attacker.repositories.folder, host=host) as own, git_server(open_folder, host=host) as other:
        source = evil_source(attacker, look + MADE, marker, other)
        # By file:// the build's own git serves it, in the source's own configuration; in the image it always comes by http.
        for address in dict.fromkeys([attacker.url(source), own.url(source)]):
            run = attacker.program.run(address, GIT_TOKEN=TOKEN, **PLAIN)

            assert run.code == 0, run.stdout
            assert other.requests == []
            assert not marker.exists(), marker.read_text()
            assert [line for line in run.lines if line.startswith(("came: ", "not mine: "))] == []
            assert [line for line in run.lines if line.startswith("beside: ")] == [
                "beside: home",
                "beside: repository",
                "beside: tmp",
            ]
            assert set(POINTER.splitlines()) | {"as it is"} <= set(run.lines)
            assert any("mkdir -p dist" in line for line in run.lines)
            assert not [line for line in run.lines if line.startswith("set: ") and "evil" in line]
            (uid,) = (int(line.split()[1]) for line in run.lines if line.startswith("uid "))
            assert (uid not in {0, os.geteuid()}) or not attacker.is_another_user

    # It would run, if somebody let it.
    subprocess.run([source / ".git" / "evil.sh"], check=True, input=b"")
    assert marker.exists()


def evil_source(attacker: Attacker, script: str, marker: Path, other: GitServer) -> Path:
    """Make a repository in which everything that git knows of leads to a program of the attacker's, or to another host."""
    repositories = attacker.repositories
    attributes = "page filter=evil diff=evil merge=evil working-tree-encoding=UTF-8\n*.bin filter=more diff=lfs merge=lfs -text\n"
    files: dict[str, str | bytes] = {"page": "as it is\n", "a.bin": POINTER, ".gitattributes": attributes}
    path = repositories.app(script, **files)
    # One that is fetched, from the same server, by a name that would be a path; one that is nowhere, outside of the checkout.
    text = f'[submodule "../../hooks"]\n\tpath = part\n\turl = ./\n\tupdate = !touch {marker}\n\tfetchRecurseSubmodules = true\n'
    text += f'[submodule "more"]\n\tpath = ../out\n\turl = {other.url(path)}\n\tupdate = !touch {marker}\n'
    text += f"[include]\n\tpath = .git/more\n[core]\n\tfsmonitor = touch {marker}\n"
    add_submodule(repositories, path, "part", text)

    evil = path / ".git" / "evil.sh"
    evil.write_text(f'#!/bin/sh\necho "$0 $* $(id)" >>{marker}\nexec "$@"\n')
    evil.chmod(0o755)
    (path / ".git" / "hooks").mkdir(exist_ok=True)
    for hook in ("post-checkout", "post-merge", "reference-transaction", "post-index-change", "pre-auto-gc"):
        (path / ".git" / "hooks" / hook).symlink_to("../evil.sh")
    (path / ".git" / "more").write_text(f"[core]\n\tfsmonitor = {evil}\n")
    with (path / ".git" / "config").open("a") as file:
        file.write(
            f"""
[core]
\tfsmonitor = {evil}
\tsshCommand = {evil}
\tgitProxy = {evil}
\talternateRefsCommand = {evil}
\tpager = {evil}
\thooksPath = {evil.parent / "hooks"}
[include]
\tpath = more
[uploadpack]
\tpackObjectsHook = {evil}
\tallowAnySHA1InWant = true
[filter "evil"]
\tsmudge = {evil} cat
\tclean = {evil} cat
[filter "more"]
\tsmudge = {evil} cat
\tprocess = {evil}
[diff "evil"]
\ttextconv = {evil}
[credential]
\thelper = {evil}
"""
        )
    return path


def add_submodule(repositories: Repositories, path: Path, place: str, modules: str) -> None:
    """Commit a .gitmodules, and the last commit of the repository itself as a submodule."""
    tip = repositories.git(path, "rev-parse", "HEAD")
    repositories.git(path, "update-index", "--add", "--cacheinfo", f"160000,{tip},{place}")
    (path / ".gitmodules").write_text(modules)
    repositories.git(path, "add", ".gitmodules")
    repositories.git(path, "commit", "-q", "-m", "a submodule")


@in_one_place
def test_unsafe_or_endless_submodules_fail_and_start_nothing(attacker: Attacker, open_folder: Path) -> None:
    marker = open_folder / f"marker-{uuid.uuid4().hex}"
    addresses = {f"ext::touch% {marker}": 1, f"-u{marker}": 1, "./": 7}
    with git_server(attacker.repositories.folder, host=host_of(attacker), password=TOKEN) as own:

        def start(url: str) -> Run:
            path = attacker.repositories.app("true")
            for _ in range(addresses[url]):
                add_submodule(attacker.repositories, path, "part", f'[submodule "x"]\n\tpath = part\n\turl = {url}\n')
            return attacker.program.run(own.url(path), GIT_TOKEN=TOKEN, **PLAIN)

        runs = at_once(start, addresses)

    for (url, commits), run in zip(addresses.items(), runs, strict=True):
        expected = "levels deep" if commits > 1 else "The submodule part has an unsupported address"
        assert (run.code, run.result["stage"]) == (20, "clone"), url
        assert expected in run.result["reason"]
        assert "GIT_SUBMODULES=off" in run.result["hint"]
    assert not marker.exists()


def test_lfs_runs_no_repository_program_and_leaks_no_token(attacker: Attacker, open_folder: Path) -> None:
    if attacker.place != "in the image" and not shutil.which("git-lfs"):
        pytest.skip("git-lfs is not installed")
    marker = open_folder / f"marker-{uuid.uuid4().hex}"
    content = b"elsewhere\n"
    oid = hashlib.sha256(content).hexdigest()
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n"
    host = host_of(attacker)
    with git_server(open_folder, host=host) as other, git_server(open_folder, host=host, password=TOKEN) as own:
        other.lfs = {oid: content}
        configuration = (
            f"[lfs]\n\turl = {other.origin}/x\n\tstandaloneTransferAgent = x\n\taccess = basic\n"
            f'[lfs "customtransfer.x"]\n\tpath = touch\n\targs = {marker}\n'
            f'[http "{other.origin}"]\n\textraHeader = X: y\n[core]\n\tfsmonitor = touch {marker}\n'
            f'[credential]\n\thelper = "!touch {marker};"\n[remote]\n\tlfsDefault = a.b\n'
            f'[remote "a.b"]\n\turl = ext::touch% {marker}\n\tlfsurl = file:///\n'
        )
        path = attacker.repositories.app(f"cat a.bin{MADE}", **{"a.bin": pointer, ".lfsconfig": configuration})
        (path / ".gitattributes").write_text("*.bin filter=lfs\n")
        attacker.repositories.git(path, "add", ".gitattributes")
        attacker.repositories.git(path, "commit", "-q", "-m", "attributes")
        run = attacker.program.run(own.url(path), GIT_TOKEN=TOKEN, **PLAIN)

    assert run.code == 0, run.stdout
    assert "elsewhere" in run.lines
    assert other.requests
    assert other.authorizations() == set()
    assert not marker.exists()


def raw_commit(path: Path, entries: Mapping[bytes, tuple[bytes, bytes | Mapping[bytes, bytes]]]) -> None:
    """Commit a tree that git itself would not make: name → mode and content; a mapping is a folder of files."""

    def write(kind: str, content: bytes) -> bytes:
        command = ["git", "-C", str(path), "hash-object", "-t", kind, "-w", "--stdin", "--literally"]
        return bytes.fromhex(subprocess.run(command, input=content, check=True, capture_output=True).stdout.decode())

    def tree(of: Mapping[bytes, tuple[bytes, bytes | Mapping[bytes, bytes]]]) -> bytes:
        raw = b""
        for name, (mode, content) in of.items():
            if isinstance(content, bytes):
                written = write("blob", content)
            else:
                written = tree({inner: (b"100644", text) for inner, text in content.items()})
            raw += mode + b" " + name.lstrip(b"*") + b"\0" + written  # a * tells two entries of one name apart
        return write("tree", raw)

    who = b"x <x@example.org> 1 +0000"
    commit = write("commit", b"tree %s\nauthor %s\ncommitter %s\n\nx\n" % (tree(entries).hex().encode(), who, who))
    subprocess.run(["git", "-C", str(path), "update-ref", "refs/heads/main", commit.hex()], check=True)


CONFIG = {b"config": b"[core]\n\tfsmonitor = touch ran\n\thooksPath = ../home\n"}
TREES: dict[str, dict[bytes, tuple[bytes, bytes | Mapping[bytes, bytes]]]] = {
    "the git folder": {b".git": (b"40000", CONFIG)},
    "it in other letters": {b".GIT": (b"40000", CONFIG)},
    "its short name": {b"git~1": (b"40000", CONFIG)},
    "it as a link": {b".git": (b"120000", b"../home")},
    "the folder above": {b"..": (b"40000", {b"out": b"x"})},
    "a path in a name": {b"a/../../out": (b"100644", b"x")},
    "a link and a folder of one name": {b"a": (b"120000", b"../home"), b"*a": (b"40000", {b"out": b"x"})},
}


@in_one_place
def test_a_tree_that_leaves_the_checkout_is_refused(attacker: Attacker) -> None:
    def start(name: str) -> Run:
        path = attacker.repositories.app()
        raw_commit(path, {b"build.sh": (b"100644", b"ls -A ../home; cat .git/config" + MADE.encode()), **TREES[name]})
        return attacker.program.run(attacker.url(path), **PLAIN)

    for name, run in zip(TREES, at_once(start, TREES), strict=True):
        if name == "a link and a folder of one name":
            assert run.code in {0, 20}  # which of the two there is in the end is git's to say
            assert "out" not in run.lines
            continue
        assert run.code == 20, (name, run.stdout)
        assert (run.result["status"], run.result["stage"]) == ("failed", "clone")
        assert "git restore" not in run.result["reason"], run.result["reason"]  # git's advice is no reason
        assert "Traceback" not in run.stderr
        assert attacker.site(run) == {}


def test_links_of_a_repository_do_not_lead_the_runner_out_of_it(attacker: Attacker) -> None:
    cases: list[tuple[dict[bytes, bytes], dict[str, str | None]]] = [
        ({b"package.json": b"/etc/passwd"}, {"BUILD_COMMAND": None}),
        ({b"package.json": b"/proc/self/environ"}, {"BUILD_COMMAND": None}),
        ({b"app": b"/etc"}, {"ROOT_DIR": "app"}),
        ({b"dist": b"/"}, {}),
        ({b"dist": b"../../"}, {}),
        ({b"a": b"..", b"public": b"a/../.."}, {"OUTPUT_DIR": "public"}),
    ]

    def start(case: tuple[dict[bytes, bytes], dict[str, str | None]]) -> Run:
        links, variables = case
        path = attacker.repositories.app()
        raw_commit(path, {name: (b"120000", target) for name, target in links.items()})
        given: dict[str, Any] = {**PLAIN, "BUILD_COMMAND": "true", **variables}
        return attacker.program.run(attacker.url(path), **given)

    for (links, _), run in zip(cases, at_once(start, cases), strict=True):
        assert run.code in {30, 40}, (links, run.stdout)
        assert "out of the repository" in run.result["reason"] or "has no folder app" in run.result["reason"], (
            run.result
        )
        assert "root:" not in attacker.all_that_left(run)
        assert attacker.site(run) == {}


# --- the token --------------------------------------------------------------------------------------------------


@cold_start
def test_the_token_is_nowhere_where_the_build_can_look(attacker: Attacker) -> None:
    # The build looks for it by halves: what it looks for must not be found because it was brought along.
    halves = [(secret[: len(secret) // 2], secret[len(secret) // 2 :]) for secret in (TOKEN, *ENCODED)]
    search = "".join(
        f"first={first}; second={second}; printf '%s\\n' \"$first$second\" >>pattern; " for first, second in halves
    )
    script = (
        f"cd ..; mkdir -p found; cd found; {search}"
        "grep -raFlf pattern ../repository ../home ../tmp ../.. --exclude=pattern 2>/dev/null | sed 's/^/found in: /';"
        " env | grep -cFf pattern | sed 's/^/environment: /';"
        " cat /proc/[0-9]*/environ /proc/[0-9]*/cmdline 2>/dev/null | tr '\\0' '\\n' | grep -acFf pattern | sed 's/^/processes: /';"
        " cd ../repository; printf 'protocol=%s\\nhost=%s\\n\\n' http \"$AT\" | git credential fill 2>&1 | sed 's/^/filled: /';"
        " git fetch -q 2>/dev/null; echo \"fetched: $?\"; git config --list --show-origin | sed 's/^/set: /'"
    )
    path = attacker.repositories.app(script + MADE)
    with git_server(attacker.repositories.folder, host=host_of(attacker), password=TOKEN) as asked:
        run = attacker.program.run(
            asked.url(path),
            GIT_TOKEN=TOKEN,
            BUILD_ENV_AT=urlsplit(asked.origin).netloc,
            BUILD_ENV_GIT_TERMINAL_PROMPT="0",
            **PLAIN,
        )
        refused = asked.requests[-1]

    assert run.code == 0, run.stdout
    assert asked.authorizations() == {f"Basic {PAIR}"}
    assert [line for line in run.lines if line.startswith("found in: ")] == []
    assert {"environment: 0", "processes: 0"} <= set(run.lines)
    assert not [line for line in run.lines if line.startswith("filled: ") and "password=" in line]
    assert [line for line in run.lines if line.startswith("fetched: ") and line != "fetched: 0"]
    assert "authorization" not in refused[2]  # what the build's own git asked for
    assert not [line for line in run.lines if line.startswith("set: ") and "extraheader" in line.lower()]
    for secret in (TOKEN, *ENCODED):
        assert secret not in attacker.all_that_left(run)


def test_a_token_does_not_follow_a_server_to_another_host(attacker: Attacker) -> None:
    path, host = attacker.repositories.app(), host_of(attacker)
    folder = attacker.repositories.folder
    with git_server(folder, host=host) as other, git_server(folder, host=host, redirect_to=other.origin) as asked:
        run = attacker.program.run(asked.url(path), GIT_TOKEN=TOKEN, **PLAIN)

    assert run.code == 20
    assert asked.authorizations() == {f"Basic {PAIR}"}
    assert other.requests == []


# --- a hostile server -------------------------------------------------------------------------------------------

Send = Callable[..., None]


def change_answers(monkeypatch: pytest.MonkeyPatch, change: Callable[[str, bytes], bytes]) -> None:
    """Let the git server send `change(path, body)` in place of each body."""
    send = server_module._Handler._send

    def changed(self: Any, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        send(self, status, headers, change(self.path, body))

    monkeypatch.setattr(server_module._Handler, "_send", changed)


def packet(data: bytes) -> bytes:
    """Frame as gitprotocol-common(5) says."""
    return b"%04x" % (len(data) + 4) + data


@in_one_place
def test_server_messages_arrive_as_plain_text_within_bounds(
    attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    evil = (
        "\x1b]0;title\x07\x1b[2J\x1b[H\x1b]52;c;ZXZpbA==\x07\x1b]8;;http://evil.example\x1b\\link\x1b]8;;\x1b\\ \x9b2Jc1"
        " \x1bP+q\x1b\\ \u202eturned\u2066 \x08\x08 end of evil\n"
        f"{TOKEN[:9]}\x1b[31m{TOKEN[9:]}\x1b[0m {PAIR}\nFailed: not at all\n\rDone\n"
    )
    flood = "".join(f"flood {number} {'.' * 80}\n" for number in range(20000))
    said = (evil + flood).encode()

    def talkative(path: str, body: bytes) -> bytes:
        if not path.endswith("/git-upload-pack") or packet(b"packfile\n") not in body:
            return body
        pieces = [packet(b"\x02" + said[start : start + 900]) for start in range(0, len(said), 900)]
        return body.replace(packet(b"packfile\n"), packet(b"packfile\n") + b"".join(pieces), 1)

    change_answers(monkeypatch, talkative)
    path = attacker.repositories.app()
    with git_server(attacker.repositories.folder, host=host_of(attacker), password=TOKEN) as asked:
        run = attacker.program.run(asked.url(path), GIT_TOKEN=TOKEN, LOG_MAX_BYTES="400000", **PLAIN)

    assert run.code == 0, run.stdout[-3000:]
    assert any("end of evil" in line for line in run.lines)
    for text in texts(attacker, run):
        assert not CONTROLS.search(COLOUR.sub("", text)), repr(text)
        assert "evil.example" not in text
    for secret in (TOKEN, *ENCODED):
        assert secret not in COLOUR.sub("", attacker.all_that_left(run))
    assert [message for message in run.messages if message.startswith(("Done", "Failed"))] == ["Done"]
    assert [event for event in run.events if event["type"] == "dropped"]
    assert len([line for line in run.lines if "flood" in line]) < 5000


def test_a_server_that_drips_its_answer_is_cut_off_in_time(attacker: Attacker, monkeypatch: pytest.MonkeyPatch) -> None:
    def drip(self: Any, status: int, headers: Mapping[str, str] | None = None, body: bytes = b"") -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        for number in range(len(body)):  # faster than the least speed that git is told to bear
            self.wfile.write(body[number : number + 1])
            time.sleep(0.2)

    monkeypatch.setattr(server_module._Handler, "_send", drip)
    path = attacker.repositories.app()
    with git_server(attacker.repositories.folder, host=host_of(attacker)) as asked:
        started = time.monotonic()
        run = attacker.program.run(asked.url(path), CLONE_TIMEOUT="2", **PLAIN)
        left = [line for line in command_lines().splitlines() if asked.origin in line]

    assert run.code == 124, run.stdout
    assert (run.result["status"], run.result["stage"]) == ("timed_out", "clone")
    assert "CLONE_TIMEOUT" in run.result["hint"]
    assert time.monotonic() - started < 15
    assert len(asked.requests) == 1
    assert left == []


@in_one_place
def test_a_bundle_that_a_server_offers_elsewhere_is_not_fetched(
    attacker: Attacker, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, asked_for = server_module._Handler._backend, []

    def offer(path: str, body: bytes) -> bytes:
        # gitprotocol-v2(5): a capability of its own, behind which the client may ask for the list.
        return body.replace(packet(b"object-format=sha1\n"), packet(b"object-format=sha1\n") + packet(b"bundle-uri\n"))

    def answer(self: Any, server: GitServer, body: bytes) -> None:
        if b"command=bundle-uri" not in body:
            backend(self, server, body)
            return
        asked_for.append(body)
        lines = ("bundle.version=1", "bundle.mode=all", f"bundle.one.uri={other.origin}/one.bundle")
        listed = b"".join(packet(line.encode()) for line in lines) + b"0000"
        self._send(200, {"Content-Type": "application/x-git-upload-pack-result"}, listed)

    change_answers(monkeypatch, offer)
    monkeypatch.setattr(server_module._Handler, "_backend", answer)
    path, host, folder = attacker.repositories.app(), host_of(attacker), attacker.repositories.folder
    with git_server(folder, host=host) as other, git_server(folder, host=host) as asked:
        run = attacker.program.run(asked.url(path), GIT_TOKEN=TOKEN, **PLAIN)

    assert run.code == 0, run.stdout
    assert asked_for == []
    assert other.requests == []
