"""Add the resource types in `deploy/cloudformation.yaml` that moto's CloudFormation doesn't support, or only partly.

Creating a resource is recorded as a request with its properties (`aws.asked("AWS::ElastiCache::User")`), and deleting it as
`delete AWS::ElastiCache::User`. Secrets are created in moto's Secrets Manager, and references to them are resolved as in
CloudFormation. cfn-lint checks the properties.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from contextlib import suppress
from ipaddress import ip_network
from itertools import islice
from typing import Any

BATCH = "arn:aws:batch:eu-central-1:123456789012"
# The type, what `Ref` returns (a property, or a text with {name} and {id}), and what `GetAtt` returns.
TYPES: dict[str, tuple[str, dict[str, str]]] = {
    "AWS::Batch::ComputeEnvironment": (f"{BATCH}:compute-environment/{{name}}", {}),
    "AWS::Batch::JobDefinition": (f"{BATCH}:job-definition/{{name}}:1", {}),
    "AWS::Batch::JobQueue": (f"{BATCH}:job-queue/{{name}}", {}),
    "AWS::Batch::SchedulingPolicy": (f"{BATCH}:scheduling-policy/{{name}}", {}),
    "AWS::CloudFront::CachePolicy": ("{id}", {}),
    "AWS::CloudFront::Distribution": ("E{id}", {"DomainName": "d{id}.cloudfront.net"}),
    "AWS::CloudFront::VpcOrigin": ("vo_{id}", {"Id": "vo_{id}"}),
    "AWS::CloudWatch::Alarm": ("{name}", {}),
    "AWS::ElastiCache::ReplicationGroup": (
        "{name}",
        {"PrimaryEndPoint": "master.{id}.euc1.cache.amazonaws.com"},  # moto ignores the text after the second dot
    ),
    "AWS::ElastiCache::SubnetGroup": ("{name}", {}),
    "AWS::ElastiCache::User": ("UserId", {}),
    "AWS::ElastiCache::UserGroup": ("UserGroupId", {}),
    "AWS::S3::BucketPolicy": ("Bucket", {}),
    "AWS::SNS::Subscription": ("{name}", {}),
    "AWS::SQS::QueuePolicy": ("{name}", {}),
    "AWS::SecretsManager::Secret": ("{arn}", {}),
}

# Of a secret: binary, description, tags, KMS key, client token, replicas, overwrite.
_NOTHING_ELSE: tuple[Any, ...] = (None, None, None, None, None, [], False)
_MADE: list[type] = []  # moto finds its subclasses but keeps no reference to them


def add_types(record: Callable[[str, Any], None]) -> None:
    """Add `TYPES` to moto's CloudFormation; `record` is called with an action and its request."""
    from moto.cloudformation import parsing
    from moto.cloudformation.models import Stack
    from moto.cloudformation.parsing import get_model_list, get_model_map, get_name_type_map

    def outputs_of(stack: Any) -> Any:
        return parsing.OutputMap(stack.resource_map, stack.resource_map._template, stack.stack_id)

    # The outputs of a stack depend on its current state; moto returns those from before a change set.
    Stack.output_map = property(outputs_of, lambda *_: None)  # type: ignore[assignment]
    clean_json = parsing.clean_json

    def clean_json_with_cidr(value: Any, resources: Any) -> Any:
        if isinstance(value, dict) and "Fn::Cidr" in value:
            block, count, bits = clean_json(value["Fn::Cidr"], resources)
            return [str(part) for part in islice(ip_network(block).subnets(new_prefix=32 - int(bits)), int(count))]
        return clean_json(value, resources)

    parsing.clean_json = clean_json_with_cidr  # type: ignore[assignment]
    parsing.ResourceMap.update = _update  # type: ignore[method-assign, assignment]
    delete = parsing.ResourceMap.delete

    def delete_with_routes(stack: Any) -> None:
        for name, resource in stack._resource_json_map.items():
            if resource["Type"] == "AWS::EC2::RouteTable" and (table := stack._parsed_resources.get(name)):
                table.ec2_backend.delete_route_table(table.id)
        delete(stack)

    parsing.ResourceMap.delete = delete_with_routes  # type: ignore[method-assign, assignment]
    for name, (reference, attributes) in TYPES.items():
        _MADE.append(_make_type(name, reference, attributes, record))
    for cached in (get_model_list, get_model_map, get_name_type_map):
        cached.cache_clear()


def _update(stack: Any, template: dict[str, Any], parameters: dict[str, Any] | None = None) -> None:
    """Update a stack even if only a parameter changed a condition, which moto's own update ignores."""
    from moto.cloudformation.parsing import clean_json, parse_and_update_resource

    present = {name for name in stack._resource_json_map if name in stack._parsed_resources}
    before = {name: clean_json(stack._resource_json_map[name], stack) for name in present}
    stack._template, stack._resource_json_map = template, template["Resources"]
    given = parameters or stack.input_parameters
    # moto passes the parsed value of an unchanged list instead of its text.
    stack.input_parameters = {name: ",".join(it) if isinstance(it, list) else it for name, it in given.items()}
    stack.load_mapping()
    stack.load_parameters()
    stack.load_conditions()
    for name, resource in template["Resources"].items():
        condition = resource.get("Condition")
        if condition and not stack.lazy_condition_map[condition]:
            assert name not in present, f"{name} has to be deleted, which no test needed so far"
        elif name not in present:
            _ = stack[name]
        elif clean_json(resource, stack) != before[name]:
            known = stack._parsed_resources[name]
            with suppress(AttributeError):  # moto returns nothing for what it changes in place
                known = parse_and_update_resource(name, resource, stack, stack._account_id, stack._region_name) or known
            stack._parsed_resources[name] = known


def _make_type(name: str, reference: str, attributes: dict[str, str], record: Callable[[str, Any], None]) -> type:
    from moto.backends import get_backend
    from moto.core.common_models import CloudFormationModel

    def resolve(value: Any, account: str, region: str) -> Any:
        manager: Any = get_backend("secretsmanager")[account][region]

        def look_up(found: re.Match[str]) -> str:
            return str(manager.get_secret_value(found[1], "", "")["SecretString"])

        return json.loads(re.sub(r"\{\{resolve:secretsmanager:([^}]*)\}\}", look_up, json.dumps(value)))

    class Resource(CloudFormationModel):
        __module__ = "moto.cloudformation.custom_model"  # has to be a module of moto

        def __init__(self, resource_name: str, properties: dict[str, Any], arn: str) -> None:
            self.values = {"name": resource_name, "id": secrets.token_hex(7), "arn": arn}
            self.reference: str = properties.get(reference) or reference.format(**self.values)

        @property
        def physical_resource_id(self) -> str:
            return self.reference

        @staticmethod
        def cloudformation_name_type() -> str:
            return ""

        @staticmethod
        def cloudformation_type() -> str:
            return name

        @classmethod
        def has_cfn_attr(cls, attr: str) -> bool:
            return attr in attributes

        def get_cfn_attribute(self, attribute_name: str) -> str:
            return attributes[attribute_name].format(**self.values)

        @classmethod
        def create_from_cloudformation_json(
            cls, resource_name: str, cloudformation_json: Any, account_id: str, region_name: str, **_: Any
        ) -> Any:
            properties = resolve(cloudformation_json["Properties"], account_id, region_name)
            arn = ""
            if name == "AWS::SecretsManager::Secret":
                manager: Any = get_backend("secretsmanager")[account_id][region_name]
                text = properties.get("SecretString") or secrets.token_hex(
                    properties["GenerateSecretString"]["PasswordLength"] // 2
                )
                arn = json.loads(manager.create_secret(resource_name, text, *_NOTHING_ELSE))["ARN"]
            record(name, {**properties, **({"Ref": arn} if arn else {})})
            return cls(resource_name, properties, arn)

        @classmethod
        def update_from_cloudformation_json(
            cls,
            original_resource: Any,
            new_resource_name: str,
            cloudformation_json: Any,
            account_id: str,
            region_name: str,
        ) -> Any:
            record(f"update {name}", resolve(cloudformation_json["Properties"], account_id, region_name))
            return original_resource

        @classmethod
        def delete_from_cloudformation_json(cls, resource_name: str, cloudformation_json: Any, *_: Any) -> None:
            record(f"delete {name}", resource_name)

    return Resource
