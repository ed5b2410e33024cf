"""Read the build settings in netlify.toml and vercel.json: folders, commands, variables and the Node.js version.

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
# Presets of https://vercel.com/docs/project-configuration#framework: the name of our record, and the build command.
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
    """A setting in a file."""

    value: str  # an empty command disables its step
    source: str  # the setting's name and file, for messages


@dataclass(frozen=True, slots=True)
class HostSettings:
    """The settings in the files of a folder; None for what is detected instead."""

    base: HostSetting | None = None  # relative to the repository
    command: HostSetting | None = None
    install: HostSetting | None = None
    output: HostSetting | None = None  # relative to the folder that is built
    framework: HostSetting | None = None  # a key of PRESETS
    environment: Mapping[str, str] = field(default_factory=dict)
    environment_source: str = ""
    warnings: tuple[str, ...] = ()


def read_host_settings(folder: Path, checkout: Path) -> HostSettings:
    """Read netlify.toml and vercel.json in a folder; netlify.toml takes precedence."""
    found = [
        read(text, os.path.relpath(folder / name, checkout))
        for name, read in (("netlify.toml", _read_netlify), ("vercel.json", _read_vercel))
        if (text := read_configuration(folder / name, checkout))
    ]
    return merge_settings(found)


def merge_settings(found: Sequence[HostSettings]) -> HostSettings:
    """Merge settings: the first value of each counts, and a later one that differs causes a warning."""
    chosen: dict[str, HostSetting | None] = {}
    warnings = [sentence for settings in found for sentence in settings.warnings]
    for name in ("base", "command", "install", "output", "framework"):
        values = [value for settings in found if (value := getattr(settings, name)) is not None]
        chosen[name] = values[0] if values else None
        warnings += [
            f"{other.source} is ignored because {values[0].source} has a different value."
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
    """Return the folder that a setting names relative to `base`; None if it is outside of the repository."""
    path = Path(os.path.normpath(base / name.strip("/"))) if name.strip("/") else base
    return path if path.is_relative_to(checkout) and (not path.exists() or is_inside(path, checkout)) else None


def _read_netlify(text: str, shown: str) -> HostSettings:
    content: Mapping[str, Any] = {}
    with suppress(ValueError):  # the routing rules report it, with the line
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
        warnings = (f"{framework.source} is unknown: {framework.value[:40]!a}. Detecting the framework instead.",)
        framework = None
    return HostSettings(
        command=setting("buildCommand"),
        install=setting("installCommand"),
        output=output if output and output.value else None,
        framework=framework,
        warnings=warnings,
    )


def _check_variables(environment: Mapping[str, Any], shown: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the variables that a build may set, and a warning that names the refused ones."""
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
    return variables, (f"Variables in {shown} are ignored because buildrunner sets or refuses them: {names}.",)
