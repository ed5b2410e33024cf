"""Read packages of the npm registry: their releases and files.

The metadata of a release contains its digest, which is verified before anything is unpacked.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import hmac
import itertools
import json
import os
import re
import shutil
import ssl
import tarfile
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Protocol
from urllib.parse import urlsplit

import anyio
import anyio.to_thread

from buildrunner.concurrency.cancellation import check_cancelled
from buildrunner.concurrency.files import open_for_writing
from buildrunner.concurrency.retry import RetryPolicy
from buildrunner.errors import BuildFailed

if TYPE_CHECKING:
    import aiohttp

REGISTRY = "https://registry.npmjs.org/"
_EXACT = re.compile(r"[v=\s]*(\d{1,9}\.\d{1,9}\.\d{1,9}(?:-[\w.-]{1,50})?)\s*", re.ASCII)
_MAX_DOCUMENT_BYTES = 64 * 2**20
_MAX_PACKAGE_BYTES = 512 * 2**20
_MAX_UNPACKED_BYTES = 2 * 2**30
_RETRY = RetryPolicy(first=2.0, longest=4.0, most=2)
_SILENT_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Release:
    """One version of a package, according to the registry."""

    package: str
    version: str
    engines: str | None  # range of Node versions
    tarball: str
    algorithm: str
    digest: str  # hexadecimal

    @property
    def file_name(self) -> str:
        return f"{self.package.replace('/', '+')}-{self.version}"


class ToolStore(Protocol):
    """Cache packages between builds."""

    async def get_tool(self, name: str, algorithm: str, digest: str, path: Path) -> bool:
        """Write a cached package to a file; return whether it exists and has the digest."""

    def add_tool(self, name: str, algorithm: str, digest: str, path: Path) -> None:
        """Record that the registry sent a package, which may be cached."""


class Registry:
    """The registry that npm would use.

    Args:
        open_session: returns the session for requests; it is called before each.
        environment: environment of the commands, with settings of npm and the network.
        downloads: folder for the archives of packages.
        log: function that logs a line.
        tool_store: cache that is tried before the registry.

    """

    def __init__(
        self,
        open_session: Callable[[], Awaitable[aiohttp.ClientSession]],
        environment: Mapping[str, str],
        *,
        downloads: Path,
        log: Callable[[str], None],
        tool_store: ToolStore | None,
    ) -> None:
        self._open_session = open_session
        self._url = (_npm_setting(environment, "registry") or REGISTRY).rstrip("/") + "/"
        self._downloads = downloads
        self._log = log
        self._tool_store = tool_store
        self._documents: dict[str, dict[str, Any]] = {}
        self._one: dict[tuple[str, str], Release] = {}  # by package and version

    async def releases(self, package: str) -> list[Release]:
        """List the releases of a package, including prereleases.

        https://github.com/npm/registry/blob/main/docs/responses/package-metadata.md

        Raises:
            BuildFailed: the list is not available.

        """
        if package not in self._documents:
            data = await self._document(package, "")
            try:
                self._documents[package] = dict(json.loads(data)["versions"])
            except (ValueError, KeyError, TypeError, RecursionError):
                raise self._failure(package, "the response does not describe a package") from None
        found = (_release(package, version, entry) for version, entry in self._documents[package].items())
        return [release for release in found if release]

    async def find(self, package: str, wanted: str) -> list[Release]:
        """List releases that include the wanted one; only that one if it is an exact version that exists.

        npm's metadata for all versions is 3 MB, for one version 5 kB.
        https://github.com/npm/registry/blob/main/docs/REGISTRY-API.md#get-v1packageversion

        Raises:
            BuildFailed: the list is not available.

        """
        exact = _EXACT.fullmatch(wanted)
        if exact and package not in self._documents:
            if known := self._one.get((package, exact[1])):
                return [known]
            # Not every registry supports this, and for a missing version the caller needs the list of existing ones.
            with suppress(_RefusedError, ValueError, TypeError, AttributeError, RecursionError):
                entry = json.loads(await self._document(package, f"/{exact[1]}"))
                if entry.get("version") == exact[1] and (release := _release(package, exact[1], entry)):
                    self._one[package, exact[1]] = release
                    return [release]
        return await self.releases(package)

    async def fetch(self, release: Release) -> Path:
        """Return the archive of a release after verifying its digest.

        Raises:
            BuildFailed: it is not available.

        """
        file_name = f"{release.file_name}.tgz"
        path = self._downloads / file_name
        check = (release.algorithm, release.digest)
        if self._tool_store and await self._tool_store.get_tool(file_name, *check, path):
            return path
        self._log(f"Fetching {release.package} {release.version}")
        sum_ = hashlib.new(release.algorithm)
        part = path.with_name(f".{file_name}.part")
        try:
            async with open_for_writing(part) as write:
                session = await self._open_session()
                async for data in _download(session, release.tarball, release.package, _MAX_PACKAGE_BYTES):
                    sum_.update(data)
                    await write(data)
            if not hmac.compare_digest(sum_.hexdigest(), release.digest):
                part.unlink()
                raise self._failure(release.package, "the downloaded package does not match its digest")
            part.replace(path)
        except OSError as error:
            raise self._failure(release.package, f"it cannot be written ({error.strerror})") from None
        if self._tool_store:
            self._tool_store.add_tool(file_name, *check, path)
        return path

    async def unpack(self, release: Release, target: Path, *, only: str | None = None) -> None:
        """Unpack a downloaded archive, or only its file `only`.

        Raises:
            BuildFailed: the archive cannot be unpacked.

        """
        archive = self._downloads / f"{release.file_name}.tgz"
        try:
            await anyio.to_thread.run_sync(_unpack, archive, target, only)
        except (OSError, EOFError, ValueError, tarfile.TarError, zlib.error) as error:
            raise self._failure(release.package, f"the package cannot be unpacked: {error}") from None

    async def _document(self, package: str, path: str) -> bytes:
        url = f"{self._url}{package.replace('/', '%2f')}{path}"
        session = await self._open_session()
        return b"".join([part async for part in _download(session, url, package, _MAX_DOCUMENT_BYTES)])

    def _failure(self, package: str, why: str) -> BuildFailed:
        return BuildFailed("install", *_unreachable(self._url, package, why), kind="registry-unreachable")


class _RefusedError(BuildFailed):
    """The registry responded that the package does not exist or may not be read."""


@asynccontextmanager
async def open_registry(
    environment: Mapping[str, str], *, downloads: Path, log: Callable[[str], None], tool_store: ToolStore | None
) -> AsyncIterator[Registry]:
    """Open the registry with npm's settings for proxies and certificates; see `Registry` for the arguments.

    Most builds make no request, with the installed Node and the npm that it includes. A session is opened for the first one:
    importing aiohttp and reading the certificates of the system takes 0.2 s of CPU.
    """
    session: aiohttp.ClientSession | None = None
    opening = anyio.Lock()
    async with AsyncExitStack() as stack:

        async def open_session() -> aiohttp.ClientSession:
            nonlocal session
            async with opening:
                if session is None:
                    session = await stack.enter_async_context(await _make_session(environment))
                return session

        yield Registry(open_session, environment, downloads=downloads, log=log, tool_store=tool_store)


async def _make_session(environment: Mapping[str, str]) -> aiohttp.ClientSession:
    import aiohttp

    context = ssl.create_default_context()  # reads SSL_CERT_FILE and SSL_CERT_DIR
    with suppress(OSError):  # npm ignores an unreadable file, too
        for path in (environment.get("NODE_EXTRA_CA_CERTS"), _npm_setting(environment, "cafile")):
            if path:
                await anyio.to_thread.run_sync(_trust, context, path)
    if _npm_setting(environment, "strict_ssl") == "false":
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    proxy = _npm_setting(environment, "https_proxy") or _npm_setting(environment, "proxy")
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_SILENT_SECONDS, sock_read=_SILENT_SECONDS)
    connector = aiohttp.TCPConnector(ssl=context)
    return aiohttp.ClientSession(connector=connector, timeout=timeout, trust_env=not proxy, proxy=proxy)


def _trust(context: ssl.SSLContext, path: str) -> None:
    if os.path.isfile(path):  # a named pipe would block
        context.load_verify_locations(path)


async def _download(session: aiohttp.ClientSession, url: str, package: str, max_bytes: int) -> AsyncIterator[bytes]:
    """Yield the body of `url` in chunks; retry until the first chunk.

    Raises:
        BuildFailed: it is not available; _RefusedError if the registry responded.

    """
    import aiohttp

    headers = {"Accept": "application/vnd.npm.install-v1+json, application/json;q=0.9, */*;q=0.8"}
    for retries in itertools.count():
        given = 0
        try:
            async with session.get(url, headers=headers) as response:
                if response.status == 404:
                    raise _RefusedError("install", *_unreachable(url, package, "it does not have this package"))
                response.raise_for_status()
                async for data in response.content.iter_chunked(1 << 18):
                    given += len(data)
                    if given > max_bytes:
                        too_large = f"it is larger than {max_bytes // 2**20} MiB"
                        raise BuildFailed(
                            "install", *_unreachable(url, package, too_large), kind="registry-unreachable"
                        )
                    yield data
                return
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError) as error:
            status = getattr(error, "status", None)
            refused = status and status < 500 and status not in {408, 429}
            if given or refused or retries >= _RETRY.most:
                kind = _RefusedError if status else BuildFailed
                raise kind("install", *_unreachable(url, package, _why(error))) from None
        await anyio.sleep(_RETRY.pause(retries))


def _why(error: Exception) -> str:
    """Complete the sentence "… could not be fetched: …"."""
    import aiohttp

    if isinstance(error, aiohttp.ClientResponseError):
        return f"it returned status {error.status}"
    if isinstance(error, (aiohttp.ClientConnectorCertificateError, aiohttp.ClientConnectorSSLError)):
        return "its certificate is not trusted"
    if isinstance(error, TimeoutError):
        return "it did not respond in time"
    if isinstance(error, aiohttp.ClientConnectorError):
        return "it cannot be reached"
    return str(error) or type(error).__name__


def _unreachable(url: str, package: str, why: str) -> tuple[str, str]:
    """Return the reason and the hint."""
    host = urlsplit(url).hostname or "the registry"  # without other parts of the address, which may contain secrets
    return (
        f"{package} could not be fetched from {host}: {why}.",
        "The registry of npm_config_registry must be reachable, directly or by a proxy. Try again, then look at the network.",
    )


def has_digest(path: Path, algorithm: str, digest: str) -> bool:
    """Return whether a file exists and has this hexadecimal digest."""
    with suppress(OSError, ValueError), path.open("rb") as file:
        return hmac.compare_digest(hashlib.file_digest(file, algorithm).hexdigest(), digest)
    return False


def _release(package: str, version: str, entry: Any) -> Release | None:
    """Parse the metadata of one version; None if it is invalid."""
    with suppress(KeyError, TypeError, ValueError, AttributeError):
        if re.fullmatch(r"\d[\w.+-]{1,100}", version):  # it is used in a file name
            algorithm, digest = _digest(entry["dist"])
            engines = entry.get("engines")
            node = engines.get("node") if isinstance(engines, dict) else None
            return Release(package, version, node, entry["dist"]["tarball"], algorithm, digest)
    return None


def _digest(dist: Mapping[str, Any]) -> tuple[str, str]:
    """Return the strongest digest of a release: `integrity` (W3C Subresource Integrity), or the SHA-1 of old releases."""
    for part in sorted(str(dist.get("integrity") or "").split(), reverse=True):  # sha512 before sha384, sha256, sha1
        algorithm, _, value = part.partition("-")
        if algorithm in {"sha512", "sha384", "sha256"}:
            return algorithm, base64.b64decode(value.partition("?")[0], validate=True).hex()
    return "sha1", str(dist["shasum"]).lower()


class _BoundedGzip(gzip.GzipFile):
    """A file that limits the unpacked size to _MAX_UNPACKED_BYTES, including headers and skipped files.

    Reading stops when the build is cancelled.
    """

    def __init__(self, path: Path) -> None:
        super().__init__(path, "rb")
        self._left = _MAX_UNPACKED_BYTES

    def read(self, size: int | None = -1) -> bytes:
        check_cancelled()
        data = super().read(size)
        self._left -= len(data)
        if self._left < 0:
            raise tarfile.TarError("it is too large")
        return data


def _unpack(archive: Path, target: Path, only: str | None) -> None:
    """Unpack the regular files of a package like npm, without links and without the top folder."""
    part = target.with_name(f"{target.name}.part")
    with _BoundedGzip(archive) as stream, tarfile.open(fileobj=stream, mode="r|") as package:
        for member in package:
            path = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            if not member.isreg() or ".." in path.parts or not path.parts or (only and str(path) != only):
                continue
            source = package.extractfile(member)
            if source is None:
                continue
            file = part / path
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("wb") as written:
                shutil.copyfileobj(source, written, 1 << 20)
            file.chmod(0o755)  # only package.json says which files are programs
            if only:
                break
    for folder, _, _ in os.walk(part):
        os.chmod(folder, 0o755)  # noqa: S103 - for the user whom the build runs as
    part.rename(target)


def _npm_setting(environment: Mapping[str, str], name: str) -> str | None:
    """Read a setting of npm, whose variables are case-insensitive."""
    return next((v for n, v in environment.items() if n.lower() == f"npm_config_{name}" and v), None)
