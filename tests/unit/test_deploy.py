"""Test `deploy/`: ECS accepts it, Fargate can run it, and its roles have only the permissions that they need."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import botocore.session
import pytest
from botocore.validate import ParamValidator

from buildrunner import __version__
from support.template import Template

ROOT = Path(__file__).parents[2]
IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/buildrunner:0.1.0"

# Variables of a build (docs/configuration.md). Names with the prefix BUILD_ENV_ or INSTALL_ENV_ are arbitrary.
DOCUMENTED_VARIABLES = set(
    re.findall(
        r"\S+",
        """
    REPO_URL GIT_REPOSITORY__URL SLUG PROJECT_ID BUILD_ID AWS_BUCKET_NAME STATE_BUCKET_NAME REDIS_URI AWS_REGION
    AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY AWS_SESSION_TOKEN AWS_ENDPOINT_URL_S3 AWS_ENDPOINT_URL REPO_REF ROOT_DIR
    INSTALL_COMMAND BUILD_COMMAND OUTPUT_DIR NODE_VERSION GIT_TOKEN REPO_ALLOWED_SCHEMES S3_KEY_PREFIX LOG_FORMAT
    LOG_CHANNEL EVENT_STREAM LOG_TTL LOG_MAX_BYTES CONSOLE_FORMAT CLONE_TIMEOUT INSTALL_TIMEOUT BUILD_TIMEOUT
    UPLOAD_TIMEOUT UPLOAD_CONCURRENCY SITE_URL BUILD_URL ASSET_GRACE DEPENDENCY_CACHE CACHE_SCOPE
    SITE_MAX_FILES SITE_MAX_BYTES SITE_MAX_FILE_BYTES
    """,
    )
)
REQUIRED_VARIABLES = {"AWS_BUCKET_NAME", "AWS_REGION", "REDIS_URI"}  # with REPO_URL and SLUG, which each run brings
SECRET_VARIABLES = {"REDIS_URI", "GIT_TOKEN", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}

# What the runner does as root: change the user of a command and empty its bounding set, end its processes, and own,
# read and remove what it left. A capability of this list that is dropped breaks every build.
NEEDED_CAPABILITIES = {"CHOWN", "DAC_OVERRIDE", "FOWNER", "KILL", "SETGID", "SETPCAP", "SETUID"}
# Docker's default set, which Fargate gives: https://docs.docker.com/engine/containers/run/#runtime-privilege-and-linux-capabilities
DEFAULT_CAPABILITIES = NEEDED_CAPABILITIES | {
    "AUDIT_WRITE",
    "FSETID",
    "MKNOD",
    "NET_BIND_SERVICE",
    "NET_RAW",
    "SETFCAP",
    "SYS_CHROOT",
}

# CPU units to MiB of memory: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-cpu-memory-error.html
FARGATE_MEMORY: dict[int, list[int]] = {
    256: [512, 1024, 2048],
    512: list(range(1024, 4096 + 1, 1024)),
    1024: list(range(2048, 8192 + 1, 1024)),
    2048: list(range(4096, 16384 + 1, 1024)),
    4096: list(range(8192, 30720 + 1, 1024)),
    8192: list(range(16384, 61440 + 1, 4096)),
    16384: list(range(32768, 122880 + 1, 8192)),
}
# https://docs.aws.amazon.com/AmazonECS/latest/developerguide/fargate-tasks-services.html, "Task definitions"
NOT_ON_FARGATE = {"disableNetworking", "dnsSearchDomains", "dnsServers", "dockerSecurityOptions", "extraHosts", "gpu"}
NOT_ON_FARGATE |= {"hostname", "links", "privileged"}
LINUX_NOT_ON_FARGATE = {"devices", "maxSwap", "sharedMemorySize", "swappiness"}


@pytest.fixture(scope="module")
def task() -> dict[str, Any]:
    return Template(ImageUri=IMAGE).task_definition()


@pytest.fixture(scope="module")
def container(task: dict[str, Any]) -> dict[str, Any]:
    (only,) = task["containerDefinitions"]
    found: dict[str, Any] = only
    return found


def wrong_enums(shape: Any, value: Any, path: str = "") -> Iterator[str]:
    """Yield each value that is not in its enum, which botocore's own validator doesn't check."""
    if shape.type_name == "structure":
        for name, member in value.items():
            yield from wrong_enums(shape.members[name], member, f"{path}.{name}")
    elif shape.type_name == "list":
        for index, item in enumerate(value):
            yield from wrong_enums(shape.member, item, f"{path}[{index}]")
    elif getattr(shape, "enum", None) and value not in shape.enum:
        yield f"{path}: {value!r} is none of {shape.enum}"


# --- the task definition ---------------------------------------------------------------------------------------------


def test_ecs_takes_the_task_definition(task: dict[str, Any]) -> None:
    shape = botocore.session.Session().get_service_model("ecs").operation_model("RegisterTaskDefinition").input_shape
    assert shape is not None

    report = ParamValidator().validate(task, shape)

    assert not report.has_errors(), report.generate_report()
    assert list(wrong_enums(shape, task)) == []


def test_fargate_can_run_the_task(task: dict[str, Any], container: dict[str, Any]) -> None:
    linux = container["linuxParameters"]

    assert task["requiresCompatibilities"] == ["FARGATE"]
    assert task["networkMode"] == "awsvpc"
    assert int(task["memory"]) in FARGATE_MEMORY[int(task["cpu"])]
    assert task["executionRoleArn"].startswith("arn:aws:iam::")
    assert container["stopTimeout"] <= 120
    assert container["logConfiguration"]["logDriver"] in {"awslogs", "splunk", "awsfirelens"}
    assert not NOT_ON_FARGATE & container.keys()
    assert not LINUX_NOT_ON_FARGATE & linux.keys()
    assert set(linux["capabilities"].get("add", [])) <= {"SYS_PTRACE"}
    assert all(volume.keys() == {"name"} for volume in task["volumes"])
    assert [m["sourceVolume"] for m in container["mountPoints"]] == [v["name"] for v in task["volumes"]]


def test_the_task_is_the_one_that_the_documents_describe(task: dict[str, Any], container: dict[str, Any]) -> None:
    assert (task["cpu"], task["memory"]) == ("1024", "2048")
    assert task["runtimePlatform"] == {"operatingSystemFamily": "LINUX", "cpuArchitecture": "X86_64"}
    assert container["essential"] is True
    assert container["stopTimeout"] == 120
    assert "user" not in container, "the runner must start as root, to become somebody else for each command"
    assert "pidMode" not in task, "kill -1 as the user build must reach no other container"
    assert task["taskRoleArn"] != task["executionRoleArn"]


def test_only_tmp_is_writable_and_the_image_gives_it_its_mode(container: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert container["readonlyRootFilesystem"] is True
    (mount,) = container["mountPoints"]
    assert mount == {"sourceVolume": "tmp", "containerPath": "/tmp", "readOnly": False}
    assert re.findall(r"^VOLUME (.*)$", dockerfile, re.MULTILINE) == ['["/tmp"]']


def test_one_init_is_enough(container: dict[str, Any]) -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()

    assert container["linuxParameters"]["initProcessEnabled"] is False
    assert 'ENTRYPOINT ["/usr/bin/tini", "--", ' in dockerfile  # and no -g


def test_capabilities_that_the_runner_does_not_use_are_dropped(container: dict[str, Any]) -> None:
    capabilities = container["linuxParameters"]["capabilities"]

    assert capabilities == {"drop": sorted(DEFAULT_CAPABILITIES - NEEDED_CAPABILITIES)}


def test_the_variables_are_documented_ones(container: dict[str, Any]) -> None:
    plain = [variable["name"] for variable in container["environment"]]
    secret = [variable["name"] for variable in container["secrets"]]
    names = plain + secret

    assert set(names) <= DOCUMENTED_VARIABLES
    assert len(names) == len(set(names))
    assert set(names) >= REQUIRED_VARIABLES
    assert not {"REPO_URL", "SLUG", "BUILD_ID"} & set(names), "each run brings its own"
    assert not SECRET_VARIABLES & set(plain), "a secret in `environment` can be read by whoever may describe the task"
    assert not any(name.startswith(("AWS_ACCESS_KEY", "AWS_SECRET", "AWS_SESSION")) for name in names)
    assert {"name": "CONSOLE_FORMAT", "value": "json"} in container["environment"]


def test_no_token_for_git_is_given_to_every_run(container: dict[str, Any]) -> None:
    """A `GIT_TOKEN` is sent to the origin of `REPO_URL`, which the caller of RunTask sets."""
    assert "GIT_TOKEN" not in {variable["name"] for variable in container["secrets"]}


def test_the_console_never_holds_up_a_build(container: dict[str, Any]) -> None:
    assert container["logConfiguration"]["options"]["mode"] == "non-blocking"


def reasons() -> list[set[str]]:
    """Return the settings that the table "The task of a build, line by line" explains."""
    readme = (ROOT / "deploy" / "README.md").read_text()
    found = re.search(r"^## The task of a build, line by line\n\n((?:^\|.*\n)+)", readme, re.MULTILINE)
    assert found
    rows = [row.strip("|").split("|") for row in found[1].splitlines()[2:]]
    assert [row for row in rows if len(row) != 2 or len(row[1].split()) < 3] == [], "rows without a reason"
    return [set(re.findall(r"`(.+?)`", row[0])) for row in rows]


def names_of(document: Any) -> Iterator[str]:
    """Yield each key and each value that is not a function in a part of the template."""
    if isinstance(document, dict) and document.keys() == {"Name", "Value"}:
        yield from (document["Name"], *names_of(document["Value"]))
    elif isinstance(document, dict):
        if len(document) == 1 and re.match("Ref$|Fn::", next(iter(document))):
            return
        for name, value in document.items():
            yield from (name, *names_of(value))
    elif isinstance(document, list):
        for item in document:
            yield from names_of(item)
    else:
        yield document if isinstance(document, str) else json.dumps(document)


def test_each_line_of_the_task_definition_has_its_reason() -> None:
    names = set(names_of(Template().document["Resources"]["BuildTask"]["Properties"]))
    explained: set[str] = set().union(*reasons())

    assert names - explained == set()
    assert explained - names == set(), "explained, but not there"


def test_what_is_documented_as_absent_is_absent() -> None:
    readme = (ROOT / "deploy" / "README.md").read_text()
    found = re.search(r"^Settings that are absent on purpose:\n\n((?:^\|.*\n)+)", readme, re.MULTILINE)
    assert found
    absent = {name for row in found[1].splitlines()[2:] for name in re.findall(r"`(.+?)`", row.split("|")[1])}

    assert "User" in absent
    assert not absent & set(names_of(Template().document["Resources"]["BuildTask"]["Properties"]))


def test_each_statement_of_a_role_has_its_purpose() -> None:
    readme = (ROOT / "deploy" / "README.md").read_text()
    table = readme.partition("## What each role may do")[2]
    explained = {
        name for row in re.findall(r"^\| (.*?) \|", table, re.MULTILINE) for name in re.findall(r"`(.+?)`", row)
    }
    statements = {statement["Sid"] for name in POLICIES for statement in EVERYTHING.policy(name)["Statement"]}

    assert statements - explained == set()
    assert explained - statements - set(EVERYTHING.resources()) == set(), "explained, but not there"


def test_the_image_is_labelled_with_the_version() -> None:
    assert f"\nARG VERSION={__version__}\n" in (ROOT / "Dockerfile").read_text()


# --- the policies ----------------------------------------------------------------------------------------------------


def as_list(value: str | list[str]) -> list[str]:
    return [value] if isinstance(value, str) else value


def allows(policy: dict[str, Any], action: str, resource: str, **context: str) -> bool:
    """Evaluate policies as IAM does, for the features in use: Allow, exact actions, `*` and `?` in resources, StringLike."""
    for statement in policy["Statement"]:
        assert statement.keys() <= {"Sid", "Effect", "Action", "Resource", "Condition"}
        assert statement["Effect"] == "Allow"
        conditions = statement.get("Condition", {})
        assert conditions.keys() <= {"StringLike"}
        if (
            action in as_list(statement["Action"])
            and any(fnmatchcase(resource, pattern) for pattern in as_list(statement["Resource"]))
            and all(
                any(fnmatchcase(context[key], pattern) for pattern in as_list(patterns)) if key in context else False
                for key, patterns in conditions.get("StringLike", {}).items()
            )
        ):
            return True
    return False


TASK_POLICIES = {prefix: Template(SitePrefix=prefix).policy("BuildRole") for prefix in ("", "__outputs/")}
EVERYTHING = Template(
    ImageUri=IMAGE, SiteDomain="sites.example.com", CertificateArn="arn:aws:acm:x", GitHubRepository="me/buildrunner"
)
POLICIES = [*EVERYTHING.resources("AWS::IAM::Role"), *EVERYTHING.resources("AWS::IAM::ManagedPolicy")]
# https://docs.aws.amazon.com/service-authorization/latest/reference/reference_policies_actions-resources-contextkeys.html
WITHOUT_RESOURCES = {"batch:DescribeJobQueues", "batch:DescribeJobs", "batch:ListJobs"}
WITHOUT_RESOURCES |= {"ecr:GetAuthorizationToken", "ecs:DescribeTaskDefinition", "ecs:ListTasks"}


@pytest.mark.parametrize("name", POLICIES)
def test_policies_name_each_action_in_full(name: str) -> None:
    policy = EVERYTHING.policy(name)

    assert policy["Version"] == "2012-10-17"
    for statement in policy["Statement"]:
        actions = as_list(statement["Action"])
        assert all(re.fullmatch(r"[a-z0-9]+:[A-Z][A-Za-z]+", action) for action in actions)
        if "*" in as_list(statement["Resource"]):
            assert set(actions) <= WITHOUT_RESOURCES


# Calls of S3 and the permission of each: https://docs.aws.amazon.com/AmazonS3/latest/userguide/using-with-s3-policy-actions.html
PERMISSIONS: Mapping[str, str | None] = {
    "put_object": "s3:PutObject",
    "create_multipart_upload": "s3:PutObject",
    "upload_part": "s3:PutObject",
    "complete_multipart_upload": "s3:PutObject",
    "abort_multipart_upload": "s3:AbortMultipartUpload",
    "list_objects_v2": "s3:ListBucket",
    "list_objects": "s3:ListBucket",
    "delete_objects": "s3:DeleteObject",
    "delete_object": "s3:DeleteObject",
    "get_object": "s3:GetObject",
    "head_object": "s3:GetObject",
    "generate_presigned_url": None,  # asks for nothing; what is done with it are the calls above
    "head_bucket": None,  # opens a connection; that it is refused is of no interest
}


def test_the_task_role_allows_exactly_the_calls_in_the_source() -> None:
    source = "".join(path.read_text() for path in sorted(ROOT.glob("src/buildrunner/s3/*.py")))
    calls = set(re.findall(r"\b_?client\.([a-z0-9]+_[a-z0-9_]+)", source))
    actions = {a for s in TASK_POLICIES[""]["Statement"] for a in as_list(s["Action"])}

    assert calls == PERMISSIONS.keys()
    assert actions == set(PERMISSIONS.values()) - {None}


@pytest.mark.parametrize("prefix", TASK_POLICIES)
@pytest.mark.parametrize("action", ["s3:PutObject", "s3:AbortMultipartUpload"])
def test_a_run_may_write_its_site_and_its_log(prefix: str, action: str) -> None:
    policy = TASK_POLICIES[prefix]

    assert allows(policy, action, f"arn:aws:s3:::sites/{prefix}my-site/assets/index-B2c3D4e5.js")
    assert allows(policy, action, "arn:aws:s3:::state/__logs/my-site/01JD.ndjson")
    assert allows(policy, "s3:PutObject", "arn:aws:s3:::state/__manifests/my-site/current.json")
    assert allows(policy, "s3:GetObject", "arn:aws:s3:::state/__manifests/my-site/current.json")
    assert allows(policy, "s3:PutObject", "arn:aws:s3:::state/__routing/my-site.json")
    assert not allows(policy, "s3:GetObject", "arn:aws:s3:::state/__logs/my-site/01JD.ndjson")
    assert not allows(policy, "s3:DeleteObject", "arn:aws:s3:::state/__logs/my-site/01JD.ndjson")
    assert allows(policy, action, "arn:aws:s3:::state/__cache/my-site/modules-npm-1.tar.zst")
    assert not allows(policy, action, "arn:aws:s3:::state/my-site/index.html")
    assert not allows(policy, action, "arn:aws:s3:::others/my-site/index.html")


def test_a_prefix_of_the_family_bounds_what_may_be_written() -> None:
    policy = TASK_POLICIES["__outputs/"]

    for action in ("s3:PutObject", "s3:DeleteObject"):
        assert allows(policy, action, "arn:aws:s3:::sites/__outputs/my-site/index.html")
        assert not allows(policy, action, "arn:aws:s3:::sites/my-site/index.html")
        assert not allows(policy, action, "arn:aws:s3:::sites/__logs/my-site/1.ndjson")


@pytest.mark.parametrize("prefix", TASK_POLICIES)
def test_a_build_may_list_a_site_but_not_the_whole_bucket(prefix: str) -> None:
    policy = TASK_POLICIES[prefix]

    def may_list(bucket: str, **context: str) -> bool:
        return allows(policy, "s3:ListBucket", f"arn:aws:s3:::{bucket}", **context)

    assert may_list("sites", **{"s3:prefix": f"{prefix}my-site/"})
    assert not may_list("sites")
    assert not may_list("sites", **{"s3:prefix": prefix})
    assert not may_list("sites", **{"s3:prefix": f"{prefix}my"})
    assert not may_list("state", **{"s3:prefix": "__logs/my-site/"})


def test_a_build_may_read_and_remove_only_cached_dependencies() -> None:
    policy = TASK_POLICIES[""]

    for action in ("s3:GetObject", "s3:DeleteObject"):
        assert allows(policy, action, "arn:aws:s3:::state/__cache/my-site/modules-npm-1.tar.zst")
        assert not allows(policy, action, "arn:aws:s3:::state/__logs/my-site/1.ndjson")
    assert allows(policy, "s3:ListBucket", "arn:aws:s3:::state", **{"s3:prefix": "__cache/my-site/"})
    assert not allows(policy, "s3:ListBucket", "arn:aws:s3:::state", **{"s3:prefix": "__cache/"})


@pytest.mark.parametrize("action", ["s3:DeleteBucket", "s3:GetObject", "s3:PutObjectAcl", "s3:PutBucketPolicy"])
def test_a_run_may_do_nothing_else_to_a_bucket(action: str) -> None:
    assert not allows(TASK_POLICIES[""], action, "arn:aws:s3:::sites/my-site/index.html")
    assert not allows(TASK_POLICIES[""], action, "arn:aws:s3:::sites")


def test_the_execution_role_only_has_what_the_task_needs(
    container: dict[str, Any],
) -> None:
    policy = Template().policy("BuildExecutionRole")
    options = container["logConfiguration"]["options"]
    account = "eu-central-1:123456789012"
    streams = f"arn:aws:logs:{account}:log-group:{options['awslogs-group']}:log-stream"
    stream = f"{streams}:{options['awslogs-stream-prefix']}/{container['name']}/0a1b"
    repository = re.sub(r"^.*\.amazonaws\.com/(.*):.*$", r"\1", container["image"])

    assert allows(policy, "ecr:GetAuthorizationToken", "*")
    for action in ("ecr:BatchCheckLayerAvailability", "ecr:BatchGetImage", "ecr:GetDownloadUrlForLayer"):
        assert allows(policy, action, f"arn:aws:ecr:{account}:repository/{repository}")
        assert not allows(policy, action, f"arn:aws:ecr:{account}:repository/other")
    for action in ("logs:CreateLogStream", "logs:PutLogEvents"):
        assert allows(policy, action, stream)
        assert not allows(policy, action, f"arn:aws:logs:{account}:log-group:/ecs/other:log-stream:run/x/0a1b")
    for secret in container["secrets"]:
        assert allows(policy, "secretsmanager:GetSecretValue", secret["valueFrom"])
    readable = [
        resource
        for statement in policy["Statement"]
        if "secretsmanager:GetSecretValue" in as_list(statement["Action"])
        for resource in as_list(statement["Resource"])
    ]
    assert sorted(readable) == sorted(secret["valueFrom"] for secret in container["secrets"])
    assert "logs:CreateLogGroup" not in json.dumps(policy), "the group is made beforehand, with how long it keeps"


def test_only_tasks_of_this_account_and_region_take_the_roles() -> None:
    """No cluster can be named: https://docs.aws.amazon.com/AmazonECS/latest/developerguide/task-iam-roles.html."""
    roles = EVERYTHING.resources("AWS::IAM::Role")
    trusted = {name: role["AssumeRolePolicyDocument"]["Statement"][0] for name, role in roles.items()}
    assert trusted.pop("QueueAgeRole")["Principal"] == {"Service": "lambda.amazonaws.com"}
    assert trusted.pop("PushRole")["Action"] == "sts:AssumeRoleWithWebIdentity"
    statement = trusted["BuildRole"]

    assert set(map(str, trusted.values())) == {str(statement)}
    assert statement["Principal"] == {"Service": "ecs-tasks.amazonaws.com"}
    assert statement["Action"] == "sts:AssumeRole"
    assert statement["Condition"] == {
        "ArnLike": {"aws:SourceArn": "arn:aws:ecs:eu-central-1:123456789012:*"},
        "StringEquals": {"aws:SourceAccount": "123456789012"},
    }


def test_the_api_server_starts_this_family_in_one_cluster_only(
    task: dict[str, Any],
) -> None:
    statements = {s["Sid"]: s for s in Template().policy("StartBuilds")["Statement"]}
    account = "eu-central-1:123456789012"
    start, tag, roles = (statements.pop(name) for name in ("StartBuilds", "TagThemAtTheirStart", "HandThemTheirRoles"))

    assert start["Action"] == "ecs:RunTask"
    assert start["Resource"] == f"arn:aws:ecs:{account}:task-definition/{task['family']}:*"
    assert start["Condition"] == {"ArnEquals": {"ecs:cluster": f"arn:aws:ecs:{account}:cluster/Cluster"}}
    assert tag["Action"] == "ecs:TagResource"
    assert tag["Condition"] == {"StringEquals": {"ecs:CreateAction": "RunTask"}}
    assert roles["Action"] == "iam:PassRole"
    assert roles["Resource"] == sorted([task["taskRoleArn"], task["executionRoleArn"]])
    assert roles["Condition"] == {"StringEquals": {"iam:PassedToService": "ecs-tasks.amazonaws.com"}}
    look, find = statements.pop("LookAtAndStopBuilds"), statements.pop("FindTheTaskOfABuild")
    assert look["Action"] == ["ecs:DescribeTasks", "ecs:StopTask"]
    assert look["Resource"] == tag["Resource"] == f"arn:aws:ecs:{account}:task/Cluster/*"
    assert (find["Action"], find["Condition"]) == ("ecs:ListTasks", start["Condition"])
    read, list_logs = statements.pop("ReadLogs"), statements.pop("FindLogs")
    assert (read["Action"], read["Resource"]) == ("s3:GetObject", "arn:aws:s3:::state/__logs/*")
    assert (list_logs["Action"], list_logs["Resource"]) == ("s3:ListBucket", "arn:aws:s3:::state")
    assert list_logs["Condition"] == {"StringLike": {"s3:prefix": "__logs/*"}}
    for name in ("LookUpWhatIsThere", "QueueBuilds", "StopQueuedBuilds", "ReadLiveLogs"):
        del statements[name]
    assert statements == {}


def test_the_policy_of_starters_has_the_calls_of_submit_and_logs() -> None:
    """`ecs:ListTasks` lets people find the task of a build by `startedBy`."""
    folder = ROOT / "src" / "buildrunner" / "commands" / "submit"
    services = {"ecs": (folder / "ecs.py").read_text(), "batch": (folder / "batch.py").read_text()}
    calls = {
        f"{service}:{''.join(word.capitalize() for word in name.split('_'))}"
        for service, source in services.items()
        for name in re.findall(r"\b_client\.([a-z]+_[a-z_]+)\(", source)
    }
    actions = {a for s in Template().policy("StartBuilds")["Statement"] for a in as_list(s["Action"])}

    assert calls <= actions
    assert actions - calls == {
        "ecs:ListTasks",
        "ecs:TagResource",  # of RunTask's own tags
        "iam:PassRole",  # of RunTask
        "s3:GetObject",
        "s3:ListBucket",
        "secretsmanager:GetSecretValue",
    }


def test_the_image_keeps_what_botocore_needs_to_call_services() -> None:
    """botocore can't open a client of a service whose description was removed."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    sources = "".join(path.read_text() for path in ROOT.glob("src/buildrunner/**/*.py"))
    opened = set(re.findall(r'\b(?:create|open)_client\(\s*"([\w-]+)"', sources))

    assert {"s3", "ecs", "batch"} <= opened
    assert opened <= set(re.findall(r"! -name ([\w-]+)", dockerfile))


def test_batch_retries_as_submit_asks_it_to() -> None:
    """`submit` sends its own strategy, which is also suitable for compute environments on EC2."""
    from buildrunner.commands.submit.batch import _RETRY

    asked: Any = _RETRY["evaluateOnExit"]
    ours = Template()["BuildJob"]["RetryStrategy"]["EvaluateOnExit"]

    assert [one for one in asked if "Host EC2*" not in one.values()] == [
        {name[0].lower() + name[1:]: value for name, value in one.items()} for one in ours
    ]


def test_the_workflow_pins_each_action_to_a_commit() -> None:
    """actionlint, which `make check` runs, checks the rest."""
    workflow = (ROOT / "deploy" / "push-image.yml").read_text()
    uses = re.findall(r"uses: (.*)$", workflow, re.MULTILINE)

    assert uses
    assert [each for each in uses if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v[\d.]+", each)] == []
    assert "secrets." not in workflow
    assert re.search(r"^permissions: \{\}$", workflow, re.MULTILINE), "nothing but what the job names"
