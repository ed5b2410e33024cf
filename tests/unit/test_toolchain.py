from __future__ import annotations

import dataclasses
import json
import os
import stat
import subprocess
import tarfile
import threading
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.errors import BuildFailed
from buildrunner.project.node_version import NodeRequirement, find_node, find_node_of_packages
from buildrunner.project.package_managers.record import ManagerRequirement
from buildrunner.project.package_managers.table import MANAGERS
from buildrunner.project.package_managers.yarn import YARN_BERRY
from buildrunner.project.versions import is_range, satisfies
from buildrunner.toolchain import registry as registry_module
from buildrunner.toolchain.installer import Toolchain, ToolchainInstaller
from buildrunner.toolchain.registry import ToolStore, has_digest
from support.registry import Registry, archive, serving

MACHINE = "x64" if os.uname().machine == "x86_64" else "arm64"
NODES = ("12.22.12", "14.21.3", "16.20.2", "18.20.8", "20.20.2", "22.12.0", "23.11.1", "24.21.0")


@pytest.fixture
def registry() -> Iterator[Registry]:
    with serving() as registry:
        for version in NODES:
            registry.add_node(version, MACHINE)
        yield registry


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
    return max((version for version in NODES if wanted.accepts(version)), default=None)


# --- choosing Node.js ---


@given(st.text(max_size=300), st.text(max_size=30))
def test_no_text_breaks_the_reading_of_versions(wanted: str, version: str) -> None:
    is_range(wanted)
    satisfies(version, wanted)
    satisfies("20.0.0", wanted)
    satisfies(version, ">=1")


@pytest.mark.parametrize("text", ["1 - 2 " * 60, "1.x || " * 80, "a." * 150, "=v" * 100, "1.1.1-" + "a." * 97])
def test_a_hostile_range_takes_no_time(text: str) -> None:
    started = time.thread_time()
    for minor in range(1000):
        satisfies(f"20.{minor}.0", text)

    assert time.thread_time() - started < 4


# --- downloading it ---


def tools(
    tmp_path: Path, registry: Registry, said: list[str] | None = None, *, tool_cache: ToolStore | None = None
) -> ToolchainInstaller:
    environment = {"PATH": os.environ["PATH"], "NPM_CONFIG_REGISTRY": registry.url}
    folder = tmp_path / "tools"
    tmp_path.mkdir(parents=True, exist_ok=True)
    return ToolchainInstaller(folder, environment, (said if said is not None else []).append, tool_cache)


def get(
    some: ToolchainInstaller,
    node: str | None,
    manager: ManagerRequirement | None = None,
    *,
    installed: str | None = "24.21.0",
    lockfile_version: int | None = 3,
    others: tuple[Any, ...] = (),
) -> Toolchain:
    wanted = find_node(Path("/nonexistent"), Path("/nonexistent"), node)[0] if node else None
    prepare = partial(some.prepare, others=others, installed=installed, lockfile_version=lockfile_version)
    return anyio.run(prepare, wanted, manager or ManagerRequirement(MANAGERS["npm"]))


def run(chain: Toolchain, *command: str) -> str:
    ended = subprocess.run(command, env=dict(chain.environment), capture_output=True, text=True, check=True)
    return ended.stdout.strip()


def manager_files(name: str, version: str, *, main: str | None = None) -> bytes:
    main = main or f"bin/{name}.js"
    script = f"console.log('{name} {version}', process.argv.slice(2).join(' '), process.env.FAKE_NODE || 'installed')"
    extra = {"npm": "npx", "pnpm": "pnpx", "yarn": "yarnpkg"}[name]
    return archive({"package.json": json.dumps({"bin": {name: main, extra: f"./{main}"}}), main: script})


def test_an_installed_node_that_satisfies_asks_nothing(tmp_path: Path, registry: Registry) -> None:
    chain = get(tools(tmp_path, registry), ">=12")

    assert (chain.node, chain.manager) == ("24.21.0", None)
    assert registry.requests == []


def test_the_newest_satisfying_node_is_fetched_with_its_npm(tmp_path: Path, registry: Registry) -> None:
    for version, node in (("6.14.18", "6 >=6.2.0 || 8 || >=9.3.0"), ("8.19.4", "^12.13.0 || ^14.15.0 || >=16.0.0")):
        registry.add("npm", version, manager_files("npm", version), node=node)
    said: list[str] = []

    chain = get(tools(tmp_path, registry, said), ">=13 <18")

    assert (chain.node, chain.manager) == ("16.20.2", "8.19.4")
    assert run(chain, "node", "--version") == "v16.20.2"
    assert run(chain, "npm", "ci", "a b") == "npm 8.19.4 ci a b 16.20.2"
    assert run(chain, "npx", "x") == "npm 8.19.4 x 16.20.2"
    assert said[-1] == "Node 16.20.2 (NODE_VERSION: >=13 <18), npm 8.19.4"


@pytest.mark.parametrize(("lockfile_version", "npm"), [(1, "6.14.18"), (2, "6.14.18"), (3, "8.19.4")])
def test_an_old_node_gets_an_npm_that_reads_the_lockfile(
    tmp_path: Path, registry: Registry, lockfile_version: int, npm: str
) -> None:
    for version in ("6.14.18", "8.19.4"):
        registry.add("npm", version, manager_files("npm", version))

    assert get(tools(tmp_path, registry), "14", lockfile_version=lockfile_version).manager == npm


def test_a_missing_version_is_replaced_with_a_warning(tmp_path: Path, registry: Registry) -> None:
    registry.add("npm", "8.19.4", manager_files("npm", "8.19.4"))
    registry.add("pnpm", "9.15.9", manager_files("pnpm", "9.15.9"))

    chain = get(tools(tmp_path, registry), "v16.13.7", ManagerRequirement(MANAGERS["pnpm"], "9.99.0"))

    assert (chain.node, chain.manager) == ("16.20.2", "9.15.9")
    assert chain.warnings == (
        "NODE_VERSION requires Node v16.13.7, which the registry does not provide: 16.20.2 is used.",
        "pnpm 9.99.0 is not in the registry: 9.15.9 is used.",
    )


def test_an_unavailable_version_is_reported_with_available_ones(tmp_path: Path, registry: Registry) -> None:
    registry.add("pnpm", "9.15.9", manager_files("pnpm", "9.15.9"))
    some = tools(tmp_path, registry)

    with pytest.raises(BuildFailed) as caught:
        get(some, "99")
    assert caught.value.reason == "NODE_VERSION requires Node 99, which the registry does not provide."
    assert "installed one is 24.21.0; the registry has 12.22.12 to 24.21.0" in (caught.value.hint or "")
    with pytest.raises(BuildFailed) as caught:
        get(some, None, ManagerRequirement(MANAGERS["pnpm"], "^99", "packageManager"))
    assert caught.value.reason == "pnpm ^99, which packageManager requires, is not in the registry."
    assert "9.15.9 to 9.15.9" in (caught.value.hint or "")


def test_engines_that_cannot_be_had_are_a_warning(tmp_path: Path, registry: Registry) -> None:
    wanted = NodeRequirement(("^99",), "engines.node of package.json", "^99", must=False)
    some = tools(tmp_path, registry)

    chain = anyio.run(
        partial(some.prepare, others=(), installed="24.21.0", lockfile_version=None),
        wanted,
        ManagerRequirement(MANAGERS["npm"]),
    )

    assert chain.node == "24.21.0"
    assert "Using the installed one." in chain.warnings[0]


def test_a_manager_too_new_for_the_node_uses_the_installed_one(tmp_path: Path, registry: Registry) -> None:
    registry.add("pnpm", "9.15.9", manager_files("pnpm", "9.15.9", main="bin/pnpm.cjs"), node=">=18.12")
    registry.add("npm", "8.19.4", manager_files("npm", "8.19.4"))

    chain = get(tools(tmp_path, registry), "16", ManagerRequirement(MANAGERS["pnpm"], "9.15.9"))

    assert run(chain, "pnpm", "install") == "pnpm 9.15.9 install installed"
    assert run(chain, "node", "--version") == "v16.20.2"


def test_a_range_selects_a_manager_that_works_with_the_node(tmp_path: Path, registry: Registry) -> None:
    registry.add("pnpm", "6.35.1", manager_files("pnpm", "6.35.1"), node=">=12.17")
    registry.add("pnpm", "7.33.7", manager_files("pnpm", "7.33.7"), node=">=14.6")

    assert (
        get(tools(tmp_path / "a", registry), "12", ManagerRequirement(MANAGERS["pnpm"], ">=6 <8")).manager == "6.35.1"
    )
    assert (
        get(tools(tmp_path / "b", registry), "14", ManagerRequirement(MANAGERS["pnpm"], ">=6 <8")).manager == "7.33.7"
    )


@pytest.mark.parametrize("version", ["6.35.1", "7.5.0", "8.2.0"])
def test_an_old_pnpm_that_cannot_fetch_with_node_is_replaced(tmp_path: Path, registry: Registry, version: str) -> None:
    for there in (version, "7.33.7", "8.15.9"):
        registry.add("pnpm", there, manager_files("pnpm", there))

    chain = get(tools(tmp_path, registry), None, ManagerRequirement(MANAGERS["pnpm"], version, digest=("sha512", "ab")))

    assert chain.manager == ("8.15.9" if version.startswith("8") else "7.33.7")
    assert "cannot work with Node 24.21.0" in chain.warnings[0]


def test_yarn_2_and_later_and_bun_are_packages_of_another_name(tmp_path: Path, registry: Registry) -> None:
    registry.add("@yarnpkg/cli-dist", "4.1.0", manager_files("yarn", "4.1.0"))
    bun = "@oven/bun-linux-" + {"x64": "x64", "arm64": "aarch64"}[MACHINE]
    registry.add(bun, "1.4.5", archive({"bin/bun": '#!/bin/sh\necho "$(basename "$0")" 1.4.5 "$@"'}))

    chain = get(tools(tmp_path, registry), None, ManagerRequirement(YARN_BERRY, "4.1.0"), others=("bun",))

    assert run(chain, "yarn", "install") == "yarn 4.1.0 install installed"
    assert run(chain, "bunx", "vite") == "bunx 1.4.5 vite"
    assert chain.environment["YARN_IGNORE_PATH"] == "1"


def test_the_yarn_that_the_repository_holds_is_used_as_it_is(tmp_path: Path, registry: Registry) -> None:
    release = tmp_path / "yarn 3.cjs"
    release.write_text("console.log('its own', process.argv[2])")

    chain = get(tools(tmp_path, registry), None, ManagerRequirement(YARN_BERRY, "3.8.6", release=release))

    assert run(chain, "yarn", "install") == "its own install"
    assert "YARN_IGNORE_PATH" not in chain.environment
    assert registry.requests == []


def test_a_digest_of_package_json_is_checked(tmp_path: Path, registry: Registry) -> None:
    import hashlib

    data = manager_files("pnpm", "9.15.9")
    registry.add("pnpm", "9.15.9", data)
    right = hashlib.sha224(data).hexdigest()

    assert get(
        tools(tmp_path / "a", registry), None, ManagerRequirement(MANAGERS["pnpm"], "9.15.9", digest=("sha224", right))
    ).manager
    for wrong in (("sha512", "00"), ("sha224", right[:-1]), ("sha0", right)):
        with pytest.raises(BuildFailed, match=r"another digest than pnpm 9\.15\.9 has"):
            get(tools(tmp_path / "b", registry), None, ManagerRequirement(MANAGERS["pnpm"], "9.15.9", digest=wrong))


def test_a_package_with_a_wrong_digest_is_not_unpacked(tmp_path: Path, registry: Registry) -> None:
    registry.add("pnpm", "9.15.9", manager_files("pnpm", "9.15.9"), integrity="sha512-AAAA")
    some = tools(tmp_path, registry)

    with pytest.raises(BuildFailed, match="does not match its digest"):
        get(some, None, ManagerRequirement(MANAGERS["pnpm"], "9.15.9"))

    assert list(some.downloads.iterdir()) == []


@pytest.mark.parametrize("skipped", ["file", "link", "header"])
def test_what_is_skipped_counts_toward_the_limit(
    skipped: str, tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "_MAX_UNPACKED_BYTES", 2**20)
    zeros = bytes(2**21)
    link = tarfile.TarInfo("package/link")
    link.type, link.linkname = (
        tarfile.SYMTYPE,
        "x" * 2**21,
    )  # longer than a header has room for: written as one of its own
    more: dict[str, tuple[dict[str, bytes | str], tuple[tarfile.TarInfo, ...]]] = {
        "file": ({"../outside": zeros}, ()),
        "link": ({}, (link,)),
        "header": ({"x" * 2**21: "x"}, ()),
    }
    files, members = more[skipped]
    registry.add("pnpm", "9.15.9", archive({**files, "package.json": "{}"}, members))

    with pytest.raises(BuildFailed, match="too large"):
        get(tools(tmp_path, registry), None, ManagerRequirement(MANAGERS["pnpm"], "9.15.9"))


class Kept:
    """A tool cache without checks, keyed by name."""

    def __init__(self) -> None:
        self.packages: dict[str, bytes] = {}

    async def get_tool(self, name: str, algorithm: str, digest: str, path: Path) -> bool:
        if name in self.packages:
            path.write_bytes(self.packages[name])
        return name in self.packages

    def add_tool(self, name: str, algorithm: str, digest: str, path: Path) -> None:
        assert has_digest(path, algorithm, digest)
        self.packages[name] = path.read_bytes()


def test_the_registry_is_asked_once_for_a_cached_package(tmp_path: Path, registry: Registry) -> None:
    data = manager_files("yarn", "4.1.0")
    registry.add("@yarnpkg/cli-dist", "4.1.0", data)
    kept = Kept()
    for folder, asked in (("1", True), ("2", False)):
        registry.requests.clear()
        some = tools(tmp_path / folder, registry, tool_cache=kept)

        chain = get(some, "16", ManagerRequirement(YARN_BERRY, "4.1.0"))

        assert run(chain, "yarn", "install") == "yarn 4.1.0 install 16.20.2"
        assert any(path.endswith(".tgz") for path in registry.requests) == asked
    assert kept.packages.keys() == {f"node-linux-{MACHINE}-16.20.2.tgz", "@yarnpkg+cli-dist-4.1.0.tgz"}
    assert kept.packages["@yarnpkg+cli-dist-4.1.0.tgz"] == data


def test_an_exact_version_does_not_ask_the_registry_for_all(tmp_path: Path, registry: Registry) -> None:
    registry.add("@yarnpkg/cli-dist", "4.0.0-rc.53", manager_files("yarn", "4.0.0-rc.53"))
    registry.add("@yarnpkg/cli-dist", "4.1.0", manager_files("yarn", "4.1.0"))
    wanted = ManagerRequirement(YARN_BERRY, "4.0.0-rc.53")

    chain = get(tools(tmp_path / "a", registry), "v16.20.2", wanted)
    registry.knows_versions, documents = False, [path for path in registry.requests if not path.endswith(".tgz")]
    same = get(tools(tmp_path / "b", registry), "v16.20.2", wanted)

    assert documents == [f"/node-linux-{MACHINE}/16.20.2", "/@yarnpkg%2Fcli-dist/4.0.0-rc.53"]
    assert (chain.node, chain.manager) == (same.node, same.manager) == ("16.20.2", "4.0.0-rc.53")

    registry.knows_versions = True
    registry.requests.clear()
    get(
        tools(tmp_path / "c", registry), None, wanted
    )  # its engines are looked at first, whether it runs with this Node

    assert registry.requests.count("/@yarnpkg%2Fcli-dist/4.0.0-rc.53") == 1


@pytest.mark.parametrize(
    "answer",
    [
        [],
        {},
        {"version": "9.15.8", "dist": {"tarball": "http://127.0.0.1:9/", "shasum": "00"}},
        {"version": "9.15.9"},
        {"version": "9.15.9", "dist": 1},
    ],
)
def test_a_strange_reply_for_a_version_asks_for_all_versions(tmp_path: Path, registry: Registry, answer: Any) -> None:
    registry.add("pnpm", "9.15.9", manager_files("pnpm", "9.15.9"))
    registry.knows_versions = False
    registry.documents["pnpm/9.15.9"] = answer or {"x": 1}

    assert get(tools(tmp_path, registry), None, ManagerRequirement(MANAGERS["pnpm"], "9.15.9")).manager == "9.15.9"


def test_a_registry_that_fails_for_one_version_is_asked_for_all(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "_RETRY", dataclasses.replace(registry_module._RETRY, first=0.01))
    registry.add("pnpm", "9.15.9", manager_files("pnpm", "9.15.9"))
    registry.failures = [500, 500, 500]

    assert get(tools(tmp_path, registry), None, ManagerRequirement(MANAGERS["pnpm"], "9.15.9")).manager == "9.15.9"
    assert registry.requests[:-1] == ["/pnpm/9.15.9"] * 3 + ["/pnpm"]


def test_certificates_that_are_no_file_are_not_waited_for(tmp_path: Path, registry: Registry) -> None:
    os.mkfifo(tmp_path / "pipe")
    registry.add("pnpm", "9.15.9", manager_files("pnpm", "9.15.9"))
    environment = {"PATH": os.environ["PATH"], "NPM_CONFIG_REGISTRY": registry.url}
    environment["NODE_EXTRA_CA_CERTS"] = str(tmp_path / "pipe")
    got: list[Toolchain] = []

    # In a thread: what waits for a pipe cannot be cancelled.
    some = ToolchainInstaller(tmp_path / "tools", environment, lambda _: None)
    thread = threading.Thread(
        target=lambda: got.append(get(some, None, ManagerRequirement(MANAGERS["pnpm"], "9.15.9"))), daemon=True
    )
    thread.start()
    thread.join(10)

    assert got


def test_a_package_can_write_nowhere_else(tmp_path: Path, registry: Registry) -> None:
    link = tarfile.TarInfo("package/bin/link")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    device = tarfile.TarInfo("package/device")
    device.type = tarfile.CHRTYPE
    files = {"package.json": '{"bin": {"pnpm": "bin/pnpm.js"}}', "bin/pnpm.js": "", "../../../../evil": "x"}
    registry.add("pnpm", "9.15.9", archive(files, (link, device)))

    get(tools(tmp_path / "a/b/c", registry), None, ManagerRequirement(MANAGERS["pnpm"], "9.15.9"))

    there = {path.name for path in tmp_path.rglob("*") if not path.is_dir()}
    assert there == {"pnpm-9.15.9.tgz", "package.json", "pnpm.js", "pnpm"}


def test_another_user_can_start_the_tools_and_not_change_them(tmp_path: Path, registry: Registry) -> None:
    registry.add("pnpm", "9.15.9", manager_files("pnpm", "9.15.9"))
    before = os.umask(0o077)
    try:
        some = tools(tmp_path, registry)
        get(some, "16", ManagerRequirement(MANAGERS["pnpm"], "9.15.9"))
    finally:
        os.umask(before)

    for path in (tmp_path / "tools").rglob("*"):
        mode = stat.S_IMODE(path.stat().st_mode)
        if "downloads" not in path.parts:
            assert mode & 0o055 == 0o055, path
        assert not mode & 0o022, path


@pytest.mark.parametrize("failures", [[503], [500, 429]])
def test_a_registry_that_stumbles_is_asked_again(
    tmp_path: Path, registry: Registry, failures: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "_RETRY", dataclasses.replace(registry_module._RETRY, first=0.01))
    registry.add("pnpm", "9.15.9", manager_files("pnpm", "9.15.9"))
    registry.failures = failures

    assert get(tools(tmp_path, registry), None, ManagerRequirement(MANAGERS["pnpm"], "9.15.9")).manager == "9.15.9"


def test_an_unreachable_registry_ends_without_secrets_in_text(
    tmp_path: Path, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(registry_module, "_RETRY", dataclasses.replace(registry_module._RETRY, first=0.01))
    registry.add("bad", "1.0.0", b"")
    some = tools(tmp_path, registry)
    with pytest.raises(BuildFailed) as caught:
        get(some, None, ManagerRequirement(MANAGERS["pnpm"]))
    assert caught.value.reason == "pnpm could not be fetched from 127.0.0.1: it does not have this package."

    registry.failures = [401]
    with pytest.raises(BuildFailed, match=r"from 127\.0\.0\.1: it returned status 401\."):
        get(some, None, ManagerRequirement(MANAGERS["pnpm"]))

    environment = {"PATH": os.environ["PATH"], "npm_config_registry": "http://user:secret@127.0.0.1:9/"}
    with pytest.raises(BuildFailed) as caught:
        get(ToolchainInstaller(tmp_path / "x", environment, print), "16")
    assert (caught.value.stage, caught.value.exit_code) == ("install", 30)
    assert caught.value.reason.endswith("from 127.0.0.1: it cannot be reached.")
    assert "secret" not in f"{caught.value.reason}{caught.value.hint}"


@pytest.mark.parametrize("document", [[], {"versions": []}, {}, {"versions": {"1.0.0": {}, "2.0.0": 1, "../x": {}}}])
def test_an_invalid_response_of_the_registry_is_reported(tmp_path: Path, registry: Registry, document: Any) -> None:
    registry.documents["pnpm"] = document or {"x": 1}

    with pytest.raises(BuildFailed) as caught:
        get(tools(tmp_path, registry), None, ManagerRequirement(MANAGERS["pnpm"]))

    assert "registry" in caught.value.reason or "does not describe a package" in caught.value.reason


def test_without_a_node_there_must_be_one_in_the_registry(tmp_path: Path, registry: Registry) -> None:
    with pytest.raises(BuildFailed, match="node is not installed on the machine that builds"):
        get(tools(tmp_path / "a", registry), None, installed=None)

    registry.add("npm", "10.9.0", manager_files("npm", "10.9.0"))
    assert get(tools(tmp_path / "b", registry), "22", installed=None).node == "22.12.0"


@pytest.mark.parametrize(
    ("engines", "node", "expected"),
    [
        ({"astro": ">=22.12.0"}, "20.20.2", "22.x"),
        ({"astro": ">=22.12.0", "vite": "^20.19.0 || >=22.12.0"}, "20.18.0", "22.x"),
        ({"vite": "^20.19.0 || >=22.12.0"}, "20.18.0", "20.x"),
        ({"astro": ">=22.12.0", "tool": ">=24"}, "20.20.2", "24.x"),
        ({"astro": ">=23"}, "20.20.2", "24.x"),
        ({"astro": ">=22.12.0"}, "24.21.0", None),
        ({"ancient": "0.10.x"}, "20.20.2", None),  # runs all the same
        ({"ancient": "0.10.x", "astro": ">=22"}, "20.20.2", "22.x"),
        ({"a": ">=22 <23", "b": ">=24"}, "20.20.2", None),  # nothing will do for both
        ({"a": 7, "b": "no range", "../../x": ">=99"}, "20.20.2", None),
    ],
)
def test_packages_for_a_later_node_name_the_lowest_line(
    tmp_path: Path, engines: dict[str, Any], node: str, expected: str | None
) -> None:
    for name, wanted in engines.items():
        place = tmp_path / "node_modules" / name.replace("..", "up")
        place.mkdir(parents=True)
        (place / "package.json").write_text(json.dumps({"engines": {"node": wanted}}))

    wish = find_node_of_packages(tmp_path, tmp_path, tmp_path, {"dependencies": dict.fromkeys(engines, "*")}, node)

    assert (wish.ranges[-1] if wish else None) == expected
    if wish:
        assert wish.accepts(f"{expected.rstrip('x')}99.99" if expected else "")
        assert not wish.must


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, "22.12.0"),
        (NodeRequirement((">=18",), "engines.node of package.json", ">=18", must=False), "22.12.0"),
        (NodeRequirement((">=23",), "engines.node of package.json", ">=23", must=False), "24.21.0"),
        (NodeRequirement(("^20 || >=23",), "engines.node of package.json", "^20 || >=23", must=False), "24.21.0"),
        (NodeRequirement(("20.x",), "engines.node of package.json", "20.x", must=False), "22.12.0"),
        (NodeRequirement(("20.x",), ".nvmrc", "20.x", must=True), "20.20.2"),
    ],
)
def test_a_manager_for_a_later_node_gets_the_lowest_line(
    tmp_path: Path, registry: Registry, wanted: NodeRequirement | None, expected: str
) -> None:
    registry.add("pnpm", "11.17.0", manager_files("pnpm", "11.17.0"), node=">=22.12")
    registry.knows_versions = False
    said: list[str] = []
    prepare = partial(tools(tmp_path, registry, said).prepare, others=(), installed="20.20.2", lockfile_version=None)

    chain = anyio.run(prepare, wanted, ManagerRequirement(MANAGERS["pnpm"], "11.17.0", "packageManager"))

    assert (chain.node, chain.manager) == (expected, "11.17.0")
    if expected != "20.20.2" and wanted and not wanted.accepts(expected):
        (warning,) = chain.warnings
        assert "requires Node 20.x, with which pnpm 11.17.0 does not run: Node 22.12.0 is used" in warning
    else:
        assert chain.warnings == ()
    if expected == "22.12.0":
        assert said[-1] == "Node 22.12.0 (engines of pnpm 11.17.0: >=22.12), pnpm 11.17.0"
        assert run(chain, "pnpm", "install") == "pnpm 11.17.0 install 22.12.0"


def test_a_missing_node_for_the_manager_is_a_warning(tmp_path: Path, registry: Registry) -> None:
    registry.add("pnpm", "11.17.0", manager_files("pnpm", "11.17.0"), node=">=22.12")
    del registry.documents[f"node-linux-{MACHINE}"]

    chain = get(tools(tmp_path, registry), None, ManagerRequirement(MANAGERS["pnpm"], "11.17.0"), installed="20.20.2")

    assert (chain.node, chain.manager) == ("20.20.2", "11.17.0")
    assert chain.warnings[0].endswith("pnpm 11.17.0 requires Node >=22.12; 20.20.2 is used.")


def test_with_another_node_for_builds_a_manager_runs_if_it_can(tmp_path: Path, registry: Registry) -> None:
    """Yarn runs scripts with its own Node.js, regardless of PATH."""
    registry.add("yarn", "1.22.22", manager_files("yarn", "1.22.22"), node=">=4.0.0")
    registry.add("pnpm", "10.9.0", manager_files("pnpm", "10.9.0"), node=">=18.12")
    registry.add_node("10.24.1", MACHINE)
    (tmp_path / "npm/bin").mkdir(parents=True)
    (tmp_path / "npm/bin/npm-cli.js").write_text(
        "#!/usr/bin/env node\nconsole.log('npm', process.env.FAKE_NODE || 'installed')"
    )
    (tmp_path / "npm/bin/npm-cli.js").chmod(0o755)
    (tmp_path / "npm/npm").symlink_to("bin/npm-cli.js")
    path = f"{tmp_path}/npm{os.pathsep}{os.environ['PATH']}"
    environment = {"PATH": path, "npm_config_registry": registry.url}
    prepare = partial(
        ToolchainInstaller(tmp_path / "a", environment, print).prepare,
        others=("pnpm",),
        installed="20.20.2",
        lockfile_version=None,
    )
    chain = anyio.run(prepare, None, ManagerRequirement(MANAGERS["yarn"], "1.22.22"))
    changed = ToolchainInstaller(tmp_path / "b", {**environment, **chain.environment}, print)

    chain = anyio.run(changed.change_node, NodeRequirement(("10.x",), "The retry", "", must=True), chain)

    assert chain.node == "10.24.1"
    assert run(chain, "yarn", "build") == "yarn 1.22.22 build 10.24.1"
    assert run(chain, "pnpm", "build") == "pnpm 10.9.0 build installed"
    assert run(chain, "npm") == "npm installed"
    assert run(chain, "node", "--version") == "v10.24.1"


def test_no_node_is_fetched_that_yarn_cannot_build_with(tmp_path: Path, registry: Registry) -> None:
    registry.add("@yarnpkg/cli-dist", "4.9.0", manager_files("yarn", "4.9.0"), node=">=18.12.0")
    chain = get(tools(tmp_path / "a", registry), None, ManagerRequirement(YARN_BERRY, "4.9.0"))
    changed = tools(tmp_path / "b", registry)

    with pytest.raises(BuildFailed, match=r"`yarn` does not run with Node 16\.20\.2"):
        anyio.run(changed.change_node, NodeRequirement(("16.x",), "The retry", "", must=True), chain)

    assert list(changed.downloads.iterdir()) == []
