"""Start a build on Fargate. Needs boto3; an API server imports or copies `start_build`."""

import argparse
import random
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
    """Return whether a variable must not be an override: overrides are visible in DescribeTasks."""
    words = [word.upper() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+", name)]
    return (
        name in {"REDIS_URI", "WEBHOOK_URL"}
        or not SECRET_WORDS.isdisjoint(words)
        or words[-1:] == ["AUTH"]
        or any(word == "KEY" and before in KEY_WORDS for before, word in pairwise(words))
        or re.match(r"[a-z+]+://[^/]*@", value, re.IGNORECASE) is not None  # an address with a password or a token
    )


# How ECS says that it throttles, also in the name of EC2, and that it has no room; `buildrunner submit` retries the same.
THROTTLED_CODES = {"EC2ThrottledException", "PriorRequestNotComplete", "RequestLimitExceeded", "RequestThrottled"}
THROTTLED_CODES |= {"RequestThrottledException", "SlowDown", "ThrottledException", "Throttling", "ThrottlingException"}
THROTTLED_CODES |= {"TooManyRequestsException"}
THROTTLED = r"rate exceeded|request limit exceeded|too many requests|throttl"
CAPACITY = (
    r"capacity is unavailable|no capacity|insufficient capacity|limit on the number of (tasks|vcpus)"
    r"|unable to place a task|timeout waiting for .* provisioning|^RESOURCE:|^AGENT$"
)
RETRY_SECONDS = 300


def lacks_capacity(code: str, message: str, status: int) -> bool | None:
    """Return whether ECS has no room; False for another error that a retry may not meet, None for what would fail again."""
    if code in THROTTLED_CODES or status == 429 or re.search(THROTTLED, message, re.IGNORECASE):
        return False
    if re.search(CAPACITY, message, re.IGNORECASE):
        return True
    return False if status >= 500 else None


def start_build(
    ecs: Any,  # boto3.client("ecs")
    variables: Mapping[str, str],  # the environment: REPO_URL, SLUG and other variables of this build
    *,
    cluster: str,
    subnets: Sequence[str],
    security_groups: Sequence[str],
    task_definition: str = "buildrunner",  # its newest revision
    capacity: str = "FARGATE",  # or FARGATE_SPOT, which gives way to FARGATE where it has no room
    public_ip: str = "DISABLED",  # ENABLED in a subnet without NAT
) -> tuple[str, str]:
    """Start a build and return its BUILD_ID and the task's ARN. Repeating a BUILD_ID starts no second task.

    Throttling and lack of capacity are retried with jittered backoff for up to 5 minutes.
    """
    build_id = variables.get("BUILD_ID") or f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{secrets.token_hex(8)}"
    if unsafe := [name for name, value in variables.items() if is_secret(name, value)]:
        raise ValueError(f"secrets must not be overrides: {', '.join(unsafe)}")
    environment = [{"name": name, "value": value} for name, value in {**variables, "BUILD_ID": build_id}.items()]
    network = {"subnets": [*subnets], "securityGroups": [*security_groups], "assignPublicIp": public_ip}
    until = time.monotonic() + RETRY_SECONDS
    retries = launches = 0
    while True:
        try:
            answer = ecs.run_task(
                cluster=cluster,
                taskDefinition=task_definition,
                capacityProviderStrategy=[{"capacityProvider": capacity, "weight": 1}],
                networkConfiguration={"awsvpcConfiguration": network},
                overrides={"containerOverrides": [{"name": "buildrunner", "environment": environment}]},
                # The same until ECS has answered: a lost answer must not start a second task.
                clientToken=f"{build_id[:58]}-{launches}" if launches else build_id,
                startedBy=build_id,  # so that ListTasks finds a build's task
                tags=[{"key": "slug", "value": variables["SLUG"]}],
                propagateTags="TASK_DEFINITION",
                enableExecuteCommand=False,
            )
            if answer.get("tasks"):
                return build_id, answer["tasks"][0]["taskArn"]
            launches += 1  # ECS reports this with status 200
            failures = answer.get("failures", [])
            error: Exception = RuntimeError(f"ECS started no task: {failures}")
            lacks = lacks_capacity("", next((each.get("reason", "") for each in failures), ""), 200)
        except Exception as caught:
            if not (response := getattr(caught, "response", None)):  # none of botocore's ClientErrors
                raise
            error, details = caught, response["Error"]
            status = response["ResponseMetadata"]["HTTPStatusCode"]
            lacks = lacks_capacity(details.get("Code", ""), details.get("Message", ""), status)
        pause = random.uniform(0, min(20, 2 * 2 ** min(retries, 9)))  # noqa: S311 - full jitter
        if lacks is None or time.monotonic() + pause > until:
            raise error
        if lacks:
            capacity = "FARGATE"
        retries += 1
        time.sleep(pause)


if __name__ == "__main__":
    import boto3

    parser = argparse.ArgumentParser(description="Start a build on Fargate; print its BUILD_ID and its task.")
    for name in ("cluster", "subnets", "security-groups"):
        parser.add_argument(f"--{name}", required=True, type=str if name == "cluster" else lambda text: text.split(","))
    parser.add_argument("variables", nargs="+", metavar="NAME=VALUE", help="at least REPO_URL=... and SLUG=...")
    options = vars(parser.parse_args())
    print(*start_build(boto3.client("ecs"), dict(pair.split("=", 1) for pair in options.pop("variables")), **options))
