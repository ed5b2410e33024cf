"""The published site over http on loopback, read from the bucket as a platform's proxy would read it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urljoin

from aiohttp import ClientError as HTTPError
from aiohttp import ClientSession, web
from botocore.exceptions import ClientError

from buildrunner.commands.dev.servers import Servers
from buildrunner.errors import EXIT_FAULT, BuildEnded

_CHUNK = 256 * 1024


@asynccontextmanager
async def preview(servers: Servers, slug: str) -> AsyncIterator[str]:
    """Serve the site `slug` while the block runs; gives its address, `http://127.0.0.1:PORT/`."""
    async with servers.s3_client() as s3:

        async def answer(request: web.Request) -> web.StreamResponse:
            path = request.match_info["path"]
            for key in candidates(path):
                try:
                    stored = await s3.get_object(Bucket=servers.bucket, Key=f"{slug}/{key}")
                except ClientError as error:
                    if error.response["Error"]["Code"] == "NoSuchKey":
                        continue
                    raise
                async with stored["Body"] as body:
                    if key == f"{path}/index.html":  # so that relative addresses on that page lead where they should
                        raise web.HTTPFound(f"{request.rel_url.raw_path}/")
                    response = web.StreamResponse()
                    response.headers["Content-Type"] = stored["ContentType"]
                    response.headers["Cache-Control"] = stored.get("CacheControl", "no-cache")
                    response.content_length = stored["ContentLength"]
                    await response.prepare(request)
                    if request.method != "HEAD":
                        async for chunk in body.iter_chunks(_CHUNK):
                            await response.write(chunk)
                    return response
            raise web.HTTPNotFound(text=f"The site has nothing at /{path}.\n")

        application = web.Application()
        application.router.add_get("/{path:.*}", answer)
        runner = web.AppRunner(application, access_log=None)
        await runner.setup()
        try:
            site = web.TCPSite(runner, "127.0.0.1", 0)
            await site.start()
            yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
        finally:
            await runner.cleanup()


def candidates(path: str) -> list[str]:
    """List the keys that can answer a path, the best first.

    A path without an extension that is no file is a page of the app's own router, so index.html answers it. Parts that
    lead elsewhere are refused: SeaweedFS resolves them like folders, and the bucket holds more than the site.
    """
    parts = path.removesuffix("/").split("/")
    if path and any(part in {"", ".", ".."} for part in parts):
        return []
    keys = [path, f"{path}/index.html"] if path and not path.endswith("/") else [f"{path}index.html"]
    return keys if "." in parts[-1] else list(dict.fromkeys([*keys, "index.html"]))


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
