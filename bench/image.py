"""Measure the image: its size, the time from the start of a container to the first line, and the memory of a build.

    make bench-image

Figures are only printed. The peer is Node.js with the two libraries of a typical build script, in the same image and with the
same servers, from the start of the container until its first message is in Redis.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import threading
import time
import uuid
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from datetime import datetime
from pathlib import Path
from statistics import median

from support.fargate import Fargate, docker, shell, task_network
from support.git_server import git_server
from support.harness import ROOT, Process, Redis, Repositories, free_port
from support.s3_server import s3_server
from support.template import Template

TAG = "buildrunner:bench"
ROUNDS = 9
GOALS = {"first line": 0.7, "first event": 1.2}  # seconds from the start of the container, on 2 cores
PARTS = {
    "Node": "/usr/local/bin/node",
    "npm": "/usr/local/lib/node_modules",
    "buildrunner and its Python libraries": "/opt/buildrunner",
    "Python": "/usr/bin/python3.13 /usr/lib/python3* /usr/local/bin/python* /usr/local/lib/python* /usr/local/lib/libpython*",
    "git": "/usr/bin/git /usr/lib/git-core",
}
# Loads the libraries of a typical build script, and exits when Redis has accepted a message.
PEER = """
const { S3Client } = require('@aws-sdk/client-s3'); const Redis = require('ioredis');
const redis = new Redis(process.env.REDIS_URI); new S3Client({ region: 'us-east-1' });
redis.xadd('events:' + process.env.SLUG, '*', 'event', '{}').then(() => redis.quit());
"""
Row = tuple[str, Sequence[float]]


def main() -> None:
    named = [f"--build-arg={name}={os.environ[name]}" for name in ("PYTHON_IMAGE", "NODE_IMAGE") if name in os.environ]
    docker("build", "--quiet", f"--tag={TAG}", *named, str(ROOT))
    measure_size(named)
    measure_rebuild(named)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="buildrunner-bench-")))
        folder.chmod(0o755)
        host = docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")
        s3 = stack.enter_context(s3_server(host=host, roles={"task": Template().policy("BuildRole")}))
        for bucket in ("sites", "state"):
            s3.make_bucket(bucket)
        redis = Redis(free_port(), folder, host)
        stack.callback(redis.kill)
        repositories = Repositories(folder)
        git = stack.enter_context(git_server(folder, host=host))
        task = stack.enter_context(task_network(TAG, s3.assume_role("task")))
        program = Fargate(TAG, task, redis, s3, folder)
        measure_start(program, git.url(repositories.app()), folder)
        measure_memory(program, git.url(repositories.example()))


# --- size ----------------------------------------------------------------------------------------------------------------


def measure_size(named: Sequence[str]) -> None:
    def megabytes(paths: str) -> float:
        sizes = shell(TAG, f"du -sxck {paths} 2>/dev/null | tail -n 1; true").split()
        return int(sizes[0]) * 1.024 / 1000

    whole, parts = megabytes("/"), {name: megabytes(paths) for name, paths in PARTS.items()}
    print("\n| the image, unpacked | MB |\n|---|---|")
    print(f"| **all** | **{whole:.0f}** |")
    for name, size in parts.items():
        print(f"| · {name} | {size:.0f} |")
    print(f"| · Debian | {whole - sum(parts.values()):.0f} |")
    for compression in ("gzip", "zstd"):
        with tempfile.TemporaryDirectory() as folder, suppress(AssertionError):  # an older engine cannot export
            file = f"{folder}/image.tar"
            output = (
                f"--output=type=oci,dest={file},compression={compression},force-compression=true,oci-mediatypes=true"
            )
            docker("buildx", "build", "--quiet", "--provenance=false", output, *named, str(ROOT))
            print(
                f"| compressed with {compression}, as pulled by a task | {os.path.getsize(file) / 1e6:.0f} |",
                flush=True,
            )


def measure_rebuild(named: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        context = Path(folder) / "context"
        ignored = shutil.ignore_patterns(".*", "tests", "bench", "examples", "node_modules")
        shutil.copytree(ROOT, context, ignore=ignored)
        with (context / "src" / "buildrunner" / "cli.py").open("a") as file:
            file.write(f"\n# {uuid.uuid4()}\n")
        shutil.copy(ROOT / ".dockerignore", context)
        started = time.monotonic()
        docker("build", "--quiet", f"--tag={TAG}-again", *named, str(context))
        print(f"\nrebuild after a change in src: {time.monotonic() - started:.1f} s", flush=True)


# --- start ---------------------------------------------------------------------------------------------------------------


def measure_start(program: Fargate, repository: str, folder: Path) -> None:
    modules = folder / "peer"
    modules.mkdir()
    libraries = ("ioredis@5", "@aws-sdk/client-s3@3")
    subprocess.run(
        ["npm", "install", "--silent", "--no-audit", "--no-fund", *libraries],
        cwd=modules,
        check=True,
        stdin=subprocess.DEVNULL,
    )
    (modules / "peer.js").write_text(PEER)
    peer = [f"--mount=type=bind,src={modules},dst=/peer,readonly", "--entrypoint=node"]

    print(
        "\n| from the start of the container, ms; median (min to max) | first line | first event | peer's first message | ratio |"
    )
    print("|---|---|---|---|---|")
    for title, cpus, cold in (
        ("2 vCPU", 2, False),
        ("2 vCPU, empty page cache", 2, True),
        ("1 vCPU", 1, False),
    ):
        lines, events, peers = [], [], []
        for number in range(-1, ROUNDS):
            line, event = start_once(program, repository, [f"--cpus={cpus}"], [], cold=cold)
            _, other = start_once(program, repository, [f"--cpus={cpus}", *peer], ["/peer/peer.js"], cold=cold)
            if number >= 0:  # one uncounted round
                lines.append(line)
                events.append(event)
                peers.append(other)
        ratio = median(events) / median(peers)
        print(f"| {title} | {spread(lines)} | {spread(events)} | {spread(peers)} | {ratio:.2f} |", flush=True)
    print("goals on 2 vCPU: " + ", ".join(f"{name} under {goal * 1000:.0f} ms" for name, goal in GOALS.items()))


def start_once(
    program: Fargate, repository: str, options: Sequence[str], arguments: Sequence[str], *, cold: bool
) -> tuple[float, float]:
    """Return the seconds from `docker start` until the first line of the console, and until the first event in Redis."""
    environment = program.environment(repository)
    slug, arrived = environment["SLUG"], list[float]()
    variables = [f"--env={name}={value}" for name, value in environment.items()]
    fargate = [
        f"--network=container:{program.task.network}",
        "--memory=2g",
        "--read-only",
        "--mount=type=volume,dst=/tmp",
    ]
    docker("create", f"--name={slug}", *fargate, *variables, *options, TAG, *arguments)

    def watch() -> None:
        with program.redis.client() as client:
            while not client.xread({f"events:{slug}": "0"}, count=1, block=1000):
                pass
            arrived.append(time.time())

    watcher = threading.Thread(target=watch)
    watcher.start()
    time.sleep(0.1)
    if cold:
        os.sync()
        with suppress(OSError):  # requires root
            Path("/proc/sys/vm/drop_caches").write_text("3")
    started = time.time()
    docker("start", slug)
    watcher.join(30)
    docker("wait", slug)
    stamped = docker("logs", "--timestamps", slug).splitlines()
    first = clock(stamped[0].split()[0]) if stamped else started
    docker("rm", "--volumes", slug)
    return first - started, arrived[0] - started


def clock(text: str) -> float:
    return datetime.fromisoformat(re.sub(r"\.(\d{6})\d*Z", r".\1+00:00", text)).timestamp()


def spread(seconds: Sequence[float]) -> str:
    return f"{median(seconds) * 1000:.0f} ({min(seconds) * 1000:.0f} to {max(seconds) * 1000:.0f})"


# --- memory --------------------------------------------------------------------------------------------------------------


def measure_memory(program: Fargate, repository: str) -> None:
    """Measure the memory of the runner and of all processes of the container during a build, as in the task definition."""
    peaks = {"runner": 0.0, "all": 0.0}

    def watch(process: Process, slug: str) -> None:
        while process.poll() is None:
            with suppress(AssertionError, OSError, ValueError, IndexError):
                processes = docker("top", slug, "-eo", "pid").split()[1:]  # tini, the runner, and what it started
                status = Path(f"/proc/{processes[1]}/status").read_text()
                peaks["runner"] = max(peaks["runner"], int(re.findall(r"VmHWM:\s+(\d+)", status)[0]) * 1.024 / 1000)
                # Memory pages that processes share count once.
                shares = [Path(f"/proc/{number}/smaps_rollup").read_text() for number in processes]
                used = sum(int(re.findall(r"\nPss:\s+(\d+)", share)[0]) for share in shares) * 1.024 / 1000
                peaks["all"] = max(peaks["all"], used)
            time.sleep(0.02)

    run = program.run(repository, timeout=300, meanwhile=watch)
    assert run.code == 0, run.stdout
    times = {event["stage"]: event["seconds"] for event in run.events if "state" in event and "seconds" in event}
    print(f"\nexamples/react-app as a task of 1 vCPU and 2 GB: {run.result['seconds']:.1f} s, of which {times}")
    print(f"peak memory: the runner {peaks['runner']:.0f} MB, all processes {peaks['all']:.0f} MB")
    program.close()


if __name__ == "__main__":
    main()
