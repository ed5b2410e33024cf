"""The published site, served as in production to this machine alone, and a look at what came out."""

from __future__ import annotations

import re
import socket
from contextlib import AbstractAsyncContextManager
from urllib.parse import urljoin

from aiohttp import ClientError as HTTPError
from aiohttp import ClientSession
from botocore.exceptions import ClientError

from buildrunner.commands.dev.servers import Servers
from buildrunner.errors import EXIT_FAULT, BuildEnded
from buildrunner.sites.serve import open_sites
from buildrunner.sites.settings import SitesSettings
from buildrunner.web.listening import is_loopback


def serve_site(servers: Servers, slug: str, listener: socket.socket) -> AbstractAsyncContextManager[None]:
    """Serve the site `slug` on a listening socket while the block runs, for every name of this machine."""
    settings = SitesSettings(
        bucket=servers.bucket,
        state_bucket=servers.bucket,
        key_prefix="{slug}/",
        region=servers.region,
        endpoint_url=servers.s3_endpoint,
        keys=(servers.access_key, servers.secret_key),
    )
    return open_sites(settings, listener, lambda name: slug if is_loopback(name) else None)


async def visit(address: str, servers: Servers, slug: str) -> str:
    """Fetch the page at `address` and the script that it names, as a browser would; answer what came, for people.

    Raises:
        BuildEnded: it is not what was published.

    """
    async with servers.s3_client() as s3, ClientSession() as browser:

        async def fetch(url: str) -> bytes:
            async with browser.get(url) as response:
                body = await response.read()
                key = response.url.path.removeprefix("/") or "index.html"
            try:
                stored = await s3.get_object(Bucket=servers.bucket, Key=f"{slug}/{key}")
            except ClientError as error:
                raise BuildEnded(f"{url} was not published ({error}).", exit_code=EXIT_FAULT) from None
            published = await stored["Body"].read()
            if response.status != 200 or body != published or response.headers["Content-Type"] != stored["ContentType"]:
                raise BuildEnded(f"{url} does not serve what was published.", exit_code=EXIT_FAULT)
            return body

        try:
            page = await fetch(address)
            seen = f"Fetched {address}: {len(page)} bytes, as published"
            script = re.search(r"""<script\b[^>]*\ssrc=["']?([^"'\s>]+)""", page.decode(errors="replace"))
            if script and (url := urljoin(address, script[1])).startswith(address):
                seen += f"; its script {script[1]}: {len(await fetch(url))} bytes, as published"
        except HTTPError as error:
            raise BuildEnded(f"{address} does not answer ({error}).", exit_code=EXIT_FAULT) from None
        return f"{seen}."
