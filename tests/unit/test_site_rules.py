"""Test which rule files in an output and a repository are read, and that none of them is published."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildrunner.errors import BuildFailed
from buildrunner.publish.files import collect
from buildrunner.publish.rules import take_rules
from support.files import Files, write


def take(checkout: Path, files: Files, *, app: str = ".", output: str = "dist") -> tuple[list[str], list[str], str]:
    """Return the files that are published, the warnings, and the destinations of all rules."""
    write(checkout, files)
    folder = checkout / app / output
    with collect(folder, checkout) as site:
        found = take_rules(site, folder, (checkout / app, checkout), checkout, noindex=False)
        rules = [*found.document.redirects, *found.document.rules]
        published = [file.path for file in site.files]
        assert site.total_bytes == sum(file.size for file in site.files)
    return published, [str(warning) for warning in found.warnings], " ".join(str(rule.destination[0]) for rule in rules)


TOML = '[[redirects]]\nfrom = "/a"\nto = "/{}"\n'


def test_files_with_rules_are_not_published(tmp_path: Path) -> None:
    files = {
        "dist/index.html": "",
        "dist/_redirects": "/a /b",
        "dist/_headers": "/*\n  x: 1",
        "dist/netlify.toml": TOML.format("c"),
        "dist/vercel.json": '{"redirects": [{"source": "/d", "destination": "/e"}]}',
        "dist/docs/_redirects": "mine",
    }

    assert take(tmp_path, files) == (["docs/_redirects", "index.html"], [], "/e /b /c")


def test_the_file_nearest_to_the_output_wins(tmp_path: Path) -> None:
    files = {"web/dist/index.html": "", "web/netlify.toml": TOML.format("app"), "netlify.toml": TOML.format("root")}

    _, warnings, rules = take(tmp_path, files, app="web")

    assert rules == "/app"
    assert warnings == ["netlify.toml: it is not applied, because web/netlify.toml is nearer to the output."]


def test_rules_of_an_output_that_is_the_app_are_read_once(tmp_path: Path) -> None:
    files = {"index.html": "", "netlify.toml": TOML.format("b")}

    assert take(tmp_path, files, output=".") == (["index.html"], [], "/b")


def test_rules_of_an_app_that_publishes_some_files_are_read(tmp_path: Path) -> None:
    """The configuration of a committed site is applied but not published."""
    write(tmp_path, {"index.html": "", "netlify.toml": TOML.format("b")})
    with collect(tmp_path, tmp_path, selected=lambda path, _: path != "netlify.toml") as site:
        found = take_rules(site, tmp_path, (tmp_path, tmp_path), tmp_path, noindex=False)
    assert [rule.destination for rule in found.document.rules] == [("/b",)]


def test_files_of_other_users_are_not_read(tmp_path: Path) -> None:
    write(tmp_path, {"dist/index.html": "", "netlify.toml": TOML.format("b")})
    with collect(tmp_path / "dist", tmp_path) as site:
        found = take_rules(site, tmp_path / "dist", (tmp_path,), tmp_path, noindex=False, owner=os.getuid() + 1)
    assert found.document.rules == ()
    assert [str(warning) for warning in found.warnings] == [
        "netlify.toml: it belongs to another user, so it is not applied."
    ]


def test_redirects_that_the_build_does_not_copy_are_named(tmp_path: Path) -> None:
    files = {"dist/index.html": "", "_redirects": "/a /b"}

    assert take(tmp_path, files)[1] == [
        "_redirects: it is not applied, because the build does not copy it into its output."
    ]


def test_a_link_out_of_the_repository_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text('{"redirects": [{"source": "/a", "destination": "/secret"}]}')
    (tmp_path / "repository").mkdir()
    (tmp_path / "repository" / "vercel.json").symlink_to(tmp_path / "secret")

    _, warnings, rules = take(tmp_path / "repository", {"dist/index.html": ""})

    assert rules == ""
    assert warnings == ["vercel.json: it is a link that leads out of the repository, so it is not applied."]


def test_a_site_of_rules_alone_fails(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="nothing to publish but _redirects"):
        take(tmp_path, {"dist/_redirects": "/a /b"})
