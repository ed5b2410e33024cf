"""An output directory that wants more published than itself, or more than there is room for."""

from __future__ import annotations

import json
import os
import re
import resource
import shlex
import time
import uuid
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from buildrunner.errors import BuildFailed
from buildrunner.publish.files import collect
from buildrunner.publish.walk import Limits
from support.attacker import Attacker, in_one_place
from support.harness import Run

PAGE = "mkdir -p dist; echo hello >dist/index.html\n"
OUT = "it is a link that leads out of the output directory"
NOWHERE = "it is a link that leads nowhere"
DANGLING = "it is a link to something that does not exist"
CYCLE = "it is a link to a folder that holds the link itself"


def all_at_once(attacker: Attacker, scripts: Mapping[str, str], **variables: Any) -> dict[str, Run]:
    """Run builds beside each other: most of a run's time is that of starting."""
    with ThreadPoolExecutor(3) as threads:
        started = {name: threads.submit(attacker.build, script, **variables) for name, script in scripts.items()}
        return {name: future.result() for name, future in started.items()}


def bodies(attacker: Attacker, run: Run) -> dict[str, bytes]:
    return {path: found["body"] for path, found in attacker.site(run).items()}


def left_out(run: Run) -> list[str]:
    """Return the sentences about what was not published."""
    return [event["log"] for event in run.events if event.get("level") == "warning" and " left out" in event["log"]]


# --- links ---

LINKS = {
    "chain-1": ("chain-2", OUT),
    "chain-2": ("inside/chain-3", OUT),
    "inside/chain-3": ("/etc/passwd", OUT),
    "cwd": ("/proc/self/cwd", OUT),
    "environ": ("/proc/self/environ", OUT),
    "environ-of-1": ("/proc/1/environ", OUT),
    "exe": ("/proc/self/exe", OUT),
    "gitconfig": ("../../../gitconfig", OUT),
    "gone": ("nothing", DANGLING),
    "home": ("../../home", OUT),
    "journal": ("../../../journal", OUT),  # the runner's own
    "loop": ("loop", NOWHERE),
    "loop-1": ("loop-2", NOWHERE),
    "loop-2": ("loop-1", NOWHERE),
    "memory": ("/proc/self/mem", OUT),
    "no-descriptor": ("/proc/self/fd/9999", DANGLING),
    "null": ("/dev/null", OUT),
    "passwd": ("/etc/passwd", OUT),
    "root": ("/proc/self/root", OUT),
    "inside/around": ("../inside", CYCLE),
    "self": (".", CYCLE),
    "source": ("../package.json", OUT),
    "through-a-file": ("index.html/x", NOWHERE),
    "through-root": ("/proc/self/root/etc/passwd", OUT),
    "up": ("../../../../../../../../../../etc/passwd", OUT),
    "zero": ("/dev/zero", OUT),
}
GOOD_LINKS = {
    "around.html": "../dist/index.html",
    "chain.txt": "inside/chain.txt",
    "inside/chain.txt": "../chain-4.txt",
    "chain-4.txt": "inside/notes.txt",
    "folder": "inside",
}


def test_a_link_is_published_only_as_a_file_of_the_same_folder(attacker: Attacker) -> None:
    links = {path: target for path, (target, _) in LINKS.items()} | GOOD_LINKS
    # What such a link leads to is the runner's: its log, its connections, the output directory itself.
    links |= {f"runners/{number}": f"/proc/self/fd/{number}" for number in range(20)}
    made = "".join(f"ln -s {target} dist/{path}\n" for path, target in links.items())

    run = attacker.build(f"{PAGE}mkdir dist/inside dist/runners; echo notes >dist/inside/notes.txt\n{made}")

    assert run.code == 0
    assert bodies(attacker, run) == {
        "index.html": b"hello\n",
        "around.html": b"hello\n",
        "inside/notes.txt": b"notes\n",
        **dict.fromkeys(("chain.txt", "inside/chain.txt", "chain-4.txt"), b"notes\n"),
        **dict.fromkeys(("folder/chain.txt", "folder/notes.txt"), b"notes\n"),
    }
    runners = [sentence for sentence in left_out(run) if sentence.startswith("runners/")]
    assert len(runners) == 20
    assert all(re.fullmatch(r"runners/\d+ is left out: it is a link .+\.", sentence) for sentence in runners)
    named = [sentence for sentence in left_out(run) if sentence not in runners]
    behind_link = {f"folder{path.removeprefix('inside')}": why for path, (_, why) in LINKS.items() if "inside/" in path}
    expected = {path: why for path, (_, why) in LINKS.items()} | behind_link
    assert named == [f"{path} is left out: {why}." for path, why in sorted(expected.items())]


@in_one_place
def test_the_output_folder_may_be_a_link_inside_the_repository(attacker: Attacker) -> None:
    refused = all_at_once(attacker, {out: f"ln -s {out} dist" for out in ("/etc", "/proc/self/fd", "..")})
    others = all_at_once(
        attacker,
        {
            "a pipe": "mkfifo dist",
            "another folder": "mkdir site; echo hello >site/index.html; ln -s site dist",
        },
    )
    below = attacker.build("ln -s /usr .output", OUTPUT_DIR=".output/share")

    for run in refused.values():
        assert (run.code, run.result["stage"]) == (40, "build")
        assert run.result["reason"] == "The build's output dist is a link that leads out of the repository."
    assert below.result["reason"] == "The build's output .output/share is a link that leads out of the repository."
    assert others["a pipe"].result["reason"] == "The output dist is a file instead of a folder."
    for run in (*refused.values(), below, others["a pipe"]):
        assert run.code == 40
        assert attacker.site(run) == {}
    assert others["another folder"].code == 0
    assert bodies(attacker, others["another folder"]) == {"index.html": b"hello\n"}


# --- what is no file, or somebody else's ---


def test_pipes_sockets_and_devices_are_not_opened_or_published(attacker: Attacker) -> None:
    # Something writes into a pipe and answers at a socket for as long as it lives: both would be read with patience.
    listen = "require('net').createServer(c => c.end('secret')).listen('dist/socket', () => console.log('listening'))"
    script = f"""{PAGE}
        mkfifo dist/pipe dist/full; ln -s pipe dist/to-pipe; ln -s socket dist/to-socket
        setsid sh -c 'while :; do echo secret >dist/full; done' </dev/null >/dev/null 2>&1 &
        node -e "{listen}" >out 2>&1 & until grep -q . out; do sleep 0.02; done; cat out
        for device in 'b 8 0' 'c 1 5'; do mknod dist/device $device 2>&1 && echo made a device; done
        test -S dist/socket && echo there
    """

    run = attacker.build(script)

    assert run.code == 0
    assert "listening" in run.lines
    assert "there" in run.lines
    assert "made a device" not in run.lines
    assert bodies(attacker, run) == {"index.html": b"hello\n"}
    assert left_out(run) == [
        "full is left out: it is a named pipe, not a file.",
        "pipe is left out: it is a named pipe, not a file.",
        "socket is left out: it is a socket, not a file.",
        "to-pipe is left out: it is a link to something that is not a file.",
        "to-socket is left out: it is a link to something that is not a file.",
    ]


def test_a_file_of_another_user_is_not_published_by_another_name(attacker: Attacker, open_folder: Path) -> None:
    """A hard link is no link to look through. The kernel refuses those to files that one may not write to.

    So the only one that can be made here is to a file that everybody may write to. Without root what is published is what
    the person who builds may read.
    """
    other = open_folder / f"others-{uuid.uuid4().hex[:12]}"
    other.write_text("somebody else's")
    other.chmod(0o666)

    journal = "../../journal" if attacker.is_another_user else ""  # a person's own, and written to while it is sent
    run = attacker.build(f"""{PAGE}
        for file in {shlex.quote(str(other))} /etc/passwd ../../gitconfig {journal} /proc/self/environ; do
            name=$(basename "$file"); ln "$file" "dist/${{name%-*}}" 2>/dev/null && echo "linked ${{name%-*}}"
        done; ln dist/index.html dist/own.html
    """)

    assert run.code == 0
    published = bodies(attacker, run)
    assert published.pop("index.html") == published.pop("own.html") == b"hello\n"
    linked = {line.removeprefix("linked ") for line in run.lines if line.startswith("linked ")}
    if attacker.is_another_user:
        assert published == {}
        assert left_out(run) == [f"{name} is left out: it belongs to another user." for name in sorted(linked)]
        # In the image the two are not on one file system, and nothing at all can be linked.
        assert linked == (set() if attacker.place == "in the image" else {"others"})
    else:
        assert "passwd" not in published  # root's, as for everybody
        assert "environ" not in published
        assert published.get("others", b"somebody else's") == b"somebody else's"


# --- names ---

NAMES = [
    "..a",
    "...",
    "a..b",
    "%2e%2e",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    ".hidden",
    "__logs/forged.ndjson",
    "__manifests/forged",
    "-rf",
    "*",
    "~",
    "%00",
    "a b+c",
    "query?x=1#y",
    "&amp;<script>alert(1)</script>.txt".replace("/", "\u2215"),
    "'\"$(id)`id`;",
    "日本語 🎉",
    "e\u0301",
    "é",
    "\u202egpj.exe",
    "n" * 255,
]
BAD_NAMES = {
    b"c1-\xc2\x9b31m": (r"c1-\x9b31m", "its name contains control characters"),
    b"delete-\x7f": (r"delete-\x7f", "its name contains control characters"),
    b"escape-\x1b]0;title\x07": (r"escape-\x1b]0;title\x07", "its name contains control characters"),
    b"latin-\xe9": (r"latin-\xe9", "its name is not UTF-8"),
    b"line\nDone": (r"line\nDone", "its name contains control characters"),
    b"line\r\nFailed: forged": (r"line\r\nFailed: forged", "its name contains control characters"),
    b"surrogate-\xed\xa0\x80": (r"surrogate-\xed\xa0\x80", "its name is not UTF-8"),
}
# 3,000 folders deep is more than a path can name at once (PATH_MAX): so they are made step by step.
MAKE_NAMES = r"""
const fs = require("fs"), path = require("path");
const {names, bad} = JSON.parse(fs.readFileSync("names.json"));
for (const name of names) {
  fs.mkdirSync(path.dirname("dist/" + name), {recursive: true});
  fs.writeFileSync("dist/" + name, name);
}
for (const name of bad) fs.writeFileSync(Buffer.concat([Buffer.from("dist/"), Buffer.from(name, "latin1")]), "bad");
const top = process.cwd();
for (const [name, depth] of [["d", 400], ["e", 1000], ["f", 3000]]) {
  process.chdir(top + "/dist");
  for (let i = 0; i < depth; i++) { fs.mkdirSync(name); process.chdir(name); }
  fs.writeFileSync("deep.txt", "deep");
}
"""


@in_one_place
def test_names_become_exact_keys_or_are_reported_at_any_depth(attacker: Attacker) -> None:
    names = {"names": NAMES, "bad": [name.decode("latin1") for name in BAD_NAMES]}
    files = {"make.js": MAKE_NAMES, "names.json": json.dumps(names)}

    run = attacker.build(f"{PAGE}node make.js", files)

    assert run.code == 0, run.stdout + run.stderr
    assert run.stderr == ""
    deep = "d/" * 400 + "deep.txt"
    assert bodies(attacker, run) == {
        "index.html": b"hello\n",
        deep: b"deep",
        **{name: name.encode() for name in NAMES},
    }
    room = 1024 - len(f"{run.slug}/")
    too_long = next(length for length in range(1, 1024, 2) if length > room)  # of e, e/e, e/e/e, …
    expected = {
        **dict(BAD_NAMES.values()),
        **{(f"{name}/" * 1024)[:too_long]: f"its path is longer than the {room} bytes that S3 allows" for name in "ef"},
    }
    assert left_out(run) == sorted(f"{path} is left out: {why}." for path, why in expected.items())
    assert [message for message in run.messages if message.startswith(("Done", "Failed"))] == ["Done"]
    assert "\x1b" not in run.stdout
    # Nothing of that was written where the runner keeps its own.
    listed = attacker.program.client().list_objects_v2(Bucket=attacker.state_bucket, Prefix="__logs/forged")
    assert listed["KeyCount"] == 0


# --- how much ---


@in_one_place
def test_a_site_may_be_as_large_as_its_limits_and_not_larger(attacker: Attacker) -> None:
    limits = {"SITE_MAX_FILES": "3", "SITE_MAX_BYTES": "20", "SITE_MAX_FILE_BYTES": "10"}
    full = "mkdir -p dist/a; printf 1234567890 >dist/index.html; printf 12345 >dist/a/b; printf 12345 >dist/c\n"
    over = {
        "": full,
        "SITE_MAX_FILES": f"{full} : >dist/a/d",
        "SITE_MAX_BYTES": f"{full} printf 123456 >dist/a/b",
        "SITE_MAX_FILE_BYTES": "mkdir dist; printf 12345678901 >dist/index.html",
        "SITE_MAX_BYTES behind links": "mkdir dist; printf 1234567890 >dist/a; ln -s a dist/b; ln dist/a dist/c",
    }

    runs = all_at_once(attacker, over, **limits)

    assert runs[""].code == 0
    assert (runs[""].result["files"], runs[""].result["bytes"]) == (3, 20)
    for name, run in runs.items():
        if name:
            assert_over_limit(attacker, run, name.split()[0])


def assert_over_limit(attacker: Attacker, run: Run, setting: str) -> None:
    result = run.result
    assert (run.code, result["stage"]) == (40, "build"), result
    said = f"{result['reason']} {result['hint']}"
    assert [name for name in re.findall(r"SITE_MAX_\w+", said) if name != setting] == []
    assert setting in said
    assert attacker.site(run) == {}


@in_one_place
def test_a_gigantic_output_fails_before_a_byte_is_read(attacker: Attacker) -> None:
    scripts = {
        "SITE_MAX_FILE_BYTES": f"{PAGE} truncate -s 2G dist/sparse",
        "SITE_MAX_BYTES": f"{PAGE} for i in 1 2 3 4 5 6 7 8 9 10; do truncate -s 1G dist/$i; done",
    }
    started = time.monotonic()

    runs = all_at_once(attacker, scripts)
    # A command is not even given the room for such a file.
    terabyte = attacker.build(f"{PAGE} (truncate -s 1T dist/sparse) && echo made; ls dist; rm -f dist/sparse")

    assert time.monotonic() - started < 60
    for setting, run in runs.items():
        assert_over_limit(attacker, run, setting)
    assert terabyte.code == 0
    assert "made" not in terabyte.lines
    assert bodies(attacker, terabyte) == {"index.html": b"hello\n"}


def test_walking_100000_files_takes_seconds_and_little_memory(tmp_path: Path) -> None:
    for number in range(100):
        folder = tmp_path / "dist" / str(number)
        folder.mkdir(parents=True)
        (folder / "0.html").touch()
        for name in range(1, 1000):  # hard links: five times as fast as files of their own
            os.link(folder / "0.html", folder / f"{name}.html")
    before, started = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic()

    limits = Limits(files=100_000, total_bytes=1000, file_bytes=1000)
    with collect(tmp_path / "dist", tmp_path, limits=limits) as site:
        assert len(site.files) == 100_000

    assert time.monotonic() - started < 30
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB
    (tmp_path / "dist" / "one more").touch()
    with pytest.raises(BuildFailed, match="100,000 files"):
        collect(tmp_path / "dist", tmp_path, limits=limits)
