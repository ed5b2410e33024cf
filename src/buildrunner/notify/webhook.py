"""Webhooks `build.started` and `build.finished`, signed as https://www.standardwebhooks.com has it."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from buildrunner.events.journal import Journal
from buildrunner.notify.http import NotDelivered, post
from buildrunner.notify.notifier import Message, Notifier

# Of a result event, what says where it stands in the log rather than how the build ended.
_OF_EVENTS = {"v", "build", "seq", "ts", "type", "log", "commit"}


def sign(key: bytes, identity: str, timestamp: int, body: bytes) -> str:
    """Return the `webhook-signature` of a message: HMAC-SHA256 in base64, with the version before it."""
    signed = f"{identity}.{timestamp}.".encode() + body
    return f"v1,{base64.b64encode(hmac.new(key, signed, hashlib.sha256).digest()).decode()}"


class Webhook(Notifier):
    """Sends the webhooks of one build.

    Args:
        journal: of the build.
        slug: of the site.
        url: that they are sent to.
        key: signs them.
        allow_private: whether the receiver may have a private address.
        build_url: address of the build's page, if there is one.
        traceparent: trace context of the build, if there is one.

    """

    name = "the webhook"

    def __init__(
        self,
        journal: Journal,
        *,
        slug: str,
        url: str,
        key: bytes,
        allow_private: bool,
        build_url: str | None,
        traceparent: str | None,
    ) -> None:
        super().__init__(journal, receiver=urlsplit(url).hostname or "")
        self._slug = slug
        self._url = url
        self._key = key
        self._allow_private = allow_private
        self._build_url = build_url
        self._trace = {"traceparent": traceparent} if traceparent else {}

    def first_message(self) -> Message:
        return self._message("build.started", f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%f}"[:-3] + "Z", {})

    def last_message(self, result: Mapping[str, Any]) -> Message:
        facts = {name: value for name, value in result.items() if name not in _OF_EVENTS}
        return self._message("build.finished", result["ts"], facts)

    def _message(self, kind: str, timestamp: str, facts: Mapping[str, Any]) -> Message:
        data = {"slug": self._slug, "build": self._journal.build, "commit": self.commit, "build_url": self._build_url}
        known = {name: value for name, value in data.items() if value is not None}
        document = {"type": kind, "timestamp": timestamp, "data": {**known, **facts}}
        body = json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode()
        identity = f"msg_{secrets.token_hex(16)}"

        async def send() -> None:
            now = int(time.time())
            headers = {
                "webhook-id": identity,
                "webhook-timestamp": str(now),
                "webhook-signature": sign(self._key, identity, now, body),
                **self._trace,
            }
            answer = await post(self._url, headers, body, allow_private=self._allow_private)
            if 300 <= answer.status < 400:
                raise NotDelivered(f"it answered with a redirect (status {answer.status}), which is not followed")
            if not 200 <= answer.status < 300:
                # 410: Standard Webhooks has receivers say so that they want no more.
                raise NotDelivered(
                    f"it answered with status {answer.status}",
                    final=answer.status == 410,
                    retry_after=answer.retry_after,
                )

        return Message(kind, send)
