"""The page and the published site, served as in production to this machine alone, and a look at what came out."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from urllib.parse import quote, urljoin

from aiohttp import ClientError, ClientSession

from buildrunner.commands.dev.servers import Servers
from buildrunner.errors import EXIT_FAULT, BuildEnded
from buildrunner.gateway.serve import open_gateway
from buildrunner.gateway.settings import read_gateway_settings
from buildrunner.sites.serve import open_sites
from buildrunner.sites.settings import SitesSettings
from buildrunner.web.listening import is_loopback


@asynccontextmanager
async def serve_page_and_site(
    servers: Servers, environment: Mapping[str, str], slug: str, page: socket.socket, site: socket.socket
) -> AsyncIterator[None]:
    """Serve the builds' page and the site `slug` while the block runs, on two listening sockets.

    Args:
        environment: that of the builds.

    """
    settings = SitesSettings(
        bucket=servers.bucket,
        state_bucket=servers.bucket,
        key_prefix="{slug}/",
        region=servers.region,
        endpoint_url=servers.s3_endpoint,
        keys=(servers.access_key, servers.secret_key),
    )
    async with (
        open_gateway(read_gateway_settings(environment, host="127.0.0.1", port=0), page),
        # For every name of this machine.
        open_sites(settings, site, lambda name: slug if is_loopback(name) else None),
    ):
        yield


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
