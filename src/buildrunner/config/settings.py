"""Read the environment of a build into one frozen `Settings`.

Written by hand rather than with pydantic-settings because of the cold start: its import takes 0.18 s of the 0.3 s in which
git must have been started (asyncio and anyio take 0.08 s).
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any, Literal

from buildrunner.config.addresses import Repository, parse_repository
from buildrunner.config.aws import check_keys, read_region
from buildrunner.config.environment import EnvironmentReader, list_secrets
from buildrunner.config.variables import find_variable

# Of webhooks and commit statuses: what is useless without another variable.
_NEEDED = (
    ("WEBHOOK_URL", "WEBHOOK_SECRET"),
    ("WEBHOOK_SECRET", "WEBHOOK_URL"),
    ("COMMIT_STATUS", "COMMIT_STATUS_TOKEN"),
    ("COMMIT_STATUS_URL", "COMMIT_STATUS_TOKEN"),
)


@dataclass(frozen=True, slots=True)
class Settings:
    """One build's configuration. Times are in seconds, sizes in bytes; placeholders are filled in."""

    repository: Repository
    slug: str
    build_id: str
    bucket: str
    state_bucket: str
    region: str
    s3_endpoint_url: str | None = field(repr=False)
    redis_uri: str = field(repr=False)  # empty: none is used (`publish`)
    root_dir: str | None
    install_command: str | None
    build_command: str | None
    output_dir: str | None
    node_version: str | None
    build_env: Mapping[str, str] = field(repr=False)
    install_env: Mapping[str, str] = field(repr=False)
    s3_key_prefix: str
    log_format: Literal["text", "json"]
    log_channel: str
    event_stream: str
    log_ttl: int
    log_max_bytes: int
    console_format: Literal["auto", "text", "json"]
    clone_timeout: float
    install_timeout: float
    build_timeout: float
    upload_timeout: float
    upload_concurrency: int
    s3_fast_put: bool
    site_max_files: int
    site_max_bytes: int
    site_max_file_bytes: int
    site_url: str | None  # of the published site
    build_url: str | None  # of the build's page
    asset_grace: int
    noindex: bool  # search engines are asked to leave the site out
    strict_references: bool
    dependency_cache: str  # `s3`, `off`, or the absolute path of a folder
    cache_scope: str
    strict_lockfile: bool
    git_submodules: bool
    git_history: Literal["auto", "full", "none"]
    webhook_url: str | None = field(repr=False)
    webhook_key: bytes = field(repr=False)  # that signs; empty without webhooks
    webhook_allow_private: bool
    commit_status: Literal["github", "gitlab", "gitea"] | None  # None: by the host of the repository
    commit_status_url: str | None
    commit_status_token: str | None = field(repr=False)  # None: no statuses are sent
    summary: Literal["off", "json", "emf"]
    traceparent: str | None
    secrets: tuple[str, ...] = field(repr=False)


def read_settings(environment: Mapping[str, str], *, publishes: str | None = None) -> Settings:
    """Read the settings of one build from `environment`.

    With `publishes`, a folder to publish as it is, no repository is needed, and Redis only for a live log.

    Raises:
        ConfigurationError: lists every problem with its variable, the value found and the value expected.

    """
    reader = EnvironmentReader(environment, "run" if publishes is None else "publish")
    values = reader.read()
    repository = Repository("", "", None, None, None)
    if publishes is None:
        repository = _read_repository(reader, values) or repository
    elif not publishes:
        reader.problems.append("DIR is empty: name the folder to publish.")
    elif not os.path.isdir(publishes):
        reader.problems.append(f"The folder {ascii(publishes)[1:-1]} does not exist. Name the folder to publish.")
    region = read_region(reader, values)
    check_keys(reader)
    _check_notifications(reader)
    reader.raise_problems()
    slug: str = values["SLUG"]
    build_id: str = values["BUILD_ID"] or make_build_id()

    def fill(template: str) -> str:
        return template.replace("{slug}", slug).replace("{build}", build_id)

    return Settings(
        repository=repository,
        slug=slug,
        build_id=build_id,
        bucket=values["AWS_BUCKET_NAME"],
        state_bucket=values["STATE_BUCKET_NAME"] or values["AWS_BUCKET_NAME"],
        region=region,
        s3_endpoint_url=values["AWS_ENDPOINT_URL_S3"],
        redis_uri=values["REDIS_URI"] or "",
        root_dir=values["ROOT_DIR"],
        install_command=values["INSTALL_COMMAND"],
        build_command=values["BUILD_COMMAND"],
        output_dir=values["OUTPUT_DIR"],
        node_version=values["NODE_VERSION"],
        build_env=values["BUILD_ENV_<NAME>"],
        install_env=values["INSTALL_ENV_<NAME>"],
        s3_key_prefix=fill(values["S3_KEY_PREFIX"]),
        log_format=values["LOG_FORMAT"],
        log_channel=fill(values["LOG_CHANNEL"]),
        event_stream=fill(values["EVENT_STREAM"]),
        log_ttl=values["LOG_TTL"],
        log_max_bytes=values["LOG_MAX_BYTES"],
        console_format=values["CONSOLE_FORMAT"],
        clone_timeout=values["CLONE_TIMEOUT"],
        install_timeout=values["INSTALL_TIMEOUT"],
        build_timeout=values["BUILD_TIMEOUT"],
        upload_timeout=values["UPLOAD_TIMEOUT"],
        upload_concurrency=values["UPLOAD_CONCURRENCY"],
        s3_fast_put=values["S3_FAST_PUT"],
        site_max_files=values["SITE_MAX_FILES"],
        site_max_bytes=values["SITE_MAX_BYTES"],
        site_max_file_bytes=values["SITE_MAX_FILE_BYTES"],
        site_url=values["SITE_URL"] and fill(values["SITE_URL"]),
        build_url=values["BUILD_URL"] and fill(values["BUILD_URL"]),
        asset_grace=values["ASSET_GRACE"],
        noindex=bool(values["ROBOTS"]),
        strict_references=values["STRICT_REFERENCES"],
        dependency_cache=values["DEPENDENCY_CACHE"],
        cache_scope=values["CACHE_SCOPE"] or slug,
        strict_lockfile=values["STRICT_LOCKFILE"],
        git_submodules=values["GIT_SUBMODULES"],
        git_history=values["GIT_HISTORY"],
        webhook_url=values["WEBHOOK_URL"],
        webhook_key=values["WEBHOOK_SECRET"] or b"",
        webhook_allow_private=values["WEBHOOK_ALLOW_PRIVATE"],
        commit_status=values["COMMIT_STATUS"],
        commit_status_url=values["COMMIT_STATUS_URL"],
        commit_status_token=values["COMMIT_STATUS_TOKEN"],
        summary=values["SUMMARY"],
        traceparent=values["TRACEPARENT"],
        secrets=list_secrets(environment),
    )


def make_build_id() -> str:
    """Make an id that sorts by time and contains 64 random bits."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S-%f}-{os.urandom(8).hex()}"


def _check_notifications(reader: EnvironmentReader) -> None:
    """Report variables of webhooks and commit statuses that lack the one that they need."""
    for given, needed in _NEEDED:
        if reader.is_set(given) and not reader.is_set(needed):
            reader.problems.append(f"{needed} is missing, but {given} is set: set both, or neither.")


def _read_repository(reader: EnvironmentReader, values: Mapping[str, Any]) -> Repository | None:
    url = values["REPO_URL"]
    if not url:
        return None
    try:
        return parse_repository(url, values["REPO_ALLOWED_SCHEMES"], values["REPO_REF"], values["GIT_TOKEN"])
    except ValueError as error:
        reader.add_problem(reader.name_of(find_variable("REPO_URL")), str(error), url)
        return None
