"""Test the report of `plan` on a folder: each choice of `plan_build` with its source."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from buildrunner.commands.plan.report import CacheSettings, Choice, InstalledTools, PlanReport, describe_plan
from buildrunner.project.overrides import Overrides
from buildrunner.project.plan import plan_build

VITE = {"scripts": {"build": "vite build"}, "devDependencies": {"vite": "^6"}}
TOOLS = InstalledTools(node="22.14.0", npm="10.9.2")


def write(folder: Path, files: dict[str, str | dict[str, Any]]) -> None:
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))


def describe(
    app: Path, *, tools: InstalledTools = TOOLS, cache: CacheSettings | None = None, **given: Any
) -> PlanReport:
    overrides = Overrides(**{**dict.fromkeys(("root_dir", "install_command", "build_command", "output_dir")), **given})
    return describe_plan(plan_build(app, overrides), overrides, tools=tools, cache=cache or CacheSettings(True, None))


def choices(report: PlanReport) -> dict[str, tuple[str, str]]:
    """Return the value and source of each choice."""
    return {choice.key: (choice.value, choice.source) for choice in report.choices}


def choice(report: PlanReport, key: str) -> Choice:
    return next(choice for choice in report.choices if choice.key == key)


def test_each_choice_names_the_file_that_decides_it(app: Path) -> None:
    write(app, {"package.json": VITE, "package-lock.json": "{}" + " " * 5000, ".nvmrc": "22"})

    assert choices(describe(app)) == {
        "folder": (".", "package.json"),
        "framework": ("Vite", "package.json"),
        "package_manager": ("npm 10.9.2", "package-lock.json"),
        "node": ("22.14.0 (22)", ".nvmrc"),
        "install": ("npm ci", "package-lock.json"),
        "build": ("npm run build", "package.json"),
        "output": ("dist", "the default of Vite"),
        "cache": ("node_modules", "package-lock.json"),
    }


def test_a_variable_that_decides_is_named_instead_of_a_file(app: Path) -> None:
    write(app, {"apps/web/package.json": VITE, "apps/web/package-lock.json": "{}"})

    found = choices(
        describe(
            app,
            root_dir="apps/web",
            install_command="npm i",
            build_command="make",
            output_dir="out",
            node_version="20",
        )
    )

    assert found == {
        "folder": ("apps/web", "ROOT_DIR"),
        "framework": ("Vite", "apps/web/package.json"),
        "package_manager": ("npm ^10.0.0 (newest)", "apps/web/package-lock.json"),
        "node": ("20 (newest)", "NODE_VERSION"),
        "install": ("npm i", "INSTALL_COMMAND"),
        "build": ("make", "BUILD_COMMAND"),
        "output": ("apps/web/out", "OUTPUT_DIR"),
        "cache": ("nothing", "INSTALL_COMMAND"),
    }


@pytest.mark.parametrize(
    ("files", "build", "output"),
    [
        ({"vite.config.ts": "export default { build: { outDir: 'site' } }"}, "vite build", ("site", "vite.config.ts")),
        ({}, "vite build --outDir made", ("made", "build script in package.json")),
        ({}, "sh build.sh", ("dist", "the default of Vite")),
    ],
)
def test_the_output_names_what_says_where_it_is(
    app: Path, files: dict[str, str | dict[str, Any]], build: str, output: tuple[str, str]
) -> None:
    write(app, {"package.json": {**VITE, "scripts": {"build": build}}, **files})

    assert choices(describe(app))["output"] == output


def test_an_unknown_framework_has_the_usual_output_folders(app: Path) -> None:
    write(app, {"package.json": {"scripts": {"build": "make"}}})

    output = choice(describe(app), "output")

    assert (output.value, output.source, output.details) == ("dist", "default", ("else build, out, public and others",))
    assert output.to_json()["candidates"][:2] == ["dist", "build"]


def test_a_workspace_shows_where_it_is_installed(app: Path) -> None:
    write(
        app,
        {
            "package.json": {"workspaces": ["apps/*"], "packageManager": "pnpm@9.12.0"},
            "pnpm-workspace.yaml": 'packages: ["apps/*"]',
            "pnpm-lock.yaml": "lockfileVersion: '9.0'",
            "apps/web/package.json": VITE,
        },
    )

    report = describe(app)

    assert choices(report)["package_manager"] == ("pnpm 9.12.0", "packageManager in package.json")
    assert choices(report)["install"] == ("pnpm install --frozen-lockfile", "pnpm-lock.yaml")
    assert choice(report, "install").to_json()["folder"] == "."
    assert choice(report, "output").to_json() == {
        "folder": "dist",
        "path": "apps/web/dist",
        "candidates": ["dist"],
        "source": "the default of Vite",
    }
    assert report.notes == ("The app is in apps/web.",)


def test_routing_files_are_named_with_what_they_say(app: Path) -> None:
    write(
        app,
        {
            "package.json": VITE,
            "public/_redirects": "/a /b 301\n/c /d 200\n/e https://other.example/:splat 200\n",
            "vercel.json": {"cleanUrls": True},
        },
    )

    report = describe(app)

    assert choices(report)["routing"] == ("1 redirect, 1 rewrite, clean URLs", "public/_redirects")
    assert choice(report, "routing").to_json()["files"] == ["public/_redirects", "vercel.json"]
    assert any(warning.startswith("public/_redirects:3: ") for warning in report.warnings)


def test_rules_that_no_build_has_copied_yet_are_a_warning(app: Path) -> None:
    write(app, {"package.json": VITE, "_redirects": "/a /b 301\n"})

    report = describe(app)

    assert "routing" not in choices(report)
    assert report.warnings[-1] == "_redirects is applied only if the build copies it into its output."


def test_a_site_without_a_build_is_published_as_it_is(app: Path) -> None:
    write(app, {"index.html": "<h1>hello</h1>", "_redirects": "/a /b 301\n"})

    assert choices(describe(app)) == {
        "folder": (".", "index.html"),
        "output": (".", "index.html"),
        "routing": ("1 redirect", "_redirects"),
    }


@pytest.mark.parametrize(
    ("cache", "lockfile", "value", "source"),
    [
        (CacheSettings(enabled=False, scope=None), " " * 5000, "off", "DEPENDENCY_CACHE"),
        (CacheSettings(enabled=True, scope=None), "", "nothing (few packages)", "package-lock.json"),
        (CacheSettings(enabled=True, scope="team"), " " * 5000, "what npm downloads", "package-lock.json"),
    ],
)
def test_the_cache_says_what_is_kept_and_why(
    app: Path, cache: CacheSettings, lockfile: str, value: str, source: str
) -> None:
    write(app, {"package.json": VITE, "package-lock.json": "{}" + lockfile})

    assert choices(describe(app, cache=cache))["cache"] == (value, source)


def test_without_node_the_plan_says_so(app: Path) -> None:
    write(app, {"package.json": VITE, ".nvmrc": "22"})

    assert choices(describe(app, tools=InstalledTools()))["node"] == ("22 (newest)", ".nvmrc")
    (app / ".nvmrc").unlink()
    assert choices(describe(app, tools=InstalledTools()))["node"] == ("not installed", "the installed version")


def test_the_json_leaves_out_what_is_not_known(app: Path) -> None:
    write(app, {"package.json": {"scripts": {"build": "make"}}})

    report = describe(app, tools=InstalledTools()).to_json()

    assert report["node"] == {"source": "the installed version"}
    assert "framework" not in report
    assert json.loads(json.dumps(report)) == report
