"""Keep dependencies and tools between builds, in the state bucket."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.cache.dependencies import DependencyCache as DependencyCache
    from buildrunner.cache.store import CacheStore as CacheStore
    from buildrunner.cache.tools import ToolCache as ToolCache
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "dependencies": "DependencyCache",
            "store": "CacheStore",
            "tools": "ToolCache",
        },
    )
