"""Test the detection of a repository's package manager and its version."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from buildrunner.project.package_managers.detect import detect_manager
from buildrunner.project.package_managers.lockfiles import read_format_version
from buildrunner.project.package_managers.record import ManagerRequirement
from buildrunner.project.package_managers.table import LOCKFILES, MANAGERS
from buildrunner.project.package_managers.yarn import YARN_BERRY
from buildrunner.project.versions import numbers

V3 = '{"lockfileVersion": 3, "packages": {"": {"dependencies": {"a": "^1.0.0"}}}}'
CLASSIC = '# yarn lockfile v1\n\n\na@^1.0.0:\n  version "1.0.0"\n'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "apps/web").mkdir(parents=True)
    return folder


def write(folder: Path, **package: Any) -> None:
    (folder / "package.json").write_text(json.dumps(package))


def found(checkout: Path, folder: str = ".") -> ManagerRequirement:
    return detect_manager((checkout / folder).resolve(), checkout)[0]


# The newest of each line that matters.
RELEASES: dict[str, list[str]] = {
    "npm": ["6.14.18", "7.24.2", "8.19.4", "9.9.4", "10.9.4", "11.6.2", "12.2.2"],
    "pnpm": ["5.18.10", "6.35.1", "7.33.7", "8.15.9", "9.1.0", "9.15.9", "10.2.0", "10.34.9", "11.9.0", "12.21.0"],
    "yarn": ["0.27.5", "1.22.19", "1.22.22", "2.4.3", "3.1.1", "3.2.1", "3.8.7", "4.0.0", "4.12.0", "4.14.1", "4.18.1"],
    "bun": ["0.8.1", "1.0.36", "1.1.45", "1.2.23", "1.4.5"],
}


def best(manager: ManagerRequirement) -> str | None:
    """Return the release that would be downloaded."""
    return max(filter(manager.accepts, RELEASES[manager.name]), key=numbers, default=None)


def notes_of(checkout: Path) -> str:
    return "\n".join(detect_manager(checkout, checkout)[2])


# --- which manager ---


@pytest.mark.parametrize(("name", "manager"), [(file, record.name) for file, (record, _) in LOCKFILES.items()])
def test_the_lockfile_names_the_manager(checkout: Path, name: str, manager: str) -> None:
    (checkout / name).write_text("{}")

    for folder in (".", "apps/web"):
        chosen, lockfile, _ = detect_manager((checkout / folder).resolve(), checkout)
        assert (chosen.name, lockfile) == (manager, checkout / name)


def test_without_any_sign_it_is_npm(checkout: Path) -> None:
    write(checkout, scripts={"build": "x"})

    assert detect_manager(checkout, checkout) == (ManagerRequirement(MANAGERS["npm"]), None, ())


def test_the_nearest_lockfile_counts(checkout: Path) -> None:
    (checkout / "package-lock.json").write_text("{}")
    (checkout / "apps/web/yarn.lock").write_text(CLASSIC)

    assert found(checkout, "apps/web").name == "yarn"
    assert found(checkout).name == "npm"


@pytest.mark.parametrize(
    ("field", "name", "version", "digest"),
    [
        ("pnpm@9.1.0", "pnpm", "9.1.0", None),
        ("pnpm@9.1.0+sha512.ABCD", "pnpm", "9.1.0", ("sha512", "abcd")),
        ("yarn@1.22.22", "yarn", "1.22.22", None),
        ("npm@10", "npm", "10.9.4", None),
        ("bun@latest", "bun", "1.4.5", None),
        ("pnpm@^8", "pnpm", "8.15.9", None),
    ],
)
def test_package_manager_comes_before_every_lockfile(
    checkout: Path, field: str, name: str, version: str | None, digest: Any
) -> None:
    write(checkout, packageManager=field)
    (checkout / "apps/web/package-lock.json").write_text(V3)

    for folder in (".", "apps/web"):
        manager = found(checkout, folder)
        assert (manager.name, best(manager), manager.digest) == (name, version, digest)


@pytest.mark.parametrize(
    "field", ["yarn@https://example.org/yarn.js", "cargo@1", "../x@1", "npm@1 2", 7, "pnpm@" + "1" * 200]
)
def test_a_field_that_names_no_manager_is_not_used(checkout: Path, field: Any) -> None:
    write(checkout, packageManager=field)
    (checkout / "yarn.lock").write_text(CLASSIC)

    manager, _, notes = detect_manager(checkout, checkout)

    assert manager.name == "yarn"
    assert len(notes) == isinstance(field, str)


def test_dev_engines_names_a_manager_too(checkout: Path) -> None:
    write(checkout, devEngines={"packageManager": {"name": "pnpm", "version": "^10.1"}})

    assert (found(checkout).name, found(checkout).because, best(found(checkout))) == ("pnpm", "devEngines", "10.34.9")


def test_a_lockfile_of_another_manager_is_reported(checkout: Path) -> None:
    write(checkout, packageManager="pnpm@9.1.0")
    (checkout / "package-lock.json").write_text(V3)

    manager, lockfile, notes = detect_manager(checkout, checkout)

    assert (manager.name, lockfile) == ("pnpm", None)
    assert "package-lock.json is ignored" in notes[0]


def test_the_lockfile_that_matches_package_json_is_used(checkout: Path) -> None:
    write(checkout, dependencies={"a": "^1.0.0"}, devDependencies={"b": "2"})
    (checkout / "bun.lockb").write_bytes(b"#!/usr/bin/env bun\n\0")
    (checkout / "package-lock.json").write_text('{"packages": {"": {"dependencies": {"a": "^1.0.0", "b": "2"}}}}')
    (checkout / "yarn.lock").write_text(CLASSIC)

    manager, lockfile, notes = detect_manager(checkout, checkout)

    assert (manager.name, lockfile) == ("npm", checkout / "package-lock.json")
    assert "Remove yarn.lock and bun.lockb" in notes[0]
    (checkout / "yarn.lock").write_text(f'{CLASSIC}\nb@2:\n  version "2.0.0"\n')
    assert found(checkout).name == "yarn", "npm's is the one that comes about by accident"
    (checkout / "yarn.lock").write_text('__metadata:\n  version: 8\n\n"a@npm:^1.0.0":\n  x: 1\n"b@npm:2":\n  x: 1\n')
    assert found(checkout).name == "yarn"
    (checkout / "pnpm-lock.yaml").write_text(
        "importers:\n  .:\n    dependencies:\n      a:\n        x: 1\n      'b':\n"
    )
    assert found(checkout).name == "pnpm"


def test_an_old_lockfile_of_npm_is_compared_by_names(checkout: Path) -> None:
    write(checkout, dependencies={"a": "^1.0.0"})
    (checkout / "package-lock.json").write_text(
        '{"lockfileVersion": 1, "dependencies": {\n"a": {\n"version": "1.0.0"}}}'
    )
    (checkout / "yarn.lock").write_text("# yarn lockfile v1\n")

    assert found(checkout).name == "npm"


def test_a_lockfile_that_leads_out_of_the_repository_is_none(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_text(CLASSIC)
    (checkout / "yarn.lock").symlink_to("../outside")

    assert found(checkout).name == "npm"


@pytest.mark.parametrize(
    ("package", "file", "name"),
    [
        ({"scripts": {"preinstall": "npx only-allow pnpm"}}, None, "pnpm"),
        ({"engines": {"pnpm": ">=8"}}, None, "pnpm"),
        ({"volta": {"yarn": "1.22.19"}}, None, "yarn"),
        ({}, "pnpm-workspace.yaml", "pnpm"),
        ({}, ".yarnrc.yml", "yarn"),
        ({}, "bunfig.toml", "bun"),
    ],
)
def test_without_a_lockfile_other_signs_count(
    checkout: Path, package: dict[str, Any], file: str | None, name: str
) -> None:
    write(checkout, **package)
    if file:
        (checkout / file).write_text("packages: ['*']\n")

    assert found(checkout).name == name


# --- which version ---


@pytest.mark.parametrize(
    ("lockfile", "version"),
    [
        ("lockfileVersion: 5.1\n", ">=6.0.0 <8.0.0"),
        ("lockfileVersion: 5.4\n", ">=6.0.0 <8.0.0"),
        ("lockfileVersion: '6.0'\n", "^8.3.1"),
        ("lockfileVersion: '9.0'\n", "^9.0.0"),
        ("lockfileVersion: '10.0'\n", "^10.0.0"),
        ("", "^10.0.0"),
    ],
)
def test_the_lockfile_says_which_pnpm_reads_it(checkout: Path, lockfile: str, version: str) -> None:
    (checkout / "pnpm-lock.yaml").write_text(lockfile)

    assert found(checkout).version == version


@pytest.mark.parametrize(
    ("workspace", "version"),
    [
        ("packages:\n  - a\n", "^9.0.0"),
        ("packages:\n  - a\ncatalog:\n  a: 1\n", "^9.0.0"),
        ("onlyBuiltDependencies:\n  - esbuild\n", "^10.0.0"),
        ("packages: [a]\nnodeLinker: hoisted\n", "^10.0.0"),
        ("catalog:\n  a: 1\n", "^10.0.0"),
    ],
)
def test_settings_that_pnpm_9_does_not_know_ask_for_pnpm_10(checkout: Path, workspace: str, version: str) -> None:
    (checkout / "pnpm-lock.yaml").write_text("lockfileVersion: '9.0'\n")
    (checkout / "pnpm-workspace.yaml").write_text(workspace)

    assert found(checkout).version == version


@pytest.mark.parametrize(
    ("metadata", "version", "modern"),
    [
        (4, "^2.4.1", True),
        (6, "^3.2.0", True),
        (8, ">=4.0.0 <4.13.0", True),
        (9, "~4.14.0", True),
        (10, "^4.0.0", True),
        (None, "^1.22.0", False),
    ],
)
def test_the_lockfile_says_which_yarn_wrote_it(
    checkout: Path, metadata: int | None, version: str, modern: bool
) -> None:
    (checkout / "yarn.lock").write_text(f"__metadata:\n  version: {metadata}\n" if metadata else CLASSIC)

    manager = found(checkout)

    assert (manager.version, manager.record is YARN_BERRY) == (version, modern)


@pytest.mark.parametrize(("field", "modern"), [("1.22.22", False), ("2.4.3", True), ("4.12.0", True), ("11.0.0", True)])
def test_yarn_is_modern_from_2_on(checkout: Path, field: str, modern: bool) -> None:
    write(checkout, packageManager=f"yarn@{field}")

    assert (found(checkout).record is YARN_BERRY) == modern


def test_a_yarn_1_lockfile_with_later_settings_is_for_later_yarn(checkout: Path) -> None:
    (checkout / "yarn.lock").write_text(CLASSIC)
    (checkout / ".yarnrc.yml").write_text("nodeLinker: node-modules\n")

    assert (found(checkout).version, found(checkout).record is YARN_BERRY) == ("^4.0.0", True)


def test_the_yarn_that_the_repository_holds_is_used(checkout: Path, tmp_path: Path) -> None:
    (checkout / ".yarnrc.yml").write_text('yarnPath: ".yarn/releases/yarn-3.2.1.cjs"\n')
    write(checkout, packageManager="yarn@3.0.0+sha224.ab")

    manager = found(checkout, "apps/web")
    assert (manager.version, manager.release, manager.digest) == ("3.2.1", None, None)
    release = checkout / ".yarn/releases/yarn-3.2.1.cjs"
    release.parent.mkdir(parents=True)
    release.touch()
    assert found(checkout, "apps/web").release == release
    release.unlink()
    (tmp_path / "outside.cjs").touch()
    release.symlink_to(tmp_path / "outside.cjs")
    assert found(checkout).release is None


# What package.json and the lockfile say, and which release is used.
ENGINES: list[tuple[str, dict[str, Any], str | None, str]] = [
    ("yarn.lock", {"yarn": ">=1.22.0"}, "1", "1.22.22"),
    ("yarn.lock", {"yarn": "1.22.19"}, "1", "1.22.19"),
    ("yarn.lock", {"yarn": ">= 0.25"}, "1", "1.22.22"),
    ("yarn.lock", {"yarn": "*"}, "1", "1.22.22"),
    ("yarn.lock", {"yarn": ">=1"}, "6", "3.8.7"),
    ("yarn.lock", {"yarn": ">=3"}, "4", "3.8.7"),
    ("yarn.lock", {"yarn": ">=4.1"}, "8", "4.12.0"),
    ("yarn.lock", {"yarn": ">=1.22.0"}, None, "1.22.22"),
    ("yarn.lock", {"yarn": ">=2"}, None, "4.18.1"),
    ("pnpm-lock.yaml", {"pnpm": ">=9"}, "9.0", "9.15.9"),
    ("pnpm-lock.yaml", {"pnpm": ">=10.2"}, "9.0", "10.34.9"),
    ("pnpm-lock.yaml", {"pnpm": "10.2.0"}, "9.0", "10.2.0"),
    ("pnpm-lock.yaml", {"pnpm": ">=11"}, "9.0", "11.9.0"),
    ("pnpm-lock.yaml", {"pnpm": ">=7"}, "5.4", "7.33.7"),
    ("pnpm-lock.yaml", {"pnpm": ">=8"}, "6.0", "8.15.9"),
    ("pnpm-lock.yaml", {"pnpm": ">=9"}, "6.0", "9.15.9"),
    ("pnpm-lock.yaml", {"pnpm": "9 || 10"}, "9.0", "9.15.9"),
    ("pnpm-lock.yaml", {"pnpm": "10+"}, "9.0", "10.34.9"),
    ("pnpm-lock.yaml", {"pnpm": ">=8"}, None, "10.34.9"),
    ("pnpm-lock.yaml", {"pnpm": ">=6 <9"}, None, "8.15.9"),
    ("bun.lock", {"bun": ">=1.0.0"}, "1", "1.4.5"),
    ("bun.lock", {"bun": "~1.2"}, "1", "1.2.23"),
]
FORMATS = {
    "yarn.lock": lambda version: CLASSIC if version == "1" else f"__metadata:\n  version: {version}\n",
    "pnpm-lock.yaml": lambda version: f"lockfileVersion: '{version}'\n",
    "bun.lock": lambda version: f'{{"lockfileVersion": {version}}}\n',
    "package-lock.json": lambda version: f'{{"lockfileVersion": {version}}}\n',
}


def lock(checkout: Path, file: str, version: str | None) -> None:
    if version:
        (checkout / file).write_text(FORMATS[file](version))


@pytest.mark.parametrize(("file", "engines", "version", "expected"), ENGINES)
def test_the_lockfile_chooses_among_what_engines_allow(
    checkout: Path, file: str, engines: dict[str, Any], version: str | None, expected: str
) -> None:
    lock(checkout, file, version)
    write(checkout, engines=engines)

    manager, _, notes = detect_manager(checkout, checkout)

    assert (best(manager), notes) == (expected, ())
    assert (manager.record is YARN_BERRY) == (manager.name == "yarn" and not expected.startswith("1."))


@pytest.mark.parametrize(
    ("file", "version", "package", "expected"),
    [
        # Yarn 2 and later do not look at engines.yarn; Yarn 1 can be told not to; pnpm always refuses.
        ("yarn.lock", "8", {"engines": {"yarn": "^1.22"}}, "4.12.0"),
        ("yarn.lock", "1", {"engines": {"yarn": ">=4"}}, "1.22.22"),
        ("yarn.lock", "6", {"volta": {"yarn": "1.22.19"}}, "3.8.7"),
        ("pnpm-lock.yaml", "5.4", {"engines": {"pnpm": ">=10"}}, "10.34.9"),
        ("pnpm-lock.yaml", "9.0", {"engines": {"pnpm": "^8"}}, "8.15.9"),
        ("pnpm-lock.yaml", "9.0", {"packageManager": "pnpm@8"}, "8.15.9"),
        ("pnpm-lock.yaml", "6.0", {"packageManager": "pnpm@10.2.0"}, "10.2.0"),
        ("package-lock.json", "3", {"packageManager": "npm@6.14.18"}, "6.14.18"),
        ("package-lock.json", "3", {"devEngines": {"packageManager": {"name": "npm", "version": "^6"}}}, "6.14.18"),
        ("bun.lock", "1", {"engines": {"bun": "<1.1"}}, "1.4.5"),
    ],
)
def test_where_nothing_fits_both_one_wins_and_both_are_named(
    checkout: Path, file: str, version: str, package: dict[str, Any], expected: str
) -> None:
    lock(checkout, file, version)
    write(checkout, **package)

    manager, _, notes = detect_manager(checkout, checkout)

    assert best(manager) == expected
    assert len(notes) == 1
    assert file in notes[0]
    assert next(iter(package)) in notes[0]


def test_engines_only_warn_for_a_yarn_in_the_repository(checkout: Path) -> None:
    (checkout / ".yarnrc.yml").write_text("yarnPath: .yarn/releases/yarn-3.2.1.cjs\n")
    write(checkout, engines={"yarn": "1.x"})

    assert best(found(checkout)) == "3.2.1"
    assert "engines.yarn of package.json requires Yarn 1.x, but .yarnrc.yml names Yarn 3.2.1" in notes_of(checkout)


@pytest.mark.parametrize(
    ("package", "files", "expected"),
    [
        ({}, {"pnpm-workspace.yaml": "packages: [a]\n"}, "10.34.9"),
        ({"packageManager": "pnpm"}, {}, "10.34.9"),
        ({"engines": {"pnpm": ">=6"}, "pnpm": {"overrides": {"a": "1"}}}, {}, "10.34.9"),
        ({}, {".yarnrc.yml": "nodeLinker: node-modules\n"}, "4.18.1"),
        ({}, {".yarnrc.yml": 'plugins:\n  - path: .y/p.cjs\n    spec: "@yarnpkg/plugin-typescript"\n'}, "3.8.7"),
        ({}, {".yarnrc": '"--install.frozen-lockfile" true\n'}, "1.22.22"),
        ({"packageManager": "yarn"}, {}, "1.22.22"),
        ({"engines": {"yarn": ">=1"}, "dependencies": {"a": "workspace:*"}}, {}, "4.18.1"),
        ({}, {"bunfig.toml": ""}, "1.4.5"),
    ],
)
def test_without_a_lockfile_the_release_suits_what_is_there(
    checkout: Path, package: dict[str, Any], files: dict[str, str], expected: str
) -> None:
    write(checkout, **package)
    for name, text in files.items():
        (checkout / name).write_text(text)

    assert best(found(checkout)) == expected


def test_settings_that_pnpm_11_does_not_read_are_named(checkout: Path) -> None:
    lock(checkout, "pnpm-lock.yaml", "9.0")
    write(checkout, engines={"pnpm": ">=11"}, pnpm={"overrides": {"a": "1"}})

    assert best(found(checkout)) == "11.9.0"
    assert "pnpm 11 or later, which ignores pnpm.overrides in package.json" in notes_of(checkout)


def test_engines_of_npm_count_where_npm_obeys_them(checkout: Path) -> None:
    lock(checkout, "package-lock.json", "3")
    write(checkout, engines={"npm": ">=11"})
    assert found(checkout).version is None
    (checkout / ".npmrc").write_text("fund=false\nengine-strict = true\n")
    assert found(checkout).accepts("11.6.2")
    assert not found(checkout).accepts("10.9.4")


# --- text that forbids a manager ---


@pytest.mark.parametrize(
    "text",
    [
        "please-use-npm",
        "use npm",
        "not supported",
        "forbidden",
        "YARN NO LONGER USED - use npm instead.",
        "n/a",
        "-",
        "0.0.0",
        ">=999",
        "<0",
        False,
        "use npm 10",
        "🚫",
    ],
)
def test_text_in_engines_forbids_a_manager(checkout: Path, text: Any) -> None:
    write(checkout, engines={"yarn": text, "node": ">=18"}, dependencies={"a": "^1.0.0"})
    assert found(checkout).name == "npm", "it is no sign of Yarn"
    (checkout / "package-lock.json").write_text("{}")
    (checkout / "yarn.lock").write_text(CLASSIC)
    assert found(checkout).name == "npm", "although its lockfile has more"
    (checkout / "package-lock.json").unlink()
    assert (found(checkout).name, best(found(checkout))) == ("yarn", "1.22.22")
    assert "engines.yarn" in notes_of(checkout)
    assert "yarn.lock" in notes_of(checkout)


@pytest.mark.parametrize("text", ["", "*", "latest", " ", None, "1.22+", "1.22.x or later", 1])
def test_text_in_engines_that_forbids_nothing(checkout: Path, text: Any) -> None:
    write(checkout, engines={"yarn": text})
    (checkout / "yarn.lock").write_text(CLASSIC)

    assert (best(found(checkout)), notes_of(checkout)) == ("1.22.22", "")


def test_an_invalid_range_in_engines_is_reported(checkout: Path) -> None:
    write(checkout, engines={"yarn": "v1,22 (classic)"})
    (checkout / "yarn.lock").write_text(CLASSIC)

    assert best(found(checkout)) == "1.22.22"
    assert "engines.yarn of package.json is ignored: 'v1,22 (classic)' is not a version range" in notes_of(checkout)


@pytest.mark.parametrize(
    ("package", "npmrc", "file", "expected"),
    [
        ({"engines": {"pnpm": "please-use-npm"}}, "", "pnpm-lock.yaml", "npm"),
        ({"engines": {"pnpm": "use yarn"}}, "", "pnpm-lock.yaml", "yarn"),
        ({"engines": {"npm": "please-use-yarn"}}, "engine-strict=true", "package-lock.json", "yarn"),
        ({"engines": {"npm": "please-use-yarn"}}, "", "package-lock.json", "npm"),
        ({"scripts": {"preinstall": "npx only-allow pnpm"}}, "", "package-lock.json", "pnpm"),
        ({"engines": {"npm": "please-use-pnpm"}}, "", None, "pnpm"),
        ({"engines": {"npm": "no", "yarn": "no", "pnpm": ">=8"}}, "", None, "pnpm"),
    ],
)
def test_a_manager_that_would_refuse_to_run_is_not_used(
    checkout: Path, package: dict[str, Any], npmrc: str, file: str | None, expected: str
) -> None:
    write(checkout, **package)
    (checkout / ".npmrc").write_text(npmrc)
    if file:
        (checkout / file).write_text("{}")

    chosen, lockfile, notes = detect_manager(checkout, checkout)

    assert chosen.name == expected
    if file:
        assert (lockfile is None) == (chosen.name != LOCKFILES[file][0].name)
        assert file in notes[0]


# --- devEngines ---


@pytest.mark.parametrize(
    ("wanted", "file", "expected"),
    [
        ([{"name": "pnpm", "version": "^9"}, {"name": "npm"}], None, ("pnpm", "9.15.9")),
        (
            [{"name": "pnpm", "version": "^9"}, {"name": "npm", "version": "^11"}],
            "package-lock.json",
            ("npm", "11.6.2"),
        ),
        ({"name": "pnpm", "onFail": "warn"}, "package-lock.json", ("npm", "12.2.2")),
        ({"name": "pnpm", "onFail": "ignore"}, None, ("pnpm", "10.34.9")),
        ({"name": "pnpm", "version": ">=9", "onFail": "download"}, "pnpm-lock.yaml", ("pnpm", "9.15.9")),
        ({"name": "cargo"}, "package-lock.json", ("npm", "12.2.2")),
    ],
)
def test_dev_engines_may_be_a_list_and_say_how_much_they_mean(
    checkout: Path, wanted: Any, file: str | None, expected: tuple[str, str]
) -> None:
    write(checkout, devEngines={"packageManager": wanted})
    if file:
        lock(checkout, file, "9.0" if file == "pnpm-lock.yaml" else "3")

    assert (found(checkout).name, best(found(checkout))) == expected


@pytest.mark.parametrize(
    ("name", "version"), [("package-lock.json", 3), ("npm-shrinkwrap.json", 3), ("other-lock.json", None)]
)
def test_only_npm_lockfiles_have_an_npm_format_version(tmp_path: Path, name: str, version: int | None) -> None:
    (tmp_path / name).write_text('{"lockfileVersion": 3}')

    assert read_format_version(tmp_path / name, tmp_path) == version
