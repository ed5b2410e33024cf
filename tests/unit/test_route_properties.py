"""Test properties that hold for every request and all rules."""

from __future__ import annotations

import json
import re
from functools import partial
from urllib.parse import urljoin, urlsplit

from hypothesis import given
from hypothesis import strategies as st

from buildrunner.routing.collect import RuleFile, collect_rules
from buildrunner.routing.document import Document
from buildrunner.routing.paths import encode_path, normalize_path
from buildrunner.routing.route import Request, route

# Parts of attacks, and arbitrary text.
PIECES = st.sampled_from(
    re.split(
        " ",
        "/ // \\ .. . %2f %2F %5c %2e %00 %0d%0a @ : ? # & = a b dir index .html 404.html evil.com http: https://evil.com"
        " \u00e9 %C3%A9 %ff % * :splat :name $1 \ud800 \u202e \u65e5\u672c %20 %25",
    )
) | st.sampled_from(" \r\n\t\x00")
TEXTS = st.lists(PIECES | st.text(max_size=3), max_size=12).map("".join)
PATHS = TEXTS.map(lambda text: f"/{text}")
STATUSES = st.sampled_from([200, 301, 302, 308, 404, 410])
LINES = st.builds(
    "{} {} {} {}{}".format,
    st.sampled_from(["/*", "/a/*", "/:name", "/a/:name", "/dir", "/", "/*/b"]) | PATHS,
    st.sampled_from(["", "a=:q", "x=1"]),
    st.sampled_from(["/", "/:splat", "/a/:splat", "/:q", "/:name", "//:q", "https://example.com/:splat"]) | PATHS,
    STATUSES,
    st.sampled_from(["", "!"]),
)
SOURCES = st.sampled_from(["/(.*)", "/:name*", "/a/:name", "/((?!a).*)", "/:name(\\d+)", "/a{-:name}?", "/"]) | PATHS
ITEMS = st.fixed_dictionaries(
    {"source": SOURCES, "destination": st.sampled_from(["/:name", "/$1", "/:name*", "/b"]) | PATHS}
)
HEADERS = st.fixed_dictionaries(
    {"source": SOURCES, "headers": st.lists(st.fixed_dictionaries({"key": TEXTS, "value": TEXTS}), max_size=2)}
)
VERCEL = st.fixed_dictionaries(
    {},
    optional={
        "redirects": st.lists(ITEMS, max_size=3),
        "rewrites": st.lists(ITEMS, max_size=3),
        "headers": st.lists(HEADERS, max_size=2),
        "cleanUrls": st.booleans(),
        "trailingSlash": st.booleans(),
    },
)
FILES = st.frozensets(
    st.sampled_from(
        [
            "index.html",
            "404.html",
            "200.html",
            "a.html",
            "a/index.html",
            "dir/index.html",
            "dir/404.html",
            "app.js",
            "a/b",
        ]
    )
)


@st.composite
def documents(draw: st.DrawFn) -> Document:
    texts = {
        "_redirects": "\n".join(draw(st.lists(LINES, max_size=4))),
        "_headers": draw(st.just("/*\n  x: :splat") | TEXTS),
        "vercel.json": json.dumps(draw(VERCEL)),
    }
    files = [RuleFile(name, name, partial(bytes, text.encode(errors="surrogatepass"))) for name, text in texts.items()]
    found = collect_rules(files, draw(st.sampled_from([[], ["index.html"]])))
    return Document.from_json(found.document.to_json())


@given(documents(), FILES, PATHS | TEXTS, TEXTS, TEXTS)
def test_no_request_leaves_the_site(
    document: Document, files: frozenset[str], path: str, query: str, host: str
) -> None:
    """Keys are the site's. A Location is printable ASCII, and starts with a single slash or the scheme in its rule."""
    asked: list[str] = []

    def exists(key: str) -> bool:
        asked.append(key)
        return key in files

    answer = route(Request(path, query, host=host), document, exists)
    for key in asked:
        assert not key.startswith("/")
        assert not {"..", ".", ""} & set(key.split("/"))
        assert not re.search(r"[\x00-\x1f\x7f\\]", key)
        key.encode()
    assert answer.key is None or answer.key in files
    assert (answer.status in {301, 302, 307, 308}) == (answer.location is not None)
    if answer.location is not None:
        assert re.fullmatch(r"[\x21-\x7e]+", answer.location)
        assert not re.match(r"/[/\\]", answer.location)
        if answer.location.startswith("/"):
            assert urlsplit(urljoin("https://site.invalid/a", answer.location)).netloc == "site.invalid"
        else:
            assert re.match(r"https?://", answer.location)
    for name, value in answer.headers:
        assert re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name)
        assert not re.search(r"[\x00-\x1f\x7f]", value)


@given(documents())
def test_documents_survive_being_stored(document: Document) -> None:
    assert Document.from_json(document.to_json()) == document
    assert Document.from_json(document.to_json()).to_json() == document.to_json()


@given(PATHS | TEXTS)
def test_paths_are_normalized_once(raw: str) -> None:
    path = normalize_path(raw)
    assert path.startswith("/")
    assert not path.startswith("//")
    assert normalize_path(encode_path(path)) == path


@given(FILES, PATHS)
def test_sites_without_rules_redirect_at_most_once(files: frozenset[str], path: str) -> None:
    document = Document(single_page=files & {"index.html"} == files)
    answer = route(Request(path), document, files.__contains__)
    if answer.location:
        again = route(Request(answer.location.partition("?")[0]), document, files.__contains__)
        assert again.status == 200


@given(FILES, PATHS, st.booleans(), st.booleans() | st.none())
def test_settings_of_vercel_never_redirect_in_circles(
    files: frozenset[str], path: str, clean: bool, slash: bool | None
) -> None:
    document = Document(clean_urls=clean, trailing_slash=slash)
    for _ in range(4):
        answer = route(Request(path), document, files.__contains__)
        if not answer.location:
            return
        path = answer.location.partition("?")[0]
    raise AssertionError(path)
