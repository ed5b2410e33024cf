"""Find the output folder that a file of the repository names, or detect it if that setting is outdated."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from buildrunner.errors import BuildFailed
from buildrunner.project.output.search import Output


def find_named_output(
    app: Path, folder: str, source: str, *, named: Callable[[], Output], detected: Callable[[], Output]
) -> Output:
    """Return the folder that a setting names, or the detected output if that folder has no page.

    Args:
        app: the app's folder.
        folder: the folder in the setting, relative to `app`.
        source: the setting's name, for messages.
        named: finds the output in that folder.
        detected: finds the output as if there were no setting.

    Raises:
        BuildFailed: if neither has an output.

    """
    path = app / folder
    if (path / "index.html").is_file():
        return named()
    there = path.is_dir()
    try:
        found = detected()
    except BuildFailed as error:
        needs_server = error.failure is not None and error.failure.kind == "framework-needs-server"
        if there and not needs_server and any(path.glob("*.html")):
            return named()
        error.reason = f"{error.reason} {source} names {folder}, which {'has no page' if there else 'does not exist'}."
        raise
    if os.path.realpath(found.folder) == os.path.realpath(path):
        return found
    why = "has no index.html" if there else "does not exist"
    shown = os.path.relpath(found.folder, app)
    warning = f"{source} names {folder}, which {why}. Publishing {shown} instead."
    return replace(found, warning=f"{warning} {found.warning}" if found.warning else warning)
