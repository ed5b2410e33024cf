"""What the documentation of Netlify, Cloudflare Pages and Vercel says about rules, a row for each documented form.

The id of each test names the page and the heading that its row comes from.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import pytest

from buildrunner.routing.collect import RuleFile, collect_rules
from buildrunner.routing.document import Document
from buildrunner.routing.route import Answer, Request, route

PAGES = {
    "Netlify redirects": "https://docs.netlify.com/manage/routing/redirects/overview",
    "Netlify redirect options": "https://docs.netlify.com/manage/routing/redirects/redirect-options",
    "Netlify rewrites": "https://docs.netlify.com/manage/routing/redirects/rewrites-proxies",
    "Netlify headers": "https://docs.netlify.com/manage/routing/headers",
    "Netlify configuration": "https://docs.netlify.com/build/configure-builds/file-based-configuration",
    "Cloudflare redirects": "https://developers.cloudflare.com/pages/configuration/redirects",
    "Cloudflare headers": "https://developers.cloudflare.com/pages/configuration/headers",
    "Vercel vercel.json": "https://vercel.com/docs/project-configuration/vercel-json",
    "Vercel redirects": "https://vercel.com/docs/routing/redirects/configuration-redirects",
    "Vercel rewrites": "https://vercel.com/docs/routing/rewrites",
    "Vercel headers": "https://vercel.com/docs/headers",
}
SITE = """
index.html 404.html about.html blog/index.html en/404.html en/page.html store-closed.html partials/chat.html secure/page.html
static/image.jpg app.html api.html style.css posts/1.html posts/2024/hello.html
"""
FILES = frozenset(SITE.split())


def compiled(files: Mapping[str, str]) -> tuple[Document, list[str]]:
    found = collect_rules(
        [RuleFile(name, name, partial(bytes, text.encode())) for name, text in files.items()],
        ["index.html", "about.html"],
    )
    return Document.from_json(found.document.to_json()), [str(warning) for warning in found.warnings]


def ask(document: Document, target: str) -> Answer:
    """Answer a request, written as `host/path?query`, with the headers of the request after it."""
    words = target.split(" ")
    host, slash, rest = words[0].partition("/")
    path, _, query = f"{slash}{rest}".partition("?")
    headers = dict(word.split("=", 1) for word in words[1:])
    return route(Request(path, query, host=host, headers=headers), document, FILES.__contains__)


def shown(answer: Answer) -> str:
    return f"{answer.status} {answer.location or answer.key or '-'}"


def vercel(**content: Any) -> str:
    return json.dumps(content)


def toml(*rules: str) -> str:
    return "\n".join(f"[[redirects]]\n{rule}" for rule in rules)


ROUTES: list[tuple[str, str, str, str]] = [
    # Page and heading; file; its text; requests and answers, one a line.
    (
        "Netlify redirects: Syntax for the _redirects file",
        "_redirects",
        "# comment\n/home /\n/blog/my-post.php /blog/my-post\n/news /blog\n/cuties https://www.petsofnetlify.com\n"
        "/authors/c%C3%A9line /authors/about-c%C3%A9line",
        """
        /home -> 301 /
        /blog/my-post.php -> 301 /blog/my-post
        /news -> 301 /blog
        /cuties -> 301 https://www.petsofnetlify.com
        /authors/c%C3%A9line -> 301 /authors/about-c%C3%A9line
        /Home -> 404 404.html
        """,
    ),
    (
        "Netlify redirects: Syntax for the Netlify configuration file",
        "netlify.toml",
        toml(
            'from = "/old-path"\nto = "/new-path"\nstatus = 301\nforce = false\nquery = {path = ":path"}',
            'from = "/news"\nto = "/blog"',
            'from = "/en/page"\nto = "/other"\nforce = true',
        ),
        """
        /old-path?path=1 -> 301 /new-path
        /old-path -> 404 404.html
        /news -> 301 /blog
        /en/page -> 301 /other
        """,
    ),
    (
        "Netlify redirects: Rule processing order",
        "_redirects",
        "/blog/my-old-title /blog/my-new-title\n/blog/my-old-title /blog/an-even-better-title",
        "/blog/my-old-title -> 301 /blog/my-new-title",
    ),
    (
        "Netlify redirect options: HTTP status codes",
        "_redirects",
        "/home / 301\n/my-redirect / 302\n/ecommerce /store-closed 404\n/pass-through /index.html 200",
        """
        /home -> 301 /
        /my-redirect -> 302 /
        /ecommerce -> 404 store-closed.html
        /pass-through -> 200 index.html
        """,
    ),
    (
        "Netlify redirect options: HTTP status codes",
        "netlify.toml",
        toml(
            'from = "/my-redirect"\nto = "/"\nstatus = 302',
            'from = "/ecommerce"\nto = "/store-closed"\nstatus = 404',
            'from = "/pass-through"\nto = "/index.html"\nstatus = 200',
        ),
        """
        /my-redirect -> 302 /
        /ecommerce -> 404 store-closed.html
        /pass-through -> 200 index.html
        """,
    ),
    (
        "Netlify redirect options: Custom 404 page handling",
        "_redirects",
        "/en/* /en/404.html 404\n/de/* /de/404.html 404",
        """
        /en/nothing -> 404 en/404.html
        /en/page -> 200 en/page.html
        /de/nothing -> 404 -
        /nothing -> 404 404.html
        """,
    ),
    (
        "Netlify redirect options: Query parameters",
        "_redirects",
        "/articles id=:id tag=:tag /posts/:tag/:id 301\n/articles id=:id /posts/:id 301\n/articles /posts 301\n"
        "/path/* /otherpath/:splat 301",
        """
        /articles?id=1&tag=a -> 301 /posts/a/1
        /articles?id=1 -> 301 /posts/1
        /articles -> 301 /posts
        /path/x?id=1 -> 301 /otherpath/x?id=1
        """,
    ),
    (
        "Netlify redirect options: Query parameters",
        "netlify.toml",
        toml('from = "/articles"\nto = "/posts/:tag/:id"\nquery = {id = ":id", tag = ":tag"}'),
        """
        /articles?tag=a&id=1 -> 301 /posts/a/1
        /articles?id=1 -> 404 404.html
        """,
    ),
    (
        "Netlify redirect options: Splats",
        "_redirects",
        "/news/* /blog/:splat",
        "/news/2004/01/10/my-story -> 301 /blog/2004/01/10/my-story",
    ),
    (
        "Netlify redirect options: Splats",
        "netlify.toml",
        toml('from = "/news/*"\nto = "/blog/:splat"'),
        "/news/a/b -> 301 /blog/a/b\n/news -> 301 /blog/",
    ),
    (
        "Netlify redirect options: Placeholders",
        "_redirects",
        "/news/:month/:date/:year/:slug /blog/:year/:month/:date/:slug",
        "/news/02/12/2004/my-story -> 301 /blog/2004/02/12/my-story\n/news/02/12/2004 -> 404 404.html",
    ),
    (
        "Netlify redirect options: Trailing slash",
        "_redirects",
        "/blog/title-with-typo /blog/typo-free-title\n/other/ /to",
        """
        /blog/title-with-typo/ -> 301 /blog/typo-free-title
        /blog/title-with-typo -> 301 /blog/typo-free-title
        /other -> 301 /to
        """,
    ),
    (
        "Netlify redirect options: Domain-level redirects",
        "_redirects",
        "http://blog.yoursite.com/* https://www.yoursite.com/blog/:splat 301!\n"
        "https://blog.yoursite.com/* https://www.yoursite.com/blog/:splat 301!",
        """
        blog.yoursite.com/a/b -> 301 https://www.yoursite.com/blog/a/b
        www.yoursite.com/en/page -> 200 en/page.html
        """,
    ),
    (
        "Netlify redirect options: Domain-level redirects",
        "netlify.toml",
        toml('from = "http://blog.yoursite.com/*"\nto = "https://www.yoursite.com/blog/:splat"\nforce = true'),
        "blog.yoursite.com/a -> 301 https://www.yoursite.com/blog/a",
    ),
    (
        "Netlify rewrites: History pushState and single-page apps",
        "_redirects",
        "/* /index.html 200",
        """
        /any/path -> 200 index.html
        /style.css -> 200 style.css
        /missing.css -> 200 index.html
        """,
    ),
    (
        "Netlify rewrites: History pushState and single-page apps",
        "netlify.toml",
        toml('from = "/*"\nto = "/index.html"\nstatus = 200'),
        "/any/path -> 200 index.html\n/about -> 200 about.html",
    ),
    (
        "Netlify rewrites: Shadowing",
        "_redirects",
        "/partials/* /index.html 200\n/about /en/page 200!",
        """
        /partials/chat.html -> 200 partials/chat.html
        /partials/other -> 200 index.html
        /about -> 200 en/page.html
        """,
    ),
    (
        "Netlify rewrites: Shadowing",
        "netlify.toml",
        toml('from = "/about"\nto = "/index.html"\nstatus = 200\nforce = true'),
        "/about -> 200 index.html",
    ),
    (
        "Netlify rewrites: Limitations (loops are ignored)",
        "_redirects",
        "/about /about\n/loop /loop 301!",
        "/about -> 200 about.html\n/loop -> 404 404.html",
    ),
    (
        "Cloudflare redirects: Structure, Per line",
        "_redirects",
        "/home301 / 301\n/home302 / 302\n/querystrings /?query=string 301\n/twitch https://twitch.tv\n/trailing /trailing/ 301\n"
        "/notrailing/ /nottrailing 301\n/page/ /page2/#fragment 301\n/blog/* https://blog.my.domain/:splat\n"
        "/products/:code/:name /products?code=:code&name=:name",
        """
        /home301 -> 301 /
        /home302 -> 302 /
        /querystrings -> 301 /?query=string
        /twitch -> 301 https://twitch.tv
        /notrailing/ -> 301 /nottrailing
        /page/ -> 301 /page2/#fragment
        /blog/post -> 301 https://blog.my.domain/post
        /products/1/a -> 301 /products?code=1&name=a
        """,
    ),
    (
        "Cloudflare redirects: Per file (the topmost applies)",
        "_redirects",
        "/a /first 302\n/a /second 302",
        "/a -> 302 /first",
    ),
    (
        "Cloudflare redirects: Splats",
        "_redirects",
        "/old/* /new/:splat 302",
        "/old/a/b.c -> 302 /new/a/b.c\n/old/ -> 302 /new/",
    ),
    (
        "Cloudflare redirects: Placeholders",
        "_redirects",
        "/movies/:title /media/:title",
        "/movies/up -> 301 /media/up\n/movies/up/1 -> 404 404.html",
    ),
    (
        "Cloudflare redirects: Proxying (a path of the site, status 200)",
        "_redirects",
        "/blog-home /blog/ 200",
        "/blog-home -> 200 blog/index.html",
    ),
    (
        "Vercel vercel.json: cleanUrls",
        "vercel.json",
        vercel(cleanUrls=True),
        """
        /about -> 200 about.html
        /about.html -> 308 /about
        /blog/index.html -> 308 /blog
        /style.css -> 200 style.css
        """,
    ),
    (
        "Vercel vercel.json: trailingSlash, false",
        "vercel.json",
        vercel(trailingSlash=False),
        "/about/ -> 308 /about\n/blog/ -> 308 /blog\n/blog -> 200 blog/index.html",
    ),
    (
        "Vercel vercel.json: trailingSlash, true",
        "vercel.json",
        vercel(trailingSlash=True),
        "/about -> 308 /about/\n/blog/ -> 200 blog/index.html\n/style.css -> 200 style.css",
    ),
    (
        "Vercel vercel.json: trailingSlash, undefined",
        "vercel.json",
        vercel(redirects=[]),
        "/about -> 200 about.html\n/blog/ -> 200 blog/index.html",
    ),
    (
        "Vercel vercel.json: redirects, permanent",
        "vercel.json",
        vercel(
            redirects=[
                {"source": "/me", "destination": "/profile.html", "permanent": False},
                {"source": "/you", "destination": "/profile.html", "permanent": True},
                {"source": "/they", "destination": "/profile.html"},
                {"source": "/it", "destination": "/profile.html", "statusCode": 301},
                {"source": "/view-source", "destination": "https://github.com/vercel/vercel"},
            ]
        ),
        """
        /me -> 307 /profile.html
        /you -> 308 /profile.html
        /they -> 308 /profile.html
        /it -> 301 /profile.html
        /view-source -> 308 https://github.com/vercel/vercel
        """,
    ),
    (
        "Vercel vercel.json: redirects, wildcard path matching",
        "vercel.json",
        vercel(redirects=[{"source": "/blog/:path*", "destination": "/news/:path*"}]),
        "/blog/a/b -> 308 /news/a/b\n/blog -> 308 /news/",
    ),
    (
        "Vercel vercel.json: redirects, regex path matching",
        "vercel.json",
        vercel(redirects=[{"source": "/post/:path(\\d{1,})", "destination": "/news/:path*"}]),
        "/post/123 -> 308 /news/123\n/post/hello-world -> 404 404.html",
    ),
    (
        "Vercel vercel.json: redirects, has and missing",
        "vercel.json",
        vercel(
            redirects=[
                {
                    "source": "/start",
                    "destination": "/logged-in",
                    "has": [{"type": "header", "key": "x-user"}, {"type": "query", "key": "go", "value": "yes"}],
                },
                {"source": "/start", "destination": "/login", "missing": [{"type": "header", "key": "x-user"}]},
                {
                    "source": "/:path((?!uk/).*)",
                    "destination": "/uk/:path*",
                    "permanent": False,
                    "has": [{"type": "host", "value": "uk.example.com"}],
                },
            ]
        ),
        """
        /start?go=yes x-user=ann -> 308 /logged-in?go=yes
        /start x-user=ann -> 404 404.html
        /start -> 308 /login
        uk.example.com/about -> 307 /uk/about
        uk.example.com/uk/about -> 404 404.html
        """,
    ),
    (
        "Vercel redirects: Configuration Redirects",
        "vercel.json",
        vercel(
            redirects=[
                {"source": "/old-blog/:slug", "destination": "/news/:slug", "permanent": True},
                {"source": "/user", "destination": "/api/user", "permanent": False},
            ]
        ),
        "/old-blog/x -> 308 /news/x\n/user -> 307 /api/user",
    ),
    (
        "Vercel vercel.json: rewrites",
        "vercel.json",
        vercel(
            rewrites=[
                {"source": "/about-us", "destination": "/about-our-company.html"},
                {"source": "/resize/:width/:height", "destination": "/api.html"},
                {"source": "/posts-of/:id", "destination": "/posts/:id"},
            ]
        ),
        """
        /about-us -> 404 404.html
        /resize/800/600 -> 200 api.html
        /posts-of/1 -> 200 posts/1.html
        /posts/1 -> 200 posts/1.html
        """,
    ),
    (
        "Vercel rewrites: a single-page app",
        "vercel.json",
        vercel(rewrites=[{"source": "/(.*)", "destination": "/index.html"}]),
        "/any/path -> 200 index.html\n/style.css -> 200 style.css\n/missing.js -> 200 index.html",
    ),
    (
        "Vercel rewrites: groups and named parameters",
        "vercel.json",
        vercel(
            rewrites=[
                {"source": "/blog/(\\d{4})/:slug", "destination": "/posts/$1/:slug"},
                {"source": "/a/:x(one|two)", "destination": "/app.html"},
            ]
        ),
        "/blog/2024/hello -> 200 posts/2024/hello.html\n/a/two -> 200 app.html\n/a/three -> 404 404.html",
    ),
    (
        "Vercel vercel.json: rewrites, has and missing",
        "vercel.json",
        vercel(
            rewrites=[
                {
                    "source": "/:path*",
                    "destination": "/app.html",
                    "has": [{"type": "host", "value": "app.example.com"}],
                },
                {"source": "/x", "destination": "/api.html", "missing": [{"type": "query", "key": "plain"}]},
            ]
        ),
        "app.example.com/deep/path -> 200 app.html\n/x -> 200 api.html\n/x?plain=1 -> 404 404.html",
    ),
]
HEADERS: list[tuple[str, str, str, str, dict[str, str]]] = [
    (
        "Netlify headers: Syntax for the _headers file",
        "_headers",
        "# a path:\n/about\n  # headers for that path:\n  X-Frame-Options: DENY\n"
        "# another path:\n/en/page\n  X-Frame-Options: SAMEORIGIN",
        "/about",
        {"X-Frame-Options": "DENY"},
    ),
    (
        "Netlify headers: Syntax for the Netlify configuration file",
        "netlify.toml",
        '[[headers]]\n  for = "/*"\n  [headers.values]\n  X-Frame-Options = "DENY"\n  X-XSS-Protection = "1; mode=block"',
        "/about",
        {"X-Frame-Options": "DENY", "X-XSS-Protection": "1; mode=block"},
    ),
    (
        "Netlify headers: Wildcards and placeholders in paths",
        "_headers",
        "/partials/:file\n  X-Frame-Options: SAMEORIGIN\n/*\n  X-All: 1",
        "/partials/chat.html",
        {"X-Frame-Options": "SAMEORIGIN", "X-All": "1"},
    ),
    (
        "Netlify headers: Multi-value headers",
        "_headers",
        "/*\n  cache-control: max-age=0\n  cache-control: no-cache\n  cache-control: no-store",
        "/about",
        {"cache-control": "max-age=0, no-cache, no-store"},
    ),
    (
        "Netlify headers: Multi-value headers",
        "netlify.toml",
        "[[headers]]\n  for = \"/*\"\n  [headers.values]\n  cache-control = '''\n  max-age=0,\n  no-cache,\n  no-store'''",
        "/about",
        {"cache-control": "max-age=0, no-cache, no-store"},
    ),
    (
        "Cloudflare headers: Attach a header",
        "_headers",
        "/secure/page\n  X-Frame-Options: DENY\n  Referrer-Policy: no-referrer\n/static/*\n  Access-Control-Allow-Origin: *\n"
        "  X-Robots-Tag: nosnippet\nhttps://myproject.pages.dev/*\n  X-Robots-Tag: noindex",
        "myproject.pages.dev/static/image.jpg",
        {"Access-Control-Allow-Origin": "*", "X-Robots-Tag": "nosnippet, noindex"},
    ),
    (
        "Cloudflare headers: Detach a header",
        "_headers",
        "/*\n  Content-Security-Policy: default-src 'self';\n/*.jpg\n  ! Content-Security-Policy",
        "/static/image.jpg",
        {"-": "content-security-policy"},
    ),
    (
        "Cloudflare headers: Match a path, Splats",
        "_headers",
        "/static/*\n  X-Path: :splat",
        "/static/image.jpg",
        {"X-Path": "image.jpg"},
    ),
    (
        "Cloudflare headers: Match a path, Placeholders",
        "_headers",
        '/secure/:title\n  x-movie-name: You are watching ":title"',
        "/secure/page",
        {"x-movie-name": 'You are watching "page"'},
    ),
    (
        "Vercel vercel.json: headers",
        "vercel.json",
        vercel(
            headers=[
                {"source": "/static/(.*)", "headers": [{"key": "Cache-Control", "value": "public, max-age=9999"}]},
                {"source": "/(.*)", "headers": [{"key": "X-Content-Type-Options", "value": "nosniff"}]},
                {"source": "/about", "headers": [{"key": "X-Other", "value": "1"}]},
            ]
        ),
        "/static/image.jpg",
        {"Cache-Control": "public, max-age=9999", "X-Content-Type-Options": "nosniff"},
    ),
    (
        "Vercel vercel.json: headers, has and missing",
        "vercel.json",
        vercel(
            headers=[
                {
                    "source": "/:path*",
                    "has": [{"type": "query", "key": "authorized"}],
                    "headers": [{"key": "x-authorized", "value": "true"}],
                },
                {
                    "source": "/:path*",
                    "missing": [{"type": "query", "key": "authorized"}],
                    "headers": [{"key": "x-authorized", "value": "false"}],
                },
            ]
        ),
        "/about?authorized=1",
        {"x-authorized": "true"},
    ),
    (
        "Vercel headers: Cache-Control of a path",
        "vercel.json",
        vercel(
            headers=[
                {
                    "source": "/about",
                    "headers": [{"key": "Cache-Control", "value": "s-maxage=1, stale-while-revalidate=59"}],
                }
            ]
        ),
        "/about",
        {"Cache-Control": "s-maxage=1, stale-while-revalidate=59"},
    ),
]
# Page and heading; file; its text; the line that is named, and what is said.
UNSUPPORTED: list[tuple[str, str, str, int, str]] = [
    (
        "Netlify redirect options: Redirect by country or language",
        "_redirects",
        "/a /b\n/ /china 302 Country=ch,hk",
        2,
        "country",
    ),
    (
        "Netlify redirect options: Redirect by country or language",
        "_redirects",
        "/ /china 302 Language=en",
        1,
        "language",
    ),
    (
        "Netlify redirect options: Redirect by country or language",
        "netlify.toml",
        toml('from = "/"\nto = "/de"\nconditions = {Language = ["de"]}'),
        1,
        "language",
    ),
    ("Netlify redirect options: Redirect by cookie presence", "_redirects", "/* /:splat 302 Cookie=nf_x", 1, "cookie"),
    ("Netlify redirect options: Role-based redirects", "_redirects", "/admin/* 200! Role=admin", 1, "role"),
    (
        "Netlify rewrites: Proxy to another service",
        "_redirects",
        "/api/* https://api.example.com/:splat 200",
        1,
        "proxy",
    ),
    (
        "Netlify rewrites: Custom headers in proxy redirects",
        "netlify.toml",
        toml('from = "/search"\nto = "https://api.mysearch.com"\nstatus = 200\nheaders = {X-From = "Netlify"}'),
        1,
        "proxy",
    ),
    (
        "Netlify rewrites: Signed proxy redirects",
        "_redirects",
        "/search/* https://api.example.com/ 200 Sign=TOKEN",
        1,
        '"Sign"',
    ),
    (
        "Netlify rewrites: Proxy to Netlify functions",
        "_redirects",
        "/api/* /.netlify/functions/:splat 200",
        1,
        "functions",
    ),
    (
        "Netlify configuration: Redirects, rate_limit",
        "netlify.toml",
        toml('from = "/a"\nto = "/b"\n[redirects.rate_limit]\nwindow_size = 60'),
        1,
        "rate_limit",
    ),
    ("Netlify headers: Limitations", "_headers", "/*\n  Content-Length: 10", 2, "cannot be set"),
    (
        "Netlify headers: Limitations",
        "netlify.toml",
        '[[headers]]\nfor = "/*"\n[headers.values]\nDate = "x"',
        1,
        "cannot be set",
    ),
    (
        "Netlify headers: Basic authentication",
        "_headers",
        "/secret/*\n  Basic-Auth: someuser:somepassword",
        2,
        "NOT password-protected",
    ),
    (
        "Cloudflare redirects: Proxying (another host)",
        "_redirects",
        "/blog/* https://blog.example.com/:splat 200",
        1,
        "proxy",
    ),
    ("Cloudflare redirects: Structure (no query in the source)", "_redirects", "/a?b=c /d", 1, "no query"),
    (
        "Vercel vercel.json: rewrites to another host",
        "vercel.json",
        '{\n"rewrites": [\n{"source": "/proxy/:match*", "destination": "https://example.com/:match*"}]}',
        3,
        "proxy",
    ),
    (
        "Vercel vercel.json: redirects, has of type cookie",
        "vercel.json",
        '{"redirects": [\n{"source": "/a", "destination": "/b", "has": [{"type": "cookie", "key": "auth"}]}]}',
        2,
        "cookie",
    ),
    (
        "Vercel redirects: by country",
        "vercel.json",
        '{"redirects": [\n{"source": "/:path((?!uk/).*)", "destination": "/uk/:path*",'
        ' "has": [{"type": "header", "key": "x-vercel-ip-country", "value": "GB"}]}]}',
        2,
        "only Vercel sends",
    ),
    ("Vercel vercel.json: routes", "vercel.json", '{\n\n"routes": [{"src": "/(.*)", "dest": "/a"}]}', 3, '"routes"'),
    (
        "Vercel vercel.json: bulkRedirectsPath",
        "vercel.json",
        '{\n"bulkRedirectsPath": "redirects.csv"}',
        2,
        '"bulkRedirectsPath"',
    ),
]


def identified(rows: Sequence[tuple[Any, ...]]) -> list[Any]:
    return [
        pytest.param(name, *rest, id=f"{document} ({name}, {number})")
        for number, (document, name, *rest) in enumerate(rows, start=1)
    ]


@pytest.mark.parametrize(("name", "text", "table"), identified(ROUTES))
def test_a_documented_rule_answers_as_on_its_host(name: str, text: str, table: str) -> None:
    document, warnings = compiled({name: text})
    assert warnings == []
    rows = [row.strip().split(" -> ") for row in table.strip().splitlines()]
    assert [(target, shown(ask(document, target))) for target, _ in rows] == [
        (target, answer) for target, answer in rows
    ]


@pytest.mark.parametrize(("name", "text", "target", "expected"), identified(HEADERS))
def test_a_documented_header_is_sent_as_by_its_host(
    name: str, text: str, target: str, expected: dict[str, str]
) -> None:
    document, warnings = compiled({name: text})
    assert warnings == []
    answer = ask(document, target)
    assert dict(answer.headers) | ({"-": ", ".join(answer.removed)} if answer.removed else {}) == expected


@pytest.mark.parametrize(("name", "text", "line", "reason"), identified(UNSUPPORTED))
def test_a_form_that_means_nothing_here_is_a_warning(name: str, text: str, line: int, reason: str) -> None:
    _, (warning,) = compiled({name: text})
    assert warning.startswith(f"{name}:{line}: ")
    assert reason in warning


def test_every_row_names_a_page_of_the_documentation() -> None:
    rows = [row[0] for table in (ROUTES, HEADERS, UNSUPPORTED) for row in table]
    assert {re.split(": ", row)[0] for row in rows} == set(PAGES)
    assert {row[1] for table in (ROUTES, HEADERS) for row in table} == {
        "_redirects",
        "_headers",
        "netlify.toml",
        "vercel.json",
    }
