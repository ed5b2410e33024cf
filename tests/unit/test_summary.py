"""Test the summary line of a build: its names, its outcome, and its CloudWatch metrics."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from buildrunner.build.summary import cpu_seconds, format_summary, largest_process_bytes, make_summary
from buildrunner.sandbox import peak_memory

RESULT: dict[str, Any] = {
    "v": 1,
    "build": "b-1",
    "seq": 9,
    "ts": "2026-01-02T10:20:30.456Z",
    "type": "result",
    "stage": "finish",
    "status": "succeeded",
    "exit_code": 0,
    "seconds": 14.2,
    "commit": "c0ffee",
    "files": 28,
    "bytes": 1204,
    "log": "Done",
    "stages": {"clone": 0.8, "install": 4.1},
}


def summary_of(**changes: Any) -> dict[str, Any]:
    return make_summary(RESULT | changes, slug="my-site", facts={"buildrunner.cpu.time": 9.5, "traceparent": None})


def test_summary_has_the_names_of_opentelemetry() -> None:
    assert summary_of() == {
        "type": "summary",
        "ts": "2026-01-02T10:20:30.456Z",
        "cicd.pipeline.name": "my-site",
        "cicd.pipeline.run.id": "b-1",
        "cicd.pipeline.run.state": "finalizing",
        "cicd.pipeline.result": "success",
        "cicd.pipeline.run.duration": 14.2,
        "vcs.ref.head.revision": "c0ffee",
        "buildrunner.exit_code": 0,
        "buildrunner.stage.clone.duration": 0.8,
        "buildrunner.stage.install.duration": 4.1,
        "buildrunner.site.files": 28,
        "buildrunner.site.bytes": 1204,
        "buildrunner.cpu.time": 9.5,
    }


@pytest.mark.parametrize(
    ("status", "code", "outcome"),
    [
        ("succeeded", 0, "success"),
        ("failed", 20, "failure"),
        ("failed", 30, "failure"),
        ("failed", 40, "failure"),
        ("failed", 50, "error"),
        ("failed", 1, "error"),
        ("timed_out", 124, "timeout"),
        ("cancelled", 143, "cancellation"),
        ("superseded", 60, "cancellation"),
    ],
)
def test_outcome_separates_site_failures_from_system_errors(status: str, code: int, outcome: str) -> None:
    assert summary_of(status=status, exit_code=code)["cicd.pipeline.result"] == outcome


def test_error_has_a_class_of_few_values() -> None:
    failed = {"status": "failed", "exit_code": 40, "stage": "build"}

    assert "error.type" not in summary_of()
    assert summary_of(**failed)["error.type"] == "build-failed"
    assert summary_of(**failed, failure={"kind": "module-not-found"})["error.type"] == "module-not-found"


def test_embedded_metrics_name_what_is_in_the_line() -> None:
    line = format_summary(summary_of(), "emf")

    assert "\n" not in line
    document = json.loads(line)
    aws = document.pop("_aws")
    assert document == summary_of()
    assert aws["Timestamp"] == 1767349230456
    (directive,) = aws["CloudWatchMetrics"]
    assert directive["Namespace"] == "buildrunner"
    assert directive["Dimensions"] == [[], ["cicd.pipeline.result"]]
    assert directive["Metrics"] == [
        {"Name": "cicd.pipeline.run.duration", "Unit": "Seconds"},
        {"Name": "buildrunner.stage.clone.duration", "Unit": "Seconds"},
        {"Name": "buildrunner.stage.install.duration", "Unit": "Seconds"},
        {"Name": "buildrunner.site.files", "Unit": "Count"},
        {"Name": "buildrunner.site.bytes", "Unit": "Bytes"},
        {"Name": "buildrunner.cpu.time", "Unit": "Seconds"},
    ]
    assert all(isinstance(document[metric["Name"]], int | float) for metric in directive["Metrics"])


def test_plain_summary_has_nothing_of_cloudwatch() -> None:
    assert json.loads(format_summary(summary_of(), "json")) == summary_of()


def test_what_the_process_used_is_measured() -> None:
    assert 0 < cpu_seconds() < 10_000
    assert 10**6 < largest_process_bytes() < 10**12


@pytest.mark.parametrize(
    ("groups", "file"),
    [
        ("0::/", "memory.peak"),
        ("0::/docker/abc", "docker/abc/memory.peak"),
        ("0::/docker/abc", "memory.peak"),
        ("9:cpu:/\n5:memory:/ecs/task", "memory/ecs/task/memory.max_usage_in_bytes"),
    ],
)
def test_peak_of_the_container_is_read(tmp_path: Path, groups: str, file: str) -> None:
    (tmp_path / "cgroup").write_text(f"{groups}\n")
    place = tmp_path / "fs" / file
    place.parent.mkdir(parents=True)
    place.write_text("123456789\n")

    assert peak_memory(tmp_path / "cgroup", tmp_path / "fs") == 123456789


def test_peak_that_nothing_measures_is_not_known(tmp_path: Path) -> None:
    (tmp_path / "cgroup").write_text("0::/\n")

    assert peak_memory(tmp_path / "cgroup", tmp_path / "fs") is None
