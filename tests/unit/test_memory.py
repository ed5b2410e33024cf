from __future__ import annotations

from pathlib import Path

import pytest

from buildrunner.sandbox.memory import heap_megabytes, memory_limit, node_options

GB = 2**30
NONE = "9223372036854771712\n"  # what v1 says where nothing is limited


def cgroups(folder: Path, membership: str, files: dict[str, str]) -> int | None:
    for name, content in files.items():
        path = folder / "mounted" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (folder / "cgroup").write_text(membership)
    return memory_limit(folder / "cgroup", folder / "mounted")


@pytest.mark.parametrize(
    ("membership", "files", "limit"),
    [
        ("0::/\n", {"memory.max": f"{GB}\n"}, GB),  # v2, as a container sees itself
        ("0::/a/b\n", {"a/b/memory.max": "max\n", "a/memory.max": f"{GB}\n", "memory.max": "max\n"}, GB),
        ("0::/a/b\n", {"a/b/memory.max": f"{GB // 2}\n", "a/memory.max": f"{GB}\n"}, GB // 2),
        ("0::/not/seen\n", {"memory.max": f"{GB}\n"}, GB),
        ("0::/\n", {"memory.max": "max\n"}, None),
        ("0::/\n", {}, None),
        ("4:memory:/x\n0::/\n", {"memory/x/memory.limit_in_bytes": f"{GB}\n"}, GB),  # v1
        ("4:cpu,memory:/docker/1\n", {"memory/memory.limit_in_bytes": f"{GB}\n"}, GB),  # in a container
        ("4:memory:/x\n", {"memory/memory.limit_in_bytes": NONE}, None),
        # A container without a limit in a task that has one, whose group is not to be seen.
        (
            "4:memory:/ecs/task/1\n",
            {
                "memory/memory.limit_in_bytes": NONE,
                "memory/memory.stat": f"cache 5\nhierarchical_memory_limit {GB}\nhierarchical_memsw_limit {NONE}",
            },
            GB,
        ),
        ("4:memory:/x\n", {"memory/x/memory.limit_in_bytes": f"{2**60}\n"}, None),  # more than the machine has
    ],
)
def test_the_lowest_limit_that_can_be_seen_counts(
    tmp_path: Path, membership: str, files: dict[str, str], limit: int | None
) -> None:
    assert cgroups(tmp_path, membership, files) == limit


def test_no_control_groups_at_all_are_no_limit(tmp_path: Path) -> None:
    assert memory_limit(tmp_path / "none", tmp_path) is None


@pytest.mark.parametrize(
    ("given", "limit", "options"),
    [
        ("", 2 * GB, "--max-old-space-size=1461"),
        ("--openssl-legacy-provider", 2 * GB, "--openssl-legacy-provider --max-old-space-size=1461"),
        ("--max-old-space-size=512", 2 * GB, "--max-old-space-size=512"),
        ("--max_old_space_size=512 --no-warnings", 2 * GB, "--max_old_space_size=512 --no-warnings"),
        ("--max-old-space-size-percentage=50", 2 * GB, "--max-old-space-size-percentage=50"),  # Node 24
        ("--max-semi-space-size=32", 2 * GB, "--max-semi-space-size=32 --max-old-space-size=1461"),
        ("", None, ""),
        ("--no-warnings", None, "--no-warnings"),
    ],
)
def test_the_heap_is_limited_unless_it_already_is(given: str, limit: int | None, options: str) -> None:
    assert node_options(given, limit) == options


@pytest.mark.parametrize(("megabytes", "heap"), [(512, 309), (1024, 693), (2048, 1461), (8192, 6069), (16384, 12213)])
def test_the_heap_leaves_room_for_everything_else(megabytes: int, heap: int) -> None:
    assert heap_megabytes(megabytes * 2**20) == heap
