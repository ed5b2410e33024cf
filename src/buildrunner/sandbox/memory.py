"""How much memory the container has, what of it Node's heap may take, and what was killed for want of it."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

RUNNER_BYTES = 100 * 2**20  # what buildrunner itself takes while a command runs
# Node's own flag, and those that decide the same: https://nodejs.org/api/cli.html. V8 takes _ for -.
_HEAP_FLAG = re.compile(r"--max[-_](old[-_]space[-_]size|heap[-_]size)")


def memory_limit(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the bytes that this process's control group may use, and those above it as far as they can be seen.

    Control groups v2: `memory.max`; v1: `memory.limit_in_bytes`, and in `memory.stat` the lowest limit of the groups above,
    which is that of a whole task where its containers have none of their own. In a container the group's own folder is
    mounted as the root. None where nothing is limited, or to no less than the machine has.
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
    """Count the processes of this control group that were killed for memory; None where nothing counts them.

    Control groups v2: `oom_kill` in `memory.events`; v1: in `memory.oom_control`. In a container the group's own folder is
    mounted as the root. Both count a process of the group also when the limit is that of a group above it, as the limit of
    a whole task is (measured with v1).
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
    """Yield the control groups of this process that limit memory: their root, their folder, and the version (1 or 2)."""
    with suppress(OSError):
        for line in groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                yield mounted, mounted / path.strip("/"), 2
            elif "memory" in controllers.split(","):
                yield mounted / "memory", mounted / "memory" / path.strip("/"), 1


def heap_megabytes(limit: int) -> int:
    """Return what Node's heap may take of a container with `limit` bytes: three quarters of what buildrunner leaves.

    Measured with Node 18, 20, 22 and 24 in 512 MB to 2 GB, `npm run build` filling the heap: V8 gives up, with its own
    message, at 85 to 95 % of the container. By itself Node takes half of it, and never more than 2 GB below 16; Node 18
    does not see every kind of limit, takes 4 GB, and is killed.
    """
    return max(limit - RUNNER_BYTES, 0) * 3 // 4 // 2**20


def node_options(given: str, limit: int | None) -> str:
    """Add the heap's limit to `NODE_OPTIONS`, unless it is given there already or memory is not limited.

    Without a limit Node's own choice is left alone: it goes by the machine, which other programs use too.
    """
    if limit is None or _HEAP_FLAG.search(given):
        return given
    return f"{given} --max-old-space-size={heap_megabytes(limit)}".strip()
