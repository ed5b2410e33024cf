"""Packages with native code, and packages that download a program when they are installed."""

from __future__ import annotations

import re

from buildrunner.diagnose.rule import FailedCommand, Rule


def _node_sass(failed: FailedCommand, _: str) -> str:
    replace = f"Replace node-sass with sass: remove it from package.json and run `{failed.words['add_dev']} sass`."
    if failed.node_major and failed.node_major <= 16:
        return f"node-sass is abandoned, and has no build for Node {failed.node}. {replace}"
    return f"node-sass is abandoned, and works only with old Node versions. {replace} Or set NODE_VERSION=16."


def _image_tool(_: FailedCommand, name: str) -> str:
    plugin = {"cwebp": "webp", "cjpeg": "mozjpeg"}.get(name, name)
    return (
        f"The image tool {name} has no binary for this machine, and cannot be compiled here. Optimize the images with sharp"
        f" instead, and remove imagemin-{plugin}, which brings it, from package.json."
    )


def _native_compilation(failed: FailedCommand, _: str) -> str:
    package = re.search(
        r"(?:npm (?:error|ERR!) path|gyp ERR! cwd|Directory:) \S{1,300}/node_modules/(?P<name>(?:@[\w.-]{1,100}/)?[\w.-]{1,100})",
        failed.text,
    )
    what = package["name"] if package else "A package with native code"
    lacks = next(
        (
            program
            for program, said in (
                ("Python", r"gyp ERR! find Python|Can't find Python executable"),
                ("make", r"gyp ERR! stack Error: not found: make"),
                ("C++ compiler", r"(?:g\+\+|c\+\+|gcc|cc): (?:not found|No such file|command not found)"),
            )
            if re.search(said, failed.text)
        ),
        "Python, make or compiler",
    )
    node = f"Node {failed.node_major}" if failed.node_major else "this Node"
    return (
        f"{what} has to be compiled for {node}, and the machine has no suitable {lacks}. Install a version of the package that"
        " comes compiled, or set NODE_VERSION to one that it has binaries for. Or use an image with Python, make and g++."
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "canvas-libraries-missing",
        r"Package '?(?P<name>pixman-1|cairo|pangocairo|libpng|librsvg-2\.0)'?,? (?:was not found|required by)",
        "canvas has to be compiled, and the library {name} is missing. Update canvas to version 3, which comes compiled:"
        " `{add} canvas@3`. Or use @napi-rs/canvas.",
    ),
    Rule(
        "image-tool-missing",
        r"(?P<name>pngquant|optipng|gifsicle|cwebp|mozjpeg|jpegtran|cjpeg)(?:-bin)? (?:failed to build|pre-build test failed)"
        r"|spawn [^\n]{0,300}/(?P<name2>pngquant|optipng|gifsicle|cwebp|cjpeg|jpegtran)(?:-bin)?/vendor/[^\n]{0,100} ENOENT",
        _image_tool,
    ),
    Rule(
        "playwright-download",
        r"Failed to download [^\n]{0,80}\(playwright (?:build )?|Failed to install browsers|playwright install[^\n]{0,200}\n"
        r"[\s\S]{0,2000}Error: (?:read|connect|getaddrinfo) E",
        "Playwright could not download a browser. If only tests need it, set INSTALL_ENV_PLAYWRIGHT_SKIP_BROWSER_DOWNLOAD=1 and"
        " remove `playwright install` from the install scripts.",
    ),
    Rule(
        "electron-download",
        r"node_modules/electron/install\.js|electron[^\n]{0,40}postinstall: [^\n]{0,80}(?:RequestError|HTTPError)",
        "Electron could not download its program. A web build does not need it: set INSTALL_ENV_ELECTRON_SKIP_BINARY_DOWNLOAD=1.",
    ),
    Rule(
        "chromedriver-download",
        r"ChromeDriver installation failed|[Cc]hromedriver[^\n]{0,100}(?:getaddrinfo|ECONN|ETIMEDOUT|40[34])",
        "chromedriver could not download its program. A build does not need it: set INSTALL_ENV_CHROMEDRIVER_SKIP_DOWNLOAD=true.",
    ),
    Rule(
        "sentry-cli-download",
        r"\[sentry-cli\][^\n]{0,100}(?:Unable to download|error)|Unable to download sentry-cli binary",
        "sentry-cli could not download its program. Set INSTALL_ENV_SENTRYCLI_SKIP_DOWNLOAD=1 if nothing is sent to Sentry.",
    ),
    Rule(
        "node-sass",
        r"Node Sass does not yet support your current environment|Node Sass version \S{1,20} is incompatible with"
        r"|node_modules/node-sass|node-sass@[\d.]+ (?:post)?install",
        _node_sass,
    ),
    Rule(
        "puppeteer-download",
        r"Set \"PUPPETEER_SKIP_(?:CHROMIUM_)?DOWNLOAD\"|(?:ERROR|Error): Failed to (?:set up|download) [cC]hrom",
        "Puppeteer could not download a browser. If only tests need it, set INSTALL_ENV_PUPPETEER_SKIP_DOWNLOAD=true.",
    ),
    Rule(
        "cypress-download",
        r"The Cypress App could not be downloaded|The Cypress binary is missing",
        "Cypress could not download its program. Builds do not need it: set INSTALL_ENV_CYPRESS_INSTALL_BINARY=0.",
    ),
    Rule(
        "browser-missing",
        r"Could not find (?:Chrome|Chromium|browser revision)|Failed to launch (?:the browser process|chrome)"
        r"|browserType\.launch: Executable doesn't exist|error while loading shared libraries: lib(?:nss3|atk|gbm|glib)",
        "The build starts a browser, and none is installed. Prerender without a browser, or use an image that has one, which"
        " Puppeteer finds by BUILD_ENV_PUPPETEER_EXECUTABLE_PATH.",
    ),
    Rule(
        "native-download-unreachable",
        r"(?:prebuild-install (?:warn|WARN) install|sharp: Installation error:"
        r"|node-pre-gyp (?:WARN|ERR!)[^\n]{0,120}?|gyp ERR![^\n]{0,120}?)"
        r" (?:getaddrinfo (?:ENOTFOUND|EAI_AGAIN)|connect E[A-Z]{3,20}) (?P<name>[\w.:-]{1,100})",
        "A package downloads its native part from {name}, which the build cannot reach. Allow the task to reach"
        " it, or update the package to a version whose native part comes from the registry (sharp 0.33 and later).",
    ),
    Rule(
        "node-headers-unreachable",
        r"gyp ERR! stack is related to network connectivity",
        "A package with native code has to be compiled, and Node's headers cannot be downloaded from nodejs.org."
        " Allow the task to reach it, or use a version of the package that comes compiled for this Node.",
    ),
    Rule(
        "native-compilation",
        r"gyp ERR!",
        _native_compilation,
    ),
    Rule(
        "sharp-binary-missing",
        r"Something went wrong installing the \"sharp\" module|Could not load the \"sharp\" module|sharp: Installation error",
        "sharp's native part for Linux is not installed. Remove node_modules and the lockfile, run `{install}`,"
        " and commit the lockfile.",
    ),
    Rule(
        "native-binary-missing",
        r"Cannot find module '?@(?:rollup|esbuild|swc|parcel|img|tailwindcss|next|oxc-\w+|rolldown|unrs|biomejs)/[\w-]{1,50}"
        r"(?:linux|gnu|musl)|Cannot find module '[^'\n]{0,60}lightningcss\.linux[^'\n]{0,30}'"
        r"|package \"@esbuild/linux-\w+\" could not be found|You installed esbuild (?:for another platform|on another platform)"
        r"|Cannot find native binding|Failed to load SWC binary for linux|Host version \"[\d.]+\" does not match binary version",
        "A tool's native part for Linux is not installed: the lockfile was written on another system. Remove"
        " node_modules and the lockfile, run `{install}`, and commit the lockfile.",
    ),
)
