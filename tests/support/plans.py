"""Create build plans without a repository."""

from __future__ import annotations

from pathlib import Path

from buildrunner.project.build_step import BuildStep
from buildrunner.project.package_managers.record import InstallStrategy, ManagerRequirement
from buildrunner.project.plan import AppLocation, BuildPlan, ExpectedOutput, InstallStep


def make_plan(
    checkout: Path,
    *,
    manager: ManagerRequirement | None = None,
    lockfile: Path | None = None,
    strategies: tuple[InstallStrategy, ...] = (),
    script: str = "",
    shown: str = "npm run build",
) -> BuildPlan:
    """Return the plan of an app at the top of a checkout."""
    return BuildPlan(
        AppLocation(checkout, checkout, checkout, checkout),
        InstallStep(checkout, strategies, manager, lockfile),
        BuildStep(tuple(shown.split()), shown, script),
        ExpectedOutput(),
    )
