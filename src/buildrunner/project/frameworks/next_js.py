"""Describe Next.js: https://nextjs.org/docs/app/guides/static-exports; before 13.3, `next export` builds the static site."""

from __future__ import annotations

import re
from collections.abc import Mapping

from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DetectedFramework, Framework
from buildrunner.project.versions import is_below


def _check_server(app: App, _: DetectedFramework) -> Mapping[str, object]:
    if app.commands_like("next export"):
        return {}
    text = app.config_text("next.config")
    if re.search(r"\boutput\b[\"']?\s*:\s*[\"'`]export[\"'`]", text):
        return {}
    old = is_below(app.packages.get("next", ""), 13)
    script = app.find_script("next build", "next export") if old else None
    if script:
        note = f"`next build` alone builds an app for a server: running the script {script} instead, which exports a static site."
        return {"build_instead": script, "note": note}
    hint = (
        'Set the build script to "next build && next export".'
        if old
        else "Set output: 'export' in next.config and commit it; API routes, middleware and server actions need another host."
    )
    return {
        "needs_server": (
            "This Next.js app is rendered by a server: its configuration does not enable static export.",
            hint,
        ),
        # In a configuration that is composed of parts, the word may be anywhere.
        "certain": not re.search(r"[\"'`]export[\"'`]", text)
        and not app.has_imports(text)
        and app.runs_only("next build"),
    }


NEXT_JS = Framework(
    name="Next.js",
    packages=("next",),
    commands="next (build|export)",
    output=("out",),
    config_files=("next.config",),
    output_keys=("distDir",),
    output_options=("-o", "--outdir"),
    check_server=_check_server,
    suggested_command="next build",
    base_setting="basePath or assetPrefix in next.config",
    openssl_3=(("next", 12),),
)
