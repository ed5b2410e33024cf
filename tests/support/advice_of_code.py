"""List failures of frameworks, bundlers and compilers with their original output, and the advice of their hints."""
# ruff: noqa: E501 - lines of logs are as long as they are

from __future__ import annotations

import json
import re

from support.advice import Project, Proof, config, installed, module, package

GLOBAL = {"browser": "window"}
ESCAPED = {"backticks": "`{}`", "backslash": "\\{}"}
EMPTY = "module.exports = {}\n"
ONE_CASE = "cd src && [ $(ls | grep -ic header) = 1 ] && ls $(sed -n \"s/import .*'\\(.*\\)'/\\1/p\" App.ts)"  # all that is imported
NEXT = {"next.config.js": EMPTY}
PRERENDERING = (
    'Error occurred prerendering page "/about". Read more: https://nextjs.org/docs/messages/prerender-error\n'
)


def wrap(project: Project, tag: str) -> None:
    project.edit("app/page.jsx", "<Search />", f"{tag}<Search />{tag.replace('<', '</')}")


def raise_budget(project: Project, key: str) -> None:
    project.write("angular.json", json.dumps({key: [{"maximumError": "7MB"}]}))


def move(project: Project, file: str, folder: str) -> None:
    name = file.rpartition("/")[2]
    project.follow(f"mkdir -p {folder} && mv {file.removeprefix('../')} {folder}")
    project.edit("src/App.js", file, f"./{name}")


def import_element(project: Project, element: str) -> None:
    found = project.run(f"grep -l \"selector: '{element}'\" *.component.ts").stdout.strip()
    project.edit("app.component.ts", "imports: []", f"imports: ['{found}']")


def of_tina(project: Project, prefix: str) -> None:
    """Set the variables with the names that tina/config uses."""
    for name in re.findall(r"process\.env\.(\w+)", (project.folder / "tina/config.js").read_text()):
        project.set(prefix + name)


def add_loader(project: Project, file: str) -> None:
    project.edit("webpack.config.js", "[]", f"[{{test: /\\{file[file.rindex('.') :]}$/, type: 'asset'}}]")


PROOFS = (
    # --- frameworks ---
    Proof(
        "prisma-client-missing",  # Prisma 5
        'Error: @prisma/client did not initialize yet. Please run "prisma generate" and try to import it again.\n',
        "test -e node_modules/.prisma/client",
        r'"build": "(.+) …"',
        lambda p, start: p.change_script("next build", f"{start} next build"),
        {"node_modules/.bin/prisma": '#!/bin/sh\n[ "$1" = generate ] && mkdir -p node_modules/.prisma/client\n'},
        script="next build",
    ),
    Proof(
        "next-static-params-missing",  # Next 16
        'Error: Page "/[id]" is missing "generateStaticParams()" so it cannot be used with "output: export" config.\n',
        module("app/[id]/page.mjs", "Array.isArray(m.generateStaticParams())"),
        r"Export (\w+)\(\)",
        lambda p, name: p.write("app/[id]/page.mjs", f"export const {name} = () => [{{id: '1'}}]\n"),
        {"app/[id]/page.mjs": "export default 1\n"},
    ),
    Proof(
        "next-server-side-props",  # Next 16
        f"{PRERENDERING}Error: Error for page /about: pages with `getServerSideProps` can not be exported.\n",
        module("pages/about.mjs", "'getStaticProps' in m && !('getServerSideProps' in m)"),
        r"uses (\w+), .* Use (\w+),",
        lambda p, old, new: p.edit("pages/about.mjs", old, new),
        {"pages/about.mjs": "export const getServerSideProps = () => ({props: {}})\n"},
    ),
    Proof(
        "static-paths-missing",  # Next 16
        "Error: getStaticPaths() is required for dynamic SSG pages and is missing for '/posts/[id]'.\n",
        module("posts.mjs", "m.getStaticPaths().fallback === false"),
        r"from (\w+) \(in Next\.js with (fallback: \w+)\)",
        lambda p, name, rest: p.write("posts.mjs", f"export const {name} = () => ({{paths: [], {rest}}})\n"),
        {"posts.mjs": "export default 1\n"},
    ),
    Proof(
        "next-needs-server",  # Next 16
        'Error: Route / with `dynamic = "error"` couldn\'t be rendered statically because it used `cookies()`.\n',
        "! grep -q 'cookies()' app/page.jsx",
        r"uses (\S+), which needs a server",
        lambda p, name: p.edit("app/page.jsx", name, "undefined"),
        {"app/page.jsx": "export default () => cookies()\n"},
    ),
    Proof(
        "next-image-optimization",  # Next 14
        "Error: Image Optimization using the default loader is not compatible with `{ output: 'export' }`.\n",
        config("next.config.js", "c.images.unoptimized === true"),
        r"Set (images: .+) in (next\.config)\.",
        Project.configure,
        NEXT,
    ),
    Proof(
        "next-export-removed",  # Next 14
        " ⨯ `next export` has been removed in favor of 'output: export' in next.config.js.\n",
        '[ "$1" = build ] && ' + config("next.config.js", "c.output === 'export'"),
        r"Set (output: \S+) in (next\.config), and remove `(.+)`",
        lambda p, setting, file, old: (p.configure(setting, file), p.change_script(f"&& {old}", "")),
        NEXT,
        script="next build && next export",
    ),
    Proof(
        "next-suspense-missing",  # Next 14
        f' ⨯ useSearchParams() should be wrapped in a suspense boundary at page "/".\n{PRERENDERING}',
        "grep -q '<Suspense><Search /></Suspense>' app/page.jsx",
        r"inside (<\w+>)",
        wrap,
        {"app/page.jsx": "export default () => <Search />\n"},
    ),
    Proof(
        "required-file-missing",  # react-scripts 4
        "Could not find a required file.\n  Name: index.js\n  Searched in: /x/src\n",
        "test -e src/index.js",
        r"looks for (\S+), .* Commit it",
        lambda p, name: p.write(name, ""),
    ),
    Proof(
        "app-files-missing",  # Next 14
        "> Build error occurred\nError: > Couldn't find any `pages` or `app` directory. Please create one.\n",
        'cd "${ROOT_DIR:-.}" && test -d app',
        r"Set (ROOT_DIR) to the app's folder",
        lambda p, name: p.set(name, "web"),
        {"web/app/page.jsx": ""},
    ),
    Proof(
        "sveltekit-not-prerendered",  # adapter-static 3
        "  @sveltejs/adapter-static: all routes must be fully prerenderable, but found the following routes\n",
        module("src/routes/+layout.js", "m.prerender === true"),
        r"Add `(.+)` to (\S+),",
        lambda p, line, file: p.write(file, f"{line}\n"),
    ),
    Proof(
        "sveltekit-prerender-failed",  # SvelteKit 2
        "Error: 404 /nowhere (linked from /)\nTo suppress or handle this error, implement `handleHttpError` in https://svelte.dev\n",
        "! grep -q /nowhere src/routes/+page.svelte",
        r"404 (/\S+) \(linked from /\)\. Fix the page or the link",
        lambda p, path: p.edit("src/routes/+page.svelte", path, "/"),
        {"src/routes/+page.svelte": '<a href="/nowhere">x</a>\n'},
    ),
    Proof(
        "astro-page-failed",  # Astro 4
        "18:07:21 ▶ src/pages/index.astro\n18:07:21   └─ /index.htmlwindow.x is not a function\n  Stack trace:\n",
        "grep -q '<script>' src/pages/index.astro",
        r"belongs in a client component or a (<script>)",
        lambda p, tag: p.edit("src/pages/index.astro", "---\nwindow.x()\n---", f"{tag}window.x()</script>"),
        {"src/pages/index.astro": "---\nwindow.x()\n---\n"},
    ),
    Proof(
        "astro-needs-server",  # Astro 5
        "[NoAdapterInstalled] Cannot use server-rendered pages without an adapter.\n",
        config("astro.config.js", "c.output === 'static'") + " && ! grep -q 'prerender = false' page.astro",
        r"Set (output: '\w+') in (astro\.config), and remove `(.+)` from",
        lambda p, setting, file, line: (p.configure(setting, file), p.edit("page.astro", line, "")),
        {"astro.config.js": EMPTY, "page.astro": "export const prerender = false\n"},
    ),
    Proof(
        "angular-budget-exceeded",
        "Error: bundle initial exceeded maximum budget. Budget 6.00 MB was not met by 394.63 kB with a total of 6.39 MB.\n",
        config("angular.json", "parseFloat(c.budgets[0].maximumError) > 6.39"),
        r'Raise "(\w+)" there',
        raise_budget,
        {"angular.json": '{"budgets": [{"maximumError": "6MB"}]}'},
    ),
    Proof(
        "tailwind-postcss-plugin",  # Tailwind CSS 4
        "Error: It looks like you're trying to use `tailwindcss` directly as a PostCSS plugin.\n",
        installed("@tailwindcss/postcss") + " && " + config("postcss.config.js", "'@tailwindcss/postcss' in c.plugins"),
        r"Run `(.+ (\S+))`, and name it in the PostCSS configuration",
        lambda p, command, name: (p.add(command), p.edit("postcss.config.js", "tailwindcss", name)),
        {"postcss.config.js": "module.exports = {plugins: {'tailwindcss': {}}}\n"},
    ),
    Proof(
        "typescript-missing",  # react-scripts 4
        "It looks like you're trying to use TypeScript but do not have typescript installed.\n",
        installed("typescript") + " && " + installed("@types/react"),
        r"Run `(.+)`, and commit package\.json",
        Project.add,
        {"tsconfig.json": "{}"},
    ),
    Proof(
        "vue-template-compiler-mismatch",  # vue-template-compiler 2.6
        "Vue packages version mismatch:\n\n- vue@2.6.14 (/x/vue.js)\n- vue-template-compiler@2.7.16\n",
        '[ "$(sed s/.*version// node_modules/vue/package.json)" ] && cut -d\'"\' -f8 node_modules/vue/package.json >1'
        " && cut -d'\"' -f8 node_modules/vue-template-compiler/package.json | cmp 1 -",
        r"Run `(.+)`, and commit",
        Project.add,
    ),
    Proof(
        "postcss-too-old",  # postcss 7
        "Error: PostCSS plugin autoprefixer requires PostCSS 8.\nMigration guide for end-users:\n",
        installed("autoprefixer", "9."),
        r"The plugin (\S+) needs PostCSS 8.* PostCSS 7 \(\1 (\d+)",
        lambda p, name, version: p.add(f"npm install {name}@{version}"),
    ),
    Proof(
        "loader-needs-webpack-5",  # sass-loader 11 with webpack 4
        "TypeError: this.getOptions is not a function\n    at loader (/x/node_modules/sass-loader/dist/index.js:25:24)\n",
        installed("sass-loader", "10."),
        r"A loader \((\S+)\) .* webpack 4 \(.*\b\1 (\d+)",
        lambda p, name, version: p.add(f"npm install {name}@{version}"),
    ),
    Proof(
        "angular-typescript-version",
        "Error: The Angular Compiler requires TypeScript >=5.2.0 and <5.5.0 but 5.9.2 was found instead.\n",
        config("package.json", "c.devDependencies.typescript === '>=5.2.0 <5.5.0'"),
        r"Run `(.+)`, and commit",
        Project.add,
        {"package.json": package(devDependencies={"typescript": "^5.9.2"})},
    ),
    Proof(
        "vue-tsc-too-old-to-patch",  # vue-tsc 1
        'Error: Search string not found: "/supportedTSExtensions = .*(?=;)/"\n',
        installed("vue-tsc", "99"),
        r"Update it with `(.+)`, and",
        Project.add,
        script="vue-tsc --noEmit",
    ),
    Proof(
        "fonts-unreachable",  # Next 14
        "Failed to compile.\n\napp/layout.js\n`next/font` error:\nFailed to fetch `Inter` from Google Fonts.\n",
        "grep -q \"from 'next/font/local'\" app/layout.js",
        r"keep the fonts in the repository \((\S+),",
        lambda p, name: p.edit("app/layout.js", "next/font/google", name),
        {"app/layout.js": "import font from 'next/font/google'\n"},
    ),
    Proof(
        "data-unreachable",
        "",
        "",
        r"fetch the data in the (browser)",
        lambda p, where: p.edit("page.js", "fetch(", f"typeof {GLOBAL[where]} !== 'undefined' && fetch("),
        {
            "page.js": "exports.render = async () => { await fetch('http://127.0.0.1:9/') }\n",
            "x.js": f"console.error({PRERENDERING!a}); require('./page').render()\n",
        },
        script="node x.js",
    ),
    # --- code ---
    Proof(
        "typescript-configuration-missing",
        "",
        "",
        r"found no tsconfig\.json \((\S+)\)\. Commit it",
        lambda p, name: p.write(name, '{"files": ["x.ts"], "compilerOptions": {"lib": ["es5"]}}'),
        {"x.ts": ""},
        script="tsc -p tsconfig.build.json",
    ),
    Proof(
        "import-case-mismatch",
        "",
        "",
        r"has both src/(\w+)(\S+) and src/(\w+)\S+, .* Remove one with `git (rm)`",
        lambda p, one, suffix, other, remove: (
            p.follow(f"{remove} src/{other}{suffix}"),
            p.edit("src/App.ts", f"./{other}", f"./{one}"),
        ),
        {
            "src/App.ts": "import {x} from './Header'\nimport {y} from './header'\nexport default [x, y]\n",
            "src/Header.ts": "export const x = 1, y = 2\n",
            "src/header.ts": "export const x = 1, y = 2\n",
        },
        script="tsc --lib es5 --forceConsistentCasingInFileNames src/App.ts",
    ),
    Proof(
        "import-case-mismatch",  # on a machine that does not tell them apart
        "src/App.ts(1,15): error TS1149: File name '/x/src/header.ts' differs from already included file name"
        " '/x/src/Header.ts' only in casing.\n",
        ONE_CASE,
        r"imported as src/(\S+), but its name is src/(\S+):",
        lambda p, wrong, right: p.edit("src/App.ts", wrong, right),
        {"src/App.ts": "import x from './header.ts'\n", "src/Header.ts": ""},
        script="tsc",
    ),
    Proof(
        "import-case-mismatch-on-disk",  # react-scripts 4
        "Failed to compile.\n\nCannot find file: 'header.js' does not match the corresponding name on disk: './src/Header.js'.\n",
        "grep -q './Header.js' src/App.js",
        r"the file name, which is (?:src/)(\S+)\. .* Fix the import",
        lambda p, name: p.edit("src/App.js", "header.js", name),
        {"src/App.js": "import './header.js'\n", "src/Header.js": ""},
    ),
    Proof(
        "stylesheet-missing",
        "",
        "",
        r"does not exist \((\S+)\)\. .* commit it",
        lambda p, name: p.write(f"{name}.scss", ""),
        {"a.scss": "@use 'variables';\n"},
        script="sass a.scss a.css",
    ),
    Proof(
        "sass-error",
        "",
        "",
        r"style sheet: Undefined (\w+)\. Fix the line",
        lambda p, what: p.edit("a.scss", {"variable": "$nope"}[what], "red"),
        {"a.scss": ".a { color: $nope; }\n"},
        script="sass a.scss a.css",
    ),
    Proof(
        "cra-import-outside-src",  # react-scripts 5
        "Failed to compile.\n\n./src/App.js\nYou attempted to import ../assets/x.png which falls outside of the project src/ directory.\n",
        "test -e src/x.png && grep -q ./x.png src/App.js",
        r"from outside src/: (\S+)\. Move it into (\S+)/",
        move,
        {"src/App.js": "import '../assets/x.png'\n", "assets/x.png": ""},
    ),
    Proof(
        "vue-tsc-too-old",  # vue-tsc 0.34
        "Please update to v0.35.0 or higher for TypeScript version: 4.9.5\n",
        installed("vue-tsc", "99"),
        r"Run `(.+)`, or",
        Project.add,
        script="vue-tsc --noEmit",
    ),
    Proof(
        "angular-unknown-element",
        "Error: src/app/app.component.html:1:1 - error NG8001: 'me-menu' is not a known element:\n",
        "grep -q 'imports: .*menu' app.component.ts",
        r"uses the element (\S+), .* Import its component",
        import_element,
        {"app.component.ts": "imports: []", "menu.component.ts": "selector: 'me-menu'"},
    ),
    Proof(
        "angular-error",
        "Error: src/app/app.component.html:3:7 - error NG8002: Can't bind to 'x' since it isn't a known property of 'y'.\n",
        "! grep -q '\\[x\\]' src/app/app.component.html",
        r"found errors \((\S+)\)\. Fix",
        lambda p, file: p.edit(file, '[x]="1"', ""),
        {"src/app/app.component.html": '<y [x]="1"></y>'},
    ),
    Proof(
        "typescript-error",
        "",
        "",
        r"found errors \((\S+)\)\. Fix them",
        lambda p, file: p.edit(file, "number", "string"),
        {"src/App.ts": "export const x: number = 'a'\n"},
        script="tsc --lib es5 src/App.ts",
    ),
    Proof(
        "typescript-error",
        "src/App.ts(1,44): error TS2322: Type 'string' is not assignable to type 'number'.\n",
        "! true",
        r"`(\S+ \w+)` instead of `(.+?)`",
        lambda p, new, old: p.change_script(old, new),
        {"node_modules/.bin/vite": '#!/bin/sh\n[ "$1" = build ]\n'},
        script="tsc && vite build",
    ),
    Proof(
        "svelte-check-errors",  # svelte-check 4
        "svelte-check found 1 error and 0 warnings in 1 file\n",
        "! true",
        r"without the check \(`(.+)` alone",
        lambda p, build: p.change_script("svelte-check && vite build", build),
        {"node_modules/.bin/vite": '#!/bin/sh\n[ "$1" = build ]\n'},
        script="svelte-check && vite build",
    ),
    Proof(
        "eslint-configuration-missing",  # ESLint 9
        "ESLint couldn't find an eslint.config.(js|mjs|cjs) file.\n",
        "test -e eslint.config.js",
        r"Commit (\S+) \(",
        lambda p, file: p.write(file, "module.exports = []\n"),
    ),
    Proof(
        "syntax-too-new-for-target",  # Vite 5
        "[vite:esbuild-transpile] Transform failed with 1 error:\nassets/index-!~{001}~.js:39:10: ERROR: Top-level await is"
        ' not available in the configured target environment ("chrome87", "es2020")\n',
        config("vite.config.js", "['es2022', 'esnext'].includes(c.build.target)"),
        r"Set build\.target to ('\w+') or '\w+' in (vite\.config)",
        lambda p, value, file: p.configure(f"build: {{ target: {value} }}", file),
        {"vite.config.js": EMPTY},
    ),
    Proof(
        "syntax-too-new-for-target",  # the other of its values
        "x.js:1:0: ERROR: Transforming async generator functions to the configured target environment is not supported yet\n",
        config("vite.config.js", "['es2022', 'esnext'].includes(c.build.target)"),
        r"Set build\.target to '\w+' or ('\w+') in (vite\.config)",
        lambda p, value, file: p.configure(f"build: {{ target: {value} }}", file),
        {"vite.config.js": EMPTY},
    ),
    Proof(
        "syntax-too-new-for-target",
        "",
        "",
        r"\((--target=)(\w+) of esbuild\)",
        lambda p, option, value: p.change_script(f"{option}es2020", option + value),
        {"x.js": "export const x = await 1\n"},
        script="esbuild --format=esm --target=es2020 x.js",
    ),
    Proof(
        "syntax-error",
        "",
        "",
        r"cannot be parsed \((\S+)\).* Fix the place",
        lambda p, file: p.edit(file, "<div>", "<div></div>"),
        {"src/app.jsx": "export const x = <div>"},
        script="esbuild src/app.jsx",
    ),
    Proof(
        "syntax-error",  # Vite 5
        "error during build:\n[vite:esbuild] Transform failed with 1 error:\n/x/src/app.jsx:2:0: ERROR: Unexpected end of file"
        ' before a closing "div" tag\nfile: src/app.jsx:2:0\n',
        "grep -q '</div>' src/app.jsx",
        r"cannot be parsed \((\S+)\).* Fix the place",
        lambda p, file: p.edit(file, "<div>", "<div></div>"),
        {"src/app.jsx": "<div>"},
    ),
    Proof(
        "eslint-config-missing",  # ESLint 8
        'ESLint couldn\'t find the config "airbnb" to extend from. Please check that the name of the config is correct.\n',
        config("package.json", "'eslint-config-airbnb' in c.devDependencies"),
        r"Run `(.+?)`",
        Project.add,
        script="eslint .",
    ),
    Proof(
        "eslint-config-missing",  # react-scripts 5
        '[eslint] Failed to load plugin "@typescript-eslint" declared in ".eslintrc": Cannot find module\n',
        '[ "$DISABLE_ESLINT_PLUGIN" = true ] || ' + installed("@typescript-eslint/eslint-plugin"),
        r"build without lint \((\w+)=(\w+) for",
        Project.set,
    ),
    Proof(
        "eslint-config-missing",
        '[eslint] Failed to load plugin "@typescript-eslint" declared in ".eslintrc": Cannot find module\n',
        installed("@typescript-eslint/eslint-plugin"),
        r"Run `(.+?)`",
        Project.add,
    ),
    Proof(
        "tina-not-configured",  # tinacms 1
        "Error: Client not configured properly. Missing clientId, token. Please visit https://tina.io/docs for more information\n",
        config("tina/config.js", "c.clientId && c.token"),
        r"reads from the environment\. Set those variables as (BUILD_ENV_)…",
        of_tina,
        {"tina/config.js": "module.exports = {clientId: process.env.TINA_ID, token: process.env.TINA_TOKEN}\n"},
    ),
    Proof(
        "eslint-errors",
        "✖ 1 problem (1 error, 0 warnings)\n",
        "! true",
        r"remove (\w+) from the build script",
        lambda p, name: p.change_script(f"{name} . &&", ""),
        script="eslint . && true",
    ),
    Proof(
        "prerender-failed",  # Next 16
        f"ReferenceError: Foo is not defined\n{PRERENDERING}",
        "! grep -q 'Foo$' pages/about.jsx",
        r"The page /(\S+) is .* failed\. .* Fix it",
        lambda p, name: p.edit(f"pages/{name}.jsx", "Foo", "<Foo />"),
        {"pages/about.jsx": "export default () => Foo\n"},
    ),
    Proof(
        "docusaurus-broken-links",  # Docusaurus 3
        "[ERROR] Error: Unable to build website for locale en.\n  [cause]: Error: Docusaurus found broken links!\n",
        config("docusaurus.config.js", "c.onBrokenLinks === 'warn'"),
        r"set (\w+) and \w+ to ('\w+') in (docusaurus\.config)",
        lambda p, name, value, file: p.configure(f"{name}: {value}", file),
        {"docusaurus.config.js": EMPTY},
    ),
    Proof(
        "docusaurus-broken-links",
        "[ERROR] Error: Unable to build website for locale en.\n  [cause]: Error: Docusaurus found broken anchors!\n",
        config("docusaurus.config.js", "c.onBrokenAnchors === 'warn'"),
        r"set \w+ and (\w+) to ('\w+') in (docusaurus\.config)",
        lambda p, name, value, file: p.configure(f"{name}: {value}", file),
        {"docusaurus.config.js": EMPTY},
    ),
    Proof(
        "vitepress-dead-links",  # VitePress 1
        "build error:\n[vitepress] 2 dead link(s) found.\n",
        config(".vitepress/config.js", "c.ignoreDeadLinks === true"),
        r"set (ignoreDeadLinks: \w+) in (\S+config)",
        Project.configure,
        {".vitepress/config.js": EMPTY},
    ),
    Proof(
        "mdx-syntax",  # Docusaurus 3
        'Error: MDX compilation failed for file "docs/a.md"\nCause: Unexpected character `1` (U+0031) before name\n',
        "grep -q '`<1>`' docs/a.md",
        r"page \((\S+)\) .* Put such text into (backticks)",
        lambda p, file, how: p.edit(file, "<1>", ESCAPED[how].format("<1>")),
        {"docs/a.md": "less <1>\n"},
    ),
    Proof(
        "mdx-syntax",
        'Error: MDX compilation failed for file "docs/a.md"\nCause: Could not parse expression with acorn\n',
        "grep -q '[\\]{a}' docs/a.md",
        r"page \((\S+)\) .* where < and (.) begin code.* or a (backslash) before it",
        lambda p, file, sign, how: p.edit(file, sign, ESCAPED[how].format(sign)),
        {"docs/a.md": "write {a} b}\n"},
    ),
    Proof(
        "tailwind-unknown-class",  # Tailwind CSS 4
        "Error: Cannot apply unknown utility class `card`. Are you using CSS modules or similar and missing `@reference`?\n",
        "grep -q '@utility card {' in.css",
        r"does not know: (\S+)\. Define it with `(@\w+)`",
        lambda p, name, how: p.write("in.css", f"{how} {name} {{color: red}}\n.a {{@apply {name}}}\n"),
        {"in.css": ".card {color: red}\n.a {@apply card}\n"},
    ),
    Proof(
        "tailwind-unknown-class",
        "Error: Cannot apply unknown utility class `bg-me`. Are you using CSS modules or similar and missing `@reference`?\n",
        "grep -q '@reference \"./main.css\"' a.module.css",
        r"add `(@\w+ \"\S+\")`",
        lambda p, line: p.write("a.module.css", f"{line};\n.a {{@apply bg-me}}\n"),
        {"a.module.css": ".a {@apply bg-me}\n", "main.css": ""},
    ),
    Proof(
        "tailwind-unknown-class",  # Tailwind CSS 3
        "CssSyntaxError: tailwindcss: /x/in.css:2:6: The `border-me` class does not exist. If `border-me` is a custom class\n",
        config("tailwind.config.js", "c.theme.extend.borderColor.me"),
        r"does not know: border-(\S+)\. Define it in (\S+),",
        lambda p, name, file: p.configure(f"theme: {{extend: {{borderColor: {{ {name}: 'red' }} }} }}", file),
        {"tailwind.config.js": EMPTY},
    ),
    Proof(
        "task-missing",  # gulp 4
        "[23:38:30] Using gulpfile /x/gulpfile.js\n[23:38:30] Task never defined: build\n",
        config("gulpfile.js", "c[process.argv[1]]") + ' "$1"',
        r"has no task (\S+)\. .* or add it",
        lambda p, name: p.configure(f"{name}() {{}}", "gulpfile"),
        {"gulpfile.js": EMPTY},
        script="gulp build",
    ),
    Proof(
        "package-is-es-module",
        "/w/node_modules/swiper/swiper.js:13\nimport x from './y.js';\n^^^^^^\n\nSyntaxError: Cannot use import statement outside a module\n",
        config("next.config.js", "c.transpilePackages.includes('swiper')"),
        r"The package (\S+) is .* \((\w+) in Next,",
        lambda p, name, key: p.configure(f"{key}: ['{name}']", "next.config"),
        NEXT,
    ),
    Proof(
        "package-too-new-for-webpack",  # webpack 4
        "ERROR in ./node_modules/foo/index.js 10:5\nModule parse failed: Unexpected token (10:5)\nYou may need an appropriate loader\n",
        installed("react-scripts", "5"),
        r"update webpack \((\S+) (\d+),",
        lambda p, name, version: p.add(f"npm install {name}@{version}"),
    ),
    Proof(
        "webpack-loader-missing",  # webpack 4
        "ERROR in ./src/logo.svg 1:0\nModule parse failed: Unexpected token (1:0)\nYou may need an appropriate loader to handle this\n",
        config("webpack.config.js", "c.module.rules.some(r => r.test.test('./src/logo.svg'))"),
        r"no loader for (\S+), .* add a loader",
        add_loader,
        {"webpack.config.js": "module.exports = {module: {rules: []}}\n"},
    ),
    Proof(
        "permission-denied",
        "Error: EACCES: permission denied, mkdir '/var/cache/site'\n",
        'grep -q "^$HOME/" cache.txt',
        r"It can write to its own folder, (\w+) and",
        lambda p, name: p.follow(f'mkdir -p "${name}" && echo "${name}/site" >cache.txt'),
        {"cache.txt": "/var/cache/site\n"},
    ),
    Proof(
        "angular-prod-option",  # Angular 14
        "Error: Unknown argument: prod\n",
        '[ "$*" = build ]',
        r"`ng build` has no (--\w+) since .* Remove it",
        lambda p, option: p.change_script(option, ""),
        script="ng build --prod",
    ),
    Proof(
        "unknown-option",  # Next 16
        "error: unknown option '--no-lint'\n",
        '[ "$*" = build ]',
        r"does not know: (\S+)\. Remove the option",
        lambda p, option: p.change_script(option, ""),
        script="next build --no-lint",
    ),
)
