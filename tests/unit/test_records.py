"""Test the requirements on all records of package managers and frameworks, including future ones."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from buildrunner.project.frameworks.detect import detect_framework
from buildrunner.project.frameworks.record import Framework
from buildrunner.project.frameworks.table import FRAMEWORKS
from buildrunner.project.output.complete_site import _PACKAGE_FILES
from buildrunner.project.package_managers.install import list_strategies, without_scripts
from buildrunner.project.package_managers.record import ManagerRequirement, PackageManager
from buildrunner.project.package_managers.table import LOCKFILES, MANAGERS, PACKAGE_MANAGERS
from buildrunner.project.versions import is_range
from buildrunner.sandbox.processes import is_wrapper

DOCUMENT = (Path(__file__).parents[2] / "docs/frameworks.md").read_text()
each_manager = pytest.mark.parametrize(
    "record", PACKAGE_MANAGERS, ids=[f"{number}-{record.name}" for number, record in enumerate(PACKAGE_MANAGERS)]
)
each_framework = pytest.mark.parametrize("framework", FRAMEWORKS, ids=[framework.name for framework in FRAMEWORKS])


# --- package managers ---


@each_manager
def test_a_manager_writes_a_lockfile_that_it_reads(record: PackageManager) -> None:
    assert record.lockfile in [lockfile.name for lockfile in record.lockfiles]
    assert all(LOCKFILES[lockfile.name][0].name == record.name for lockfile in record.lockfiles)
    assert MANAGERS[record.name].name == record.name


@each_manager
def test_a_manager_installs_from_the_lockfile_alone_first(record: PackageManager) -> None:
    strategies = list_strategies(ManagerRequirement(record), lockfile=record.lockfile, needed=True)

    assert (strategies[0].frozen, strategies[0].after) == (True, None)
    assert [each.frozen for each in strategies] == sorted((each.frozen for each in strategies), reverse=True)
    assert not strategies[-1].frozen
    for strategy in strategies:
        assert strategy.command[0] == record.name
        assert without_scripts(ManagerRequirement(record), strategy)[:-1] == strategy.command
        if strategy is not strategies[0]:
            assert strategy.after
            assert strategy.remedy
            assert "{lockfile}" not in strategy.remedy
            assert set(re.findall(r"\{(\w+)\}", strategy.remedy)) <= re.compile(strategy.after).groupindex.keys()


@each_manager
def test_the_texts_of_a_manager_can_be_anything(record: PackageManager) -> None:
    for lockfile in record.lockfiles:
        for text in ("", "{", "\n" * 10, '{"lockfileVersion": 3}', "a:\n  b\n", '"a": ["'):
            assert lockfile.rewrite_hosts(text, {"example.com"}) == text
            if lockfile.count_missing and lockfile.find_undigested:
                assert lockfile.count_missing(text, [("left-pad", "^1.0.0")]) == 1
                list(lockfile.find_undigested(text))
    for pattern in (*record.script_failures, record.own_script_failure):
        re.compile(pattern.replace("NAME", "(x)"))
    groups = re.compile(record.any_script_failure).groupindex.keys()
    assert groups & {"package", "path"}
    assert groups <= {"package", "path", "name", "by"}


@each_manager
def test_a_manager_can_be_fetched_and_named_in_hints(record: PackageManager) -> None:
    assert is_range(record.plausible)
    assert "{" not in record.fetching.package_for("arm64")
    assert record.name in record.fetching.commands
    assert record.add_command.startswith(record.name)
    assert record.add_dev_command.startswith(record.name)
    assert re.fullmatch("[a-z]+", record.cache.id if record.cache else "none"), "it is a part of archives' names"


@each_manager
def test_a_manager_is_not_named_as_the_program_of_a_script(record: PackageManager) -> None:
    assert all(is_wrapper(f"/usr/bin/{name} run build") for name in (record.name, *record.wrappers))


@each_manager
def test_a_lockfile_is_not_taken_for_a_file_of_the_site(record: PackageManager) -> None:
    assert all(_PACKAGE_FILES.fullmatch(lockfile.name) for lockfile in record.lockfiles)


# --- frameworks ---


def test_no_two_frameworks_have_one_name() -> None:
    assert len({framework.name for framework in FRAMEWORKS}) == len(FRAMEWORKS)


@each_framework
def test_a_framework_is_recognized_by_its_package(framework: Framework, tmp_path: Path) -> None:
    for package in framework.packages:
        found = detect_framework(tmp_path, tmp_path, {"devDependencies": {package: "1"}}, "node build.mjs")
        assert found.name == framework.name
    assert framework.packages or not framework.needs_package


@each_framework
def test_a_framework_recognizes_the_commands_suggested_for_it(framework: Framework) -> None:
    suggested = [default.command for default in framework.default_commands]
    for command in filter(None, [*suggested, framework.suggested_command]):
        assert re.match(framework.commands, command)


@each_framework
def test_a_framework_has_an_output_folder(framework: Framework) -> None:
    assert framework.output or framework.find_output
    assert not any(folder.startswith(("/", "..")) for folder in framework.output)
    assert not framework.output_keys or framework.config_files


@each_framework
def test_a_framework_is_in_the_document(framework: Framework) -> None:
    assert framework.name.removesuffix(" 1") in DOCUMENT
