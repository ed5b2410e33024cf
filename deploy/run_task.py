"""Start a build on Fargate. Needs boto3; an API server imports or copies `start_build`."""

import argparse
import re
import secrets
import time
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

# Words in a variable's name that mark its value as a secret. KEY marks one only after a word of KEY_WORDS. buildrunner
# redacts by the same rule (docs/security.md).
SECRET_WORDS = {"TOKEN", "SECRET", "SECRETS", "PASSWORD", "PASSWD", "PASS", "PASSPHRASE", "CREDENTIAL", "CREDENTIALS"}
SECRET_WORDS |= {"JWT", "PAT"}
KEY_WORDS = {
    "API",
    "ACCESS",
    "PRIVATE",
    "SECRET",
    "SIGNING",
    "ENCRYPTION",
    "DEPLOY",
    "SERVICE",
    "ROLE",
    "MASTER",
    "SSH",
}
KEY_WORDS |= {"HMAC"}


def is_secret(name: str, value: str) -> bool:
    """Return whether a variable must not be an override, which everyone who can call DescribeTasks can read."""
    words = [word.upper() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    return (
        name == "REDIS_URI"
        or not SECRET_WORDS.isdisjoint(words)
        or words[-1:] == ["AUTH"]
        or any(word == "KEY" and before in KEY_WORDS for before, word in pairwise(words))
        or re.match(r"[a-z+]+://[^/]*@", value, re.IGNORECASE) is not None  # an address with a password or a token
    )


def start_build(
    ecs: Any,  # boto3.client("ecs"), which retries; the client token makes that safe
    variables: Mapping[str, str],  # the environment: REPO_URL, SLUG and other variables of this build
    *,
    cluster: str,
    subnets: Sequence[str],
    security_groups: Sequence[str],
    task_definition: str = "buildrunner",  # its newest revision
    capacity: str = "FARGATE",  # or FARGATE_SPOT
    public_ip: str = "DISABLED",  # ENABLED in a subnet without NAT
) -> tuple[str, str]:
    """Start a build and return its BUILD_ID and the task's ARN. Repeating a BUILD_ID starts no second task."""
    build_id = variables.get("BUILD_ID") or f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(8)}"
    if unsafe := [name for name, value in variables.items() if is_secret(name, value)]:
        raise ValueError(f"secrets must not be overrides: {', '.join(unsafe)}")
    environment = [{"name": name, "value": value} for name, value in {**variables, "BUILD_ID": build_id}.items()]
    network = {"subnets": [*subnets], "securityGroups": [*security_groups], "assignPublicIp": public_ip}
    answer = ecs.run_task(
        cluster=cluster,
        taskDefinition=task_definition,
        capacityProviderStrategy=[{"capacityProvider": capacity, "weight": 1}],
        networkConfiguration={"awsvpcConfiguration": network},
        overrides={"containerOverrides": [{"name": "buildrunner", "environment": environment}]},
        clientToken=build_id,
        startedBy=build_id,  # so that ListTasks finds a build's task
        tags=[{"key": "slug", "value": variables["SLUG"]}],
        propagateTags="TASK_DEFINITION",
        enableExecuteCommand=False,
    )
    if answer["failures"] or not answer["tasks"]:  # ECS reports this with status 200
        raise RuntimeError(f"ECS started no task: {answer['failures']}")
    return build_id, answer["tasks"][0]["taskArn"]


if __name__ == "__main__":
    import boto3

    parser = argparse.ArgumentParser(description="Start a build on Fargate; print its BUILD_ID and its task.")
    for name in ("cluster", "subnets", "security-groups"):
        parser.add_argument(f"--{name}", required=True, type=str if name == "cluster" else lambda text: text.split(","))
    parser.add_argument("variables", nargs="+", metavar="NAME=VALUE", help="at least REPO_URL=... and SLUG=...")
    options = vars(parser.parse_args())
    print(*start_build(boto3.client("ecs"), dict(pair.split("=", 1) for pair in options.pop("variables")), **options))
