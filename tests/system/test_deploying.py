"""Run `docs/deploying.md`: every command of it, in its order, with the real AWS CLI, and then both starters of `deploy/`.

AWS is moto. It says whether the CLI knows each option, whether each call is well-formed and names things that are there, and what
came of it. It does not say whether AWS would allow it: it evaluates no policy, lets any role and any tag through, knows no
sizes of Fargate, pulls no image, runs no task, and its network carries nothing. `tests/support/stack_types.py` adds to its
CloudFormation what it does not know. The template itself is checked in `tests/unit/test_template.py`. docker, soci, skopeo
and npm are stubs that write down how they were called.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import anyio
import jwt
import pytest

from buildrunner.commands.dev.node import path_with_node
from buildrunner.fleet.find import EcsFinder, FoundTask
from support.aws_cli import CLIENT
from support.aws_server import ACCOUNT, MOTO, REGION, AwsServer, aws_server
from support.gateway import Gateway
from support.harness import ROOT, Redis, Repositories, wait_for
from support.node_modules import node_modules
from support.s3_server import S3Server
from support.template import Template
from support.warm import WarmProgram

DOCUMENT = (ROOT / "docs" / "deploying.md").read_text()
REGISTRY = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com"
IMAGE = f"{REGISTRY}/buildrunner:0.1.0"
BUILD_ID = r"\d{8}-\d{6}-[0-9a-f]{16}"
# A program that reads the password that it is given, and says how it was called.
STUB = '#!/bin/sh\ncase "$*" in *--password-stdin*) cat >/dev/null;; esac\n'
STUBS = ("docker", "npm", "skopeo", "soci")
# What the first build itself would have written by the time the document looks: moto's tasks do nothing.
PRETENDED_TASK = """
echo '<h1>hello</h1>' | aws s3 cp - "s3://$(output SiteBucket)/first-try/index.html"
"""


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Account:
    """What there is after all of the document was run, and what it printed."""

    aws: AwsServer
    folder: Path  # with the clone's deploy/
    environment: dict[str, str]
    printed: str
    stubs: list[str]  # command lines

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )

    def outputs(self, stack: str = "buildrunner") -> dict[str, str]:
        (found,) = self.aws.client("cloudformation").describe_stacks(StackName=stack)["Stacks"]
        return {output["OutputKey"]: output["OutputValue"] for output in found["Outputs"]}

    def variables(self) -> dict[str, str]:
        """Return the variables with which builds are started."""
        return dict(pair.split("=", 1) for pair in self.outputs()["Submit"].split())

    def properties(self, kind: str) -> list[dict[str, Any]]:
        """Return the properties of what the stack created of a type that moto does not know."""
        return self.aws.asked(f"AWS::{kind}")

    def secret(self, name: str) -> str:
        secret = self.aws.client("secretsmanager").get_secret_value(SecretId=self.outputs()[name])
        return str(secret["SecretString"])


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
        wait_for(path.exists, "the AWS CLI", 120)
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
        stub.write_text(f"{STUB}printf '%s\\n' \"{name} $*\" >>'{tools}/calls'\n")
        stub.chmod(0o755)
    script = "\n".join(block + (PRETENDED_TASK if "buildrunner submit" in block else "") for block in blocks("sh"))
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
            timeout=600,
            check=False,
        )
        log = (home / "aws-server.log").read_text()
        assert done.returncode == 0, done.stdout[-5000:] + log[-5000:]
        yield Account(aws, folder, environment, done.stdout, (tools / "calls").read_text().splitlines())


# --- the stack -------------------------------------------------------------------------------------------------------


def test_five_commands_lead_to_the_page_of_a_build(account: Account) -> None:
    steps = re.findall(r"^\*\*(\d)\. .*?^```sh\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    build = variables_of(request_of(account, "first-try"))["BUILD_ID"]
    page = rf"^https://\S+\.cloudfront\.net/sites/first-try/builds/{build}\?token=\S+$"
    address = re.search(page, account.printed, re.MULTILINE)

    assert [number for number, _ in steps] == ["1", "2", "3", "4", "5"]
    assert address
    assert address[0].startswith(account.outputs()["Gateway"])
    token = address[0].partition("token=")[2]
    claims = jwt.decode(token, account.secret("GatewaySecret"), algorithms=["HS256"])
    assert claims["sub"] == "first-try"


def test_the_stack_is_created_and_then_updated_with_the_image(account: Account) -> None:
    (stack,) = account.aws.client("cloudformation").describe_stacks(StackName="buildrunner")["Stacks"]
    ecs = account.aws.client("ecs")
    (cluster,) = ecs.describe_clusters(clusters=[account.variables()["ECS_CLUSTER"]])["clusters"]
    services = ecs.describe_services(
        cluster=cluster["clusterArn"], services=ecs.list_services(cluster=cluster["clusterArn"])["serviceArns"]
    )["services"]

    assert stack["StackStatus"] == "UPDATE_COMPLETE"
    assert [service["taskDefinition"].rpartition("/")[2] for service in services] == ["buildrunner-gateway:1"]
    assert len(account.properties("CloudFront::Distribution")) == 1


def test_the_image_goes_to_an_immutable_repository(account: Account) -> None:
    (repository,) = account.aws.client("ecr").describe_repositories()["repositories"]

    assert repository["repositoryUri"] == f"{REGISTRY}/buildrunner"
    assert repository["imageTagMutability"] == "IMMUTABLE"


def test_the_image_is_pushed_with_gzip_zstd_or_soci(account: Account) -> None:
    login, gzip, builder, zstd, archive, soci, skopeo_login, skopeo, npm = account.stubs
    revision = account.run("git", "rev-parse", "HEAD").stdout.strip()

    assert login == f"docker login --username AWS --password-stdin {REGISTRY}"
    assert f"--build-arg REVISION={revision} --tag {IMAGE} --push ." in gzip
    assert builder == "docker buildx create --name buildrunner --driver docker-container"
    assert f"name={IMAGE}-zstd,oci-mediatypes=true,compression=zstd,force-compression=true,push=true ." in zstd
    assert "--output type=oci,dest=buildrunner.tar,compression=gzip,force-compression=true ." in archive
    assert soci == "soci convert --standalone buildrunner.tar buildrunner-soci.tar"
    assert skopeo_login == f"skopeo login --username AWS --password-stdin {REGISTRY}"
    assert skopeo == f"skopeo copy --all oci-archive:buildrunner-soci.tar docker://{IMAGE}-soci"
    assert npm == "npm install --no-save @aws-sdk/client-ecs"


def test_tasks_are_in_private_subnets_with_nat_and_s3_endpoint(account: Account) -> None:
    ec2 = account.aws.client("ec2")
    (vpc,) = ec2.describe_vpcs(Filters=[{"Name": "cidr", "Values": ["10.20.0.0/16"]}])["Vpcs"]
    here = [{"Name": "vpc-id", "Values": [vpc["VpcId"]]}]
    private = account.variables()["ECS_SUBNETS"].split(",")
    subnets = {subnet["SubnetId"]: subnet for subnet in ec2.describe_subnets(Filters=here)["Subnets"]}
    tables = ec2.describe_route_tables(Filters=here)["RouteTables"]
    (endpoint,) = ec2.describe_vpc_endpoints(Filters=here)["VpcEndpoints"]
    (nat,) = ec2.describe_nat_gateways(Filters=here)["NatGateways"]
    ways_out = {
        table["RouteTableId"]: route.get("NatGatewayId") or route["GatewayId"]
        for table in tables
        for route in table["Routes"]
        if route.get("DestinationCidrBlock") == "0.0.0.0/0"
    }

    assert len(subnets) == 3
    assert len({subnets[subnet]["AvailabilityZone"] for subnet in private}) == 2
    assert nat["SubnetId"] not in private
    assert sorted(way[:4] for way in ways_out.values()) == ["igw-", "nat-"]
    assert endpoint["ServiceName"] == f"com.amazonaws.{REGION}.s3"
    assert [ways_out[table] for table in endpoint["RouteTableIds"]] == [nat["NatGatewayId"]]


def test_redis_has_tls_and_passwords_that_only_secrets_know(account: Account) -> None:
    users = {user["UserName"]: user["AuthenticationMode"] for user in account.properties("ElastiCache::User")}
    (cache,) = account.properties("ElastiCache::ReplicationGroup")
    found = re.fullmatch(r"rediss://viewers:([0-9a-f]{64})@(\S+):6379", account.secret("ViewersRedisUri"))

    assert cache["TransitEncryptionEnabled"] is True
    assert found
    assert users["viewers"]["Passwords"] == [found[1]]
    assert users["builds"]["Passwords"] != users["viewers"]["Passwords"]
    assert all(password not in account.printed for user in users.values() for password in user["Passwords"])
    (uri,) = (
        secret["SecretString"]
        for secret in account.properties("SecretsManager::Secret")
        if secret["Description"] == "REDIS_URI of builds"
    )
    assert uri == f"rediss://builds:{users['builds']['Passwords'][0]}@{found[2]}:6379"


def test_the_site_of_the_first_build_is_found(account: Account) -> None:
    assert re.search(r" first-try/index\.html$", account.printed, re.MULTILINE)


def test_the_queue_is_measured(account: Account) -> None:
    """The function of the stack prints CloudWatch's embedded metric format."""
    code = account.aws.client("lambda").get_function(FunctionName=function_of(account))["Configuration"]
    source = Template().document["Resources"]["QueueAge"]["Properties"]["Code"]["ZipFile"]
    batch = account.aws.client("batch")
    environment = batch.create_compute_environment(
        computeEnvironmentName="measured",
        type="UNMANAGED",
        serviceRole=account.aws.client("iam").create_role(RoleName="batch", AssumeRolePolicyDocument="{}")["Role"][
            "Arn"
        ],
    )["computeEnvironmentArn"]
    order = [{"order": 1, "computeEnvironment": environment}]
    batch.create_job_queue(jobQueueName="measured", state="ENABLED", priority=1, computeEnvironmentOrder=order)

    done = subprocess.run(
        [sys.executable, "-c", f"{source}\nhandler(None, None)"],
        env={**os.environ, **account.aws.environment(), "QUEUE": "measured", "NAME": "buildrunner"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert code["Runtime"] == "python3.13"
    assert done.returncode == 0, done.stderr
    metrics = json.loads(done.stdout)
    assert (metrics["QueueAge"], metrics["QueueLength"]) == (0.0, 0)
    (directive,) = metrics["_aws"]["CloudWatchMetrics"]
    alarm = Template()["QueueAgeAlarm"]
    assert directive["Namespace"] == alarm["Namespace"]
    assert alarm["MetricName"] in {metric["Name"] for metric in directive["Metrics"]}
    assert directive["Dimensions"] == [[alarm["Dimensions"][0]["Name"]]]
    assert metrics[alarm["Dimensions"][0]["Name"]] == alarm["Dimensions"][0]["Value"]


def function_of(account: Account) -> str:
    (function,) = account.aws.client("lambda").list_functions()["Functions"]
    return str(function["FunctionName"])


# --- the tasks -------------------------------------------------------------------------------------------------------


def request_of(account: Account, slug: str) -> dict[str, Any]:
    (request,) = (
        request
        for request in account.aws.asked("RunTask")
        if request["tags"] == [{"key": "slug", "value": slug}]
        and request["cluster"] == account.variables()["ECS_CLUSTER"]
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


def test_the_first_build_is_a_task_in_the_private_subnets(account: Account) -> None:
    request, given = request_of(account, "first-try"), account.variables()
    ecs = account.aws.client("ecs")
    (arn,) = ecs.list_tasks(cluster=given["ECS_CLUSTER"], startedBy=request["startedBy"])["taskArns"]
    (task,) = ecs.describe_tasks(cluster=given["ECS_CLUSTER"], tasks=[arn])["tasks"]
    variables = variables_of(request)

    assert variables.keys() == {"REPO_URL", "SLUG", "BUILD_ID"}
    assert request["startedBy"] == variables["BUILD_ID"]
    assert request["clientToken"].startswith(variables["BUILD_ID"])
    assert request["enableExecuteCommand"] is False
    assert request["networkConfiguration"]["awsvpcConfiguration"] == {
        "subnets": given["ECS_SUBNETS"].split(","),
        "securityGroups": [given["ECS_SECURITY_GROUPS"]],
        "assignPublicIp": "DISABLED",
    }
    assert task["taskDefinitionArn"] == registered_arn(account)
    assert task["overrides"] == request["overrides"]


def registered_arn(account: Account) -> str:
    task = account.aws.client("ecs").describe_task_definition(taskDefinition="buildrunner")["taskDefinition"]
    return str(task["taskDefinitionArn"])


@pytest.mark.parametrize("slug", ["second-try", "third-try"])
def test_python_and_node_send_the_same_request(account: Account, slug: str) -> None:
    """The second is `deploy/run_task.py`, the third `deploy/run-task.mjs`."""
    request = request_of(account, slug)
    variables = variables_of(request)

    assert re.fullmatch(BUILD_ID, variables["BUILD_ID"])
    assert without_what_differs(request) == without_what_differs(request_of(account, "second-try"))
    assert re.search(rf"^{variables['BUILD_ID']} arn:aws:ecs:\S+:task/\S+/[0-9a-f-]+$", account.printed, re.MULTILINE)


class AsyncClient:
    """A client of botocore with the calls of one of aiobotocore."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def __getattr__(self, name: str) -> Any:
        async def call(**arguments: Any) -> Any:
            return getattr(self._client, name)(**arguments)

        return call


@pytest.mark.parametrize("slug", ["first-try", "second-try", "third-try"])
def test_the_gateway_finds_the_task_of_every_starter(account: Account, slug: str) -> None:
    """By what each of them sets: nothing is pretended here."""
    finder = EcsFinder(AsyncClient(account.aws.client("ecs")), account.variables()["ECS_CLUSTER"])
    build = variables_of(request_of(account, slug))["BUILD_ID"]

    async def find() -> list[FoundTask]:
        return await finder.describe(await finder.find(slug, build))

    (found,) = anyio.run(find)
    assert (found.slug, found.build) == (slug, build)


PYTHON = ("python3", "deploy/run_task.py")
NODE = ("node", "deploy/run-task.mjs")


@pytest.mark.parametrize("starter", [PYTHON, NODE], ids=["python", "node"])
class TestAStarter:
    def start(self, account: Account, starter: tuple[str, str], cluster: str, *variables: str) -> Any:
        given = account.variables()
        network = ("--subnets", given["ECS_SUBNETS"], "--security-groups", given["ECS_SECURITY_GROUPS"])
        return account.run(*starter, "--cluster", cluster or given["ECS_CLUSTER"], *network, *variables)

    def test_takes_the_build_id_of_its_caller_and_gives_it_back(
        self, account: Account, starter: tuple[str, str]
    ) -> None:
        build_id, slug = f"mine-{starter[0]}", f"chosen-{starter[0]}"

        done = self.start(
            account, starter, "", "REPO_URL=https://example.org/a?b=c", f"SLUG={slug}", f"BUILD_ID={build_id}"
        )

        assert done.returncode == 0, done.stderr
        assert done.stdout.split()[0] == build_id
        assert request_of(account, slug)["clientToken"] == build_id
        assert variables_of(request_of(account, slug))["REPO_URL"] == "https://example.org/a?b=c"

    def test_fails_when_ecs_answers_that_it_started_nothing(self, account: Account, starter: tuple[str, str]) -> None:
        account.aws.answer("RunTask", {"tasks": [], "failures": [{"reason": "MISSING"}]})

        done = self.start(account, starter, "", "REPO_URL=https://example.org/a", "SLUG=a")

        account.aws.answer("RunTask")
        assert done.returncode != 0
        assert "ECS started no task" in done.stderr
        assert "MISSING" in done.stderr

    def test_retries_throttling_and_lack_of_capacity(self, account: Account, starter: tuple[str, str]) -> None:
        """A request that was refused keeps its token; one that was answered is over."""
        asked = len(account.aws.asked("RunTask"))
        full = {"tasks": [], "failures": [{"reason": "Capacity is unavailable at this time."}]}
        account.aws.answer("RunTask", full, MOTO)

        done = self.start(account, starter, "", "REPO_URL=https://example.org/a", "SLUG=a", "BUILD_ID=retried")

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

        done = self.start(account, starter, "", "REPO_URL=https://example.org/a", "SLUG=a", *secret)

        names = ", ".join(variable.partition("=")[0] for variable in secret)
        assert done.returncode != 0
        assert f"secrets must not be overrides: {names}\n" in done.stderr
        assert len(account.aws.asked("RunTask")) == asked


# --- Redis -----------------------------------------------------------------------------------------------------------


def with_users(redis: Redis) -> None:
    """Give a Redis the users of the template, as ElastiCache would."""
    with redis.client() as client:
        for user in Template().resources("AWS::ElastiCache::User").values():
            if user["UserName"] != "default":  # with which the test itself comes
                access = ["resetkeys", *user["AccessString"].split()]
                client.execute_command("ACL", "SETUSER", user["UserName"], ">s3cret-of-the-test", *access)


def uri_of(redis: Redis, user: str) -> str:
    return redis.uri.replace("//", f"//{user}:s3cret-of-the-test@")


def test_the_user_of_builds_can_do_what_a_build_does_only(
    own_redis: Redis, s3: S3Server, open_folder: Path, repositories: Repositories
) -> None:
    from redis.exceptions import NoPermissionError

    with_users(own_redis)

    run = WarmProgram(own_redis, s3, open_folder).run(
        repositories.app(), REDIS_URI=uri_of(own_redis, "builds"), SLUG="acl"
    )

    assert run.code == 0, run.stderr
    assert run.result["status"] == "succeeded"
    assert run.messages[-1] == "Done"
    assert "not delivered" not in run.stdout + run.stderr
    with own_redis.client() as client:
        client.execute_command("AUTH", "builds", "s3cret-of-the-test")
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


def test_the_user_of_viewers_can_read_and_nothing_else(
    own_redis: Redis, s3: S3Server, open_folder: Path, repositories: Repositories
) -> None:
    """The gateway and `logs` work with it."""
    from redis.exceptions import NoPermissionError

    with_users(own_redis)
    program = WarmProgram(own_redis, s3, open_folder)
    run = program.run(repositories.app(), SLUG="acl", BUILD_ID="one")
    variables = {**os.environ, "REDIS_URI": uri_of(own_redis, "viewers")}

    log = subprocess.run(
        [sys.executable, "-m", "buildrunner", "logs", "acl", "--build", "one", "--follow"],
        env=variables,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    gateway = Gateway(program, REDIS_URI=uri_of(own_redis, "viewers"))
    try:
        build = gateway.request("/api/sites/acl/builds/one").json
        viewer = gateway.events("acl", "one")
        reason = viewer.end()
        health = gateway.request("/healthz").status
    finally:
        gateway.close()

    assert run.code == log.returncode == 0, log.stderr
    assert (build["status"], health) == ("succeeded", 200)
    assert (reason, viewer.events) == ("result", run.events)
    with own_redis.client() as client:
        client.execute_command("AUTH", "viewers", "s3cret-of-the-test")
        for refused in (
            ["XADD", "events:acl", "*", "a", "b"],
            ["PUBLISH", "logs:acl", "x"],
            ["DEL", "events:acl"],
            ["KEYS", "*"],
        ):
            with pytest.raises(NoPermissionError):
                client.execute_command(*refused)


# --- the end ---------------------------------------------------------------------------------------------------------


def test_one_command_deletes_the_stack(account: Account) -> None:
    """A second stack of another name, with everything that can be in one."""
    options = {
        "ImageUri": IMAGE,
        "SiteDomain": "sites.example.com",
        "CertificateArn": f"arn:aws:acm:us-east-1:{ACCOUNT}:certificate/1",
        "AlarmEmail": "me@example.com",
        "GitHubRepository": "me/buildrunner",
        "GatewayOrigins": "https://app.example.com",
    }
    template = ("--template-file", "deploy/cloudformation.yaml", "--capabilities", "CAPABILITY_IAM")
    deploy = ("aws", "cloudformation", "deploy", "--stack-name", "other", *template)
    before = remaining(account)

    created = account.run(*deploy, "--parameter-overrides", *(f"{name}={value}" for name, value in options.items()))
    outputs = account.outputs("other")
    (command,) = re.findall(r"aws cloudformation delete-stack --stack-name buildrunner", DOCUMENT)
    deleted = account.run(*command.replace("buildrunner", "other").split())

    assert created.returncode == 0, created.stderr
    assert {"SitesDistribution", "PushRole", "Gateway"} <= outputs.keys()
    assert deleted.returncode == 0, deleted.stderr
    assert remaining(account) == before


def remaining(account: Account) -> dict[str, int]:
    """Count what costs money or can do something, of those that moto deletes with a stack."""
    aws = account.aws
    return {
        "vpcs": len(aws.client("ec2").describe_vpcs()["Vpcs"]),
        "load balancers": len(aws.client("elbv2").describe_load_balancers()["LoadBalancers"]),
        "roles": len(aws.client("iam").list_roles()["Roles"]),
        "repositories": len(aws.client("ecr").describe_repositories()["repositories"]),
        "queues": len(aws.client("sqs").list_queues().get("QueueUrls", [])),
        "functions": len(aws.client("lambda").list_functions()["Functions"]),
        "log groups": len(aws.client("logs").describe_log_groups()["logGroups"]),
        **{
            kind: len(aws.asked(f"AWS::{kind}")) - len(aws.asked(f"delete AWS::{kind}"))
            for kind in (
                "SecretsManager::Secret",
                "ElastiCache::ReplicationGroup",
                "CloudFront::Distribution",
                "Batch::JobQueue",
            )
        },
    }
