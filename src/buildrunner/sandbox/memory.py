"""How much memory the container has, and what of it Node's heap may take."""

from __future__ import annotations

import os
import re
from contextlib import suppress
from pathlib import Path

RUNNER_BYTES = 100 * 2**20  # what buildrunner itself takes while a command runs
# Node's own flag, and those that decide the same: https://nodejs.org/api/cli.html. V8 takes _ for -.
_HEAP_FLAG = re.compile(r"--max[-_](old[-_]space[-_]size|heap[-_]size)")


def memory_limit(groups: Path = Path("/proc/self/cgroup"), mounted: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Give the bytes that this process's control group may use, and those above it as far as they can be seen.

    Control groups v2: `memory.max`; v1: `memory.limit_in_bytes`, and in `memory.stat` the lowest limit of the groups above,
    which is that of a whole task where its containers have none of their own. In a container the group's own folder is
    mounted as the root. None where nothing is limited, or to no less than the machine has.
    """
    limits = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    machine = limits[0]
    with suppress(OSError):
        for line in groups.read_text().splitlines():
            _, controllers, path = line.split(":", 2)
            if not controllers:
                root, names = mounted, ["memory.max"]
            elif "memory" in controllers.split(","):
                root, names = mounted / "memory", ["memory.limit_in_bytes", "memory.stat"]
            else:
                continue
            group = root / path.strip("/")
            for place in (group, *group.parents):
                for name in names if place.is_relative_to(root) else ():
                    with suppress(OSError):
                        found = re.search(r"^(?:hierarchical_memory_limit )?(\d+)$", (place / name).read_text(), re.M)
                        limits += [int(found[1])] if found else []
    limit = min(limits)
    return limit if limit < machine else None


def heap_megabytes(limit: int) -> int:
    """Give what Node's heap may take of a container with `limit` bytes: three quarters of what buildrunner leaves.

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
