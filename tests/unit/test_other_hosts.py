"""Test the warning about settings in other hosts' files that are not applied."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildrunner.project.other_hosts import OtherHost, read_other_hosts
from support.files import Files, write


def read(app: Path, files: Files, folder: str = ".", given: tuple[str, ...] = ()) -> OtherHost:
    write(app, files)
    return read_other_hosts(app / folder, app, given=given)


@pytest.mark.parametrize(
    ("name", "text", "named"),
    [
        ("netlify.toml", '[[headers]]\nfor="/*"\n[[plugins]]\npackage="x"', "plugins of netlify.toml"),
        ("netlify.toml", '[build]\nfunctions="f"', "functions of netlify.toml"),
        ("vercel.json", '{"crons": [{"path": "/"}], "rewrites": [{}]}', "crons of vercel.json"),
        ("vercel.json", '{"build": {"env": {"A": "b"}}}', "build.env (A) of vercel.json"),
        ("now.json", '{"buildCommand": "make"}', "buildCommand of now.json"),
        ("now.json", '{"routes": [{"src": "/"}]}', "routes of now.json"),
        ("firebase.json", '{"hosting": {"rewrites": [{"source": "**"}]}}', "hosting.rewrites of firebase.json"),
    ],
)
def test_a_setting_that_is_not_applied_is_named(app: Path, name: str, text: str, named: str) -> None:
    assert f"Settings for another host are not applied: {named}." in (read(app, {name: text}).warning or "")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("netlify.toml", '[build]\ncommand="npm run build"\npublish="dist"\n[dev]\ncommand="vite"'),
        ("netlify.toml", "[build]\ncommand = \"npm install && CI='' npm run build\""),
        ("netlify.toml", '[build]\ncommand = "CI= yarn build"\n[[redirects]'),
        ("netlify.toml", '[build]\nbase="."\n[context.deploy-preview]\ncommand="make"'),
        ("vercel.json", '{"$schema": "x", "version": 2, "buildCommand": "vite build", "installCommand": "npm ci"}'),
        ("vercel.json", '{"buildCommand": null, "rewrites": []}'),
        ("vercel.json", "not json"),
        ("firebase.json", '{"hosting": {"public": "dist", "ignore": ["x"]}}'),
        ("firebase.json", "[" * 50_000),
        ("netlify.toml", "a=" + "[" * 50_000),
        ("netlify.toml", '[build]\nbase="web"\ncommand="make"\n[build.environment]\nA="b"'),
        ("vercel.json", '{"buildCommand": "make", "installCommand": "npm i x", "cleanUrls": true}'),
    ],
)
def test_settings_that_do_what_is_done_are_not_named(app: Path, name: str, text: str) -> None:
    assert read(app, {name: text}).warning is None


def test_all_files_are_named_in_one_warning(app: Path) -> None:
    files = {
        "netlify.toml": '[[plugins]]\npackage="x"\n[[redirects]]\nfrom="/"',
        "apps/web/vercel.json": '{"functions": {"a": {}}}',
    }

    assert read(app, files, "apps/web").warning == (
        "Settings for another host are not applied: functions of apps/web/vercel.json; plugins of netlify.toml."
    )


def test_what_was_chosen_for_this_host_is_not_named(app: Path) -> None:
    files = {"firebase.json": '{"hosting": {"public": "out"}}'}

    assert read(app, files, given=("OUTPUT_DIR",)) == OtherHost()
    assert read(app, files).published == (app / "out", "hosting.public of firebase.json")
