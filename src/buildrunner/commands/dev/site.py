"""The published site over http on loopback, read from the bucket and routed as in production."""

from __future__ import annotations

import re
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING
from urllib.parse import urljoin

import anyio
from aiohttp import ClientError as HTTPError
from aiohttp import ClientSession, web
from botocore.exceptions import ClientError

from buildrunner.commands.dev.servers import Servers
from buildrunner.errors import EXIT_FAULT, BuildEnded
from buildrunner.routing.document import Document
from buildrunner.routing.route import Request, route
from buildrunner.web.listening import is_loopback

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

_CHUNK = 256 * 1024
_NOT_PUBLISHED = "The site is not published yet.\n"


class Site:
    """What is published under a slug, as of the last `reload`."""

    def __init__(self, s3: S3Client, bucket: str, slug: str) -> None:
        self._s3 = s3
        self._bucket = bucket
        self._slug = slug
        self._keys: frozenset[str] = frozenset()
        self._document = Document()

    async def reload(self) -> None:
        """Read which files the site has, and its rules."""
        keys = []
        async for page in self._s3.get_paginator("list_objects_v2").paginate(
            Bucket=self._bucket, Prefix=f"{self._slug}/"
        ):
            keys += [stored["Key"].removeprefix(f"{self._slug}/") for stored in page.get("Contents", ())]
        try:
            rules = await self._s3.get_object(Bucket=self._bucket, Key=f"__routing/{self._slug}.json")
            self._document = Document.from_json(await rules["Body"].read())
        except ClientError as error:
            if error.response["Error"]["Code"] != "NoSuchKey":
                raise
            self._document = Document()
        self._keys = frozenset(keys)

    async def answer(self, request: web.Request) -> web.StreamResponse:
        """Answer a request of a browser."""
        host = request.host.rpartition(":")[0] if re.search(r":\d+$", request.host) else request.host
        if not is_loopback(host):  # a page elsewhere may have its name point here
            raise web.HTTPMisdirectedRequest
        path, _, query = request.raw_path.partition("?")
        headers = {name.lower(): value for name, value in request.headers.items()}
        found = route(Request(path, query, request.method, host, headers), self._document, self._keys.__contains__)
        changed = dict(found.headers)
        if found.location is not None:
            return web.Response(status=found.status, headers={**changed, "Location": found.location})
        if found.key is None:
            text = f"{found.status}: nothing at {path}\n" if self._keys else _NOT_PUBLISHED
            return web.Response(status=found.status, headers=changed, text=text)
        stored = await self._s3.get_object(Bucket=self._bucket, Key=f"{self._slug}/{found.key}")
        async with stored["Body"] as body:
            response = web.StreamResponse(status=found.status)
            response.headers["Content-Type"] = stored["ContentType"]
            response.headers["Cache-Control"] = stored.get("CacheControl", "no-cache")
            response.headers.update(changed)
            response.content_length = stored["ContentLength"]
            await response.prepare(request)
            if request.method != "HEAD":
                async for chunk in body.iter_chunks(_CHUNK):
                    await response.write(chunk)
            return response


@asynccontextmanager
async def open_site(servers: Servers, slug: str, listener: socket.socket) -> AsyncIterator[Site]:
    """Serve the site `slug` on a listening socket while the block runs."""
    async with servers.s3_client() as s3:
        site = Site(s3, servers.bucket, slug)
        application = web.Application()
        application.router.add_route("*", "/{path:.*}", site.answer)
        runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
        await runner.setup()
        try:
            await web.SockSite(runner, listener).start()
            yield site
        finally:
            with anyio.CancelScope(shield=True):
                await runner.cleanup()


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
