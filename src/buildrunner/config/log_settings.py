"""Read what programs that read logs need of a build's environment: where its events are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from buildrunner.config.settings import read_settings

_DEFAULT_STREAM = "events:{slug}"
_UNUSED_SLUG = "unused-slug"


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where the events of builds are."""

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
        slug: checked if given.
        build: checked if given.

    Raises:
        ConfigurationError: with every problem, as a build would name it.

    """
    bucket = environment.get("STATE_BUCKET_NAME") or environment.get("AWS_BUCKET_NAME")
    read = {
        name: value for name, value in environment.items() if name.startswith("AWS_") or name in {"HOME", "REDIS_URI"}
    }
    stand_ins = {"REPO_URL": "https://not-used.invalid/x", "AWS_BUCKET_NAME": bucket or "not-used"}
    if not bucket:
        stand_ins["AWS_REGION"] = "not-used"
    template = environment.get("EVENT_STREAM") or _DEFAULT_STREAM
    names = {"EVENT_STREAM": template, "SLUG": slug or _UNUSED_SLUG, "BUILD_ID": build}
    settings = read_settings({**read, **stand_ins, **names})
    return LogSettings(
        redis_uri=settings.redis_uri,
        event_stream=template,
        state_bucket=settings.state_bucket if bucket else None,
        region=settings.region if bucket else None,
        s3_endpoint_url=settings.s3_endpoint_url,
    )
