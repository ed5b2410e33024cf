"""List failures of programs that really run (sh, node, npm), and the advice of their hints."""

from __future__ import annotations

import json
import os

from support.advice import Case, lock, package

DEP = {"dep/package.json": json.dumps({"name": "dep", "version": "1.0.0"})}
CASES = (
    # --- scripts ---
    Case("windows-command", "copy a b", "shx", {"a": "x"}, fixed_command="cp a b"),
    Case("windows-command", "rmdir /s /q dist", "rimraf", fixed_command="rm -rf dist"),
    Case("windows-command", "cls && node x.js", "works only on Windows", {"x.js": ""}, fixed_command="node x.js"),
    Case("windows-command", "./build.bat", "works only on Windows", {}, fixed_command="true"),
    Case(
        "windows-path",
        r"node scripts\build.js",
        "scripts/build.js",
        {"scripts/build.js": ""},
        fixed_command="node scripts/build.js",
    ),
    Case(
        "windows-path",
        r"node_modules\.bin\tool",
        "node_modules/.bin/tool",
        {"node_modules/.bin/tool": "#!/bin/sh\n"},
        fixed_command="sh node_modules/.bin/tool",
    ),
    Case(
        "windows-variable",
        "set MODE=x&& node x.js",
        "cross-env",
        {"x.js": "process.exit(process.env.MODE === 'x' ? 0 : 1)"},
        fixed_command="MODE=x node x.js",  # as cross-env does it
    ),
    Case(
        "windows-variable",
        'MODE=x node x.js "%MODE%"',
        "$MODE",
        {"x.js": "process.exit(process.argv[2] === 'x' ? 0 : 1)"},
        fixed_command='export MODE=x; node x.js "$MODE"',
    ),
    Case(
        "windows-line-ends-of-script",
        "sh build.sh",
        "CRLF",
        {"build.sh": "set -e\r\nexit 0\r\n"},
        {"build.sh": "set -e\nexit 0\n"},
    ),
    Case(
        "windows-line-ends-of-script",
        "./build.sh",
        "text eol=lf",
        {"build.sh": "#!/bin/sh\r\ntrue\r\n"},
        {"build.sh": "#!/bin/sh\ntrue\n"},
        executable="build.sh",
    ),
    Case(
        "windows-line-ends",
        "./build.sh",
        "CRLF",
        {"build.sh": "#!/usr/bin/env bash\r\ntrue\r\n"},
        {"build.sh": "#!/usr/bin/env bash\ntrue\n"},
        executable="build.sh",
    ),
    Case(
        "bash-syntax",
        "sh build.sh",
        "bash build.sh",
        {"build.sh": "a=(1 2)\n[[ ${a[0]} == 1 ]]\n"},
        fixed_command="bash build.sh",
    ),
    Case(
        "bash-syntax", "sh build.sh", "bash build.sh", {"build.sh": "set -o pipefail\n"}, fixed_command="bash build.sh"
    ),
    Case("bash-syntax", "[[ -d . ]] && true", "bash FILE.sh", {"b.sh": "[[ -d . ]]\n"}, fixed_command="bash b.sh"),
    Case("bash-syntax", "source ./x.sh", "bash", {"x.sh": "", "b.sh": "source ./x.sh\n"}, fixed_command="bash b.sh"),
    Case(
        "program-missing",
        "cargo-of-nobody build || zola build",
        "zola is not in the image",
        {},
        {"bin/zola": "#!/bin/sh\n"},
        fixed_variables={"PATH": f"bin:{os.environ['PATH']}"},  # as an image has it
        executable="bin/zola",
        fixed_command="zola build",
    ),
    Case(
        "program-missing",
        "node_modules/.bin/vite-of-nobody build",
        "npm install --save-dev vite-of-nobody",
        {},
        {"node_modules/.bin/vite-of-nobody": "#!/bin/sh\n"},
        executable="node_modules/.bin/vite-of-nobody",
    ),
    Case(
        "program-missing",
        "./scripts/make.sh",
        "not in the repository",
        {},
        {"scripts/make.sh": "#!/bin/sh\n"},
        executable="scripts/make.sh",
    ),
    Case(
        "program-not-executable", "./build.sh", "--chmod=+x", {"build.sh": "#!/bin/sh\n"}, fixed_by="chmod +x build.sh"
    ),
    # --- failures of node ---
    Case(
        "variable-missing",
        "node x.js",
        "BUILD_ENV_API_URL",
        {"x.js": "if (!process.env.API_URL) throw new Error('API_URL is not set')"},
        fixed_variables={"API_URL": "x"},
    ),
    Case(
        "variable-missing",
        "node x.js",
        "INSTALL_ENV_DATABASE_URL",
        {
            "x.js": "if (!process.env.DATABASE_URL) throw new Error('Cannot resolve environment variable: DATABASE_URL.')"
        },
        fixed_variables={"DATABASE_URL": "x"},
        stage="install",
    ),
    Case(
        "variable-missing",
        "node x.js",
        "BUILD_ENV_API_URL too",
        {"x.js": "if (!process.env.API_URL) throw new Error('Missing required environment variable: API_URL')"},
        variables={"API_URL": ""},  # set for the install alone
        fixed_variables={"API_URL": "x"},
    ),
    Case(
        "variable-missing",
        "set API_URL=x&& node x.js",
        "cross-env",
        {"x.js": "if (!process.env.API_URL) throw new Error('API_URL is not set')"},
        fixed_command="API_URL=x node x.js",
    ),
    Case(
        "openssl-legacy-hashes",
        "node -e \"require('crypto').createHash('md4')\"",
        "BUILD_ENV_NODE_OPTIONS=--openssl-legacy-provider",
        fixed_variables={"NODE_OPTIONS": "--openssl-legacy-provider"},
    ),
    Case(
        "node-heap",
        "node x.js",
        "--max-old-space-size",
        {"x.js": "const a = []; for (let i = 0; i < 60; i++) a.push(new Array(1e5).fill(i + .5))"},
        variables={"NODE_OPTIONS": "--max-old-space-size=20"},
        fixed_variables={"NODE_OPTIONS": "--max-old-space-size=200"},
    ),
    Case(
        "too-many-open-files",
        "ulimit -n ${FILES:-30}; node x.js",
        "nofile",
        {"x.js": "const fs = require('fs'); for (let i = 0; i < 50; i++) fs.openSync('x.js')"},
        fixed_variables={"FILES": "200"},
    ),
    Case(
        "disk-full",
        "node -e 0 >${TO:-/dev/full} && cat x >${TO:-/dev/full}",
        "write less",
        {"x": "y"},
        fixed_variables={"TO": "out"},
    ),
    Case(
        "package-not-installed",
        "node x.js",
        "npm install dep",
        {**DEP, "package.json": package(), "x.js": "require('dep')", "dep/index.js": ""},
        fixed_by="npm install --offline ./dep",
    ),
    Case("module-not-found", "node x.js", "Commit it", {"x.js": "require('./config')"}, {"config.js": ""}),
    Case(
        "module-case-mismatch",
        "node x.js",
        "its name is Header.js",
        {"x.js": "require('./header')", "Header.js": ""},
        fixed_by="mv Header.js header.js",
    ),
    Case(
        "commonjs-in-es-module",
        "node conf.js",
        ".cjs",
        {"package.json": package(type="module"), "conf.js": "require('fs')"},
        {"conf.cjs": "require('fs')"},
        fixed_command="node conf.cjs",
    ),
    Case(
        "import-in-commonjs",
        "node x.js",
        '"type": "module"',
        {"package.json": package(), "x.js": "import 'fs'"},
        {"package.json": package(type="module")},
        variables={"NODE_OPTIONS": "--no-experimental-detect-module"},
    ),
    Case(
        "require-of-es-module",
        "node x.js",
        "last version of the package that is CommonJS",
        {
            "x.js": "require('dep')",
            "node_modules/dep/package.json": '{"type": "module"}',
            "node_modules/dep/index.js": "",
        },
        {"node_modules/dep/package.json": "{}"},
        variables={"NODE_OPTIONS": "--no-experimental-require-module"},
    ),
    Case(
        "export-missing",
        "node x.mjs",
        "install the older version",
        {"x.mjs": "import {Switch} from './y.mjs'", "y.mjs": ""},
        {"y.mjs": "export const Switch = 1"},
    ),
    Case(
        "env-file-missing",
        "node x.js",
        "BUILD_ENV_",
        {"x.js": "process.env.KEY ?? require('fs').readFileSync(process.cwd() + '/.env')"},
        fixed_variables={"KEY": "x"},
    ),
    Case(
        "browser-global-missing",
        "node x.js",
        "typeof window",
        {"x.js": "window.scroll()"},
        {"x.js": "typeof window !== 'undefined' && window.scroll()"},
    ),
    Case(
        "merge-conflict-markers",
        "node x.js",
        "Remove them",
        {"x.js": "<<<<<<< HEAD\n1\n=======\n2\n>>>>>>> x\n"},
        {"x.js": "1\n"},
    ),
    Case(
        "host-unreachable",
        "node x.js",
        "nowhere.invalid",
        {"x.js": "require('dns').lookup(process.env.AT ?? 'nowhere.invalid', (error) => { if (error) throw error })"},
        fixed_variables={"AT": "127.0.0.1"},
    ),
    # --- failures of npm ---
    Case(
        "script-missing",
        "npm run build",
        "It has build:web",
        {"package.json": package(scripts={"build:web": "true"})},
        {"package.json": package(scripts={"build": "true"})},
    ),
    Case(
        "manifest-missing",
        "npm run build",
        "ROOT_DIR",
        {"web/package.json": package(scripts={"build": "true"})},
        fixed_command="cd web && npm run build",
    ),
    Case(
        "manifest-not-json",
        "npm run build",
        "not valid JSON",
        {"package.json": "{,"},
        {"package.json": package(scripts={"build": "true"})},
    ),
    Case(
        "husky-missing",
        "npm run prepare",
        "husky || true",
        {"package.json": package(scripts={"prepare": "husky"}, devDependencies={"husky": "9"})},
        {"package.json": package(scripts={"prepare": "husky || true"}, devDependencies={"husky": "9"})},
        stage="install",
    ),
    Case(
        "husky-missing",
        "npm run prepare",
        "npm install --save-dev husky",
        {"package.json": package(scripts={"prepare": "husky"})},
        {"node_modules/.bin/husky": "#!/bin/sh\n"},
        executable="node_modules/.bin/husky",
        stage="install",
    ),
    Case(
        "npm-lockfile-out-of-date",
        "npm ci --offline",
        "npm install",
        {**DEP, "package.json": package(dependencies={"dep": "file:dep"}), "package-lock.json": lock()},
        fixed_by="npm install --offline",
        stage="install",
    ),
    Case(
        "wrong-platform",
        "npm install --offline",
        "optionalDependencies",
        {
            "package.json": package(dependencies={"dep": "file:dep"}),
            "dep/package.json": json.dumps({"name": "dep", "version": "1.0.0", "os": ["win32"]}),
        },
        {"package.json": package(optionalDependencies={"dep": "file:dep"})},
        stage="install",
    ),
    Case(
        "override-conflict",
        "npm install --offline",
        "same version in both",
        {**DEP, "package.json": package(dependencies={"dep": "file:dep"}, overrides={"dep": "2.0.0"})},
        {"package.json": package(dependencies={"dep": "file:dep"}, overrides={"dep": "$dep"})},
        stage="install",
    ),
    Case(
        "workspace-protocol",
        "npm install --offline",
        "packageManager",
        {**DEP, "package.json": package(dependencies={"dep": "workspace:*"})},
        fixed_command="true",  # pnpm knows it
        stage="install",
    ),
)


# --- with a registry on loopback ---
REGISTRY_CASES = (
    Case(
        "peer-conflict",
        "npm install",
        "legacy-peer-deps=true",
        {"package.json": package(dependencies={"dep": "1.0.0", "plugin": "1.0.0"})},
        {".npmrc": "legacy-peer-deps=true"},
    ),
    Case(
        "package-missing",
        "npm install",
        "leftpad-of-nobody is not in the registry",
        {"package.json": package(dependencies={"leftpad-of-nobody": "1.0.0"})},
        {"package.json": package(dependencies={"dep": "1.0.0"})},
    ),
    Case(
        "scoped-package-missing",
        "npm install",
        "@me/ui is not in the registry",
        {
            "package.json": package(dependencies={"@me/ui": "1.0.0"}),
            "ui/package.json": json.dumps({"name": "@me/ui", "version": "1.0.0"}),
        },
        {"package.json": package(dependencies={"@me/ui": "1.0.0"}, workspaces=["ui"])},
    ),
    Case(
        "no-matching-version",
        "npm install",
        "dep@9.0.0",
        {"package.json": package(dependencies={"dep": "9.0.0"})},
        {"package.json": package(dependencies={"dep": "1.0.0"})},
    ),
    Case(
        "locked-version-missing",
        "npm ci",
        "Delete the lockfile",
        {"package.json": package(dependencies={"dep": "^1.0.0"}), "package-lock.json": "GONE"},
        {"package-lock.json": None},
        fixed_by="npm install",
    ),
    Case(
        "integrity-mismatch",
        "npm ci",
        "npm install",
        {"package.json": package(dependencies={"dep": "^1.0.0"}), "package-lock.json": "CHANGED"},
        {"package-lock.json": None},
        fixed_by="npm install",
    ),
    Case(
        "registry-access-denied",
        "npm install",
        "INSTALL_ENV_NPM_TOKEN",
        {"package.json": package(dependencies={"dep": "1.0.0"})},
        {".npmrc": "//HOST/:_authToken=${NPM_TOKEN}"},
        variables={"npm_config_registry": "CLOSED"},
        fixed_variables={"NPM_TOKEN": "secret"},
    ),
    Case(
        "registry-unreachable",
        "npm install",
        "Try again",
        {"package.json": package(dependencies={"dep": "1.0.0"})},
        variables={"npm_config_registry": "http://127.0.0.1:9", "npm_config_fetch_retries": "0"},
        fixed_variables={"npm_config_registry": "OPEN"},
    ),
)

# --- missing variables: the rule, the program's output, the variable ---
VARIABLES: tuple[tuple[str, str, str], ...] = (
    (
        "puppeteer-download",
        'ERROR: Failed to set up Chrome v1! Set "PUPPETEER_SKIP_DOWNLOAD"',
        "INSTALL_ENV_PUPPETEER_SKIP_DOWNLOAD=true",
    ),
    ("cypress-download", "The Cypress App could not be downloaded.", "INSTALL_ENV_CYPRESS_INSTALL_BINARY=0"),
    (
        "playwright-download",
        "Error: Failed to download Chromium 102.0.5005.40 (playwright build v1005), caused by\nError: read ECONNRESET",
        "INSTALL_ENV_PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1",
    ),
    (
        "electron-download",
        "RequestError: connect\n    at /w/node_modules/electron/install.js:1:1",
        "INSTALL_ENV_ELECTRON_SKIP_BINARY_DOWNLOAD=1",
    ),
    (
        "chromedriver-download",
        "ChromeDriver installation failed Error with http(s) request",
        "INSTALL_ENV_CHROMEDRIVER_SKIP_DOWNLOAD=true",
    ),
    (
        "sentry-cli-download",
        "Error: Unable to download sentry-cli binary from https://x",
        "INSTALL_ENV_SENTRYCLI_SKIP_DOWNLOAD=1",
    ),
    ("npmrc-variable-missing", "Error: Failed to replace env in config: ${MY_TOKEN}", "INSTALL_ENV_MY_TOKEN=x"),
    (
        "file-watchers-exhausted",
        "Error: ENOSPC: System limit for number of file watchers reached, watch '/w'",
        "BUILD_ENV_CHOKIDAR_USEPOLLING=1",
    ),
    (
        "cra-preflight-check",
        "There might be a problem with the project dependency tree.",
        "BUILD_ENV_SKIP_PREFLIGHT_CHECK=true",
    ),
    (
        "eslint-errors-of-framework",
        "Search for the keywords to learn more about each error.",
        "BUILD_ENV_DISABLE_ESLINT_PLUGIN=true",
    ),
    (
        "source-map-fetch",
        "You must provide the URL of lib/mappings.wasm by calling SourceMapConsumer.initialize",
        "NODE_VERSION=16",
    ),
    (
        "vite-node-too-old",
        "You are using Node.js 18.1.0. Vite requires Node.js version 20.19+ or 22.12+. Please upgrade",
        "NODE_VERSION=20",
    ),
    ("vite-2-configuration", "Error: config must export or return an object.", "NODE_VERSION=18"),
    (
        "postcss-exports",
        "Error [ERR_PACKAGE_PATH_NOT_EXPORTED]: Package subpath './lib/tokenize' is not defined by \"exports\" in"
        " /w/node_modules/postcss/package.json",
        "NODE_VERSION=16",
    ),
    ("import-assertions", "SyntaxError: Unexpected identifier 'assert'", "NODE_VERSION=20"),
    ("native-build-missing", "Error: No native build was found for platform=linux arch=x64", "NODE_VERSION=16"),
    (
        "navigator-read-only",
        "TypeError: Cannot set property navigator of #<Object> which has only a getter",
        "NODE_VERSION=20",
    ),
    ("node-util-removed", "TypeError: util.isNullOrUndefined is not a function", "NODE_VERSION=22"),
    ("eslint-crashed", "[eslint] Failed to load parser 'x'", "BUILD_ENV_DISABLE_ESLINT_PLUGIN=true"),
    ("variable-missing-unnamed", "Error: supabaseUrl is required.", "BUILD_ENV_NEXT_PUBLIC_API_URL=x"),
    (
        "ci-warnings-as-errors",
        "Treating warnings as errors because process.env.CI = true",
        'BUILD_COMMAND="CI=false',
    ),
)
