from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from buildrunner.errors import BuildFailed
from buildrunner.project import BuildPlan, plan_build
from buildrunner.reading import folders

GIVEN: dict[str, Any] = dict.fromkeys(("root_dir", "install_command", "build_command", "output_dir"))
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


def plan(checkout: Path, **given: Any) -> BuildPlan:
    return plan_build(checkout, **{**GIVEN, **given})


def write(folder: Path, **package: Any) -> None:
    """Write a package.json."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "package.json").write_text(json.dumps(package))


def failure(checkout: Path, **given: Any) -> BuildFailed:
    with pytest.raises(BuildFailed) as caught:
        plan(checkout, **given)
    error = caught.value
    assert error.reason.endswith(".")
    assert error.hint
    return error


# --- what is run ---


def test_an_app_with_npms_lockfile_is_installed_and_built_by_npm(checkout: Path) -> None:
    found = plan(checkout)

    assert (found.folder, found.root, found.site, found.install_folder) == (checkout,) * 4
    assert [attempt.shown for attempt in found.install] == [
        "npm ci",
        "npm ci --legacy-peer-deps",
        "npm install",
        "npm install --legacy-peer-deps",
        "npm install --no-package-lock",
        "npm install --no-package-lock --legacy-peer-deps",
    ]
    assert (found.build, found.build_shown, found.build_script) == (
        ("npm", "run", "build"),
        "npm run build",
        "vite build",
    )
    assert (found.package["name"], found.lockfile) == ("app", checkout / "package-lock.json")
    assert found.framework.name == "Vite"


def test_what_is_given_wins_over_what_is_found(checkout: Path) -> None:
    found = plan(checkout, install_command="npm i && echo", build_command="make 'a b'", output_dir="public/x")

    assert [attempt.command for attempt in found.install] == [("/bin/sh", "-c", "npm i && echo")]
    assert found.build == ("/bin/sh", "-c", "make 'a b'")
    assert (found.install[0].shown, found.build_shown) == ("npm i && echo", "make 'a b'")
    assert found.output_dir == "public/x"


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

    found = plan(checkout, install_command="true", build_command="make")

    assert [attempt.shown for attempt in found.install] == ["true"]
    assert not found.needs_tools


def test_a_command_that_builds_needs_no_package_json(checkout: Path) -> None:
    (checkout / "package.json").unlink()
    (checkout / "package-lock.json").unlink()

    found = plan(checkout, build_command="sh build.sh")

    assert (found.install, found.build_shown, found.folder) == ((), "sh build.sh", checkout)


def test_a_script_that_builds_under_another_name_is_run_and_said(checkout: Path) -> None:
    write(checkout, scripts={"docs:build": "vitepress build docs"})

    found = plan(checkout)

    assert found.build == ("npm", "run", "docs:build")
    assert found.notes == ("package.json has no script build; docs:build is run.",)


def test_a_framework_that_only_a_server_can_show_is_refused_before_anything_is_installed(checkout: Path) -> None:
    write(checkout, scripts={"build": "next build"}, dependencies={"next": "15.0.0"})

    error = failure(checkout)

    assert error.stage == "build"
    assert "Next.js" in error.reason


def test_what_a_framework_wants_to_be_run_instead_is_run(checkout: Path) -> None:
    write(checkout, scripts={"build": "nuxt build"}, dependencies={"nuxt": "3.0.0"})

    found = plan(checkout)

    assert found.build[:2] == ("/bin/sh", "-c")
    assert found.build[2].endswith("; nuxt generate")
    assert found.build_shown == "nuxt generate"
    assert f"{checkout}/node_modules/.bin" in found.build[2]
    assert "nuxt generate" in found.notes[0]


# --- package.json ---


@pytest.mark.parametrize("given", [{}, {"install_command": "make"}])
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


def test_no_lockfile_is_a_warning_that_names_what_mends_it(checkout: Path) -> None:
    (checkout / "package-lock.json").unlink()
    write(checkout, scripts={"build": "x"}, dependencies={"a": "1"})

    first = plan(checkout).install[0]

    assert (first.shown, first.frozen) == ("npm install", False)
    assert "Run `npm install` and commit package-lock.json." in (first.mend or "")


def test_no_lockfile_is_a_failure_where_it_has_to_be_there(checkout: Path) -> None:
    (checkout / "package-lock.json").unlink()
    write(checkout, scripts={"build": "x"}, dependencies={"a": "1"})

    error = failure(checkout, strict_lockfile=True)

    assert (error.stage, error.exit_code) == ("install", 30)
    assert error.reason == "The repository has no lockfile of npm, and STRICT_LOCKFILE asks for one."
    assert "npm install" in (error.hint or "")


def test_where_nothing_would_be_locked_no_lockfile_is_needed(checkout: Path) -> None:
    (checkout / "package-lock.json").unlink()

    first = plan(checkout, strict_lockfile=True).install[0]

    assert (first.shown, first.mend) == ("npm install", None)


@pytest.mark.parametrize("name", ["package-lock.json", "npm-shrinkwrap.json"])
def test_a_lockfile_is_a_file(checkout: Path, name: str) -> None:
    (checkout / "package-lock.json").unlink()
    (checkout / name).mkdir()

    assert plan(checkout).lockfile is None


# --- where the app is ---


def test_the_app_may_be_in_the_folder_of_root_dir(checkout: Path) -> None:
    move(checkout, "apps/web")

    assert plan(checkout, root_dir="apps/web").folder == checkout / "apps/web"


def move(checkout: Path, folder: str) -> None:
    (checkout / folder).mkdir(parents=True)
    for name in ("package.json", "package-lock.json"):
        (checkout / name).rename(checkout / folder / name)


@pytest.mark.parametrize("folder", ["web", "apps/web"])
def test_the_only_folder_that_has_a_build_script_is_the_app(checkout: Path, folder: str) -> None:
    move(checkout, folder)
    write(checkout / "functions", name="functions")
    write(checkout / "node_modules/vite", scripts={"build": "x"})
    write(checkout / ".github/x", scripts={"build": "x"})

    found = plan(checkout)

    assert (found.folder, found.root) == (checkout / folder,) * 2
    assert found.notes == (f"The app is in {folder}.",)


def test_a_folder_three_levels_deep_is_not_looked_for(checkout: Path) -> None:
    move(checkout, "a/b/c")

    assert failure(checkout).reason == "The repository has no package.json at its top."


def test_the_build_script_at_the_top_comes_before_all_others(checkout: Path) -> None:
    write(checkout / "web", scripts={"build": "vite build"}, dependencies={"astro": "5"})

    assert plan(checkout).folder == checkout


def test_the_site_beside_a_server_that_only_compiles_itself_is_the_app(checkout: Path) -> None:
    server = {"express": "4"}
    write(checkout / "frontend", scripts={"build": "vite build"})
    (checkout / "frontend/index.html").touch()

    write(checkout, scripts={"build": "rimraf dist && npm run compile", "compile": "tsc"}, dependencies=server)
    made = plan(checkout)

    assert (made.folder, made.root) == (checkout / "frontend", checkout / "frontend")
    assert made.notes == ("The app is in frontend.",)

    for scripts, dependencies in (
        ({"build": "tsc && vite build"}, server),
        ({"build": "npm run build --prefix frontend"}, server),
        ({"build": "tsc"}, {}),
    ):
        write(checkout, scripts=scripts, dependencies=dependencies)
        assert plan(checkout).folder == checkout
    write(checkout, scripts={"build": "tsc"}, dependencies=server)
    assert plan(checkout, build_command="tsc").folder == checkout
    write(checkout / "frontend", scripts={"build": "tsc"})
    assert plan(checkout).folder == checkout


def test_of_several_folders_the_one_that_is_a_site_is_the_app(checkout: Path) -> None:
    (checkout / "package.json").write_text("{}")
    write(checkout / "server", scripts={"build": "tsc"}, dependencies={"express": "5"})
    write(checkout / "client", scripts={"build": "vite build"}, devDependencies={"vite": "7"})
    (checkout / "client/index.html").touch()

    found = plan(checkout)

    assert found.folder == checkout / "client"
    assert found.notes == ("The app is in client; server can be built, too, but is no site.",)


def test_several_sites_are_named_with_what_to_set(checkout: Path) -> None:
    (checkout / "package.json").unlink()
    for name in ("docs", "web"):
        write(checkout / name, scripts={"build": "astro build"}, dependencies={"astro": "5"})

    error = failure(checkout)

    assert error.reason == "Several folders have a build script, and more than one is a site: docs, web."
    assert error.hint == "Set ROOT_DIR to the folder of the app."
    assert plan(checkout, root_dir="docs").folder == checkout / "docs"


def test_a_link_to_a_folder_outside_is_not_looked_into(checkout: Path) -> None:
    (checkout / "package.json").unlink()
    (checkout / "web").symlink_to("../outside")

    assert failure(checkout).reason == "The repository has no package.json at its top."


def test_a_link_to_a_folder_inside_is_not_a_second_app(checkout: Path) -> None:
    move(checkout, "web")
    (checkout / "alias").symlink_to("web")

    assert plan(checkout).folder == checkout / "web"


def test_of_a_tree_of_many_folders_so_many_are_looked_through(checkout: Path) -> None:
    for index in range(5100):
        (checkout / f"f{index}").mkdir()

    assert len(list(folders(checkout, 2))) == 5000


# --- workspaces ---


@pytest.mark.parametrize(
    "patterns",
    [
        ["apps/*"],
        {"packages": ["apps/web"]},
        ["**"],
        ["./apps/*/"],
        ["{packages,apps}/*"],
        ["{libs/{a,b},apps/{x,web}}"],
    ],
)
def test_a_package_of_a_workspace_is_installed_at_its_top(checkout: Path, patterns: Any) -> None:
    write(checkout, workspaces=patterns)
    write(checkout / "apps/web", scripts={"build": "astro build"}, dependencies={"astro": "5"})

    for found in (plan(checkout), plan(checkout, root_dir="apps/web")):
        assert (found.folder, found.root, found.install_folder) == (checkout / "apps/web", checkout, checkout)
        assert found.lockfile == checkout / "package-lock.json"
        assert found.build == ("npm", "run", "build")


@pytest.mark.parametrize(
    "text", ["packages:\n  - 'apps/*'\n", 'packages: ["apps/*"]\n', "packages:\n# all\n- apps/**\n\ncatalog:\n  a: 1\n"]
)
def test_the_workspace_of_pnpm_is_read(checkout: Path, text: str) -> None:
    (checkout / "package-lock.json").unlink()
    (checkout / "pnpm-lock.yaml").write_text("lockfileVersion: '9.0'\n")
    write(checkout)
    (checkout / "pnpm-workspace.yaml").write_text(text)
    write(checkout / "apps/web", scripts={"build": "x"})

    found = plan(checkout)

    assert (found.folder, found.root) == (checkout / "apps/web", checkout)
    assert found.manager
    assert found.manager.name == "pnpm"


def test_a_folder_that_is_no_package_of_the_workspace_is_installed_by_itself(checkout: Path) -> None:
    write(checkout, workspaces=["packages/*", "!packages/web"])
    write(checkout / "packages/web", scripts={"build": "x"}, dependencies={"a": "1"})

    found = plan(checkout, root_dir="packages/web")

    assert (found.root, found.lockfile) == (checkout / "packages/web", None)


def test_the_lockfile_in_the_apps_own_folder_comes_before_the_workspaces(checkout: Path) -> None:
    write(checkout, workspaces=["web"])
    write(checkout / "web", scripts={"build": "x"})
    (checkout / "web/yarn.lock").touch()

    found = plan(checkout, root_dir="web")

    assert (found.root, found.lockfile) == (checkout / "web", checkout / "web/yarn.lock")


def test_what_the_app_needs_of_its_workspace_is_built_first_and_in_order(checkout: Path) -> None:
    write(checkout, workspaces=["*"])
    write(checkout / "web", name="web", scripts={"build": "astro build"}, dependencies={"ui": "*", "astro": "5"})
    write(checkout / "ui", name="ui", scripts={"build": "tsc"}, devDependencies={"core": "*", "web": "*"})
    write(checkout / "core", name="core", scripts={"build": "tsc"}, dependencies={"ui": "*"})
    write(checkout / "other", name="other", scripts={"build": "tsc"})

    assert plan(checkout).build_shown == "(cd ../core && npm run build) && (cd ../ui && npm run build) && npm run build"


def test_the_one_site_that_the_script_of_a_workspace_builds_is_known(checkout: Path) -> None:
    write(checkout, workspaces=["apps/*"], scripts={"build": "turbo run build"}, devDependencies={"turbo": "2"})
    write(checkout / "apps/web", scripts={"build": "astro build"}, dependencies={"astro": "5"})
    write(checkout / "apps/api", scripts={"build": "tsc"})

    found = plan(checkout)

    assert (found.folder, found.site, found.framework.name) == (checkout, checkout / "apps/web", "Astro")
    assert found.build_shown == "npm run build"


@pytest.mark.parametrize(
    "pattern", ["**/" * 50 + "x", "*" * 190, "[" * 150, "a/" * 100, "{a,b}" * 40, "{" * 190, "{a,{" * 40]
)
def test_a_hostile_pattern_of_a_workspace_takes_no_time(checkout: Path, pattern: str) -> None:
    write(checkout, workspaces=[pattern] * 1000, scripts={"build": "x"})
    for index in range(50):
        write(checkout / "a" / f"{'a' * 100}{index}" / "c" / "d")
    started = time.monotonic()

    assert plan(checkout).folder == checkout
    assert time.monotonic() - started < 5


# --- no build at all ---


@pytest.mark.parametrize(
    ("page", "folder"), [("index.html", "."), ("public/index.html", "public"), ("a/b/index.html", "a/b")]
)
def test_a_folder_with_a_page_and_no_package_json_is_a_site(checkout: Path, page: str, folder: str) -> None:
    (checkout / "package.json").unlink()
    (checkout / page).parent.mkdir(parents=True, exist_ok=True)
    (checkout / page).touch()

    found = plan(checkout)

    assert (found.install, found.build, found.output_dir, found.needs_tools) == ((), (), ".", False)
    assert found.folder == (checkout / folder).resolve()
    assert "published as it is" in found.notes[0]


def test_a_page_beside_a_package_json_without_a_build_script_is_a_site_and_that_is_said(checkout: Path) -> None:
    write(checkout, devDependencies={"prettier": "3"}, scripts={"format": "prettier -w ."})
    (checkout / "index.html").touch()

    found = plan(checkout)

    assert (found.build, found.output_dir) == ((), ".")
    assert found.notes == ("package.json has no build script: the site is published as it is.",)


@pytest.mark.parametrize("package", [{"dependencies": {"express": "5"}}, {"devDependencies": {"vite": "7"}}])
def test_a_page_of_a_server_or_of_sources_is_no_site(checkout: Path, package: dict[str, Any]) -> None:
    write(checkout, **package)
    (checkout / "index.html").touch()

    assert failure(checkout).reason == "package.json has no build script."


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("hugo.toml", "Hugo"),
        ("_config.yml", "Jekyll"),
        ("mkdocs.yml", "MkDocs"),
        ("requirements.txt", "Python"),
        ("index.php", "PHP"),
        ("pubspec.yaml", "Flutter"),
    ],
)
def test_what_node_cannot_build_is_recognised(checkout: Path, name: str, said: str) -> None:
    (checkout / "package.json").unlink()
    (checkout / name).touch()

    error = failure(checkout)

    assert error.stage == "install"
    assert f"by its {name} it is" in error.reason
    assert said in error.reason


# --- ROOT_DIR ---


def test_what_is_missing_in_a_folder_is_said_of_the_folder(checkout: Path) -> None:
    (checkout / "web").mkdir()

    assert failure(checkout, root_dir="web").reason == "The repository has no package.json in web."
    (checkout / "web/package.json").write_text("{}")
    assert failure(checkout, root_dir="web").reason == "package.json in web has no build script."


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
    assert plan(checkout, root_dir=".").folder == checkout
    (checkout / "package.json").unlink()
    assert failure(checkout, root_dir=".").reason == "The repository has no package.json at its top."
