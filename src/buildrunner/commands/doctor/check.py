"""The result of one check, and the limits that a group of checks has."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from typing import Literal

import anyio

from buildrunner.errors import BuildEnded

Status = Literal["ok", "warning", "failed"]
CHECK_SECONDS = 30.0  # for one step that asks a server


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found."""

    name: str
    status: Status
    message: str  # a sentence: what was found, and what it means
    hint: str = ""  # what to do; empty where there is nothing to do

    def to_json(self) -> dict[str, str]:
        """Return the fields for programs."""
        fields = {"name": self.name, "status": self.status, "message": self.message, "hint": self.hint}
        return {name: value for name, value in fields.items() if value}


Checks = AsyncIterator[Check]


async def attempt(name: str, step: Callable[[], Awaitable[str]], *, consequence: str = "") -> Check:
    """Run a step that returns the message of a success; what it raises is a failure.

    Args:
        name: of the check.
        step: asks a server for something.
        consequence: what a failure means for builds.

    """
    try:
        with anyio.move_on_after(CHECK_SECONDS):
            return Check(name, "ok", await step())
    except BuildEnded as error:
        return Check(name, "failed", " ".join(filter(None, (error.reason, consequence))), error.hint or "")
    return Check(
        name,
        "failed",
        f"There was no answer within {CHECK_SECONDS:.0f} s. {consequence}".rstrip(),
        "Check the address and the network of this machine: firewall, security group, proxy, DNS.",
    )
