"""Serve the routes of the gateway: who may ask what, and what each route answers."""

from __future__ import annotations

import asyncio
import html
import json
import re
import sys
import time
import traceback
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Any

from aiohttp import web
from redis.exceptions import RedisError

from buildrunner.errors import BuildEnded
from buildrunner.gateway.archive import Archive, ArchiveReplaced
from buildrunner.gateway.assets import Asset, Assets
from buildrunner.gateway.builds import LATEST, Builds
from buildrunner.gateway.cursor import Cursor
from buildrunner.gateway.downloads import read_log
from buildrunner.gateway.events import BUILD_ID, SLUG, PlainText, end_message
from buildrunner.gateway.feed import Feeds
from buildrunner.gateway.settings import GatewaySettings
from buildrunner.gateway.tokens import EVERY_SITE, read_token
from buildrunner.web.limits import Clients, TooManyRequests, Viewers
from buildrunner.web.listening import is_loopback

_COMMENT_SECONDS = 7.0  # of silence; seen when the feed ticks, so that one comes at least every 15
_SLICE_BYTES = 64 * 2**10  # that are written at once: with what waits in the transport far below 1 MiB
_RETRY_MILLISECONDS = 1000
_MAX_BUILDS = 100
_ALL_METHODS = "GET, HEAD"
_GET_ALONE = "The gateway answers GET and HEAD."
_IMMUTABLE = "public, max-age=31536000, immutable"
_API = "/api/"
_STARTED = "answer started"
# https://www.rfc-editor.org/rfc/rfc9110#section-7.2
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]*)?")
_REASONS = {
    400: "Bad request",
    401: "A link with a token is needed",
    403: "This token is for another site",
    404: "Not found",
    405: "Method not allowed",
    421: "Wrong host",
    429: "Too many requests",
    500: "Internal error",
    503: "Not available",
}


class Refusal(Exception):
    """Answer a request with an error."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


class Gateway:
    """The routes, over what they read."""

    def __init__(
        self,
        settings: GatewaySettings,
        assets: Assets,
        feeds: Feeds,
        archive: Archive | None,
        viewers: Viewers,
    ) -> None:
        self._settings = settings
        self._assets = assets
        self._feeds = feeds
        self._archive = archive
        self._builds = Builds(settings, feeds, archive)
        self._viewers = viewers
        self._clients = Clients()
        self._policy = _content_security_policy(settings.origins)

    def application(self) -> web.Application:
        """Return the application that aiohttp serves."""
        application = web.Application(middlewares=[self._guard])
        application.on_response_prepare.append(self._add_headers)
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

    # --- who may ask --------------------------------------------------------------------------------------------------

    @web.middleware
    async def _guard(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        try:
            with self._clients.request(request):
                self._check_host(request)
                if request.method == "OPTIONS":
                    return self._preflight(request)
                if request.method not in {"GET", "HEAD"}:
                    raise Refusal(405, _GET_ALONE, Allow=_ALL_METHODS)
                self._check_token(request)
                self._check_names(request.match_info)
                return await handler(request)
        except Exception as error:
            refusal = _to_refusal(error)
            if refusal is None:
                # Not the address as it was sent: it may hold a token.
                print(f"buildrunner: Internal error while answering {request.path!a}.", file=sys.stderr)
                traceback.print_exception(error)
            if _STARTED not in request:
                return self._refuse(request, refusal or Refusal(500, "Internal error in the gateway."))
            if request.transport:
                request.transport.abort()  # so that what was cut short is not taken for all
            raise

    def _check_host(self, request: web.Request) -> None:
        """Answer only for this machine where there are no tokens: a page elsewhere may have its name point here."""
        if self._settings.secret is not None:
            return
        host = _HOST.fullmatch(request.headers.get("Host", ""))
        if not host or not is_loopback(host[1]):
            raise Refusal(421, "Without GATEWAY_SECRET the gateway answers only as localhost.")

    def _preflight(self, request: web.Request) -> web.StreamResponse:
        if request.headers.get("Origin") not in self._settings.origins or not request.path.startswith(_API):
            raise Refusal(405, _GET_ALONE, Allow=_ALL_METHODS)
        headers = {
            "Access-Control-Allow-Methods": _ALL_METHODS,
            "Access-Control-Allow-Headers": "Authorization, Last-Event-ID",
            "Access-Control-Max-Age": "600",
        }
        return web.Response(status=204, headers=headers)

    def _check_token(self, request: web.Request) -> None:
        if self._settings.secret is None or request.path == "/healthz" or self._is_file(request.path):
            return
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        tokens = [bearer.strip() if scheme.lower() == "bearer" else "", request.query.get("token", "")]
        subjects = (read_token(self._settings.secret, token) for token in tokens if token)
        subject = next((each for each in subjects if each is not None), None)
        if subject is None:
            challenge = 'Bearer realm="buildrunner"' + (', error="invalid_token"' if any(tokens) else "")
            message = "The token is invalid or has expired." if any(tokens) else "A token is needed."
            raise Refusal(401, message, WWW_Authenticate=challenge)
        if subject not in {EVERY_SITE, request.match_info.get("slug", subject)}:
            raise Refusal(403, "This token is for another site.")

    def _is_file(self, path: str) -> bool:
        return path.startswith("/static/") or path.removeprefix("/") in self._assets.modules

    def _check_names(self, names: Mapping[str, str]) -> None:
        """Check slugs and build ids before they become keys."""
        if not SLUG.fullmatch(names.get("slug", "x")) or not BUILD_ID.fullmatch(names.get("build", "x")):
            raise Refusal(404, "There is no such site or build.")

    def _refuse(self, request: web.Request, refusal: Refusal) -> web.StreamResponse:
        if request.path.startswith(_API):
            return _json({"error": refusal.message}, status=refusal.status, headers=refusal.headers)
        if refusal.status == 401 and request.path.startswith("/sites/"):
            # It continues with a token that its tab has kept, or says that one is needed.
            return _send(request, self._assets.shell, status=401, headers=refusal.headers)
        page = self._assets.error.body.decode()
        for name, text in (("title", _REASONS.get(refusal.status, "Error")), ("message", refusal.message)):
            page = page.replace(f"{{{{{name}}}}}", html.escape(text))
        return web.Response(
            status=refusal.status, text=page, content_type="text/html", charset="utf-8", headers=refusal.headers
        )

    def refuse_malformed(self, request: web.BaseRequest, *, is_method: bool) -> web.StreamResponse:
        """Answer what could not be parsed: a method that HTTP does not know, or anything else that is not a request."""
        assert isinstance(request, web.Request)
        status, message, headers = 400, "This is not a valid HTTP request.", {}
        if is_method:
            status, message, headers = 405, _GET_ALONE, {"Allow": _ALL_METHODS}
        response = self._refuse(request, Refusal(status, message, **headers))
        self._set_headers(request, response)
        return response

    async def _add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        request[_STARTED] = True
        self._set_headers(request, response)

    def _set_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        headers = response.headers
        headers["Server"] = "buildrunner"
        headers["Content-Security-Policy"] = self._policy
        headers["Referrer-Policy"] = "no-referrer"
        headers["X-Content-Type-Options"] = "nosniff"
        headers.setdefault("Cache-Control", "no-store")
        if self._is_file(request.path):
            headers["Access-Control-Allow-Origin"] = "*"
        elif request.path.startswith(_API) and self._settings.origins:
            headers["Vary"] = "Origin"
            if (origin := request.headers.get("Origin")) in self._settings.origins:
                headers["Access-Control-Allow-Origin"] = origin

    # --- pages and files ----------------------------------------------------------------------------------------------

    async def _page(self, request: web.Request) -> web.StreamResponse:
        return _send(request, self._assets.shell)

    async def _module(self, request: web.Request) -> web.StreamResponse:
        return _send(
            request,
            self._assets.modules[request.path.removeprefix("/")],
            headers={"Cache-Control": "public, max-age=300"},
        )

    async def _static(self, request: web.Request) -> web.StreamResponse:
        asset = self._assets.static.get(request.match_info["name"])
        if asset is None:
            raise Refusal(404, "There is no such file.")
        return _send(request, asset, headers={"Cache-Control": _IMMUTABLE})

    async def _healthz(self, request: web.Request) -> web.StreamResponse:
        try:
            async with asyncio.timeout(2):
                await self._feeds.redis.ping()
        except (RedisError, OSError):
            return web.Response(status=503, text="Redis does not answer\n")
        return web.Response(text="ok")

    # --- the API ------------------------------------------------------------------------------------------------------

    async def _list_builds(self, request: web.Request) -> web.StreamResponse:
        limit = _number(request, "limit", 20)
        if not limit:
            raise Refusal(400, "limit must be 1 to 100.")
        builds = await self._builds.newest(request.match_info["slug"], min(limit, _MAX_BUILDS))
        return _json({"builds": builds})

    async def _show_build(self, request: web.Request) -> web.StreamResponse:
        build = await self._builds.find(request.match_info["slug"], request.match_info["build"])
        if build is None:
            raise Refusal(404, "Nothing is known of this build.")
        return _json(build)

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
                raise Refusal(404, "Nothing is known of this build.")
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
        response.force_close()  # after `event: end` the server closes
        with self._viewers.viewer(request) as viewer:
            await response.prepare(request)
            await response.write(b"retry: %d\n\n: connected\n\n" % _RETRY_MILLISECONDS)
            async with self._feeds.watch(self._settings.logs.stream_of(slug)) as feed:
                cursor = Cursor(feed, self._archive, slug, build, after)
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
        """Return whose events are sent, and after which one."""
        if last := request.headers.get("Last-Event-ID"):
            match = re.fullmatch(r"([A-Za-z0-9_-]{1,64}):([0-9]{1,15})", last)
            had, after = (match[1], int(match[2])) if match else ("", 0)
            if had != (await self._resolve(slug, build, had) if build == LATEST else build):
                return build, 0
            return had, after
        after = _number(request, "after", 0)
        if build == LATEST and after:
            build = await self._resolve(slug, build, build)
        return build, after

    async def _resolve(self, slug: str, build: str, otherwise: str) -> str:
        """Resolve `latest`; an `EventSource` does not come back from an error, so Redis being away is none."""
        try:
            return await self._builds.resolve(slug, build) or build
        except (RedisError, OSError, BuildEnded):
            return otherwise


def _to_refusal(error: Exception) -> Refusal | None:
    """Return what is answered to an error; nothing if it is one of the gateway's own."""
    match error:
        case Refusal():
            return error
        case TooManyRequests():
            return Refusal(429, "Too many requests at once from this address.", Retry_After="5")
        case web.HTTPException():
            return Refusal(error.status, _REASONS.get(error.status, error.reason))
        case BuildEnded():
            return Refusal(503, f"The archive cannot be read. {error.reason}", Retry_After="5")
        case ArchiveReplaced():
            return Refusal(503, "The build was started again. Try again.", Retry_After="1")
        case RedisError() | OSError():  # a viewer that has left is an OSError too, and gets no answer
            return Refusal(503, "Redis does not answer. Try again later.", Retry_After="5")
    return None


def _number(request: web.Request, name: str, default: int) -> int:
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,15}", text, re.ASCII):
        raise Refusal(400, f"{name} must be a whole number.")
    return int(text)


async def _chain(first: list[bytes], rest: AsyncIterator[list[bytes]]) -> AsyncIterator[list[bytes]]:
    yield first
    async for each in rest:
        yield each


def _json(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    return web.Response(
        status=status,
        body=json.dumps(body, ensure_ascii=False).encode(errors="replace"),
        content_type="application/json",
        headers=headers,
    )


def _send(
    request: web.Request, asset: Asset, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    sent = {"Content-Type": asset.content_type, "ETag": asset.etag, "Vary": "Accept-Encoding", **(headers or {})}
    if status == 200 and request.headers.get("If-None-Match") == asset.etag:
        return web.Response(status=304, headers=sent)
    if asset.compressed and re.search(
        r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", request.headers.get("Accept-Encoding", "")
    ):
        return web.Response(status=status, body=asset.compressed, headers={**sent, "Content-Encoding": "gzip"})
    return web.Response(status=status, body=asset.body, headers=sent)


def _content_security_policy(origins: tuple[str, ...]) -> str:
    """Return what pages may load: their own files and the API (https://www.w3.org/TR/CSP3/)."""
    parts = [
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "font", "connect")),
        "base-uri 'none'",
        "form-action 'none'",
        f"frame-ancestors {' '.join(origins) or chr(39) + 'none' + chr(39)}",
    ]
    return "; ".join(parts)
