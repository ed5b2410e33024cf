"""What `buildrunner submit` is asked for: the build, the variables it may be given, and where it runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from difflib import get_close_matches
from typing import Any

from buildrunner.commands.submit.batch import BatchTarget
from buildrunner.commands.submit.ecs import EcsTarget
from buildrunner.commands.submit.engine import MOST_OVERRIDE_CHARACTERS, override_characters
from buildrunner.config.addresses import parse_repository
from buildrunner.config.aws import check_keys, read_region
from buildrunner.config.environment import EnvironmentReader
from buildrunner.config.log_settings import LogSettings
from buildrunner.config.secret_names import is_public_value, is_secret_name, matches_any
from buildrunner.config.settings import make_build_id
from buildrunner.config.variable import Variable
from buildrunner.config.variables import VARIABLES, find_variable

_OWN = {"REPO_URL": "REPO_URL", "SLUG": "SLUG", "BUILD_ID": "--build-id"}
_SCHEMES = frozenset({"https", "http", "ssh", "file"})  # the task's REPO_ALLOWED_SCHEMES decides


@dataclass(frozen=True, slots=True)
class Request:
    """One build, and where it runs."""

    slug: str
    build: str
    variables: Mapping[str, str]  # of the build
    target: EcsTarget | BatchTarget
    region: str
    log: LogSettings = field(repr=False)  # where its events will be
    page: str | None  # address of the build's page


def read_request(
    environment: Mapping[str, str],
    *,
    repo_url: str,
    slug: str,
    ref: str | None,
    variables: Sequence[str],
    share: str | None,
    detach: bool,
) -> Request:
    """Read the environment and the arguments of the command.

    Raises:
        ConfigurationError: with every problem.

    """
    reader = EnvironmentReader(environment, "submit")
    values = reader.read()
    region = read_region(reader, values)
    check_keys(reader)
    reader.read_as("SLUG", slug)
    build = make_build_id()
    given = {"REPO_URL": repo_url, "SLUG": slug, "BUILD_ID": build, **({"REPO_REF": ref} if ref else {})}
    if ref:
        reader.read_as("REPO_REF", ref)
    _check_repository(reader, repo_url)
    given |= _read_variables(reader, variables, ref)
    if override_characters(given) > MOST_OVERRIDE_CHARACTERS:
        reader.problems.append(
            f"The variables of the build have more than {MOST_OVERRIDE_CHARACTERS} characters, which is all that AWS takes."
            " Put some of them into the task definition."
        )
    target = _read_target(reader, values, share)
    if not detach and not values["REDIS_URI"]:
        reader.problems.append("REDIS_URI is missing. Set it to follow the build's log, or use --detach.")
    reader.raise_problems()
    log = LogSettings(
        redis_uri=values["REDIS_URI"] or "",
        event_stream=values["EVENT_STREAM"],
        state_bucket=values["STATE_BUCKET_NAME"] or values["AWS_BUCKET_NAME"],
        region=region,
        s3_endpoint_url=values["AWS_ENDPOINT_URL_S3"],
    )
    page = values["BUILD_URL"] and values["BUILD_URL"].replace("{slug}", slug).replace("{build}", build)
    return Request(slug, build, given, target, region, log, page)


def find_refusal(name: str, value: str, more_secrets: tuple[str, ...] = ()) -> str | None:
    """Return why a variable must not be set for one build, or None if it may be set.

    Overrides are visible to everyone with the permission ecs:DescribeTasks.

    Args:
        name: of the variable.
        value: which may be an address with a password.
        more_secrets: patterns of `REDACT_VARS`.

    """
    try:
        variable = find_variable(name)
    except KeyError:
        return f"{name} is not a variable of a build.{'' if is_secret_name(name) else _suggest(name)}"
    if variable.name in _OWN:
        return f"{name} cannot be set with --env: it is an argument, or made for each build."
    if "run" not in variable.commands:
        return f"{name} is not a variable of a build."
    own = name.removeprefix(variable.prefix) if variable.prefix else ""
    is_secret = (variable.secret and not variable.prefix) or is_secret_name(own or name)
    if is_secret or matches_any(own, more_secrets) or not is_public_value(value):
        return (
            f"{name} is a secret, and everyone with the permission to describe the task can read overrides."
            " Put it into the task definition's secrets."
        )
    return None


def _read_variables(reader: EnvironmentReader, pairs: Sequence[str], ref: str | None) -> dict[str, str]:
    found: dict[str, str] = {}
    for pair in pairs:
        name, separator, value = pair.partition("=")
        if not separator or not name:
            reader.problems.append(f"--env {name!a} must be NAME=VALUE.")
        elif name in found:
            reader.problems.append(f"--env {name} is given twice.")
        elif ref and name == "REPO_REF":
            reader.problems.append("--env REPO_REF and --ref are both given: use one.")
        else:
            found[name] = value
    more_secrets = find_variable("REDACT_VARS").kind.parse(found.get("REDACT_VARS", "")) or ()
    # The build would name malformed values too, but only once its task has started.
    build = EnvironmentReader(found, "run")
    for name, value in found.items():
        if refusal := find_refusal(name, value, more_secrets):
            reader.problems.append(refusal)
        elif value and not find_variable(name).prefix:
            build.read_as(name, value)
    if not reader.problems:
        for variable in _families():
            build.read_family(variable.prefix)
    reader.problems += build.problems
    return found


def _families() -> list[Variable]:
    return [variable for variable in VARIABLES if variable.prefix]


def _check_repository(reader: EnvironmentReader, url: str) -> None:
    try:
        repository = parse_repository(url, _SCHEMES, None, None)
    except ValueError as error:
        reader.add_problem("REPO_URL", str(error), url)
        return
    if repository.password or (repository.username and repository.scheme in {"http", "https"}):
        reader.problems.append(
            "REPO_URL contains credentials, and everyone with the permission to describe the task can read overrides."
            " Put GIT_TOKEN into the task definition's secrets."
        )


def _read_target(reader: EnvironmentReader, values: Mapping[str, Any], share: str | None) -> EcsTarget | BatchTarget:
    if values["BATCH_JOB_QUEUE"]:
        if not values["BATCH_JOB_DEFINITION"]:
            reader.problems.append("BATCH_JOB_DEFINITION is missing, but BATCH_JOB_QUEUE is set.")
        return BatchTarget(values["BATCH_JOB_QUEUE"], values["BATCH_JOB_DEFINITION"] or "", share)
    if share:
        reader.problems.append("--share is for AWS Batch, but BATCH_JOB_QUEUE is not set.")
    if not values["ECS_TASK_DEFINITION"]:
        reader.problems.append(
            "ECS_TASK_DEFINITION is missing. Set it, for example to buildrunner, or set BATCH_JOB_QUEUE."
        )
    return EcsTarget(
        cluster=values["ECS_CLUSTER"],
        task_definition=values["ECS_TASK_DEFINITION"] or "",
        subnets=values["ECS_SUBNETS"],
        security_groups=values["ECS_SECURITY_GROUPS"],
        container=values["ECS_CONTAINER"],
        has_public_ip=values["ECS_PUBLIC_IP"],
        uses_spot=bool(values["ECS_CAPACITY"]),
    )


def _suggest(name: str) -> str:
    near = get_close_matches(name, [variable.name for variable in VARIABLES], n=1, cutoff=0.6)
    return f" Did you mean {near[0]}?" if near else ""
