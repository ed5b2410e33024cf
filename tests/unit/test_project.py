from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from buildrunner.errors import BuildFailed
from buildrunner.project import OUTPUT_FOLDERS, BuildPlan, find_output, plan_build

GIVEN: dict[str, str | None] = dict.fromkeys(("root_dir", "install_command", "build_command", "output_dir"))
PACKAGE = '{"name": "app", "scripts": {"build": "vite build"}}'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """An app that npm can build, beside something that is not the repository's."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "package.json").write_text(PACKAGE)
    (folder / "package-lock.json").write_text("{}")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/package.json").write_text(PACKAGE)
    return folder


def plan(checkout: Path, **given: str | None) -> BuildPlan:
    return plan_build(checkout, **{**GIVEN, **given})


def failure(checkout: Path, **given: str | None) -> BuildFailed:
    with pytest.raises(BuildFailed) as caught:
        plan(checkout, **given)
    error = caught.value
    assert error.reason.endswith(".")
    assert error.hint
    return error


def output(checkout: Path, output_dir: str | None = None) -> Path:
    return find_output(plan(checkout, output_dir=output_dir))


def no_output(checkout: Path, output_dir: str | None = None) -> BuildFailed:
    with pytest.raises(BuildFailed) as caught:
        output(checkout, output_dir)
    assert (caught.value.stage, caught.value.exit_code) == ("build", 40)
    return caught.value


# --- what is run ---


def test_an_app_with_npms_lockfile_is_installed_and_built_by_npm(checkout: Path) -> None:
    assert plan(checkout) == BuildPlan(
        folder=checkout,
        install=("npm", "ci"),
        build=("npm", "run", "build"),
        install_shown="npm ci",
        build_shown="npm run build",
        output_folders=OUTPUT_FOLDERS,
    )
    assert OUTPUT_FOLDERS[0] == "dist"


@pytest.mark.parametrize("name", ["package-lock.json", "npm-shrinkwrap.json"])
def test_either_lockfile_of_npms_will_do(checkout: Path, name: str) -> None:
    (checkout / "package-lock.json").rename(checkout / name)
    (checkout / "yarn.lock").touch()

    assert plan(checkout).install == ("npm", "ci")


def test_what_is_given_wins_over_what_is_found(checkout: Path) -> None:
    found = plan(checkout, install_command="npm i && echo", build_command="make 'a b'", output_dir="public/x")

    assert found.install == ("/bin/sh", "-c", "npm i && echo")
    assert found.build == ("/bin/sh", "-c", "make 'a b'")
    assert (found.install_shown, found.build_shown) == ("npm i && echo", "make 'a b'")
    assert found.output_folders == ("public/x",)


@pytest.mark.parametrize(("given", "missing"), [("install_command", "package-lock.json"), ("build_command", "scripts")])
def test_what_is_given_needs_not_be_found(checkout: Path, given: str, missing: str) -> None:
    if missing == "scripts":
        (checkout / "package.json").write_text("{}")
    else:
        (checkout / missing).unlink()

    assert plan(checkout, **{given: "make"}).folder == checkout


@pytest.mark.parametrize("package", [None, "{", "[]"])
def test_package_json_is_not_looked_at_when_both_commands_are_given(checkout: Path, package: str | None) -> None:
    (checkout / "package.json").unlink()
    (checkout / "package-lock.json").unlink()
    if package:
        (checkout / "package.json").write_text(package)

    assert plan(checkout, install_command="true", build_command="make").install == ("/bin/sh", "-c", "true")


# --- package.json ---


@pytest.mark.parametrize("given", [{}, {"install_command": "make"}, {"build_command": "make"}])
def test_no_package_json(checkout: Path, given: dict[str, str]) -> None:
    (checkout / "package.json").unlink()

    error = failure(checkout, **given)

    assert (error.stage, error.exit_code) == ("install", 30)
    assert error.reason == "The repository has no package.json at its top."
    assert "ROOT_DIR" in (error.hint or "")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "Expecting value: line 1 column 1"),
        ('{\n  "name": "app",\n}', "line 3 column 1"),
        ("{'name': 'app'}", "line 1 column 2"),
        ("[" * 200_000, "nested too deeply"),
        ('{"a": ' * 100_000, "nested too deeply"),
        (f'{{"a": {"9" * 100_000}}}', "not valid JSON"),
        ("<<<<<<< HEAD", "not valid JSON"),
    ],
)
def test_package_json_that_is_not_json(checkout: Path, text: str, said: str) -> None:
    (checkout / "package.json").write_text(text)

    error = failure(checkout)

    assert error.stage == "install"
    assert error.reason.startswith("package.json is not valid JSON: ")
    assert said in error.reason
    assert len(error.reason) < 300


@pytest.mark.parametrize(
    "data", [b'\xef\xbb\xbf{"scripts": {"build": "x"}}', b'{"x": "\xff", "scripts": {"build": "x"}}']
)
def test_package_json_may_begin_with_a_bom_and_hold_other_bytes(checkout: Path, data: bytes) -> None:
    (checkout / "package.json").write_bytes(data)

    assert plan(checkout).build == ("npm", "run", "build")


@pytest.mark.parametrize("value", [[], "x", 1, None, True, [{"scripts": {"build": "x"}}]])
def test_package_json_that_holds_no_object(checkout: Path, value: Any) -> None:
    (checkout / "package.json").write_text(json.dumps(value))

    assert "must hold a JSON object" in failure(checkout).reason


@pytest.mark.parametrize("scripts", [None, {}, "vite build", ["build"], {"build": None}, {"build": {}}, {"Build": "x"}])
def test_no_build_script(checkout: Path, scripts: Any) -> None:
    (checkout / "package.json").write_text(json.dumps({"scripts": scripts} if scripts is not None else {}))

    error = failure(checkout)

    assert (error.stage, error.exit_code) == ("build", 40)
    assert error.reason == "package.json has no build script."
    assert "vite build" in (error.hint or "")


def test_package_json_that_leads_out_of_the_repository(checkout: Path) -> None:
    (checkout / "package.json").unlink()
    for target in ("../outside/package.json", "/etc/passwd", "/dev/zero"):
        (checkout / "package.json").symlink_to(target)

        assert failure(checkout).reason == "package.json is a link that leads out of the repository."
        (checkout / "package.json").unlink()


def test_package_json_may_be_a_link_inside_the_repository(checkout: Path) -> None:
    (checkout / "package.json").rename(checkout / "real.json")
    (checkout / "package.json").symlink_to("real.json")

    assert plan(checkout).folder == checkout


@pytest.mark.parametrize("target", ["nothing.json", "package.json"])
def test_a_link_that_leads_nowhere_is_said(checkout: Path, target: str) -> None:
    (checkout / "package.json").unlink()
    (checkout / "package.json").symlink_to(target)

    assert "package.json cannot be read: " in failure(checkout).reason


@pytest.mark.parametrize("kind", ["pipe", "folder"])
def test_package_json_that_is_no_file_neither_hangs_nor_leaks(checkout: Path, kind: str) -> None:
    (checkout / "package.json").unlink()
    (os.mkfifo if kind == "pipe" else os.mkdir)(checkout / "package.json")
    before, started = len(os.listdir("/proc/self/fd")), time.monotonic()

    error = failure(checkout)

    assert error.reason == "package.json is not a regular file."
    assert time.monotonic() - started < 2
    assert len(os.listdir("/proc/self/fd")) == before


def test_package_json_that_is_gigantic_is_not_read(checkout: Path) -> None:
    os.truncate(checkout / "package.json", 1 << 40)  # a hole: it takes no room

    assert failure(checkout).reason == "package.json is larger than 4 MiB."


# --- lockfiles ---


def test_no_lockfile(checkout: Path) -> None:
    (checkout / "package-lock.json").unlink()

    error = failure(checkout)

    assert (error.stage, error.exit_code) == ("install", 30)
    assert "no lockfile (package-lock.json)" in error.reason
    assert "npm install" in (error.hint or "")


@pytest.mark.parametrize("name", ["package-lock.json", "npm-shrinkwrap.json"])
def test_a_lockfile_is_a_file(checkout: Path, name: str) -> None:
    (checkout / "package-lock.json").unlink()
    (checkout / name).mkdir()

    assert "no lockfile" in failure(checkout).reason


@pytest.mark.parametrize(
    ("name", "manager"), [("pnpm-lock.yaml", "pnpm"), ("yarn.lock", "Yarn"), ("bun.lock", "Bun"), ("bun.lockb", "Bun")]
)
def test_the_lockfile_of_another_package_manager_is_named(checkout: Path, name: str, manager: str) -> None:
    (checkout / "package-lock.json").rename(checkout / name)

    reason = failure(checkout).reason

    assert f"{manager}'s ({name})" in reason


@pytest.mark.parametrize(
    ("package", "second"), [("{}", "package.json has no build script."), ("{", "package.json is not valid JSON: ")]
)
def test_two_problems_at_once_are_named_together(checkout: Path, package: str, second: str) -> None:
    (checkout / "package-lock.json").unlink()
    (checkout / "package.json").write_text(package)

    error = failure(checkout)

    assert error.stage == "install"
    assert error.reason.startswith("The repository has no lockfile (package-lock.json), which `npm ci` needs; and ")
    assert second in error.reason
    assert (error.hint or "").count(".") >= 2


# --- ROOT_DIR ---


def test_the_app_may_be_in_a_folder(checkout: Path) -> None:
    (checkout / "apps/web").mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        (checkout / name).rename(checkout / "apps/web" / name)

    assert plan(checkout, root_dir="apps/web").folder == checkout / "apps/web"
    assert failure(checkout).reason == "The repository has no package.json at its top."


def test_what_is_missing_in_a_folder_is_said_of_the_folder(checkout: Path) -> None:
    (checkout / "web").mkdir()

    assert failure(checkout, root_dir="web").reason == "The repository has no package.json in web."
    (checkout / "web/package.json").write_text("{}")
    reason = failure(checkout, root_dir="web").reason
    assert "package-lock.json) in web" in reason
    assert "package.json in web has no build script" in reason


@pytest.mark.parametrize(
    "root_dir", ["nothing", "package.json", "package.json/x", "out", "passwd", "loop", "x" * 300, "a\0b"]
)
def test_root_dir_that_is_no_folder_of_the_repository(checkout: Path, root_dir: str) -> None:
    (checkout / "out").symlink_to("../outside")
    (checkout / "passwd").symlink_to("/etc/passwd")
    (checkout / "loop").symlink_to("loop")

    error = failure(checkout, root_dir=root_dir)

    assert (error.stage, error.exit_code) == ("install", 30)
    assert error.reason == f"The repository has no folder {root_dir}."
    assert "ROOT_DIR" in (error.hint or "")


def test_root_dir_may_be_a_link_inside_the_repository(checkout: Path) -> None:
    (checkout / "real").mkdir()
    (checkout / "web").symlink_to("real")
    for name in ("package.json", "package-lock.json"):
        (checkout / name).rename(checkout / "real" / name)

    assert plan(checkout, root_dir="web").folder == checkout / "real", "whatever the build makes of the link"
    assert plan(checkout, root_dir="real").folder == checkout / "real"


def test_the_top_may_be_named_with_a_dot(checkout: Path) -> None:
    assert plan(checkout, root_dir=".").install == ("npm", "ci")
    (checkout / "package.json").unlink()
    assert failure(checkout, root_dir=".").reason == "The repository has no package.json at its top."


# --- the output ---


def make_folder(checkout: Path, name: str, *, index: bool = True) -> Path:
    folder = checkout / name
    folder.mkdir(parents=True)
    if index:
        (folder / "index.html").write_text("<h1>hello</h1>")
    return folder


def test_output_folders_are_looked_for_in_their_order(checkout: Path) -> None:
    for name in reversed(OUTPUT_FOLDERS):
        folder = make_folder(checkout, name)

        assert output(checkout) == folder


def test_dist_is_the_output_whatever_it_holds_and_the_others_need_a_page(checkout: Path) -> None:
    make_folder(checkout, "build", index=False)  # sources, for instance

    assert "made no output" in no_output(checkout).reason
    out = make_folder(checkout, "out")
    assert output(checkout) == out
    dist = make_folder(checkout, "dist", index=False)
    assert output(checkout) == dist


def test_output_dir_is_the_only_folder_that_is_looked_at(checkout: Path) -> None:
    make_folder(checkout, "dist")

    error = no_output(checkout, "public")

    assert error.reason == "The build ended well, but it made no folder public."
    assert "OUTPUT_DIR" in (error.hint or "")
    public = make_folder(checkout, "public", index=False)
    assert output(checkout, "public") == public


def test_output_is_looked_for_in_the_folder_of_the_app(checkout: Path) -> None:
    make_folder(checkout, "dist")
    (checkout / "web").mkdir()
    for name in ("package.json", "package-lock.json"):
        (checkout / name).rename(checkout / "web" / name)
    found = plan(checkout, root_dir="web")

    with pytest.raises(BuildFailed, match="made no output"):
        find_output(found)

    dist = make_folder(checkout, "web/dist")
    assert find_output(found) == dist


def test_no_output_names_the_folders_that_there_are(checkout: Path) -> None:
    for name in ("www", "node_modules", ".git", "target"):
        make_folder(checkout, name)
    (checkout / "loop").symlink_to("loop")
    (checkout / "file").touch()

    hint = no_output(checkout).hint or ""

    assert hint.endswith("The folders there are: target, www.")


@pytest.mark.parametrize("output_dir", [None, "dist"])
def test_an_output_that_is_a_file_is_said(checkout: Path, output_dir: str | None) -> None:
    (checkout / "dist").touch()

    assert no_output(checkout, output_dir).reason.startswith("dist is a file")


def test_links_that_loop_or_lead_nowhere_are_no_output(checkout: Path) -> None:
    (checkout / "dist").symlink_to("dist")
    (checkout / "build").symlink_to("nothing")

    assert "made no output" in no_output(checkout).reason


def test_a_build_that_removed_its_own_folder_made_no_output(checkout: Path) -> None:
    found = plan(checkout)
    for name in ("package.json", "package-lock.json"):
        (checkout / name).unlink()
    checkout.rmdir()

    with pytest.raises(BuildFailed, match="made no output"):
        find_output(found)
