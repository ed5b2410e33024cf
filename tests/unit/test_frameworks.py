"""Test the detection of frameworks and their output folders. The configurations are typical and written for these tests."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.project.frameworks.build_scripts import suggest_build_script
from buildrunner.project.frameworks.detect import detect_framework
from buildrunner.project.frameworks.openssl import needs_legacy_openssl
from buildrunner.project.frameworks.record import DetectedFramework
from support.files import Files, write


def made_with(
    app: Path, packages: str, script: str, files: Files | None = None, scripts: Files | None = None
) -> DetectedFramework:
    write(app, files or {})
    package = {
        "scripts": {"build": script, **(scripts or {})},
        "devDependencies": dict(name.rpartition("=")[::2] if "=" in name else (name, "1") for name in packages.split()),
    }
    return detect_framework(app, app, package, script)


# --- frameworks and their output folders ---

# packages, build script, files → name, the folders in their order (the first ones)
RECOGNIZED: dict[str, tuple[str, str, Files, str, list[str]]] = {
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


@pytest.mark.parametrize("case", RECOGNIZED)
def test_a_framework_and_its_folder_are_read_from_the_app(app: Path, case: str) -> None:
    packages, script, files, name, folders = RECOGNIZED[case]

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


def test_the_script_is_followed_through_scripts_that_it_calls(app: Path) -> None:
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
    assert made_with(app, "left-pad", "node build.mjs") == DetectedFramework()


def test_where_any_program_writes_to_is_looked_at(app: Path) -> None:
    found = made_with(app, "tailwindcss", "npx tailwindcss -i ./src/in.css -o ./public/css/out.css --minify")

    assert (found.name, found.folders) == (None, ("public/css/out.css", "public/css", "public"))


def test_a_configuration_behind_a_link_outside_is_not_read(app: Path) -> None:
    write(app.parent, {"secret.js": "outDir: 'secret'"})
    (app / "vite.config.js").symlink_to("../secret.js")
    (app / "vite.config.ts").symlink_to("/dev/zero")
    os.mkfifo(app / "vite.config.mjs")
    (app / "vite.config.cjs").mkdir()

    assert made_with(app, "vite", "vite build --config ../secret.js").folders == ("dist",)


# --- apps that need a server ---

ADAPTER = "import adapter from '@sveltejs/adapter-{}'\nexport default {{ kit: {{ adapter: adapter() }} }}"

# packages, build script, files → whether it is certain, a word of the hint
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
def test_an_app_for_a_server_is_recognized(app: Path, case: str) -> None:
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


# --- replacements of the build script ---


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
    assert (f"running `{instead}` instead" in (found.note or "")) == bool(instead)
    assert not found.certain


def test_what_does_not_run_on_a_generated_site_is_reported(app: Path) -> None:
    found = made_with(app, "nuxt=^3", "nuxt build", {"server/api/hello.ts": ""})

    assert "code in server/ won't run" in (found.note or "")


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
def test_an_old_webpack_in_the_lockfile_needs_legacy_openssl(
    lockfile: str, name: str, version: str, needed: bool
) -> None:
    text = lockfile % (name, version)

    assert needs_legacy_openssl({}, text, 20) == needed
    assert not needs_legacy_openssl({}, text, 16), "which does not know the option"


def test_buns_lockfile_is_read_too() -> None:
    assert needs_legacy_openssl({}, BUN % ("webpack", "webpack"), 22)
    assert not needs_legacy_openssl({}, BUN % ("webpack-cli", "webpack-cli"), 22)


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
def test_without_a_lockfile_the_requested_versions_count(name: str, versions: str, needed: bool) -> None:
    assert needs_legacy_openssl({"devDependencies": {name: versions}}, None, 18) == needed


# --- time limits ---


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
    needs_legacy_openssl({}, text, 20)

    assert time.monotonic() - started < 10


def test_scripts_that_call_each_other_are_parsed_once(app: Path) -> None:
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


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        (("nx.json", "apps/shop/project.json", "apps/shop-e2e/project.json"), "nx build shop"),
        (("nx.json", "apps/shop/project.json", "apps/blog/project.json"), "nx build NAME"),
        ((), "webpack --mode production"),
    ],
)
def test_the_script_to_add_is_one_that_builds(app: Path, files: tuple[str, ...], expected: str) -> None:
    for name in files:
        project = {"name": (app / name).parent.name, "targets": {"build": {"executor": "x:build"}}}
        (app / name).parent.mkdir(parents=True, exist_ok=True)
        (app / name).write_text(json.dumps(project))

    assert suggest_build_script(app, app, {"devDependencies": {"webpack": "5"}}) == f'"build": "{expected}"'
