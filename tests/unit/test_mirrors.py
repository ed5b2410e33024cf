"""Test the replacement of registries in a repository by the npm registry."""

from __future__ import annotations

import time
import tracemalloc
from pathlib import Path

import pytest

from buildrunner.project.package_managers.mirrors import (
    find_lockfile_hosts,
    find_registry_settings,
    find_unreadable_hosts,
    has_all_digests,
    replace_mirrors_in_settings,
    rewrite_lockfile,
    rewrite_settings,
)

HOST = "europe-west4-npm.pkg.dev"
BASE = f"https://{HOST}/acme/npm-cache"
SHA = "sha512-" + "A" * 86 + "=="

BUN = f'''{{
  "lockfileVersion": 1,
  "packages": {{
    "@x/a": ["@x/a@1.0.0", "{BASE}/@x/a/-/a-1.0.0.tgz", {{ "dependencies": {{ "b": "^1" }} }}, "{SHA}"],

    "b": ["b@1.0.0", "", {{}}, "{SHA}"],

    "c": ["c@github:x/c#abc", {{}}, "x-c-abc"],
  }}
}}
'''
PNPM = f"""lockfileVersion: '9.0'

packages:

  '@x/a@1.0.0':
    resolution: {{integrity: {SHA}, tarball: {BASE}/@x/a/-/a-1.0.0.tgz}}

  b@1.0.0:
    resolution: {{integrity: {SHA}}}

  c@https://codeload.github.com/x/c/tar.gz/abc:
    resolution: {{tarball: https://codeload.github.com/x/c/tar.gz/abc}}
"""
CLASSIC = f"""# yarn lockfile v1


"@x/a@^1.0.0":
  version "1.0.0"
  resolved "{BASE}/@x/a/-/a-1.0.0.tgz#{"a" * 40}"
  integrity {SHA}
"""
BERRY = f"""__metadata:
  version: 8

"@x/a@npm:^1.0.0":
  version: 1.0.0
  resolution: "@x/a@npm:1.0.0::__archiveUrl=https%3A%2F%2F{HOST}%2Facme%2F%40x%2Fa%2F-%2Fa-1.0.0.tgz"
  checksum: 10c0/{"a" * 128}
  languageName: node

"app@workspace:.":
  version: 0.0.0-use.local
  resolution: "app@workspace:."
"""
NPM = f'''{{"lockfileVersion": 3, "packages": {{
    "": {{"name": "app"}},
    "node_modules/@x/a": {{
      "version": "1.0.0",
      "resolved": "{BASE}/@x/a/-/a-1.0.0.tgz",
      "integrity": "{SHA}"
    }}
}}}}'''
LOCKFILES = {
    "bun.lock": BUN,
    "pnpm-lock.yaml": PNPM,
    "yarn.lock": CLASSIC,
    "yarn.lock of Yarn 4": BERRY,
    "package-lock.json": NPM,
}
WITHOUT = {
    "bun.lock": BUN.replace(f'}}, "{SHA}"],\n\n    "b"', '}],\n\n    "b"'),
    "pnpm-lock.yaml": PNPM.replace(f"integrity: {SHA}, tarball", "tarball"),
    "yarn.lock": CLASSIC.replace(f"  integrity {SHA}\n", "").replace(f"#{'a' * 40}", ""),
    "yarn.lock of Yarn 4": BERRY.replace(f"  checksum: 10c0/{'a' * 128}\n", ""),
    "package-lock.json": NPM.replace(f',\n      "integrity": "{SHA}"', ""),
}


@pytest.mark.parametrize("case", LOCKFILES)
def test_each_lockfile_names_the_registry_where_it_has_digests(case: str) -> None:
    name, text = case.partition(" ")[0], LOCKFILES[case]
    assert find_lockfile_hosts(text) == {HOST}

    rewritten = rewrite_lockfile(name, text, [HOST])

    assert find_lockfile_hosts(rewritten) == set()
    assert has_all_digests(name, text)
    assert len(rewritten.splitlines()) == len(text.splitlines())
    assert rewrite_lockfile(name, text, ["another.example"]) == text


@pytest.mark.parametrize("case", WITHOUT)
def test_an_entry_without_a_digest_stays_as_it_is(case: str) -> None:
    name, text = case.partition(" ")[0], WITHOUT[case]
    assert text != LOCKFILES[case]

    assert rewrite_lockfile(name, text, [HOST]) == text
    assert not has_all_digests(name, text)


def test_a_binary_lockfile_has_no_digests_to_be_seen() -> None:
    assert not has_all_digests("bun.lockb", "")
    assert not has_all_digests("package-lock.json", '{"dependencies": {}}')


SETTINGS = {
    ".npmrc": f"@x:registry={BASE}/\nregistry = {BASE}/\n//{HOST}/:_authToken=x\n",
    ".yarnrc": f'registry "{BASE}/"\n"@x:registry" "{BASE}/"\n',
    ".yarnrc.yml": f'npmRegistryServer: "{BASE}/"\nnpmScopes:\n  x:\n    npmRegistryServer: {BASE}\n',
    "bunfig.toml": f'[install]\nregistry = "{BASE}/"\n[install.scopes]\nx = {{ url = "{BASE}/" }}\n"@y" = "{BASE}"\n',
}


@pytest.mark.parametrize("name", SETTINGS)
def test_files_of_settings_name_registries(tmp_path: Path, name: str) -> None:
    (tmp_path / "app").mkdir()
    (tmp_path / name).write_text(SETTINGS[name])

    (setting,) = find_registry_settings(tmp_path / "app", tmp_path)
    rewritten = rewrite_settings(name, SETTINGS[name], [HOST])

    assert (setting.path, setting.hosts) == (tmp_path / name, frozenset({HOST}))
    assert f"https://{HOST}" not in rewritten
    assert rewritten.count("https://registry.npmjs.org/") == SETTINGS[name].count(BASE)
    assert (f"//{HOST}/:_authToken=x" in rewritten) == (name == ".npmrc")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (".npmrc", f"registry={BASE}/\n_authToken=secret\n"),
        (".npmrc", f"_auth=secret\nregistry={BASE}/\n"),
        (".yarnrc.yml", f"npmRegistryServer: {BASE}\nnpmAuthToken: secret\n"),
        ("bunfig.toml", f'[install]\nregistry = {{ url = "{BASE}", token = "$T" }}\n'),
    ],
)
def test_credentials_are_not_sent_to_the_npm_registry(name: str, text: str) -> None:
    assert rewrite_settings(name, text, [HOST]) == text


def test_public_mirrors_in_settings_are_left_for_the_registry() -> None:
    text = "registry=https://registry.npmmirror.com/\nsass_binary_site=https://npmmirror.com/mirrors/node-sass\n"

    assert replace_mirrors_in_settings(".npmrc", text).startswith(
        "registry=https://registry.npmjs.org/\nsass_binary_site="
    )
    assert replace_mirrors_in_settings(".npmrc", f"registry={BASE}\n") == f"registry={BASE}\n"


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (f"error: GET {BASE}/@x/a/-/a-1.0.0.tgz - 403", (HOST,)),
        ("error: DNSResolveFailed downloading tarball @x/a@1.0.0", ("another.example", HOST)),
        ("error: ConnectionRefused downloading package manifest @x/a", ("another.example", HOST)),
        (f" ERR_PNPM_FETCH_401  GET {BASE}/@x/a/-/a-1.0.0.tgz: Unauthorized - 401", (HOST,)),
        ("➤ YN0041: │ @x/a@npm:1.0.0: Invalid authentication (as an anonymous user)", ("another.example", HOST)),
        (f"error Error: getaddrinfo ENOTFOUND {HOST}\ninfo Visit https://yarnpkg.com/en/docs/cli/install", (HOST,)),
        ("npm error code ENOTFOUND\nnpm error getaddrinfo ENOTFOUND registry.npmjs.org", ()),
        ("npm error 404 Not Found - GET https://registry.npmjs.org/b - Not found", ()),
        (f"npm error code ERESOLVE\n{BASE}", ()),
        ("", ()),
    ],
)
def test_a_failed_install_says_which_registry_it_could_not_read(said: str, expected: tuple[str, ...]) -> None:
    assert find_unreadable_hosts(said, [HOST, "another.example"]) == expected


@pytest.mark.parametrize(
    "text",
    [
        "https://a/-/" * 50_000,
        '"a": ["a@1' * 50_000,
        '    "a": ["a@1.0.0", "https://a/-/b.tgz", {' * 12_500,
        "    resolution: {integrity: sha512-" + "a" * 500_000,
        ('  resolution: "' + "@npm:1" * 80 + "\n") * 1_000,
        "registry=" * 50_000,
    ],
)
def test_hostile_lockfiles_and_settings_take_no_time(text: str) -> None:
    started = time.thread_time()

    for name in ("bun.lock", "pnpm-lock.yaml", "yarn.lock"):
        find_lockfile_hosts(text)
        rewrite_lockfile(name, f"__metadata:\n{text}" if name == "yarn.lock" else text, ["a"])
        has_all_digests(name, text)
    for name in SETTINGS:
        rewrite_settings(name, text, ["a"])

    assert time.thread_time() - started < 10  # squared, half a megabyte takes an hour


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("yarn.lock", "__metadata:\n__archiveUrl=" + "%41" * 60_000),
        ("bun.lock", "ab\n" * 40_000),
        ("pnpm-lock.yaml", "ab\n" * 40_000),
        ("yarn.lock", "__metadata:\n" + "ab\n\n" * 40_000),
        ("yarn.lock", "ab\n\n" * 40_000),
        ("package-lock.json", "[" + "{}," * 550_000),
    ],
)
def test_hostile_lockfiles_take_little_memory(name: str, text: str) -> None:
    """A lockfile may be 32 MiB, and a task may have 1 GiB of memory."""
    tracemalloc.start()
    try:
        find_lockfile_hosts(text)
        rewrite_lockfile(name, text, ["a"])
        has_all_digests(name, text)
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert most < 8 * len(text) + 4_000_000  # other threads of this process count, too
