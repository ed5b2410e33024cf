"""Requests to sites with rules, and how they are answered. Each row names the document that it comes from, where there is one."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest

from buildrunner.routing.collect import RuleFile, collect_rules
from buildrunner.routing.document import Document, HeaderRule, Pattern, Rule
from buildrunner.routing.route import Answer, Request, route
from buildrunner.routing.vercel_json import parse_vercel_json
from buildrunner.routing.warnings import Warnings


@dataclass(frozen=True)
class Site:
    files: frozenset[str]
    document: Document = field(default_factory=Document)

    def answer(self, target: str, *, method: str = "GET", host: str = "", **headers: str) -> Answer:
        path, _, query = target.partition("?")
        request = Request(path, query, method=method, host=host, headers=headers)
        return route(request, self.document, self.files.__contains__)


def make_site(files: str, rules: Mapping[str, str] | None = None, *, noindex: bool = False) -> Site:
    keys = frozenset(files.split())

    def rule_file(name: str, text: str) -> RuleFile:
        return RuleFile(name, name, text.encode)

    found = collect_rules(
        [rule_file(name, text) for name, text in (rules or {}).items()],
        [key for key in keys if key.endswith(".html")],
        noindex=noindex,
    )
    assert found.warnings == ()
    return Site(keys, Document.from_json(found.document.to_json()))


def show(answer: Answer) -> str:
    """Return `200 index.html`, `301 /to`, `404 404.html`, or `404 -` for a plain page."""
    return f"{answer.status} {answer.location or answer.key or '-'}"


# A site, then requests and answers. A row may end with the document that it is from.
PLAIN = """
/                              200 index.html                          docs/routing.md: step 3
/index.html                    200 index.html
/index                         200 index.html
/about                         200 about.html                          docs/routing.md: step 3
/about.html                    200 about.html
/about/                        308 /about                          docs/routing.md: step 3
/about/?a=1                    308 /about?a=1
/dir                           308 /dir/                          docs/routing.md: step 3
/dir?x=%2F&y=a+b               308 /dir/?x=%2F&y=a+b
/dir/                          200 dir/index.html                          docs/routing.md: step 3
/dir/index.html                200 dir/index.html
/dir/index                     200 dir/index.html
/dir/page                      200 dir/page.html
/dir/page/                     308 /dir/page
/both                          200 both.html                   point 3: about.html before the folder
/both/                         200 both/index.html
/deep                          404 404.html
/deep/                         404 404.html
/deep/er                       308 /deep/er/
/deep/er/                      200 deep/er/index.html
/style.css                     200 style.css
/style.css/                    308 /style.css
/style.css?v=2                 200 style.css
/LICENSE                       200 LICENSE
/LICENSE/                      308 /LICENSE
/missing                       404 404.html                          docs/routing.md: step 6
/missing/                      404 404.html
/missing.js                    404 404.html
/dir/missing                   404 dir/404.html                point 6: the nearest
/dir/missing/                  404 dir/404.html
/dir/a/b/c/missing.png         404 dir/404.html
/dirt/missing                  404 404.html
/404.html                      200 404.html
/404                           200 404.html
/About                         404 404.html                    Netlify: case counts
/DIR/                          404 404.html
/STYLE.css                     404 404.html
/caf%C3%A9                     200 café.html
/café                          200 café.html
/caf%c3%a9                     200 café.html
/caf%C3%A9/                    308 /caf%C3%A9
/cafe%CC%81                    404 404.html                    another form of Unicode is another name
/%E6%97%A5%E6%9C%AC/           200 日本/index.html
/%E6%97%A5%E6%9C%AC            308 /%E6%97%A5%E6%9C%AC/
/a%20b.txt                     200 a b.txt
/a+b.txt                       404 404.html
/100%25.txt                    200 100%.txt
/100%.txt                      200 100%.txt
/100%2525.txt                  404 404.html                    decoded once
/%                             404 404.html
/%zz                           404 404.html
/%61bout                       200 about.html
/dir%2Fpage                    200 dir/page.html               an encoded slash is one
/dir%2fpage                    200 dir/page.html
/dir%2F                        200 dir/index.html
//                             200 index.html
//about                        200 about.html
//dir                          308 /dir/
///dir//page                   200 dir/page.html
//evil.com/dir                 404 404.html
//evil.com/..//dir             308 /dir/
/.                             200 index.html
/./about                       200 about.html
/dir/.                         200 dir/index.html
/dir/..                        200 index.html
/dir/../about                  200 about.html
/../about                      200 about.html
/../../../etc/passwd           404 404.html
/..%2f..%2fabout               200 about.html
/%2e%2e/about                  200 about.html
/dir/%2e%2e/about              200 about.html
/%252e%252e/about              404 404.html
/..%5c..%5cabout               404 404.html
/dir\\page                     404 404.html
/dir%5Cpage                    404 404.html
/\\evil.com                    404 404.html
/%5Cevil.com/..%2Fdir          308 /dir/
/about%00                      404 404.html
/about%00.html                 404 404.html
/%00                           404 404.html
/dir%00/                       404 404.html
/about%0d%0aX:y                404 404.html
/about%0A                      404 404.html
/about%7F                      404 404.html
/about%FF                      404 404.html
/%ff%fe                        404 404.html
/%c0%ae%c0%ae/about            404 404.html                    overlong UTF-8 is not a dot
/about;v=1                     404 404.html
/about,                        404 404.html
/about.                        404 404.html
/.html                         404 404.html
/dir/.html                     404 dir/404.html
/.env                          404 404.html
/.git/config                   404 404.html
/.well-known/security.txt      200 .well-known/security.txt
/.well-known/                  404 404.html
/about?                        200 about.html
/about?a=%0d%0a                200 about.html
/dir?a=%0d%0aX:y               308 /dir/?a=%0d%0aX:y
/dir?next=//evil.com           308 /dir/?next=//evil.com
/dir?é                         308 /dir/?%C3%A9
/dir?"><script>                308 /dir/?%22%3E%3Cscript%3E
"""
PLAIN_FILES = """
index.html about.html dir/index.html dir/page.html dir/404.html both.html both/index.html deep/er/index.html style.css LICENSE
404.html café.html 日本/index.html 100%.txt .well-known/security.txt
"""

APP = """
/                              200 index.html
/users                         200 index.html                          docs/routing.md: step 5
/users/                        200 index.html
/users/42/edit                 200 index.html
/users/42?tab=a                200 index.html
/app.js                        200 app.js
/app.js/                       308 /app.js
/missing.js                    404 -                           point 5: never an asset
/assets/missing.css            404 -
/users/a.b                     404 -
/users/a.b/                    404 -
/v1.2/users                    200 index.html
/favicon.ico                   404 -
/.env                          404 -
/..%2f..%2f                    200 index.html
/users%00                      200 index.html
/assets                        200 index.html
/assets/                       200 index.html
"""

FALLBACK = """
/                              200 index.html
/about                         200 about.html
/other                         200 200.html                          docs/routing.md: step 5
/other/page                    200 200.html
/other.js                      404 404.html
/404                           200 404.html
"""

REDIRECTS_FILE = """
# https://docs.netlify.com/manage/routing/redirects/redirect-options/
/home                /                     301
/my-redirect         /                     302
/ecommerce           /store-closed         404
/pass-through        /index.html           200
/default             /news
/see-other           /news                 303
/temporary           /news                 307
/permanent           /news                 308
/gone                /store-closed         410
/gone-plain          /nothing-there        410
/en/*                /en/404               404
/articles id=:id tag=:tag  /posts/:tag/:id 301
/articles id=:id     /posts/:id            301
/articles            /posts                301
/store id=:id        /blog/:id             301
/exact page=news     /news                 302
/shadowed            /news                 301
/shadowed-forced     /news                 301!
/shadowed-dir        /news                 301
/hidden              /news                 200
/hidden-forced       /news                 200!
/news/:month/:date/:year/:slug  /blog/:year/:month/:date/:slug
/old/*               /new/:splat           301
/docs/*              /manual/:splat        200
/blog/*/comments     /c/:splat             302
/team/:who           /people/:who.html     200
/file-:name          /files/:name          301
/ext/*               https://example.com/:splat 302
/anchor              /news#top             301
/anchor-query        /news?a=1#top         301
/with-query          /news?from=old        301
/caf%C3%A9           /news                 301
/naïve               /news                 301
/slash/              /news                 301
/loop                /loop                 301!
/loop-slash          /loop-slash/          301!
/ping                /pong                 301
/pong                /ping                 301
/spin/*              /spin/x/:splat        200
/self                /self                 200
/to-dir              /dir                  200
/to-missing          /nothing/there        200
/go url=:url         /:url                 302
/two                 /first                301
/two                 /second               301
/assets/*            /index.html           200
/query-only/*        /search?q=:splat      302
/admin/*             200
"""
REDIRECTS = """
/home                          301 /                           Netlify, HTTP status codes
/home/                         301 /                           Netlify, Trailing slash
/home?x=1                      301 /?x=1                       Netlify, Query parameters: passed on
/Home                          404 404.html                    Netlify: case counts
/my-redirect                   302 /                           Netlify, HTTP status codes
/ecommerce                     404 store-closed.html           Netlify, HTTP status codes
/pass-through                  200 index.html                  Netlify, HTTP status codes
/default                       301 /news                       Netlify, the default is 301
/see-other                     303 /news
/temporary                     307 /news
/permanent                     308 /news
/gone                          410 store-closed.html
/gone-plain                    410 -
/en/anything                   404 en/404.html                 Netlify, Custom 404 page handling
/en/page                       200 en/page.html
/articles?id=1&tag=a           301 /posts/a/1                  Netlify, Query parameters
/articles?tag=a&id=1           301 /posts/a/1
/articles?id=1                 301 /posts/1                    Netlify, Query parameters
/articles                      301 /posts                      Netlify, Query parameters
/articles?other=1              301 /posts?other=1
/articles/?id=1                301 /posts/1
/store?id=7                    301 /blog/7                     Netlify, Query parameters
/store?id=7&utm=x              301 /blog/7                     the rule names parameters
/store?id=                     301 /blog/
/store?id=a%2Fb                301 /blog/a/b
/store?id=%0d%0aX              301 /blog/%0D%0AX
/store?ID=7                    404 404.html
/store                         404 404.html
/exact?page=news               302 /news
/exact?page=new                404 404.html
/exact?page=other&page=news    302 /news
/shadowed                      200 shadowed.html               Netlify, Shadowing
/shadowed/                     308 /shadowed
/shadowed-forced               301 /news                       Netlify, Shadowing: forced
/shadowed-dir                  308 /shadowed-dir/
/shadowed-dir/                 200 shadowed-dir/index.html     Netlify, Shadowing
/hidden                        200 hidden.html
/hidden-forced                 200 news.html
/news/02/12/2004/my-story      301 /blog/2004/02/12/my-story   Netlify, Placeholders
/news/02/12/2004/my-story/     301 /blog/2004/02/12/my-story
/news/02/12/2004               404 404.html
/news/02/12/2004/my/story      404 404.html
/news/a%2Fb/c/d                301 /blog/c/a/b/d
/old/a/b                       301 /new/a/b                    Netlify, Splats
/old/a/b/                      301 /new/a/b/
/old                           301 /new/
/old/                          301 /new/
/older                         404 404.html
/old/a?q=1                     301 /new/a?q=1
/old//evil.com                 301 /new/evil.com
/old/%2e%2e/%2e%2e/x           404 404.html
/old/a%20b                     301 /new/a%20b
/old/caf%C3%A9                 301 /new/caf%C3%A9
/old/%0d%0aSet-Cookie:x        301 /new/%0D%0ASet-Cookie:x
/old/a%00b                     301 /new/a%00b
/old/a%3Fb%23c                 301 /new/a%3Fb%23c
/docs/intro                    200 manual/intro.html           Netlify, Rewrites
/docs/intro/                   200 manual/intro.html
/docs                          200 manual/index.html
/docs/nothing                  404 404.html                    a rewrite to nothing is a 404
/docs/../secret                404 404.html
/docs/..%2f..%2fsecret         404 404.html
/blog/a/comments               302 /c/a                        Cloudflare, Splats
/blog/a/b/comments             302 /c/a/b                      Cloudflare, Splats: greedy
/blog/a                        404 404.html
/team/ann                      200 people/ann.html
/team/bob                      404 404.html
/file-x                        301 /files/x                    Cloudflare, Placeholders
/file-                         404 404.html
/ext/a/b?c=d                   302 https://example.com/a/b?c=d
/ext/@evil.com                 302 https://example.com/@evil.com
/anchor                        301 /news#top                   netlify/build, to_anchor
/anchor?a=1                    301 /news?a=1#top
/anchor-query?b=2              301 /news?a=1#top               the destination has a query
/with-query                    301 /news?from=old
/with-query?x=1                301 /news?from=old
/caf%C3%A9                     301 /news
/café                          301 /news
/na%C3%AFve                    301 /news
/slash                         301 /news                       Netlify, Trailing slash
/slash/                        301 /news
/loop                          404 404.html                    a redirect to itself is none
/loop/                         404 404.html
/loop-slash                    404 404.html                    Netlify, Trailing slash: no rule can add one
/ping                          301 /pong
/pong                          301 /ping
/spin/a                        404 404.html                    rewrites are not chained
/self                          404 404.html
/to-dir                        200 dir/index.html
/to-missing                    404 404.html
/go?url=x                      302 /x
/go?url=/evil.com              302 /evil.com
/go?url=//evil.com             302 /evil.com
/go?url=%5Cevil.com            302 /%5Cevil.com
/go?url=/%5Cevil.com           302 /%5Cevil.com
/go?url=%09/evil.com           302 /%09/evil.com
/go?url=https://evil.com       302 /https://evil.com
/go?url=..//evil.com           302 /..//evil.com
/two                           301 /first                      Cloudflare, the topmost rule applies
/assets/missing.js             200 index.html                  point 6: a rule does what it says
/query-only/a&b=c              302 /search?q=a%26b%3Dc
/admin/users                   200 admin/users.html            netlify/build, to_path_forward
/admin/nothing                 404 404.html
"""
REDIRECTS_FILES = """
index.html 404.html store-closed.html news.html en/404.html en/page.html shadowed.html shadowed-forced.html shadowed-dir/index.html
hidden.html hidden-forced.html manual/index.html manual/intro.html people/ann.html dir/index.html admin/users.html secret.txt
"""

VERCEL_JSON = """{
  "redirects": [
    {"source": "/me", "destination": "/profile.html"},
    {"source": "/user", "destination": "/api/user", "permanent": false},
    {"source": "/view-source", "destination": "https://github.com/vercel/vercel"},
    {"source": "/301", "destination": "/x", "statusCode": 301},
    {"source": "/302", "destination": "/x", "statusCode": 302},
    {"source": "/old/:segment/path", "destination": "/new/path/:segment"},
    {"source": "/catchall/:hello*", "destination": "/other/:hello*/"},
    {"source": "/another-catch/:hello+", "destination": "/other-catch/:hello+/"},
    {"source": "/feedback/((?!general).*)", "destination": "/feedback/general"},
    {"source": "/proxy-regex/([a-zA-Z]{1,})", "destination": "https://example.com/$1"},
    {"source": "/next(\\\\.js)?", "destination": "https://nextjs.org"},
    {"source": "/hello/:world*", "destination": "/something#:world*"},
    {"source": "/external/:id", "destination": "https://example.com/?utm_source=x#/guides/:id/page?dynamic=code"},
    {"source": "/optional/:id?", "destination": "/api/optional/:id?"},
    {"source": "/feature-{:slug}", "destination": "/blog-{:slug}"},
    {"source": "/somewhere/:world", "destination": "/elsewhere?else={:world}"},
    {"source": "/post/:id(\\\\d{1,})", "destination": "/news/:id*"},
    {"source": "/shadowed", "destination": "/x"},
    {"source": "/slash/", "destination": "/x"},
    {"source": "/start", "destination": "/query-:page", "has": [{"type": "query", "key": "page"}]},
    {"source": "/start", "destination": "/is-:n", "has": [{"type": "query", "key": "n", "value": "(?<n>\\\\d+)"}]},
    {"source": "/start", "destination": "/no-query", "missing": [{"type": "query", "key": "stay"}]},
    {"source": "/:path*", "destination": "https://main.example.com/:path*",
     "has": [{"type": "host", "value": "(www\\\\.)?old\\\\.example\\\\.com"}]},
    {"source": "/agent", "destination": "/for-:kind", "permanent": false,
     "has": [{"type": "header", "key": "X-Kind", "value": "(?<kind>a|b)"}]},
    {"source": "/self", "destination": "/self"},
    {"source": "/dirslash/", "destination": "/dirslash"}
  ],
  "rewrites": [
    {"source": "/about-us", "destination": "/about.html"},
    {"source": "/projects/:id/edit", "destination": "/projects.html"},
    {"source": "/:lang/posts/:id", "destination": "/posts/:id"},
    {"source": "/(.*)-:id(\\\\d+).html", "destination": "/blog/:id"},
    {"source": "/api/(.*)", "destination": "/api/index"},
    {"source": "/app/((?!static/|.*\\\\.js$).*)", "destination": "/app.html"},
    {"source": "/style.css", "destination": "/about.html"}
  ]
}"""
VERCEL = """
/me                            308 /profile.html               Vercel, redirects
/me?x=1                        308 /profile.html?x=1
/me/                           404 404.html                    Vercel: strict
/Me                            404 404.html                    Vercel: sensitive
/user                          307 /api/user                   Vercel, permanent: false
/view-source                   308 https://github.com/vercel/vercel  Vercel, redirects
/301                           301 /x                          Vercel, statusCode
/302                           302 /x
/old/one/path                  308 /new/path/one               Vercel, convertRedirects
/old/path                      404 404.html
/old/two/foo                   404 404.html
/catchall                      308 /other/                     Vercel, convertRedirects
/catchall/first/second         308 /other/first/second/        Vercel, convertRedirects
/another-catch                 404 404.html
/another-catch/first           308 /other-catch/first/
/feedback/another              308 /feedback/general           Vercel, convertRedirects: look-ahead
/feedback/general              404 404.html
/proxy-regex/admin             308 https://example.com/admin
/proxy-regex/user/1            404 404.html
/next                          308 https://nextjs.org          Vercel, convertRedirects
/next.js                       308 https://nextjs.org
/nextAjs                       404 404.html
/hello/a/b                     308 /something#a%2Fb
/external/1                    308 https://example.com/?utm_source=x#/guides/1/page?dynamic=code
/optional                      308 /api/optional/
/optional/1                    308 /api/optional/1
/feature-first                 308 /blog-first
/feature/first                 404 404.html
/somewhere/world               308 /elsewhere?else=world       Vercel, convertRedirects
/somewhere/a&b                 308 /elsewhere?else=a%26b
/post/123                      308 /news/123
/post/abc                      404 404.html
/shadowed                      308 /x                          point 1: before files
/shadowed.html                 200 shadowed.html
/slash/                        308 /x
/slash                         404 404.html
/start?page=a                  308 /query-a?page=a
/start?page=%0d%0a//evil       308 /query-%0D%0A//evil?page=%0d%0a//evil
/start?n=12                    308 /is-12?n=12
/start?n=x                     308 /no-query?n=x
/start                         308 /no-query
/start?stay=1                  404 404.html
/agent                         404 404.html
/self                          404 404.html
/dirslash                      200 dirslash/index.html         a redirect of the author is not undone
/dirslash/                     308 /dirslash
/about-us                      200 about.html                  Vercel, rewrites
/projects/7/edit               200 projects.html
/projects/edit                 404 404.html
/en/posts/1                    200 posts/1.html
/en/posts/2                    404 404.html
/hello-post-7.html             200 blog/7.html
/api/anything                  404 404.html                    a rewrite to nothing is a 404
/app/page                      200 app.html
/app/static/x.css              404 404.html
/app/page.js                   404 404.html
/app/page.jsx                  200 app.html
/style.css                     200 style.css                   point 4: after files
"""
VERCEL_FILES = """
index.html about.html 404.html shadowed.html projects.html posts/1.html blog/7.html app.html style.css dirslash/index.html
"""

CLEAN = """
/                              200 index.html
/index.html                    308 /                           Vercel, convertCleanUrls
/index                         308 /
/about.html                    308 /about                      Vercel, cleanUrls
/about.html?a=1                308 /about?a=1
/about                         200 about.html
/dir/index.html                308 /dir                        Vercel, convertCleanUrls
/dir/index                     308 /dir
/someindex.html                308 /someindex                  Vercel, convertCleanUrls: not an index
/someindex                     404 -
/indexAhtml                    404 -
/missing.html                  308 /missing
//evil.com/index.html          308 /evil.com
/.html                         404 -
/file.htm                      404 -
"""
CLEAN_SLASH = """
/index.html                    308 /                           Vercel, convertCleanUrls with trailingSlash
/about.html                    308 /about/                     Vercel, convertCleanUrls with trailingSlash
/about                         308 /about/                     Vercel, trailingSlash: true
/about/                        200 about.html
/about.html/                   308 /about/
/dir                           308 /dir/
/dir/                          200 dir/index.html
/dir/index.html                308 /dir/
/missing                       308 /missing/                   Vercel, convertTrailingSlash
/missing/                      404 -
/style.css                     200 style.css
/style.css/                    308 /style.css                  Vercel, convertTrailingSlash
/dir/about.map.js/             308 /dir/about.map.js           Vercel, convertTrailingSlash
/.well-known/asdf              404 -                           Vercel, convertTrailingSlash: exempt
/.well-known/asdf/             404 -
/LICENSE                       200 LICENSE
/about?a=1                     308 /about/?a=1
"""
NO_SLASH = """
/                              200 index.html                  Vercel, trailingSlash: false
/dir/                          308 /dir                        Vercel, convertTrailingSlash
/dir                           200 dir/index.html              replaces point 3
/about/                        308 /about
/about                         200 about.html
/index.html/                   308 /index.html                 Vercel, convertTrailingSlash
/dir/?page=/                   308 /dir?page=/
//evil.com/                    308 /evil.com
/missing/                      308 /missing
/style.css/                    308 /style.css
"""
SLASH_FILES = "index.html about.html dir/index.html style.css LICENSE"

ORDER = """
/first                         308 /vercel                     point 1 before point 2
/second                        301 /redirects-file             point 2: _redirects before netlify.toml
/third                         301 /toml
/toml-forced                   302 /toml                       netlify.toml, force
/toml-shadowed                 200 toml-shadowed.html
/fourth                        200 vercel.html                          docs/routing.md: step 4
/toml-query?path=a             301 /new/a                      netlify.toml, query
/toml-origin                   301 /toml                       netlify/build, backward_compat_origin
/toml-string                   200 index.html                  netlify/build, status_string
/toml-no-slash                 301 /new-path                   netlify/build, from_no_slash
/toml-forward/x                404 -                           netlify/build, from_forward
"""
ORDER_RULES = {
    "_redirects": "/first /redirects-file\n/second /redirects-file\n/fourth2 /x",
    "netlify.toml": """
[build]
command = "npm run build"
[[redirects]]
from = "/second"
to = "/toml"
[[redirects]]
from = "/third"
to = "/toml"
[[redirects]]
  from = "/toml-forced"
  to = "/toml"
  status = 302
  force = true
[[redirects]]
from = "/toml-shadowed"
to = "/toml"
[[redirects]]
from = "/toml-query"
to = "/new/:path"
query = {path = ":path"}
[[redirects]]
origin = "/toml-origin"
destination = "/toml"
[[redirects]]
from = "/toml-string"
to = "/index.html"
status = "200"
[[redirects]]
from = "toml-no-slash"
to = "new-path"
[[redirects]]
from = "/toml-forward/*"
status = 200
""",
    "vercel.json": """{"redirects": [{"source": "/first", "destination": "/vercel"}],
 "rewrites": [{"source": "/fourth", "destination": "/vercel"}]}""",
}

SPA_RULE = """
/                              200 index.html
/anything                      200 index.html                  Netlify, History pushState and single-page apps
/missing.js                    200 index.html
/dir                           308 /dir/
/dir/                          200 dir/index.html
/about                         200 about.html
"""

TABLES = {
    "plain": (PLAIN, Site(make_site(PLAIN_FILES).files | {"a b.txt"})),
    "single page": (APP, make_site("index.html app.js")),
    "200.html": (FALLBACK, make_site("index.html about.html 200.html 404.html")),
    "_redirects": (REDIRECTS, make_site(REDIRECTS_FILES, {"_redirects": REDIRECTS_FILE})),
    "vercel.json": (VERCEL, make_site(VERCEL_FILES, {"vercel.json": VERCEL_JSON})),
    "cleanUrls": (CLEAN, make_site("index.html about.html dir/index.html", {"vercel.json": '{"cleanUrls": true}'})),
    "cleanUrls, trailingSlash": (
        CLEAN_SLASH,
        make_site(SLASH_FILES, {"vercel.json": '{"cleanUrls": true, "trailingSlash": true}'}),
    ),
    "trailingSlash: false": (NO_SLASH, make_site(SLASH_FILES, {"vercel.json": '{"trailingSlash": false}'})),
    "order": (ORDER, make_site("index.html toml-shadowed.html vercel.html", ORDER_RULES)),
    "/* /index.html 200": (
        SPA_RULE,
        make_site("index.html about.html dir/index.html", {"_redirects": "/* /index.html 200"}),
    ),
}
# What a row comes from that names nothing itself.
DOCUMENTS = {
    "plain": "docs/routing.md: step 3",
    "single page": "docs/routing.md: step 5",
    "200.html": "docs/routing.md: step 5",
    "_redirects": "Netlify, Redirect options",
    "vercel.json": "Vercel, vercel.json: redirects, rewrites",
    "cleanUrls": "Vercel, vercel.json: cleanUrls",
    "cleanUrls, trailingSlash": "Vercel, vercel.json: cleanUrls, trailingSlash",
    "trailingSlash: false": "Vercel, vercel.json: trailingSlash",
    "order": "docs/routing.md: the order of the steps",
    "/* /index.html 200": "Netlify, Rewrites and proxies: Shadowing",
}


def rows_of(name: str, text: str, site: Site) -> Iterator[Any]:
    for row in text.strip().splitlines():
        target, expected, *document = re.split(r" {2,}", row.replace("\\\\", "\\"))
        yield pytest.param(site, target, expected, id=f"{name}: {target} ({(document or [DOCUMENTS[name]])[0]})")


ROWS = [row for name, (rows, site) in TABLES.items() for row in rows_of(name, rows, site)]


@pytest.mark.parametrize(("site", "target", "expected"), ROWS)
def test_answers_as_the_documents_say(site: Site, target: str, expected: str) -> None:
    assert show(site.answer(target)) == expected


def test_has_a_row_for_each_form() -> None:
    assert len(ROWS) >= 200


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "get", ""])
def test_answers_other_methods_with_405(method: str) -> None:
    answer = TABLES["plain"][1].answer("/", method=method)
    assert show(answer) == "405 -"
    assert ("Allow", "GET, HEAD") in answer.headers


def test_answers_head_like_get() -> None:
    for site, target, expected in (row.values for row in ROWS):
        assert show(site.answer(target, method="HEAD")) == expected


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("old.example.com", "308 https://main.example.com/some/page"),
        ("www.old.example.com", "308 https://main.example.com/some/page"),
        ("xold.example.com", "404 404.html"),
        ("old.example.com.evil.com", "404 404.html"),
        ("", "404 404.html"),
    ],
)
def test_applies_vercel_rules_to_their_host_alone(host: str, expected: str) -> None:
    """Vercel, redirects: `has` of type host; its value has to match as a whole."""
    assert show(TABLES["vercel.json"][1].answer("/some/page", host=host)) == expected


def test_applies_netlify_rules_to_their_host_alone() -> None:
    """Netlify, Domain-level redirects."""
    site = make_site("index.html", {"_redirects": "http://blog.example.com/* https://www.example.com/blog/:splat 301!"})
    assert show(site.answer("/a", host="blog.example.com")) == "301 https://www.example.com/blog/a"
    assert show(site.answer("/a", host="www.example.com")) == "200 index.html"


def test_names_headers_that_decide_for_caches() -> None:
    site = TABLES["vercel.json"][1]
    answer = site.answer("/agent", **{"x-kind": "b"})
    assert (show(answer), answer.vary) == ("307 /for-b", ("x-kind",))
    assert show(site.answer("/agent", **{"x-kind": "c"})) == "404 404.html"
    assert site.answer("/").vary == ("x-kind",)


def test_lets_no_cache_keep_redirects_and_errors() -> None:
    for target in ("/dir", "/missing"):
        assert ("Cache-Control", "public, max-age=0, must-revalidate") in TABLES["plain"][1].answer(target).headers


def test_marks_every_answer_of_a_preview_noindex() -> None:
    rules = {"_headers": "/*\n  X-Robots-Tag: all", "_redirects": "/to /there"}
    site = make_site("index.html 404.html", rules, noindex=True)
    for target in ("/", "/404.html", "/to", "/missing.js"):
        found = [value for name, value in site.answer(target).headers if name == "X-Robots-Tag"]
        assert found == ["noindex"]


def test_matches_no_expression_against_endless_paths() -> None:
    site = make_site("index.html 404.html", {"_redirects": "/a/* /b 301"})
    assert show(site.answer("/a/" + "x" * 1000)) == "301 /b"
    assert show(site.answer("/a/" + "x" * 2000)) == "404 404.html"


def test_repeated_placeholders_make_no_endless_answers() -> None:
    """A rule can repeat a request's path: without limits, 100 headers of 1.3 MB each for one request."""
    everything = Pattern(regex="/(.*)", prefix="/", names=("splat",))
    value = (0,) * 2_000
    document = Document(
        redirects=tuple(Rule(everything, value, 301) for _ in range(500)),
        headers=tuple(HeaderRule(everything, ((f"x-{number}", value),), joins=True) for number in range(100)),
        rewrites=(Rule(everything, value, 200),),
    )
    site = Site(frozenset({"a" * 900}), document)
    started = time.process_time()
    assert site.answer("/" + "a" * 900) == Answer(200, "a" * 900)
    assert time.process_time() - started < 10


def test_headers_of_one_answer_are_bounded() -> None:
    lines = "\n".join(f"  x-{number}: {'v' * 7_000}" for number in range(30))
    found = make_site("index.html", {"_headers": f"/*\n{lines}"}).answer("/").headers
    assert [name for name, _ in found] == [f"x-{number}" for number in range(9)]


def test_answers_hostile_expressions_in_linear_time() -> None:
    """A backtracking engine would never finish with these."""
    sources = ["/(?:a|a){1,30}(?:a|a){1,30}b", "/(.*a.*b.*c.*)+d", "/((?:a+)+)$", "/(?:[a-z0-9]+)*-:x"]
    for source in sources:
        text = json.dumps({"redirects": [{"source": f"{source}", "destination": "/x"}]})
        warnings = Warnings("vercel.json")
        document = Document(redirects=parse_vercel_json(text, warnings).redirects)
        site = Site(frozenset(), document)
        started = time.monotonic()
        for _ in range(10):
            site.answer("/" + "a" * 1000)
        assert time.monotonic() - started < 5
