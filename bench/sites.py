"""Measure `buildrunner sites` against a Node proxy as platforms have it, and against nginx with a cache: `make bench-sites`.

All three serve the same site from the same S3 server (SeaweedFS) on this machine, one process each, and take turns within each
round. wrk asks over 32 connections. Every answer has status 200 (or 304), or the figure is marked. Figures judge nothing.

    cached    one page, again and again
    uncached  pages that the server has not read yet, each once: what S3 was asked for is counted
    304       one page that the visitor has
    sites     1,000 sites in one process, one page each: the first request of each, and then all of them again
"""

from __future__ import annotations

import argparse
import http.client
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median

from support.harness import Program, Redis, can_connect, free_port, wait_for
from support.s3_server import S3Server, s3_server
from support.sites import Sites, put_site

PEERS = Path(__file__).parent / "peers"
PARTS = ("cached", "uncached", "304", "sites")
CONNECTIONS = 32
PAGE_BYTES = 10_000
UNCACHED_PAGES = 16_000
UNCACHED_SECONDS = {"buildrunner sites": 3, "Node http-proxy": 2, "nginx proxy_cache": 1}  # before pages run out
HTTP_PROXY = "http-proxy@1.18.1"
NGINX = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  proxy_cache_path {folder}/cache keys_zone=sites:20m max_size=1g;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream s3 {{ server {server}; keepalive 64; keepalive_requests 1000000; }}
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
# SeaweedFS needs as much time for a request as a proxy does, and more where it is signed. On two cores its speed hides that of
# the servers. So pages are also read from S3 through this, which has all of them in memory.
FRONT = """
worker_processes 1; daemon off; pid {folder}/nginx.pid; error_log {folder}/error.log;
events {{ worker_connections 1024; }}
http {{
  access_log off;
  proxy_cache_path {folder}/cache keys_zone=pages:20m max_size=1g;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3;
  uwsgi_temp_path {folder}/t4; scgi_temp_path {folder}/t5;
  upstream s3 {{ server {server}; keepalive 64; keepalive_requests 1000000; }}
  server {{
    listen 127.0.0.1:{port};
    keepalive_requests 1000000;
    proxy_http_version 1.1; proxy_set_header Connection ""; proxy_set_header Host $http_host;
    location / {{ proxy_pass http://s3; }}
    location /sites/bench/u/ {{
      proxy_pass http://s3;
      proxy_cache pages; proxy_cache_valid 200 1h; proxy_ignore_headers Cache-Control Expires;
    }}
    location = /requests {{ stub_status; }}
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
    metrics_port = free_port()
    with (
        tempfile.TemporaryDirectory(prefix="bench-sites-") as name,
        s3_server(identities=(anonymous,), metrics_port=metrics_port) as s3,
    ):
        folder = Path(name)
        folder.chmod(0o755)
        s3.make_bucket("sites")
        redis = Redis(free_port(), folder)
        try:
            program = Program(redis, s3, folder)
            if set(options.parts) - {"sites"}:
                publish(program, folder / "site", UNCACHED_PAGES if "uncached" in options.parts else 0)
            if {"cached", "304"} & set(options.parts):
                compare(program, folder, options.parts, options.rounds, options.seconds)
            if "uncached" in options.parts:
                compare_uncached(program, folder, "SeaweedFS", lambda: requests_of(metrics_port), options.rounds)
                with pages_in_memory(s3, folder) as (front, requests):
                    compare_uncached(Program(redis, front, folder), folder, "memory", requests, options.rounds)
            if "sites" in options.parts:
                many_sites(program)
        finally:
            redis.kill()


def compare(program: Program, folder: Path, parts: list[str], rounds: int, seconds: int) -> None:
    """Measure the three servers in turns."""
    with node_proxy(program.s3, folder) as node, nginx(program.s3, folder) as front, buildrunner(program) as ours:
        servers = {"buildrunner sites": ours, "Node http-proxy": node, "nginx proxy_cache": front}
        for server in servers.values():
            wait_until_known(server)
        for part in (part for part in ("cached", "304") if part in parts):
            found: dict[str, list[Rate]] = {name: [] for name in servers}
            for number in range(rounds):
                for name in turns(number):
                    server = servers[name]
                    rate, _ = measure(server, seconds, etag=etag_of(server.port) if part == "304" else None)
                    found[name].append(rate)
            report(f"{part}: {CONNECTIONS} connections, {seconds} s, {rounds} rounds", found)


def compare_uncached(program: Program, folder: Path, what: str, requests: Callable[[], int], rounds: int) -> None:
    """Measure the three servers in turns, each started anew, so that it has no page.

    Args:
        program: with the S3 server that they read.
        folder: for files.
        what: that server's name.
        requests: returns how many requests for objects the S3 server has answered so far.
        rounds: how often.

    """
    start: dict[str, Callable[[], AbstractContextManager[Server]]] = {
        "buildrunner sites": lambda: buildrunner(program),
        "Node http-proxy": lambda: node_proxy(program.s3, folder),
        "nginx proxy_cache": lambda: nginx(program.s3, folder),
    }
    found: dict[str, list[Rate]] = {name: [] for name in start}
    storage = Server(0, (program.s3.process.pid,))
    used: dict[str, list[float]] = {name: [] for name in start}
    for number in range(rounds):
        for name in turns(number):
            with start[name]() as server:
                wait_until_known(server)
                before, cpu = requests(), storage.cpu()
                rate, asked = measure(server, UNCACHED_SECONDS[name], first=0)
                read = requests() - before
            used[name].append((storage.cpu() - cpu) / max(asked, 1) * 1e6)
            found[name].append(rate)
            if asked + CONNECTIONS > UNCACHED_PAGES or read < asked:
                print(
                    f"  {name}: not valid. {asked:,} pages of {UNCACHED_PAGES:,} were sent, S3 answered {read:,} times."
                )
    report(f"uncached: {CONNECTIONS} connections, {rounds} rounds, pages from {what}", found)
    print("  CPU of SeaweedFS, µs each: " + ", ".join(f"{name} {median(each):.0f}" for name, each in used.items()))


def turns(number: int) -> list[str]:
    """Return the order of the servers in a round."""
    names = list(UNCACHED_SECONDS)
    return names[number % 3 :] + names[: number % 3]


def wait_until_known(server: Server) -> None:
    """Wait until a server answers for the site."""
    wait_for(lambda: etag_of(server.port) != "", "the server to know the site")


def report(title: str, found: dict[str, list[Rate]]) -> None:
    """Print what was measured."""
    print(f"\n{title}")
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


@contextmanager
def pages_in_memory(s3: S3Server, folder: Path) -> Iterator[tuple[S3Server, Callable[[], int]]]:
    """Run the server that has all pages of S3 in memory; yields its address, and what counts its requests."""
    place, port = folder / "front", free_port()
    place.mkdir()
    place.chmod(0o777)
    (place / "nginx.conf").write_text(FRONT.format(folder=place, port=port, server=s3.endpoint.removeprefix("http://")))

    def requests() -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/requests", timeout=30) as answer:
            return int(answer.read().split(b"requests")[1].split()[2])

    with running(["nginx", "-c", str(place / "nginx.conf"), "-e", str(place / "error.log")], port):
        connection = http.client.HTTPConnection("127.0.0.1", port)
        for number in range(UNCACHED_PAGES):
            connection.request("GET", f"/sites/bench/u/{number}.html")
            answer = connection.getresponse()
            if answer.status != 200 or len(answer.read()) < PAGE_BYTES:
                sys.exit(f"S3 answered {answer.status} for a page.")
        connection.close()
        yield replace(s3, endpoint=f"http://127.0.0.1:{port}"), requests


def requests_of(metrics_port: int) -> int:
    """Return how many requests for objects SeaweedFS has answered."""
    with urllib.request.urlopen(f"http://127.0.0.1:{metrics_port}/metrics", timeout=30) as answer:
        found = re.findall(
            r'^SeaweedFS_s3_request_total{[^}]*type="GET"[^}]*} (\S+)', answer.read().decode(), re.MULTILINE
        )
    return int(sum(map(float, found)))


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
        else f'n = {first}; request = function() n = n + 1; return wrk.format("GET", "/u/" .. n - 1 .. ".html") end'
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
    if not place.exists():
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
    place, port = Path(tempfile.mkdtemp(prefix="nginx-", dir=folder)), free_port()
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
