"""Which settings of other hosts' files (netlify.toml, vercel.json, firebase.json) a repository has that are not applied here."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildrunner.project.config_files import dict_of, parse_json, read_configuration
from buildrunner.project.files import parse_toml
from buildrunner.project.package_managers.table import install_lines

_MAX_NAMED = 8  # settings of a file
# https://docs.netlify.com/configure-builds/file-based-configuration/
_NETLIFY = ("plugins", "functions", "edge_functions", "images")
# https://vercel.com/docs/project-configuration
_VERCEL = ("functions", "crons", "builds", "env")
_NOW = ("rewrites", "redirects", "headers", "routes", "cleanUrls", "trailingSlash", *_VERCEL)
# https://firebase.google.com/docs/hosting/full-config
_FIREBASE = ("rewrites", "redirects", "headers", "cleanUrls", "trailingSlash", "i18n")


@dataclass(frozen=True, slots=True)
class OtherHost:
    """What the files of other hosts ask for."""

    warning: str | None = None  # that names the settings
    published: tuple[Path, str] | None = None  # the folder that one of them publishes, and the setting that says so


def read_other_hosts(
    app: Path, checkout: Path, *, builds: Collection[str], installs: Collection[str], given: Collection[str]
) -> OtherHost:
    """Read what the files of other hosts set that this build does not do.

    Args:
        app: the folder of the app; `checkout` is the repository's.
        builds: command lines that do what this build does.
        installs: the same for the install.
        given: the variables that are set of INSTALL_COMMAND, BUILD_COMMAND, OUTPUT_DIR: they were chosen for this host.

    """
    sentences: list[str] = []
    variables: dict[str, None] = {}
    published = None
    for folder in dict.fromkeys((app, checkout)):
        for name, read in _FILES.items():
            text = read_configuration(folder / name, checkout)
            found = read(text) if text else None
            if found is None:
                continue
            base = checkout / found.base if found.base else folder
            where = os.path.relpath(folder / name, checkout)
            settings = list(found.others)
            if found.base and Path(os.path.normpath(base)) != app:
                settings.insert(0, "base")
                variables["ROOT_DIR"] = None
            for setting, line, known, variable in (
                (found.build_name, found.build, builds, "BUILD_COMMAND"),
                (found.install_name, found.install, installs, "INSTALL_COMMAND"),
            ):
                if line and variable not in given and _bare(line) not in map(_bare, known):
                    settings.append(setting)
                    variables[variable] = None
            if found.variables:
                settings.append(f"{found.variables_name} ({', '.join(found.variables[:3])})")
                variables |= dict.fromkeys(
                    "NODE_VERSION" if name == "NODE_VERSION" else "BUILD_ENV_…" for name in found.variables
                )
            if found.folder and "OUTPUT_DIR" not in given and published is None:
                published = Path(os.path.normpath(base / found.folder)), f"{found.folder_name} of {where}"
            if settings:
                sentences.append(f"{_list(settings)} of {where}")
    if not sentences:
        return OtherHost(None, published)
    instead = f" Set {', '.join(variables)} instead." if variables else ""
    return OtherHost(f"Settings for another host are not applied: {'; '.join(sentences)}.{instead}", published)


@dataclass(frozen=True, slots=True)
class _Settings:
    base: str = ""
    build: str = ""
    build_name: str = "build.command"
    install: str = ""
    install_name: str = "installCommand"
    folder: str = ""
    folder_name: str = "build.publish"
    variables: tuple[str, ...] = ()
    variables_name: str = "build.environment"
    others: tuple[str, ...] = ()  # the rest, by their names


def _netlify(text: str) -> _Settings | None:
    found: Mapping[str, Any] = {}
    with suppress(ValueError):  # of what is no TOML its own host would complain
        found = parse_toml(text)
    build = dict_of(found.get("build"))
    production = dict_of(dict_of(found.get("context")).get("production"))
    settings = {**build, **production}
    others = [name for name in _NETLIFY if found.get(name)]
    others += ["functions"] * bool(settings.get("functions") and "functions" not in others)
    return _Settings(
        base=_text(settings.get("base")).strip("/"),
        build=_text(settings.get("command")),
        folder=_text(settings.get("publish")).strip("/"),
        variables=tuple({**dict_of(build.get("environment")), **dict_of(production.get("environment"))}),
        others=tuple(others),
    )


def _now(text: str) -> _Settings | None:
    return _vercel(text, _NOW)


def _vercel(text: str, others: Collection[str] = _VERCEL) -> _Settings | None:
    found = parse_json(text) or {}
    return _Settings(
        build=_text(found.get("buildCommand")),
        build_name="buildCommand",
        install=_text(found.get("installCommand")),
        folder=_text(found.get("outputDirectory")).strip("/"),
        folder_name="outputDirectory",
        variables=tuple(dict_of(dict_of(found.get("build")).get("env"))),
        variables_name="build.env",
        others=tuple(name for name in others if found.get(name)),
    )


def _firebase(text: str) -> _Settings | None:
    hosting = (parse_json(text) or {}).get("hosting")
    sites = [dict_of(site) for site in (hosting if isinstance(hosting, list) else [hosting])]
    return _Settings(
        folder=_text(sites[0].get("public")).strip("/") if len(sites) == 1 else "",
        folder_name="hosting.public",
        others=tuple(f"hosting.{name}" for name in _FIREBASE if any(site.get(name) for site in sites)),
    )


_FILES = {"netlify.toml": _netlify, "vercel.json": _vercel, "now.json": _now, "firebase.json": _firebase}


def _bare(line: str) -> str:
    """Return a command without what does not matter here: spaces, CI= and the install before it."""
    line = re.sub(r"\s{1,100}", " ", line.strip()[:1000])
    for first in (*install_lines(), "npm install --force"):
        line = line.removeprefix(f"{first} && ")
    return re.sub(r"^(?:CI=(?:''|\"\"|false|true)? )+", "", line)


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""


def _list(names: list[str]) -> str:
    shown = names[:_MAX_NAMED]
    return ", ".join(shown) + (" and others" if len(names) > len(shown) else "")
