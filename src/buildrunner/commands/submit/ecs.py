"""Run a build as a task of Amazon ECS on Fargate."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from buildrunner.commands.submit.engine import environment_of
from buildrunner.fleet.requests import RequestFailed, errors_explained
from buildrunner.fleet.task_state import TaskState, read_task
from buildrunner.fleet.transient import classify


@dataclass(frozen=True, slots=True)
class EcsTarget:
    """Where tasks run."""

    cluster: str
    task_definition: str
    subnets: Sequence[str]
    security_groups: Sequence[str]
    container: str | None  # None: the only one of the task definition
    has_public_ip: bool
    uses_spot: bool


class Ecs:
    """One build on ECS.

    Args:
        client: of ECS.
        target: where it runs.
        slug: of the site.
        build: id of the build.
        variables: of the build.

    """

    service = "Amazon ECS"

    def __init__(self, client: Any, target: EcsTarget, *, slug: str, build: str, variables: Mapping[str, str]) -> None:
        self._client = client
        self._target = target
        self._slug = slug
        self._build = build
        self._variables = variables
        self._container = target.container
        self._on_spot = target.uses_spot
        self._launches = 0  # that were answered: the next one is another
        self._task: str | None = None

    async def launch(self) -> None:
        target = self._target
        async with errors_explained():
            if self._container is None:
                self._container = await self._find_container()
            network = {
                "subnets": list(target.subnets),
                "securityGroups": list(target.security_groups),
                "assignPublicIp": "ENABLED" if target.has_public_ip else "DISABLED",
            }
            override = {"name": self._container, "environment": environment_of(self._variables)}
            answer = await self._client.run_task(
                cluster=target.cluster,
                taskDefinition=target.task_definition,
                count=1,
                overrides={"containerOverrides": [override]},
                # A lost answer must not start a second task; other parameters need another token (ConflictException).
                clientToken=f"{self._build}-{self._launches}",
                startedBy=self._build,
                tags=[{"key": "slug", "value": self._slug}],
                propagateTags="TASK_DEFINITION",
                enableExecuteCommand=False,
                **({"networkConfiguration": {"awsvpcConfiguration": network}} if target.subnets else {}),
                **(
                    {"capacityProviderStrategy": [{"capacityProvider": "FARGATE_SPOT", "weight": 1}]}
                    if self._on_spot
                    else {"launchType": "FARGATE"}
                ),
            )
        if tasks := answer.get("tasks"):
            self._task = tasks[0]["taskArn"]
            return
        failure: dict[str, str] = next(iter(answer.get("failures", ())), {})
        reason = failure.get("reason") or "RunTask returned no task"
        self._lacks(classify("", reason) == "capacity")
        raise RequestFailed(": ".join(filter(None, [reason, failure.get("detail")])), classify("", reason))

    async def look(self) -> TaskState | None:
        async with errors_explained():
            answer = await self._client.describe_tasks(cluster=self._target.cluster, tasks=[self._task])
        if not answer.get("tasks"):  # ECS is eventually consistent
            return None
        state = read_task(answer["tasks"][0], self._container)
        if state.phase == "stopped":
            self._lacks(state.is_lack_of_capacity)
        return state

    async def stop(self) -> None:
        if self._task:
            async with errors_explained():
                await self._client.stop_task(
                    cluster=self._target.cluster, task=self._task, reason="Stopped by buildrunner submit."
                )

    def _lacks(self, is_lack_of_capacity: bool) -> None:
        """Note that the launch is over. Where Spot has no capacity, the next one is on demand."""
        self._launches += 1
        self._on_spot = self._on_spot and not is_lack_of_capacity

    async def _find_container(self) -> str:
        name = self._target.task_definition
        answer = await self._client.describe_task_definition(taskDefinition=name)
        names = [container["name"] for container in answer["taskDefinition"]["containerDefinitions"]]
        if len(names) != 1:
            raise RequestFailed(f"{name} has several containers: set ECS_CONTAINER to one of {', '.join(names)}")
        return str(names[0])
