"""Describe SvelteKit: https://svelte.dev/docs/kit/adapter-static."""

from __future__ import annotations

import re
from collections.abc import Mapping

from buildrunner.project.frameworks.app import App
from buildrunner.project.frameworks.record import DetectedFramework, Framework


def _check_server(app: App, _: DetectedFramework) -> Mapping[str, object]:
    text = app.config_text("svelte.config", "vite.config")
    adapters = set(re.findall(r"[\"'`]@sveltejs/adapter-([\w-]+)", text))
    certain = bool(adapters) and "static" not in adapters
    if not adapters:  # a third-party adapter, or one in a file that the configuration imports
        adapters = {name.removeprefix("@sveltejs/adapter-") for name in app.packages if "/adapter-" in name}
        if "static" in adapters:
            return {}
    if adapters == {"static"}:
        return {}
    adapter = next(iter(sorted(adapters - {"static"})), None)
    uses = f"it uses @sveltejs/adapter-{adapter}" if adapter else "it does not use @sveltejs/adapter-static"
    return {
        "needs_server": (
            f"This SvelteKit app is not built as a static site: {uses}.",
            "Install @sveltejs/adapter-static, use it in svelte.config.js,"
            " and add `export const prerender = true` to src/routes/+layout.js.",
        ),
        "server_files": ("build/handler.js",),
        "certain": certain and app.runs_only("(vite|svelte-kit) build"),
    }


SVELTEKIT = Framework(
    name="SvelteKit",
    packages=("@sveltejs/kit",),
    commands="(vite|svelte-kit) build",
    needs_package=True,
    output=("build",),
    config_files=("svelte.config", "vite.config"),
    output_keys=("pages",),
    check_server=_check_server,
    suggested_command="vite build",
    base_setting="kit.paths.base in svelte.config.js",
)
