"""Read `deploy/cloudformation.yaml` and evaluate its functions, so that tests can check the resources that it creates."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import yaml

from support.harness import ROOT

TEMPLATE = ROOT / "deploy" / "cloudformation.yaml"
ACCOUNT, REGION, STACK = "123456789012", "eu-central-1", "buildrunner"
PSEUDO = {"AccountId": ACCOUNT, "Region": REGION, "StackName": STACK, "Partition": "aws", "NoValue": None}
BUCKETS = {"SiteBucket": "sites", "StateBucket": "state"}  # as on the tests' S3 server
# What `Ref` and `GetAtt` return of each type; {name} is the logical name. Others are named after themselves.
NAMES = {
    "AWS::IAM::Role": ("{name}", {"Arn": f"arn:aws:iam::{ACCOUNT}:role/{{name}}"}),
    "AWS::ECS::Cluster": ("{name}", {"Arn": f"arn:aws:ecs:{REGION}:{ACCOUNT}:cluster/{{name}}"}),
    "AWS::SecretsManager::Secret": (f"arn:aws:secretsmanager:{REGION}:{ACCOUNT}:secret:{{name}}", {}),
    "AWS::Batch::JobQueue": (f"arn:aws:batch:{REGION}:{ACCOUNT}:job-queue/{{name}}", {}),
}


class _Loader(yaml.CSafeLoader):  # type: ignore[misc] # PyYAML has no types
    """Reads the short form of functions, such as `!Ref`, as the long form."""


def _function(loader: yaml.SafeLoader, suffix: str, node: yaml.Node) -> dict[str, Any]:
    if isinstance(node, yaml.ScalarNode):
        value: Any = loader.construct_scalar(node)
    elif isinstance(node, yaml.SequenceNode):
        value = loader.construct_sequence(node, deep=True)
    else:
        value = loader.construct_mapping(node, deep=True)
    if suffix == "GetAtt" and isinstance(value, str):
        value = value.split(".", 1)
    return {suffix if suffix in ("Ref", "Condition") else f"Fn::{suffix}": value}


_Loader.add_multi_constructor("!", _function)


@cache
def _document() -> dict[str, Any]:
    """Read the template once for all tests, which do not change it."""
    document: dict[str, Any] = yaml.load(TEMPLATE.read_text(), _Loader)
    return document


class Template:
    """The template with parameters; those that are not set have their default."""

    def __init__(self, **parameters: str) -> None:
        self.document = _document()
        self.parameters = {name: value.get("Default", "") for name, value in self.document["Parameters"].items()}
        assert parameters.keys() <= self.parameters.keys()
        self.parameters |= parameters

    def resources(self, kind: str | None = None) -> dict[str, dict[str, Any]]:
        """Return the evaluated properties of the resources that are created, by name."""
        return {
            name: self.evaluate(resource.get("Properties", {}))
            for name, resource in self.document["Resources"].items()
            if self._holds(resource.get("Condition")) and kind in (None, resource["Type"])
        }

    def __getitem__(self, name: str) -> dict[str, Any]:
        resource = self.document["Resources"][name]
        assert self._holds(resource.get("Condition")), f"{name} is not created"
        properties: dict[str, Any] = self.evaluate(resource.get("Properties", {}))
        return properties

    def policy(self, role: str) -> dict[str, Any]:
        """Return the inline policy of a role, or the document of a managed policy."""
        properties = self[role]
        if "PolicyDocument" in properties:
            document: dict[str, Any] = properties["PolicyDocument"]
        else:
            (policy,) = properties["Policies"]
            document = policy["PolicyDocument"]
        return document

    def task_definition(self, name: str = "BuildTask") -> dict[str, Any]:
        """Return a task definition as a RegisterTaskDefinition request, without empty values."""
        task: dict[str, Any] = _as_api(self[name])
        for container in task["containerDefinitions"]:
            container["environment"] = [pair for pair in container["environment"] if pair["value"]]
        return task

    def evaluate(self, value: Any) -> Any:
        """Evaluate the functions in a part of the template."""
        if isinstance(value, list):
            return [item for item in map(self.evaluate, value) if item is not None]
        if not isinstance(value, dict):
            return value
        if len(value) == 1:
            ((name, argument),) = value.items()
            if name == "Ref":
                return self._reference(argument)
            if name == "Condition" and isinstance(argument, str):
                return self._holds(argument)
            if name.startswith("Fn::"):
                return getattr(self, f"_{name[4:].lower()}")(argument)
        evaluated = {key: self.evaluate(item) for key, item in value.items()}
        return {key: item for key, item in evaluated.items() if item is not None}

    def _reference(self, name: str) -> Any:
        if name.startswith("AWS::"):
            return PSEUDO[name[5:]]
        if name in self.parameters:
            value = self.parameters[name]
            is_list = self.document["Parameters"][name]["Type"] == "CommaDelimitedList"
            return value.split(",") if is_list else value
        resource = self.document["Resources"][name]
        named = [resource["Properties"][key] for key in ("LogGroupName",) if key in resource.get("Properties", {})]
        if name in BUCKETS:
            return BUCKETS[name]
        reference, _ = NAMES.get(resource["Type"], ("{name}", {}))
        return self.evaluate(named[0]) if named else reference.format(name=name)

    def _getatt(self, argument: list[str]) -> str:
        name, attribute = argument
        kind = self.document["Resources"][name]["Type"]
        if name in BUCKETS:
            return f"arn:aws:s3:::{BUCKETS[name]}"
        if kind == "AWS::Logs::LogGroup":
            return f"arn:aws:logs:{REGION}:{ACCOUNT}:log-group:{self._reference(name)}:*"
        if kind == "AWS::ECR::Repository":
            repository = self.evaluate(self.document["Resources"][name]["Properties"]["RepositoryName"])
            uri = f"{ACCOUNT}.dkr.ecr.{REGION}.amazonaws.com/{repository}"
            return uri if attribute == "RepositoryUri" else f"arn:aws:ecr:{REGION}:{ACCOUNT}:repository/{repository}"
        _, attributes = NAMES.get(kind, ("", {}))
        return attributes.get(attribute, f"{name}.{attribute}").format(name=name)

    def _sub(self, argument: str | list[Any]) -> str:
        text, more = (argument, {}) if isinstance(argument, str) else argument
        values: Mapping[str, Any] = {key: self.evaluate(value) for key, value in more.items()}

        def replace(found: re.Match[str]) -> str:
            name = found[1]
            if name in values:
                return str(values[name])
            return str(self._getatt(name.split(".", 1)) if "." in name else self._reference(name))

        return re.sub(r"\$\{([\w.:]+)\}", replace, text)

    def _if(self, argument: list[Any]) -> Any:
        condition, yes, no = argument
        return self.evaluate(yes if self._holds(condition) else no)

    def _holds(self, condition: str | None) -> bool:
        return condition is None or bool(self.evaluate(self.document["Conditions"][condition]))

    def _equals(self, argument: list[Any]) -> bool:
        first, second = map(self.evaluate, argument)
        return bool(first == second)

    def _not(self, argument: list[Any]) -> bool:
        return not self.evaluate(argument[0])

    def _and(self, argument: list[Any]) -> bool:
        return all(self.evaluate(item) for item in argument)

    def _join(self, argument: list[Any]) -> str:
        return str(argument[0]).join(self.evaluate(argument[1]))

    def _findinmap(self, argument: list[Any]) -> Any:
        name, first, second = argument
        return self.document["Mappings"][name][self.evaluate(first)][second]

    def _select(self, argument: list[Any]) -> str:
        return f"{argument[0]} of {argument[1]}"


def _as_api(value: Any) -> Any:
    """Convert names of CloudFormation (`ContainerDefinitions`) to names of the ECS API (`containerDefinitions`)."""
    if isinstance(value, dict):
        return {name if "-" in name else name[0].lower() + name[1:]: _as_api(item) for name, item in value.items()}
    return [_as_api(item) for item in value] if isinstance(value, list) else value
