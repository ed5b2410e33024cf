"""Read the gateway's environment into one frozen `GatewaySettings`; one message lists all problems."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from buildrunner.config.aws import check_keys, read_region
from buildrunner.config.environment import EnvironmentReader
from buildrunner.config.log_settings import LogSettings, make_log_settings
from buildrunner.web.listening import is_loopback

EVERY_SITE = "*"  # the subject of a viewer token for all sites


@dataclass(frozen=True, slots=True)
class FleetSettings:
    """Where builds run, so that the gateway can say what becomes of one that has no log yet."""

    ecs_cluster: str | None
    batch_queue: str | None
    region: str


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """The gateway's address, data sources and access rules."""

    host: str
    port: int  # 0 for a free port
    logs: LogSettings
    secret: bytes | None = field(repr=False)  # for viewer tokens
    origins: tuple[str, ...]  # that may embed pages and call the API
    site_url: str | None  # with {slug}
    fleet: FleetSettings | None  # None if none is configured


def read_gateway_settings(environment: Mapping[str, str], *, host: str, port: int) -> GatewaySettings:
    """Read the settings of `serve`.

    Raises:
        ConfigurationError: lists every problem, without secrets.

    """
    reader = EnvironmentReader(environment, "serve")
    values = reader.read()
    logs = make_log_settings(reader, values)
    if not 0 <= port <= 65535:
        reader.problems.append(f"--port is {port}, but must be 0 to 65535; 0 picks a free port.")
    if not environment.get("GATEWAY_SECRET") and not is_loopback(host):
        reader.problems.append(
            f"--host is {host!a}, but without GATEWAY_SECRET the gateway listens on loopback addresses only."
        )
    fleet = _read_fleet(reader, values)
    reader.raise_problems()
    secret = values["GATEWAY_SECRET"]
    return GatewaySettings(
        host=host,
        port=port,
        logs=logs,
        secret=secret and encode_secret(secret),
        origins=values["GATEWAY_ORIGINS"],
        site_url=values["SITE_URL"],
        fleet=fleet,
    )


def _read_fleet(reader: EnvironmentReader, values: Mapping[str, Any]) -> FleetSettings | None:
    cluster = values["ECS_CLUSTER"] if reader.is_set("ECS_CLUSTER") else None  # its default is one of `submit` alone
    queue = values["BATCH_JOB_QUEUE"]
    if not cluster and not queue:
        return None
    check_keys(reader)
    return FleetSettings(cluster, queue, read_region(reader, values))


def encode_secret(secret: str) -> bytes:
    """Return the key for viewer tokens from `GATEWAY_SECRET`."""
    return secret.encode(errors="surrogateescape")
