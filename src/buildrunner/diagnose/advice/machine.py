"""Explain failures for lack of memory."""

from __future__ import annotations

import re

from buildrunner.diagnose.rule import FailedCommand
from buildrunner.sandbox.memory import heap_megabytes


def heap(failed: FailedCommand, _: str) -> str:
    """Explain that the heap of Node.js was too small, by its limit and the container's."""
    if failed.memory is None:
        return (
            "The build needs more memory than Node may use. Set BUILD_ENV_NODE_OPTIONS=--max-old-space-size=… (in MB,"
            " such as 4096), or give the build more memory."
        )
    allowed = heap_megabytes(failed.memory)
    # The heap after the last garbage collection: "Mark-Compact 1461.2 (1474.4) -> 1460.9 (1475.1) MB".
    left = re.findall(r"(?:Mark-|Scavenge)[^\n]{0,60}?\) -> (\d{1,6})\.\d", failed.text)
    if left and int(left[-1]) < allowed * 3 // 4:
        return (
            f"Node's memory limit is below the available {allowed} MB. Raise or remove --max-old-space-size in"
            " the build script and in BUILD_ENV_NODE_OPTIONS."
        )
    return (
        f"The build needs more memory than its {failed.memory // 2**20} MB, of which Node may use {allowed}. Give"
        " the build more memory, or reduce its use, for instance by disabling source maps."
    )
