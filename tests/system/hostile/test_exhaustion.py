"""Builds that take all there is of something: processes, memory, room for files, time, patience."""

from __future__ import annotations

import json
import re
import subprocess
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from support.attacker import Attacker, cold_start, in_one_place
from support.harness import PLAIN, Run

PAGE = "mkdir -p dist; echo hello >dist/index.html\n"


def limit(run: Run, stage: str, name: str) -> tuple[str, str]:
    """Return a line of `/proc/self/limits` as a stage has printed it: soft and hard."""
    lines = [event["log"] for event in run.events if event["stage"] == stage and event["type"] == "log"]
    (line,) = (line for line in lines if line.startswith(f"Max {name} "))
    soft, hard = line.removeprefix(f"Max {name} ").split()[:2]
    return soft, hard


# --- processes, core dumps, the size of one file, memory ---


def test_a_command_has_limits_that_it_cannot_raise(attacker: Attacker) -> None:
    script = f"""{PAGE}
        cat /proc/self/limits
        prlimit --nproc=100000:100000 true && echo raised; prlimit --core=1 true && echo raised
        prlimit --fsize=unlimited true && echo raised
        ulimit -c unlimited && echo raised
        echo has the limits of a command
    """
    # A shell that may not raise a limit ends: so each tries by itself.
    script = script.replace("ulimit -c unlimited &&", "sh -c 'ulimit -c unlimited' &&")

    run = attacker.build(script, INSTALL_COMMAND="cat /proc/self/limits")

    for stage in ("install", "build"):
        assert limit(run, stage, "core file size") == ("0", "0")
        assert limit(run, stage, "file size") == (str(16 * 2**30),) * 2
        soft, hard = map(int, limit(run, stage, "processes"))
        assert soft == hard
        if attacker.is_another_user:
            assert soft == 4096
        else:  # the limit is the user's, and the person's other programs count
            assert 4096 < soft < 4096 + 20_000
    assert run.code == 0
    assert "raised" not in run.lines
    assert "has the limits of a command" in run.lines


def test_a_build_that_can_start_no_more_processes_fails(attacker: Attacker) -> None:
    # Lowered further, so that the test costs this machine little: what it runs into is the same error.
    script = f"""{PAGE}
        [ "$(ulimit -p)" -lt 30000 ] || exit 9
        ulimit -p 150; i=0; while [ $i -lt 400 ]; do sleep 600 & i=$((i + 1)); done; echo all of them run"""

    run = attacker.build(script)

    assert (run.code, run.result["stage"], run.result["status"]) == (40, "build", "failed")
    assert "all of them run" not in run.lines
    assert any("fork" in line for line in run.lines)
    assert run.messages[-1].startswith("Failed: ")
    assert run.events == attacker.archive(run)


def test_a_program_that_crashes_writes_no_core_dump(attacker: Attacker) -> None:
    script = f"""{PAGE}
        mkdir crash; cd crash; raise='prlimit --core=unlimited --pid $$ 2>/dev/null'
        sh -c "$raise; kill -SEGV \\$\\$"; echo $?
        sh -c "$raise; exec node -e 'process.abort()'" 2>/dev/null; echo $?; echo "left: $(ls -A)" """

    run = attacker.build(script)

    assert run.code == 0
    assert [line for line in run.lines if re.fullmatch(r"\d+", line)] == ["139", "134"]
    assert "left: " in run.lines


def test_one_file_has_no_room_for_more_than_its_limit(attacker: Attacker) -> None:
    most = 16 * 2**30
    script = f"""{PAGE}
        sh -c 'truncate -s {most + 1} a'; echo "truncated: $?"; truncate -s {most} b; echo "at the limit: $?"
        sh -c 'echo x >>b'; echo "written: $?"
        sh -c 'echo x | dd of=c bs=1 seek={most} 2>&1'; stat -c "%n %s" b c; rm -f a b c"""

    run = attacker.build(script)

    assert run.code == 0
    ended = dict(re.findall(r"^([a-z ]+): (\d+)$", "\n".join(run.lines), re.MULTILINE))
    assert ended.pop("at the limit") == "0"
    assert len(ended) == 2
    assert "0" not in ended.values()
    assert f"b {most}" in run.lines
    assert not any(re.fullmatch(rf"c {most + 1}", line) for line in run.lines)


@cold_start
def test_the_kernel_kills_the_build_before_the_runner(attacker: Attacker) -> None:
    """A build may take that back, down to the runner's own figure and not below: then the larger of the two is ended."""
    script = f"""{PAGE}
        echo own $(cat /proc/self/oom_score_adj) $(setsid sh -c 'cat /proc/self/oom_score_adj')
        pid=$$; while [ "$(cat /proc/$pid/oom_score_adj)" = 1000 ]; do
            pid=$(sed -n 's/^PPid:[[:space:]]*//p' /proc/$pid/status); done
        runner=$(cat /proc/$pid/oom_score_adj); echo the runner $runner
        tr '\\0' ' ' </proc/$pid/cmdline | grep -o buildrunner | head -1
        {{ echo $((runner - 1)) >/proc/self/oom_score_adj; }} 2>/dev/null && echo below the runner
        {{ echo -1000 >/proc/self/oom_score_adj; }} 2>/dev/null && echo below all
        {{ echo 1000 >/proc/$pid/oom_score_adj; }} 2>/dev/null && echo the runner first
        echo tried"""

    run = attacker.build(script, INSTALL_COMMAND="cat /proc/self/oom_score_adj")

    assert run.code == 0
    assert "tried" in run.lines
    assert {"1000", "own 1000 1000", "buildrunner"} <= set(run.lines)
    (runner,) = (int(line.split()[-1]) for line in run.lines if re.fullmatch(r"the runner -?\d+", line))
    assert runner < 1000
    assert not {"below the runner", "below all"} & set(run.lines)
    if attacker.is_another_user:
        assert "the runner first" not in run.lines


# --- time ---


@in_one_place
def test_a_timeout_says_whether_the_build_was_silent(attacker: Attacker) -> None:
    scripts = {
        "silent": f"{PAGE} echo begun; exec sleep 600",
        "closed": f"{PAGE} exec >&- 2>&-; sleep 600; :",
        "talking": f"{PAGE} while :; do echo still here; sleep 0.1; done",
        # Bytes are not lines: who draws a bar without an end is not silent.
        "drawing": f"{PAGE} while :; do printf 'x\\r'; sleep 0.1; done",
    }
    with ThreadPoolExecutor(4) as threads:
        started = {name: threads.submit(attacker.build, each, BUILD_TIMEOUT="4") for name, each in scripts.items()}
        runs = {name: future.result() for name, future in started.items()}

    for run in runs.values():
        assert (run.code, run.result["status"], run.result["stage"]) == (124, "timed_out", "build")
        assert "BUILD_TIMEOUT" in run.result["hint"]
        assert attacker.site(run) == {}
        assert run.messages[-1] == f"Timed out: {run.result['reason']}"
    slow = "The build took longer than 4 s"
    for name in ("silent", "closed"):
        stopped = r" and was stopped at `sleep 600`; it had printed nothing for the last [34] s\."
        assert re.fullmatch(slow + stopped, runs[name].result["reason"])
    assert runs["silent"].result["hint"] != runs["talking"].result["hint"]
    for name in ("talking", "drawing"):
        assert re.fullmatch(rf"{slow} and was stopped at `.+`\.", runs[name].result["reason"])


def test_a_build_that_closes_its_output_is_waited_for(attacker: Attacker) -> None:
    run = attacker.build(f"echo begun; exec >&- 2>&-; sleep 1; {PAGE}")

    assert run.code == 0
    assert run.lines == [*run.lines[:-1], "begun"]
    assert {path: found["body"] for path, found in attacker.site(run).items()} == {"index.html": b"hello\n"}


# --- room ---


@pytest.fixture
def few_inodes(attacker: Attacker, open_folder: Path) -> Iterator[dict[str, Any]]:
    """Make a file system with room for few files, and give the variables of a run that uses it."""
    options = "size=400m,nr_inodes=1500"
    if attacker.place == "in the image":
        from support.fargate import Fargate

        assert isinstance(attacker.program, Fargate)
        attacker.program.tmp = f"{options},mode=1777"
        yield {}
        return
    folder = open_folder / f"disk-{uuid.uuid4().hex[:12]}"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"{options},mode=1777", "tmpfs", str(folder)]
    mounted = subprocess.run(command, check=False, capture_output=True, text=True)
    if mounted.returncode != 0:
        pytest.skip(f"this machine does not let its tests mount a small file system to fill: {mounted.stderr.strip()}")
    yield {"TMPDIR": str(folder)}
    subprocess.run(["umount", "-l", str(folder)], check=True)


def test_a_build_that_takes_every_inode_keeps_log_and_site(attacker: Attacker, few_inodes: dict[str, Any]) -> None:
    fill = "let i = 0; try { for (;;) require('fs').writeFileSync('f' + i++, '') } catch (e) { console.log(e.code, String(i)) }"
    script = (
        f"""{PAGE} mkdir fill; cd fill; node -e "{fill}"; (: >one-more) || echo nothing fits; seq -f 'line %.0f' 5000"""
    )

    run = attacker.build(script, **few_inodes)

    assert run.code == 0, run.stdout[-3000:]
    assert any(re.fullmatch(r"ENOSPC \d+", line) for line in run.lines)
    assert "nothing fits" in run.lines
    assert [line for line in run.lines if line.startswith("line ")] == [f"line {number}" for number in range(1, 5001)]
    assert {path: found["body"] for path, found in attacker.site(run).items()} == {"index.html": b"hello\n"}
    assert run.events == attacker.archive(run)


# --- what is read of a repository ---


@in_one_place
def test_a_package_json_without_end_or_depth_is_a_plain_mistake(attacker: Attacker) -> None:
    package = '{"name": "app", "version": "1.0.0", "scripts": {"build": "sh build.sh"}, "x": %s}'
    cases: dict[str, tuple[str | bytes, str]] = {
        "deep": (package % ("[" * 100_000 + "]" * 100_000), "nested too deeply"),
        "large": (package % json.dumps("x" * 5_000_000), "larger than 4 MiB"),
    }
    links = {
        "environ": ("/proc/self/environ", "leads out of the repository"),
        "zeros": ("/dev/zero", "leads out of the repository"),
        "loop": ("package.json", ""),
    }
    files: dict[str, str | bytes] = {f"{name}/package.json": text for name, (text, _) in cases.items()}
    path = attacker.repositories.app(PAGE, **files, **{"folder/package.json/x": ""})
    for name, (target, _) in links.items():
        (path / name).mkdir()
        (path / name / "package.json").symlink_to(target)
    attacker.repositories.commit(path, {})
    words = {name: said for name, (_, said) in (*cases.items(), *links.items())} | {"folder": "not a regular file"}
    url = attacker.url(path)
    variables: dict[str, Any] = {**PLAIN, "BUILD_COMMAND": None}

    def build(folder: str) -> Run:
        return attacker.program.run(url, timeout=60, **{**variables, "ROOT_DIR": folder})

    with ThreadPoolExecutor(3) as threads:
        runs = dict(zip(words, threads.map(build, words), strict=True))

    for name, run in runs.items():
        assert run.code == 30, (name, run.stdout[-2000:])
        assert run.result["status"] == "failed"
        assert "package.json" in run.result["reason"]
        assert words[name] in run.result["reason"], name
        assert len(run.result["reason"]) < 1000
        left = attacker.all_that_left(run)
        assert "Traceback" not in left
        assert "root:x:0" not in left


@in_one_place
def test_a_repository_of_thousands_of_files_is_cloned_and_built(attacker: Attacker) -> None:
    path = attacker.repositories.app(f"{PAGE} ls -d many/*/* | wc -l")
    blob = attacker.repositories.git(path, "hash-object", "-w", "build.sh")
    names = "".join(f"100644 {blob}\tmany/{number % 200}/{number}.txt\n" for number in range(5000))
    subprocess.run(
        ["git", "-C", str(path), "update-index", "--add", "--index-info"], input=names, text=True, check=True
    )
    attacker.repositories.git(path, "commit", "-q", "-m", "many")

    run = attacker.program.run(attacker.url(path), **PLAIN)

    assert run.code == 0
    assert run.lines[-1].strip() == "5000"
