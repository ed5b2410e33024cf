"""Test the detection of the output folder, and the errors if there is none."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

import pytest

from buildrunner.errors import BuildFailed
from buildrunner.project.frameworks.detect import detect_framework
from buildrunner.project.frameworks.record import DetectedFramework
from buildrunner.project.frameworks.table import BY_NAME
from buildrunner.project.output.search import (
    OUTPUT_FOLDERS,
    Output,
    find_output,
    warn_of_other_host,
)
from buildrunner.project.output.snapshot import Snapshot, take_snapshot
from buildrunner.publish.files import collect
from support.files import Files, write

PAGE = "<h1>hello</h1>"


def made_with(app: Path, package: str, script: str, files: Files | None = None) -> DetectedFramework:
    write(app, files or {})
    name, _, version = package.partition("=")
    return detect_framework(app, app, {"scripts": {"build": script}, "devDependencies": {name: version or "1"}}, script)


def output(app: Path, framework: DetectedFramework | None = None, before: Snapshot | None = None) -> str:
    return os.path.relpath(find_output(app, app, framework=framework, before=before).folder, app)


def failure(app: Path, framework: DetectedFramework | None = None, before: Snapshot | None = None) -> BuildFailed:
    with pytest.raises(BuildFailed) as caught:
        find_output(app, app, framework=framework, before=before)
    assert (caught.value.stage, caught.value.exit_code) == ("build", 40)
    return caught.value


@pytest.mark.parametrize(
    "package",
    [
        {"main": "dist/app.umd.cjs"},
        {"module": "./dist/app.js"},
        {"exports": {".": {"import": {"types": "./dist/index.d.ts", "default": "./dist/index.mjs"}}}},
    ],
)
def test_a_library_is_no_site(app: Path, package: Mapping[str, object]) -> None:
    write(app, {"dist/app.js": "", "dist/index.d.ts": ""})

    with pytest.raises(BuildFailed, match="produced a library instead of a site: dist has no page"):
        find_output(app, app, framework=DetectedFramework(BY_NAME["Vite"], ("dist",)), package=package)
    assert find_output(app, app, output_dir="dist", package=package).folder == app / "dist"
    write(app, {"dist/index.html": PAGE})
    assert find_output(app, app, package=package).folder == app / "dist"


def test_a_dist_without_pages_is_published_with_a_warning(app: Path) -> None:
    write(app, {"dist/data.json": ""})

    found = find_output(app, app, package={"main": "index.js"})

    assert found.warning == "There is no index.html in dist, so the site has no home page."


def test_an_empty_dist_gets_no_warning_of_its_own(app: Path) -> None:
    (app / "dist/assets").mkdir(parents=True)

    assert find_output(app, app).warning is None


def test_dist_comes_first_of_what_is_there(app: Path) -> None:
    for name in reversed(OUTPUT_FOLDERS):
        write(app, {f"{name}/index.html": PAGE})

        assert output(app) == name
    assert OUTPUT_FOLDERS[0] == "dist"


def test_a_frameworks_folder_comes_before_dist(app: Path) -> None:
    write(app, {"dist/index.html": PAGE, "build/index.html": PAGE, "www/index.html": PAGE})

    assert output(app, DetectedFramework(BY_NAME["Create React App"], ("www", "build"))) == "www"
    found = find_output(app, app, framework=DetectedFramework(BY_NAME["Create React App"], ("build",)))
    assert found.note == "Publishing build, the output folder of Create React App."


def test_what_is_published_instead_of_dist_is_logged(app: Path) -> None:
    write(app, {"build/index.html": PAGE})

    assert find_output(app, app).note == "No dist; publishing build, where index.html is."


def test_a_folder_that_the_build_did_not_write_is_not_its_output(app: Path) -> None:
    write(app, {"dist/index.html": "old", "public/index.html": "old", "src/a/b/c/d/e/f.js": "1"})
    before = take_snapshot(app, app)
    write(app, {"build/index.html": PAGE})

    assert output(app, before=before) == "build"


@pytest.mark.parametrize(
    "changed", ["public/index.html", "public/build/bundle.js", "public/build/new.js", "public/a/b/c/d.js"]
)
def test_an_old_folder_that_the_build_wrote_to_is_the_output(app: Path, changed: str) -> None:
    write(app, {"public/index.html": "<script src=build/bundle.js></script>", "public/build/bundle.js": "old"})
    before = take_snapshot(app, app)
    time.sleep(0.02)  # the kernel's clock for files has a grain
    write(app, {changed: "new"})

    assert output(app, before=before) == "public"


def test_a_file_time_set_back_by_the_build_does_not_hide_it(app: Path) -> None:
    write(app, {"public/index.html": PAGE})
    before = take_snapshot(app, app)
    time.sleep(0.02)
    (app / "public/index.html").write_text("new")
    os.utime(app / "public/index.html", (0, 0))

    assert output(app, before=before) == "public"


def test_a_page_that_is_made_into_another_is_no_output(app: Path) -> None:
    write(app, {"public/index.html": '<link href="%PUBLIC_URL%/a.css">', "public/env.js": "", "www/index.html": PAGE})

    assert output(app) == "www"


def test_the_one_new_folder_with_a_page_is_the_output(app: Path) -> None:
    write(app, {"examples/one/index.html": PAGE, "coverage/index.html": PAGE, "node_modules/a/index.html": PAGE})
    before = take_snapshot(app, app)
    write(
        app,
        {"client/html/index.html": PAGE, "client/html/about/index.html": PAGE, "coverage/lcov-report/index.html": ""},
    )

    assert output(app, before=before) == "client/html"


def test_of_several_new_folders_none_is_guessed(app: Path) -> None:
    write(app, {"one/index.html": PAGE, "two/index.html": PAGE})

    error = failure(app)

    assert re.search("one, two|two, one", error.reason)
    assert "OUTPUT_DIR" in (error.hint or "")


def test_a_project_in_dist_is_entered_and_a_page_in_dist_is_not(app: Path) -> None:
    write(app, {"dist/shop/browser/index.html": PAGE, "dist/shop/3rdpartylicenses.txt": ""})

    assert output(app) == "dist/shop/browser"
    assert output(app, DetectedFramework(BY_NAME["Angular"], ())) == "dist/shop/browser"
    assert output(app, DetectedFramework(BY_NAME["Astro"], ("dist",))) == "dist"


def test_folders_of_languages_are_one_site(app: Path) -> None:
    write(app, {"dist/shop/en/index.html": PAGE, "dist/shop/de/index.html": PAGE})

    found = find_output(app, app)

    assert found.folder == app / "dist/shop"
    assert "no index.html in dist/shop" in (found.warning or "")


def test_dist_without_a_page_is_published_if_nothing_is_better(app: Path) -> None:
    write(app, {"dist/library.js": "1"})

    found = find_output(app, app)

    assert found.folder == app / "dist"
    assert "no index.html in dist" in (found.warning or "")
    write(app, {"build/index.html": PAGE})
    assert output(app) == "build"


def test_a_single_page_app_may_come_under_another_name(app: Path) -> None:
    write(app, {"build/200.html": PAGE, "build/_app/a.js": "1"})

    found = find_output(app, app, framework=DetectedFramework(BY_NAME["SvelteKit"], ("build",)))

    assert found.folder == app / "build"
    assert "no index.html in build" in (found.warning or "")


def test_an_output_without_a_page_is_reported(app: Path) -> None:
    write(app, {"lib/index.js": "1"})

    assert (
        "wrote no page to lib, the output folder of Vite"
        in failure(app, DetectedFramework(BY_NAME["Vite"], ("lib", "dist"))).reason
    )


def test_a_style_sheet_without_its_page_is_not_a_site(app: Path) -> None:
    write(app, {"dist/out.css": "a{}", "index.html": '<link rel="stylesheet" href="./dist/out.css"><script src=no.js>'})

    assert "index.html, which uses these files, is not in dist" in failure(app).reason
    assert "OUTPUT_DIR=." in (failure(app).hint or "")


# --- pages in subfolders of the output folder ---

SHELL = '<script src="/main.js"></script><link rel="stylesheet" href="/styles.css">'


@pytest.mark.parametrize("name", [None, "Vite", "Create React App", "webpack", "Astro"])
def test_the_only_folder_with_a_page_is_the_site(app: Path, name: str | None) -> None:
    write(app, {"dist/apps/web/index.html": PAGE, "dist/apps/web/about/index.html": PAGE, "dist/apps/web/main.js": ""})

    found = find_output(app, app, framework=DetectedFramework(BY_NAME.get(name or ""), ("dist",)))

    assert (found.folder, found.warning) == (app / "dist/apps/web", None)


def test_the_only_folder_is_the_site_even_if_its_page_names_it(app: Path) -> None:
    """Qwik and others write a site whose base is /shop/ to dist/shop: a warning about the base follows later."""
    page = '<script src="/shop/build/main.js"></script>'
    write(app, {"dist/shop/index.html": page, "dist/shop/404.html": page, "dist/shop/build/main.js": ""})

    assert output(app) == "dist/shop"


def test_files_for_robots_do_not_make_a_folder_a_site(app: Path) -> None:
    write(app, {"dist/apps/web/index.html": PAGE, "dist/robots.txt": "", "dist/apps/sitemap.xml": ""})

    found = find_output(app, app)

    assert found.folder == app / "dist/apps/web"
    assert found.warning == (
        "Not publishing dist/apps/sitemap.xml, dist/robots.txt, because the site is in dist/apps/web."
        " Write such files next to index.html in the build."
    )
    write(app, {"dist/apps/web/index.html": '<script src="/app.js"></script>', "dist/app.js": ""})
    assert find_output(app, app).folder == app / "dist"


def test_libraries_do_not_hide_the_app(app: Path) -> None:
    write(app, {"dist/apps/web/index.html": SHELL, "dist/apps/web/main.js": "", "dist/apps/web/styles.css": ""})
    write(app, {"dist/apps/api/main.js": "", "dist/libs/ui/index.js": "", "dist/stats.json": "{}"})

    assert output(app, DetectedFramework(BY_NAME["Vite"], ("dist",))) == "dist/apps/web"


@pytest.mark.parametrize("name", ["Astro", "Vite", "webpack", None])
def test_a_page_that_requests_its_parent_belongs_to_the_parent(app: Path, name: str | None) -> None:
    for number, page in enumerate(('<script src="/_astro/a.js"></script>', '<script src="../_astro/a.js"></script>')):
        folder = app / f"{number}"
        write(folder, {"dist/about/index.html": page, "dist/_astro/a.js": ""})

        assert output(folder, DetectedFramework(BY_NAME.get(name or ""), ("dist",))) == "dist"


def test_a_page_in_each_language_is_one_site(app: Path) -> None:
    for language in ("en", "de", "pt-BR", "zh-Hans-CN"):
        base = f'<base href="/{language}/"><script src="main.js"></script>'
        write(app, {f"dist/app/browser/{language}/index.html": base, f"dist/app/browser/{language}/main.js": ""})
    write(app, {"dist/app/3rdpartylicenses.txt": ""})

    assert output(app, DetectedFramework(BY_NAME["Angular"], ("dist/app",))) == "dist/app/browser"


def test_several_complete_apps_are_not_one_site(app: Path) -> None:
    for name in ("web", "admin"):
        write(app, {f"dist/apps/{name}/index.html": SHELL, f"dist/apps/{name}/main.js": ""})
    write(app, {"dist/apps/web/styles.css": "", "dist/apps/admin/styles.css": ""})

    reason = failure(app, DetectedFramework(BY_NAME["Vite"], ("dist",))).reason

    assert "dist/apps/web" in reason
    assert "dist/apps/admin" in reason


@pytest.mark.parametrize(
    ("names", "config", "expected"),
    [
        (("es5-bundled", "es6-bundled", "esm-bundled"), None, "es5-bundled"),
        (("esm-bundled", "es6-bundled"), None, "es6-bundled"),
        (("bundled", "unbundled"), None, "bundled"),
        (("live", "test"), '{"builds": [{"name": "live"}, {"name": "test"}]}', "live"),
        (("es6-bundled", "es5-bundled", "mine"), '{"builds": [{"preset": "es6-bundled"}]}', "es5-bundled"),
    ],
)
def test_of_several_builds_of_one_site_one_is_published(
    app: Path, names: tuple[str, ...], config: str | None, expected: str
) -> None:
    for name in names:
        write(app, {f"build/{name}/index.html": SHELL, f"build/{name}/main.js": "", f"build/{name}/styles.css": ""})
    if config:
        write(app, {"polymer.json": config})

    assert output(app) == f"build/{expected}"


# --- templates ---


@pytest.mark.parametrize("folder", ["dist", "dist/templates", "build", "html"])
@pytest.mark.parametrize(
    ("page", "language"),
    [
        ("{% extends 'base.html' %}", "Jinja, Nunjucks or Twig"),
        ("<% include('head') %><%= title %>", "ERB or EJS"),
        ("{{#each items}}<p>{{name}}</p>{{/each}}", "Handlebars"),
        ("---\ntitle: x\n---\n<h1>x</h1>", "a site generator"),
    ],
)
def test_a_template_is_no_output(app: Path, folder: str, page: str, language: str) -> None:
    write(app, {f"{folder}/index.html": page})

    error = failure(app)

    assert f"{folder}/index.html is still a template of {language}" in error.reason
    assert f"OUTPUT_DIR={folder}" in (error.hint or "")
    assert find_output(app, app, output_dir=folder).folder == app / folder
    write(app, {"www/index.html": PAGE})
    assert output(app) == "www"


@pytest.mark.parametrize(
    "page",
    [
        '<div id="app">{{ message }}</div><script src="vue.js"></script>',
        '<div x-data="{a: 1}">{{ a }}</div>',
        "<html ng-app><title>{{ title }}</title></html>",
        "<pre>{% extends 'base.html' %}</pre><code>&lt;?php</code>",
        '<script type="text/template"><%= name %></script>',
    ],
)
def test_a_page_that_is_filled_in_the_browser_is_an_output(app: Path, page: str) -> None:
    write(app, {"dist/index.html": page})

    assert output(app) == "dist"


# --- builds without a page next to a committed page ---

WHOLE = '<link rel="stylesheet" href="css/site.css"><script src="js/app.js"></script><img src="img/logo.png">'
SOURCES = {
    "package.json": "{}",
    "package-lock.json": "{}",
    "tailwind.config.js": "",
    "README.md": "",
    "build.js": "",
    "src/input.css": "@tailwind base;",
    "css/input.css": "@tailwind base;",
    "scss/site.scss": "",
    "css/site.scss": "",
    "node_modules/tailwindcss/index.js": "",
    ".env": "SECRET=1",
    ".github/workflows/a.yml": "",
    "test/app.test.js": "",
    "server.key": "",
    "data/users.sqlite": "",
    "app.py": "",
    "requirements.txt": "",
    "service-account.json": "",
    "render.yaml": "",
}
SITE = {
    "index.html": WHOLE,
    "about.html": '<script src="node_modules/jquery/jquery.js"></script><script src="src/about.js">',
    "blog/index.html": PAGE,
    "css/site.css": "@import 'theme.css';",
    "css/theme.css": "a{background:url(../src/back.png)}",
    "js/app.js": "fetch('data/a.json')",
    "data/a.json": "{}",
    "img/logo.png": "",
    "favicon.ico": "",
    "src/about.js": "",
    "src/back.png": "",
    "node_modules/jquery/jquery.js": "",
    ".well-known/security.txt": "",
}
SCRIPT = "node build.js && tailwindcss -i css/input.css -o css/site.css"


def published(found: Output, app: Path) -> set[str]:
    with collect(found.folder, app, selected=found.selected) as site:
        return {file.path for file in site.files}


@pytest.mark.parametrize("built", [None, "css/site.css"])
def test_a_complete_top_page_is_published_without_the_sources(app: Path, built: str | None) -> None:
    write(app, {**SOURCES, **SITE})
    before = take_snapshot(app, app)
    time.sleep(0.02)
    if built:
        write(app, {built: "@import 'theme.css'; a{}"})

    found = find_output(app, app, before=before, package={"scripts": {"build": SCRIPT}})

    assert published(found, app) == SITE.keys()
    assert "OUTPUT_DIR=." in (found.warning or "")


def test_a_style_sheet_in_dist_belongs_to_the_page_at_the_top(app: Path) -> None:
    write(app, {"index.html": '<link rel="stylesheet" href="./dist/out.css">', "package.json": "{}"})
    before = take_snapshot(app, app)
    write(app, {"dist/out.css": "a{}"})

    assert published(find_output(app, app, before=before), app) == {"index.html", "dist/out.css"}


@pytest.mark.parametrize("folder", ["public", "docs"])
def test_a_complete_page_is_published_when_the_build_makes_none(app: Path, folder: str) -> None:
    write(app, {f"{folder}/index.html": '<script src="app.js"></script>', f"{folder}/app.js": ""})
    before = take_snapshot(app, app)
    write(app, {"dist/index.js": ""})

    found = find_output(app, app, before=before, package={"main": "dist/index.js"})

    assert found.folder == app / folder
    assert f"OUTPUT_DIR={folder}" in (found.warning or "")


@pytest.mark.parametrize(
    "files",
    [
        {"index.html": '<script type="module" src="/src/main.tsx"></script>', "src/main.tsx": ""},
        {"index.html": '<script type="module" src="/src/main.js"></script>', "src/main.js": "import Vue from 'vue'"},
        {"index.html": '<script src="missing.js"></script>'},
        {"index.html": '<link rel="stylesheet" href="a.css">', "a.css": "@tailwind base;"},
        {"index.html": "{% extends 'a' %}"},
    ],
)
def test_an_incomplete_page_is_not_published(app: Path, files: Files) -> None:
    write(app, files)
    before = take_snapshot(app, app)

    assert "OUTPUT_DIR" in (failure(app, before=before).hint or "")


def test_the_top_is_published_without_what_was_installed(app: Path) -> None:
    write(app, {"index.html": PAGE, "package.json": "{}", "node_modules/a/index.js": ""})
    before = take_snapshot(app, app)

    found = find_output(app, app, output_dir=".", before=before, before_install={})

    assert published(found, app) == {"index.html", "package.json"}


def test_install_output_is_published_when_the_build_has_no_page(app: Path) -> None:
    write(app, {"package.json": "{}"})
    before_install = take_snapshot(app, app)
    write(app, {"public/index.html": PAGE})
    before = take_snapshot(app, app)
    write(app, {"dist/index.js": ""})

    found = find_output(app, app, before=before, before_install=before_install, package={"main": "dist/index.js"})

    assert found.folder == app / "public"
    assert found.note == "The build wrote no page; publishing public, which the install stage wrote."


def test_the_hint_names_what_makes_the_site(app: Path) -> None:
    write(app, {"dist/index.js": ""})

    with pytest.raises(BuildFailed) as caught:
        find_output(app, app, package={"main": "dist/index.js"}, other_site="Set BUILD_COMMAND.")

    assert caught.value.hint == "Set BUILD_COMMAND."


def test_an_output_in_the_repository_around_the_app_is_found(app: Path) -> None:
    web = app / "apps/web"
    write(app, {"apps/web/package.json": "{}", "docs/index.html": PAGE})
    before = take_snapshot(web, app)
    write(app, {"dist/apps/web/index.html": PAGE})

    for framework in (None, DetectedFramework(BY_NAME["Vite"], ("../../dist/apps/web", "dist"))):
        found = find_output(web, app, framework=framework, before=before)
        assert found.folder == app / "dist/apps/web"
    with pytest.raises(BuildFailed):
        find_output(web, web, framework=DetectedFramework(BY_NAME["Vite"], ("../../dist/apps/web",)), before=before)


def test_a_server_output_is_refused_and_not_published_partly(app: Path) -> None:
    write(app, {"dist/client/index.html": PAGE, "dist/server/entry.mjs": ""})
    adapter = {"astro.config.mjs": "adapter: node()"}

    assert output(app, made_with(app, "astro", "astro build", adapter)) == "dist/client", "all its pages are rendered"
    served = made_with(app, "astro", "astro build", {**adapter, "src/pages/me.astro": "export const prerender = false"})
    assert failure(app, served).reason.startswith("This Astro site has pages that a server renders")


def test_a_next_server_is_refused_though_pages_are_in_it(app: Path) -> None:
    found = made_with(app, "next=14", "next build", {"next.config.js": "distDir: 'dist'", "dist/BUILD_ID": "x"})
    write(app, {"dist/server/app/index.html": PAGE, ".next/server/app/index.html": PAGE})

    assert "Next.js" in failure(app, found).reason
    write(app, {"out/index.html": PAGE})
    assert output(app, found) == "out", "its configuration asked for it in a way that cannot be read"


def test_a_page_that_a_server_has_to_fill_is_refused(app: Path) -> None:
    write(app, {"dist/client/index.html": '<div id="app"><!--app-html--></div>'})
    script = "vite build --outDir dist/client && vite build --ssr src/entry-server.js --outDir dist/server"

    assert "`vite build --ssr`" in failure(app, made_with(app, "vite", script)).reason


def test_a_link_in_place_of_a_folder_is_not_looked_through(app: Path) -> None:
    write(app.parent, {"outside/a/index.html": PAGE})
    (app / "site").mkdir()
    (app / "site/a").symlink_to("../../outside/a")
    (app / "loop").symlink_to(".")

    assert "produced no output" in failure(app).reason


def test_output_dir_is_the_only_folder_that_is_looked_at(app: Path) -> None:
    write(app, {"dist/index.html": PAGE})

    with pytest.raises(BuildFailed) as caught:
        find_output(app, app, output_dir="public")

    assert caught.value.reason == "The build succeeded but did not create the folder public."
    assert "OUTPUT_DIR" in (caught.value.hint or "")
    write(app, {"public/a.txt": ""})
    assert (
        find_output(app, app, output_dir="public", framework=DetectedFramework(BY_NAME["Vite"], ("dist",))).folder
        == app / "public"
    )


def test_a_page_that_has_to_be_bundled_is_named(app: Path) -> None:
    write(app, {"index.html": '<script type="module" src="/src/main.tsx"></script>', "src/main.tsx": ""})

    hint = failure(app).hint or ""
    assert "index.html loads src/main.tsx" in hint
    assert "`vite build`" in hint


def test_templates_of_a_server_are_not_offered_as_the_output(app: Path) -> None:
    write(app, {"mysite/templates/index.html": PAGE, "pages/home.html": "{% load static %}", "views/a.html": PAGE})

    error = failure(app, before=take_snapshot(app, app))
    assert "Folders with pages" not in str(error.hint)


def test_no_output_names_the_folders_that_have_pages(app: Path) -> None:
    """Publishing a folder without a page would fail again."""
    for name in ("www", "node_modules", ".git", "target", "line\nbreak"):
        (app / name).mkdir()
    for name in ("www", "node_modules", "line\nbreak"):
        (app / name / "about.html").touch()
    (app / "loop").symlink_to("loop")
    (app / "file").touch()

    error = failure(app, DetectedFramework(BY_NAME["Vite"], ("html", "dist")))

    assert error.reason == "The build succeeded but produced no output: there is no folder html."
    assert (error.hint or "").endswith(r"Folders with pages: line\nbreak, www.")


@pytest.mark.parametrize("output_dir", [None, "dist"])
def test_an_output_that_is_a_file_is_reported(app: Path, output_dir: str | None) -> None:
    (app / "dist").touch()

    with pytest.raises(BuildFailed, match="dist is a file"):
        find_output(app, app, output_dir=output_dir)


def test_links_that_loop_or_lead_nowhere_are_no_output(app: Path) -> None:
    (app / "dist").symlink_to("dist")
    (app / "build").symlink_to("nothing")

    assert "produced no output" in failure(app).reason


def test_a_removed_or_linked_output_folder_is_no_output(app: Path) -> None:
    app.rmdir()
    assert "produced no output" in failure(app).reason

    write(app.parent, {"elsewhere/dist/index.html": PAGE})
    app.symlink_to("elsewhere")
    assert "produced no output" in failure(app).reason


def test_a_folder_of_another_host_is_named_if_it_has_a_page(app: Path) -> None:
    write(app, {"dist/index.html": PAGE, "out/a.txt": ""})
    other = (app / "out", "build.publish of netlify.toml")

    assert warn_of_other_host(app / "dist", app, other) is None
    write(app, {"out/index.html": PAGE})
    assert "Set OUTPUT_DIR=out" in (warn_of_other_host(app / "dist", app, other) or "")
    assert warn_of_other_host(app / "out", app, other) is None
