"""Recognize sites and programs that Node.js doesn't build, by their files."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from buildrunner.project.files import is_file, read_text


@dataclass(frozen=True, slots=True)
class OtherLanguage:
    """A kind of repository that Node.js doesn't build."""

    files: tuple[str, ...]  # any of these identifies it
    kind: str  # for messages, after "suggests"
    needs_server: bool = False


# The first match counts.
_OTHER_LANGUAGES = (
    OtherLanguage(
        (
            *("hugo.toml", "hugo.yaml", "hugo.yml", "hugo.json"),
            *("config/_default/hugo.toml", "config/_default/hugo.yaml", "config/_default/config.toml"),
            "archetypes/default.md",
        ),
        "a Hugo site, which hugo builds",
    ),
    OtherLanguage(("_config.yml", "Gemfile"), "a Jekyll site or another Ruby program, which Ruby builds"),
    OtherLanguage(("mkdocs.yml", "mkdocs.yaml"), "a MkDocs site, which Python builds"),
    OtherLanguage(("book.toml",), "a book, which mdBook builds"),
    OtherLanguage(("_quarto.yml",), "a Quarto site, which quarto builds"),
    OtherLanguage(("pelicanconf.py",), "a Pelican site, which Python builds"),
    OtherLanguage(
        ("conf.py", "docs/conf.py", "doc/conf.py", "docs/source/conf.py"),
        "a Sphinx site, which Python builds",
    ),
    OtherLanguage(("pyproject.toml", "requirements.txt", "setup.py", "manage.py"), "a Python program"),
    OtherLanguage(
        ("composer.json", "index.php", "wp-config.php"), "a PHP program, which needs a server", needs_server=True
    ),
    OtherLanguage(("deno.json", "deno.jsonc"), "a Deno program, which deno builds"),
    OtherLanguage(("pubspec.yaml",), "a Flutter or Dart program, which Flutter builds"),
    OtherLanguage(("Cargo.toml",), "a Rust program, which cargo builds"),
    OtherLanguage(("go.mod",), "a Go program, which go builds"),
    OtherLanguage(("pom.xml", "build.gradle", "build.gradle.kts"), "a Java program"),
    OtherLanguage(("elm.json",), "an Elm program, which elm builds"),
    OtherLanguage(("config.toml",), "a Hugo or Zola site, which hugo or zola builds"),
    OtherLanguage(("theme.toml",), "a Hugo theme, which hugo builds"),
)
_WORDPRESS_THEME = OtherLanguage(("style.css",), "a WordPress theme, which needs a PHP server", needs_server=True)


def detect_other_language(folder: Path, checkout: Path) -> tuple[str, OtherLanguage] | None:
    """Return the file that shows that Node.js doesn't build a folder, and what the file identifies."""
    style = ""
    with suppress(ValueError):
        style = read_text(folder / "style.css", checkout) or ""
    if "Theme Name:" in style[:8192] and any(is_file(folder / name) for name in ("functions.php", "index.php")):
        return "style.css", _WORDPRESS_THEME
    for language in _OTHER_LANGUAGES:
        name = next((name for name in language.files if is_file(folder / name)), None)
        if name:
            return name, language
    return None
