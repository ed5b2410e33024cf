"""Find the memory limit of the container, size Node's heap for it, and count processes killed for exceeding it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

RUNNER_BYTES = 100 * 2**20  # used by buildrunner itself while a command runs
# Node's own flag, and flags with the same effect: https://nodejs.org/api/cli.html. V8 accepts _ for -.
_HEAP_FLAG = re.compile(r"--max[-_](old[-_]space[-_]size|heap[-_]size)")


def memory_limit(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the memory limit of this process's control group and the visible groups above it, bytes.

    Control groups v2: `memory.max`; v1: `memory.limit_in_bytes`, and in `memory.stat` the lowest limit of the groups above, which
    is that of the whole task if its containers have no limit. In a container, the folder of its own group is mounted as the
    root. None without a limit below the memory of the machine.
    """
    machine = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    limits = [machine]
    for root, group, version in _memory_groups(groups, mounted):
        names = ["memory.max"] if version == 2 else ["memory.limit_in_bytes", "memory.stat"]
        for place in (group, *group.parents):
            for name in names if place.is_relative_to(root) else ():
                with suppress(OSError):
                    found = re.search(r"^(?:hierarchical_memory_limit )?(\d+)$", (place / name).read_text(), re.M)
                    limits += [int(found[1])] if found else []
    limit = min(limits)
    return limit if limit < machine else None


def count_memory_kills(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Count the processes of this control group killed for exceeding memory; None if nothing counts them.

    Control groups v2: `oom_kill` in `memory.events`; v1: in `memory.oom_control`. In a container, the folder of its own group is
    mounted as the root. Both also count a process that exceeds the limit of a group above, such as that of a whole task
    (measured with v1).
    """
    for root, group, version in _memory_groups(groups, mounted):
        for place in (group, root):
            with suppress(OSError):
                text = (place / ("memory.events" if version == 2 else "memory.oom_control")).read_text()
                if found := re.search(r"^oom_kill (\d+)$", text, re.MULTILINE):
                    return int(found[1])
    return None


def peak_memory(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the most memory that this control group has had (bytes); None where nothing measures it.

    Control groups v2: `memory.peak`, of Linux 5.19 and later; v1: `memory.max_usage_in_bytes`. Both count the page cache too.
    """
    for root, group, version in _memory_groups(groups, mounted):
        for place in (group, root):
            with suppress(OSError, ValueError):
                return int((place / ("memory.peak" if version == 2 else "memory.max_usage_in_bytes")).read_text())
    return None


def _memory_groups(groups: Path, mounted: Path) -> Iterator[tuple[Path, Path, int]]:
    """Yield the control groups of this process that limit memory: root, folder and version (1 or 2)."""
    with suppress(OSError):
        for line in groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield mounted, mounted / path.strip("/"), 2
            elif "memory" in controllers.split(","):
                yield mounted / "memory", mounted / "memory" / path.strip("/"), 1


def heap_megabytes(limit: int) -> int:
    """Return the size of Node's heap for a limit in bytes: three quarters of what buildrunner leaves, in megabytes.

    Measured with Node 18, 20, 22 and 24 in 512 MB to 2 GB, with `npm run build` filling the heap: V8 aborts with its own message
    at 85 to 95 % of the container. Node's default is half of it, at most 2 GB before Node 16; Node 18 doesn't detect every kind
    of limit, uses 4 GB, and is killed.
    """
    return max(limit - RUNNER_BYTES, 0) * 3 // 4 // 2**20


def node_options(given: str, limit: int | None) -> str:
    """Add the limit of the heap to `NODE_OPTIONS`, unless it is already set or memory is not limited.

    Without a limit, Node's default stays: it depends on the machine, which other programs use too.
    """
    if limit is None or _HEAP_FLAG.search(given):
        return given
    return f"{given} --max-old-space-size={heap_megabytes(limit)}".strip()
