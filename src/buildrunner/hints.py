"""Known texts of failures, and what to do about each. A table: the first whose patterns are all found decides.

So what is more certain stands above what is more common. Patterns are of lines as the programs print them, without colours;
what they name goes into the hint: the group `name` (or name2, name3, …) as {name}, or as {at} where it may be missing.

Of what is in no table the likely reason can be quoted (`quote_failure`).
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from itertools import islice
from pathlib import Path

from buildrunner.logs.text import clean, without_colour
from buildrunner.memory import heap_megabytes

_NPM = r"npm (?:error|ERR!) "
_SCOPED = r"@[\w.-]{1,100}/[\w.-]{1,100}"  # a package
_SHELL = r"(?:^|[\s/:])(?:sh|bash|dash): (?:(?:line )?\d+: )?"
_VARIABLE = r"[A-Z][A-Z0-9]*_[A-Z0-9_]{1,100}"
_NOT_FOUND = r"404 Not Found - GET |Not Found - 404|\.tgz - 404|Request failed \\?\"404|Response Code: 404"
_ADDRESS = r"(?:GET |Request URL: |^error [^\n]{0,60}?)https?://"  # of what was not found
_NEWER_NODE = (
    "The build needs another Node than the one it ran with. Set NODE_VERSION (such as 22), or commit an .nvmrc."
)

_Table = tuple[tuple[tuple[str, ...] | str, str], ...]
# A hint may have several patterns: then all of them have to be found.
_HINTS: _Table = (
    # --- the machine ---
    (
        r"(?i:no space left on device)|code ENOSPC",  # but not "ENOSPC: System limit for number of file watchers reached"
        "The disk is full. Give the task more ephemeral storage, or make the build write less.",
    ),
    (
        r"exited too early\. This probably means the system ran out of memory"  # react-scripts
        r"|build worker exited with code: null and signal: SIGKILL"  # Next
        r"|fatal error: (?:runtime: )?(?:out of memory|cannot allocate memory)"  # esbuild, which is written in Go
        r"|Allocation failed - process out of memory|std::bad_alloc|Array buffer allocation failed",
        "The build ran out of memory. Give the task more memory, or make the build use less: fewer workers, no source maps.",
    ),
    # --- the lockfile ---
    (
        r"can only install packages when your package\.json and package-lock\.json .* are in sync|"
        r"Missing: .* from lock file|Invalid: lock file's",
        "The lockfile is out of step with package.json. Run `npm install` and commit package-lock.json.",
    ),
    (
        r"ERR_PNPM_OUTDATED_LOCKFILE|ERR_PNPM_LOCKFILE_CONFIG_MISMATCH",
        "The lockfile is out of step with package.json. Run `pnpm install` and commit pnpm-lock.yaml.",
    ),
    (
        r"ERR_PNPM_NO_LOCKFILE",
        "The repository has no pnpm-lock.yaml. Run `pnpm install` and commit it.",
    ),
    (
        r"ERR_PNPM_LOCKFILE_BREAKING_CHANGE|ERR_PNPM_BROKEN_LOCKFILE",
        "This pnpm cannot read pnpm-lock.yaml, which another version wrote. Name yours in package.json, such as"
        ' "packageManager": "pnpm@9.15.9".',
    ),
    (
        r"Your lockfile needs to be updated, but yarn was run with|"
        r"YN0028: .*The lockfile would have been (?:modified|created) by this install",
        "The lockfile is out of step with package.json. Run `yarn install` and commit yarn.lock.",
    ),
    (
        r"lockfile had changes, but lockfile is frozen",
        "The lockfile is out of step with package.json. Run `bun install` and commit bun.lock.",
    ),
    # --- dependencies from git ---
    (
        r"ls-remote[^\n]{0,80} (?:git\+)?ssh://|Permission denied \(publickey\)"
        r"|Host key verification failed|cannot run ssh: No such file or directory|ssh: not found",
        "A dependency is fetched by ssh, for which a build has no key. If it is public, write https:// for it in package.json and"
        ' the lockfile, or set INSTALL_COMMAND to `git config --global url."https://github.com/".insteadOf'
        " ssh://git@github.com/ && npm ci`; if it is private, publish it to a registry.",
    ),
    (
        r"could not read (?:Username|Password) for 'https?://|fatal: Authentication failed for '",
        "A dependency comes from a private git repository. Publish it to a registry and give the install a token for that"
        " (INSTALL_ENV_NPM_TOKEN, named in .npmrc).",
    ),
    # --- the registry ---
    (
        r"Failed to replace env in config: \$\{(?P<name>\w{1,100})\}",
        "The .npmrc names a variable that is not there. Set INSTALL_ENV_{name}.",
    ),
    (
        rf"{_NPM}code E40[13]|ERR_PNPM_FETCH_40[13]|YN0041|YN0033|Request failed \\?\"40[13] ",
        "A package registry refused access. Give the install a token that can read it (INSTALL_ENV_NPM_TOKEN, named in .npmrc).",
    ),
    (
        (_NOT_FOUND, rf"{_ADDRESS}\S{{1,200}}/(?P<name>{_SCOPED})/-/[^\s/]{{1,200}}\.tgz"),
        "The registry does not give the version of {name} that the lockfile names. If the package is private, commit an"
        " .npmrc that names its registry and a token, and set the token as INSTALL_ENV_NPM_TOKEN; else that version is"
        " gone: delete the lockfile, install again, and commit the new one.",
    ),
    (
        rf"(?P<name>{_SCOPED})(?:@[^'\s]{{1,50}})?'? (?:could not be found or you do not|is not in (?:this|the npm) registry)"
        rf"|Couldn't find package \"(?P<name2>{_SCOPED})\"|(?P<name3>{_SCOPED})@npm:\S{{1,50}}: Package not found"
        r"|GET \S{1,200}/(?P<name4>@[\w.-]{1,100}%2[fF][\w.-]{1,100}) - 404",
        "{name} is not in the registry. If it is private, commit an .npmrc that names its registry and a token, and set the"
        " token as INSTALL_ENV_NPM_TOKEN; if it belongs to the repository, let the workspace include it.",
    ),
    (
        (_NOT_FOUND, rf"{_ADDRESS}\S{{1,300}}/(?P<name>[^\s/]{{1,200}})\.tgz"),
        "The registry does not have the version of a package that the lockfile names: {name}. Delete the lockfile,"
        " install again, and commit the new one.",
    ),
    (
        rf"{_NPM}code E404|ERR_PNPM_FETCH_404|Couldn't find package \"|: Package not found|GET \S{{1,200}} - 404",
        "The registry has no such package: its name is misspelt, or it was removed. The lines above name it.",
    ),
    (
        r"Unsupported URL Type \"(?:workspace|catalog|patch|portal|link):|that matches \"workspace:"
        r"|ERR_PNPM_WORKSPACE_PKG_NOT_FOUND|Workspace not found \(|ERR_PNPM_CATALOG_ENTRY_NOT_FOUND",
        "A dependency is written for a workspace (workspace:, catalog:), which this package manager does not know or"
        " find here. Name"
        ' yours in package.json, such as "packageManager": "pnpm@9.15.9", and set ROOT_DIR only to a folder of that workspace.',
    ),
    (
        rf"{_NPM}notarget No matching version found for (?P<name>\S{{1,200}}?)\.?$"
        rf"|No matching version found for (?P<name2>\S{{1,200}})"
        r"|Couldn't find any versions for \"(?P<name3>[^\"\n]{1,200})\""
        r"|YN0082: [^\w@\n]{0,4}(?P<name4>\S{1,200}): No candidates found"
        r"|No version matching \"(?P<name5>[^\"\n]{1,100})\" found",
        "No version of a package fits what is asked for: {name}. Look at its versions with `npm view`, and mend package.json.",
    ),
    (
        r"code EINTEGRITY|Integrity check failed|ERR_PNPM_TARBALL_INTEGRITY|YN0018|IntegrityCheckFailed",
        "A package is not the one that the lockfile names. Remove its entry there (or the lockfile), install again, and commit it.",
    ),
    (
        r"UNABLE_TO_VERIFY_LEAF_SIGNATURE|SELF_SIGNED_CERT_IN_CHAIN|DEPTH_ZERO_SELF_SIGNED_CERT|CERT_HAS_EXPIRED"
        r"|unable to (?:get local issuer certificate|verify the first certificate)|UNABLE_TO_GET_ISSUER_CERT_LOCALLY",
        "The certificate of a server is not trusted. If it is your own, let NODE_EXTRA_CA_CERTS name its authority's file.",
    ),
    # --- native packages; above the network, because gyp looks for its headers there ---
    (
        r"Node Sass does not yet support your current environment|Node Sass version \S{1,20} is incompatible with"
        r"|node_modules/node-sass|node-sass@[\d.]+ (?:post)?install",
        "node-sass is abandoned, and fits old versions of Node only. Replace it with sass (`npm uninstall node-sass && npm install"
        " sass`), or set NODE_VERSION to one that it knows, such as 16.",
    ),
    (
        r"Set \"PUPPETEER_SKIP_(?:CHROMIUM_)?DOWNLOAD\"|(?:ERROR|Error): Failed to (?:set up|download) [cC]hrom",
        "puppeteer could not download a browser. If only tests need it, set INSTALL_ENV_PUPPETEER_SKIP_DOWNLOAD=true.",
    ),
    (
        r"The Cypress App could not be downloaded|The Cypress binary is missing",
        "Cypress could not download its program. A build does not need it: set INSTALL_ENV_CYPRESS_INSTALL_BINARY=0.",
    ),
    (
        r"Could not find (?:Chrome|Chromium|browser revision)|Failed to launch (?:the browser process|chrome)"
        r"|browserType\.launch: Executable doesn't exist|error while loading shared libraries: lib(?:nss3|atk|gbm|glib)",
        "The build wants a browser, and the machine that builds has none. Prerender without one, or build an image that has one.",
    ),
    (
        r"(?:prebuild-install (?:warn|WARN) install|sharp: Installation error:"
        r"|node-pre-gyp (?:WARN|ERR!)[^\n]{0,120}?|gyp ERR![^\n]{0,120}?)"
        r" (?:getaddrinfo (?:ENOTFOUND|EAI_AGAIN)|connect E[A-Z]{3,20}) (?P<name>[\w.:-]{1,100})",
        "A package downloads its native part from {name}, which the machine that builds cannot reach. Let the task reach it, or"
        " update the package to a version whose native part comes from the registry (sharp from 0.33 on).",
    ),
    (
        r"gyp ERR! stack is related to network connectivity",
        "A package with native code has to be compiled, and what that needs of Node (its headers) cannot be downloaded from"
        " nodejs.org. Let the task reach it, or take a version of the package, or of Node (NODE_VERSION), for which it comes"
        " compiled.",
    ),
    (
        r"gyp ERR!",
        "A package with native code has to be compiled, for which Python, make and a compiler are missing or too old. Use a"
        " newer version of it that comes compiled, or an older Node (NODE_VERSION) for which there is one.",
    ),
    (
        r"Something went wrong installing the \"sharp\" module|Could not load the \"sharp\" module|sharp: Installation error",
        "sharp's native part for Linux is missing. Remove node_modules and the lockfile, run `npm install`, and commit"
        " the lockfile.",
    ),
    (
        r"Cannot find module '?@(?:rollup|esbuild|swc|parcel|img|tailwindcss|next|oxc-\w+|rolldown|unrs|biomejs)/[\w-]{1,50}"
        r"(?:linux|gnu|musl)|Cannot find module '[^'\n]{0,60}lightningcss\.linux[^'\n]{0,30}'"
        r"|package \"@esbuild/linux-\w+\" could not be found|You installed esbuild (?:for another platform|on another platform)"
        r"|Cannot find native binding|Failed to load SWC binary for linux|Host version \"[\d.]+\" does not match binary version",
        "A tool's native part for Linux is missing: the lockfile was written on another system (a bug of npm's). Remove"
        " node_modules"
        " and the lockfile, run `npm install`, and commit the lockfile.",
    ),
    # --- Node's version ---
    (
        r"was compiled against a different Node\.js version using\s{1,5}NODE_MODULE_VERSION",
        "A package with native code was installed for another Node than the one that loads it. Name one Node for both (.nvmrc, or"
        " NODE_VERSION), and keep node_modules out of the repository.",
    ),
    (
        r"You must provide the URL of lib/mappings\.wasm by calling SourceMapConsumer\.initialize",
        "The package source-map 0.7 takes the fetch of Node 18 and later for a browser's. Update what brings it (terser, the"
        " bundler), or set NODE_VERSION=16.",
    ),
    (
        r"ERR_OSSL_EVP_UNSUPPORTED|error:0308010C:digital envelope routines::unsupported",
        "This webpack (4, or an early 5) needs the old algorithms of OpenSSL, which Node has switched off since version 17. Set"
        " BUILD_ENV_NODE_OPTIONS=--openssl-legacy-provider, or NODE_VERSION=16, or update webpack.",
    ),
    (
        r"ReferenceError: primordials is not defined|Cannot find module 'internal/fs'",
        "Something in the build (gulp 3, graceful-fs 3) does not run on a Node above 11. Update it, or set NODE_VERSION=10.",
    ),
    (
        rf"{_NPM}code EBADENGINE|The engine \"(?:node|npm)\" is incompatible with this module|ERR_PNPM_UNSUPPORTED_ENGINE"
        r"|Unsupported NodeJS version|(?:is not supported by Astro|Please upgrade Node\.js to a supported version)"
        r"|requires a minimum Node\.js version|For Next\.js, Node\.js version \S{1,30} is required"
        r"|(?:Gatsby|Docusaurus|Minimum Node\.js version) requires? Node\.js|Minimum Node\.js version not met",
        _NEWER_NODE,
    ),
    (
        r"crypto\.hash is not a function|ReferenceError: (?:CustomEvent|File|structuredClone|ReadableStream) is not defined"
        r"|does not provide an export named '(?:styleText|parseEnv|register)'|No such built-in module: node:"
        r"|ERR_UNKNOWN_BUILTIN_MODULE"
        r"|Promise\.withResolvers is not a function|\.(?:toReversed|toSorted|findLast) is not a function"
        r"|SyntaxError: Unexpected token '?(?:\?\?=|\|\|=|\?)'?$|SyntaxError: Unexpected token 'with'",
        _NEWER_NODE,
    ),
    # --- the network ---
    (
        rf"{_NPM}code (?:ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ETIMEDOUT|ECONNRESET|ERR_SOCKET_TIMEOUT|EIDLETIMEOUT|E5\d\d)"
        r"|ERR_PNPM_META_FETCH_FAIL|ERR_PNPM_FETCH_5\d\d|YN0001: .*RequestError|There appears to be trouble with your network"
        r"|error An unexpected error occurred: \"https?://[^\n]{1,200}: (?:getaddrinfo|connect|ESOCKETTIMEDOUT|read ECONN)",
        "The package registry cannot be reached. Try again; if it stays so, look at the task's network and NAT.",
    ),
    # --- package.json ---
    (
        rf"{_NPM}code ERESOLVE|ERR_PNPM_PEER_DEP_ISSUES",
        "Two packages want different versions of a third. Update them, or commit an .npmrc with legacy-peer-deps=true"
        " (pnpm: strict-peer-dependencies=false).",
    ),
    (
        rf"{_NPM}code EJSONPARSE|ERR_PNPM_JSON_PARSE",
        "package.json or the lockfile is not valid JSON: it may hold the marks of a merge (<<<<<<<). Mend and commit it.",
    ),
    (
        r"Missing script: \"?(?P<name>[\w:.-]{1,100})|Command \"(?P<name2>[\w:.-]{1,100})\" not found\.$"
        r"|Couldn't find a script named \"(?P<name3>[\w:.-]{1,100})\"|Script not found \"(?P<name4>[\w:.-]{1,100})\"",
        'package.json has no script {name}. Add it under "scripts", or set BUILD_COMMAND to the command that builds.',
    ),
    (
        r"Could not read package\.json|ERR_PNPM_NO_IMPORTER_MANIFEST_FOUND|Couldn't find a package\.json",
        "There is no package.json where the command ran. Set ROOT_DIR to the folder that holds it.",
    ),
    (
        r"ERR_PNPM_IGNORED_BUILDS",
        "pnpm did not run the install scripts of some packages. Run `pnpm approve-builds`, choose those that the build needs, and"
        " commit what it writes.",
    ),
    (
        r"husky: (?:command )?not found|command not found: husky",
        'The prepare script calls husky, which is not there. Write "prepare": "husky || true", or move husky to the dependencies.',
    ),
    (
        r"(?:^|\s)(?P<name>[^\s(:]{1,200})(?: ?\(\d{1,6}[:,]\d{1,6}\)|:\d{1,6}:\d{1,6})(?::| -) (?:error TS1185: )?"
        r"Merge conflict marker encountered|Merge conflict marker encountered"
        r"|^[ >]{0,5}(?:\d{1,6} {0,2}[|│:] {0,2})?<{7} \S|^[ >]{0,5}\d{1,6} {0,2}[|│:] {0,2}>{7} \S[^\n]{0,100}$"
        r"|^[ >]{0,5}\d{1,6} {0,2}│ {0,2}={7}$"
        r"|(?:\[ERROR\]|ERROR:) Unexpected \"<<\"",
        "The marks of a merge are still in a file{at}: <<<<<<<. Take them out, keep the lines that belong there, and commit"
        " it.",
    ),
    # --- what frameworks say ---
    (
        r"Treating warnings as errors because process\.env\.CI = true",  # react-scripts, and what is built on it
        'Warnings fail this build, because CI=true is set. Mend what it names, or set BUILD_COMMAND="CI=false {command}".',
    ),
    (
        r"did not initialize yet\. Please run \"prisma generate\"|Cannot find module '\.prisma/client"
        r"|Module '\"@prisma/client\"' has no exported member|Prisma has detected that this project was built on Vercel",
        'Prisma\'s client was not generated. Write "build": "prisma generate && …" in package.json.',
    ),
    (
        r"is missing (?:exported function )?\"generateStaticParams\(\)\"|\"generateStaticParams\(\)\", which is required",
        "A page of this Next.js app has parameters in its path ([id]), and a static site needs to know them all. Export"
        " generateStaticParams() from it.",
    ),
    (
        r"pages with `getServerSideProps` can not be exported",
        "A page of this Next.js app uses getServerSideProps, which needs a server. Use getStaticProps, or fetch in the browser.",
    ),
    (
        r"getStaticPaths\(\) is required for dynamic SSG pages|with `fallback` enabled in `getStaticPaths` can not be exported"
        r"|GetStaticPathsRequired|`getStaticPaths\(\)` function (?:is )?required",
        "A page has parameters in its path ([id]), and a static site needs to know them all. Give them from getStaticPaths"
        " (in Next.js with fallback: false).",
    ),
    (
        r"couldn't be rendered statically because it used `(?P<name>[^`\n]{1,60})`"
        r"|Page with `(?P<name2>dynamic = \"force-dynamic\")` couldn't be (?:exported|rendered statically)"
        r"|(?P<name3>Server Actions|Intercepting routes|export const dynamic = \"force-static\")[^\n]{0,120}\"?output: ?\"?export"
        r"|(?P<name4>rewrites|redirects|headers|middleware|i18n)[^\n]{0,80}(?:cannot|can not) be used with \"output: export\"",
        "The app uses {name}, which needs a server; this Next.js app is exported as a static site. Take it out, or do"
        " it in the browser.",
    ),
    (
        r"Image Optimization using (?:the )?(?:Next\.js' )?default loader is not compatible with",
        "Next.js optimises images on a server, which a static site has not. Set images: {{ unoptimized: true }} in next.config.",
    ),
    (
        r"`next export` has been removed in favor of",
        "`next export` is gone since Next.js 14. Set output: 'export' in next.config, and take `next export` out of the script.",
    ),
    (
        r"useSearchParams\(\) should be wrapped in a suspense boundary",
        "A component that calls useSearchParams() has to stand in <Suspense>, because the page is rendered during the build. The"
        " lines above name the page.",
    ),
    (
        r"Could not find a required file\.\s{1,10}Name: (?P<name>[\w.-]{1,100})\s",
        "The build looks for {name}, which is not in the repository. Commit it (does .gitignore leave it out?), or set ROOT_DIR to"
        " the app's folder.",
    ),
    (
        r"Couldn't find any `pages` or `app` directory|Could not resolve entry module ['\"]?(?:\S{0,200}/)?index\.html"
        r"|Cannot resolve entry module index\.html",
        "The app's files are not where the build looks for them. Set ROOT_DIR to the app's folder, and look whether"
        " they were committed.",
    ),
    (
        r"all routes must be fully prerenderable|cannot have dynamic routes unless using the 'fallback'",
        "A static SvelteKit site has only prerendered pages. Write `export const prerender = true` in"
        " src/routes/+layout.js, or give"
        " adapter-static a fallback page.",
    ),
    (
        r"NoAdapterInstalled|Cannot use server-rendered pages without an adapter",
        "A page of this Astro site needs a server. Set output: 'static', and take `prerender = false` out of its pages.",
    ),
    (
        r"exceeded maximum budget\. Budget [^\n]{1,100} was (?:not met|exceeded) by",
        'A bundle is larger than angular.json allows. Raise "budgets" there, or make it smaller.',
    ),
    (
        r"trying to use `?tailwindcss`? directly as a PostCSS plugin",
        "Tailwind CSS 4 has its PostCSS plugin in a package of its own. Install @tailwindcss/postcss and name it in the"
        " PostCSS configuration.",
    ),
    (
        r"There might be a problem with the project dependency tree\.",
        "react-scripts finds another version of a package than it brings (the lines above name both). Take that package out"
        " of package.json and install again, or set BUILD_ENV_SKIP_PREFLIGHT_CHECK=true.",
    ),
    (
        r"trying to use TypeScript but do not have (?:typescript installed|the required package\(s\) installed\.\s{1,4}Please)",
        "The app has a tsconfig.json or files of TypeScript, and TypeScript is not installed. Run `npm install --save-dev"
        " typescript @types/react @types/node`, or what your package manager has for that, and commit package.json and the"
        " lockfile.",
    ),
    (
        r"^Vue packages version mismatch:",
        "The versions of vue and vue-template-compiler differ, and have to be the same. Install both in one version"
        " (`npm install vue@2.7 vue-template-compiler@2.7`), and commit the lockfile.",
    ),
    (
        r"PostCSS plugin (?P<name>[\w./@-]{1,100}) requires PostCSS 8",
        "The plugin {name} needs PostCSS 8, and the build has an older one. Install the plugin's version for PostCSS 7"
        " (autoprefixer 9, @tailwindcss/postcss7-compat), or update what brings PostCSS.",
    ),
    (
        r"this\.getOptions is not a function(?:\s{1,10}at [^\n]{0,60}\(\S{0,300}/node_modules/(?P<name>[\w.-]{1,100})/)?",
        "A loader{at} needs webpack 5, and the build has webpack 4. Install the loader's last version for webpack 4"
        " (sass-loader 10, less-loader 7, css-loader 5, postcss-loader 4), and commit the lockfile.",
    ),
    (
        r"The Angular Compiler requires TypeScript (?P<name>[^\n]{1,60}?) but",
        "Angular needs a TypeScript {name}, and another is installed. Put one of these into package.json, install, and"
        " commit the lockfile.",
    ),
    (
        r"Search string not found: \"/supportedTSExtensions",
        "This vue-tsc is too old for the TypeScript that was installed. Update it: `npm install --save-dev vue-tsc@latest`.",
    ),
    # --- variables ---
    (
        r"\"(?P<name>[A-Z][A-Z0-9_]{1,100})\" is not exported by \"?[^\n]{0,40}env/(?:static|dynamic)"
        r"|(?i:environment variables? not found|missing (?:required )?env(?:ironment)?[ -]?(?:var(?:iable)?s?)?): ?[\s\"'`\[{]{0,6}"
        r"(?P<name2>[A-Z][A-Z0-9_]{2,100})"
        rf"|(?i:invalid environment variables?):?[\s\S]{{0,300}}?\b(?P<name3>{_VARIABLE})\b"
        rf"|(?:The |Error: )[`'\"]?(?P<name4>{_VARIABLE})[`'\"]? (?:environment variable )?"
        r"(?:is (?:missing|not set|not defined|required|undefined|empty)|must be (?:set|defined|provided))"
        rf"|(?i:env(?:ironment)? var(?:iable)?s?) [`'\"]?(?P<name5>{_VARIABLE})[`'\"]? "
        r"(?:is (?:missing|not set|not defined|required|undefined)|must be|not found)"
        rf"|[Mm]issing [`'\"]?(?:process\.env\.)?(?P<name6>{_VARIABLE})[`'\"]? (?:environment variable|env)",
        "The build wants the variable {name}. Set BUILD_ENV_{name}.",
    ),
    (
        r"supabaseUrl is required|supabaseKey is required|(?i:invalid environment variables?"
        r"|missing (?:required )?environment variables?)"
        r"|Neither apiKey nor config\.authenticator provided|auth/invalid-api-key|Missing publishableKey"
        r"|Configuration must contain `?projectId|Expected parameter accessToken|Missing credentials\. Please pass an `apiKey`"
        r"|client: options must be object with .?accessToken",
        "The build wants an address or a key that it takes from a variable. Set it as BUILD_ENV_… with the name that"
        " the code reads,"
        " such as BUILD_ENV_NEXT_PUBLIC_API_URL.",
    ),
    # --- pages that are rendered during the build ---
    (
        r"(?:ReferenceError: |^[ \t]{0,20})(?P<name>window|document|localStorage|sessionStorage|navigator|self|location|HTMLElement"
        r"|IntersectionObserver|matchMedia) is not defined|\"(?P<name2>window|document|localStorage|navigator"
        r"|location)\" is not available during"
        r" server[- ]side rendering",
        "Pages are rendered during the build, where there is no {name}. Use it in an effect or behind `typeof window"
        " !== 'undefined'`, or"
        " load the component in the browser only.",
    ),
    (
        r"Failed to fetch [`'\"]?[\w +-]{1,100}[`'\"]? from (?P<name>Google Fonts)"
        r"|(?P<name2>fonts\.(?:googleapis|gstatic|bunny)\.(?:com|net))[^\n]{0,300}"
        r"(?:<no response>|fetch failed|ENOTFOUND|EAI_AGAIN)"
        r"|(?:ENOTFOUND|EAI_AGAIN) (?P<name3>fonts\.(?:googleapis|gstatic|bunny)\.(?:com|net))",
        "The build fetches fonts from {name}, which it cannot reach. Let the task reach it, or keep the fonts in the repository"
        " (next/font/local, a package of @fontsource).",
    ),
    (
        (
            r"(?i:error occurred prerendering page|prerender|generating static|collect(?:ing)? page data|generateStaticParams"
            r"|getStaticP|render(?:ing)? (?:html|pages?|routes))",
            r"fetch failed|connect ECONNREFUSED (?P<name>[\w.:]{1,60})|getaddrinfo (?:ENOTFOUND"
            r"|EAI_AGAIN) (?P<name2>[\w.-]{1,100})",
        ),
        "Pages are rendered during the build, and what they ask for their data does not answer there{at}. It has to be"
        " reachable from"
        " the build, not on localhost; or fetch the data in the browser.",
    ),
    # --- programs ---
    (
        rf"{_SHELL}(?P<name>copy|xcopy|robocopy|del|erase|move|rd|md|cls): (?:command )?not found",
        "{name} is a command of Windows, and builds run on Linux. Write the script so that it runs on both, for instance with"
        " shx, rimraf and cross-env.",
    ),
    (
        rf"{_SHELL}(?P<name>hugo|zola|jekyll|bundle|mkdocs|deno|python3?|php|make|docker|yarn|pnpm|bun): (?:command )?not found"
        r"|^command not found: (?P<name2>hugo|zola|jekyll|bundle|deno|python3?)$",
        "{name} is not on the machine that builds. If there is an npm package that brings it (such as hugo-extended), add that to"
        " package.json; else build an image that has it.",
    ),
    (
        rf"{_SHELL}(?:\S{{0,200}}/)?(?P<name>[\w.@-]{{1,100}}): (?:command )?not found"
        r"|^command not found: (?P<name2>[\w./@-]{1,100})$|\bspawn (?P<name3>[\w./@-]{1,100}) ENOENT$",
        "The build calls a program that is not installed: {name}. Add the package that brings it to package.json, and commit the"
        " lockfile. If it is there, see that nothing leaves devDependencies out (INSTALL_ENV_NODE_ENV=production, omit=dev).",
    ),
    (
        rf"{_SHELL}(?P<name>\S{{1,200}}): Permission denied",
        "{name} may not be run. If node_modules is in the repository, remove it from there (`git rm -r --cached"
        " node_modules`); else"
        " run `git update-index --chmod=+x` on the file and commit.",
    ),
)
# What is looked for when no module is missing.
_HINTS_OF_CODE: _Table = (
    (
        r"File name '(?P<name>[^'\n]{1,200})' differs from already included file name '(?P<name2>[^'\n]{1,200})' only in casing",
        "A file is imported with other capitals than it has: {name}. Linux tells them apart; mend the import.",
    ),
    (
        r"Cannot find file: '[^'\n]{1,200}' does not match the corresponding name on disk: '(?P<name>[^'\n]{1,200})'"
        r"|\[CaseSensitivePathsPlugin\] `[^`\n]{1,300}` does not match the corresponding path on disk `?(?P<name2>[^\s`]{1,200})",
        "A file is imported with other capitals than it has: its name is {name}. Linux tells them apart; mend the import.",
    ),
    (
        r"Can't find stylesheet to import\.(?:\n[^\n]{0,10}\n {0,6}\d{1,6} │ [^\n]{0,80}?@(?:import|use|forward)"
        r" ['\"](?P<name>[^'\"\n]{1,200}))?"
        r"|File to import not found or unreadable: (?P<name2>[^\s]{1,300}?)\.?$"
        r"|'(?P<name3>[^'\n]{1,200})' wasn't found\. Tried - ",  # Less
        "A stylesheet is imported that is not there{at}. If it is the repository's, commit it, and look at the capitals"
        " of its name, which Linux tells apart; if a package brings it, add that to package.json.",
    ),
    (
        r"You attempted to import (?P<name>\S{1,300}) which falls outside of the project src/ directory",
        "react-scripts takes no file from outside of src/: {name}. Move it into src/; or put it into public/, and name"
        " its address in place of the import.",
    ),
    (
        r"^Please update to v[\d.]{1,20} or higher for TypeScript version: (?P<name>[\d.]{1,20})$",
        "vue-tsc is older than the TypeScript that is installed ({name}), and cannot check with it. Run `npm install"
        " --save-dev vue-tsc@latest`, or put a TypeScript into package.json that it knows, and commit the lockfile.",
    ),
    (
        r"NG8001: '(?P<name>[^'\n]{1,100})' is not a known element",
        "A template has the element {name}, which Angular does not know there. Import its component, or the module that"
        " has it, where the template belongs; and see that both were committed.",
    ),
    (
        r"(?:^|\s)(?P<name>[^\s(:]{1,200}):\d{1,6}:\d{1,6} - error NG\d{1,6}: |\[ERROR\] NG\d{1,6}: |error NG\d{1,6}: ",
        "Angular found errors{at}, and the build stops at them. Mend what the lines above name; `npx ng build` shows the"
        " same on your own machine.",
    ),
    (
        r"(?:^|\s)(?P<name>[^\s(:]{1,200})(?:\(\d+,\d+\)|:\d+:\d+)(?::| -) error (?:TS\d{3,5}: |ts\(\d{3,5}\): )"
        r"|^\.?/?(?P<name2>[^\s(:]{1,200}):\d+:\d+\s{1,5}Type error: |^Type error: |error TS\d{3,5}: |\[ERROR\] TS\d{3,5}: "
        r"|^TS\d{3,5}: ",
        "TypeScript found errors{at}, and the build stops at them. Mend them; or let the build not check (`vite build`"
        " in place of `tsc && vite"
        " build`, typescript.ignoreBuildErrors in next.config).",
    ),
    (
        r"ReferenceError[:\]] (?P<name>require|module|exports|__dirname|__filename) is not defined in ES module scope",
        'A file written for CommonJS ({name}) is run as an ES module, because package.json has "type": "module". Rename'
        " it to end in .cjs, or write it with import.",
    ),
    (
        r"ERROR: (?P<name>[A-Z][\w ()-]{1,60}?) is not available in the configured target environment"
        r"|ERROR: Transforming (?P<name2>[\w ()-]{1,60}?) to the configured target environment",
        "The code has what the browsers that it is built for do not know: {name}. Set build.target to 'es2022' or 'esnext'"
        " in vite.config, or write it otherwise.",
    ),
    (
        r"SyntaxError: (?:unknown|(?P<name>[^\s:]{1,300})): (?!Cannot find)[^\n]{1,300}\(\d{1,6}:\d{1,6}\)"  # Babel
        r"|^(?P<name2>[^\s:]{1,300}):\d{1,6}:\d{1,6}: ERROR: (?!No matching export|No loader|Could not|\[plugin)"  # esbuild
        r"|^(?P<name3>[^\s:]{1,300})\n {0,4}(?:Line \d{1,6}:(?:\d{1,6}:)? {1,4}|\d{1,6}:\d{1,6} {1,4}error {1,4})?"  # ESLint
        r"(?:Parsing|Syntax) error: (?!Cannot find|No Babel|\"parserOptions|ESLint was)"
        r"|^\[(?:vite-plugin-svelte|vite:vue)\](?: \[plugin [\w:-]{1,40}\])? (?P<name4>[^\s:(]{1,300}\.(?:svelte|vue))[ :]"
        r"|^\[vite:(?:vue|esbuild)\] [^\n]{1,300}\nfile: (?P<name5>[^\s:]{1,300})"
        r"|^Caused by:\n {1,8}Syntax Error"  # Next
        r"|CssSyntaxError: (?:[\w-]{1,30}: )?(?P<name6>[^\s:]{1,300}):\d{1,6}:\d{1,6}: (?!The `|Cannot apply)",
        "A source file cannot be read{at}: its syntax is wrong, or newer than the tool that reads it. Mend the place that"
        " the lines above show, or update the tool.",
    ),
    (
        r"(?:\[[\w-]{0,20}eslint[\w-]{0,20}\] Failed to load|^ESLint couldn't find the)"
        r" (?:config|plugin) [\"'](?P<name>[^\"'\n]{1,100})[\"']",
        "ESLint's {name} is not found: only what package.json names is sure to be. Add its package (eslint-config-… or"
        " eslint-plugin-…) to devDependencies, or let the build not lint (BUILD_ENV_DISABLE_ESLINT_PLUGIN=true for react-scripts).",
    ),
    (
        r"Client not configured properly\. Missing (?P<name>[\w, ]{1,60})\.",
        "Tina CMS wants its {name}, which tina/config takes from the environment. Set those variables (BUILD_ENV_… with the names"
        " that stand there).",
    ),
    (
        r"Need to disable some ESLint rules|\[eslint\] ?$|Search for the keywords to learn more about each error"
        r"|^\d{1,6}:\d{1,6}  Error: [^\n]{1,400}  [@\w/-]{1,60}$|Module Error \(from \S{1,200}/eslint-loader/",
        "ESLint's errors fail the build. Mend what it names; or let the build not lint (eslint.ignoreDuringBuilds in next.config,"
        " BUILD_ENV_DISABLE_ESLINT_PLUGIN=true for react-scripts).",
    ),
    (
        r"✖ \d+ problems? \([1-9]\d* errors?",
        "ESLint's errors fail the build. Mend what it names, or take eslint out of the build script, or its plugin out of the"
        " configuration.",
    ),
    (
        r"Error occurred prerendering page \"(?P<name>[^\"\n]{1,200})\"",
        "The page {name} is rendered during the build, and failed there. The lines above have the error of its code.",
    ),
    (
        r"Error: Docusaurus found broken (?P<name>links|anchors)!",
        "Docusaurus fails the build because pages have broken {name}. Mend those that the lines above name, or set"
        " onBrokenLinks and onBrokenAnchors to 'warn' in docusaurus.config.",
    ),
    (
        r"\d dead link\(s\) found\.",
        "VitePress fails the build because pages have dead links. Mend those that the lines above name, or set"
        " ignoreDeadLinks: true in .vitepress/config.",
    ),
    (
        r"MDX compilation failed for file \"?(?P<name>[^\s\"]{1,300})"
        r"|Could not parse (?:expression|import/exports) with acorn|Unexpected character `[^\n]{1,10}` \(U\+[0-9A-F]{4,6}\)",
        "A page of Markdown{at} cannot be read as MDX, where < and {{ begin code. Write such text in backticks, or with a"
        " backslash before it; the lines above show the place.",
    ),
    (
        r"The `(?P<name>[^`\n]{1,100})` class does not exist\. If `"
        r"|Cannot apply unknown utility class:? `?(?P<name2>[^\s`.]{1,100})",
        "@apply asks for a class that Tailwind does not know: {name}. Define it (in tailwind.config, with Tailwind 4 by"
        " @theme), mend its name, or install the version of Tailwind that the styles were written for.",
    ),
    (
        r"Task never defined: (?P<name>[\w:.-]{1,100})|Task '(?P<name2>[\w:.-]{1,100})' is not in your gulpfile"
        r"|Warning: Task \"(?P<name3>[\w:.-]{1,100})\" not found\.",
        "The gulpfile or Gruntfile has no task {name}. Let the build script call one that it has (`npx gulp --tasks` or"
        " `npx grunt --help` lists them), or add it.",
    ),
    (
        r"(?:\[ERR_REQUIRE_ESM\]: [^\n]{0,60}?ES Module:? |ERR_REQUIRE_ESM)"
        r"(?:\S{0,300}/node_modules/(?P<name>(?:@[\w.-]{1,100}/)?[\w.-]{1,100})|(?P<name2>/[^\s]{1,300}))?",
        "An ES module is loaded with require(){at}, which this Node does not allow. Set NODE_VERSION=22, whose Node does,"
        " or install the last version of the package that is CommonJS (chalk 4, del 6, node-fetch 2).",
    ),
    (
        r"node_modules/(?P<name>(?:@[\w.~-]{1,100}/)?[\w.~-]{1,100})/[^\n]{0,300}:\d{1,6}\n(?:[^\n]{0,500}\n){0,5}"
        r"SyntaxError: (?:Cannot use import statement outside a module|Unexpected token 'export')",
        "The package {name} is an ES module, and what renders the pages loads it as CommonJS. Have the framework build it,"
        " too (transpilePackages of Next, noExternal of Vite), or install a version that is CommonJS.",
    ),
    (
        r"SyntaxError: Cannot use import statement outside a module",
        'A file is written with import and run as CommonJS. Put "type": "module" into package.json, or rename it to end'
        " in .mjs; the lines above name it.",
    ),
    (
        r"^(?P<name>\.?/?[^\s:]{0,200}node_modules/[^\s:]{1,200})[^\n]{0,40}\nModule parse failed: "
        r"|^ERROR in (?P<name2>\.?/?[^\s:]{0,200}node_modules/[^\s:]{1,200})[^\n]{0,40}\nModule parse failed: ",
        "A package is written in newer JavaScript than this webpack reads: {name}. Install an older version of the"
        " package, or update webpack (with react-scripts to 5, with Vue CLI to 5).",
    ),
    (
        r"^(?:ERROR in )?(?P<name>\.?/?[^\s:!]{1,300})[^\n]{0,40}\nModule parse failed: [^\n]{1,300}\n"
        r"You may need an appropriate loader",
        "webpack has no loader for {name}, or its syntax is wrong. Mend the file, or name a loader for such files in the"
        " configuration of webpack.",
    ),
    (
        r"code EACCES|Error: EACCES: permission denied, \w+ '(?P<name>[^'\n]{1,200})'",
        "The build writes where it may not{at}. It can write to its own folder, HOME and TMPDIR.",
    ),
    (r"You are using Node\.js [\d.]+\. Vite requires Node\.js version", _NEWER_NODE),  # only a warning
    (
        r"ENOENT: no such file or directory, open '[^'\n]{0,300}?/(?P<name>\.env[\w.-]{0,50})'",
        "The build reads {name}, which is not in the repository. Let it take its settings from the environment (BUILD_ENV_…"
        " sets them), and do without the file.",
    ),
    # What may be but a warning of a build that goes on.
    (
        r"Attempted import error: (?P<name>'[^'\n]{1,200}' "
        r"(?:is not exported from '[^'\n]{1,200}'|does not contain a default export))"
        r"|(?P<name2>\"[^\"\n]{1,100}\" is not exported by \"[^\"\n]{1,300}\")"
        r"|(?P<name3>The requested module '[^'\n]{1,200}' does not provide an export named '[^'\n]{1,100}')"
        r"|(?P<name4>No matching export in \"[^\"\n]{1,200}\" for import \"[^\"\n]{1,100}\")"
        r"|(?P<name5>Export \w{1,100} doesn't exist in target module)",
        "An import asks for what its module does not have: {name}. Mend the import; or, where a newer version of a package"
        " has dropped it (react-router-dom 6 has no Switch), install the version that the code was written for, and commit"
        " the lockfile.",
    ),
    (
        r"^(?:Error: )?Unknown arguments?: (?:[\w-]{1,40}, ){0,5}(?P<name>prod)\b",
        "`ng build` has no --{name} since Angular 14, and builds for production without it. Take it out of the build"
        " script.",
    ),
    (
        r"(?:^|(?i:error)\]?:? {1,3})(?i:unknown (?:option|argument)s?):? {1,3}[`'\"]?(?P<name>-{0,2}[a-zA-Z][\w-]{0,40})"
        r"|^Invalid option '(?P<name2>--[\w-]{1,40})'",
        "The build calls a program with an option that its version does not know: {name}. Take the option out of the"
        " script, or install the version of the program that the script was written for.",
    ),
    # A line that many programs print and go on: below all else.
    (
        r"getaddrinfo (?:ENOTFOUND|EAI_AGAIN) (?P<name>(?!localhost)[\w-]{1,63}(?:\.[\w-]{1,63}){1,10})",
        "{name} cannot be reached from the machine that builds, and something that is installed or built here asks it. Let the"
        " task reach it, or do without what asks it.",
    ),
)
# What names a module that is not there, and mostly who asked for it.
_MISSING = tuple(
    re.compile(pattern, re.MULTILINE)
    for pattern in (
        # Vite, Rollup, Rolldown, esbuild, Parcel
        r"Could not resolve ['\"](?P<module>[^'\"\n]{1,200})['\"](?: (?:from|in) ['\"]?(?P<file>[^'\"\n]{1,300}?)['\"]?$)?",
        r"[Ff]ailed to resolve(?: import)? ['\"](?P<module>[^'\"\n]{1,200})['\"] from ['\"](?P<file>[^'\"\n]{1,300})['\"]",
        r"Could not resolve: ['\"](?P<module>[^'\"\n]{1,200})['\"](?:[^\n]{0,100}\n {1,8}at (?P<file>[^\s:]{1,300}))?",  # Bun
        r"(?:^[^\w\n/.]{0,8}(?P<file>[^\s:'\"]{1,300})(?::\d{1,6}:\d{1,6})?: )?"  # Parcel 1
        r"Cannot resolve dependency '(?P<module>[^'\n]{1,200})'",
        # react-scripts 2 to 5
        r"(?:^\.?/?(?P<file>[^\s:'\"]{1,300})\n)?Cannot find module: '(?P<module>[^'\n]{1,200})'\. Make sure this package is",
        r"Cannot find file:? '(?P<module>[^'\n]{1,200})' in '(?P<folder>[^'\n]{1,300})'\.",
        # Vue CLI 3 and later, Nuxt 2; what stands before the last ! are loaders
        r"(?:dependency was|dependencies were|relative module was|relative modules were) not found:\s{1,5}"
        r"\* (?P<module>[^\s]{1,200}) in (?:[^\s!]{0,300}!){0,30}(?P<file>[^\s!?,]{1,300})",
        r"Could not find module `(?P<module>[^`\n]{1,200})` imported from `(?P<file>[^`\n]{1,300})`",  # Ember
        r"Could not find the '(?P<module>@?[\w./-]{1,100}):[\w-]{1,40}' builder's node package",  # Angular
        r"Package \"(?P<module>[^\"\n]{1,200})\" not found\. Have you installed it\?",  # Snowpack
        r"Failed to find '(?P<module>[^'\n]{1,200})'\s{1,5}in \[",  # postcss-import
        # webpack names the folder that it was asked for in; Turbopack the file, in the line above
        r"Can't resolve ['\"](?P<module>[^'\"\n]{1,200})['\"] in ['\"](?P<folder>[^'\"\n]{1,300})['\"]",
        r"^(?P<file>[^\s:'\"]{1,300}):\d+:\d+\n(?:Error: )?Module not found: Can't resolve ['\"](?P<module>[^'\"\n]{1,200})['\"]",
        r"^(?P<file>[^\s:'\"]{1,300})(?::\d+:\d+)?\n{1,3}Module not found: [^\n]{0,40}"
        r"Can't resolve ['\"](?P<module>[^'\"\n]{1,200})['\"]",
        r"^(?P<file>[^\s(:'\"]{1,300})[(:]\d{1,6}[,:]\d{1,6}\)?(?::"
        r"| -) error TS2307: Cannot find module '(?P<module>[^'\n]{1,200})'",
        r"^(?P<file>[^\s(:'\"]{1,300}):\d+:\d+\nType error: Cannot find module '(?P<module>[^'\n]{1,200})'",
        # Node
        r"Cannot find (?:package|module) '(?P<module>[^'\n]{1,300})' imported from (?P<file>[^\s'\"]{1,300})",
        r"Cannot find module '(?P<module>[^'\n]{1,300})'(?:\s{1,5}Require stack:\s{1,5}- (?P<file>[^\s'\"]{1,300}))?",
    )
)
_MOST_ENTRIES = 10_000  # of a folder whose names are compared

# --- for failures that are not known ---
_LONGEST_QUOTE = 200  # characters
# What stands before what a line says: the time, or which task of several says it (gulp, concurrently, Turborepo, pnpm).
_TASK = re.compile(r"(?:\[\d\d:\d\d:\d\d\] |\[\d{1,2}\] |[\w@/.-]{1,80}[: ]build: )?")
# What looks like the reason: a line that begins as errors do, or has at least a word of theirs.
_ERROR = re.compile(
    r"[^\w\s]{0,4} ?(?:\[[^\]\n]{1,40}\][: ]{0,2}){0,2}(?:(?i:uncaught|unhandled)[ :]{1,2})?(?:[A-Z]\w{0,60}(?:Error|Exception)\b"
    r"|(?i:fatal error|error|fatal|panic|failed|cannot|can't|could not|couldn't|unable to)\b(?![-/\w]|\.\w)|ERR!)|[✘✖✗×⨯🚨❌]"
)
_WORD_OF_ERRORS = re.compile(
    r"\b(?:E[A-Z]{4,12}|(?i:errors?|failed|failure|cannot|can't|could not|couldn't|not found|no such|does not exist|is not"
    r"|unexpected|invalid|missing|denied|unknown|undefined|unresolved))\b(?![-/\w]|\.\w)"
)
# A line that tells that there is an error, and leaves to the next what it is; and one that tells only where.
_HEADING = re.compile(
    r"(?:x |\W{0,6})(?:\[[^\]\n]{1,40}\]:? ){0,2}(?:error:? )?(?:error during build|build error(?: occurred)?|errors?|failed"
    r"|(?:failed to compile|(?:the )?build failed|transform failed|(?:webpack [\d.]{1,20} )?compiled)"
    r"(?: in [\d.]{1,9} ?m?s| because of webpack errors| with \d{1,5} errors?| \d\d?:\d\d:\d\d [AP]M| in \d{1,9} ms){0,2}"
    r"|module build failed(?: \(from [^)\n]{1,200}\))?|failed to load config from \S{1,300}"
    r"|there was an error [a-z ]{1,40}|unable to build website for locale \w{1,20}"
    r")[.:!]{0,3}",
    re.IGNORECASE,
)
_PLACE = re.compile(r"(?:ERROR in )?[^\s:'\"]{1,200}\.\w{1,10}(?:[: (]\d[\d:, )-]{0,20})?:?")
# What is no reason: that a command failed, as package managers and their like say; warnings, files and their sizes, stacks,
# and excerpts of code.
_NO_REASON = re.compile(
    r"npm (?:ERR!|error) ?(?:(?:code|errno|path|command|workspace|location|syscall|spawn|file|signal)\b|Lifecycle script"
    r"|Exit status|Failed at the|This is probably not|There is likely|A complete log|\S{1,200} \w{1,40}: `|$)"
    r"|npm (?:warn|WARN|notice|info|verb|timing)\b"
    r"|[^\n]{0,100}(?:ELIFECYCLE|ERR_PNPM_RECURSIVE_RUN|exited \(\d|run failed: command|command finished with error"
    r"|\bExit status \d|(?i:command failed with exit|error command failed|exited with (?:exit )?code))"
    r"|error: script \"|lerna (?:ERR!|info)|info Visit |make: \*\*\*|Node\.js v\d|Running target|Failed tasks:"
    r"|(?:file://)?/[^\s:]{1,999}:\d{1,6}$|[>$^] |at |\^|node:|throw |errno: |code: |syscall: |\d{1,6}(?: ?[|│]|: )|[|│╷╵├└✓✔]"
    r"|\W{1,200}$"
    r"|[^\n]{0,40}\b(?i:warn|warnings?|deprecationwarning)\b|[^\n]{0,100}\b(?:0|no) errors?\b"
    r"|[^\n]{0,300}\.(?:[cm]?js|css|html|map|json|svg|png|jpe?g|webp|woff2?)\b[^\n]{0,60}\d ?[kKM]?i?B\b"
)


def find_hint(
    output: str, *, command: str = "npm run build", folder: Path | None = None, memory: int | None = None
) -> str | None:
    """Find what to do about a failure.

    Args:
        output: the end of what the command printed; colours in it do not matter.
        command: as a person would type it.
        folder: in which it ran; a file that is imported with other capitals than it has is looked for there, and names of
            files are shown from there on.
        memory: bytes that the container may use, where that is limited.

    """
    text = without_colour(output)  # npm colours the words of one error differently
    if re.search(r"heap out of memory|Ineffective mark-compacts near heap limit|reaching memory limit: JS heap", text):
        return _heap_hint(text, memory)
    return (
        _first_of(_COMPILED, text, command, folder)
        or _missing_module(text, folder)
        or _first_of(_COMPILED_OF_CODE, text, command, folder)
    )


def quote_failure(output: str, *, folder: Path | None = None) -> str | None:
    """Quote what looks most like the reason of a failure that is not known, in a sentence; None where nothing was said.

    The quote is one line of at most 200 characters, without colours and control characters.

    Args:
        output: the end of what the command printed.
        folder: of the repository; names of files are shown from there on.

    """
    text = without_colour(output)
    if folder:
        text = text.replace(f"{folder}/", "")
    lines = [" ".join(clean(line[:1000]).split()) for line in text.split("\n")]
    lines = [_TASK.sub("", line, count=1) for line in lines]
    lines = [line for line in lines if line and not _NO_REASON.match(line)]
    for looks_like_it in (_begins_as_error, _HEADING.fullmatch, _WORD_OF_ERRORS.search):
        for position, line in enumerate(lines):
            if looks_like_it(line) and (quote := _with_what_follows(lines[position : position + 4])):
                return f"The build says: {quote}"
    return f"The last line of the build is: {_quoted(lines[-1])}" if lines else None


def _begins_as_error(line: str) -> bool:
    return bool(_ERROR.match(line)) and not _HEADING.fullmatch(line)


def _with_what_follows(lines: Sequence[str]) -> str | None:
    """Quote the first line, with the next while it is but a heading or a place; None where there is nothing else."""
    said: list[str] = []
    for line in lines:
        if _HEADING.fullmatch(line):
            continue
        said.append(line.rstrip(": "))
        if not line.endswith(":") and not _PLACE.fullmatch(line):
            break
    return _quoted(": ".join(said)) if said else None


def _quoted(text: str) -> str:
    if len(text) > _LONGEST_QUOTE:
        text = f"{text[: _LONGEST_QUOTE - 1].rstrip()}…"
    return f"“{text}”{'' if text.endswith(('.', '!', '?', '…')) else '.'}"


def _compiled(table: _Table) -> list[tuple[list[re.Pattern[str]], str]]:
    return [
        (
            [re.compile(pattern, re.MULTILINE) for pattern in ((patterns,) if isinstance(patterns, str) else patterns)],
            hint,
        )
        for patterns, hint in table
    ]


_COMPILED, _COMPILED_OF_CODE = _compiled(_HINTS), _compiled(_HINTS_OF_CODE)


def _first_of(
    table: Sequence[tuple[list[re.Pattern[str]], str]], text: str, command: str, folder: Path | None
) -> str | None:
    for patterns, hint in table:
        found = [match for pattern in patterns if (match := pattern.search(text))]
        if len(found) == len(patterns):
            name = next((value for match in found for value in match.groups() if value), "")
            name = re.sub("%2[fF]", "/", name).removeprefix(f"{folder}/").removeprefix("./")
            if name or "{name}" not in hint:
                return hint.format(name=name, at=f" ({name})" if name else "", command=command)
    return None


def _heap_hint(text: str, memory: int | None) -> str:
    """Explain that Node's heap was too small, by what it was allowed and what there is."""
    if memory is None:
        return (
            "The build needs more memory than Node may use. Set BUILD_ENV_NODE_OPTIONS=--max-old-space-size=… (in MB,"
            " such as 4096),"
            " or give the task more memory."
        )
    allowed = heap_megabytes(memory)
    # What was left after the last collection: "Mark-Compact 1461.2 (1474.4) -> 1460.9 (1475.1) MB".
    left = re.findall(r"(?:Mark-|Scavenge)[^\n]{0,60}?\) -> (\d{1,6})\.\d", text)
    if left and int(left[-1]) < allowed * 3 // 4:
        return (
            f"Node may use less memory here than the task could give it ({allowed} MB). Take --max-old-space-size out of"
            f" the build script"
            " and of BUILD_ENV_NODE_OPTIONS, or raise it there."
        )
    return (
        f"The build needs more memory than there is: the task has {memory // 2**20} MB, of which Node may use {allowed}. Give the"
        " task more memory, or make the build use less: no source maps, fewer packages."
    )


def _missing_module(text: str, folder: Path | None) -> str | None:
    match = next((match for pattern in _MISSING if (match := pattern.search(text))), None)
    if match is None:
        return None
    groups = match.groupdict()
    module, importer = groups["module"], groups.get("file") or groups.get("folder") or ""
    module = re.sub(r"[?#].*", "", module) or module
    if re.match(r"node:|virtual:|https?:|data:|\0", module):
        return None
    top = f"{folder}/"
    by = f" ({importer.removeprefix(top).removeprefix('./')})" if importer else ""
    if not re.match(r"[./~$#]|@/|src/", module):
        name = "/".join(module.split("/")[: 2 if module.startswith("@") else 1])
        return (
            f"A package is imported{by} that is not installed: {name}. Add it with `npm install {name}`, or what your"
            f" package manager"
            " has for that, and commit package.json and the lockfile."
        )
    if folder:
        place = importer if groups.get("folder") else os.path.dirname(importer)
        for path in _local_paths(module, place, folder):
            actual = _find_any_case(folder, path)
            if actual and f"{actual}.".startswith(f"{path}."):
                return None  # it is there, so something else is wrong with it
            if actual:
                return (
                    f"A file is imported{by} as {module}, and its name is {actual}: Linux tells capitals apart. Mend the import, or"
                    " rename the file with `git mv`."
                )
    return (
        f"A file is imported{by} that is not in the repository: {module.removeprefix(top)}. Commit it (does .gitignore"
        f" leave it out?), and"
        " look at the capitals of its name, which Linux tells apart."
    )


def _local_paths(module: str, place: str, folder: Path) -> list[str]:
    """Give where a file may be that is imported as `module` from the folder `place`, relative to `folder`."""
    top = f"{folder}/"
    if module.startswith(top):
        paths = [module.removeprefix(top)]
    elif module.startswith("."):
        paths = [os.path.join(place.removeprefix(top) if place != str(folder) else "", module)]
    elif module.startswith("/"):
        paths = [module[1:], f"public{module}"]
    else:
        name = re.sub(r"^(?:[@~$#]/?|src/|\$?lib/)", "", module)
        paths = [f"{below}{name}" for below in ("src/", "", "app/", "src/lib/")]
    return [os.path.normpath(path) for path in paths]


def _find_any_case(folder: Path, path: str) -> str | None:
    """Find `path` below `folder`, with or without its suffix and with whatever capitals.

    The path is from a log, so a hostile one: no link is followed, and .. is the name of no entry.
    """
    found: list[str] = []
    opened: list[int] = []
    try:
        opened.append(os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC))
        parts = path.split("/")
        for position, part in enumerate(parts):
            last = position == len(parts) - 1
            with os.scandir(opened[-1]) as entries:
                names = [entry.name for entry in islice(entries, _MOST_ENTRIES)]
            same = [
                n for n in names if n.lower() == part.lower() or (last and n.lower().startswith(f"{part.lower()}."))
            ]
            if not same:
                return None
            # The one that is written alike first.
            found.append(min(same, key=lambda name: (not name.startswith(part), name)))
            if not last:
                flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
                opened.append(os.open(found[-1], flags, dir_fd=opened[-1]))
        return "/".join(found)
    except OSError:
        return None
    finally:
        for descriptor in opened:
            os.close(descriptor)
