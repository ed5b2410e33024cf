"""Normalize the folders that configuration files and commands name."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable

_MAX_FOLDERS = 50
_MAX_CHARACTERS = 1024


def with_parents(folder: str) -> list[str]:
    """Return a folder and its parents: files that are written to public/js often belong to the site in public."""
    parts = posixpath.normpath(folder).split("/")
    return ["/".join(parts[:count]) for count in range(len(parts), 0, -1) if parts[count - 1] not in {"", ".", ".."}]


def clean_folders(folders: Iterable[str]) -> tuple[str, ...]:
    """Normalize folders; leave out duplicates, paths that are not in the repository, and the app's own folder."""
    normal = (
        posixpath.normpath(folder) for folder in folders if folder and folder.isprintable() and "${" not in folder
    )
    usable = (
        folder for folder in normal if folder != "." and not folder.startswith("/") and len(folder) < _MAX_CHARACTERS
    )
    return tuple(dict.fromkeys(usable))[:_MAX_FOLDERS]
