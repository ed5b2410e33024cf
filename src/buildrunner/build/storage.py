"""Open the S3 client of a build and list its bucket while git and npm run."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

from buildrunner import publish, s3
from buildrunner.config.settings import Settings
from buildrunner.errors import BuildEnded, BuildFailed


class Storage:
    """Open and share the S3 client and the uploader of one build.

    Args:
        settings: settings of the build.
        age: function that returns the seconds since the build started.
        order: function that returns the number that orders the builds of the site.
        warn: function that logs a warning.

    """

    def __init__(
        self,
        settings: Settings,
        *,
        age: Callable[[], float],
        order: Callable[[], Awaitable[int]],
        warn: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._age = age
        self._order = order
        self._warn = warn
        self._wanted = anyio.Event()
        self._opened: tuple[s3.S3, publish.Upload] | BuildEnded | None = None
        self._ready = anyio.Event()

    async def client(self) -> s3.S3:
        """Return the client once it is open.

        Raises:
            BuildFailed: the client could not be opened.

        """
        return (await self._wait())[0]

    async def uploader(self) -> publish.Upload:
        """Return the uploader of the site once the client is open.

        Raises:
            BuildFailed: the client could not be opened.

        """
        return (await self._wait())[1]

    def open(self) -> None:
        """Let `run` open the client before it is used, while other processes do the work of the build."""
        self._wanted.set()

    async def run(self, *, on_superseded: Callable[[], None]) -> None:
        """Open the client at its first use or after `open`, list the bucket, and keep the client open until cancelled.

        `client` and `uploader` raise the errors of this method, so a failure surfaces when the site is published.
        """
        settings = self._settings
        await self._wanted.wait()
        try:
            async with s3.open_s3(
                region=settings.region,
                endpoint_url=settings.s3_endpoint_url,
                concurrency=settings.upload_concurrency,
                fast_put=settings.s3_fast_put,
            ) as client:
                # Imported modules stay in memory for the whole build; freezing exempts them from garbage collection.
                gc.freeze()
                gc.enable()
                uploader = self._make_uploader(client)
                self._opened = client, uploader
                self._ready.set()
                await client.warm_up(settings.bucket)
                with suppress(BuildFailed):  # raised again when the site is published
                    await uploader.survey()
                if uploader.superseded:
                    on_superseded()
                await anyio.sleep_forever()
        except BuildEnded as error:
            self._opened = error
        except Exception as error:
            self._opened = BuildFailed(
                "upload",
                f"The S3 client could not be created: {error}.",
                "Check the AWS configuration.",
                kind="aws-configuration",
            )
        gc.enable()
        self._ready.set()

    async def _wait(self) -> tuple[s3.S3, publish.Upload]:
        self._wanted.set()
        await self._ready.wait()
        if isinstance(self._opened, BuildEnded):
            raise self._opened
        assert self._opened is not None
        return self._opened

    def _make_uploader(self, client: s3.S3) -> publish.Upload:
        settings = self._settings
        lock = publish.DeploymentLock(
            client.bucket(settings.state_bucket),
            slug=settings.slug,
            build=settings.build_id,
            age=self._age,
            warn=self._warn,
        )
        return publish.Upload(
            client.bucket(settings.bucket),
            lock,
            prefix=settings.s3_key_prefix,
            concurrency=settings.upload_concurrency,
            asset_grace=settings.asset_grace,
            run_number=self._order,
            warn=self._warn,
        )
