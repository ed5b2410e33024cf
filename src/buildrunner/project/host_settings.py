"""Read how netlify.toml and vercel.json set the build: where, with which commands, variables and Node, and what is published.

https://docs.netlify.com/configure-builds/file-based-configuration/ and https://vercel.com/docs/project-configuration
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildrunner.config.environment import is_refused_name
from buildrunner.project.config_files import dict_of, parse_json, read_configuration
from buildrunner.project.files import is_inside, parse_toml

_MAX_VARIABLES = 200
_MAX_NAMED = 5
_MAX_VALUE_BYTES = 32 * 2**10
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
# Presets of https://vercel.com/docs/project-configuration#framework: our name of each, and its build command.
PRESETS = {
    "angular": ("Angular", "ng build"),
    "astro": ("Astro", "astro build"),
    "brunch": ("Brunch", "brunch build --production"),
    "create-react-app": ("Create React App", "react-scripts build"),
    "docusaurus": ("Docusaurus 1", "docusaurus-build"),
    "docusaurus-2": ("Docusaurus", "docusaurus build"),
    "eleventy": ("Eleventy", "eleventy"),
    "ember": ("Ember", "ember build"),
    "gatsby": ("Gatsby", "gatsby build"),
    "gridsome": ("Gridsome", "gridsome build"),
    "hexo": ("Hexo", "hexo generate"),
    "ionic-react": ("Create React App", "react-scripts build"),
    "nextjs": ("Next.js", "next build"),
    "nuxtjs": ("Nuxt", "nuxt build"),
    "parcel": ("Parcel", "parcel build"),
    "preact": ("Preact CLI", "preact build"),
    "react-router": ("React Router", "react-router build"),
    "redwoodjs": ("RedwoodJS", "rw build"),
    "remix": ("Remix", "remix build"),
    "sanity": ("Sanity", "sanity build"),
    "sanity-v3": ("Sanity", "sanity build"),
    "sapper": ("Sapper", "sapper build"),
    "solidstart": ("SolidStart", "solid-start build"),
    "solidstart-1": ("SolidStart", "vinxi build"),
    "stencil": ("Stencil", "stencil build"),
    "storybook": ("Storybook", "storybook build"),
    "svelte": ("Rollup", "rollup -c"),
    "sveltekit": ("SvelteKit", "svelte-kit build"),
    "sveltekit-1": ("SvelteKit", "vite build"),
    "tanstack-start": ("TanStack Start", "vite build"),
    "umijs": ("UmiJS", "umi build"),
    "vite": ("Vite", "vite build"),
    "vitepress": ("VitePress", "vitepress build docs"),
    "vue": ("Vue CLI", "vue-cli-service build"),
    "vuepress": ("VuePress", "vuepress build src"),
}


@dataclass(frozen=True, slots=True)
class HostSetting:
    """One setting."""

    value: str  # empty: do nothing
    source: str  # its name and file, for people


@dataclass(frozen=True, slots=True)
class HostSettings:
    """What the files of a folder set; None for what they leave to be detected."""

    base: HostSetting | None = None  # relative to the repository
    command: HostSetting | None = None
    install: HostSetting | None = None
    output: HostSetting | None = None  # relative to the folder that is built
    framework: HostSetting | None = None  # a key of PRESETS
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_source: str = ""
    warnings: tuple[str, ...] = ()


def read_host_settings(folder: Path, checkout: Path) -> HostSettings:
    """Read netlify.toml and vercel.json of a folder; a setting of both is that of netlify.toml."""
    found = [
        read(text, os.path.relpath(folder / name, checkout))
        for name, read in (("netlify.toml", _read_netlify), ("vercel.json", _read_vercel))
        if (text := read_configuration(folder / name, checkout))
    ]
    return merge_settings(found)


def merge_settings(found: Sequence[HostSettings]) -> HostSettings:
    """Return the first of each setting, with a warning for one that is set otherwise later."""
    chosen: dict[str, HostSetting | None] = {}
    warnings = [sentence for settings in found for sentence in settings.warnings]
    for name in ("base", "command", "install", "output", "framework"):
        values = [value for settings in found if (value := getattr(settings, name)) is not None]
        chosen[name] = values[0] if values else None
        warnings += [
            f"{other.source} is not applied, because {values[0].source} says otherwise."
            for other in values[1:]
            if other.value != values[0].value
        ]
    environment: dict[str, str] = {}
    for settings in reversed(found):
        environment |= settings.environment
    source = next((settings.environment_source for settings in found if settings.environment), "")
    return HostSettings(
        **chosen, environment=environment, environment_source=source, warnings=tuple(dict.fromkeys(warnings))
    )


def resolve_folder(base: Path, name: str, checkout: Path) -> Path | None:
    """Return the folder that a setting names, relative to `base`; None if it is outside of the repository."""
    path = Path(os.path.normpath(base / name.strip("/"))) if name.strip("/") else base
    return path if path.is_relative_to(checkout) and (not path.exists() or is_inside(path, checkout)) else None


def _read_netlify(text: str, shown: str) -> HostSettings:
    content: Mapping[str, Any] = {}
    with suppress(ValueError):  # the rules of the site say so, with the line
        content = parse_toml(text)
    build = dict_of(content.get("build"))
    production = dict_of(dict_of(content.get("context")).get("production"))
    names = dict.fromkeys(build, "build") | dict.fromkeys(production, "context.production")
    merged = {**build, **production}

    def setting(name: str) -> HostSetting | None:
        value = merged.get(name)
        return HostSetting(value.strip(), f"{names[name]}.{name} of {shown}") if isinstance(value, str) else None

    base, output = setting("base"), setting("publish")
    environment = {**dict_of(build.get("environment")), **dict_of(production.get("environment"))}
    variables, warnings = _check_variables(environment, shown)
    return HostSettings(
        base=base if base and base.value.strip("/") not in {"", "."} else None,
        command=setting("command"),
        output=output if output and output.value else None,
        environment=variables,
        environment_source=f"build.environment of {shown}",
        warnings=warnings,
    )


def _read_vercel(text: str, shown: str) -> HostSettings:
    content = parse_json(text) or {}

    def setting(name: str) -> HostSetting | None:
        value = content.get(name)
        return HostSetting(value.strip(), f"{name} of {shown}") if isinstance(value, str) else None

    framework, output = setting("framework"), setting("outputDirectory")
    warnings: tuple[str, ...] = ()
    if framework and framework.value not in PRESETS:
        warnings = (f"{framework.source} is {framework.value[:40]!a}, which is not known: the framework is detected.",)
        framework = None
    return HostSettings(
        command=setting("buildCommand"),
        install=setting("installCommand"),
        output=output if output and output.value else None,
        framework=framework,
        warnings=warnings,
    )


def _check_variables(environment: Mapping[str, Any], shown: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables that a build may have, and a warning that names the others."""
    variables: dict[str, str] = {}
    refused: list[str] = []
    for name, value in environment.items():
        text = str(value).lower() if isinstance(value, bool) else str(value)
        is_text = isinstance(value, str | int | float)
        if (
            not is_text
            or not _NAME.fullmatch(name)
            or is_refused_name(name)
            or "\0" in text
            or len(text.encode(errors="replace")) > _MAX_VALUE_BYTES
            or len(variables) >= _MAX_VARIABLES
        ):
            refused.append(name[:60] if name.isprintable() else ascii(name[:60]))
        else:
            variables[name] = text
    if not refused:
        return variables, ()
    names = ", ".join(refused[:_MAX_NAMED]) + (" and others" if refused[_MAX_NAMED:] else "")
    return variables, (f"Variables of {shown} are not set, because buildrunner sets or refuses them: {names}.",)
