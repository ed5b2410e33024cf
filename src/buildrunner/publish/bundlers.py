"""Find out from the manifests of bundlers which files have a content hash in their names.

Vite lists each file with its source (https://vite.dev/guide/backend-integration). Other bundlers map a name to the hashed name:
`{"main.js": "/static/js/main.0a1b2c3d.js"}`. A file is hashed if its name is another name of the same entry plus a token.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from posixpath import basename, dirname, join, normpath, splitext

from buildrunner.concurrency.cancellation import check_cancelled
from buildrunner.project.files import parse_json

MAX_BYTES = 4 * 2**20  # bytes of one manifest
_MAX_MANIFESTS = 16
_MAX_VALUES = 200_000
_MAX_NAMES = 8  # of an entry: its own and those of the entries around it
_VITES = re.compile(r"(?:^|/)\.vite/manifest\.json$")
_NAMES = re.compile(
    r"(?:^|/)(?:\.vite/manifest|(?:(?:asset|assets|build|parcel|rev|webpack)-)?manifest|webpack-assets|stats)\.json$"
)
# What a tool adds to a name. A word alone doesn't count: `app.minified.js`.
_TOKEN = re.compile(r"[-._~](?=[^.]*[0-9A-Z])[A-Za-z0-9_-]{6,64}")
_OF_ANOTHER = re.compile(r"(?:\.map|\.LICENSE\.txt)$")


def judge_by_manifests(paths: Iterable[str], read: Callable[[str], bytes | None]) -> dict[str, bool]:
    """Return path → whether it is hashed, for the paths that manifests mention.

    Args:
        paths: paths of the site.
        read: function that returns the content of a file; None if it cannot be read or is larger than MAX_BYTES.

    """
    paths = list(paths)
    manifests = [path for path in paths if path.endswith(".json") and _NAMES.search(path)]
    manifests.sort(key=lambda path: (path.count("/"), path))
    verdicts: dict[str, bool] = {}
    site = set(paths) if manifests else set()
    for manifest in manifests[:_MAX_MANIFESTS]:
        check_cancelled()
        try:
            content = parse_json((read(manifest) or b"null").decode("utf-8-sig"))
        except ValueError:
            continue
        base = dirname(manifest).removesuffix(".vite").rstrip("/")
        hashed, listed = set[str](), set[str]()
        for value, names in _values(content):
            path = _find(value, base, site)
            if path:
                listed.add(path)
                if any(_adds_token(name, path) for name in names):
                    hashed.add(path)
        if _VITES.search(manifest):
            # Vite lists everything but workers and their files. Other files in its folders are copied from `public`.
            folders = {dirname(path) for path in hashed}
            for path in site:
                if dirname(path) in folders and path not in hashed:
                    of = _OF_ANOTHER.sub("", path)
                    if of in listed:
                        verdicts.setdefault(path, of in hashed)
                    elif not path.endswith((".js", ".js.map")):
                        verdicts.setdefault(path, False)
        verdicts |= dict.fromkeys(hashed, True)
    return verdicts


def _values(content: object) -> Iterator[tuple[str, frozenset[str]]]:
    """Yield each string in a manifest with the names of its entry."""
    waiting: list[tuple[object, frozenset[str]]] = [(content, frozenset())]
    for _ in range(_MAX_VALUES):
        if not waiting:
            return
        value, names = waiting.pop()
        if isinstance(value, str):
            yield value, names
        elif isinstance(value, list):
            waiting += [(each, names) for each in value]
        elif isinstance(value, dict):
            own = {str(value[key]) for key in ("name", "src") if isinstance(value.get(key), str)}
            kept = names | own if "file" in value and len(names) < _MAX_NAMES else frozenset(own)
            waiting += [(each, kept | {key}) for key, each in value.items()]


def _find(value: str, base: str, site: set[str]) -> str | None:
    """Return the path in the site for an address or path in a manifest."""
    if len(value) > 1024:
        return None
    value = normpath(value.partition("?")[0]).lstrip("/")
    if (path := join(base, value)) in site:
        return path
    while value:
        if value in site:
            return value
        value = value.partition("/")[2]  # after a host, or the folder that the site is served from
    return None


def _adds_token(name: str, path: str) -> bool:
    stem, file = splitext(basename(name))[0], basename(path)
    if not stem or not file.startswith(stem):
        return False
    token = _TOKEN.match(file, len(stem))
    return token is not None and file[token.end() :].startswith(".")
