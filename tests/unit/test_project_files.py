"""Test that reading untrusted files takes time in proportion to their size, and is bounded."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from buildrunner.project.files import parse_json, parse_toml, parse_yaml, read_yaml
from buildrunner.project.frameworks.build_scripts import suggest_build_script
from buildrunner.project.frameworks.detect import detect_framework
from buildrunner.project.frameworks.openssl import needs_legacy_openssl
from buildrunner.project.node_version import find_node
from buildrunner.project.package_managers.detect import detect_manager
from buildrunner.project.package_managers.install import find_failed_scripts
from buildrunner.project.package_managers.pnpm import list_skipped
from buildrunner.project.package_managers.record import ManagerRequirement
from buildrunner.project.package_managers.registry_urls import replace_hosts, replace_mirrors
from buildrunner.project.package_managers.table import MANAGERS, find_called_managers

HOST = "https://registry.example/"
SIZE = 100_000


def lockfile(text: str, folder: Path) -> object:
    return needs_legacy_openssl({}, text, 20)


def workspace(text: str, folder: Path) -> object:
    (folder / "package.json").write_text("{}")
    (folder / "pnpm-workspace.yaml").write_text(text)
    return detect_manager(folder, folder)


def several_lockfiles(text: str, folder: Path) -> object:
    (folder / "package.json").write_text('{"dependencies": {"a": "1"}}')
    for name in ("pnpm-lock.yaml", "yarn.lock", "package-lock.json"):
        (folder / name).write_text(text)
    return detect_manager(folder, folder)


def configuration(text: str, folder: Path) -> object:
    for name in ("vite.config.js", "webpack.config.js", "next.config.js", "svelte.config.js", "astro.config.mjs"):
        (folder / name).write_text(text)
    for script in ("vite build", "webpack", "next build", "astro build"):
        detect_framework(folder, folder, {"scripts": {"build": script}}, script)
    (folder / "gulpfile.js").write_text(text)
    return suggest_build_script(folder, folder, {})


def pending_builds(text: str, folder: Path) -> object:
    (folder / "node_modules").mkdir(exist_ok=True)
    (folder / "node_modules" / ".modules.yaml").write_text(f"pendingBuilds:\n{text}")
    return list_skipped(folder, folder)


def output(text: str, folder: Path) -> object:
    return [find_failed_scripts(ManagerRequirement(MANAGERS[name]), text[-32768:], folder, folder) for name in MANAGERS]


READERS: tuple[tuple[Callable[[str, Path], object], tuple[str, ...]], ...] = (
    (
        lambda text, _: replace_hosts(text, {"registry.example"}),
        (
            HOST,
            f"{HOST}a/-/a.tgz?",
            f"{HOST}a/",
            f'resolved "{HOST}a/-/a.tgz#',
            f"{HOST}@a%2f",
            "https://",
            f"{HOST}a/-/",
        ),
    ),
    (
        lambda text, _: replace_mirrors(text),
        (
            "https://registry.npmmirror.com/",
            "https://registry.npmmirror.com/a/-/",
            "https://r.cnpmjs.org/a/-/a.tgz?",
            "http",
        ),
    ),
    (lockfile, ('"webpack', '"/', "webpack@:\n", " webpack@1.1.1: ", '"webpack" : [', "\t", '"webpack": {\n')),
    (workspace, ("- \n", "packages:\n- a\n", "packages: [", "a: &a [*a]\n", "{", "- ", "? ", "a:\n", "#\n", "'", "\t")),
    (several_lockfiles, (" a", " ", "'", "a@npm:1\n", '"a": {', "lockfileVersion: ")),
    (
        configuration,
        ("output: {", "/*", "//", "`", "outDir:", "outDir: (", "a,", "{a,", "const outDir =", "[", "\n ", "'\\"),
    ),
    (pending_builds, ("  - a\n", "    a\n", "    ", "  - @a/", "\n")),
    (output, ("npm error path /node_modules/a\n", "node_modules/a", "\n", "> a install", "YN0009: ", "error ")),
    (lambda text, _: find_called_managers({"a": text, "b": text}, [text]), ("a ", "yarn ", "b", "&&")),
)
CASES = [(reader, unit) for reader, units in READERS for unit in units]


@pytest.mark.parametrize(("reader", "unit"), CASES, ids=lambda value: repr(value) if isinstance(value, str) else "")
def test_reading_takes_time_in_proportion_to_the_size(
    reader: Callable[[str, Path], object], unit: str, tmp_path: Path
) -> None:
    """Measured by the CPU time for eight times the text: quadratic would be 64 times as much."""

    def seconds(size: int) -> float:
        text = unit * (size // len(unit))
        started = time.thread_time()
        with suppress(ValueError):
            reader(text, tmp_path)
        return time.thread_time() - started

    whole = seconds(SIZE)

    assert whole < 0.3 or whole < 24 * min(seconds(SIZE // 8) for _ in range(3))


@pytest.mark.parametrize("unit", [f"{HOST}a/-/a.tgz?", f"{HOST}a/-/a.tgz?#0", f'resolved "{HOST}a/-/a.tgz?'])
def test_a_lockfile_of_addresses_is_rewritten_in_no_time(unit: str) -> None:
    """These 300 kB take about 10 ms. Earlier, most of each address was searched again for each character."""
    text = unit * (300_000 // len(unit))
    started = time.thread_time()
    replace_hosts(text, {"registry.example"})

    assert time.thread_time() - started < 1


@settings(max_examples=50)
@given(
    st.recursive(
        st.text(st.characters(codec="utf-8"), max_size=8),
        lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
    )
)
def test_yaml_is_read_as_its_library_reads_it(value: Any) -> None:
    assert parse_yaml(yaml.safe_dump(value, default_style='"', allow_unicode=False)) == value


@given(st.text("abc[]{}:,-&*!'\"#|>%@` \n\t?<0\x00\u3000", max_size=200))
def test_any_text_is_yaml_or_refused_in_one_way(text: str) -> None:
    with suppress(ValueError):
        parse_yaml(text)


@pytest.mark.parametrize(
    "text",
    [
        "[" * 1000,
        "- " * 1000,
        "a: [" + "b, " * 30_000 + "]",
        "a: &a [x]\nb: [" + "*a, " * 200 + "]",
        "a: 'never closed",
        "\x00",
    ],
)
def test_yaml_is_bounded_in_depth_values_and_aliases(text: str) -> None:
    with pytest.raises(ValueError, match=r"too many|not valid"):
        parse_yaml(text)


def test_a_yaml_file_is_bounded_in_size_and_holds_a_mapping(tmp_path: Path) -> None:
    path = tmp_path / "pnpm-workspace.yaml"
    path.write_text("packages:\n  - 'apps/*' # apps\n  - \"!x\"\n  - packages/**\nyes: no\n")
    assert read_yaml(path, tmp_path) == {"packages": ["apps/*", "!x", "packages/**"], "yes": "no"}
    path.write_text("- a")
    assert read_yaml(path, tmp_path) == {}
    path.write_text("# nothing")
    assert read_yaml(path, tmp_path) == {}
    path.write_text("#" * 200_000)
    with pytest.raises(ValueError, match="larger"):
        read_yaml(path, tmp_path)


@pytest.mark.parametrize("text", ["[" * 100_000, "[" + "{}," * 1_000_001 + "{}]", "1" * 10_000, '{"a":', "\x00"])
def test_json_is_bounded_in_depth_and_values(text: str) -> None:
    with pytest.raises(ValueError, match=r"JSON|values"):
        parse_json(text)


@pytest.mark.parametrize(
    "text", ["[" + "a." * 40_000 + "a]", "a." * 40_000 + "a = 1", "a = " + "[" * 9000, "#" * 200_000, "a"]
)
def test_toml_is_bounded_in_depth_and_size(text: str) -> None:
    started = time.thread_time()
    with pytest.raises(ValueError, match=r"TOML|too large"):
        parse_toml(text)

    assert time.thread_time() - started < 1


def test_a_large_lockfile_is_still_read() -> None:
    packages = {
        f"node_modules/p{i}": {"version": "1.0.0", "resolved": "https://x", "engines": {"node": "1"}} for i in range(9)
    }

    assert parse_json(json.dumps({"packages": packages})) == {"packages": packages}


def test_nested_aliases_in_settings_stay_small(tmp_path: Path) -> None:
    """A billion laughs: each level names the one before ten times."""
    levels = "".join(f"l{level}: &l{level} [{', '.join([f'*l{level - 1}'] * 10)}]\n" for level in range(1, 10))
    text = f"l0: &l0 [x]\n{levels}plugins: [*l9]\npackages: [*l9]\nuseNodeVersion: *l9\n"
    for name in (".yarnrc.yml", "pnpm-workspace.yaml", "_config.yml"):
        (tmp_path / name).write_text(text)
    (tmp_path / "package.json").write_text('{"dependencies": {"hexo": "7"}}')
    started = time.thread_time()

    assert detect_manager(tmp_path, tmp_path)[0].name == "pnpm"
    assert find_node(tmp_path, tmp_path, None) == (None, ())
    assert workspace(text, tmp_path) is not None
    assert detect_framework(tmp_path, tmp_path, {"dependencies": {"hexo": "7"}}, "hexo generate").folders == ("public",)

    assert time.thread_time() - started < 2
