"""Errors in the code of the site itself."""

from __future__ import annotations

import re

from buildrunner.diagnose.missing_module import find_any_case
from buildrunner.diagnose.rule import FailedCommand, Rule
from buildrunner.diagnose.rules.node import RULES as _NODE

_OTHER_NODE = next(rule.hint for rule in _NODE if rule.id == "node-version-unsupported")


def _require_of_es_module(failed: FailedCommand, name: str) -> str:
    at = f" ({name})" if name else ""
    older = "Install the last version of the package that is CommonJS (chalk 4, del 6, node-fetch 2)."
    if failed.node_major and failed.node_major >= 22:
        return f"An ES module is loaded with require(){at}, and it uses what require() cannot load. {older}"
    node = f"Node {failed.node}" if failed.node else "this Node"
    return (
        f"An ES module is loaded with require(){at}, which {node} does not allow. Set NODE_VERSION=22, which does."
        f" {older.replace('Install', 'Or install', 1)}"
    )


def _import_case(failed: FailedCommand, name: str) -> str:
    """Explain an import in another case than the file's name, or two files that differ in nothing else."""
    match = re.search(r"already included file name '([^'\n]{1,200})'", failed.text)
    other = failed.relative(match[1]) if match else name
    actual = find_any_case(failed.folder, name) if failed.folder else None
    if actual == name and failed.folder and find_any_case(failed.folder, other) == other != name:
        return (
            f"The repository has both {other} and {name}, which TypeScript takes for one file. Remove one with `git rm`, and"
            " import the other by its exact name."
        )
    if actual and actual != name:
        return f"A file is imported as {name}, but its name is {actual}: Linux tells them apart. Correct the import."
    return f"The import path differs in case from the file name: {name}. Linux tells them apart. Correct the import."


def _eslint_package(kind: str, name: str) -> str:
    """Return the package of a configuration or plugin of ESLint, which people write without the prefix."""
    parts = name.split("/")
    scope = f"{parts.pop(0)}/" if name.startswith("@") else ""
    short = parts[0] if parts else ""  # next/core-web-vitals is of eslint-config-next
    prefix = f"eslint-{kind}"
    return scope + (short if short.startswith(prefix) else f"{prefix}-{short}".rstrip("-"))


def _eslint_config(failed: FailedCommand, name: str) -> str:
    match = re.search(r" (config|plugin) [\"']" + re.escape(name), failed.text)
    package = _eslint_package(match[1] if match else "config", name)
    return (
        f"ESLint's {name} is not installed: only what package.json names is certain to be. Run `{failed.words['add_dev']}"
        f" {package}`, or build without lint (BUILD_ENV_DISABLE_ESLINT_PLUGIN=true for react-scripts)."
    )


def _unknown_class(failed: FailedCommand, name: str) -> str:
    if "unknown utility class" in failed.text:
        return (
            f"@apply names a class that Tailwind does not know: {name}. Define it by `@utility …`, or correct it. A CSS module or"
            ' <style> knows no other style sheet: begin it with `@reference "./main.css"`, with your path.'
        )
    return (
        f"@apply names a class that Tailwind does not know: {name}. Define it in tailwind.config, or correct it. Or install the"
        " Tailwind version that these styles are for."
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "import-case-mismatch",
        r"File name '(?P<name>[^'\n]{1,200})' differs from already included file name '(?P<name2>[^'\n]{1,200})' only in casing",
        _import_case,
    ),
    Rule(
        "import-case-mismatch-on-disk",
        r"Cannot find file: '[^'\n]{1,200}' does not match the corresponding name on disk: '(?P<name>[^'\n]{1,200})'"
        r"|\[CaseSensitivePathsPlugin\] `[^`\n]{1,300}` does not match the corresponding path on disk `?(?P<name2>[^\s`]{1,200})",
        "The import path differs in case from the file name, which is {name}. Linux tells them apart. Correct the"
        " import.",
    ),
    Rule(
        "stylesheet-missing",
        r"Can't find stylesheet to import\.(?:\n[^\n]{0,10}\n {0,6}\d{1,6} │ [^\n]{0,80}?@(?:import|use|forward)"
        r" ['\"](?P<name>[^'\"\n]{1,200}))?"
        r"|File to import not found or unreadable: (?P<name2>[^\s]{1,300}?)\.?$"
        r"|'(?P<name3>[^'\n]{1,200})' wasn't found\. Tried - ",
        "An imported style sheet does not exist{at}. If it belongs to the repository, commit it and check the case"
        " of its name. If it belongs to a package, add that package to package.json.",
    ),
    Rule(
        "cra-import-outside-src",
        r"You attempted to import (?P<name>\S{1,300}) which falls outside of the project src/ directory",
        "react-scripts imports no file from outside src/: {name}. Move it into src/. Or move it into public/ and"
        " use its address instead of the import.",
    ),
    Rule(
        "vue-tsc-too-old",
        r"^Please update to v[\d.]{1,20} or higher for TypeScript version: (?P<name>[\d.]{1,20})$",
        "This vue-tsc is older than the installed TypeScript ({name}) and cannot check with it. Run `{add_dev}"
        " vue-tsc@latest`, or use a TypeScript version that it supports, and commit the lockfile.",
    ),
    Rule(
        "angular-unknown-element",
        r"NG8001: '(?P<name>[^'\n]{1,100})' is not a known element",
        "A template uses the element {name}, which Angular does not know there. Import its component or module,"
        " and check that both are committed.",
    ),
    Rule(
        "angular-error",
        r"(?:^|\s)(?P<name>[^\s(:]{1,200}):\d{1,6}:\d{1,6} - error NG\d{1,6}: |\[ERROR\] NG\d{1,6}: |error NG\d{1,6}: ",
        "Angular found errors{at}. Correct what the lines above name. `npx ng build` shows the same on your machine.",
    ),
    Rule(
        "typescript-error",
        r"(?:^|\s)(?P<name>[^\s(:]{1,200})(?:\(\d+,\d+\)|:\d+:\d+)(?::| -) error (?:TS\d{3,5}: |ts\(\d{3,5}\): )"
        r"|^\.?/?(?P<name2>[^\s(:]{1,200}):\d+:\d+\s{1,5}Type error: |^Type error: |error TS\d{3,5}: |\[ERROR\] TS\d{3,5}: "
        r"|^TS\d{3,5}: ",
        "TypeScript found errors{at}. Correct them, or build without the check (`vite build` instead of `tsc &&"
        " vite build`, typescript.ignoreBuildErrors in next.config).",
    ),
    Rule(
        "commonjs-in-es-module",
        r"ReferenceError[:\]] (?P<name>require|module|exports|__dirname|__filename) is not defined in ES module scope",
        'A CommonJS file ({name}) runs as an ES module, because package.json has "type": "module". Rename it to'
        " end in .cjs, or use import.",
    ),
    Rule(
        "syntax-too-new-for-target",
        r"ERROR(?:\]|:) (?P<name>[A-Z][\w ()-]{1,60}?) is not available in the configured target environment"
        r"|ERROR(?:\]|:) Transforming (?P<name2>[\w ()-]{1,60}?) to the configured target environment",
        "The code uses a feature that its target browsers do not have: {name}. Set build.target to 'es2022' or"
        " 'esnext' in vite.config (--target=es2022 of esbuild), or write it differently.",
    ),
    Rule(
        "syntax-error",
        r"SyntaxError: (?:unknown|(?P<name>[^\s:]{1,300})): (?!Cannot find)[^\n]{1,300}\(\d{1,6}:\d{1,6}\)"  # Babel
        r"|^(?P<name2>[^\s:]{1,300}):\d{1,6}:\d{1,6}: ERROR: (?!No matching export|No loader|Could not|\[plugin)"  # esbuild
        r"|^(?P<name3>[^\s:]{1,300})\n {0,4}(?:Line \d{1,6}:(?:\d{1,6}:)? {1,4}|\d{1,6}:\d{1,6} {1,4}error {1,4})?"  # ESLint
        r"(?:Parsing|Syntax) error: (?!Cannot find|No Babel|\"parserOptions|ESLint was)"
        r"|^\[(?:vite-plugin-svelte|vite:vue)\](?: \[plugin [\w:-]{1,40}\])? (?P<name4>[^\s:(]{1,300}\.(?:svelte|vue))[ :]"
        r"|^\[vite:(?:vue|esbuild)\] [^\n]{1,300}\nfile: (?P<name5>[^\s:]{1,300})"
        r"|\[ERROR\] (?:Unexpected|Expected|Unterminated|Syntax error)[^\n]{0,200}\n\n {4}(?P<name7>[^\s:]{1,300}):\d"
        r"|^Caused by:\n {1,8}Syntax Error"  # Next
        r"|CssSyntaxError: (?:[\w-]{1,30}: )?(?P<name6>[^\s:]{1,300}):\d{1,6}:\d{1,6}: (?!The `|Cannot apply)",
        "A source file cannot be parsed{at}: its syntax is wrong, or newer than the tool. Correct the place that"
        " the lines above show, or update the tool.",
    ),
    Rule(
        "eslint-config-missing",
        r"(?:\[[\w-]{0,20}eslint[\w-]{0,20}\] Failed to load|^ESLint couldn't find the)"
        r" (?:config|plugin) [\"'](?P<name>[^\"'\n]{1,100})[\"']",
        _eslint_config,
    ),
    Rule(
        "tina-not-configured",
        r"Client not configured properly\. Missing (?P<name>[\w, ]{1,60})\.",
        "Tina CMS needs its {name}, which tina/config reads from the environment. Set those variables as"
        " BUILD_ENV_… with the names used there.",
    ),
    Rule(
        "eslint-errors-of-framework",
        r"Need to disable some ESLint rules|\[eslint\] ?$|Search for the keywords to learn more about each error"
        r"|^\d{1,6}:\d{1,6}  Error: [^\n]{1,400}  [@\w/-]{1,60}$|Module Error \(from \S{1,200}/eslint-loader/",
        "ESLint errors fail the build. Correct them, or build without lint (eslint.ignoreDuringBuilds in"
        " next.config, BUILD_ENV_DISABLE_ESLINT_PLUGIN=true for react-scripts).",
    ),
    Rule(
        "eslint-errors",
        r"✖ \d+ problems? \([1-9]\d* errors?",
        "ESLint errors fail the build. Correct them, or remove eslint from the build script, or its plugin from"
        " the configuration.",
    ),
    Rule(
        "prerender-failed",
        r"Error occurred prerendering page \"(?P<name>[^\"\n]{1,200})\"",
        "The page {name} is rendered during the build, and failed. The lines above show the error in its code."
        " Correct it, or run that code only in the browser.",
    ),
    Rule(
        "docusaurus-broken-links",
        r"Error: Docusaurus found broken (?P<name>links|anchors)!",
        "Docusaurus fails the build because pages have broken {name}. Correct those that the lines above name, or"
        " set onBrokenLinks and onBrokenAnchors to 'warn' in docusaurus.config.",
    ),
    Rule(
        "vitepress-dead-links",
        r"\d dead link\(s\) found\.",
        "VitePress fails the build because pages have dead links. Correct those that the lines above name, or set"
        " ignoreDeadLinks: true in .vitepress/config.",
    ),
    Rule(
        "mdx-syntax",
        r"MDX compilation failed for file \"?(?P<name>[^\s\"]{1,300})"
        r"|Could not parse (?:expression|import/exports) with acorn|Unexpected character `[^\n]{1,10}` \(U\+[0-9A-F]{4,6}\)",
        "A Markdown page{at} cannot be parsed as MDX, where < and {{ begin code. Put such text into backticks, or"
        " a backslash before it. The lines above show the place.",
    ),
    Rule(
        "tailwind-unknown-class",
        r"The `(?P<name>[^`\n]{1,100})` class does not exist\. If `"
        r"|Cannot apply unknown utility class:? `?(?P<name2>[^\s`.]{1,100})",
        _unknown_class,
    ),
    Rule(
        "task-missing",
        r"Task never defined: (?P<name>[\w:.-]{1,100})|Task '(?P<name2>[\w:.-]{1,100})' is not in your gulpfile"
        r"|Warning: Task \"(?P<name3>[\w:.-]{1,100})\" not found\.",
        "The gulpfile or Gruntfile has no task {name}. Call one that exists (`npx gulp --tasks` or `npx grunt"
        " --help` lists them), or add it.",
    ),
    Rule(
        "require-of-es-module",
        r"(?:\[ERR_REQUIRE_ESM\]: [^\n]{0,60}?ES Module:? |ERR_REQUIRE_ESM)"
        r"(?:\S{0,300}/node_modules/(?P<name>(?:@[\w.-]{1,100}/)?[\w.-]{1,100})|(?P<name2>/[^\s]{1,300}))?",
        _require_of_es_module,
    ),
    Rule(
        "package-is-es-module",
        r"node_modules/(?P<name>(?:@[\w.~-]{1,100}/)?[\w.~-]{1,100})/[^\n]{0,300}:\d{1,6}\n(?:[^\n]{0,500}\n){0,5}"
        r"SyntaxError: (?:Cannot use import statement outside a module|Unexpected token 'export')",
        "The package {name} is an ES module, but is loaded as CommonJS. Have the framework compile it"
        " (transpilePackages in Next, noExternal in Vite), or install a version that is CommonJS.",
    ),
    Rule(
        "import-in-commonjs",
        r"SyntaxError: Cannot use import statement outside a module",
        'A file uses import but runs as CommonJS. Put "type": "module" into package.json, or rename it to end in'
        " .mjs. The lines above name it.",
    ),
    Rule(
        "package-too-new-for-webpack",
        r"^(?P<name>\.?/?[^\s:]{0,200}node_modules/[^\s:]{1,200})[^\n]{0,40}\nModule parse failed: "
        r"|^ERROR in (?P<name2>\.?/?[^\s:]{0,200}node_modules/[^\s:]{1,200})[^\n]{0,40}\nModule parse failed: ",
        "A package uses newer JavaScript than this webpack can parse: {name}. Install an older version of the"
        " package, or update webpack (react-scripts 5, Vue CLI 5).",
    ),
    Rule(
        "webpack-loader-missing",
        r"^(?:ERROR in )?(?P<name>\.?/?[^\s:!]{1,300})[^\n]{0,40}\nModule parse failed: [^\n]{1,300}\n"
        r"You may need an appropriate loader",
        "webpack has no loader for {name}, or its syntax is wrong. Correct the file, or add a loader for such"
        " files to the webpack configuration.",
    ),
    Rule(
        "permission-denied",
        r"code EACCES|Error: EACCES: permission denied, \w+ '(?P<name>[^'\n]{1,200})'",
        "The build writes to a place where it may not{at}. It can write to its own folder, HOME and TMPDIR.",
    ),
    Rule(
        "vite-node-too-old",
        r"You are using Node\.js [\d.]+\. Vite requires Node\.js version",
        _OTHER_NODE,
    ),
    Rule(
        "env-file-missing",
        r"ENOENT: no such file or directory, open '[^'\n]{0,300}?/(?P<name>\.env[\w.-]{0,50})'",
        "The build reads {name}, which is not in the repository. Read the settings from the environment instead"
        " ({variable}… sets them).",
    ),
    Rule(
        "export-missing",
        r"Attempted import error: (?P<name>'[^'\n]{1,200}' "
        r"(?:is not exported from '[^'\n]{1,200}'|does not contain a default export))"
        r"|(?P<name2>\"[^\"\n]{1,100}\" is not exported by \"[^\"\n]{1,300}\")"
        r"|(?P<name3>The requested module '[^'\n]{1,200}' does not provide an export named '[^'\n]{1,100}')"
        r"|(?P<name4>No matching export in \"[^\"\n]{1,200}\" for import \"[^\"\n]{1,100}\")"
        r"|(?P<name5>Export \w{1,100} doesn't exist in target module)",
        "An import asks for something that its module does not have: {name}. Correct the import. If a newer"
        " package dropped it (react-router-dom 6 has no Switch), install the older version and commit the lockfile.",
    ),
    Rule(
        "angular-prod-option",
        r"^(?:Error: )?Unknown arguments?: (?:[\w-]{1,40}, ){0,5}(?P<name>prod)\b",
        "`ng build` has no --{name} since Angular 14, and builds for production without it. Remove it from the"
        " build script.",
    ),
    Rule(
        "unknown-option",
        r"(?:^|(?i:error)\]?:? {1,3})(?i:unknown (?:option|argument)s?):? {1,3}[`'\"]?(?P<name>-{0,2}[a-zA-Z][\w-]{0,40})"
        r"|^Invalid option '(?P<name2>--[\w-]{1,40})'",
        "The build calls a program with an option that its version does not know: {name}. Remove the option, or"
        " install the program's version that has it.",
    ),
)
