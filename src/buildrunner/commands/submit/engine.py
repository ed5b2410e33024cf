"""What runs builds elsewhere: the calls that ECS and Batch have in common."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from buildrunner.commands.submit.transient import Kind, classify

Phase = Literal["queued", "starting", "running", "stopped"]
# Of what is set for one container (ECS: 8,192 characters of JSON in all overrides; Batch is similar).
MOST_OVERRIDE_CHARACTERS = 8192


class NotStarted(Exception):
    """Say why AWS did not do what it was asked.

    `transient` is why the same may succeed later; None if it would fail again.
    """

    def __init__(self, reason: str, transient: Kind | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.transient = transient


@dataclass(frozen=True, slots=True)
class TaskState:
    """What AWS says of a build's task or job."""

    phase: Phase
    reason: str = ""  # why it stopped, in AWS's words
    exit_code: int | None = None  # of its container
    is_lack_of_capacity: bool = False  # it never ran, and may if it is started again


class Engine(Protocol):
    """One build on one service. Every method may raise NotStarted."""

    service: str  # for people

    async def launch(self) -> None:
        """Ask once for the task. An attempt that may have succeeded is repeated under the same token."""

    async def look(self) -> TaskState | None:
        """Return the state of the task; None while it is not known yet."""

    async def stop(self) -> None:
        """Ask for the end of the task. The container gets SIGTERM."""


@asynccontextmanager
async def errors_explained() -> AsyncIterator[None]:
    """Raise NotStarted for every error of the AWS client in the block."""
    from aiohttp import ClientError as HttpError
    from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError
    from botocore.exceptions import ConnectionError as BotoConnectionError

    try:
        yield
    except ClientError as error:
        answer: Any = error.response
        code, message = answer["Error"].get("Code", ""), answer["Error"].get("Message", "")
        status = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 400)
        raise NotStarted(f"{error.operation_name}: {message or code}", classify(code, message, status)) from error
    except (BotoConnectionError, HTTPClientError, HttpError, TimeoutError, OSError) as error:
        raise NotStarted(f"AWS cannot be reached ({type(error).__name__})", "unavailable") from error
    except BotoCoreError as error:
        raise NotStarted(str(error)) from error


def environment_of(variables: Mapping[str, str]) -> list[dict[str, str]]:
    """Return variables as both services take them."""
    return [{"name": name, "value": value} for name, value in variables.items()]


def override_characters(variables: Mapping[str, str]) -> int:
    """Return the size of the overrides that count towards the limit."""
    return len(json.dumps({"containerOverrides": [{"environment": environment_of(variables)}]}))
