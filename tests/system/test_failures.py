"""What a build that fails says, through the whole program: the cause, and what to do, which then works."""

from __future__ import annotations

import json
import os
from concurrent.futures import ThreadPoolExecutor

from support.harness import Program, Repositories, Run, app_files
from support.node_modules import node_modules

SITE = "mkdir dist && echo hello >dist/index.html"
PRISMA = "PrismaConfigEnvError: Cannot resolve environment variable: DATABASE_URL."


def files(build: str = SITE, **fields: object) -> dict[str, str | bytes]:
    given = app_files(build)
    given["package.json"] = json.dumps({**json.loads(given["package.json"]), **fields})
    return given


def test_a_failure_is_explained_and_the_advice_works(program: Program, repositories: Repositories) -> None:
    """Each repository fails; what its hint names is done, and the site is published."""
    scripts = {"build": "sh build.sh", "postinstall": "node setup.js"}
    setup = f"if (!process.env.DATABASE_URL) throw new Error('{PRISMA}')"
    needs = "[ -n \"$API_URL\" ] || { echo 'Error: API_URL is not set'; exit 1; }; "
    cases: dict[str, tuple[dict[str, str | bytes], str, dict[str, str | bytes]]] = {
        "variable of an install": ({**files(scripts=scripts), "setup.js": setup}, "INSTALL_ENV_DATABASE_URL", {}),
        "variable of a build": (files(needs + SITE), "BUILD_ENV_API_URL", {}),
        "line ends": ({**files(), "build.sh": f"set -e\r\n{SITE}\r\n"}, "", {"build.sh": SITE}),
    }

    def build(name: str) -> tuple[Run, Run]:
        before, variable, after = cases[name]
        repository = repositories.make(before)
        failed = program.run(repository, DEPENDENCY_CACHE="off")
        repositories.commit(repository, after)
        variables: dict[str, str | None] = {variable: "x"} if variable else {}
        return failed, program.run(repository, timeout=90, meanwhile=None, DEPENDENCY_CACHE="off", **variables)

    with ThreadPoolExecutor(2) as pool:
        runs = dict(zip(cases, pool.map(build, cases), strict=True))

    for name, (failed, passed) in runs.items():
        variable = cases[name][1]
        assert failed.code == (30 if "install" in name else 40), failed.stdout
        assert (f"Set {variable}." if variable else "build.sh has Windows line endings (CRLF)") in failed.result["hint"]
        assert passed.code == 0, passed.stdout


def test_an_install_that_fails_for_what_nobody_knows_is_quoted(program: Program, repositories: Repositories) -> None:
    usage = 'echo "Usage: setup [options]\n  --now  do it now"'
    scripts = {"build": "true", "postinstall": f"{usage}; echo 'Error: the moon is full' >&2; exit 3"}

    run = program.run(repositories.make(files(scripts=scripts)), DEPENDENCY_CACHE="off")

    assert run.code == 30
    assert run.result["hint"].startswith("The install says: “Error: the moon is full”. ")
    assert "runs its script postinstall" in run.result["hint"]
    assert "INSTALL_ENV_" in run.result["hint"]


def test_the_result_tells_kind_place_and_excerpt(program: Program, repositories: Repositories) -> None:
    """Real tools fail; programs find the cause in the result, and people in the text of the log."""
    tools = node_modules(os.environ["PATH"])
    types = {"src/app.ts": "export const a: number = 'x'\n", "src/b.ts": ""}
    out_of_step = files(dependencies={"left-pad": "1.3.0"})
    cases: dict[str, tuple[dict[str, str | bytes], dict[str, object], str]] = {
        "tsc": (
            {
                **app_files(f"node {tools}/typescript/bin/tsc --noEmit --lib es5 src/app.ts"),
                **types,
            },
            {"kind": "typescript-error", "file": "src/app.ts", "line": 1, "column": 14},
            "error TS2322",
        ),
        "sass": (
            {**app_files(f"node {tools}/sass/sass.js src/a.scss a.css"), "src/a.scss": ".a {\n  color: $nope;\n}\n"},
            {"kind": "sass-error", "file": "src/a.scss", "line": 2, "column": 10},
            "Undefined variable.",
        ),
        "esbuild": (
            {**app_files(f"{tools}/.bin/esbuild --bundle src/a.js"), "src/a.js": "import './gone.js'\n"},
            {"kind": "module-not-found", "file": "src/a.js", "line": 1, "column": 7},
            'Could not resolve "./gone.js"',
        ),
        "npm": (
            out_of_step,
            {"kind": "npm-lockfile-out-of-date", "file": "package-lock.json"},
            "Missing: left-pad@1.3.0",
        ),
        "unknown": (
            {
                **app_files("node scripts/make.js"),
                "scripts/make.js": "\nthrow new Error(`moon ${process.env.API_TOKEN}`)\n",
            },
            {"file": "scripts/make.js", "line": 2},
            "Error: moon [redacted]",
        ),
        "no output": (app_files("true"), {"kind": "output-missing"}, ""),
    }

    def build(name: str) -> Run:
        variables: dict[str, str | None] = {"BUILD_ENV_API_TOKEN": "hidden-token", "DEPENDENCY_CACHE": "off"}
        variables |= {"STRICT_LOCKFILE": "1"} if name == "npm" else {"INSTALL_COMMAND": "true"}
        return program.run(repositories.make(cases[name][0]), timeout=90, meanwhile=None, **variables)

    with ThreadPoolExecutor(2) as pool:
        runs = dict(zip(cases, pool.map(build, cases), strict=True))

    for name, (_, expected, shown) in cases.items():
        failure = dict(runs[name].result["failure"])
        excerpt = failure.pop("excerpt", "")
        assert failure == expected, f"{name}: {failure} {excerpt} {runs[name].stdout}"
        assert shown in excerpt
        assert excerpt.count("\n") < 20
        assert "hidden-token" not in json.dumps(runs[name].result)
    assert "Cause: src/app.ts:1:14 (typescript-error)\n    src/app.ts(1,14): error TS2322" in runs["tsc"].stdout
