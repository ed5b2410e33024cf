"""Test the pure parts of the gateway: encoding events, cursors of viewers, file names, tokens, and client addresses."""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import time
from contextlib import ExitStack
from importlib.resources import files
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.errors import ConfigurationError
from buildrunner.gateway.assets import load_assets
from buildrunner.gateway.builds import describe_build
from buildrunner.gateway.downloads import read_log
from buildrunner.gateway.events import Event, PlainText, Position, parse_event, to_blocks
from buildrunner.gateway.settings import read_gateway_settings
from buildrunner.gateway.sharing import History, Piece, SharedReads
from buildrunner.gateway.tokens import make_token, read_token
from buildrunner.web.limits import MAX_PER_ADDRESS, Clients, TooManyRequests, client_address
from buildrunner.web.listening import is_loopback

NOTHING: dict[str, Any] = {}
SECRET = b"0123456789abcdef0123456789abcdef"


def encoded(seq: int, build: str = "b", /, **fields: Any) -> bytes:
    event = {"v": 1, "build": build, "seq": seq, "ts": f"2026-11-29T12:00:{seq % 60:02}.000Z", "type": "log", **fields}
    return json.dumps(event, ensure_ascii=False, separators=(",", ":")).encode()


def entries(events: list[bytes]) -> list[tuple[bytes, bytes]]:
    return [(b"1-%d" % number, event) for number, event in enumerate(events, 1)]


def parse_sse(stream: bytes) -> list[tuple[str, bytes]]:
    """Read a stream as a browser does; return ids and data."""
    messages, data, identity = [], [], ""
    for line in stream.decode().replace("\r\n", "\n").replace("\r", "\n").split("\n"):
        name, _, value = line.partition(": ")
        if name == "data":
            data.append(value)
        elif name == "id":
            identity = value
        elif not line and data:
            messages.append((identity, "\n".join(data).encode()))
            data = []
    return messages


@given(
    st.lists(st.tuples(st.sampled_from("ab"), st.integers(1, 6), st.text(max_size=20)), max_size=30),
    st.integers(0, 6),
)
def test_blocks_hold_every_event_in_order(found: list[tuple[str, int, str]], after: int) -> None:
    events = [encoded(seq, build, log=log) for build, seq, log in found]
    blocks = to_blocks(entries(events))

    assert [data for block in blocks for _, data in parse_sse(block.payload)] == events
    for block in blocks:
        assert [identity for identity, _ in parse_sse(block.payload)] == [
            f"{block.build}:{seq}" for seq in range(block.first, block.last + 1)
        ]
        if block.first - 1 <= after < block.last:
            wanted = [f"{block.build}:{seq}" for seq in range(after + 1, block.last + 1)]
            assert [identity for identity, _ in parse_sse(block.after(after))] == wanted


def test_what_is_no_event_is_skipped() -> None:
    garbage = [
        b"",
        b"{",
        b"[]",
        b'"x"',
        b"null",
        b'{"build":"b"}',
        encoded(0),
        encoded(1, "no/id"),
        b"\xff",
        b"[" * 5000,
    ]
    garbage += [b'{"build":"b","seq":"1"}', b'{"build":"b","seq":true}', b'{"build":["b"],"seq":1}']

    assert [parse_event(each) for each in garbage] == [None] * len(garbage)
    assert [block.last for block in to_blocks(entries([*garbage, encoded(1), *garbage, encoded(2)]))] == [2]


def test_json_with_line_ends_stays_one_message() -> None:
    pretty = json.dumps(json.loads(encoded(1)), indent=1).replace("\n", "\r\n").encode()
    (block,) = to_blocks(entries([pretty]))

    ((identity, data),) = parse_sse(block.payload)
    assert identity == "b:1"
    assert json.loads(data) == json.loads(pretty)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=6), st.integers(0, 12))
def test_a_position_takes_each_event_once(starts: list[int], after: int) -> None:
    """Blocks overlap and are repeated, as after Redis lost its data."""
    position, seen = Position("b", after), []
    for start in [1, *starts]:
        for block in to_blocks(entries([encoded(seq) for seq in range(start, 13)])):
            seen += [identity for identity, _ in parse_sse(position.take(block))]

    assert seen == [f"b:{seq}" for seq in range(after + 1, 13)]


def test_a_position_starts_again_with_another_first_event() -> None:
    position = Position("b")
    first = [encoded(seq, ts="2026-01-01T00:00:00.000Z") for seq in (1, 2, 3)]
    second = [encoded(seq, ts="2026-01-01T00:01:00.000Z") for seq in (1, 2)]

    taken = b"".join(position.take(block) for events in (first, first, second) for block in to_blocks(entries(events)))

    assert [data for _, data in parse_sse(taken)] == first + second


@given(st.lists(st.tuples(st.text("abc", max_size=3), st.booleans()), max_size=20), st.integers(1, 7))
def test_text_has_a_line_for_each_event_that_has_one(lines: list[tuple[str, bool]], size: int) -> None:
    events = [
        encoded(seq, log=f"\x1b[31m{log}\x1b[0m", **({"cont": True} if cont else NOTHING))
        for seq, (log, cont) in enumerate(lines, 1)
    ]
    text = PlainText()
    written = (
        "".join(text.add([*events[at : at + size], encoded(99)]) for at in range(0, len(events), size)) + text.end()
    )

    wanted: list[str] = []
    for log, cont in lines:
        if cont and wanted:
            wanted[-1] += log
        else:
            wanted.append(log)
    assert written == "".join(f"{line}\n" for line in wanted)


def test_files_refer_to_each_other_by_hashed_names(tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text('<script src="/static/a.js"></script><a href="/static/none.js">a.js</a>')
    (tmp_path / "error.html").write_text("{{title}}")
    (tmp_path / "embed.js").write_text('import "./a.js";')
    (tmp_path / "client.js").write_text("")
    (tmp_path / "a.js").write_text('import { b } from "./b.js"; // from ./b.js\nconst c = "; // ./b.js";')
    (tmp_path / "b.js").write_text("import './a.js';")
    (tmp_path / "page.css").write_text("a{background:url(./dot.svg)}")
    (tmp_path / "dot.svg").write_text("<svg/>")

    assets = load_assets(tmp_path)
    (a,) = (name for name in assets.static if name.startswith("a."))
    version = a.split(".")[1]
    bodies = {name: asset.body.decode() for name, asset in assets.static.items()}

    assert assets.shell.body.decode() == f'<script src="/static/{a}"></script><a href="/static/none.js">a.js</a>'
    assert assets.modules["embed.js"].body.decode() == f'import "/static/{a}";'
    assert bodies[a] == f'import {{ b }} from "/static/b.{version}.js";\nconst c = "; // ./b.js";'
    assert bodies[f"b.{version}.js"] == f"import '/static/{a}';"
    assert bodies[f"page.{version}.css"] == f"a{{background:url(/static/dot.{version}.svg)}}"
    (tmp_path / "dot.svg").write_text("<svg></svg>")
    assert a not in load_assets(tmp_path).static


def test_a_token_is_valid_for_its_site_until_it_expires() -> None:
    assert read_token(SECRET, make_token(SECRET, "my-site", 60)) == "my-site"
    assert read_token(SECRET, make_token(SECRET, "my-site", -1)) is None
    assert read_token(SECRET[::-1], make_token(SECRET, "my-site", 60)) is None


@pytest.mark.parametrize("claims", [{"exp": str(int(time.time()) + 60)}, {"nbf": "0"}, {"exp": True}])
def test_a_moment_that_is_no_number_is_no_moment(claims: dict[str, Any]) -> None:
    assert read_token(SECRET, jwt.encode({"sub": "*", "exp": int(time.time()) + 60, **claims}, SECRET, "HS256")) is None


@given(st.text(max_size=80) | st.binary(max_size=60).map(lambda raw: f"eyJhbGciOiJIUzI1NiJ9.{raw.hex()}.{raw.hex()}"))
def test_garbage_is_no_token(text: str) -> None:
    assert read_token(SECRET, text) is None


@pytest.mark.parametrize("header", [{"alg": "none"}, {"alg": "HS512"}, {"alg": "RS256"}, {"crit": ["x"], "x": 1}])
def test_only_plain_hs256_counts(header: dict[str, Any]) -> None:
    from base64 import urlsafe_b64encode

    claims = {"sub": "*", "exp": int(time.time()) + 60}
    signed = jwt.encode(claims, SECRET, "HS256", headers=header if "crit" in header else None)
    if "crit" not in header:
        head = urlsafe_b64encode(json.dumps(header).encode()).rstrip(b"=").decode()
        signed = ".".join([head, *signed.split(".")[1:]])

    assert read_token(SECRET, signed) is None


@pytest.mark.parametrize(
    ("peer", "forwarded", "address"),
    [
        ("8.8.8.8", [], "8.8.8.8"),
        ("8.8.8.8", ["1.1.1.1"], "8.8.8.8"),  # a stranger is not believed
        ("10.0.0.1", [], None),
        ("127.0.0.1", ["9.9.9.9, 1.1.1.1"], "1.1.1.1"),
        ("127.0.0.1", ["9.9.9.9", "1.1.1.1"], "1.1.1.1"),
        ("127.0.0.1", ["9.9.9.9, garbage"], None),
        ("127.0.0.1", ["10.0.0.9"], None),
        (None, [], None),
        ("2001:4860:4860::8888", [], "2001:4860:4860::8888"),
    ],
)
def test_requests_count_for_the_public_address(peer: str | None, forwarded: list[str], address: str | None) -> None:
    assert client_address(peer, forwarded) == address


@pytest.mark.parametrize(
    ("host", "is_here"),
    [
        ("localhost", True),
        ("LOCALHOST", True),
        ("a.localhost", True),
        ("127.3.2.1", True),
        ("::1", True),
        ("[::1]", True),
    ]
    + [
        (host, False)
        for host in ("", "0.0.0.0", "::", "10.0.0.1", "localhost.example.com", "xlocalhost", "127.1", "0x7f.1")
    ],
)
def test_loopback_is_known_by_name_and_address(host: str, is_here: bool) -> None:
    assert is_loopback(host) is is_here


def test_settings_are_read_and_secrets_never_shown() -> None:
    environment = {
        "REDIS_URI": "redis://user:hidden-password@localhost",
        "GATEWAY_SECRET": "s" * 32,
        "GATEWAY_ORIGINS": "https://app.example.com, http://localhost:3000,",
        "SITE_URL": "https://{slug}.example.com",
        "EVENT_STREAM": "e:{slug}",
    }
    settings = read_gateway_settings(environment, host="0.0.0.0", port=0)

    assert settings.origins == ("https://app.example.com", "http://localhost:3000")
    assert settings.logs.stream_of("x") == "e:x"
    assert settings.logs.state_bucket is None
    assert "hidden" not in repr(settings)
    assert "ssss" not in repr(settings)
    for name, value in (
        ("GATEWAY_SECRET", "ä" * 15),
        ("SITE_URL", "https://example.com"),
        ("SITE_URL", "javascript:{slug}"),
        ("GATEWAY_ORIGINS", "app.example.com"),
        ("GATEWAY_ORIGINS", "https://a.example.com/"),
        ("EVENT_STREAM", "events"),
        ("AWS_BUCKET_NAME", "sites"),  # without a region
    ):
        with pytest.raises(ConfigurationError) as raised:
            read_gateway_settings({**environment, "HOME": "/none", name: value}, host="0.0.0.0", port=0)
        assert len(raised.value.problems) == 1


def test_a_build_is_described_by_what_is_known() -> None:
    first = json.loads(encoded(1, stage="prepare"))
    last = json.loads(encoded(10, stage="build"))
    running = describe_build(first, last, age=3.0, url=None)
    lost = describe_build(first, last, age=90.0, url="https://x.example.com")

    assert running == {"build": "b", "status": "running", "stage": "build", "seconds": 12.0, "started": first["ts"]}
    assert (lost["status"], lost["seconds"], lost["url"]) == ("lost", 9.0, "https://x.example.com")
    assert describe_build({"build": "b"}, {"build": "b"}, age=0, url=None) == {"build": "b", "status": "running"}


def test_readers_of_the_same_share_one_read_and_its_end() -> None:
    calls: list[int] = []

    async def scenario() -> None:
        reads, go = SharedReads[int](), asyncio.Event()

        async def read() -> int:
            calls.append(1)
            await go.wait()
            await asyncio.sleep(0)
            if len(calls) == 1:
                raise ValueError
            return len(calls)

        tasks = [asyncio.ensure_future(reads.get("key", read)) for _ in range(5)]
        await asyncio.sleep(0)
        assert len(calls) == 1
        tasks[4].cancel()  # who leaves takes nobody along
        go.set()
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert isinstance(results[0], ValueError)
        assert results[1:4] == [2, 2, 2]
        assert isinstance(results[4], asyncio.CancelledError)
        leader = asyncio.ensure_future(reads.get("other", lambda: asyncio.sleep(60, 1)))
        await asyncio.sleep(0)
        follower = asyncio.ensure_future(reads.get("other", lambda: asyncio.sleep(0, 2)))
        await asyncio.sleep(0)
        leader.cancel()
        assert await follower == 2

    asyncio.run(scenario())


def test_history_is_bounded_and_keeps_what_was_read_last() -> None:
    block = to_blocks(entries([encoded(1, log="x" * 2**20)]))[0]
    reads: list[int] = []

    async def scenario() -> None:
        history = History()

        async def get(key: int) -> None:
            async def read() -> Piece:
                reads.append(key)
                return Piece((block,), keeps=key < 100)

            await history.get(key, read)

        for key in (*range(20), 19, 19, 0, 100, 100):
            await get(key)

    asyncio.run(scenario())
    assert reads == [*range(20), 0, 100, 100]


def test_an_event_knows_its_place() -> None:
    assert parse_event(encoded(7, type="result")) == Event(
        "b", 7, "result", "2026-11-29T12:00:07.000Z", encoded(7, type="result")
    )


def test_an_address_has_a_bounded_number_of_requests() -> None:
    def request(peer: str) -> Any:
        return SimpleNamespace(remote=peer, headers=SimpleNamespace(getall=lambda _name, default: default))

    clients = Clients()
    with ExitStack() as stack:
        for _ in range(MAX_PER_ADDRESS):
            stack.enter_context(clients.request(request("8.8.8.8")))
        with pytest.raises(TooManyRequests), clients.request(request("8.8.8.8")):
            pass
        for other in ["8.8.4.4", *["127.0.0.1"] * (MAX_PER_ADDRESS + 1)]:
            stack.enter_context(clients.request(request(other)))
    with clients.request(request("8.8.8.8")):
        pass


@pytest.mark.skipif(not shutil.which("node"), reason="there is no Node.js")
def test_links_are_found_in_one_pass_over_a_hostile_line() -> None:
    text = files("buildrunner.gateway") / "static" / "text.js"
    script = f"""
        import {{ findLinks }} from {json.dumps(str(text))};
        for (const tail of [")", ".", ".)", "_]"]) findLinks("http://a" + tail.repeat(200_000) + "b");
        for (const url of ["http://a/(b).", "http://a/b).", "http://a/b]!*", "http://a/(b))_"])
            console.log(findLinks(url)[0].address);
    """
    run = subprocess.run(
        ["node", "--input-type=module", "-e", script], capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.split() == ["http://a/(b)", "http://a/b", "http://a/b", "http://a/(b)"]


@pytest.mark.parametrize("sizes", [[15_000] * 200, [10] * 1200 + [16_000] * 600, [90_000] * 20, [1]])
def test_a_download_holds_a_bounded_part_of_the_log(sizes: list[int]) -> None:
    entries = [
        (b"7-%d" % seq, {b"event": json.dumps({"build": "b", "seq": seq, "log": "x" * size}).encode()})
        for seq, size in enumerate(sizes, 1)
    ]

    async def xrange(_key: str, *, count: int, **bounds: bytes) -> list[Any]:
        after = int(bounds["min"].partition(b"-")[2] or 0)
        return entries[after : after + count]

    async def xrevrange(_key: str, count: int) -> list[Any]:
        return entries[-count:]

    async def read() -> list[list[bytes]]:
        redis: Any = SimpleNamespace(xrange=xrange, xrevrange=xrevrange)
        return [batch async for batch in read_log(redis, "events:s", None, "s", "b")]

    batches = asyncio.run(read())
    assert [event for batch in batches for event in batch] == [fields[b"event"] for _, fields in entries]
    assert max(sum(map(len, batch)) for batch in batches) <= 256 * 2**10
