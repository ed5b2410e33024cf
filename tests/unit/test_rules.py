"""Excerpts are what the programs really printed, colors and all, unless it says from where else they are taken."""
# ruff: noqa: E501 - lines of logs are as long as they are

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from re import _constants as sre  # type: ignore[attr-defined]
from re import _parser as sre_parser  # type: ignore[attr-defined]
from typing import Any

import pytest

from buildrunner.diagnose.matcher import (
    MAX_CHARACTERS,
    Explanation,
    FailedCommand,
    FailedScript,
    _advise,
    find_failed_script,
    find_hint,
    quote_failure,
)
from buildrunner.diagnose.rule import Rule, render
from buildrunner.diagnose.rules import load_rules
from buildrunner.events.lines import without_color

RULES = load_rules()
WARN = "\x1b[1mnpm\x1b[22m \x1b[33mwarn\x1b[39m"
ERROR = "\x1b[1mnpm\x1b[22m \x1b[31merror\x1b[39m"
CODE = f"{ERROR} \x1b[94mcode\x1b[39m"

# npm 11.19.1 on Node 20.20.2, with npm_config_color=always.
OUT_OF_STEP = f"""\
{CODE} EUSAGE
{ERROR}
{ERROR} `npm ci` can only install packages when your package.json and package-lock.json or npm-shrinkwrap.json are in sync.\
 Please update your lock file with `npm install` before continuing.
{ERROR}
{ERROR} Missing: dep@1.0.0 from lock file
{ERROR}
{ERROR} Clean install a project
{ERROR}
{ERROR} Usage:
{ERROR} npm ci
"""
# npm 9 and 6: https://github.com/TTLApp/time-to-leave/pull/933, https://github.com/tutao/tutanota/issues/1146
OUT_OF_STEP_9 = """\
npm ERR! code EUSAGE
npm ERR!
npm ERR! `npm ci` can only install packages when your package.json and package-lock.json or npm-shrinkwrap.json are in sync.
npm ERR!
npm ERR! Invalid: lock file's @types/yargs@15.0.14 does not satisfy @types/yargs@15.0.15
"""
OUT_OF_STEP_6 = """\
npm ERR! cipm can only install packages when your package.json and package-lock.json or npm-shrinkwrap.json are in sync.
"""
CONFLICT = f"""\
{CODE} ERESOLVE
{ERROR} \x1b[94mERESOLVE\x1b[39m unable to resolve dependency tree
{ERROR}
{ERROR} While resolving: a@1.0.0
{ERROR} Found: lib@1.0.0\x1b[2m\x1b[22m
{ERROR} \x1b[2mnode_modules/lib\x1b[22m
{ERROR}   lib@"1.0.0" from the root project
{ERROR}
{ERROR} Could not resolve dependency:
{ERROR} \x1b[95mpeer\x1b[39m lib@"^2.0.0" from plugin@1.0.0\x1b[2m\x1b[22m
"""
CONFLICT_WARNING = f"""\
{WARN} \x1b[94mERESOLVE\x1b[39m overriding peer dependency
{WARN} While resolving: plugin@1.0.0
{WARN} Found: lib@undefined\x1b[2m\x1b[22m
"""
REFUSED_401 = f"""\
{CODE} E401
{ERROR} Unable to authenticate, your authentication token seems to be invalid.
{ERROR} To correct this please try logging in again with:
{ERROR}   npm login
"""
REFUSED_403 = f"""\
{CODE} E403
{ERROR} \x1b[94m403\x1b[39m 403 Forbidden - GET http://127.0.0.1:8999/403/@me%2fleft-pad - no
"""
NOT_FOUND = f"""\
{CODE} E404
{ERROR} \x1b[94m404\x1b[39m Not Found - GET http://127.0.0.1:8999/404/@me%2fleft-pad - no
"""
UNREACHABLE = f"""\
{CODE} ENOTFOUND
{ERROR} \x1b[94msyscall\x1b[39m getaddrinfo
{ERROR} \x1b[94merrno\x1b[39m ENOTFOUND
{ERROR} \x1b[94mnetwork\x1b[39m request to http://registry.invalid/left-pad failed, reason: getaddrinfo ENOTFOUND registry.invalid
"""
ARCHIVE = "https://codeload.github.com/owner/plugin/tar.gz/6d687e99"
ARCHIVE_UNREACHABLE = f"""\
{CODE} ENOTFOUND
{ERROR} syscall getaddrinfo
{ERROR} network request to {ARCHIVE} failed, reason: getaddrinfo ENOTFOUND codeload.github.com
"""
REFUSED_CONNECTION = f"""\
{CODE} ECONNREFUSED
{ERROR} \x1b[94msyscall\x1b[39m connect
{ERROR} \x1b[94merrno\x1b[39m ECONNREFUSED
{ERROR} FetchError: request to http://127.0.0.1:9/left-pad failed, reason: connect ECONNREFUSED 127.0.0.1:9
"""
HEAP = """\
<--- Last few GCs --->

[18031:0x3c2ca590]       91 ms: Mark-Compact 25.6 (34.3) -> 21.5 (30.2) MB, 24.86 / 0.00 ms  allocation failure

<--- JS stacktrace --->

FATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory
----- Native stack trace -----

 1: 0xb78db3 node::OOMErrorHandler(char const*, v8::OOMDetails const&) [node]
Aborted
"""
# Written to /dev/full.
DISK_NODE = """\
Error: ENOSPC: no space left on device, write
\x1b[90m    at Object.writeFileSync (node:fs:2380:20)\x1b[39m
    at [eval]:1:15 {
  errno: \x1b[33m-28\x1b[39m,
  code: \x1b[32m'ENOSPC'\x1b[39m,
  syscall: \x1b[32m'write'\x1b[39m
}
"""
DISK_SHELL = "bash: line 44: echo: write error: No space left on device\n"
# https://github.com/gatsbyjs/gatsby/issues/14789: a limit of the kernel's, not the disk.
WATCHERS = """\
Error: ENOSPC: System limit for number of file watchers reached, watch '/app/src'
    at FSWatcher.start (internal/fs/watchers.js:165:26) {
  errno: -28,
  syscall: 'watch',
  code: 'ENOSPC',
  path: '/app/src',
}
"""
NO_PROGRAM = "\n> a@1.0.0 build\n> vite build\n\n{}\n"


# The output, and how its hint begins. What names no address was printed here, by the version that stands above it.
KNOWN: list[tuple[str, str]] = [
    (OUT_OF_STEP, "npm-lockfile-out-of-date"),
    (OUT_OF_STEP_6, "npm-lockfile-out-of-date"),
    (OUT_OF_STEP_9, "npm-lockfile-out-of-date"),
    (CONFLICT, "peer-conflict"),
    (REFUSED_401, "registry-access-denied"),
    (REFUSED_403, "registry-access-denied"),
    (NOT_FOUND, "package-missing"),
    (UNREACHABLE, "registry-unreachable"),
    (REFUSED_CONNECTION, "registry-unreachable"),
    (ARCHIVE_UNREACHABLE, "git-dependency-unreachable"),
    # Yarn 1, pnpm 9, and git
    (
        f'error An unexpected error occurred: "{ARCHIVE}: getaddrinfo ENOTFOUND codeload.github.com".',
        "git-dependency-unreachable",
    ),
    (f" ERR_PNPM_META_FETCH_FAIL  GET {ARCHIVE}: request failed, reason: ENOTFOUND", "git-dependency-unreachable"),
    (
        "fatal: unable to access 'https://git.example.com/a/b.git/': Could not resolve host: git.example.com",
        "git-dependency-unreachable",
    ),
    (HEAP, "node-heap"),
    (DISK_NODE, "disk-full"),
    (DISK_SHELL, "disk-full"),
    (NO_PROGRAM.format("sh: 1: vite: not found"), "program-missing"),  # dash
    (
        NO_PROGRAM.format("sh: line 1: vite: command not found"),
        "program-missing",
    ),  # bash as sh
    (
        NO_PROGRAM.format("/bin/bash: line 1: vite: command not found"),
        "program-missing",
    ),
    (NO_PROGRAM.format("sh: vite: not found"), "program-missing"),  # busybox
    (
        NO_PROGRAM.format("sh: 1: ./node_modules/.bin/vite: not found"),
        "program-missing",
    ),
    (NO_PROGRAM.format("sh: 1: @scope/tool: not found"), "program-missing"),
    ("command not found: vite\n", "program-missing"),  # Yarn 4.18.1
    (NO_PROGRAM.format("sh: 1: hugo: not found"), "program-missing"),
    (NO_PROGRAM.format("sh: 1: copy: not found"), "windows-command"),
    (NO_PROGRAM.format("sh: 1: ./x.sh: Permission denied"), "program-not-executable: x.sh"),
    # npm 11.19.1
    (
        f'{ERROR} Missing script: "build"\n{ERROR}\n{ERROR} To see a list of scripts, run:\n',
        "script-missing",
    ),
    # pnpm 9.15.9, in two colors
    (
        "\x1b[41m\x1b[30m\u2009ERR_PNPM_NO_SCRIPT\u2009\x1b[39m\x1b[49m \x1b[31mMissing script: build\x1b[39m\n",
        "script-missing",
    ),
    ('\x1b[31merror\x1b[39m Command "build" not found.\n', "script-missing"),  # Yarn 1.22.22
    (
        '\x1b[31m\x1b[1mUsage Error\x1b[22m\x1b[39m: Couldn\'t find a script named "build".\n',
        "script-missing",
    ),  # Yarn 4.18.1
    # npm 11.19.1
    (
        f"{CODE} ETARGET\n{ERROR} \x1b[94mnotarget\x1b[39m No matching version found for left-pad@99.0.0.\n{ERROR} \x1b[94mnotarget\x1b[39m"
        " In most cases you or one of your dependencies are requesting a package version that doesn't exist.\n",
        "no-matching-version: left-pad@99.0.0",
    ),
    # pnpm 10.34.9, Yarn 1.22.22 and 4.18.1
    (
        "\x1b[41m\x1b[30m\u2009ERR_PNPM_NO_MATCHING_VERSION\u2009\x1b[39m\x1b[49m \x1b[31mNo matching version found for left-pad@99.0.0 while"
        " fetching it from https://registry.npmjs.org/\x1b[39m\n",
        "no-matching-version: left-pad@99.0.0",
    ),
    (
        '\x1b[31merror\x1b[39m Couldn\'t find any versions for "left-pad" that matches "99.0.0"\n',
        "no-matching-version: left-pad",
    ),
    (
        "\x1b[91m➤\x1b[39m YN0082: │ \x1b[91mleft-pad\x1b[39m\x1b[36m@\x1b[39m\x1b[36mnpm:99.0.0\x1b[39m: No candidates found\n",
        "no-matching-version: left-pad@npm",
    ),
    # npm 11.19.1, pnpm 9.15.9, Yarn 1.22.22 and 4.18.1
    (
        f"{CODE} E404\n{ERROR} \x1b[94m404\x1b[39m Not Found - GET https://registry.npmjs.org/@me%2fzz\n{ERROR} \x1b[94m404\x1b[39m\n"
        f"{ERROR} \x1b[94m404\x1b[39m  The requested resource '@me/zz@1.0.0' could not be found or you do not have permission to access it.\n",
        "scoped-package-missing: @me/zz",
    ),
    (
        "\x1b[41m\x1b[30m\u2009ERR_PNPM_FETCH_404\u2009\x1b[39m\x1b[49m \x1b[31mGET https://registry.npmjs.org/@me%2Fzz: Not Found - 404\x1b[39m\n\n"
        "@me/zz is not in the npm registry, or you have no permission to fetch it.\n",
        "scoped-package-missing: @me/zz",
    ),
    (
        '\x1b[31merror\x1b[39m Couldn\'t find package "@me/zz" on the "npm" registry.\n',
        "scoped-package-missing: @me/zz",
    ),
    (
        "\x1b[91m➤\x1b[39m YN0035: │ \x1b[91m@me/\x1b[39m\x1b[91mzz\x1b[39m\x1b[36m@\x1b[39m\x1b[36mnpm:1.0.0\x1b[39m: Package not found\n",
        "scoped-package-missing: @me/zz",
    ),
    # npm 11.19.1 and Yarn 1.22.22, with the checksum of the lockfile changed
    (
        f"{CODE} EINTEGRITY\n{ERROR} Integrity checksum failed when using sha512: wanted sha512-AAAA== but got sha512-XI5M==.\n",
        "integrity-mismatch",
    ),
    (
        '\x1b[31merror\x1b[39m https://registry.yarnpkg.com/left-pad/-/left-pad-1.3.0.tgz: Integrity check failed for "left-pad"\n',
        "integrity-mismatch",
    ),
    # npm 11.19.1 with engine-strict=true, Yarn 1.22.22
    (f"{CODE} EBADENGINE\n{ERROR} \x1b[94mengine\x1b[39m Unsupported engine\n", "node-version-unsupported"),
    (
        '\x1b[31merror\x1b[39m a@1.0.0: The engine "node" is incompatible with this module. Expected version ">=99". Got "20.20.2"\n',
        "node-version-unsupported",
    ),
    (
        'Node.js v20.20.2 is not supported by Astro!\nPlease upgrade Node.js to a supported version: ">=22.12.0"\n',
        "node-version-unsupported",
    ),  # Astro 5
    # https://github.com/adavesik/compoviz/issues/6 (Vite 7.3.0 on Node 18)
    (
        "You are using Node.js 18.20.8. Vite requires Node.js version 20.19+ or 22.12+. Please upgrade your Node.js version.\n"
        "✗ Build failed in 3.27s\nerror during build:\n[vite:worker-import-meta-url] crypto.hash is not a function\n",
        "node-too-old",
    ),
    # https://github.com/enricoros/big-AGI/issues/710 (Next 15.1.1 on Node 18)
    (
        "   Collecting page data  .ReferenceError: CustomEvent is not defined\n    at <unknown> (.next/server/pages/draw.js:12:6101)\n",
        "node-too-old",
    ),
    # npm 11.19.1, pnpm 9.15.9, Yarn 1.22.22 and 4.18.1
    (
        f'{CODE} EUNSUPPORTEDPROTOCOL\n{ERROR} Unsupported URL Type "workspace:": workspace:*\n',
        "workspace-protocol",
    ),
    (
        '\u2009ERR_PNPM_WORKSPACE_PKG_NOT_FOUND\u2009 In : "b@workspace:*" is in the dependencies but no package named "b" is present\n',
        "workspace-protocol",
    ),
    (
        '\x1b[31merror\x1b[39m Couldn\'t find any versions for "b" that matches "workspace:*"\n',
        "workspace-protocol",
    ),
    (
        "➤ YN0001: │ Error: b@workspace:*: Workspace not found (b@workspace:*)\n",
        "workspace-protocol",
    ),
    (
        "\u2009ERR_PNPM_CATALOG_ENTRY_NOT_FOUND_FOR_SPEC\u2009 No catalog entry 'react' was found for catalog 'default'.\n",
        "workspace-protocol",
    ),
    # pnpm 10.34.9
    (
        '\x1b[41m\x1b[30m\u2009ERR_PNPM_OUTDATED_LOCKFILE\u2009\x1b[39m\x1b[49m \x1b[31mCannot install with "frozen-lockfile" because pnpm-lock.yaml is'
        " not up to date with <ROOT>/package.json\x1b[39m\n",
        "pnpm-lockfile-out-of-date",
    ),
    (
        '\u2009ERR_PNPM_NO_LOCKFILE\u2009 Cannot install with "frozen-lockfile" because pnpm-lock.yaml is absent\n',
        "pnpm-lockfile-missing: pnpm-lock.yaml",
    ),
    ("\u2009ERR_PNPM_PEER_DEP_ISSUES\u2009 Unmet peer dependencies\n", "peer-conflict"),
    # https://github.com/livestorejs/livestore/issues/1123 (pnpm 11)
    (
        "ERR_PNPM_IGNORED_BUILDS  Ignored build scripts: @parcel/watcher@2.5.6, esbuild@0.27.4\n",
        "pnpm-ignored-builds",
    ),
    # Yarn 1.22.22
    (
        "\x1b[31merror\x1b[39m Your lockfile needs to be updated, but yarn was run with `--frozen-lockfile`.\n",
        "yarn-lockfile-out-of-date",
    ),
    # Yarn 4.18.1; links come without their addresses by then
    (
        "\x1b[91m➤\x1b[39m YN0028: │ The lockfile would have been modified by this install, which is explicitly forbidden.\n",
        "yarn-lockfile-out-of-date",
    ),
    # https://github.com/oven-sh/bun/issues/17192 (Bun 1.2.2)
    (
        "error: lockfile had changes, but lockfile is frozen\nnote: try re-running without --frozen-lockfile\n",
        "bun-lockfile-out-of-date",
    ),
    # npm 11.19.1 where no name is resolved; https://github.com/cypress-io/github-action/issues/520 (npm 8.19.2)
    (
        f"{CODE} \x1b[33m128\x1b[39m\n{ERROR} An unknown git error occurred\n{ERROR} \x1b[94mcommand\x1b[39m git --no-replace-objects ls-remote"
        f" ssh://git@github.com/nobody/private-x.git\n{ERROR} ssh: Could not resolve hostname github.com: Name or service not known\n",
        "git-dependency-over-ssh",
    ),
    (
        "npm ERR! code 128\nnpm ERR! An unknown git error occurred\nnpm ERR! git@github.com: Permission denied (publickey).\n",
        "git-dependency-over-ssh",
    ),
    # https://github.com/actions/checkout/issues/641
    (
        "fatal: could not read Username for 'https://github.com': terminal prompts disabled\n",
        "git-dependency-private",
    ),
    # npm 11.19.1
    (
        f"sh: 1: husky: not found\n{CODE} \x1b[33m127\x1b[39m\n{ERROR} \x1b[94mcommand\x1b[39m sh -c husky install\n",
        "husky-missing",
    ),
    (
        f"{CODE} EJSONPARSE\n{ERROR} \x1b[94mJSON.parse\x1b[39m Invalid package.json: JSONParseError: Expected double-quoted property name\n",
        "manifest-not-json: JSON",
    ),
    # https://github.com/elastic/opbeans-frontend/issues/119 (react-scripts 5)
    (
        "Creating an optimized production build...\n\nTreating warnings as errors because process.env.CI = true.\nMost CI servers set it"
        " automatically.\n\nFailed to compile.\n\n[eslint] \nsrc/components/App/index.js\n  Line 4:10:  'withTransaction' is defined but never used\n",
        "ci-warnings-as-errors",
    ),
    # https://github.com/integr8ly/tutorial-web-app/pull/3 (react-scripts)
    (
        "The build failed because the process exited too early. This probably means the system ran out of memory or someone called `kill -9` on the process.\n",
        "out-of-memory",
    ),
    # https://github.com/sass/node-sass/issues/3211 (npm 7, node-sass 4)
    (
        "npm ERR! code 1\nnpm ERR! path /home/ubuntu/app/client/node_modules/node-sass\nnpm ERR! command failed\nnpm ERR! command sh -c node scripts/build.js\n"
        'npm ERR! gyp verb check python checking for Python executable "python2" in the PATH\nnpm ERR! gyp verb `which` failed Error: not found: python2\n',
        "node-sass: node-sass",
    ),
    # https://github.com/jo-inc/camofox-browser/issues/2812 (npm 10, better-sqlite3)
    (
        "npm error gyp ERR! build error \nnpm error gyp ERR! stack Error: not found: make\n",
        "native-compilation",
    ),
    # https://github.com/puppeteer/puppeteer/issues/6492, https://github.com/ArnaudBuchholz/ui5-test-runner/issues/52
    (
        'ERROR: Failed to set up Chromium r800071! Set "PUPPETEER_SKIP_DOWNLOAD" env variable to skip download.\n',
        "puppeteer-download",
    ),
    # https://github.com/tmobile/magentaA11y/pull/384 (sharp 0.34)
    (
        'Error: Could not load the "sharp" module using the linux-x64 runtime\nPossible solutions:\n',
        "sharp-binary-missing",
    ),
    # https://github.com/mbloch/mapshaper/pull/677 (Rollup 4)
    (
        "Error: Cannot find module @rollup/rollup-linux-x64-gnu. npm has a bug related to optional dependencies (https://github.com/npm/cli/issues/4828)."
        " Please try `npm i` again after removing both package-lock.json and node_modules directory.\n",
        "native-binary-missing",
    ),
    # Node 20.20.2
    (
        "Error: error:0308010C:digital envelope routines::unsupported\n\x1b[90m    at new Hash (node:internal/crypto/hash:101:19)\x1b[39m\n",
        "openssl-legacy-hashes",
    ),
    # Next 16.4.6
    (
        'Error: Page "/[id]" is missing "generateStaticParams()" so it cannot be used with "output: export" config. See more info here:'
        " https://nextjs.org/docs/messages/generate-static-params\n",
        "next-static-params-missing",
    ),
    # https://github.com/stackblitz/bolt.new/issues/6308 (Next 13)
    (
        'Error: Page "/products/[id]/page" is missing exported function "generateStaticParams()", which is required with "output: export" config.\n',
        "next-static-params-missing",
    ),
    # Next 16.4.6, to the end of the list's Next.js
    (
        'Error occurred prerendering page "/". Read more: https://nextjs.org/docs/messages/prerender-error\nError: Error for page /: pages with'
        " `getServerSideProps` can not be exported. See more info here: https://nextjs.org/docs/messages/gssp-export\n",
        "next-server-side-props",
    ),
    (
        'Error occurred prerendering page "/". Read more: https://nextjs.org/docs/messages/prerender-error\nError: Page with `dynamic = "force-dynamic"`'
        ' couldn\'t be exported. `output: "export"` requires all pages be renderable statically because there is no runtime server\n',
        "next-needs-server: force-dynamic",
    ),
    (
        'Error: Route / with `dynamic = "error"` couldn\'t be rendered statically because it used `cookies()`. See more info here:\n',
        "next-needs-server",
    ),
    (
        'Error occurred prerendering page "/". Read more: https://nextjs.org/docs/messages/prerender-error\nTypeError: fetch failed\n    at async b (app/page.js:1:46)\n',
        "data-unreachable",
    ),
    (
        "Error: Failed to collect configuration for /\n    at \x1b[3mignore-listed frames\x1b[23m {\n  [cause]: ReferenceError: window is not defined\n",
        "browser-global-missing",
    ),
    (
        'ReferenceError: Foo is not defined\nError occurred prerendering page "/". Read more: https://nextjs.org/docs/messages/prerender-error\n',
        "prerender-failed",
    ),
    (
        "> Build error occurred\nError: > Couldn't find any `pages` or `app` directory. Please create one under the project root\n",
        "app-files-missing",
    ),
    # https://github.com/sinaptik-ai/pandas-ai/issues/1288 (Next 14)
    (
        'Error occurred prerendering page "/settings". Read more: https://nextjs.org/docs/messages/prerender-error\n\nTypeError: fetch failed\n'
        "  cause: Error: connect ECONNREFUSED 127.0.0.1:8000\n",
        "data-unreachable",
    ),
    # Next 14, https://nextjs.org/docs/messages/google-fonts; Nuxt 3 with UnoCSS 0.64
    (
        "Failed to compile.\n\nsrc/app/layout.tsx\n`next/font` error:\nFailed to fetch `Inter` from Google Fonts.\n\n\n> Build failed because of webpack errors\n",
        "fonts-unreachable",
    ),
    (
        '\x1b[31m[unocss:global:build:scan] [GET] "https://fonts.googleapis.com/css2?family=DM+Sans&display=swap": <no response> fetch failed\n',
        "fonts-unreachable: fonts.googleapis.com",
    ),
    # https://github.com/gatsbyjs/gatsby/issues/25304 (Gatsby 2)
    (
        ' ERROR #95312 \n\n"window" is not available during server side rendering.\n\n  WebpackError: ReferenceError: window is not defined\n',
        "browser-global-missing",
    ),
    # https://github.com/guacsec/guac-visualizer/issues/97 (Next 14.1.1)
    (
        "Failed to compile.\n\n./components/layout/footer.tsx\n6:13  Error: `'` can be escaped with `&apos;`.  react/no-unescaped-entities\n\n"
        "info  - Need to disable some ESLint rules? Learn more here: https://nextjs.org/docs/basic-features/eslint#disabling-rules\n",
        "eslint-errors-of-framework: ESLint",
    ),
    # react-scripts 5 with Yarn 4, Plug'n'Play
    (
        '\x1b[31mFailed to compile.\x1b[39m\n\x1b[31m\x1b[39m\n[eslint] Failed to load config "react-app" to extend from.\nReferenced from: /app/package.json\n',
        "eslint-config-missing: react-app",
    ),
    # tinacms 1
    (
        "Starting Tina build\nError: Client not configured properly. Missing clientId, token. Please visit https://tina.io/docs/tina-cloud/overview for more information\n",
        "tina-not-configured",
    ),
    # ESLint 8.57
    (
        '\nOops! Something went wrong! :(\n\nESLint: 8.57.0\n\nESLint couldn\'t find the config "airbnb" to extend from. Please check that the name of the config is correct.\n',
        "eslint-config-missing: ESLint",
    ),
    # better-sqlite3 11 with npm 11, and sharp 0.32 with Bun 1.2
    (
        f"{ERROR} prebuild-install warn install getaddrinfo ENOTFOUND github.com\n{ERROR} gyp info it worked if it ends with ok\n{ERROR} gyp ERR! configure error \n",
        "native-download-unreachable: github.com",
    ),
    (
        'sharp: Installation error: getaddrinfo ENOTFOUND github.com\n\nerror: install script from "sharp" exited with 1\n',
        "native-download-unreachable: github.com",
    ),
    # Eleventy 2 with dotenv 17, and Rollup 4
    (
        "[11ty] Original error stack trace: Error: ENOENT: no such file or directory, open '/tmp/x/work/repository/.env'\n",
        "env-file-missing: .env",
    ),
    (
        "ReferenceError: require is not defined in ES module scope, you can use import instead\n    at file:///x/rollup.config.js:9:13\n",
        "commonjs-in-es-module",
    ),
    # react-scripts 4
    (
        "Could not find a required file.\n  Name: index.js\n  Searched in: /tmp/x/work/repository/src\n",
        "required-file-missing: index.js",
    ),
    # lmdb-store 1.6 with pnpm 7
    (
        ".../lmdb-store install: gyp ERR! configure error \n.../lmdb-store install: gyp ERR! stack Error: This is most likely not a problem with node-gyp or the package itself and\n"
        ".../lmdb-store install: gyp ERR! stack is related to network connectivity. In most cases you are behind a proxy or have bad \n",
        "node-headers-unreachable",
    ),
    # better-sqlite3 11 with Node 22, and Preact CLI 3 with Node 20
    (
        "Error: The module '/x/better_sqlite3.node'\nwas compiled against a different Node.js version using\nNODE_MODULE_VERSION 115. This version of Node.js requires\nNODE_MODULE_VERSION 127.\n",
        "native-module-of-another-node",
    ),
    (
        "✖ ERROR You must provide the URL of lib/mappings.wasm by calling SourceMapConsumer.initialize({ 'lib/mappings.wasm': ... }) before using SourceMapConsumer\n",
        "source-map-fetch",
    ),
    # https://github.com/sveltejs/kit/issues/7179 (adapter-static 1)
    (
        "> Using @sveltejs/adapter-static\n  @sveltejs/adapter-static: all routes must be fully prerenderable (unless using the 'fallback' option)\n",
        "sveltekit-not-prerendered",
    ),
    # https://github.com/near/wallet-selector/pull/1339 (Angular)
    (
        "Error: bundle initial exceeded maximum budget. Budget 6.00 MB was not met by 394.63 kB with a total of 6.39 MB.\n",
        "angular-budget-exceeded",
    ),
    # https://github.com/vercel/next-forge/issues/195 (Prisma 5)
    (
        '[cause]: Error: @prisma/client did not initialize yet. Please run "prisma generate" and try to import it again.\n',
        "prisma-client-missing",
    ),
    # https://github.com/Pokled/nodyx/issues/21 (SvelteKit 2)
    (
        'src/lib/voice.ts (19:2): "PUBLIC_TURN_URL" is not exported by "virtual:env/static/public", imported by "src/lib/voice.ts".\n',
        "variable-missing: PUBLIC_TURN_URL",
    ),
    # https://github.com/t3-oss/t3-env/issues/129, https://github.com/usesend/useSend/issues/270
    (
        "Collecting page data  ...❌ Invalid environment variables: { BACKEND_URL: [ 'Required' ] }\nError: Invalid environment variables\n",
        "variable-missing: BACKEND_URL",
    ),
    (
        "❌ Invalid environment variables: [\n  {\n    code: 'invalid_type',\n    expected: 'string',\n    received: 'undefined',\n    path: [ 'NEXTAUTH_URL' ],\n",
        "variable-missing: NEXTAUTH_URL",
    ),
    (
        "Error: DATABASE_URL is not set\n",
        "variable-missing: DATABASE_URL",
    ),  # https://github.com/sveltejs/kit/issues/14590
    (
        "⨯ Missing required environment variables: OPENAI_API_KEY\n",
        "variable-missing: OPENAI_API_KEY",
    ),  # https://github.com/vercel/next.js/pull/67187
    # https://github.com/vercel/nextjs-subscription-payments/issues/341
    (
        "Error: supabaseUrl is required.\n> Build error occurred\nError: Failed to collect page data for /api/webhooks\n",
        "variable-missing-unnamed",
    ),
    # TypeScript 5.9, plain and with --pretty
    (
        "src/App.ts(1,44): error TS2322: Type 'string' is not assignable to type 'number'.\n",
        "typescript-error",
    ),
    (
        "\x1b[96msrc/App.ts\x1b[0m:\x1b[93m1\x1b[0m:\x1b[93m44\x1b[0m - \x1b[91merror\x1b[0m\x1b[90m TS2322: \x1b[0mType 'string' is not assignable to type 'number'.\n",
        "typescript-error",
    ),
    (
        "Failed to compile.\n\n./src/app/page.tsx:12:5\nType error: Property 'x' does not exist on type 'Y'.\n",
        "typescript-error",
    ),
    # esbuild 0.25 and Vite 5 in their form; Docusaurus 3 with a package that is an ES module
    (
        '✘ src/a.js:1:9: ERROR: No matching export in "src/b.js" for import "x"\n',
        "export-missing",
    ),
    (
        "/w/node_modules/swiper/swiper.js:13\nimport x from './y.js';\n^^^^^^\n\n"
        "SyntaxError: Cannot use import statement outside a module\n",
        "package-is-es-module",
    ),
    # vue-tsc 0.34.17 with TypeScript 4.9.5
    (
        "Please update to v0.35.0 or higher for TypeScript version: 4.9.5\n"
        "src/components/HelloWorld.vue(10,3): error TS7026: JSX element implicitly has type 'any' because no interface"
        " 'JSX.IntrinsicElements' exists.\n",
        "vue-tsc-too-old",
    ),
    # Missing modules: Vite 8.3.8, webpack 5.112.2, Rollup 4.68.8, Next 16.4.6, TypeScript 5.9, Node 20.20.2
    (
        'Error: [vite]: Rolldown failed to resolve import "lodash-nothere" from "/tmp/app/src/App.js".\nThis is most likely unintended\n',
        "package-not-installed: lodash-nothere",
    ),
    (
        "\x1b[31m[UNRESOLVED_IMPORT] \x1b[0mCould not resolve './components/nope' in src/App.js\n",
        "module-not-found: ./components/nope",
    ),
    (
        "\x1b[1mModule \x1b[1m\x1b[31mnot found\x1b[39m\x1b[22m\x1b[1m: \x1b[1m\x1b[31mError\x1b[39m\x1b[22m\x1b[1m: Can't resolve '@mui/material/Button' in '/tmp/app/src'\x1b[39m\x1b[22m\n",
        "package-not-installed: @mui/material",
    ),
    (
        '[!] RollupError: Could not resolve "./components/nope" from "src/App.js"\nsrc/App.js\n',
        "module-not-found: ./components/nope",
    ),
    (
        "./pages/index.js:1:1\nError: Module not found: Can't resolve './Nope'\n> 1 | import x from \"./Nope\";\n",
        "module-not-found: ./Nope",
    ),
    (
        "src/App.ts(1,75): error TS2307: Cannot find module 'nothere' or its corresponding type declarations.\n",
        "package-not-installed",
    ),
    (
        "Error: Cannot find module 'dotenv'\nRequire stack:\n- /app/x.js\n",
        "package-not-installed",
    ),
    (
        "Error [ERR_MODULE_NOT_FOUND]: Cannot find package 'nothere' imported from /app/x.js\n",
        "package-not-installed",
    ),
    # https://github.com/stackblitz/bolt.new/issues/894 (Vite 5)
    (
        'error during build:\nCould not resolve "./pages/ResortSearch" from "src/App.tsx"\nfile: /home/project/src/App.tsx\n',
        "module-not-found: ./pages/ResortSearch",
    ),
    # A version that is gone: npm 11, pnpm 9, Yarn 1.22; Bun and Yarn 4 in their form, not from a run
    (
        f"{CODE} E404\n{ERROR} \x1b[94m404\x1b[39m Not Found - GET https://registry.npmjs.org/is-number/-/is-number-7.0.99.tgz\n{ERROR} \x1b[94m404\x1b[39m\n"
        f"{ERROR} \x1b[94m404\x1b[39m  'is-number@https://registry.npmjs.org/is-number/-/is-number-7.0.99.tgz' is not in this registry.\n",
        "locked-version-missing: is-number-7.0.99",
    ),
    (
        "\x1b[41m\x1b[30m\u2009ERR_PNPM_FETCH_404\u2009\x1b[39m\x1b[49m \x1b[31mGET https://registry.npmjs.org/hexo-generator-feed/-/hexo-generator-feed-4.0.0.tgz: Not Found - 404\x1b[39m\n",
        "locked-version-missing: hexo-generator-feed-4.0.0",
    ),
    (
        '\x1b[31merror\x1b[39m Error: https://registry.yarnpkg.com/is-number/-/is-number-7.0.99.tgz: Request failed "404 Not Found"\n',
        "locked-version-missing: is-number-7.0.99",
    ),
    (
        "error: GET https://registry.npmjs.org/is-number/-/is-number-7.0.99.tgz - 404\n",
        "locked-version-missing: is-number-7.0.99",
    ),
    (
        "➤ YN0035: │ is-number@npm:7.0.99: The remote server failed to provide the requested resource\n➤ YN0035: │   Response Code: 404 (Not Found)\n"
        "➤ YN0035: │   Request Method: GET\n➤ YN0035: │   Request URL: https://registry.yarnpkg.com/is-number/-/is-number-7.0.99.tgz\n",
        "locked-version-missing: is-number-7.0.99",
    ),
    (
        f"{CODE} E404\n{ERROR} \x1b[94m404\x1b[39m Not Found - GET https://registry.npmjs.org/@me/zz/-/zz-1.0.0.tgz\n",
        "locked-scoped-version-missing: @me/zz",
    ),
    # react-scripts 2 to 4 (ModuleNotFoundPlugin and formatWebpackMessages of react-dev-utils 6.1.1 to 12.0.1, ModuleScopePlugin)
    (
        "Creating an optimized production build...\nFailed to compile.\n\n./src/Team/index.js\nCannot find module: 'react-confirm-alert'. Make sure this package is installed.\n\n"
        "You can install this package by running: npm install react-confirm-alert.\n",
        "package-not-installed: react-confirm-alert",
    ),
    (
        "Failed to compile.\n\n./src/App.js\nCannot find file './Components/header' in './src'.\n",
        "module-not-found: ./Components/header",
    ),
    (
        "Failed to compile.\n\nCannot find file: 'header.js' does not match the corresponding name on disk: './src/Components/Header.js'.\n",
        "import-case-mismatch-on-disk: src/Components/Header.js",
    ),
    (
        "Failed to compile.\n\n./src/App.js\nAttempted import error: 'Switch' is not exported from 'react-router-dom'.\n",
        "export-missing: react-router-dom",
    ),
    (
        "Failed to compile.\n\nAttempted import error: './Foo' does not contain a default export (imported as 'Foo').\n",
        "export-missing: ./Foo",
    ),
    (
        "Failed to compile.\n\n./src/App.js\nYou attempted to import ../../assets/x.png which falls outside of the project src/ directory. Relative imports outside of src/ are not supported.\n",
        "cra-import-outside-src: ../../assets/x.png",
    ),
    (
        "Failed to compile.\n\nsrc/App.js\n  Line 12:9:  'foo' is not defined  no-undef\n\nSearch for the \x1b[4m\x1b[31mkeywords\x1b[39m\x1b[24m to learn more about each error.\n",
        "eslint-errors-of-framework",
    ),
    (
        "Failed to compile.\n\n[eslint] \nsrc/App.js\n  Line 10:5:  Parsing error: Unexpected token (10:5)\n",
        "syntax-error",
    ),
    # Next 14.2.30 (customFormatter.js)
    (
        "Failed to compile.\n\n./app/page.tsx\n12:9  Error: 'x' is assigned a value but never used.  @typescript-eslint/no-unused-vars\n",
        "eslint-errors-of-framework",
    ),
    # Vue CLI 3 to 5 and Nuxt 2 (@soda/friendly-errors-webpack-plugin 1.8.1, @nuxt/friendly-errors-webpack-plugin 2.5.2)
    (
        " ERROR  Failed to compile with 1 errors\n\nThis dependency was not found:\n\n* axios in ./src/main.js\n\nTo install it, you can run: npm install --save axios\n",
        "package-not-installed",
    ),
    (
        "These dependencies were not found:\n\n* core-js/modules/es6.regexp.split in ./src/a.js, ./src/b.js and 3 others\n* vuex in ./src/main.js\n",
        "package-not-installed: core-js",
    ),
    (
        "This relative module was not found:\n\n* ./components/header.vue in ./node_modules/cache-loader/dist/cjs.js??ref--12-0!./node_modules/babel-loader/lib!./src/App.vue?vue&type=script&lang=js&\n",
        "module-not-found: ./components/header.vue",
    ),
    # Parcel 1.12.5, Snowpack 3.8.8 (esinstall 1.1.7), Ember CLI, postcss-import
    (
        "🚨  /x/index.js:1:1: Cannot resolve dependency './foo' at '/x/foo'\n",
        "module-not-found: ./foo",
    ),
    (
        '[snowpack] Package "lodash" not found. Have you installed it? \n',
        "package-not-installed",
    ),
    (
        "Build Error (Package /x)\n\nCould not find module `lodash` imported from `app/app.js`\n",
        "package-not-installed",
    ),
    (
        "Error: Failed to find './base.css'\n  in [\n    /x/src\n  ]\n",
        "module-not-found: ./base.css",
    ),
    # https://github.com/OpenRouterLabs/spawn/issues/209 (Bun 1.3.8)
    (
        '2 | import pc from "picocolors";\n                   ^\nerror: Could not resolve: "picocolors". Maybe you need to "bun install"?\n    at /x/src/update-check.ts:2:16\n',
        "package-not-installed",
    ),
    # Rollup 4, Vite 5.4.19, esbuild 0.21.5, @sveltejs/vite-plugin-svelte 3.1.2, @vitejs/plugin-vue 5.2.4
    (
        '\x1b[1m\x1b[31m[!] \x1b[1mRollupError: src/main.js (1:8): "nope" is not exported by "src/foo.js", imported by "src/main.js".\x1b[22m\x1b[1m\x1b[39m\x1b[22m\n',
        "export-missing: src/foo.js",
    ),
    (
        "\x1b[31merror during build:\n\x1b[31msrc/conf.js (1:0): Merge conflict marker encountered.\x1b[31m\nfile: \x1b[36m/x/src/conf.js:1:0\x1b[31m\n\x1b[33m\n1: <<<<<<< HEAD\n",
        "merge-conflict-markers",
    ),
    (
        '✘ [ERROR] Unexpected "<<"\n\n    src/conf.js:1:0:\n      1 │ <<<<<<< HEAD\n        ╵ ~~\n',
        "merge-conflict-markers",
    ),
    (
        "src/a.ts(1,1): error TS1185: Merge conflict marker encountered.\n",
        "merge-conflict-markers",
    ),  # TypeScript 5.9
    (
        'Error: expected "{".\n  ╷\n3 │ =======\n  │        ^\n  ╵\n  e.scss 3:8  root stylesheet\n',
        "merge-conflict-markers",
    ),  # sass 1.89.0
    (
        "SyntaxError: /x/src/App.js: Unexpected token (10:1)\n\n   8 |\n> 10 | <<<<<<< HEAD\n     |  ^\n",
        "merge-conflict-markers",
    ),
    (
        'error during build:\n\x1b[31m[vite:esbuild] Transform failed with 1 error:\n/x/src/app.jsx:2:0: ERROR: Unexpected end of file before a closing "div" tag\x1b[31m\nfile: \x1b[36m/x/src/app.jsx:2:0\n',
        "syntax-error",
    ),
    (
        "error during build:\n[vite-plugin-svelte] [plugin vite-plugin-svelte] src/p.svelte (2:12): /x/src/p.svelte:2:12 </div> attempted to close an element that was not open\n",
        "syntax-error",
    ),
    (
        "error during build:\n[vite:vue] [plugin vite:vue] src/p.vue (1:11): Element is missing end tag.\nfile: /x/src/p.vue:1:11\n",
        "syntax-error",
    ),
    (
        "Module build failed (from ./node_modules/babel-loader/lib/index.js):\nSyntaxError: /x/src/App.js: Unexpected token (10:5)\n",
        "syntax-error",
    ),
    # webpack 4.47.0 (ModuleParseError.js)
    (
        "ERROR in ./node_modules/foo/index.js 10:5\nModule parse failed: Unexpected token (10:5)\nYou may need an appropriate loader to handle this file type, currently no loaders are configured\n",
        "package-too-new-for-webpack: node_modules/foo/index.js",
    ),
    (
        "ERROR in ./src/logo.svg 1:0\nModule parse failed: Unexpected token (1:0)\nYou may need an appropriate loader to handle this file type\n",
        "webpack-loader-missing: src/logo.svg",
    ),
    # sass 1.89.0 alone and with Vite 5.4.19; libsass of node-sass 4.14.1; Less
    (
        "Error: Can't find stylesheet to import.\n  ╷\n1 │ @use 'variables';\n  │ ^^^^^^^^^^^^^^^^\n  ╵\n  a.scss 1:1  root stylesheet\n",
        "stylesheet-missing",
    ),
    (
        "[vite:css] [sass] Can't find stylesheet to import.\n",
        "stylesheet-missing",
    ),
    (
        "SassError: File to import not found or unreadable: ./variables.\n        on line 1 of src/a.scss\n",
        "stylesheet-missing",
    ),
    (
        "'variables.less' wasn't found. Tried - /x/src/variables.less,variables.less\n",
        "stylesheet-missing",
    ),
    # Docusaurus 2.4.3 and 3.8.1, VitePress 1.6.3
    (
        "[ERROR] Error: Unable to build website for locale en.\n    at x (/x/build.js:78:15) {\n  [cause]: Error: Docusaurus found broken links!\n",
        "docusaurus-broken-links",
    ),
    (
        'Error: MDX compilation failed for file "/x/docs/a.md"\nCause: Unexpected character `1` (U+0031) before name\n',
        "mdx-syntax",
    ),
    (
        "build error:\n[vitepress] 2 dead link(s) found.\n",
        "vitepress-dead-links",
    ),
    # https://github.com/DevCloudFE/ng-devui-admin/issues/38, https://github.com/angular/angular/issues/59913 (Angular 19)
    (
        "Error: src/app/pages/analysis.component.html:1:1 - error NG8001: 'da-analysis-page' is not a known element:\n",
        "angular-unknown-element: da-analysis-page",
    ),
    ("✘ [ERROR] NG8001: 'search' is not a known element:\n", "angular-unknown-element"),
    (
        "Error: src/app/app.component.html:3:7 - error NG8002: Can't bind to 'x' since it isn't a known property of 'y'.\n",
        "angular-error",
    ),
    # https://github.com/mdn/translated-content/issues/7817 (Angular 14)
    ("Error: Unknown argument: prod\n", "angular-prod-option"),
    # Next 16 (commander), ESLint 9
    (
        "error: unknown option '--no-lint'\n",
        "unknown-option: --no-lint",
    ),
    (
        "Invalid option '--ext' - perhaps you meant '-c'?\n",
        "unknown-option: --ext",
    ),
    # Tailwind CSS 3.4.17 and 4.1.11
    (
        "CssSyntaxError: tailwindcss: /x/in.css:2:6: The `border-border` class does not exist. If `border-border` is a custom class, make sure it is defined within a `@layer` directive.\n",
        "tailwind-unknown-class: border-border",
    ),
    (
        "Error: Cannot apply unknown utility class `bg-foo`. Are you using CSS modules or similar and missing `@reference`?\n",
        "tailwind-unknown-class: bg-foo",
    ),
    (
        "CssSyntaxError: /x/src/in.css:2:6: Unknown word\n",
        "syntax-error",
    ),
    # gulp 4.0.2, Grunt 1.6.1
    (
        "[23:38:30] Using gulpfile /x/gulpfile.js\n[23:38:30] \x1b[31mTask never defined: build\x1b[39m\n",
        "task-missing",
    ),
    ('Warning: Task "build" not found. Use --force to continue.\n', "task-missing"),
    # Node 20.20.2 with --no-experimental-require-module, as all before 20.19 are
    (
        "Error [ERR_REQUIRE_ESM]: require() of ES Module /x/node_modules/chalk/source/index.js from /x/gulpfile.js not supported.\n",
        "require-of-es-module",
    ),
    (
        "Error [ERR_REQUIRE_ESM]: Must use import to load ES Module: /x/node_modules/@a/b/index.js\n",
        "require-of-es-module",
    ),
    (
        "/x/t.cjs:1\nimport x from 'y'\n^^^^^^\n\nSyntaxError: Cannot use import statement outside a module\n",
        "import-in-commonjs",
    ),
    # Vite 5.4.19
    (
        "error during build:\n[vite:esbuild-transpile] Transform failed with 1 error:\nassets/index-!~{001}~.js:39:10: ERROR: Top-level await is not available in the configured"
        ' target environment ("chrome87", "edge88", "es2020", "firefox78", "safari14" + 2 overrides)\n',
        "syntax-too-new-for-target: Top-level",
    ),
    (
        "[Failed to load PostCSS config: Failed to load PostCSS config (searchPath: /x): [ReferenceError] module is not defined in ES module scope\n",
        "commonjs-in-es-module",
    ),
    # react-scripts 4.0.3 (verifyPackageTree.js, verifyTypeScriptSetup.js), Next 14.2.30 (missingDependencyError.js)
    (
        "\nThere might be a problem with the project dependency tree.\nIt is likely \x1b[1mnot\x1b[22m a bug in Create React App, but something you need to fix locally.\n",
        "cra-preflight-check",
    ),
    (
        "It looks like you're trying to use TypeScript but do not have \x1b[1mtypescript\x1b[22m installed.\n",
        "typescript-missing",
    ),
    (
        "It looks like you're trying to use TypeScript but do not have the required package(s) installed.\n\nPlease install \x1b[1mtypescript\x1b[22m by running:\n",
        "typescript-missing",
    ),
    # vue-template-compiler 2.6.14, postcss 7.0.39, sass-loader 10.1.1 and 11 with webpack 4; Angular in its form, not from a run
    (
        "Vue packages version mismatch:\n\n- vue@2.6.14 (/x/node_modules/vue/dist/vue.runtime.common.js)\n- vue-template-compiler@2.7.16\n",
        "vue-template-compiler-mismatch: vue-template-compiler",
    ),
    (
        "Error: PostCSS plugin autoprefixer requires PostCSS 8.\nMigration guide for end-users:\n",
        "postcss-too-old: PostCSS",
    ),
    (
        "Error: Node Sass version 7.0.3 is incompatible with ^4.0.0 || ^5.0.0.\n",
        "node-sass",
    ),
    (
        "TypeError: this.getOptions is not a function\n    at Object.loader (/x/node_modules/sass-loader/dist/index.js:25:24)\n",
        "loader-needs-webpack-5",
    ),
    (
        "Error: The Angular Compiler requires TypeScript >=5.2.0 and <5.5.0 but 5.9.2 was found instead.\n",
        "angular-typescript-version: 5.2.0",
    ),
    (
        "Error: Could not find the '@angular-devkit/build-angular:browser' builder's node package.\n",
        "package-not-installed: @angular-devkit/build-angular",
    ),
    (NO_PROGRAM.format("sh: 1: bower: not found"), "program-missing"),
    ("fatal: No names found, cannot describe anything.\n", "git-history-missing"),
    (
        "fatal: No tags can describe '46fd4ea39de9e6893c25f8f1bdd99b2bd1b1d0c4'.\nTry --always, or create some tags.\n",
        "git-history-missing",
    ),
]


def explain(output: str, **known: Any) -> Explanation | None:
    return find_hint(FailedCommand(without_color(output), **known))


def hint_of(output: str, **known: Any) -> str:
    found = explain(output, **known)
    return found.text if found else ""


@pytest.mark.parametrize(("output", "expected"), KNOWN)
def test_a_known_failure_is_recognized(output: str, expected: str) -> None:
    """A rule's id, and text in its hint."""
    noise = "".join(f"\x1b[32madded\x1b[39m {n} packages\n" for n in range(300))
    rule, _, name = expected.partition(": ")

    found = explain(noise + output + f"{ERROR} A complete log of this run can be found in: /home/_logs/debug-0.log\n")

    assert found is not None
    assert found.rule == rule
    assert name in found.text
    assert "{" not in found.text.replace("images: { unoptimized: true }", "").replace("< and { begin", "").replace(
        "${", ""
    )


# What builds say that go well, or fail for reasons that nobody knows: lines that look like those above.
HARMLESS = [
    "",
    "\n",
    "added 271 packages in 6s\n",
    CONFLICT_WARNING,
    "Error 404: not found",
    # npm 11.19.1, pnpm 9.15.9: only warnings
    f"{WARN} \x1b[94mEBADENGINE\x1b[39m Unsupported engine {{\n{WARN} \x1b[94mEBADENGINE\x1b[39m   package: 'a@1.0.0',\n",
    '\u2009WARN\u2009 Unsupported engine: wanted: {"node":">=99"} (current: {"node":"v20.20.2","pnpm":"9.15.9"})\n',
    "│   Ignored build scripts: core-js@3.37.1.                                     │\n",  # pnpm 10.34.9
    "npm warn deprecated node-sass@4.14.1: Node Sass is no longer supported. Please use `sass` or `sass-embedded` instead.\n",
    "npm warn deprecated puppeteer@13.7.0: < 24.15.0 is no longer supported\n",
    "**INFO** Skipping browser download as instructed.\n",
    "gyp info it worked if it ends with ok\ngyp info using node-gyp@10.0.1\ngyp info ok\n",
    "dist/assets/window-is-not-defined-DiwrgTda.js  0.69 kB\n",
    "✓ Generating static pages using 1 worker (2/2) in 329ms\n",
    "Type checking in progress...\nNo errors found.\nFound 0 errors. Watching for file changes.\n",
    "✖ 3 problems (0 errors, 3 warnings)\n",
    "   Linting and checking validity of types ...\n",
    "▲ bundle initial exceeded maximum budget, which is only a heading here\n",
    "Environment variables loaded from .env\nPrisma schema loaded from prisma/schema.prisma\n",
    "(!) Some chunks are larger than 500 kB after minification.\n",
    "Could not find files for / in .next/build-manifest.json\n",
    "src/App.tsx: The error TS is explained in our guide\n",
    "fatal: not a git repository (or any of the parent directories): .git\n",
    "SyntaxError: Unexpected token '<'\n",
    "TypeError: Cannot read properties of undefined (reading 'map')\n",
    'Module level directives cause errors when bundled, "use client" was ignored.\n',
    "ReferenceError: foo is not defined\n",
    "[WARNING] Docusaurus found broken links!\n",
    "src/app/a.html:1:1 - warning NG8113: All imports are unused\n",
    "prettier: Ignored unknown option { semi: false }.\n(!) Unknown input options: foo\n",
    "npm error Could not resolve dependency:\n",
    "It looks like you're trying to use TypeScript but do not have the required package(s) installed.\nInstalling dependencies\n",
    "=======\nA heading\n=======\n",
    "Search for the keywords to learn more about each warning.\n",
]


@pytest.mark.parametrize("output", HARMLESS)
def test_what_is_not_known_gets_none(output: str) -> None:
    assert explain(output) is None


def test_harmless_lines_hide_no_hint() -> None:
    for output, expected in KNOWN:
        found = explain("".join(HARMLESS) + output)
        assert found is not None
        assert found.rule == expected.partition(": ")[0]


def test_an_unreachable_host_decides_only_if_nothing_else_does() -> None:
    # simplehttp2server with npm 11
    line = f"{ERROR} GotError [RequestError]: getaddrinfo ENOTFOUND github.com\n"

    assert hint_of(line).startswith("github.com cannot be reached from the build")
    for output, expected in KNOWN:
        assert not hint_of(line + output).startswith("github.com cannot be reached"), expected


def test_a_warning_before_the_error_does_not_decide() -> None:
    assert hint_of(CONFLICT_WARNING + REFUSED_CONNECTION).startswith("The package registry cannot be reached")


# Node 20.20.2 with --max-old-space-size=1461, and with 64
FULL = "[94:0x1] 9 ms: Mark-Compact 1458.9 (1502.1) -> 1457.9 (1502.6) MB, 900 / 0 ms  allocation failure\nFATAL ERROR: Reached heap limit Allocation failed - JavaScript heap out of memory\n"
SMALL = FULL.replace("145", "6").replace("150", "7")


@pytest.mark.parametrize(
    ("output", "memory", "words"),
    [
        (
            FULL,
            2 * 2**30,
            ("more memory than its 2048 MB, of which Node may use 1461", "Give the build more memory"),
        ),
        (SMALL, 2 * 2**30, ("below the available 1461 MB", "BUILD_ENV_NODE_OPTIONS")),
        (FULL, None, ("BUILD_ENV_NODE_OPTIONS=--max-old-space-size=",)),
        (
            "FATAL ERROR: Ineffective mark-compacts near heap limit Allocation failed\n",
            2**30,
            ("more memory than its 1024 MB",),
        ),
    ],
)
def test_memory_hints_have_numbers(output: str, memory: int | None, words: tuple[str, ...]) -> None:
    hint = hint_of(output, memory=memory)

    for word in words:
        assert word in hint


@pytest.mark.parametrize(
    ("output", "hint"),
    [
        ("Could not resolve './components/button' in src/App.js\n", "components/Button.js"),
        ("Could not resolve './components/button' in {folder}/src/App.js\n", "components/Button.js"),
        ("Can't resolve './components/Button' in '{folder}/src'\n", None),
        ("Can't resolve './Components/button.js' in '{folder}/src'\n", "src/components/Button.js"),
        ('Could not resolve "@/components/button" from "src/App.js"\n', "src/components/Button.js"),
        ('Rollup failed to resolve import "/src/app.js" from "{folder}/index.html".\n', "src/App.js"),
        ("Cannot find module '{folder}/src/app.js'\n", "src/App.js"),
        ("Could not resolve './button' in src/components/other/../Other.js\n", "src/components/Button.js"),
        ("./src/App.js\nCannot find file './components/button' in './src'.\n", "components/Button.js"),
        ("This relative module was not found:\n\n* ./button.js in ./src/components/App.vue\n", "components/Button.js"),
    ],
)
def test_a_file_with_other_capitals_is_named(tmp_path: Path, output: str, hint: str | None) -> None:
    (tmp_path / "src" / "components").mkdir(parents=True)
    (tmp_path / "src" / "components" / "Button.js").touch()
    (tmp_path / "src" / "App.js").touch()

    found = hint_of(output.replace("{folder}", str(tmp_path)), folder=tmp_path)

    if hint is None:
        assert not found
    else:
        assert f"its name is src/{hint.removeprefix('src/')}: Linux file names are case-sensitive" in found


def test_nothing_is_read_outside_the_folder_or_through_a_link(tmp_path: Path) -> None:
    folder = tmp_path / "app"
    folder.mkdir()
    (tmp_path / "Secret").mkdir()
    (tmp_path / "Secret" / "File.js").touch()
    (folder / "link").symlink_to(tmp_path / "Secret")

    for module in ("../secret/file", "./link/file", f"{tmp_path}/secret/file", "./../secret/file"):
        hint = hint_of(f"Could not resolve '{module}' in App.js\n", folder=folder)
        assert hint
        assert "Secret" not in hint
        assert "File.js" not in hint


def test_names_of_files_are_shown_from_the_folder_on(tmp_path: Path) -> None:
    said = f"{tmp_path}/src/app.jsx:2:0: ERROR: Unexpected end of file\n"

    assert "A source file cannot be parsed (src/app.jsx)" in hint_of(said, folder=tmp_path)
    assert quote_failure(said, folder=tmp_path) == "The build says: “src/app.jsx:2:0: ERROR: Unexpected end of file”."


CHECKOUT = Path("/w/repository")
WEB: dict[str, Any] = {"folder": CHECKOUT / "packages/web", "checkout": CHECKOUT}
ORDER = "npm error command git ls-remote ssh://git@github.com/me/x.git\n"
VITE = "sh: 1: vite: not found\n"
PRODUCTION: dict[str, Any] = {"package": {"devDependencies": {"vite": "7"}}}
LEGACY = {"NODE_OPTIONS": "--openssl-legacy-provider"}
ENGINE = 'The engine "node" is incompatible with this module. Expected version ">=22". Got "20.1.0"\n'
SURVIVED = f"> a@1.0.0 prebuild\n> x\n\n{VITE}> a@1.0.0 build\n> y\n\nError: API_KEY is not set\n"
SITUATIONS: list[tuple[str, dict[str, Any], str, str]] = [
    # What ran already is not advised again.
    ("Node Sass does not yet support your current environment\n", {"node": "16.20.2"}, "sass", "NODE_VERSION"),
    ("ReferenceError: primordials is not defined\n", {"node": "10.24.1"}, "gulp 4", "NODE_VERSION"),
    (
        "You must provide the URL of lib/mappings.wasm by calling SourceMapConsumer.initialize\n",
        {"node": "16.1.0"},
        "terser",
        "NODE_VERSION",
    ),
    (
        "error:0308010C:digital envelope routines::unsupported\n",
        {"environment": LEGACY},
        "did not help",
        "BUILD_ENV_",
    ),
    (
        "Treating warnings as errors because process.env.CI = true\n",
        {"environment": {"CI": "false"}},
        "because its script sets CI",
        "BUILD_COMMAND",
    ),
    ("npm error code ERESOLVE\n", {"command": "npm ci --legacy-peer-deps"}, "did not help", "=true"),
    ("[ERR_REQUIRE_ESM]: require() of ES Module /w/x.js\n", {"node": "22.12.0"}, "CommonJS", "NODE_VERSION"),
    ("[ERR_REQUIRE_ESM]: require() of ES Module /w/x.js\n", {"node": "20.19.1"}, "CommonJS", "NODE_VERSION"),
    ("[ERR_REQUIRE_ESM]: require() of ES Module /w/x.js\n", {"node": "22.2.0"}, "NODE_VERSION=22", "what require()"),
    ("[ERR_REQUIRE_ESM]: require() of ES Module /w/x.js\n", {"node": "21.7.0"}, "NODE_VERSION=22", "what require()"),
    (ENGINE, {"node": "20.1.0", "node_named_by": ".nvmrc"}, "Change .nvmrc to 22", "commit an .nvmrc"),
    ("TypeError: crypto.hash is not a function\n", {"node": "24.1.0"}, "", "NODE_VERSION"),
    # Programs of the system are no packages.
    *(
        (f"sh: 1: {name}: not found\n", {}, f"{name} is not in the image", "npm")
        for name in ("cargo", "python3", "make")
    ),
    ("make: hugo: No such file or directory\n", {}, "hugo-extended", "save-dev hugo`"),
    ("/usr/bin/env: ‘python3’: No such file or directory\n", {}, "python3 is not in the image", "npm"),
    ("sh: 1: tsc: not found\n", {"manager": "pnpm"}, "pnpm add --save-dev typescript", "npm install --save"),
    # Where devDependencies were left out, that is the reason; a build finds the variable of the install empty.
    (
        VITE,
        {**PRODUCTION, "environment": {"NODE_ENV": "production"}, "stage": "install"},
        "INSTALL_ENV_NODE_ENV prevents",
        "npm install",
    ),
    (VITE, {**PRODUCTION, "environment": {"NODE_ENV": ""}}, "INSTALL_ENV_NODE_ENV", "npm install"),
    (VITE, {**PRODUCTION, "environment": {"NODE_ENV": "production"}}, "vite", "INSTALL_ENV_NODE_ENV"),
    # What failed at https is not helped by https.
    (f"{ORDER}npm error fatal: could not read Username for 'https://github.com'\n", {}, "private", "use its https"),
    # Places are those of the repository.
    ("Can't resolve 'axios' in '/w/repository/packages/web'\n", WEB, "is imported that is not installed", "/w/"),
    ("Can't resolve 'axios' in '/w/repository/packages/ui'\n", WEB, "(packages/ui)", "/w/"),
    ("variables defined in `env.schema` are invalid.\n- API_SECRET is missing\n", {}, "BUILD_ENV_API_SECRET", "…"),
    # What a script said that ended well does not decide.
    (SURVIVED, {}, "BUILD_ENV_API_KEY", "vite"),
]


@pytest.mark.parametrize(("output", "known", "expected", "unwanted"), SITUATIONS)
def test_a_hint_knows_what_was_tried(output: str, known: dict[str, Any], expected: str, unwanted: str) -> None:
    hint = hint_of(output, **{"node": "20.20.2", **known})

    assert expected in hint
    assert unwanted not in hint
    assert long_sentences(hint) == []


@pytest.mark.parametrize(
    ("output", "script"),
    [
        (
            "> a@1 postinstall\n> x\n\nnpm error code 1\nnpm error path /w\n",
            FailedScript(package=None, name="postinstall"),
        ),
        ("npm error path /w/node_modules/@me/x\nnpm error command failed\n", FailedScript("@me/x", None)),
        (". postinstall: Error: x\n. postinstall: Failed\n", FailedScript(None, "postinstall")),
        ('error: prepare script from "app" exited with 3\n', FailedScript("app", "prepare")),
        ("error /w/node_modules/x: Command failed.\nExit code: 1\n", FailedScript("x", None)),
        ("YN0009: x@npm:1.0.0 couldn't be built successfully\n", FailedScript("x", None)),
        ("YN0009: app@workspace:. couldn't be built successfully\n", FailedScript(None, None)),
        ("nothing of the kind\n", None),
    ],
)
def test_the_script_that_failed_an_install_is_found(output: str, script: FailedScript | None) -> None:
    assert find_failed_script(output, Path("/w"), Path("/w")) == script


# What a build says, and what of it is quoted.
QUOTES = [
    # Node 20.20.2 with npm 10 and 6
    (
        f"\n> build\n> node x.js\n\n[eval]:1\nthrow new Error(1234)\n^\n\nError: 1234\n    at [eval]:1:7\n\x1b[90m    at node:internal/x:118:14\x1b[39m\n\nNode.js v20.20.2\n"
        f"{ERROR} Lifecycle script `build` failed with error:\n{CODE} 1\n{ERROR} path /x\n{ERROR} command failed\n",
        "The build says: “Error: 1234”.",
    ),
    (
        "npm ERR! code ELIFECYCLE\nnpm ERR! errno 1\nnpm ERR! a@1.0.0 build: `node x.js`\nnpm ERR! Exit status 1\nnpm ERR! \n"
        "npm ERR! Failed at the a@1.0.0 build script.\nnpm ERR! This is probably not a problem with npm. There is likely additional logging output above.\n",
        None,
    ),
    # Vite 2 with svelte, gulp 4.0.2
    (
        "failed to load config from /x/vite.config.js\nerror during build:\nfile:///x/index.js:630\nimport { a } from 'vite';\n         ^\nError: config must export or return an object.\n    at x (/x/y.js:1:1)\n",
        "The build says: “Error: config must export or return an object.”",
    ),
    (
        "[23:38:59] Starting 'build'...\n[23:38:59] \x1b[31m'build' errored after 4.67 ms\x1b[39m\n[23:38:59] Error: boo\n    at exports.build (/x/gulpfile.js:1:26)\n",
        "The build says: “Error: boo”.",
    ),
    # webpack 5, and what react-scripts makes of it
    (
        "asset main.js 1.2 KiB [emitted]\n\nERROR in ./src/index.js 10:5\nModule exploded: it did (10:5)\nwebpack 5.99.9 compiled with 1 error in 123 ms\n",
        "The build says: “ERROR in ./src/index.js 10:5: Module exploded: it did (10:5)”.",
    ),
    (
        "Creating an optimized production build...\nFailed to compile.\n\n./src/App.js\nSomething odd in line 3\n",
        "The build says: “./src/App.js: Something odd in line 3”.",
    ),
    # Turborepo, pnpm, Yarn 1
    (
        "web:build: boom.ts: Error: the moon is full\nweb:build:  ELIFECYCLE  Command failed with exit code 1.\n ERROR  run failed: command  exited (1)\n",
        "The build says: “boom.ts: Error: the moon is full”.",
    ),
    (
        "yarn run v1.22.22\n$ node x.js\nTypeError: x is no function\nerror Command failed with exit code 1.\ninfo Visit https://yarnpkg.com/en/docs/cli/run for documentation about this command.\n",
        "The build says: “TypeError: x is no function”.",
    ),
    # Warnings, sizes and counts are no errors; with none the last line is quoted.
    (
        '▲ [WARNING] Expected "}" to go with "{" [css-syntax-error]\ndist/assets/error-1a2b.js   1.20 kB\n(node:1) DeprecationWarning: cannot\nFound 0 errors.\nGave up.\n',
        "The last line of the build is: “Gave up.”",
    ),
    # How to call a program is no reason.
    (
        "Usage: next build [directory]\n\nOptions:\n  -d, --debug  Show errors\n  -h, --help   Shows this\n\nerror: bad directory\n",
        "The build says: “error: bad directory”.",
    ),
    ("rm: missing operand\nTry 'rm --help' for more information.\n", "The build says: “rm: missing operand”."),
    ("npm error Usage:\nnpm error npm ci\nnpm error\nnpm error Options:\nnpm error [--unknown]\n", None),
    # What npm, pnpm and Yarn put before the lines of an install script
    (
        "npm error code 1\nnpm error path /x\nnpm error Error: boo\nnpm error     at x\n",
        "The build says: “Error: boo”.",
    ),
    (". postinstall: Error: boo\n. postinstall: Failed\n", "The build says: “Error: boo”."),
    ("➤ YN0000: │ a@workspace:. STDERR Error: boo\n", "The build says: “Error: boo”."),
    ("", None),
    ("\n\n  \n> exit 3\n", None),
]


@pytest.mark.parametrize(("output", "quote"), QUOTES)
def test_what_is_not_known_is_quoted(output: str, quote: str | None) -> None:
    assert quote_failure(output) == quote


def test_a_quote_is_one_short_line_of_plain_text() -> None:
    for output in (
        "Error: " + "long " * 5000,
        "Error: \x1b[31ma\x1b[39m\tb\x07\x9b1m\u202ec" + "x" * 1000,
        "é" * 30000,
        "Error:\n" * 500,
    ):
        quote = quote_failure(output)
        assert quote is None or (len(quote) < 240 and quote.isprintable()), quote


def test_each_rule_has_an_id_of_its_own() -> None:
    ids = [rule.id for rule in RULES]

    assert len(set(ids)) == len(ids)
    assert all(re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)+", each) for each in ids)


def unbounded(pattern: Sequence[tuple[Any, Any]]) -> Iterator[str]:
    """Yield the repetitions without a limit, except those of digits or letters."""
    for code, argument in pattern:
        if code in (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT):
            _, most, repeated = argument
            if most == sre.MAXREPEAT and not all(is_narrow(*each) for each in repeated):
                yield str(repeated)
        parts = argument if isinstance(argument, (tuple, list)) else (argument,)
        for part in parts:
            for inner in part if isinstance(part, list) else (part,):
                if isinstance(inner, sre_parser.SubPattern):
                    yield from unbounded(list(inner))


def is_narrow(code: Any, argument: Any) -> bool:
    wide = {sre.CATEGORY_SPACE, sre.CATEGORY_NOT_SPACE, sre.CATEGORY_NOT_DIGIT, sre.CATEGORY_NOT_WORD}
    return code is sre.IN and not any(each[0] is sre.NEGATE or each[1] in wide for each in argument)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_a_rule_bounds_its_repetitions_and_names_what_there_is(rule: Rule) -> None:
    for pattern in rule.patterns:
        assert list(unbounded(list(sre_parser.parse(pattern, re.MULTILINE)))) == []
    assert render(rule.text, FailedCommand(""), "NAME")
    if rule.advice:
        assert callable(_advise(rule.advice))


@pytest.mark.parametrize("pattern", ["a.*b", r"\s*\s*", "(a|[^b]+)c", "((x){2}.+)", r"\D+"])
def test_a_repetition_without_a_limit_is_found(pattern: str) -> None:
    assert list(unbounded(list(sre_parser.parse(pattern))))


def long_sentences(hint: str) -> list[str]:
    sentences = re.split(r"(?<=[.:!?])\s+(?=[A-Z`@])", hint)
    return [sentence for sentence in sentences if len(sentence.split()) > 25]


def test_no_sentence_of_a_hint_is_longer_than_25_words() -> None:
    texts = [render(rule.text, FailedCommand(""), "NAME") for rule in RULES]
    texts += [hint_of(output) for output, _ in KNOWN]

    assert [sentence for text in texts for sentence in long_sentences(text)] == []
    assert [text for text in texts if not text.endswith((".", ").", '".'))] == []
    assert [
        text
        for text in texts
        if "{" in text.replace("{ unoptimized", "").replace("assert { … }", "").replace("< and {", "").replace("${", "")
    ] == []


@pytest.mark.parametrize(
    "text",
    [
        "sh: " * 8192,
        "sh: " + "a" * 32768,
        "Missing: " * 4000,
        "npm error code " * 2000,
        "\x1b[" * 16384,
        "invalid environment variables " * 1000,
        "Could not resolve '" * 1700,
        "a:1:1\n" * 5000,
        "a" * 32768,
        "A_" * 16384,
        "\n" * 32768,
        "Cannot find module 'x'" + " " * 32000,
        "@a/" * 10000,
        "GET https://" * 2700,
        "GET https://" + "/" * 32000,
        "404 Not Found - GET https://" + "a/" * 16000,
        "This dependency was not found:\n* a in " + "!" * 32000,
        "dependency was not found:\n* a in a" * 900,
        "./a\n" * 8000,
        "ERROR in " * 3600,
        "ERROR in node_modules/" * 1400,
        "a node_modules/a" * 2000,
        "[ERR_REQUIRE_ESM]: ES Module " * 1100,
        "ERR_REQUIRE_ESM/node_modules/" * 1100,
        "SyntaxError: a: " * 2000,
        "[vite:vue] [plugin " * 1700,
        "Can't find stylesheet to import.\n\n 1 │ @use" * 700,
        "Error: unknown option " * 1400,
        " > 1 | <<<<<<<" * 2000,
        ">>>> 1" * 5000,
        " " * 32768,
        "x " * 16384,
        "[a]" * 10000,
        "[[[[ " * 6000,
        "Build failed in 1 ms " * 1500,
        "error: " * 4600,
        "!" * 32768,
        "sh: 1: a: " * 3000,
        "a\\b\\" * 10000,
        "/a/" * 10000 + ": not found",
        "> a@1 build\n" * 2700,
        "$ a\n" * 8000,
        "Usage:\n -a\n" * 3000,
        "npm error path /" * 2000,
        "Required: {" * 2900,
        'peer a@"' * 4000,
        "variables missing:" * 1800,
        "set A_" * 5000,
        "A.sh: 1: " * 3600,
        "couldn't be " * 2700,
        "a.b " * 8000,
    ],
)
def test_hostile_output_costs_time_in_proportion(text: str) -> None:
    """Measured by the CPU time of this thread. Twice 16 would be quadratic."""
    longest = (text * (MAX_CHARACTERS // len(text) + 1))[:MAX_CHARACTERS]

    def seconds(said: str) -> float:
        started = time.thread_time()
        find_hint(FailedCommand(said, script=said[:10_000]))
        for text in {said, said.replace(" ", "\n")}:
            quote_failure(text)
        return time.thread_time() - started

    large = seconds(longest)

    assert large < 5  # 0.3 on the machine where this was written
    assert large < 0.2 or large < 12 * seconds(longest[: MAX_CHARACTERS // 4]) + 0.2


def test_only_the_end_of_an_output_is_looked_at() -> None:
    """Longer output takes no more time."""
    assert explain(NOT_FOUND + "x" * MAX_CHARACTERS) is None
    assert quote_failure("Error: 1\n" + "\n" * MAX_CHARACTERS) is None


def test_engine_strict_with_an_old_npm_does_not_blame_node() -> None:
    said = (
        "npm error code EBADENGINE\nnpm error notsup Not compatible with your version of node/npm: a@1.0.0\n"
        'npm error notsup Required: {"node":">=18","npm":">=11"}\n'
        'npm error notsup Actual:   {"npm":"10.8.2","node":"v20.20.2"}\n'
    )

    found = find_hint(FailedCommand(said, stage="install", node="20.20.2"))

    assert found
    assert found.text.startswith("npm >=11 is required")


def test_missing_tags_are_explained_by_what_was_cloned(tmp_path: Path) -> None:
    said = "fatal: No names found, cannot describe anything.\n"
    (tmp_path / ".git").mkdir()

    assert "git push --tags" in hint_of(said, checkout=tmp_path)
    (tmp_path / ".git/shallow").write_text("")
    assert "Set GIT_HISTORY=full" in hint_of(said, checkout=tmp_path)


@pytest.mark.parametrize("program", ["python3.12", "gcc-13", "mdbook", "php8.3"])
def test_a_program_of_the_system_is_no_package(program: str) -> None:
    hint = hint_of(NO_PROGRAM.format(f"sh: 1: {program}: not found"))

    assert f"{program} is not in the image" in hint
    assert "npm install" not in hint


@pytest.mark.parametrize(("listed", "expected"), [(False, "npm install --save-dev husky"), (True, "`husky || true`")])
def test_a_missing_husky_is_added_only_where_nothing_lists_it(listed: bool, expected: str) -> None:
    package = {"devDependencies": {"husky": "9"} if listed else {}}

    assert expected in hint_of("sh: 1: husky: not found\n", stage="install", package=package)


def test_escapes_in_a_script_are_no_windows_path() -> None:
    script = "vite-x --help; node -e \"console.log('Usage: foo help\\n\\nOptions:\\n')\""

    found = explain(f"> app@1.0.0 build\n> {script}\n\nsh: 1: vite-x: not found\nUsage: foo help\n", script=script)

    assert found
    assert found.rule == "program-missing"
