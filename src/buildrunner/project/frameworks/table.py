"""List the known frameworks; those whose record needs code have their own modules."""

from __future__ import annotations

from collections.abc import Mapping

from buildrunner.project.frameworks.angular import ANGULAR
from buildrunner.project.frameworks.astro import ASTRO
from buildrunner.project.frameworks.create_react_app import CREATE_REACT_APP
from buildrunner.project.frameworks.eleventy import ELEVENTY
from buildrunner.project.frameworks.hexo import HEXO
from buildrunner.project.frameworks.next_js import NEXT_JS
from buildrunner.project.frameworks.nuxt import NUXT
from buildrunner.project.frameworks.parcel import PARCEL
from buildrunner.project.frameworks.react_router import REACT_ROUTER, REMIX
from buildrunner.project.frameworks.record import DefaultCommand, Framework
from buildrunner.project.frameworks.solid_start import SOLID_START
from buildrunner.project.frameworks.sveltekit import SVELTEKIT
from buildrunner.project.frameworks.vite import VITE
from buildrunner.project.frameworks.vitepress import VITEPRESS, VUEPRESS
from buildrunner.project.frameworks.webpack import WEBPACK

# A framework comes before those it builds on. If no command is recognized, the first framework with a dependency counts.
FRAMEWORKS: tuple[Framework, ...] = (
    SVELTEKIT,
    REACT_ROUTER,
    REMIX,
    Framework(
        name="TanStack Start",
        packages=("@tanstack/react-start", "@tanstack/solid-start", "@tanstack/start"),
        commands="(vite|vinxi) build",
        needs_package=True,
        output=("dist/client", ".output/public"),
        prerender_hint="Enable prerender in the tanstackStart plugin in vite.config.",
    ),
    SOLID_START,
    Framework(
        name="Analog",
        packages=("@analogjs/platform",),
        commands="(vite|ng|nx) build",
        needs_package=True,
        output=("dist/analog/public",),
    ),
    Framework(
        name="Vike",
        packages=("vike", "vite-plugin-ssr"),
        commands="(vite|vike) build",
        needs_package=True,
        output=("dist/client",),
        config_files=("vite.config",),
        output_keys=("outDir",),
        output_options=("--outDir",),
        browser_folder="client",
        root_output="dist",
        prerender_hint="Set prerender: true in the pages' +config.",
    ),
    Framework(
        name="Qwik",
        packages=("@builder.io/qwik", "@builder.io/qwik-city", "@qwik.dev/core", "@qwik.dev/router"),
        commands="(qwik|vite) build",
        needs_package=True,
        output=("dist",),
        config_files=("vite.config",),
        output_keys=("outDir",),
        output_options=("--outDir",),
        root_output="dist",
        output_subfolders=True,
        prerender_hint="Run `npm run qwik add static` and commit the files that it creates.",
    ),
    Framework(name="Waku", packages=("waku",), commands="waku build", output=("dist/public",)),
    ASTRO,
    NEXT_JS,
    NUXT,
    Framework(
        name="Gatsby",
        packages=("gatsby",),
        commands="gatsby build",
        output=("public",),
        default_commands=(
            DefaultCommand(
                ("gatsby-config.js", "gatsby-config.ts", "gatsby-config.mjs", "src/pages"),
                "gatsby build",
            ),
        ),
        base_setting="pathPrefix in gatsby-config, or --prefix-paths,",
    ),
    Framework(
        name="Docusaurus",
        packages=("@docusaurus/core",),
        commands="docusaurus build",
        output=("build",),
        output_options=("--out-dir", "-o"),
        default_commands=(
            DefaultCommand(
                ("docusaurus.config.js", "docusaurus.config.ts", "docusaurus.config.mjs"),
                "docusaurus build",
            ),
        ),
        base_setting="baseUrl in docusaurus.config",
    ),
    Framework(
        name="Docusaurus 1",
        packages=("docusaurus",),
        commands="docusaurus-build",
        output=("build",),
        output_subfolders=True,
        base_setting="baseUrl in siteConfig.js",
    ),
    VITEPRESS,
    VUEPRESS,
    ELEVENTY,
    ANGULAR,
    CREATE_REACT_APP,
    Framework(
        name="Vue CLI",
        packages=("@vue/cli-service",),
        commands="vue-cli-service build",
        output=("dist",),
        config_files=("vue.config",),
        output_keys=("outputDir",),
        output_options=("--dest",),
        suggested_command="vue-cli-service build",
        base_setting="publicPath in vue.config.js",
        openssl_3=(("@vue/cli-service", 5),),
    ),
    Framework(
        name="Ember",
        packages=("ember-cli",),
        commands="ember (b|build)( |$)",
        output=("dist",),
        output_options=("-o", "--output-path"),
        suggested_command="ember build --environment production",
        base_setting="rootURL in config/environment.js",
    ),
    Framework(
        name="Preact CLI",
        packages=("preact-cli",),
        commands="preact build",
        output=("build",),
        output_options=("--dest", "-d"),
        base_setting="publicPath in preact.config.js",
        openssl_3=(("preact-cli", 4),),
    ),
    PARCEL,
    HEXO,
    Framework(
        name="Gridsome",
        packages=("gridsome",),
        commands="gridsome build",
        output=("dist",),
        config_files=("gridsome.config",),
        output_keys=("outputDir",),
        suggested_command="gridsome build",
        base_setting="pathPrefix in gridsome.config.js",
    ),
    Framework(
        name="Expo",
        packages=("expo",),
        commands="expo (export|build:web)",
        output=("dist", "web-build"),
        output_options=("--output-dir",),
        base_setting="experiments.baseUrl in app.json",
    ),
    Framework(
        name="Stencil",
        packages=("@stencil/core",),
        commands="stencil build",
        output=("www",),
        config_files=("stencil.config",),
        output_keys=("dir",),
        kind="bundler",
        suggested_command="stencil build",
    ),
    Framework(
        name="Quasar",
        packages=("@quasar/app", "@quasar/app-vite", "@quasar/app-webpack", "quasar-cli"),
        commands="quasar build",
        output=("dist/spa", "dist/pwa"),
        config_files=("quasar.config", "quasar.conf"),
        output_keys=("distDir",),
        suggested_command="quasar build",
        base_setting="publicPath in quasar.config",
    ),
    Framework(
        name="UmiJS",
        packages=("umi", "@umijs/max"),
        commands="(umi|max) build",
        output=("dist",),
        config_files=(".umirc", "config/config"),
        output_keys=("outputPath",),
        base_setting="base or publicPath in the Umi configuration",
    ),
    Framework(
        name="Sapper",
        packages=("sapper",),
        commands="sapper export",
        output=("__sapper__/export",),
        base_setting="--basepath",
    ),
    Framework(name="RedwoodJS", packages=("@redwoodjs/core",), commands="(rw|redwood) build", output=("web/dist",)),
    Framework(
        name="Observable Framework",
        packages=("@observablehq/framework",),
        commands="observable build",
        output=("dist",),
        config_files=("observablehq.config",),
        output_keys=("output",),
        suggested_command="observable build",
        base_setting="base in observablehq.config",
    ),
    Framework(name="Sanity", packages=("sanity",), commands="sanity build", output=("dist",)),
    Framework(
        name="Slidev",
        packages=("@slidev/cli",),
        commands="slidev build",
        output=("dist",),
        output_options=("--out", "-o"),
        base_setting="--base",
    ),
    Framework(
        name="Rspress",
        packages=("rspress", "@rspress/core"),
        commands="rspress build",
        output=("doc_build",),
        config_files=("rspress.config",),
        output_keys=("outDir",),
        base_setting="base in rspress.config",
    ),
    Framework(
        name="Rsbuild",
        packages=("@rsbuild/core",),
        commands="rsbuild build",
        output=("dist",),
        config_files=("rsbuild.config",),
        output_keys=("root",),
        output_options=("--dist-path",),
        kind="bundler",
        suggested_command="rsbuild build",
        base_setting="output.assetPrefix in rsbuild.config",
    ),
    Framework(
        name="Snowpack",
        packages=("snowpack",),
        commands="snowpack build",
        output=("build",),
        config_files=("snowpack.config",),
        output_keys=("out",),
        kind="bundler",
    ),
    Framework(name="React Static", packages=("react-static",), commands="react-static build", output=("dist",)),
    Framework(
        name="Brunch",
        packages=("brunch",),
        commands="brunch (b|build)( |$)",
        output=("public",),
        kind="bundler",
        suggested_command="brunch build --production",
    ),
    Framework(
        name="Hugo",
        commands="hugo( |$)",
        output=("public",),
        output_options=("-d", "--destination"),
        base_setting="baseURL in the Hugo configuration",
    ),
    Framework(
        name="Jekyll",
        commands="jekyll (b|build)( |$)",
        output=("_site",),
        output_options=("-d", "--destination"),
        base_setting="baseurl in _config.yml",
    ),
    VITE,
    WEBPACK,
    Framework(
        name="Rollup",
        packages=("rollup",),
        commands="rollup( |$)",
        output=("dist", "public"),
        config_files=("rollup.config",),
        output_keys=("dir", "file"),
        output_options=("-d", "--dir"),
        writes_below=True,
        output_subfolders=True,
        kind="bundler",
        writes_page=True,
        suggested_command="rollup --config",
    ),
    Framework(name="TypeDoc", commands="typedoc( |$)", output=("docs",), output_options=("--out",)),
    Framework(name="JSDoc", commands="jsdoc( |$)", output=("out",), output_options=("-d", "--destination")),
    Framework(
        name="Styleguidist",
        commands="(react-styleguidist|styleguidist|vue-styleguidist) build",
        output=("styleguide",),
    ),
    Framework(name="dumi", commands="dumi build", output=("docs-dist", "dist")),
    Framework(name="Histoire", commands="histoire build", output=(".histoire/dist",)),
    Framework(name="Ladle", commands="ladle build", output=("build",), output_options=("-o", "--outDir")),
    Framework(name="Docz", commands="docz build", output=(".docz/dist",)),
    Framework(
        name="Storybook",
        packages=("storybook", "@storybook/react", "@storybook/vue3", "@storybook/html"),
        commands="(storybook|sb) build|build-storybook",
        output=("storybook-static",),
        output_options=("-o", "--output-dir"),
        kind="showcase",
        suggested_command="storybook build",
        openssl_3=(("@storybook/react", 7),),
    ),
)
BY_NAME: Mapping[str, Framework] = {framework.name: framework for framework in FRAMEWORKS}


def find_base_setting(name: str | None) -> str:
    """Return a framework's setting for the base path of the site; empty if it is unknown."""
    framework = BY_NAME.get(name or "")
    return framework.base_setting if framework else ""
