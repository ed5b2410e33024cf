"""Every way in which a build can end, and the exit code of each.

    BuildEnded                 the build ends here, for a reason that a person can read
    ├── BuildFailed            a step failed (exit code of its stage)
    │   └── CommandFailed      a command of the repository did
    ├── BuildTimedOut          a time limit ran out (124)
    ├── BuildCancelled         SIGINT or SIGTERM (130, 143)
    └── BuildSuperseded        a later build of the same slug took over (60)
    ConfigurationError         the configuration is missing or invalid; nothing was started (2)

`reason` is one sentence about what happened, for the person who reads it; `hint` says what to do about it.
docs/exit-codes.md lists the codes and statuses. Any other exception is an internal error in buildrunner (1).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

Stage = Literal["prepare", "clone", "install", "build", "upload", "finish"]
Status = Literal["succeeded", "failed", "timed_out", "cancelled", "superseded"]

EXIT_PUBLISHED = 0
EXIT_FAULT = 1
EXIT_CONFIGURATION = 2
# A stage without an entry can only fail by an internal error.
EXIT_OF_STAGE: dict[Stage, int] = {"clone": 20, "install": 30, "build": 40, "upload": 50}


@dataclass(frozen=True, slots=True)
class Failure:
    """The fields of a failure for programs: `failure` of the result event. Unknown fields are None."""

    kind: str | None = None  # stable id, listed in docs/troubleshooting.md
    file: str | None = None  # relative to the repository
    line: int | None = None  # from 1
    column: int | None = None  # from 1
    excerpt: str | None = None  # of the output: at most 20 lines

    @property
    def fields(self) -> dict[str, str | int]:
        """Return the known fields by their names in docs/events.md."""
        values = {
            "kind": self.kind,
            "file": self.file,
            "line": self.line,
            "column": self.column,
            "excerpt": self.excerpt,
        }
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True, slots=True)
class ExitCode:
    """A row of docs/exit-codes.md."""

    codes: tuple[int, ...]
    meaning: str
    status: str  # status of the result event; empty if none is sent
    fixed_by: str


EXIT_CODES = (
    ExitCode((EXIT_PUBLISHED,), "published", "succeeded", ""),
    ExitCode(
        (EXIT_FAULT,),
        "internal error in buildrunner or on its machine",
        "failed",
        "operator; please report it",
    ),
    ExitCode((EXIT_CONFIGURATION,), "configuration missing or invalid; nothing was started", "", "operator"),
    ExitCode((EXIT_OF_STAGE["clone"],), "clone failed", "failed", "user or operator"),
    ExitCode((EXIT_OF_STAGE["install"],), "installing dependencies failed", "failed", "user"),
    ExitCode((EXIT_OF_STAGE["build"],), "the build failed, or produced no output", "failed", "user"),
    ExitCode((EXIT_OF_STAGE["upload"],), "publishing failed", "failed", "operator"),
    ExitCode((60,), "a later build of the same slug took over", "superseded", ""),
    ExitCode((124,), "a time limit ran out", "timed_out", "user"),
    ExitCode((130, 143), "SIGINT, SIGTERM", "cancelled", ""),
)


class BuildEnded(Exception):
    """End the build with a status, an exit code and one sentence for people."""

    status: Status = "failed"

    def __init__(
        self, reason: str, hint: str | None = None, *, exit_code: int = EXIT_FAULT, failure: Failure | None = None
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.hint = hint
        self.exit_code = exit_code
        self.failure = failure

    @property
    def end_word(self) -> str:
        """The last message of the build on the channel."""
        return f"Failed: {self.reason}"


class BuildFailed(BuildEnded):
    """Fail the build at `stage`; `kind` is a stable id (see `Failure`)."""

    def __init__(
        self,
        stage: Stage,
        reason: str,
        hint: str | None = None,
        *,
        kind: str | None = None,
        failure: Failure | None = None,
    ) -> None:
        failure = failure or (Failure(kind) if kind else None)
        super().__init__(reason, hint, exit_code=EXIT_OF_STAGE.get(stage, EXIT_FAULT), failure=failure)
        self.stage = stage


class CommandFailed(BuildFailed):
    """Fail the build because of a command of the repository.

    `output` is the end of its output, `environment` its environment, `node` the major version of Node of a retry. The hint is
    final if it is `certain`; otherwise a known cause in the output takes precedence.
    """

    def __init__(
        self,
        stage: Stage,
        reason: str,
        hint: str | None,
        *,
        output: str,
        command: str = "",
        environment: Mapping[str, str] | None = None,
        node: int | None = None,
        certain: bool = False,
        kind: str | None = None,
        failure: Failure | None = None,
    ) -> None:
        super().__init__(stage, reason, hint, kind=kind, failure=failure)
        self.output = output
        self.command = command
        self.environment = environment or {}
        self.node = node
        self.certain = certain


class BuildTimedOut(BuildEnded):
    """Stop a stage that exceeded its time limit."""

    status: Status = "timed_out"

    def __init__(self, reason: str, hint: str | None = None) -> None:
        super().__init__(reason, hint, exit_code=124)

    @property
    def end_word(self) -> str:
        return f"Timed out: {self.reason}"


class BuildCancelled(BuildEnded):
    """Stop because of a signal; the exit code is 128 + its number, as in shells."""

    status: Status = "cancelled"

    def __init__(self, signal_number: int, reason: str) -> None:
        super().__init__(reason, exit_code=128 + signal_number)

    @property
    def end_word(self) -> str:
        return "Cancelled"


class BuildSuperseded(BuildEnded):
    """Stop because a later build of the same slug took over."""

    status: Status = "superseded"

    def __init__(
        self, reason: str = "A later build of this site took over; this one left the live site unchanged."
    ) -> None:
        super().__init__(reason, exit_code=60)

    @property
    def end_word(self) -> str:
        return "Superseded"


class ConfigurationError(Exception):
    """List every problem of the environment in one message. Nothing was started."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = problems
        count = "1 problem" if len(problems) == 1 else f"{len(problems)} problems"
        super().__init__(
            f"The configuration has {count}; nothing was started.\n" + "\n".join(f"  - {p}" for p in problems)
        )


@contextmanager
def ungrouped() -> Iterator[None]:
    """Raise the first error of a task group itself, because handlers look for its class."""
    try:
        yield
    except BaseExceptionGroup as group:
        error: BaseException = group
        while isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        raise error from None
