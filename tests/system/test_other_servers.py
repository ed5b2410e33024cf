"""Servers that are not AWS, each of which does one thing in its own way, and what is no S3 server at all."""

from __future__ import annotations

import gc
import re
import uuid
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

import support.other_servers as other_servers
from buildrunner.errors import BuildFailed
from buildrunner.s3.bucket import Bucket
from buildrunner.s3.client import open_s3
from support.harness import PLAIN, Program, Repositories, _s3_client
from support.other_servers import Server
from support.relay import Exchange, Fault, Relay, Request, answer, cut_after_the_body
from support.s3_server import S3Server, s3_server
from support.uploads import bodies_of, make_upload, publish, site_of

pytestmark = pytest.mark.anyio

OLD, NEW = "assets/index-B4x9ZQab.js", "assets/index-C7yTr2Kd.js"
LARGE = "x" * (17 * 2**20)
both_ways = pytest.mark.parametrize("hot", [True, False], ids=["hot path", "aiobotocore"])


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Iterator[S3Server]:
    with s3_server() as running:
        running.make_bucket("site")
        yield running


@pytest.fixture(autouse=True)
def aws(server: S3Server, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (server.environment() | {"AWS_EC2_METADATA_DISABLED": "true"}).items():
        monkeypatch.setenv(name, value)


@pytest.fixture
def prefix() -> str:
    return f"test-{uuid.uuid4().hex[:12]}/"


@pytest.fixture
def relay(server: S3Server) -> Iterator[Relay]:
    with Relay(urlsplit(server.endpoint).port or 0) as relay:
        yield relay


@asynccontextmanager
async def bucket_behind(relay: Relay, *, hot: bool = True) -> AsyncIterator[Bucket]:
    async with open_s3(region="us-east-1", endpoint_url=f"http://127.0.0.1:{relay.port}", concurrency=8) as s3:
        if hot:
            await s3.warm_up("site")
        yield s3.bucket("site")


class Deployments:
    """One site after another by the same server; each run makes a client of its own."""

    def __init__(self, relay: Relay, prefix: str, folder: Path, *, hot: bool = True) -> None:
        self.warnings: list[str] = []
        self._relay, self._prefix, self._folder, self._hot = relay, prefix, folder, hot
        self._count = 0

    async def deploy(self, files: dict[str, str]) -> list[str]:
        """Publish a site, and give the requests that it took."""
        self._count += 1
        before = len(self._relay.requests)
        build = f"build-{self._count}"
        async with bucket_behind(self._relay, hot=self._hot) as bucket:
            with site_of(self._folder / build, files) as site:
                upload = make_upload(
                    bucket, self._prefix, build=build, run=self._count, asset_grace=0, warnings=self.warnings
                )
                await publish(upload, site, build, self._prefix)
        return self._relay.requests[before:]

    def sent(self, requests: list[str]) -> set[str]:
        start = f"PUT /site/{self._prefix}"
        return {request.removeprefix(start) for request in requests if request.startswith(start)}


async def stored(server: S3Server, prefix: str) -> dict[str, str]:
    async with open_s3(region="us-east-1", endpoint_url=server.endpoint, concurrency=8) as s3:
        return await bodies_of(s3.bucket("site"), prefix)


# --- checksums ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "hot"), [("B2: 400", True), ("B2: 400", False), ("R2: 501", True), ("GCS: 403", True)]
)
async def test_refused_checksums_are_left_out_for_the_whole_build(
    server: S3Server, relay: Relay, prefix: str, tmp_path: Path, name: str, hot: bool
) -> None:
    refuse = other_servers.REFUSE_CHECKSUMS[name]
    refused: list[str] = []

    def count(request: Request) -> Fault | None:
        fault = refuse(request)
        if fault:
            refused.append(str(request))
        return fault

    relay.fault = count
    site = {f"{number}.js": str(number) for number in range(20)} | {"index.html": "1", "large.js": LARGE}
    deployments = Deployments(relay, prefix, tmp_path, hot=hot)
    await deployments.deploy(site)

    assert len(refused) == 1, "the first request finds it out"
    assert await stored(server, prefix) == site
    assert [warning for warning in deployments.warnings if "checksums" in warning] == [
        "The S3 server refuses SHA-256 checksums, so objects are verified by MD5 instead."
    ]
    assert deployments.sent(await deployments.deploy(site)) == set()


@both_ways
async def test_without_checksums_a_changed_body_is_still_refused(
    relay: Relay, prefix: str, tmp_path: Path, hot: bool
) -> None:
    async def change(exchange: Exchange) -> None:
        head = re.sub(rb"(?i)(\r\nx-amz-content-sha256: *)\w+", rb"\1UNSIGNED-PAYLOAD", exchange.request.head)
        await exchange.send_head(head)
        await exchange.send_body(change=lambda data: bytes(byte ^ 1 for byte in data))

    refuse = other_servers.REFUSE_CHECKSUMS["B2: 400"]
    relay.fault = lambda request: refuse(request) or (change if request.path.endswith("a.js") else None)

    with pytest.raises(BuildFailed):
        await Deployments(relay, prefix, tmp_path, hot=hot).deploy({"a.js": "1", "index.html": "1"})


async def test_a_changed_body_is_no_reason_to_omit_checksums(server: S3Server, relay: Relay, prefix: str) -> None:
    relay.fault = lambda _: answer(400, "BadDigest")
    async with bucket_behind(relay) as bucket:
        with pytest.raises(BuildFailed, match="arrived damaged"):
            await bucket.put(f"{prefix}a", b"1", content_type="text/plain")

        assert bucket.takes_checksums


# --- deletions ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", other_servers.REFUSE_MANY)
async def test_where_many_cannot_be_deleted_at_once_each_is(
    server: S3Server, relay: Relay, prefix: str, tmp_path: Path, name: str
) -> None:
    relay.fault = other_servers.REFUSE_MANY[name]
    deployments = Deployments(relay, prefix, tmp_path)
    await deployments.deploy({f"{number}.js": str(number) for number in range(20)} | {"index.html": "1"})
    await deployments.deploy({"index.html": "1"})

    assert await stored(server, prefix) == {"index.html": "1"}
    assert deployments.warnings == []


async def test_a_deletion_that_is_refused_one_by_one_is_told(relay: Relay, prefix: str, tmp_path: Path) -> None:
    refuse = other_servers.REFUSE_MANY["none: 501"]
    relay.fault = lambda request: (
        refuse(request) or (answer(403, "AccessDenied") if request.method == "DELETE" else None)
    )
    deployments = Deployments(relay, prefix, tmp_path)
    await deployments.deploy({"a.js": "1", "index.html": "1"})
    await deployments.deploy({"index.html": "1"})

    (warning,) = deployments.warnings
    assert "Removing 1 obsolete file failed: S3 answered AccessDenied" in warning


# --- ETags and conditions ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "conditions"),
    [
        *((name, "known") for name in other_servers.ETAGS),
        ("no quotes", "refused"),
        ("no quotes", "ignored"),
        ("none at all", "refused"),
    ],
)
async def test_etags_in_any_form_are_compared_by_what_they_say(
    server: S3Server, relay: Relay, prefix: str, tmp_path: Path, name: str, conditions: str
) -> None:
    rewrite = other_servers.ETAGS[name]

    def fault(request: Request) -> Fault | None:
        conditional = b"\r\nif-match:" in request.head.lower() or b"\r\nif-none-match:" in request.head.lower()
        if conditional and conditions == "refused":
            return answer(501, "NotImplemented")
        if conditional and conditions == "ignored":
            return other_servers.ignoring_conditions(server.access_key, server.secret_key)
        return rewrite(request)

    relay.fault = fault
    site = {"index.html": "1", "a.css": "1", "b.js": "1", OLD: "1"}
    deployments = Deployments(relay, prefix, tmp_path)
    first = deployments.sent(await deployments.deploy(site))
    second = deployments.sent(await deployments.deploy(site | {"a.css": "2"}))

    assert first == site.keys()
    assert second == (site.keys() if name == "none at all" else {"a.css"})
    assert await stored(server, prefix) == site | {"a.css": "2"}
    assert all("does not support conditional writes" in warning for warning in deployments.warnings)
    assert not any("/ended/" in request for request in relay.requests), "nobody has taken over"


# --- files and folders -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("listing", ["allowed", "refused"])
@pytest.mark.parametrize(
    ("before", "after"),
    [
        ({"about": "1"}, {"about/index.html": "2", "about/a.js": "2", "about/b/c.js": "2"}),
        ({"about/index.html": "1", "about/b/c.js": "1"}, {"about": "2"}),
        ({"a/b/c/d.js": "1"}, {"a/b": "2"}),
        ({"about.html": "1", OLD: "1"}, {"about.html/index.html": "2", "assets": "2"}),
    ],
    ids=["file to folder", "folder to file", "deep", "page and assets"],
)
async def test_a_file_may_become_a_folder_and_a_folder_a_file(
    server: S3Server,
    relay: Relay,
    prefix: str,
    tmp_path: Path,
    before: dict[str, str],
    after: dict[str, str],
    listing: str,
) -> None:
    refuse = other_servers.with_folders(_s3_client(server.endpoint, server.access_key, server.secret_key))
    is_listing: Callable[[Request], bool] = lambda request: "list-type" in request.query  # noqa: E731
    relay.fault = lambda request: (
        answer(403, "AccessDenied") if listing == "refused" and is_listing(request) else refuse(request)
    )
    page = {"index.html": "1"}
    deployments = Deployments(relay, prefix, tmp_path)
    await deployments.deploy(before | page)
    await deployments.deploy(after | page)

    assert await stored(server, prefix) == after | page
    if listing == "allowed":
        assert deployments.warnings == []
        assert deployments.sent(await deployments.deploy(after | page)) == set()


async def test_nothing_live_is_replaced_before_the_second_check(
    server: S3Server, relay: Relay, prefix: str, tmp_path: Path
) -> None:
    relay.fault = other_servers.with_folders(_s3_client(server.endpoint, server.access_key, server.secret_key))
    await Deployments(relay, prefix, tmp_path).deploy({"about": "1", "index.html": "1"})
    async with bucket_behind(relay) as bucket:
        with site_of(tmp_path / "2", {"about/a.js": "2", "index.html": "2"}) as site:
            upload = make_upload(bucket, prefix, build="b", run=2)
            await upload.plan(site, on_progress=lambda _files, _bytes: None)
            await upload.send_new()

            assert await stored(server, prefix) == {"about": "1", "index.html": "1"}


async def test_a_failure_of_another_kind_removes_nothing(
    server: S3Server, relay: Relay, prefix: str, tmp_path: Path
) -> None:
    deployments = Deployments(relay, prefix, tmp_path)
    await deployments.deploy({"about": "1", "index.html": "1"})
    full = answer(507, "XMinioStorageFull")
    relay.fault = lambda request: full if request.path.endswith("/about/index.html") else None

    with pytest.raises(BuildFailed, match="no space left"):
        await deployments.deploy({"about/index.html": "2", "index.html": "1"})
    assert (await stored(server, prefix))["about"] == "1"


# --- lost answers ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checksums", [True, False], ids=["by its checksum", "by its ETag"])
async def test_a_multipart_object_whose_last_reply_is_lost_is_found(
    server: S3Server, relay: Relay, prefix: str, tmp_path: Path, checksums: bool
) -> None:
    """As MinIO and Ceph forget an upload when it is complete: whoever asks again is told NoSuchUpload."""
    refuse = other_servers.REFUSE_CHECKSUMS["B2: 400"]

    def fault(request: Request) -> Fault | None:
        if request.method == "POST" and "uploadId" in request.query:
            return cut_after_the_body if request.times == 1 else answer(404, "NoSuchUpload")
        return None if checksums else refuse(request)

    relay.fault = fault
    site = {"large.js": LARGE, "index.html": "1"}
    deployments = Deployments(relay, prefix, tmp_path)
    await deployments.deploy(site)

    assert await stored(server, prefix) == site
    assert deployments.sent(await deployments.deploy(site)) == set()


async def test_an_upload_that_the_server_lost_begins_anew_once(
    server: S3Server, relay: Relay, prefix: str, tmp_path: Path
) -> None:
    """What is there is another object of the same size: it is not taken for this one."""
    site = {"large.js": LARGE, "index.html": "1"}
    deployments = Deployments(relay, prefix, tmp_path)
    await deployments.deploy(site)
    lost: list[Request] = []

    def fault(request: Request) -> Fault | None:
        if request.method == "POST" and "uploadId" in request.query:
            lost.append(request)
            return answer(404, "NoSuchUpload") if len(lost) == 1 else None
        return None

    relay.fault = fault
    await deployments.deploy(site | {"large.js": LARGE.replace("x", "y")})

    assert len(lost) == 2
    assert await stored(server, prefix) == site | {"large.js": LARGE.replace("x", "y")}


async def test_what_is_not_known_to_be_unchanged_is_not_said_to_be(
    server: S3Server, relay: Relay, prefix: str, tmp_path: Path
) -> None:
    deployments = Deployments(relay, prefix, tmp_path)
    await deployments.deploy({"index.html": "1"})
    relay.fault = lambda request: (
        cut_after_the_body if request.method == "PUT" and request.path.endswith("index.html") else None
    )
    async with bucket_behind(relay, hot=False) as bucket:
        with site_of(tmp_path / "2", {"index.html": "2"}) as site:
            upload = make_upload(bucket, prefix, build="b", run=2)
            await upload.plan(site, on_progress=lambda _files, _bytes: None)
            await upload.send_new()
            await upload.begin()
            with pytest.raises(BuildFailed):
                await upload.publish()

    assert await stored(server, prefix) == {"index.html": "2"}
    assert upload.what_is_new == "It is not known whether S3 stored index.html."


# --- listings ----------------------------------------------------------------------------------------------------------


async def test_a_server_with_listings_version_1_is_listed_to_the_end(
    server: S3Server, relay: Relay, prefix: str, tmp_path: Path
) -> None:
    async def as_first_version(exchange: Exchange) -> None:
        # Signed anew by nobody: the real server is asked as it is, and its answer is that of the first version.
        change = other_servers._rewriting(rb"<(NextContinuationToken|KeyCount)>[^<]*</\1>", b"")
        await change(exchange)

    async with bucket_behind(relay) as bucket:
        for number in range(1_010):
            await bucket.put(f"{prefix}{number:04}", b"", content_type="text/plain")
        relay.fault = lambda request: as_first_version if "list-type" in request.query else None

        assert len(await bucket.list_objects(prefix)) == 1_010


# --- no S3 at all ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", other_servers.NOT_S3)
async def test_what_is_no_s3_server_is_a_reason_in_words(relay: Relay, prefix: str, tmp_path: Path, name: str) -> None:
    relay.fault = other_servers.NOT_S3[name]
    with pytest.raises(BuildFailed) as failed:
        await Deployments(relay, prefix, tmp_path).deploy({"index.html": "1"})

    assert failed.value.exit_code == 50
    assert f"127.0.0.1:{relay.port}" in failed.value.reason or "region" in failed.value.reason
    assert "AWS_ENDPOINT_URL_S3" in (failed.value.hint or "") or "AWS_REGION" in (failed.value.hint or "")
    assert len(failed.value.reason.split()) <= 25


# aiobotocore leaves the connection of a redirect that it does not follow to the collector.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.parametrize("name", ["a page for everything", "well-formed XML", "404", "301 without region", "empty"])
async def test_whatever_a_put_is_answered_with_is_stored_or_a_reason(
    server: S3Server, relay: Relay, prefix: str, tmp_path: Path, name: str
) -> None:
    """The rest goes well, so that it is no listing that tells."""
    wrong: Server = other_servers.NOT_S3[name]
    relay.fault = lambda request: (
        wrong(request) if f"/{prefix}" in request.path and "list" not in request.query else None
    )
    with pytest.raises(BuildFailed) as failed:
        await Deployments(relay, prefix, tmp_path).deploy({"index.html": "1", "a.js": "1", "large.js": LARGE})
    gc.collect()  # here, not in whatever test runs then

    assert failed.value.exit_code == 50


def test_a_build_has_a_result_and_an_end_word_whatever_answers(
    program: Program, repositories: Repositories, s3: S3Server
) -> None:
    with Relay(urlsplit(s3.endpoint).port or 0) as relay:
        relay.fault = other_servers.NOT_S3["deep XML"]
        run = program.run(repositories.app(), AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{relay.port}", **PLAIN)

    assert run.code == 50
    assert run.result["stage"] == "upload"
    assert run.messages[-1].startswith("Failed: ")
    assert "Traceback" not in run.stdout + run.stderr
    assert run.said("was not archived")


def test_a_log_that_cannot_be_archived_leaves_the_result(
    program: Program, repositories: Repositories, s3: S3Server
) -> None:
    with Relay(urlsplit(s3.endpoint).port or 0) as relay:
        wrong = other_servers.web_page(200)
        relay.fault = lambda request: wrong if "/__logs/" in request.path else None
        run = program.run(repositories.app(), AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{relay.port}", **PLAIN)

    assert run.code == 0
    assert run.messages[-1] == "Done"
    assert run.said("was not archived")
    assert "Traceback" not in run.stdout + run.stderr
