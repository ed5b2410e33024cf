"""Read the variables that readers of logs need: the source of events."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from buildrunner.config.aws import check_keys, read_region
from buildrunner.config.environment import EnvironmentReader


@dataclass(frozen=True, slots=True)
class LogSettings:
    """The source of the events of builds."""

    redis_uri: str = field(repr=False)
    event_stream: str  # with {slug}
    state_bucket: str | None  # of the archive; None: not configured
    region: str | None
    s3_endpoint_url: str | None = field(repr=False)

    def stream_of(self, slug: str) -> str:
        """Return the key of a site's stream."""
        return self.event_stream.replace("{slug}", slug)


def read_log_settings(environment: Mapping[str, str], *, slug: str = "", build: str = "") -> LogSettings:
    """Read `REDIS_URI`, `EVENT_STREAM`, and the variables of the state bucket, which are optional.

    Args:
        environment: of which nothing else is read.
        slug: checked if it is given.
        build: checked if it is given.

    Raises:
        ConfigurationError: with every problem, as a build would name it.

    """
    reader = EnvironmentReader(environment, "logs")
    for name, text in (("SLUG", slug), ("BUILD_ID", build)):
        if text:
            reader.read_as(name, text)
    settings = make_log_settings(reader, reader.read())
    reader.raise_problems()
    return settings


def make_log_settings(reader: EnvironmentReader, values: Mapping[str, Any]) -> LogSettings:
    """Make the settings from the values of a command that reads logs; problems are added to those of the reader."""
    bucket = values["STATE_BUCKET_NAME"] or values["AWS_BUCKET_NAME"]
    check_keys(reader)
    return LogSettings(
        redis_uri=values["REDIS_URI"] or "",
        event_stream=values["EVENT_STREAM"],
        state_bucket=bucket,
        region=read_region(reader, values) if bucket else None,
        s3_endpoint_url=values["AWS_ENDPOINT_URL_S3"],
    )
