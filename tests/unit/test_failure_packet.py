"""Test the description of failures for programs, with the output of real tools.

The files in tool_output are what they printed with CI=true: TypeScript 5.7.3, vue-tsc 2.2.0, svelte-check 4.1.4, Vite 5.4.21 with
Vue 3.5.13, Svelte 5.19.0, PostCSS 8.5.1 and Tailwind CSS 3.4.17, Sass 1.83.4, ESLint 9.18.0, webpack 5.97.1, SvelteKit 2.16.0,
Astro 4.16.18, npm 11.19.1, Next.js 14.2.23 and 15.1.6. Only folders of the machine and the end of long stacks were changed.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from buildrunner.diagnose.explain import describe
from buildrunner.diagnose.matcher import MAX_CHARACTERS
from buildrunner.diagnose.rule import FailedCommand
from buildrunner.errors import Failure
from buildrunner.events.lines import LineDecoder, without_color
from buildrunner.redaction import Redactor

OUTPUTS = Path(__file__).parent / "tool_output"

# The tool, and the description: kind, file, line, column (as printed by the tool), and a part of the excerpt.
PACKETS: list[tuple[str, str | None, str | None, int | None, int | None, str]] = [
    ("tsc", "typescript-error", "src/App.tsx", 5, 9, "error TS2322: Type 'number' is not"),
    ("tsc-pretty", "typescript-error", "src/App.tsx", 5, 9, "const label: string = count;"),
    ("tsc-b", "typescript-error", "a/src/i.ts", 1, 14, "TS2322"),
    ("vue-tsc", "typescript-error", "src/App.vue", 2, 7, "TS2322"),
    ("astro-check", "typescript-error", "src/pages/index.astro", 2, 7, "const a: string = 3;"),
    ("next-type", "typescript-error", "app/page.tsx", 2, 9, "Type error: Type 'string'"),
    ("vite-esbuild", "syntax-error", "src/a.jsx", 3, 11, "Unexpected closing"),
    ("vite-export", "export-missing", "src/main.js", 1, 9, '"nothere" is not exported'),
    ("vite-package", "package-not-installed", "src/main.js", None, None, "failed to resolve import"),
    ("vite-resolve", "module-not-found", "src/main.js", None, None, "./components/App.jsx"),
    ("vite-tailwind", "tailwind-unknown-class", "src/s.css", 3, 3, "`flexx` class does not exist"),
    ("vue-template", "syntax-error", "src/App.vue", 6, 8, "Interpolation end sign"),
    ("svelte", "syntax-error", "src/App.svelte", 5, 0, "Block was left open"),
    ("svelte-script", "syntax-error", "src/App.svelte", 2, 10, "let a = ;"),
    ("kit-syntax", "syntax-error", "src/routes/+page.svelte", 3, 0, "{#each x}"),
    ("eslint", "syntax-error", "src/b.js", 1, 6, "Variable declaration expected"),
    ("next-lint", "eslint-errors-of-framework", "app/page.js", 1, 43, "react/no-unescaped-entities"),
    ("next-missing", "module-not-found", "app/page.js", None, None, "Can't resolve '../components/X'"),
    ("next-syntax", "syntax-error", "app/page.js", 1, 1, "Unexpected token"),
    ("next15-syntax", "syntax-error", "app/page.js", 3, 1, "Unexpected token"),
    ("next15-prerender", "prerender-failed", None, None, None, "Cannot read properties of undefined"),
    ("webpack-missing", "module-not-found", "src/index.js", 1, 0, "Can't resolve './missing' in 'src'"),
    ("webpack-package", "package-not-installed", "src/index.js", 1, 0, "lodash-not"),
    ("webpack-parse", "webpack-loader-missing", "src/index.js", 2, 10, "const b = <div/>"),
    ("webpack-babel", "syntax-error", "src/index.js", 2, 10, "const b = ;"),
    ("vite-js", "syntax-error", "src/main.js", 2, 10, "Expression expected"),
    ("vite-postcss", "syntax-error", "src/s.css", 1, 1, "Unclosed block"),
    ("vite-sass", "sass-error", "src/s.scss", 2, 13, "Undefined variable."),
    ("vue-script", "syntax-error", "src/App.vue", 2, 10, "const a = ;"),
    ("svelte-check", "typescript-error", "src/App.svelte", 2, 7, "not assignable to type 'number'"),
    ("kit-missing", "module-not-found", "src/routes/+page.svelte", None, None, "Could not load src/lib/Foo.svelte"),
    ("kit-404", "sveltekit-prerender-failed", None, None, None, "404 /nowhere (linked from /)"),
    ("astro-missing", "module-not-found", "src/pages/index.astro", None, None, "../components/X.astro"),
    ("astro-script", "syntax-error", "src/pages/index.astro", 2, 10, 'Unexpected ";"'),
    ("astro-render", "astro-page-failed", "src/pages/index.astro", None, None, "Cannot read properties"),
    ("eslint-noconfig", "eslint-configuration-missing", None, None, None, "couldn't find an eslint.config"),
    ("webpack-ts", "typescript-error", "src/x.ts", 1, 14, "TS2322"),
    ("webpack-sass", "sass-error", "src/x.scss", 1, 13, "Undefined variable."),
    ("sass-undefined", "sass-error", "src/undef.scss", 2, 10, "color: $nope;"),
    ("npm-json", "manifest-not-json", "package.json", None, None, "Expected double-quoted property name"),
    ("npm-ci", "npm-lockfile-out-of-date", "package-lock.json", None, None, "Missing: left-pad@1.3.0"),
    ("npm-peer", "peer-conflict", "package.json", None, None, 'peer react@"^18.3.1"'),
    ("sass-import", "stylesheet-missing", "src/style.scss", 1, 1, '@use "nothere"'),
]


def packet(name: str, **known: Any) -> Failure:
    """Return the description of a tool's output in a repository that has all files."""
    return describe_text((OUTPUTS / f"{name}.txt").read_bytes(), **known)


def describe_text(output: bytes, **known: Any) -> Failure:
    decoder = LineDecoder(Redactor([]))
    lines = [text for text, _ in decoder.feed(output) + decoder.finish()]
    failure = describe(FailedCommand(without_color("\n".join(lines) + "\n"), **known)).failure
    assert failure
    return failure


@pytest.fixture
def repository(monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr("buildrunner.diagnose.packet.os.path.lexists", lambda _: True)
    return Path("/w/repository")


@pytest.mark.parametrize(
    ("name", "kind", "file", "line", "column", "shown"), PACKETS, ids=lambda value: str(value)[:30]
)
def test_a_tool_s_error_has_kind_place_and_excerpt(
    name: str, kind: str, file: str, line: int, column: int, shown: str, repository: Path
) -> None:
    failure = packet(name, folder=repository, checkout=repository)

    assert (failure.kind, failure.file, failure.line, failure.column) == (kind, file, line, column)
    assert failure.excerpt
    assert shown in failure.excerpt


@pytest.mark.parametrize("path", sorted(OUTPUTS.glob("*.txt")), ids=lambda path: path.stem)
def test_an_excerpt_is_short_plain_and_without_folders(path: Path, repository: Path) -> None:
    failure = packet(path.stem, folder=repository, checkout=repository)

    assert failure.excerpt
    lines = failure.excerpt.split("\n")
    assert len(lines) <= 20
    assert max(map(len, lines)) <= 400
    assert "\x1b" not in failure.excerpt
    assert "/w/repository" not in failure.excerpt
    assert "Usage:" not in failure.excerpt
    assert not (failure.file or "").startswith(("/", ".."))


@pytest.mark.parametrize(
    "path",
    ["/etc/passwd.txt", "../other/a.ts", "src/../../a.ts", "node_modules/x/a.ts", ".next/server/a.ts", "gone.ts"],
)
def test_a_file_outside_of_the_repository_is_not_named(path: str, tmp_path: Path) -> None:
    folder = tmp_path / "repository"
    for name in ("node_modules/x/a.ts", ".next/server/a.ts", "../other/a.ts", "../a.ts"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()

    failure = describe_text(f"{path}(3,4): error TS2322: no\n".encode(), folder=folder, checkout=folder)

    assert failure == Failure("typescript-error", excerpt=f"{path}(3,4): error TS2322: no")


def test_a_file_is_relative_to_the_repository_not_to_the_app(tmp_path: Path) -> None:
    (tmp_path / "apps/web/src").mkdir(parents=True)
    (tmp_path / "apps/web/src/a.ts").touch()
    said = b"src/a.ts(3,4): error TS2322: no\n"

    assert describe_text(said, folder=tmp_path / "apps/web", checkout=tmp_path).file == "apps/web/src/a.ts"
    assert describe_text(b"apps/web build: " + said, folder=tmp_path, checkout=tmp_path).file == "apps/web/src/a.ts"


@pytest.mark.parametrize(
    "text",
    [
        "a.ts(1,1): error TS1: x\n" * 1500,
        "a.b\n" * 9000,
        "a.b\n  1:1  warning\n" * 2000,
        "ERROR in " + "a" * 32768,
        "a." * 16384,
        "a:1:1\n" * 5000,
        " at (" * 6600,
        " " * 32768,
        "[a] " * 8192,
        "file: " * 5400,
        "SyntaxError: a.b: (" * 1700,
        "a.b (1:1): " * 2900,
        "build: " * 4600,
        "\n" * 32768,
        "at a (b.c:1:1)\n" * 2100,
    ],
)
def test_hostile_output_costs_time_in_proportion(text: str) -> None:
    """CPU time of this thread alone: twice 16 would be quadratic."""
    longest = (text * (MAX_CHARACTERS // len(text) + 1))[:MAX_CHARACTERS]

    def seconds(said: str) -> float:
        started = time.thread_time()
        describe(FailedCommand(said, checkout=Path("/w"), folder=Path("/w")))
        return time.thread_time() - started

    large = seconds(longest)

    assert large < 0.2 or large < 12 * seconds(longest[: MAX_CHARACTERS // 4]) + 0.2


def test_the_line_named_by_json_parse_is_reported(repository: Path) -> None:
    said = (
        b"npm error code EJSONPARSE\nnpm error JSON.parse Expected double-quoted property name in JSON at position 52"
        b" (line 5 column 3) while parsing near\n"  # Node 22
    )

    failure = describe_text(said, folder=repository, checkout=repository)

    assert (failure.file, failure.line, failure.column) == ("package.json", 5, 3)
