"""`buildrunner sites`: what visitors of published sites get, while S3 answers, while it doesn't, and while sites are published."""

from __future__ import annotations

import gzip
import os
import re
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import brotli
import pytest

from support.files import write
from support.gateway import Answer
from support.harness import Program, Redis, wait_for
from support.relay import Relay, answer
from support.s3_server import S3Server
from support.sites import REVALIDATE, Sites, put_rules, put_site
from support.warm import WarmProgram

PAGE = "<!doctype html><title>{}</title><p>" + "text that is long enough to get smaller " * 20
FILES: dict[str, str | bytes] = {
    "index.html": PAGE.format("home"),
    "about.html": PAGE.format("about"),
    "docs/index.html": PAGE.format("docs"),
    "docs/404.html": PAGE.format("nothing in docs"),
    "404.html": PAGE.format("nothing"),
    "assets/app-DiwrgTda.js": "export const a = 1;\n" * 100,
    "photo.png": b"\x89PNG" + bytes(1000),
    "large.bin": os.urandom(3 * 2**20),
    "large.json": b'{"a": "bbbbbbbbbbbbbbb"}\n' * 200_000,
}


@pytest.fixture(scope="module")
def here(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Program:
    return WarmProgram(shared_redis, s3, open_folder)


@pytest.fixture(scope="module")
def sites(here: Program) -> Iterator[Sites]:
    sites = Sites(here, "--domain", "example.com")
    yield sites
    sites.close()


@pytest.fixture(scope="module")
def site(here: Program) -> str:
    """The slug of a site with all that a site may have."""
    slug = new_slug()
    put_site(here, slug, FILES, {})
    return slug


def new_slug() -> str:
    return f"w-{uuid.uuid4().hex[:12]}"


def title(answer: Answer) -> str:
    found = re.search(rb"<title>(.*?)</title>", answer.body)
    return found[1].decode() if found else ""


# --- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "status", "what"),
    [
        ("/", 200, "home"),
        ("/index.html", 200, "home"),
        ("/about", 200, "about"),
        ("/about.html", 200, "about"),
        ("/about/", 308, "/about"),
        ("/about/?a=b", 308, "/about?a=b"),
        ("/docs", 308, "/docs/"),
        ("/docs/", 200, "docs"),
        ("/docs/nothing", 404, "nothing in docs"),
        ("/nothing", 404, "nothing"),
        ("/nothing.js", 404, "nothing"),
        ("/a/../about", 200, "about"),
        ("//about", 200, "about"),
        ("/About", 404, "nothing"),
    ],
)
def test_a_path_gets_the_file_that_it_means(sites: Sites, site: str, path: str, status: int, what: str) -> None:
    answer = sites.get(site, path)

    assert answer.status == status
    assert (answer.headers["location"] if status == 308 else title(answer)) == what
    assert answer.headers["cache-control"] == REVALIDATE


def test_headers_are_those_that_are_stored(sites: Sites, site: str) -> None:
    page, script = sites.get(site), sites.get(site, "/assets/app-DiwrgTda.js")

    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert script.headers["content-type"] == "text/javascript; charset=utf-8"
    assert script.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert script.body == str(FILES["assets/app-DiwrgTda.js"]).encode()


@pytest.mark.parametrize("path", ["/", "/large.bin", "/large.json", "/nothing"])
def test_head_is_get_without_a_body(sites: Sites, site: str, path: str) -> None:
    got, asked = sites.get(site, path), sites.get(site, path, method="HEAD")

    assert asked.status == got.status
    assert asked.body == b""
    assert {**asked.headers, "date": ""} == {**got.headers, "date": ""}


@pytest.mark.parametrize("encoding", ["gzip", "br"])
@pytest.mark.parametrize("path", ["/", "/large.json", "/nothing"])
def test_text_is_compressed_for_who_takes_it(sites: Sites, site: str, path: str, encoding: str) -> None:
    plain = sites.get(site, path)
    answer = sites.get(site, path, Accept_Encoding=f"deflate, {encoding};q=0.5")

    assert plain.headers["vary"] == answer.headers["vary"] == "Accept-Encoding"
    assert "content-encoding" not in plain.headers
    assert answer.headers["content-encoding"] == encoding
    assert len(answer.body) < len(plain.body) / 2
    decode = gzip.decompress if encoding == "gzip" else brotli.decompress
    assert decode(answer.body) == plain.body
    if plain.status == 200:
        assert answer.headers["etag"] != plain.headers["etag"]


@pytest.mark.parametrize("path", ["/photo.png", "/large.bin"])
def test_what_is_no_text_is_sent_as_it_is(sites: Sites, site: str, path: str) -> None:
    answer = sites.get(site, path, Accept_Encoding="gzip, br")

    assert answer.body == FILES[path[1:]]
    assert "vary" not in answer.headers


@pytest.mark.parametrize("path", ["/", "/large.json", "/large.bin"])
def test_a_visitor_that_has_it_gets_304(sites: Sites, site: str, path: str) -> None:
    plain = sites.get(site, path)
    etags = {sites.get(site, path, Accept_Encoding=each).headers["etag"] for each in ("identity", "gzip", "br")}
    etags |= {f"W/{etag}" for etag in etags}

    for header in (*etags, "*", f'"other", {plain.headers["etag"]}'):
        answer = sites.get(site, path, If_None_Match=header)
        assert (answer.status, answer.body) == (304, b""), header
        assert answer.headers["cache-control"] == REVALIDATE
        assert answer.headers["etag"] == plain.headers["etag"]
        assert answer.headers.get("vary") == plain.headers.get("vary")
        assert "content-type" not in answer.headers
    assert sites.get(site, path, If_None_Match='"other"').status == 200


@pytest.mark.parametrize("path", ["/about", "/large.bin", "/large.json"])
def test_ranges_are_parts_of_the_plain_body(sites: Sites, site: str, path: str) -> None:
    body = FILES["about.html" if path == "/about" else path[1:]]
    whole = body.encode() if isinstance(body, str) else body
    size = len(whole)
    etag = sites.get(site, path).headers["etag"]

    for header, part in {
        "bytes=0-0": whole[:1],
        "bytes=5-9": whole[5:10],
        f"bytes={size - 3}-": whole[-3:],
        "bytes=-7": whole[-7:],
        f"bytes=-{size + 5}": whole,
        f"bytes=10-{size + 100}": whole[10:],
    }.items():
        answer = sites.get(site, path, Range=header, Accept_Encoding="br, gzip")
        first = whole.index(part) if len(part) > 100 else size - len(part) if "-7" in header else None
        assert (answer.status, answer.body) == (206, part), header
        assert "content-encoding" not in answer.headers
        assert answer.headers["content-range"].endswith(f"/{size}")
        if first is not None:
            assert answer.headers["content-range"].startswith(f"bytes {first}-")
    for header in (f"bytes={size}-", "bytes=-0"):
        answer = sites.get(site, path, Range=header)
        assert (answer.status, answer.headers["content-range"]) == (416, f"bytes */{size}")
    for header in ("bytes=0-1,5-6", "bytes=9-5", "lines=1-2", "bytes=", "bytes=a-b"):
        answer = sites.get(site, path, Range=header)
        assert (answer.status, answer.body) == (200, whole)
    assert sites.get(site, path, Range="bytes=0-0", If_Range=etag).status == 206
    assert sites.get(site, path, Range="bytes=0-0", If_Range='"other"').status == 200
    assert sites.get(site, path, Range="bytes=0-0", If_Range="Sun, 29 Nov 2026 10:00:00 GMT").status == 200
    assert sites.get(site, path, Range="bytes=0-0", If_None_Match=etag).status == 304


# --- who asks, and for what --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "PATCH", "PURGE"])
def test_other_methods_are_not_allowed(sites: Sites, site: str, method: str) -> None:
    answer = sites.get(site, method=method)

    assert (answer.status, answer.headers["allow"]) == (405, "GET, HEAD")


def test_a_site_is_found_by_its_host_name(sites: Sites, site: str) -> None:
    for host in (f"{site}.localhost", f"{site}.localhost:8080", f"{site.upper()}.LOCALHOST.", f"{site}.example.com"):
        assert title(sites.get("", host=host)) == "home", host
    for host in (
        "localhost",
        "example.com",
        f"{site}.example.org",
        f"a.{site}.localhost",
        "none.localhost",
        "-.localhost",
    ):
        answer = sites.get("", host=host)
        assert (answer.status, answer.headers["content-type"]) == (404, "text/html; charset=utf-8"), host
    for host in ("a b", "a/b", f"{site}.localhost@x"):
        assert sites.get("", host=host).status == 400, host


def test_the_host_of_the_target_counts(sites: Sites, site: str) -> None:
    said = sites.send(f"GET http://{site}.example.com/about HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())

    assert b" 200 OK\r\n" in said
    assert b"<title>about" in said


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        b"nonsense\r\n\r\n",
        b"GET / HTTP/9\r\n\r\n",
    ],
)
def test_what_is_no_request_is_refused(sites: Sites, request_: bytes) -> None:
    assert re.match(rb"HTTP/1\.1 4\d\d ", sites.send(request_))


def test_requests_on_one_connection_are_answered_in_order(sites: Sites, site: str) -> None:
    one = "GET {} HTTP/1.1\r\nHost: {}.localhost\r\n{}\r\n"
    paths = ("/", "/large.bin", "/about", "/nothing", "/docs/")
    said = sites.send(
        "".join(one.format(path, site, "") for path in paths).encode()
        + one.format("/", site, "Connection: close\r\n").encode()
    )

    assert re.findall(rb"HTTP/1\.1 (\d+)", said) == [b"200", b"200", b"200", b"404", b"200", b"200"]
    assert re.findall(rb"<title>(.*?)<", said) == [b"home", b"about", b"nothing", b"docs", b"home"]


def test_http_1_0_gets_a_body_with_a_length(sites: Sites, site: str) -> None:
    for path in ("/", "/large.json"):
        said = sites.send(f"GET {path} HTTP/1.0\r\nHost: {site}.localhost\r\nAccept-Encoding: gzip\r\n\r\n".encode())
        head, _, body = said.partition(b"\r\n\r\n")
        assert b"Transfer-Encoding" not in head
        assert f"Content-Length: {len(body)}".encode() in head
        assert b"Connection: close" in head


@pytest.mark.parametrize(
    "path",
    [
        "/../{other}/index.html", "/%2e%2e/{other}/index.html", "/..%2f{other}%2findex.html", "/..\\{other}\\index.html",
        "/./../../{other}/index.html", "//../{other}/index.html", "/%252e%252e/{other}/index.html", "/../__logs/{other}/b.ndjson",
        "/..%00/{other}/index.html", "/{other}/index.html", "/%c0%ae%c0%ae/{other}/index.html", "/..;/{other}/index.html",
    ],
)  # fmt: skip
def test_no_path_leads_out_of_the_site(here: Program, sites: Sites, site: str, path: str) -> None:
    other = new_slug()
    put_site(here, other, {"index.html": "<title>other</title>"})
    here.client().put_object(Bucket="sites", Key=f"__logs/{other}/b.ndjson", Body=b"<title>other</title>")

    answer = sites.get(site, path.format(other=other))

    assert answer.status in {404, 400, 308}
    assert b"<title>other</title>" not in answer.body


# --- rules -----------------------------------------------------------------------------------------------------------


def test_rules_of_all_four_files_are_obeyed(here: Program, sites: Sites) -> None:
    slug = new_slug()
    rules = {
        "_redirects": "/old/:name /about?name=:name 302\n/app/* /shell.html 200\n/gone /404.html 410\n/tmp/* /none 404\n"
        "/about.html /docs/ 301!\n/twice a=:a /about?b=:a\n",
        "_headers": "/*\n  X-Frame-Options: DENY\n  Cache-Control: no-store\n  Vary: Origin\n/docs/*\n  ! Cache-Control\n",
        "netlify.toml": '[[redirects]]\nfrom = "/n"\nto = "https://example.com/"\nstatus = 307\n',
        "vercel.json": '{"redirects": [{"source": "/v/:a", "destination": "/:a", "statusCode": 303}],'
        ' "rewrites": [{"source": "/r/:a*", "destination": "/about"}],'
        ' "headers": [{"source": "/about", "headers": [{"key": "X-V", "value": "1"}]}]}',
    }
    put_site(here, slug, {**FILES, "shell.html": PAGE.format("shell")}, rules)

    def moved(path: str) -> tuple[int, str]:
        answer = sites.get(slug, path)
        return answer.status, answer.headers["location"]

    assert moved("/old/x") == (302, "/about?name=x")
    assert moved("/about.html") == (301, "/docs/")
    assert moved("/n?q=1") == (307, "https://example.com/?q=1")
    assert moved("/v/x?q=1") == (303, "/x?q=1")
    assert moved("/twice?a=1") == (301, "/about?b=1")
    shell = sites.get(slug, "/app/some/thing.js")
    assert (shell.status, title(shell)) == (200, "shell")
    assert (sites.get(slug, "/gone").status, title(sites.get(slug, "/gone"))) == (410, "nothing")
    assert sites.get(slug, "/tmp/x").status == 404
    about = sites.get(slug, "/r/a/b")
    assert (about.status, title(about), about.headers["x-frame-options"]) == (200, "about", "DENY")
    page = sites.get(slug, "/about", Accept_Encoding="br")
    assert (page.headers["x-v"], page.headers["cache-control"]) == ("1", "no-store")
    assert page.headers["vary"] == "Origin, Accept-Encoding"
    assert "cache-control" not in sites.get(slug, "/docs/").headers


def test_a_single_page_application_answers_for_its_routes(here: Program, sites: Sites) -> None:
    slug = new_slug()
    put_site(here, slug, {"index.html": PAGE.format("app"), "a.js": "1"})

    for path, status in {"/": 200, "/users/1": 200, "/users/": 200, "/b.js": 404, "/users/a.css": 404}.items():
        assert sites.get(slug, path).status == status, path
    assert sites.get(slug, "/users/1", method="POST").status == 405


def test_previews_ask_search_engines_to_leave_them_out(here: Program, sites: Sites) -> None:
    slug = new_slug()
    put_site(here, slug, FILES)
    put_rules(here, slug, {"_redirects": "/old /about"}, [], noindex=True)

    for path in ("/", "/old", "/nothing", "/photo.png"):
        assert sites.get(slug, path).headers["x-robots-tag"] == "noindex", path


# --- deployments -----------------------------------------------------------------------------------------------------


def test_what_changes_in_the_bucket_is_seen_within_2_seconds(here: Program, sites: Sites) -> None:
    slug = new_slug()
    assert sites.get(slug).status == 404
    put_site(here, slug, {"index.html": PAGE.format("first"), "a.txt": "first"}, {})
    time.sleep(2)
    assert title(sites.get(slug)) == "first"
    put_site(here, slug, {"index.html": PAGE.format("second"), "b.html": PAGE.format("b")}, {"_redirects": "/x /b"})
    here.client().delete_object(Bucket="sites", Key=f"{slug}/a.txt")
    time.sleep(2)

    assert title(sites.get(slug)) == "second"
    assert sites.get(slug, "/b").status == 200
    assert sites.get(slug, "/a.txt").status == 404
    assert sites.get(slug, "/x").headers["location"] == "/b"


def test_no_visitor_gets_a_page_without_its_assets(here: Program, sites: Sites, tmp_path: Path) -> None:
    """Four visitors load pages with their scripts while the site is published again and again, each time with other names."""
    slug = new_slug()
    environment = {**here.environment(None), "SLUG": slug, "ASSET_GRACE": "0"}
    del environment["REDIS_URI"], environment["REPO_ALLOWED_SCHEMES"]

    def publish(number: int) -> None:
        folder = tmp_path / str(number)
        scripts = {f"s/v{number}-{each}.js": f"{number}" for each in range(5)}
        tags = "".join(f'<script src="/{name}"></script>' for name in scripts)
        write(
            folder, {**scripts, **{f"p{page}.html": f"<!doctype html>{tags}" for page in range(5)}, "index.html": tags}
        )
        process = here.launch(environment, "publish", str(folder))
        said = process.communicate(timeout=60)
        assert process.returncode == 0, said

    publish(0)
    done, problems, loaded, pages = threading.Event(), [], set(), []

    def visit(page: int) -> None:
        connection = sites.connect()
        while not done.wait(0.01):
            found = sites.get(slug, f"/p{page}", connection=connection)
            pages.append(page)
            for name in re.findall(rb'src="([^"]+)"', found.body):
                script = sites.get(slug, name.decode(), connection=connection)
                loaded.add(script.body)
                if (found.status, script.status) != (200, 200):
                    problems.append((page, found.status, name, script.status))
        connection.close()

    visitors = [threading.Thread(target=visit, args=(page,)) for page in range(4)]
    for visitor in visitors:
        visitor.start()
    try:
        for number in range(1, 4):
            publish(number)
        wait_for(lambda: b"3" in loaded, "visitors to see the last deployment", 10)
    finally:
        done.set()
        for visitor in visitors:
            visitor.join()

    assert problems == []
    assert {b"0", b"3"} <= loaded
    assert len(pages) > 20  # 250 on an idle machine


def test_what_is_cached_is_served_while_s3_is_away(here: Program) -> None:
    slug = new_slug()
    put_site(here, slug, FILES, {"_redirects": "/old /about"})
    with Relay(urlsplit(here.s3.endpoint).port or 0) as relay:
        sites = Sites(here, AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{relay.port}")
        try:
            assert title(sites.get(slug)) == "home"
            relay.fault = lambda _: answer(503, "ServiceUnavailable")
            until = time.monotonic() + 4
            while time.monotonic() < until:  # longer than a check of the site holds
                assert title(sites.get(slug)) == "home"
                assert sites.get(slug, "/old").status == 301
            refused = sites.get(slug, "/about")
            assert (refused.status, refused.headers["cache-control"]) == (503, "no-store")
            assert sites.get(new_slug()).status == 503
            relay.fault = lambda _: None
            wait_for(lambda: sites.get(slug, "/about").status == 200, "the server to read from S3 again")
        finally:
            sites.close()


def test_many_visitors_of_one_object_read_it_once(here: Program) -> None:
    slug = new_slug()
    put_site(here, slug, FILES)
    with Relay(urlsplit(here.s3.endpoint).port or 0) as relay:
        sites = Sites(here, AWS_ENDPOINT_URL_S3=f"http://127.0.0.1:{relay.port}")
        try:
            found: list[str] = []
            visitors = [
                threading.Thread(target=lambda: found.append(title(sites.get(slug, "/about")))) for _ in range(20)
            ]
            for visitor in visitors:
                visitor.start()
            for visitor in visitors:
                visitor.join()
            assert found == ["about"] * 20
            assert relay.requests.count(f"GET /sites/{slug}/about.html") == 1
            assert relay.requests.count("GET /sites") <= 2
        finally:
            sites.close()


# --- the process -----------------------------------------------------------------------------------------------------


def test_sigterm_finishes_what_is_under_way(here: Program, site: str) -> None:
    sites = Sites(here)
    try:
        idle = sites.connect()
        assert sites.get(site, connection=idle).status == 200
        with socket.create_connection(("127.0.0.1", sites.port)) as slow:
            slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65_536)
            slow.sendall(f"GET /large.bin HTTP/1.1\r\nHost: {site}.localhost\r\n\r\n".encode())
            received = slow.recv(1000)
            threading.Timer(0.5, sites.process.terminate).start()
            time.sleep(1)
            with pytest.raises(OSError, match="refused"):
                socket.create_connection(("127.0.0.1", sites.port))
            while part := slow.recv(65536):
                received += part
        idle.close()
        assert received.partition(b"\r\n\r\n")[2] == FILES["large.bin"]
        assert sites.process.wait(20) == 0
    finally:
        sites.close()


def test_settings_that_are_missing_are_named(here: Program) -> None:
    process = here.start({"PATH": os.environ["PATH"], "HOME": "/nonexistent"}, "sites", "--port", "0")
    _, said = process.communicate(timeout=30)

    assert process.returncode == 2
    assert "AWS_BUCKET_NAME is missing" in said
    assert "AWS_REGION is missing" in said
