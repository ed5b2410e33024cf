"""What is built with what, and where that leaves the site. The texts are as people write them, and written for these tests."""

from __future__ import annotations

import json
import os
import re
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.errors import BuildFailed
from buildrunner.frameworks import (
    OUTPUT_FOLDERS,
    Framework,
    Snapshot,
    find_output,
    legacy_openssl,
    recognise,
    take_snapshot,
)

Files = Mapping[str, str]


@pytest.fixture
def app(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    return folder


def write(folder: Path, files: Files) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def made_with(
    app: Path, packages: str, script: str, files: Files | None = None, scripts: Files | None = None
) -> Framework:
    write(app, files or {})
    package = {
        "scripts": {"build": script, **(scripts or {})},
        "devDependencies": dict(name.rpartition("=")[::2] if "=" in name else (name, "1") for name in packages.split()),
    }
    return recognise(app, app, package, script)


# --- what it is, and where its output is ---

# packages, build script, files → name, the folders in their order (the first ones)
RECOGNISED: dict[str, tuple[str, str, Files, str, list[str]]] = {
    "vite": ("vite", "tsc -b && vite build", {}, "Vite", ["dist"]),
    "vite, outDir": (
        "vite",
        "vite build",
        {"vite.config.ts": "export default defineConfig({ base: '/x/', build: { outDir: 'build', sourcemap: true } })"},
        "Vite",
        ["build", "dist"],
    ),
    "vite, root": (
        "vite",
        "vite build",
        {"vite.config.js": 'export default {\n  root: "src",\n  build: {\n    outDir: "../site"\n  }\n}'},
        "Vite",
        ["site", "src/dist"],
    ),
    "vite, resolved": (
        "vite",
        "vite build",
        {"vite.config.mts": "build: { outDir: path.resolve(__dirname, '..', 'www') , emptyOutDir: true}"},
        "Vite",
        ["../www", "dist"],
    ),
    "vite, by a URL": (
        "vite",
        "vite build",
        {"vite.config.js": "outDir: fileURLToPath(new URL('./public_html', import.meta.url)),"},
        "Vite",
        ["public_html", "dist"],
    ),
    "vite, by a constant": (
        "vite",
        "vite build",
        {"vite.config.js": "const outDir = 'web';\nexport default { build: { outDir } }"},
        "Vite",
        ["web", "dist"],
    ),
    "vite, one of two": (
        "vite",
        "vite build",
        {"vite.config.js": "outDir: mode === 'production' ? 'live' : 'test',"},
        "Vite",
        ["live", "test", "dist"],
    ),
    "vite, in a comment": (
        "vite",
        "vite build",
        {"vite.config.js": "// outDir: 'old'\nexport default {/* outDir: 'older' */ base: 'https://x//outDir'}"},
        "Vite",
        ["dist"],
    ),
    "vite, option": ("vite", "vite build --mode x --outDir=html", {}, "Vite", ["html", "dist"]),
    "vite, other config": (
        "vite",
        "vite build --config conf/vite.web.js",
        {"conf/vite.web.js": "build: { outDir: 'web' }"},
        "Vite",
        ["web", "dist"],
    ),
    "vite, not outside": ("vite", "vite build --outDir /srv/www", {}, "Vite", ["dist"]),
    "solid": ("solid-js vite vite-plugin-solid", "vite build", {}, "Vite", ["dist"]),
    "vite beside storybook": (
        "vite storybook",
        "storybook build && vite build",
        {},
        "Vite",
        ["dist", "storybook-static"],
    ),
    "storybook beside vite": ("vite storybook", "storybook build -o sb", {}, "Storybook", ["sb", "storybook-static"]),
    "cra": ("react-scripts", "react-scripts build", {}, "Create React App", ["build"]),
    "cra, craco": ("react-scripts @craco/craco", "CI=false craco build", {}, "Create React App", ["build"]),
    "cra, option": (
        "react-scripts",
        "cross-env BUILD_PATH=./dist GENERATE_SOURCEMAP=false react-scripts build",
        {},
        "Create React App",
        ["dist", "build"],
    ),
    "cra, .env": (
        "react-scripts",
        "react-scripts build",
        {".env": "A=1\nBUILD_PATH='www'\n"},
        "Create React App",
        ["www"],
    ),
    "next export": ("next=^12", "next build && next export -o site", {}, "Next.js", ["site", "out"]),
    "next, distDir": (
        "next=15",
        "next build",
        {"next.config.mjs": "export default { output: 'export', distDir: 'dist' }"},
        "Next.js",
        ["dist", "out"],
    ),
    "astro": ("astro", "astro check && astro build", {"astro.config.mjs": "outDir: './pub'"}, "Astro", ["pub", "dist"]),
    "sveltekit": (
        "@sveltejs/kit vite",
        "vite build",
        {
            "svelte.config.js": "import a from '@sveltejs/adapter-static'; k = { adapter: a({ pages: 'docs', assets: 'docs' }) }"
        },
        "SvelteKit",
        ["docs", "build"],
    ),
    "svelte template": (
        "rollup svelte",
        "rollup -c",
        {"rollup.config.js": "output: { format: 'iife', file: 'public/build/bundle.js' }"},
        "Rollup",
        ["public/build", "public", "dist"],
    ),
    "nuxt 3": ("nuxt=^3", "nuxt generate", {}, "Nuxt", [".output/public", "dist"]),
    "nuxt 2": (
        "nuxt=^2",
        "nuxt generate",
        {"nuxt.config.js": "generate: { fallback: true, dir: 'www' }"},
        "Nuxt",
        ["www"],
    ),
    "vue cli": (
        "@vue/cli-service",
        "vue-cli-service build",
        {"vue.config.js": "module.exports = { outputDir: process.env.OUT || 'docs' }"},
        "Vue CLI",
        ["docs", "dist"],
    ),
    "gatsby": ("gatsby", "gatsby build --prefix-paths", {}, "Gatsby", ["public"]),
    "react router": (
        "@react-router/dev vite",
        "react-router build",
        {"react-router.config.ts": "export default { ssr: false, buildDirectory: 'dist' } satisfies Config"},
        "React Router",
        ["dist/client", "dist", "build/client"],
    ),
    "remix": (
        "@remix-run/dev vite",
        "remix vite:build",
        {"vite.config.ts": "plugins: [remix({ ssr: false })]"},
        "Remix",
        ["build/client"],
    ),
    "parcel": ("parcel", "parcel build src/index.html --dist-dir pub --public-url ./", {}, "Parcel", ["pub", "dist"]),
    "eleventy": (
        "@11ty/eleventy",
        "npx @11ty/eleventy",
        {".eleventy.js": "return { dir: { input: 'src', output: 'www' } }"},
        "Eleventy",
        ["www", "_site"],
    ),
    "eleventy, option": ("@11ty/eleventy", "eleventy --output=public", {}, "Eleventy", ["public", "_site"]),
    "eleventy 3": (
        "@11ty/eleventy",
        "eleventy",
        {"eleventy.config.mjs": "c.setOutputDirectory('html');"},
        "Eleventy",
        ["html", "_site"],
    ),
    "docusaurus": ("@docusaurus/core", "docusaurus build --out-dir site", {}, "Docusaurus", ["site", "build"]),
    "docusaurus 1": ("docusaurus", "docusaurus-build", {}, "Docusaurus 1", ["build"]),
    "vitepress": ("vitepress vue", "vitepress build docs", {}, "VitePress", ["docs/.vitepress/dist"]),
    "vitepress, outDir": (
        "vitepress",
        "vitepress build docs",
        {"docs/.vitepress/config.mts": "export default { outDir: '../public' }"},
        "VitePress",
        ["public", "../public", "docs/.vitepress/dist"],
    ),
    "vuepress": (
        "vuepress",
        "vuepress build src",
        {"src/.vuepress/config.js": "module.exports = { dest: 'public' }"},
        "VuePress",
        ["src/public", "public", "src/.vuepress/dist"],
    ),
    "qwik": ("@builder.io/qwik vite", "qwik build", {}, "Qwik", ["dist"]),
    "preact": ("preact-cli", "preact build --dest out --no-prerender", {}, "Preact CLI", ["out", "build"]),
    "ember": ("ember-cli", "ember build --environment=production", {}, "Ember", ["dist"]),
    "hexo": (
        "hexo",
        "hexo generate",
        {"_config.yml": "title: x\npublic_dir: html # here\n"},
        "Hexo",
        ["html", "public"],
    ),
    "webpack": (
        "webpack webpack-cli",
        "webpack --mode production",
        {
            "webpack.config.js": "module.exports = { output: { filename: 'a.js', path: path.resolve(__dirname, 'public/js') } }"
        },
        "webpack",
        ["public/js", "public", "dist"],
    ),
    "webpack, other config": (
        "webpack",
        "webpack --config config/webpack.prod.js",
        {"config/webpack.prod.js": "const out = path.join(__dirname, '../www');\nx = { output: {\n path: out,\n} }"},
        "webpack",
        ["www", "dist"],
    ),
}


@pytest.mark.parametrize("case", RECOGNISED)
def test_a_framework_and_its_folder_are_read_from_the_app(app: Path, case: str) -> None:
    packages, script, files, name, folders = RECOGNISED[case]

    found = made_with(app, packages, script, files)

    assert found.name == name
    assert list(found.folders[: len(folders)]) == folders
    assert not found.certain
    assert found.build_instead is None


ANGULAR = {
    "projectType": "application",
    "architect": {"build": {"builder": "@angular/build:application", "options": {}}},
}


def angular(options: object, *, builder: str = "@angular/build:application", production: object = None) -> str:
    build = {"builder": builder, "options": options, "configurations": {"production": production or {}}}
    lib = {"projectType": "library", "architect": {"build": {"options": {"outputPath": "dist/lib"}}}}
    shop = {"projectType": "application", "architect": {"build": build}}
    return "// made by hand\n" + json.dumps({"projects": {"lib": lib, "shop": shop}}).replace("}}}}", "}}},}")


@pytest.mark.parametrize(
    ("workspace", "folders"),
    [
        (angular({"outputPath": "dist/x"}), ["dist/x/browser", "dist/x", "dist/shop/browser"]),
        (angular({"outputPath": "docs"}, builder="@angular-devkit/build-angular:browser"), ["docs"]),
        (angular({"outputPath": {"base": "dist/y", "browser": ""}}), ["dist/y", "dist/shop/browser"]),
        (angular({"outputPath": {"base": "dist/y"}}), ["dist/y/browser", "dist/shop/browser"]),
        (angular({}), ["dist/shop/browser", "dist/shop"]),
        (angular({"outputPath": "a"}, production={"outputPath": "b"}), ["b/browser", "b", "a/browser", "a"]),
    ],
)
def test_angulars_output_is_that_of_its_project(app: Path, workspace: str, folders: list[str]) -> None:
    found = made_with(app, "@angular/cli", "ng build --configuration production", {"angular.json": workspace})

    assert found.name == "Angular"
    assert list(found.folders[: len(folders)]) == folders
    assert "dist/lib" not in found.folders


def test_the_script_is_followed_through_the_scripts_that_it_calls(app: Path) -> None:
    scripts = {
        "prebuild": "npm run clean",
        "clean": "rimraf dist",
        "build:site": 'run-p type-check "build-only {@}" --',
        "type-check": "vue-tsc --noEmit",
        "build-only": "node --max-old-space-size=4096 ./node_modules/vite/bin/vite.js build",
        "loop": "npm run loop && npm run build",
    }

    found = made_with(app, "vite storybook webpack", "yarn build:site --outDir www && npm run loop", {}, scripts)

    assert (found.name, found.folders[0]) == ("Vite", "www")
    found = made_with(app, "vite", "pnpm run only -- --outDir www", {}, {"only": "yarn vite build"})
    assert (found.name, found.folders[0]) == ("Vite", "www")


def test_what_no_command_tells_the_packages_do(app: Path) -> None:
    assert made_with(app, "typescript vite astro", "node build.mjs").name == "Astro"
    assert made_with(app, "vite", "turbo run build").name == "Vite"
    assert made_with(app, "left-pad", "node build.mjs") == Framework()


def test_where_any_program_writes_to_is_looked_at(app: Path) -> None:
    found = made_with(app, "tailwindcss", "npx tailwindcss -i ./src/in.css -o ./public/css/out.css --minify")

    assert (found.name, found.folders) == (None, ("public/css/out.css", "public/css", "public"))


def test_a_configuration_behind_a_link_that_leads_out_is_not_read(app: Path) -> None:
    write(app.parent, {"secret.js": "outDir: 'secret'"})
    (app / "vite.config.js").symlink_to("../secret.js")
    (app / "vite.config.ts").symlink_to("/dev/zero")
    os.mkfifo(app / "vite.config.mjs")
    (app / "vite.config.cjs").mkdir()

    assert made_with(app, "vite", "vite build --config ../secret.js").folders == ("dist",)


# --- what a server would have to render ---

ADAPTER = "import adapter from '@sveltejs/adapter-{}'\nexport default {{ kit: {{ adapter: adapter() }} }}"

# packages, build script, files → is it certain, a word of the hint
SERVED: dict[str, tuple[str, str, Files, bool, str]] = {
    "next": ("next=^15", "next build", {}, True, "output: 'export'"),
    "next, standalone": ("next=14", "next build", {"next.config.js": "output: 'standalone'"}, True, "output: 'export'"),
    "next, commented out": (
        "next=14",
        "next build",
        {"next.config.js": "// output: 'export'"},
        True,
        "output: 'export'",
    ),
    "next, sometimes": (
        "next=14",
        "next build",
        {"next.config.js": "output: process.env.STATIC ? 'export' : undefined"},
        False,
        "output: 'export'",
    ),
    "next, in parts": ("next=14", "next build", {"next.config.js": "import base from './base.mjs'"}, False, "export"),
    "next, and more": ("next=14", "next build && node export.js", {}, False, "export"),
    "next, old": ("next=^11.0.0", "next build", {}, True, "next build && next export"),
    "sveltekit": ("@sveltejs/kit", "vite build", {"svelte.config.js": ADAPTER.format("auto")}, True, "adapter-static"),
    "sveltekit, node": (
        "@sveltejs/kit",
        "vite build",
        {"svelte.config.js": ADAPTER.format("node")},
        True,
        "adapter-static",
    ),
    "sveltekit, either": (
        "@sveltejs/kit",
        "vite build",
        {"svelte.config.js": ADAPTER.format("node") + "\nimport s from '@sveltejs/adapter-static'"},
        False,
        "adapter-static",
    ),
    "sveltekit, own": (
        "@sveltejs/kit",
        "vite build",
        {"svelte.config.js": "import a from './mine.js'"},
        False,
        "adapter-static",
    ),
    "astro": ("astro", "astro build", {"astro.config.mjs": "output: 'server', adapter: node()"}, True, "output"),
    "astro, a page": (
        "astro",
        "astro build",
        {"src/pages/api/x.ts": "export const prerender = false"},
        False,
        "prerender",
    ),
    "astro, but a page": (
        "astro",
        "astro build",
        {"astro.config.mjs": "output: 'server'", "src/pages/index.astro": "export const prerender = true;"},
        False,
        "output",
    ),
    "react router": ("@react-router/dev", "react-router build", {}, True, "ssr: false"),
    "react router, ssr": (
        "@react-router/dev",
        "react-router build",
        {"react-router.config.ts": "// ssr: false\nexport default { ssr: true }"},
        True,
        "ssr: false",
    ),
    "react router, prerendered": (
        "@react-router/dev",
        "react-router build",
        {"react-router.config.ts": "export default { prerender: true }"},
        False,
        "ssr: false",
    ),
    "remix": ("@remix-run/dev", "remix build", {"remix.config.js": "module.exports = {}"}, True, "ssr: false"),
    "solid start": ("@solidjs/start vinxi", "vinxi build", {"app.config.ts": "defineConfig({})"}, False, "static"),
    "qwik": ("@builder.io/qwik", "qwik build", {}, False, "qwik add static"),
}


@pytest.mark.parametrize("case", SERVED)
def test_an_app_for_a_server_is_recognised(app: Path, case: str) -> None:
    packages, script, files, certain, hint = SERVED[case]

    found = made_with(app, packages, script, files)

    assert found.needs_server
    assert found.certain == certain
    error = found.refusal()
    assert (error.stage, error.exit_code) == ("build", 40)
    assert error.reason.endswith(".")
    assert hint in (error.hint or "")


@pytest.mark.parametrize(
    ("packages", "script", "files"),
    [
        ("next=14", "next build", {"next.config.ts": 'const c: NextConfig = { output: "export" }'}),
        ("@sveltejs/kit", "vite build", {"svelte.config.js": ADAPTER.format("static")}),
        ("@solidjs/start", "vinxi build", {"app.config.ts": 'server: { preset: "static" }'}),
        ("@react-router/dev", "react-router build", {"react-router.config.ts": "ssr: false, prerender: ['/']"}),
        ("astro", "astro build", {"astro.config.mjs": "export default defineConfig({ site: 'https://a.b' })"}),
        ("astro", "astro build", {"astro.config.mjs": "output: 'static', adapter: node({ mode: 'standalone' })"}),
        ("vite", "vite build && vite build --ssr src/entry.js --outDir dist-ssr && node prerender.js", {}),
    ],
)
def test_a_static_site_needs_no_server(app: Path, packages: str, script: str, files: Files) -> None:
    assert made_with(app, packages, script, files).needs_server is None


# --- what to run instead ---


@pytest.mark.parametrize(
    ("script", "scripts", "instead"),
    [
        ("nuxt build", {"generate": "nuxt generate"}, "generate"),
        (
            "nuxi build",
            {"build:static": "nuxi generate", "deploy": "nuxi generate && gh-pages -d dist"},
            "build:static",
        ),
        ("nuxt build", {}, "nuxt generate"),
        ("prisma generate && nuxt build --dotenv x", {}, "prisma generate && nuxt generate --dotenv x"),
        ("nuxt generate", {}, None),
        ("nuxt build --prerender", {"generate": "nuxt generate"}, None),
        ("NITRO_PRESET=static nuxt build", {"generate": "nuxt generate"}, None),
    ],
)
def test_nuxt_is_generated(app: Path, script: str, scripts: Files, instead: str | None) -> None:
    found = made_with(app, "nuxt=^3", script, {}, scripts)

    assert found.build_instead == instead
    assert (f"`{instead}` is run instead" in (found.because or "")) == bool(instead)
    assert not found.certain


def test_what_does_not_run_on_a_generated_site_is_said(app: Path) -> None:
    found = made_with(app, "nuxt=^3", "nuxt build", {"server/api/hello.ts": ""})

    assert "folder server does not run" in (found.because or "")


def test_an_old_next_is_exported_by_its_own_script(app: Path) -> None:
    scripts = {"export": "npm run build && next export", "deploy": "npm run export && gh-pages -d out"}

    assert made_with(app, "next=^12.1.0", "next build", {}, scripts).build_instead == "export"
    assert made_with(app, "next=^14.1.0", "next build", {}, scripts).certain, "it has no such command any more"


# --- OpenSSL 3 ---

NPM = '{"lockfileVersion": 3, "packages": {"": {"dependencies": {"webpack": "^5"}}, "node_modules/%s": {"version": "%s"}}}'
NPM_1 = '{"lockfileVersion": 1, "dependencies": {"%s": {\n  "version": "%s"}}}'
YARN = '"@a/webpack@^1":\n  version "1.0.0"\n\n%s@^4.0.0, x@4:\n  version "%s"\n  resolved "https://x"\n'
BERRY = '"%s@npm:^4.44.2":\n  version: %s\n  resolution: "x"\n'
PNPM_5 = "packages:\n\n  /%s/%s_webpack-cli@3.3.12:\n    resolution: {}\n"
PNPM_9 = "packages:\n\n  %s@%s(webpack-cli@3.3.12):\n    resolution: {}\n"
BUN = '{\n  "packages": {\n    "%s": ["%s@4.46.0", "", {}],\n'


@pytest.mark.parametrize("lockfile", [NPM, NPM_1, YARN, BERRY, PNPM_5, PNPM_9])
@pytest.mark.parametrize(
    ("name", "version", "needed"),
    [
        ("webpack", "4.46.0", True),
        ("webpack", "5.60.0", True),
        ("webpack", "5.61.0", False),
        ("webpack", "5.100.2", False),
        ("next", "12.0.2", True),
        ("next", "12.0.10", False),
        ("webpack-cli", "3.3.12", False),
    ],
)
def test_an_old_webpack_in_the_lockfile_needs_openssls_legacy_provider(
    lockfile: str, name: str, version: str, needed: bool
) -> None:
    text = lockfile % (name, version)

    assert legacy_openssl({}, text, 20) == needed
    assert not legacy_openssl({}, text, 16), "which does not know the option"


def test_buns_lockfile_is_read_too() -> None:
    assert legacy_openssl({}, BUN % ("webpack", "webpack"), 22)
    assert not legacy_openssl({}, BUN % ("webpack-cli", "webpack-cli"), 22)


@pytest.mark.parametrize(
    ("name", "versions", "needed"),
    [
        ("react-scripts", "4.0.3", True),
        ("react-scripts", "^3.4.1", True),
        ("react-scripts", "5.0.1", False),
        ("react-scripts", ">=3", False),
        ("react-scripts", "latest", False),
        ("@vue/cli-service", "~4.5.0", True),
        ("@angular-devkit/build-angular", "~0.1102.0", True),
        ("@angular-devkit/build-angular", "^17.0.0", False),
        ("webpack", "4 || 5", False),
    ],
)
def test_without_a_lockfile_the_versions_that_are_asked_for_count(name: str, versions: str, needed: bool) -> None:
    assert legacy_openssl({"devDependencies": {name: versions}}, None, 18) == needed


# --- which folder is the output ---

PAGE = "<h1>hello</h1>"


def output(app: Path, framework: Framework | None = None, before: Snapshot | None = None) -> str:
    return os.path.relpath(find_output(app, app, framework=framework, before=before).folder, app)


def failure(app: Path, framework: Framework | None = None, before: Snapshot | None = None) -> BuildFailed:
    with pytest.raises(BuildFailed) as caught:
        find_output(app, app, framework=framework, before=before)
    assert (caught.value.stage, caught.value.exit_code) == ("build", 40)
    return caught.value


def test_dist_comes_first_of_what_is_there(app: Path) -> None:
    for name in reversed(OUTPUT_FOLDERS):
        write(app, {f"{name}/index.html": PAGE})

        assert output(app) == name
    assert OUTPUT_FOLDERS[0] == "dist"


def test_a_frameworks_folder_comes_before_dist(app: Path) -> None:
    write(app, {"dist/index.html": PAGE, "build/index.html": PAGE, "www/index.html": PAGE})

    assert output(app, Framework("Create React App", ("www", "build"))) == "www"
    found = find_output(app, app, framework=Framework("Create React App", ("build",)))
    assert found.note == "The site is in build, where Create React App puts it."


def test_what_is_published_instead_of_dist_is_said(app: Path) -> None:
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
def test_a_folder_that_was_there_is_the_output_when_the_build_wrote_to_it(app: Path, changed: str) -> None:
    write(app, {"public/index.html": "<script src=build/bundle.js></script>", "public/build/bundle.js": "old"})
    before = take_snapshot(app, app)
    time.sleep(0.02)  # the kernel's clock for files has a grain
    write(app, {changed: "new"})

    assert output(app, before=before) == "public"


def test_a_time_of_change_that_the_build_set_back_does_not_hide_it(app: Path) -> None:
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


def test_a_project_in_dist_is_descended_to_and_a_page_in_dist_is_not(app: Path) -> None:
    write(app, {"dist/shop/browser/index.html": PAGE, "dist/shop/3rdpartylicenses.txt": ""})

    assert output(app) == "dist/shop/browser"
    assert output(app, Framework("Angular", ())) == "dist/shop/browser"
    assert output(app, Framework("Astro", ("dist",))) == "dist"


def test_languages_beside_each_other_are_one_site(app: Path) -> None:
    write(app, {"dist/shop/en/index.html": PAGE, "dist/shop/de/index.html": PAGE})

    found = find_output(app, app)

    assert found.folder == app / "dist/shop"
    assert "no index.html in dist/shop" in (found.warning or "")


def test_dist_without_a_page_is_published_when_nothing_better_is_there(app: Path) -> None:
    write(app, {"dist/library.js": "1"})

    found = find_output(app, app)

    assert found.folder == app / "dist"
    assert "no index.html in dist" in (found.warning or "")
    write(app, {"build/index.html": PAGE})
    assert output(app) == "build"


def test_a_single_page_app_may_come_under_another_name(app: Path) -> None:
    write(app, {"build/200.html": PAGE, "build/_app/a.js": "1"})

    found = find_output(app, app, framework=Framework("SvelteKit", ("build",)))

    assert found.folder == app / "build"
    assert "no index.html in build" in (found.warning or "")


def test_an_output_without_a_page_is_said_to_have_none(app: Path) -> None:
    write(app, {"lib/index.js": "1"})

    assert (
        "there is no page in lib, where Vite leaves its output"
        in failure(app, Framework("Vite", ("lib", "dist"))).reason
    )


def test_a_style_sheet_without_its_page_is_not_a_site(app: Path) -> None:
    write(app, {"dist/out.css": "a{}", "index.html": '<link rel="stylesheet" href="./dist/out.css">'})

    assert "index.html, is not in there" in failure(app).reason


def test_an_output_in_the_repository_around_the_app_is_found(app: Path) -> None:
    web = app / "apps/web"
    write(app, {"apps/web/package.json": "{}", "docs/index.html": PAGE})
    before = take_snapshot(web, app)
    write(app, {"dist/apps/web/index.html": PAGE})

    for framework in (None, Framework("Vite", ("../../dist/apps/web", "dist"))):
        found = find_output(web, app, framework=framework, before=before)
        assert found.folder == app / "dist/apps/web"
    with pytest.raises(BuildFailed):
        find_output(web, web, framework=Framework("Vite", ("../../dist/apps/web",)), before=before)


def test_an_output_for_a_server_is_refused_and_not_published_half(app: Path) -> None:
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

    assert "made no output" in failure(app).reason


def test_output_dir_is_the_only_folder_that_is_looked_at(app: Path) -> None:
    write(app, {"dist/index.html": PAGE})

    with pytest.raises(BuildFailed) as caught:
        find_output(app, app, output_dir="public")

    assert caught.value.reason == "The build ended well, but it made no folder public."
    assert "OUTPUT_DIR" in (caught.value.hint or "")
    write(app, {"public/a.txt": ""})
    assert find_output(app, app, output_dir="public", framework=Framework("Vite", ("dist",))).folder == app / "public"


def test_no_output_names_the_folders_that_there_are(app: Path) -> None:
    for name in ("www", "node_modules", ".git", "target", "line\nbreak"):
        (app / name).mkdir()
    (app / "loop").symlink_to("loop")
    (app / "file").touch()

    error = failure(app, Framework("Vite", ("html", "dist")))

    assert error.reason == "The build ended well, but it made no output: there is no folder html."
    assert (error.hint or "").endswith(r"The folders there are: line\nbreak, target, www.")


@pytest.mark.parametrize("output_dir", [None, "dist"])
def test_an_output_that_is_a_file_is_said(app: Path, output_dir: str | None) -> None:
    (app / "dist").touch()

    with pytest.raises(BuildFailed, match="dist is a file"):
        find_output(app, app, output_dir=output_dir)


def test_links_that_loop_or_lead_nowhere_are_no_output(app: Path) -> None:
    (app / "dist").symlink_to("dist")
    (app / "build").symlink_to("nothing")

    assert "made no output" in failure(app).reason


def test_a_build_that_removed_its_own_folder_or_put_a_link_there_made_no_output(app: Path) -> None:
    app.rmdir()
    assert "made no output" in failure(app).reason

    write(app.parent, {"elsewhere/dist/index.html": PAGE})
    app.symlink_to("elsewhere")
    assert "made no output" in failure(app).reason


# --- patience ---


@pytest.mark.parametrize(
    "text",
    [
        "`\\" * 120_000,
        "'\\" * 120_000,
        "/*" * 120_000,
        "output:{" * 30_000,
        "const a:" * 30_000,
        "\n" * 250_000,
        '"' * 250_000,
    ],
)
def test_no_text_of_a_configuration_takes_long_to_read(app: Path, text: str) -> None:
    text = f"outDir: a, path: a\n{text}"
    started = time.monotonic()

    for packages, script, name in (
        ("vite", "vite build", "vite.config.js"),
        ("webpack", "webpack", "webpack.config.js"),
        ("@angular/cli", "ng build", "angular.json"),
        ("react-scripts", "react-scripts build", ".env"),
        ("nuxt", "nuxt build", "nuxt.config.ts"),
    ):
        made_with(app, packages, script, {name: text})
    legacy_openssl({}, text, 20)

    assert time.monotonic() - started < 10


def test_scripts_that_call_each_other_without_end_are_taken_apart_once(app: Path) -> None:
    scripts = {f"s{number}": "npm run s0; npm run s1; X=1; " * 100 for number in range(300)}
    started = time.monotonic()

    made_with(app, "nuxt", "nuxt build && npm run s0", {}, scripts)

    assert time.monotonic() - started < 10


@given(st.text(), st.text("outDir:={}[]()'\"`/*\\\n,?| ab"))
def test_any_text_is_read_without_a_fault(tmp_path_factory: pytest.TempPathFactory, script: str, config: str) -> None:
    app = tmp_path_factory.getbasetemp() / "any"
    write(app, {"vite.config.js": config, "angular.json": config})

    for packages, command in (("vite", f"{script} && vite build"), ("@angular/cli", "ng build")):
        found = made_with(app, packages, command)
        assert all(not folder.startswith("/") and folder.isprintable() for folder in found.folders)
