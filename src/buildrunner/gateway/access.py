"""Decide which requests the gateway answers, and set the headers that protect its pages."""

from __future__ import annotations

import html
import re
import sys
import traceback
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

from aiohttp import web

from buildrunner.gateway.assets import Assets
from buildrunner.gateway.events import BUILD_ID, SLUG
from buildrunner.gateway.responses import REASONS, Refusal, json_response, send_asset, to_refusal
from buildrunner.gateway.settings import EVERY_SITE, GatewaySettings
from buildrunner.web.limits import Clients
from buildrunner.web.listening import is_loopback

_ALL_METHODS = "GET, HEAD"
_GET_ALONE = "The gateway answers GET and HEAD."
_API = "/api/"
_STARTED = "answer started"
# https://www.rfc-editor.org/rfc/rfc9110#section-7.2
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9.-]+)(?::[0-9]*)?")


class Guard:
    """Check every request of the gateway, and complete every response.

    Args:
        settings: settings of the gateway.
        assets: files of the page, for errors.

    """

    def __init__(self, settings: GatewaySettings, assets: Assets) -> None:
        self._settings = settings
        self._assets = assets
        self._clients = Clients()
        self._policy = _content_security_policy(settings.origins)
        self._read_token: Callable[[str], str | None] | None = None
        if settings.secret is not None:
            from buildrunner.gateway.tokens import read_token  # imports cryptography, which only tokens need

            self._read_token = partial(read_token, settings.secret)

    @web.middleware
    async def check(
        self, request: web.Request, handler: Callable[[web.Request], Awaitable[web.StreamResponse]]
    ) -> web.StreamResponse:
        """Answer a permitted request with its handler, and any other with an error."""
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
            refusal = to_refusal(error)
            if refusal is None:
                # The path only: the query may contain a token.
                print(f"buildrunner: Internal error while answering {request.path!a}.", file=sys.stderr)
                traceback.print_exception(error)
            if _STARTED not in request:
                return self._refuse(request, refusal or Refusal(500, "Internal error in the gateway."))
            if request.transport:
                request.transport.abort()  # so that the client detects an incomplete response
            raise

    def _check_host(self, request: web.Request) -> None:
        """Without tokens, answer only as localhost: the DNS name of a hostile page may resolve to this machine (DNS rebinding)."""
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
        if self._read_token is None or request.path == "/healthz" or self._is_file(request.path):
            return
        scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
        tokens = [bearer.strip() if scheme.lower() == "bearer" else "", request.query.get("token", "")]
        subjects = (self._read_token(token) for token in tokens if token)
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
        """Check slugs and build ids before they are used in keys."""
        if not SLUG.fullmatch(names.get("slug", "x")) or not BUILD_ID.fullmatch(names.get("build", "x")):
            raise Refusal(404, "There is no such site or build.")

    def _refuse(self, request: web.Request, refusal: Refusal) -> web.StreamResponse:
        if request.path.startswith(_API):
            return json_response({"error": refusal.message}, status=refusal.status, headers=refusal.headers)
        if refusal.status == 401 and request.path.startswith("/sites/"):
            # The page retries with a token stored in its tab, or asks for one.
            return send_asset(request, self._assets.shell, status=401, headers=refusal.headers)
        page = self._assets.error.body.decode()
        for name, text in (("title", REASONS.get(refusal.status, "Error")), ("message", refusal.message)):
            page = page.replace(f"{{{{{name}}}}}", html.escape(text))
        return web.Response(
            status=refusal.status, text=page, content_type="text/html", charset="utf-8", headers=refusal.headers
        )

    def refuse_malformed(self, request: web.BaseRequest, *, is_method: bool) -> web.StreamResponse:
        """Respond to a request that could not be parsed.

        Args:
            request: placeholder of aiohttp for the request.
            is_method: whether its method is unknown; otherwise it is not valid HTTP.

        """
        assert isinstance(request, web.Request)
        status, message, headers = 400, "This is not a valid HTTP request.", {}
        if is_method:
            status, message, headers = 405, _GET_ALONE, {"Allow": _ALL_METHODS}
        response = self._refuse(request, Refusal(status, message, **headers))
        self._set_headers(request, response)
        return response

    async def add_headers(self, request: web.Request, response: web.StreamResponse) -> None:
        """Set the headers of a response that is about to start."""
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


def _content_security_policy(origins: tuple[str, ...]) -> str:
    """Return the policy for pages, which may load their own files and the API (https://www.w3.org/TR/CSP3/)."""
    parts = [
        "default-src 'none'",
        *(f"{kind}-src 'self'" for kind in ("script", "style", "img", "font", "connect")),
        "base-uri 'none'",
        "form-action 'none'",
        f"frame-ancestors {' '.join(origins) or chr(39) + 'none' + chr(39)}",
    ]
    return "; ".join(parts)
