"""Read the gateway's environment into one frozen `GatewaySettings`; every problem is named in one message."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from buildrunner.config.log_settings import LogSettings, read_log_settings
from buildrunner.errors import ConfigurationError

SECRET_BYTES = 32  # RFC 7518, section 3.2: a key of HS256 has at least as many bits as its hash
_ORIGIN = re.compile(r"https?://(?:[a-z0-9-]+(?:\.[a-z0-9-]+)*|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?")

_SITE_URL = re.compile(r"https?://(?=[^\s]*\{slug\})(?:[^\s{}\"<>]|\{slug\})+")


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """Where the gateway listens, what it reads, and who may see it."""

    host: str
    port: int  # 0: a free one
    logs: LogSettings
    secret: bytes | None = field(repr=False)  # of viewer tokens
    origins: tuple[str, ...]  # that may embed pages and call the API
    site_url: str | None  # with {slug}


def read_gateway_settings(environment: Mapping[str, str], *, host: str, port: int) -> GatewaySettings:
    """Read the settings of `serve`.

    Raises:
        ConfigurationError: with every problem, none of which shows a secret.

    """
    problems: list[str] = []
    logs = None
    try:
        logs = read_log_settings(environment)
    except ConfigurationError as error:
        problems += error.problems
    if not 0 <= port <= 65535:
        problems.append(f"--port is {port}, but must be 0 to 65535; 0 picks a free port.")
    secret = read_secret(environment, problems) if environment.get("GATEWAY_SECRET") else None
    if not environment.get("GATEWAY_SECRET") and not is_loopback(host):
        problems.append(
            f"--host is {host!a}, but without GATEWAY_SECRET the gateway listens on loopback addresses only."
        )
    origins = tuple(filter(None, (each.strip() for each in environment.get("GATEWAY_ORIGINS", "").split(","))))
    problems += [
        f"GATEWAY_ORIGINS has {each!a}, but each must be an origin such as https://app.example.com, without a path."
        for each in origins
        if not _ORIGIN.fullmatch(each)
    ]
    site_url = environment.get("SITE_URL") or None
    if site_url and not _SITE_URL.fullmatch(site_url):
        problems.append(f"SITE_URL is {site_url!a}, but must be an address such as https://{{slug}}.example.com.")
    if problems or logs is None:
        raise ConfigurationError(problems)
    return GatewaySettings(host=host, port=port, logs=logs, secret=secret, origins=origins, site_url=site_url)


def read_secret(environment: Mapping[str, str], problems: list[str]) -> bytes | None:
    """Return `GATEWAY_SECRET`, or add what is wrong with it."""
    secret = environment.get("GATEWAY_SECRET", "").encode(errors="surrogateescape")
    if not secret:
        problems.append("GATEWAY_SECRET is missing: the key of viewer tokens.")
    elif len(secret) < SECRET_BYTES:
        problems.append(f"GATEWAY_SECRET has {len(secret)} bytes, but must have at least {SECRET_BYTES}.")
    else:
        return secret
    return None


def is_loopback(host: str) -> bool:
    """Return whether a host, as in a URL or of `--host`, is this machine itself: `localhost`, below it, or a loopback address."""
    host = host.lower().removeprefix("[").removesuffix("]")
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
