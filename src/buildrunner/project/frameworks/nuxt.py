"""Describe Nuxt: https://nuxt.com/docs/getting-started/deployment#static-hosting."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence

from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DetectedFramework, Framework
from buildrunner.project.scripts import ScriptCommand

_STATIC_PRESET = r"\bpreset\s*:\s*[\"'`][\w-]*(static|github[-_]pages|gitlab[-_]pages)[\"'`]"


def _find_output(app: App, _: Sequence[ScriptCommand]) -> list[str]:
    text = app.config_text("nuxt.config")
    return re.findall(r"\bgenerate\s*:\s*\{[^{}]{0,400}?\bdir\s*:\s*[\"'`]([^\"'`\n]+)", text)


def _check_server(app: App, _: DetectedFramework) -> Mapping[str, object]:
    changes: dict[str, object] = {
        "needs_server": (
            "The build produced a Nuxt server instead of a static site.",
            "Set the build script to `nuxt generate`.",
        ),
        "server_files": (".output/server/index.mjs",),
    }
    builds = app.commands_like("nux[ti] build")
    if (
        not builds
        or app.commands_like("nux[ti] generate")
        or re.search(_STATIC_PRESET, app.config_text("nuxt.config"))
        or any("--prerender" in c.words or "static" in c.environment.get("NITRO_PRESET", "") for c in builds)
    ):
        return changes
    script = app.find_script("nux[ti] generate")
    line = re.sub(r"\b(nux[ti]) build\b", r"\1 generate", app.build_script)
    if not script and line == app.build_script:  # another script runs `nuxt build`
        return changes
    note = f"`nuxt build` builds an app for a server: running `{script or line}` instead, which builds a static site."
    if any(os.path.isdir(app.folder / "server" / name) for name in ("api", "routes")):
        note += " The code in server/ won't run."
    return {**changes, "build_instead": script or line, "note": note}


NUXT = Framework(
    name="Nuxt",
    packages=("nuxt", "nuxt3", "nuxt-edge", "nuxt-nightly"),
    commands="nux[ti] (build|generate)",
    output=(".output/public", "dist"),
    find_output=_find_output,
    check_server=_check_server,
    suggested_command="nuxt generate",
    base_setting="app.baseURL (Nuxt 2: router.base) in nuxt.config",
    openssl_3=(("nuxt", 3),),
)
