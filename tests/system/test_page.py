"""The build page in a real browser, over a real gateway: what a person sees of a build, and can do with its log."""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from support.browser import PHONE, Tab, chromium
from support.gateway import Gateway, StreamWriter, put_archive
from support.harness import Program, Redis, free_port, wait_for
from support.s3_server import S3Server
from support.warm import WarmProgram

SHA = "4d12e0e1c1a5a3b6d0e5c3a2b1f0e9d8c7b6a594"
ERROR = "src/App.tsx(3,7): error TS2322: Type 'string' is not assignable to type 'number'."
FAILED: dict[str, Any] = {
    "status": "failed",
    "exit_code": 40,
    "stage": "build",
    "seconds": 16.1,
    "commit": SHA,
    "reason": "npm run build ended with exit code 2.",
    "hint": "Assign a number, or change the type of `title`.",
    "failure": {"kind": "typescript-error", "file": "src/App.tsx", "line": 3, "column": 7, "excerpt": ERROR},
}
DONE: dict[str, Any] = {"seconds": 48.2, "commit": SHA, "files": 28, "bytes": 1_234_567}
Open = Callable[..., Tab]


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as browser:
        yield browser


@pytest.fixture(scope="module")
def gateway(shared_redis: Redis, s3: S3Server, open_folder: Path) -> Iterator[Gateway]:
    gateway = Gateway(WarmProgram(shared_redis, s3, open_folder), SITE_URL="https://{slug}.example.com")
    yield gateway
    gateway.close()


@pytest.fixture
def open_page(browser: Browser, gateway: Gateway) -> Iterator[Open]:
    """Open a path of the gateway; in the end every page is checked for what none may do."""
    tabs: list[Tab] = []

    def open_path(path: str, *, port: int = gateway.port, **options: Any) -> Tab:
        tabs.append(Tab(browser, **options))
        return tabs[-1].open(f"http://127.0.0.1:{port}{path}")

    yield open_path
    for tab in tabs:
        tab.close()


@pytest.fixture
def slug() -> str:
    return f"p-{uuid.uuid4().hex[:12]}"


@pytest.fixture
def writer(shared_redis: Redis, slug: str) -> StreamWriter:
    return StreamWriter(shared_redis, slug, "b1")


def stage(writer: StreamWriter, name: str, *lines: str, seconds: float | None = 1.0) -> None:
    """Write a stage with its lines; without `seconds` it goes on."""
    writer.write(f"{name} begins", type="stage", stage=name, state="started")
    writer.write(*lines, stage=name)
    if seconds is not None:
        writer.write(f"{name}: done", type="stage", stage=name, state="succeeded", seconds=seconds)


def clone(writer: StreamWriter) -> None:
    writer.write("Cloning https://github.com/acme/my-site", type="stage", stage="clone", state="started")
    writer.write(f"Commit {SHA} of main", stage="clone", stream="runner", level="info")
    writer.write("clone: done", type="stage", stage="clone", state="succeeded", seconds=0.4)


def path_of(slug: str, build: str = "b1") -> str:
    return f"/sites/{slug}/builds/{build}"


@pytest.fixture(scope="module")
def lost(browser: Browser, gateway: Gateway, shared_redis: Redis) -> Iterator[Tab]:
    """A build whose task was killed. It takes the gateway 35 s to be sure, so it is opened first."""
    writer = StreamWriter(shared_redis, "lost-site", "b1")
    stage(writer, "build", "its last words", seconds=None)
    with shared_redis.client() as client:  # as if that had been two minutes ago
        client.delete("events:lost-site")
        for event in writer.events:
            event["ts"] = "2026-01-05T10:00:00.000Z"
            client.xadd("events:lost-site", {"event": json.dumps(event)}, id=f"5-{event['seq']}")
    tab = Tab(browser).open(f"http://127.0.0.1:{gateway.port}{path_of('lost-site')}")
    yield tab
    tab.close()


@pytest.fixture(autouse=True)
def _lost_from_the_start(lost: Tab) -> None: ...


# --- what happened ------------------------------------------------------------------------------------------------


def test_a_live_build_is_shown_from_its_first_line(open_page: Open, writer: StreamWriter, slug: str) -> None:
    tab = open_page(path_of(slug))
    expect(tab.page.locator("#empty")).to_contain_text("Waiting for the build")

    clone(writer)
    stage(writer, "build", "first line", "second line", seconds=None)
    expect(tab.state).to_have_text("Building")
    expect(tab.line(6)).to_contain_text("second line")
    assert tab.page.title() == f"● Building · {slug}"
    expect(tab.page.locator("#commit")).to_have_attribute("href", f"https://github.com/acme/my-site/commit/{SHA}")

    writer.write(*(f"line {n}" for n in range(300)))
    tab.sees(tab.line(306))
    writer.end(**DONE)

    expect(tab.state).to_have_text("Succeeded")
    expect(tab.page.locator("#visit")).to_have_attribute("href", f"https://{slug}.example.com/")
    expect(tab.page.locator("#card")).to_contain_text("Published 28 files (1.2 MB)")
    assert tab.page.title() == f"✓ Succeeded · {slug}"
    assert tab.page.evaluate("document.querySelector('link[rel=icon]').href").rpartition("/")[2].startswith("icon-succ")
    tab.sees(tab.line(307))


def test_a_late_viewer_opens_at_the_last_line(open_page: Open, writer: StreamWriter, slug: str) -> None:
    clone(writer)
    stage(writer, "install", *(f"package {n}" for n in range(100)))
    stage(writer, "build", *(f"module {n}" for n in range(100)))
    writer.write("Publishing 28 files", type="stage", stage="upload", state="started")
    writer.write("upload: done", type="stage", stage="upload", state="succeeded", seconds=0.5)
    writer.end(**DONE)

    tab = open_page(path_of(slug))

    tab.sees(tab.line(210))
    tab.sees(tab.line(206))
    assert "module 99" in tab.shown
    tab.page.keyboard.press("g")
    heads = tab.page.locator("button.head")
    expect(heads.nth(1)).to_contain_text("install")
    assert [head.get_attribute("aria-expanded") for head in heads.all()][:3] == ["false", "false", "true"]


def test_a_viewer_of_a_failing_build_is_led_to_its_card(open_page: Open, writer: StreamWriter, slug: str) -> None:
    tab = open_page(path_of(slug))
    stage(writer, "build", *(f"line {n}" for n in range(200)), seconds=None)
    tab.sees(tab.line(201))

    writer.write("build: failed", type="stage", stage="build", state="failed", seconds=6.6)
    writer.end("Failed: npm run build ended with exit code 2.", **FAILED)

    expect(tab.page.locator("#card")).to_be_in_viewport(ratio=1)
    expect(tab.page.locator("#more")).to_be_hidden()


def test_a_failure_is_answered_first(open_page: Open, writer: StreamWriter, slug: str) -> None:
    clone(writer)
    stage(writer, "build", *(f"line {n}" for n in range(200)), ERROR, *(f"more {n}" for n in range(50)), seconds=None)
    writer.write("build: failed", type="stage", stage="build", state="failed", seconds=6.6)
    writer.end("Failed: npm run build ended with exit code 2.", **FAILED)

    tab = open_page(path_of(slug), permissions=["clipboard-read", "clipboard-write"])

    card = tab.page.locator("#card")
    expect(card).to_be_in_viewport(ratio=1)
    expect(card.locator("h2")).to_have_text("Build failed· TypeScript error insrc/App.tsx:3:7")
    expect(card.locator(".place")).to_have_attribute(
        "href", f"https://github.com/acme/my-site/blob/{SHA}/src/App.tsx#L3"
    )
    expect(card.locator(".excerpt")).to_have_text(ERROR)
    expect(card).to_contain_text("What to doAssign a number, or change the type of title.")
    expect(card.locator(".advice code")).to_have_text("title")
    card.get_by_role("button", name="Copy").click()
    assert ERROR in tab.page.evaluate("navigator.clipboard.readText()")
    card.get_by_role("button", name="Jump to log").click()
    tab.sees(tab.line(205))
    assert "error" in (tab.line(205).get_attribute("class") or "")


def test_a_failure_without_details_shows_its_first_error(open_page: Open, writer: StreamWriter, slug: str) -> None:
    stage(writer, "build", "fine", "Error: Cannot find module './theme.css'", "    at main.ts:1:2", seconds=None)
    writer.end("Failed: It failed.", status="failed", exit_code=40, stage="build", reason="It failed.")

    tab = open_page(path_of(slug))

    expect(tab.page.locator("#card .excerpt")).to_contain_text("Cannot find module './theme.css'")


def test_a_superseded_build_links_to_the_later_one(open_page: Open, writer: StreamWriter, slug: str) -> None:
    stage(writer, "build", "line")
    writer.end("Superseded", status="superseded", exit_code=60, reason="A later build took over.")

    tab = open_page(path_of(slug))

    expect(tab.state).to_have_text("Superseded")
    expect(tab.page.get_by_role("link", name="Open the latest build")).to_have_attribute("href", f"/sites/{slug}")


def test_the_page_of_a_site_moves_on_to_later_builds(
    open_page: Open, writer: StreamWriter, shared_redis: Redis, slug: str
) -> None:
    stage(writer, "build", "of the first")
    writer.end(**DONE)
    tab = open_page(f"/sites/{slug}")
    expect(tab.state).to_have_text("Succeeded")

    later = StreamWriter(shared_redis, slug, "b2", run=1_800_000_000_000)
    stage(later, "build", "of the second", seconds=None)

    expect(tab.line(2)).to_contain_text("of the second")
    assert tab.shown == ["build begins", "of the second"]
    expect(tab.page.locator(".row a.number").first).to_have_attribute("href", f"{path_of(slug, 'b2')}#L1")


def test_stages_are_compared_with_the_last_build(
    open_page: Open, writer: StreamWriter, program: Program, slug: str
) -> None:
    before = StreamWriter(program.redis, "elsewhere", "b0")
    before.write("once", seconds_ago=1000)
    before.end(seconds=60.0, stages={"clone": 1.0, "install": 20.0, "build": 30.0})
    put_archive(program, slug, "b0", before.archive)
    stage(writer, "install", "packages", seconds=12.0)
    stage(writer, "build", "modules", seconds=None)

    tab = open_page(path_of(slug))

    expect(tab.page.locator(".previous")).to_have_text("last build 1m 00s")
    expect(tab.page.locator(".stage", has_text="install")).to_contain_text("12s−8.0s")


# --- the log ------------------------------------------------------------------------------------------------------


def test_line_n_of_the_page_is_line_n_of_the_text(
    open_page: Open, gateway: Gateway, writer: StreamWriter, slug: str
) -> None:
    writer.write("\x1b[31mred", "", "the first half, ", stage="build")
    writer.write("the second", cont=True)
    writer.write("\x1b[38;5;208morange\x1b[0m\ttab", "123 lines left out")
    writer.write("", type="progress", stage="upload", done=1, total=2)
    writer.end(**DONE)

    tab = open_page(path_of(slug), permissions=["clipboard-read", "clipboard-write"])
    expect(tab.state).to_have_text("Succeeded")
    tab.page.locator("#copy").click()

    text = gateway.request(f"/api{path_of(slug)}/log.txt").body.decode()
    assert tab.page.evaluate("navigator.clipboard.readText()").split("\n") == text.rstrip("\n").split("\n")
    expect(tab.line(3)).to_contain_text("the first half, the second")


def test_hostile_text_is_only_ever_text(open_page: Open, writer: StreamWriter, slug: str) -> None:
    lines = [
        "<img src=x onerror=alert(1)><script>alert(1)</script>",
        "javascript:alert(1) data:text/html,x file:///etc/passwd",
        "see https://example.com/a?b=<b>&c and http://user@evil.example/(x).",
        "\x1b[31m\x1b]0;title\x07 \u202eright to left\u202c",
        "../../../../" * 500 + "x.ts:1:1",
        "((((((((" * 2000,
        "z" * 200_000,
        "Done",
        "last",
    ]
    writer.write(*lines)
    writer.end("Failed: <b>It</b> failed.", **{**FAILED, "reason": "<b>It</b> failed.", "hint": "<i>Fix</i> it."})

    tab = open_page(path_of(slug))

    expect(tab.page.locator("#card")).to_contain_text("<b>It</b> failed.")
    assert tab.page.locator("#card b, #card i, .log img, .log script").count() == 0
    tab.page.keyboard.press("g")
    expect(tab.line(1)).to_contain_text("<img src=x onerror=alert(1)>")
    links = tab.page.evaluate("[...document.querySelectorAll('.text a')].map((link) => [link.href, link.rel])")
    assert links == [
        ["https://example.com/a?b=", "noopener noreferrer nofollow"],
        ["http://user@evil.example/(x)", "noopener noreferrer nofollow"],
    ]
    expect(tab.line(4)).to_contain_text("]0;title right to left")
    assert "\u202e" not in "".join(tab.shown)
    tab.page.keyboard.press("G")
    tab.sees(tab.line(9))


def test_two_hundred_thousand_lines_scroll_and_search(open_page: Open, program: Program, slug: str) -> None:
    """The whole log is there, a screenful is drawn, and the scrollbar knows where each line is."""
    count = 200_000
    head = '{"v":1,"build":"big","seq":%d,"ts":"2026-01-05T10:00:00.000Z","stage":"build",%s}\n'
    events = [head % (1, '"type":"stage","state":"started","log":"Building"')]
    events += [head % (n, f'"type":"log","stream":"stdout","log":"[{n}] a line of output"') for n in range(2, count)]
    events += [head % (count, '"type":"result","status":"succeeded","exit_code":0,"seconds":9,"log":"Done"')]
    put_archive(program, slug, "big", "".join(events).encode())

    tab = open_page(path_of(slug, "big"))

    tab.sees(tab.line(count))
    assert tab.page.evaluate("document.querySelectorAll('.row').length") < 200
    tab.page.evaluate("scrollTo(0, document.getElementById('log').offsetTop + 34 + 99_999 * 20)")
    tab.sees(tab.line(100_010))
    tab.page.locator("#search").fill("[150000]")
    expect(tab.page.locator("#matches")).to_have_text("1 of 1")
    tab.sees(tab.line(150_000))
    tab.page.locator("#search").fill("of output")
    expect(tab.page.locator("#matches")).to_contain_text("of 199,998")
    timing = tab.page.evaluate("""() => new Promise((done) => {
        const times = [];
        let last = performance.now();
        const step = (now) => {
            times.push(now - last);
            last = now;
            scrollBy(0, 60);
            if (times.length < 60) requestAnimationFrame(step);
            else done(times.sort((a, b) => a - b)[30]);
        };
        requestAnimationFrame(step);
    })""")
    print(f"median time of a frame: {timing:.1f} ms")


def test_search_finds_lines_of_closed_stages(open_page: Open, writer: StreamWriter, slug: str) -> None:
    stage(writer, "install", *(f"package {n}" for n in range(50)), "a NEEDLE here")
    stage(writer, "build", *(f"module {n}" for n in range(50)), "needle needle")
    writer.end(**DONE)
    tab = open_page(path_of(slug))
    expect(tab.state).to_have_text("Succeeded")

    tab.page.keyboard.press("Control+f")
    expect(tab.page.locator("#search")).to_be_focused()
    tab.page.keyboard.type("needle")
    expect(tab.page.locator("#matches")).to_contain_text("of 3")
    for _ in range(3):
        tab.page.keyboard.press("Enter")
        if tab.page.locator("#matches").text_content() == "1 of 3":
            break

    expect(tab.line(52).locator("mark.current")).to_have_text("NEEDLE")
    tab.sees(tab.line(52))
    pixels = "document.getElementById('marks').getContext('2d').getImageData(0, 0, 10, 600).data.some((part) => part)"
    wait_for(lambda: bool(tab.page.evaluate(pixels)), "marks beside the scrollbar")
    tab.page.keyboard.press("Escape")
    assert tab.page.locator("mark").count() == 0


def test_filters_show_warnings_and_errors(open_page: Open, writer: StreamWriter, slug: str) -> None:
    stage(writer, "build", "fine", "warning: careful", "Error: wrong", "0 errors, 0 warnings", "also fine")
    writer.end(**DONE)
    tab = open_page(path_of(slug))
    expect(tab.page.locator("#warnings")).to_have_text("1")

    tab.page.get_by_role("button", name="Warnings 1").click()
    assert tab.shown == ["warning: careful", "Error: wrong"]
    tab.page.get_by_role("button", name="Errors 1").click()
    assert tab.shown == ["Error: wrong"]
    tab.page.get_by_role("button", name="All", exact=True).click()
    assert len(tab.shown) == 8


def test_a_reader_who_scrolls_up_is_left_alone(open_page: Open, writer: StreamWriter, slug: str) -> None:
    stage(writer, "build", *(f"line {n}" for n in range(200)), seconds=None)
    tab = open_page(path_of(slug))
    tab.sees(tab.line(201))

    tab.page.mouse.move(600, 500)
    tab.page.mouse.wheel(0, -1000)
    expect(tab.page.locator("#follow")).to_have_attribute("aria-pressed", "false")
    tab.page.wait_for_timeout(200)
    place = tab.page.evaluate("scrollY")
    writer.write(*(f"new {n}" for n in range(40)))

    more = tab.page.locator("#more")
    expect(more).to_have_text("↓ 40 new lines")
    assert tab.page.evaluate("scrollY") == place
    more.click()
    tab.sees(tab.line(241))
    writer.write("one more")
    tab.sees(tab.line(242))
    expect(tab.page.locator("#follow")).to_have_attribute("aria-pressed", "true")


def test_links_name_lines_and_ranges(open_page: Open, writer: StreamWriter, slug: str) -> None:
    stage(writer, "install", *(f"package {n}" for n in range(200)))
    stage(writer, "build", *(f"module {n}" for n in range(200)))
    writer.end(**DONE)

    tab = open_page(f"{path_of(slug)}#L120-L130")

    tab.sees(tab.line(120))
    assert "selected" in (tab.line(130).get_attribute("class") or "")
    assert "selected" not in (tab.line(131).get_attribute("class") or "")
    tab.line(122).locator("a.number").click()
    tab.line(125).locator("a.number").click(modifiers=["Shift"])
    assert tab.page.url.endswith(f"{path_of(slug)}#L122-L125")
    assert tab.page.locator(".row.selected").count() == 4


def test_a_selection_of_lines_out_of_sight_is_copied_whole(open_page: Open, writer: StreamWriter, slug: str) -> None:
    writer.write(*(f"line {n}" for n in range(1, 1001)))
    writer.end(**DONE)
    tab = open_page(path_of(slug), permissions=["clipboard-read", "clipboard-write"])
    tab.sees(tab.line(1001))
    select = """(end) => {
        const selection = getSelection();
        const row = document.querySelector(`a.number[href$="#L${end}"]`).parentElement;
        const text = document.createTreeWalker(row.querySelector(".text"), NodeFilter.SHOW_TEXT).nextNode();
        if (selection.isCollapsed) selection.setBaseAndExtent(text, 3, text, 5);
        else selection.extend(text, 6);
    }"""

    tab.page.keyboard.press("g")
    expect(tab.line(2)).to_be_visible()
    tab.page.evaluate(select, 2)
    tab.page.evaluate("scrollTo(0, 500 * 20)")
    expect(tab.line(500)).to_be_visible()
    tab.page.evaluate(select, 500)
    tab.page.evaluate("scrollTo(0, 800 * 20)")
    expect(tab.line(800)).to_be_visible()
    tab.page.keyboard.press("Control+c")

    copied = tab.page.evaluate("navigator.clipboard.readText()").split("\n")
    assert copied == ["e 2", *(f"line {n}" for n in range(3, 500)), "line 5"]


def test_printing_and_saving_give_the_whole_log(open_page: Open, writer: StreamWriter, slug: str) -> None:
    stage(writer, "install", "a package")
    stage(writer, "build", *(f"line {n}" for n in range(500)))
    writer.end(**DONE)
    tab = open_page(path_of(slug))
    expect(tab.state).to_have_text("Succeeded")

    tab.page.emulate_media(media="print")
    tab.page.evaluate("dispatchEvent(new Event('beforeprint'))")

    whole = tab.page.locator("#whole")
    expect(whole).to_be_visible()
    assert {f"line {n}" for n in range(500)} <= {each[9:] for each in whole.inner_text().split("\n")}


# --- what may go wrong --------------------------------------------------------------------------------------------


def test_a_gateway_that_restarts_loses_no_line(
    open_page: Open, program: Program, writer: StreamWriter, slug: str
) -> None:
    port = str(free_port())
    first = Gateway(program, "--port", port)
    try:
        stage(writer, "build", "before", seconds=None)
        tab = open_page(path_of(slug), port=int(port), allowed_errors="Failed to load resource")
        expect(tab.line(2)).to_contain_text("before")
        first.close()
        expect(tab.page.locator("#notice")).to_contain_text("Connection lost")
        writer.write("meanwhile")
        first = Gateway(program, "--port", port)
        writer.write("after")
        expect(tab.line(4)).to_contain_text("after")
        assert tab.shown == ["build begins", "before", "meanwhile", "after"]
        expect(tab.page.locator("#notice")).to_be_hidden()
        tab.close()
    finally:
        first.close()


def test_a_redis_that_comes_back_empty_doubles_no_line(
    open_page: Open, own_redis: Redis, s3: S3Server, open_folder: Path, slug: str
) -> None:
    gateway = Gateway(WarmProgram(own_redis, s3, open_folder))
    try:
        writer = StreamWriter(own_redis, slug, "b1")
        writer.write("one", "two")
        tab = open_page(path_of(slug), port=gateway.port, allowed_errors="Failed to load resource")
        expect(tab.line(2)).to_contain_text("two")
        own_redis.kill()
        own_redis.start()
        again = StreamWriter(own_redis, slug, "b1")
        again.write("one", "two", "three")
        again.end(**DONE)
        expect(tab.state).to_have_text("Succeeded")
        assert tab.shown == ["one", "two", "three", "Done"]
        tab.close()
    finally:
        gateway.close()


def test_a_viewer_is_told_while_redis_does_not_respond(
    open_page: Open, own_redis: Redis, s3: S3Server, open_folder: Path, slug: str
) -> None:
    gateway = Gateway(WarmProgram(own_redis, s3, open_folder))
    try:
        writer = StreamWriter(own_redis, slug, "b1")
        writer.write("one")
        tab = open_page(path_of(slug), port=gateway.port, allowed_errors="Failed to load resource")
        expect(tab.line(1)).to_contain_text("one")
        notice = tab.page.locator("#notice")
        own_redis.kill()
        expect(notice).to_contain_text("Redis does not respond. The build continues")
        own_redis.start()
        StreamWriter(own_redis, slug, "b1").write("one", "two")
        expect(tab.line(2)).to_contain_text("two")
        expect(notice).to_be_hidden()
        tab.close()
    finally:
        gateway.close()


def test_a_build_that_never_begins_is_said_to_be_unknown(open_page: Open, slug: str) -> None:
    """The gateway's answer after five minutes, which its own tests have seen, is given here at once."""
    tab = open_page("/sites/unknown/builds/b0")
    answer = 'event: end\ndata: {"reason":"not_found"}\n\n'
    tab.page.route("**/events*", lambda route: route.fulfill(content_type="text/event-stream", body=answer))
    tab.open(tab.page.url)
    empty = tab.page.locator("#empty")
    expect(empty).to_contain_text("No such build")
    tab.page.unroute("**/events*")
    empty.get_by_role("button", name="Keep waiting").click()
    expect(empty).to_contain_text("Waiting for the build")


def test_a_lost_build_says_since_when_and_where_to_look(lost: Tab) -> None:
    expect(lost.state).to_have_text("Lost")
    expect(lost.page.locator("#card")).to_contain_text("No events have arrived since Jan 5")
    expect(lost.page.locator("#card")).to_contain_text("Stopped reason")
    expect(lost.line(2)).to_contain_text("its last words")


# --- for everyone -------------------------------------------------------------------------------------------------


def test_everything_can_be_done_with_the_keyboard(open_page: Open, writer: StreamWriter, slug: str) -> None:
    stage(writer, "install", *(f"package {n}" for n in range(100)))
    stage(writer, "build", *(f"module {n}" for n in range(100)))
    writer.end(**DONE)
    tab = open_page(path_of(slug))
    tab.sees(tab.line(205))
    keyboard = tab.page.keyboard

    keyboard.press("/")
    keyboard.type("module 5")
    expect(tab.page.locator("#matches")).to_contain_text("of 11")
    keyboard.press("Enter")
    keyboard.press("Escape")
    keyboard.press("?")
    expect(tab.page.locator("#help")).to_be_visible()
    keyboard.press("Escape")
    keyboard.press("g")
    expect(tab.page.locator("#card")).to_be_in_viewport()
    head = tab.page.locator("button.head", has_text="install")
    expect(head).to_have_attribute("aria-expanded", "false")
    head.focus()
    keyboard.press("Enter")
    expect(head).to_have_attribute("aria-expanded", "true")
    expect(head).to_be_focused()
    keyboard.press("G")
    tab.sees(tab.line(205))
    expect(tab.page.locator("#follow")).to_have_attribute("aria-pressed", "true")
    keyboard.press("f")
    expect(tab.page.locator("#follow")).to_have_attribute("aria-pressed", "false")
    tab.line(200).locator("a.number").focus()
    keyboard.press("ArrowUp")
    expect(tab.line(199).locator("a.number")).to_be_focused()
    keyboard.press("Enter")
    assert tab.page.url.endswith("#L199")


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong(open_page: Open, writer: StreamWriter, scheme: str, slug: str) -> None:
    colors = " ".join(f"\x1b[{code}mcolor {code}\x1b[0m" for code in [*range(30, 38), *range(90, 98)])
    more = "".join(f"\x1b[38;5;{code}m{code} " for code in range(16, 256, 5)) + "\x1b[0m"
    back = " ".join(f"\x1b[{code}m back {code} \x1b[0m" for code in [*range(40, 48), *range(100, 108)])
    clone(writer)
    stage(
        writer,
        "build",
        colors,
        more,
        back,
        "\x1b[2mdim\x1b[22m \x1b[7minverse\x1b[27m",
        "warning: careful",
        seconds=None,
    )
    tab = open_page(path_of(slug), color_scheme=scheme)
    expect(tab.line(9)).to_be_visible()
    assert tab.axe() == []
    writer.write(ERROR)
    writer.end("Failed: It failed.", **FAILED)
    expect(tab.page.locator("#card")).to_be_visible()
    tab.page.locator("#search").fill("color")
    expect(tab.page.locator("#matches")).to_contain_text("of 16")
    assert tab.axe() == []
    tab.page.keyboard.press("Escape")
    tab.page.keyboard.press("?")
    assert tab.axe() == []


def test_a_phone_shows_state_and_last_line(open_page: Open, writer: StreamWriter, slug: str) -> None:
    clone(writer)
    stage(writer, "build", *("word " * 40 + str(n) for n in range(100)))
    writer.end(**DONE)

    tab = open_page(path_of(slug), **PHONE)

    tab.sees(tab.line(106))
    expect(tab.state).to_be_in_viewport()
    expect(tab.page.locator("#visit")).to_be_in_viewport()
    expect(tab.page.locator("#site")).to_be_in_viewport(ratio=1)
    assert tab.page.evaluate("document.documentElement.scrollWidth") == 390
    assert tab.axe() == []


def test_the_page_is_small_and_asks_only_for_the_stream(
    open_page: Open, gateway: Gateway, writer: StreamWriter, slug: str
) -> None:
    stage(writer, "build", "line", seconds=None)

    tab = open_page(path_of(slug))
    expect(tab.line(2)).to_be_visible()
    writer.write("more")
    expect(tab.line(3)).to_be_visible()

    paths = [address.removeprefix(f"http://127.0.0.1:{gateway.port}") for address in tab.requests]
    files = [path for path in paths if not path.startswith("/api/")]
    assert sum(len(gzip.compress(gateway.request(path).body)) for path in set(files)) < 40_000
    api = [path.partition("?")[0] for path in paths if path.startswith("/api/")]
    assert sorted(api) == [f"/api/sites/{slug}/builds", f"/api{path_of(slug)}/events"]
