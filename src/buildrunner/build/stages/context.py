"""Bundle what every stage after the clone needs."""

from __future__ import annotations

from dataclasses import dataclass

from buildrunner import project
from buildrunner.build.command import CommandRunner
from buildrunner.build.run import Run
from buildrunner.build.workspace import Workspace
from buildrunner.checkout import Checkout


@dataclass(frozen=True, slots=True)
class StageContext:
    """The build, its folders, its commit and its plan."""

    run: Run
    workspace: Workspace  # its environment includes the variables of the commit
    checkout: Checkout
    plan: project.BuildPlan
    commands: CommandRunner
