"""Test the warnings about a site before it is published."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildrunner.publish.files import collect
from buildrunner.publish.review import review_site
from buildrunner.routing.document import Document, Pattern, Rule
from buildrunner.routing.references import find_addresses
from support.files import Files, write


def warnings(folder: Path, files: Files, framework: str | None = None, document: Document | None = None) -> list[str]:
    write(folder / "dist", files)
    with collect(folder / "dist", folder) as site:
        return list(review_site(site, framework, document or Document()).warnings)


@pytest.mark.parametrize(
    ("framework", "setting"),
    [
        ("Vite", "base in vite.config"),
        ("VitePress", "base in .vitepress/config"),
        ("Create React App", "homepage in package.json"),
        ("Vue CLI", "publicPath in vue.config.js"),
        ("Astro", "base in astro.config"),
        ("Next.js", "basePath or assetPrefix in next.config"),
        ("SvelteKit", "kit.paths.base in svelte.config.js"),
        ("Docusaurus", "baseUrl in docusaurus.config"),
        ("Angular", "baseHref in angular.json"),
        ("Gatsby", "pathPrefix in gatsby-config"),
        ("Nuxt", "app.baseURL"),
        ("webpack", "output.publicPath"),
        ("Eleventy", "pathPrefix"),
        (None, "the base path in the build's configuration"),
    ],
)
def test_a_base_path_that_was_left_is_named_with_its_setting(
    tmp_path: Path, framework: str | None, setting: str
) -> None:
    files = {"index.html": '<script src="/my-repo/assets/a.js"></script>', "assets/a.js": ""}

    (warning,) = warnings(tmp_path, files, framework)

    assert "index.html references /my-repo/assets/a.js, but the site has it as /assets/a.js." in warning
    assert setting in warning


def test_scripts_that_the_site_lacks_are_named(tmp_path: Path) -> None:
    head = '<!doctype html><script src="/assets/gone.js"></script><link rel="stylesheet" href="gone.css">'
    files = {"index.html": head, "about.html": head, "assets/a.js": ""}

    assert warnings(tmp_path, files) == [
        "index.html references /assets/gone.js, which the site does not have, and so does 1 more.",
        "index.html references /gone.css, which the site does not have, and so does 1 more.",
    ]


@pytest.mark.parametrize(
    "page",
    [
        '<script src="/_vercel/insights/script.js"></script><script src="/cdn-cgi/x.js"></script><script src=""></script>',
        '<script src="https://cdn.example.org/a.js"></script><script src="//cdn.example.org/a.js"></script>',
        '<!--[if lt IE 9]><script src="/js/html5shiv.js"></script><![endif]-->',
        '<img src="data:x"><a href="mailto:a@b.c">x</a><a href="#x">y</a>',
        "<pre>import a from './gone.js'</pre><code>&lt;script src='/b.js'></code>",
        '<script src="/app.js?v=2"></script><link rel="stylesheet" href="./css/%C3%A4.css#x">',
        '<link rel="preconnect" href="/gone"><link rel="canonical" href="/gone"><template><script src="/t.js"></script></template>',
    ],
)
def test_what_a_site_does_not_need_is_not_missed(tmp_path: Path, page: str) -> None:
    files = {"index.html": f"<!doctype html>{page}", "app.js": "", "css/ä.css": "", "part.html": '<script src="x.js">'}

    assert warnings(tmp_path, files) == []


def test_a_page_that_is_a_template_is_named(tmp_path: Path) -> None:
    files = {"index.html": "<h1>x</h1>", "layouts/a.html": "{% extends 'b' %}", "layouts/b.html": "{% block a %}"}

    (warning,) = warnings(tmp_path, files)

    assert warning.startswith("layouts/a.html, layouts/b.html: published unfilled, as a template of Jinja")


def test_rules_and_programs_of_other_hosts_are_named(tmp_path: Path) -> None:
    files = {
        "index.html": "",
        "_worker.js": "",
        ".htaccess": "",
        "mail.php": "<?php",
        "sub/_redirects": "",
    }

    assert warnings(tmp_path, files) == [
        "The rules in _worker.js, .htaccess are not applied; only the files themselves are published.",
        "Nothing runs mail.php here: visitors see the source. Remove such files from the output.",
    ]


def test_parts_that_scripts_fill_in_the_browser_are_no_templates(tmp_path: Path) -> None:
    files = {
        "index.html": "<div ng-view></div>",
        "parts/a.html": "<p>{{ a }}</p>",
        "parts/b.html": "{{#each c}}{{/each}}",
    }

    assert warnings(tmp_path, files) == []


def test_a_site_without_fault_has_no_warning(tmp_path: Path) -> None:
    files = {
        "index.html": '<div id="app">{{ a }}</div><script src="/assets/a.js"></script><a href="/about">x</a>',
        "about/index.html": '<link rel="stylesheet" href="../assets/a.css">',
        "assets/a.js": "",
        "assets/a.css": "",
    }

    assert warnings(tmp_path, files, "Vite") == []


def test_references_are_judged_by_what_the_rules_answer(tmp_path: Path) -> None:
    page = '<!doctype html><a href="/old/x">a</a><a href="/about/">b</a><a href="dir">c</a><img src="/gone.png">'
    files = {"index.html": page, "about.html": "", "dir/index.html": ""}
    document = Document(rules=(Rule(Pattern(regex="/old/(.*)", prefix="/old"), ("/new",), 301),))

    assert warnings(tmp_path, files, document=document) == [
        "index.html references /gone.png, which the site does not have."
    ]


def test_routes_of_a_single_page_application_are_there(tmp_path: Path) -> None:
    page = '<!doctype html><a href="/users/1">a</a><script src="/gone.js"></script>'

    assert warnings(tmp_path, {"index.html": page}, document=Document(single_page=True)) == [
        "index.html references /gone.js, which the site does not have."
    ]


def test_very_many_broken_references_are_counted(tmp_path: Path) -> None:
    page = "<!doctype html>" + "".join(f'<a href="/gone-{n}">x</a>' for n in range(50))

    found = warnings(tmp_path, {"index.html": page, "404.html": ""})

    assert len(found) == 11
    assert found[-1] == "Pages reference 40 more addresses that the site does not have."


def test_all_broken_references_are_known_to_strict_builds(tmp_path: Path) -> None:
    write(tmp_path / "dist", {"index.html": '<!doctype html><a href="/gone">x</a><img src="/b/a.png">', "a.png": ""})
    with collect(tmp_path / "dist", tmp_path) as site:
        assert review_site(site, None, Document()).broken == (
            "index.html references /b/a.png",
            "index.html references /gone",
        )


@pytest.mark.parametrize(
    ("html", "addresses"),
    [
        ("<!-- <a href=/no> --><a href=/yes>", ["/yes"]),
        ("<!--><a href=/yes><!-- <a href=/no>", ["/yes"]),
        ("<script src=/yes>'<a href=/no>'</SCRIPT ><img src='/yes'>", ["/yes", "/yes"]),
        ("<style><a href=/no></style><textarea><a href=/no></textarea><a href=/yes>", ["/yes"]),
        ("<template><a href=/no><template></template></template><a href=/yes>", ["/yes"]),
        ("<a title='1 > 0' data-x=\"<b href='/no'>\" href=/yes>", ["/yes"]),
        ("<a title='it's \" > href=/no>x</a><A HREF = /yes>", ["/yes"]),
        ("a < b <3 </p <?x href=/no?><a href=/yes/>", ["/yes/"]),
        ("<i><a href='/a?b&amp;c=<d>'>x</i></a><svg><use href=/yes /></svg>", ["/a?b&c=<d>", "/yes"]),
        ("<base href=/docs/><link rel=icon href=icon.svg><link rel=canonical href=/no>", ["/docs/icon.svg"]),
        ("<a href=/yes><a href=/no", ["/yes"]),
        ("<a href=/yes><script><a href=/no>", ["/yes"]),
    ],
)
def test_references_are_found_where_browsers_find_them(html: str, addresses: list[str]) -> None:
    assert [address for _, address in find_addresses(html, "/")] == addresses
    assert [address for _, address in find_addresses(f"<!doctype html><body>{html}", "/")] == addresses
