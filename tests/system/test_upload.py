from __future__ import annotations

import asyncio
import base64
import hashlib
import os
import re
import subprocess
import sys
import tempfile
import uuid
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio
import pytest

from buildrunner.concurrency.parallel import in_parallel
from buildrunner.errors import BuildFailed
from buildrunner.publish.files import collect
from buildrunner.publish.headers import IMMUTABLE, REVALIDATE
from buildrunner.s3.bodies import MULTIPART_ABOVE, Slice
from buildrunner.s3.bucket import Bucket
from buildrunner.s3.client import open_s3
from buildrunner.s3.errors import AccessRefused
from buildrunner.s3.fast_put import FastPut
from buildrunner.s3.object_writer import Stored
from support.certificates import Certificate, make_certificate
from support.s3_server import S3Server, s3_server
from support.uploads import plan

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

pytestmark = pytest.mark.anyio

WRITER = {"AWS_ACCESS_KEY_ID": "WRITERTEST0000000001", "AWS_SECRET_ACCESS_KEY": "secret-of-the-writer"}
READER = {"AWS_ACCESS_KEY_ID": "READERTEST0000000001", "AWS_SECRET_ACCESS_KEY": "secret-of-the-reader"}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    def user(name: str, keys: dict[str, str], *actions: str) -> dict[str, object]:
        pair = {"accessKey": keys["AWS_ACCESS_KEY_ID"], "secretKey": keys["AWS_SECRET_ACCESS_KEY"]}
        return {"name": name, "credentials": [pair], "actions": [f"{action}:site" for action in actions]}

    with s3_server(identities=(user("writer", WRITER, "Write"), user("reader", READER, "Read", "List"))) as running:
        running.make_bucket("site")
        yield running


@pytest.fixture(autouse=True)
def aws(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave of AWS's configuration only what leads to the test's own server."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/nonexistent")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent")


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}/"


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    folder = tmp_path / "dist"
    (folder / "assets").mkdir(parents=True)
    (folder / "index.html").write_text("<h1>one</h1>")
    (folder / "about.html").write_text("<h1>about</h1>")
    (folder / "robots.txt").write_text("User-agent: *")
    (folder / "assets/index-B4x9ZQab.js").write_text("console.log(1)")
    return folder


@asynccontextmanager
async def bucket_of(
    server: S3Server, name: str = "site", concurrency: int = 8, *, hot: bool = False
) -> AsyncIterator[Bucket]:
    """Yield a bucket, whose small objects go by the fast path or by aiobotocore (`S3_FAST_PUT`)."""
    async with open_s3(region="us-east-1", endpoint_url=server.endpoint, concurrency=concurrency, fast_put=hot) as s3:
        await s3.warm_up(name)
        yield s3.bucket(name)


both_ways = pytest.mark.parametrize("hot", [True, False], ids=["hot path", "aiobotocore"])


def client_of(bucket: Bucket) -> S3Client:
    """Return the client itself, to look at what the server stored."""
    return bucket._client


async def body_of(bucket: Bucket, key: str) -> bytes:
    answer = await client_of(bucket).get_object(Bucket=bucket.name, Key=key)
    async with answer["Body"] as stream:
        return await stream.read()


class Recorder(Bucket):
    """A bucket that remembers the order in which its keys were written."""

    def __init__(self, bucket: Bucket) -> None:
        self.__dict__.update(vars(bucket))
        self.written: list[str] = []

    async def put_file(self, key: str, *args: Any, **named: Any) -> Stored:
        stored = await super().put_file(key, *args, **named)
        self.written.append(key)
        return stored


@both_ways
async def test_what_is_stored_has_its_headers_and_a_checksum(
    server: S3Server, dist: Path, prefix: str, hot: bool
) -> None:
    seen: list[tuple[int, int]] = []
    async with bucket_of(server, hot=hot) as bucket:
        with collect(dist, dist.parent, prefix=prefix) as site:
            upload = await plan(site, bucket, prefix, seen)
            await upload.send_new()
            await upload.publish()

        assert set(await bucket.list_objects(prefix)) == {prefix + file.path for file in site.files}
        for path, content_type, cache_control in (
            ("index.html", "text/html; charset=utf-8", REVALIDATE),
            ("robots.txt", "text/plain; charset=utf-8", REVALIDATE),
            ("assets/index-B4x9ZQab.js", "text/javascript; charset=utf-8", IMMUTABLE),
        ):
            head = await client_of(bucket).head_object(Bucket="site", Key=prefix + path, ChecksumMode="ENABLED")
            body = (dist / path).read_bytes()
            assert (head["ContentType"], head["CacheControl"]) == (content_type, cache_control)
            assert head["ChecksumSHA256"] == base64.b64encode(hashlib.sha256(body).digest()).decode()
            assert await body_of(bucket, prefix + path) == body
    assert [files for files, _ in seen] == [1, 2, 3, 4]
    assert seen[-1] == (upload.files_done, upload.bytes_done) == (4, site.total_bytes)


async def test_new_keys_go_before_the_check_then_replaced_then_pages(server: S3Server, dist: Path, prefix: str) -> None:
    async with bucket_of(server) as bucket:
        await bucket.put(prefix + "robots.txt", b"old", content_type="text/plain")
        await bucket.put(prefix + "index.html", b"old", content_type="text/html")
        recorder = Recorder(bucket)
        with collect(dist, dist.parent, prefix=prefix) as site:
            upload = await plan(site, recorder, prefix)

            await upload.send_new()

            assert recorder.written == [prefix + "assets/index-B4x9ZQab.js"]
            assert upload.what_is_new == "Nothing live has changed."
            assert await body_of(bucket, prefix + "index.html") == b"old"

            await upload.publish()

    first, *pages = recorder.written[1:]
    assert first == prefix + "robots.txt"
    assert sorted(pages) == [prefix + "about.html", prefix + "index.html"]
    assert upload.what_is_new == "The whole site is new."


async def test_without_a_listing_the_site_waits_for_the_second_check(
    server: S3Server, dist: Path, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in WRITER.items():
        monkeypatch.setenv(name, value)
    async with bucket_of(server) as bucket:
        recorder = Recorder(bucket)
        with collect(dist, dist.parent, prefix=prefix) as site:
            warnings: list[str] = []
            upload = await plan(site, recorder, prefix, warnings=warnings)
            await upload.send_new()

            assert recorder.written == []
            (warning,) = warnings
            assert "the permission s3:ListBucket is missing" in warning

            await upload.publish()

    assert len(recorder.written) == 4
    assert [key.endswith(".html") for key in recorder.written] == [False, False, True, True]


async def test_a_site_cut_short_names_what_is_new(server: S3Server, dist: Path, prefix: str) -> None:
    async with bucket_of(server) as bucket:
        with collect(dist, dist.parent, prefix=prefix) as site:
            upload = await plan(site, bucket, prefix)
            await upload.send_new()
            (dist / "index.html").write_text("changed under our hands")

            with pytest.raises(BuildFailed, match=r"index\.html changed during upload"):
                await upload.publish()

    assert upload.what_is_new in {
        "Nothing live has changed.",
        "It is not known whether S3 stored about.html.",
        "Replaced 1 of 2 live files: about.html.",
    }


async def test_a_large_file_goes_in_parts_and_is_stored_byte_for_byte(
    server: S3Server, tmp_path: Path, prefix: str
) -> None:
    size = 40 * 2**20 + 12_345
    block = os.urandom(2**20 + 7)
    large = tmp_path / "large.bin"
    large.write_bytes((block * 41)[:size])
    key = prefix + "video.mp4"
    with large.open("rb") as file:
        async with bucket_of(server) as bucket:
            await bucket.put_file(key, file.fileno(), size, content_type="video/mp4", cache_control=REVALIDATE)

            head = await client_of(bucket).head_object(Bucket="site", Key=key)
            stored = await body_of(bucket, key)
            uploads = await client_of(bucket).list_multipart_uploads(Bucket="site", Prefix=prefix)

    assert hashlib.sha256(stored).digest() == hashlib.sha256(large.read_bytes()).digest()
    assert head["ETag"].endswith('-6"')
    assert (head["ContentType"], head["CacheControl"]) == ("video/mp4", REVALIDATE)
    assert "Uploads" not in uploads


async def test_a_file_that_changes_while_it_is_sent_is_told_in_words(
    server: S3Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "body").write_bytes(os.urandom(2**20))
    pieces = Slice.pieces

    def change_then_read(self: Slice) -> Iterator[bytes]:
        (tmp_path / "body").write_bytes(os.urandom(2**20))
        yield from pieces(self)

    monkeypatch.setattr(Slice, "pieces", change_then_read)
    async with bucket_of(server, hot=True) as bucket:
        with (tmp_path / "body").open("rb") as file, pytest.raises(BuildFailed, match="changed during upload"):
            await bucket.put_file(f"{prefix}a", file.fileno(), 2**20, content_type="text/plain")

        assert await bucket.list_objects(prefix) == {}


async def test_a_large_file_that_is_too_short_leaves_no_parts(server: S3Server, tmp_path: Path, prefix: str) -> None:
    short = tmp_path / "short.bin"
    short.write_bytes(bytes(MULTIPART_ABOVE))
    with short.open("rb") as file:
        async with bucket_of(server) as bucket:
            with pytest.raises(BuildFailed, match="was truncated"):
                await bucket.put_file(prefix + "a", file.fileno(), 2 * MULTIPART_ABOVE, content_type="video/mp4")

            assert "Uploads" not in await client_of(bucket).list_multipart_uploads(Bucket="site", Prefix=prefix)
            assert await bucket.list_objects(prefix) == {}


async def test_a_large_file_that_is_cancelled_leaves_no_parts_behind(
    server: S3Server, tmp_path: Path, prefix: str
) -> None:
    size = 6 * MULTIPART_ABOVE
    large = tmp_path / "large.bin"
    with large.open("wb") as file:
        file.truncate(size)
    with large.open("rb") as file:
        async with bucket_of(server) as bucket:
            client = client_of(bucket)
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(lambda: bucket.put_file(prefix + "a", file.fileno(), size, content_type="video/mp4"))
                while not (found := (await client.list_multipart_uploads(Bucket="site", Prefix=prefix)).get("Uploads")):
                    await anyio.sleep(0.01)
                key, upload_id = prefix + "a", found[0]["UploadId"]
                while not (await client.list_parts(Bucket="site", Key=key, UploadId=upload_id)).get("Parts"):
                    await anyio.sleep(0.01)  # with a part sent it knows the id of its upload
                tasks.cancel_scope.cancel()

            assert "Uploads" not in await client.list_multipart_uploads(Bucket="site", Prefix=prefix)
            assert await bucket.list_objects(prefix) == {}


async def test_small_bodies_do_not_overtake_a_large_one_forever(server: S3Server, tmp_path: Path, prefix: str) -> None:
    with (tmp_path / "zeros").open("wb+") as file:
        file.truncate(MULTIPART_ABOVE)
        async with bucket_of(server) as bucket:

            async def put(number: int) -> None:
                size = MULTIPART_ABOVE if number % 3 == 0 else 10
                await bucket.put_file(f"{prefix}{number}", file.fileno(), size, content_type="text/plain")

            await in_parallel(put, range(12), limit=12)

            assert len(await bucket.list_objects(prefix)) == 12


async def test_more_keys_than_one_page_are_listed(server: S3Server, prefix: str) -> None:
    async with bucket_of(server, concurrency=32) as bucket:

        async def put(number: int) -> None:
            await bucket.put(f"{prefix}{number} ü+&.txt", b"", content_type="text/plain")

        await in_parallel(put, range(1_100), limit=32)

        assert set(await bucket.list_objects(prefix)) == {f"{prefix}{number} ü+&.txt" for number in range(1_100)}
        assert set(await bucket.list_objects(prefix + "109")) == {
            f"{prefix}{number} ü+&.txt" for number in (109, *range(1_090, 1_100))
        }


async def test_a_bucket_that_does_not_exist_is_named(server: S3Server, prefix: str) -> None:
    async with bucket_of(server, "no-such-bucket") as bucket:
        for attempt in (bucket.list_objects(prefix), bucket.put(prefix + "a", b"", content_type="text/plain")):
            with pytest.raises(BuildFailed) as failure:
                await attempt
            assert failure.value.reason == "The bucket no-such-bucket does not exist."
            assert failure.value.exit_code == 50
            assert "AWS_BUCKET_NAME" in (failure.value.hint or "")


async def test_a_wrong_secret_is_told_without_showing_it(
    server: S3Server, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "this-is-the-wrong-secret")
    async with bucket_of(server) as bucket:
        with pytest.raises(BuildFailed, match="the secret key does not belong to the access key") as failure:
            await bucket.list_objects(prefix)

    assert "wrong-secret" not in f"{failure.value.reason} {failure.value.hint}"
    assert failure.value.__cause__ is None
    assert failure.value.__suppress_context__


async def test_unknown_and_missing_credentials_have_clear_messages(
    server: S3Server, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "NOBODY00000000000000")
    async with bucket_of(server) as bucket:
        with pytest.raises(BuildFailed, match="S3 does not know the access key"):
            await bucket.list_objects(prefix)

    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    async with bucket_of(server) as bucket:
        with pytest.raises(BuildFailed, match="No complete AWS credentials were found"):
            await bucket.list_objects(prefix)


async def test_a_missing_permission_is_named_with_bucket_and_key(
    server: S3Server, prefix: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in READER.items():
        monkeypatch.setenv(name, value)
    async with bucket_of(server) as bucket:
        with pytest.raises(AccessRefused) as failure:
            await bucket.put(prefix + "index.html", b"", content_type="text/html")

    assert failure.value.reason == (
        f"S3 refused access to the bucket site (key {prefix}index.html): the permission s3:PutObject is missing."
    )


@pytest.mark.parametrize(
    ("region", "endpoint", "name", "words"),
    [
        ("not a region", None, "site", "The AWS region is missing or malformed."),
        ("us-east-1", "nonsense", "site", "The endpoint nonsense is not a URL."),
        (
            "us-east-1",
            "http://user:pw@no-such-host.invalid",
            "site",
            "The S3 server no-such-host.invalid cannot be reached.",
        ),
        ("us-east-1", "http://127.0.0.1:9", "Not/A/Bucket", "Not/A/Bucket is not a valid bucket name."),
    ],
)
async def test_a_configuration_that_cannot_work_has_its_words(
    region: str, endpoint: str | None, name: str, words: str
) -> None:
    with pytest.raises(BuildFailed) as failure:
        async with open_s3(region=region, endpoint_url=endpoint, concurrency=1) as s3:
            await s3.bucket(name).put("a", b"", content_type="text/plain")

    assert failure.value.reason == words


@both_ways
async def test_a_body_that_arrives_changed_is_refused_by_the_server(server: S3Server, prefix: str, hot: bool) -> None:
    wrong = hashlib.sha256(b"what was meant").digest()
    async with bucket_of(server, hot=hot) as bucket:
        with pytest.raises(BuildFailed, match="arrived damaged"):
            await bucket._writer._put(prefix + "a", b"what arrived", wrong, {"ContentType": "text/plain"})

        assert await bucket.list_objects(prefix) == {}


@asynccontextmanager
async def over_tls(server: S3Server, certificate: Certificate) -> AsyncIterator[str]:
    """Yield an endpoint that ends TLS before the server."""
    tasks: set[asyncio.Task[None]] = set()

    async def pipe(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
        with suppress(OSError):
            while data := await source.read(65536):
                target.write(data)
                await target.drain()
        target.close()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        inner = await asyncio.open_connection("127.0.0.1", urlsplit(server.endpoint).port)
        tasks.update({asyncio.create_task(pipe(reader, inner[1])), asyncio.create_task(pipe(inner[0], writer))})

    listening = await asyncio.start_server(accept, "127.0.0.1", 0, ssl=certificate.server_context())
    try:
        yield f"https://localhost:{listening.sockets[0].getsockname()[1]}"
    finally:
        listening.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


async def test_over_tls_the_authority_of_aws_ca_bundle_is_trusted(
    server: S3Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    certificate = make_certificate(tmp_path, "localhost")
    monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate.authority))
    body = os.urandom(MULTIPART_ABOVE + 5)
    (tmp_path / "body").write_bytes(body)
    async with (
        over_tls(server, certificate) as endpoint,
        open_s3(region="us-east-1", endpoint_url=endpoint, concurrency=4) as s3,
    ):
        await s3.warm_up("site")
        bucket = s3.bucket("site")
        sizes = (0, 1000, 900_000, len(body))
        for size in sizes:
            with (tmp_path / "body").open("rb") as file:
                await bucket.put_file(f"{prefix}{size}", file.fileno(), size, content_type="text/plain")
        assert {found.size for found in (await bucket.list_objects(prefix)).values()} == set(sizes)
        assert isinstance(bucket._writer.small, FastPut)
        assert (bucket._writer.small._place is not None, bucket._writer.small._failures) == (True, 0)


async def test_without_tls_no_ca_bundle_is_read(server: S3Server, prefix: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent/bundle.pem")
    async with open_s3(region="us-east-1", endpoint_url=server.endpoint, concurrency=4) as s3:
        assert await s3.bucket("site").list_objects(prefix) == {}


@pytest.mark.parametrize("name", ["localhost", "s3.example.com"], ids=["unknown authority", "other name"])
async def test_a_server_with_an_untrusted_certificate_gets_nothing(
    server: S3Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    certificate = make_certificate(tmp_path, name)
    if name != "localhost":
        monkeypatch.setenv("AWS_CA_BUNDLE", str(certificate.authority))
    async with (
        over_tls(server, certificate) as endpoint,
        open_s3(region="us-east-1", endpoint_url=endpoint, concurrency=4) as s3,
    ):
        await s3.warm_up("site")
        writer = s3.bucket("site")._writer.small
        assert isinstance(writer, FastPut)
        assert writer._place
        with pytest.raises(BuildFailed, match="certificate is not trusted"):
            await s3.bucket("site").put(f"{prefix}a", b"", content_type="text/plain")


async def test_where_there_is_a_proxy_aiobotocore_goes_through_it(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        asked.append(" ".join(head.decode().split(" ", 2)[:2]))
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(answer, "127.0.0.1", 0) as proxy:
        monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.sockets[0].getsockname()[1]}")
        async with open_s3(region="us-east-1", endpoint_url="http://s3.invalid", concurrency=4) as s3:
            await s3.warm_up("site")
            await s3.bucket("site").put("a", b"", content_type="text/plain")

    assert asked == ["HEAD http://s3.invalid/site", "PUT http://s3.invalid/site/a"]


@both_ways
@pytest.mark.parametrize("size", [2**16, 3 * 2**20])
async def test_a_busy_server_is_asked_again_with_the_whole_body(tmp_path: Path, size: int, hot: bool) -> None:
    body = os.urandom(size)
    (tmp_path / "body").write_bytes(body)
    received: list[bytes] = []
    ways: list[str] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        if head.startswith(b"head"):
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            writer.close()
            return
        if b"100-continue" in head:
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        ways.append("aiobotocore" if b"amz-sdk-invocation-id" in head else "hot path")
        received.append(await reader.readexactly(int(head.split(b"content-length: ")[1].split()[0])))
        status = b"200 OK" if len(received) == 3 else b"503 Slow Down"
        writer.write(b"HTTP/1.1 " + status + b'\r\nETag: "e"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n')
        await writer.drain()
        writer.close()

    busy = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = busy.sockets[0].getsockname()[1]
    async with busy, open_s3(region="us-east-1", endpoint_url=f"http://127.0.0.1:{port}", concurrency=1) as s3:
        if hot:
            await s3.warm_up("site")
        with (tmp_path / "body").open("rb") as file:
            await s3.bucket("site").put_file("a", file.fileno(), len(body), content_type="text/plain")

    assert received == [body, body, body]
    assert ways == ["hot path" if hot else "aiobotocore"] * 3


async def test_refusals_and_cut_connections_lose_and_double_nothing(tmp_path: Path) -> None:
    """On the hot path first, and then the way of aiobotocore."""
    dist = tmp_path / "dist"
    dist.mkdir()
    for number in range(120):
        (dist / f"{number}.js").write_bytes(os.urandom(number * 50))
    asked: dict[str, int] = {}
    stored: dict[str, list[bytes]] = {}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                method, target = head.decode().split(" ", 2)[:2]
                if b"100-continue" in head:
                    writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
                body = await reader.readexactly(int(length[1]) if length else 0)
                said, status = b"", b"200 OK"
                if method == "GET":
                    said = b"<ListBucketResult><IsTruncated>false</IsTruncated></ListBucketResult>"
                elif method == "PUT" and "__manifests" not in target:
                    asked[target] = asked.get(target, 0) + 1
                    number = int(re.sub(r"\D", "", target))
                    if number % 3 == 0 and asked[target] <= 2:
                        status, said = b"503 Slow Down", b"<Error><Code>SlowDown</Code><Message>slow</Message></Error>"
                    elif number % 20 == 1 and asked[target] == 1:
                        writer.transport.abort()  # after the body, before the answer
                        return
                    else:
                        stored.setdefault(target, []).append(body)
                writer.write(b'HTTP/1.1 %s\r\nETag: "e"\r\nContent-Length: %d\r\n\r\n%s' % (status, len(said), said))
                await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    async with server, open_s3(region="us-east-1", endpoint_url=f"http://127.0.0.1:{port}", concurrency=8) as s3:
        await s3.warm_up("site")
        with collect(dist, tmp_path) as site:
            upload = await plan(site, s3.bucket("site"), "", concurrency=8)
            await upload.send_new()
            await upload.publish()

    assert upload.files_done == 120
    assert stored == {f"/site/{number}.js": [(dist / f"{number}.js").read_bytes()] for number in range(120)}
    assert sum(asked.values()) == 120 + 2 * 40 + len([n for n in range(1, 120, 20) if n % 3])


async def test_both_clients_store_any_key_headers_and_body_alike(server: S3Server, prefix: str, tmp_path: Path) -> None:
    keys = [
        "a",
        "a b+c%d&e=f?g#h",
        "ünï/日本語/🚀.html",
        "~-_.!*'()/;:@$,[]{}|\\^`\"<>",
        "a//b",
        "dot/.hidden/..x",
        "k" * 200 + "/" + "k" * 200,
    ]
    corpus = [
        (key, os.urandom(size), content_type, cache_control)
        for number, key in enumerate(keys)
        for size in (0, 1, 70_000, 300_000 if number == 0 else 5)
        for content_type, cache_control in (("text/html; charset=utf-8", REVALIDATE), ("font/woff2", None))
    ]
    corpus.append(("large", os.urandom(MULTIPART_ABOVE + 5), "application/octet-stream", IMMUTABLE))
    stored: list[list[dict[str, Any]]] = []
    for way in ("hot", "aiobotocore"):
        found: list[dict[str, Any]] = []
        async with bucket_of(server, hot=way == "hot") as bucket:
            fast = bucket._writer.small if isinstance(bucket._writer.small, FastPut) else None
            assert (fast is not None and fast._place is not None) == (way == "hot")
            for number, (key, body, content_type, cache_control) in enumerate(corpus):
                (tmp_path / "body").write_bytes(body)
                full_key = f"{prefix}{way}/{number}/{key}"
                with (tmp_path / "body").open("rb") as file:
                    await bucket.put_file(
                        full_key, file.fileno(), len(body), content_type=content_type, cache_control=cache_control
                    )
                assert not (fast and fast._failures), "it went the way that it should"
                head = await client_of(bucket).head_object(Bucket="site", Key=full_key, ChecksumMode="ENABLED")
                kept = {"ETag", "ContentType", "CacheControl", "ContentLength", "ChecksumSHA256", "Metadata"}
                found.append({name: value for name, value in head.items() if name in kept})
                assert await body_of(bucket, full_key) == body
        stored.append(found)

    assert stored[0] == stored[1]


async def test_a_server_that_is_stopped_in_the_middle_ends_the_upload(tmp_path: Path, prefix: str) -> None:
    # aiohttp complains of what it tells its caller, too, where a connection breaks between two writes.
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    dist = tmp_path / "dist"
    dist.mkdir()
    for number in range(400):
        (dist / f"{number}.txt").write_text("x" * 1000)
    with s3_server() as server:
        server.make_bucket("site")
        environment = server.environment()
        with pytest.MonkeyPatch.context() as patch, collect(dist, tmp_path) as site:
            for name, value in environment.items():
                patch.setenv(name, value)
            async with bucket_of(server) as bucket:
                upload = await plan(
                    site,
                    bucket,
                    prefix,
                    concurrency=8,
                    on_progress=lambda files, _: server.stop() if files == 20 else None,
                )
                with anyio.fail_after(60), pytest.raises(BuildFailed, match="cannot be reached") as failure:
                    await upload.send_new()

    assert failure.value.exit_code == 50
    assert 20 <= upload.files_done < 400


async def test_the_first_failure_stops_the_rest_and_is_raised_itself() -> None:
    begun: list[int] = []

    async def work(number: int) -> None:
        begun.append(number)
        if number == 2:
            raise BuildFailed("upload", "two")
        await anyio.sleep(30)

    with anyio.fail_after(5), pytest.raises(BuildFailed, match="two"):
        await in_parallel(work, range(100), limit=4)

    assert begun == [0, 1, 2, 3]


# In a process of its own, which has not imported botocore yet.
OPEN_AND_WATCH = """
import sys, time, anyio
from buildrunner.s3 import open_s3

async def main():
    longest = 0.0

    async def watch():
        nonlocal longest
        while True:
            before = time.monotonic()
            await anyio.sleep(0.005)
            longest = max(longest, time.monotonic() - before)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(watch)
        await anyio.sleep(0.05)
        started = time.monotonic()
        async with open_s3(region="us-east-1", endpoint_url=sys.argv[1], concurrency=8):
            took = time.monotonic() - started
            await anyio.sleep(0.02)  # so that the watch has its turn
        tasks.cancel_scope.cancel()
    print(longest / took)

anyio.run(main)
"""


def test_opening_the_client_does_not_hold_up_the_event_loop(server: S3Server) -> None:
    command = [sys.executable, "-P", "-c", OPEN_AND_WATCH, server.endpoint]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)

    assert float(ended.stdout) < 0.6, "the share of the time in which nothing else ran"


async def test_the_server_exits_with_its_starter() -> None:
    script = "import time, s3_server\nwith s3_server.s3_server() as s: print(s.process.pid, flush=True); time.sleep(60)"
    folder = os.path.dirname(sys.modules["support.s3_server"].__file__ or "")
    with tempfile.TemporaryDirectory(dir="/tmp") as short:  # its sockets have names of at most 107 bytes
        environment = {**os.environ, "PYTHONPATH": folder, "TMPDIR": short}
        async with await anyio.open_process([sys.executable, "-c", script], env=environment, stderr=None) as parent:
            assert parent.stdout
            pid = int(await parent.stdout.receive())

            parent.kill()

        with anyio.fail_after(30):
            while os.path.exists(f"/proc/{pid}") and " Z " not in Path(f"/proc/{pid}/stat").read_text():
                await anyio.sleep(0.02)
