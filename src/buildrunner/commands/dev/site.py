"""The page and the published site, served as in production to this machine alone, and a look at what came out."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from importlib import import_module
from typing import TYPE_CHECKING
from urllib.parse import quote, urljoin

import anyio
import anyio.to_thread
from aiohttp import ClientError, ClientSession

from buildrunner.commands.dev.servers import Servers
from buildrunner.errors import EXIT_FAULT, BuildEnded
from buildrunner.gateway.serve import open_gateway
from buildrunner.gateway.settings import read_gateway_settings
from buildrunner.s3 import open_s3
from buildrunner.web.listening import is_loopback

if TYPE_CHECKING:
    from buildrunner.s3 import Bucket, Listed, Part

_CONNECTIONS = 16


@asynccontextmanager
async def serve_page_and_site(
    servers: Servers,
    environment: Mapping[str, str],
    slug: str,
    page: socket.socket,
    site: socket.socket,
    may_open: anyio.Event,
) -> AsyncIterator[None]:
    """Serve the builds' page and, later, the site `slug` while the block runs, on two listening sockets.

    The client of S3 and the server of sites take 0.3 s of CPU to import and open, which a build needs itself until its commands
    run. Connections to the site wait as long.

    Args:
        environment: that of the builds.
        may_open: set once the build leaves time for that; a page that shows former builds sets it, too.

    """
    archive = _LateBucket(may_open)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_serve_site, servers, slug, site, archive)
        async with open_gateway(read_gateway_settings(environment, host="127.0.0.1", port=0), page, bucket=archive):
            yield
        tasks.cancel_scope.cancel()


class _LateBucket:
    """The bucket of the archive, whose client is opened when it is first used or `wanted` is set."""

    def __init__(self, wanted: anyio.Event) -> None:
        self.wanted = wanted
        self._bucket: Bucket | None = None
        self._opened = anyio.Event()

    def set(self, bucket: Bucket) -> None:
        """Let those that wait use a bucket."""
        self._bucket = bucket
        self._opened.set()

    async def list_objects(self, prefix: str) -> Mapping[str, Listed]:
        return await (await self._get()).list_objects(prefix)

    async def get_range(self, key: str, *, start: int, length: int, etag: str | None = None) -> Part | None:
        return await (await self._get()).get_range(key, start=start, length=length, etag=etag)

    async def _get(self) -> Bucket:
        self.wanted.set()
        await self._opened.wait()
        assert self._bucket
        return self._bucket


async def _serve_site(servers: Servers, slug: str, listener: socket.socket, archive: _LateBucket) -> None:
    await archive.wanted.wait()
    await anyio.to_thread.run_sync(import_module, "buildrunner.sites.serve")
    from buildrunner.sites.serve import open_sites
    from buildrunner.sites.settings import SitesSettings

    keys = (servers.access_key, servers.secret_key)
    settings = SitesSettings(
        bucket=servers.bucket,
        state_bucket=servers.bucket,
        key_prefix="{slug}/",
        region=servers.region,
        endpoint_url=servers.s3_endpoint,
        keys=keys,
    )
    async with (
        open_s3(region=servers.region, endpoint_url=servers.s3_endpoint, concurrency=_CONNECTIONS, keys=keys) as s3,
        # For every name of this machine.
        open_sites(settings, listener, lambda name: slug if is_loopback(name) else None),
    ):
        archive.set(s3.bucket(servers.bucket))
        await anyio.sleep_forever()


async def visit(address: str, servers: Servers, slug: str) -> str:
    """Fetch the page at `address` and the script that it names, as a browser would; answer what came, for people.

    Raises:
        BuildEnded: it is not what was published.

    """
    async with ClientSession() as browser:

        async def fetch(url: str) -> bytes:
            async with browser.get(url) as response:
                body = await response.read()
                key = response.url.path.removeprefix("/") or "index.html"
            stored = await servers.request("GET", quote(f"/{servers.bucket}/{slug}/{key}", safe="/-._~"))
            if stored.status != 200:
                raise BuildEnded(f"{url} was not published (status {stored.status}).", exit_code=EXIT_FAULT)
            content_type = stored.headers[b"content-type"].decode()
            if response.status != 200 or body != stored.body or response.headers["Content-Type"] != content_type:
                raise BuildEnded(f"{url} does not serve what was published.", exit_code=EXIT_FAULT)
            return body

        try:
            page = await fetch(address)
            seen = f"Fetched {address}: {len(page)} bytes, as published"
            script = re.search(r"""<script\b[^>]*\ssrc=["']?([^"'\s>]+)""", page.decode(errors="replace"))
            if script and (url := urljoin(address, script[1])).startswith(address):
                seen += f"; its script {script[1]}: {len(await fetch(url))} bytes, as published"
        except ClientError as error:
            raise BuildEnded(f"{address} does not answer ({error}).", exit_code=EXIT_FAULT) from None
        return f"{seen}."
