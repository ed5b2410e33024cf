"""Test repositories that crashed or delayed the runner in the past."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildrunner.build.command import can_be_run
from buildrunner.cache import key
from buildrunner.checkout.git import MAX_OUTPUT_BYTES
from buildrunner.checkout.git_errors import explain
from buildrunner.errors import BuildFailed
from buildrunner.project.files import read_text
from buildrunner.project.frameworks.openssl import needs_legacy_openssl
from buildrunner.project.output.pages import MAX_PAGE_BYTES
from buildrunner.project.overrides import Overrides
from buildrunner.project.plan import plan_build
from buildrunner.project.versions import is_range
from buildrunner.project.workspaces import match_parts
from buildrunner.routing.references import find_addresses
from buildrunner.sandbox import idle_detection as endless
from buildrunner.sandbox.command import Exit
from buildrunner.sandbox.processes import is_wrapper

SECONDS = 3.0  # of what took minutes to days; on a noisy machine


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    return tmp_path.resolve()


def plan(checkout: Path) -> None:
    with suppress(BuildFailed):
        plan_build(checkout, Overrides(None, None, None, None))


@contextmanager
def quickly() -> Iterator[None]:
    started = time.process_time()
    yield
    assert time.process_time() - started < SECONDS


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just("1" * 5000) | st.just("\0\ud800"),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)
NAMES = [
    "scripts",
    "dependencies",
    "devDependencies",
    "engines",
    "volta",
    "workspaces",
    "packageManager",
    "devEngines",
    "name",
]


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.dictionaries(
        st.sampled_from(NAMES), VALUES | st.dictionaries(st.sampled_from(["build", "next", "node"]), VALUES)
    )
)
def test_whatever_package_json_holds_there_is_a_plan_or_a_reason(checkout: Path, package: dict[str, Any]) -> None:
    package["scripts"] = package.get("scripts") or {"build": "next build"}
    (checkout / "package.json").write_text(json.dumps(package))

    plan(checkout)
    needs_legacy_openssl(package, None, 20)


@pytest.mark.parametrize(
    "files",
    [
        {"package.json": {"scripts": {"build": "next build"}, "dependencies": {"next": "1" * 5000}}},
        {
            "package.json": {"scripts": {"build": "ng build"}, "devDependencies": {"@angular/cli": "^17"}},
            "angular.json": {"defaultProject": [], "projects": {"a": {"architect": {"build": {}}}}},
        },
        {
            "package.json": {
                "scripts": {"build": "vite build"},
                "devEngines": {"packageManager": {"name": ["npm"], "version": {}}},
            }
        },
    ],
)
def test_values_of_unexpected_types_are_not_internal_errors(checkout: Path, files: dict[str, Any]) -> None:
    for name, value in files.items():
        (checkout / name).write_text(json.dumps(value))

    plan(checkout)


@pytest.mark.parametrize(
    "files",
    [
        {
            "package-lock.json": "node-sass@" * 60_000,
            "package.json": '{"dependencies": {"node-sass": "4"}, "scripts": {"build": "x"}}',
        },
        {
            ".yarnrc.yml": "yarnPath: " + "yarn-1.1.1" * 60_000,
            "package.json": '{"scripts": {"build": "x"}}',
            "yarn.lock": "",
        },
        {
            "package.json": json.dumps(
                {"scripts": {**{f"s{n}": "x" for n in range(20_000)}, "build": "run-s " + "* " * 400}}
            )
        },
        {
            "package.json": json.dumps(
                {"scripts": {**{f"s{n}": f"yarn s{n + 1}" for n in range(4000)}, "build": "yarn s0"}}
            )
        },
        {
            "pnpm-workspace.yaml": "packages:\n" + "-\n" * (2**21 - 10),
            "package.json": '{"scripts": {"build": "x"}}',
        },
    ],
    ids=["a lockfile of one line", "a path without end", "stars", "a chain of scripts", "a list of nothing"],
)
def test_what_is_read_of_a_repository_takes_no_more_than_seconds(checkout: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (checkout / name).write_text(text)

    with quickly():
        plan(checkout)


@pytest.mark.parametrize(
    "search",
    [
        lambda: __import__("re").search(key.NO_SCRIPTS, "\n" * 200_000, 8),
        lambda: endless._watches("tsc " * 2500, "> " + "tsc " * 8000),
    ],
    ids=["empty lines of .npmrc", "a script of one word"],
)
def test_searches_take_no_more_than_seconds(search: Callable[[], object]) -> None:
    with quickly():
        search()


def test_too_many_patches_are_no_input_of_a_cache(checkout: Path) -> None:
    (checkout / "patches").mkdir()
    for number in range(5):
        (checkout / f"patches/{number}.patch").write_text("x" * 3 * 2**20)

    with pytest.raises(ValueError, match="too much"):
        key.read_inputs(checkout, checkout)


def test_a_checkout_that_became_a_link_is_not_read_through(checkout: Path, tmp_path: Path) -> None:
    real, elsewhere = tmp_path / "repository", tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "package-lock.json").write_text("secret")
    real.symlink_to(elsewhere)

    with pytest.raises(ValueError, match="leads out of the repository"):
        read_text(real / "package-lock.json", real)


@pytest.mark.parametrize(
    ("command", "can_be"),
    [(["npm", "ci"], True), (["a\0b"], False), (["\ud800"], False), (["\udc80"], True), (["x" * 131_072], False)],
)
def test_a_command_that_the_kernel_refuses_is_found_out_before(command: list[str], can_be: bool) -> None:
    assert can_be_run(command) == can_be


def test_a_range_of_spaces_is_read_at_once() -> None:
    with quickly():
        for text in ("1" + " " * 195 + "-", "1 " + " " * 150 + "- ", ">" + "\u00a0 " * 90 + "x"):
            for start in range(3):
                is_range(text + str(start))


def test_a_workspace_of_many_stars_is_matched_at_once() -> None:
    with quickly():
        assert not match_parts(["a"] * 20, ["**"] * 10 + ["b"])


@settings(deadline=None)
@given(st.lists(st.sampled_from("ab"), max_size=5), st.lists(st.sampled_from(["a", "b", "*", "**"]), max_size=5))
def test_stars_of_a_workspace_match_as_patterns_do(parts: list[str], wanted: list[str]) -> None:
    def matches(parts: list[str], wanted: list[str]) -> bool:
        if not wanted:
            return not parts
        if wanted[0] == "**":
            return matches(parts, wanted[1:]) or (bool(parts) and matches(parts[1:], wanted))
        return bool(parts) and wanted[0] in {parts[0], "*"} and matches(parts[1:], wanted[1:])

    assert match_parts(tuple(parts), tuple(wanted)) == matches(parts, wanted)


def test_a_node_sass_version_of_only_spaces_is_read_at_once(checkout: Path) -> None:
    package = {"scripts": {"build": "vite build"}, "dependencies": {"node-sass": f"{' ' * 60_000}5"}}
    (checkout / "package.json").write_text(json.dumps(package))

    with quickly():
        plan(checkout)


def test_a_command_line_of_many_folders_is_read_at_once() -> None:
    with quickly():
        for _ in range(300):
            is_wrapper("/node" * 800)


def test_endless_errors_of_a_git_server_do_not_stop_the_loop() -> None:
    """Each of 256 submodules may have one."""
    text = "remote error: 503 " + "Remote branch " * (MAX_OUTPUT_BYTES // 14)
    turns = 0

    async def explain_all() -> None:
        async def count() -> None:
            nonlocal turns
            while True:
                await anyio.lowlevel.checkpoint()
                turns += 1

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(count)
            for _ in range(5):
                await explain("https://x.example/a", "main", text, Exit(128, None), token=True)
            tasks.cancel_scope.cancel()

    with quickly():
        anyio.run(explain_all)
    assert turns >= 3


FORMATTING = "".join(f"<i x={number}>" for number in range(5000))


@pytest.mark.parametrize(
    "html",
    [
        FORMATTING + "</b></i><div>" * 20_000,  # took the parser four minutes
        "<div>" * 50_000,
        "<a href=/x><div>" * 16_000,
        "<b></p>" * 40_000,
        "<a href=" * 32_000,
        "<a href=\"<a href='" * 14_000,
        '<a =" >' * 40_000,
        "<!--" * 64_000,
        "<title>" * 40_000,
        "<template>" * 26_000,
    ],
    ids=lambda html: html[:12],
)
def test_a_page_of_oddly_nested_elements_is_read_at_once(html: str) -> None:
    with quickly():
        list(find_addresses(html[:MAX_PAGE_BYTES], "/"))
