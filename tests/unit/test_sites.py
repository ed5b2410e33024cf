"""Test the pure parts of the server for sites: request headers, deployments, and the memory cache."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import brotli
import pytest
from aiohttp import web
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.errors import ConfigurationError
from buildrunner.routing.collect import RuleFile, collect_rules
from buildrunner.routing.document import Document
from buildrunner.routing.route import Answer, Request, route
from buildrunner.s3 import Unreachable
from buildrunner.sites import serve
from buildrunner.sites.cache import ObjectCache, StoredObject
from buildrunner.sites.catalog import Catalog, Unavailable
from buildrunner.sites.compression import compress, is_compressible, make_compressor
from buildrunner.sites.index import Indexed, RuleBudget, RulesTooSlow, SiteIndex, default_document, merge_listings
from buildrunner.sites.negotiation import (
    byte_range,
    encodings_of,
    host_name,
    matches_etag,
    slug_of,
    split_target,
    variant_etag,
)
from buildrunner.sites.objects import SharedWork
from buildrunner.sites.reply import make_head, object_headers
from buildrunner.sites.settings import read_sites_settings


@pytest.mark.parametrize(
    ("accept", "encodings"),
    [
        ("", ()),
        ("gzip", ("gzip",)),
        ("gzip, deflate, br, zstd", ("br", "gzip")),
        ("br;q=0.5, gzip", ("gzip", "br")),
        ("br;q=0, gzip", ("gzip",)),
        ("*", ("br", "gzip")),
        ("*;q=0", ()),
        ("gzip;q=0, *", ("br",)),
        ("identity, gzip;q=0.5", ()),
        ("BR ; Q=1.000", ("br",)),
        ("gzip;q=2", ()),
        ("x" * 5000, ()),
    ],
)
def test_an_encoding_is_chosen_by_quality(accept: str, encodings: tuple[str, ...]) -> None:
    assert encodings_of(accept) == encodings


@pytest.mark.parametrize(
    ("target", "parts"),
    [
        ("/a?b=c?d", (None, "/a", "b=c?d")),
        ("http://a.b:1/c?d", ("a.b:1", "/c", "d")),
        ("HTTPS://u:p@a.b", ("a.b", "/", "")),
        ("http://a.b?c", ("a.b", "/", "c")),
        ("//a.b/c", (None, "//a.b/c", "")),
        ("", (None, "/", "")),
        ("*", (None, "*", "")),
    ],
)
def test_a_target_has_host_path_and_query(target: str, parts: tuple[str | None, str, str]) -> None:
    assert split_target(target) == parts


def test_a_slug_is_the_only_label_before_a_domain() -> None:
    domains = ("localhost", "example.com")
    for header, slug in {
        "a.localhost": "a",
        "A-1.Example.COM.:8080": "a-1",
        "a.b.example.com": None,
        "example.com": None,
        "-a.localhost": None,
        "a_b.localhost": None,
        f"{'a' * 64}.localhost": None,
        "a.example.com.evil": None,
    }.items():
        assert slug_of(host_name(header) or "", domains) == slug, header
    for header in ("", "a b", "a/b", "a@b", "a:b", "x" * 5000, "[::1"):
        assert host_name(header) is None


@given(st.text(max_size=50))
def test_headers_of_strangers_raise_nothing(text: str) -> None:
    encodings_of(text)
    host_name(text)
    matches_etag(text, "a")
    split_target(text)
    assert byte_range(text, 10) is None or set(byte_range(text, 10) or ()) <= set(range(10))


@given(st.integers(0, 20), st.integers(0, 30), st.integers(0, 30))
def test_a_range_never_leaves_the_body(size: int, first: int, last: int) -> None:
    body = range(size)
    found = byte_range(f"bytes={first}-{last}", size)

    assert found is None if last < first else list(found or ()) == list(body[first : last + 1])
    assert list(byte_range(f"bytes={first}-", size) or ()) == list(body[first:])
    assert list(byte_range(f"bytes=-{last}", size) or ()) == (list(body[-last:]) if last else [])


@given(st.sampled_from([None, "br", "gzip"]), st.booleans())
def test_every_validator_of_an_object_is_understood(encoding: str | None, weak: bool) -> None:
    etag = variant_etag("abc-2", encoding)

    assert matches_etag(f'"x", {"W/" * weak}{etag}', "abc-2")
    assert not matches_etag(etag, "abc")


@given(st.lists(st.binary(max_size=200), max_size=5), st.sampled_from(["br", "gzip"]))
def test_pieces_are_compressed_as_a_whole(pieces: list[bytes], encoding: str) -> None:
    compressor = make_compressor(encoding)
    sent = b"".join(compressor.add(piece) for piece in pieces) + compressor.end()
    decode = gzip.decompress if encoding == "gzip" else brotli.decompress

    assert decode(sent) == b"".join(pieces)
    assert decode(compress(b"".join(pieces), encoding)) == b"".join(pieces)


def test_only_what_gets_smaller_is_compressed() -> None:
    for content_type in (
        "text/html; charset=utf-8",
        "image/svg+xml",
        "application/json",
        "application/ld+json",
        "font/ttf",
    ):
        assert is_compressible(content_type)
    for content_type in ("image/png", "font/woff2", "video/mp4", "application/zip", "", "application/octet-stream"):
        assert not is_compressible(content_type)


def test_headers_of_rules_replace_stored_ones_and_frame_nothing() -> None:
    answer = Answer(
        200,
        "k",
        headers=(
            ("Cache-Control", "no-store"),
            ("Content-Length", "9"),
            ("Vary", "Origin"),
            ("X-A", "1\r\nX-B: 2"),
            ("X-Accel-Redirect", "/x"),
        ),
        removed=("content-language",),
        vary=("x-c",),
    )
    stored = {"cache-control": "public", "content-language": "en", "content-type": "text/html"}
    head = make_head(200, object_headers(answer, stored, etag='"e"', compressible=True, encoding="br"))

    assert head.decode().splitlines() == [
        "HTTP/1.1 200 OK",
        "Content-Type: text/html",
        "Cache-Control: no-store",
        "Content-Encoding: br",
        "Vary: Origin, Accept-Encoding, X-C",
        'ETag: "e"',
        "Accept-Ranges: bytes",
    ]


def stored(key: str, size: int) -> StoredObject:
    return StoredObject(key, "e", {}, bytes(size), compressible=True)


def test_objects_that_were_not_used_make_room() -> None:
    cache = ObjectCache(100_000)
    for name in "abc":
        cache.put((name, "e"), stored(name, 30_000))
    assert cache.get(("a", "e"))
    cache.put(("d", "e"), stored("d", 30_000))

    assert [name for name in "abcd" if (name, "e") in cache] == ["a", "c", "d"]
    grown = cache.get(("c", "e"))
    assert grown
    grown.variants["gzip"] = bytes(50_000)
    cache.put(("c", "e"), grown)
    assert [name for name in "abcd" if (name, "e") in cache] == ["c"]
    assert cache.bytes <= 100_000
    cache.put(("x", "e"), stored("x", 200_000))
    assert cache.bytes == 0


@given(st.data())
def test_a_listing_never_has_a_page_without_its_assets(data: st.DataObject) -> None:
    """A deployment writes assets and then pages, while two listings are read key by key."""
    assets = [f"{name}.js" for name in "aez"]
    pages = ["b.html", "index.html", "y.html"]
    writes = [
        (key, Indexed("new", 1)) for key in (*data.draw(st.permutations(assets)), *data.draw(st.permutations(pages)))
    ]
    bucket = {key: Indexed("old", 1) for key in pages}

    def read() -> dict[str, Indexed]:
        seen = {}
        for key in sorted((*assets, *pages)):
            for _ in range(data.draw(st.integers(0, 2))):
                if writes:
                    bucket.update([writes.pop(0)])
            if key in bucket:
                seen[key] = bucket[key]
        return seen

    merged = merge_listings(read(), read())

    if any(merged[page].etag == "new" for page in pages):
        assert all(asset in merged for asset in assets)


def test_rules_that_take_long_are_stopped_for_a_while() -> None:
    budget = RuleBudget()
    budget.check(100.0)
    budget.spend(0.6)
    with pytest.raises(RulesTooSlow):
        budget.check(100.1)
    budget.check(101.0)


def test_equal_answers_are_one_object() -> None:
    objects = {"index.html": Indexed("e", 1)}
    index = SiteIndex(objects, default_document(objects), RuleBudget())

    assert index.document.single_page
    assert index.answer(Request("/a")) is index.answer(Request("/b")) is index.answer(Request("/a", query="c=d"))
    assert index.answer(Request("/a.js")).status == 404


@given(st.sampled_from(["/a", "/b", "/c/x", "/c/", "/index.html", "/n"]), st.sampled_from(["", "x=1", "q"]))
def test_a_remembered_answer_is_the_one_of_route(path: str, query: str) -> None:
    texts = {"_redirects": "/a /a?x=1 301\n/b /d 302\n/c/* /index.html 200\n/n /n 301"}
    files = [RuleFile(name, name, text.encode) for name, text in texts.items()]
    document = collect_rules(files, ["index.html"]).document
    objects = {"index.html": Indexed("e", 1)}
    index = SiteIndex(objects, document, RuleBudget())
    request = Request(path, query=query)

    for _ in range(2):
        index.answer(Request(path))
        assert index.answer(request) == route(request, document, objects.__contains__)


def test_settings_of_sites_are_read() -> None:
    environment = {"AWS_BUCKET_NAME": "abc", "AWS_REGION": "eu-central-1", "S3_KEY_PREFIX": "__outputs/{slug}/"}
    settings = read_sites_settings(environment)

    assert (settings.bucket, settings.state_bucket, settings.key_prefix) == ("abc", "abc", "__outputs/{slug}/")
    with pytest.raises(ConfigurationError, match="AWS_BUCKET_NAME is missing"):
        read_sites_settings({"AWS_REGION": "eu-central-1"})


# --- the catalog, on a bucket of the test ----------------------------------------------------------------------------


class FakeBucket:
    """A bucket with one site, its pointer and its rules; it counts what it is asked."""

    def __init__(self) -> None:
        self.objects: dict[str, str] = {}
        self.pointer: str | None = None
        self.rules: bytes | None = None
        self.fails = False
        self.listings = 0
        self.before_listing: Any = None

    async def list_objects(self, prefix: str) -> Mapping[str, Any]:
        self.listings += 1
        if self.fails:
            raise Unreachable("S3 does not answer.")
        if self.before_listing:
            await self.before_listing()
        at = datetime.now(UTC)
        from buildrunner.s3 import Listed

        return {f"{prefix}{key}": Listed(etag, 1, at) for key, etag in self.objects.items()}

    @asynccontextmanager
    async def open(self, key: str, *, method: str = "GET", unless: str | None = None) -> AsyncIterator[Any]:
        from types import SimpleNamespace

        if self.fails:
            raise Unreachable("S3 does not answer.")
        if key.startswith("__manifests/"):
            yield SimpleNamespace(status=200 if self.pointer else 404, etag=self.pointer or "")
            return
        assert key.startswith("__routing/")

        async def read() -> bytes:
            return self.rules or b""

        etag = str(hash(self.rules))
        status = 404 if self.rules is None else 304 if unless == etag else 200
        yield SimpleNamespace(status=status, etag=etag, size=len(self.rules or b""), read=read)


@asynccontextmanager
async def catalog_of(bucket: FakeBucket) -> AsyncIterator[Catalog]:
    async with asyncio.TaskGroup() as tasks:
        reader: Any = bucket
        yield Catalog(reader, reader, "{slug}/", tasks.create_task, lambda key, indexed: key.endswith(".js"))


def test_a_site_is_listed_again_when_its_pointer_changes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("buildrunner.sites.catalog._FRESH_SECONDS", 0.0)
    monkeypatch.setattr("buildrunner.sites.catalog._STALE_SECONDS", 0.0)

    async def main() -> None:
        bucket = FakeBucket()
        bucket.objects, bucket.pointer = {"index.html": "1", "a.js": "1"}, "p1"
        async with catalog_of(bucket) as catalog:
            first = await catalog.find("s")
            assert first
            assert first.objects["index.html"].etag == "1"
            bucket.objects = {"index.html": "2"}
            assert (await catalog.find("s")) is first
            assert bucket.listings == 1
            bucket.pointer = "p2"
            bucket.rules = Document(noindex=True).to_json()
            second = await catalog.find("s")
            assert second
            assert (second.objects["index.html"].etag, second.document.noindex) == ("2", True)
            assert bucket.listings == 3  # a page has changed
            assert "a.js" in second.retired
            bucket.objects, bucket.pointer = {}, "p3"
            assert await catalog.find("s") is None

    asyncio.run(main())


def test_a_site_stays_as_it_was_while_s3_is_away(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("buildrunner.sites.catalog._FRESH_SECONDS", 0.0)
    monkeypatch.setattr("buildrunner.sites.catalog._STALE_SECONDS", 0.0)

    async def main() -> None:
        bucket = FakeBucket()
        bucket.objects = {"index.html": "1"}
        async with catalog_of(bucket) as catalog:
            first = await catalog.find("s")
            bucket.fails = True
            assert await catalog.find("s") is first
            assert await catalog.find("s") is first
            with pytest.raises(Unavailable):
                await catalog.find("other")

    asyncio.run(main())
    assert capsys.readouterr().err == "buildrunner: Serving sites from memory. S3 does not answer.\n"


def test_rules_that_cannot_be_read_leave_the_earlier_ones(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("buildrunner.sites.catalog._FRESH_SECONDS", 0.0)
    monkeypatch.setattr("buildrunner.sites.catalog._STALE_SECONDS", 0.0)

    async def main() -> None:
        bucket = FakeBucket()
        bucket.objects, bucket.rules = {"index.html": "1"}, Document(noindex=True).to_json()
        async with catalog_of(bucket) as catalog:
            await catalog.find("s")
            bucket.rules, bucket.objects, bucket.pointer = b"{", {"index.html": "2"}, "p1"
            found = await catalog.find("s")
            assert found
            assert (found.document.noindex, found.objects["index.html"].etag) == (True, "2")

    asyncio.run(main())
    assert "The rules of s stay as they were." in capsys.readouterr().err


def test_work_is_done_once_for_all_who_wait() -> None:
    async def main() -> None:
        calls = 0
        go = asyncio.Event()

        async def work() -> int:
            nonlocal calls
            calls += 1
            await go.wait()
            if calls > 1:
                await asyncio.sleep(0)
                raise Unreachable("away")
            return calls

        async with asyncio.TaskGroup() as tasks:
            shared = SharedWork()
            waiting = [tasks.create_task(shared.run("k", work)) for _ in range(5)]
            await asyncio.sleep(0)
            waiting[1].cancel()
            go.set()
            assert await asyncio.gather(waiting[0], *waiting[2:]) == [1, 1, 1, 1]
            failed = await asyncio.gather(*[shared.run("k", work) for _ in range(3)], return_exceptions=True)
            assert [type(each) for each in failed] == [Unreachable] * 3
            assert calls == 2

    asyncio.run(main())


def test_work_of_a_caller_who_is_cancelled_is_taken_over() -> None:
    async def main() -> None:
        calls = 0
        go = asyncio.Event()

        async def work() -> int:
            nonlocal calls
            calls += 1
            await go.wait()
            return calls

        async with asyncio.TaskGroup() as tasks:
            shared = SharedWork()
            waiting = [tasks.create_task(shared.run("k", work)) for _ in range(4)]
            await asyncio.sleep(0)
            waiting[0].cancel()
            await asyncio.wait([waiting[0]])
            go.set()
            assert await asyncio.gather(*waiting[1:]) == [2, 2, 2]

    asyncio.run(main())


def test_who_sends_no_whole_request_is_disconnected(monkeypatch: pytest.MonkeyPatch) -> None:
    """Connections are limited, so silent and slow clients must not lock out visitors."""
    monkeypatch.setattr(serve, "_FIRST_REQUEST_SECONDS", 0.2)

    async def answer(_: web.BaseRequest) -> web.StreamResponse:
        await asyncio.sleep(0.5)
        return web.Response(text="answered")

    async def main() -> None:
        loop = asyncio.get_running_loop()
        protocol = web.Server(answer)
        open_ones = serve._OpenConnections()
        server = await loop.create_server(lambda: serve._Connection(protocol, open_ones, loop=loop), "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        for data, expected in ((b"", b""), (b"GET / HTTP/1.1\r\nHost: a", b""), (REQUEST, b"answered")):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(data)
            assert (await asyncio.wait_for(reader.read(), 20)).endswith(expected), data
            writer.close()
        server.close()
        await protocol.shutdown(1)

    asyncio.run(main())


REQUEST = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
