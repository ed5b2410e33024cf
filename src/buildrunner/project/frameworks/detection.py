"""Which framework an app is built with, where that leaves its output, and what of it can be published at all.

Configuration is JavaScript, and nothing of the repository runs here: it is read as text, without its comments. So what is
found are places to look, likeliest first, and never more than that: a folder is published because of what is in it once the
build has ended. docs/frameworks.md says where the defaults come from.
"""

from __future__ import annotations

import os
import posixpath
import re
import stat
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from buildrunner.errors import BuildFailed
from buildrunner.project.config_files import Config, dict_of, parse_json, paths_of, read_configuration, without_comments
from buildrunner.project.files import is_file, is_inside, walk
from buildrunner.project.package_json import get_scripts
from buildrunner.project.scripts import HARMLESS, Command, take_apart
from buildrunner.project.task_graph import nx_projects

_MOST_LOCKFILE_ENTRIES = 200
_MOST_SOURCES = 500  # files that are looked into


@dataclass(frozen=True, slots=True)
class Framework:
    """What an app is built with, as far as its files tell."""

    name: str | None = None  # as people write it; None when none is recognised
    folders: tuple[str, ...] = ()  # where its output can be, relative to the app; its own configuration's first
    needs_server: tuple[str, str] | None = None  # reason and hint, for an output that only a server can show
    certain: bool = False  # nothing that could be published can come of this build: no need to run it
    server_signs: tuple[str, ...] = ()  # files that only such an output has
    # What to run in place of the build script: the name of another script, or else a line for a shell that finds
    # node_modules/.bin in its PATH.
    build_instead: str | None = None
    because: str | None = None  # the sentence that says so in the log

    def refusal(self) -> BuildFailed:
        """Explain why nothing of this app can be published."""
        assert self.needs_server
        return BuildFailed("build", *self.needs_server)


# --- the table ---


@dataclass(frozen=True, slots=True)
class _Rule:
    name: str
    packages: str  # any of them; as in the other fields, a space between two
    programs: str  # a pattern of the commands that build with it
    folders: str  # by default
    configs: str = ""  # without the suffix
    keys: str = ""  # whose value is the output's folder
    options: str = ""  # the same on the command line
    below: str = ""  # the folder of that folder that is for browsers
    shared: bool = False  # the programs are another's, too: so the package must be there

    def has_package(self, packages: Mapping[str, str]) -> bool:
        return any(name in packages for name in self.packages.split())


# What stands on top of something else comes before it. Where no command tells, the first whose package is there counts.
_RULES: tuple[_Rule, ...] = (
    _Rule(
        "SvelteKit",
        "@sveltejs/kit",
        "(vite|svelte-kit) build",
        "build",
        "svelte.config vite.config",
        "pages",
        shared=True,
    ),
    _Rule(
        "React Router",
        "@react-router/dev",
        "(react-router|vite) build",
        "build/client",
        "react-router.config",
        "buildDirectory",
        below="client",
        shared=True,
    ),
    _Rule(
        "Remix",
        "@remix-run/dev",
        "remix (vite:)?build|vite build",
        "build/client",
        "vite.config",
        "buildDirectory",
        below="client",
        shared=True,
    ),
    _Rule(
        "TanStack Start",
        "@tanstack/react-start @tanstack/solid-start @tanstack/start",
        "(vite|vinxi) build",
        "dist/client .output/public",
        shared=True,
    ),
    _Rule(
        "SolidStart",
        "@solidjs/start solid-start",
        "(vinxi|vite|solid-start) build",
        ".output/public dist/client dist/public",
        shared=True,
    ),
    _Rule("Analog", "@analogjs/platform", "(vite|ng|nx) build", "dist/analog/public", shared=True),
    _Rule(
        "Vike",
        "vike vite-plugin-ssr",
        "(vite|vike) build",
        "dist/client",
        "vite.config",
        "outDir",
        "--outDir",
        below="client",
        shared=True,
    ),
    _Rule(
        "Qwik",
        "@builder.io/qwik @builder.io/qwik-city @qwik.dev/core @qwik.dev/router",
        "(qwik|vite) build",
        "dist",
        "vite.config",
        "outDir",
        "--outDir",
        shared=True,
    ),
    _Rule("Waku", "waku", "waku build", "dist/public"),
    _Rule("Astro", "astro", "astro build", "dist dist/client", "astro.config", "outDir", "--outDir"),
    _Rule("Next.js", "next", "next (build|export)", "out", "next.config", "distDir", "-o --outdir"),
    _Rule("Nuxt", "nuxt nuxt3 nuxt-edge nuxt-nightly", "nux[ti] (build|generate)", ".output/public dist"),
    _Rule("Gatsby", "gatsby", "gatsby build", "public"),
    _Rule("Docusaurus", "@docusaurus/core", "docusaurus build", "build", options="--out-dir -o"),
    _Rule("Docusaurus 1", "docusaurus", "docusaurus-build", "build"),
    _Rule("VitePress", "vitepress", "vitepress build", "", options="--outDir"),
    _Rule("VuePress", "vuepress @vuepress/cli", "vuepress(-vite|-webpack)? build", "", options="--dest -d"),
    _Rule(
        "Eleventy", "@11ty/eleventy", "(eleventy|11ty)( |$)", "_site", ".eleventy eleventy.config", "output", "--output"
    ),
    _Rule(
        "Angular",
        "@angular/cli @angular/build @angular-devkit/build-angular",
        "ng (b|build)( |$)",
        "",
        options="--output-path --outputPath",
    ),
    _Rule(
        "Create React App",
        "react-scripts react-scripts-ts",
        "(react-scripts|react-scripts-ts|react-app-rewired|craco|rescripts) build",
        "build",
    ),
    _Rule("Vue CLI", "@vue/cli-service", "vue-cli-service build", "dist", "vue.config", "outputDir", "--dest"),
    _Rule("Ember", "ember-cli", "ember (b|build)( |$)", "dist", options="-o --output-path"),
    _Rule("Preact CLI", "preact-cli", "preact build", "build", options="--dest -d"),
    _Rule("Parcel", "parcel parcel-bundler", "parcel build", "dist", options="--dist-dir --out-dir -d"),
    _Rule("Hexo", "hexo", "hexo (g|generate)( |$)", "public"),
    _Rule("Gridsome", "gridsome", "gridsome build", "dist", "gridsome.config", "outputDir"),
    _Rule("Expo", "expo", "expo (export|build:web)", "dist web-build", options="--output-dir"),
    _Rule("Stencil", "@stencil/core", "stencil build", "www", "stencil.config", "dir"),
    _Rule(
        "Quasar",
        "@quasar/app @quasar/app-vite @quasar/app-webpack quasar-cli",
        "quasar build",
        "dist/spa dist/pwa",
        "quasar.config quasar.conf",
        "distDir",
    ),
    _Rule("UmiJS", "umi @umijs/max", "(umi|max) build", "dist", ".umirc config/config", "outputPath"),
    _Rule("Sapper", "sapper", "sapper export", "__sapper__/export"),
    _Rule("RedwoodJS", "@redwoodjs/core", "(rw|redwood) build", "web/dist"),
    _Rule(
        "Observable Framework", "@observablehq/framework", "observable build", "dist", "observablehq.config", "output"
    ),
    _Rule("Sanity", "sanity", "sanity build", "dist"),
    _Rule("Slidev", "@slidev/cli", "slidev build", "dist", options="--out -o"),
    _Rule("Rspress", "rspress @rspress/core", "rspress build", "doc_build", "rspress.config", "outDir"),
    _Rule("Rsbuild", "@rsbuild/core", "rsbuild build", "dist", "rsbuild.config", "root", "--dist-path"),
    _Rule("Snowpack", "snowpack", "snowpack build", "build", "snowpack.config", "out"),
    _Rule("React Static", "react-static", "react-static build", "dist"),
    _Rule("Brunch", "brunch", "brunch (b|build)( |$)", "public"),
    _Rule("Hugo", "", "hugo( |$)", "public", options="-d --destination"),
    _Rule("Jekyll", "", "jekyll (b|build)( |$)", "_site", options="-d --destination"),
    _Rule(
        "Vite",
        "vite rolldown-vite vite-ssg vite-react-ssg",
        "(vite|vite-ssg|vite-react-ssg|vp) build",
        "dist",
        "vite.config",
        "outDir",
        "--outDir",
    ),
    _Rule(
        "webpack",
        "webpack @rspack/cli @rspack/core",
        "(webpack|webpack-cli|rspack)( |$)",
        "dist",
        options="-o --output-path",
    ),
    _Rule("Rollup", "rollup", "rollup( |$)", "dist public", "rollup.config", "dir file", "-d --dir"),
    _Rule("TypeDoc", "", "typedoc( |$)", "docs", options="--out"),
    _Rule("JSDoc", "", "jsdoc( |$)", "out", options="-d --destination"),
    _Rule("Styleguidist", "", "(react-styleguidist|styleguidist|vue-styleguidist) build", "styleguide"),
    _Rule("dumi", "", "dumi build", "docs-dist dist"),
    _Rule("Histoire", "", "histoire build", ".histoire/dist"),
    _Rule("Ladle", "", "ladle build", "build", options="-o --outDir"),
    _Rule("Docz", "", "docz build", ".docz/dist"),
    _Rule(
        "Storybook",
        "storybook @storybook/react @storybook/vue3 @storybook/html",
        "(storybook|sb) build|build-storybook",
        "storybook-static",
        options="-o --output-dir",
    ),
)


# Programs that put together scripts for others to import as often as sites.
_BUNDLERS = {"Vite", "webpack", "Rollup", "Parcel", "Stencil", "Rsbuild", "Snowpack", "Brunch"}

# How those whose site follows from their files are run where no script does it, by what tells that these are there.
_OWN_COMMANDS: Mapping[str, tuple[tuple[str, str], ...]] = {
    "Astro": (("src/pages", "astro build"),),
    "Gatsby": (("gatsby-config.js gatsby-config.ts gatsby-config.mjs src/pages", "gatsby build"),),
    "Docusaurus": (("docusaurus.config.js docusaurus.config.ts docusaurus.config.mjs", "docusaurus build"),),
    "VitePress": (
        ("docs/.vitepress", "vitepress build docs"),
        (".vitepress", "vitepress build"),
        ("src/.vitepress", "vitepress build src"),
    ),
    "VuePress": (
        ("docs/.vuepress", "vuepress build docs"),
        (".vuepress", "vuepress build"),
        ("src/.vuepress", "vuepress build src"),
    ),
    "Eleventy": (
        (
            ".eleventy.js eleventy.config.js eleventy.config.mjs eleventy.config.cjs eleventy.config.ts"
            " index.md index.njk index.liquid index.html",
            "eleventy",
        ),
    ),
    "Parcel": (("index.html", "parcel build index.html"), ("src/index.html", "parcel build src/index.html")),
    "Hexo": (("_config.yml", "hexo generate"),),
    "Vite": (("index.html", "vite build"),),
}
# Of those that are only suggested, because they may need more options.
_COMMANDS_TO_ADD = {
    "SvelteKit": "vite build",
    "React Router": "react-router build",
    "Next.js": "next build",
    "Nuxt": "nuxt generate",
    "Angular": "ng build",
    "Create React App": "react-scripts build",
    "Vue CLI": "vue-cli-service build",
    "webpack": "webpack --mode production",
    "Rollup": "rollup --config",
    "Rsbuild": "rsbuild build",
    "Storybook": "storybook build",
    "Observable Framework": "observable build",
    "Quasar": "quasar build",
    "Gridsome": "gridsome build",
    "Ember": "ember build --environment production",
    "Stencil": "stencil build",
    "Brunch": "brunch build --production",
}
_TASK_FILES: tuple[tuple[str, str, str], ...] = (
    (
        "gulp",
        "gulpfile.js Gulpfile.js gulpfile.babel.js gulpfile.mjs gulpfile.cjs gulpfile.ts gulpfile.esm.js",
        r"\.task\(\s{0,20}[\"'`]([\w:.-]{1,60})[\"'`]|\bexports\.(\w{1,60})\s{0,20}="
        r"|\bexport (?:const |(?:async )?function )?(\w{1,60})",
    ),
    ("grunt", "Gruntfile.js gruntfile.js Gruntfile.cjs", r"\.registerTask\(\s{0,20}[\"'`]([\w:.-]{1,60})[\"'`]"),
)


def command_without_script(app: Path, checkout: Path, package: Mapping[str, Any]) -> str | None:
    """Give what builds an app whose package.json has no build script: another script, or its framework's own command.

    None where its files do not tell that it is a site.
    """
    facts = _facts(app, checkout, package)
    for rule in _RULES:
        if rule.has_package(facts.packages):
            for signs, line in _OWN_COMMANDS.get(rule.name, ()):
                if rule.name == "Vite" and not re.search(r"\btype\s?=\s?[\"']?module\b", facts.read(signs) or ""):
                    continue  # it leaves other scripts where they are
                if any(os.path.exists(app / sign) and is_inside(app / sign, checkout) for sign in signs.split()):
                    return _script_that_ends(facts, rule) or (line if line not in facts.scripts else None)
    return None


def script_to_add(app: Path, checkout: Path, package: Mapping[str, Any]) -> str | None:
    """Give what to put under "scripts" of a package.json that has no build script: for people; None where nothing tells."""
    facts = _facts(app, checkout, package)
    if is_file(checkout / "nx.json"):
        sites = [each.name for each in nx_projects(checkout, checkout) if not each.name.endswith("-e2e")]
        site = sites[0] if len(sites) == 1 else "NAME"
        return f'"build": "nx build {site}"'
    for program, names, pattern in _TASK_FILES:
        text = next((text for name in names.split() if (text := facts.read(name)) is not None), None)
        if text is not None:
            found = re.findall(pattern, without_comments(text))
            tasks = [task if isinstance(task, str) else "".join(task) for task in found]
            likely = ["build", *(task for task in tasks if re.match("build[:_-]", task)), "default"]
            task = next((task for task in likely if task in tasks), "build")
            return f'"build": "{program}"' if task == "default" else f'"build": "{program} {task}"'
    rule = next((rule for rule in _RULES if rule.has_package(facts.packages)), None)
    if rule is None:
        return None
    if script := _script_that_ends(facts, rule):
        return f'"build": "npm run {script}"'
    if rule.name in _OWN_COMMANDS:
        return f'"build": "{_OWN_COMMANDS[rule.name][0][1]}"'
    if rule.name in _COMMANDS_TO_ADD:
        return f'"build": "{_COMMANDS_TO_ADD[rule.name]}"'
    return f'"build" with the command of {rule.name}'


def generator_of(package: Mapping[str, Any], script: str, *, bundlers: bool = False) -> str | None:
    """Return the name of the program among a script's commands that makes a site; None where there is none.

    Args:
        package: package.json.
        script: the text of the script.
        bundlers: whether programs count that as often make something else, such as Vite.

    """
    for command in take_apart(script, get_scripts(package)):
        if re.search(r"--(?:serve|watch)\b| -w\b", command.line):
            continue
        for rule in _RULES:
            counts = not rule.shared and (bundlers or rule.name not in _BUNDLERS)
            if counts and re.match(rule.programs, command.line):
                return rule.name
    return None


def is_library_mode(app: Path, checkout: Path, package: Mapping[str, Any], script: str) -> bool:
    """Tell whether Vite's configuration has it make a library: https://vite.dev/guide/build#library-mode."""
    commands = take_apart(script, get_scripts(package))
    configs = _App(app, checkout, package, {}, script, ()).configs("vite.config")
    return any(re.match("vite build", command.line) for command in commands) and any(
        re.search(r"\blib\s*:\s*\{", config.text) for config in configs
    )


def _script_that_ends(app: _App, rule: _Rule) -> str | None:
    return _script_with(app, rf"(?:{rule.programs})(?!.*(?:--serve|--watch| -w\b))")


def _facts(app: Path, checkout: Path, package: Mapping[str, Any]) -> _App:
    scripts = get_scripts(package)
    return _App(app, checkout, package, scripts, "", ())


def recognise(app: Path, checkout: Path, package: Mapping[str, Any], build_script: str) -> Framework:
    """Find out what the app in the folder `app` is built with, and where its output will be.

    Args:
        app: the folder of the app; `checkout` is the repository's, and nothing outside it is read.
        package: the app's package.json.
        build_script: the text of the script, or of the command, that builds.

    """
    found = package.get("scripts")
    scripts = {k: v for k, v in found.items() if isinstance(v, str)} if isinstance(found, dict) else {}
    commands = take_apart(build_script, scripts)
    if scripts.get("build") == build_script:
        for hook in ("prebuild", "postbuild"):
            commands += take_apart(scripts.get(hook, ""), scripts)
    facts = _App(app, checkout, package, scripts, build_script, tuple(commands))
    rules = [
        rule
        for rule in _RULES
        if any(re.match(rule.programs, command.line) for command in commands)
        and (not rule.shared or rule.has_package(facts.packages))
    ]
    if not rules:
        rules = [rule for rule in _RULES if rule.has_package(facts.packages)][:1]
    nx = _nx_outputs(facts)
    if not rules:
        return Framework(folders=_unique([*nx, *_written_by_options(commands)]))
    first = rules[0]
    framework = Framework(
        first.name,
        _unique([*nx, *(folder for rule in rules for folder in _folders(rule, facts)), *_written_by_options(commands)]),
    )
    judge = _JUDGES.get(first.name)
    return judge(facts, framework) if judge else framework


@dataclass(frozen=True, slots=True)
class _App:
    folder: Path
    checkout: Path
    package: Mapping[str, Any]
    scripts: Mapping[str, str]
    build_script: str
    commands: tuple[Command, ...]

    @property
    def packages(self) -> dict[str, str]:
        """Every package that package.json names, with the versions that it allows."""
        found: dict[str, str] = {}
        for kind in ("peerDependencies", "optionalDependencies", "devDependencies", "dependencies"):
            names = self.package.get(kind)
            if isinstance(names, dict):
                found |= {name: str(version) for name, version in names.items()}
        return found

    def read(self, name: str) -> str | None:
        return read_configuration(self.folder / name, self.checkout)

    def configs(self, *names: str) -> list[Config]:
        """Read the configurations of these names, whatever their suffix is."""
        found: list[Config] = []
        for name in names:
            for suffix in ("", ".js", ".mjs", ".ts", ".cjs", ".mts", ".cts", ".json"):
                text = self.read(name + suffix)
                if text is not None:
                    found.append(Config(without_comments(text), posixpath.dirname(name)))
        return found

    def mentions(self, folder: str, pattern: str) -> bool:
        """Tell whether the pattern is in a source file below a folder of the app."""
        files = (Path(path) for path, status in walk(str(self.folder / folder)) if stat.S_ISREG(status.st_mode))
        return any(
            re.search(pattern, read_configuration(file, self.checkout) or "") for file in islice(files, _MOST_SOURCES)
        )

    def of(self, pattern: str) -> list[Command]:
        return [command for command in self.commands if re.match(pattern, command.line)]

    def only(self, pattern: str) -> bool:
        """Tell whether the build runs nothing that could make another output than these commands make."""
        return bool(self.of(pattern)) and all(
            re.match(pattern, c.line) or HARMLESS.match(c.line) for c in self.commands
        )


def _folders(rule: _Rule, app: _App) -> list[str]:
    """Give where this framework's output can be: what says so in the app first, then the default."""
    commands = app.of(rule.programs)
    options = [value for command in commands for value in command.option(*rule.options.split())]
    named = [name for command in commands for name in command.option("--config", "-c")]
    configs = app.configs(*(name for name in named if "=" not in name), *rule.configs.split())
    values = [value for config in configs for value in paths_of(config, *rule.keys.split())] if rule.keys else []
    special = _SPECIAL.get(rule.name)
    extra = special(app, commands) if special else []
    found = [*options, *extra, *values]
    if rule.name in {"Vite", "Qwik", "Vike"}:
        roots = [command.positional for command in commands if command.positional]
        roots += [root for config in configs for root in paths_of(config, "root")]
        found = [posixpath.join(root, value) for root in roots for value in (*found, "dist")] + found
    if rule.name == "Rollup":  # `file` is one of public/build; and the site is often the folder around
        found = [value for path in values for value in _upwards(posixpath.dirname(path) or path)]
    if rule.below:
        found = [posixpath.join(value, rule.below) for value in found] + found
    return [*found, *rule.folders.split()]


def _webpack(app: _App, commands: list[Command]) -> list[str]:
    named = [name for command in commands for name in command.option("--config", "-c")]
    names = ["webpack.config", "rspack.config", "webpack.prod", "webpack.production", "webpack.common"]
    names += ["webpack.config.prod", "webpack.config.production", "config/webpack.prod", "config/webpack.config"]
    found: list[str] = []
    for config in app.configs(*named, *names):
        for match in islice(re.finditer(r"\boutput\b\s*[:=]\s*\{", config.text), 20):
            block = Config(config.text[match.end() : match.end() + 800], config.folder)
            found += paths_of(block, "path", whole=config.text)
    return [folder for value in found for folder in _upwards(value)]


def _angular(app: _App, commands: list[Command]) -> list[str]:
    """Read outputPath as a text or as an object: angular.io/reference/configs/output-path.

    The application builder, which came with Angular 17, puts what is for browsers into a folder of its own.
    """
    workspace = next((json5 for name in ("angular.json", ".angular.json") if (json5 := parse_json(app.read(name)))), {})
    projects = dict_of(workspace.get("projects"))
    if not projects and (single := parse_json(app.read("project.json"))):  # of Nx
        projects = {str(single.get("name", "")): single}
    wanted = [command.positional for command in commands] + [workspace.get("defaultProject")]
    apps = [name for name, project in projects.items() if dict_of(project).get("projectType") != "library"]
    chosen = [name for name in wanted if isinstance(name, str) and name in projects] or apps
    modes = [mode for c in commands for mode in c.option("-c", "--configuration")] + ["production"]
    found: list[str] = []
    for name in chosen:
        project = dict_of(projects[name])
        build = dict_of(dict_of(project.get("architect") or project.get("targets")).get("build"))
        modern = ":application" in str(build.get("builder") or build.get("executor"))
        settings = [dict_of(dict_of(build.get("configurations")).get(mode)) for mode in modes] + [
            dict_of(build.get("options"))
        ]
        for path in [options.get("outputPath") for options in settings] + ([f"dist/{name}"] if modern else []):
            if isinstance(path, dict):
                base, browser = str(path.get("base", "")), path.get("browser", "browser")
                found.append(posixpath.join(base, str(browser)))
            elif isinstance(path, str):
                found += [posixpath.join(path, "browser"), path] if modern else [path]
    return found


def _parcel(app: _App, _: list[Command]) -> list[str]:
    targets = dict_of(app.package.get("targets"))
    return [str(target["distDir"]) for target in targets.values() if isinstance(target, dict) and "distDir" in target]


def _cra(app: _App, commands: list[Command]) -> list[str]:
    found = [c.environment["BUILD_PATH"] for c in commands if "BUILD_PATH" in c.environment]
    for name in (".env.production.local", ".env.production", ".env.local", ".env"):
        found += re.findall(r"(?m)^[ \t]*BUILD_PATH[ \t]*=[ \t]*[\"']?([^\s\"'#]+)", app.read(name) or "")
    return found


def _nx_outputs(app: _App) -> list[str]:
    """Find where the project that `nx build` names writes to; of a workspace with one application, where that does."""
    if not (commands := app.of("nx ")):
        return []
    projects = nx_projects(app.folder, app.checkout)
    named = {word.partition(":")[0] for command in commands for word in command.words[2:]}
    chosen = [project for project in projects if project.name in named]
    if not chosen:
        chosen = [project for project in projects if not project.name.endswith(("-e2e", "-api"))]
        chosen = chosen if len(chosen) == 1 else []
    return [output for project in chosen for output in project.outputs]


def _vitepress(app: _App, commands: list[Command]) -> list[str]:
    return _docs(app, commands, ".vitepress", "outDir")


def _vuepress(app: _App, commands: list[Command]) -> list[str]:
    return _docs(app, commands, ".vuepress", "dest")


def _docs(app: _App, commands: list[Command], hidden: str, key: str) -> list[str]:
    """Find the folder that the pages are in: the command names it."""
    folders = [command.positional for command in commands if command.positional] or [".", "docs", "src"]
    found: list[str] = []
    for folder in folders:
        for value in (v for c in app.configs(posixpath.join(folder, hidden, "config")) for v in paths_of(c, key)):
            found += [posixpath.join(folder, value), value]
        found.append(posixpath.join(folder, hidden, "dist"))
    return found


def _eleventy(app: _App, _: list[Command]) -> list[str]:
    text = "".join(config.text for config in app.configs(".eleventy", "eleventy.config"))
    return re.findall(r"setOutputDirectory\(\s*[\"'`]([^\"'`\n]+)", text)


def _nuxt_folders(app: _App, _: list[Command]) -> list[str]:
    text = "".join(config.text for config in app.configs("nuxt.config"))
    return re.findall(r"\bgenerate\s*:\s*\{[^{}]{0,400}?\bdir\s*:\s*[\"'`]([^\"'`\n]+)", text)


def _hexo(app: _App, _: list[Command]) -> list[str]:
    return re.findall(r"(?m)^public_dir:[ \t]*[\"']?([^\s\"'#]+)", app.read("_config.yml") or "")


_SPECIAL: dict[str, Callable[[_App, list[Command]], list[str]]] = {
    "webpack": _webpack,
    "Angular": _angular,
    "Parcel": _parcel,
    "Create React App": _cra,
    "VitePress": _vitepress,
    "VuePress": _vuepress,
    "Eleventy": _eleventy,
    "Nuxt": _nuxt_folders,
    "Hexo": _hexo,
}


# --- what needs a server ---


def _next(app: _App, framework: Framework) -> Framework:
    """https://nextjs.org/docs/app/guides/static-exports; `next export` is what versions before 13.3 have instead."""
    if app.of("next export"):
        return framework
    configs = app.configs("next.config")
    text = "".join(config.text for config in configs)
    if re.search(r"\boutput\b[\"']?\s*:\s*[\"'`]export[\"'`]", text):
        return framework
    old = _is_older(app.packages.get("next", ""), 13)
    script = _script_with(app, "next build", "next export") if old else None
    if script:
        return replace(
            framework,
            build_instead=script,
            because=f"`next build` alone makes an app for a server: the script {script} is run, which exports it.",
        )
    hint = (
        'Let the build script be "next build && next export".'
        if old
        else "Set output: 'export' in next.config and commit it; API routes, middleware and server actions need another host."
    )
    return replace(
        framework,
        needs_server=("This Next.js app is rendered by a server: its configuration asks for no static export.", hint),
        # The word may be anywhere in a configuration that is put together from parts.
        certain=not re.search(r"[\"'`]export[\"'`]", text) and not _has_parts(app, text) and app.only("next build"),
    )


def _nuxt(app: _App, framework: Framework) -> Framework:
    """https://nuxt.com/docs/getting-started/deployment#static-hosting."""
    text = "".join(config.text for config in app.configs("nuxt.config"))
    static = r"\bpreset\s*:\s*[\"'`][\w-]*(static|github[-_]pages|gitlab[-_]pages)[\"'`]"
    framework = replace(
        framework,
        needs_server=("The build made a Nuxt server, not a static site.", "Let the build script be `nuxt generate`."),
        server_signs=(".output/server/index.mjs",),
    )
    builds = app.of("nux[ti] build")
    if not builds or app.of("nux[ti] generate") or re.search(static, text):
        return framework
    if any("--prerender" in c.words or "static" in c.environment.get("NITRO_PRESET", "") for c in builds):
        return framework
    script = _script_with(app, "nux[ti] generate")
    line = re.sub(r"\b(nux[ti]) build\b", r"\1 generate", app.build_script)
    if not script and line == app.build_script:  # it is called by another script
        return framework
    because = f"`nuxt build` makes an app for a server: `{script or line}` is run instead, which makes a static site."
    if any(os.path.isdir(app.folder / "server" / name) for name in ("api", "routes")):
        because += " What is in the folder server does not run there."
    return replace(framework, build_instead=script or line, because=because)


def _sveltekit(app: _App, framework: Framework) -> Framework:
    """https://svelte.dev/docs/kit/adapter-static."""
    configs = app.configs("svelte.config", "vite.config")
    adapters = set(re.findall(r"[\"'`]@sveltejs/adapter-([\w-]+)", "".join(config.text for config in configs)))
    if not adapters:  # one of somebody else's, or in a file that this one imports
        adapters = {name.removeprefix("@sveltejs/adapter-") for name in app.packages if "/adapter-" in name}
        if "static" in adapters:
            return framework
        certain = False
    else:
        certain = "static" not in adapters
    if "static" in adapters and len(adapters) == 1:
        return framework
    adapter = next(iter(sorted(adapters - {"static"})), None)
    uses = f"it uses @sveltejs/adapter-{adapter}" if adapter else "it does not use @sveltejs/adapter-static"
    return replace(
        framework,
        needs_server=(
            f"This SvelteKit app is not built as a static site: {uses}.",
            "Install @sveltejs/adapter-static, use it in svelte.config.js,"
            " and put `export const prerender = true` into src/routes/+layout.js.",
        ),
        server_signs=("build/handler.js",),
        certain=certain and app.only("(vite|svelte-kit) build"),
    )


def _astro(app: _App, framework: Framework) -> Framework:
    """https://docs.astro.build/en/guides/on-demand-rendering/: an adapter alone makes no page one for a server."""
    text = "".join(config.text for config in app.configs("astro.config"))
    served = re.search(r"\boutput\s*:\s*[\"'`]server[\"'`]", text)
    if not served and not app.mentions("src/pages", r"\bprerender\s*=\s*false\b"):
        return framework
    return replace(
        framework,
        needs_server=(
            "This Astro site has pages that a server renders.",
            "Take output: 'server' and the adapter out of astro.config, and `export const prerender = false` out of the pages.",
        ),
        server_signs=tuple(f"{folder}/server/entry.mjs" for folder in framework.folders),
        certain=bool(served) and not app.mentions("src/pages", r"\bprerender\s*=\s*true\b") and app.only("astro build"),
    )


def _react_router(app: _App, framework: Framework) -> Framework:
    """https://reactrouter.com/how-to/spa and https://v2.remix.run/docs/guides/spa-mode."""
    remix = framework.name == "Remix"
    file = "the Remix plugin in vite.config" if remix else "react-router.config"
    text = "".join(c.text for c in app.configs("vite.config" if remix else "react-router.config"))
    if re.search(r"\bssr\s*:\s*false\b", text):
        return framework
    return replace(
        framework,
        needs_server=(
            f"This {framework.name} app is rendered by a server: ssr: false is not set.",
            f"Set ssr: false in {file}, and load data with clientLoader instead of loader.",
        ),
        server_signs=tuple(
            f"{f.removesuffix('client')}server/index.js" for f in framework.folders if f.endswith("client")
        ),
        certain=not re.search(r"\bssr\b(?!\s*:\s*true)|\bprerender\b", text)
        and not _has_parts(app, text)
        and app.only("(react-router|vite) build|remix (vite:)?build"),
    )


def _solid_start(app: _App, framework: Framework) -> Framework:
    configs = app.configs("app.config", "vite.config")
    text = "".join(config.text for config in configs)
    if re.search(r"\bpreset\s*:\s*[\"'`](static|github[-_]pages)[\"'`]", text):
        return framework
    hint = 'Set server: { preset: "static" } in app.config and commit it.'
    return replace(
        framework,
        needs_server=(f"This {framework.name} app is rendered by a server.", hint),
        server_signs=(".output/server/index.mjs",),
    )


def _with_hint(hint: str) -> Callable[[_App, Framework], Framework]:
    """Explain an output without a page, where nothing can be said before."""

    def judge(_: _App, framework: Framework) -> Framework:
        return replace(
            framework, needs_server=(f"The {framework.name} app made no page: it is for a server to render.", hint)
        )

    return judge


def _vite(app: _App, framework: Framework) -> Framework:
    if "laravel-vite-plugin" in app.packages and is_file(app.folder / "artisan"):
        return replace(
            framework,
            needs_server=(
                "This is a Laravel app, a PHP program, which needs a server: its build makes scripts and style sheets, no page.",
                "Commit a built site with its index.html, or set ROOT_DIR to the folder of a Node app.",
            ),
            certain=app.only("vite build") and not is_file(app.folder / "index.html"),
        )
    at = [index for index, command in enumerate(app.commands) if "--ssr" in command.line]
    if not at or any(command.words[0] in {"node", "tsx"} for command in app.commands[at[-1] :]):
        return framework  # what runs behind it renders the pages
    return replace(
        framework,
        needs_server=(
            "The build made pages that a server has to fill (`vite build --ssr`).",
            "Render them in the build script, or let it make a single-page app with `vite build` alone.",
        ),
    )


_JUDGES: dict[str, Callable[[_App, Framework], Framework]] = {
    "Next.js": _next,
    "Nuxt": _nuxt,
    "SvelteKit": _sveltekit,
    "Astro": _astro,
    "React Router": _react_router,
    "Remix": _react_router,
    "SolidStart": _solid_start,
    "TanStack Start": _with_hint("Turn prerender on in the tanstackStart plugin of vite.config."),
    "Qwik": _with_hint("Run `npm run qwik add static` and commit what it makes."),
    "Vike": _with_hint("Set prerender: true in the +config of its pages."),
    "Angular": _with_hint('Set "outputMode": "static" among the options of the build in angular.json.'),
    "Vite": _vite,
}


def _has_parts(app: _App, text: str) -> bool:
    """Tell whether a configuration is put together with files, or packages, of the same repository."""
    own = {name for name, version in app.packages.items() if re.match(r"workspace:|file:|link:|\*", version)}
    for name in re.findall(r"(?:\bfrom|\bimport|\brequire\(|\bimport\()\s*[\"'`]([^\"'`\n]+)", text):
        if name.startswith((".", "/", "~", "@/")) or "/".join(name.split("/")[: 2 if name[0] == "@" else 1]) in own:
            return True
    return False


def _script_with(app: _App, *patterns: str) -> str | None:
    """Find the script that runs all of these commands, and nothing that could change more than the folder."""
    for name in sorted(app.scripts, key=lambda name: (name not in {"generate", "export", "static"}, name))[:60]:
        commands = take_apart(app.scripts[name], app.scripts)
        if all(any(re.match(pattern, c.line) for c in commands) for pattern in patterns) and all(
            any(re.match(pattern, c.line) for pattern in patterns) or HARMLESS.match(c.line) for c in commands
        ):
            return name
    return None


# --- OpenSSL 3 ---


def legacy_openssl(package: Mapping[str, Any], lockfile: str | None, node_major: int) -> bool:
    """Tell whether the build needs `NODE_OPTIONS=--openssl-legacy-provider`.

    webpack hashed with MD4 until 5.61 (https://github.com/webpack/webpack/pull/14584), and so did Next.js with a copy of its
    own until 12.0.3 (https://github.com/vercel/next.js/issues/30078). Node has OpenSSL 3, which has no MD4, since 17; older
    ones refuse the option.

    Args:
        package: package.json.
        lockfile: the text of any manager's, or None.
        node_major: of the Node that will run the build.

    """
    if node_major < 17:
        return False
    if lockfile:
        for name, first_good in (("webpack", (5, 61, 0)), ("next", (12, 0, 3))):
            if any(version < first_good for version in _locked_versions(lockfile, name)):
                return True
        return False
    packages = _App(Path(), Path(), package, {}, "", ()).packages
    first_majors = {"webpack": 5, "react-scripts": 5, "@vue/cli-service": 5, "next": 12, "laravel-mix": 6, "nuxt": 3}
    first_majors |= {"@angular-devkit/build-angular": 13, "preact-cli": 4, "vuepress": 2, "@storybook/react": 7}
    return any(_is_older(packages.get(name, ""), first) for name, first in first_majors.items())


def _locked_versions(lockfile: str, name: str) -> set[tuple[int, int, int]]:
    """Read which versions of a package a lockfile of npm, pnpm, Yarn or Bun has."""
    version = r"(\d{1,9})\.(\d{1,9})\.(\d{1,9})"
    quoted = re.escape(name)
    patterns = (
        rf'"(?:node_modules/|[^"\n]*/node_modules/)?{quoted}"\s*:\s*\{{\s*"version"\s*:\s*"{version}',  # npm
        rf"(?m)^\"?{quoted}@[^\n]*:\n\s+version:? \"?{version}",  # Yarn
        rf"(?m)^[ \t]+['\"]?/?{quoted}[@/]{version}[^\n]*:[ \t]*$",  # pnpm
        rf'"(?:[^"\n]*/)?{quoted}"\s*:\s*\[\s*"{quoted}@{version}',  # Bun
    )
    found = (m for pattern in patterns for m in islice(re.finditer(pattern, lockfile), _MOST_LOCKFILE_ENTRIES))
    return {(int(m[1]), int(m[2]), int(m[3])) for m in found}


def _is_older(versions: str, major: int) -> bool:
    """Tell whether a range such as `^4.0.3` or `3 || 4` allows only what is older than a major version."""
    if re.search(r">|\*|latest|next|canary|:|/", versions):
        return False
    majors = re.findall(r"(?:^|[\s|])[\^~=v]*(\d{1,9})", versions)
    return bool(majors) and max(map(int, majors)) < major


def _upwards(folder: str) -> list[str]:
    """Give a folder and those around it: what is written to public/js is often for the site in public."""
    parts = posixpath.normpath(folder).split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1) if parts[count - 1] not in {"", ".", ".."}]


def _written_by_options(commands: Iterable[Command]) -> list[str]:
    """Give the folders that any program is told to write to, and those around them."""
    files, folders = ("-o", "--output", "--outfile"), ("--outdir", "--out-dir", "--dist-dir", "--output-path", "--dest")
    found: list[str] = []
    for command in commands:
        found += [above for value in command.option(*folders, *files) for above in _upwards(value)]
    return found


def _unique(folders: Iterable[str]) -> tuple[str, ...]:
    """Leave out what is no folder of the repository's, is the app's own folder, or was there before."""
    normal = (
        posixpath.normpath(folder) for folder in folders if folder and folder.isprintable() and "${" not in folder
    )
    return tuple(dict.fromkeys(f for f in normal if f != "." and not f.startswith("/") and len(f) < 1024))[:50]
