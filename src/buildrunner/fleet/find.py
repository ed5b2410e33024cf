"""Find the task or the job of a build by its id, as `buildrunner submit` and the starters in deploy/ name it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from buildrunner.fleet.requests import RequestFailed, errors_explained
from buildrunner.fleet.task_state import TaskState, read_job, read_task

MOST_DESCRIBED = 100  # in one request, of either service


@dataclass(frozen=True, slots=True)
class FoundTask:
    """A task or a job, and the build that it was started for."""

    key: str  # ARN of the task, or id of the job
    slug: str
    build: str
    created: float  # Unix time, seconds
    state: TaskState


class TaskFinder(Protocol):
    """One service. Its methods raise RequestFailed."""

    service: str  # for people

    async def find(self, slug: str, build: str) -> Sequence[str]:
        """Return the keys of tasks that may be of a build; `describe` says whether they are."""

    async def describe(self, keys: Sequence[str]) -> list[FoundTask]:
        """Describe up to MOST_DESCRIBED tasks. Tasks that AWS no longer knows are left out."""


def job_name(slug: str, build: str) -> str:
    """Return the name of a build's job, which has at most 128 characters: a slug has 63, an id 64."""
    return f"{slug}-{build}"


class EcsFinder:
    """Find tasks in a cluster.

    Args:
        client: aiobotocore client of ECS.
        cluster: name or ARN.

    """

    service = "Amazon ECS"

    def __init__(self, client: Any, cluster: str) -> None:
        self._client = client
        self._cluster = cluster

    async def find(self, slug: str, build: str) -> Sequence[str]:
        # ECS lists tasks whose desired status is RUNNING, or STOPPED for an hour after they stopped.
        async with errors_explained():
            answer = await self._client.list_tasks(cluster=self._cluster, startedBy=build)
        if arns := answer["taskArns"]:
            return list(arns)
        try:
            async with errors_explained():
                answer = await self._client.list_tasks(cluster=self._cluster, startedBy=build, desiredStatus="STOPPED")
        except RequestFailed as error:
            # The documents disagree about `startedBy` with another filter. Tasks that were seen before are still known.
            if "startedBy" in error.reason:
                return []
            raise
        return list(answer["taskArns"])

    async def describe(self, keys: Sequence[str]) -> list[FoundTask]:
        async with errors_explained():
            answer = await self._client.describe_tasks(cluster=self._cluster, tasks=list(keys))
        found = []
        for task in answer["tasks"]:
            overrides = task.get("overrides", {}).get("containerOverrides", ())
            slug, build = _read_names(pair for override in overrides for pair in override.get("environment", ()))
            created = task["createdAt"].timestamp() if "createdAt" in task else 0.0
            found.append(FoundTask(task["taskArn"], slug, build, created, read_task(task)))
        return found


class BatchFinder:
    """Find jobs in a queue.

    Args:
        client: aiobotocore client of Batch.
        queue: name or ARN.

    """

    service = "AWS Batch"

    def __init__(self, client: Any, queue: str) -> None:
        self._client = client
        self._queue = queue

    async def find(self, slug: str, build: str) -> Sequence[str]:
        # With a filter, jobs of every status are listed, the newest first.
        filters = [{"name": "JOB_NAME", "values": [job_name(slug, build)]}]
        async with errors_explained():
            answer = await self._client.list_jobs(jobQueue=self._queue, filters=filters, maxResults=10)
        return [job["jobId"] for job in answer["jobSummaryList"]]

    async def describe(self, keys: Sequence[str]) -> list[FoundTask]:
        async with errors_explained():
            answer = await self._client.describe_jobs(jobs=list(keys))
        found = []
        for job in answer["jobs"]:
            slug, build = _read_names(job.get("container", {}).get("environment", ()))
            found.append(FoundTask(job["jobId"], slug, build, job.get("createdAt", 0) / 1000, read_job(job)))
        return found


def _read_names(environment: Iterable[Mapping[str, str]]) -> tuple[str, str]:
    """Return `SLUG` and `BUILD_ID`. A name alone could be that of another site: a-b of c is a of b-c."""
    values = {pair.get("name", ""): pair.get("value", "") for pair in environment}
    return values.get("SLUG", ""), values.get("BUILD_ID", "")
