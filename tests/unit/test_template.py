"""Test `deploy/cloudformation.yaml`: CloudFormation accepts it, and its resources fit the program."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from support.harness import ROOT
from support.template import TEMPLATE, Template

IMAGE = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/buildrunner:0.1.0"
SERVICES = Template(ImageUri=IMAGE, SiteDomain="sites.example.com", CertificateArn="arn:aws:acm:x")
# The size limit of a template in a request; a larger template has to be in a bucket.
# https://docs.aws.amazon.com/AWSCloudFormation/latest/UserGuide/cloudformation-limits.html
MAX_BYTES = 51_200


def test_cfn_lint_finds_nothing() -> None:
    """W1030 checks parameters with their empty defaults, for which the functions that use them are not evaluated."""
    command = [str(Path(sys.executable).with_name("cfn-lint")), "--regions", "eu-central-1", "us-east-1"]
    command += ["--ignore-checks", "W1030", "--", str(TEMPLATE)]

    done = subprocess.run(command, capture_output=True, text=True, check=False)

    assert (done.returncode, done.stdout) == (0, "")


def test_the_template_fits_into_one_request() -> None:
    assert TEMPLATE.stat().st_size <= MAX_BYTES


def test_every_skipped_security_check_has_a_reason() -> None:
    """Each skipped rule of checkov has a comment with the reason."""
    skipped = re.findall(r"^  - (CKV\w+)(.*)$", (ROOT / "deploy" / "checkov.yaml").read_text(), re.MULTILINE)

    assert skipped
    assert [rule for rule, reason in skipped if len(reason.split()) < 4] == []


@pytest.mark.parametrize("image", ["", IMAGE])
def test_services_are_created_with_an_image_only(image: str) -> None:
    template = Template(ImageUri=image, SiteDomain="sites.example.com", CertificateArn="arn:aws:acm:x")

    services = template.resources("AWS::ECS::Service")

    assert services.keys() == ({"GatewayService", "SitesService"} if image else set())
    assert len(template.resources("AWS::CloudFront::Distribution")) == (2 if image else 0)
    assert bool(template.resources("AWS::ElasticLoadBalancingV2::LoadBalancer")) == bool(image)
    assert "Queue" in template.resources()


def test_sites_are_served_with_a_domain_only() -> None:
    assert "SitesService" not in Template(ImageUri=IMAGE).resources()
    assert "SitesRecords" not in SERVICES.resources()
    assert SERVICES["SitesDistribution"]["DistributionConfig"]["Aliases"] == ["*.sites.example.com"]


def test_a_vpc_of_ones_own_replaces_the_one_of_the_stack() -> None:
    template = Template(ImageUri=IMAGE, VpcId="vpc-1", SubnetIds="subnet-a,subnet-b")
    kinds = {template.document["Resources"][name]["Type"] for name in template.resources()}

    assert not {"AWS::EC2::VPC", "AWS::EC2::Subnet", "AWS::EC2::NatGateway", "AWS::EC2::VPCEndpoint"} & kinds
    assert {group["VpcId"] for group in template.resources("AWS::EC2::SecurityGroup").values()} == {"vpc-1"}
    assert template["Balancer"]["Subnets"] == ["subnet-a", "subnet-b"]
    assert template["CacheSubnets"]["SubnetIds"] == ["subnet-a", "subnet-b"]


# --- security groups -------------------------------------------------------------------------------------------------


def reachable(template: Template) -> set[tuple[str, int, str]]:
    """Return the allowed connections between security groups: source, target and port."""
    into, out = set(), set()
    resources = template.resources()
    for name, group in template.resources("AWS::EC2::SecurityGroup").items():
        for rule in group["SecurityGroupEgress"]:
            if "DestinationSecurityGroupId" in rule:
                out.add((name, rule["FromPort"], rule["DestinationSecurityGroupId"]))
        for rule in group.get("SecurityGroupIngress", []):
            into.add((rule["CidrIp"], rule["FromPort"], name))
    for rule in template.resources("AWS::EC2::SecurityGroupIngress").values():
        into.add((rule["SourceSecurityGroupId"], rule["FromPort"], rule["GroupId"]))
    assert {rule for rule in into if rule[0] in resources} == out
    return into


def test_security_groups_let_in_what_is_needed_and_no_more() -> None:
    assert reachable(Template()) == {("BuildsSecurityGroup", 6379, "CacheSecurityGroup")}
    assert reachable(SERVICES) == {
        ("BuildsSecurityGroup", 6379, "CacheSecurityGroup"),
        ("GatewaySecurityGroup", 6379, "CacheSecurityGroup"),
        ("BalancerSecurityGroup", 8080, "GatewaySecurityGroup"),
        ("BalancerSecurityGroup", 8080, "SitesSecurityGroup"),
        ("10.20.0.0/16", 80, "BalancerSecurityGroup"),
    }


def test_the_balancer_can_be_closed_to_all_but_cloudfront() -> None:
    (rule,) = Template(ImageUri=IMAGE, CloudFrontPrefixList="pl-1")["BalancerSecurityGroup"]["SecurityGroupIngress"]

    assert rule["SourcePrefixListId"] == "pl-1"
    assert "CidrIp" not in rule


def test_private_subnets_lead_out_through_nat() -> None:
    template = Template()
    routes = {route["RouteTableId"]: route for route in template.resources("AWS::EC2::Route").values()}
    ways = {
        association["SubnetId"]: routes[association["RouteTableId"]]
        for association in template.resources("AWS::EC2::SubnetRouteTableAssociation").values()
    }

    assert ways.keys() == {"PublicSubnet", "PrivateSubnetA", "PrivateSubnetB"}
    assert ways["PublicSubnet"]["GatewayId"] == "InternetGateway"
    assert {ways[name]["NatGatewayId"] for name in ("PrivateSubnetA", "PrivateSubnetB")} == {"NatGateway"}
    assert template["NatGateway"]["SubnetId"] == "PublicSubnet"


def test_builds_reach_tls_and_redis_and_nothing_else() -> None:
    rules = Template()["BuildsSecurityGroup"]["SecurityGroupEgress"]

    assert [(rule["FromPort"], rule["ToPort"]) for rule in rules] == [(443, 443), (6379, 6379)]


def test_images_are_immutable_scanned_and_limited() -> None:
    repository = Template()["Repository"]

    assert repository["ImageTagMutability"] == "IMMUTABLE"
    assert repository["ImageScanningConfiguration"] == {"ScanOnPush": True}
    (rule,) = json.loads(repository["LifecyclePolicy"]["LifecyclePolicyText"])["rules"]
    assert rule["selection"] == {"tagStatus": "any", "countType": "imageCountMoreThan", "countNumber": 60}


def test_the_cluster_has_fargate_and_spot() -> None:
    assert Template()["Cluster"]["CapacityProviders"] == ["FARGATE", "FARGATE_SPOT"]


def test_builds_link_to_their_page_once_there_is_one() -> None:
    def build_url(template: Template) -> list[str]:
        (container,) = template.task_definition()["containerDefinitions"]
        return [variable["value"] for variable in container["environment"] if variable["name"] == "BUILD_URL"]

    assert build_url(Template()) == []
    assert build_url(SERVICES) == ["https://GatewayDistribution.DomainName/sites/{slug}/builds/{build}"]


# --- services --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["GatewayTask", "SitesTask"])
def test_services_run_without_root_and_capabilities(name: str) -> None:
    task = SERVICES.task_definition(name)
    (container,) = task["containerDefinitions"]

    assert container["user"] == "65534"
    assert container["readonlyRootFilesystem"] is True
    assert container["linuxParameters"]["capabilities"] == {"drop": ["ALL"]}
    assert container["image"] == IMAGE
    assert "SECRET" not in json.dumps(container["environment"])


def calls_of_bucket(folder: str) -> set[str]:
    """Return the methods of `Bucket` that the modules in a folder call."""
    source = "".join(path.read_text() for path in sorted((ROOT / "src" / "buildrunner" / folder).glob("*.py")))
    return set(re.findall(r"\b_?bucket\.([a-z]\w+)\(", source))


def test_the_gateway_may_do_what_it_calls_and_no_more() -> None:
    statements = {statement["Sid"]: statement for statement in SERVICES.policy("GatewayRole")["Statement"]}
    account = "eu-central-1:123456789012"

    assert calls_of_bucket("gateway") == {"get_range", "list_objects"}
    assert actions_of("GatewayRole") == {"s3:GetObject", "s3:ListBucket"} | actions_of_finders()
    assert statements["ReadLogs"]["Resource"] == "arn:aws:s3:::state/__logs/*"
    assert "__logs/*" in json.dumps(statements["FindLogs"]["Condition"])
    assert statements["FindTasks"]["Condition"] == {
        "ArnEquals": {"ecs:cluster": f"arn:aws:ecs:{account}:cluster/Cluster"}
    }
    assert statements["DescribeTasks"]["Resource"] == f"arn:aws:ecs:{account}:task/Cluster/*"


def actions_of(role: str) -> set[str]:
    """Return the actions that a role may use."""
    actions: set[str] = set()
    for statement in SERVICES.policy(role)["Statement"]:
        named = statement["Action"]
        actions |= {named} if isinstance(named, str) else set(named)
    return actions


def actions_of_finders() -> set[str]:
    """Return the actions of the calls with which the gateway finds tasks and jobs."""
    source = (ROOT / "src" / "buildrunner" / "fleet" / "find.py").read_text()
    _, ecs, batch = re.split(r"^class (?:Ecs|Batch)Finder:$", source, flags=re.MULTILINE)
    calls = {service: re.findall(r"_client\.(\w+)\(", part) for service, part in (("ecs", ecs), ("batch", batch))}
    return {
        f"{service}:{''.join(word.capitalize() for word in name.split('_'))}"
        for service, names in calls.items()
        for name in names
    }


def test_the_gateway_is_told_where_builds_run() -> None:
    """By the names that `submit` is told in the outputs of the stack."""
    (container,) = SERVICES.task_definition("GatewayTask")["containerDefinitions"]
    given = {variable["name"]: variable["value"] for variable in container["environment"]}
    outputs = json.dumps(SERVICES.document["Outputs"])

    assert (given["ECS_CLUSTER"], given["BATCH_JOB_QUEUE"]) == tuple(
        SERVICES.evaluate([{"Ref": "Cluster"}, {"Ref": "Queue"}])
    )
    assert "ECS_CLUSTER=${Cluster} " in outputs
    assert "BATCH_JOB_QUEUE=${Queue} " in outputs


def test_the_site_server_may_do_what_it_calls_and_no_more() -> None:
    statements = {statement["Sid"]: statement for statement in SERVICES.policy("SitesRole")["Statement"]}
    source = "".join(path.read_text() for path in sorted((ROOT / "src" / "buildrunner" / "sites").glob("*.py")))
    prefixes = set(re.findall(r'f"(__\w+/)\{', source))

    assert calls_of_bucket("sites") == {"list_objects"}
    assert set(statements["ReadRouting"]["Resource"]) == {f"arn:aws:s3:::state/{prefix}*" for prefix in prefixes}
    assert statements["ReadSites"]["Resource"] == "arn:aws:s3:::sites/*"
    assert statements["TellMissingFromForbidden"]["Action"] == "s3:ListBucket"


def test_no_service_may_write() -> None:
    for role in ("GatewayRole", "SitesRole"):
        assert {action.partition(":")[2][:3] for action in actions_of(role)} <= {"Get", "Lis", "Des"}


def test_the_gateway_is_kept_while_redis_is_away() -> None:
    """`/healthz` then answers 503, and a new task would not change that."""
    assert SERVICES["GatewayTargets"]["HealthCheckPath"] == "/healthz"
    assert SERVICES["GatewayTargets"]["Matcher"] == {"HttpCode": "200,503"}


def test_cloudfront_waits_longer_than_the_gateway_is_silent() -> None:
    """A comment comes at least every 15 s."""
    (origin,) = SERVICES["GatewayDistribution"]["DistributionConfig"]["Origins"]

    assert origin["VpcOriginConfig"]["OriginReadTimeout"] > 30


# --- queue and lost builds -------------------------------------------------------------------------------------------


def ended_with_a_result(pattern: list[dict[str, Any]]) -> set[int]:
    """Return the exit codes for which an event pattern assumes that the build wrote a result."""
    anything_but = next(part["anything-but"] for part in pattern if "anything-but" in part)
    assert {"exists": False} in pattern
    return set(anything_but)


def test_exit_codes_with_a_result_are_not_lost_builds() -> None:
    """Of the documented exit codes, only 2 comes without a result, since nothing was started."""
    document = (ROOT / "docs" / "exit-codes.md").read_text()
    codes = {int(code) for code in re.findall(r"^\| (?:`)?(\d+)", document, re.MULTILINE)} | {130, 143}
    task, job = Template()["LostTask"]["EventPattern"]["detail"], Template()["LostJob"]["EventPattern"]["detail"]

    assert ended_with_a_result(task["containers"]["exitCode"]) == codes - {2}
    assert ended_with_a_result(job["container"]["exitCode"]) == codes - {2}


def matches(rule: str, event: dict[str, Any]) -> bool:
    """Match events as EventBridge does, for the features in use: exact values, `exists`, `anything-but`, and lists."""

    def match_one(pattern: Any, value: Any) -> bool:
        if not isinstance(pattern, dict):
            return bool(value == pattern)
        if "exists" in pattern:
            return bool(pattern["exists"]) is (value is not None)
        return value is not None and value not in pattern["anything-but"]

    def match(pattern: Any, value: Any) -> bool:
        if isinstance(value, list):
            return any(match(pattern, item) for item in value)
        if isinstance(pattern, dict):
            return all(match(part, (value or {}).get(name)) for name, part in pattern.items())
        return any(match_one(one, value) for one in pattern)

    return match(Template()[rule]["EventPattern"], event)


@pytest.mark.parametrize(
    ("code", "lost"),
    [(None, True), (137, True), (139, True), (2, True), (0, False), (1, False), (40, False), (143, False)],
)
def test_a_task_that_ended_without_a_result_is_lost(code: int | None, lost: bool) -> None:
    container = {"name": "buildrunner", **({} if code is None else {"exitCode": code})}
    task: dict[str, Any] = {
        "clusterArn": "arn:aws:ecs:eu-central-1:123456789012:cluster/Cluster",
        "group": "family:buildrunner",
        "lastStatus": "STOPPED",
        "containers": [container],
    }
    queue = "arn:aws:batch:eu-central-1:123456789012:job-queue/Queue"
    job = {"jobQueue": queue, "status": "FAILED", "container": container}

    def task_event(**changes: str) -> dict[str, Any]:
        return {"source": "aws.ecs", "detail-type": "ECS Task State Change", "detail": task | changes}

    assert matches("LostTask", task_event()) is lost
    assert matches("LostJob", {"source": "aws.batch", "detail-type": "Batch Job State Change", "detail": job}) is lost
    assert not matches("LostTask", task_event(lastStatus="RUNNING"))
    assert not matches("LostTask", task_event(group="service:buildrunner-GatewayService"))


def test_batch_runs_again_what_spot_took_and_nothing_else() -> None:
    """The first matching condition decides; an exit code means that the program has ended."""
    strategy = Template()["BuildJob"]["RetryStrategy"]

    assert strategy["Attempts"] > 1
    assert strategy["EvaluateOnExit"] == [
        {"Action": "EXIT", "OnExitCode": "*"},
        {"Action": "RETRY", "OnStatusReason": "Your Spot Task was interrupted*"},
        {"Action": "EXIT", "OnReason": "*"},
    ]


def test_batch_gives_a_build_what_a_task_of_its_own_gets() -> None:
    template = Template(ImageUri=IMAGE)
    job, task = template["BuildJob"]["ContainerProperties"], template["BuildTask"]
    (container,) = task["ContainerDefinitions"]
    needs = {need["Type"]: need["Value"] for need in job["ResourceRequirements"]}

    for name in ("Image", "Environment", "Secrets"):
        assert job[name] == container[name], name
    assert (job["JobRoleArn"], job["ExecutionRoleArn"]) == (task["TaskRoleArn"], task["ExecutionRoleArn"])
    assert (float(needs["VCPU"]) * 1024, needs["MEMORY"]) == (float(task["Cpu"]), task["Memory"])
    assert job["RuntimePlatform"] == task["RuntimePlatform"]


@pytest.mark.parametrize("cpu", ["512", "1024", "2048", "4096", "8192"])
def test_vcpus_of_batch_are_those_of_ecs(cpu: str) -> None:
    (vcpu, _) = Template(BuildCpu=cpu)["BuildJob"]["ContainerProperties"]["ResourceRequirements"]

    assert float(vcpu["Value"]) * 1024 == int(cpu)


# --- Redis -----------------------------------------------------------------------------------------------------------


def test_the_user_default_of_redis_is_off() -> None:
    users = Template().resources("AWS::ElastiCache::User")

    assert {user["UserName"]: user["AccessString"].split()[0] for user in users.values()} == {
        "default": "off",
        "builds": "on",
        "viewers": "on",
    }
    assert len(Template()["CacheUsers"]["UserIds"]) == 3
    assert Template()["Cache"]["TransitEncryptionEnabled"] is True


def test_the_user_of_builds_is_the_documented_one() -> None:
    document = (ROOT / "docs" / "security.md").read_text()
    found = re.search(r"^ACL SETUSER buildrunner on >PASSWORD resetkeys (.*)$", document, re.MULTILINE)
    assert found

    assert Template()["BuildsUser"]["AccessString"] == f"on {found[1]}"


# --- buckets ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["SiteBucket", "StateBucket"])
def test_buckets_are_closed_encrypted_and_outlive_the_stack(name: str) -> None:
    bucket = Template()[name]

    assert all(bucket["PublicAccessBlockConfiguration"].values())
    assert bucket["BucketEncryption"]
    assert Template().document["Resources"][name]["DeletionPolicy"] == "RetainExceptOnCreate"
    assert "BucketName" not in bucket, "names are unique across AWS"


def test_logs_and_dependencies_expire() -> None:
    rules = Template()["StateBucket"]["LifecycleConfiguration"]["Rules"]

    assert {rule["Prefix"]: rule["ExpirationInDays"] for rule in rules if "Prefix" in rule} == {
        "__logs/": 30,
        "__cache/": 14,
    }
