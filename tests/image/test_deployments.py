"""The image as a Kubernetes pod runs it, and as the services of the template: with what their security settings say."""

from __future__ import annotations

import http.client
import json
import uuid
from collections.abc import Iterator
from contextlib import closing

import pytest

from support.fargate import Fargate, Task, docker
from support.git_server import GitServer
from support.harness import Redis, Repositories, can_connect, wait_for
from support.kubernetes import KubernetesPod
from support.s3_server import S3Server
from support.template import Template

PROBE = """
grep -E '^(Uid|Cap|NoNewPrivs)' /proc/self/status | sed 's/^/status /'
for file in /etc/passwd /opt/buildrunner/app/buildrunner/cli.py /tmp; do test -w $file && echo "writable $file"; done
mkdir -p dist; echo page >dist/index.html
"""


@pytest.fixture
def pod(image: str, task: Task, shared_redis: Redis, s3: S3Server, open_folder: object) -> Iterator[KubernetesPod]:
    pod = KubernetesPod(image, task, shared_redis, s3, open_folder)  # type: ignore[arg-type]
    yield pod
    pod.close()


def test_the_job_of_kubernetes_builds_in_its_sandbox(
    pod: KubernetesPod, git: GitServer, repositories: Repositories
) -> None:
    """Its seven capabilities are enough to take all of them from the repository's commands."""
    run = pod.run(git.url(repositories.app(PROBE)), timeout=240)

    assert run.code == 0, run.stdout + run.stderr
    status = dict(line.removeprefix("status ").split(":\t") for line in run.lines if line.startswith("status "))
    assert status["Uid"].split() == ["10001"] * 4
    assert {value for name, value in status.items() if name.startswith("Cap")} == {"0" * 16}
    assert status["NoNewPrivs"] == "1"
    assert [line for line in run.lines if line.startswith("writable")] == ["writable /tmp"]
    assert pod.objects(run.slug)["index.html"]["body"] == b"page\n"
    inspected = json.loads(docker("inspect", run.slug))[0]["HostConfig"]
    assert (inspected["ReadonlyRootfs"], inspected["SecurityOpt"]) == (True, ["no-new-privileges"])


@pytest.mark.parametrize(("name", "path", "status"), [("GatewayTask", "/healthz", 200), ("SitesTask", "/", 404)])
def test_a_service_of_the_stack_answers_its_health_check(
    name: str, path: str, status: int, program: Fargate, host: str
) -> None:
    """As `nobody`, without capabilities, and without a path that it could write."""
    template = Template(ImageUri="x", SiteDomain="sites.example.com", CertificateArn="arn:aws:acm:x")
    (definition,) = template.task_definition(name)["containerDefinitions"]
    container = f"service-{uuid.uuid4().hex[:8]}"
    environment = {variable["name"]: variable["value"] for variable in definition["environment"]}
    environment |= {**program.s3.environment(), "AWS_REGION": "us-east-1"}
    if "secrets" in definition:
        environment |= {"REDIS_URI": program.redis.uri, "GATEWAY_SECRET": "s" * 64}
    options = [f"--user={definition['user']}", "--read-only", "--tmpfs=/tmp:ro", "--memory=512m", "--cpus=0.25"]
    options += [f"--cap-drop={capability}" for capability in definition["linuxParameters"]["capabilities"]["drop"]]
    options += [f"--env={variable}={value}" for variable, value in environment.items()]

    docker("run", "--detach", f"--name={container}", "--publish=8080", *options, program.image, *definition["command"])
    try:
        port = int(docker("port", container, "8080").splitlines()[0].rpartition(":")[2])
        wait_for(lambda: can_connect(port), "the port", 60)
        wait_for(lambda: "Listening on" in docker("logs", container), "the service to listen", 60)
        with closing(http.client.HTTPConnection("127.0.0.1", port, timeout=30)) as connection:
            connection.request("GET", path)
            answer = connection.getresponse()
            answer.read()
    finally:
        docker("rm", "--force", "--volumes", container)

    assert answer.status == status
