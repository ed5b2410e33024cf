"""Test which version of Node.js a repository requires."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from buildrunner.errors import BuildFailed
from buildrunner.project.node_version import NodeRequirement, find_node
from buildrunner.project.versions import numbers

NODES = ("12.22.12", "14.21.3", "16.20.2", "18.20.8", "20.20.2", "22.12.0", "23.11.1", "24.21.0")


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    (folder / "apps/web").mkdir(parents=True)
    return folder


def wish(checkout: Path, given: str | None = None, folder: str = ".") -> NodeRequirement | None:
    return find_node((checkout / folder).resolve(), checkout, given)[0]


def write(folder: Path, **package: Any) -> None:
    (folder / "package.json").write_text(json.dumps(package))


def best(wanted: NodeRequirement | None) -> str | None:
    assert wanted
    return max((version for version in NODES if wanted.accepts(version)), key=numbers, default=None)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("16", "16.20.2"),
        ("v18", "18.20.8"),
        ("16.x", "16.20.2"),
        ("^20.0.0 || >=24", "24.21.0"),
        (">=14 <19", "18.20.8"),
        (">= 14, < 17", "16.20.2"),
        ("14 - 16", "16.20.2"),
        ("~> 14", "14.21.3"),
        ("20.20.2", "20.20.2"),
        ("lts/*", "24.21.0"),
        ("lts/iron", "20.20.2"),
        ("lts/Hydrogen", "18.20.8"),
        ("gallium", "16.20.2"),
        ("node", "24.21.0"),
        ("latest", "24.21.0"),
        ("99", None),
    ],
)
def test_versions_ranges_and_names_of_node_are_read(checkout: Path, text: str, expected: str | None) -> None:
    assert best(wish(checkout, text)) == expected


def test_lts_is_a_line_with_an_even_number(checkout: Path) -> None:
    wanted = wish(checkout, "lts/*")

    assert wanted
    assert not wanted.accepts("23.11.1")


def test_what_names_node_has_an_order(checkout: Path) -> None:
    write(checkout, engines={"node": "12"})
    assert best(wish(checkout)) == "12.22.12"
    write(checkout, engines={"node": "12"}, volta={"node": "14.21.3"})
    assert best(wish(checkout)) == "14.21.3"
    (checkout / ".node-version").write_text("16\n")
    assert best(wish(checkout)) == "16.20.2"
    (checkout / ".nvmrc").write_text("# ours\n\nv18 # and no other\n")
    assert best(wish(checkout)) == "18.20.8"
    assert best(wish(checkout, "20")) == "20.20.2"


def test_node_is_named_in_the_apps_folder_or_above_it(checkout: Path) -> None:
    (checkout / ".nvmrc").write_text("16")
    assert best(wish(checkout, folder="apps/web")) == "16.20.2"
    (checkout / "apps/web/.nvmrc").write_text("18")
    assert best(wish(checkout, folder="apps/web")) == "18.20.8"


def test_a_link_out_of_the_repository_names_no_node(checkout: Path, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("16")
    (checkout / ".nvmrc").symlink_to("../secret")

    assert find_node(checkout, checkout, None) == (None, ())


def test_an_invalid_node_version_warns_or_fails_for_the_operator(checkout: Path) -> None:
    (checkout / ".nvmrc").write_text("system\n")
    write(checkout, engines={"node": "the newest"})

    found, warnings = find_node(checkout, checkout, None)

    assert found is None
    assert [warning.split(" ")[0] for warning in warnings] == [".nvmrc", "engines.node"]
    with pytest.raises(BuildFailed, match=r"NODE_VERSION is 'system', which is not a Node\.js version"):
        find_node(checkout, checkout, "system")


@pytest.mark.parametrize(
    ("wanted", "locked", "expected"),
    [
        ("^4.14.1", None, "14.21.3"),
        ("^4.9.0", None, "14.21.3"),
        ("4.12.0", None, "12.22.12"),
        ("^4.9.0", '"node_modules/node-sass": {\n      "version": "4.13.1"', "12.22.12"),
        ("^6.0.0", None, "16.20.2"),
        ("^8.0.0", None, "18.20.8"),
        ("^9.0.0", None, "20.20.2"),
    ],
)
def test_node_sass_says_up_to_which_node_it_has_binaries(
    checkout: Path, wanted: str, locked: str | None, expected: str
) -> None:
    write(checkout, devDependencies={"node-sass": wanted})
    if locked:
        (checkout / "package-lock.json").write_text(locked)

    assert best(wish(checkout)) == expected
    write(checkout, devDependencies={"node-sass": wanted}, engines={"node": ">=10"})
    assert best(wish(checkout)) == expected


# --- files of version managers ---


def notes_of(checkout: Path) -> str:
    return "\n".join(find_node(checkout, checkout, None)[1])


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"node-18.20.8\n", "18.20.8"),
        (b"node-v18.20.8\n", "18.20.8"),
        (b"node@18\n", "18.20.8"),
        (b"nodejs 18\r\n", "18.20.8"),
        (b"Node v18\r\n", "18.20.8"),
        (b"V18\n", "18.20.8"),
        (b'"18"\n', "18.20.8"),
        (b"\r\n\r\n# ours\r\n  18 # because\r\n", "18.20.8"),
        (b"\xef\xbb\xbf18\n", "18.20.8"),
        ("18\r\n".encode("utf-16"), "18.20.8"),
        ("v18.20\r\n".encode("utf-16-le"), "18.20.8"),
        (b"\xfe\xff" + "18".encode("utf-16-be"), "18.20.8"),
        (b"18 LTS\n", "18.20.8"),
        (b"lts/hydrogen\n", "18.20.8"),
        (b"lts-hydrogen\n", "18.20.8"),
        (b"lts/*\n", "24.21.0"),
        (b"lts\n", "24.21.0"),
        (b"stable\n", "24.21.0"),
        (b"22+\n", "24.21.0"),
        (b"use\n18\n", "18.20.8"),
    ],
)
@pytest.mark.parametrize("name", [".nvmrc", ".node-version", ".n-node-version"])
def test_a_version_file_is_read_as_people_write_it(checkout: Path, name: str, text: bytes, expected: str) -> None:
    (checkout / name).write_bytes(text)

    assert (best(wish(checkout)), notes_of(checkout)) == (expected, "")


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        (".tool-versions", "python 3.12.1\nnodejs 18.20.8 16.20.2 # both\n", "18.20.8"),
        (".tool-versions", "node 18\r\n", "18.20.8"),
        (".tool-versions", "nodejs lts\n", "24.21.0"),
        (".tool-versions", "nodejs lts-hydrogen\n", "18.20.8"),
        (".tool-versions", "nodejs latest:18\n", "18.20.8"),
        (".tool-versions", "nodejs ref:abc123 18.20.8\n", "18.20.8"),
        ("mise.toml", '[tools]\npython = "3"\nnode = "18"\n', "18.20.8"),
        (".mise.toml", '[tools]\nnode = ["18", "16"]\n', "18.20.8"),
        ("mise/config.toml", "[tools]\nnode = 18\n", "18.20.8"),
        (".mise/config.toml", '[tools]\nnodejs = {version = "18"}\n', "18.20.8"),
        (".config/mise.toml", '[tools.node]\nversion = "18"\npostinstall = "x"\n', "18.20.8"),
        (".config/mise/config.toml", '[tools]\n"core:node" = "prefix:18"\n', "18.20.8"),
        (".mise.toml", '[tools]\nnode = {prefix = "18"}\n', "18.20.8"),
        (".mise.toml", '[tools]\nnode = "lts"\n', "24.21.0"),
        (".rtx.toml", '[tools]\nnode = "latest"\n', "24.21.0"),
        (".prototools", 'node = "~18"\nnpm = "10"\n', "18.20.8"),
        (".npmrc", "use-node-version=18.20.8\n", "18.20.8"),
        ("pnpm-workspace.yaml", "packages: [a]\nuseNodeVersion: '18.20.8'\n", "18.20.8"),
    ],
)
def test_files_of_version_managers_name_the_node(checkout: Path, name: str, text: str, expected: str) -> None:
    (checkout / name).parent.mkdir(parents=True, exist_ok=True)
    (checkout / name).write_text(text)
    write(checkout, engines={"node": ">=12"})

    for folder in (".", "apps/web"):
        found = wish(checkout, folder=folder)
        assert (best(found), found and found.must, found and found.because) == (expected, True, name)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".nvmrc", "system"),
        (".nvmrc", "iojs-v3.3.1"),
        (".nvmrc", "lts/-1"),
        (".node-version", "<<<<<<< HEAD"),
        (".tool-versions", "nodejs system"),
        (".tool-versions", "nodejs path:/opt/node"),
        (".tool-versions", "nodejs"),
        ("mise.toml", '[tools]\nnode = "{{ env.NODE }}"'),
        ("mise.toml", '[tools]\nnode = {path = "/opt/node"}'),
        ("mise.toml", '[tools\nnode = "18"'),
        (".prototools", 'node = "canary"'),
        ("package.json", '{"engines": {"node": "please-use-bun"}}'),
        ("package.json", '{"volta": {"node": "yes"}}'),
        ("package.json", '{"devEngines": {"runtime": {"name": "node", "version": "newest"}}}'),
        ("package.json", '{"devEngines": {"runtime": {"name": "deno", "version": "2"}}}'),
        (".npmrc", "use-node-version=newest"),
    ],
)
def test_what_is_not_understood_is_a_warning_with_the_file(checkout: Path, name: str, text: str) -> None:
    (checkout / name).write_text(text)

    found, warnings = find_node(checkout, checkout, None)

    assert (found, len(warnings)) == (None, 1)
    assert name in warnings[0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".tool-versions", "python 3.12.1\n#nodejs 18\n"),
        ("mise.toml", '[tools]\npython = "3"\n'),
        ("mise.toml", "not [ toml"),
        (".nvmrc", "# none\n\n"),
        ("package.json", '{"engines": {"node": ""}}'),
        ("package.json", '{"devEngines": {"runtime": {"name": "node"}}}'),
    ],
)
def test_a_file_that_names_no_node_is_not_mentioned(checkout: Path, name: str, text: str) -> None:
    (checkout / name).write_text(text)

    assert find_node(checkout, checkout, None) == (None, ())


# --- package.json ---


@pytest.mark.parametrize(
    ("runtime", "expected", "must"),
    [
        ({"name": "node", "version": "^18"}, "18.20.8", True),
        ([{"name": "deno", "version": "2"}, {"name": "node", "version": "18.x", "onFail": "error"}], "18.20.8", True),
        ({"name": "node", "version": ">=18 <20", "onFail": "download"}, "18.20.8", True),
        ({"name": "node", "version": "18", "onFail": "warn"}, "18.20.8", False),
        ([{"name": "node", "version": "18", "onFail": "ignore"}], "18.20.8", False),
    ],
)
def test_dev_engines_name_the_node(checkout: Path, runtime: Any, expected: str, must: bool) -> None:
    write(checkout, engines={"node": ">=12"}, devEngines={"runtime": runtime})

    found = wish(checkout)

    assert (best(found), found and found.must) == (expected, must)


def test_dev_engines_narrow_what_another_file_names(checkout: Path) -> None:
    """npm refuses to run with any other version (EBADDEVENGINES)."""
    (checkout / ".nvmrc").write_text(">=16\n")
    write(checkout, devEngines={"runtime": {"name": "node", "version": "^18"}})
    assert (best(wish(checkout)), notes_of(checkout)) == ("18.20.8", "")
    (checkout / ".nvmrc").write_text("20\n")
    assert best(wish(checkout)) == "18.20.8"
    assert ".nvmrc requires Node 20, but devEngines.runtime of package.json requires ^18" in notes_of(checkout)
    assert "Using devEngines.runtime of package.json" in notes_of(checkout)


def test_volta_may_name_another_package_json(checkout: Path) -> None:
    (checkout / "apps/base.json").write_text('{"volta": {"node": "18.20.8"}}')
    write(checkout / "apps/web", volta={"extends": "../base.json"})

    assert best(wish(checkout, folder="apps/web")) == "18.20.8"
