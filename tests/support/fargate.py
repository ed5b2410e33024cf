"""Run the task definition of `deploy/cloudformation.yaml` on a Docker engine as Fargate would."""

from __future__ import annotations

import json
import subprocess
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from support.ecs_endpoint import ADDRESS, PATH
from support.harness import Program, Redis, wait_for
from support.s3_server import S3Server
from support.template import Template

PYTHON = "/opt/buildrunner/bin/python"  # the image's
# Variables that Fargate sets: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-metadata-endpoint-v4-fargate.html
PLATFORM = {
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": PATH,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EXECUTION_ENV": "AWS_ECS_FARGATE",
    "ECS_AGENT_URI": f"http://{ADDRESS}/api/0123456789abcdef",
    "ECS_CONTAINER_METADATA_URI_V4": f"http://{ADDRESS}/v4/0123456789abcdef",
}


def docker(*arguments: str) -> str:
    done = subprocess.run(["docker", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"docker {' '.join(arguments)}: {done.stderr}"
    return done.stdout.strip()


def shell(image: str, script: str, *options: str) -> str:
    """Run a script in a container of the image, as root with a read-only file system, and return its output."""
    return docker("run", "--rm", "--read-only", "--network=none", "--entrypoint=/bin/sh", *options, image, "-c", script)


@dataclass(frozen=True)
class Task:
    """The network of a task, with the credentials endpoint of the task's role."""

    network: str  # the container whose network namespace it joins

    def endpoint_requests(self) -> list[str]:
        return docker("logs", self.network).splitlines()


@contextmanager
def task_network(image: str, credentials: Mapping[str, str]) -> Iterator[Task]:
    """Create the network namespace of a task, with an endpoint for these credentials (from `assume_role`)."""
    name = f"network-{uuid.uuid4().hex[:8]}"
    program = Path(__file__).with_name("ecs_endpoint.py")
    options = ["--cap-add=NET_ADMIN", f"--mount=type=bind,src={program},dst=/endpoint.py,readonly"]
    answer = {"RoleArn": "arn:aws:iam::000000000000:role/task", **credentials, "Token": credentials["SessionToken"]}
    variables = f"--env=CREDENTIALS={json.dumps(answer)}"
    docker("run", "--detach", f"--name={name}", *options, variables, f"--entrypoint={PYTHON}", image, "/endpoint.py")
    try:
        probe = f"import socket; socket.create_connection(('{ADDRESS}', 80), 1)"
        wait_for(lambda: _succeeds("docker", "exec", name, PYTHON, "-c", probe), "the endpoint of the role", 20)
        yield Task(name)
    finally:
        docker("rm", "--force", "--volumes", name)


class Fargate(Program):
    """The program as a task of the template's `BuildTask`. The container of a build is named after its slug."""

    def __init__(self, image: str, task: Task, redis: Redis, s3: S3Server, folder: Path) -> None:
        super().__init__(redis, s3, folder)
        self.image = image
        self.task = task
        self.tmp: str | None = (
            None  # options of the tmpfs that is /tmp, "size=20m,mode=1777"; else it is the task's volume
        )
        self._made: list[str] = []

    def environment(self, repository: str | Path | None, **variables: str | None) -> dict[str, str]:
        definition = Template().task_definition()["containerDefinitions"][0]
        secrets = {"REDIS_URI": self.redis.uri}
        given: dict[str, str | None] = {
            **PLATFORM,
            **{variable["name"]: variable["value"] for variable in definition["environment"]},
            **{secret["name"]: secrets[secret["name"]] for secret in definition["secrets"]},
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL_S3": self.s3.endpoint,
            # Node.js has its own certificates. These are the image's, to which the test images add the machine's.
            "NODE_EXTRA_CA_CERTS": "/etc/ssl/certs/ca-certificates.crt",
            "REPO_ALLOWED_SCHEMES": "http",
            "REPO_URL": str(repository) if repository else None,
            "SLUG": f"t-{uuid.uuid4().hex[:12]}",
            **variables,
        }
        return {name: value for name, value in given.items() if value is not None}

    def start(self, environment: Mapping[str, str], *arguments: str, **options: Any) -> subprocess.Popen[str]:
        task = Template().task_definition()
        (container,) = task["containerDefinitions"]
        linux = container["linuxParameters"]
        name = environment.get("SLUG", uuid.uuid4().hex)
        if name in self._made:
            name = f"{name}-{len(self._made)}"
        self._made.append(name)
        memory = f"{task['memory']}m"
        command = ["docker", "run", f"--name={name}", f"--network=container:{self.task.network}"]
        command += [f"--cpus={int(task['cpu']) / 1024}", f"--memory={memory}", f"--memory-swap={memory}"]
        command += [f"--stop-timeout={container['stopTimeout']}"]
        command += ["--read-only"] if container["readonlyRootFilesystem"] else []
        command += ["--init"] if linux["initProcessEnabled"] else []
        command += [f"--cap-drop={capability}" for capability in linux["capabilities"]["drop"]]
        if self.tmp:
            command.append(f"--tmpfs=/tmp:rw,exec,{self.tmp}")
        else:
            command += [f"--mount=type=volume,dst={mount['containerPath']}" for mount in container["mountPoints"]]
        command += [f"--env={variable}={value}" for variable, value in environment.items()]
        return subprocess.Popen(
            [*command, self.image, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            **options,
        )

    def wait_for_line(self, slug: str, text: str) -> None:
        """Wait until the console of a build contains a text."""
        wait_for(lambda: _succeeds("sh", "-c", f"docker logs {slug} 2>&1 | grep -qF '{text}'"), f"the line {text!r}")

    def objects_anywhere(self) -> list[str]:
        client = self.client()
        buckets = ("sites", "state")
        return [
            f"{bucket}/{entry['Key']}"
            for bucket in buckets
            for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket)
            for entry in page.get("Contents", [])
        ]

    def close(self) -> None:
        if self._made:
            docker("rm", "--force", "--volumes", *self._made)


def _succeeds(*command: str) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode == 0
