"""Read the environment of `sites` into one frozen `SitesSettings`; every problem is named in one message."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from buildrunner.config.aws import check_keys, read_region
from buildrunner.config.environment import EnvironmentReader


@dataclass(frozen=True, slots=True)
class SitesSettings:
    """Which buckets sites are served from."""

    bucket: str
    state_bucket: str
    key_prefix: str  # with {slug}
    region: str | None
    endpoint_url: str | None = field(repr=False)
    keys: tuple[str, str] | None = field(default=None, repr=False)  # None: found by AWS's default chain


def read_sites_settings(environment: Mapping[str, str]) -> SitesSettings:
    """Read the settings of `sites`.

    Raises:
        ConfigurationError: with every problem, none of which shows a secret.

    """
    reader = EnvironmentReader(environment, "sites")
    values = reader.read()
    check_keys(reader)
    region = read_region(reader, values)
    reader.raise_problems()
    return SitesSettings(
        bucket=values["AWS_BUCKET_NAME"],
        state_bucket=values["STATE_BUCKET_NAME"] or values["AWS_BUCKET_NAME"],
        key_prefix=values["S3_KEY_PREFIX"],
        region=region,
        endpoint_url=values["AWS_ENDPOINT_URL_S3"],
    )
