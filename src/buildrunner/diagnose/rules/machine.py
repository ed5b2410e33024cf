"""What the machine lacks: memory, disk, and what the kernel counts."""

from __future__ import annotations

import re

from buildrunner.diagnose.rule import FailedCommand, Rule
from buildrunner.sandbox.memory import heap_megabytes


def _heap(failed: FailedCommand, _: str) -> str:
    """Explain that Node's heap was too small, by its limit and the container's."""
    if failed.memory is None:
        return (
            "The build needs more memory than Node may use. Set BUILD_ENV_NODE_OPTIONS=--max-old-space-size=… (in MB,"
            " such as 4096), or give the task more memory."
        )
    allowed = heap_megabytes(failed.memory)
    # What was left after the last collection: "Mark-Compact 1461.2 (1474.4) -> 1460.9 (1475.1) MB".
    left = re.findall(r"(?:Mark-|Scavenge)[^\n]{0,60}?\) -> (\d{1,6})\.\d", failed.text)
    if left and int(left[-1]) < allowed * 3 // 4:
        return (
            f"Node may use less memory here than the task could give it ({allowed} MB). Remove --max-old-space-size from"
            " the build script and from BUILD_ENV_NODE_OPTIONS, or raise it there."
        )
    return (
        f"The build needs more memory than the task's {failed.memory // 2**20} MB, of which Node may use {allowed}. Give"
        " the task more memory, or make the build use less: no source maps, fewer packages."
    )


RULES: tuple[Rule, ...] = (
    Rule(
        "node-heap",
        r"heap out of memory|Ineffective mark-compacts near heap limit|reaching memory limit: JS heap",
        _heap,
    ),
    Rule(
        "file-watchers-exhausted",
        r"ENOSPC: System limit for number of file watchers reached|inotify_add_watch[^\n]{0,200}No space left",
        "The script watches files, and the machine's limit of file watchers is reached. A build needs no watcher: remove"
        " --watch from the script, or set {variable}CHOKIDAR_USEPOLLING=1.",
    ),
    Rule(
        "too-many-open-files",
        r"EMFILE: too many open files|\bEMFILE\b|ENFILE: file table overflow|Too many open files",
        "The {stage} opens more files at once than the machine allows. Use fewer parallel workers, or raise the task's limit of"
        " open files (nofile under ulimits in the task definition).",
    ),
    Rule(
        "too-many-processes",
        r"spawn \S{1,200} EAGAIN|fork: (?:retry: )?Resource temporarily unavailable|pthread_create: Resource temporarily",
        "The {stage} starts more processes or threads than it may have. Use fewer parallel workers (experimental.cpus = 1 in"
        " next.config, {variable}GATSBY_CPU_COUNT=1). Or give the task more memory.",
    ),
    Rule(
        "disk-full",
        r"(?i:no space left on device)|code ENOSPC|EDQUOT",
        "The disk is full. Give the task more ephemeral storage, or make the build write less.",
    ),
    Rule(
        "out-of-memory",
        r"exited too early\. This probably means the system ran out of memory"  # react-scripts
        r"|build worker exited with code: null and signal: SIGKILL"  # Next
        r"|fatal error: (?:runtime: )?(?:out of memory|cannot allocate memory)"  # esbuild, which is written in Go
        r"|Allocation failed - process out of memory|std::bad_alloc|Array buffer allocation failed",
        "The build ran out of memory. Give the task more memory, or make the build use less: fewer workers, no"
        " source maps (BUILD_ENV_GENERATE_SOURCEMAP=false for react-scripts).",
    ),
)
