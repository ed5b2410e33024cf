"""Read the logs of builds in a program: `follow` one until its result, or `fetch` its current content."""

from typing import TYPE_CHECKING

from buildrunner.lazy import export_lazily

if TYPE_CHECKING:
    from buildrunner.client.log import (
        Log as Log,
        LogIncomplete as LogIncomplete,
        fetch as fetch,
        follow as follow,
    )
else:
    __getattr__ = export_lazily(__name__, {"log": "Log LogIncomplete fetch follow"})
