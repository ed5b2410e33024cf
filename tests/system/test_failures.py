"""What a build that fails says, through the whole program: the cause, and what to do, which then works."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from support.harness import Program, Repositories, Run, app_files

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
