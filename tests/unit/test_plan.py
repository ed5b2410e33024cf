from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from buildrunner.errors import BuildFailed, Failure
from buildrunner.project.files import find_folders
from buildrunner.project.overrides import Overrides
from buildrunner.project.plan import BuildPlan, plan_build

GIVEN: dict[str, Any] = dict.fromkeys(("root_dir", "install_command", "build_command", "output_dir"))
PACKAGE = '{"name": "app", "scripts": {"build": "vite build"}}'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """Return the checkout of an npm app, next to a file that does not belong to the repository."""
    folder = tmp_path / "checkout"
    folder.mkdir()
    (folder / "package.json").write_text(PACKAGE)
    (folder / "package-lock.json").write_text("{}")
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside/package.json").write_text(PACKAGE)
    return folder


def plan(checkout: Path, **given: Any) -> BuildPlan:
    return plan_build(checkout, Overrides(**{**GIVEN, **given}))


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


# --- commands ---


def test_an_app_with_npms_lockfile_is_installed_and_built_by_npm(checkout: Path) -> None:
    found = plan(checkout)

    assert (found.app.folder, found.app.root, found.app.site, found.install.folder) == (checkout,) * 4
    assert [attempt.shown for attempt in found.install.strategies] == [
        "npm ci",
        "npm ci --legacy-peer-deps",
        "npm ci --force",
        "npm install",
        "npm install --legacy-peer-deps",
        "npm install --force",
    ]
    assert (found.build.command, found.build.shown, found.build.script) == (
        ("npm", "run", "build"),
        "npm run build",
        "vite build",
    )
    assert (found.app.package["name"], found.install.lockfile) == ("app", checkout / "package-lock.json")
    assert found.output.framework.name == "Vite"


def test_what_is_given_wins_over_what_is_found(checkout: Path) -> None:
    found = plan(checkout, install_command="npm i && echo", build_command="make 'a b'", output_dir="public/x")

    assert [attempt.command for attempt in found.install.strategies] == [("/bin/sh", "-c", "npm i && echo")]
    assert found.build.command == ("/bin/sh", "-c", "make 'a b'")
    assert (found.install.strategies[0].shown, found.build.shown) == ("npm i && echo", "make 'a b'")
    assert found.output.folder == "public/x"


@pytest.mark.parametrize(("given", "missing"), [("install_command", "package-lock.json"), ("build_command", "scripts")])
def test_what_is_given_needs_not_be_found(checkout: Path, given: str, missing: str) -> None:
    if missing == "scripts":
        (checkout / "package.json").write_text("{}")
    else:
        (checkout / missing).unlink()

    assert plan(checkout, **{given: "make"}).app.folder == checkout


@pytest.mark.parametrize("package", [None, "{", "[]"])
def test_with_both_commands_given_package_json_is_not_read(checkout: Path, package: str | None) -> None:
    (checkout / "package.json").unlink()
    (checkout / "package-lock.json").unlink()
    if package:
        (checkout / "package.json").write_text(package)

    found = plan(checkout, install_command="true", build_command="make")

    assert [attempt.shown for attempt in found.install.strategies] == ["true"]
    assert not found.install.needs_tools


def test_a_command_that_builds_needs_no_package_json(checkout: Path) -> None:
    (checkout / "package.json").unlink()
    (checkout / "package-lock.json").unlink()

    found = plan(checkout, build_command="sh build.sh")

    assert (found.install.strategies, found.build.shown, found.app.folder) == ((), "sh build.sh", checkout)


def test_a_build_script_with_another_name_is_run_and_logged(checkout: Path) -> None:
    write(checkout, scripts={"docs:build": "vitepress build docs"})

    found = plan(checkout)

    assert found.build.command == ("npm", "run", "docs:build")
    assert found.notes == ('package.json has no "build" script; running docs:build.',)


def test_a_server_only_framework_is_refused_before_the_install(checkout: Path) -> None:
    write(checkout, scripts={"build": "next build"}, dependencies={"next": "15.0.0"})

    error = failure(checkout)

    assert error.stage == "build"
    assert "Next.js" in error.reason


def test_what_a_framework_wants_to_be_run_instead_is_run(checkout: Path) -> None:
    write(checkout, scripts={"build": "nuxt build"}, dependencies={"nuxt": "3.0.0"})

    found = plan(checkout)

    assert found.build.command[:2] == ("/bin/sh", "-c")
    assert found.build.command[2].endswith("; nuxt generate")
    assert found.build.shown == "nuxt generate"
    assert f"{checkout}/node_modules/.bin" in found.build.command[2]
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

    assert plan(checkout).build.command == ("npm", "run", "build")


@pytest.mark.parametrize("value", [[], "x", 1, None, True, [{"scripts": {"build": "x"}}]])
def test_package_json_that_holds_no_object(checkout: Path, value: Any) -> None:
    (checkout / "package.json").write_text(json.dumps(value))

    assert "must contain a JSON object" in failure(checkout).reason


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

    assert plan(checkout).app.folder == checkout


@pytest.mark.parametrize("target", ["nothing.json", "package.json"])
def test_a_dangling_link_is_reported(checkout: Path, target: str) -> None:
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
    assert time.monotonic() - started < 20
    assert len(os.listdir("/proc/self/fd")) == before


def test_package_json_that_is_gigantic_is_not_read(checkout: Path) -> None:
    os.truncate(checkout / "package.json", 1 << 40)  # a hole: it takes no room

    assert failure(checkout).reason == "package.json is larger than 4 MiB."


# --- lockfiles ---


def test_a_missing_lockfile_is_a_warning_with_a_remedy(checkout: Path) -> None:
    (checkout / "package-lock.json").unlink()
    write(checkout, scripts={"build": "x"}, dependencies={"a": "1"})

    first = plan(checkout).install.strategies[0]

    assert (first.shown, first.frozen) == ("npm install", False)
    assert "Run `npm install` and commit package-lock.json." in (first.remedy or "")


def test_no_lockfile_is_a_failure_where_it_has_to_be_there(checkout: Path) -> None:
    (checkout / "package-lock.json").unlink()
    write(checkout, scripts={"build": "x"}, dependencies={"a": "1"})

    error = failure(checkout, strict_lockfile=True)

    assert (error.stage, error.exit_code) == ("install", 30)
    assert error.reason == "The repository has no lockfile of npm, and STRICT_LOCKFILE requires one."
    assert "npm install" in (error.hint or "")


def test_where_nothing_would_be_locked_no_lockfile_is_needed(checkout: Path) -> None:
    (checkout / "package-lock.json").unlink()

    first = plan(checkout, strict_lockfile=True).install.strategies[0]

    assert (first.shown, first.remedy) == ("npm install", None)


@pytest.mark.parametrize("name", ["package-lock.json", "npm-shrinkwrap.json"])
def test_a_lockfile_is_a_file(checkout: Path, name: str) -> None:
    (checkout / "package-lock.json").unlink()
    (checkout / name).mkdir()

    assert plan(checkout).install.lockfile is None


# --- where the app is ---


def test_the_app_may_be_in_the_folder_of_root_dir(checkout: Path) -> None:
    move(checkout, "apps/web")

    assert plan(checkout, root_dir="apps/web").app.folder == checkout / "apps/web"


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

    assert (found.app.folder, found.app.root) == (checkout / folder,) * 2
    assert found.notes == (f"The app is in {folder}.",)


def test_a_folder_three_levels_deep_is_not_looked_for(checkout: Path) -> None:
    move(checkout, "a/b/c")

    assert failure(checkout).reason == "The repository has no package.json at its top."


def test_the_build_script_at_the_top_comes_before_all_others(checkout: Path) -> None:
    write(checkout / "web", scripts={"build": "vite build"}, dependencies={"astro": "5"})

    assert plan(checkout).app.folder == checkout


def test_the_site_next_to_a_server_at_the_top_is_the_app(checkout: Path) -> None:
    server = {"express": "4"}
    write(checkout / "frontend", scripts={"build": "vite build"})
    (checkout / "frontend/index.html").touch()

    write(checkout, scripts={"build": "rimraf dist && npm run compile", "compile": "tsc"}, dependencies=server)
    made = plan(checkout)

    assert (made.app.folder, made.app.root) == (checkout / "frontend", checkout / "frontend")
    assert made.notes == ("The app is in frontend.",)

    write(
        checkout,
        scripts={"build": "esbuild server.ts --bundle --platform=node --outfile=dist/x.js"},
        dependencies=server,
    )
    assert plan(checkout).app.folder == checkout / "frontend"
    for scripts, dependencies in (
        ({"build": "tsc && vite build"}, server),
        ({"build": "esbuild app.ts --bundle --outdir=public"}, server),
        ({"build": "tsc"}, {}),
    ):
        write(checkout, scripts=scripts, dependencies=dependencies)
        assert plan(checkout).app.folder == checkout
    write(checkout, scripts={"build": "tsc"}, dependencies=server)
    assert plan(checkout, build_command="tsc").app.folder == checkout
    write(checkout / "frontend", scripts={"build": "tsc"})
    assert plan(checkout).app.folder == checkout


def test_what_could_build_a_site_above_a_server_runs_there(checkout: Path) -> None:
    server = {"express": "4"}
    write(checkout / "client", scripts={"build": "vite build"})
    (checkout / "client/index.html").touch()
    for script, given in (
        ("rimraf dist && mkdir -p dist && cp -r src/. dist", {}),  # no compiler: the copy is the site
        ("tsc && cp -r pages public", {"output_dir": "public"}),
        ("tsc", {"install_command": "npm ci"}),
    ):
        write(checkout, scripts={"build": script}, dependencies=server)
        assert plan(checkout, **given).app.folder == checkout

    write(checkout / "admin", scripts={"build": "vite build"})
    (checkout / "admin/index.html").touch()
    write(checkout, scripts={"build": "tsc"}, dependencies=server)
    assert plan(checkout).app.folder == checkout, "of two sites it is not known which"


def test_an_example_of_a_server_library_is_not_the_site(checkout: Path) -> None:
    write(checkout, scripts={"build": "tsup"}, dependencies={"hono": "4"})
    write(checkout / "examples/app", scripts={"build": "vite build"})
    (checkout / "examples/app/index.html").touch()

    assert plan(checkout).app.folder == checkout


def test_what_pages_are_made_from_is_no_committed_site(checkout: Path) -> None:
    write(checkout, devDependencies={"prettier": "3"})
    (checkout / "docs").mkdir()
    for page in ("---\nlayout: home\n---\n<p>x</p>", "<ul>{% for x in y %}{% endfor %}</ul>"):
        (checkout / "docs/index.html").write_text(page)
        assert "no build script" in failure(checkout).reason

    (checkout / "docs/index.html").write_text("<p>x</p>")
    assert plan(checkout).app.folder == checkout / "docs"


def test_a_page_whose_scripts_vite_would_skip_is_not_built_by_it(checkout: Path) -> None:
    write(checkout, devDependencies={"vite": "7"})
    (checkout / "index.html").write_text('<script src="main.js"></script>')
    assert "no build script" in failure(checkout).reason

    (checkout / "index.html").write_text('<script type="module" src="main.js"></script>')
    assert plan(checkout).build.command


def test_of_several_folders_the_one_that_is_a_site_is_the_app(checkout: Path) -> None:
    (checkout / "package.json").write_text("{}")
    write(checkout / "server", scripts={"build": "tsc"}, dependencies={"express": "5"})
    write(checkout / "client", scripts={"build": "vite build"}, devDependencies={"vite": "7"})
    (checkout / "client/index.html").touch()

    found = plan(checkout)

    assert found.app.folder == checkout / "client"
    assert found.notes == ("The app is in client. Not sites, although they have a build script: server.",)


def test_a_library_that_the_site_imports_is_not_the_site(checkout: Path) -> None:
    """The library has a demo page for its components."""
    vite: dict[str, Any] = {"scripts": {"build": "vite build"}, "devDependencies": {"vite": "7"}}
    write(checkout, workspaces=["apps/*", "packages/*"])
    write(checkout / "packages/ui", name="@acme/ui", **vite)
    write(checkout / "apps/web", name="web", dependencies={"@acme/ui": "*"}, **vite)
    for name in ("packages/ui", "apps/web"):
        (checkout / name / "index.html").touch()

    assert plan(checkout).app.folder == checkout / "apps/web"
    write(checkout, workspaces=["apps/*", "packages/*"], scripts={"build": "turbo run build"})
    assert plan(checkout).app.site == checkout / "apps/web"


def test_a_script_that_makes_the_docs_is_offered(checkout: Path) -> None:
    write(checkout, scripts={"docs": "npx @11ty/eleventy --output=public", "test": "mocha"})

    assert '"build": "npm run docs"' in (failure(checkout).hint or "")


def test_several_sites_are_named_with_what_to_set(checkout: Path) -> None:
    (checkout / "package.json").unlink()
    for name in ("docs", "web"):
        write(checkout / name, scripts={"build": "astro build"}, dependencies={"astro": "5"})

    error = failure(checkout)

    assert error.reason == "Several folders have a build script, and more than one is a site: docs, web."
    assert error.hint == "Set ROOT_DIR to the folder of the app."
    assert plan(checkout, root_dir="docs").app.folder == checkout / "docs"


def test_examples_and_themes_are_skipped_if_there_is_another_app(checkout: Path) -> None:
    write(checkout, name="app")
    for name in ("examples/basic", "tests/fixture", "themes/dark"):
        write(checkout / name, scripts={"build": "astro build"}, dependencies={"astro": "5"})
        if name == "examples/basic":
            assert plan(checkout).app.folder == checkout / name
    write(checkout / "web", scripts={"build": "node make.js"})

    assert plan(checkout).app.folder == checkout / "web"


def test_a_site_that_is_committed_comes_before_an_example(checkout: Path) -> None:
    write(checkout, name="app")
    write(checkout / "example", scripts={"build": "astro build"}, dependencies={"astro": "5"})
    write(checkout / "examples/two", scripts={"build": "astro build"}, dependencies={"astro": "5"})
    (checkout / "dist").mkdir()
    (checkout / "dist/index.html").write_text("<p>")

    assert plan(checkout).app.folder == checkout / "dist"


# --- build scripts that run in subfolders ---

CLIENT: dict[str, Any] = {"scripts": {"build": "vite build"}, "dependencies": {"vite": "7", "react": "19"}}


@pytest.mark.parametrize(
    "script",
    [
        "cd client && npm run build",
        "cd ./client/; npm run build",
        "(cd client && yarn build)",
        "npm run build --prefix client",
        "npm --prefix ./client run build",
        "npm run build --prefix=client && echo done",
        "npm -C client run build",
        "yarn --cwd client build",
        "yarn --cwd=client run build",
        "pnpm -C client build",
        "pnpm --dir client run build",
        "bun --cwd client run build",
        "npm run web",
    ],
)
def test_the_only_folder_that_the_build_script_enters_is_the_app(checkout: Path, script: str) -> None:
    write(
        checkout,
        scripts={"build": script, "web": "cd client && npm run build"},
        dependencies={"express": "5", "react": "18"},
    )
    write(checkout / "client", **CLIENT)
    (checkout / "client/package-lock.json").write_text("{}")

    found = plan(checkout)

    assert (found.app.folder, found.app.root, found.install.lockfile) == (
        *[checkout / "client"] * 2,
        checkout / "client/package-lock.json",
    )
    assert (found.build.command, found.output.framework.name) == (("npm", "run", "build"), "Vite")
    assert found.notes == (
        "The build script runs in client, where nothing installs dependencies. Building client as the app.",
    )


def test_of_several_folders_the_one_with_a_site_is_the_app(checkout: Path) -> None:
    scripts = {
        "build": "npm run build:server && npm run build:client",
        "build:server": "cd server && npm run build",
        "build:client": "cd client && npm run build",
    }
    write(checkout, scripts=scripts)
    write(checkout / "client", **CLIENT)
    write(checkout / "server", scripts={"build": "tsc"}, dependencies={"express": "5"})
    (checkout / "client/index.html").touch()

    found = plan(checkout)

    assert found.app.folder == checkout / "client"
    assert found.notes == (
        "The build script runs in server, client, where nothing installs dependencies. Building client as the app.",
    )


@pytest.mark.parametrize(
    "scripts",
    [
        {"build": "cd client && npm install && npm run build"},
        {"build": "npm i --prefix client && npm run build --prefix client"},
        {"build": "yarn --cwd client && yarn --cwd client build"},
        {"build": "cd client && npm run build", "postinstall": "cd client && npm ci"},
        {"build": "cd client && npm run build", "prebuild": "npm --prefix=client install"},
        {"build": "cd client && npm run build", "prepare": "npm run setup", "setup": "pnpm -C client i"},
        {"build": "cd client && npm run build", "postinstall": "node install-all.js"},
        {"build": "./install.sh && cd client && npm run build"},
        {"build": "cd nothing && npm run build"},
        {"build": "cd ../outside && npm run build"},
        {"build": "cd alias && npm run build"},
    ],
)
def test_a_build_script_that_may_install_runs_unchanged(checkout: Path, scripts: dict[str, str]) -> None:
    write(checkout, scripts=scripts)
    write(checkout / "client", **CLIENT)
    (checkout / "alias").symlink_to("../outside")
    write(checkout.parent / "outside", **CLIENT)

    found = plan(checkout)

    assert (found.app.folder, found.build.command, found.warnings) == (checkout, ("npm", "run", "build"), ())


@pytest.mark.parametrize("why", ["workspace", "nothing of its own", "linked", "node_modules"])
def test_a_folder_with_its_dependencies_is_built_by_the_script(checkout: Path, why: str) -> None:
    package: dict[str, Any] = {"scripts": {"build": "cd client && npm run build"}}
    write(checkout / "client", **CLIENT)
    if why == "workspace":
        package["workspaces"] = ["client"]
    elif why == "linked":
        package["dependencies"] = {"client": "file:./client"}
    elif why == "node_modules":
        (checkout / "client/node_modules").mkdir()
    else:
        package["dependencies"] = CLIENT["dependencies"]
    write(checkout, **package)

    found = plan(checkout)

    assert (found.app.folder, found.build.command, found.warnings) == (checkout, ("npm", "run", "build"), ())


@pytest.mark.parametrize(
    "script",
    [
        "tsc && cd client && npm run build",
        "cd client && npm run build && cp -r build ../public",
        "cd client && CI=false npm run build",
        "cd client && npm run build -- --mode live",
        "cd client && npm run build:live",
        "cd client && vite build",
    ],
)
def test_a_longer_build_script_has_missing_packages_installed(checkout: Path, script: str) -> None:
    write(checkout, scripts={"build": script}, dependencies={"react": "18"})
    write(checkout / "client", **CLIENT)
    (checkout / "client/yarn.lock").touch()

    found = plan(checkout)

    assert (found.app.folder, [*found.install.other_managers]) == (checkout, ["yarn"])
    assert found.build.shown == "(cd client && NODE_ENV= yarn install --non-interactive || true) && npm run build"
    assert found.build.command == ("/bin/sh", "-c", found.build.shown)
    assert found.warnings[-1] == (
        "The build script runs in client, where dependencies are not installed: running"
        " yarn install --non-interactive there first. Add that command to the build script."
    )
    for given in ({"install_command": "make"}, {"strict_lockfile": True}):
        assert plan(checkout, **given).build.command == ("npm", "run", "build")


def test_a_top_with_packages_for_the_folder_is_installed_too(checkout: Path) -> None:
    write(checkout, scripts={"build": "cd client && npm run build"}, dependencies={"react-icons": "4"})
    write(checkout / "client", **CLIENT)

    found = plan(checkout)

    assert (found.app.folder, found.app.root) == (checkout, checkout)
    assert found.build.shown == "(cd client && NODE_ENV= npm install || true) && npm run build"


@pytest.mark.parametrize("given", [{"output_dir": "client/dist"}, {"root_dir": "."}])
def test_the_app_stays_at_the_top_where_a_setting_requires_it(checkout: Path, given: dict[str, str]) -> None:
    write(checkout, scripts={"build": "cd client && npm run build"})
    write(checkout / "client", **CLIENT)

    found = plan(checkout, **given)

    assert (found.app.folder, found.build.shown) == (
        checkout,
        "(cd client && NODE_ENV= npm install || true) && npm run build",
    )
    assert plan(checkout, install_command="make").build.shown == "npm run build"


def test_a_folder_that_is_built_with_what_the_top_has_needs_both(checkout: Path) -> None:
    write(checkout, scripts={"build": "cd client && npm run build"}, devDependencies={"vite": "7"})
    write(checkout / "client", scripts={"build": "vite build"}, dependencies={"react": "19"})

    assert plan(checkout).build.shown == "(cd client && NODE_ENV= npm install || true) && npm run build"


def test_a_link_to_a_folder_outside_is_not_looked_into(checkout: Path) -> None:
    (checkout / "package.json").unlink()
    (checkout / "web").symlink_to("../outside")

    assert failure(checkout).reason == "The repository has no package.json at its top."


def test_a_link_to_a_folder_inside_is_not_a_second_app(checkout: Path) -> None:
    move(checkout, "web")
    (checkout / "alias").symlink_to("web")

    assert plan(checkout).app.folder == checkout / "web"


def test_of_a_tree_of_many_folders_so_many_are_looked_through(checkout: Path) -> None:
    for index in range(5100):
        (checkout / f"f{index}").mkdir()

    assert len(list(find_folders(checkout, 2))) == 5000


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
        assert (found.app.folder, found.app.root, found.install.folder) == (checkout / "apps/web", checkout, checkout)
        assert found.install.lockfile == checkout / "package-lock.json"
        assert found.build.command == ("npm", "run", "build")


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

    assert (found.app.folder, found.app.root) == (checkout / "apps/web", checkout)
    assert found.install.manager
    assert found.install.manager.name == "pnpm"


def test_a_folder_outside_the_workspace_is_installed_by_itself(checkout: Path) -> None:
    write(checkout, workspaces=["packages/*", "!packages/web"])
    write(checkout / "packages/web", scripts={"build": "x"}, dependencies={"a": "1"})

    found = plan(checkout, root_dir="packages/web")

    assert (found.app.root, found.install.lockfile) == (checkout / "packages/web", None)


def test_the_lockfile_of_the_app_comes_before_the_workspaces(checkout: Path) -> None:
    write(checkout, workspaces=["web"])
    write(checkout / "web", scripts={"build": "x"})
    (checkout / "web/yarn.lock").touch()

    found = plan(checkout, root_dir="web")

    assert (found.app.root, found.install.lockfile) == (checkout / "web", checkout / "web/yarn.lock")


def test_workspace_dependencies_of_the_app_are_built_in_order(checkout: Path) -> None:
    write(checkout, workspaces=["*"])
    write(checkout / "web", name="web", scripts={"build": "astro build"}, dependencies={"ui": "*", "astro": "5"})
    write(checkout / "ui", name="ui", scripts={"build": "tsc"}, devDependencies={"core": "*", "web": "*"})
    write(checkout / "core", name="core", scripts={"build": "tsc"}, dependencies={"ui": "*"})
    write(checkout / "other", name="other", scripts={"build": "tsc"})

    assert plan(checkout).build.shown == "(cd ../core && npm run build) && (cd ../ui && npm run build) && npm run build"


def test_the_one_site_that_a_workspace_script_builds_is_known(checkout: Path) -> None:
    write(checkout, workspaces=["apps/*"], scripts={"build": "turbo run build"}, devDependencies={"turbo": "2"})
    write(checkout / "apps/web", scripts={"build": "astro build"}, dependencies={"astro": "5"})
    write(checkout / "apps/api", scripts={"build": "tsc"})

    found = plan(checkout)

    assert (found.app.folder, found.app.site, found.output.framework.name) == (checkout, checkout / "apps/web", "Astro")
    assert found.build.shown == "npm run build"


@pytest.mark.parametrize(
    "pattern", ["**/" * 50 + "x", "*" * 190, "[" * 150, "a/" * 100, "{a,b}" * 40, "{" * 190, "{a,{" * 40]
)
def test_a_hostile_pattern_of_a_workspace_takes_no_time(checkout: Path, pattern: str) -> None:
    write(checkout, workspaces=[pattern] * 1000, scripts={"build": "x"})
    for index in range(50):
        write(checkout / "a" / f"{'a' * 100}{index}" / "c" / "d")
    started = time.monotonic()

    assert plan(checkout).app.folder == checkout
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "script",
    [
        "cd a && " * 300 + "npm run build",
        "(" * 2000,
        "cd \0 && npm run build",
        "cd \ud800 && npm run build",
        "npm run build --prefix",
        "npm --prefix= run build",
        f"cd {'x' * 1000} && npm run build",
        " && ".join(f"npm run build --prefix a{index}" for index in range(60)),
    ],
)
def test_a_hostile_script_that_enters_folders_takes_no_time(checkout: Path, script: str) -> None:
    write(checkout, scripts={"build": script, **{f"pre{name}": script for name in ("build", "install", "pare")}})
    for index in range(60):
        write(checkout / f"a{index}", **CLIENT)
    started = time.monotonic()

    assert plan(checkout).app.folder == checkout
    assert time.monotonic() - started < 30


@pytest.mark.parametrize(
    "text", ["gulp.task('" * 20_000, "exports." * 30_000, "export " * 30_000, "<!" + "src='" * 50_000]
)
def test_a_hostile_file_that_is_read_for_a_hint_takes_no_time(checkout: Path, text: str) -> None:
    write(checkout)
    for name in ("gulpfile.js", "Gruntfile.js", "style.css", "dist/index.html", "docs/index.html"):
        (checkout / name).parent.mkdir(exist_ok=True)
        (checkout / name).write_text(text)
    started = time.monotonic()

    plan(checkout, build_command="make")
    with suppress(BuildFailed):
        plan(checkout)
    assert time.monotonic() - started < 30


# --- sites without a build ---


@pytest.mark.parametrize(
    ("page", "folder"), [("index.html", "."), ("public/index.html", "public"), ("a/b/index.html", "a/b")]
)
def test_a_folder_with_a_page_and_no_package_json_is_a_site(checkout: Path, page: str, folder: str) -> None:
    (checkout / "package.json").unlink()
    (checkout / page).parent.mkdir(parents=True, exist_ok=True)
    (checkout / page).touch()

    found = plan(checkout)

    assert (found.install.strategies, found.build.command, found.output.folder, found.install.needs_tools) == (
        (),
        (),
        ".",
        False,
    )
    assert found.app.folder == (checkout / folder).resolve()
    assert "publishing the folder with index.html as it is" in found.notes[0]


def test_a_page_without_a_build_script_is_a_site_and_logged(checkout: Path) -> None:
    write(checkout, devDependencies={"prettier": "3"}, scripts={"format": "prettier -w ."})
    (checkout / "index.html").touch()

    found = plan(checkout)

    assert (found.build.command, found.output.folder) == ((), ".")
    assert found.notes == ("package.json has no build script: publishing the site as it is.",)


@pytest.mark.parametrize(
    "package",
    [
        {"dependencies": {"express": "5"}},
        {"devDependencies": {"webpack": "5"}},
        {"dependencies": {"koa": "2", "vite": "7"}},
    ],
)
def test_a_page_of_a_server_or_of_sources_is_no_site(checkout: Path, package: dict[str, Any]) -> None:
    write(checkout, **package)
    for name in (".", "dist"):
        (checkout / name).mkdir(exist_ok=True)
        (checkout / name / "index.html").write_text('<script src="main.js"></script>')

    assert failure(checkout).reason == "package.json has no build script."


@pytest.mark.parametrize(
    ("package", "file", "command"),
    [
        ("hexo", "_config.yml", "hexo generate"),
        ("@11ty/eleventy", ".eleventy.js", "eleventy"),
        ("gatsby", "gatsby-config.js", "gatsby build"),
        ("vitepress", "docs/.vitepress/config.mts", "vitepress build docs"),
        ("vuepress", ".vuepress/config.js", "vuepress build"),
        ("@docusaurus/core", "docusaurus.config.ts", "docusaurus build"),
        ("astro", "src/pages/index.astro", "astro build"),
        ("parcel", "src/index.html", "parcel build src/index.html"),
        ("vite", "index.html", "vite build"),
    ],
)
def test_a_generator_of_sites_at_the_top_needs_no_build_script(
    checkout: Path, package: str, file: str, command: str
) -> None:
    write(checkout, scripts={"start": "x", "deploy": f"{command} && git push"}, dependencies={package: "1"})
    write(checkout / "themes/archer", scripts={"build": "gulp"}, dependencies={"gulp": "4"})
    write(checkout / "web", scripts={"build": "gulp"})
    (checkout / file).parent.mkdir(parents=True, exist_ok=True)
    (checkout / file).write_text('<script type="module" src="x.js"></script>')

    found = plan(checkout)

    assert (found.app.folder, found.build.shown, found.build.script) == (checkout, command, command)
    assert found.build.command == ("/bin/sh", "-c", f"PATH={checkout}/node_modules/.bin:$PATH; {command}")
    assert found.notes == (
        f'package.json has no build script: running {command}. Add "build": "{command}" under "scripts".',
    )
    assert found.output.framework.name
    assert plan(checkout, build_command="make").build.shown == "make"


def test_a_script_for_the_generator_precedes_its_plain_command(checkout: Path) -> None:
    scripts = {
        "dev": "hexo generate --watch",
        "deploy": "hexo g && hexo deploy",
        "make": "hexo clean && hexo generate -f",
    }
    write(checkout, scripts=scripts, dependencies={"hexo": "7"})
    (checkout / "_config.yml").touch()

    found = plan(checkout)

    assert (found.build.command, found.build.script) == (("npm", "run", "make"), scripts["make"])
    assert found.notes == (
        'package.json has no build script: running make. Add "build": "npm run make" under "scripts".',
    )


def test_a_generator_whose_files_are_not_there_is_explained(checkout: Path) -> None:
    write(checkout, dependencies={"hexo": "7"})
    (checkout.parent / "outside/_config.yml").touch()
    (checkout / "_config.yml").symlink_to("../outside/_config.yml")

    assert failure(checkout).hint == 'Add one under "scripts", "build": "hexo generate", or set BUILD_COMMAND.'


@pytest.mark.parametrize(
    ("name", "text", "command"),
    [
        ("gulpfile.js", "gulp.task('css', css)\ngulp.task('build', ['css'])", "gulp build"),
        ("gulpfile.babel.js", "exports.build = series(css)", "gulp build"),
        ("gulpfile.mjs", "export const build = series(css)", "gulp build"),
        ("gulpfile.js", "gulp.task('default', ['watch']); gulp.task('build:complete', [])", "gulp build:complete"),
        ("Gulpfile.js", "exports.css = css;\nexports.default = css;", "gulp"),
        ("gulpfile.js", "// gulp.task('default')\nrequire('./gulp/tasks')", "gulp build"),
        (
            "Gruntfile.js",
            "grunt.registerTask('default', ['sass']); grunt.registerTask('build', ['sass'])",
            "grunt build",
        ),
        ("Gruntfile.js", "grunt.registerTask('default', ['sass'])", "grunt"),
    ],
)
def test_the_build_task_is_named_if_there_is_no_build_script(
    checkout: Path, name: str, text: str, command: str
) -> None:
    write(checkout, devDependencies={"gulp": "4", "webpack": "5"})
    (checkout / name).write_text(text)

    error = failure(checkout)

    assert error.reason == "package.json has no build script."
    assert error.hint == f'Add one under "scripts", "build": "{command}", or set BUILD_COMMAND.'


def test_another_build_script_is_named_if_there_is_none(checkout: Path) -> None:
    write(checkout, scripts={"dev": "vite", "admin:build": "vite build"}, devDependencies={"vite": "7"})

    assert failure(checkout).hint == 'Add one under "scripts", "build": "npm run admin:build", or set BUILD_COMMAND.'


def test_a_package_in_the_theme_of_a_hugo_site_is_not_the_app(checkout: Path) -> None:
    (checkout / "package.json").unlink()
    (checkout / "hugo.toml").touch()
    (checkout / "themes/docs").mkdir(parents=True)
    (checkout / "themes/docs/package.json").write_text('{"scripts": {"build": "webpack"}}')

    error = failure(checkout)

    assert (error.stage, error.reason) == (
        "build",
        "The repository has no package.json at its top. Its hugo.toml suggests a Hugo site, which hugo builds, and only Node.js is"
        " available.",
    )


@pytest.mark.parametrize(
    ("files", "name", "kind"),
    [
        ({"style.css": "/*\nTheme Name: Portra\n*/", "functions.php": ""}, "style.css", "a WordPress theme"),
        ({"composer.json": "{}", "artisan": ""}, "composer.json", "a PHP program, which needs a server"),
        ({"hugo.toml": ""}, "hugo.toml", "a Hugo site, which hugo builds"),
    ],
)
def test_other_languages_are_recognized_despite_a_package_json(
    checkout: Path, files: dict[str, str], name: str, kind: str
) -> None:
    write(checkout, devDependencies={"gulp": "4"} if kind != "a Hugo site, which hugo builds" else {})
    for file, text in files.items():
        (checkout / file).write_text(text)
    if "PHP" in kind or "WordPress" in kind:
        (checkout / "gulpfile.js").write_text("exports.build = css")

    error = failure(checkout)

    assert (error.stage, error.exit_code) == ("build", 40)
    assert error.reason.startswith(f"package.json has no build script. Its {name} suggests {kind}")


def test_what_laravel_builds_has_no_page(checkout: Path) -> None:
    write(checkout, scripts={"build": "vite build"}, devDependencies={"vite": "7", "laravel-vite-plugin": "1"})
    assert plan(checkout).app.folder == checkout
    (checkout / "artisan").touch()

    assert "Laravel" in failure(checkout).reason
    assert plan(checkout, output_dir="public/build").app.folder == checkout


@pytest.mark.parametrize("folder", ["dist", "build", "_site", "public", "docs"])
def test_a_site_that_is_committed_is_published_as_it_is(checkout: Path, folder: str) -> None:
    write(checkout, scripts={"test": "x"}, devDependencies={"gulp": "3"})
    (checkout / folder / "js").mkdir(parents=True)
    (checkout / folder / "js/a b.js").touch()
    (checkout / folder / "index.html").write_text(
        '<script src="js/a%20b.js?v=1"></script><link href="https://x/y.css">'
    )
    (checkout / "src").mkdir()
    (checkout / "src/index.html").touch()

    found = plan(checkout)

    assert (found.app.folder, found.build.command, found.install.strategies, found.output.folder) == (
        checkout / folder,
        (),
        (),
        ".",
    )
    assert found.notes == (f"package.json has no build script: publishing {folder}, which has an index.html.",)
    assert plan(checkout, output_dir=folder).app.folder == checkout


@pytest.mark.parametrize(
    "page",
    [
        "",
        '<script src="main.js"></script>',
        '<link href="../css/main.css">',
        '<link rel="icon" href="%PUBLIC_URL%/x">',
        None,
    ],
)
def test_what_is_committed_but_not_finished_is_no_site(checkout: Path, page: str | None) -> None:
    write(checkout)
    (checkout / "css").mkdir()
    (checkout / "css/main.css").touch()
    (checkout / "dist").mkdir()
    (checkout.parent / "outside/index.html").write_text("<p>")
    if page is None:
        (checkout / "dist/index.html").symlink_to("../../outside/index.html")
    else:
        (checkout / "dist/index.html").write_text(page)

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
def test_what_node_cannot_build_is_recognized(checkout: Path, name: str, said: str) -> None:
    (checkout / "package.json").unlink()
    (checkout / name).touch()

    error = failure(checkout)

    assert error.stage == "build"
    assert f"Its {name} suggests" in error.reason
    assert said in error.reason


# --- ROOT_DIR ---


def test_a_missing_dependency_names_its_folder(checkout: Path) -> None:
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

    assert plan(checkout, root_dir="web").app.folder == checkout / "real", "whatever the build makes of the link"
    assert plan(checkout, root_dir="real").app.folder == checkout / "real"


def test_the_top_may_be_named_with_a_dot(checkout: Path) -> None:
    assert plan(checkout, root_dir=".").app.folder == checkout
    (checkout / "package.json").unlink()
    assert failure(checkout, root_dir=".").reason == "The repository has no package.json at its top."


# --- templates, and sites of libraries ---


@pytest.mark.parametrize(
    ("page", "text", "other", "words"),
    [
        ("index.html", "---\n---\n{% include head.html %}", "Gemfile", "Its Gemfile suggests a Jekyll site"),
        ("mysite/templates/index.html", "<h1>{{ user }}</h1>", "manage.py", "Its manage.py suggests a Python program"),
        ("mysite/templates/index.html", "<h1>hello</h1>", "manage.py", "Its manage.py suggests a Python program"),
        ("layouts/index.html", '{{ define "main" }}{{ end }}', "hugo.toml", "Its hugo.toml suggests a Hugo site"),
        ("index.html", "<%= yield %>", None, "index.html is a template of ERB or EJS"),
        ("public/index.html", "<?php echo 1;", None, "has no package.json"),
    ],
)
def test_a_template_is_not_published_as_it_is(
    checkout: Path, page: str, text: str, other: str | None, words: str
) -> None:
    for name in ("package.json", "package-lock.json"):
        (checkout / name).unlink()
    (checkout / page).parent.mkdir(parents=True, exist_ok=True)
    (checkout / page).write_text(text)
    if other:
        (checkout / other).touch()

    assert words in failure(checkout).reason
    folder = os.path.dirname(page) or "."
    assert plan(checkout, output_dir=folder).output.folder == folder


LIBRARY = {"build": "tsup src/index.ts"}


@pytest.mark.parametrize(
    ("name", "script", "framework"),
    [
        ("docs:build", "vitepress build docs", "VitePress"),
        ("build:docs", "vuepress build docs", "VuePress"),
        ("docs", "npx @11ty/eleventy", "Eleventy"),
        ("build-storybook", "storybook build", "Storybook"),
        ("build-storybook", "build-storybook", "Storybook"),
        ("site:build", "docusaurus build", "Docusaurus"),
        ("build:site", "astro build", "Astro"),
        ("docs", "typedoc --out docs src", "TypeDoc"),
        ("demo:build", "vite build demo", "Vite"),
    ],
)
def test_the_script_that_makes_a_librarys_site_is_run_too(
    checkout: Path, name: str, script: str, framework: str
) -> None:
    write(checkout, main="./dist/index.js", scripts={**LIBRARY, name: script, "docs:dev": "vitepress dev docs"})

    found = plan(checkout)

    assert found.build.command == ("/bin/sh", "-c", f"npm run build && npm run {name}")
    assert found.output.framework.name == framework
    assert f"also running {name}" in found.notes[-1]
    assert plan(checkout, output_dir="dist").build.command == ("npm", "run", "build")


def test_the_page_of_a_librarys_demo_does_not_make_it_a_site(checkout: Path) -> None:
    (checkout / "index.html").write_text("<script type=module src=/demo/main.ts></script>")
    write(checkout, main="dist/a.cjs.js", scripts={"build": "rollup -c rollup.config.mjs", "docs:build": "vite build"})

    assert plan(checkout).build.shown == "npm run build && npm run docs:build"


def test_a_script_that_calls_the_build_is_run_alone(checkout: Path) -> None:
    write(checkout, main="dist/a.js", scripts={**LIBRARY, "docs:build": "npm run build && vitepress build docs"})

    assert plan(checkout).build.command == ("/bin/sh", "-c", "npm run docs:build")


@pytest.mark.parametrize(
    "package",
    [
        {"main": "dist/a.js", "scripts": {"build": "vite build", "build-storybook": "storybook build"}},
        {"scripts": {"build": "astro build", "docs:build": "typedoc"}},
        {"main": "index.js", "scripts": {"build": "node build.js", "docs:build": "vitepress build docs"}},
        {
            "main": "build/electron.js",
            "scripts": {"build": "react-scripts build", "build-storybook": "storybook build"},
        },
        {"main": "dist/a.js", "scripts": {**LIBRARY, "docs": "vitepress dev docs"}},
    ],
)
def test_no_other_script_is_run_where_the_build_makes_the_site(checkout: Path, package: dict[str, Any]) -> None:
    (checkout / "index.html").write_text("<script type=module src=/src/main.ts></script>")
    write(checkout, **package)

    assert plan(checkout).build.command == ("npm", "run", "build")


def test_the_site_of_a_library_may_be_a_package_of_its_own(checkout: Path) -> None:
    write(checkout, main="dist/a.js", scripts=LIBRARY)
    write(checkout / "website", scripts={"build": "docusaurus build"}, dependencies={"@docusaurus/core": "3"})

    assert plan(checkout).app.folder == checkout / "website"
    write(
        checkout / "website",
        scripts={"build": "docusaurus build"},
        dependencies={"@docusaurus/core": "3", "a": "file:.."},
    )
    found = plan(checkout)
    assert found.app.folder == checkout
    assert found.output.other_site == "Set ROOT_DIR=website, which seems to build the site."


def test_what_may_make_the_site_is_named_for_the_hint(checkout: Path) -> None:
    write(checkout, main="dist/a.js", scripts={**LIBRARY, "docs:build": "node docs.js", "docs:serve": "serve docs"})

    assert plan(checkout).output.other_site == 'Set BUILD_COMMAND="npm run docs:build", which seems to build the site.'


def test_settings_of_other_hosts_are_warned_of(checkout: Path) -> None:
    (checkout / "netlify.toml").write_text('[[plugins]]\npackage = "x"')

    assert "plugins of netlify.toml" in plan(checkout).warnings[-1]
    for name in ("package.json", "package-lock.json"):
        (checkout / name).unlink()
    (checkout / "index.html").write_text("<h1>hello</h1>")
    assert "plugins of netlify.toml" in plan(checkout).warnings[-1]


# --- task graphs ---


def workspace(checkout: Path, **files: Any) -> None:
    """Write a workspace with the app web, which depends on ui, which depends on tokens; and with other, an unused package."""
    write(checkout, workspaces=["apps/*", "packages/*"])
    write(checkout / "apps/web", name="web", scripts={"build": "vite build", "gen": "x"}, dependencies={"ui": "*"})
    write(checkout / "packages/ui", name="ui", scripts={"build": "tsc", "codegen": "x"}, dependencies={"tokens": "*"})
    write(checkout / "packages/tokens", name="tokens", scripts={"build": "tsc", "codegen": "x"})
    write(checkout / "packages/other", name="other", scripts={"build": "tsc", "gen": "x"})
    for name, content in files.items():
        (checkout / name).write_text(content if isinstance(content, str) else json.dumps(content))


def steps(checkout: Path) -> list[str]:
    build = plan(checkout, root_dir="apps/web").build.shown
    assert build.endswith("npm run build")
    found = [part.strip("( )") for part in build.split(" && ")][:-1]
    return [f"{place.removeprefix('cd ')}: {run}" for place, run in zip(found[::2], found[1::2], strict=True)]


BUILT = ["../../packages/tokens: npm run build", "../../packages/ui: npm run build"]
GENERATED = [part.replace("build", "codegen") for part in BUILT]


@pytest.mark.parametrize(
    ("name", "graph", "expected"),
    [
        ("other.json", {}, BUILT),
        ("turbo.json", {"tasks": {"build": {"dependsOn": ["^build"]}}}, BUILT),
        ("turbo.json", {"pipeline": {"build": {"dependsOn": ["^build", "$CI"]}}}, BUILT),
        ("turbo.json", {"tasks": {"build": {"dependsOn": ["gen"]}}}, [*BUILT, ".: npm run gen"]),
        (
            "turbo.json",
            {"tasks": {"web#build": {"dependsOn": ["other#gen"]}}},
            [*BUILT, "../../packages/other: npm run gen"],
        ),
        (
            "turbo.json",
            {"tasks": {"build": {"dependsOn": ["^codegen"]}, "codegen": {"dependsOn": ["^codegen"]}}},
            [BUILT[0], GENERATED[0], BUILT[1], GENERATED[1]],
        ),
        ("turbo.json", {"tasks": {"build": {"dependsOn": ["build", "^build"]}}}, BUILT),
        ("nx.json", {"targetDefaults": {"build": {"dependsOn": ["^build", "gen"]}}}, [*BUILT, ".: npm run gen"]),
        ("nx.json", {"targetDefaults": {"build": {"dependsOn": [{"target": "gen"}]}}}, [*BUILT, ".: npm run gen"]),
        (
            "nx.json",
            {"targetDefaults": {"build": {"dependsOn": [{"target": "gen", "projects": ["other"]}]}}},
            ["../../packages/other: npm run gen", *BUILT],
        ),
        (
            "nx.json",
            {"targetDefaults": {"build": {"dependsOn": ["other:gen"]}}},
            ["../../packages/other: npm run gen", *BUILT],
        ),
        (
            "nx.json",
            {"targetDependencies": {"build": [{"target": "build", "projects": "dependencies"}]}},
            BUILT,
        ),
        ("turbo.json", {"tasks": {"build": {"dependsOn": 5}, "web#build": []}}, BUILT),
    ],
)
def test_what_a_task_graph_puts_first_runs_first(checkout: Path, name: str, graph: object, expected: list[str]) -> None:
    workspace(checkout, **{name: graph})

    assert steps(checkout) == expected


def test_a_packages_own_turbo_json_wins(checkout: Path) -> None:
    workspace(checkout, **{"turbo.json": {"tasks": {"build": {"dependsOn": ["^build"]}}}})
    (checkout / "apps/web/turbo.json").write_text(
        '{"extends": ["//"], "tasks": {"build": {"dependsOn": ["^build", "gen"]}}}'
    )

    assert steps(checkout) == [*BUILT, ".: npm run gen"]


def test_an_implicit_dependency_of_nx_is_built_first(checkout: Path) -> None:
    workspace(checkout, **{"nx.json": {}})
    (checkout / "apps/web/project.json").write_text('{"implicitDependencies": ["other"]}')

    assert steps(checkout) == [*BUILT, "../../packages/other: npm run build"]


def test_tasks_that_need_each_other_end(checkout: Path) -> None:
    graph = {"tasks": {"build": {"dependsOn": ["gen"]}, "gen": {"dependsOn": ["build", "^gen"]}}}
    workspace(checkout, **{"turbo.json": graph})
    write(checkout / "packages/tokens", name="tokens", scripts={"build": "tsc"}, dependencies={"web": "*"})

    assert sorted(steps(checkout)) == sorted([*BUILT, ".: npm run gen"])


def test_a_project_of_nx_without_package_json_is_built_by_nx(checkout: Path) -> None:
    write(checkout, devDependencies={"nx": "20", "vite": "6"})
    (checkout / "nx.json").write_text("{}")
    (checkout / "apps/web").mkdir(parents=True)
    options = {"options": {"outputPath": "out/apps/web"}}
    (checkout / "apps/web/project.json").write_text(json.dumps({"name": "web", "targets": {"build": options}}))

    found = plan(checkout, root_dir="apps/web")

    assert (found.app.folder, found.build.script) == (checkout, "nx build web")
    assert found.output.framework.folders[:2] == ("out/apps/web/browser", "out/apps/web")
    assert "dist/apps/web" in found.output.framework.folders


def test_where_vite_of_a_project_of_nx_writes_is_read(checkout: Path) -> None:
    write(checkout, scripts={"build": "nx build web"}, devDependencies={"nx": "20", "vite": "6"})
    (checkout / "nx.json").write_text("{}")
    (checkout / "apps/web").mkdir(parents=True)
    (checkout / "apps/web/project.json").write_text('{"name": "web", "targets": {"build": {}}}')
    (checkout / "apps/web/vite.config.ts").write_text("export default { build: { outDir: '../../made/web' } }")

    assert "made/web" in plan(checkout).output.framework.folders


@pytest.mark.parametrize("name", ["rush.json", "lerna.json"])
def test_a_monorepo_that_is_not_read_is_warned_of(checkout: Path, name: str) -> None:
    (checkout / name).write_text("{}")
    write(checkout / "apps/web", scripts={"build": "vite build"})

    assert plan(checkout, root_dir="apps/web").warnings[-1].startswith(f"{name} is ignored: ")


def test_the_source_page_of_an_example_is_no_site(checkout: Path) -> None:
    """A Python project with an app among its examples: the app's own index.html works only after its build."""
    (checkout / "package.json").unlink(missing_ok=True)
    (checkout / "pyproject.toml").write_text('[project]\nname = "tool"\n')
    write(checkout / "examples/app", scripts={"build": "vite build"}, devDependencies={"vite": "5"})
    (checkout / "examples/app/index.html").write_text('<script type="module" src="/src/main.ts"></script>')

    assert failure(checkout).failure == Failure("not-a-node-app")
