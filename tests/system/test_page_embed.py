"""Tokens of the build page, and the log in pages of others: the examples of docs/embedding.md, run in a real browser."""

from __future__ import annotations

import functools
import http.server
import os
import re
import subprocess
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jwt
import pytest
from playwright.sync_api import Browser, Locator, expect

from support.browser import Tab, chromium
from support.gateway import Gateway, StreamWriter
from support.harness import ROOT, Redis
from support.node_modules import node_modules
from support.s3_server import S3Server
from support.warm import WarmProgram

SECRET = "a secret of the tests that has more than 32 bytes"
UNAUTHORIZED = "Failed to load resource: the server responded with a status of 401"

REACT_MAIN = """
import { createRoot } from "react-dom/client";
import { BuildLog } from "./BuildLog.jsx";
const getToken = () => fetch("token").then((answer) => answer.text());
const onEnd = ({ status }) => (document.title = status);
createRoot(document.getElementById("root")).render(<BuildLog {...{ PROPERTIES }} />);
"""


class Dashboard:
    """Somebody else's web server, whose files tests write. It is another origin than the gateway."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        handler = functools.partial(_Quiet, directory=str(folder))
        self._server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.origin = f"http://localhost:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()

    def write(self, name: str, text: str) -> str:
        (self.folder / name).write_text(text)
        return f"{self.origin}/{name}"

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None: ...


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def dashboard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dashboard]:
    dashboard = Dashboard(tmp_path_factory.mktemp("dashboard"))
    dashboard.write("favicon.ico", "")
    yield dashboard
    dashboard.close()


@pytest.fixture(scope="module")
def gateway(shared_redis: Redis, s3: S3Server, open_folder: Path, dashboard: Dashboard) -> Iterator[Gateway]:
    program = WarmProgram(shared_redis, s3, open_folder)
    gateway = Gateway(program, GATEWAY_ORIGINS=dashboard.origin)
    yield gateway
    gateway.close()


@pytest.fixture(scope="module")
def guarded(shared_redis: Redis, s3: S3Server, open_folder: Path, dashboard: Dashboard) -> Iterator[Gateway]:
    program = WarmProgram(shared_redis, s3, open_folder)
    gateway = Gateway(program, GATEWAY_SECRET=SECRET, GATEWAY_ORIGINS=dashboard.origin)
    yield gateway
    gateway.close()


@pytest.fixture
def slug() -> str:
    return f"e-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def writer(shared_redis: Redis, slug: str) -> StreamWriter:
    writer = StreamWriter(shared_redis, slug, "b1")
    writer.write("build begins", type="stage", stage="build", state="started")
    writer.write("\x1b[32mgreen\x1b[0m and <b>text</b>")
    return writer


def token(slug: str, seconds: int = 600) -> str:
    return jwt.encode({"sub": slug, "exp": int(time.time()) + seconds}, SECRET, "HS256")


def example(name: str, gateway: Gateway, slug: str) -> str:
    """Return an example of the document, with the gateway and the site of a test."""
    text = (ROOT / "docs" / "embedding.md").read_text()
    found = re.search(rf"<!-- example: {re.escape(name)} -->\n```\w+\n(.*?)```", text, re.DOTALL)
    assert found, name
    return found[1].replace("https://builds.example.com", address(gateway)).replace("my-site", slug)


def address(gateway: Gateway) -> str:
    return f"http://127.0.0.1:{gateway.port}"


def embedded(tab: Tab) -> Locator:
    return tab.page.locator("build-log")


# --- tokens of the page -------------------------------------------------------------------------------------------


def test_a_token_leaves_the_address_and_lasts_for_its_tab(
    browser: Browser, guarded: Gateway, writer: StreamWriter, slug: str
) -> None:
    path = f"/sites/{slug}/builds/b1"
    tab = Tab(browser, allowed_errors=UNAUTHORIZED).open(f"{address(guarded)}{path}?token={token(slug)}#L2")
    expect(tab.line(2)).to_contain_text("green and <b>text</b>")
    assert tab.page.url == f"{address(guarded)}{path}#L2"
    assert tab.context.cookies() == []

    tab.page.reload()  # answered with 401, and a page that continues
    expect(tab.line(2)).to_contain_text("green")
    writer.end()
    expect(tab.state).to_have_text("Succeeded")

    asked = [request for request in tab.requests if "token" in request]
    assert len(asked) == 1, asked  # the first one, which a person opened
    assert "eyJ" not in tab.page.content()
    with tab.page.expect_download() as download:
        tab.page.locator("#raw").click()
    assert Path(download.value.path()).read_text().splitlines()[1] == "green and <b>text</b>"
    tab.close()


def test_a_page_without_a_token_says_that_it_needs_one(browser: Browser, guarded: Gateway, slug: str) -> None:
    tab = Tab(browser, allowed_errors=UNAUTHORIZED).open(f"{address(guarded)}/sites/{slug}/builds/b1")
    expect(tab.page.locator("#empty")).to_contain_text("This page needs a link with a token")
    assert not [request for request in tab.requests if "/api/" in request]
    assert tab.axe() == []
    tab.open(f"{address(guarded)}/sites/{slug}/builds/b1?token={token(slug, -10)}")
    expect(tab.page.locator("#empty")).to_contain_text("This link has expired")
    tab.close()


def test_a_token_of_another_site_is_named(browser: Browser, guarded: Gateway, slug: str) -> None:
    tab = Tab(browser, allowed_errors="Failed to load resource")
    tab.open(f"{address(guarded)}/sites/other/builds/b1?token={token('other')}")
    expect(tab.page.locator("#empty")).to_contain_text("Waiting for the build")
    tab.page.evaluate(f"history.pushState(null, '', '/sites/{slug}/builds/b1')")
    tab.page.reload()
    expect(tab.page.locator("#empty")).to_contain_text("This link is for another site")
    tab.close()


# --- in pages of others -------------------------------------------------------------------------------------------


def test_two_lines_of_html_show_a_live_log(
    browser: Browser, gateway: Gateway, dashboard: Dashboard, writer: StreamWriter, slug: str
) -> None:
    page = dashboard.write(f"{slug}.html", "<!doctype html><title>x</title>" + example("plain.html", gateway, slug))
    tab = Tab(browser, elsewhere=address(gateway)).open(page)

    expect(embedded(tab)).to_contain_text("green and <b>text</b>")
    writer.write(*(f"line {n}" for n in range(500)))
    expect(embedded(tab).get_by_text("line 499", exact=True)).to_be_in_viewport()
    assert tab.page.locator("build-log .row").count() < 100
    writer.end(seconds=12.0)
    expect(embedded(tab).locator(".status")).to_have_text("Succeeded")
    assert embedded(tab).evaluate("(element) => element.shadowRoot.mode") == "open"
    tab.close()


def test_an_element_asks_for_a_token_and_continues(
    browser: Browser, guarded: Gateway, dashboard: Dashboard, writer: StreamWriter, slug: str
) -> None:
    (dashboard.folder / slug).mkdir()
    dashboard.write(f"{slug}/build-token", token(slug))
    page = dashboard.write(f"{slug}.html", "<!doctype html><title>x</title>" + example("token.html", guarded, slug))
    tab = Tab(browser, elsewhere=address(guarded), allowed_errors=UNAUTHORIZED).open(page)

    expect(embedded(tab)).to_contain_text("green")
    assert embedded(tab).get_attribute("token")
    writer.end()
    expect(embedded(tab).locator(".status")).to_have_text("Succeeded")
    tab.close()


def test_the_react_example_shows_a_live_log(
    browser: Browser, guarded: Gateway, dashboard: Dashboard, writer: StreamWriter, slug: str
) -> None:
    modules = node_modules(os.environ["PATH"])
    folder = dashboard.folder / f"react-{slug}"
    folder.mkdir()
    (folder / "node_modules").symlink_to(modules)
    (folder / "BuildLog.jsx").write_text(example("BuildLog.jsx", guarded, slug))
    properties = f"gateway: {address(guarded)!r}, site: {slug!r}, getToken, onEnd"
    (folder / "main.jsx").write_text(REACT_MAIN.replace("PROPERTIES", properties))
    (folder / "token").write_text(token(slug))
    esbuild = [str(modules / ".bin" / "esbuild"), "main.jsx", "--bundle", "--format=esm", "--jsx=automatic"]
    subprocess.run([*esbuild, "--outfile=main.js", "--log-level=warning"], cwd=folder, check=True)
    (folder / "index.html").write_text(
        '<!doctype html><title>x</title><div id="root"></div><script type="module" src="main.js"></script>'
    )
    tab = Tab(browser, elsewhere=address(guarded), allowed_errors=UNAUTHORIZED)
    tab.open(f"{dashboard.origin}/{folder.name}/index.html")

    expect(embedded(tab)).to_contain_text("green")
    writer.end("Cancelled", status="cancelled", exit_code=143)
    expect(embedded(tab).locator(".status")).to_have_text("Cancelled")
    expect(tab.page).to_have_title("cancelled")
    tab.close()


def test_the_client_alone_yields_every_event(
    browser: Browser, gateway: Gateway, dashboard: Dashboard, writer: StreamWriter, slug: str
) -> None:
    page = dashboard.write(f"{slug}.html", "<!doctype html><title>x</title>" + example("follow.html", gateway, slug))
    tab = Tab(browser, elsewhere=address(gateway)).open(page)

    expect(tab.page.locator("#log")).to_contain_text("<b>text</b>")
    writer.end()
    expect(tab.page.locator("#log")).to_have_text("build begins\n\x1b[32mgreen\x1b[0m and <b>text</b>\nDone\n")
    tab.close()
