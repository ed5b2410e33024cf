from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildrunner.build.stages.build import with_fallback_node, with_fallback_variable
from buildrunner.build.workspace import search_path
from buildrunner.diagnose.fallbacks import find_fallbacks
from buildrunner.diagnose.rule import BuildFallback
from buildrunner.diagnose.rules import load_rules
from buildrunner.sandbox import Account

FALLBACKS = [rule.fallback for rule in load_rules() if rule.fallback]


def matching(output: str) -> list[BuildFallback]:
    return find_fallbacks(output, [])


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ("Error: error:0308010C:digital envelope routines::unsupported", "--openssl-legacy-provider"),
        (
            "✖ ERROR You must provide the URL of lib/mappings.wasm by calling SourceMapConsumer.initialize("
            "{ 'lib/mappings.wasm': ... }) before using SourceMapConsumer",
            "--import=data:text/javascript,delete%20globalThis.fetch",
        ),
        (
            "TypeError: Failed to parse URL from /w/node_modules/@squoosh/lib/build/imagequant_node-a4aafbae.wasm",
            "--import=data:text/javascript,delete%20globalThis.fetch",
        ),
        (
            "Error: config must export or return an object.\n    at loadConfigFromFile",
            "--no-experimental-require-module",
        ),
        ("} = primordials;\n    ^\n\nReferenceError: primordials is not defined", 10),
        (
            "Error [ERR_PACKAGE_PATH_NOT_EXPORTED]: Package subpath './lib/tokenize' is not defined by \"exports\" in"
            " /w/node_modules/postcss-safe-parser/node_modules/postcss/package.json",
            16,
        ),
        (
            "Error: No native build was found for platform=linux arch=x64 runtime=node abi=115 uv=1 libc=glibc node=20.20.2\n"
            "    loaded from: /w/node_modules/.pnpm/lmdb-store@1.6.11/node_modules/lmdb-store",
            16,
        ),
        ("import x from './d.json' assert {type:'json'};\nSyntaxError: Unexpected identifier 'assert'", 20),
        ("TypeError: Cannot set property navigator of #<Object> which has only a getter", 20),
        ("TypeError: util.isNullOrUndefined is not a function", 22),
        ("TypeError: (0 , util_1.isString) is not a function", 22),
    ],
)
def test_output_of_a_failure_selects_its_fallback(output: str, expected: str | int) -> None:
    (fallback,) = matching(output)

    assert (fallback.node or fallback.variable[1]) == expected


@pytest.mark.parametrize(
    "output",
    [
        "Package subpath './lib/other' is not defined by \"exports\" in /w/node_modules/postcss/package.json",
        "TypeError: util.isArray is not a function",  # every Node has it: this util is another
        "TypeError: lodash.isString is not a function",
        "SyntaxError: Unexpected identifier 'assertion'",
        "TypeError: Failed to parse URL from /api/posts",
    ],
)
def test_other_failures_have_no_fallback(output: str) -> None:
    assert matching(output) == []


@pytest.mark.parametrize(("line", "left"), [(10, "--max-old-space-size=9"), (16, "--max-old-space-size=9"), (20, None)])
def test_old_node_starts_without_options_it_does_not_know(line: int, left: str | None) -> None:
    given = {"NODE_OPTIONS": "--openssl-legacy-provider --max-old-space-size=9", "PATH": "/bin"}

    changed = with_fallback_node(given, {"PATH": "/old:/bin"}, line)

    assert changed == {"NODE_OPTIONS": left or given["NODE_OPTIONS"], "PATH": "/old:/bin"}


def test_fallback_adds_to_node_options_and_replaces_others() -> None:
    given = {"NODE_OPTIONS": "--max-old-space-size=9", "CI": "true"}
    legacy, no_ci = (
        next(
            each
            for each in FALLBACKS
            if each.variable[0] == name and each.variable[1] in {"--openssl-legacy-provider", "false"}
        )
        for name in ("NODE_OPTIONS", "CI")
    )

    once = with_fallback_variable(given, legacy)

    assert once == {"NODE_OPTIONS": "--max-old-space-size=9 --openssl-legacy-provider", "CI": "true"}
    assert with_fallback_variable(once, legacy) == once
    assert with_fallback_variable(given, no_ci) == {**given, "CI": "false"}


@pytest.fixture
def open_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_programs_are_not_looked_for_where_their_user_may_not_go(open_folder: Path) -> None:
    for name in ("open", "closed/bin"):
        (open_folder / name).mkdir(parents=True)
    (open_folder / "closed").chmod(0o700)
    (open_folder / "link").symlink_to("closed/bin")
    path = os.pathsep.join(f"{open_folder}/{name}" for name in ("closed/bin", "open", "link", "missing"))

    def left(uid: int | None) -> list[str]:
        account = Account("build", uid, uid) if uid is not None else None
        return [Path(folder).name for folder in search_path(path, account)]

    assert left(64_321) == ["open", "missing"]
    assert left(os.getuid()) == left(None) == ["bin", "open", "link", "missing"]
