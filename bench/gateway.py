"""Measure the gateway: 1,000 viewers of a build, 200 builds at once, and 100,000 viewers that disconnect immediately.

Each viewer is a socket on loopback that a second process reads. Its delay is the time from an event's `ts`, which is set just
before the event is written to Redis, until its arrival; for events that arrive together, that of the oldest one.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import re
import resource
import select
import socket
import struct
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from support.gateway import Gateway
from support.harness import Program, Redis, free_port, wait_for
from support.s3_server import s3_server

LINE = "asset-{:06d}.js  12.34 kB │ gzip: 4.56 kB  │ map: 78.90 kB"
_TS = re.compile(rb'"ts":"([^"]+)"')


def main() -> None:
    """Run the selected measurements, and print their figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--viewers", type=int, default=1000)
    parser.add_argument("--lines", type=int, default=1000, help="lines per second (default: 1000)")
    parser.add_argument("--seconds", type=int, default=30)
    parser.add_argument("--builds", type=int, default=200)
    parser.add_argument("--leaving", type=int, default=100_000)
    parser.add_argument("--only", choices=("viewers", "builds", "leaving"))
    options = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 20_000), hard))
    with tempfile.TemporaryDirectory(prefix="bench-gateway-") as name, s3_server() as s3:
        folder = Path(name)
        s3.make_bucket("sites")
        redis = Redis(free_port(), folder)
        try:
            program = Program(redis, s3, folder)
            if options.only in {None, "viewers"}:
                many_viewers(program, options.viewers, options.lines, options.seconds)
            if options.only in {None, "builds"}:
                many_builds(program, options.builds, options.seconds)
            if options.only in {None, "leaving"}:
                leaving(program, options.leaving)
        finally:
            redis.kill()


def many_viewers(program: Program, viewers: int, rate: int, seconds: int) -> None:
    """Measure a build with many viewers."""
    gateway = Gateway(program)
    try:
        before = cpu_of(gateway)
        delays, complete = watch(program, gateway, {"bench": viewers}, rate, seconds)
        report(
            f"{viewers:,} viewers of one build, {rate:,} lines/s for {seconds} s", gateway, delays, complete, viewers
        )
        print(f"  CPU of the gateway: {(cpu_of(gateway) - before) / seconds:.2f} cores")
    finally:
        gateway.close()


def many_builds(program: Program, builds: int, seconds: int) -> None:
    """Measure many builds with one viewer each."""
    gateway = Gateway(program)
    try:
        before = cpu_of(gateway)
        slugs = {f"bench-{number}": 1 for number in range(builds)}
        delays, complete = watch(program, gateway, slugs, 10 * builds, seconds)
        report(f"{builds} builds of 10 lines/s, a viewer each, for {seconds} s", gateway, delays, complete, builds)
        print(f"  CPU of the gateway: {(cpu_of(gateway) - before) / seconds:.2f} cores")
    finally:
        gateway.close()


def watch(
    program: Program, gateway: Gateway, slugs: dict[str, int], rate: int, seconds: int
) -> tuple[list[float], int]:
    """Watch builds while they write events; return the delays in seconds, and the number of viewers that got all events."""
    context = multiprocessing.get_context("fork")
    results: Any = context.Queue()
    ready = context.Event()
    process = context.Process(target=view, args=(gateway.port, slugs, rate * seconds // len(slugs), ready, results))
    process.start()
    try:
        assert ready.wait(60)
        write(program.redis, list(slugs), rate, seconds)
        found: tuple[list[float], int] = results.get(timeout=120)
        return found
    finally:
        process.kill()
        process.join()


def write(redis: Redis, slugs: Sequence[str], rate: int, seconds: int) -> None:
    """Write events every 10 ms as builds do, with the results last."""
    with redis.client() as client:
        began, written, seqs = time.monotonic(), 0, dict.fromkeys(slugs, 0)
        while written < rate * seconds:
            due = min(rate * seconds, int((time.monotonic() - began) * rate))
            pipeline = client.pipeline(transaction=False)
            for number in range(written, due):
                slug = slugs[number % len(slugs)]
                seqs[slug] += 1
                add(pipeline, slug, seqs[slug], "log", LINE.format(number))
            written = due
            pipeline.execute()
            time.sleep(0.01)
        for slug, seq in seqs.items():
            add(client, slug, seq + 1, "result", "Done")


def add(client: Any, slug: str, seq: int, kind: str, log: str) -> None:
    ts = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    event = {"v": 1, "build": "b", "seq": seq, "ts": ts, "type": kind, "stage": "build", "stream": "stdout", "log": log}
    client.xadd(
        f"events:{slug}", {"event": json.dumps(event, ensure_ascii=False, separators=(",", ":"))}, id=f"1-{seq}"
    )


def view(port: int, slugs: dict[str, int], events: int, ready: Any, results: Any) -> None:
    """Watch builds until all streams have ended."""
    poll = select.epoll()
    viewers: dict[
        int, tuple[socket.socket, list[int], bytearray]
    ] = {}  # with the number of events and the bytes so far
    for slug, count in slugs.items():
        for _ in range(count):
            connection = connect(port, slug)
            poll.register(connection, select.EPOLLIN)
            viewers[connection.fileno()] = connection, [0], bytearray()
    delays: list[float] = []
    kept = set(list(viewers)[::100])  # viewers whose bytes are checked
    complete = 0
    for connection, _, received in viewers.values():
        while b": connected" not in received:
            received.extend(connection.recv(4096))
    ready.set()
    left = len(viewers)
    while left:
        for descriptor, _ in poll.poll(5):
            connection, got, rest = viewers[descriptor]
            data = connection.recv(262_144)
            now = time.time()
            if (found := _TS.search(data)) is not None and len(delays) < 5_000_000:
                delays.append(now - datetime.fromisoformat(found[1].decode()).timestamp())
            got[0] += data.count(b'{"v":1')
            if descriptor in kept:
                rest += data
            if not data or data.endswith(b"0\r\n\r\n"):
                poll.unregister(descriptor)
                left -= 1
                in_order = True
                if descriptor in kept:
                    found_ids = [int(each) for each in re.findall(rb'"seq":(\d+)', bytes(rest))]
                    in_order = found_ids == list(range(1, events + 2))
                # A chunk header of HTTP may split the text that is counted.
                complete += in_order and abs(got[0] - events - 1) <= events // 100
    results.put((delays, complete))


def connect(port: int, slug: str) -> socket.socket:
    connection = socket.create_connection(("127.0.0.1", port))
    connection.sendall(f"GET /api/sites/{slug}/builds/b/events HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
    return connection


def leaving(program: Program, count: int) -> None:
    """Measure leaks after viewers that disconnect immediately, half of them with a reset."""
    gateway = Gateway(program)
    try:
        rounds = []
        gateway.request("/healthz")
        rounds.append((gateway.descriptors, memory_of(gateway), redis_clients(program.redis)))
        began = time.monotonic()
        for _ in range(2):
            for start in range(0, count // 2, 200):
                group = [connect(gateway.port, f"s-{(start + number) % 50}") for number in range(200)]
                for number, connection in enumerate(group):
                    if number % 2:
                        connection.recv(100)
                    if number % 4 < 2:
                        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                    connection.close()
            wait_for(lambda: gateway.descriptors < rounds[0][0] + 20, "the connections to close", 60)
            with suppress(AssertionError):
                wait_for(lambda: redis_clients(program.redis) <= rounds[0][2] + 16, "the readers to end", 20)
            rounds.append((gateway.descriptors, memory_of(gateway), redis_clients(program.redis)))
        print(f"{count:,} viewers that leave at once, in {time.monotonic() - began:.0f} s")
        for name, (descriptors, memory, clients) in zip(("before", "half way", "after"), rounds, strict=True):
            print(f"  {name:9} {descriptors} descriptors, {memory:.0f} MB, {clients} connections to Redis")
    finally:
        gateway.close()


def redis_clients(redis: Redis) -> int:
    with redis.client() as client:
        return len(client.client_list()) - 1


def report(what: str, gateway: Gateway, delays: list[float], complete: int, viewers: int) -> None:
    delays.sort()
    at = {part: delays[int(len(delays) * part)] * 1000 for part in (0.5, 0.9, 0.99, 0.999)}
    print(what)
    print(
        "  delay: "
        + ", ".join(f"{part:.1%} {value:.0f} ms" for part, value in at.items())
        + f", most {delays[-1] * 1000:.0f} ms"
    )
    print(
        f"  complete: {complete} of {viewers}; memory of the gateway at its peak: {memory_of(gateway, peak=True):.0f} MB"
    )


def memory_of(gateway: Gateway, *, peak: bool = False) -> float:
    """Return the resident memory of the gateway in MB."""
    status = Path(f"/proc/{gateway.process.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+)" if peak else r"VmRSS:\s+(\d+)", status)
    assert found
    return int(found[1]) / 1024


def cpu_of(gateway: Gateway) -> float:
    """Return the gateway's CPU time in seconds."""
    fields = Path(f"/proc/{gateway.process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


if __name__ == "__main__":
    main()
