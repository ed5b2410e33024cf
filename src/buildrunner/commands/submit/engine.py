"""What runs builds elsewhere: the calls that ECS and Batch have in common."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Protocol

from buildrunner.fleet.task_state import TaskState

# Of what is set for one container (ECS: 8,192 characters of JSON in all overrides; Batch is similar).
MOST_OVERRIDE_CHARACTERS = 8192


class Engine(Protocol):
    """One build on one service. Every method may raise RequestFailed."""

    service: str  # for people

    async def launch(self) -> None:
        """Ask once for the task. An attempt that may have succeeded is repeated under the same token."""

    async def look(self) -> TaskState | None:
        """Return the state of the task; None while it is not known yet."""

    async def stop(self) -> None:
        """Ask for the end of the task. The container gets SIGTERM."""


def environment_of(variables: Mapping[str, str]) -> list[dict[str, str]]:
    """Return variables as both services take them."""
    return [{"name": name, "value": value} for name, value in variables.items()]


def override_characters(variables: Mapping[str, str]) -> int:
    """Return the size of the overrides that count towards the limit."""
    return len(json.dumps({"containerOverrides": [{"environment": environment_of(variables)}]}))
