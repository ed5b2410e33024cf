from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from buildrunner.build.commands import _environment_of
from buildrunner.build.runner import _search_path
from buildrunner.diagnose.fallbacks import find_fallbacks
from buildrunner.diagnose.rule import BuildFallback
from buildrunner.diagnose.rules import load_rules

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

    async def change_line(wanted: int) -> Mapping[str, str]:
        assert wanted == line
        return {"PATH": "/old:/bin"}

    fallback = next(each for each in FALLBACKS if each.node == line)

    changed = anyio.run(_environment_of, fallback, given, change_line)

    assert changed == {"NODE_OPTIONS": left or given["NODE_OPTIONS"], "PATH": "/old:/bin"}


def test_fallback_changes_nothing_where_node_stays() -> None:
    async def change_line(line: int) -> Mapping[str, str]:
        return {}

    fallback = next(each for each in FALLBACKS if each.node)
    given = {"NODE_OPTIONS": "--openssl-legacy-provider"}

    assert anyio.run(_environment_of, fallback, given, change_line) == given
    assert anyio.run(_environment_of, fallback, given, None) == given


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
        sandbox: Any = SimpleNamespace(account=SimpleNamespace(uid=uid) if uid is not None else None)
        return [Path(folder).name for folder in _search_path(path, sandbox)]

    assert left(64_321) == ["open", "missing"]
    assert left(os.getuid()) == left(None) == ["bin", "open", "link", "missing"]
