"""Read one build's log from a gateway: its event stream, resumed until the end, or a download."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Any

from aiohttp import ClientError, ClientResponse, ClientSession, ClientTimeout

from buildrunner.client.reader import Reason
from buildrunner.concurrency.retry import RetryPolicy

_SILENCE_SECONDS = 45.0  # a gateway sends a comment at least every 15 s
_CONNECT_SECONDS = 10.0
_RETRY = RetryPolicy(first=0.5, longest=10.0)  # after a connection without events
_FINAL = {400, 401, 403, 404, 405, 421}  # statuses that a retry will not change
_LINE_BYTES = 2**20

Batch = list[bytes] | tuple[Reason, str]


async def read_from_gateway(
    gateway: str, slug: str, build: str | None, *, after: int, follow: bool, token: str | None
) -> AsyncGenerator[Batch]:
    """Yield events unchanged, in batches, and finally the reason why there is no result, if there is none."""
    path = f"{gateway}/api/sites/{slug}/builds/{build or 'latest'}"
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    async with ClientSession(headers=headers, timeout=timeout, read_bufsize=_LINE_BYTES) as session:
        position = f"{build}:{after}" if build and after else None
        query = {"after": str(after)} if after and not build else {}
        retries = 0
        while True:
            try:
                resumed = {"Last-Event-ID": position} if position else {}
                name = "events" if follow else "events.ndjson"
                async with session.get(f"{path}/{name}", headers=resumed, params=query) as answer:
                    if answer.status == 204:
                        return
                    if answer.status in _FINAL:
                        yield ("not_found" if answer.status == 404 else "refused"), await _error(answer)
                        return
                    answer.raise_for_status()
                    if not follow:
                        async with aclosing(_lines(answer)) as lines:
                            async for batch in lines:
                                yield [line for line in batch if line]
                        return
                    async with aclosing(_messages(answer)) as messages:
                        async for events, last, reason in messages:
                            if events:
                                retries = 0
                                yield events
                            if last:
                                # From now on `latest` is this build; a later one has another log.
                                path = f"{gateway}/api/sites/{slug}/builds/{last.partition(':')[0]}"
                                position, query = last, {}
                            if reason == "result":
                                return
                            if reason:
                                yield reason, f"The log of {build or slug} ended without a result: {reason}."
                                return
            except (ClientError, TimeoutError, OSError):
                if not follow:
                    raise
            await asyncio.sleep(_RETRY.pause(retries))
            retries += 1


async def _messages(answer: ClientResponse) -> AsyncGenerator[tuple[list[bytes], str, Any]]:
    """Yield events that arrived together, the id of the last one, and the reason for the end.

    https://html.spec.whatwg.org/multipage/server-sent-events.html#event-stream-interpretation
    """
    data: list[bytes] = []
    kind = identity = last = ""
    async with aclosing(_lines(answer)) as batches:
        async for lines in batches:
            events: list[bytes] = []
            for line in lines:
                name, _, value = line.partition(b":")
                value = value.removeprefix(b" ")
                if name == b"data":
                    data.append(value)
                elif name == b"event":
                    kind = value.decode()
                elif name == b"id":
                    identity = value.decode()
                elif not line and data:
                    if kind == "end":
                        yield events, last, json.loads(b"\n".join(data))["reason"]
                        return
                    events.append(b"\n".join(data))
                    last, data, kind = identity, [], ""
            yield events, last, None


async def _lines(answer: ClientResponse) -> AsyncGenerator[list[bytes]]:
    rest = b""
    async for chunk in answer.content.iter_any():
        *lines, rest = (rest + chunk).split(b"\n")
        yield lines


async def _error(answer: ClientResponse) -> str:
    try:
        return f"The gateway returned status {answer.status}: {(await answer.json())['error']}"
    except (ClientError, ValueError, KeyError, TypeError):
        return f"The gateway returned status {answer.status}."
