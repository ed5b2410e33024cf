"""Measure many builds at once with one Valkey and one S3 server: whether all succeed, and the load on the servers.

Each build clones a repository from disk, prints `--lines` lines over `--seconds` seconds, and publishes `--files` unique files
of 10 KB. The builds share this machine, so their duration says nothing about a task on Fargate, but the load on Redis and S3
does.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import tempfile
import threading
import time
from collections import Counter
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from support.harness import Program, Redis, Repositories, free_port, wait_for_end
from support.relay import Relay
from support.s3_server import S3Server, s3_server

_TICKS = os.sysconf("SC_CLK_TCK")
_BUILD = """
mkdir -p dist/assets
i=0
while [ $i -lt {files} ]; do
  head -c 7500 /dev/urandom | base64 -w0 >dist/assets/file-$i.js
  i=$((i+1))
done
echo '<h1>hello</h1>' >dist/index.html
i=0
while [ $i -lt {seconds} ]; do
  seq -f 'asset-%06g.js  12.34 kB | gzip: 4.56 kB' {per_second}
  sleep 1
  i=$((i+1))
done
"""


class Samples:
    """Samples the load four times a second, in a separate thread."""

    def __init__(self, redis: Redis) -> None:
        self.connections = self.memory = self.builds = 0  # maximums
        self.commands = 0  # commands to Redis that the samples took
        self._redis = redis
        self._processes: list[subprocess.Popen[str]] = []
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._look)

    def watch(self, processes: list[subprocess.Popen[str]]) -> None:
        self._processes = processes
        self._thread.start()

    def end(self) -> None:
        self._ended.set()
        self._thread.join()

    def _look(self) -> None:
        with self._redis.client() as client:
            while not self._ended.wait(0.25):
                info: dict[str, Any] = client.info()
                self.commands += 1
                self.connections = max(self.connections, info["connected_clients"] - 1)
                self.memory = max(self.memory, info["used_memory"])
                self.builds = max(self.builds, sum(process.poll() is None for process in self._processes))


def main() -> None:
    """Run the builds, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--builds", type=int, default=50)
    parser.add_argument("--files", type=int, default=100)
    parser.add_argument("--lines", type=int, default=500)
    parser.add_argument("--seconds", type=int, default=10, help="duration of the output")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-fleet-") as name, s3_server() as s3:
        folder = Path(name)
        s3.make_bucket("sites")
        redis = Redis(free_port(), folder)
        try:
            count_requests(redis, s3, folder, options)
            measure(Program(redis, s3, folder), options)
        finally:
            redis.kill()


def make_repository(folder: Path, options: argparse.Namespace) -> Path:
    """Create the repository that all builds clone."""
    per_second = max(1, options.lines // options.seconds)
    script = _BUILD.format(files=options.files, seconds=options.seconds, per_second=per_second)
    return Repositories(folder).app(script)


def count_requests(redis: Redis, s3: S3Server, folder: Path, options: argparse.Namespace) -> None:
    """Print the number of S3 requests of a build, by kind."""
    with Relay(urlsplit(s3.endpoint).port or 0) as relay:
        program = Program(redis, replace(s3, endpoint=f"http://127.0.0.1:{relay.port}"), folder)
        process = program.start(program.environment(make_repository(folder, options), SLUG="counted"))
        process.communicate(timeout=300)
        assert process.returncode == 0
        requests = Counter(_kind_of(request) for request in relay.requests)
    print("Requests of a build to S3:", json.dumps(dict(sorted(requests.items()))))


def measure(program: Program, options: argparse.Namespace) -> None:
    """Run all builds at once, and print the load on the servers."""
    repository = make_repository(program.folder, options)
    slugs = [f"site-{number:03d}" for number in range(options.builds)]
    with program.redis.client() as client:
        before = client.info()
        cpu_before = _cpu_seconds(program.s3.process.pid)
        samples, began = Samples(program.redis), time.monotonic()
        environments = [program.environment(repository, SLUG=slug, CLONE_TIMEOUT="600") for slug in slugs]
        processes = [program.start(environment) for environment in environments]
        samples.watch(processes)
        consoles = [threading.Thread(target=process.communicate) for process in processes]
        for console in consoles:
            console.start()
        for process in processes:
            with suppress(subprocess.TimeoutExpired):
                wait_for_end(process, 900)
        seconds = time.monotonic() - began
        for console in consoles:
            console.join()
        samples.end()
        after = client.info()
        cpu = _cpu_seconds(program.s3.process.pid) - cpu_before
        streams = [client.memory_usage(f"events:{slug}", samples=0) for slug in slugs]
        events = [client.xlen(f"events:{slug}") for slug in slugs]
    codes = Counter(process.returncode for process in processes)
    objects = [len(program.objects(slug)) for slug in slugs]
    builds = options.builds
    print(f"{builds} builds, {dict(codes)} by exit code, {seconds:.0f} s in all, at most {samples.builds} at once")
    print(f"site: {min(objects)} to {max(objects)} objects; events: {min(events)} to {max(events)}")
    reasons = Counter(program.redis.events(slug)[-1].get("reason") for slug in slugs)
    assert codes == {0: builds}, f"not all succeeded: {dict(reasons)}"
    used = {name: after[name] - before[name] for name in ("total_commands_processed", "total_net_input_bytes")}
    redis_cpu = sum(after[name] - before[name] for name in ("used_cpu_user", "used_cpu_sys"))
    print(f"Redis: {samples.connections} connections, {samples.memory / 2**20:.1f} MiB at most")
    print(
        f"Redis, per build: {(used['total_commands_processed'] - samples.commands) / builds:.0f} commands, "
        f"{used['total_net_input_bytes'] / builds / 1000:.0f} kB in, {redis_cpu / builds * 1000:.1f} ms of CPU, "
        f"{sum(streams) / builds / 1000:.0f} kB for {sum(events) / builds:.0f} events"
    )
    print(f"S3, per build: {cpu / builds * 1000:.0f} ms of CPU (SeaweedFS)")


def _kind_of(request: str) -> str:
    """Return the method of a request, and whether it concerns the site, a reserved prefix, or the bucket."""
    method, _, path = request.partition(" ")
    first = path.partition("?")[0].strip("/").split("/")[1:2]
    return f"{method} {first[0] if first and first[0].startswith('__') else 'site' if first else 'bucket'}"


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS


if __name__ == "__main__":
    main()
