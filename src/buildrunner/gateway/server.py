"""Serve the routes of the gateway: the page, its files, and the API."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import AsyncIterator, Callable
from contextlib import aclosing, closing

from aiohttp import web
from redis.exceptions import RedisError

from buildrunner.errors import BuildEnded
from buildrunner.gateway.access import Guard
from buildrunner.gateway.archive import Archive
from buildrunner.gateway.assets import Assets
from buildrunner.gateway.builds import LATEST, Builds
from buildrunner.gateway.cursor import Cursor
from buildrunner.gateway.downloads import read_log
from buildrunner.gateway.events import PlainText, end_message
from buildrunner.gateway.feed import Feeds
from buildrunner.gateway.responses import Refusal, json_response, read_number, send_asset
from buildrunner.gateway.settings import GatewaySettings
from buildrunner.gateway.tasks import AwaitedTasks
from buildrunner.web.limits import Viewers

_COMMENT_SECONDS = 7.0  # of silence; checked when the feed ticks, so that a comment is sent at least every 15 s
_SLICE_BYTES = 64 * 2**10  # per write, so that a connection buffers far less than 1 MiB
_RETRY_MILLISECONDS = 1000
_MAX_BUILDS = 100
_IMMUTABLE = "public, max-age=31536000, immutable"


class Gateway:
    """Answer the requests of viewers.

    Args:
        settings: settings of the gateway.
        assets: files of the page.
        feeds: live logs.
        archive: logs of finished builds; None without S3.
        tasks: asks AWS about builds without a log; None where it is not asked.
        viewers: limits of open responses.

    """

    def __init__(
        self,
        settings: GatewaySettings,
        assets: Assets,
        feeds: Feeds,
        archive: Archive | None,
        tasks: AwaitedTasks | None,
        viewers: Viewers,
    ) -> None:
        self._settings = settings
        self._assets = assets
        self._feeds = feeds
        self._archive = archive
        self._tasks = tasks
        self._builds = Builds(settings, feeds, archive)
        self._viewers = viewers
        self.guard = Guard(settings, assets)

    def application(self) -> web.Application:
        """Return the application for aiohttp."""
        application = web.Application(middlewares=[self.guard.check])
        application.on_response_prepare.append(self.guard.add_headers)
        build = "/sites/{slug}/builds/{build}"
        for path, handler in {
            "/sites/{slug}": self._page,
            build: self._page,
            "/api/sites/{slug}/builds": self._list_builds,
            f"/api{build}": self._show_build,
            f"/api{build}/events": self._stream_events,
            f"/api{build}/events.ndjson": self._download_events,
            f"/api{build}/log.txt": self._download_text,
            **{f"/{name}": self._module for name in self._assets.modules},
            "/static/{name}": self._static,
            "/healthz": self._healthz,
        }.items():
            application.router.add_get(path, handler)
        return application

    # --- pages and files ----------------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return send_asset(request, self._assets.shell)

    async def _module(self, request: web.Request) -> web.StreamResponse:
        return send_asset(
            request,
            self._assets.modules[request.path.removeprefix("/")],
            headers={"Cache-Control": "public, max-age=300"},
        )

    async def _static(self, request: web.Request) -> web.StreamResponse:
        asset = self._assets.static.get(request.match_info["name"])
        if asset is None:
            raise Refusal(404, "There is no such file.")
        return send_asset(request, asset, headers={"Cache-Control": _IMMUTABLE})

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(2):
                await self._feeds.redis.ping()
        except (RedisError, OSError):
            return web.Response(status=503, text="Redis does not answer\n")
        return web.Response(text="ok")

    # --- the API ------------------------------------------------------------------------------------------------------

    async def _list_builds(self, request: web.Request) -> web.StreamResponse:
        limit = read_number(request, "limit", 20)
        if not limit:
            raise Refusal(400, "limit must be 1 to 100.")
        builds = await self._builds.newest(request.match_info["slug"], min(limit, _MAX_BUILDS))
        return json_response({"builds": builds})

    async def _show_build(self, request: web.Request) -> web.StreamResponse:
        build = await self._builds.find(request.match_info["slug"], request.match_info["build"])
        if build is None:
            raise Refusal(404, "This build is unknown.")
        return json_response(build)

    async def _download_events(self, request: web.Request) -> web.StreamResponse:
        async def encode(log: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
            async for events in log:
                yield b"\n".join([*events, b""])

        return await self._download(request, "application/x-ndjson", "ndjson", encode)

    async def _download_text(self, request: web.Request) -> web.StreamResponse:
        async def encode(log: AsyncIterator[list[bytes]]) -> AsyncIterator[bytes]:
            text = PlainText()
            async for events in log:
                yield text.add(events).encode(errors="replace")
            yield text.end().encode()

        return await self._download(request, "text/plain; charset=utf-8", "txt", encode)

    async def _download(
        self,
        request: web.Request,
        content_type: str,
        suffix: str,
        encode: Callable[[AsyncIterator[list[bytes]]], AsyncIterator[bytes]],
    ) -> web.StreamResponse:
        slug = request.match_info["slug"]
        build = await self._builds.resolve(slug, request.match_info["build"])
        response = web.StreamResponse(
            headers={
                "Content-Type": content_type,
                "Content-Disposition": f'attachment; filename="{slug}-{build}.{suffix}"',
                "X-Accel-Buffering": "no",
            }
        )
        key = self._settings.logs.stream_of(slug)
        async with aclosing(read_log(self._feeds.redis, key, self._archive, slug, build or "")) as log:
            events = await anext(log, None)
            if build is None or events is None:
                raise Refusal(404, "This build is unknown.")
            with self._viewers.viewer(request) as viewer:
                await response.prepare(request)
                if request.method == "GET":
                    async for data in encode(_chain(events, log)):
                        await viewer.write(response, data, _SLICE_BYTES)
                await response.write_eof()
        return response

    async def _stream_events(self, request: web.Request) -> web.StreamResponse:
        slug, build = request.match_info["slug"], request.match_info["build"]
        headers = {"Content-Type": "text/event-stream; charset=utf-8", "X-Accel-Buffering": "no"}
        if request.method == "HEAD":
            return web.Response(headers=headers)
        build, after = await self._find_start(request, slug, build)
        if after and await self._builds.ended_by(slug, build, after):
            return web.Response(status=204)
        response = web.StreamResponse(headers=headers)
        response.force_close()  # the server closes after `event: end`
        with self._viewers.viewer(request) as viewer:
            await response.prepare(request)
            await response.write(b"retry: %d\n\n: connected\n\n" % _RETRY_MILLISECONDS)
            async with self._feeds.watch(self._settings.logs.stream_of(slug)) as feed:
                with closing(Cursor(feed, self._archive, self._tasks, slug, build, after)) as cursor:
                    async with aclosing(cursor.messages()) as messages:
                        async for item in messages:
                            if isinstance(item, str):
                                await viewer.write(response, end_message(item), _SLICE_BYTES)
                                break
                            if item:
                                await viewer.write(response, item, _SLICE_BYTES)
                            elif time.monotonic() - viewer.written_at >= _COMMENT_SECONDS:
                                await viewer.write(response, b": waiting\n\n", _SLICE_BYTES)
            await response.write_eof()
        return response

    async def _find_start(self, request: web.Request, slug: str, build: str) -> tuple[str, int]:
        """Return the build whose events to send, and the number of the last event that the viewer has."""
        if last := request.headers.get("Last-Event-ID"):
            match = re.fullmatch(r"([A-Za-z0-9_-]{1,64}):([0-9]{1,15})", last)
            had, after = (match[1], int(match[2])) if match else ("", 0)
            if had != (await self._resolve(slug, build, had) if build == LATEST else build):
                return build, 0
            return had, after
        after = read_number(request, "after", 0)
        if build == LATEST and after:
            build = await self._resolve(slug, build, build)
        return build, after

    async def _resolve(self, slug: str, build: str, otherwise: str) -> str:
        """Resolve `latest`; return `otherwise` without Redis, because an `EventSource` doesn't reconnect after an error."""
        try:
            return await self._builds.resolve(slug, build) or build
        except (RedisError, OSError, BuildEnded):
            return otherwise


async def _chain(first: list[bytes], rest: AsyncIterator[list[bytes]]) -> AsyncIterator[list[bytes]]:
    yield first
    async for each in rest:
        yield each
