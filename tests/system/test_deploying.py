"""Run `docs/deploying.md`: every command of it, in its order, with the real AWS CLI, and then both starters of `deploy/`.

AWS is moto. It says whether the CLI knows each option, whether each call is well-formed and names things that are there, and what
came of it. It does not say whether AWS would allow it: it evaluates no policy, lets any role and any tag through, knows no
sizes of Fargate, pulls no image, runs no task, and its network carries nothing. Policies, sizes and the model of ECS are checked in
`tests/unit/test_deploy.py`. docker, soci, skopeo and npm are stubs that write down how they were called.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import pytest

from buildrunner.commands.dev.node import path_with_node
from support.aws_cli import CLIENT
from support.aws_server import ACCOUNT, MOTO, REGION, AwsServer, aws_server
from support.harness import ROOT, Program, Redis, Repositories, wait_for
from support.node_modules import node_modules
from support.s3_server import S3Server

DOCUMENT = (ROOT / "docs" / "deploying.md").read_text()
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
BUILD_ID = r"\d{8}-\d{6}-[0-9a-f]{16}"
PRIVATE = ("10.20.16.0/20", "10.20.32.0/20")
STUBS = ("docker", "npm", "skopeo", "soci")
# What the task itself would have written by the time the document looks: moto's tasks do nothing.
PRETENDED_TASK = """
aws logs create-log-stream --log-group-name /ecs/buildrunner --log-stream-name "run/buildrunner/${TASK##*/}"
aws logs put-log-events --log-group-name /ecs/buildrunner --log-stream-name "run/buildrunner/${TASK##*/}" \\
  --log-events "timestamp=$(date +%s)000,message=Done"
echo '<h1>hello</h1>' | aws s3 cp - "s3://$SITE_BUCKET/first-try/index.html"
echo '{"type":"result"}' | aws s3 cp - "s3://$STATE_BUCKET/__logs/first-try/$BUILD_ID.ndjson"
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Account:
    """What there is after all of the document was run, and what it printed."""

    aws: AwsServer
    folder: Path  # with the clone's deploy/ and the document's filled/
    environment: dict[str, str]
    printed: str
    stubs: list[str]  # command lines

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def filled(self, name: str) -> Any:
        return json.loads((self.folder / "filled" / name).read_text())

    def subnets_and_groups(self) -> tuple[str, str]:
        """Return what a task needs of the network, as the starters take it."""
        network = self.network()
        private = [network["subnets"][block]["SubnetId"] for block in PRIVATE]
        return ",".join(private), network["groups"]["builds"]["GroupId"]

    def network(self) -> dict[str, Any]:
        """Return the VPC of the document and what is in it."""
        ec2 = self.aws.client("ec2")
        (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "cidr", "Values": ["10.20.0.0/16"]}])["Vpcs"]
        here = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
        groups = {group["GroupName"]: group for group in ec2.describe_security_groups(Filters=here)["SecurityGroups"]}
        subnets = {subnet["CidrBlock"]: subnet for subnet in ec2.describe_subnets(Filters=here)["Subnets"]}
        return {"here": here, "groups": groups, "subnets": subnets}


@pytest.fixture(scope="module")
def aws_cli(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder for the PATH with the real CLI as `aws`."""
    folder = tmp_path_factory.mktemp("aws")
    path = folder / "socket"
    process = subprocess.Popen([sys.executable, ROOT / "tests" / "support" / "aws_cli.py", path])
    program = folder / "bin" / "aws"
    program.parent.mkdir()
    program.write_text(CLIENT.format(python=sys.executable, socket=str(path)))
    program.chmod(0o755)
    try:
        wait_for(path.exists, "the AWS CLI")
        yield program.parent
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def account(tmp_path_factory: pytest.TempPathFactory, open_folder: Path, aws_cli: Path) -> Iterator[Account]:
    folder, tools, home = (tmp_path_factory.mktemp(name) for name in ("clone", "tools", "home"))
    shutil.copytree(ROOT / "deploy", folder / "deploy", ignore=shutil.ignore_patterns("__pycache__"))
    Repositories(folder).git(folder, "init", "-q", "-b", "main")
    Repositories(folder).commit(folder, {})
    path = anyio.run(path_with_node, str(open_folder))
    (folder / "node_modules").symlink_to(node_modules(path))
    for name in STUBS:
        stub = tools / name
        stub.write_text(f'#!/bin/sh\ncat >/dev/null\nprintf "%s\\n" "{name} $*" >>"{tools}/calls"\n')
        stub.chmod(0o755)
    script = "\n".join(
        block + (PRETENDED_TASK if "aws ecs run-task" in block else "") for block in blocks("sh") if block
    )
    (home / "script").write_text(script)
    with aws_server(home) as aws:
        environment = {
            "PATH": f"{tools}:{aws_cli}:{Path(sys.executable).parent}:{path}",
            "HOME": str(home),
            "LANG": "C.UTF-8",
            **aws.environment(),
        }
        done = subprocess.run(
            ["bash", "-euo", "pipefail", str(home / "script")],
            cwd=folder,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-5000:]
        yield Account(aws, folder, environment, done.stdout, (tools / "calls").read_text().splitlines())


# --- what the commands made ------------------------------------------------------------------------------------------


def test_the_image_goes_to_an_immutable_repository_that_scans_it_and_keeps_twenty(account: Account) -> None:
    ecr = account.aws.client("ecr")
    (repository,) = ecr.describe_repositories()["repositories"]
    policy = ecr.get_lifecycle_policy(repositoryName="buildrunner")["lifecyclePolicyText"]

    assert repository["repositoryUri"] == f"{REGISTRY}/buildrunner"
    assert repository["imageTagMutability"] == "IMMUTABLE"
    assert repository["imageScanningConfiguration"] == {"scanOnPush": True}
    assert json.loads(policy) == account.filled("ecr-lifecycle.json")


def test_the_image_is_pushed_with_zstd_or_converted_for_soci(account: Account) -> None:
    login, builder, zstd, gzip, soci, skopeo_login, skopeo, npm = account.stubs
    image = account.filled("task-definition.json")["containerDefinitions"][0]["image"]
    revision = account.run("git", "rev-parse", "HEAD").stdout.strip()

    assert login == f"docker login --username AWS --password-stdin {REGISTRY}"
    assert builder == "docker buildx create --name buildrunner --driver docker-container"
    assert f"--build-arg REVISION={revision} " in zstd
    assert (
        f"--output type=image,name={image},oci-mediatypes=true,compression=zstd,force-compression=true,push=true ."
        in zstd
    )
    assert "--output type=oci,dest=buildrunner.tar,compression=gzip,force-compression=true ." in gzip
    assert soci == "soci convert --standalone buildrunner.tar buildrunner-soci.tar"
    assert skopeo_login == f"skopeo login --username AWS --password-stdin {REGISTRY}"
    assert skopeo == f"skopeo copy --all oci-archive:buildrunner-soci.tar docker://{image}-soci"
    assert npm == "npm install --no-save @aws-sdk/client-ecs"


def test_the_buckets_are_there_and_the_one_of_the_logs_is_closed(account: Account) -> None:
    s3 = account.aws.client("s3")

    assert {bucket["Name"] for bucket in s3.list_buckets()["Buckets"]} == {"example-sites", "example-build-state"}
    closed = s3.get_public_access_block(Bucket="example-build-state")["PublicAccessBlockConfiguration"]
    assert len(closed) == 4
    assert all(closed.values())
    for bucket in ("example-sites", "example-build-state"):
        rules = s3.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
        assert rules == account.filled("s3-lifecycle.json")["Rules"]


def test_tasks_are_in_private_subnets_with_a_way_out_and_the_endpoint_of_s3(account: Account) -> None:
    ec2, network = account.aws.client("ec2"), account.network()
    subnets = network["subnets"]
    private = [subnets[block] for block in PRIVATE]
    tables = {
        association["SubnetId"]: table
        for table in ec2.describe_route_tables(Filters=network["here"])["RouteTables"]
        for association in table["Associations"]
        if "SubnetId" in association
    }
    (endpoint,) = ec2.describe_vpc_endpoints(Filters=network["here"])["VpcEndpoints"]
    (nat,) = ec2.describe_nat_gateways(Filters=network["here"])["NatGateways"]

    def way_out(subnet: dict[str, Any]) -> dict[str, Any]:
        routes: list[dict[str, Any]] = tables[subnet["SubnetId"]]["Routes"]
        (route,) = (route for route in routes if route.get("DestinationCidrBlock") == "0.0.0.0/0")
        return route

    assert private[0]["AvailabilityZone"] != private[1]["AvailabilityZone"]
    assert nat["SubnetId"] == subnets["10.20.0.0/24"]["SubnetId"]
    assert way_out(subnets["10.20.0.0/24"])["GatewayId"].startswith("igw-")
    assert [way_out(subnet)["NatGatewayId"] for subnet in private] == [nat["NatGatewayId"]] * 2
    assert endpoint["VpcEndpointType"] == "Gateway"
    assert endpoint["ServiceName"] == f"com.amazonaws.{REGION}.s3"
    assert endpoint["RouteTableIds"] == [tables[private[0]["SubnetId"]]["RouteTableId"]]


def test_nothing_comes_in_and_only_tls_and_redis_go_out(account: Account) -> None:
    groups = account.network()["groups"]
    builds, redis = groups["builds"], groups["builds-redis"]

    def open_ports(rules: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
        return sorted(
            (rule["IpProtocol"], rule.get("FromPort"), rule.get("ToPort"), target)
            for rule in rules
            for target in (
                *(entry["CidrIp"] for entry in rule["IpRanges"]),
                *(entry["GroupId"] for entry in rule["UserIdGroupPairs"]),
            )
        )

    assert builds["IpPermissions"] == []
    assert open_ports(builds["IpPermissionsEgress"]) == [
        ("tcp", 443, 443, "0.0.0.0/0"),
        ("tcp", 6379, 6379, redis["GroupId"]),
    ]
    assert open_ports(redis["IpPermissions"]) == [("tcp", 6379, 6379, builds["GroupId"])]


def test_redis_has_tls_and_a_password_that_only_the_secret_knows(account: Account) -> None:
    (group,) = account.aws.client("elasticache").describe_replication_groups()["ReplicationGroups"]
    secret = account.aws.client("secretsmanager").get_secret_value(SecretId="buildrunner/redis-uri")
    found = re.fullmatch(r"rediss://:([0-9a-f]{64})@(\S+):6379", secret["SecretString"])

    assert group["TransitEncryptionEnabled"] is True
    assert group["AuthTokenEnabled"] is True
    assert found
    assert found[2] == group["NodeGroups"][0]["PrimaryEndpoint"]["Address"]
    assert account.filled("task-definition.json")["containerDefinitions"][0]["secrets"] == [
        {"name": "REDIS_URI", "valueFrom": secret["ARN"]}
    ]
    assert found[1] not in account.printed
    for path in account.folder.rglob("*"):
        if path.is_file() and "node_modules" not in path.parts:
            assert found[1] not in path.read_text(errors="replace"), path


def test_the_log_group_forgets(account: Account) -> None:
    (group,) = account.aws.client("logs").describe_log_groups()["logGroups"]
    options = account.filled("task-definition.json")["containerDefinitions"][0]["logConfiguration"]["options"]

    assert group["logGroupName"] == options["awslogs-group"]
    assert group["retentionInDays"] == 14


def test_both_roles_are_ecs_own_and_have_the_policies_of_the_files(account: Account) -> None:
    iam = account.aws.client("iam")
    task = account.filled("task-definition.json")

    for name in ("task", "execution"):
        role = iam.get_role(RoleName=f"buildrunner-{name}")["Role"]
        assert task[f"{name}RoleArn"] == role["Arn"]
        assert role["AssumeRolePolicyDocument"] == account.filled("trust-policy.json")
        assert iam.list_role_policies(RoleName=role["RoleName"])["PolicyNames"] == ["buildrunner"]
        policy = iam.get_role_policy(RoleName=role["RoleName"], PolicyName="buildrunner")["PolicyDocument"]
        assert policy == account.filled(f"{name}-role-policy.json")
    arn = f"arn:aws:iam::{ACCOUNT}:policy/buildrunner-api-server"
    version = iam.get_policy_version(PolicyArn=arn, VersionId="v1")["PolicyVersion"]
    assert version["Document"] == account.filled("api-server-policy.json")


def test_nothing_is_left_to_fill_in(account: Account) -> None:
    filled = sorted((account.folder / "filled").iterdir())

    assert [path.name for path in filled] == sorted(path.name for path in (ROOT / "deploy").glob("*.json"))
    assert all(not re.search(r"<[A-Z_]+>", path.read_text()) for path in filled)


def test_the_task_definition_is_registered_as_it_was_filled_in(account: Account) -> None:
    (request,) = account.aws.asked("RegisterTaskDefinition")
    registered = account.aws.client("ecs").describe_task_definition(taskDefinition="buildrunner")["taskDefinition"]
    filled = account.filled("task-definition.json")

    assert request == filled
    assert registered["status"] == "ACTIVE"
    for name, value in filled.items():
        if name != "containerDefinitions":
            assert registered[name] == value, name
    (container,) = registered["containerDefinitions"]
    assert {name: container[name] for name in filled["containerDefinitions"][0]} == filled["containerDefinitions"][0]


def test_the_cluster_has_fargate_and_spot(account: Account) -> None:
    (cluster,) = account.aws.client("ecs").describe_clusters(clusters=["builds"])["clusters"]

    assert sorted(cluster["capacityProviders"]) == ["FARGATE", "FARGATE_SPOT"]
    assert [entry["capacityProvider"] for entry in cluster["defaultCapacityProviderStrategy"]] == ["FARGATE"]


# --- the tasks -------------------------------------------------------------------------------------------------------


def request_of(account: Account, slug: str) -> dict[str, Any]:
    (request,) = (
        request
        for request in account.aws.asked("RunTask")
        if request["tags"] == [{"key": "slug", "value": slug}] and request["cluster"] == "builds"
    )
    return request


def variables_of(request: dict[str, Any]) -> dict[str, str]:
    (override,) = request["overrides"]["containerOverrides"]
    return {variable["name"]: variable["value"] for variable in override["environment"]}


def without_what_differs(request: dict[str, Any]) -> dict[str, Any]:
    """Take slug and BUILD_ID out of a RunTask."""
    variables = variables_of(request)
    text = json.dumps({**request, "overrides": [request["overrides"]["containerOverrides"][0]["name"], variables]})
    document: dict[str, Any] = json.loads(text.replace(variables["BUILD_ID"], "ID").replace(variables["SLUG"], "SLUG"))
    return document


def test_the_first_run_is_a_task_with_its_overrides_in_the_private_subnets(account: Account) -> None:
    request, network = request_of(account, "first-try"), account.network()
    ecs = account.aws.client("ecs")
    (arn,) = ecs.list_tasks(cluster="builds", startedBy=request["startedBy"])["taskArns"]
    (task,) = ecs.describe_tasks(cluster="builds", tasks=[arn])["tasks"]
    variables = variables_of(request)

    assert variables.keys() == {"REPO_URL", "SLUG", "BUILD_ID"}
    assert re.fullmatch(BUILD_ID, variables["BUILD_ID"])
    assert request["clientToken"] == request["startedBy"] == variables["BUILD_ID"]
    assert request["enableExecuteCommand"] is False
    assert request["networkConfiguration"]["awsvpcConfiguration"] == {
        "subnets": [network["subnets"][block]["SubnetId"] for block in PRIVATE],
        "securityGroups": [network["groups"]["builds"]["GroupId"]],
        "assignPublicIp": "DISABLED",
    }
    assert task["taskDefinitionArn"].endswith(":task-definition/buildrunner:1")
    assert task["overrides"] == request["overrides"]
    assert re.search(r"^Done$", account.printed, re.MULTILINE), "the console in CloudWatch"
    assert re.search(r" first-try/index\.html$", account.printed, re.MULTILINE), "the site"
    assert '{"type":"result"}' in account.printed, "the archive"


@pytest.mark.parametrize("slug", ["second-try", "third-try"])
def test_python_and_node_send_the_request_of_the_cli(account: Account, slug: str) -> None:
    """The second is `deploy/run_task.py`, the third `deploy/run-task.mjs`."""
    request = request_of(account, slug)
    variables = variables_of(request)

    assert re.fullmatch(BUILD_ID, variables["BUILD_ID"])
    assert without_what_differs(request) == without_what_differs(request_of(account, "first-try"))
    assert re.search(
        rf"^{variables['BUILD_ID']} arn:aws:ecs:\S+:task/builds/[0-9a-f-]+$", account.printed, re.MULTILINE
    )


PYTHON = ("python3", "deploy/run_task.py")
NODE = ("node", "deploy/run-task.mjs")


@pytest.mark.parametrize("starter", [PYTHON, NODE], ids=["python", "node"])
class TestAStarter:
    def start(self, account: Account, starter: tuple[str, str], cluster: str, *variables: str) -> Any:
        subnet, group = account.subnets_and_groups()
        return account.run(*starter, "--cluster", cluster, "--subnets", subnet, "--security-groups", group, *variables)

    def test_takes_the_build_id_of_its_caller_and_gives_it_back(
        self, account: Account, starter: tuple[str, str]
    ) -> None:
        build_id, slug = f"mine-{starter[0]}", f"chosen-{starter[0]}"

        done = self.start(
            account, starter, "builds", "REPO_URL=https://example.org/a?b=c", f"SLUG={slug}", f"BUILD_ID={build_id}"
        )

        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[0] == build_id
        assert request_of(account, slug)["clientToken"] == build_id
        assert variables_of(request_of(account, slug))["REPO_URL"] == "https://example.org/a?b=c"

    def test_fails_when_ecs_answers_that_it_started_nothing(self, account: Account, starter: tuple[str, str]) -> None:
        account.aws.answer("RunTask", {"tasks": [], "failures": [{"reason": "MISSING"}]})

        done = self.start(account, starter, "builds", "REPO_URL=https://example.org/a", "SLUG=a")

        account.aws.answer("RunTask")
        assert done.returncode != 0
        assert "ECS started no task" in done.stderr
        assert "MISSING" in done.stderr

    def test_retries_throttling_and_lack_of_capacity(self, account: Account, starter: tuple[str, str]) -> None:
        """A request that was refused keeps its token; one that was answered is over."""
        asked = len(account.aws.asked("RunTask"))
        full = {"tasks": [], "failures": [{"reason": "Capacity is unavailable at this time."}]}
        account.aws.answer("RunTask", full, MOTO)

        done = self.start(account, starter, "builds", "REPO_URL=https://example.org/a", "SLUG=a", "BUILD_ID=retried")

        account.aws.answer("RunTask")
        assert done.returncode == 0, done.stderr
        assert [call["clientToken"] for call in account.aws.asked("RunTask")[asked:]] == ["retried", "retried-1"]

    def test_puts_no_secret_into_an_override(self, account: Account, starter: tuple[str, str]) -> None:
        secret = [
            "GIT_TOKEN=t",
            "REDIS_URI=redis://h",
            "AWS_SECRET_ACCESS_KEY=k",
            "INSTALL_ENV_NPM_TOKEN=x",
            "BUILD_ENV_TOKEN=t",
        ]
        secret += ["BUILD_ENV_DATABASE=postgres://user:password@host/name"]
        asked = len(account.aws.asked("RunTask"))

        done = self.start(account, starter, "builds", "REPO_URL=https://example.org/a", "SLUG=a", *secret)

        names = ", ".join(variable.partition("=")[0] for variable in secret)
        assert done.returncode != 0
        assert f"secrets must not be overrides: {names}\n" in done.stderr
        assert len(account.aws.asked("RunTask")) == asked


# --- Redis -----------------------------------------------------------------------------------------------------------


def test_the_redis_user_of_the_document_can_do_what_a_run_does_and_nothing_else(
    own_redis: Redis, s3: S3Server, open_folder: Path, repositories: Repositories
) -> None:
    from redis.exceptions import NoPermissionError

    (command,) = blocks("redis")
    with own_redis.client() as client:
        client.execute_command(*command.replace("PASSWORD", "s3cret-of-the-test").split())

    run = Program(own_redis, s3, open_folder).run(
        repositories.app(), REDIS_URI=own_redis.uri.replace("//", "//buildrunner:s3cret-of-the-test@"), SLUG="acl"
    )

    assert run.code == 0, run.stderr
    assert run.result["status"] == "succeeded"
    assert run.messages[-1] == "Done"
    assert "not delivered" not in run.stdout + run.stderr
    with own_redis.client() as client:
        client.execute_command("AUTH", "buildrunner", "s3cret-of-the-test")
        for refused in (
            ["XRANGE", "events:acl", "-", "+"],
            ["XADD", "other", "*", "a", "b"],
            ["PUBLISH", "other", "x"],
            ["KEYS", "*"],
            ["CONFIG", "GET", "*"],
            ["EVAL", "return redis.call('GET', KEYS[1])", "1", "other"],
        ):
            with pytest.raises(NoPermissionError):
                client.execute_command(*refused)
