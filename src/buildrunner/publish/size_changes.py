"""Compare the size of a site with that of the deployment before, by kind of file: most names have a hash."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

_MOST_KINDS = 5  # those with the largest changes
_LONGEST_KIND = 12  # characters


def compare_sizes(now: Iterable[tuple[str, int]], before: Iterable[tuple[str, int]]) -> dict[str, int]:
    """Return the bytes that each kind of file (`js`) has gained or lost, the largest change first.

    Args:
        now: path and size of each file.
        before: the same of the deployment before.

    """
    sizes: Counter[str] = Counter()
    for path, size in now:
        sizes[_kind_of(path)] += size
    for path, size in before:
        sizes[_kind_of(path)] -= size
    changes = sorted(((size, kind) for kind, size in sizes.items() if size), key=lambda change: -abs(change[0]))
    return {kind: size for size, kind in changes[:_MOST_KINDS]}


def _kind_of(path: str) -> str:
    name = path.rpartition("/")[2].removesuffix(".gz").removesuffix(".br")
    kind = name.rpartition(".")[2].lower() if "." in name else ""
    return kind if kind.isalnum() and len(kind) <= _LONGEST_KIND else "other"
