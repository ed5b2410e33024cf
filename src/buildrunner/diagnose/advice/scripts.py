"""Explain failures of shell scripts and of the programs that they call."""

from __future__ import annotations

import re
from contextlib import suppress

from buildrunner.diagnose.rule import FailedCommand
from buildrunner.diagnose.rules import part
from buildrunner.project.files import read_text

# System programs that no npm package provides.
_NOT_OF_NPM = frozenset(
    re.findall(
        r"\S+",
        """
        7z age ant apk apt apt-get asciidoctor asdf autoconf automake aws az brew buf bundle bundler c++ cabal cargo cc chromium
        clang clojure cmake composer conda convert crystal curl cwebp dart direnv dnf docker dot dotnet doxygen elixir emcc
        emmake ffmpeg ffprobe firefox flutter fnm g++ gcc gcloud gem gh ghc git-lfs go google-chrome gradle gsutil hg identify
        inkscape java javac jekyll jq julia just kubectl latex lein lua magick make mdbook meson mise mix mkdocs mono msgfmt mvn
        mysql nim ninja nix nvm op pandoc pdflatex pdftoppm pelican perl php pip pip3 pipenv pkg-config plantuml podman poetry
        protoc psql python python2 python3 quarto R rake rclone redis-cli Rscript rsvg-convert rsync ruby rustc rustup scp sops
        sphinx-build sqlite3 ssh sshpass stack sudo svn swift task terraform tinygo tree trunk typst unzip uv vault volta wget
        wkhtmltopdf xelatex xmllint xvfb-run yq yum zig zip zola
        """,
    )
)
# System programs, and the npm package that provides each; None if there is none.
_SYSTEM_PROGRAMS = {
    **dict.fromkeys(_NOT_OF_NPM),
    "hugo": "hugo-extended",
    "deno": "deno",
    "bun": "bun",
    "wasm-pack": "wasm-pack",
    "elm": "elm",
    "purs": "purescript",
}
# Program → the npm package that provides it, if their names differ.
_PACKAGES = {
    "tsc": "typescript",
    "ng": "@angular/cli",
    "vue-cli-service": "@vue/cli-service",
    "vue-tsc": "vue-tsc",
    "svelte-kit": "@sveltejs/kit",
    "eleventy": "@11ty/eleventy",
    "nuxi": "nuxt",
    "run-s": "npm-run-all",
    "run-p": "npm-run-all",
    "storybook": "storybook",
    "build-storybook": "@storybook/cli",
    "babel": "@babel/cli",
    "gulp": "gulp",
    "swc": "@swc/cli",
    "tailwindcss": "@tailwindcss/cli",
    "tailwind": "tailwindcss",
    "postcss": "postcss-cli",
    "lessc": "less",
    "ionic": "@ionic/cli",
    "nest": "@nestjs/cli",
    "docusaurus": "@docusaurus/core",
    "vuepress": "vuepress",
    "redocly": "@redocly/cli",
    "rsbuild": "@rsbuild/core",
    "rspack": "@rspack/cli",
    "webpack": "webpack webpack-cli",
    "webpack-cli": "webpack-cli",
    "cap": "@capacitor/cli",
    "tsx": "tsx",
    "biome": "@biomejs/biome",
    "panda": "@pandacss/dev",
    "qwik": "@builder.io/qwik",
    "hexo": "hexo",
    "gridsome": "gridsome",
    "preact": "preact-cli",
    "ember": "ember-cli",
    "stencil": "@stencil/core",
    "antora": "antora",
}
_MAX_SCRIPT_BYTES = 2**18


def _read(failed: FailedCommand, name: str) -> str | None:
    """Read a script of the repository that the output names."""
    if failed.folder and failed.checkout:
        for folder in (failed.folder, failed.checkout):
            with suppress(ValueError, OSError):
                if text := read_text(folder / name, failed.checkout, max_bytes=_MAX_SCRIPT_BYTES):
                    return text
    return None


def windows_line_ends(failed: FailedCommand, name: str) -> str | None:
    """Explain a shell script with Windows line endings, if its content confirms that."""
    if name:
        text = _read(failed, name)
        if text is None or "\r\n" not in text:
            return None
        if re.search(r"\.(?:bat|cmd|ps1)$", name):
            return None
    what = name.removeprefix("./") if name else "A shell script"
    return (
        f"{what} has Windows line endings (CRLF), which Linux shells cannot read. Add the line `*.sh text eol=lf` to"
        " .gitattributes, run `git add --renormalize .`, and commit."
    )


def windows_command(failed: FailedCommand, name: str) -> str:
    """Explain a command that exists only on Windows."""
    return (
        f"{name or 'The script'} works only on Windows, and builds run on Linux. Write the script for both systems: shx or rimraf"
        " for files, cross-env for variables, and / in paths."
    )


def backslashes(failed: FailedCommand, _: str) -> str | None:
    """Explain paths with backslashes, which Linux shells remove."""
    said = failed.text.replace(failed.script, "") if failed.script else failed.text
    for match in re.finditer(r"(?:^|[\s=\"'])(?P<path>(?:\.{0,2}[\w@.-]{0,60}\\){1,9}[\w@.*-]{1,60})", failed.script):
        path = match["path"]
        if path in said or path.replace("\\", "") in said:
            shown = path.replace("\\", "/")
            return f"The script has a path with backslashes, {path}, which works only on Windows. Write it with slashes: {shown}."
    return None


def windows_variables(failed: FailedCommand, _: str) -> str | None:
    """Explain `set NAME=value` and %NAME%, which have no effect in Linux shells."""
    match = re.search(r"(?:^|[&;|(] ?)set (?P<name>[A-Za-z_]\w{0,60}) ?=|(?P<name2>%[A-Za-z_]\w{0,60}%)", failed.script)
    if match is None:
        return None
    name = match["name"] or match["name2"].strip("%")
    wrote = f"`set {name}=…`" if match["name"] else f"%{name}%"
    return (
        f"The script uses {wrote}, which has no effect on Linux. Run `{failed.words['add_dev']} cross-env`, and write"
        f" `cross-env {name}=…` or ${name} in the script."
    )


def bash_syntax(failed: FailedCommand, name: str) -> str | None:
    """Explain bash syntax in a script that sh runs, and name the script."""
    if re.search(r"\b(?:rd|rmdir) /s|if (?:not )?exist |for /", failed.script):
        return windows_command(failed, "")
    script = next(
        (
            found
            for found in re.findall(r"^([\w./-]{1,100}): (?:line )?\d{1,6}: ", failed.text, re.MULTILINE)
            if not re.fullmatch(r"(?:/bin/|/usr/bin/)?(?:sh|bash|dash)", found)
        ),
        None,
    )
    if script:
        return (
            f"{script} uses bash syntax but runs with sh. Run it with `bash {script}`, and make its first line"
            " `#!/usr/bin/env bash`."
        )
    return (
        "The script uses bash syntax but runs with sh. Put it into a file and run that with `bash FILE.sh`, or commit an"
        " .npmrc with script-shell=bash."
    )


def missing_program(failed: FailedCommand, name: str) -> str | None:
    """Explain a missing program: a package to install, a system program, or a missing file."""
    # For a path, it matters whether the file exists.
    paths = re.finditer(
        rf"{part('shell')}(?P<path>\.{{0,2}}/?[\w.@/-]{{1,200}}/[\w.@-]{{1,100}}): (?:command )?not found",
        failed.text,
        re.M,
    )
    path = next(reversed(list(paths)), None)
    if path and "node_modules/" not in path["path"] and path["path"].endswith(name):
        text = _read(failed, path["path"])
        if text and re.match(r"#![^\n]{0,200}\r?\n", text):
            program = re.match(r"#!\s*(\S{1,100})", text)
            return (
                f"{path['path']} starts with {program[0] if program else 'a line'}, and that program is not in the image. Change"
                " the first line, or use an image that has the program."
            )
        if text is None and failed.checkout:
            shown = path["path"].removeprefix("./")
            return f"{shown} is not in the repository. Commit it (check .gitignore), or fix the script."
    base = name.rsplit("/", 1)[-1]
    known = re.sub(r"-?\d[\d.]*\Z", "", base)  # python3.12, gcc-13
    if base in _SYSTEM_PROGRAMS or known in _NOT_OF_NPM:
        package = _SYSTEM_PROGRAMS.get(base)
        bring = (
            f"Run `{failed.words['add_dev']} {package}`, which provides it, and commit the lockfile. Or use"
            if package
            else "Use"
        )
        instead = "" if package else ", or remove it from the script"
        return f"{base} is not in the image that runs the build. {bring} an image that has {base}{instead}."
    if base in ("npm", "pnpm", "yarn", "npx", "node"):
        return (
            f"{base} was not found, although buildrunner provides it. Don't replace PATH in the script, or name {base} in"
            ' package.json under "packageManager".'
        )
    if base == "husky":
        return None
    package = _PACKAGES.get(base, base)
    first = package.split()[0]
    group = failed.dependency_group(first)
    if group == "devDependencies" and (variable := failed.leaves_out):
        return (
            f"{base} belongs to devDependencies, and INSTALL_ENV_{variable} prevents their installation. Remove that"
            f" variable, or move {first} to dependencies."
        )
    if group:
        return (
            f"{base} is not installed, although package.json lists {first}. Check INSTALL_COMMAND and .npmrc for options that"
            f" leave out {group} (omit=dev, --production)."
        )
    if variable := failed.leaves_out:
        return (
            f"The {failed.stage} calls {base}, which is not installed, and INSTALL_ENV_{variable} leaves devDependencies out."
            f" Remove that variable, or run `{failed.words['add']} {package}`."
        )
    return (
        f"The {failed.stage} calls a program that is not installed: {base}. Run `{failed.words['add_dev']} {package}`, and commit"
        " package.json and the lockfile."
    )
