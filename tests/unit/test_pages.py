"""Test the analysis of pages: templates, and the base path that a site was built for."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.project.output.pages import find_base_path, find_references, template_language


@pytest.mark.parametrize(
    ("text", "language"),
    [
        ("---\ntitle: x\n---\n<h1>{{ page.title | relative_url }}</h1>", "Liquid with front matter"),
        ("\ufeff---\r\n---\r\n<html></html>", "a site generator (it has front matter)"),
        ("{% load static %}<link href=\"{% static 'a.css' %}\">", "Django"),
        ("{% extends 'a.html' %}", "Jinja, Nunjucks or Twig"),
        ("<script src=\"{{ url_for('static', filename='a.js') }}\"></script>", "Jinja, Nunjucks or Twig"),
        ('{{ define "main" }}<h1>{{ .Title }}</h1>{{ end }}', "Go"),
        ("{{ range .Pages }}{{ end }}", "Go"),
        ("<html><?php echo 1 ?>", "PHP"),
        ("<p><?= $x ?></p>", "PHP"),
        ("<%- include('head') %>", "EJS"),
        ("<body><%= yield %></body>", "ERB or EJS"),
        ("@extends('layout')\n@section('content')", "Blade"),
        ("<p>{!! $html !!}</p>", "Blade"),
        ('<html xmlns:th="http://www.thymeleaf.org">', "Thymeleaf"),
        ("{{#each items}}<p>{{this}}</p>{{/each}}", "Handlebars"),
        ("<body>{{> header}}</body>", "Handlebars"),
        ("<h1>{{{ body }}}</h1>", "a language with {{ … }}"),
        ("<title>{{ title }}</title><script src=a.js></script>", "a language with {{ … }}"),
        ("<h1>{{ name }}</h1>", "a language with {{ … }}"),
        ("@model Page\n<p>@Html.Raw(x)</p>", "Razor"),
        ("<!--#include virtual='/head.html' -->", "server-side includes (SSI)"),
        ('<link href="%PUBLIC_URL%/a.ico">', "Create React App"),
        ("%sveltekit.head%", "SvelteKit"),
    ],
)
def test_a_template_is_recognized(text: str, language: str) -> None:
    assert template_language(text) == language


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<h1>hello</h1>",
        '<div id="app">{{ message | upper }}</div><script src="vue.js"></script>',
        '<html ng-app="x"><title>{{ title }}</title></html>',
        '<div x-data="{a: 1}">{{ a }}</div>',
        "<pre><code>{% extends 'a' %}\n{{#if x}}</code></pre><code>{{ .Title }}</code>",
        '<script type="text/x-handlebars">{{#each x}}{{/each}}</script>',
        '<script type="text/template"><% if (x) { %></script>',
        "<template>{{#items}}<p></p>{{/items}}</template>",
        "<style>@media print { a { color: red } } @include(x)</style>",
        "<!-- {% comment %} <?php -->",
        "<p>--- a --- 100% {of} it</p>",
        "<p>Write to me@section.example (@include)</p>",
        "<textarea>{{> partial}}</textarea>",
    ],
)
def test_a_page_is_no_template(text: str) -> None:
    assert template_language(text) is None


@pytest.mark.parametrize(
    ("page", "files", "base"),
    [
        ('<script src="/my-repo/assets/a.js"></script>', ["assets/a.js"], "/my-repo"),
        ('<script src="/a/b/static/a.js"></script>', ["static/a.js"], "/a/b"),
        ('<base href="/my-repo/"><script src="main.js" type=module></script>', ["main.js"], "/my-repo"),
        (
            '<link rel=stylesheet href=/my-repo/_astro/a.css><img src="/logo.png">',
            ["_astro/a.css", "logo.png"],
            "/my-repo",
        ),
        ('<script>import("/my-repo/_app/a.js")</script>', ["_app/a.js"], "/my-repo"),
        ('<a href="/my-repo/about/">a</a><a href="/my-repo/b">b</a>', ["about/index.html", "b.html"], "/my-repo"),
        ('<script src="/my%20repo/a%20b.js"></script>', ["a b.js"], "/my repo"),
        # None of these tells of another address.
        ('<script src="/assets/a.js"></script>', ["assets/a.js"], None),
        ('<script src="./assets/a.js"></script><script src="https://a.example/x/assets/a.js">', ["assets/a.js"], None),
        ('<script src="//cdn.example/x/assets/a.js"></script>', ["assets/a.js"], None),
        ('<script src="/my-repo/assets/a.js"></script>', ["my-repo/assets/a.js", "assets/a.js"], None),
        ('<script src="/my-repo/assets/a.js"></script>', ["other.js"], None),
        ('<a href="/my-repo/about">about</a>', ["about.html"], None),
        ('<img src="/images/logo.png">', ["logo.png"], None),
        ('<link rel="canonical" href="/my-repo/a.html">', ["a.html"], None),
        ('<a href="/my-repo/">home</a><a href="#/my-repo/a.js">', ["a.js"], None),
        ('<pre><script src="/my-repo/a.js"></script></pre>', ["a.js"], None),
    ],
)
def test_the_address_that_pages_were_built_for_is_found(page: str, files: list[str], base: str | None) -> None:
    found = find_base_path([("index.html", page)], {"index.html", *files})

    assert (found.path if found else None) == base


def test_a_reference_is_resolved_from_its_page() -> None:
    found = find_references('<script src="../a.js?v=1#x"></script><a href="b">', "guide/start/index.html")

    assert [(reference.path, reference.kind) for reference in found] == [
        ("guide/a.js", "script"),
        ("guide/start/b", "page"),
    ]


@given(st.text(alphabet="<>/\"'{}%=-!?a .\n", max_size=300) | st.text(max_size=200))
def test_any_text_is_a_page_or_a_template(text: str) -> None:
    template_language(text)
    for reference in find_references(f"<script src='{text}'></script>{text}", "a/index.html"):
        assert not reference.path.startswith("/")


PIECES = "<pre|{{|---\n|<title>|<script src=|<a '|<a href=\"x|@if (|<link |<a x |<base |{% |{{a|import |</pre |<!--|{!!|<% |th:"


@pytest.mark.parametrize("piece", PIECES.split("|"))
def test_no_page_takes_long(piece: str) -> None:
    text = piece * (128 * 1024 // len(piece))  # squared, they are minutes
    started = time.process_time()

    template_language(text)
    find_references(text, "index.html")

    assert time.process_time() - started < 5
