from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import anyio
import pytest

from buildrunner.build.stages import failed_scripts as scripts
from buildrunner.build.stages import install as install_stage
from buildrunner.build.stages.install import InstallStage
from buildrunner.build.stages.installer import Installer, Outcome
from buildrunner.build.stages.registries import RegistryRewriter
from buildrunner.diagnose.explain import with_failure_hint
from buildrunner.errors import CommandFailed
from buildrunner.project.package_managers.install import find_failed_scripts, list_strategies, without_scripts
from buildrunner.project.package_managers.pnpm import list_skipped
from buildrunner.project.package_managers.record import SHELL, InstallStrategy, ManagerRequirement
from buildrunner.project.package_managers.registry_urls import replace_hosts, replace_mirrors
from buildrunner.project.package_managers.table import MANAGERS, find_called_managers
from buildrunner.project.package_managers.yarn import YARN_BERRY
from support.plans import make_plan


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "apps/web").mkdir(parents=True)
    return folder


def write(folder: Path, **package: Any) -> None:
    (folder / "package.json").write_text(json.dumps(package))


# --- how it installs ---

SAID = {
    "npm 6": "npm ERR! cipm can only install packages when your package.json and package-lock.json or npm-shrinkwrap.json"
    " are in sync. Please update your lock file with `npm install` before continuing.",
    "npm 11": "npm error `npm ci` can only install packages when your package.json and package-lock.json or"
    " npm-shrinkwrap.json are in sync. Please update your lock file with `npm install` before continuing.",
    "npm 11, broken": "npm error The `npm ci` command can only install with an existing package-lock.json or",
    "pnpm 7": ' ERR_PNPM_OUTDATED_LOCKFILE  Cannot install with "frozen-lockfile" because pnpm-lock.yaml is not up to date',
    "pnpm 7, newer": " ERROR  Headless installation requires a pnpm-lock.yaml file",
    "pnpm 8, newer": ' ERR_PNPM_NO_LOCKFILE  Cannot install with "frozen-lockfile" because pnpm-lock.yaml is absent',
    "pnpm 10, broken": ' ERR_PNPM_BROKEN_LOCKFILE  The lockfile at "/x/pnpm-lock.yaml" is broken: unexpected end',
    "pnpm 12": "Error: ERR_PNPM_FROZEN_LOCKFILE_WITH_OUTDATED_LOCKFILE",
    "yarn 1": "error Your lockfile needs to be updated, but yarn was run with `--frozen-lockfile`.",
    "yarn 4": "➤ YN0028: · The lockfile would have been modified by this install, which is explicitly forbidden.",
    "bun 1": "error: lockfile had changes, but lockfile is frozen",
}


def followed(attempts: tuple[InstallStrategy, ...], *said: str) -> list[str]:
    """Return the commands that are run if each one but the last fails with this output."""
    shown = [attempts[0].shown]
    for text in said:
        later = [a for a in attempts[[a.shown for a in attempts].index(shown[-1]) + 1 :] if a.after]
        shown.append(next(a.shown for a in later if re.search(a.after or "", text)))
    return shown


@pytest.mark.parametrize("case", SAID)
def test_a_lockfile_that_is_out_of_step_is_given_up_in_the_end(case: str) -> None:
    name = case.split(" ", maxsplit=1)[0]
    manager = ManagerRequirement(YARN_BERRY if case == "yarn 4" else MANAGERS[name])
    attempts = list_strategies(manager, lockfile="the.lock", needed=True)

    commands = followed(attempts, *[SAID[case]] * (2 if name == "npm" else 1))

    last = next(attempt for attempt in attempts if attempt.shown == commands[-1])
    assert (attempts[0].frozen, attempts[0].remedy, last.frozen) == (True, None, False)
    assert last.remedy == f"the.lock does not match package.json. Run `{name} install` and commit the.lock."


def test_a_lockfile_of_another_pnpm_is_not_called_out_of_step() -> None:
    said = " ERR_PNPM_LOCKFILE_BREAKING_CHANGE  Lockfile /x/pnpm-lock.yaml not compatible with current pnpm"
    attempts = list_strategies(ManagerRequirement(MANAGERS["pnpm"]), lockfile="pnpm-lock.yaml", needed=True)

    chosen = next(attempt for attempt in attempts[1:] if re.search(attempt.after or "", said))

    assert chosen.shown == "pnpm install --no-frozen-lockfile"
    assert "This pnpm cannot read pnpm-lock.yaml, which another version wrote" in (chosen.remedy or "")


def test_conflicting_packages_are_installed_as_npm_6_did() -> None:
    conflict = "npm error code ERESOLVE\nnpm error ERESOLVE could not resolve"
    attempts = list_strategies(ManagerRequirement(MANAGERS["npm"]), lockfile="package-lock.json", needed=True)

    assert followed(attempts, conflict) == ["npm ci", "npm ci --legacy-peer-deps"]
    assert attempts[1].frozen, "the lockfile still decides"
    assert "legacy-peer-deps=true" in (attempts[1].remedy or "")
    assert followed(attempts, SAID["npm 11"], SAID["npm 11"], conflict)[2:] == [
        "npm install",
        "npm install --legacy-peer-deps",
    ]


def test_a_conflict_that_npm_only_warns_of_is_none() -> None:
    warning = "npm warn ERESOLVE overriding peer dependency\nnpm warn While resolving: a@1.0.0\nnpm error code 1\n"

    for attempt in list_strategies(ManagerRequirement(MANAGERS["npm"]), lockfile="package-lock.json", needed=True):
        assert not re.search(attempt.after or "never", warning)


def test_yarn_1_that_refuses_a_node_ignores_engines() -> None:
    said = 'error camelcase@7.0.1: The engine "node" is incompatible with this module. Expected version ">=14.16".'
    attempts = list_strategies(ManagerRequirement(MANAGERS["yarn"]), lockfile="yarn.lock", needed=True)

    assert followed(attempts, said)[1] == "yarn install --non-interactive --frozen-lockfile --ignore-engines"


def test_any_other_failure_has_no_second_attempt() -> None:
    for manager in (
        ManagerRequirement(MANAGERS["npm"]),
        ManagerRequirement(MANAGERS["pnpm"]),
        ManagerRequirement(MANAGERS["yarn"]),
        ManagerRequirement(YARN_BERRY),
        ManagerRequirement(MANAGERS["bun"]),
    ):
        attempts = list_strategies(manager, lockfile="x", needed=True)
        for said in ("npm error code E404", "gyp ERR! build error", "ERR_PNPM_FETCH_404", "YN0001: error", ""):
            assert not any(re.search(attempt.after, said) for attempt in attempts if attempt.after)


# --- managers that scripts call ---


@pytest.mark.parametrize(
    ("scripts", "called"),
    [
        ({"build": "yarn clean && yarn run compile"}, {"yarn"}),
        ({"build": "npm run a", "a": "run-s b", "b": "pnpm exec tsc"}, {"pnpm"}),
        ({"build": "vite build", "postinstall": "bunx patch-package"}, {"bun"}),
        ({"build": "vite build", "deploy": "yarn build"}, set()),
        ({"build": "rm -f pnpm-lock.yaml yarn.lock; vite build --out bundle"}, set()),
        ({"build": "npm run build"}, set()),
        ({"build": 7}, set()),
    ],
)
def test_managers_that_scripts_call_are_found(scripts: dict[str, Any], called: set[str]) -> None:
    assert find_called_managers(scripts, [str(scripts["build"]), "postinstall"]) == called


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (
            "https://registry.npm.taobao.org/yargs-parser/download/yargs-parser-20.2.4.tgz?cache=0&sync_timestamp=1&other_urls=https%3A%2F%2Fx",
            "yargs-parser/-/yargs-parser-20.2.4.tgz",
        ),
        (
            "https://registry.npm.taobao.org/@babel/parser/download/@babel/parser-7.12.13.tgz#abc",
            "@babel/parser/-/parser-7.12.13.tgz#abc",
        ),
        ("https://registry.npmmirror.com/@vue/shared/-/shared-3.5.1.tgz", "@vue/shared/-/shared-3.5.1.tgz"),
        ("http://mirrors.cloud.tencent.com/npm/a/-/a-1.0.0-rc.1.tgz", "a/-/a-1.0.0-rc.1.tgz"),
        ("https://registry.npmjs.org/a/-/a-1.0.0.tgz", None),
        ("https://npm.example.org/a/-/a-1.0.0.tgz", None),
        ("https://registry.npmmirror.com.evil.example.org/a/-/a-1.0.0.tgz", None),
    ],
)
def test_a_mirror_in_a_lockfile_is_left_for_the_registry(address: str, expected: str | None) -> None:
    text = f'{{"resolved": "{address}", "integrity": "sha512-x"}}'

    rewritten = f"https://registry.npmjs.org/{expected}" if expected else address
    assert replace_mirrors(text) == text.replace(address, rewritten)


NPM_ENTRY = '"resolved": "ADDRESS",\n      "integrity": "sha512-x=="'
YARN_ENTRY = '  resolved "ADDRESS#af1e3a8a7b0a4a1b1c7d4d0f4a5e3d2c1b0a9f8e"\n  integrity sha512-x==\n'


@pytest.mark.parametrize(
    ("entry", "address", "expected"),
    [
        (NPM_ENTRY, "https://npm.acme.com/a/-/a-1.0.0.tgz", "a/-/a-1.0.0.tgz"),
        (NPM_ENTRY, "http://npm.acme.com:8081/repository/npm-all/@a/b/-/b-1.0.0.tgz", "@a/b/-/b-1.0.0.tgz"),
        (YARN_ENTRY, "https://npm.acme.com/a/download/a-1.0.0.tgz?cache=0", "a/-/a-1.0.0.tgz"),
        (YARN_ENTRY, "http://npm.acme.com:80/@a%2fb/-/b-1.0.0.tgz", "@a/b/-/b-1.0.0.tgz"),
        (YARN_ENTRY.replace("  integrity sha512-x==\n", ""), "https://npm.acme.com/a/-/a-1.0.0.tgz", "a/-/a-1.0.0.tgz"),
        # Without a digest anybody's package of that name would do.
        (
            '"resolved": "ADDRESS#af1e3a8a7b0a4a1b1c7d4d0f4a5e3d2c1b0a9f8e"',
            "https://npm.acme.com/a/-/a-1.0.0.tgz",
            None,
        ),
        ('"resolved": "ADDRESS"', "https://npm.acme.com/a/-/a-1.0.0.tgz", None),
        ('  resolved "ADDRESS"\n\n', "https://npm.acme.com/a/-/a-1.0.0.tgz", None),
        (NPM_ENTRY, "https://npm.acme.com.evil.com/a/-/a-1.0.0.tgz", None),
        (NPM_ENTRY, "https://npm-acme.com/a/-/a-1.0.0.tgz", None),
        (NPM_ENTRY, "git+ssh://git@npm.acme.com/a/b.git#1", None),
    ],
)
def test_a_lockfile_host_is_replaced_when_there_is_a_digest(entry: str, address: str, expected: str | None) -> None:
    text = entry.replace("ADDRESS", address)

    rewritten = entry.replace("ADDRESS", f"https://registry.npmjs.org/{expected}") if expected else text
    assert replace_hosts(text, {"npm.acme.com"}) == rewritten


# --- dependencies whose install script fails ---

# Ends of real logs, shortened.
CYPRESS = """npm error code 1
npm error path /tmp/work/repository/node_modules/cypress
npm error command failed
npm error command sh -c node index.js --exec install
npm error Installing Cypress (version: 5.6.0)
npm error The Cypress App could not be downloaded.
"""
GYP = """npm error gyp ERR! command "/usr/bin/node" "/usr/lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js" "rebuild"
npm error gyp ERR! cwd /tmp/work/repository/node_modules/better-sqlite3
npm error gyp ERR! node -v v20.20.2
"""
NPM_6 = """npm ERR! code ELIFECYCLE
npm ERR! errno 1
npm ERR! cypress@5.6.0 postinstall: `node index.js --exec install`
npm ERR! Exit status 1
npm ERR!
npm ERR! Failed at the cypress@5.6.0 postinstall script.
"""
PNPM = """.../core-js@3.19.0/node_modules/core-js postinstall: Done
.../node_modules/msgpackr-extract install: gyp ERR! not ok
.../node_modules/msgpackr-extract install: Failed
.../node_modules/lmdb-store install$ node-gyp-build
.../node_modules/lmdb-store install: Failed
 ELIFECYCLE  Command failed with exit code 1.
"""
SHARP = """.../sharp@0.32.6/node_modules/sharp install: sharp: Installation error: getaddrinfo ENOTFOUND github.com
.../sharp@0.32.6/node_modules/sharp install: Failed
"""
YARN_1 = """error /tmp/work/repository/node_modules/puppeteer: Command failed.
Exit code: 1
Command: node install.js
"""
YARN_4 = """➤ YN0000: │ cypress@npm:15.15.0 STDOUT getaddrinfo ENOTFOUND download.cypress.io
➤ YN0009: │ cypress@npm:15.15.0 couldn't be built successfully (exit code 1, logs can be found here: /tmp/build.log)
➤ YN0009: │ @x/y@npm:1.0.0 [59f01] couldn't be built successfully (exit code 1, logs can be found here: /tmp/build.log)
➤ YN0000: · Failed with errors in 1m 3s
"""
BUN = """sharp: Installation error: getaddrinfo ENOTFOUND github.com

error: install script from "sharp" exited with 1
"""


@pytest.mark.parametrize(
    ("manager", "said", "names"),
    [
        ("npm", CYPRESS, ("cypress",)),
        ("npm", CYPRESS.replace("error", "ERR!").replace("cypress", "@x/y"), ("@x/y",)),
        ("npm", GYP, ("better-sqlite3",)),
        ("npm", NPM_6, ("cypress",)),
        ("pnpm", PNPM, ("msgpackr-extract", "lmdb-store")),
        ("pnpm", PNPM.replace(" ELIFECYCLE  ", "[ELIFECYCLE] "), ("msgpackr-extract", "lmdb-store")),
        ("yarn", YARN_1, ("puppeteer",)),
        ("yarn", YARN_4, ("cypress", "@x/y")),
        ("bun", BUN, ("sharp",)),
        # what is not a dependency's alone
        ("npm", CYPRESS.replace("/node_modules/cypress", ""), ()),
        ("npm", "npm error code EACCES\nnpm error path /tmp/work/repository/node_modules/a\nnpm error errno -13\n", ()),
        ("npm", NPM_6.replace("cypress@5.6.0", "app@1.0.0"), ()),
        ("pnpm", f"{SHARP}Done in 8s\n", ()),
        ("pnpm", f"{SHARP}> app@1.0.0 postinstall /tmp/work/repository\n> false\n ELIFECYCLE  Command failed.\n", ()),
        ("pnpm", f"{SHARP}. postinstall: x\n. postinstall: Failed\n ELIFECYCLE  Command failed.\n", ()),
        ("yarn", "error Command failed with exit code 1.\n", ()),
        ("yarn", f"{YARN_4}➤ YN0009: │ app@workspace:. couldn't be built successfully (exit code 1)\n", ()),
        ("bun", BUN.replace('"sharp"', '"app"'), ()),
        ("bun", BUN.replace('"sharp"', '"web"'), ()),
        # which nothing can be built without
        ("npm", CYPRESS.replace("cypress", "node-sass"), ()),
    ],
)
def test_the_dependencies_whose_install_scripts_failed_are_found(
    checkout: Path, manager: Any, said: str, names: tuple[str, ...]
) -> None:
    write(checkout, name="app")
    (checkout / "node_modules").mkdir()
    (checkout / "node_modules" / "web").symlink_to("../apps/web")

    assert find_failed_scripts(ManagerRequirement(MANAGERS[manager]), said, checkout, checkout) == names


def test_a_manager_of_unknown_script_failures_has_none(checkout: Path) -> None:
    manager = replace(MANAGERS["npm"], script_failures=())

    assert find_failed_scripts(ManagerRequirement(manager), "any other failure", checkout, checkout) == ()


def test_an_attempt_without_scripts_is_otherwise_the_same() -> None:
    ci = InstallStrategy(("npm", "ci"))
    immutable = InstallStrategy(("yarn", "install", "--immutable"))

    assert without_scripts(ManagerRequirement(MANAGERS["npm"]), ci) == ("npm", "ci", "--ignore-scripts")
    assert without_scripts(ManagerRequirement(YARN_BERRY), immutable) == (*immutable.command, "--mode=skip-build")


@pytest.mark.parametrize(
    "text",
    [
        "layoutVersion: 5\npendingBuilds:\n  - .\n  - /core-js/3.19.0\n  - /@swc/core/1.3.0_x@1\npublicHoistPattern:\n  - a@1\n",
        "pendingBuilds:\n  - .\n  - /core-js@3.19.0\n  - '@swc/core@1.3.0(x@1.0.0)'\nregistries:\n  default: x\n",
        '{\n  "hoisted": {\n    "a@1": {}\n  },\n  "pendingBuilds": [\n    ".",\n    "core-js@3.19.0",\n'
        '    "@swc/core@1.3.0",\n    "--x@1"\n  ],\n  "publicHoistPattern": [\n    "b@1"\n  ]\n}\n',
    ],
)
def test_packages_that_pnpm_skipped_are_read_from_its_record(checkout: Path, text: str) -> None:
    (checkout / "node_modules").mkdir()
    assert list_skipped(checkout, checkout) == []
    (checkout / "node_modules" / ".modules.yaml").write_text(text)

    assert list_skipped(checkout, checkout) == ["@swc/core", "core-js"]


def install(
    monkeypatch: pytest.MonkeyPatch,
    checkout: Path,
    manager: ManagerRequirement,
    attempts: InstallStrategy | tuple[InstallStrategy, ...],
    failures: list[str],
    *,
    strict: bool = True,
    lockfile: Path | None = None,
) -> tuple[Outcome, list[str], list[str]]:
    """Install with first commands that fail with this output; return the result, the commands, and the warnings."""
    ran: list[str] = []
    warnings: list[str] = []

    async def run(stage: Any, command: Any, *, shown: str | None = None, **_: Any) -> None:
        shown = shown or " ".join(command)
        ran.append(shown)
        said = failures.pop(0) if failures else ""
        if said:
            raise CommandFailed(stage, f"{shown} failed.", "Do something.", output=said)

    async def rewrite(_: Any, path: Path, change: Any) -> bool:
        text = path.read_text()
        path.write_text(change(text))
        return bool(path.read_text() != text)

    monkeypatch.setattr(RegistryRewriter, "_rewrite", rewrite)
    strategies = attempts if isinstance(attempts, tuple) else (attempts,)
    plan = make_plan(checkout, manager=manager, lockfile=lockfile, strategies=strategies, shown="")
    settings: Any = SimpleNamespace(strict_lockfile=strict, install_command=None)
    build: Any = SimpleNamespace(settings=settings, log=lambda _: None, warn=warnings.append)
    commands: Any = SimpleNamespace(run=run)
    context: Any = SimpleNamespace(run=build, plan=plan, commands=commands)
    installed = anyio.run(Installer(context, {}).install)
    return installed, ran, warnings


def test_after_an_install_without_scripts_allowed_scripts_run(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    write(checkout, name="app", scripts={"postinstall": "x", "build": "x"})
    packages = {f"node_modules/{name}": {"hasInstallScript": True} for name in ("cypress", "esbuild", "sharp")}
    for path in (*packages, "node_modules/web"):
        (checkout / path).mkdir(parents=True)
    text = json.dumps({"packages": {**packages, "node_modules/web": {"link": True}, "web": {"hasInstallScript": True}}})
    (checkout / "node_modules" / ".package-lock.json").write_text(text)
    failures = [CYPRESS, "", CYPRESS.replace("cypress", "sharp")]

    installed, ran, warnings = install(
        monkeypatch, checkout, ManagerRequirement(MANAGERS["npm"]), InstallStrategy(("npm", "ci")), failures
    )

    assert ran == [
        "npm ci",
        "npm ci --ignore-scripts",
        "npm rebuild esbuild sharp web",
        "npm rebuild esbuild web",
        "npm run postinstall",
    ]
    assert not installed.clean, "the next build must not get it from the cache"
    assert set(installed.failed_packages) == {"cypress", "sharp"}
    assert "INSTALL_ENV_CYPRESS_INSTALL_BINARY=0" in installed.failed_packages["cypress"]
    assert [warning.partition(" failed")[0] for warning in warnings] == [
        "Install script of cypress",
        "Install script of sharp",
    ]


@pytest.mark.parametrize(
    ("manager", "command", "said", "after"),
    [
        (ManagerRequirement(MANAGERS["npm"]), "npm ci", NPM_6, ["npm run postinstall"]),
        (ManagerRequirement(MANAGERS["pnpm"]), "pnpm install", PNPM, ["pnpm install"]),
        (ManagerRequirement(MANAGERS["yarn"]), "yarn install", YARN_1, ["yarn run postinstall"]),
        (ManagerRequirement(YARN_BERRY), "yarn install", YARN_4, []),
        (ManagerRequirement(MANAGERS["bun"]), "bun install", BUN, ["bun install"]),
    ],
)
def test_each_manager_runs_the_scripts_of_the_repository_itself(
    monkeypatch: pytest.MonkeyPatch,
    checkout: Path,
    manager: ManagerRequirement,
    command: str,
    said: str,
    after: list[str],
) -> None:
    write(checkout, name="app", scripts={"postinstall": "x"})

    installed, ran, _ = install(monkeypatch, checkout, manager, InstallStrategy(tuple(command.split())), [said])

    assert ran[2:] == after
    assert not installed.clean


def test_other_failures_and_commands_of_the_owner_run_once(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    for command, said in ((("npm", "ci"), "npm error code E404\n"), ((*SHELL, "npm ci"), CYPRESS)):
        with pytest.raises(CommandFailed, match="npm ci failed"):
            install(monkeypatch, checkout, ManagerRequirement(MANAGERS["npm"]), InstallStrategy(command), [said])


def hint_of_failure(plan: Any, said: str, hint: str | None) -> str | None:
    lacking = {"sharp": "Update it.", "cypress": "x"}
    with pytest.raises(CommandFailed) as caught, with_failure_hint(plan, lacking, committed="2022-06-15"):
        raise CommandFailed("build", "npm run build failed.", hint, output=said)
    return caught.value.hint


def test_every_fallback_of_an_install_is_a_warning(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    engine = 'error a@1.0.0: The engine "node" is incompatible with this module.'
    outdated, engines = "yarn.lock does not match", "A package requires another version of Node"
    for lockfile, said, expected in (
        ("yarn.lock", [SAID["yarn 1"], engine], [outdated, engines]),
        ("yarn.lock", [engine, SAID["yarn 1"], engine], [engines, outdated]),
        (None, [engine], ["The repository has no lockfile", engines]),
    ):
        attempts = list_strategies(ManagerRequirement(MANAGERS["yarn"]), lockfile=lockfile, needed=True)
        installed, _, warnings = install(
            monkeypatch, checkout, ManagerRequirement(MANAGERS["yarn"]), attempts, said, strict=False
        )

        assert len(warnings) == len(expected)
        assert all(map(str.startswith, warnings, expected)), warnings
        assert not installed.clean


# --- unreachable registries ---

HOST = "npm.acme.example"
SHA = "sha512-" + "A" * 86 + "=="
REFUSED = f"npm error code E403\nnpm error 403 403 Forbidden - GET https://{HOST}/x/a/-/a-1.0.0.tgz"


def lock_of_host(folder: Path, *, integrity: bool = True) -> Path:
    entry = {"version": "1.0.0", "resolved": f"https://{HOST}/x/a/-/a-1.0.0.tgz"}
    entry |= {"integrity": SHA} if integrity else {}
    path = folder / "package-lock.json"
    path.write_text(json.dumps({"lockfileVersion": 3, "packages": {"": {}, "node_modules/a": entry}}, indent=2))
    return path


NPM_ATTEMPTS = list_strategies(ManagerRequirement(MANAGERS["npm"]), lockfile="package-lock.json", needed=True)


@pytest.mark.parametrize(
    "said",
    [
        REFUSED,
        REFUSED.replace("403", "401"),
        REFUSED.replace("403", "404"),
        f"npm error code ENOTFOUND\nnpm error request to https://{HOST}/x/a failed, reason: getaddrinfo ENOTFOUND {HOST}",
        f"npm error code ECONNREFUSED\nnpm error connect ECONNREFUSED {HOST}:443",
        "npm error code E401\nnpm error Unable to authenticate, your authentication token seems to be invalid.",
    ],
)
def test_npm_is_asked_by_digest_for_refused_packages(
    monkeypatch: pytest.MonkeyPatch, checkout: Path, said: str
) -> None:
    lockfile = lock_of_host(checkout)
    (checkout / ".npmrc").write_text(f"fund=false\nregistry=https://{HOST}/x/\n//{HOST}/:_authToken=${{T}}\n")

    installed, ran, warnings = install(
        monkeypatch, checkout, ManagerRequirement(MANAGERS["npm"]), NPM_ATTEMPTS, [said], lockfile=lockfile
    )

    assert (ran, installed.clean) == (["npm ci", "npm ci"], True)
    assert "https://registry.npmjs.org/a/-/a-1.0.0.tgz" in lockfile.read_text()
    assert "registry=https://registry.npmjs.org/\n//" in (checkout / ".npmrc").read_text()
    assert warnings[0].startswith(f"package-lock.json and .npmrc name {HOST}, which this build cannot read.")


def test_without_a_digest_nothing_is_taken_from_elsewhere(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    lockfile = lock_of_host(checkout, integrity=False)
    (checkout / ".npmrc").write_text(f"registry=https://{HOST}/x/\n")
    before = [lockfile.read_text(), (checkout / ".npmrc").read_text()]

    with pytest.raises(CommandFailed) as caught:
        install(
            monkeypatch,
            checkout,
            ManagerRequirement(MANAGERS["npm"]),
            NPM_ATTEMPTS,
            [REFUSED, REFUSED],
            lockfile=lockfile,
        )

    assert [lockfile.read_text(), (checkout / ".npmrc").read_text()] == before
    assert f"package-lock.json names {HOST}, which this build cannot read. Without digests" in (caught.value.hint or "")


def test_registry_settings_stay_without_a_lockfile(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    (checkout / ".npmrc").write_text(f"registry=https://{HOST}/x/\n")

    with pytest.raises(CommandFailed) as caught:
        install(monkeypatch, checkout, ManagerRequirement(MANAGERS["npm"]), NPM_ATTEMPTS, [REFUSED] * 9)

    assert (checkout / ".npmrc").read_text() == f"registry=https://{HOST}/x/\n"
    assert f".npmrc names {HOST}" in (caught.value.hint or "")


def test_no_token_is_asked_for_a_registry_that_is_not_found(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    (checkout / ".npmrc").write_text(f"registry=https://{HOST}/x/\n")
    unknown = f"npm error code ENOTFOUND\nnpm error request to https://{HOST}/x/a failed, reason: getaddrinfo ENOTFOUND {HOST}"

    with pytest.raises(CommandFailed) as caught:
        install(monkeypatch, checkout, ManagerRequirement(MANAGERS["npm"]), NPM_ATTEMPTS, [unknown] * 9)

    hint = caught.value.hint or ""
    assert f".npmrc names {HOST}" in hint
    assert "TOKEN" not in hint
    assert "allow builds to reach it" in hint


def test_where_only_settings_changed_nothing_is_resolved_anew(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    """A version that is not in the lockfile would come from the npm registry without a digest."""
    lockfile = lock_of_host(checkout)
    (checkout / ".npmrc").write_text(f"registry=https://{HOST}/x/\n")

    with pytest.raises(CommandFailed):
        install(
            monkeypatch,
            checkout,
            ManagerRequirement(MANAGERS["npm"]),
            NPM_ATTEMPTS,
            [REFUSED, *[SAID["npm 11"]] * 9],
            lockfile=lockfile,
            strict=False,
        )


def test_another_lockfile_is_used_where_one_cannot_be(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    lockfile = checkout / "bun.lock"
    lockfile.write_text(f'"packages": {{\n    "a": ["a@1.0.0", "https://{HOST}/a/-/a-1.0.0.tgz", {{}}],\n')
    (checkout / "package-lock.json").write_text('{"lockfileVersion": 3, "packages": {}}')
    attempts = list_strategies(ManagerRequirement(MANAGERS["bun"]), lockfile="bun.lock", needed=True)

    _, ran, warnings = install(
        monkeypatch,
        checkout,
        ManagerRequirement(MANAGERS["bun"]),
        attempts,
        ["error: DNSResolveFailed downloading tarball a@1.0.0"],
        lockfile=lockfile,
    )

    assert ran == ["bun install --frozen-lockfile", "npm ci"]
    assert warnings == [
        f"bun.lock names {HOST}, which this build cannot read. Using package-lock.json instead. Remove one of them."
    ]


def test_a_package_that_npm_lacks_reports_the_first_cause(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    lockfile = lock_of_host(checkout)
    missing = (
        "npm error code E404\nnpm error 404 Not Found - GET https://registry.npmjs.org/a/-/a-1.0.0.tgz - Not found"
    )

    with pytest.raises(CommandFailed) as caught:
        install(
            monkeypatch,
            checkout,
            ManagerRequirement(MANAGERS["npm"]),
            NPM_ATTEMPTS,
            [REFUSED, missing],
            lockfile=lockfile,
        )

    assert f"names {HOST}, which this build cannot read, and the npm registry lacks some" in str(caught.value.hint)


def test_a_registry_that_did_not_fail_is_left_alone(monkeypatch: pytest.MonkeyPatch, checkout: Path) -> None:
    lockfile = lock_of_host(checkout)
    said = "npm error code ENOTFOUND\nnpm error getaddrinfo ENOTFOUND download.example.org"

    with pytest.raises(CommandFailed):
        install(monkeypatch, checkout, ManagerRequirement(MANAGERS["npm"]), NPM_ATTEMPTS, [said], lockfile=lockfile)

    assert HOST in lockfile.read_text()


# --- failures that are not retried ---


def test_a_remedy_that_did_not_help_is_not_tried_in_another_form(
    monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    conflict = "npm error code ERESOLVE\nnpm error ERESOLVE could not resolve"

    with pytest.raises(CommandFailed, match="npm ci --legacy-peer-deps failed"):
        install(monkeypatch, checkout, ManagerRequirement(MANAGERS["npm"]), NPM_ATTEMPTS, [conflict] * 3, strict=False)


WINDOWS = (
    "npm error code EBADPLATFORM\nnpm error notsup Unsupported platform for @rollup/rollup-win32-x64-msvc@4.24.0: wanted"
    ' {"os":"win32","cpu":"x64"} (current: {"os":"linux","cpu":"x64"})'
)
WINDOWS_OF_YARN = (
    'error @rollup/rollup-win32-x64-msvc@4.24.0: The platform "linux" is incompatible with this module.\n'
    "error Found incompatible module."
)


@pytest.mark.parametrize(
    ("manager", "lockfile", "said", "last"),
    [
        ("npm", "package-lock.json", WINDOWS, "npm ci --force"),
        ("npm", None, WINDOWS, "npm install --force"),
        ("yarn", "yarn.lock", WINDOWS_OF_YARN, "--frozen-lockfile --ignore-engines --ignore-platform"),
    ],
)
def test_a_package_for_another_system_is_installed_and_named(
    monkeypatch: pytest.MonkeyPatch, checkout: Path, manager: Any, lockfile: str | None, said: str, last: str
) -> None:
    attempts = list_strategies(ManagerRequirement(MANAGERS[manager]), lockfile=lockfile, needed=True)

    installed, ran, warnings = install(
        monkeypatch, checkout, ManagerRequirement(MANAGERS[manager]), attempts, [said], strict=False
    )

    assert len(ran) == 2
    assert ran[1].endswith(last)
    assert not installed.clean
    assert warnings[-1].startswith("@rollup/rollup-win32-x64-msvc is for another operating system or processor")


def test_install_scripts_that_fail_alike_do_not_run_a_third_time(
    monkeypatch: pytest.MonkeyPatch, checkout: Path
) -> None:
    monkeypatch.setattr(scripts, "_LONG_REBUILD_SECONDS", 0.0)
    npm = replace(MANAGERS["npm"], list_skipped=lambda *_: ["a", "b", "c"])
    said = [CYPRESS.replace("cypress", name) for name in ("a", "b")]

    installed, ran, warnings = install(
        monkeypatch,
        checkout,
        ManagerRequirement(npm),
        InstallStrategy(("npm", "ci")),
        [said[0], "", said[1]],
    )

    assert ran == ["npm ci", "npm ci --ignore-scripts", "npm rebuild b c"]
    assert set(installed.failed_packages) == {"a", "b"}
    assert "failed twice for the same reason" in warnings[-1]


def test_a_build_that_lacks_a_package_says_so(checkout: Path) -> None:
    def hint(said: str) -> str | None:
        return hint_of_failure(make_plan(checkout), said, "Fix it.")

    assert hint('Something went wrong installing the \x1b[1m"sharp"\x1b[0m module') == (
        "sharp may be missing, because its install script failed. Update it."
    )
    assert hint("    at x (/tmp/app/node_modules/sharp/lib/index.js:1:2)") != "Fix it."
    assert hint("cypress/integration/a.ts: Something broke. A sharp edge.") == "Fix it."


UNKNOWN = "\x1b[31mSyntaxError: Named export 'createFilter' not found in CHECKOUT/x.js\x1b[39m\n    at x (node:internal/x:1:2)\n"


def test_an_unknown_build_failure_is_quoted_with_what_to_do(checkout: Path) -> None:
    def hint(
        name: str, *, needed: bool = True, lockfile: str | None = None, given: str | None = None, said: str = UNKNOWN
    ) -> str | None:
        install = list_strategies(ManagerRequirement(MANAGERS[name]), lockfile=lockfile, needed=needed)
        plan = make_plan(
            checkout,
            manager=ManagerRequirement(MANAGERS[name]),
            lockfile=checkout / lockfile if lockfile else None,
            strategies=install,
            shown=f"{name} run build",
        )
        return hint_of_failure(plan, said.replace("CHECKOUT", str(checkout)), given)

    quote = "The build says: “SyntaxError: Named export 'createFilter' not found in x.js”. "
    no_lockfile = "The repository has no lockfile, so the newest packages that package.json allows were installed"
    afresh = "To reproduce it, clone the repository into a new folder, which has only committed files, and run"
    npm, pnpm = hint("npm"), hint("pnpm")
    assert npm is not None
    assert npm.startswith(f"{quote}{no_lockfile}")
    assert "`npm install --before=2022-06-15`" in npm
    assert pnpm is not None
    assert pnpm.endswith("Commit the lockfile from a machine where the build works.")
    assert hint("npm", given="Fix it.") == "Fix it."
    locked = hint("npm", lockfile="package-lock.json")
    assert locked == f"{quote}{afresh} `npm ci` and `npm run build` there."
    assert (hint("pnpm", lockfile="pnpm-lock.yaml") or "").startswith(
        f"{quote}{afresh} `pnpm install --frozen-lockfile` and"
    )
    assert (hint("npm", needed=False) or "").startswith(f"{quote}{afresh}"), "nothing was installed"
    assert (hint("npm", said="\n> exit 3\n") or "").startswith(no_lockfile)
    assert (hint("npm", said="", lockfile="package-lock.json") or "").startswith(afresh)


# --- what the cache restored ---


class FakeCache:
    """A dependency cache that restored something."""

    def __init__(self, *, completes: bool) -> None:
        self.restored = True
        self.done: list[str] = []
        self._completes = completes

    async def restore(self) -> bool:
        return self._completes

    def list_remaining_commands(self, package: object) -> list[tuple[str, ...]]:
        return [("npm", "rebuild", "esbuild")]

    async def discard(self) -> None:
        self.done.append("discard")
        self.restored = False

    def note_install(self, seconds: float) -> None:
        self.done.append("note")


@pytest.mark.parametrize("completes", [True, False], ids=["its scripts fail", "the install with it fails"])
def test_an_install_that_fails_after_a_restore_starts_anew(
    checkout: Path, monkeypatch: pytest.MonkeyPatch, completes: bool
) -> None:
    """A damaged archive must fail no build; it is discarded, and the next archive replaces it."""
    cache: Any = FakeCache(completes=completes)
    warnings: list[str] = []
    failure = CommandFailed("install", "npm ci failed.", "Do something.", output="")

    class DamagedUntilDiscarded:
        def __init__(self, *_: object) -> None:
            pass

        async def install(self) -> Outcome:
            if cache.restored:
                raise failure
            cache.done.append("install")
            return Outcome(clean=True, failed_packages={})

    async def fail(*_: object, **__: object) -> None:
        raise failure

    monkeypatch.setattr(install_stage, "Installer", DamagedUntilDiscarded)
    build: Any = SimpleNamespace(settings=None, warn=warnings.append)
    plan = make_plan(checkout)
    workspace: Any = SimpleNamespace(environment={})
    context: Any = SimpleNamespace(run=build, plan=plan, workspace=workspace, commands=SimpleNamespace(run=fail))
    caches: Any = SimpleNamespace(dependencies=cache)

    assert anyio.run(InstallStage(context, None, caches)._install) == {}  # type: ignore[arg-type]

    assert cache.done == ["discard", "install", "note"]
    assert warnings == ["Cached dependencies failed; discarding them and reinstalling."]
