"""What a sandbox reads of its control group, from files as the kernel writes them."""

from __future__ import annotations

from pathlib import Path

from buildrunner.sandbox import _memory_kills

EVENTS = "low 0\nhigh 0\nmax 12\noom 1\noom_kill {}\noom_group_kill 0\n"  # control groups v2
CONTROL = "oom_kill_disable 0\nunder_oom 0\noom_kill {}\n"  # v1


def group(folder: Path, line: str, files: dict[str, str]) -> int | None:
    """Count as a process of the group that `line` names would; the files are below the mounted control groups."""
    (folder / "cgroup").write_text(line)
    for name, text in files.items():
        (folder / "mounted" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "mounted" / name).write_text(text)
    return _memory_kills(folder / "cgroup", folder / "mounted")


def test_in_a_container_of_control_groups_v2_the_groups_folder_is_the_root(tmp_path: Path) -> None:
    assert group(tmp_path, "0::/\n", {"memory.events": EVENTS.format(3)}) == 3


def test_on_a_host_of_control_groups_v2_the_folder_has_the_groups_name(tmp_path: Path) -> None:
    assert group(tmp_path, "0::/user.slice/a:b.scope\n", {"user.slice/a:b.scope/memory.events": EVENTS.format(2)}) == 2


def test_in_a_container_of_control_groups_v1_the_hosts_name_of_the_group_is_not_there(tmp_path: Path) -> None:
    lines = "9:name=systemd:/docker/1f\n4:cpu,memory:/ecs/task/1f\n0::/docker/1f\n"

    assert group(tmp_path, lines, {"memory/memory.oom_control": CONTROL.format(1)}) == 1


def test_where_nothing_counts_it_is_not_known(tmp_path: Path) -> None:
    assert group(tmp_path, "0::/\n", {"memory.events": "low 0\n"}) is None
    assert _memory_kills(tmp_path / "none", tmp_path / "none") is None
