"""The image, built from the Dockerfile, and the servers that its tasks reach over the engine's network."""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.attacker import Attacker
from support.fargate import Fargate, Task, docker, task_network
from support.git_server import GitServer, git_server
from support.harness import ROOT, Redis, Repositories, free_port
from support.s3_server import S3Server, s3_server
from support.template import Template

TAG = "buildrunner:image-test"


@pytest.fixture(scope="session")
def image() -> str:
    """Build the image."""
    return build_image(TAG)


@pytest.fixture(scope="session")
def dev_image(image: str) -> str:
    """Build the image with the servers of `dev`, and of compose.yaml."""
    return build_image(f"{image}-dev", "--target=dev")


def build_image(tag: str, *options: str) -> str:
    """Build from the Dockerfile; `with-engine.sh` names other base images where no registry gives those that it names."""
    if not shutil.which("docker"):
        pytest.exit("These tests need a Docker engine: run `make image-test`, which starts one where there is none.", 1)
    named = [f"--build-arg={name}={os.environ[name]}" for name in ("PYTHON_IMAGE", "NODE_IMAGE") if name in os.environ]
    # Where a registry does not answer for a while, or not over the engine's network; what is built stays for the next attempt.
    for network in ("default", "host", "default"):
        command = [
            "docker",
            "build",
            "--progress=plain",
            f"--network={network}",
            f"--tag={tag}",
            *options,
            *named,
            str(ROOT),
        ]
        done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        if done.returncode == 0:
            return tag
        print(done.stdout[-8000:])
        time.sleep(20)
    # No test can run without it, and its words are worth reading once.
    pytest.exit(f"The image cannot be built: {' '.join(command)}\n{done.stdout[-8000:]}", 1)


@pytest.fixture(scope="session")
def host(image: str) -> str:
    """This machine's address on the engine's network."""
    return docker("network", "inspect", "bridge", "--format", "{{(index .IPAM.Config 0).Gateway}}")


@pytest.fixture(scope="session")
def shared_redis(host: str, open_folder: Path) -> Iterator[Redis]:
    server = Redis(free_port(), open_folder, host)
    yield server
    server.kill()


@pytest.fixture
def own_redis(host: str, open_folder: Path) -> Iterator[Redis]:
    server = Redis(free_port(), open_folder, host)
    yield server
    server.kill()


@pytest.fixture(scope="session")
def s3(host: str) -> Iterator[S3Server]:
    with s3_server(host=host, roles={"task": Template().policy("BuildRole")}) as server:
        server.make_bucket("sites")
        server.make_bucket("state")
        yield server


@pytest.fixture(scope="session")
def git(host: str, repositories: Repositories) -> Iterator[GitServer]:
    with git_server(repositories.folder, host=host) as server:
        yield server


@pytest.fixture(scope="session")
def task(image: str, s3: S3Server) -> Iterator[Task]:
    with task_network(image, s3.assume_role("task")) as task:
        yield task


@pytest.fixture
def program(image: str, task: Task, shared_redis: Redis, s3: S3Server, open_folder: Path) -> Iterator[Fargate]:
    program = Fargate(image, task, shared_redis, s3, open_folder)
    yield program
    program.close()


@pytest.fixture
def attacker(program: Fargate, git: GitServer, repositories: Repositories) -> Attacker:
    return Attacker("in the image", program, repositories, state_bucket="state", url=git.url)
