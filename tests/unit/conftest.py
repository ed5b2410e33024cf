"""Provide an app's folder, and protect the session's servers from sandboxes in the test process."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest

from buildrunner.sandbox import processes
from buildrunner.sandbox.processes import Process


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    return folder


@pytest.fixture(autouse=True)
def _servers_outlive_sandboxes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A sandbox kills all descendants of its process, which would include the servers that system tests share."""
    shared = _own_children()
    if not shared:
        return
    descendants, children = processes.descendants, processes._children

    def other_descendants(root: int) -> list[Process]:
        kept_out = set(shared)
        others = []
        for process in descendants(root):  # parents first
            if process.pid in kept_out or process.parent in kept_out:
                kept_out.add(process.pid)
            else:
                others.append(process)
        return others

    def other_children(pid: int | str, task: int | str) -> list[int]:
        return [child for child in children(pid, task) if child not in shared]

    monkeypatch.setattr(processes, "descendants", other_descendants)
    monkeypatch.setattr(processes, "_children", other_children)


def _own_children() -> set[int]:
    found: set[int] = set()
    for task in os.listdir("/proc/self/task"):
        with suppress(OSError):
            found.update(map(int, Path(f"/proc/self/task/{task}/children").read_text().split()))
    return found
