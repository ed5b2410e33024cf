"""Determine how the repository is built."""

from __future__ import annotations

import anyio

from buildrunner import project
from buildrunner.build.run import Run
from buildrunner.checkout import Checkout
from buildrunner.concurrency.cancellation import run_in_thread
from buildrunner.errors import BuildFailed

PLAN_SECONDS = 60.0


async def plan_build(run: Run, checkout: Checkout) -> project.BuildPlan:
    """Read the repository's files, and decide how to install and build.

    Raises:
        BuildFailed: a stage could not succeed; raised before time is spent on the stages before it.

    """
    settings = run.settings

    def plan() -> project.BuildPlan:
        overrides = project.Overrides(
            root_dir=settings.root_dir,
            install_command=settings.install_command,
            build_command=settings.build_command,
            output_dir=settings.output_dir,
            node_version=settings.node_version,
            strict_lockfile=settings.strict_lockfile,
        )
        return project.plan_build(checkout.folder, overrides)

    try:
        with anyio.move_on_after(PLAN_SECONDS):
            return await run_in_thread(plan)  # a repository may be large
        raise BuildFailed(
            "install",
            f"Reading the repository's files took longer than {PLAN_SECONDS:.0f} s.",
            "Set ROOT_DIR to the folder of the app, and look for very large lockfiles and package.json files.",
            kind="repository-too-large",
        )
    except BuildFailed as error:
        async with run.stage(error.stage, None, "Reading package.json"):
            raise
