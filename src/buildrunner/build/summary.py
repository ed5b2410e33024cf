"""One line of JSON about a whole build, for dashboards: how it ended, and what it took.

Names are those of OpenTelemetry's conventions for CI/CD where they have one:
https://opentelemetry.io/docs/specs/semconv/registry/attributes/cicd/
"""

from __future__ import annotations

import json
import resource
from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from buildrunner.errors import EXIT_OF_STAGE

_RESULTS = {"succeeded": "success", "timed_out": "timeout", "cancelled": "cancellation", "superseded": "cancellation"}
# What the repository's author can fix; otherwise the system that builds it had an error.
_FAILURES = {EXIT_OF_STAGE["clone"], EXIT_OF_STAGE["install"], EXIT_OF_STAGE["build"]}
_OWN = "buildrunner."
_UNITS = {
    "duration": "Seconds",
    "time": "Seconds",
    "bytes": "Bytes",
    "peak": "Bytes",
    "files": "Count",
    "events": "Count",
}


def cpu_seconds() -> float:
    """Return the CPU time of this process and of all of its descendants that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def largest_process_bytes() -> int:
    """Return the most memory that a single process has had, of this one and of its descendants that have ended."""
    return max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)) * 1024


def make_summary(result: Mapping[str, Any], *, slug: str, facts: Mapping[str, str | float | None]) -> dict[str, Any]:
    """Return the summary of a build.

    Args:
        result: the result event, in which secrets are redacted.
        slug: of the site.
        facts: more of the summary by their names; those that are None are left out.

    """
    stages = {f"{_OWN}stage.{name}.duration": seconds for name, seconds in result.get("stages", {}).items()}
    outcome = _RESULTS.get(result["status"]) or ("failure" if result["exit_code"] in _FAILURES else "error")
    error = result.get("failure", {}).get("kind") or (f"{result['stage']}-{result['status']}")
    summary = {
        "cicd.pipeline.name": slug,
        "cicd.pipeline.run.id": result["build"],
        "cicd.pipeline.run.state": "finalizing",
        "cicd.pipeline.result": outcome,
        "cicd.pipeline.run.duration": result["seconds"],
        "error.type": None if outcome == "success" else error,
        "vcs.ref.head.revision": result.get("commit"),
        f"{_OWN}exit_code": result["exit_code"],
        **stages,
        f"{_OWN}site.files": result.get("files"),
        f"{_OWN}site.bytes": result.get("bytes"),
        **facts,
    }
    return {"type": "summary", "ts": result["ts"]} | {
        name: value for name, value in summary.items() if value is not None
    }


def format_summary(summary: Mapping[str, Any], form: Literal["json", "emf"]) -> str:
    """Return the summary as one line.

    `emf` is CloudWatch's embedded metric format, from which it makes metrics in the namespace `buildrunner`, for all builds
    and by `cicd.pipeline.result`:
    https://docs.aws.amazon.com/AmazonCloudWatch/latest/monitoring/CloudWatch_Embedded_Metric_Format_Specification.html
    """
    document = dict(summary)
    if form == "emf":
        metrics = [
            {"Name": name, "Unit": _UNITS[unit]}
            for name, value in summary.items()
            if (unit := name.rpartition(".")[2]) in _UNITS and isinstance(value, int | float)
        ]
        directive = {"Namespace": "buildrunner", "Dimensions": [[], ["cicd.pipeline.result"]], "Metrics": metrics}
        at = int(datetime.fromisoformat(summary["ts"]).timestamp() * 1000)
        document["_aws"] = {"Timestamp": at, "CloudWatchMetrics": [directive]}
    return json.dumps(document, ensure_ascii=False, separators=(",", ":"))
