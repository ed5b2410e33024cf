"""Files with rules of other hosts: each documented form, and what cannot be applied. Rows name the document that they are from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import partial

import pytest

from buildrunner.routing.collect import MAX_FILE_BYTES, RuleFile, collect_rules
from buildrunner.routing.document import MAX_DOCUMENT_BYTES, Document, DocumentError
from buildrunner.routing.route import Answer, Request, route
from buildrunner.routing.warnings import Warnings, shown

FILES = frozenset({"index.html", "404.html", "page.html", "path.html", "app.js", "dir/index.html", "a.jpg"})


def collect(rules: Mapping[str, str | bytes]) -> tuple[Document, list[str]]:
    files: list[RuleFile] = []
    for name, text in rules.items():
        data = text.encode() if isinstance(text, str) else text
        files.append(RuleFile(name, name, partial(bytes, data)))
    found = collect_rules(files, ["index.html", "page.html"])
    return Document.from_json(found.document.to_json()), [str(warning) for warning in found.warnings]


def ask(document: Document, target: str, **more: str) -> Answer:
    path, _, query = target.partition("?")
    return route(Request(path, query, **more), document, FILES.__contains__)  # type: ignore[arg-type]


def show(answer: Answer) -> str:
    return f"{answer.status} {answer.location or answer.key or '-'}"


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        # netlify/build, redirect-parser, tests/line-parser.test.ts
        ("", "/x", "404 404.html"),
        ("/blog/my-post.php /blog/my-post\n\n/two.php /two", "/two.php", "301 /two"),
        ("/10th http://www.10th.com/ 301\n/b http://eepurl.com/L 301", "/10th", "301 http://www.10th.com/"),
        ("   /home   /   ", "/home", "301 /"),
        ("# comment\n/blog/a.php /blog/a", "/blog/a.php", "301 /blog/a"),
        ("/blog/a.php /blog/a # comment", "/blog/a.php", "301 /blog/a"),
        ("/ page=news /news 301!", "/?page=news", "301 /news"),
        ("/blog post=:post_id /blog/:post_id", "/blog?post=7", "301 /blog/7"),
        ("/ _escaped_fragment_=/about /about 301!", "/?_escaped_fragment_=/about", "301 /about"),
        ("/a.php /blog/a#ads", "/a.php", "301 /blog/a#ads"),
        ("/* https://www.example.com/:splat 301!", "/", "301 https://www.example.com/"),
        ("/admin/* 200", "/admin/x", "404 404.html"),
        ("/test https://www.example.com/test=hello 301", "/test", "301 https://www.example.com/test=hello"),
        # https://developers.cloudflare.com/pages/configuration/redirects/
        ("/home301 / 301", "/home301", "301 /"),
        ("/home302 / 302", "/home302", "302 /"),
        ("/querystrings /?query=string 301", "/querystrings", "301 /?query=string"),
        ("/twitch https://twitch.tv", "/twitch", "301 https://twitch.tv"),
        ("/trailing /trailing/ 301", "/trailing", "404 404.html"),
        ("/notrailing/ /nottrailing 301", "/notrailing/", "301 /nottrailing"),
        ("/page/ /page2/#fragment 301", "/page/", "308 /page"),
        ("/blog/* https://blog.my.domain/:splat", "/blog/a/b", "301 https://blog.my.domain/a/b"),
        ("/products/:code/:name /products?code=:code&name=:name", "/products/1/a", "301 /products?code=1&name=a"),
        ("/source#part /to", "/source", "301 /to"),
        # Windows line ends, a byte order mark, tabs.
        ("\ufeff/a\t/b\t302\r\n/c /d\r\n", "/a", "302 /b"),
        ("/a /b\r\n/c /d 303\r\n", "/c", "303 /d"),
    ],
)
def test_reads_redirects(text: str, target: str, expected: str) -> None:
    document, warnings = collect({"_redirects": text})
    assert (show(ask(document, target)), warnings) == (expected, [])


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        # netlify/build, redirect-parser, "Validate syntax errors"
        ("/a", "it has no destination"),
        ("/a 301", "it has no destination"),
        ("/a b=c", "no destination starts with"),
        ("/a b", "no destination starts with"),
        ("a /b", 'the path does not start with "/"'),
        ("/a /b 99", '"99" is not a status code'),
        ("/a /b 600", "status 600 is not supported"),
        ("/a /b 20x", '"20x" is not a status code'),
        ("http:// /b", "the URL is not valid"),
        ("/.netlify/x /b", "reserved by Netlify"),
        ("http://example.com/.netlify/x /b", "reserved by Netlify"),
        ("X-Frame-Options: DENY", "no destination"),
        # Netlify, redirect options
        ("/ /china 302 Country=ch,tw", "the visitor's country"),
        ("/ /china 302 Language=en", "the visitor's language"),
        ("/admin/* /admin/:splat 200 Role=admin", "a role"),
        ("/a /b 302 Cookie=nf_ab", "a cookie"),
        ("/donate source=:source /us?s=:source 302 Country=us", "the visitor's country"),
        ("/a /b Country=us", "the visitor's country"),
        ("/api/* https://api.example.com/:splat 200", "a proxy"),
        ("/api/* https://api.example.com/:splat 200! Sign=SECRET", '"Sign"'),
        ("/api/* /.netlify/functions/:splat 200", "functions are not supported"),
        ("/a https://example.com/404 404", "must be in the site"),
        ("http://example.com/* https://example.com/:splat 301!", "TLS is terminated"),
        # Cloudflare: sources are paths
        ("/a?b=c /d", "has no query"),
        ("/a //example.com", 'starts with "//"'),
        ("/a /\\example.com", 'starts with "//"'),
        ("/a https:// 301", "not a valid URL"),
        (f"/{'x' * 2000} /b", "longer than"),
        (f"/a /{'x' * 5000}", "too long"),
        (f"/{'*' * 11} /b", "asterisks"),
        ("/a b= c /d", "not a parameter"),
        ("/* /" + ":splat" * 51, "more than 50 times"),
    ],
)
def test_warns_of_redirects_that_it_cannot_apply(line: str, reason: str) -> None:
    document, warnings = collect({"_redirects": f"/first /1\n{line}\n/last /2"})
    assert len(document.rules) == 2
    (warning,) = warnings
    assert warning.startswith("_redirects:2: ")
    assert reason in warning


def test_warns_of_names_that_nothing_captures() -> None:
    document, warnings = collect({"_redirects": "/a /b/:splat"})
    assert show(ask(document, "/a")) == "301 /b/:splat"
    assert warnings == ["_redirects:1: its path has no :splat, so the destination contains that text literally."]


HEADERS = """
/path
  test: one
"""


@pytest.mark.parametrize(
    ("text", "target", "expected"),
    [
        # netlify/build, headers-parser, tests/line-parser.test.ts
        (HEADERS, "/path", {"test": "one"}),
        ("/path\n\n  # comment\n  test: one", "/path", {"test": "one"}),
        (" /path \n test : one ", "/path", {"test": "one"}),
        ("/path\ntest: one\ntest: two", "/path", {"test": "one, two"}),
        ("/path\n  a: 1\n/page\n  b: 2", "/path", {"a": "1"}),
        ("/path\n  a: b:c", "/path", {"a": "b:c"}),
        # netlify/build, headers-parser, tests/for-regexp.test.ts
        ("/*\n  a: 1", "/", {"a": "1"}),
        ("/*\n  a: 1", "/dir/", {"a": "1"}),
        ("/dir/*\n  a: 1", "/dir/", {"a": "1"}),
        ("/dir\n  a: 1", "/dir/", {"a": "1"}),
        ("/:any\n  a: 1", "/path", {"a": "1"}),
        ("/:any\n  a: 1", "/", {}),
        ("/*.js\n  a: 1", "/app.js", {"a": "1"}),
        ("/*.js\n  a: 1", "/path", {}),
        ("/a*p.js\n  a: 1", "/app.js", {"a": "1"}),
        ("/PATH\n  a: 1", "/path", {}),
        ("/path.\n  a: 1", "/path", {}),
        # https://docs.netlify.com/manage/routing/headers/: values of several blocks
        (
            "/*\n  Cache-Control: max-age=0\n  X: 1\n/path\n  cache-control: no-store",
            "/path",
            {"Cache-Control": "max-age=0, no-store", "X": "1"},
        ),
        ("/*\n  Set-Cookie: a=1\n  Set-Cookie: b=2", "/path", {"Set-Cookie": "a=1|b=2"}),
        # https://developers.cloudflare.com/pages/configuration/headers/
        ("/*\n  CSP: x\n/*.jpg\n  ! CSP", "/a.jpg", {"-": "csp"}),
        ("/*\n  CSP: x\n/*.jpg\n  ! CSP", "/path", {"CSP": "x"}),
        ("/*.jpg\n  ! Cache-Control", "/a.jpg", {"-": "cache-control"}),
        ("https://myproject.pages.dev/*\n  X: 1", "/path", {}),
        ("/:title\n  x-movie: You watch :title", "/path", {"x-movie": "You watch path"}),
        ("/p*\n  x: :splat!", "/path", {"x": "ath!"}),
        ("/path\n  link: <https://x>; rel=:other", "/path", {"link": "<https://x>; rel=:other"}),
    ],
)
def test_reads_headers(text: str, target: str, expected: dict[str, str]) -> None:
    document, warnings = collect({"_headers": text})
    answer = ask(document, target)
    found: dict[str, str] = {}
    for name, value in answer.headers:
        found[name] = f"{found[name]}|{value}" if name in found else value
    if answer.removed:
        found["-"] = ",".join(answer.removed)
    assert (found, warnings) == (expected, [])


def test_reads_headers_for_a_host() -> None:
    """Cloudflare, Headers: absolute URLs match any scheme and port."""
    document, warnings = collect({"_headers": "https://:project.pages.dev/*\n  X-Robots-Tag: noindex"})
    assert not warnings
    assert ask(document, "/path", host="mine.pages.dev").headers == (("X-Robots-Tag", "noindex"),)
    assert ask(document, "/path", host="a.b.pages.dev").headers == ()


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        ("test: one", 1, "before the first path"),
        ("/path\n  : one", 2, "name of the header is not valid"),
        ("/path\n  test:", 2, "has no value"),
        ("/path\n  test", 2, 'no ":"'),
        ("/path\n  a b: c", 2, "name of the header is not valid"),
        ("/path\n  Content-Length: 1", 2, "Content-Length cannot be set"),
        ("/path\n  content-encoding: gzip", 2, "cannot be set"),
        ("/path\n  Transfer-Encoding: chunked", 2, "cannot be set"),
        ("/path\n  Connection: close", 2, "cannot be set"),
        ("/path\n  ! ETag", 2, "cannot be set"),
        # Headers that proxies obey: nginx would send one of its own files.
        ("/path\n  X-Accel-Redirect: /internal/secrets", 2, "cannot be set"),
        ("/path\n  x-sendfile: /etc/passwd", 2, "cannot be set"),
        ("/path*\n  x: " + ":splat" * 51, 2, "more than 50 times"),
        ("/path\n  Basic-Auth: a:b", 2, "NOT password-protected"),
        ("/path\n  a: b\x00c", 2, "control characters"),
        ("/path?a=b\n  a: 1", 1, "has no query"),
    ],
)
def test_warns_of_headers_that_it_cannot_apply(text: str, line: int, reason: str) -> None:
    document, warnings = collect({"_headers": text})
    assert not document.headers
    (warning,) = warnings
    assert warning.startswith(f"_headers:{line}: ")
    assert reason in warning


@pytest.mark.parametrize(
    ("text", "line", "reason"),
    [
        # netlify/build, redirect-parser and headers-parser, "Validate syntax errors"
        ("redirects = [", 1, "not valid TOML"),
        ('a = 1\nredirects = "x"', 2, "not an array of tables"),
        ('redirects = ["x"]', 1, "not a table"),
        ('[[redirects]]\nto = "/a"', 1, 'no "from"'),
        ('[[redirects]]\nfrom = "/a"', 1, "no destination"),
        ('[[redirects]]\nfrom = "/a/*"\nstatus = 301', 1, "no destination"),
        ('[[redirects]]\nfrom = "/a"\nto = "/b"\nstatus = "x"', 1, "not a status"),
        ('[[redirects]]\nfrom = "/a"\nto = "/b"\nstatus = ""', 1, "not a status"),
        ('[[redirects]]\nfrom = "/a"\nto = "/b"\nstatus = true', 1, "not a status"),
        ('[[redirects]]\nfrom = "/a"\nto = "/b"\nforce = "yes"', 1, '"force"'),
        ('\n[[redirects]]\nfrom = "http://"\nto = "/b"', 2, "URL is not valid"),
        ('[[redirects]]\nfrom = "/.netlify/a"\nto = "/b"', 1, "reserved"),
        ('[[redirects]]\nfrom = "/a"\nto = "/b"\nconditions = {Country = ["US"]}', 1, "country"),
        ('[[redirects]]\nfrom = "/a"\nto = "/b"\nconditions = {Role = ["x"]}', 1, "a role"),
        ('[[redirects]]\nfrom = "/a"\nto = "/b"\n[redirects.rate_limit]\nx = 1', 1, "rate_limit"),
        ('[[redirects]]\nfrom = "/a"\nto = "https://x.com/"\nstatus = 200\nsigned = "S"', 1, "a proxy"),
        ('[[redirects]]\nfrom = "/a"\nto = "/b"\nquery = "x"', 1, "not a table"),
        ('[[redirects]]\nfrom = "/a"\nto = "/b"\nquery = {x = [1]}', 1, "not a string"),
        ('[[headers]]\n[headers.values]\na = "b"', 1, 'no "for"'),
        ('[[headers]]\nfor = 1\n[headers.values]\na = "b"', 1, 'no "for"'),
        ('[[headers]]\nfor = "/*"\nvalues = "x"', 1, "not a table"),
        ('[[headers]]\nfor = "/*"\n[headers.values]\na = 1', 1, "not a string"),
        ('[[headers]]\nfor = "/*"\n[headers.values]\n" " = "1"', 1, "not valid"),
        ('[[headers]]\nfor = "/*"\n[headers.values]\nConnection = "x"', 1, "cannot be set"),
        (f"[{'a.' * 1000}a]", 1, "too long"),
        ("a = " + "[" * 5000, None, "not valid TOML"),
    ],
)
def test_warns_of_what_netlify_toml_cannot_mean(text: str, line: int | None, reason: str) -> None:
    document, warnings = collect({"netlify.toml": text})
    assert not document.rules
    assert not document.headers
    (warning,) = warnings
    assert warning.startswith(f"netlify.toml:{line or ''}")
    assert reason in warning


def test_reads_headers_of_netlify_toml() -> None:
    """netlify/build, headers-parser: success, multiple values, arrays, names and values trimmed."""
    text = """
[[headers]]
  for = " /path "
  [headers.values]
    " test " = " one "
    Cache-Control = \'\'\'
    max-age=0,
    no-cache\'\'\'
    List = ["a", " b "]
[[headers]]
  for = "no-slash"
  [headers.values]
    x = "1"
[[headers]]
  for = "/none"
"""
    document, warnings = collect({"netlify.toml": text})
    assert not warnings
    assert ask(document, "/path").headers == (
        ("test", "one"),
        ("Cache-Control", "max-age=0, no-cache"),
        ("List", "a, b"),
    )


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("{", 1, "not valid JSON"),
        ("[]", 1, "not a JSON object"),
        ("[" * 100_000, None, "not valid JSON"),
        ('{\n"routes": [{"src": "/a", "dest": "/b"}]}', 2, '"routes" is not supported'),
        ('{"redirects": {}}', 1, "not an array"),
        ('{"redirects": [1]}', 1, "not an object"),
        ('{"redirects": [\n{"source": "/a"}]}', 2, "not a string"),
        ('{"redirects": [{"source": "a", "destination": "/b"}]}', 1, "does not start with"),
        ('{"redirects": [{"source": "/a", "destination": "b"}]}', 1, "does not start with"),
        (
            '{"redirects": [{"source": "/a", "destination": "/b", "statusCode": 200}]}',
            1,
            "not a redirect status code",
        ),
        ('{"redirects": [{"source": "/a(", "destination": "/b"}]}', 1, "unclosed group"),
        ('{"redirects": [{"source": "/a(?<=b)", "destination": "/b"}]}', 1, "look-around"),
        ('{"redirects": [{"source": "/(a(b))", "destination": "/b"}]}', 1, "capturing groups"),
        ('{"redirects": [{"source": "/:a*((?!b).*)", "destination": "/b"}]}', 1, "look-ahead"),
        ('{"redirects": [{"source": "/a*", "destination": "/b"}]}', 1, "unexpected"),
        ('{"redirects": [{"source": "/(a{1000}){1000}", "destination": "/b"}]}', 1, "capturing|not valid"),
        (
            '{"redirects": [{"source": "/[a-z]{1,9}(x{500}y{500}z{500})", "destination": "/b"}]}',
            1,
            "too large|braces|{",
        ),
        ('{"rewrites": [{"source": "/api/(.*)", "destination": "https://api.example.com/$1"}]}', 1, "a proxy"),
        (
            '{"redirects": [{"source": "/a", "destination": "/b", "has": [{"type": "cookie", "key": "x"}]}]}',
            1,
            "cookies",
        ),
        (
            '{"redirects": [{"source": "/a", "destination": "/b", "has": [{"type": "header", "key": "Cookie"}]}]}',
            1,
            "cookie",
        ),
        (
            '{"redirects": [{"source": "/a", "destination": "/b", "has": [{"type": "header", "key": "x-vercel-ip-country"}]}]}',
            1,
            "only Vercel sends",
        ),
        ('{"redirects": [{"source": "/a", "destination": "/b", "has": [{"type": "ip"}]}]}', 1, 'type "ip"'),
        (
            '{"redirects": [{"source": "/a", "destination": "/b", "has": [{"type": "query", "key": "a", "value": "("}]}]}',
            1,
            "expression of a condition",
        ),
        (
            '{"redirects": [{"source": "/a", "destination": "/b", "has": [{"type": "query", "key": "a", "value": {"gt": 1}}]}]}',
            1,
            "not supported",
        ),
        ('{"headers": [{"source": "/a", "headers": [{"key": "Content-Length", "value": "1"}]}]}', 1, "cannot be set"),
        ('{"headers": [{"source": "/a", "headers": [{"key": "a"}]}]}', 1, "not a string"),
        ('{"headers": [{"source": "/a", "headers": {}}]}', 1, "not an array"),
        ('{\n\n"cleanUrls": "yes"}', 3, "not true or false"),
        ('{"trailingSlash": 1}', 1, "not true or false"),
    ],
)
def test_warns_of_what_vercel_json_cannot_mean(content: str, line: int | None, reason: str) -> None:
    document, warnings = collect({"vercel.json": content})
    assert document == Document()
    (warning,) = warnings
    assert warning.startswith(f"vercel.json:{line or ''}")
    assert any(part in warning for part in reason.split("|"))


def test_names_the_line_of_each_rule_of_vercel_json() -> None:
    rules = [{"source": "/[", "destination": 1} for _ in range(3)]
    text = json.dumps({"headers": [], "redirects": rules, "other": {"redirects": [1]}}, indent=1)
    _, warnings = collect({"vercel.json": text})
    lines = [number for number, line in enumerate(text.split("\n"), start=1) if line.startswith("  {")]
    assert [int(warning.split(":")[1]) for warning in warnings] == lines


@pytest.mark.parametrize(
    ("source", "matching", "others"),
    [
        # vercel/vercel, routing-utils, test/superstatic.spec.js: mustMatch and mustNotMatch
        ("/some/old/path", ["/some/old/path"], ["/nope"]),
        ("/next(\\.js)?", ["/next", "/next.js"], ["/nextAjs", "/nextjs"]),
        ("/proxy/(.*)", ["/proxy/one", "/proxy/2", "/proxy/-", "/proxy/dir/sub"], ["/prox", "/proxyed/two"]),
        ("/proxy-regex/([a-zA-Z]{1,})", ["/proxy-regex/admin"], ["/proxy-regex/user/1", "/proxy-regex/1"]),
        ("/projects/:id/:action", ["/projects/one/edit"], ["/projects/edit", "/projects/a/b/c", "/projects"]),
        ("/old/:segment/path", ["/old/one/path"], ["/old/path", "/old/two/foo", "/old"]),
        ("/catchall/:hello*", ["/catchall/first", "/catchall/first/second"], ["/random-catch"]),
        ("/catchall/:hello*/", ["/catchall/first/", "/catchall/first/second/"], ["/random-catch/"]),
        ("/another-catch/:hello+/", ["/another-catch/first/", "/another-catch/a/b/"], ["/another-catch/"]),
        ("/:path", ["/first", "/another"], ["/another/one"]),
        ("/(.*)-:id(\\d+).html", ["/hello/post-123.html", "/post-123.html"], ["/hello/post.html"]),
        ("/feature-{:slug}", ["/feature-first", "/feature-second"], ["/feature/first", "/feature"]),
        ("/optional/:id?", ["/optional", "/optional/1"], ["/optionalnope", "/optionally"]),
        (
            "(.*)+/(.*)\\.(eot|otf|font\\.css)",
            ["/hello/world/file.eot", "/dir/a.font.css"],
            ["/hello/file.jpg", "/a.font-css"],
        ),
        ("/play/:path*(/)?", ["/play", "/play/", "/play/a/b", "/play/a/"], ["/player"]),
        ("/foo{/bar}?", ["/foo", "/foo/bar"], ["/foo/baz"]),
        ("/a{-:x}?", ["/a", "/a-b"], ["/ab"]),
        ("/caf\u00e9", ["/caf%C3%A9"], ["/cafe"]),
        ("/a\\:b", ["/a:b"], ["/ab"]),
    ],
)
def test_matches_sources_as_vercel_does(source: str, matching: list[str], others: list[str]) -> None:
    document, warnings = collect(
        {"vercel.json": json.dumps({"redirects": [{"source": source, "destination": "https://to.example"}]})}
    )
    assert not warnings
    assert [ask(document, path).status for path in matching] == [308] * len(matching)
    assert 308 not in [ask(document, path).status for path in others if path.count("/") < 3 or not path.endswith("/")]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        # vercel/vercel, routing-utils, convertHeaders
        ({"source": "/:path*", "headers": [{"key": "on-blog", "value": ":path*"}]}, {"on-blog": "page"}),
        ({"source": "/:path", "headers": [{"key": "x", "value": "some:value* :path"}]}, {"x": "some:value* page"}),
        ({"source": "/:path", "headers": [{"key": "x", "value": "https: hello{1,}"}]}, {"x": "https: hello{1,}"}),
        (
            {
                "source": "/(.*)",
                "headers": [{"key": "CSP", "value": "https://:shop"}],
                "has": [{"type": "query", "key": "shop"}],
            },
            {"CSP": "https://a%20b"},
        ),
        (
            {"source": "/(.*)", "headers": [{"key": "x", "value": "1"}], "missing": [{"type": "query", "key": "shop"}]},
            {},
        ),
        (
            {
                "source": "/(.*)",
                "headers": [{"key": "x", "value": "1"}],
                "has": [{"type": "query", "key": "shop", "value": {"pre": "a"}}],
            },
            {"x": "1"},
        ),
        (
            {
                "source": "/(.*)",
                "headers": [{"key": "x", "value": "1"}],
                "has": [{"type": "query", "key": "shop", "value": {"eq": "b"}}],
            },
            {},
        ),
        (
            {
                "source": "/(.*)",
                "headers": [{"key": "x", "value": "1"}],
                "has": [{"type": "query", "key": "shop", "value": {"inc": ["z", "a b"]}}],
            },
            {"x": "1"},
        ),
    ],
)
def test_reads_headers_of_vercel_json(entry: dict[str, object], expected: dict[str, str]) -> None:
    document, warnings = collect({"vercel.json": json.dumps({"headers": [entry]})})
    assert not warnings
    assert dict(ask(document, "/page?shop=a%20b").headers) == expected


def test_replaces_headers_with_those_of_vercel_json() -> None:
    """A later rule in vercel.json replaces the values of earlier ones; those in _headers are joined."""
    vercel = {"headers": [{"source": "/(.*)", "headers": [{"key": "x", "value": value}]} for value in ("3", "4")]}
    rules = {"_headers": "/*\n  x: 1\n  y: 1\n/page\n  x: 2", "vercel.json": json.dumps(vercel)}
    document, _ = collect(rules)
    assert dict(ask(document, "/page").headers) == {"x": "4", "y": "1"}


def test_sets_headers_on_files_alone() -> None:
    document, _ = collect({"_headers": "/*\n  x: 1", "_redirects": "/to /there\n/page /there\n/re /page 200"})
    assert ("x", "1") in ask(document, "/page").headers
    assert ("x", "1") in ask(document, "/re").headers
    assert ("x", "1") not in ask(document, "/to").headers
    assert ("x", "1") not in ask(document, "/missing").headers


def test_takes_the_file_nearest_to_the_output() -> None:
    files = [
        RuleFile("netlify.toml", "dist/netlify.toml", lambda: None),
        RuleFile("netlify.toml", "app/netlify.toml", lambda: b'[[redirects]]\nfrom = "/a"\nto = "/app"'),
        RuleFile("netlify.toml", "netlify.toml", lambda: b'[[redirects]]\nfrom = "/a"\nto = "/root"'),
    ]
    found = collect_rules(files, [])
    assert show(ask(found.document, "/a")) == "301 /app"
    assert [str(warning) for warning in found.warnings] == [
        "netlify.toml: it is not applied, because app/netlify.toml is nearer to the output."
    ]


@pytest.mark.parametrize("name", sorted(MAX_FILE_BYTES))
def test_applies_no_file_of_endless_size(name: str) -> None:
    document, warnings = collect({name: b"\n" * (MAX_FILE_BYTES[name] + 1)})
    assert (document, len(warnings)) == (Document(), 1)
    assert "larger than" in warnings[0]


@pytest.mark.parametrize("name", sorted(MAX_FILE_BYTES))
@pytest.mark.parametrize(
    "data", [b"\xff\xfe\x00", b"\x00" * 100, b"\r\r\r", b"/\xff /\xfe\n", b"[[[[", b"{{{{", b'"' * 1000]
)
def test_survives_files_of_garbage(name: str, data: bytes) -> None:
    collect({name: data})


def test_names_the_first_of_very_many_problems() -> None:
    _, warnings = collect({"_redirects": "bad\n" * 1000})
    assert len(warnings) == 21
    assert warnings[-1] == "_redirects: 980 more rules have problems."


def test_keeps_what_authors_wrote_off_the_terminal() -> None:
    _, warnings = collect({"_redirects": f"\x1b[31m{'x' * 100}\u202e"})
    assert all(character.isprintable() for character in warnings[0])
    assert shown("a\tb") == "a\ufffdb"


def test_stores_45000_rules_no_further_than_its_limit() -> None:
    """netlify/build, large_45000_redirects_file."""
    document, warnings = collect({"_redirects": "".join(f"/{n} /b\n" for n in range(45_000))})
    assert len(document.rules) == 10_000
    assert "after the first 10,000" in warnings[0]
    assert show(ask(document, "/9999")) == "301 /b"


def test_tries_no_more_expressions_than_a_request_has_time_for() -> None:
    document, warnings = collect({"_redirects": "".join(f"/{n}/* /b\n/p{n} /c\n" for n in range(1_500))})
    assert len(document.rules) == 2_500
    assert warnings == [
        "rules of _redirects and netlify.toml: 500 are not applied: there may be 10,000,"
        " of them 1,000 with placeholders, splats or expressions."
    ]


@pytest.mark.parametrize(
    "data", [b"", b"null", b"[]", b"{}", b'{"version":"1"}', b"\xff", b"[" * 100_000, b" " * (MAX_DOCUMENT_BYTES + 1)]
)
def test_refuses_what_is_no_document(data: bytes) -> None:
    with pytest.raises(DocumentError):
        Document.from_json(data)


def test_reads_documents_of_newer_versions() -> None:
    content = {
        "version": 99,
        "new": {"x": 1},
        "noindex": True,
        "rules": [
            {"path": "/a", "to": ["/b"], "status": 301, "new": True},
            {"path": "/c", "to": [{"new": 1}], "status": 301},
            {"path": "/d", "to": ["/b"], "status": 299},
            {"path": "/e", "to": ["/b"], "status": 301, "conditions": [{"kind": "moon"}]},
            7,
        ],
        "headers": [{"path": "/a", "set": [["x", ["1"]]]}, {"path": "/a", "set": [["x", "1"]]}],
    }
    document = Document.from_json(json.dumps(content).encode())
    assert document.noindex
    assert [rule.source.path for rule in document.rules] == ["/a"]
    assert len(document.headers) == 1


def test_ignores_expressions_that_do_not_compile_when_stored() -> None:
    content = {"version": 1, "rules": [{"regex": "/(", "prefix": "/", "to": ["/b"], "status": 301}]}
    assert show(ask(Document.from_json(json.dumps(content).encode()), "/(")) == "404 404.html"


def test_counts_warnings_by_file() -> None:
    warnings = Warnings("x")
    warnings.add(None, "a")
    assert [str(warning) for warning in warnings.all()] == ["x: a."]
