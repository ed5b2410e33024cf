"""What a failed build is retried with: a variable, or another line of Node, by what its output says."""

from __future__ import annotations

from dataclasses import dataclass

LEGACY_OPENSSL = "--openssl-legacy-provider"
NO_REQUIRE_OF_MODULES = "--no-experimental-require-module"
# Some packages take a global fetch for a browser, as Node has one from 18 on. --no-experimental-fetch is gone since Node 24.
NO_FETCH = "--import=data:text/javascript,delete%20globalThis.fetch"
OPTIONS_OF_LATER_NODES = frozenset(
    {LEGACY_OPENSSL, NO_REQUIRE_OF_MODULES, NO_FETCH}
)  # Node 16 does not start with them


@dataclass(frozen=True, slots=True)
class BuildFallback:
    """One more try for a build that failed: either with `variable`, or with `node`."""

    pattern: str  # regular expression for the output of the failed build, without colors
    reason: str  # sentence for people: what failed, and what the retry uses
    remedy: str  # sentence for people: how to fix it for good
    variable: tuple[str, str] = ("", "")  # name and value; NODE_OPTIONS is appended to
    node: int | None = None  # the last line with long-term support that does not fail in this way


FALLBACKS = (
    BuildFallback(
        r"Treating warnings as errors because process\.env\.CI = true",
        "Warnings fail this build because CI is true. Retrying with CI=false.",
        "Fix the warnings.",
        variable=("CI", "false"),
    ),
    BuildFallback(
        r"ERR_OSSL_EVP_UNSUPPORTED|error:0308010C",
        f"This build uses hashes that OpenSSL 3 removed. Retrying with NODE_OPTIONS={LEGACY_OPENSSL}.",
        "Update its bundler (webpack 5.61 or newer).",
        variable=("NODE_OPTIONS", LEGACY_OPENSSL),
    ),
    BuildFallback(
        r"\[eslint\] (?:Failed to load (?:config|plugin|parser)|Plugin \"[^\"\n]{1,100}\" was conflicted)",
        "ESLint itself failed in this build. Retrying with DISABLE_ESLINT_PLUGIN=true.",
        "Add what ESLint loads to devDependencies.",
        variable=("DISABLE_ESLINT_PLUGIN", "true"),
    ),
    BuildFallback(
        r"You must provide the URL of lib/mappings\.wasm by calling SourceMapConsumer\.initialize"
        r"|Failed to parse URL from /\S{1,300}\.wasm",
        "A package in this build (source-map 0.7, @squoosh/lib) mistakes Node's fetch for a browser's. Retrying without it:"
        f" NODE_OPTIONS={NO_FETCH}.",
        "Update the packages that need it (terser and the bundler), or set Node 16 in .nvmrc.",
        variable=("NODE_OPTIONS", NO_FETCH),
    ),
    BuildFallback(
        r"Error: config must export or return an object\.",
        "Vite 2 cannot read its configuration where Node can require ES modules (20.19, 22.12, and newer). Retrying with"
        f" NODE_OPTIONS={NO_REQUIRE_OF_MODULES}.",
        "Update Vite to 3 or newer, or set Node 18 in .nvmrc.",
        variable=("NODE_OPTIONS", NO_REQUIRE_OF_MODULES),
    ),
    # Each was tried with every line of Node from 10 to 26 that gets long-term support.
    BuildFallback(
        r"ReferenceError: primordials is not defined",
        "A package in this build (gulp 3, graceful-fs 3) does not run on Node 12 or newer. Retrying with Node 10.",
        "Update it, or set Node 10 in .nvmrc.",
        node=10,
    ),
    BuildFallback(
        r"Package subpath '\./lib/tokenize' is not defined by \"exports\" in \S{1,300}/postcss/package\.json",
        "postcss 8.2 does not run on Node 17 or newer. Retrying with Node 16.",
        "Update postcss to 8.3 or newer, or set Node 16 in .nvmrc.",
        node=16,
    ),
    BuildFallback(
        r"SyntaxError: Unexpected identifier 'assert'",
        "Node 22 and newer do not support `import … assert { … }`. Retrying with Node 20.",
        "Replace `assert` with `with`, or set Node 20 in .nvmrc.",
        node=20,
    ),
    BuildFallback(
        r"Error: No native build was found for platform=",
        "A native package of this build (lmdb-store, of early releases of Parcel 2) has no binary for Node 17 or newer. Retrying"
        " with Node 16.",
        "Update the package that needs it, or set Node 16 in .nvmrc.",
        node=16,
    ),
    BuildFallback(
        r"Cannot set property navigator of #<Object> which has only a getter",
        "A package in this build sets `navigator`, which Node 21 and newer define. Retrying with Node 20.",
        "Update the package that the error names, or set Node 20 in .nvmrc.",
        node=20,
    ),
    BuildFallback(
        r"\butil(?:_\d+)?\.(?:is(?:Boolean|Buffer|Date|Error|Function|Null|NullOrUndefined|Number|Object|Primitive|RegExp|String"
        r"|Symbol|Undefined)|log)\)? is not a function",
        "A package in this build calls a function that Node 23 removed. Retrying with Node 22.",
        "Update the package that the first line below the error names, or set Node 22 in .nvmrc.",
        node=22,
    ),
)
