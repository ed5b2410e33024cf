"""Sites behind Debian's nginx and Caddy, configured as `docs/in-front.md` says."""

from __future__ import annotations

import http.client
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.gateway import Answer
from support.harness import ROOT, Program, Redis, can_connect, free_port, wait_for
from support.s3_server import S3Server
from support.sites import REVALIDATE, Sites, put_site
from support.warm import WarmProgram

DOCUMENT = (ROOT / "docs" / "in-front.md").read_text()
PATHS = "/usr/sbin:/usr/bin:/usr/local/sbin:/usr/local/bin"
ASSET = "assets/app-DiwrgTda.js"


def block(language: str) -> str:
    (code,) = re.findall(rf"^```{language}\n(.*?)^```$", DOCUMENT, re.MULTILINE | re.DOTALL)
    return str(code)


def replaced(text: str, old: str, new: str) -> str:
    assert old in text
    return text.replace(old, new)


@pytest.fixture(scope="module")
def here(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Program:
    return WarmProgram(shared_redis, s3, open_folder)


@pytest.fixture(scope="module")
def sites(here: Program) -> Iterator[Sites]:
    sites = Sites(here, "--domain", "example.com")
    yield sites
    sites.close()


@pytest.fixture(scope="module", params=["nginx", "caddy"])
def proxy(request: pytest.FixtureRequest, sites: Sites, tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """The port of the server, without TLS."""
    name = str(request.param)
    program = shutil.which(name, path=PATHS)
    if not program:
        pytest.skip(f"{name} is not installed")
    port, folder = free_port(), tmp_path_factory.mktemp(name)
    text = replaced(block(name), "127.0.0.1:8080", f"127.0.0.1:{sites.port}")
    if name == "nginx":
        text = replaced(text, "443 ssl", f"127.0.0.1:{port}")
        text = replaced(text, "/var/cache/nginx/sites", str(folder / "cache"))
        temporary = "".join(
            f"{each}_temp_path {folder};" for each in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
        )
        text = (
            f"daemon off; pid {folder}/pid; error_log stderr warn; worker_processes 1; user root;\n"
            f"events {{ worker_connections 200; }}\nhttp {{ {temporary} access_log off;\n{text}\n}}\n"
        )
        command = [program, "-c", str(folder / "conf")]
    else:
        text = "{\n\tadmin off\n\tauto_https off\n}\n" + replaced(text, "*.example.com", f"http://*.example.com:{port}")
        command = [program, "run", "--config", str(folder / "conf"), "--adapter", "caddyfile"]
    (folder / "conf").write_text(text)
    environment = {"HOME": str(folder), "PATH": PATHS}
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL, env=environment)
    wait_for(lambda: can_connect(port), f"{name} to listen")
    yield port
    process.terminate()
    process.wait(10)


def ask(port: int, slug: str, path: str, **headers: str) -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    try:
        connection.request("GET", path, headers={"Host": f"{slug}.example.com", **sent})
        answer = connection.getresponse()
        return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())
    finally:
        connection.close()


def test_sites_behind_a_proxy_are_as_without_it(here: Program, proxy: int) -> None:
    one, two = (f"p-{uuid.uuid4().hex[:12]}" for _ in range(2))
    for slug in (one, two):
        put_site(
            here, slug, {"index.html": slug * 50, "about.html": slug, ASSET: slug * 50}, {"_redirects": "/old /about"}
        )

    for _ in range(2):  # the second answer may come from a cache
        for slug in (one, two):
            page = ask(proxy, slug, "/", Accept_Encoding="identity")
            assert (page.status, page.body.decode()) == (200, slug * 50)
            assert page.headers["cache-control"] == REVALIDATE
            assert ask(proxy, slug, "/", If_None_Match=page.headers["etag"]).status == 304
            packed = ask(proxy, slug, "/", Accept_Encoding="gzip")
            assert packed.headers["content-encoding"] == "gzip"
            assert ask(proxy, slug, "/", If_None_Match=packed.headers["etag"]).status == 304
            assert ask(proxy, slug, f"/{ASSET}", Accept_Encoding="identity").body.decode() == slug * 50
            assert ask(proxy, slug, f"/{ASSET}", Range="bytes=0-3").body.decode() == slug[:4]
            moved = ask(proxy, slug, "/old?a=b")
            assert (moved.status, moved.headers["location"]) == (301, "/about?a=b")
            assert ask(proxy, slug, "/nothing.js").status == 404
    here.client().put_object(Bucket="sites", Key=f"{one}/index.html", Body=b"new", ContentType="text/html")
    wait_for(lambda: ask(proxy, one, "/").body == b"new", "the new page", 10)
