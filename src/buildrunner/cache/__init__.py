"""Store dependencies and tools between builds, in the state bucket or a folder."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.cache.dependencies import (
        WORTH_SECONDS as WORTH_SECONDS,
        WORTH_SECONDS_ON_DISK as WORTH_SECONDS_ON_DISK,
        DependencyCache as DependencyCache,
    )
    from buildrunner.cache.folder import FolderBucket as FolderBucket
    from buildrunner.cache.store import CacheStore as CacheStore
    from buildrunner.cache.tools import ToolCache as ToolCache
else:
    __getattr__ = export_lazily(
        __name__,
        {
            "dependencies": "DependencyCache WORTH_SECONDS WORTH_SECONDS_ON_DISK",
            "folder": "FolderBucket",
            "store": "CacheStore",
            "tools": "ToolCache",
        },
    )
