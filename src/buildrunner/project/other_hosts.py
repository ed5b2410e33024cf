"""Find settings in other hosts' files (netlify.toml, vercel.json, now.json, firebase.json) that buildrunner doesn't apply."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildrunner.project.config_files import dict_of, parse_json, read_configuration
from buildrunner.project.files import parse_toml

_MAX_NAMED = 8  # settings of one file in a message
# https://docs.netlify.com/configure-builds/file-based-configuration/
_NETLIFY = ("plugins", "functions", "edge_functions", "images")
# https://vercel.com/docs/project-configuration
_VERCEL = ("functions", "crons", "builds", "env")
_NOW = ("rewrites", "redirects", "headers", "routes", "cleanUrls", "trailingSlash", *_VERCEL)
# https://firebase.google.com/docs/hosting/full-config
_FIREBASE = ("rewrites", "redirects", "headers", "cleanUrls", "trailingSlash", "i18n")


@dataclass(frozen=True, slots=True)
class OtherHost:
    """The settings in other hosts' files that are not applied."""

    warning: str | None = None  # names the settings
    published: tuple[Path, str] | None = None  # folder that another host would publish, and the setting that names it


def read_other_hosts(app: Path, checkout: Path, *, given: Collection[str]) -> OtherHost:
    """Find the settings in other hosts' files that are not applied.

    Args:
        app: the folder of the app; `checkout` is the repository's.
        given: which of the variables INSTALL_COMMAND, BUILD_COMMAND and OUTPUT_DIR are set; they override such settings.

    """
    sentences: list[str] = []
    published = None
    for folder in dict.fromkeys((app, checkout)):
        for name, read in _FILES.items():
            text = read_configuration(folder / name, checkout)
            found = read(text) if text else None
            if found is None:
                continue
            where = os.path.relpath(folder / name, checkout)
            settings = list(found.others)
            if found.build and "BUILD_COMMAND" not in given:
                settings.append("buildCommand")
            if found.variables:
                settings.append(f"build.env ({', '.join(found.variables[:3])})")
            if found.folder and "OUTPUT_DIR" not in given and published is None:
                published = Path(os.path.normpath(folder / found.folder)), f"{found.folder_name} of {where}"
            if settings:
                sentences.append(f"{_list(settings)} of {where}")
    if not sentences:
        return OtherHost(None, published)
    return OtherHost(f"Settings for another host are not applied: {'; '.join(sentences)}.", published)


@dataclass(frozen=True, slots=True)
class _Settings:
    build: str = ""
    folder: str = ""
    folder_name: str = ""
    variables: tuple[str, ...] = ()
    others: tuple[str, ...] = ()  # names of the other settings


def _read_netlify(text: str) -> _Settings | None:
    found: Mapping[str, Any] = {}
    with suppress(ValueError):  # the routing rules report invalid TOML
        found = parse_toml(text)
    settings = {**dict_of(found.get("build")), **dict_of(dict_of(found.get("context")).get("production"))}
    others = [name for name in _NETLIFY if found.get(name)]
    others += ["functions"] * bool(settings.get("functions") and "functions" not in others)
    return _Settings(others=tuple(others))


def _read_now(text: str) -> _Settings | None:
    found = parse_json(text) or {}
    return _Settings(
        build=_text(found.get("buildCommand")),
        folder=_text(found.get("outputDirectory")).strip("/"),
        folder_name="outputDirectory",
        variables=_variables(found),
        others=tuple(name for name in _NOW if found.get(name)),
    )


def _read_vercel(text: str) -> _Settings | None:
    found = parse_json(text) or {}
    return _Settings(variables=_variables(found), others=tuple(name for name in _VERCEL if found.get(name)))


def _variables(found: Mapping[str, Any]) -> tuple[str, ...]:
    return tuple(dict_of(dict_of(found.get("build")).get("env")))


def _read_firebase(text: str) -> _Settings | None:
    hosting = (parse_json(text) or {}).get("hosting")
    sites = [dict_of(site) for site in (hosting if isinstance(hosting, list) else [hosting])]
    return _Settings(
        folder=_text(sites[0].get("public")).strip("/") if len(sites) == 1 else "",
        folder_name="hosting.public",
        others=tuple(f"hosting.{name}" for name in _FIREBASE if any(site.get(name) for site in sites)),
    )


_FILES = {
    "netlify.toml": _read_netlify,
    "vercel.json": _read_vercel,
    "now.json": _read_now,
    "firebase.json": _read_firebase,
}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(names: list[str]) -> str:
    shown = names[:_MAX_NAMED]
    return ", ".join(shown) + (" and others" if len(names) > len(shown) else "")
