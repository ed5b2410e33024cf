"""One POST to a server that others choose: no redirects, and on request no private addresses."""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import anyio
from aiohttp import (
    ClientConnectionError,
    ClientConnectorCertificateError,
    ClientConnectorError,
    ClientError,
    ClientSession,
    ClientSSLError,
    ClientTimeout,
    TCPConnector,
)
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from buildrunner import __version__

ATTEMPT_SECONDS = 10.0  # for connecting, sending and the status of the answer
_ANSWER_BYTES = 4096  # of an answer that are read, for its error message
# Addresses of IPv6 that stand for one of IPv4: RFC 6052 (NAT64).
_NAT64 = ipaddress.ip_network("64:ff9b::/96")


class NotDelivered(Exception):
    """Say why an attempt failed.

    Args:
        reason: continues "was not delivered to example.com: ".
        final: whether another attempt would end in the same way.
        retry_after: seconds that the server asks to wait.

    """

    def __init__(self, reason: str, *, final: bool = False, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final
        self.retry_after = retry_after


@dataclass(frozen=True, slots=True)
class Answer:
    """What a server answered."""

    status: int
    text: str  # its beginning
    retry_after: float | None  # seconds


async def post(url: str, headers: Mapping[str, str], body: bytes, *, allow_private: bool) -> Answer:
    """Send one request and return the answer, whatever its status.

    The host is resolved once, and the connection is made to the addresses that were checked: a name server that answers
    differently the next time does not help. Proxies of the environment are not used.

    Args:
        url: where to.
        headers: besides those that every request has.
        body: JSON.
        allow_private: whether the server may be in a private network, or on this machine.

    Raises:
        NotDelivered: there was no answer.

    """
    try:
        target = URL(url)
        with anyio.fail_after(ATTEMPT_SECONDS):
            addresses = await _resolve(target.raw_host or "", target.port or 0)
            if not allow_private and any(not is_public(str(address["host"])) for address in addresses):
                raise NotDelivered("its host is at a private address, which WEBHOOK_ALLOW_PRIVATE=1 allows", final=True)
            connector = TCPConnector(resolver=_Resolved(addresses), use_dns_cache=False, force_close=True)
            async with (
                ClientSession(connector=connector, timeout=ClientTimeout(total=None)) as session,
                session.post(
                    target,
                    data=body,
                    headers={
                        "Content-Type": "application/json",
                        "User-Agent": f"buildrunner/{__version__}",
                        **headers,
                    },
                    allow_redirects=False,
                ) as answer,
            ):
                text = await answer.content.read(_ANSWER_BYTES) if answer.status >= 400 else b""
                after = answer.headers.get("Retry-After", "")
                return Answer(answer.status, text.decode(errors="replace"), float(after) if after.isdecimal() else None)
    except TimeoutError:
        raise NotDelivered(f"no answer within {ATTEMPT_SECONDS:g} s") from None
    except socket.gaierror:
        raise NotDelivered("its host name cannot be resolved") from None
    except ClientConnectorCertificateError:
        raise NotDelivered("its certificate is not valid") from None
    except ClientSSLError:
        raise NotDelivered("it does not speak TLS, or not this version") from None
    except ClientConnectorError as error:
        number = error.os_error.errno
        raise NotDelivered(f"no connection ({os.strerror(number) if number else type(error).__name__})") from None
    except ClientConnectionError:
        raise NotDelivered("the connection was closed without an answer") from None
    except (ClientError, OSError, ValueError) as error:
        raise NotDelivered(f"the request failed ({type(error).__name__})") from None


def is_public(address: str) -> bool:
    """Return whether everyone can reach an address: not private, loopback, link-local, shared, reserved or multicast."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour or (found.teredo[1] if found.teredo else None)
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner:
            return is_public(str(inner))
        if found.is_site_local:
            return False
    return found.is_global and not found.is_multicast


async def _resolve(host: str, port: int) -> Sequence[ResolveResult]:
    """Return all addresses of a host; one that is an address itself, in whatever notation, is resolved too."""
    found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [
        ResolveResult(
            hostname=host,
            host=str(address[0]),
            port=port,
            family=family,
            proto=protocol,
            flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
        )
        for family, _, protocol, _, address in found
    ]


class _Resolved(AbstractResolver):
    """Answers with the addresses that were checked."""

    def __init__(self, addresses: Sequence[ResolveResult]) -> None:
        self._addresses = addresses

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        return list(self._addresses)

    async def close(self) -> None:
        return
