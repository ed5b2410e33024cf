"""Open a client of S3, which all buckets of a build share."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import cache
from typing import TYPE_CHECKING, Any

import anyio
from anyio import to_thread

from buildrunner.s3.bodies import MULTIPART_ABOVE, READ_AT_ONCE, ByteLimit
from buildrunner.s3.bucket import Bucket
from buildrunner.s3.compatibility import Compatibility
from buildrunner.s3.errors import ATTEMPTS, CONNECT_TIMEOUT, READ_TIMEOUT, explained
from buildrunner.s3.fast_put import FastPut
from buildrunner.s3.object_writer import BYTES_IN_FLIGHT, ObjectWriter
from buildrunner.s3.small_objects import ClientWriter, SmallObjectWriter

if TYPE_CHECKING:
    from aiobotocore.config import AioConfig
    from aiobotocore.session import AioSession
    from types_aiobotocore_s3 import S3Client

    from buildrunner.s3.permissions import PermissionProbe
    from buildrunner.s3.reader import ObjectReader

CLOSE_SECONDS = 2  # also after a cancellation; what is still open then is reported on the console
# The services that a session creates clients for: AWS's default chain of credentials uses all but the first.
_SERVICES = ("s3", "signin", "sso", "sso-oidc", "sts")


@asynccontextmanager
async def open_s3(
    *,
    region: str | None,
    endpoint_url: str | None,
    concurrency: int,
    fast_put: bool = True,
    keys: tuple[str, str] | None = None,
) -> AsyncIterator[S3]:
    """Open a client of S3 as a context.

    AWS's default chain looks for credentials at the first request. Importing and reading botocore's models takes half a
    second, which happens in a thread, so that the output of the build is read meanwhile.

    Args:
        region: AWS region; None to use the configuration of the machine.
        endpoint_url: address of the server; None for AWS.
        concurrency: maximum number of concurrent requests.
        fast_put: whether small objects bypass aiobotocore (`S3_FAST_PUT`).
        keys: access key id and secret access key; None for AWS's default chain.

    """
    stack = AsyncExitStack()
    s3 = None
    try:
        with explained("put", bucket="", key="", endpoint_url=endpoint_url):
            session, config = await to_thread.run_sync(_import_client, concurrency, endpoint_url)
            client = await stack.enter_async_context(
                session.create_client(
                    "s3",
                    region_name=region,
                    endpoint_url=endpoint_url,
                    config=config,
                    aws_access_key_id=keys and keys[0],
                    aws_secret_access_key=keys and keys[1],
                )
            )
        yield (s3 := S3(client, endpoint_url, concurrency, fast_put=fast_put))
    finally:
        if s3 is not None:
            s3.close()
        with anyio.move_on_after(CLOSE_SECONDS, shield=True):  # this runs after the result is delivered
            await stack.aclose()


def _import_client(concurrency: int, endpoint_url: str | None) -> tuple[AioSession, AioConfig]:
    from aiobotocore.config import AioConfig
    from aiobotocore.httpsession import AIOHTTPSession
    from aiobotocore.session import get_session
    from botocore.exceptions import ReadTimeoutError

    # It logs tracebacks of errors that `explained` explains; without a handler they would appear on stderr.
    logging.getLogger("aiobotocore").addHandler(logging.NullHandler())
    for name in [name for name, value in os.environ.items() if name.startswith("AWS_") and not value]:
        del os.environ[name]  # botocore would look for a profile with an empty name

    class Session(AIOHTTPSession):
        """aiobotocore's session, with two changes."""

        def _build_ssl_contexts(self, proxy_url: str | None) -> Any:
            """Skip reading the CA bundle for http, which takes 30 ms of CPU. `True` stands for aiohttp's own verified context."""
            if not proxy_url and (endpoint_url or "").startswith("http:"):
                return True, None
            return super()._build_ssl_contexts(proxy_url)  # type: ignore[misc]

        async def send(self, request: Any) -> Any:
            """Time out while a body is sent: aiohttp's timeout starts after the body, and excludes waiting for 100 Continue."""
            if request.method != "PUT":
                return await super().send(request)
            loop = asyncio.get_running_loop()
            place: Callable[[], int] = getattr(request.body, "tell", int)
            timer: asyncio.TimerHandle | None = None

            def look(seen: int, since: float) -> None:
                nonlocal timer
                if (now_at := place()) != seen:
                    seen, since = now_at, loop.time()
                if loop.time() - since >= READ_TIMEOUT:
                    scope.cancel()
                else:
                    timer = loop.call_later(1, look, seen, since)

            look(place(), loop.time())
            try:
                with anyio.CancelScope() as scope:
                    return await super().send(request)
            finally:
                if timer:
                    timer.cancel()
            raise ReadTimeoutError(endpoint_url=request.url)

    session = get_session()
    session.get_component("response_parser_factory").set_parser_defaults(timestamp_parser=_timestamp)
    session.register_component("data_loader", load_models(session.get_config_variable("data_path")))
    config = AioConfig(
        connect_timeout=CONNECT_TIMEOUT,
        read_timeout=READ_TIMEOUT,
        retries={"mode": "standard", "total_max_attempts": ATTEMPTS},
        max_pool_connections=concurrency,
        tcp_keepalive=True,
        http_session_cls=Session,
        # buildrunner adds a SHA-256 to each object. CRCs added by the client fail on servers other than AWS.
        request_checksum_calculation="when_required",
        response_checksum_validation="when_required",
        s3={"addressing_style": "path" if endpoint_url else "auto"},
    )
    return session, config


@cache
def load_models(search_path: str | None) -> Any:
    """Return botocore's loader, which caches what it reads, for all clients of this process."""
    from botocore.loaders import create_loader

    loader: Any = create_loader(search_path)
    # botocore would look for four files in the folders of all 400 services, which takes 45 ms of CPU.
    loader.list_available_services = lambda type_name: list(_SERVICES)
    for model in ("service-2", "endpoint-rule-set-1", "paginators-1", "waiters-2"):
        loader.load_service_model("s3", model)
    for data in ("endpoints", "partitions", "sdk-default-configuration", "_retry"):
        loader.load_data(data)
    return loader


def _timestamp(text: str) -> datetime:
    """Parse a time in a listing. botocore's parser takes four fifths of the time of a listing."""
    from botocore.utils import parse_timestamp

    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return parse_timestamp(text)


class S3:
    """A client that all buckets of a build share, with one limit on memory."""

    def __init__(self, client: S3Client, endpoint_url: str | None, concurrency: int, *, fast_put: bool = True) -> None:
        self._client = client
        self._fast_put = fast_put
        self._endpoint_url = endpoint_url
        self._concurrency = concurrency
        # A small body stays in memory while it waits for a retry, and so for its turn. All small bodies together must leave
        # space for a large one, which has its turn and waits for memory; otherwise they would deadlock.
        self._memory = ByteLimit(max(BYTES_IN_FLIGHT, concurrency * READ_AT_ONCE + MULTIPART_ABOVE))
        self._compatibility = Compatibility()
        self._writers: dict[str, SmallObjectWriter] = {}
        self._learning = anyio.Lock()

    def bucket(self, name: str) -> Bucket:
        """Return a bucket without checking that it exists."""
        client, compatibility, endpoint_url = self._client, self._compatibility, self._endpoint_url
        writer = ObjectWriter(name, client, self._writer(name), self._memory, compatibility, endpoint_url)
        return Bucket(name, client, writer, compatibility, endpoint_url)

    def probe(self, name: str) -> PermissionProbe:
        """Return a probe of the permissions for a bucket."""
        from buildrunner.s3.permissions import PermissionProbe

        return PermissionProbe(name, self._client, self._endpoint_url)

    @asynccontextmanager
    async def open_readers(self, *names: str) -> AsyncIterator[list[ObjectReader]]:
        """Yield a reader for each of these buckets; they share up to `concurrency` connections."""
        from buildrunner.s3.reader import ObjectReader, open_session

        async with open_session(self._concurrency) as session:
            readers = [ObjectReader(self._client, name, self._endpoint_url, session) for name in names]
            try:
                yield readers
            finally:
                for reader in readers:
                    reader.close()

    async def warm_up(self, bucket: str) -> None:
        """Load credentials, connect, and locate a bucket before the first object is written."""
        async with self._learning:  # one at a time: `learn` observes every request of the client
            await self._writer(bucket).learn(bucket)

    def close(self) -> None:
        """Close the connections of the writers."""
        for writer in self._writers.values():
            writer.close()

    def _writer(self, bucket: str) -> SmallObjectWriter:
        if bucket not in self._writers:
            fast = self._fast_put
            self._writers[bucket] = (
                FastPut(self._client, self._concurrency) if fast else ClientWriter(self._concurrency)
            )
        return self._writers[bucket]
