"""Read descriptions of tasks and jobs: the phase, its start, and why the task stopped. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from buildrunner.fleet.transient import classify

Phase = Literal["queued", "starting", "running", "stopping", "stopped"]

# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-lifecycle-explanation.html
_PHASES_OF_ECS: Mapping[str, Phase] = {
    "PROVISIONING": "queued",
    "PENDING": "starting",
    "ACTIVATING": "starting",
    "RUNNING": "running",
    "DEACTIVATING": "stopping",
    "STOPPING": "stopping",
    "DEPROVISIONING": "stopping",
    "STOPPED": "stopped",
    "DELETED": "stopped",
}
# https://docs.aws.amazon.com/batch/latest/userguide/job_states.html
_PHASES_OF_BATCH: Mapping[str, Phase] = {
    "STARTING": "starting",
    "RUNNING": "running",
    "SUCCEEDED": "stopped",
    "FAILED": "stopped",
}
# What AWS says → what to do about it.
_HINTS = (
    ("CannotPullContainer", "Check that the image exists, and that the subnets reach its registry."),
    ("OutOfMemory", "Give the task more memory."),
    ("Spot", "Submit it again, or without ECS_CAPACITY=spot."),
    ("ResourceInitializationError", "Check the task definition's secrets, its execution role, and the network."),
    ("exec format error", "Build the image for the CPU architecture of the task definition."),
)
_HINT_OF_CONFIGURATION = "Its configuration is refused: the container's own log names the problems."
_HINT_OF_CAPACITY = "AWS has no room at the moment. Submit it again in a few minutes."


@dataclass(frozen=True, slots=True)
class TaskState:
    """The state of a build's task or job, as AWS describes it."""

    phase: Phase
    since: datetime | None = None  # when the phase began; None where AWS does not say
    reason: str = ""  # why it stopped, in AWS's words
    exit_code: int | None = None  # of its container
    is_lack_of_capacity: bool = False  # it never ran, and may if it is started again


def read_task(task: Mapping[str, Any], container: str | None = None) -> TaskState:
    """Return the state of a task as DescribeTasks describes it.

    Args:
        task: one of `tasks`.
        container: name of the build's container; None for the one with overridden variables.

    """
    phase = _PHASES_OF_ECS.get(task["lastStatus"], "running")
    created = task.get("createdAt")
    times = {
        "queued": created,
        "starting": task.get("pullStartedAt") or created,
        "running": task.get("startedAt"),
        "stopping": task.get("stoppingAt"),
        "stopped": task.get("stoppedAt") or task.get("stoppingAt"),
    }
    if phase not in {"stopping", "stopped"}:
        return TaskState(phase, times[phase])
    if container is None:
        overridden = task.get("overrides", {}).get("containerOverrides", ())
        container = next((each.get("name") for each in overridden), None)
    containers: list[dict[str, Any]] = task.get("containers", [])
    own = next((each for each in containers if each.get("name") == container), {})
    reasons = dict.fromkeys(filter(None, [task.get("stoppedReason"), own.get("reason")]))
    never_ran = task.get("stopCode") == "TaskFailedToStart" and "exitCode" not in own
    lacks = never_ran and any(classify("", reason) for reason in reasons)
    return TaskState(phase, times[phase], " ".join(reasons), own.get("exitCode"), lacks)


def read_job(job: Mapping[str, Any]) -> TaskState:
    """Return the state of a job as DescribeJobs describes it; its times are milliseconds of Unix time."""
    phase = _PHASES_OF_BATCH.get(job["status"], "queued")
    times = {"queued": "createdAt", "running": "startedAt", "stopped": "stoppedAt"}  # STARTING has no time
    milliseconds = job.get(times.get(phase, ""))
    since = datetime.fromtimestamp(milliseconds / 1000, UTC) if milliseconds else None
    if phase != "stopped":
        return TaskState(phase, since)
    container = job.get("container", {})
    reasons = dict.fromkeys(filter(None, [job.get("statusReason"), container.get("reason")]))
    return TaskState(phase, since, " ".join(reasons), container.get("exitCode"))


def explain_stop(state: TaskState, *, has_begun: bool) -> tuple[str, str | None]:
    """Return why a task stopped, in AWS's words and without the period, and what to do about it if that is known.

    Args:
        state: state of a stopped task.
        has_begun: whether its build wrote a line.

    """
    code = f"; exit code {state.exit_code}" if state.exit_code is not None else ""
    reason = (state.reason.rstrip(".") or "no reason is known") + code
    if state.exit_code == 2 and not has_begun:
        return reason, _HINT_OF_CONFIGURATION
    if state.is_lack_of_capacity:
        return reason, _HINT_OF_CAPACITY
    return reason, next((hint for words, hint in _HINTS if words in state.reason), None)
