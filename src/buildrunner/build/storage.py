"""S3 for one build: the client is imported and made, and the bucket looked at, while git and npm run."""

from __future__ import annotations

import gc
from collections.abc import Awaitable, Callable
from contextlib import suppress

import anyio

from buildrunner import publish, s3
from buildrunner.config.settings import Settings
from buildrunner.errors import BuildEnded, BuildFailed


class Storage:
    """The S3 client of a build, and what publishes its site.

    Args:
        settings: of the build.
        age: returns the seconds since the build began.
        order: returns the number that orders the builds of the site.
        warn: takes a sentence for people.

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
        self._opened: tuple[s3.S3, publish.Upload] | BuildEnded | None = None
        self._ready = anyio.Event()

    async def client(self) -> s3.S3:
        """Return the client once it is made.

        Raises:
            BuildFailed: when it could not be made.

        """
        return (await self._wait())[0]

    async def uploader(self) -> publish.Upload:
        """Return what publishes the site, once the client is made.

        Raises:
            BuildFailed: when there is no client.

        """
        return (await self._wait())[1]

    async def run(self, *, on_superseded: Callable[[], None]) -> None:
        """Make the client and look at the bucket; keep it open until cancelled.

        What goes wrong is raised by `client` and `uploader`: where the site is published, not in the middle of the build.
        """
        settings = self._settings
        try:
            async with s3.open_s3(
                region=settings.region,
                endpoint_url=settings.s3_endpoint_url,
                concurrency=settings.upload_concurrency,
                fast_put=settings.s3_fast_put,
            ) as client:
                # The imports are done: what they left stays for good, and the collector need not walk through it.
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
