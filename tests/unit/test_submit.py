"""Test which arguments `buildrunner submit` refuses, and which AWS errors it retries."""

from __future__ import annotations

import importlib.util
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.commands.submit.batch import BatchTarget
from buildrunner.commands.submit.ecs import EcsTarget
from buildrunner.commands.submit.request import Request, read_request
from buildrunner.commands.submit.start import RETRY
from buildrunner.config.variables import VARIABLES
from buildrunner.errors import ConfigurationError
from buildrunner.fleet.transient import classify

ROOT = Path(__file__).parents[2]
URL = "https://github.com/owner/name"
ENVIRONMENT = {"AWS_REGION": "eu-central-1", "REDIS_URI": "redis://cache:6379", "ECS_TASK_DEFINITION": "buildrunner"}
BATCH = {"BATCH_JOB_QUEUE": "builds", "BATCH_JOB_DEFINITION": "buildrunner"}


def read(environment: dict[str, str] | None = None, url: str = URL, **arguments: Any) -> Request:
    given = {"slug": "my-site", "ref": None, "variables": [], "share": None, "detach": False} | arguments
    return read_request({**ENVIRONMENT, **(environment or {})}, repo_url=url, **given)


def problems(environment: dict[str, str] | None = None, url: str = URL, **arguments: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        read(environment, url, **arguments)
    return str(caught.value)


def test_defaults_are_those_that_are_promised() -> None:
    request = read()

    assert request.target == EcsTarget("default", "buildrunner", (), (), None, has_public_ip=False, uses_spot=False)
    assert set(request.variables) == {"REPO_URL", "SLUG", "BUILD_ID"}


def test_every_variable_is_read() -> None:
    request = read(
        {
            "ECS_CLUSTER": "builds",
            "ECS_SUBNETS": "subnet-1, subnet-2",
            "ECS_SECURITY_GROUPS": "sg-1",
            "ECS_CONTAINER": "runner",
            "ECS_PUBLIC_IP": "on",
            "ECS_CAPACITY": "spot",
        }
    )

    expected = EcsTarget(
        "builds", "buildrunner", ("subnet-1", "subnet-2"), ("sg-1",), "runner", has_public_ip=True, uses_spot=True
    )
    assert request.target == expected
    assert read(BATCH, share="a1").target == BatchTarget("builds", "buildrunner", "a1")


def test_page_of_the_build_is_known_before_it_starts() -> None:
    request = read({"BUILD_URL": "https://builds.example.com/{slug}/{build}"})

    assert request.page == f"https://builds.example.com/my-site/{request.build}"
    assert "BUILD_URL" not in request.variables


def test_environment_of_the_caller_is_not_passed_on() -> None:
    request = read({"BUILD_ENV_A": "1", "GIT_TOKEN": "t", "REPO_REF": "other", "SLUG": "other"}, ref="main")

    assert request.variables == {
        "REPO_URL": URL,
        "SLUG": "my-site",
        "BUILD_ID": request.build,
        "REPO_REF": "main",
    }


@pytest.mark.parametrize(
    ("pair", "problem"),
    [
        ("REPO_URL=https://a.org/b", "REPO_URL cannot be set with --env"),
        ("GIT_REPOSITORY__URL=https://a.org/b", "cannot be set with --env"),
        ("SLUG=x", "SLUG cannot be set with --env"),
        ("BUILD_ID=x", "BUILD_ID cannot be set with --env"),
        ("GIT_TOKEN=ghp_x", "GIT_TOKEN is a secret"),
        ("REDIS_URI=redis://a", "REDIS_URI is a secret"),
        ("AWS_SECRET_ACCESS_KEY=x", "AWS_SECRET_ACCESS_KEY is a secret"),
        ("WEBHOOK_URL=https://a.org/x", "WEBHOOK_URL is a secret"),
        ("WEBHOOK_SECRET=x", "WEBHOOK_SECRET is a secret"),
        ("COMMIT_STATUS_TOKEN=x", "COMMIT_STATUS_TOKEN is a secret"),
        ("INSTALL_ENV_NPM_TOKEN=npm_x", "INSTALL_ENV_NPM_TOKEN is a secret"),
        ("BUILD_ENV_apiKey=x", "BUILD_ENV_apiKey is a secret"),
        ("BUILD_ENV_DATABASE_URL=postgres://me:pw@db/x", "BUILD_ENV_DATABASE_URL is a secret"),
        ("BUILD_ENV_PATH=/x", "BUILD_ENV_PATH is refused"),
        ("NODE_VERSOIN=22", "NODE_VERSOIN is not a variable of a build. Did you mean NODE_VERSION?"),
        ("ECS_CLUSTER=x", "ECS_CLUSTER is not a variable of a build"),
        ("BUILD_TIMEOUT=soon", "BUILD_TIMEOUT is 'soon', but must be"),
        ("NODE_VERSION", "must be NAME=VALUE"),
    ],
)
def test_variable_that_a_build_may_not_be_given_is_refused(pair: str, problem: str) -> None:
    text = problems(variables=[pair])

    assert problem in text
    assert "postgres://" not in text


def test_names_of_secrets_can_be_added() -> None:
    pairs = ["REDACT_VARS=LICENSE_*", "BUILD_ENV_LICENSE_ID=1"]

    assert "BUILD_ENV_LICENSE_ID is a secret" in problems(variables=pairs)
    assert read(variables=pairs[1:]).variables["BUILD_ENV_LICENSE_ID"] == "1"


def test_value_may_contain_equals_signs_and_be_empty() -> None:
    variables = read(variables=["BUILD_ENV_A=b=c", "OUTPUT_DIR="]).variables

    assert (variables["BUILD_ENV_A"], variables["OUTPUT_DIR"]) == ("b=c", "")


@pytest.mark.parametrize(
    ("environment", "arguments", "problem"),
    [
        ({"ECS_TASK_DEFINITION": ""}, {}, "ECS_TASK_DEFINITION is missing"),
        ({"REDIS_URI": ""}, {}, "REDIS_URI is missing. Set it to follow the build's log, or use --detach."),
        ({"AWS_REGION": "", "AWS_CONFIG_FILE": "/dev/null"}, {}, "AWS_REGION is missing"),
        ({"ECS_PUBLIC_IP": "yes"}, {}, "ECS_PUBLIC_IP is 'yes', but must be on or off"),
        ({"ECS_CAPACITY": "cheap"}, {}, "ECS_CAPACITY is 'cheap', but must be spot"),
        ({}, {"share": "a"}, "--share is for AWS Batch, but BATCH_JOB_QUEUE is not set"),
        ({"BATCH_JOB_QUEUE": "builds"}, {}, "BATCH_JOB_DEFINITION is missing"),
        ({}, {"slug": "My Site"}, "SLUG is 'My Site'"),
        ({}, {"ref": "-x"}, "REPO_REF is '-x'"),
        ({}, {"ref": "a", "variables": ["REPO_REF=b"]}, "--env REPO_REF and --ref are both given"),
        ({}, {"variables": ["NODE_VERSION=1", "NODE_VERSION=2"]}, "--env NODE_VERSION is given twice"),
        ({}, {"url": "https://token1234567890123@a.org/b"}, "REPO_URL contains credentials"),
        ({}, {"url": "ext::sh"}, "REPO_URL is"),
        ({}, {"variables": ["BUILD_ENV_A=" + "x" * 9000]}, "more than 8192 characters"),
    ],
)
def test_wrong_request_is_refused(environment: dict[str, str], arguments: dict[str, Any], problem: str) -> None:
    text = problems(environment, **arguments)

    assert problem in text
    assert "token1234567890123" not in text


def test_no_variable_of_the_table_is_forgotten() -> None:
    """Each variable is either refused or passed on."""
    for variable in VARIABLES:
        if "run" in variable.commands and not variable.secret and variable.name not in {"REPO_URL", "SLUG", "BUILD_ID"}:
            value = variable.example or variable.kind.format(variable.default)
            assert read(variables=[f"{variable.name}={value}"]).variables[variable.name] == value


# --- answers of AWS --------------------------------------------------------------------------------------------------

ANSWERS = [
    ("ThrottlingException", "Rate exceeded", 400, "throttled"),
    ("Throttling", "", 400, "throttled"),
    ("TooManyRequestsException", "Too Many Requests", 429, "throttled"),
    (
        "InvalidParameterException",
        "Error retrieving subnet information for [subnet-1]: Rate exceeded (ErrorCode: Throttling)",
        400,
        "throttled",
    ),
    (
        "InvalidParameterException",
        "Error retrieving security group information for [sg-1]: Request limit exceeded. (ErrorCode: RequestLimitExceeded)",
        400,
        "throttled",
    ),
    ("", "Rate exceeded", 200, "throttled"),
    (
        "",
        "Capacity is unavailable at this time. Please try again later or in a different availability zone",
        200,
        "capacity",
    ),
    ("ClientException", "You've reached the limit on the number of vCPUs you can run concurrently", 400, "capacity"),
    ("", "RESOURCE:MEMORY", 200, "capacity"),
    ("", "AGENT", 200, "capacity"),
    ("", "Timeout waiting for network interface provisioning to complete.", 200, "capacity"),
    ("ServerException", "Service Unavailable. Please try again later.", 500, "unavailable"),
    ("ServerException", "", 503, "unavailable"),
    ("ClusterNotFoundException", "Cluster not found.", 400, None),
    ("InvalidParameterException", "Subnet not found", 400, None),
    ("ClientException", "TaskDefinition is inactive", 400, None),
    ("AccessDeniedException", "User is not authorized to perform: ecs:RunTask", 400, None),
    ("", "MISSING", 200, None),
    ("", "CannotPullContainerError: pull image manifest has been retried 1 time(s)", 200, None),
]


@pytest.mark.parametrize(("code", "message", "status", "expected"), ANSWERS)
def test_answer_that_is_worth_another_attempt(code: str, message: str, status: int, expected: str | None) -> None:
    assert classify(code, message, status) == expected


def test_starters_take_the_same_answers_for_temporary() -> None:
    spec = importlib.util.spec_from_file_location("run_task", ROOT / "deploy" / "run_task.py")
    assert spec
    assert spec.loader
    starter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(starter)
    expected = [None if kind is None else kind == "capacity" for *_, kind in ANSWERS]
    cases = [answer[:3] for answer in ANSWERS]

    assert [starter.lacks_capacity(*case) for case in cases] == expected
    if node := shutil.which("node"):
        text = (ROOT / "deploy" / "run-task.mjs").read_text()
        (_, rules, _) = text.split("// --- retries\n")
        script = f"{rules}\nconsole.log(JSON.stringify({json.dumps(cases)}.map((c) => lacksCapacity(...c))))"
        printed = subprocess.run([node, "-e", script], check=True, capture_output=True, text=True).stdout
        assert json.loads(printed) == expected


@given(st.integers(0, 100))
def test_no_pause_is_longer_than_promised(retries: int) -> None:
    assert 0 <= RETRY.pause(retries) <= 20
