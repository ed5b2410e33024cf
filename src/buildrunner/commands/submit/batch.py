"""Run a build as a job of AWS Batch, which queues it and shares the capacity fairly."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from buildrunner.commands.submit.engine import environment_of
from buildrunner.fleet.find import job_name
from buildrunner.fleet.requests import RequestFailed, errors_explained
from buildrunner.fleet.task_state import TaskState, read_job

# The first rule that matches decides. A build whose program has ended wrote a result, also when Spot has warned it: it is not run
# again. The reasons are those of Fargate Spot and of Spot instances.
_RETRY = {
    "attempts": 3,
    "evaluateOnExit": [
        {"onExitCode": "*", "action": "EXIT"},
        {"onStatusReason": "Your Spot Task was interrupted*", "action": "RETRY"},
        {"onStatusReason": "Host EC2*", "action": "RETRY"},
        {"onReason": "*", "action": "EXIT"},
    ],
}
_DEFAULT_SHARE = "default"


@dataclass(frozen=True, slots=True)
class BatchTarget:
    """Where jobs run."""

    queue: str
    definition: str
    share: str | None  # None: `default` where the queue has a fair-share policy


class Batch:
    """One build on Batch.

    Args:
        client: of Batch.
        target: where it runs.
        slug: of the site.
        build: id of the build.
        variables: of the build.

    """

    service = "AWS Batch"

    def __init__(
        self, client: Any, target: BatchTarget, *, slug: str, build: str, variables: Mapping[str, str]
    ) -> None:
        self._client = client
        self._target = target
        self._name = job_name(slug, build)
        self._variables = variables
        self._share = target.share
        self._knows_share = target.share is not None
        self._job: str | None = None

    async def launch(self) -> None:
        target = self._target
        async with errors_explained():
            if not self._knows_share:
                answer = await self._client.describe_job_queues(jobQueues=[target.queue])
                if not answer.get("jobQueues"):
                    raise RequestFailed(f"there is no job queue {target.queue}")
                self._share = _DEFAULT_SHARE if answer["jobQueues"][0].get("schedulingPolicyArn") else None
                self._knows_share = True
            answer = await self._client.submit_job(
                jobName=self._name,
                jobQueue=target.queue,
                jobDefinition=target.definition,
                containerOverrides={"environment": environment_of(self._variables)},
                retryStrategy=_RETRY,
                **({"shareIdentifier": self._share} if self._share else {}),
            )
        self._job = answer["jobId"]

    async def look(self) -> TaskState | None:
        async with errors_explained():
            answer = await self._client.describe_jobs(jobs=[self._job])
        return read_job(answer["jobs"][0]) if answer.get("jobs") else None

    async def stop(self) -> None:
        if self._job:
            async with errors_explained():
                await self._client.terminate_job(jobId=self._job, reason="Stopped by buildrunner submit.")
