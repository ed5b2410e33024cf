"""Test the build settings in netlify.toml and vercel.json. Each row names the setting in the hosts' documentation.

https://docs.netlify.com/configure-builds/file-based-configuration/ and https://vercel.com/docs/project-configuration
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildrunner.errors import BuildFailed
from buildrunner.project.host_settings import PRESETS
from buildrunner.project.output.named import find_named_output
from buildrunner.project.output.search import Output, find_output
from buildrunner.project.overrides import Overrides
from buildrunner.project.plan import BuildPlan, plan_build
from support.files import Files, write

PACKAGE = {"scripts": {"build": "vite build", "docs": "x"}, "devDependencies": {"vite": "5"}}


def plan(app: Path, files: Files, package: dict[str, Any] | None = PACKAGE, **given: Any) -> BuildPlan:
    text = {} if package is None else {"package.json": json.dumps(package), "index.html": "<div id=app></div>"}
    write(app, {**text, **files})
    names = ("root_dir", "install_command", "build_command", "output_dir")
    return plan_build(app, Overrides(**{**dict.fromkeys(names), **given}))


def toml(build: str = "", more: str = "") -> Files:
    return {"netlify.toml": f"[build]\n{build}\n{more}"}


def vercel(**settings: Any) -> Files:
    return {"vercel.json": json.dumps(settings)}


@pytest.mark.parametrize(
    ("files", "build"),
    [
        (toml('command = "npm run docs"'), "npm run docs"),
        (toml('command = "npm run build"'), "npm run build"),  # which is done without it
        (toml("command = \"npm ci && CI='' yarn build\""), "npm run build"),
        (toml('command = "vite build"'), "npm run build"),
        (toml('command = "a"', '[context.production]\ncommand = "b"'), "b"),
        (toml('command = "a"', '[context.deploy-preview]\ncommand = "b"'), "a"),
        (vercel(buildCommand="npm run docs && ls"), "npm run docs && ls"),
        (vercel(buildCommand=None), "npm run build"),
        ({**toml('command = "a"'), **vercel(buildCommand="b")}, "a"),
    ],
)
def test_the_build_command_of_a_file_is_run(app: Path, files: Files, build: str) -> None:
    assert plan(app, files).build.shown == build


def test_programs_of_packages_are_found_by_commands(app: Path) -> None:
    command = plan(app, toml('command = "docs build"')).build.command

    assert command[:2] == ("sh", "-c") or "sh" in command[0]
    assert f"PATH={app}/node_modules/.bin:$PATH; docs build" in command[-1]


def test_variables_win_over_files(app: Path) -> None:
    files = {**toml('command = "a"\npublish = "b"\nbase = "c"'), **vercel(installCommand="d", framework="astro")}
    found = plan(app, files, build_command="A", output_dir="B", install_command="D", root_dir=".", node_version="22")

    assert found.build.shown == "A"
    assert (found.output.folder, found.output.source) == ("B", None)
    assert [strategy.shown for strategy in found.install.strategies] == ["D"]
    assert not any(note.startswith("Applying") for note in found.notes)


@pytest.mark.parametrize(
    ("files", "output", "source"),
    [
        (toml('publish = "out/"'), "out", "build.publish of netlify.toml"),
        (toml('publish = "/out"'), "out", "build.publish of netlify.toml"),
        (toml('publish = "."'), ".", "build.publish of netlify.toml"),
        (
            toml('publish = "a"', '[context.production]\npublish = "b"'),
            "b",
            "context.production.publish of netlify.toml",
        ),
        (vercel(outputDirectory="out"), "out", "outputDirectory of vercel.json"),
        (vercel(outputDirectory=None), None, None),
        (toml('publish = "../out"'), None, None),
    ],
)
def test_the_output_of_a_file_is_published(app: Path, files: Files, output: str | None, source: str | None) -> None:
    found = plan(app, files)

    assert (found.output.folder, found.output.source) == (output, source)
    assert bool(found.warnings) is ("../out" in str(files))


@pytest.mark.parametrize(
    ("command", "strategies"),
    [
        ("npm i --force", ["npm i --force"]),
        ("", []),
        (None, ["npm install"]),
        ("npm install", ["npm install"]),
        ("yarn install --immutable", ["npm install"]),  # the usual command of any manager
    ],
)
def test_the_install_command_of_vercel_json(app: Path, command: str | None, strategies: list[str]) -> None:
    found = plan(app, vercel(installCommand=command)).install

    assert [strategy.shown for strategy in found.strategies][:1] == strategies
    assert found.is_custom is (command == "npm i --force")


@pytest.mark.parametrize("files", [vercel(buildCommand=""), toml('command = ""'), toml('command = "# none"')])
def test_an_empty_build_command_publishes_files_as_they_are(app: Path, files: Files) -> None:
    found = plan(app, files)

    assert (found.build.command, found.install.strategies, found.output.folder) == ((), (), ".")


def test_base_is_the_folder_of_the_app(app: Path) -> None:
    files: Files = {
        **toml('base = "web/"\npublish = "out"'),
        "web/package.json": json.dumps(PACKAGE),
        "web/index.html": "<p>",
    }
    found = plan(app, files, None)

    assert (found.app.folder, found.output.folder) == (app / "web", "out")
    assert "Applying build.base of netlify.toml: web" in found.notes
    with pytest.raises(BuildFailed) as raised:
        plan(app, toml('base = "none"'), None)
    assert raised.value.reason == "The repository has no folder none, which build.base of netlify.toml names."


def test_files_of_another_folder_than_root_dir_are_not_applied(app: Path) -> None:
    files: Files = {
        **toml('base = "other"\ncommand = "x"\npublish = "y"\n[build.environment]\nA = "b"'),
        "web/package.json": json.dumps(PACKAGE),
        "web/index.html": "<p>",
    }
    found = plan(app, files, None, root_dir="web")

    assert (found.build.shown, found.output.folder) == ("npm run build", None)
    assert "build.base of netlify.toml" in found.warnings[0]
    assert found.overrides.environment == {"A": "b"}


def test_the_file_in_the_folder_of_the_app_is_nearer(app: Path) -> None:
    files: Files = {
        **toml('publish = "a"\n[build.environment]\nA = "1"\nB = "1"'),
        "web/netlify.toml": '[build]\npublish = "b"\n[build.environment]\nA = "2"',
        "web/package.json": json.dumps(PACKAGE),
        "web/index.html": "<p>",
    }
    for root in (None, "web"):
        found = plan(app, files, None, root_dir=root)
        assert (found.app.folder, found.output.folder) == (app / "web", "b")
        assert found.overrides.environment == {"A": "2", "B": "1"}
        assert any("is ignored because build.publish of web/netlify.toml has" in each for each in found.warnings)


def test_a_publish_folder_elsewhere_does_not_move_the_app(app: Path) -> None:
    files: Files = {
        **toml('publish = "web/out"'),
        "web/package.json": json.dumps(PACKAGE),
        "web/index.html": "<p>",
    }
    found = plan(app, files, None)

    assert (found.app.folder, found.output.folder) == (app / "web", "out")


def test_variables_of_netlify_toml_are_set(app: Path) -> None:
    more = '[build.environment]\nNODE_VERSION = "18"\nA = "b"\nN = 5\nPATH = "/x"\nCI = ""\n"a b" = "c"\n'
    more += '[context.production.environment]\nA = "c"\n'
    found = plan(app, toml("", more))

    assert found.overrides.environment == {"NODE_VERSION": "18", "A": "c", "N": "5"}
    assert found.install.node is not None
    assert found.install.node.text == "18"
    assert "Applying build.environment of netlify.toml: NODE_VERSION, A, N" in found.notes
    assert (
        "Variables in netlify.toml are ignored because buildrunner sets or refuses them: PATH, CI, a b."
        in found.warnings
    )
    assert plan(app, {}, node_version="22").install.node.text == "22"  # type: ignore[union-attr]


def test_a_node_version_that_is_none_is_a_warning(app: Path) -> None:
    found = plan(app, toml("", '[build.environment]\nNODE_VERSION = "newest please"'))

    assert found.install.node is None
    assert "is not a Node.js version: 'newest please'" in found.warnings[0]


@pytest.mark.parametrize(
    ("preset", "name", "command"),
    [(key, *value) for key, value in PRESETS.items() if key != "nextjs"],
)
def test_a_preset_is_a_framework_with_a_command(app: Path, preset: str, name: str, command: str) -> None:
    found = plan(app, vercel(framework=preset), {"dependencies": {"x": "1"}})

    assert found.output.framework.name == name
    assert found.build.shown == command


def test_a_preset_does_not_replace_the_build_script(app: Path) -> None:
    found = plan(app, vercel(framework="vite"))

    assert found.build.shown == "npm run build"
    assert "Applying framework of vercel.json: vite" in found.notes
    assert "is unknown" in plan(app, vercel(framework="fancy")).warnings[0]


def test_vercel_build_counts_where_there_is_no_other(app: Path) -> None:
    scripts = {"vercel-build": "vite build"}

    assert plan(app, {}, {**PACKAGE, "scripts": scripts}).build.shown == "npm run vercel-build"
    assert plan(app, {}, {**PACKAGE, "scripts": {**scripts, "build": "x"}}).build.shown == "npm run build"


def test_an_app_that_needs_a_server_is_refused_all_the_same(app: Path) -> None:
    package = {"scripts": {"build": "next build"}, "dependencies": {"next": "14"}}
    files = vercel(buildCommand="next build && echo done", outputDirectory=".next", framework="nextjs")

    for settings in ({}, files):
        with pytest.raises(BuildFailed) as raised:
            plan(app, settings, package)
        assert raised.value.failure is not None
        assert raised.value.failure.kind == "framework-needs-server"


@given(st.text(max_size=300) | st.sampled_from(["[build]\ncommand = 1", '[build]\nenvironment = "x"', "build = 3"]))
def test_no_file_breaks_the_plan(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    folder = tmp_path_factory.mktemp("checkout").resolve()
    (folder / "netlify.toml").write_text(text, errors="replace")
    (folder / "vercel.json").write_text(text, errors="replace")

    assert plan(folder, {}).build.command


def test_a_folder_without_a_page_gives_way_to_what_is_detected(app: Path) -> None:
    def find(files: Files, folder: str) -> Output:
        write(app, files)
        return find_named_output(
            app,
            folder,
            "build.publish of netlify.toml",
            named=lambda: find_output(app, app, output_dir=folder),
            detected=lambda: find_output(app, app),
        )

    with pytest.raises(BuildFailed) as raised:
        find({}, "out")
    assert raised.value.reason.endswith("build.publish of netlify.toml names out, which does not exist.")
    found = find({"dist/index.html": "<p>"}, "out")
    assert found.folder == app / "dist"
    assert found.warning == "build.publish of netlify.toml names out, which does not exist. Publishing dist instead."
    assert find({"out/index.html": "<p>"}, "out").folder == app / "out"
