"""List failures of installs with their original output, and the advice of their hints."""
# ruff: noqa: E501 - lines of logs are as long as they are

from __future__ import annotations

import json
from typing import Any

from buildrunner.project.package_managers.detect import detect_manager
from support.advice import Project, Proof, config, installed, lock, package

INSTALL: dict[str, Any] = {"stage": "install"}
LOCKFILE = {"lockfile": "package-lock.json"}
PNPM = {**INSTALL, "manager": "pnpm"}
YARN = {**INSTALL, "manager": "yarn"}
BUN = {**INSTALL, "manager": "bun"}
LINKED = {
    "package.json": package(dependencies={"dep": "link:dep"}),
    "dep/package.json": json.dumps({"name": "dep", "version": "1.0.0"}),
}
IDENTITY = "git config user.email a@b; git config user.name a"
# A manager that installs from its lockfile: `install` writes the lockfile, other commands only compare it.
MANAGER = 'if [ "$*" = install ]; then cp package.json {0}; else cmp -s package.json {0}; fi'
REPOSITORY = f"git init -q && {IDENTITY} && git commit -qm 1 --allow-empty"
HISTORY = {"full": "--unshallow --tags"}
CONFLICT = (
    f"git init -q && {IDENTITY} && echo 1 >bun.lock && git add . && git commit -qm 1"
    " && printf '<<<<<<< HEAD\\n1\\n=======\\n2\\n>>>>>>> x\\n' >bun.lock && git commit -qam 2"
)
# Says of itself that it is the line of NODE_VERSION, before npm looks.
NODE_LINE = (
    "const n = process.env.NODE_VERSION; n && Object.defineProperty(process, 'version', {value: `v${n}.99.0`})\n"
)


def name_manager(project: Project, field: str, name: str, version: str = "9.15.9") -> None:
    """Name a manager in package.json, which buildrunner then uses."""
    project.write("package.json", json.dumps({**project.manifest, field: f"{name}@{version}"}))
    manager, *_ = detect_manager(project.folder, project.folder)
    assert (manager.name, manager.version) == (name, version)
    project.variables["npm_config_user_agent"] = f"{manager.name}/{manager.version}"


def run_inside(project: Project, *commands: str) -> None:
    for command in commands:
        project.follow(command)


def add_programs(project: Project, said: str) -> None:
    """Add programs as in an image."""
    for name in said.replace(" and ", ", ").split(", "):
        program = {"Python": "python3"}.get(name, name)
        project.write(f"image/{program}", "#!/bin/sh\n")
        (project.folder / "image" / program).chmod(0o755)


PROOFS: tuple[Proof, ...] = (
    # --- the machine ---
    Proof(
        "too-many-processes",  # Next 15
        "uncaughtException [Error: spawn /usr/bin/node EAGAIN] {\n  errno: -11,\n  code: 'EAGAIN',\n",
        config("next.config.js", "c.experimental.cpus <= 2"),
        r"fewer parallel workers \((\w+)\.(\w+) = (\d) in (next\.config),",
        lambda p, group, name, value, file: p.configure(f"{group}: {{ {name}: {value} }}", file),
        {"next.config.js": "module.exports = {}\n"},
    ),
    Proof(
        "too-many-processes",
        "Error: spawn /usr/bin/node EAGAIN\n",
        '[ "$GATSBY_CPU_COUNT" -le 2 ]',
        r"(BUILD_ENV_GATSBY_CPU_COUNT)=(\d)",
        Project.set,
    ),
    Proof(
        "out-of-memory",  # react-scripts 5
        "The build failed because the process exited too early. This probably means the system ran out of memory.\n",
        '[ "$GENERATE_SOURCEMAP" = false ]',
        r"no source maps \((\w+)=(\w+) for react-scripts\)",
        Project.set,
    ),
    # --- the repository ---
    Proof(
        "git-history-missing",
        "",
        "",
        r"or use `(.+?)`",
        lambda p, command: p.change_script("git describe", command),
        script="git describe",
        setup=REPOSITORY,
    ),
    Proof(
        "git-history-missing",
        "",
        "",
        r"Push the tags with `(.+?)`",
        lambda p, command: p.follow(f"cd clone && {command}"),
        script="git describe",
        setup=f"{REPOSITORY} && git clone -q . clone && cd clone && {IDENTITY} && git tag -am 1 v1",
    ),
    Proof(
        "git-history-missing",
        "",
        "",
        r"Set (GIT_HISTORY)=(full)\.",
        lambda p, name, value: (p.set(name, value), p.follow(f"git fetch -q {HISTORY[value]}")),
        script="git describe",
        setup=f"mkdir up && cd up && {REPOSITORY} && git tag -am 1 v1 && git commit -qm 2 --allow-empty"
        " && cd .. && git clone -q --depth 1 file://$PWD/up shallow && mv shallow/.git .",
    ),
    # --- lockfiles and managers ---
    Proof(
        "lockfile-conflict-markers",  # Bun 1.2
        "error: Unexpected <<\n    at bun.lock:1:1\nInvalidLockfile: failed to parse lockfile: 'bun.lock'\n",
        "! grep -q '<<<' bun.lock",
        r"\(`(.+?)`\), run `(.+?)`, and",
        run_inside,
        {"package.json": package()},
        script="bun install --frozen-lockfile",
        known=BUN,
        setup=CONFLICT,
    ),
    Proof(
        "wrong-package-manager",  # only-allow 1
        'Use "pnpm install" for installation in this project.\n\nIf you don\'t have pnpm, install it via "npm i -g pnpm".\n',
        'case "$npm_config_user_agent" in pnpm/*) ;; *) false ;; esac',
        r'in package\.json: "(\w+)": "(\w+)@…"',
        name_manager,
        {"package.json": package()},
        script="only-allow pnpm",
        known=INSTALL,
    ),
    Proof(
        "invalid-package-version",
        "",
        "",
        r"not valid \((.+)\)\. Fix it, run `(.+)`, and",
        lambda p, wrong, command: (p.edit("package.json", wrong, "file:dep"), p.follow(f"{command} --offline")),
        {"package.json": package(dependencies={"dep": "not a version!"}), "dep/package.json": "{}"},
        script="npm install --offline",
        known=INSTALL,
    ),
    Proof(
        "invalid-package-version",
        "",
        "",
        r"not valid \((.+)\)\. Fix it",
        lambda p, wrong: p.edit("package.json", wrong, "dep"),
        {"package.json": package(dependencies={"d ep": "file:dep"}), "dep/package.json": "{}"},
        script="npm install --offline",
        known=INSTALL,
    ),
    Proof(
        "patch-not-applicable",  # patch-package 8
        "**ERROR** Failed to apply patch for package dep at path\n\n    node_modules/dep\n",
        "cmp patches/dep.patch node_modules/dep/package.json",
        r"Recreate it \(`(.+?)`\)",
        run_inside,
        {
            "node_modules/dep/package.json": '{"version": "2.0.0"}',
            "patches/dep.patch": '{"version": "1.0.0"}',
            "bin/npx": '#!/bin/sh\n[ "$1" = patch-package ] && cp node_modules/$2/package.json patches/$2.patch\n',
        },
        script="patch-package",
        known=INSTALL,
    ),
    Proof(
        "patch-not-applicable",  # pnpm 10
        " ERR_PNPM_PATCH_FAILED  Could not apply patch /x/patches/dep.patch to /x/node_modules/dep\n",
        '[ "$*" = install ] && test -e patched',
        r"Recreate it \(`(.+?)`\)",
        run_inside,
        {"bin/pnpm": '#!/bin/sh\n[ "$*" = "patch dep" ] && touch patched\n'},
        script="manager install",
        known=PNPM,
    ),
    Proof(
        "ssl-or-proxy-refused",  # npm 8
        "npm ERR! code ECONNREFUSED\nnpm ERR! tunneling socket could not be established, cause=connect ECONNREFUSED 127.0.0.1:9\n",
        'case ",$NO_PROXY," in *,registry.example,*) ;; *) false ;; esac',
        r"Check HTTPS_PROXY, HTTP_PROXY and (\w+) of the machine that builds",
        lambda p, name: p.variables.update({name: "registry.example"}),
        script="npm ci",
        known=INSTALL,
        variables={"HTTPS_PROXY": "http://127.0.0.1:9"},
    ),
    Proof(
        "pnpm-lockfile-out-of-date",
        "",
        "",
        r"Run `(.+)` and commit pnpm-lock\.yaml",
        run_inside,
        {**LINKED, "pnpm-lock.yaml": "lockfileVersion: '9.0'\n\nimporters:\n\n  .: {}\n"},
        script="pnpm install --frozen-lockfile",
        known=PNPM,
    ),
    Proof(
        "pnpm-lockfile-missing",
        "",
        "",
        r"Run `(.+)` and commit",
        run_inside,
        LINKED,
        script="pnpm install --frozen-lockfile",
        known=PNPM,
    ),
    Proof(
        "pnpm-lockfile-unreadable",
        "",
        "",
        r"Or run `(.+)` and commit pnpm-lock\.yaml",
        run_inside,
        {**LINKED, "pnpm-lock.yaml": "lockfileVersion: '5.4'\n"},
        script="pnpm install --frozen-lockfile",
        known=PNPM,
    ),
    Proof(
        "pnpm-lockfile-unreadable",
        " ERR_PNPM_LOCKFILE_BREAKING_CHANGE  Lockfile /x/pnpm-lock.yaml not compatible with current pnpm\n",
        'case "$npm_config_user_agent" in pnpm/9*) ;; *) false ;; esac',
        r'such as "(\w+)": "(\w+)@([\d.]+)"',
        name_manager,
        {"package.json": package(), "pnpm-lock.yaml": "lockfileVersion: '9.0'\n"},
        script="pnpm install --frozen-lockfile",
        known=PNPM,
    ),
    Proof(
        "yarn-lockfile-out-of-date",
        "",
        "",
        r"Run `(.+)` and commit yarn\.lock",
        run_inside,
        {**LINKED, "package.json": package(dependencies={"dep": "file:dep"}), "yarn.lock": "# yarn lockfile v1\n"},
        script="yarn install --frozen-lockfile",
        known=YARN,
    ),
    Proof(
        "bun-lockfile-out-of-date",  # Bun 1.2
        "error: lockfile had changes, but lockfile is frozen\nnote: try re-running without --frozen-lockfile\n",
        MANAGER.format("bun.lock"),
        r"Run `(.+)` and commit bun\.lock",
        run_inside,
        {"package.json": package(), "bun.lock": ""},
        script="bun install --frozen-lockfile",
        known=BUN,
    ),
    Proof(
        "pnpm-ignored-builds",  # pnpm 11
        "ERR_PNPM_IGNORED_BUILDS  Ignored build scripts: esbuild@0.27.4\n",
        'if [ "$1" = approve-builds ]; then echo esbuild >pnpm-workspace.yaml; else grep esbuild pnpm-workspace.yaml; fi',
        r"Run `(.+)`, choose those",
        run_inside,
        script="pnpm install --frozen-lockfile",
        known=PNPM,
    ),
    Proof(
        "git-dependency-over-ssh",
        "",
        "",
        r"use its (https://) address in (package\.json) and",
        lambda p, scheme, file: p.edit(file, "ssh://git@", scheme),
        {"package.json": package(dependencies={"dep": "git+ssh://git@git.example/dep.git"})},
        script=(
            "git ls-remote $(sed -n 's/.*git+\\([^\"]*\\).*/\\1/p' package.json)"  # as npm asks
        ),
        known=INSTALL,
        variables={
            "GIT_SSH": "ssh",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "url.file:///x/.insteadOf",  # the public host
            "GIT_CONFIG_VALUE_0": "https://git.example/",
        },
        setup="mkdir bin; git init -q --bare dep.git; for i in git sed; do ln -s $(command -v $i) bin/; done",
        path="{0}/bin",  # an image without ssh
    ),
    # --- native code ---
    Proof(
        "canvas-libraries-missing",  # canvas 2
        "npm error Package pixman-1 was not found in the pkg-config search path.\n",
        installed("canvas", "3."),
        r"comes compiled: `(.+?)`",
        Project.add,
        {"node_modules/canvas/package.json": '{"version": "2.11.2"}'},
        script="npm rebuild",
        known=INSTALL,
    ),
    Proof(
        "image-tool-missing",  # pngquant-bin 6
        "  ‼ spawn /x/node_modules/pngquant-bin/vendor/pngquant ENOENT\n  ‼ pngquant pre-build test failed\n",
        "! grep pngquant package.json",
        r"remove (\S+), which depends on it, from package\.json",
        Project.remove,
        {"package.json": package(devDependencies={"imagemin-pngquant": "9"})},
        script="npm rebuild",
        known=INSTALL,
    ),
    Proof(
        "node-sass",  # node-sass 4
        "Error: Node Sass does not yet support your current environment: Linux 64-bit with Unsupported runtime\n",
        "! grep node-sass package.json && " + installed("sass"),
        r"Replace (\S+) with sass: remove it from package\.json and run `(.+)`",
        lambda p, old, command: (p.remove(old), p.add(command)),
        {"package.json": package(devDependencies={"node-sass": "4"})},
    ),
    Proof(
        "node-sass",
        "Error: Node Sass does not yet support your current environment: Linux 64-bit with Unsupported runtime\n",
        '[ "$NODE_VERSION" -le 16 ]',
        r"Or set (NODE_VERSION)=(\d+)",
        Project.set,
    ),
    Proof(
        "browser-missing",  # Puppeteer 22
        "Error: Could not find Chrome (ver. 127.0.6533.88). This can occur if either\n 1. you did not perform an installation\n",
        'test -x "$PUPPETEER_EXECUTABLE_PATH"',
        r"use an image that has one, .* (BUILD_ENV_\w+)",
        lambda p, name: p.set(name, "/bin/sh"),
    ),
    Proof(
        "native-download-unreachable",  # sharp 0.32
        "npm error prebuild-install warn install getaddrinfo ENOTFOUND github.com\nnpm error gyp ERR! configure error\n",
        installed("sharp", "0.33"),
        r"comes from the registry \((\w+) ([\d.]+) and later\)",
        lambda p, name, version: p.add(f"npm install {name}@{version}"),
        {"node_modules/sharp/package.json": '{"version": "0.32.6"}'},
        script="npm rebuild",
        known=INSTALL,
    ),
    Proof(
        "git-dependency-unreachable",  # npm 11
        "npm error code ENOTFOUND\nnpm error network request to https://codeload.github.com/a/b/tar.gz/1f failed, "
        "reason: getaddrinfo ENOTFOUND codeload.github.com\n",
        '[ "$REACHABLE" = codeload.github.com ]',
        r"fetched from ([\w.]+)/\S+, which the build cannot reach\. Allow builds to reach it",
        lambda p, host: p.variables.update({"REACHABLE": host}),
        script="npm ci",
        known=INSTALL,
    ),
    Proof(
        "node-headers-unreachable",  # node-gyp 8
        "npm error gyp ERR! configure error\nnpm error gyp ERR! stack is related to network connectivity. In most cases you are behind a proxy\n",
        '[ "$REACHABLE" = nodejs.org ]',
        r"downloaded from (\S+)\. Allow builds to reach it",
        lambda p, host: p.variables.update({"REACHABLE": host}),
        script="npm rebuild",
        known=INSTALL,
    ),
    Proof(
        "native-compilation",  # npm 10, better-sqlite3 11
        "npm error path /x/node_modules/better-sqlite3\nnpm error gyp ERR! build error\nnpm error gyp ERR! stack Error: not found: make\n",
        "test -x image/python3 && test -x image/make && test -x image/g++",
        r"no suitable make\. .* use an image with (.+)\.",
        add_programs,
        script="npm rebuild",
        known=INSTALL,
    ),
    Proof(
        "native-compilation",
        "npm error path /x/node_modules/better-sqlite3\nnpm error gyp ERR! find Python Python is not set from command line\n",
        '[ "$NODE_VERSION" = 18 ]',  # for which it has binaries
        r"no suitable Python\. .* set (NODE_VERSION) to a version",
        lambda p, name: p.set(name, "18"),
        script="npm rebuild",
        known=INSTALL,
    ),
    Proof(
        "sharp-binary-missing",  # sharp 0.34
        'Error: Could not load the "sharp" module using the linux-x64 runtime\nPossible solutions:\n',
        "test -e node_modules/@img/sharp-linux-x64",
        r"Remove (node_modules) and the (lockfile), run `(.+)`, and commit",
        lambda p, folder, what, command: run_inside(p, f"rm -r {folder} {LOCKFILE[what]}", command),
        {
            "node_modules/@img/sharp-darwin-arm64/package.json": "{}",
            "package-lock.json": "sharp-darwin-arm64",
            "bin/npm": '#!/bin/sh\n[ "$*" = install ] || exit 1\n'
            "[ -e package-lock.json ] || echo sharp-linux-x64 >package-lock.json\n"
            "mkdir -p node_modules/@img/$(cat package-lock.json)\n",
        },
    ),
    Proof(
        "native-module-of-another-node",
        "Error: The module '/x/better_sqlite3.node'\nwas compiled against a different Node.js version using\nNODE_MODULE_VERSION 115. This version of Node.js requires\nNODE_MODULE_VERSION 127.\n",
        '[ -z "$(git ls-files node_modules)" ]',
        r"run `(git rm .+?)`",
        run_inside,
        {"node_modules/x/x.node": ""},
        setup=f"git init -q && {IDENTITY} && git add node_modules && git commit -qm 1",
    ),
    Proof(
        "native-module-of-another-node",
        "Error: The module '/x/better_sqlite3.node'\nwas compiled against a different Node.js version using\nNODE_MODULE_VERSION 115. This version of Node.js requires\nNODE_MODULE_VERSION 127.\n",
        '[ "$NODE_VERSION" = 20 ]',  # what wrote node_modules
        r"one version for both \(\S+ or (\w+)\)",
        lambda p, name: p.set(name, "20"),
    ),
    # --- Node ---
    Proof(
        "node-too-new-for-primordials",  # gulp 3
        "ReferenceError: primordials is not defined\n    at fs.js:47:5\n",
        '[ "$NODE_VERSION" = 10 ] || ' + installed("gulp", "4."),
        r"Or set (NODE_VERSION)=(\d+)",
        Project.set,
    ),
    Proof(
        "node-too-new-for-primordials",
        "ReferenceError: primordials is not defined\n    at fs.js:47:5\n",
        installed("gulp", "4."),
        r"Update to (\w+) (\d+)\.",
        lambda p, name, version: p.add(f"npm install {name}@{version}"),
    ),
    Proof(
        "node-version-unsupported",
        "",
        "",
        r"Set (NODE_VERSION)=(\d+)",
        Project.set,
        {
            "package.json": package(engines={"node": "^22.12"}),
            ".npmrc": "engine-strict=true",
            "line.js": NODE_LINE,
        },
        script="npm install --offline",
        known=INSTALL,
        variables={"NODE_OPTIONS": "--require ./line.js", "NODE_VERSION": "20"},
    ),
    Proof(
        "node-too-old",  # Vite 7 on Node 18
        "error during build:\n[vite:worker-import-meta-url] crypto.hash is not a function\n",
        '[ "$NODE_VERSION" = 22 ]',
        r"Set (NODE_VERSION)=(\d+)",
        Project.set,
        known={"node": "18.20.8"},
    ),
)


def of_servers(url: str, closed: str, trusted: str, authority: str) -> tuple[Proof, ...]:
    """Return the proofs that need a registry, a registry with a token, or a server with a certificate of `authority`."""
    scoped = {"version": "1.0.9", "resolved": f"{url}/@me/kit/-/kit-1.0.9.tgz", "integrity": f"sha512-{'A' * 86}=="}
    top = {"dependencies": {"@me/kit": "^1.0.0"}}
    darwin = {"version": "1.0.0", "resolved": f"{url}/tool/-/tool-1.0.0.tgz"}
    host = closed.removeprefix("http://")
    return (
        Proof(
            "locked-scoped-version-missing",
            "",
            "",
            r"delete the (lockfile), run `(.+)`, and",
            lambda p, what, command: run_inside(p, f"rm {LOCKFILE[what]}", command),
            {"package.json": package(**top), "package-lock.json": lock(top=top, **{"node_modules/@me/kit": scoped})},
            script="npm ci",
            known=INSTALL,
            variables={"npm_config_registry": url},
        ),
        Proof(
            "native-binary-missing",
            "",
            "",
            r"Remove (node_modules) and the lockfile, run `(.+)`, and commit",
            lambda p, folder, command: run_inside(p, f"rm -r {folder} package-lock.json", command),
            {
                "package.json": package(dependencies={"tool": "1.0.0"}),
                "package-lock.json": lock(top={"dependencies": {"tool": "1.0.0"}}, **{"node_modules/tool": darwin}),
            },
            script="npm ci && node -e \"require('tool')\"",
            variables={"npm_config_registry": url},
        ),
        Proof(
            "git-dependency-private",
            "",
            "",
            r"publish it to a registry and give the install a token \((INSTALL_ENV_\w+), named in (\.npmrc)\)",
            lambda p, name, file: (
                p.set(name, "secret"),
                p.write(file, f"registry={closed}/\n//{host}/:_authToken=${{{name.removeprefix('INSTALL_ENV_')}}}\n"),
                p.write("package.json", package(dependencies={"dep": "1.0.0"})),
            ),
            {"package.json": package(dependencies={"dep": f"git+{closed}/dep.git"})},
            script="npm install",
            known=INSTALL,
            variables={"GIT_TERMINAL_PROMPT": "0"},
        ),
        Proof(
            "certificate-not-trusted",
            "",
            "",
            r"set (NODE_EXTRA_CA_CERTS) to the file",
            lambda p, name: p.variables.update({name: authority}),
            {"x.js": f"require('https').get({trusted!a}, r => r.resume())\n"},
            script="node x.js",
        ),
    )
