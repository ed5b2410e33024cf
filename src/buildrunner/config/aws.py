"""Read settings that AWS's own tools read too: keys, and the region of a profile."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from buildrunner.config import kinds
from buildrunner.config.environment import EnvironmentReader
from buildrunner.config.variables import find_variable


def check_keys(reader: EnvironmentReader) -> None:
    """Report half a pair of keys."""
    names = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
    for one, other in (names, names[::-1]):
        if reader.environment.get(one) and not reader.environment.get(other):
            reader.problems.append(
                f"{other} is missing, but {one} is set: set both, or neither to use the task's role."
            )


def read_region(reader: EnvironmentReader, values: Mapping[str, Any]) -> str:
    """Return the region of the variables, else of the AWS configuration; report when there is none."""
    variable = find_variable("AWS_REGION")
    if reader.environment.get(reader.name_of(variable)):
        return values["AWS_REGION"] or ""
    region = _find_region_of_profile(reader.environment)
    if region is None:
        reader.problems.append(
            "AWS_REGION is missing, and the AWS configuration has no region. Set it, for example to eu-central-1."
        )
    elif not kinds.REGION.parse(region):
        reader.problems.append("The region in the AWS configuration is malformed. Fix it, or set AWS_REGION.")
    return region or ""


def _find_region_of_profile(environment: Mapping[str, str]) -> str | None:
    """Find the region in the AWS configuration file, as the AWS SDKs and Tools Reference Guide describes it."""
    import configparser  # cold start counts, and tasks name their region

    home = environment.get("HOME") or os.path.expanduser("~")
    path = environment.get("AWS_CONFIG_FILE") or os.path.join(home, ".aws", "config")
    profile = environment.get("AWS_PROFILE") or environment.get("AWS_DEFAULT_PROFILE") or "default"
    parser = configparser.RawConfigParser(strict=False)
    try:
        parser.read(os.path.expanduser(path), encoding="utf-8")
    except (configparser.Error, OSError, UnicodeDecodeError):
        return None
    for section in (f"profile {profile}", profile):
        if parser.has_option(section, "region"):
            return parser.get(section, "region").strip() or None
    return None
