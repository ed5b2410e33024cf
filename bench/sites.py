"""Measure `buildrunner sites` against a Node proxy as platforms have it, and against nginx with a cache: `make bench-sites`.

All three serve the same site from the same S3 server (SeaweedFS) on this machine, one process each, and take turns within each
round. wrk asks over 32 connections. Every answer has status 200 (or 304), or the figure is marked. Figures judge nothing.

    cached    one page, again and again
    uncached  pages that were not asked for before, each once
    304       one page that the visitor has
    sites     1,000 sites in one process, one page each: the first request of each, and then all of them again
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from support.harness import Program, Redis, can_connect, free_port, wait_for
from support.s3_server import S3Server, s3_server
from support.sites import Sites, put_site

PEERS = Path(__file__).parent / "peers"
PARTS = ("cached", "uncached", "304", "sites")
CONNECTIONS = 32
PAGE_BYTES = 10_000
HTTP_PROXY = "http-proxy@1.18.1"
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  proxy_cache_path {folder}/cache keys_zone=sites:20m max_size=1g;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream s3 {{ server {server}; keepalive 64; }}
  server {{
    listen 127.0.0.1:{port};
    proxy_http_version 1.1; proxy_set_header Connection "";
    proxy_cache sites; proxy_cache_valid 200 10m; proxy_ignore_headers Cache-Control Expires;
    proxy_cache_revalidate on;
    location / {{
      proxy_pass http://s3/sites/bench/;
    }}
    location = / {{
      proxy_pass http://s3/sites/bench/index.html;
    }}
  }}
}}
"""


@dataclass(frozen=True, slots=True)
class Rate:
    """What wrk measured."""

    requests: float  # a second
    p99: float  # milliseconds
    errors: int
    cpu: float  # microseconds of the server for each request


@dataclass(frozen=True, slots=True)
class Server:
    """One of those that are compared."""

    port: int
    pids: tuple[int, ...]

    def cpu(self) -> float:
        """Return the seconds of CPU time that it has used so far."""
        ticks = 0
        for pid in self.pids:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Run the measurements that are asked for, and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"{', '.join(PARTS)} (default: all)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    for tool in ("wrk", "nginx", "node", "npm"):
        if not shutil.which(tool):
            sys.exit(f"{tool} is missing.")
    anonymous: dict[str, object] = {"name": "anonymous", "actions": ["Read:sites"]}
    with tempfile.TemporaryDirectory(prefix="bench-sites-") as name, s3_server(identities=(anonymous,)) as s3:
        folder = Path(name)
        folder.chmod(0o755)
        s3.make_bucket("sites")
        redis = Redis(free_port(), folder)
        try:
            program = Program(redis, s3, folder)
            if set(options.parts) - {"sites"}:
                compare(program, folder, options.parts, options.rounds, options.seconds)
            if "sites" in options.parts:
                many_sites(program)
        finally:
            redis.kill()


def compare(program: Program, folder: Path, parts: list[str], rounds: int, seconds: int) -> None:
    """Measure the three servers in turns."""
    pages = 3 * rounds * seconds * 1500 if "uncached" in parts else 1
    publish(program, folder / "site", pages)
    with node_proxy(program.s3, folder) as node, nginx(program.s3, folder) as front, buildrunner(program) as ours:
        servers = {"buildrunner sites": ours, "Node http-proxy": node, "nginx proxy_cache": front}
        for server in servers.values():
            wait_for(lambda server=server: etag_of(server.port) != "", "the server to know the site")  # type: ignore[misc]
        for part in (part for part in PARTS if part in parts and part != "sites"):
            found: dict[str, list[Rate]] = {name: [] for name in servers}
            next_page = 0
            for number in range(rounds):
                names = list(servers)
                for name in names[number % 3 :] + names[: number % 3]:
                    server = servers[name]
                    if part == "uncached":
                        rate, asked = measure(server, seconds, first=next_page)
                        next_page += asked + CONNECTIONS
                        if next_page > pages:
                            print(f"  {name}: no more pages that were not asked for")
                    else:
                        rate, _ = measure(server, seconds, etag=etag_of(server.port) if part == "304" else None)
                    found[name].append(rate)
            print(f"\n{part}: {CONNECTIONS} connections, {seconds} s, {rounds} rounds")
            ours_rate = median(rate.requests for rate in found["buildrunner sites"])
            for name, rates in found.items():
                requests = sorted(rate.requests for rate in rates)
                p99 = sorted(rate.p99 for rate in rates)
                errors = sum(rate.errors for rate in rates)
                print(
                    f"  {name:18} {median(requests):8,.0f}/s ({requests[0]:,.0f} to {requests[-1]:,.0f})"
                    f"  99%: {median(p99):6.1f} ms  ours: {ours_rate / max(median(requests), 1):5.2f} times"
                    f"  CPU: {median(rate.cpu for rate in rates):5.0f} µs each"
                    + (f"  {errors} answers with another status" if errors else "")
                )


def publish(program: Program, site: Path, pages: int) -> None:
    """Publish a site with a page of 10 kB for each number."""
    (site / "u").mkdir(parents=True)
    text = "".join(f"<p>Paragraph {number} of a page that is read by people.\n" for number in range(PAGE_BYTES // 50))
    body = f"<!doctype html><title>page</title>{text}"[:PAGE_BYTES]
    (site / "index.html").write_text(body)
    for number in range(pages):
        (site / "u" / f"{number}.html").write_text(f"{body}{number}")
    environment = program.environment(None, SLUG="bench", REDIS_URI=None, REPO_ALLOWED_SCHEMES=None)
    process = program.start(environment, "publish", str(site))
    said = process.communicate(timeout=600)
    if process.returncode:
        sys.exit(f"The site was not published: {said}")


def measure(server: Server, seconds: int, *, etag: str | None = None, first: int | None = None) -> tuple[Rate, int]:
    """Let wrk ask; with `first` for one page after the other. Return the rate, and how many requests were answered."""
    script = (
        ""
        if first is None
        else f'n = {first}; request = function() n = n + 1; return wrk.format("GET", "/u/" .. n .. ".html") end'
    )
    command = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "--latency", "-H", "Host: bench.localhost"]
    command += ["-H", f"If-None-Match: {etag}"] if etag else []
    with tempfile.NamedTemporaryFile("w", suffix=".lua") as file:
        if first is not None:
            file.write(script)
            file.flush()
            command += ["-s", file.name]
        before = server.cpu()
        said = subprocess.run(
            [*command, f"http://127.0.0.1:{server.port}/"], capture_output=True, text=True, check=True, timeout=120
        ).stdout
    rate = float(re.search(r"Requests/sec:\s+([\d.]+)", said)[1])  # type: ignore[index]
    p99, unit = re.search(r"99%\s+([\d.]+)(us|ms|s)", said).groups()  # type: ignore[union-attr]
    bad = re.search(r"Non-2xx or 3xx responses: (\d+)", said)
    asked = int(re.search(r"(\d+) requests in", said)[1])  # type: ignore[index]
    milliseconds = float(p99) * {"us": 0.001, "ms": 1, "s": 1000}[unit]
    cpu = (server.cpu() - before) / max(asked, 1) * 1e6
    return Rate(rate, milliseconds, int(bad[1]) if bad else 0, cpu), asked


def etag_of(port: int) -> str:
    """Return the validator of the page."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/", headers={"Host": "bench.localhost"})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return str(answer.headers["ETag"])
    except OSError:
        return ""


@contextmanager
def node_proxy(s3: S3Server, folder: Path) -> Iterator[Server]:
    """Run the proxy in Node."""
    place = folder / "node"
    place.mkdir()
    shutil.copy(PEERS / "proxy.mjs", place)
    install = ["npm", "install", "--silent", "--no-audit", "--no-fund", HTTP_PROXY]
    subprocess.run(install, cwd=place, check=True, timeout=120)
    port = free_port()
    with running(["node", str(place / "proxy.mjs"), f"{s3.endpoint}/sites", str(port)], port) as process:
        yield Server(port, (process.pid,))


@contextmanager
def nginx(s3: S3Server, folder: Path) -> Iterator[Server]:
    """Run nginx with a cache."""
    place, port = folder / "nginx", free_port()
    place.mkdir()
    place.chmod(0o777)
    (place / "nginx.conf").write_text(NGINX.format(folder=place, port=port, server=s3.endpoint.removeprefix("http://")))
    with running(["nginx", "-c", str(place / "nginx.conf"), "-e", str(place / "error.log")], port) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield Server(port, (process.pid, *map(int, children)))


@contextmanager
def buildrunner(program: Program) -> Iterator[Server]:
    """Run ours."""
    sites = Sites(program)
    try:
        yield Server(sites.port, (sites.process.pid,))
    finally:
        sites.close()


@contextmanager
def running(command: list[str], port: int) -> Iterator[subprocess.Popen[bytes]]:
    """Run a server until it is not needed any more."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: can_connect(port), f"{command[0]} to listen")
        yield process
    finally:
        process.terminate()
        process.wait()


def many_sites(program: Program, count: int = 1000) -> None:
    """Measure one process that serves many sites."""
    for number in range(count):
        put_site(program, f"many-{number}", {"index.html": f"<!doctype html>{number}", "a.js": "1"})
    sites = Sites(program)
    try:
        before = memory_of(sites)

        def ask() -> tuple[float, int]:
            connection, began, good = sites.connect(), time.monotonic(), 0
            for number in range(count):
                answer = sites.get(f"many-{number}", connection=connection)
                good += answer.body.decode().endswith(str(number))
            connection.close()
            return time.monotonic() - began, good

        print(f"\n{count:,} sites in one process, one visitor that asks for each in turn")
        for what in ("for the first time", "again"):
            seconds, good = ask()
            print(f"  {what}: {seconds / count * 1000:.1f} ms each, {good:,} right")
        print(f"  memory: {before} MB without sites, {memory_of(sites)} MB with them")
    finally:
        sites.close()


def memory_of(sites: Sites) -> int:
    """Return the MB of memory that the process has."""
    status = Path(f"/proc/{sites.process.pid}/status").read_text()
    return int(re.search(r"VmRSS:\s+(\d+) kB", status)[1]) // 1024  # type: ignore[index]


if __name__ == "__main__":
    main()
