"""Build the responses of the gateway: JSON, files of the page, and errors."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from aiohttp import web
from redis.exceptions import RedisError

from buildrunner.errors import BuildEnded
from buildrunner.gateway.archive import ArchiveReplaced
from buildrunner.gateway.assets import Asset
from buildrunner.web.limits import TooManyRequests

REASONS = {
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
    """Respond to a request with an error.

    Args:
        status: HTTP status.
        message: sentence for people.
        headers: headers of the response; `_` in a name stands for `-`.

    """

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = {name.replace("_", "-"): value for name, value in headers.items()}


def to_refusal(error: Exception) -> Refusal | None:
    """Return the response to an error; None for an internal error of the gateway."""
    match error:
        case Refusal():
            return error
        case TooManyRequests():
            return Refusal(429, "Too many requests at once from this address.", Retry_After="5")
        case web.HTTPException():
            return Refusal(error.status, REASONS.get(error.status, error.reason))
        case BuildEnded():
            return Refusal(503, f"The archive cannot be read. {error.reason}", Retry_After="5")
        case ArchiveReplaced():
            return Refusal(503, "The build was started again. Try again.", Retry_After="1")
        case RedisError() | OSError():  # also raised for a viewer that has disconnected
            return Refusal(503, "Redis does not answer. Try again later.", Retry_After="5")
    return None


def read_number(request: web.Request, name: str, default: int) -> int:
    """Return a whole number of the query.

    Raises:
        Refusal: it is not a number.

    """
    text = request.query.get(name, str(default))
    if not re.fullmatch(r"[0-9]{1,15}", text, re.ASCII):
        raise Refusal(400, f"{name} must be a whole number.")
    return int(text)


def json_response(body: Any, *, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """Respond with a JSON document."""
    return web.Response(
        status=status,
        body=json.dumps(body, ensure_ascii=False).encode(errors="replace"),
        content_type="application/json",
        headers=headers,
    )


def send_asset(
    request: web.Request, asset: Asset, *, status: int = 200, headers: Mapping[str, str] | None = None
) -> web.Response:
    """Respond with a file of the page, compressed or 304 if the request permits it."""
    sent = {"Content-Type": asset.content_type, "ETag": asset.etag, "Vary": "Accept-Encoding", **(headers or {})}
    if status == 200 and request.headers.get("If-None-Match") == asset.etag:
        return web.Response(status=304, headers=sent)
    if asset.compressed and re.search(
        r"\bgzip\b(?!\s*;\s*q=0(?:\.0*)?\s*(?:,|$))", request.headers.get("Accept-Encoding", "")
    ):
        return web.Response(status=status, body=asset.compressed, headers={**sent, "Content-Encoding": "gzip"})
    return web.Response(status=status, body=asset.body, headers=sent)
