"""What a build that fails says, through the whole program: the cause, and what to do, which then works."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor

from harness import Program, Repositories, Run, app_files

SITE = "mkdir dist && echo hello >dist/index.html"


def files(build: str = SITE, **fields: object) -> dict[str, str | bytes]:
    given = app_files(build)
    given["package.json"] = json.dumps({**json.loads(given["package.json"]), **fields})
    return given


def test_a_failure_is_explained_and_the_advice_works(program: Program, repositories: Repositories) -> None:
    """Each repository fails; what its hint names is done, and the site is published."""
    needs = "if (!process.env.DATABASE_URL) throw new Error('PrismaConfigEnvError: Cannot resolve environment variable: DATABASE_URL.')"
    scripts = {"build": "sh build.sh", "postinstall": "node setup.js"}
    windows = {**files(), "build.sh": f"set -e\r\n{SITE}\r\n"}
    cases = {
        "variable of an install": (
            {**files(scripts=scripts), "setup.js": needs},
            {"INSTALL_ENV_DATABASE_URL": "x"},
            {},
        ),
        "line ends": (windows, {}, {"build.sh": SITE}),
        "node": (
            files(
                "node -e \"require('crypto').createHash('md5')\" && [ -n \"$API_URL\" ] || { echo 'Error: API_URL is not set'; exit 1; }; "
                + SITE
            ),
            {"BUILD_ENV_API_URL": "x"},
            {},
        ),
    }

    def build(name: str) -> tuple[Run, Run]:
        before, variables, after = cases[name]
        repository = repositories.make(before)
        failed = program.run(repository, DEPENDENCY_CACHE="off")
        repositories.commit(repository, after)
        return failed, program.run(repository, DEPENDENCY_CACHE="off", **variables)

    with ThreadPoolExecutor(2) as pool:
        runs = dict(zip(cases, pool.map(build, cases), strict=True))

    for name, (failed, passed) in runs.items():
        variables = cases[name][1]
        assert failed.code == (30 if "install" in name else 40), failed.stdout
        for variable in variables:
            assert f"Set {variable}." in failed.result["hint"]
        assert passed.code == 0, passed.stdout
    assert "build.sh has Windows line ends (CRLF)" in runs["line ends"][0].result["hint"]


def test_an_install_that_fails_for_what_nobody_knows_is_quoted(program: Program, repositories: Repositories) -> None:
    scripts = {
        "build": "true",
        "postinstall": "echo \"Usage: setup [options]\n  --now  do it now\"; echo 'Error: the moon is full' >&2; exit 3",
    }

    run = program.run(repositories.make(files(scripts=scripts)), DEPENDENCY_CACHE="off")

    assert run.code == 30
    assert run.result["hint"].startswith(
        "The install says: \u201cError: the moon is full\u201d. The repository's package.json runs its script postinstall"
    )
    assert "INSTALL_ENV_" in run.result["hint"]
