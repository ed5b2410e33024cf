"""One deployment after another, and two at once: what is sent, kept, removed, and whose site it is at the end."""

from __future__ import annotations

import asyncio
import itertools
import json
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partialmethod
from pathlib import Path
from typing import Any

import anyio
import pytest

from buildrunner.errors import BuildFailed, BuildSuperseded
from buildrunner.publish.files import Site
from buildrunner.publish.headers import IMMUTABLE, REVALIDATE
from buildrunner.publish.manifest import Manifest
from buildrunner.s3.bucket import Bucket, Fetched, Listed
from buildrunner.s3.client import open_s3
from buildrunner.s3.errors import ConditionsUnsupported
from buildrunner.s3.object_writer import Stored
from support.s3_server import S3Server, s3_server
from support.uploads import bodies_of, make_upload, publish, site_of

pytestmark = pytest.mark.anyio

OLD, NEW = "assets/index-B4x9ZQab.js", "assets/index-C7yTr2Kd.js"


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


class Recorder(Bucket):
    """A bucket that remembers what was asked of it, and can be made to wait before any of it."""

    def __init__(self, bucket: Bucket, before: Callable[[str], Awaitable[None]] | None = None) -> None:
        self.__dict__.update(vars(bucket))
        self.written: list[str] = []
        self.deleted: list[str] = []
        self._before = before

    async def _wait(self, what: str) -> None:
        if self._before:
            await self._before(what)

    async def put_file(self, key: str, *args: Any, **named: Any) -> Stored:
        await self._wait(f"put {key}")
        stored = await super().put_file(key, *args, **named)
        self.written.append(key)
        return stored

    async def put(self, key: str, body: bytes, **named: Any) -> None:
        await self._wait(f"put {key}")
        await super().put(key, body, **named)

    async def put_if(self, key: str, body: bytes, **named: Any) -> str | None:
        await self._wait(f"put {key}")
        return await super().put_if(key, body, **named)

    async def get(self, key: str, **named: Any) -> Fetched | None:
        await self._wait(f"get {key}")
        return await super().get(key, **named)

    async def lines(self, key: str) -> AsyncGenerator[list[bytes]]:
        await self._wait(f"lines {key}")
        async for lines in super().lines(key):
            yield lines

    async def list_objects(self, prefix: str) -> dict[str, Listed]:
        await self._wait("list")
        return await super().list_objects(prefix)

    async def delete(self, keys: Any) -> dict[str, str]:
        await self._wait("delete")
        self.deleted += keys
        return await super().delete(keys)


@asynccontextmanager
async def bucket_of(server: S3Server) -> AsyncIterator[Bucket]:
    async with open_s3(region="us-east-1", endpoint_url=server.endpoint, concurrency=8) as s3:
        await s3.warm_up("site")
        yield s3.bucket("site")


async def deploy(
    bucket: Bucket, prefix: str, folder: Path, files: dict[str, str], *, build: str = "a", **named: Any
) -> tuple[Recorder, str | None]:
    """Publish a site as a run does, and give what was asked of the bucket and what is said at the end."""
    recorder = Recorder(bucket)
    with site_of(folder, files) as site:
        said = await publish(make_upload(recorder, prefix, build=build, **named), site, build, prefix)
    return recorder, said


async def manifest_of(bucket: Bucket, prefix: str, build: str) -> Manifest:
    fetched = await bucket.get(f"__manifests/{prefix}{build}.json", most=10**6)
    assert fetched
    manifest = Manifest.parse(fetched.body)
    assert manifest
    return manifest


async def test_a_second_run_sends_only_what_changed_in_body_or_headers(
    server: S3Server, prefix: str, tmp_path: Path
) -> None:
    files = {"index.html": "one", "robots.txt": "same", "style.css": "same", OLD: "code", "about.html": "same"}
    async with bucket_of(server) as bucket:
        first, _ = await deploy(bucket, prefix, tmp_path / "1", files)
        same, said = await deploy(bucket, prefix, tmp_path / "2", files, build="b")
        changed, _ = await deploy(bucket, prefix, tmp_path / "3", {**files, "index.html": "two", "style.css": "new"})
        # Written by something else since: its ETag is not the one that the manifest names.
        await bucket.put(f"{prefix}robots.txt", b"theirs", content_type="text/plain")
        mended, _ = await deploy(bucket, prefix, tmp_path / "3", {})

        assert sorted(first.written) == sorted(prefix + path for path in files)
        assert (same.written, same.deleted, said) == ([], [], None)
        assert changed.written == [f"{prefix}style.css", f"{prefix}index.html"]
        assert mended.written == [f"{prefix}robots.txt"]
        assert await bodies_of(bucket, prefix) == {**files, "index.html": "two", "style.css": "new"}


async def test_headers_that_are_no_longer_right_are_sent_again(
    server: S3Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with bucket_of(server) as bucket:
        with monkeypatch.context() as patch:
            patch.setattr("buildrunner.publish.walk.content_type", lambda _path: "text/plain")
            await deploy(bucket, prefix, tmp_path, {"index.html": "one", "a.css": "two"})
        again, _ = await deploy(bucket, prefix, tmp_path, {})

    assert sorted(again.written) == [f"{prefix}a.css", f"{prefix}index.html"]


async def test_the_first_run_after_an_old_script_fixes_all_headers(
    server: S3Server, prefix: str, tmp_path: Path
) -> None:
    async with bucket_of(server) as bucket:
        for path in ("index.html", "style.css"):
            await bucket.put(prefix + path, b"same", content_type="binary/octet-stream")
        recorder, _ = await deploy(bucket, prefix, tmp_path, {"index.html": "same", "style.css": "same"})
        head = await bucket._client.head_object(Bucket="site", Key=f"{prefix}style.css")

    assert recorder.written == [f"{prefix}style.css", f"{prefix}index.html"]
    assert (head["ContentType"], head["CacheControl"]) == ("text/css; charset=utf-8", REVALIDATE)


async def test_hashed_assets_stay_for_the_grace_and_other_files_do_not(
    server: S3Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    unknown = "assets/vendor-D9fKp3Qz.js"
    async with bucket_of(server) as bucket:
        await bucket.put(prefix + unknown, b"of an old script", content_type="text/javascript")
        await deploy(bucket, prefix, tmp_path / "1", {"index.html": "1", "gone.html": "1", "a.txt": "1", OLD: "1"})
        second, said = await deploy(bucket, prefix, tmp_path / "2", {"index.html": "2", NEW: "2"}, build="second")
        assert sorted(second.deleted) == [f"{prefix}a.txt", f"{prefix}gone.html"]
        assert said == "Removed 2 obsolete files, kept 2 files of earlier builds for open tabs."
        assert set((await manifest_of(bucket, prefix, "second")).kept) == {prefix + OLD, prefix + unknown}

        now += 3599  # counted from the second deployment, for the unknown one from the first
        third, _ = await deploy(bucket, prefix, tmp_path / "3", {"index.html": "3", NEW: "2"}, build="third")
        assert third.deleted == []
        now += 2
        fourth, _ = await deploy(bucket, prefix, tmp_path / "3", {}, build="fourth")
        assert sorted(fourth.deleted) == sorted([prefix + OLD, prefix + unknown])
        assert set(await bodies_of(bucket, prefix)) == {"index.html", NEW}


async def test_too_many_assets_are_removed_early(
    server: S3Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where no manifest is ever read, so that all of them seem to be new."""
    monkeypatch.setattr("buildrunner.publish.retention.MAX_KEPT", 3)
    warnings: list[str] = []
    async with bucket_of(server) as bucket:
        for number in range(7):
            asset = f"assets/index-B4x9ZQa{number}.js"
            await deploy(bucket, prefix, tmp_path / str(number), {asset: "1"}, build=f"b{number}", warnings=warnings)
            await bucket.put(f"__manifests/{prefix}b{number}.json", b"", content_type="application/json")

        there = set(await bodies_of(bucket, prefix))
        assert len(there) == 4
        assert "assets/index-B4x9ZQa6.js" in there
    assert all("before ASSET_GRACE has passed" in warning for warning in warnings)
    assert len(warnings) == 3


async def test_a_full_manifest_is_read_back_with_a_warning(
    server: S3Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buildrunner.publish.lock.MAX_BYTES", 1000)
    monkeypatch.setattr("buildrunner.publish.manifest.Manifest.to_json", partialmethod(Manifest.to_json, 1000))
    warnings: list[str] = []
    files = {f"{number}.css": "1" for number in range(9)}
    async with bucket_of(server) as bucket:
        await deploy(bucket, prefix, tmp_path / "1", files | {OLD: "1"}, build="a")
        second, _ = await deploy(bucket, prefix, tmp_path / "2", files, build="b", warnings=warnings)

        assert 0 < len(second.written) < len(files)
        assert (await manifest_of(bucket, prefix, "b")).kept.keys() == {prefix + OLD}
    assert len(warnings) == 1
    assert "The manifest is full" in warnings[0]


async def test_an_asset_that_returns_gets_a_new_grace_period(
    server: S3Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now)
    async with bucket_of(server) as bucket:
        for number, asset in enumerate((OLD, NEW, OLD, NEW)):
            recorder, _ = await deploy(bucket, prefix, tmp_path / str(number), {asset: asset})
            now += 3000
            assert recorder.deleted == []
        assert set(await bodies_of(bucket, prefix)) == {OLD, NEW}


async def test_a_grace_of_zero_removes_old_assets_at_once(server: S3Server, prefix: str, tmp_path: Path) -> None:
    async with bucket_of(server) as bucket:
        await deploy(bucket, prefix, tmp_path / "1", {OLD: "1"}, asset_grace=0)
        recorder, _ = await deploy(bucket, prefix, tmp_path / "2", {NEW: "1"}, asset_grace=0)

    assert recorder.deleted == [prefix + OLD]


async def test_the_manifest_names_all_that_was_published(server: S3Server, prefix: str, tmp_path: Path) -> None:
    async with bucket_of(server) as bucket:
        await deploy(bucket, prefix, tmp_path / "1", {OLD: "1"})
        await deploy(bucket, prefix, tmp_path / "2", {"index.html": "<p>", NEW: "code"}, build="b")
        fetched = await bucket.get(f"__manifests/{prefix}b.json", most=10**6)
        there = await bucket.list_objects(prefix)
    assert fetched
    document = json.loads(fetched.body)

    (kept,) = document.pop("kept")
    assert kept["key"] == prefix + OLD
    page, asset = sorted(document.pop("objects"), key=lambda each: each["key"], reverse=True)
    assert page == {
        "key": f"{prefix}index.html",
        "size": 3,
        "sha256": "7774d87fc9446b8de28cb0ffaa4f0c5bff29372f8cf60fb39255f28ca1a95dca",
        "content_type": "text/html; charset=utf-8",
        "cache_control": REVALIDATE,
        "etag": there[f"{prefix}index.html"].etag,
    } | {"sha256": page["sha256"]}
    assert (asset["key"], asset["cache_control"]) == (prefix + NEW, IMMUTABLE)
    assert document.pop("published")[:10] == time.strftime("%Y-%m-%d", time.gmtime())
    assert document == {
        "v": 1,
        "build": "b",
        "slug": prefix.rstrip("/"),
        "bucket": "site",
        "prefix": prefix,
        "commit": "c" * 40,
        "files": 2,
        "bytes": 7,
    }


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b'{"v": 1, "objects": [7]}', b"\xff\xfe", b"[" * 100_000])
@pytest.mark.parametrize("name", ["a", "current"])
async def test_a_damaged_manifest_or_pointer_costs_only_time(
    server: S3Server, prefix: str, tmp_path: Path, name: str, damage: bytes
) -> None:
    warnings: list[str] = []
    async with bucket_of(server) as bucket:
        await deploy(bucket, prefix, tmp_path / "1", {"index.html": "1", "a.css": "1", OLD: "1"})
        await bucket.put(f"__manifests/{prefix}{name}.json", damage, content_type="application/json")
        recorder, _ = await deploy(
            bucket, prefix, tmp_path / "2", {"index.html": "1", "a.css": "2"}, build="b", warnings=warnings
        )
        again, _ = await deploy(bucket, prefix, tmp_path / "2", {}, build="c")

        assert recorder.written == [f"{prefix}a.css", f"{prefix}index.html"]
        assert again.written == []
        assert await bodies_of(bucket, prefix) == {"index.html": "1", "a.css": "2", OLD: "1"}
    assert warnings == []


async def test_a_large_file_that_is_the_same_is_not_sent_again(server: S3Server, prefix: str, tmp_path: Path) -> None:
    async with bucket_of(server) as bucket:
        first, _ = await deploy(bucket, prefix, tmp_path, {"film.mp4": "frame" * 4_000_000})
        second, _ = await deploy(bucket, prefix, tmp_path, {})
        manifest = await manifest_of(bucket, prefix, "a")

    assert (len(first.written), second.written) == (1, [])
    assert manifest.objects[f"{prefix}film.mp4"].sha256.endswith("-3")


async def test_a_bucket_that_ignores_conditions_is_reported_once(server: S3Server, prefix: str, tmp_path: Path) -> None:
    class Ignoring(Recorder):
        async def put_if(self, key: str, body: bytes, **named: Any) -> str | None:
            await self.put(key, body, content_type=named["content_type"])
            return (await self.list_objects(key))[key].etag

    class Refusing(Recorder):
        async def put_if(self, key: str, body: bytes, **named: Any) -> str | None:
            raise ConditionsUnsupported

    async with bucket_of(server) as bucket:
        for number, kind in enumerate((Ignoring, Refusing, Ignoring)):
            warnings: list[str] = []
            recorder = kind(bucket)
            with site_of(tmp_path, {"index.html": str(number), "same.css": "same"}) as site:
                upload = make_upload(recorder, prefix, build=str(number), warnings=warnings)
                await publish(upload, site, str(number), prefix)
            assert [sentence.partition(" (")[0] for sentence in warnings] == [
                "The S3 server does not support conditional writes"
            ]
            assert len(recorder.written) == (1 if number else 2)
            assert (await bodies_of(bucket, prefix))["index.html"] == str(number)
        superseded = make_upload(Ignoring(bucket), prefix, build="x", run=1)
        await superseded.survey()
        await deploy(bucket, prefix, tmp_path, {"index.html": "later"}, run=2)
        with pytest.raises(BuildSuperseded):
            await superseded.begin()


async def test_without_a_state_bucket_all_is_sent_with_one_warning(
    server: S3Server, prefix: str, tmp_path: Path
) -> None:
    warnings: list[str] = []
    async with open_s3(region="us-east-1", endpoint_url=server.endpoint, concurrency=8) as s3:
        for _ in range(2):
            warnings.clear()
            recorder = Recorder(s3.bucket("site"))
            upload = make_upload(recorder, prefix, warnings=warnings, state=s3.bucket("no-such-bucket"))
            with site_of(tmp_path, {"index.html": "1", "a.css": "1"}) as site:
                await publish(upload, site, "a", prefix)
            assert sorted(recorder.written) == [f"{prefix}a.css", f"{prefix}index.html"]
            assert [sentence[:45] for sentence in warnings] == [
                "The bucket no-such-bucket does not exist. Thi",
                "The manifest of this build was not stored, so",
            ]


async def test_refused_deletions_are_warnings_and_retried_next_time(
    server: S3Server, prefix: str, tmp_path: Path
) -> None:
    class Refusing(Recorder):
        async def delete(self, keys: Any) -> dict[str, str]:
            return dict.fromkeys(keys, "AccessDenied")

    warnings: list[str] = []
    async with bucket_of(server) as bucket:
        await deploy(bucket, prefix, tmp_path / "1", {"index.html": "1", "gone.html": "1"})
        with site_of(tmp_path / "2", {"index.html": "1"}) as site:
            await publish(make_upload(Refusing(bucket), prefix, build="b", warnings=warnings), site, "b", prefix)
        next_one, _ = await deploy(bucket, prefix, tmp_path / "2", {}, build="c")

    assert warnings == [
        "Removing 1 obsolete file failed: S3 answered AccessDenied for"
        f" {prefix}gone.html. Allow s3:DeleteObject to the credentials or task role of buildrunner."
    ]
    assert next_one.deleted == [f"{prefix}gone.html"]


@pytest.mark.parametrize("build", ["killed", "a"], ids=["with an id of its own", "with the id of the one before"])
async def test_a_run_killed_while_publishing_only_delays_the_next_one(
    server: S3Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, build: str
) -> None:
    monkeypatch.setattr("buildrunner.publish.uploader.EARLIER_BUILD_SECONDS", 1.0)
    async with bucket_of(server) as bucket:
        await deploy(bucket, prefix, tmp_path / "1", {"index.html": "1", "a.css": "1"}, build="a")
        with site_of(tmp_path / "2", {"index.html": "2", "a.css": "2"}) as site:
            killed = make_upload(bucket, prefix, build=build, run=2)
            await killed.plan(site, on_progress=lambda _files, _bytes: None)
            await killed.send_new()
            await killed.begin()
        recorder, _ = await deploy(bucket, prefix, tmp_path / "1", {}, build="c", run=3)
        again, _ = await deploy(bucket, prefix, tmp_path / "1", {}, build="d", run=4)

        assert sorted(recorder.written) == [f"{prefix}a.css", f"{prefix}index.html"]
        assert again.written == []
        assert await bodies_of(bucket, prefix) == {"index.html": "1", "a.css": "1"}


async def test_a_run_that_fails_while_it_publishes_holds_nobody_up(
    server: S3Server, prefix: str, tmp_path: Path
) -> None:
    async with bucket_of(server) as bucket:
        with site_of(tmp_path, {"index.html": "1", "a.css": "1"}) as site:
            failing = make_upload(bucket, prefix, build="failing", run=2)
            await failing.plan(site, on_progress=lambda _files, _bytes: None)
            await failing.send_new()
            await failing.begin()
            (tmp_path / "index.html").write_text("changed")
            with pytest.raises(BuildFailed, match="changed during upload"):
                await failing.publish()
        with anyio.fail_after(10):
            recorder, _ = await deploy(bucket, prefix, tmp_path, {}, build="b", run=3)
        again, _ = await deploy(bucket, prefix, tmp_path, {}, build="c", run=4)

    assert sorted(recorder.written) == [f"{prefix}a.css", f"{prefix}index.html"]
    assert again.written == []


async def test_a_run_stopped_while_publishing_costs_what_it_touched(
    server: S3Server, prefix: str, tmp_path: Path
) -> None:
    """The next one neither waits nor sends all: what was replaced, and what was under way, is what it sends."""

    async def hold(what: str) -> None:
        await anyio.sleep(0.01)  # also before the record of the stop, which a second cancellation must not prevent
        if what == f"put {prefix}b.html":
            await anyio.sleep_forever()

    before = {"index.html": "1", "a.css": "1", "b.html": "1", "c.html": "1", "d.css": "1"}
    async with bucket_of(server) as bucket:
        await deploy(bucket, prefix, tmp_path / "1", before, build="a")
        with site_of(tmp_path / "2", before | {"a.css": "2", "b.html": "2"}) as site:
            stopped = make_upload(Recorder(bucket, hold), prefix, build="stopped", run=2)
            with anyio.move_on_after(2):
                await publish(stopped, site, "stopped", prefix)
        with anyio.fail_after(20):
            recorder, _ = await deploy(bucket, prefix, tmp_path / "3", before, build="c", run=3)

        assert sorted(recorder.written) == [f"{prefix}a.css", f"{prefix}b.html"]
        assert await bodies_of(bucket, prefix) == before


class NoAnswerOncePublishing(Recorder):
    """A bucket that stores that a build publishes, and does not answer."""

    async def put_if(self, key: str, body: bytes, **named: Any) -> str | None:
        answer = await super().put_if(key, body, **named)
        if b'"publishing"' in body:
            await anyio.sleep_forever()
        return answer


async def test_a_run_stopped_as_it_begins_to_publish_holds_nobody_up(
    server: S3Server, prefix: str, tmp_path: Path
) -> None:
    files = {"index.html": "1", "a.css": "1"}
    async with bucket_of(server) as bucket:
        await deploy(bucket, prefix, tmp_path / "1", files, build="a")
        with site_of(tmp_path / "2", files | {"index.html": "2"}) as site:
            stopped = make_upload(NoAnswerOncePublishing(bucket), prefix, build="stopped", run=2)
            await stopped.plan(site, on_progress=lambda _files, _bytes: None)
            await stopped.send_new()
            with anyio.move_on_after(1) as scope:
                await stopped.begin()
        assert scope.cancelled_caught
        with anyio.fail_after(20):
            recorder, _ = await deploy(bucket, prefix, tmp_path / "1", {}, build="c", run=3)

        assert recorder.written == []


async def test_a_run_stopped_while_waiting_for_another_holds_nobody_up(
    server: S3Server, prefix: str, tmp_path: Path
) -> None:
    """Its pages are live, and it waits for new keys of the build that it superseded."""
    before = {"index.html": "1", "a.css": "1", "same.css": "1"}
    async with bucket_of(server) as bucket:
        await deploy(bucket, prefix, tmp_path / "1", before, build="a")
        await make_upload(bucket, prefix, build="superseded", run=2).survey()
        with site_of(tmp_path / "2", before | {"index.html": "2", "a.css": "2"}) as site:
            stopped = make_upload(bucket, prefix, build="stopped", run=3)
            await stopped.plan(site, on_progress=lambda _files, _bytes: None)
            await stopped.send_new()
            await stopped.begin()
            await stopped.publish()
            with anyio.move_on_after(0.2) as scope:
                await stopped.tidy_up(build="stopped", slug=prefix.rstrip("/"), commit=None)
        assert scope.cancelled_caught
        with anyio.fail_after(20):
            recorder, _ = await deploy(bucket, prefix, tmp_path / "2", {}, build="c", run=4)

        assert sorted(recorder.written) == [f"{prefix}a.css", f"{prefix}index.html"]


@pytest.mark.parametrize("held", ["delete", "put __manifests/{}b.json", "list"])
async def test_a_run_stopped_once_its_pages_are_live_has_published(
    server: S3Server, prefix: str, tmp_path: Path, held: str
) -> None:
    async def hold(what: str) -> None:
        if stuck and what == held.format(prefix):
            stuck.clear()
            await anyio.sleep_forever()

    stuck: list[bool] = []
    async with bucket_of(server) as bucket:
        await deploy(bucket, prefix, tmp_path / "1", {"index.html": "1", "a.css": "1", "gone.txt": "1"}, build="a")
        with site_of(tmp_path / "2", {"index.html": "2", "a.css": "1"}) as site:
            upload = make_upload(Recorder(bucket, hold), prefix, build="b", run=2)
            await upload.plan(site, on_progress=lambda _files, _bytes: None)
            await upload.send_new()
            await upload.begin()
            await upload.publish()
            stuck.append(True)
            with anyio.move_on_after(0 if held == "list" else 1):  # no time is left at all
                await upload.tidy_up(build="b", slug=prefix.rstrip("/"), commit=None)
        with anyio.fail_after(20):
            recorder, _ = await deploy(bucket, prefix, tmp_path / "2", {}, build="c", run=3)

        assert recorder.written == []
        assert await bodies_of(bucket, prefix) == {"index.html": "2", "a.css": "1"}


async def test_a_run_superseded_before_it_sent_anything_sends_nothing(
    server: S3Server, prefix: str, tmp_path: Path
) -> None:
    async with bucket_of(server) as bucket:
        recorder = Recorder(bucket)
        earlier = make_upload(recorder, prefix, build="earlier", run=1)
        with site_of(tmp_path / "1", {"index.html": "1", "new.txt": "1"}) as site:
            await earlier.plan(site, on_progress=lambda _files, _bytes: None)
            await make_upload(bucket, prefix, build="later", run=2).survey()
            with pytest.raises(BuildSuperseded):
                await earlier.send_new()
        assert recorder.written == []


async def test_new_keys_of_a_superseded_run_are_not_in_the_later_site(
    server: S3Server, prefix: str, tmp_path: Path
) -> None:
    """The later one begins while the earlier one is sending them, and both end as fast as they can."""
    sending, ended = anyio.Event(), list[str]()

    async def slowly(what: str) -> None:
        if what.endswith(".txt"):
            sending.set()
            await anyio.sleep(0.1)

    async with bucket_of(server) as bucket:
        earlier = make_upload(Recorder(bucket, slowly), prefix, build="earlier", run=1, concurrency=2)
        files = {"index.html": "1"} | {f"{number}.txt": "1" for number in range(100)}
        with site_of(tmp_path / "1", files) as first:

            async def run_earlier() -> None:
                with pytest.raises(BuildSuperseded):
                    await publish(earlier, first, "earlier", prefix)
                ended.append("superseded")

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(run_earlier)
                await sending.wait()
                await deploy(bucket, prefix, tmp_path / "2", {"index.html": "2"}, build="later", run=2)

        assert ended == ["superseded"]
        assert await bodies_of(bucket, prefix) == {"index.html": "2"}


async def test_a_second_check_without_a_reply_asks_once_more(
    server: S3Server, prefix: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("buildrunner.publish.lock.STEP_SECONDS", 0.5)

    async def hold(what: str) -> None:
        if stuck and what.startswith("put"):
            await anyio.sleep_forever()

    stuck = False
    async with bucket_of(server) as bucket:
        earlier = make_upload(Recorder(bucket, hold), prefix, build="earlier", run=1)
        with site_of(tmp_path / "1", {"index.html": "1"}) as site:
            await earlier.plan(site, on_progress=lambda _files, _bytes: None)
            await deploy(bucket, prefix, tmp_path / "2", {"index.html": "2"}, build="later", run=2)
            stuck = True
            with pytest.raises(BuildSuperseded):
                await earlier.begin()
        assert await bodies_of(bucket, prefix) == {"index.html": "2"}


async def test_an_earlier_run_that_claims_late_is_superseded(server: S3Server, prefix: str, tmp_path: Path) -> None:
    async with bucket_of(server) as bucket:
        late = make_upload(bucket, prefix, build="late", run=1)
        await deploy(bucket, prefix, tmp_path, {"index.html": "1"}, run=2)
        await late.survey()

        assert late.superseded
        with pytest.raises(BuildSuperseded):
            await late.begin()


# --- two at once -----------------------------------------------------------------------------------------------------
FIRST = {"index.html": "first", "page.html": "first", "a.css": "first", "first.txt": "first", OLD: "first"}
SECOND = {"index.html": "second", "a.css": "second", "second.txt": "second", NEW: "second", "page.html": "second"}


async def count_steps(bucket: Bucket, prefix: str, folder: Path) -> int:
    steps = itertools.count()

    async def count(_what: str) -> None:
        next(steps)

    with site_of(folder, FIRST) as site:
        await publish(make_upload(Recorder(bucket, count), prefix, build="first"), site, "first", prefix)
    return next(steps)


@pytest.mark.parametrize("how", ["the other to its end", "the other up to its second look"])
async def test_of_two_runs_at_once_the_later_site_is_whole(
    server: S3Server, tmp_path: Path, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The earlier is held before each of its requests in turn, and goes on when the later one has come to an end or half-way."""
    monkeypatch.setattr(
        "buildrunner.publish.uploader.EARLIER_BUILD_SECONDS", 4.0
    )  # one that is held for ever does not say that it ended
    async with bucket_of(server) as bucket:
        steps = await count_steps(bucket, f"count-{uuid.uuid4().hex[:8]}/", tmp_path / "count")
        assert steps >= 12
        await asyncio.gather(*(meet(bucket, tmp_path / str(step), step, how) for step in range(steps)))


async def meet(bucket: Bucket, folder: Path, step: int, how: str) -> None:
    prefix = f"meet-{uuid.uuid4().hex[:12]}/"
    began = time.monotonic()
    # What was there before is not what either of them publishes.
    await deploy(bucket, prefix, folder / "0", {"index.html": "0", "a.css": "0", "zero.txt": "0"}, build="zero", run=1)
    steps = itertools.count()
    held, go_on = anyio.Event(), anyio.Event()

    async def hold(_what: str) -> None:
        if next(steps) == step:
            held.set()
            await go_on.wait()

    earlier = make_upload(Recorder(bucket, hold), prefix, build="first", run=2, began=began)
    later = make_upload(bucket, prefix, build="second", run=3)
    ended: list[str] = []

    async def run_earlier(site: Site) -> None:
        try:
            await publish(earlier, site, "first", prefix)
            ended.append("published")
        except BuildSuperseded:
            ended.append("superseded")
        held.set()

    with site_of(folder / "1", FIRST) as first, site_of(folder / "2", SECOND) as second:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(run_earlier, first)
            await held.wait()
            if how == "the other to its end":
                await publish(later, second, "second", prefix)
                go_on.set()
            else:
                await later.survey()
                await later.plan(second, on_progress=lambda _files, _bytes: None)
                await later.send_new()
                go_on.set()
                await anyio.sleep(0.05)
                await later.begin()
                await later.publish()
                await later.tidy_up(build="second", slug=prefix.rstrip("/"), commit=None)
        there = await bodies_of(bucket, prefix)
        assert {path: there.get(path) for path in SECOND} == SECOND, (step, ended)
        # The next run puts in order what a run that was stopped may have left, without being told.
        await publish(make_upload(bucket, prefix, build="third", run=4), second, "third", prefix)
        there = await bodies_of(bucket, prefix)
        there.pop(OLD, None)  # stays for open tabs
        assert there == SECOND, (step, ended)
